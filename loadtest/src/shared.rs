//! What the handle, the acceptor and the connections share.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};

use crate::http::{Gone, Link};
use crate::profile::{Kind, Vitals};
use crate::recorder::{Recorder, lock};
use crate::script::{At, Script};

/// Orders to the acceptor.
#[derive(Debug)]
pub(crate) enum Command {
    /// Close the listener (`true`) or open it again on the same port.
    Refuse(bool, std::sync::mpsc::SyncSender<()>),
    /// End.
    Stop,
}

pub(crate) struct Shared {
    pub(crate) kind: Kind,
    pub(crate) recorder: Recorder,
    pub(crate) vitals: Mutex<Vitals>,
    scripts: Mutex<Scripts>,
    loads: Mutex<HashMap<String, Load>>,
    running: Mutex<usize>,
    pub(crate) changed: Notify,
    pub(crate) frozen: watch::Sender<bool>,
    pub(crate) kill: watch::Sender<u64>,
    pub(crate) died: watch::Sender<bool>,
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    /// Whether `/control/` is served.
    pub(crate) control: bool,
}

#[derive(Default)]
struct Scripts {
    current: Arc<Script>,
    next: VecDeque<(usize, Arc<Script>)>,
    /// Scripts of single models, before `current`.
    models: HashMap<String, Arc<Script>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Load {
    Loading,
    /// Loaded, and used by so many requests.
    Loaded(usize),
}

impl Shared {
    pub(crate) fn new(
        kind: Kind,
        vitals: Vitals,
        control: bool,
        commands: mpsc::UnboundedSender<Command>,
    ) -> Self {
        Self {
            kind,
            recorder: Recorder::default(),
            vitals: Mutex::new(vitals),
            scripts: Mutex::default(),
            loads: Mutex::default(),
            running: Mutex::default(),
            changed: Notify::new(),
            frozen: watch::Sender::new(false),
            kill: watch::Sender::new(0),
            died: watch::Sender::new(false),
            commands,
            control,
        }
    }

    pub(crate) fn set_script(&self, script: Script) {
        let mut scripts = lock(&self.scripts);
        scripts.next.clear();
        scripts.current = Arc::new(script);
    }

    pub(crate) fn set_next(&self, n: usize, script: Script) {
        if n > 0 {
            lock(&self.scripts).next.push_back((n, Arc::new(script)));
        }
    }

    pub(crate) fn set_model(&self, model: &str, script: Option<Script>) {
        let mut scripts = lock(&self.scripts);
        match script {
            Some(script) => scripts.models.insert(model.to_owned(), Arc::new(script)),
            None => scripts.models.remove(model),
        };
    }

    /// The script of a model, if it has one of its own.
    pub(crate) fn model_script(&self, model: &str) -> Option<Arc<Script>> {
        lock(&self.scripts).models.get(model).cloned()
    }

    /// The script of the next inference request.
    pub(crate) fn take_script(&self) -> Arc<Script> {
        let mut scripts = lock(&self.scripts);
        let Some((left, script)) = scripts.next.front_mut() else {
            return Arc::clone(&scripts.current);
        };
        *left -= 1;
        let (left, script) = (*left, Arc::clone(script));
        if left == 0 {
            scripts.next.pop_front();
        }
        script
    }

    /// The script for a connection just accepted, if it breaks there.
    pub(crate) fn take_accept_script(&self) -> Option<Arc<Script>> {
        let breaks = |s: &Script| s.fault.as_ref().is_some_and(|f| f.at == At::Accept);
        let due = {
            let scripts = lock(&self.scripts);
            scripts.next.front().map_or_else(|| breaks(&scripts.current), |(_, s)| breaks(s))
        };
        due.then(|| self.take_script())
    }

    /// Models that are loaded now.
    pub(crate) fn loaded(&self) -> Vec<String> {
        let loads = lock(&self.loads);
        let mut names: Vec<String> =
            loads.iter().filter(|(_, l)| **l != Load::Loading).map(|(m, _)| m.clone()).collect();
        names.sort();
        names
    }

    pub(crate) fn unload(&self) {
        lock(&self.loads).retain(|_, load| *load == Load::Loading);
    }

