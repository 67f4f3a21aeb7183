//! From what a configuration says to what the data plane takes.

use config::Config;
use gateway::{DrainSettings, ListenSettings, Settings, TlsSettings};

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
