//! Every key of the file format. Parser, JSON Schema, documentation and "did you mean" all read this table; the words
//! about each key are in `default.toml`.

use crate::ty::{Key, Type};

const COUNT: Type = Type::Integer { min: 1, max: 1_000_000 };
const LIMIT: Type = Type::Integer { min: 1, max: i64::MAX };
const WEIGHT: Type = Type::Integer { min: 1, max: 1000 };
const SHARE: Type = Type::Number { min: 0.0, max: 1.0 };
const DAY: u64 = 24 * 3600 * 1000;
/// A deadline: at least 1 ms, at most a day.
const TIME: Type = Type::Duration { min: 1, max: DAY, off: false };
const TIME_OR_OFF: Type = Type::Duration { min: 1, max: DAY, off: true };
/// A wait that may be nothing at all.
const WAIT: Type = Type::Duration { min: 0, max: DAY, off: false };
const NAMES: Type = Type::List { of: &Type::Name, max: 1000 };
const MODELS: Type = Type::List { of: &Type::Model, max: 10_000 };
const TEXTS: Type = Type::List { of: &Type::Text, max: 1000 };
const TEXT_MAP: Type = Type::Map { of: &Type::Text, max: 64 };
const POLICY: Type = Type::Word(&["least_load", "round_robin", "prefix_hash", "session"]);
const fn size(min: u64, max: u64) -> Type {
    Type::Size { min, max }
}
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The only version of the format so far.
pub(crate) const VERSION: i64 = 1;

/// The whole file.
pub(crate) const ROOT: &[Key] = &[
    Key::new("version", Type::Integer { min: VERSION, max: VERSION }),
    Key::new("include", Type::List { of: &Type::Path, max: 256 }).not(&["includes", "import"]),
    Key::new("default_region", Type::Name),
    Key::new("policy", POLICY).not(&["strategy", "routing_strategy", "load_balancing"]),
    Key::new("session_header", Type::Header),
    Key::new("max_attempts", Type::Integer { min: 1, max: 32 }).not(&["retries", "num_retries"]),
    Key::new("head_hold", TIME),
    Key::new("keep_alive", TIME).not(&["keepalive"]),
    Key::new("slow_start", WAIT),
    Key::new("queue_timeout", WAIT),
    Key::new("queue_size", Type::Integer { min: 0, max: 1_000_000 }),
    Key::new("server", Type::Table(SERVER)).not(&["gateway", "http"]),
    Key::new("admin", Type::Table(ADMIN)),
    Key::new("ops", Type::Table(OPS)).not(&["metrics"]),
    Key::new("store", Type::Table(STORE)).not(&["database", "storage"]),
    Key::new("redis", Type::Table(REDIS)),
    Key::new("cache", Type::Table(CACHE)),
    Key::new("auth", Type::Table(AUTH)),
    Key::new("log", Type::Table(LOG)).not(&["logging"]),
    Key::new("timeouts", Type::Table(TIMEOUTS)).not(&["timeout"]),
    Key::new("retry", Type::Table(RETRY)),
    Key::new("breaker", Type::Table(BREAKER)).not(&["circuit_breaker"]),
    Key::new("health", Type::Table(HEALTH)).not(&["health_check"]),
    Key::new("discovery", Type::Table(DISCOVERY)),
    Key::new("region", Type::Tables { keys: REGION, max: 1000 }).not(&["regions"]),
    Key::new("backend", Type::Tables { keys: BACKEND, max: 10_000 }).not(&[
        "backends",
        "upstream",
        "upstreams",
        "server_list",
        "provider",
    ]),
    Key::new("head", Type::Tables { keys: HEAD, max: 10_000 }).not(&["heads", "group"]),
    Key::new("model", Type::Tables { keys: MODEL, max: 100_000 }).not(&["models", "model_list"]),
    Key::new("key", Type::Tables { keys: KEY, max: 100_000 }).not(&["keys", "api_keys"]),
];

