//! A seat: what the engine knows of one executor.

use crate::wire::AttemptId;
use domain::id::ExecutorId;
use proto::internal::v1 as pb;
use std::{
    collections::HashSet,
    time::{Duration, Instant},
};
use store::executors::ExecutorRow;
use tokio::sync::mpsc;

/// One executor and its credits.
pub(super) struct Seat {
    pub(super) name: String,
    backend: String,
    version: String,
    slots: u32,
    session: u64,
    /// `None` while the stream is broken.
    outbox: Option<mpsc::Sender<pb::SessionResponse>>,
    draining: bool,
    last_seen: Instant,
    /// Attempts that it was given and whose end it has not told, with whether they hold a slot.
    held: HashSet<AttemptId>,
    waiting: HashSet<AttemptId>,
    /// Definitions that this session was sent.
    known: HashSet<String>,
    /// Its first heartbeat after Hello has come: what it did not name by then it never got.
    pub(super) settled: bool,
}

impl Seat {
    pub(super) fn new(session: u64, hello: Greeting) -> Self {
        Self {
            name: hello.name,
            backend: hello.backend,
            version: hello.version,
            slots: hello.slots,
            session,
            outbox: Some(hello.outbox),
            draining: hello.draining,
            last_seen: Instant::now(),
            held: HashSet::new(),
            waiting: HashSet::new(),
            known: HashSet::new(),
            settled: false,
        }
    }

    /// An executor that the database knows to run something, and that has not been heard of by this process.
    pub(super) fn expected() -> Self {
        Self {
            name: "(expected back)".to_owned(),
            backend: "unknown".to_owned(),
            version: String::new(),
            slots: 0,
            session: 0,
            outbox: None,
            draining: false,
            last_seen: Instant::now(),
            held: HashSet::new(),
            waiting: HashSet::new(),
            known: HashSet::new(),
            settled: true,
        }
    }

    pub(super) fn is_session(&self, session: u64) -> bool {
        self.session == session
    }

    pub(super) fn seen(&mut self) {
        self.last_seen = Instant::now();
    }

    pub(super) fn is_silent(&self, lost_after: Duration) -> bool {
        self.last_seen.elapsed() > lost_after
    }

    pub(super) fn close(&mut self) {
        self.outbox = None;
    }

    pub(super) fn drain(&mut self) {
        self.draining = true;
    }

    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Attempts that it would take now.
    pub(super) fn credits(&self) -> u32 {
        if self.outbox.is_none() || self.draining {
            return 0;
        }
        let busy = self.held.len().saturating_sub(self.waiting.len());
        self.slots.saturating_sub(u32::try_from(busy).unwrap_or(u32::MAX))
    }

    pub(super) fn hold(&mut self, attempt: AttemptId) {
        self.held.insert(attempt);
    }

    pub(super) fn holds(&self, attempt: &AttemptId) -> bool {
        self.held.contains(attempt)
    }

    pub(super) fn release(&mut self, attempt: &AttemptId) {
        self.held.remove(attempt);
        self.waiting.remove(attempt);
    }

    pub(super) fn set_waiting(&mut self, attempt: AttemptId, waits: bool) {
        if waits && self.held.contains(&attempt) {
            self.waiting.insert(attempt);
        } else {
            self.waiting.remove(&attempt);
        }
    }

    /// True the first time that this session needs a definition.
    pub(super) fn learns(&mut self, definition: &str) -> bool {
        !self.known.contains(definition) && self.known.insert(definition.to_owned())
    }

    /// Says something. A session that does not keep up is closed: its executor comes again with what it still has.
    pub(super) fn send(&mut self, message: pb::session_response::Message) {
        let Some(outbox) = &self.outbox else { return };
        if outbox.try_send(pb::SessionResponse { message: Some(message) }).is_err() {
            self.outbox = None;
        }
    }

    pub(super) fn row(&self, id: ExecutorId, state: &'static str) -> ExecutorRow {
        ExecutorRow {
            id: id.0,
            name: self.name.clone(),
            backend: self.backend.clone(),
            slots: i32::try_from(self.slots).unwrap_or(i32::MAX),
            version: self.version.clone(),
            state,
            running: i32::try_from(self.held.len()).unwrap_or(i32::MAX),
        }
    }

    /// Whether it can be spoken to.
    pub(super) fn session_state(&self) -> &'static str {
        if self.outbox.is_none() { "away" } else { self.state() }
    }

    /// As people see it.
    pub(super) fn state(&self) -> &'static str {
        if self.draining { "draining" } else { "online" }
    }
}

/// What an executor says of itself when it comes.
pub(super) struct Greeting {
    pub(super) name: String,
    pub(super) backend: String,
    pub(super) version: String,
    pub(super) slots: u32,
    pub(super) draining: bool,
    pub(super) outbox: mpsc::Sender<pb::SessionResponse>,
}
