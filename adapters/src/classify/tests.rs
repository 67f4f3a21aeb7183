use super::*;
use crate::error::UpstreamError;

use FailureKind::{
    BadResponse, ErrorEvent as InStream, ModelAbsent, Overloaded, ServerError, Unauthorized,
};
use Verdict::{ClientFault, ContextLength, Failure, NotServed, Success};

const CHAT: Operation = Operation::ChatCompletions;

fn error(message: &str) -> String {
    format!(r#"{{"error":{{"message":"{message}","type":"t","param":null,"code":null}}}}"#)
}

#[test]
fn statuses_of_every_kind() {
    for kind in Kind::ALL {
        for (status, verdict) in [
            (200, Success),
            (204, Success),
            (101, Failure(BadResponse)),
            (302, Failure(BadResponse)),
            (307, Failure(BadResponse)),
            (0, Failure(BadResponse)),
            (600, Failure(BadResponse)),
            (400, ClientFault),
            (401, Failure(Unauthorized)),
            (403, Failure(Unauthorized)),
            (404, Failure(ModelAbsent)),
            (405, NotServed),
            (408, Failure(ServerError)),
            (409, ClientFault),
            (413, ClientFault),
            (415, ClientFault),
            (422, ClientFault),
            (424, Failure(ServerError)),
            (429, Failure(Overloaded)),
            (500, Failure(ServerError)),
            (501, NotServed),
            (502, Failure(ServerError)),
            (503, Failure(Overloaded)),
            (504, Failure(ServerError)),
            (529, Failure(ServerError)),
        ] {
            assert_eq!(classify(kind, CHAT, status, b""), verdict, "{kind:?} {status}");
        }
    }
}

#[test]
fn bodies_that_change_the_verdict() {
    use Kind::{Ollama, OpenAi, Tei, Vllm};
    for (kind, status, body, verdict) in [
        // UPSTREAMS 15 and 19: client faults as 500.
        (OpenAi, 500, error("[json.exception.parse_error.101] parse error at line 1"), ClientFault),
        (OpenAi, 500, error("image input is not supported - hint: ..."), ClientFault),
        (
            OpenAi,
            500,
            error("input is too large to process. increase the physical batch size"),
            ContextLength,
        ),
        (OpenAi, 500, error("tools param requires --jinja flag"), NotServed),
        (OpenAi, 404, "<!doctype html><title>x</title>".into(), NotServed),
        (Vllm, 500, error("[json.exception.parse_error.101]"), Failure(ServerError)),
        (OpenAi, 501, error("This server does not support embeddings."), NotServed),
        (OpenAi, 503, error("Loading model"), Failure(Overloaded)),
        // UPSTREAMS 3: a vLLM that shuts down.
        (Vllm, 500, error("cannot schedule new futures after shutdown"), Failure(ServerError)),
        (Vllm, 503, r#"{"error":"The model is currently scaling."}"#.into(), Failure(Overloaded)),
        (Vllm, 401, r#"{"error":"Unauthorized"}"#.into(), Failure(Unauthorized)),
        // O2, O9, O24 to O26.
        (Ollama, 500, error("llama runner process no longer running: -1 "), Failure(ServerError)),
        (Ollama, 500, error("invalid JSON schema in format"), ClientFault),
        (Ollama, 500, error("Failed to create new sequence: no input provided"), ClientFault),
        (Ollama, 500, error("invalid file magic"), Failure(ServerError)),
        (Ollama, 503, error("server busy, please try again."), Failure(Overloaded)),
        (Ollama, 403, r#"{"error":"ollama cloud is disabled: x"}"#.into(), Failure(ModelAbsent)),
        (Ollama, 502, r#"{"error":"Post \"https://ollama.com\""}"#.into(), Failure(ServerError)),
        (Ollama, 400, error(r#"\"tiny\" does not support chat"#), NotServed),
        (Ollama, 400, error(r#"\"tiny\" does not support thinking"#), ClientFault),
        (Ollama, 400, error("invalid model name"), ClientFault),
        (Ollama, 404, error("model 'x' not found"), Failure(ModelAbsent)),
        (Ollama, 499, error("request canceled"), Failure(ServerError)),
        (Ollama, 404, "404 page not found".into(), NotServed),
        (Vllm, 404, r#"{"detail":"Not Found"}"#.into(), NotServed),
        (
            OpenAi,
            404,
            r#"{"error":{"code":404,"message":"File Not Found","type":"not_found_error"}}"#.into(),
            NotServed,
        ),
        (Vllm, 404, error("The model `x` does not exist."), Failure(ModelAbsent)),
        (
            Tei,
            424,
            r#"{"error":"model is not a re-ranker model","error_type":"Backend"}"#.into(),
            Failure(ServerError),
        ),
        (
            Tei,
            429,
            r#"{"error":"Model is overloaded","error_type":"Overloaded"}"#.into(),
            Failure(Overloaded),
        ),
        (
            Tei,
            422,
            r#"{"error":"batch size 33 > maximum allowed batch size 32"}"#.into(),
            ClientFault,
        ),
    ] {
        assert_eq!(
            classify(kind, CHAT, status, body.as_bytes()),
            verdict,
            "{kind:?} {status} {body}"
        );
    }
}

#[test]
fn prompts_that_are_too_long() {
    for message in [
        "This model's maximum context length is 2048 tokens. However, your prompt contains 4015 input tokens",
        "This model's maximum context length is 2048 tokens. However, your prompt fills it with 2048 input tokens, leaving no room",
        "max_tokens=5000 cannot be greater than max_model_len=2048",
        "The engine prompt length 4015 exceeds the max_model_len 2048.",
        "the input length exceeds the context length",
        "`inputs` must have less than 512 tokens. Given: 600",
    ] {
        assert_eq!(
            classify(Kind::Vllm, CHAT, 400, error(message).as_bytes()),
            ContextLength,
            "{message}"
        );
    }
    let body = br#"{"error":{"code":400,"message":"request (4016 tokens) exceeds the available context size (2048 tokens), try increasing it","type":"exceed_context_size_error"}}"#;
    assert_eq!(classify(Kind::OpenAi, CHAT, 400, body), ContextLength);
    let body = br#"{"error":{"message":"too long","type":"t","param":"messages","code":"context_length_exceeded"}}"#;
    assert_eq!(classify(Kind::OpenAi, CHAT, 400, body), ContextLength);
    assert_eq!(classify(Kind::OpenAi, CHAT, 500, body), Failure(ServerError));
}

#[test]
fn a_list_has_no_model_to_miss() {
    assert_eq!(classify(Kind::Vllm, Operation::ListModels, 404, b""), NotServed);
}

#[test]
fn error_events_before_content() {
    let event = |code: &str, message: &str| {
        let data = format!(
            r#"{{"error":{{"message":"{message}","type":"t","param":null,"code":{code}}}}}"#
        );
        ErrorEvent { error: UpstreamError::read(data.as_bytes()), data: data.into_bytes() }
    };
    for (code, message, verdict) in [
        ("400", "bad logit_bias", ClientFault),
        ("422", "bad", ClientFault),
        ("400", "This model's maximum context length is 5 tokens.", ContextLength),
        ("500", "EngineCore encountered an issue.", Failure(InStream)),
        ("503", "paused", Failure(Overloaded)),
        ("429", "slow down", Failure(Overloaded)),
        ("404", "The model `x` does not exist.", Failure(ModelAbsent)),
        ("null", "odd", Failure(InStream)),
        ("\"oops\"", "odd", Failure(InStream)),
        ("200", "odd", Failure(InStream)),
    ] {
        assert_eq!(
            classify_event(Kind::Vllm, CHAT, &event(code, message)),
            verdict,
            "{code} {message}"
        );
    }
}

#[test]
fn retry_after_is_capped_seconds() {
    let max = Duration::from_secs(60);
    for (header, wait) in [
        ("5", Some(Duration::from_secs(5))),
        (" 0 ", Some(Duration::ZERO)),
        ("1.5", Some(Duration::from_millis(1500))),
        ("3600", Some(max)),
        ("1e300", Some(max)),
        ("inf", Some(max)),
        ("-1", None),
        ("NaN", None),
        ("", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ] {
        assert_eq!(retry_after(header, max), wait, "{header}");
    }
}