const SERVER: &[Key] = &[
    Key::new("listen", Type::Socket).not(&["bind", "address", "host", "port"]),
    Key::new("threads", Type::Integer { min: 1, max: 1024 }).not(&["workers", "cores"]),
    Key::new("region", Type::Name),
    Key::new("max_body", size(KIB, 16 * GIB)).not(&["body_limit", "max_body_size"]),
    Key::new("buffered_bytes", size(MIB, 1024 * GIB)),
    Key::new("expose_headers", Type::Bool),
    Key::new("forward_headers", Type::List { of: &Type::Header, max: 64 }),
    Key::new("map_max_completion_tokens", Type::Bool),
    Key::new("tls", Type::Table(TLS)),
    Key::new("limits", Type::Table(LIMITS)),
    Key::new("drain", Type::Table(DRAIN)).not(&["shutdown"]),
    Key::new("cors", Type::Table(CORS)),
];

const TLS: &[Key] = &[
    Key::new("cert", Type::Path).required().not(&["certificate", "cert_file", "crt"]),
    Key::new("key", Type::Path).required().not(&["key_file", "private_key"]),
];

const LIMITS: &[Key] = &[
    Key::new("connections", COUNT).not(&["max_connections"]),
    Key::new("head_size", size(4 * KIB, MIB)).not(&["max_head", "header_size"]),
    Key::new("headers", Type::Integer { min: 16, max: 1000 }).not(&["max_headers"]),
    Key::new("header_timeout", TIME),
    Key::new("body_timeout", TIME),
    Key::new("body_rate", size(0, GIB)),
    Key::new("idle_timeout", TIME),
    Key::new("write_timeout", TIME),
    Key::new("json_depth", Type::Integer { min: 8, max: 1024 }),
    Key::new("h2_streams", Type::Integer { min: 1, max: 10_000 }),
    Key::new("event_hold", size(KIB, 16 * MIB)),
    Key::new("retry_after", Type::Duration { min: 1000, max: DAY, off: false }),
    Key::new("upstream_idle", WAIT),
];

const DRAIN: &[Key] = &[Key::new("grace", WAIT), Key::new("timeout", WAIT)];

const CORS: &[Key] = &[Key::new("origins", TEXTS).not(&["allowed_origins", "allow_origins"])];

const ADMIN: &[Key] = &[
    Key::new("mode", Type::Word(&["embedded", "sidecar", "off"])),
    Key::new("listen", Type::Socket).not(&["bind", "address", "port"]),
    Key::new("token", Type::Secret).not(&["password", "api_key", "admin_token"]),
    Key::new("hosts", TEXTS).not(&["allowed_hosts", "host"]),
];

const OPS: &[Key] = &[Key::new("listen", Type::Socket).not(&["bind", "address", "port"])];

const STORE: &[Key] = &[
    Key::new("path", Type::Path).not(&["file", "url"]),
    Key::new("master_key", Type::Secret).not(&["encryption_key", "salt_key"]),
    Key::new("master_key_previous", Type::Secret).not(&["old_master_key", "previous_master_key"]),
];

const REDIS: &[Key] = &[
    Key::new("url", Type::Secret).required().not(&["host", "address"]),
    Key::new("region", Type::Name),
    Key::new("timeout", Type::Duration { min: 1, max: 10_000, off: false }).or("\"25ms\""),
    Key::new("replicas", Type::Integer { min: 1, max: 10_000 }),
];

const CACHE_WHEN: Type = Type::Word(&["deterministic", "always"]);
const CACHE_SCOPE: Type = Type::Word(&["tenant", "shared"]);
const TTL: Type = Type::Duration { min: 1000, max: 366 * DAY, off: false };

const CACHE: &[Key] = &[
    Key::new("default", Type::Bool).not(&["enabled"]),
    Key::new("ttl", TTL),
    Key::new("when", CACHE_WHEN),
    Key::new("scope", CACHE_SCOPE),
    Key::new("entry_max", size(KIB, GIB)).not(&["max_entry"]),
    Key::new("memory_max", size(0, 1024 * GIB)).not(&["max_memory", "size"]),
];

const MODEL_CACHE: &[Key] =
    &[Key::new("ttl", TTL), Key::new("when", CACHE_WHEN), Key::new("scope", CACHE_SCOPE)];

