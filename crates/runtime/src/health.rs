//! Whether this replica should get work: named conditions that must all hold. Refuses to check anything itself; whoever
//! owns a dependency says how it is.

use crate::shutdown::Shutdown;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::watch;

/// Why a draining replica is not ready.
const DRAINING: &str = "draining";

/// The readiness of this process. Copies share it.
#[derive(Debug, Clone)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    ready: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    /// What does not hold, with the reason.
    missing: BTreeMap<&'static str, String>,
    /// What is wrong without keeping this replica from working.
    notes: BTreeMap<&'static str, String>,
    draining: bool,
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    /// Ready until a condition is added: a process without dependencies has nothing to wait for.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Inner { state: Mutex::default(), ready: watch::Sender::new(true) }))
    }

    /// Readiness that ends before `shutdown` begins to drain.
    #[must_use]
    pub fn until(shutdown: &Shutdown) -> Self {
        let health = Self::new();
        let leaving = health.clone();
        shutdown.before_drain(move || leaving.change(|state| state.draining = true));
        health
    }

    /// A condition that does not hold yet.
    #[must_use]
    pub fn condition(&self, name: &'static str) -> Condition {
        let condition = Condition { name, health: self.clone() };
        condition.fail("not established yet");
        condition
    }

    /// Whether this replica should get work.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.0.ready.borrow()
    }

    /// The readiness as a level to watch, for a gRPC health service.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.0.ready.subscribe()
    }

    /// What does not hold, each with its reason. Empty when ready.
    #[must_use]
    pub fn missing(&self) -> Vec<(&'static str, String)> {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let draining = state.draining.then(|| (DRAINING, "the process is ending".to_owned()));
        draining.into_iter().chain(state.missing.iter().map(|(name, reason)| (*name, reason.clone()))).collect()
    }

    /// Says what is wrong although this replica works, or with `None` that it is not any more.
    pub fn note(&self, name: &'static str, what: Option<String>) {
        self.change(|state| match what {
            Some(what) => drop(state.notes.insert(name, what)),
            None => drop(state.notes.remove(name)),
        });
    }

    /// What is wrong although this replica works.
    #[must_use]
    pub fn notes(&self) -> Vec<(&'static str, String)> {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.notes.iter().map(|(name, what)| (*name, what.clone())).collect()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let now = state.missing.is_empty() && !state.draining;
        // Published under the lock, so that two changes cannot be published in the wrong order.
        self.0.ready.send_if_modified(|ready| std::mem::replace(ready, now) != now);
    }
}

/// One thing that must hold for this replica to be ready.
#[derive(Debug, Clone)]
pub struct Condition {
    name: &'static str,
    health: Health,
}

impl Condition {
    /// It holds.
    pub fn hold(&self) {
        self.health.change(|state| drop(state.missing.remove(self.name)));
    }

    /// It does not hold, for this reason.
    pub fn fail(&self, reason: impl Into<String>) {
        self.health.change(|state| drop(state.missing.insert(self.name, reason.into())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_every_condition_holds() {
        let health = Health::new();
        assert!(health.is_ready());
        let (postgres, blobs) = (health.condition("postgres"), health.condition("blobs"));
        postgres.hold();
        assert!(!health.is_ready());
        assert_eq!(health.missing(), [("blobs", "not established yet".to_owned())]);
        blobs.hold();
        assert!(health.is_ready());
        postgres.fail("connection refused");
        assert_eq!(health.missing(), [("postgres", "connection refused".to_owned())]);
    }

    #[test]
    fn a_note_is_told_and_keeps_nobody_from_working() {
        let health = Health::new();
        health.note("clock", Some("3 s off".to_owned()));
        assert!(health.is_ready());
        assert_eq!(health.notes(), [("clock", "3 s off".to_owned())]);
        health.note("clock", None);
        assert!(health.notes().is_empty());
    }

    #[test]
    fn readiness_ends_before_the_drain_begins() {
        let shutdown = Shutdown::new();
        let seen = Arc::new(Mutex::new(None));
        let health = Health::until(&shutdown);
        let (observed, level, probe) = (seen.clone(), shutdown.clone(), health.clone());
        shutdown.before_drain(move || *observed.lock().unwrap() = Some((probe.is_ready(), level.is_draining())));
        assert!(health.is_ready());
        shutdown.drain();
        assert_eq!(*seen.lock().unwrap(), Some((false, false)));
        assert!(!health.is_ready());
        assert_eq!(health.missing()[0].0, "draining");
    }

    #[tokio::test]
    async fn watchers_see_only_changes() {
        let health = Health::new();
        let condition = health.condition("postgres");
        let mut ready = health.subscribe();
        condition.fail("still away");
        assert!(!ready.has_changed().unwrap());
        condition.hold();
        ready.changed().await.unwrap();
        assert!(*ready.borrow());
    }
}
