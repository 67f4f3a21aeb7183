//! Embeddings, rerank and tokenise: answers that a test can compute.

use serde_json::Value;

use crate::ask::Ask;
use crate::dialect::quote;
use crate::profile::Kind;

/// Length of a vector unless `dimensions` asks for another.
pub const DIMENSIONS: usize = 8;

/// The vector of an input: value `i` is `hash / 2^32 - 0.5`, an FNV-1a hash of the text and `i`.
#[must_use]
pub fn vector(input: &str, dimensions: usize) -> Vec<f32> {
    (0..dimensions)
        .map(|i| {
            let bytes = input.bytes().chain(i.to_le_bytes());
            let hash =
                bytes.fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
            // 16 bits fit a float without rounding.
            f32::from(u16::try_from(hash >> 16).unwrap_or_default()) / 65536.0 - 0.5
        })
        .collect()
}

/// Standard base64 with padding (RFC 4648, 4).
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for (i, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            if i <= group.len() {
                out.push(char::from(ALPHABET[(bits >> shift & 63) as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

/// The inputs of an embeddings request; a list of numbers is one input.
fn inputs(body: &Value) -> Vec<String> {
    let input = body.get("input").or_else(|| body.get("inputs")).unwrap_or(&Value::Null);
    match input {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) if items.iter().all(Value::is_number) => vec![input.to_string()],
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    }
}

pub(crate) fn embeddings(kind: Kind, model: &str, ask: &Ask) -> String {
    let dimensions = ask.body["dimensions"].as_u64().and_then(|d| usize::try_from(d).ok());
    let dimensions = dimensions.unwrap_or(DIMENSIONS).clamp(1, 4096);
    let vectors = inputs(&ask.body).into_iter().map(|input| vector(&input, dimensions));
    let native = kind == Kind::Tei && ask.body.get("inputs").is_some();
    if native {
        return serde_json::json!(vectors.collect::<Vec<_>>()).to_string();
    }
    let as_base64 = ask.body["encoding_format"].as_str() == Some("base64");
    let data: Vec<String> = vectors
        .enumerate()
        .map(|(index, vector)| {
            let embedding = if as_base64 {
                let bytes: Vec<u8> = vector.iter().flat_map(|v| v.to_le_bytes()).collect();
                quote(&base64(&bytes))
            } else {
                serde_json::json!(vector).to_string()
            };
            format!(r#"{{"object":"embedding","index":{index},"embedding":{embedding}}}"#)
        })
        .collect();
    let tokens = ask.prompt_tokens;
    format!(
        r#"{{"object":"list","model":{model},"data":[{}],"usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}}}"#,
        data.join(",")
    )
}

/// Documents with more words of the query first; the score is the share of its words that they have.
pub(crate) fn rerank(kind: Kind, model: &str, ask: &Ask) -> String {
    let body = &ask.body;
    let query: Vec<&str> = body["query"].as_str().unwrap_or_default().split(' ').collect();
    let key = if kind == Kind::Tei { "texts" } else { "documents" };
    let texts: Vec<&str> = body[key]
        .as_array()
        .map(|d| d.iter().map(|d| d.as_str().or(d["text"].as_str()).unwrap_or_default()).collect())
        .unwrap_or_default();
    let mut ranked: Vec<(usize, usize)> = texts
        .iter()
        .enumerate()
        .map(|(i, text)| (i, query.iter().filter(|w| text.split(' ').any(|t| t == **w)).count()))
        .collect();
    ranked.sort_by_key(|&(i, hits)| (std::cmp::Reverse(hits), i));
    let top = body["top_n"].as_u64().and_then(|n| usize::try_from(n).ok());
    ranked.truncate(top.unwrap_or(usize::MAX));
    let score = |hits: usize| hits as f64 / query.len().max(1) as f64;
    let results: Vec<String> = ranked
        .iter()
        .map(|&(i, hits)| {
            let (text, score) = (quote(texts[i]), score(hits));
            if kind == Kind::Tei {
                return format!(r#"{{"index":{i},"score":{score}}}"#);
            }
            format!(
                r#"{{"index":{i},"document":{{"text":{text},"multi_modal":null}},"relevance_score":{score}}}"#
            )
        })
        .collect();
    let results = results.join(",");
    if kind == Kind::Tei {
        return format!("[{results}]");
    }
    let tokens = ask.prompt_tokens;
    format!(
        r#"{{"id":"score-1","model":{model},"usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}},"results":[{results}]}}"#
    )
}

/// One token for each word of the prompt.
pub(crate) fn tokens(ask: &Ask) -> String {
    let count = ask.prompt_tokens;
    let tokens: Vec<usize> = (0..count).collect();
    format!(r#"{{"count":{count},"max_model_len":2048,"tokens":{tokens:?},"token_strs":null}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_rfc_4648() {
        let cases =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (plain, coded) in cases {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(&[255, 254, 253]), "//79");
    }

    #[test]
    fn vectors_differ_by_input_and_stay_the_same() {
        assert_eq!(vector("a", 8), vector("a", 8));
        assert_ne!(vector("a", 8), vector("b", 8));
        assert!(vector("a", 64).iter().all(|v| (-0.5..0.5).contains(v)));
    }
}