const AUTH: &[Key] =
    &[Key::new("mode", Type::Word(&["keys", "open"])), Key::new("refund_cache_hits", Type::Bool)];

const LOG: &[Key] = &[
    Key::new("level", Type::Word(&["error", "warn", "info", "debug", "trace"])),
    Key::new("format", Type::Word(&["auto", "text", "json"])),
];

const TIMEOUTS: &[Key] = &[
    Key::new("connect", TIME),
    Key::new("first_event", TIME).not(&["first_token", "ttft", "first_byte"]),
    Key::new("load", TIME),
    Key::new("idle", TIME).not(&["stream_idle"]),
    Key::new("response", TIME).not(&["request", "read"]),
    Key::new("total", TIME_OR_OFF),
];

const RETRY: &[Key] = &[
    Key::new("max_attempts_chain", Type::Integer { min: 1, max: 64 }),
    Key::new("budget_ratio", SHARE),
    Key::new("budget_per_second", Type::Number { min: 0.0, max: 1_000_000.0 }),
];

const BREAKER: &[Key] = &[
    Key::new("consecutive_failures", COUNT),
    Key::new("success_rate", SHARE),
    Key::new("min_requests", COUNT),
    Key::new("window", Type::Duration { min: 1000, max: 3_600_000, off: false }),
    Key::new("open_min", TIME),
    Key::new("open_max", TIME),
];

const HEALTH: &[Key] = &[
    Key::new("interval", Type::Duration { min: 100, max: DAY, off: false }),
    Key::new("timeout", TIME),
    Key::new("up", Type::Integer { min: 1, max: 100 }),
    Key::new("down", Type::Integer { min: 1, max: 100 }),
    Key::new("open_probe_min", Type::Duration { min: 50, max: DAY, off: false }),
    Key::new("open_probe_max", Type::Duration { min: 50, max: DAY, off: false }),
];

const DISCOVERY: &[Key] = &[
    Key::new("expose", Type::Bool),
    Key::new("interval", Type::Duration { min: 100, max: DAY, off: false }),
];

const REGION: &[Key] = &[
    Key::new("name", Type::Name).required().not(&["id", "code"]),
    Key::new("neighbours", NAMES).not(&["neighbors"]).or("[]"),
];

const BACKEND: &[Key] = &[
    Key::new("name", Type::Name).required().not(&["id"]),
    Key::new("kind", Type::Word(&["vllm", "ollama", "tei", "rerank", "openai"]))
        .required()
        .not(&["type", "provider"]),
    Key::new("url", Type::Url).required().not(&["base_url", "api_base", "endpoint", "address"]),
    Key::new("region", Type::Name),
    Key::new("api_key", Type::Secret).not(&["key", "token", "secret", "bearer"]),
    Key::new("ca", Type::Path).not(&["ca_file", "ca_cert"]),
    Key::new("weight", WEIGHT).or("1"),
    Key::new("max_in_flight", COUNT).not(&["max_concurrency", "max_parallel_requests"]),
    Key::new("timeouts", Type::Table(TIMEOUTS)).not(&["timeout"]),
    Key::new("labels", TEXT_MAP).not(&["tags"]),
    Key::new("metadata", TEXT_MAP),
    Key::new("local", Type::Bool).or("false"),
    Key::new("enabled", Type::Bool).or("true").not(&["disabled"]),
    Key::new("draining", Type::Bool).or("false"),
    Key::new("probe", Type::Word(&["auto", "token", "off"])).or("\"auto\""),
    Key::new("allow_cloud", Type::Bool).or("false").not(&["cloud"]),
    Key::new("models", MODELS),
];

const HEAD: &[Key] = &[
    Key::new("name", Type::Name).required().not(&["id"]),
    Key::new("region", Type::Name).required(),
    Key::new("backends", NAMES).required().not(&["members", "backend"]),
    Key::new("order", Type::Word(&["balanced", "listed"])).or("\"balanced\""),
];

const DEPLOYMENT: &[Key] = &[
    Key::new("upstream_model", Type::Model).not(&["model", "name"]),
    Key::new("weight", WEIGHT),
    Key::new("api_key", Type::Secret).not(&["key", "token", "secret"]),
];
const DEPLOYMENT_OR_NAME: Type = Type::TableOr(DEPLOYMENT, &Type::Model);

