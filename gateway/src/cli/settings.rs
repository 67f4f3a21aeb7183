//! From what a configuration says to what the data plane takes.

use config::{AuthMode, Config, KeyConfig, KeySecret};
use gateway::{DrainSettings, ListenSettings, Settings, TlsSettings};
use router::TenantName;
use router::spec::{AuthSpec, KeySpec, ModelPattern, SnapshotSpec};

/// What the data plane publishes: routing as it is configured, and the keys under their digests.
pub(crate) fn snapshot(config: &Config) -> SnapshotSpec {
    let mut spec = config.snapshot.clone();
    spec.auth = AuthSpec {
        required: config.auth.mode == AuthMode::Keys,
        refund_cache_hits: config.auth.refund_cache_hits,
    };
    spec.keys = config.keys.iter().filter_map(key).collect();
    spec.cache = config.cache.clone();
    spec.queue = config.queue;
    spec.redis.clone_from(&config.redis);
    for model in &mut spec.models {
        if let Some(says) = config.models.get(&model.name) {
            model.cache = says.cache;
            model.queue_timeout = says.queue_timeout;
            model.queue_size = says.queue_size;
            model.max_in_flight = says.max_in_flight;
        }
    }
    spec
}

/// A key without a tenant is its own: their names have the same form.
pub(crate) fn key(key: &KeyConfig) -> Option<KeySpec> {
    let tenant = match &key.tenant {
        Some(tenant) => tenant.clone(),
        None => TenantName::try_from(key.name.as_str()).ok()?,
    };
    Some(KeySpec {
        name: key.name.clone(),
        digest: match &key.secret {
            KeySecret::Plain(secret) => gateway::key_digest(secret.expose()),
            KeySecret::Sha256(sha256) => gateway::key_digest_of_sha256(sha256),
        },
        tenant,
        models: key.models.iter().cloned().map(ModelPattern::new).collect(),
        region: key.region.clone(),
        regions: key.regions.clone(),
        expires: key.expires,
        disabled: key.disabled,
        priority: key.priority,
        limits: key.limits,
    })
}

/// The process's settings. The routing part is `config.snapshot` as it is.
pub(crate) fn settings(config: &Config) -> Settings {
    let server = &config.server;
    Settings {
        public: ListenSettings {
            listen: server.listen,
            tls: server
                .tls
                .as_ref()
                .map(|tls| TlsSettings { cert: tls.cert.clone(), key: tls.key.clone() }),
            connections_max: server.connections_max,
            head_max: usize::try_from(server.head_max).unwrap_or(usize::MAX),
            headers_max: usize::try_from(server.headers_max).unwrap_or(usize::MAX),
            header_timeout: server.header_timeout,
            idle_timeout: server.idle_timeout,
            write_timeout: config.snapshot.service.write_timeout,
            h2_streams_max: server.h2_streams_max,
        },
        threads: server.threads,
        drain: DrainSettings { grace: server.drain.grace, timeout: server.drain.timeout },
    }
}
