//! Bodies and streams as clients and servers send them.

use bytes::Bytes;

/// A short chat, as the `openai` client writes it.
pub(crate) fn small_chat() -> Bytes {
    Bytes::from_static(
        br#"{"messages":[{"role":"system","content":"You are a helpful assistant."},{"role":"user","content":"Say hello to \"everyone\" in three languages."}],"model":"mistral-7b","max_completion_tokens":128,"stream":true,"stream_options":{"include_usage":true},"temperature":0.7}"#,
    )
}

/// A chat of at least `bytes` bytes: many turns of prose with escapes and some text beyond ASCII.
pub(crate) fn chat(bytes: usize) -> Bytes {
    const TURNS: [&str; 2] = [
        r#"{"role":"user","content":"Please read this:\n\n\"The basin in front of a power station takes what the river brings, and gives each turbine a steady flow.\"\nWhat does it say about the load at 17:30?"},"#,
        r#"{"role":"assistant","content":"Das Becken gleicht die Zufl\u00fcsse aus, sodass jede Turbine gleichm\u00e4\u00dfig l\u00e4uft – även om floden stiger."},"#,
    ];
    let mut body = String::from(r#"{"model":"mistral-7b","stream":true,"messages":["#);
    for turn in TURNS.iter().cycle() {
        body.push_str(turn);
        if body.len() >= bytes {
            break;
        }
    }
    body.push_str(r#"{"role":"user","content":"Go on."}],"max_tokens":256}"#);
    Bytes::from(body)
}

/// The first chunk of vLLM's streams: a role and no content.
pub(crate) const ROLE_EVENT: &[u8] = b"data: {\"id\":\"chatcmpl-1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,\"model\":\"mistralai/Mistral-7B-Instruct-v0.3\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n";
/// A chunk with one token.
pub(crate) const TOKEN_EVENT: &[u8] = b"data: {\"id\":\"chatcmpl-1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,\"model\":\"mistralai/Mistral-7B-Instruct-v0.3\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" turbine\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n";
/// The chunk that ends the one choice.
pub(crate) const FINISH_EVENT: &[u8] = b"data: {\"id\":\"chatcmpl-1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,\"model\":\"mistralai/Mistral-7B-Instruct-v0.3\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"},\"logprobs\":null,\"finish_reason\":\"stop\",\"stop_reason\":null}]}\n\n";

/// A plain answer as vLLM writes it.
pub(crate) const ANSWER: &[u8] = br#"{"id":"chatcmpl-1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed","object":"chat.completion","created":1760000000,"model":"mistralai/Mistral-7B-Instruct-v0.3","choices":[{"index":0,"message":{"role":"assistant","content":"The basin in front of a power station takes what the river brings, and gives each turbine a steady flow. \"Steady\" is the word.","refusal":null,"tool_calls":[],"reasoning_content":null},"logprobs":null,"finish_reason":"stop","stop_reason":null}],"usage":{"prompt_tokens":27,"total_tokens":59,"completion_tokens":32,"prompt_tokens_details":null},"prompt_logprobs":null,"kv_transfer_params":null}"#;
