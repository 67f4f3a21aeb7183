//! Requests that two servers on one path could read in two ways.

/// Name, expectation, bytes.
pub(crate) type Case = (&'static str, Expect, String);

/// All of them.
pub(crate) fn all() -> Vec<Case> {
    [lengths(), odd_lengths(), rare_lengths(), chunks(), lines(), unread_bodies()].concat()
}

/// What may come of a case.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Expect {
    /// One error answer, then the end of the connection; nothing upstream.
    Refused,
    /// Exactly the outer request upstream, byte for byte.
    Served,
    /// One or the other.
    Either,
    /// The outer request is answered here; nothing upstream.
    Local,
}
pub(crate) use Expect::{Either, Local, Refused, Served};

/// `@@@` becomes the number of the case.
pub(crate) const BODY: &str = r#"{"model":"tiny","messages":[],"user":"case-@@@"}"#;
const INNER: &str = r#"{"model":"tiny","prompt":"x","user":"smuggled-@@@"}"#;

/// The request that must never be seen.
fn smuggled() -> String {
    format!(
        "POST /v1/completions HTTP/1.1\r\nhost: g\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{INNER}",
        INNER.len()
    )
}

/// A chat request with these header lines, ending in `rest`.
fn chat(headers: &str, rest: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-type: application/json\r\n\
         {headers}\r\n{rest}"
    )
}

