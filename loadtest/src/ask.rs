//! What an inference request asks for: only what changes the answer.

use serde_json::Value;

use crate::profile::Kind;
use crate::script::Script;
use crate::text;

/// The inference routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    Chat,
    Completions,
    Embeddings,
    Rerank,
    Tokenize,
}

impl Route {
    pub(crate) fn of(method: &str, path: &str) -> Option<Self> {
        if method != "POST" {
            return None;
        }
        match path {
            "/v1/chat/completions" => Some(Self::Chat),
            "/v1/completions" => Some(Self::Completions),
            "/v1/embeddings" | "/embed" | "/embeddings" => Some(Self::Embeddings),
            "/v1/rerank" | "/v2/rerank" | "/rerank" => Some(Self::Rerank),
            "/tokenize" => Some(Self::Tokenize),
            _ => None,
        }
    }
}

/// An inference request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) route: Route,
    pub(crate) body: Value,
    pub(crate) model: Option<String>,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) max_tokens: Option<usize>,
    pub(crate) choices: usize,
    /// Words of the prompt.
    pub(crate) prompt_tokens: usize,
}

impl Ask {
    pub(crate) fn parse(kind: Kind, route: Route, body: &[u8]) -> Result<Self, String> {
        let body: Value = serde_json::from_slice(body).map_err(|e| e.to_string())?;
        if !body.is_object() {
            return Err("the body is not an object".to_owned());
        }
        let number = |key: &str| body[key].as_u64().and_then(|n| usize::try_from(n).ok());
        // Ollama ignores max_completion_tokens.
        let max_tokens = if kind == Kind::Ollama {
            number("max_tokens").filter(|&n| n > 0)
        } else {
            number("max_completion_tokens").or_else(|| number("max_tokens"))
        };
        Ok(Self {
            route,
            model: body["model"].as_str().map(str::to_owned),
            stream: body["stream"].as_bool().unwrap_or(false),
            include_usage: body["stream_options"]["include_usage"].as_bool().unwrap_or(false),
            max_tokens,
            choices: if kind == Kind::Ollama { 1 } else { number("n").unwrap_or(1).clamp(1, 16) },
            prompt_tokens: prompt_words(&body),
            body,
        })
    }

    /// A script in the body's `fake` object.
    pub(crate) fn script(&self) -> Option<Result<Script, String>> {
        let fake = self.body.get("fake")?;
        Some(serde_json::from_value(fake.clone()).map_err(|e| e.to_string()))
    }

    /// The word that comes next: an assistant message at the end is continued, as the real server
    /// does it, when it ends in a word of the recitation.
    pub(crate) fn first_word(&self, kind: Kind, start: usize) -> usize {
        let last = match self.route {
            Route::Completions => self.body["prompt"].as_str(),
            Route::Chat => self.continued(kind),
            Route::Embeddings | Route::Rerank | Route::Tokenize => None,
        };
        last.and_then(|text| text.split_whitespace().next_back())
            .and_then(text::index_of)
            .map_or(start, |i| i + 1)
    }

    fn continued(&self, kind: Kind) -> Option<&str> {
        let last = self.body["messages"].as_array()?.last()?;
        if last["role"].as_str() != Some("assistant") {
            return None;
        }
        let asked = self.body["continue_final_message"].as_bool() == Some(true)
            && self.body["add_generation_prompt"].as_bool() == Some(false);
        match kind {
            Kind::LlamaServer => last["content"].as_str(),
            Kind::Vllm if asked => last["content"].as_str(),
            _ => None,
        }
    }
}

/// Words of all text in the prompt, whatever its shape; a token in a token list counts as one.
fn prompt_words(body: &Value) -> usize {
    fn words(value: &Value) -> usize {
        match value {
            Value::String(text) => text.split_whitespace().count(),
            Value::Number(_) => 1,
            Value::Array(items) => items.iter().map(words).sum(),
            Value::Object(part) => {
                ["content", "text"].iter().filter_map(|&k| part.get(k)).map(words).sum()
            }
            Value::Null | Value::Bool(_) => 0,
        }
    }
    ["messages", "prompt", "input", "inputs", "query", "documents", "texts", "content"]
        .iter()
        .filter_map(|&key| body.get(key))
        .map(words)
        .sum()
}
