use super::*;

fn read(body: &str) -> UpstreamError {
    UpstreamError::read(body.as_bytes())
}

#[test]
fn every_shape_gives_its_message() {
    for (body, message, kind, code, canonical) in [
        (
            r#"{"error":{"message":"m","type":"t","param":null,"code":"c"}}"#,
            "m",
            Some("t"),
            Some("c"),
            true,
        ),
        (
            r#"{"error":{"message":"m","type":"NotFoundError","param":"model","code":404}}"#,
            "m",
            Some("NotFoundError"),
            Some("404"),
            true,
        ),
        (
            r#"{"error":{"code":400,"message":"m","type":"t","n_ctx":2048}}"#,
            "m",
            Some("t"),
            Some("400"),
            true,
        ),
        (r#"{"error":"Unauthorized"}"#, "Unauthorized", None, None, false),
        (
            r#"{"message":"m","code":422,"type":"Validation"}"#,
            "m",
            Some("Validation"),
            Some("422"),
            false,
        ),
        (r#"{"error":"m","error_type":"Overloaded"}"#, "m", Some("Overloaded"), None, false),
        (r#"{"detail":"Not Found"}"#, "Not Found", None, None, false),
        (r#"{"detail":[{"msg":"x"}]}"#, r#"[{"msg":"x"}]"#, None, None, false),
        (
            "<html>\n<head><title>502 Bad Gateway</title></head>",
            "502 Bad Gateway",
            None,
            None,
            false,
        ),
        ("<html>x", "<html>x", None, None, false),
        ("404 page not found\n", "404 page not found", None, None, false),
        ("", "", None, None, false),
        ("null", "", None, None, false),
        ("{}", "", None, None, false),
        (r#"{"error":null}"#, r#"{"error":null}"#, None, None, false),
        (r#"{"error":{}}"#, "", None, None, false),
        (r#"{"error":{"message":5}}"#, "5", None, None, false),
        (r#"{"error":{"message":"m","code":{}}}"#, "m", None, None, false),
        (r#"{"error":{"message":"m","code":1.5}}"#, "m", None, Some("1.5"), false),
        (r#"{"error":{"message":"m","param":["x"]}}"#, "m", None, None, false),
        (r#""text""#, "text", None, None, false),
    ] {
        let error = read(body);
        assert_eq!(
            (error.message.as_str(), error.kind.as_deref(), error.code.as_deref(), error.canonical),
            (message, kind, code, canonical),
            "{body}"
        );
    }
}

#[test]
fn messages_are_cut_between_characters() {
    let long = "ü".repeat(40_000);
    for body in [
        format!(r#"{{"error":{{"message":"{long}"}}}}"#),
        format!(r#"{{"error":"{long}"}}"#),
        format!(r#"{{"error":{{"message":"x{long}"}}}}"#),
        long.clone(),
        format!("x{long}"),
    ] {
        let error = read(&body);
        assert!(error.message.len() <= MESSAGE_MAX_BYTES);
        assert!(error.message.len() >= MESSAGE_MAX_BYTES - 2, "{}", error.message.len());
        assert!(!error.message.contains('\u{fffd}'));
        assert!(!error.canonical);
    }
    let canonical = read(&format!(r#"{{"error":{{"message":"{}"}}}}"#, "x".repeat(10_000)));
    assert!(canonical.canonical && canonical.message.len() == MESSAGE_MAX_BYTES);
    let huge = vec![b'x'; 10 << 20];
    assert_eq!(UpstreamError::read(&huge).message.len(), MESSAGE_MAX_BYTES);
    assert_eq!(UpstreamError::read(b"a\xffb").message, "a\u{fffd}b");
}

#[test]
fn a_status_in_the_code() {
    for (code, status) in
        [("400", Some(400)), ("\"503\"", Some(503)), ("200", None), ("\"x\"", None), ("null", None)]
    {
        let error = read(&format!(r#"{{"error":{{"message":"m","code":{code}}}}}"#));
        assert_eq!(error.status(), status, "{code}");
    }
}

#[test]
fn truth_decides_what_is_an_error() {
    for falsy in ["null", "false", "0", "\"\"", "{}", "[]"] {
        assert!(!is_error(falsy), "{falsy}");
    }
    for truthy in ["true", "1", "\"x\"", "{\"message\":\"m\"}"] {
        assert!(is_error(truthy), "{truthy}");
    }
}

fn shown(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn envelopes() {
    let full = envelope(
        "no model named \"x\"\n\u{1}",
        "invalid_request_error",
        Some("model"),
        Some("model_not_found"),
    );
    insta::assert_snapshot!(shown(&full), @r#"{"error":{"message":"no model named \"x\"\n\u0001","type":"invalid_request_error","param":"model","code":"model_not_found"}}"#);
    let bare = envelope("m", "server_error", None, None);
    insta::assert_snapshot!(shown(&bare), @r#"{"error":{"message":"m","type":"server_error","param":null,"code":null}}"#);
    assert!(read(shown(&full)).canonical && read(shown(&bare)).canonical);
}

#[test]
fn an_envelope_is_one_event() {
    let envelope = envelope("m\n", "t", None, None);
    let whole = event(&envelope);
    assert_eq!(whole, [b"data: ", &envelope[..], b"\n\n"].concat());
    assert_eq!(
        event(b"{\n\"error\":\r\n1}"),
        &b"data: {\ndata: \"error\":\ndata: \ndata: 1}\n\n"[..]
    );
}
