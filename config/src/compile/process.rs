//! Listeners, stores and the log.

use router::RegionName;
use router::spec::Secret;

use super::{Compiler, between, texts};
use crate::diagnostic::{Code, Diagnostic};
use crate::settings::{
    AdminMode, CacheScope, CacheWhen, Config, LogFormat, LogLevel, RedisSpec, TlsConfig,
};
use crate::tree::Table;

/// A credential; an empty one is none.
pub(super) fn secret(table: &Table, key: &str) -> Option<Secret> {
    table.read::<Secret>(key).filter(|secret| !secret.expose().is_empty())
}

pub(super) fn region(table: &Table, key: &str) -> Option<RegionName> {
    table.text(key).and_then(|name| RegionName::try_from(name).ok())
}

pub(super) fn cache_when(table: &Table) -> Option<CacheWhen> {
    match table.text("when")? {
        "always" => Some(CacheWhen::Always),
        _ => Some(CacheWhen::Deterministic),
    }
}

pub(super) fn cache_scope(table: &Table) -> Option<CacheScope> {
    match table.text("scope")? {
        "shared" => Some(CacheScope::Shared),
        _ => Some(CacheScope::Tenant),
    }
}

impl Compiler<'_> {
    /// Everything of the process itself.
    pub(super) fn process(&mut self, config: &mut Config) {
        self.server(config);
        self.listeners(config);
        self.redis(config);
        self.cache(config);
        let tree = self.tree;
        tree.fill("queue_timeout", &mut config.queue.timeout);
        tree.fill("queue_size", &mut config.queue.size);
        if let Some(store) = tree.table("store") {
            store.fill("path", &mut config.store.path);
            config.store.master_key = self.master_key(store, "master_key");
            config.store.master_key_previous = self.master_key(store, "master_key_previous");
        }
        if let Some(log) = tree.table("log") {
            config.log.level = match log.text("level") {
                Some("error") => LogLevel::Error,
                Some("warn") => LogLevel::Warn,
                Some("debug") => LogLevel::Debug,
                Some("trace") => LogLevel::Trace,
                _ => LogLevel::Info,
            };
            config.log.format = match log.text("format") {
                Some("text") => LogFormat::Text,
                Some("json") => LogFormat::Json,
                _ => LogFormat::Auto,
            };
        }
    }

    /// One of the store's master keys.
    fn master_key(&mut self, store: &Table, key: &str) -> Option<Secret> {
        let secret = secret(store, key)?;
        if !is_32_bytes(secret.expose()) {
            let message = format!("`store.{key}` is not 32 bytes");
            self.out.push(
                Diagnostic::error(Code::Secret, store.place_of(key), message)
                    .label("expected 64 hexadecimal digits, or 32 bytes in base64")
                    .help("make one with: openssl rand -hex 32"),
            );
        }
        Some(secret)
    }

    fn server(&mut self, config: &mut Config) {
        let Some(table) = self.tree.table("server") else { return };
        let server = &mut config.server;
        table.fill("listen", &mut server.listen);
        server.threads = table.read("threads");
        server.region = region(table, "region");
        if let Some(tls) = table.table("tls") {
            server.tls =
                tls.read("cert").zip(tls.read("key")).map(|(cert, key)| TlsConfig { cert, key });
            self.files
                .extend(server.tls.iter().flat_map(|tls| [tls.cert.clone(), tls.key.clone()]));
        }
        if let Some(limits) = table.table("limits") {
            limits.fill("connections", &mut server.connections_max);
            limits.fill("head_size", &mut server.head_max);
            limits.fill("headers", &mut server.headers_max);
            limits.fill("header_timeout", &mut server.header_timeout);
            limits.fill("idle_timeout", &mut server.idle_timeout);
            limits.fill("h2_streams", &mut server.h2_streams_max);
        }
        if let Some(drain) = table.table("drain") {
            drain.fill("grace", &mut server.drain.grace);
            drain.fill("timeout", &mut server.drain.timeout);
        }
    }

    fn listeners(&mut self, config: &mut Config) {
        let tree = self.tree;
        if let Some(admin) = tree.table("admin") {
            admin.fill("listen", &mut config.admin.listen);
            config.admin.token = secret(admin, "token");
            config.admin.hosts = texts(admin, "hosts");
            config.admin.mode = match admin.text("mode") {
                Some("sidecar") => AdminMode::Sidecar,
                Some("off") => AdminMode::Off,
                _ => AdminMode::Embedded,
            };
        }
        if let Some(ops) = tree.table("ops") {
            ops.fill("listen", &mut config.ops.listen);
        }
        let mut taken = vec![("server", config.server.listen)];
        if config.admin.mode != AdminMode::Off {
            taken.push(("admin", config.admin.listen));
        }
        taken.push(("ops", config.ops.listen));
        for (at, (name, address)) in taken.iter().enumerate() {
            // Port 0 is a fresh port each time.
            let clash = taken[..at].iter().find(|(_, other)| {
                address.port() != 0
                    && other.port() == address.port()
                    && (other.ip() == address.ip()
                        || other.ip().is_unspecified()
                        || address.ip().is_unspecified())
            });
            if let Some((other, _)) = clash {
                let place = |name: &str| tree.table(name).unwrap_or(tree).place_of("listen");
                let message = format!("`{name}.listen` and `{other}.listen` are the same address");
                let diagnostic = between(Code::ListenClash, place(name), place(other), message);
                self.out.push(diagnostic.help("each listener needs a port of its own"));
            }
        }
    }

    fn redis(&mut self, config: &mut Config) {
        let Some(table) = self.tree.table("redis") else { return };
        let Some(url) = secret(table, "url") else { return };
        let schemes = ["redis://", "rediss://"];
        let host = schemes.iter().find_map(|scheme| url.expose().strip_prefix(scheme));
        if host.is_none_or(|host| host.trim_start_matches('/').is_empty()) {
            let message = "`redis.url` is no Redis address";
            self.out.push(
                Diagnostic::error(Code::BadUrl, table.place_of("url"), message)
                    .label("expected redis://HOST:PORT or rediss://HOST:PORT"),
            );
        }
        let mut timeout = std::time::Duration::from_millis(25);
        table.fill("timeout", &mut timeout);
        config.redis = Some(RedisSpec {
            url,
            region: region(table, "region"),
            timeout,
            replicas: table.read("replicas"),
        });
    }

    fn cache(&mut self, config: &mut Config) {
        let Some(table) = self.tree.table("cache") else { return };
        let cache = &mut config.cache;
        table.fill("default", &mut cache.default);
        table.fill("ttl", &mut cache.ttl);
        cache.when = cache_when(table).unwrap_or_default();
        cache.scope = cache_scope(table).unwrap_or_default();
        table.fill("entry_max", &mut cache.entry_max);
        table.fill("memory_max", &mut cache.memory_max);
        let (entry, memory) = (cache.entry_max, cache.memory_max);
        // Zero switches the memory tier off.
        if memory > 0 {
            self.ordered(table, &("entry_max", entry), &("memory_max", memory));
        }
    }
}

/// 64 hexadecimal digits, or 32 bytes in base64 of either alphabet with or without padding.
fn is_32_bytes(text: &str) -> bool {
    let text = text.trim();
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return true;
    }
    let digits = text.strip_suffix('=').unwrap_or(text);
    let base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'-' | b'_');
    digits.len() == 43 && digits.bytes().all(base64)
}
