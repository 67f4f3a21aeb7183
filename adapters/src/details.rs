//! What servers say of their models beyond the names: sizes, formats, abilities.

use router::ModelName;
use router::spec::DiscoveredModel;
use serde_json::Value;

use crate::models::{ListError, MODELS_MAX, entries, name, parse, text};

/// Most abilities kept of one model.
const ABILITIES_MAX: usize = 16;

/// One installed model of an Ollama.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Its name, tag included.
    pub name: ModelName,
    /// Bytes on disk.
    pub size: Option<u64>,
    /// Format of its weights, as `Q4_K_M`.
    pub quantisation: Option<String>,
    /// How many parameters it has, as `7.2B`.
    pub parameters: Option<String>,
    /// Its architecture, as `llama`.
    pub family: Option<String>,
}

/// Reads the details in an answer of Ollama's `GET /api/tags`.
///
/// # Errors
/// The body is too long, not JSON, or has no `models`.
pub fn installed(body: &[u8]) -> Result<Vec<Installed>, ListError> {
    let value = parse(body)?;
    let read = |entry: &Value| {
        let detail = |key: &str| text(entry.get("details")?, key);
        let said = |text: &String| !text.eq_ignore_ascii_case("unknown");
        Some(Installed {
            name: name(entry, &["name", "model"])?,
            size: entry.get("size").and_then(Value::as_u64),
            quantisation: detail("quantization_level").filter(said),
            parameters: detail("parameter_size"),
            family: detail("family"),
        })
    };
    Ok(entries(&value, "models")?.iter().take(MODELS_MAX).filter_map(read).collect())
}

/// What Ollama tells of one model when asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shown {
    /// The context that it was trained for, tokens; what it is loaded with may be less.
    pub context_length: Option<u64>,
    /// `completion`, `tools`, `vision`, `embedding` and the like.
    pub abilities: Vec<String>,
}

/// Reads an answer of Ollama's `POST /api/show`.
///
/// # Errors
/// The body is too long or not JSON.
pub fn shown(body: &[u8]) -> Result<Shown, ListError> {
    let value = parse(body)?;
    let info = value.get("model_info").and_then(Value::as_object);
    let context = info.into_iter().flatten().find(|(key, _)| key.ends_with(".context_length"));
    let abilities = value.get("capabilities").and_then(Value::as_array).into_iter().flatten();
    let word = |value: &Value| {
        let word = value.as_str()?;
        let plain = |c: char| c.is_ascii_lowercase() || matches!(c, '_' | '-');
        (word.len() <= 32 && word.chars().all(plain)).then(|| word.to_owned())
    };
    Ok(Shown {
        context_length: context.and_then(|(_, value)| value.as_u64()),
        abilities: abilities.filter_map(word).take(ABILITIES_MAX).collect(),
    })
}

/// What Text Embeddings Inference says of itself and its one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeiInfo {
    /// The model's name.
    pub model: ModelName,
    /// Version of the server.
    pub version: Option<String>,
    /// Longest input, tokens.
    pub input_max: Option<u64>,
    /// It ranks or classifies pairs instead of embedding texts.
    pub ranks: bool,
}

impl From<TeiInfo> for DiscoveredModel {
    fn from(info: TeiInfo) -> Self {
        Self {
            name: info.model,
            created: None,
            owned_by: None,
            context_length: info.input_max,
            parent: None,
            digest: None,
            remote: false,
        }
    }
}

/// Reads an answer of TEI's `GET /info`.
///
/// # Errors
/// The body is too long, not JSON, or not TEI's.
pub fn tei_info(body: &[u8]) -> Result<TeiInfo, ListError> {
    let value = parse(body)?;
    let kind = value.get("model_type").ok_or(ListError::Shape("model_type"))?;
    Ok(TeiInfo {
        model: name(&value, &["model_id"]).ok_or(ListError::Shape("model_id"))?,
        version: text(&value, "version"),
        input_max: value.get("max_input_length").and_then(Value::as_u64),
        ranks: kind.get("reranker").is_some() || kind.get("classifier").is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ollama_tells_sizes_and_formats() {
        let tags = br#"{"models":[{"name":"llama3.2:latest","size":2019393189,"details":{"family":"llama","parameter_size":"3.2B","quantization_level":"Q4_K_M"}},
            {"name":"tiny:latest","size":5,"details":{"quantization_level":"unknown"}},{"size":1}]}"#;
        let found = installed(tags).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].quantisation.as_deref(), Some("Q4_K_M"));
        assert_eq!(found[0].parameters.as_deref(), Some("3.2B"));
        assert_eq!(found[0].size, Some(2_019_393_189));
        assert_eq!(found[1].quantisation, None);
        assert!(installed(b"[]").is_err());
    }

    #[test]
    fn ollama_tells_abilities() {
        let show = br#"{"capabilities":["completion","tools","<b>",7],"model_info":{"general.architecture":"llama","llama.context_length":131072}}"#;
        let found = shown(show).unwrap();
        assert_eq!(found.context_length, Some(131_072));
        assert_eq!(found.abilities, ["completion", "tools"]);
        assert_eq!(shown(b"{}").unwrap(), Shown::default());
    }

    #[test]
    fn tei_tells_what_it_does() {
        let info = br#"{"model_id":"BAAI/bge","version":"1.8.0","max_input_length":512,"model_type":{"embedding":{"pooling":"cls"}}}"#;
        let found = tei_info(info).unwrap();
        assert_eq!((found.model.as_str(), found.ranks), ("BAAI/bge", false));
        assert!(tei_info(br#"{"model_id":"r","model_type":{"reranker":{}}}"#).unwrap().ranks);
        assert!(tei_info(br#"{"status":"ok"}"#).is_err());
    }
}
