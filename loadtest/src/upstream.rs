//! The handle of a scripted upstream and its acceptor, on a thread of its own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;

use crate::connection;
use crate::profile::{Profile, Vitals};
use crate::recorder::{Recorded, Stats, lock};
use crate::script::Script;
use crate::shared::{Command, Shared};

/// Length of the queue of connections that wait to be accepted.
const BACKLOG: u32 = 4096;

/// How often [`Upstream::wait_for`] looks.
const POLL: Duration = Duration::from_millis(1);
/// Times that opening or closing the door is tried again.
const RETRIES: u32 = 1000;

/// A scripted inference server on a thread of its own. Dropping it stops it and closes all sockets.
#[derive(Debug)]
pub struct Upstream {
    addr: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Upstream {
    /// Starts on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When the socket or the thread cannot be made.
    pub fn start(profile: Profile) -> io::Result<Self> {
        Self::start_on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), profile)
    }

    /// Starts on this address.
    ///
    /// # Errors
    /// When the socket or the thread cannot be made, for instance because the port is taken.
    pub fn start_on(addr: SocketAddr, profile: Profile) -> io::Result<Self> {
        Self::start_with(addr, profile, false)
    }

    /// Starts on this address, with the control routes if `control`.
    ///
    /// # Errors
    /// As [`Upstream::start_on`].
    pub fn start_with(addr: SocketAddr, profile: Profile, control: bool) -> io::Result<Self> {
        let (commands, orders) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::new(profile.kind, profile.vitals, control, commands));
        let (ready, started) = sync_channel(1);
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("upstream".to_owned()).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return;
                }
            };
            runtime.block_on(async {
                match listen(addr).and_then(|l| l.local_addr().map(|a| (l, a))) {
                    Ok((listener, addr)) => {
                        let _ = ready.send(Ok(addr));
                        accept(listener, addr, &for_thread, orders).await;
                    }
                    Err(error) => {
                        let _ = ready.send(Err(error));
                    }
                }
            });
        })?;
        let addr = started
            .recv()
            .map_err(|_| io::Error::other("the upstream thread ended at its start"))??;
        Ok(Self { addr, shared, thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://` and the address, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Answers every inference request by this script from now on; takes back `script_next`.
    pub fn script(&self, script: Script) {
        self.shared.set_script(script);
    }

    /// Answers the next `n` inference requests by this script, then goes back. Calls add up in order.
    pub fn script_next(&self, n: usize, script: Script) {
        self.shared.set_next(n, script);
    }

    /// Answers requests for this model by a script of its own, before all others but one in the request
    /// itself, or as the others again (`None`).
    /// Breaks before the body is read need [`Upstream::script`].
    pub fn script_for(&self, model: &str, script: Option<Script>) {
        self.shared.set_model(model, script);
    }

    /// Changes the condition that health, model and metrics routes report.
    pub fn vitals(&self, change: impl FnOnce(&mut Vitals)) {
        change(&mut lock(&self.shared.vitals));
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.recorder.stats()
    }

    /// The last requests, oldest first; at most [`crate::MAX_RECORDED`].
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.recorder.requests()
    }

    /// The last inference requests (every `POST` but to native routes), oldest first.
    #[must_use]
    pub fn inferences(&self) -> Vec<Recorded> {
        let mut requests = self.requests();
        requests.retain(|r| r.method == "POST");
        requests
    }

    /// Forgets requests and counters; what is open or in flight stays counted.
    pub fn clear(&self) {
        self.shared.recorder.clear();
    }

    /// Waits until the counters satisfy `f`; `false` when they do not within `deadline`. Blocks the
    /// calling thread.
    #[must_use]
    pub fn wait_for(&self, deadline: Duration, f: impl Fn(&Stats) -> bool) -> bool {
        let end = Instant::now() + deadline;
        loop {
            if f(&self.stats()) {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
            std::thread::sleep(POLL);
        }
    }

    /// Resets all connections (RST).
    pub fn kill_connections(&self) {
        self.shared.kill.send_modify(|n| *n += 1);
    }

    /// Closes the listener, so that connects are refused, or opens it again on the same port.
    pub fn refuse(&self, refuse: bool) {
        let (done, ended) = sync_channel(1);
        if self.shared.commands.send(Command::Refuse(refuse, done)).is_ok() {
            // An error means that the acceptor has ended; then all is refused anyway.
            let _ = ended.recv();
        }
    }

    /// Dies as after `kill -9`: all connections are reset and new ones refused until
    /// [`Upstream::revive`].
    pub fn die(&self) {
        self.refuse(true);
        self.shared.die();
    }

    /// Whether it has died, for instance by a poisoned request.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        *self.shared.died.borrow()
    }

    /// Comes back from death, with no model loaded.
    pub fn revive(&self) {
        self.shared.unload();
        self.shared.died.send_replace(false);
        self.refuse(false);
    }

    /// Stands still as under SIGSTOP: connections are accepted, nothing is read or written.
    pub fn freeze(&self, freeze: bool) {
        self.shared.frozen.send_replace(freeze);
    }

    /// Unloads all models.
    pub fn unload(&self) {
        self.shared.unload();
    }

    /// Resolves when the server dies.
    pub async fn died(&self) {
        let mut died = self.shared.died.subscribe();
        // The sender lives as long as `self`.
        let _ = died.wait_for(|d| *d).await;
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // An error means that the thread has ended already.
        let _ = self.shared.commands.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn bind(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    bind(addr)?.listen(BACKLOG)
}

/// The listening socket, or one that keeps its port while connects are refused.
enum Door {
    Open(TcpListener),
    Shut(Option<TcpSocket>),
}

impl Door {
    fn set(self, addr: SocketAddr, shut: bool) -> Self {
        match (self, shut) {
            (Self::Open(listener), true) => {
                drop(listener);
                Self::Shut(bind(addr).ok())
            }
            (Self::Shut(kept), false) => {
                let opened = match kept {
                    Some(socket) => socket.listen(BACKLOG),
                    None => listen(addr),
                };
                opened.map_or(Self::Shut(None), Self::Open)
            }
            (Self::Shut(None), true) => Self::Shut(bind(addr).ok()),
            (same, _) => same,
        }
    }

    /// Whether it is as asked: listening, or keeping its port.
    const fn is(&self, shut: bool) -> bool {
        match self {
            Self::Open(_) => !shut,
            Self::Shut(kept) => shut && kept.is_some(),
        }
    }
}

async fn accept(
    listener: TcpListener,
    addr: SocketAddr,
    shared: &Arc<Shared>,
    mut orders: mpsc::UnboundedReceiver<Command>,
) {
    let mut door = Door::Open(listener);
    let mut number = 0;
    loop {
        let accepted = async {
            match &door {
                Door::Open(listener) => listener.accept().await,
                Door::Shut(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            order = orders.recv() => match order {
                Some(Command::Refuse(shut, done)) => {
                    door = door.set(addr, shut);
                    // A process that a test starts just now holds copies of all sockets until it runs its own program.
                    let mut left = RETRIES;
                    while !door.is(shut) && left > 0 {
                        tokio::time::sleep(POLL).await;
                        door = door.set(addr, shut);
                        left -= 1;
                    }
                    let _ = done.try_send(());
                }
                Some(Command::Stop) | None => return,
            },
            accepted = accepted => match accepted {
                Ok((stream, _)) => {
                    number += 1;
                    tokio::spawn(connection::serve(stream, Arc::clone(shared), number));
                }
                // Out of descriptors, most likely; a short rest lets others close.
                Err(_) => tokio::time::sleep(POLL).await,
            },
        }
    }
}
