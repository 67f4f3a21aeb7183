//! Who wants to know when something may have become free.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Someone who waits, for instance a queue.
pub trait Listener: Debug + Send + Sync {
    /// Something may be free now. Called by whoever freed it, on its thread: it must not block.
    fn heard(&self);
}

/// Those who wait for one thing. Where nobody waits, telling them costs one load.
#[derive(Debug, Default)]
pub(crate) struct Audience {
    count: AtomicU32,
    listeners: Mutex<Vec<Listens>>,
}

#[derive(Debug)]
struct Listens {
    listener: Arc<dyn Listener>,
    /// How often it joined.
    times: u32,
}

impl Audience {
    /// Adds a listener, once more if it is here. Whoever joins looks again afterwards: what became free before was told
    /// to others only.
    pub(crate) fn join(&self, listener: &Arc<dyn Listener>) {
        let mut listeners = self.lock();
        match listeners.iter_mut().find(|known| same(&known.listener, listener)) {
            Some(known) => known.times += 1,
            None => listeners.push(Listens { listener: Arc::clone(listener), times: 1 }),
        }
        self.count.fetch_add(1, SeqCst);
    }

    /// Takes one joining back.
    pub(crate) fn leave(&self, listener: &Arc<dyn Listener>) {
        let mut listeners = self.lock();
        let Some(at) = listeners.iter().position(|known| same(&known.listener, listener)) else {
            return;
        };
        self.count.fetch_sub(1, SeqCst);
        listeners[at].times -= 1;
        if listeners[at].times == 0 {
            listeners.remove(at);
        }
    }

    /// Whether there is anyone.
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(SeqCst) == 0
    }

    /// Tells everyone; who was first is last the next time, so that those who want the same take turns.
    pub(crate) fn tell(&self) {
        if self.is_empty() {
            return;
        }
        let listeners: Vec<_> = {
            let mut listeners = self.lock();
            let all = listeners.iter().map(|known| Arc::clone(&known.listener)).collect();
            if listeners.len() > 1 {
                listeners.rotate_left(1);
            }
            all
        };
        for listener in listeners {
            listener.heard();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Listens>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn same(one: &Arc<dyn Listener>, other: &Arc<dyn Listener>) -> bool {
    std::ptr::addr_eq(Arc::as_ptr(one), Arc::as_ptr(other))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[derive(Debug, Default)]
    struct Ear(AtomicU32);

    impl Listener for Ear {
        fn heard(&self) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn a_listener_hears_once_however_often_it_joined() {
        let audience = Audience::default();
        let ear = Arc::new(Ear::default());
        let listener: Arc<dyn Listener> = ear.clone();
        audience.tell();
        audience.join(&listener);
        audience.join(&listener);
        audience.tell();
        assert_eq!(ear.0.load(Relaxed), 1);
        audience.leave(&listener);
        audience.tell();
        assert_eq!(ear.0.load(Relaxed), 2);
        audience.leave(&listener);
        audience.leave(&listener);
        assert!(audience.is_empty());
        audience.tell();
        assert_eq!(ear.0.load(Relaxed), 2);
    }
}
