//! The control plane of this process: store, vault and registry, and the admin API over them.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;

use admin::api::{Context, Reload, Remote, Served};
use admin::live::{Embedded, Folder, Live, Planes, Socket};
use admin::registry::{Base, FOLLOW_EVERY, Registry};
use admin::store::{Role, Store};
use admin::vault::{Vault, VaultError};
use config::{AdminConfig, AdminMode, Config};
use gateway::DataPlane;
use router::planes::Publish;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::settings::snapshot;
use super::{EXIT_CONFIG, output};

/// Opens store, vault and registry, and publishes what they come to. A store that cannot be used is no error: what is
/// in the files, and the last good state, serve on.
///
/// # Errors
/// The exit code, after saying what is wrong.
pub(crate) fn open(
    base: Base,
    role: Role,
    publish: Option<Arc<dyn Publish>>,
) -> Result<Registry, ExitCode> {
    let config = &base.loaded.config;
    let path = config.store.path.clone();
    let vault = vault(config)?;
    let store = Store::open(&path, role);
    if let Ok(store) = &store {
        let vault = self::vault(config)?;
        match store.read_blocking(move |tx| vault.check(tx)) {
            Ok(()) | Err(VaultError::Store(_)) => {}
            Err(error) => return Err(refuse(&error.to_string())),
        }
    }
    Registry::open(store, &path, vault, base, publish, Arc::new(snapshot))
        .map_err(|error| refuse(&error.to_string()))
}

fn vault(config: &Config) -> Result<Vault, ExitCode> {
    Vault::of_config(&config.store).map_err(|error| {
        refuse(&format!("store.master_key: {error}; `openssl rand -hex 32` makes one"))
    })
}

fn refuse(message: &str) -> ExitCode {
    output::err(&format!("error: {message}"));
    ExitCode::from(EXIT_CONFIG)
}

/// What other processes write to the store takes effect here too, from now on.
pub(crate) fn follow(registry: &Registry, config: &Config, role: Role) -> io::Result<()> {
    let path = config.store.path.clone();
    registry.follow(FOLLOW_EVERY, move || Store::open(&path, role))
}

/// The role of a serving process, if it uses the store at all.
pub(crate) const fn role(mode: AdminMode) -> Option<Role> {
    match mode {
        AdminMode::Embedded => Some(Role::Writer),
        AdminMode::Sidecar => Some(Role::Follower),
        AdminMode::Off => None,
    }
}

/// The admin API's listener.
///
/// # Errors
/// The exit code, after saying what is wrong.
pub(crate) fn listen(admin: &AdminConfig) -> Result<TcpListener, ExitCode> {
    TcpListener::bind(admin.listen).map_err(|error| {
        output::err(&format!("error: cannot listen on {}: {error}", admin.listen));
        output::err(
            "help: stop whoever has the address, or choose another with `listen` under [admin] or \
             FOREBAY_ADMIN_LISTEN; `mode = \"off\"` serves without the admin API",
        );
        ExitCode::FAILURE
    })
}

/// A running admin API.
pub(crate) struct Api {
    end: oneshot::Sender<()>,
    served: Served,
}

impl Api {
    /// Serves on a thread of its own, and says where; the first token is said once.
    pub(crate) fn start(
        listener: TcpListener,
        registry: &Registry,
        planes: Arc<dyn Planes>,
        settings: &AdminConfig,
        reload: Option<Reload>,
    ) -> io::Result<Self> {
        let address: SocketAddr = listener.local_addr()?;
        let source = registry.clone();
        let context = Context {
            registry: registry.clone(),
            store: Arc::new(move || source.store()),
            planes,
            token: settings.token.as_ref().map(|token| Zeroizing::new(token.expose().to_owned())),
            hosts: settings.hosts.clone(),
            reload,
        };
        let first = context.first_token();
        let (end, ended) = oneshot::channel();
        let served = admin::api::serve(listener, context, async {
            let _ = ended.await;
        })?;
        output::out(&format!("admin on http://{address}"));
        match first {
            Ok(Some(token)) => {
                output::out(&format!("admin token, shown only this once: {}", *token));
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "there is no first admin token yet"),
        }
        Ok(Self { end, served })
    }

    /// Ends it once the answers under way are out.
    pub(crate) fn end(self) {
        let _ = self.end.send(());
        let _ = self.served.join();
    }

    /// What changes it.
    pub(crate) const fn remote(&self) -> &Remote {
        self.served.remote()
    }
}

/// The data plane of this process with its socket, for the API here or elsewhere.
pub(crate) fn planes(data_plane: &DataPlane, config: &Config) -> (Folder, Option<Socket>) {
    let folder = Folder::beside(&config.store.path);
    let plane: Arc<dyn Live> = Arc::clone(data_plane.plane()) as _;
    match Socket::open(&folder, plane) {
        Ok(socket) => (folder, Some(socket)),
        Err(error) => {
            tracing::error!(%error, "other processes cannot see this data plane: no socket");
            (folder, None)
        }
    }
}

/// The data plane of this process and those of others.
pub(crate) fn embedded(data_plane: &DataPlane, config: &Config) -> Arc<dyn Planes> {
    let (folder, socket) = planes(data_plane, config);
    Arc::new(Embedded::new(Arc::clone(data_plane.plane()), folder, socket))
}