    /// Waits until a model is loaded, and uses it until the returned guard is dropped. The first to
    /// ask loads it, and gives up when its client leaves. When all places for models are taken by
    /// models in use, the load waits, and requests for those overtake it (UPSTREAMS 2, O6 and O10).
    pub(crate) async fn load(
        self: &Arc<Self>,
        link: &mut Link,
        model: &str,
        ms: u64,
    ) -> Result<Using, Gone> {
        let mut waits: Option<Waiting<'_>> = None;
        loop {
            let changed = self.changed.notified();
            match self.claim(model) {
                Claim::Use => {
                    return Ok(Using { shared: Arc::clone(self), model: model.to_owned() });
                }
                Claim::Load => break,
                Claim::Wait => {}
            }
            if waits.is_none() {
                waits = Some(Waiting::new(self));
            }
            link.until(changed).await?;
        }
        self.recorder.count(|s| s.loads += 1);
        let mut loading = Loading { shared: self, model, done: false };
        link.pause(Duration::from_millis(ms)).await?;
        loading.done = true;
        drop(loading);
        Ok(Using { shared: Arc::clone(self), model: model.to_owned() })
    }

    fn claim(&self, model: &str) -> Claim {
        let places = lock(&self.vitals).max_loaded;
        let mut loads = lock(&self.loads);
        match loads.get_mut(model) {
            Some(Load::Loaded(users)) => {
                *users += 1;
                return Claim::Use;
            }
            Some(Load::Loading) => return Claim::Wait,
            None => {}
        }
        if places > 0 && loads.len() >= places {
            let idle = loads.iter().find(|(_, l)| **l == Load::Loaded(0)).map(|(m, _)| m.clone());
            let Some(idle) = idle else { return Claim::Wait };
            loads.remove(&idle);
        }
        loads.insert(model.to_owned(), Load::Loading);
        Claim::Load
    }

    /// Whether all `slots` are taken and `queue` requests wait already.
    pub(crate) fn is_full(&self, slots: usize, queue: Option<usize>) -> bool {
        let taken = slots > 0 && *lock(&self.running) >= slots;
        taken && queue.is_some_and(|q| self.recorder.stats().waiting >= q as u64)
    }

    /// Waits for one of `slots` places.
    pub(crate) async fn slot(&self, link: &mut Link, slots: usize) -> Result<Slot<'_>, Gone> {
        let mut waits: Option<Waiting<'_>> = None;
        loop {
            let changed = self.changed.notified();
            {
                let mut running = lock(&self.running);
                if slots == 0 || *running < slots {
                    *running += 1;
                    return Ok(Slot { shared: self });
                }
            }
            if waits.is_none() {
                waits = Some(Waiting::new(self));
            }
            link.until(changed).await?;
        }
    }

    /// Dies as after `kill -9`.
    pub(crate) fn die(&self) {
        let (done, _) = std::sync::mpsc::sync_channel(1);
        // A send error means that the acceptor is gone already.
        let _ = self.commands.send(Command::Refuse(true, done));
        self.died.send_replace(true);
        self.kill.send_modify(|n| *n += 1);
    }
}

enum Claim {
    Use,
    Load,
    Wait,
}

/// A request that uses a loaded model.
pub(crate) struct Using {
    shared: Arc<Shared>,
    model: String,
}

impl Drop for Using {
    fn drop(&mut self) {
        if let Some(Load::Loaded(users)) = lock(&self.shared.loads).get_mut(&self.model) {
            *users = users.saturating_sub(1);
        }
        self.shared.changed.notify_waiters();
    }
}

struct Loading<'a> {
    shared: &'a Shared,
    model: &'a str,
    done: bool,
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        let mut loads = lock(&self.shared.loads);
        if self.done {
            loads.insert(self.model.to_owned(), Load::Loaded(1));
        } else {
            loads.remove(self.model);
            self.shared.recorder.count(|s| s.loads_aborted += 1);
        }
        drop(loads);
        self.shared.changed.notify_waiters();
    }
}

/// A running request.
pub(crate) struct Slot<'a> {
    shared: &'a Shared,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *lock(&self.shared.running) -= 1;
        self.shared.changed.notify_waiters();
    }
}

struct Waiting<'a>(&'a Shared);

impl<'a> Waiting<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.recorder.count(|s| s.waiting += 1);
        Self(shared)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.recorder.count(|s| s.waiting -= 1);
    }
}
