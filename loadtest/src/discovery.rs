//! Everything beside inference: health, model lists, versions, metrics.

use crate::answer::unix_seconds;
use crate::ask::Route;
use crate::connection::{Exchange, Failed};
use crate::dialect::quote;
use crate::profile::{Kind, Vitals, tagged};
use crate::recorder::{Stats, lock};
use crate::script::{Blob, Fixed};
use crate::writer::{End, Stop};

/// An answer, or silence.
enum Reply {
    Fixed(Fixed),
    Hang,
}

impl Exchange<'_> {
    /// Answers a request that is not for inference.
    pub(crate) async fn other(&mut self) -> Result<End, Failed> {
        let body = self.read_body().await?;
        if self.shared.control && self.head.path().starts_with("/control/") {
            let fixed = crate::control::answer(self.shared, self.head, &body);
            return Ok(self.fixed(&fixed).await?);
        }
        if let Some(end) = self.foreign().await? {
            return Ok(end);
        }
        if let Some(end) = self.unauthorized().await? {
            return Ok(end);
        }
        match self.reply() {
            Reply::Fixed(fixed) => Ok(self.fixed(&fixed).await?),
            Reply::Hang => {
                self.link.hang().await;
                Err(Stop::Gone.into())
            }
        }
    }

    /// Refuses a request that names another host or origin than a local one, as an Ollama that is
    /// bound to loopback does: 403 without a body.
    pub(crate) async fn foreign(&mut self) -> Result<Option<End>, Failed> {
        let host = self.head.header("host").is_some_and(|h| !is_local(h));
        let origin = self.head.header("origin").is_some_and(|o| {
            !o.split_once("://").is_some_and(|(_, authority)| is_local(authority))
        });
        if self.shared.kind != Kind::Ollama || !(host || origin) {
            return Ok(None);
        }
        Ok(Some(self.fixed(&Fixed { status: 403, ..text("", "text/plain") }).await?))
    }

    /// Refuses a request to `/v1` without the key, if one is set.
    pub(crate) async fn unauthorized(&mut self) -> Result<Option<End>, Failed> {
        let Some(key) = lock(&self.shared.vitals).api_key.clone() else { return Ok(None) };
        let given = self.head.header("authorization").unwrap_or_default();
        if !self.head.path().starts_with("/v1") || given == format!("Bearer {key}") {
            return Ok(None);
        }
        let fixed = Fixed::json(401, r#"{"error":"Unauthorized"}"#);
        Ok(Some(self.fixed(&fixed).await?))
    }

    fn reply(&self) -> Reply {
        let vitals = lock(&self.shared.vitals).clone();
        let (method, path) = (self.head.method.as_str(), self.head.path());
        if let Some(fixed) = vitals.answers.get(path) {
            return Reply::Fixed(fixed.clone());
        }
        let kind = self.shared.kind;
        let status = match path {
            "/health" | "/ping" | "/v1/health" => vitals.health,
            "/" | "/api/version" if kind == Kind::Ollama => vitals.health,
            _ => vitals.listing,
        };
        // vLLM has no HEAD, not even on its health route.
        let reads = method == "GET" || (method == "HEAD" && kind != Kind::Vllm);
        let page = self.page(kind, path, &vitals);
        let known = page.is_some() || Route::of("POST", path).is_some();
        let fixed = page.filter(|_| reads);
        match fixed {
            Some(_) if status == 0 => Reply::Hang,
            Some(_) if status != 200 => Reply::Fixed(Fixed::json(status, "")),
            Some(fixed) => Reply::Fixed(fixed),
            None => Reply::Fixed(unknown(kind, known)),
        }
    }

    fn page(&self, kind: Kind, path: &str, vitals: &Vitals) -> Option<Fixed> {
        let stats = || self.shared.recorder.stats();
        let page = match (kind, path) {
            (Kind::Vllm | Kind::Plain | Kind::Tei, "/health" | "/ping") => text("", "text/plain"),
            (Kind::LlamaServer, "/health" | "/v1/health") => Fixed::json(200, r#"{"status":"ok"}"#),
            (Kind::Vllm, "/version") => {
                Fixed::json(200, format!(r#"{{"version":{}}}"#, quote(&vitals.version)))
            }
            (Kind::Vllm, "/load") => Fixed::json(200, r#"{"server_load":0}"#),
            (Kind::Vllm, "/metrics") => {
                text(&vllm_metrics(vitals, &stats()), "text/plain; version=1.0.0; charset=utf-8")
            }
            (Kind::LlamaServer, "/metrics") => {
                text(&llama_metrics(vitals, &stats()), "text/plain; version=0.0.4")
            }
            (Kind::Tei, "/metrics") => {
                let waiting = vitals.waiting.unwrap_or(stats().waiting);
                text(
                    &format!("# TYPE te_queue_size gauge\nte_queue_size {waiting}\n"),
                    "text/plain",
                )
            }
            (Kind::Tei, "/info") => Fixed::json(200, info(vitals)),
            (Kind::Ollama, "/") => text("Ollama is running", "text/plain; charset=utf-8"),
            (Kind::Ollama, "/api/version") => {
                Fixed::json(200, format!(r#"{{"version":{}}}"#, quote(&vitals.version)))
            }
            (Kind::Ollama, "/api/tags") => Fixed::json(200, tags(&vitals.models)),
            (Kind::Ollama, "/api/ps") => Fixed::json(200, loaded(&self.shared.loaded(), vitals)),
            (Kind::LlamaServer, "/slots") => {
                let busy = stats().in_flight > 0;
                let slot = format!(
                    r#"[{{"id":0,"n_ctx":{},"is_processing":{busy}}}]"#,
                    vitals.max_model_len
                );
                Fixed::json(200, slot)
            }
            (Kind::Vllm | Kind::Plain | Kind::Ollama | Kind::LlamaServer, "/v1/models") => {
                Fixed::json(200, models(kind, vitals))
            }
            (Kind::Ollama | Kind::Plain, path) => {
                let id = path.strip_prefix("/v1/models/")?;
                if id.contains('/') || id.contains("%2F") || !vitals.serves(kind, id) {
                    return None;
                }
                Fixed::json(200, model(kind, id, vitals))
            }
            _ => return None,
        };
        Some(page)
    }
}

/// Whether an authority is one that Ollama takes for local (UPSTREAMS 2, O32).
fn is_local(authority: &str) -> bool {
    if let Ok(addr) = authority.parse::<std::net::SocketAddr>() {
        return is_near(addr.ip());
    }
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    if let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse() {
        return is_near(ip);
    }
    let suffixes = [".localhost", ".local", ".internal"];
    host == "localhost" || suffixes.iter().any(|s| host.ends_with(s))
}

fn is_near(ip: std::net::IpAddr) -> bool {
    match ip {
        std::net::IpAddr::V4(v4) => v4.is_loopback() || v4.is_private(),
        std::net::IpAddr::V6(v6) => v6.is_loopback(),
    }
}

fn text(body: &str, content_type: &str) -> Fixed {
    let headers = vec![("content-type".to_owned(), Blob::from(content_type))];
    Fixed { headers, ..Fixed::json(200, body) }
}

/// The answer to a path or method that the server does not have.
fn unknown(kind: Kind, known_path: bool) -> Fixed {
    let status = if known_path { 405 } else { 404 };
    let (body, json) = match (kind, known_path) {
        (Kind::Ollama, true) => ("405 method not allowed", false),
        (Kind::Ollama, false) => ("404 page not found", false),
        (Kind::LlamaServer, _) => {
            (r#"{"error":{"code":404,"message":"File Not Found","type":"not_found_error"}}"#, true)
        }
        (_, true) => (r#"{"detail":"Method Not Allowed"}"#, true),
        (_, false) => (r#"{"detail":"Not Found"}"#, true),
    };
    if json {
        return Fixed::json(status, body);
    }
    Fixed { status, ..text(body, "text/plain") }
}

fn models(kind: Kind, vitals: &Vitals) -> String {
    if kind == Kind::Ollama && vitals.models.is_empty() {
        return r#"{"object":"list","data":null}"#.to_owned();
    }
    let cards: Vec<String> = vitals
        .models
        .iter()
        .map(|m| if kind == Kind::Ollama { tagged(m) } else { m.clone() })
        .map(|m| model(kind, &m, vitals))
        .collect();
    format!(r#"{{"object":"list","data":[{}]}}"#, cards.join(","))
}

fn model(kind: Kind, id: &str, vitals: &Vitals) -> String {
    let (id, created, max) = (quote(id), unix_seconds(), vitals.max_model_len);
    match kind {
        Kind::Vllm => format!(
            r#"{{"id":{id},"object":"model","created":{created},"owned_by":"vllm","root":{id},"parent":null,"max_model_len":{max},"permission":[]}}"#
        ),
        Kind::LlamaServer => format!(
            r#"{{"id":{id},"aliases":[{id}],"tags":[],"object":"model","created":{created},"owned_by":"llamacpp","meta":{{"n_ctx":{max},"n_ctx_train":{max}}}}}"#
        ),
        Kind::Ollama => {
            format!(r#"{{"id":{id},"object":"model","created":1795262340,"owned_by":"library"}}"#)
        }
        Kind::Tei | Kind::Plain => {
            format!(r#"{{"id":{id},"object":"model","created":1795262340,"owned_by":"system"}}"#)
        }
    }
}

/// Ollama's description of a model that it stores.
const DETAILS: &str = r#""details":{"parent_model":"","format":"gguf","family":"llama","families":["llama"],"parameter_size":"592K","quantization_level":"unknown"}"#;

/// A digest that depends on the name alone.
fn digest(name: &str) -> String {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:064x}")
}

fn tags(models: &[String]) -> String {
    let models: Vec<String> = models
        .iter()
        .map(|m| {
            let (name, digest) = (quote(&tagged(m)), digest(&tagged(m)));
            format!(
                r#"{{"name":{name},"model":{name},"modified_at":"2026-11-21T11:59:00.738952284Z","size":2400100,"digest":"{digest}",{DETAILS}}}"#
            )
        })
        .collect();
    format!(r#"{{"models":[{}]}}"#, models.join(","))
}

fn loaded(models: &[String], vitals: &Vitals) -> String {
    let models: Vec<String> = models
        .iter()
        .map(|m| {
            let (name, digest, length) = (quote(m), digest(m), vitals.max_model_len);
            format!(
                r#"{{"name":{name},"model":{name},"size":3938304,"digest":"{digest}",{DETAILS},"expires_at":"2036-11-21T12:08:28.356930992Z","size_vram":0,"context_length":{length}}}"#
            )
        })
        .collect();
    format!(r#"{{"models":[{}]}}"#, models.join(","))
}

fn info(vitals: &Vitals) -> String {
    let model = quote(vitals.models.first().map_or("", String::as_str));
    let (max, version) = (vitals.max_model_len, quote(&vitals.version));
    format!(
        r#"{{"model_id":{model},"served_model_name":{model},"model_dtype":"float32","model_type":{{"embedding":{{"pooling":"mean"}}}},"max_concurrent_requests":512,"max_input_length":{max},"max_batch_tokens":16384,"max_client_batch_size":32,"auto_truncate":true,"tokenization_workers":1,"version":{version}}}"#
    )
}

fn load(vitals: &Vitals, stats: &Stats) -> (u64, u64) {
    let waiting = vitals.waiting.unwrap_or(stats.waiting);
    let running = stats.in_flight.saturating_sub(stats.waiting);
    (vitals.running.unwrap_or(running), waiting)
}

fn vllm_metrics(vitals: &Vitals, stats: &Stats) -> String {
    use std::fmt::Write as _;
    let (running, waiting) = load(vitals, stats);
    let model = quote(vitals.models.first().map_or("", String::as_str));
    let label = format!(r#"engine="0",model_name={model}"#);
    let mut out = String::new();
    let mut gauge = |name: &str, help: &str, lines: &[(String, f64)]| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP vllm:{name} {help}\n# TYPE vllm:{name} gauge");
        for (labels, value) in lines {
            let _ = writeln!(out, "vllm:{name}{{{labels}}} {value:?}");
        }
    };
    let one = |value: f64| [(label.clone(), value)];
    gauge(
        "num_requests_running",
        "Number of requests in model execution batches.",
        &one(running as f64),
    );
    gauge(
        "num_requests_waiting",
        "Number of requests waiting to be processed.",
        &one(waiting as f64),
    );
    gauge(
        "kv_cache_usage_perc",
        "KV-cache usage. 1 means 100 percent usage.",
        &one(vitals.kv_cache),
    );
    let states: Vec<(String, f64)> = ["awake", "weights_offloaded", "discard_all"]
        .into_iter()
        .map(|s| {
            let on = if s == vitals.sleep_state { 1.0 } else { 0.0 };
            (format!(r#"{label},sleep_state="{s}""#), on)
        })
        .collect();
    gauge("engine_sleep_state", "Engine sleep state.", &states);
    out
}

fn llama_metrics(vitals: &Vitals, stats: &Stats) -> String {
    let (running, waiting) = load(vitals, stats);
    format!(
        "# HELP llamacpp:requests_processing Number of requests processing\n\
         # TYPE llamacpp:requests_processing gauge\nllamacpp:requests_processing {running}\n\
         # HELP llamacpp:requests_deferred Number of requests deferred\n\
         # TYPE llamacpp:requests_deferred gauge\nllamacpp:requests_deferred {waiting}\n"
    )
}