fn with_length(headers: &str) -> String {
    chat(&format!("content-length: {}\r\n{headers}", BODY.len()), BODY)
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

fn chunked(headers: &str, rest: &str) -> String {
    chat(&format!("transfer-encoding: chunked\r\n{headers}"), rest)
}

/// Which of two lengths holds.
fn lengths() -> Vec<Case> {
    let whole = chunk(BODY) + "0\r\n\r\n";
    let all = whole.len() + smuggled().len();
    let te = "transfer-encoding: chunked\r\n";
    let cl = format!("content-length: {all}\r\n");
    let tail = whole + &smuggled();
    let short = format!("content-length: {}\r\n", BODY.len());
    vec![
        ("CL.TE", Either, chat(&format!("{cl}{te}"), &tail)),
        ("TE.CL", Either, chat(&format!("{te}{cl}"), &tail)),
        ("CL.TE short", Either, chat(&format!("content-length: 4\r\n{te}"), &tail)),
        (
            "TE.CL in a chunk",
            Either,
            chat(&format!("content-length: 4\r\n{te}"), &(chunk(&smuggled()) + "0\r\n\r\n")),
        ),
        ("TE twice", Either, chat(&format!("{te}{te}"), &tail)),
        ("two lengths", Refused, chat(&format!("{short}{cl}"), &(BODY.to_owned() + &smuggled()))),
        ("zero and a length", Refused, chat(&format!("content-length: 0\r\n{short}"), BODY)),
        ("the same length twice", Either, chat(&format!("{short}{short}"), BODY)),
        (
            "a list of lengths",
            Either,
            chat(&format!("content-length: {0}, {0}\r\n", BODY.len()), BODY),
        ),
        ("HTTP/1.0 chunked", Refused, chunked("", &tail).replacen("HTTP/1.1", "HTTP/1.0", 1)),
    ]
}

/// Lengths, codings and lines that are none.
fn odd_lengths() -> Vec<Case> {
    let mut cases = Vec::new();
    let tail = chunk(BODY) + "0\r\n\r\n" + &smuggled();
    let short = format!("content-length: {}\r\n", BODY.len());
    for value in [
        "+N",
        "-N",
        "0xN",
        "N N",
        "N_0",
        "",
        "N;x",
        "N.0",
        "\u{ff11}",
        "18446744073709551616",
        "99999999999999999999999",
    ] {
        let value = value.replace('N', &BODY.len().to_string());
        cases.push(("odd length", Refused, chat(&format!("content-length: {value}\r\n"), BODY)));
    }
    for value in [
        "xchunked",
        "chunked, identity",
        "chunked;x=1",
        "\"chunked\"",
        "chunked\u{b}",
        "\u{b}chunked",
        "identity",
        "",
        "gzip",
        "chunked x",
        "chun\r\n ked",
        "x\r\ntransfer-encoding: identity",
    ] {
        let line = format!("transfer-encoding: {value}\r\n");
        cases.push((
            "odd coding",
            Refused,
            chat(&format!("{short}{line}"), &(BODY.to_owned() + &smuggled())),
        ));
        cases.push(("odd coding alone", Refused, chat(&line, &tail)));
    }
    cases
}

/// Codings, names and line ends that few write.
fn rare_lengths() -> Vec<Case> {
    let mut cases = Vec::new();
    let whole = chunk(BODY) + "0\r\n\r\n";
    let tail = whole.clone() + &smuggled();
    let short = format!("content-length: {}\r\n", BODY.len());
    for value in ["gzip, chunked", "CHUNKED", "\tchunked", "chunked\t "] {
        cases.push((
            "rare coding",
            Either,
            chat(&format!("transfer-encoding: {value}\r\n"), &whole),
        ));
    }
    for line in [
        "transfer-encoding : chunked\r\n",
        " transfer-encoding: chunked\r\n",
        "x: y\r\n\ttransfer-encoding: chunked\r\n",
        "transfer-encoding\r\n",
        "transfer-encoding\u{0}: chunked\r\n",
        "x: y\rtransfer-encoding: chunked\r\n",
        ": chunked\r\n",
        "transfer-encoding\u{b}: chunked\r\n",
    ] {
        cases.push(("odd line", Refused, with_length(line)));
    }
    cases.push((
        "bare LF before TE",
        Either,
        chat(&format!("{short}x: y\ntransfer-encoding: chunked\r\n"), &tail),
    ));
    for line in [
        "transfer_encoding: chunked\r\n",
        "content_length: 0\r\n",
        "x-transfer-encoding: chunked\r\n",
    ] {
        cases.push(("underscores are other names", Served, with_length(line)));
    }
    cases
}

/// How chunks are framed.
fn chunks() -> Vec<Case> {
    let size = format!("{:x}", BODY.len());
    let rest = format!("\r\n{BODY}\r\n0\r\n\r\n");
    let mut cases = vec![
        ("plain chunks", Served, chunked("", &(chunk(BODY) + "0\r\n\r\n"))),
        ("leading zeros", Either, chunked("", &format!("000{size}{rest}"))),
        ("an extension", Either, chunked("", &format!("{size};a=b;c=\"d\"{rest}"))),
        (
            "an extension with a quoted line",
            Either,
            chunked("", &format!("{size};a=\"\r\n\"{rest}")),
        ),
        (
            "an extension ended by LF",
            Either,
            chunked("", &format!("{size};a\n{BODY}\r\n0\r\n\r\n{}", smuggled())),
        ),
        (
            "an endless extension",
            Refused,
            chunked("", &format!("{size};{}{rest}", "x".repeat(64 << 10))),
        ),
        (
            "data without its end",
            Refused,
            chunked("", &format!("2\r\n{BODY}\r\n0\r\n\r\n{}", smuggled())),
        ),
        ("data ended by LF", Refused, chunked("", &format!("{size}\r\n{BODY}\n0\r\n\r\n"))),
        ("size ended by LF", Either, chunked("", &format!("{size}\n{BODY}\r\n0\r\n\r\n"))),
        ("size ended by CR", Refused, chunked("", &format!("{size}\r{BODY}\r\n0\r\n\r\n"))),
        (
            "trailers",
            Either,
            chunked(
                "trailer: content-length\r\n",
                &format!(
                    "{}0\r\ncontent-length: 5\r\nx-forwarded-for: x\r\nhost: evil.test\r\n\r\n",
                    chunk(BODY)
                ),
            ),
        ),
        (
            "a trailer folded",
            Either,
            chunked("", &format!("{}0\r\nx: a\r\n b\r\n\r\n", chunk(BODY))),
        ),
        (
            "endless trailers",
            Refused,
            chunked("", &format!("{}0\r\n{}\r\n", chunk(BODY), "x: y\r\n".repeat(20_000))),
        ),
        ("the end cut", Refused, chunked("", &chunk(BODY))),
    ];
    for odd in ["0x", "+", "-", " ", "\t", "g"] {
        cases.push(("odd size", Either, chunked("", &format!("{odd}{size}{rest}"))));
    }
    for odd in ["ffffffffffffffff1", "fffffffffffffffff", "", "-1", "0x5", "5 5", "\u{0}"] {
        cases.push(("no size", Refused, chunked("", &format!("{odd}\r\n{BODY}\r\n0\r\n\r\n"))));
    }
    cases
}

/// Request lines and header lines.
fn lines() -> Vec<Case> {
    let good = with_length("");
    let line = "POST /v1/chat/completions HTTP/1.1";
    let first = |other: &str| good.replacen(line, other, 1);
    let mut cases = vec![
        ("absolute form", Either, first("POST http://evil.test/v1/chat/completions HTTP/1.1")),
        (
            "absolute form with a user",
            Either,
            first("POST http://a:b@evil.test:1/v1/chat/completions HTTP/1.1"),
        ),
        ("absolute form of a file", Refused, first("POST file:///v1/chat/completions HTTP/1.1")),
        ("a fragment", Either, first("POST /v1/chat/completions#/../sleep HTTP/1.1")),
        ("HTTP/1.0", Either, first("POST /v1/chat/completions HTTP/1.0")),
        ("bare LF everywhere", Either, good.replace("\r\n", "\n")),
        ("bare LF after the request line", Either, first(&format!("{line}\nx: y"))),
        ("CRLF before the request line", Either, format!("\r\n\r\n{good}")),
        ("two hosts", Either, with_length("host: evil.test\r\n")),
        ("an empty host", Either, good.replacen("host: g", "host:", 1)),
        ("a host with a path", Either, good.replacen("host: g", "host: g/v1 x", 1)),
        ("no host", Either, good.replacen("host: g\r\n", "", 1)),
        (
            "upgrade to h2c",
            Served,
            with_length(
                "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n",
            ),
        ),
        ("an obs-fold", Refused, with_length("x: a\r\n b\r\n")),
        ("NUL in a value", Refused, with_length("x: a\u{0}b\r\n")),
        ("NUL in a name", Refused, with_length("x\u{0}: a\r\n")),
        ("CR in a value", Refused, with_length("x: a\rb\r\n")),
        ("a control in a name", Refused, with_length("x\u{1}: a\r\n")),
        ("brackets in a name", Refused, with_length("x(y): a\r\n")),
    ];
    for odd in [
        "POST /v1/chat/completions",
        "POST /v1/chat/completions HTTP/1.2",
        "POST /v1/chat/completions HTTP/2.0",
        "POST /v1/chat/completions HTTP/0.9",
        "POST /v1/chat/completions http/1.1",
        "POST\t/v1/chat/completions\tHTTP/1.1",
        "POST /v1/chat/completions x HTTP/1.1",
        "POST /v1/chat/\u{0}completions HTTP/1.1",
        "POST /v1/chat/completions\u{7f} HTTP/1.1",
        "P\u{0}ST /v1/chat/completions HTTP/1.1",
        "P(ST /v1/chat/completions HTTP/1.1",
        " POST /v1/chat/completions HTTP/1.1",
        "/v1/chat/completions",
        "\u{16}\u{3}\u{1}\u{2}\u{0}",
    ] {
        cases.push(("odd request line", Refused, first(odd)));
    }
    cases
}

/// CL.0 and TE.0: bodies that nobody reads. What is in them is still no request.
fn unread_bodies() -> Vec<Case> {
    let inner = smuggled();
    let length = format!("content-length: {}\r\n", inner.len());
    let mut cases = Vec::new();
    for line in [
        "GET /v1/models",
        "HEAD /v1/models",
        "OPTIONS /v1/chat/completions",
        "OPTIONS *",
        "GET /v1/chat/completions",
        "DELETE /v1/models/x",
        "POST /nothing",
        "GET /",
        "TRACE /v1/models",
        "POST /v1/models",
    ] {
        cases.push((
            "an unread body",
            Local,
            format!("{line} HTTP/1.1\r\nhost: g\r\n{length}\r\n{inner}"),
        ));
        cases.push((
            "unread chunks",
            Local,
            format!(
                "{line} HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n",
                chunk(&inner)
            ),
        ));
    }
    for header in ["content-encoding: gzip\r\n", "content-type: text/plain\r\n"] {
        cases.push(("a refused body", Local, chat(&format!("{length}{header}"), &inner)));
        cases.push(("refused chunks", Local, chunked(header, &(chunk(&inner) + "0\r\n\r\n"))));
    }
    let huge = format!("content-length: {}\r\n", 1_u64 << 40);
    cases.push(("a body too large", Local, chat(&huge, &inner)));
    cases.push((
        "a body too large, expected",
        Local,
        chat(&format!("{huge}expect: 100-continue\r\n"), &inner),
    ));
    cases.push((
        "a body refused by its content",
        Local,
        chat(&length, &inner).replacen("/v1/chat", "//v1/chat", 1),
    ));
    cases
}
