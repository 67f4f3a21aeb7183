//! `forebay demo`: the gateway in front of three scripted servers in processes of their own, so that a newcomer can kill
//! one and watch what happens, with nothing else installed.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use admin::registry::Base;
use loadtest::{Profile, Script, Upstream};
use router::spec::Kind;

use super::{check, local, output, serve};

/// The model that all three serve.
const MODEL: &str = "demo";
const BACKENDS: [(&str, Kind); 3] =
    [("vllm-1", Kind::Vllm), ("vllm-2", Kind::Vllm), ("ollama-1", Kind::Ollama)];
/// How often the first one dies by itself.
const DEATH_INTERVAL: Duration = Duration::from_secs(45);
/// How long a dead one stays dead.
const REVIVAL: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(200);
/// Words of an answer, and the pause between them in milliseconds.
const ANSWER: (usize, u64) = (60, 40);

/// One scripted server's process.
struct Scripted {
    name: &'static str,
    kind: Kind,
    address: SocketAddr,
    child: Option<Child>,
    died: Instant,
}

impl Scripted {
    fn start(&mut self) -> std::io::Result<u32> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["demo-backend", "--listen", &self.address.to_string()]);
        if self.kind == Kind::Ollama {
            command.arg("--ollama");
        }
        // In a group of its own: a terminal's ^C is for the gateway, whose running answers may finish.
        command.process_group(0);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        let pid = child.id();
        self.child = Some(child);
        Ok(pid)
    }

    /// Notices a death; starts again when it was long enough ago.
    fn look_after(&mut self) {
        match &mut self.child {
            Some(child) => {
                if matches!(child.try_wait(), Ok(Some(_))) {
                    self.child = None;
                    self.died = Instant::now();
                    output::out(&format!("{} died; it comes back in {REVIVAL:?}", self.name));
                }
            }
            None if self.died.elapsed() >= REVIVAL => match self.start() {
                Ok(pid) => output::out(&format!("{} is back, pid {pid}", self.name)),
                Err(error) => {
                    output::err(&format!("{} cannot be started: {error}", self.name));
                    self.died = Instant::now();
                }
            },
            None => {}
        }
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Serves until a signal.
pub(crate) fn run() -> ExitCode {
    let servers = match start_servers() {
        Ok(servers) => servers,
        Err(error) => {
            output::err(&format!("error: the scripted servers cannot be started: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let listed: Vec<_> = servers.iter().map(|one| (one.name, one.kind, one.address)).collect();
    let servers = Arc::new(Mutex::new(servers));
    // What is tried out here goes with the demo.
    let folder = std::env::temp_dir().join(format!("forebay-demo-{}", std::process::id()));
    let store = folder.join("forebay.db");
    let tables = format!("[server.drain]\ngrace = \"0s\"\n[store]\npath = {store:?}\n");
    let loaded = match local::load_servers(&listed, &tables) {
        Ok(loaded) => loaded,
        Err(report) => return check::refuse(&report),
    };
    serve::start_log(&loaded.config);
    let keeper = Arc::clone(&servers);
    thread::spawn(move || keep(&keeper));
    let code = serve::serve(Base::builtin(loaded), None, |data_plane, _| {
        let base = format!("http://{}", data_plane.public_addr());
        output::out(&format!(
            "a stream:   curl -N {base}/v1/chat/completions -H 'content-type: application/json' \
             -d '{{\"model\": \"{MODEL}\", \"stream\": true, \"messages\": [{{\"role\": \"user\", \
             \"content\": \"Hello\"}}]}}'\nkill -9 one of the pids above meanwhile: before the first \
             word another server answers, after it the stream ends in an error event, never as if it \
             were whole"
        ));
    });
    let _ = std::fs::remove_dir_all(folder);
    servers.lock().unwrap_or_else(PoisonError::into_inner).clear();
    code
}

fn start_servers() -> std::io::Result<Vec<Scripted>> {
    let mut servers = Vec::new();
    for (name, kind) in BACKENDS {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        drop(listener);
        let mut server = Scripted { name, kind, address, child: None, died: Instant::now() };
        let pid = server.start()?;
        output::out(&format!("{name}: a scripted {} on {address}, pid {pid}", kind.as_str()));
        servers.push(server);
    }
    Ok(servers)
}

/// Revives the dead, and kills the first now and then.
fn keep(servers: &Mutex<Vec<Scripted>>) {
    let mut next_death = Instant::now() + DEATH_INTERVAL;
    loop {
        thread::sleep(LOOK);
        let mut servers = servers.lock().unwrap_or_else(PoisonError::into_inner);
        if servers.is_empty() {
            return;
        }
        if Instant::now() >= next_death {
            next_death += DEATH_INTERVAL;
            if let Some(child) = servers.first_mut().and_then(|server| server.child.as_mut()) {
                let _ = child.kill();
            }
        }
        servers.iter_mut().for_each(Scripted::look_after);
    }
}

/// Plays one server until its standard input closes, that is, until the demo ends.
pub(crate) fn backend(ollama: bool, listen: SocketAddr) -> ExitCode {
    let profile = if ollama { Profile::ollama(&[MODEL]) } else { Profile::vllm(&[MODEL]) };
    match Upstream::start_on(listen, profile) {
        Ok(upstream) => {
            upstream.script(Script::words(ANSWER.0, ANSWER.1));
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            ExitCode::SUCCESS
        }
        Err(error) => {
            output::err(&format!("error: {listen}: {error}"));
            ExitCode::FAILURE
        }
    }
}