const MODEL: &[Key] = &[
    Key::new("name", Type::Model).required().not(&["id", "model_name"]),
    Key::new("aliases", MODELS).not(&["alias"]).or("[]"),
    Key::new("region", Type::Name).not(&["home_region"]),
    Key::new("regions", NAMES).not(&["allowed_regions"]).or("[]"),
    Key::new("residency", Type::Word(&["prefer", "strict"])).or("\"prefer\""),
    Key::new("priority_head", Type::Name).not(&["primary_head", "head"]),
    Key::new("heads", NAMES).or("[]"),
    Key::new("fallbacks", MODELS).not(&["fallback", "fallback_models"]).or("[]"),
    Key::new("context_fallback", Type::Model).not(&["context_window_fallbacks"]),
    Key::new("context_length", LIMIT).not(&["max_model_len", "context_window"]),
    Key::new("upstream_model", Type::Model).not(&["upstream", "model"]),
    Key::new("deployments", Type::Map { of: &DEPLOYMENT_OR_NAME, max: 10_000 })
        .not(&["deployment"]),
    Key::new("policy", POLICY).not(&["strategy"]),
    Key::new("session_header", Type::Header),
    Key::new("timeouts", Type::Table(TIMEOUTS)).not(&["timeout"]),
    Key::new("cache", Type::TableOr(MODEL_CACHE, &Type::Bool)),
    Key::new("local_inference", Type::Bool).or("false").not(&["local", "local_only"]),
    Key::new("max_in_flight", COUNT).not(&["max_concurrency", "max_parallel_requests"]),
    Key::new("queue_timeout", WAIT),
    Key::new("queue_size", Type::Integer { min: 0, max: 1_000_000 }),
    Key::new("metadata", TEXT_MAP),
];

const KEY: &[Key] = &[
    Key::new("name", Type::Name).required().not(&["id"]),
    Key::new("secret", Type::Secret).not(&["key", "api_key", "token", "value"]),
    Key::new("secret_sha256", Type::Secret).not(&["sha256", "hash"]),
    Key::new("tenant", Type::Name).not(&["team", "org", "organization"]),
    Key::new("models", TEXTS).not(&["allowed_models"]),
    Key::new("region", Type::Name),
    Key::new("regions", NAMES).not(&["allowed_regions"]),
    Key::new("priority", Type::Integer { min: -1000, max: 1000 }).or("0"),
    Key::new("requests_per_minute", LIMIT).not(&["rpm", "rpm_limit"]),
    Key::new("requests_per_day", LIMIT).not(&["rpd"]),
    Key::new("tokens_per_minute", LIMIT).not(&["tpm", "tpm_limit"]),
    Key::new("tokens_per_day", LIMIT).not(&["tpd"]),
    Key::new("burst", LIMIT),
    Key::new("concurrent", COUNT).not(&["max_concurrency", "max_parallel_requests"]),
    Key::new("expires", Type::Moment).not(&["expiry", "expires_at"]),
    Key::new("disabled", Type::Bool).or("false").not(&["enabled"]),
];

/// Calls back with every key, its path in dots and whether it lies in an object of an array.
pub(crate) fn each(visit: &mut dyn FnMut(&str, &'static Key, bool)) {
    fn descend(
        prefix: &str,
        keys: &'static [Key],
        object: bool,
        visit: &mut dyn FnMut(&str, &'static Key, bool),
    ) {
        for key in keys {
            let path = if prefix.is_empty() {
                key.name.to_owned()
            } else {
                format!("{prefix}.{}", key.name)
            };
            visit(&path, key, object);
            let object = object || matches!(key.ty, Type::Tables { .. });
            if let Some(inner) = key.ty.keys() {
                descend(&path, inner, object, visit);
            }
            if let Type::Map { of: Type::TableOr(inner, _), .. } = key.ty {
                descend(&format!("{path}.NAME"), inner, object, visit);
            }
        }
    }
    descend("", ROOT, false, visit);
}
