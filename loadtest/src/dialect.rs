//! The shape of each server's chunks and documents, as the captures of real servers show them.

use crate::ask::Route;
use crate::plan::Piece;
use crate::profile::Kind;
use crate::text;

/// What all chunks of one answer share.
#[derive(Debug, Clone)]
pub(crate) struct Meta {
    pub(crate) kind: Kind,
    pub(crate) route: Route,
    pub(crate) id: String,
    /// Unix time, s.
    pub(crate) created: u64,
    /// Name to answer with, as JSON text.
    pub(crate) model: String,
    pub(crate) suffix: String,
    pub(crate) tool: Option<(String, String)>,
}

/// Token counts of one answer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Count {
    pub(crate) prompt: usize,
    pub(crate) completion: usize,
}

/// Quotes a text as JSON.
pub(crate) fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl Meta {
    /// Word `index` with the space before it, unless it is the first.
    pub(crate) fn word(&self, index: usize, first: bool) -> String {
        let space = if first { "" } else { " " };
        format!("{space}{}{}", text::word(index), self.suffix)
    }

    pub(crate) fn usage(&self, count: Count) -> String {
        let Count { prompt, completion } = count;
        let total = prompt + completion;
        let details = match self.kind {
            Kind::LlamaServer => r#","prompt_tokens_details":{"cached_tokens":0}"#,
            _ => "",
        };
        format!(
            r#"{{"prompt_tokens":{prompt},"total_tokens":{total},"completion_tokens":{completion}{details}}}"#
        )
    }

    /// The JSON of one event.
    pub(crate) fn chunk(&self, piece: &Piece, count: Count) -> String {
        match piece {
            Piece::Usage => self.envelope("", &format!(r#","usage":{}"#, self.usage(count))),
            Piece::Done => "[DONE]".to_owned(),
            Piece::Role { choice } => self.choice(*choice, &self.role(), None),
            Piece::Word { choice, index, first, reasoning, finish } => {
                let word = quote(&self.word(*index, *first));
                self.choice(*choice, &self.content(&word, *reasoning), finish.as_deref())
            }
            Piece::ToolName { choice } => self.choice(*choice, &self.tool_name(), None),
            Piece::ToolArguments { choice, from, to } => {
                let arguments = self.tool.as_ref().map_or("", |t| &t.1[*from..*to]);
                let delta = format!(
                    r#"{{"tool_calls":[{{"index":0,"function":{{"arguments":{}}}}}]}}"#,
                    quote(arguments)
                );
                self.choice(*choice, &delta, None)
            }
            Piece::Finish { choice, reason } => {
                let delta = match (self.route, self.kind) {
                    (Route::Completions, _) => r#""""#,
                    (_, Kind::Ollama) => r#"{"role":"assistant","content":""}"#,
                    (_, Kind::Vllm) => r#"{"content":""}"#,
                    _ => "{}",
                };
                self.choice(*choice, delta, Some(reason))
            }
        }
    }

    fn role(&self) -> String {
        match self.kind {
            Kind::LlamaServer => r#"{"role":"assistant","content":null}"#.to_owned(),
            _ => r#"{"role":"assistant","content":""}"#.to_owned(),
        }
    }

    fn content(&self, word: &str, reasoning: bool) -> String {
        if self.route == Route::Completions {
            return word.to_owned();
        }
        match (self.kind, reasoning) {
            (Kind::Ollama, false) => format!(r#"{{"role":"assistant","content":{word}}}"#),
            (Kind::Ollama, true) => {
                format!(r#"{{"role":"assistant","content":"","reasoning":{word}}}"#)
            }
            (Kind::LlamaServer, true) => format!(r#"{{"reasoning_content":{word}}}"#),
            (_, true) => format!(r#"{{"reasoning":{word}}}"#),
            (_, false) => format!(r#"{{"content":{word}}}"#),
        }
    }

    fn tool_name(&self) -> String {
        let Some((name, arguments)) = &self.tool else { return "{}".to_owned() };
        let name = quote(name);
        if self.kind == Kind::Ollama {
            let arguments = quote(arguments);
            return format!(
                r#"{{"role":"assistant","content":"","tool_calls":[{{"id":"call_7ax4nslz","index":0,"type":"function","function":{{"name":{name},"arguments":{arguments}}}}}]}}"#
            );
        }
        format!(
            r#"{{"content":null,"tool_calls":[{{"id":"chatcmpl-tool-81db4f1511c1f0c2","type":"function","index":0,"function":{{"name":{name}}}}}]}}"#
        )
    }

    /// A chunk with one choice.
    fn choice(&self, index: usize, delta: &str, finish: Option<&str>) -> String {
        let reason = finish.map_or("null".to_owned(), quote);
        let completions = self.route == Route::Completions;
        let field = if completions { "text" } else { "delta" };
        if self.kind == Kind::LlamaServer {
            let choice =
                format!(r#"{{"finish_reason":{reason},"index":{index},"{field}":{delta}}}"#);
            return self.envelope(&choice, "");
        }
        let role_only = delta == r#"{"role":"assistant","content":""}"# && finish.is_none();
        let (mut extra, mut tail) = ("", "");
        let mut logprobs = "";
        if self.kind == Kind::Vllm {
            logprobs = r#""logprobs":null,"#;
            extra = match (finish, role_only) {
                (Some(_), _) => r#","stop_reason":null,"token_ids":null"#,
                (None, true) => "",
                (None, false) => r#","token_ids":null"#,
            };
            if role_only {
                tail = r#","prompt_token_ids":null,"prompt_text":null"#;
            }
        }
        let choice = format!(
            r#"{{"index":{index},"{field}":{delta},{logprobs}"finish_reason":{reason}{extra}}}"#
        );
        self.envelope(&choice, tail)
    }

    fn object(&self, chunk: bool) -> &'static str {
        match (self.route, chunk) {
            (Route::Completions, _) => "text_completion",
            (_, true) => "chat.completion.chunk",
            (_, false) => "chat.completion",
        }
    }

    fn envelope(&self, choices: &str, tail: &str) -> String {
        let Self { id, created, model, .. } = self;
        let object = self.object(true);
        match self.kind {
            Kind::LlamaServer => format!(
                r#"{{"choices":[{choices}],"created":{created},"id":"{id}","model":{model},"system_fingerprint":"b1-0c1e570","object":"{object}"{tail}}}"#
            ),
            Kind::Ollama => format!(
                r#"{{"id":"{id}","object":"{object}","created":{created},"model":{model},"system_fingerprint":"fp_ollama","choices":[{choices}]{tail}}}"#
            ),
            Kind::Vllm | Kind::Tei | Kind::Plain => format!(
                r#"{{"id":"{id}","object":"{object}","created":{created},"model":{model},"choices":[{choices}]{tail}}}"#
            ),
        }
    }

    /// The chunk that Ollama sends when its runner has died.
    pub(crate) fn dead_runner(&self) -> String {
        let dead = Self { kind: Kind::Ollama, model: r#""""#.to_owned(), ..self.clone() };
        dead.choice(0, r#"{"role":"assistant","content":""}"#, None)
    }

    /// The whole answer as one document.
    pub(crate) fn document(&self, choices: &[Choice], count: Count) -> String {
        let Self { id, created, model, .. } = self;
        let choices: Vec<String> =
            choices.iter().enumerate().map(|(i, c)| self.document_choice(i, c)).collect();
        let fingerprint = match self.kind {
            Kind::Ollama => "fp_ollama",
            Kind::LlamaServer => "b1-0c1e570",
            Kind::Vllm | Kind::Tei | Kind::Plain => "vllm-0.33.0-0123abcd",
        };
        format!(
            r#"{{"id":"{id}","object":"{}","created":{created},"model":{model},"system_fingerprint":"{fingerprint}","choices":[{}],"usage":{}}}"#,
            self.object(false),
            choices.join(","),
            self.usage(count)
        )
    }

    fn document_choice(&self, index: usize, choice: &Choice) -> String {
        let finish = quote(&choice.finish);
        let content = quote(&choice.content);
        if self.route == Route::Completions {
            return format!(
                r#"{{"index":{index},"text":{content},"logprobs":null,"finish_reason":{finish}}}"#
            );
        }
        let mut message = format!(r#"{{"role":"assistant","content":{content}"#);
        if !choice.reasoning.is_empty() {
            let field =
                if self.kind == Kind::LlamaServer { "reasoning_content" } else { "reasoning" };
            message.push_str(&format!(r#","{field}":{}"#, quote(&choice.reasoning)));
        }
        if let Some((name, arguments)) = &self.tool {
            message.push_str(&format!(
                r#","tool_calls":[{{"id":"call_7ax4nslz","type":"function","function":{{"name":{},"arguments":{}}}}}]"#,
                quote(name),
                quote(arguments)
            ));
        }
        message.push('}');
        format!(
            r#"{{"index":{index},"message":{message},"logprobs":null,"finish_reason":{finish}}}"#
        )
    }
}

/// One choice of a whole answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Choice {
    pub(crate) content: String,
    pub(crate) reasoning: String,
    pub(crate) finish: String,
}

/// An error body as this kind of server writes it.
pub(crate) fn error(kind: Kind, status: u16, message: &str, param: Option<&str>) -> String {
    let text = quote(message);
    let param = param.map_or("null".to_owned(), quote);
    match kind {
        Kind::Vllm | Kind::Plain => {
            let class = match status {
                404 => "NotFoundError",
                503 => "Service Unavailable",
                500.. => "InternalServerError",
                _ => "BadRequestError",
            };
            format!(
                r#"{{"error":{{"message":{text},"type":"{class}","param":{param},"code":{status}}}}}"#
            )
        }
        Kind::Ollama => {
            let class = match status {
                404 => "not_found_error",
                500.. => "api_error",
                _ => "invalid_request_error",
            };
            format!(r#"{{"error":{{"message":{text},"type":"{class}","param":null,"code":null}}}}"#)
        }
        Kind::LlamaServer => {
            let class = match status {
                503 => "unavailable_error",
                500.. => "server_error",
                _ => "invalid_request_error",
            };
            format!(r#"{{"error":{{"code":{status},"message":{text},"type":"{class}"}}}}"#)
        }
        Kind::Tei => format!(r#"{{"message":{text},"code":{status},"type":"Validation"}}"#),
    }
}
