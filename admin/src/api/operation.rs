//! What the OpenAPI document says of one route, put down where the route is.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, ToSchema};

use crate::api::problem::{self, Kind};

/// An operation of the OpenAPI document. Parameters of the path, authentication and the problems that everything has in
/// common are added when the document is made.
pub(crate) struct Operation {
    id: Cow<'static, str>,
    pub(crate) tag: &'static str,
    summary: Cow<'static, str>,
    about: &'static str,
    parameters: Vec<Value>,
    body: Option<Value>,
    answers: BTreeMap<u16, Value>,
    problems: Vec<Kind>,
    /// Honours `Idempotency-Key`.
    pub(crate) repeatable: bool,
    /// Honours `If-None-Match`.
    pub(crate) tagged: bool,
    pub(crate) schemas: Vec<(String, Value)>,
}

impl Operation {
    /// `id` is unique, `tag` one of those in `document::TAGS`, `summary` a line without a full stop.
    pub(crate) fn new(
        id: impl Into<Cow<'static, str>>,
        tag: &'static str,
        summary: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            id: id.into(),
            tag,
            summary: summary.into(),
            about: "",
            parameters: Vec::new(),
            body: None,
            answers: BTreeMap::new(),
            problems: Vec::new(),
            repeatable: false,
            tagged: false,
            schemas: Vec::new(),
        }
    }

    /// What a caller should know beyond the summary, in Markdown.
    pub(crate) fn about(mut self, words: &'static str) -> Self {
        self.about = words;
        self
    }

    /// The parameters of the query.
    pub(crate) fn query<T: IntoParams>(mut self) -> Self {
        let parameters = T::into_params(|| Some(utoipa::openapi::path::ParameterIn::Query));
        self.parameters
            .extend(parameters.into_iter().filter_map(|one| serde_json::to_value(one).ok()));
        self.problems.push(Kind::InvalidRequest);
        self
    }

    /// A JSON body.
    pub(crate) fn takes<T: ToSchema>(mut self, example: Value) -> Self {
        let schema = self.schema_of::<T>();
        self.takes_as("application/json", schema, example)
    }

    /// A JSON body under another media type.
    pub(crate) fn takes_type<T: ToSchema>(mut self, media: &'static str, example: Value) -> Self {
        let schema = self.schema_of::<T>();
        self.takes_as(media, schema, example)
    }

    /// A body whose schema is given.
    pub(crate) fn takes_as(
        mut self,
        media: &'static str,
        schema: impl Into<Value>,
        example: impl Into<Value>,
    ) -> Self {
        let (schema, example) = (schema.into(), example.into());
        self.body = Some(json!({
            "required": true,
            "content": { media: {"schema": schema, "example": example} },
        }));
        self.problems.extend([
            Kind::InvalidRequest,
            Kind::RequestTimeout,
            Kind::TooLarge,
            Kind::UnsupportedMediaType,
            Kind::Invalid,
        ]);
        self
    }

    /// A JSON answer.
    pub(crate) fn gives<T: ToSchema>(mut self, status: u16, words: &str, example: Value) -> Self {
        let schema = self.schema_of::<T>();
        self.gives_as(status, "application/json", words, schema, example)
    }

    /// An answer whose schema is given.
    pub(crate) fn gives_as(
        mut self,
        status: u16,
        media: &'static str,
        words: &str,
        schema: impl Into<Value>,
        example: impl Into<Value>,
    ) -> Self {
        let (schema, example) = (schema.into(), example.into());
        let answer = self.answers.entry(status).or_insert_with(|| json!({"description": words}));
        let mut content = json!({"schema": schema});
        if !example.is_null() {
            content["example"] = example;
        }
        answer["content"][media] = content;
        self
    }

    /// An answer without a body.
    pub(crate) fn gives_nothing(mut self, status: u16, words: &str) -> Self {
        self.answers.insert(status, json!({"description": words}));
        self
    }

    /// A header of an answer that was described before.
    pub(crate) fn header(mut self, status: u16, name: &str, words: &str) -> Self {
        if let Some(answer) = self.answers.get_mut(&status) {
            answer["headers"][name] = json!({"description": words, "schema": {"type": "string"}});
        }
        self
    }

    /// Problems beyond those that every route of its shape has.
    pub(crate) fn fails(mut self, kinds: &[Kind]) -> Self {
        self.problems.extend(kinds);
        self
    }

    /// The answer has an `ETag` (the handler's, else that of the body), and `If-None-Match` spares the body.
    pub(crate) fn tagged(mut self) -> Self {
        self.tagged = true;
        self.parameters.push(json!({"$ref": "#/components/parameters/IfNoneMatch"}));
        self.answers.insert(304, json!({"description": "What the caller has is still true."}));
        self.header(200, "ETag", "The state of what was answered.")
    }

    /// Needs `If-Match`.
    pub(crate) fn under_etag(mut self) -> Self {
        self.parameters.push(json!({"$ref": "#/components/parameters/IfMatch"}));
        self.fails(&[Kind::PreconditionRequired, Kind::Stale, Kind::Conflict])
    }

    /// Honours `Idempotency-Key`; the route is wrapped for it.
    pub(crate) fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self.parameters.push(json!({"$ref": "#/components/parameters/IdempotencyKey"}));
        self.fails(&[Kind::InvalidRequest, Kind::InProgress, Kind::KeyReused])
    }

    /// The schema's reference; the schema itself and those that it refers to go to the components.
    fn schema_of<T: ToSchema>(&mut self) -> Value {
        let mut found: Vec<(String, RefOr<Schema>)> = vec![(T::name().into_owned(), T::schema())];
        T::schemas(&mut found);
        let name = T::name();
        for (name, schema) in found {
            if let Ok(schema) = serde_json::to_value(schema) {
                self.schemas.push((name, schema));
            }
        }
        json!({"$ref": format!("#/components/schemas/{name}")})
    }

    /// The operation as OpenAPI has it. `common` are the problems of every route like it.
    pub(crate) fn to_json(&self, path: &[Value], common: &[Kind]) -> Map<String, Value> {
        let mut answers = Map::new();
        for (status, answer) in &self.answers {
            answers.insert(status.to_string(), answer.clone());
        }
        let mut by_status: BTreeMap<u16, Vec<Kind>> = BTreeMap::new();
        for kind in Kind::ALL {
            if self.problems.contains(&kind) || common.contains(&kind) {
                by_status.entry(kind.row().status.as_u16()).or_default().push(kind);
            }
        }
        for (status, kinds) in by_status {
            answers.insert(status.to_string(), failure(&kinds));
        }
        let mut out = Map::new();
        out.insert("operationId".to_owned(), json!(self.id));
        out.insert("tags".to_owned(), json!([self.tag]));
        out.insert("summary".to_owned(), json!(self.summary));
        let about = if self.about.is_empty() {
            format!("{}.", self.summary)
        } else {
            self.about.to_owned()
        };
        out.insert("description".to_owned(), json!(about));
        let parameters: Vec<&Value> = path.iter().chain(&self.parameters).collect();
        if !parameters.is_empty() {
            out.insert("parameters".to_owned(), json!(parameters));
        }
        if let Some(body) = &self.body {
            out.insert("requestBody".to_owned(), body.clone());
        }
        out.insert("responses".to_owned(), Value::Object(answers));
        out
    }
}

/// The answer for a status that several problems share.
fn failure(kinds: &[Kind]) -> Value {
    let words: Vec<String> =
        kinds.iter().map(|kind| format!("`{}`: {}.", kind.row().code, kind.row().title)).collect();
    let mut answer = json!({
        "description": words.join(" "),
        "content": { problem::MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}} },
    });
    if let [kind, ..] = kinds {
        let row = kind.row();
        answer["content"][problem::MEDIA_TYPE]["example"] = json!({
            "type": format!("{}{}", problem::TYPE_BASE, row.code),
            "title": row.title,
            "status": row.status.as_u16(),
            "detail": row.title,
            "request_id": "5f0c1d2e3a4b5c6d7e8f9a0b1c2d3e4f",
        });
    }
    answer
}
