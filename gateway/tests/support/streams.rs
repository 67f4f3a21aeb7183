//! Streams whose bytes a test knows, and gateways in front of one or two servers that send them.

use loadtest::{Blob, Fixed, Framing, Profile, Script, Upstream};

use super::{Gateway, backend};

/// Limits that no test meets by accident: breakers and the retry budget have tests of their own.
pub const LENIENT: &str = "[breaker]\nconsecutive_failures = 100000\nmin_requests = 100000\n\
                           [retry]\nbudget_per_second = 100000\n";

/// The events of a whole small answer, as vLLM writes them; the usage is 11 and 2.
pub const EVENTS: [&str; 6] = [
    r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"tiny","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"prompt_token_ids":null}"#,
    r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"tiny","choices":[{"index":0,"delta":{"content":"Grüße 👋🏽"},"logprobs":null,"finish_reason":null}]}"#,
    r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"tiny","choices":[{"index":0,"delta":{"content":" \\n\n漢字"},"logprobs":null,"finish_reason":null}]}"#,
    r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"tiny","choices":[{"index":0,"delta":{"content":""},"logprobs":null,"finish_reason":"stop"}]}"#,
    r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"tiny","choices":[],"usage":{"prompt_tokens":11,"total_tokens":13,"completion_tokens":2}}"#,
    "[DONE]",
];

/// Events as a stream.
pub fn stream<'e>(events: impl IntoIterator<Item = &'e str>) -> String {
    events.into_iter().map(|event| format!("data: {event}\n\n")).collect()
}

/// Answers with exactly these bytes as an event stream.
pub fn exactly(body: impl AsRef<[u8]>) -> Script {
    let body = match std::str::from_utf8(body.as_ref()) {
        Ok(text) => Blob::from(text),
        Err(_) => Blob::raw(body.as_ref()),
    };
    let headers = vec![("content-type".into(), "text/event-stream; charset=utf-8".into())];
    let answer = Fixed { status: 200, headers, body, framing: Framing::Chunked };
    Script { answer: Some(answer), ..Script::default() }
}

/// A vLLM that serves `tiny`, and a gateway with these top-level keys and tables in front of it.
pub fn one(top: &str, tables: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let gateway =
        Gateway::start(&format!("{top}{}{tables}{LENIENT}", backend("first", "vllm", &upstream)));
    gateway.wait_for_model("tiny");
    upstream.clear();
    (upstream, gateway)
}

/// Two of them, tried strictly in order.
pub fn two(top: &str, tables: &str) -> (Upstream, Upstream, Gateway) {
    let profile = Profile::vllm(&["tiny"]);
    let first = Upstream::start(profile.clone()).unwrap();
    let second = Upstream::start(profile).unwrap();
    let gateway = Gateway::start(&format!(
        "{top}{}{}[[head]]\nname = \"both\"\nregion = \"eu\"\nbackends = [\"first\", \"second\"]\n\
         order = \"listed\"\n[[model]]\nname = \"tiny\"\nregion = \"eu\"\npriority_head = \"both\"\n\
         {tables}{LENIENT}",
        backend("first", "vllm", &first),
        backend("second", "vllm", &second),
    ));
    gateway.wait_for_backends(2);
    first.clear();
    second.clear();
    (first, second, gateway)
}

/// The log's lines about chat requests; those of two cores may overtake each other.
pub fn chat_lines(gateway: &Gateway) -> Vec<serde_json::Value> {
    let mut lines = gateway.request_lines();
    lines.retain(|line| line["operation"] == "chat_completions");
    lines
}
