//! Token counts as upstreams report them.

use serde::Deserialize;

/// Tokens of one answer. What an upstream leaves out is 0, or `None` where 0 would claim something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens read.
    pub prompt_tokens: u64,
    /// Tokens written.
    pub completion_tokens: u64,
    /// Both, as reported (or added up where not).
    pub total_tokens: u64,
    /// Read tokens that came from the upstream's cache.
    pub cached_tokens: Option<u64>,
    /// Written tokens that were reasoning.
    pub reasoning_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
    #[serde(default)]
    total_tokens: Option<u64>,
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(default)]
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct CompletionDetails {
    #[serde(default)]
    reasoning_tokens: Option<u64>,
}

impl Usage {
    /// Reads the value of a `usage` key; `None` when it is null or not an object of counts.
    pub(crate) fn read(json: &str) -> Option<Self> {
        let wire: Wire = serde_json::from_str::<Option<Wire>>(json).ok()??;
        let prompt_tokens = wire.prompt_tokens.unwrap_or(0);
        let completion_tokens = wire.completion_tokens.unwrap_or(0);
        Some(Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: wire
                .total_tokens
                .unwrap_or_else(|| prompt_tokens.saturating_add(completion_tokens)),
            cached_tokens: wire.prompt_tokens_details.and_then(|details| details.cached_tokens),
            reasoning_tokens: wire
                .completion_tokens_details
                .and_then(|details| details.reasoning_tokens),
        })
    }
}
