//! Method and path to operation: the closed list of what is ever forwarded.

use std::borrow::Cow;

use router::Operation;

const GET: &str = "GET, HEAD, OPTIONS";
const POST: &str = "POST, OPTIONS";

/// What a method and a path ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved<'p> {
    /// An operation.
    Operation(Operation),
    /// `GET /v1/models/{id}`, the id percent-decoded once.
    Model(Cow<'p, str>),
    /// The path exists, with other methods.
    MethodNotAllowed {
        /// The value of the `Allow` header.
        allow: &'static str,
    },
    /// `OPTIONS` of a path that exists.
    Preflight {
        /// The value of the `Allow` header.
        allow: &'static str,
    },
    /// No such path.
    NotFound,
}

/// Resolves a method and a path (without its query).
///
/// Paths match exactly, with or without one trailing slash. `HEAD` resolves like `GET`. A model id may hold
/// raw slashes; one with a broken escape, invalid UTF-8 or control characters is not found.
#[must_use]
pub fn resolve<'p>(method: &str, path: &'p str) -> Resolved<'p> {
    let exact = path.strip_suffix('/').unwrap_or(path);
    let (target, allow) = match exact {
        "/v1/chat/completions" => (Resolved::Operation(Operation::ChatCompletions), POST),
        "/v1/completions" => (Resolved::Operation(Operation::Completions), POST),
        "/v1/embeddings" => (Resolved::Operation(Operation::Embeddings), POST),
        "/v1/models" => (Resolved::Operation(Operation::ListModels), GET),
        _ => match exact.strip_prefix("/v1/models/").and_then(decode) {
            Some(id) => (Resolved::Model(id), GET),
            None => return Resolved::NotFound,
        },
    };
    match method {
        "OPTIONS" => Resolved::Preflight { allow },
        "GET" | "HEAD" if allow == GET => target,
        "POST" if allow == POST => target,
        _ => Resolved::MethodNotAllowed { allow },
    }
}

/// Decodes `%XX` exactly once.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    let decoded = if text.contains('%') {
        let mut bytes = text.bytes();
        let mut out = Vec::with_capacity(text.len());
        while let Some(byte) = bytes.next() {
            out.push(if byte == b'%' {
                hex(bytes.next()?)? << 4 | hex(bytes.next()?)?
            } else {
                byte
            });
        }
        Cow::Owned(String::from_utf8(out).ok()?)
    } else {
        Cow::Borrowed(text)
    };
    (!decoded.is_empty() && !decoded.chars().any(char::is_control)).then_some(decoded)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(path: &str) -> Option<String> {
        match resolve("GET", path) {
            Resolved::Model(id) => Some(id.into_owned()),
            _ => None,
        }
    }

    #[test]
    fn every_operation_with_and_without_slash() {
        for (operation, path) in [
            (Operation::ChatCompletions, "/v1/chat/completions"),
            (Operation::Completions, "/v1/completions"),
            (Operation::Embeddings, "/v1/embeddings"),
        ] {
            assert_eq!(resolve("POST", path), Resolved::Operation(operation));
            assert_eq!(resolve("POST", &format!("{path}/")), Resolved::Operation(operation));
            assert_eq!(resolve("GET", path), Resolved::MethodNotAllowed { allow: POST });
            assert_eq!(resolve("OPTIONS", path), Resolved::Preflight { allow: POST });
        }
        for method in ["GET", "HEAD"] {
            assert_eq!(resolve(method, "/v1/models/"), Resolved::Operation(Operation::ListModels));
        }
        assert_eq!(resolve("DELETE", "/v1/models/a"), Resolved::MethodNotAllowed { allow: GET });
    }

    #[test]
    fn nothing_else_is_reachable() {
        for path in [
            "",
            "/",
            "//v1//models",
            "/v1/v1/models",
            "/chat/completions",
            "/V1/models",
            "/sleep",
            "/v1/chat/completions//",
            "/v1/../admin",
            "/metrics",
            "/v1",
            "/%76%31/models",
            "/v1/models//",
            "/v1/chat%2Fcompletions",
        ] {
            for method in ["GET", "POST", "OPTIONS"] {
                assert_eq!(resolve(method, path), Resolved::NotFound, "{method} {path}");
            }
        }
    }

    #[test]
    fn model_ids_are_decoded_once() {
        for (path, id) in [
            ("/v1/models/Qwen%2FQwen3:8b", "Qwen/Qwen3:8b"),
            ("/v1/models/Qwen/Qwen3:8b", "Qwen/Qwen3:8b"),
            ("/v1/models/hf.co/o/r:Q4/", "hf.co/o/r:Q4"),
            ("/v1/models/a%252Fb", "a%2Fb"),
            ("/v1/models/a%20b+c", "a b+c"),
            ("/v1/models/%C3%BC", "ü"),
            ("/v1/models/ü", "ü"),
        ] {
            assert_eq!(model(path).as_deref(), Some(id), "{path}");
        }
        for path in
            ["/v1/models/%", "/v1/models/%2", "/v1/models/%zz", "/v1/models/%ff", "/v1/models/%00"]
        {
            assert_eq!(model(path), None, "{path}");
        }
    }
}
