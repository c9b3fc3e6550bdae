//! The core: one task that knows what this executor runs, what it has not yet been believed about, and whether a
//! scheduler listens. Everything else tells it and is told by it; it waits for nobody.

mod ahead;
mod calls;
mod errand;
mod messages;
mod results;

use crate::{
    attempt::{Attempt, AttemptId, Definition},
    attempts::{Attempts, Mail, Order},
    journal::Journal,
    link::{Abandon, LinkEvent},
    metrics::Metrics,
};
use ahead::Ahead;
pub(crate) use calls::WAIT;
use domain::id::ExecutorId;
use errand::Errand;
use proto::internal::v1::{self as pb, result::Outcome, session_request::Message as Up};
use results::Unacknowledged;
use runtime::{
    health::Condition,
    shutdown::Shutdown,
    watchdog::{self, Beat},
};
use serde_json::Value;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, Interval, MissedTickBehavior},
};

/// Events taken at once.
const EVENTS_MAX: usize = 1_024;
/// Time to end for what was given to others.
const LAST_GRACE: Duration = Duration::from_secs(3);
/// Time to end for what still runs at the deadline of a drain; its [`Attempts::last_words`] follow. With all that is said
/// after them, an executor of processes is gone two seconds after the deadline: whoever set it kills it soon.
pub(crate) const DEADLINE_GRACE: Duration = Duration::from_secs(1);
/// At the deadline, for processes that are kept for later blocks: they end with this one anyway.
const KEPT_GRACE: Duration = Duration::from_millis(200);
/// For the last message to leave.
const FAREWELL: Duration = Duration::from_millis(100);
/// Until a scheduler names its own.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Until a scheduler names its own.
const LOST_AFTER: Duration = Duration::from_secs(10);

/// What attempts tell the core.
#[derive(Debug)]
pub enum CoreEvent {
    /// An attempt is over, its processes are gone.
    Ended {
        /// Which.
        id: AttemptId,
        /// How.
        outcome: Outcome,
        /// How long.
        duration_us: i64,
    },
    /// User code asks the cluster.
    Call {
        /// Who.
        id: AttemptId,
        /// Its own number of the call.
        call_id: i64,
        /// What.
        method: String,
        /// With what.
        arguments: Value,
    },
    /// An attempt waits for what is not there yet and runs nothing, or does so no more: it is to ask `WAIT` then, so
    /// that it goes on with its slot and the permits of its limits.
    Parked {
        /// Which.
        id: AttemptId,
        /// From here on.
        parked: bool,
    },
}

/// Who this executor is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// One life of this process.
    pub id: ExecutorId,
    /// Shown to people.
    pub name: String,
    /// Attempts at once.
    pub slots: u32,
}

struct Running {
    workspace: Arc<str>,
    order: watch::Sender<Order>,
    replies: mpsc::Sender<Value>,
    /// Given to somebody else by now: its result interests nobody.
    forgotten: bool,
    /// Calls without an answer; asked again on the next session. Their keys make that safe.
    calls: HashMap<i64, calls::Call>,
    /// It waits for a run, and an owner was told so after it had asked.
    recounted: bool,
    /// It waits for something of its own.
    parked: bool,
}

/// The stream to a scheduler.
struct Scheduler {
    sender: mpsc::Sender<pb::SessionRequest>,
    abandon: Abandon,
    opened: Instant,
}

/// See the module's page.
pub struct Core {
    identity: Identity,
    journal: Arc<Journal>,
    attempts: Arc<dyn Attempts>,
    metrics: Arc<Metrics>,
    connected: Condition,
    shutdown: Shutdown,
    running: HashMap<AttemptId, Running>,
    ahead: Ahead,
    unacknowledged: Unacknowledged,
    /// Of these, those that were there at the last look.
    results_waiting: HashSet<AttemptId>,
    results_looked_at: Instant,
    /// What this session was taught; `None` is what could not be read.
    definitions: HashMap<String, Option<Arc<Definition>>>,
    scheduler: Option<Scheduler>,
    beat: Interval,
    lost_after: Duration,
    heard: Instant,
    sequence: i64,
    session_number: i64,
    draining: bool,
    errand: Option<Errand>,
    pulse: Beat,
}

impl Core {
    /// A core that runs nothing. Must be called inside a tokio runtime.
    #[must_use]
    pub fn new(
        identity: Identity,
        journal: Arc<Journal>,
        attempts: Arc<dyn Attempts>,
        metrics: Arc<Metrics>,
        connected: Condition,
        shutdown: Shutdown,
    ) -> Self {
        metrics.slots.set(i64::from(identity.slots));
        Self {
            identity,
            journal,
            attempts,
            metrics,
            connected,
            shutdown,
            running: HashMap::new(),
            ahead: Ahead::default(),
            unacknowledged: Unacknowledged::default(),
            results_waiting: HashSet::new(),
            results_looked_at: Instant::now(),
            definitions: HashMap::new(),
            scheduler: None,
            beat: every(HEARTBEAT_INTERVAL),
            lost_after: LOST_AFTER,
            heard: Instant::now(),
            sequence: 0,
            session_number: 0,
            draining: false,
            errand: None,
            pulse: Beat::unwatched(),
        }
    }

    /// Beats for a watchdog, as long as anything can still come.
    #[must_use]
    pub fn watched_by(self, pulse: Beat) -> Self {
        Self { pulse, ..self }
    }

    /// Runs until the process may end: drained, or stopped. One that was made for one attempt answers how that ended, if
    /// it did.
    pub async fn run(
        mut self,
        mut link: mpsc::Receiver<LinkEvent>,
        mut events: mpsc::Receiver<CoreEvent>,
    ) -> Option<Outcome> {
        let (draining, stopped) = (self.shutdown.draining(), self.shutdown.stopped());
        tokio::pin!(draining, stopped);
        // A scheduler may want heartbeats less often than the watchdog does.
        let mut pulse = every(watchdog::PULSE);
        while !(self.draining && self.is_done()) {
            self.pulse.beat();
            tokio::select! {
                _ = pulse.tick() => {}
                () = &mut draining, if !self.draining => self.drain(),
                () = &mut stopped => {
                    self.stop_everything(&mut link, &mut events).await;
                    break;
                }
                () = self.turn(&mut link, &mut events) => {}
            }
        }
        // How long the rest may take is the drain's to say.
        self.pulse = Beat::unwatched();
        tokio::select! {
            () = self.attempts.end_processes() => {}
            () = late(&self.shutdown, KEPT_GRACE) => {}
        }
        self.say(Up::Goodbye(pb::Goodbye {}));
        // One moment for the stream to take it; without it the scheduler learns the same from silence.
        tokio::time::sleep(FAREWELL).await;
        self.errand.and_then(|errand| errand.outcome)
    }

    /// Whatever comes next. Cancel-safe: it waits only for one of the three, and handles it at once.
    async fn turn(&mut self, link: &mut mpsc::Receiver<LinkEvent>, events: &mut mpsc::Receiver<CoreEvent>) {
        let mut batch = Vec::new();
        tokio::select! {
            Some(event) = link.recv() => self.on_link(event),
            _ = events.recv_many(&mut batch, EVENTS_MAX) => {
                let mut ended = Vec::new();
                for event in batch {
                    self.on_event(event, &mut ended);
                }
                self.send_results(ended);
            }
            _ = self.beat.tick() => self.on_beat(),
        }
    }

    fn is_done(&self) -> bool {
        self.running.is_empty() && self.unacknowledged.is_empty()
    }

    fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Opening(sender, abandon) => {
                self.scheduler = Some(Scheduler { sender, abandon, opened: Instant::now() });
                // A session knows no definition until it is taught.
                self.definitions.clear();
                self.hello();
            }
            LinkEvent::Down => {
                self.scheduler = None;
                self.connected.fail("no session with a scheduler");
            }
            LinkEvent::Message(message) => {
                self.heard = Instant::now();
                self.on_message(message);
            }
        }
    }

    /// What runs here, and what ended without an acknowledgement.
    fn held(&self) -> Vec<pb::AttemptRef> {
        let held = self.running.iter().filter(|(_, running)| !running.forgotten).map(|(id, _)| id);
        held.chain(self.unacknowledged.ids()).map(AttemptId::to_proto).collect()
    }

    fn held_ahead(&self) -> Vec<pb::AttemptRef> {
        self.ahead.ids().map(AttemptId::to_proto).collect()
    }

    /// Answers the question of a new owner of something that runs here.
    fn inventory(&mut self) {
        self.say(Up::Inventory(pb::Inventory { running: self.held(), ahead: self.held_ahead() }));
        self.tell_who_waits();
        self.send_results(self.unacknowledged.in_order(|_| true));
    }

    fn hello(&mut self) {
        self.session_number += 1;
        let running = self.held();
        self.say(Up::Hello(pb::Hello {
            executor_id: self.identity.id.to_vec(),
            name: self.identity.name.clone(),
            backend: self.attempts.backend().to_owned(),
            slots: i32::try_from(self.identity.slots).unwrap_or(i32::MAX),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            running,
            draining: self.draining,
            session_number: self.session_number,
            ahead: self.held_ahead(),
            goes_on: true,
        }));
        self.send_results(self.unacknowledged.in_order(|_| true));
    }

    /// What ended by it is still to be sent.
    fn on_event(&mut self, event: CoreEvent, ended: &mut Vec<pb::Result>) {
        match event {
            CoreEvent::Ended { id, outcome, duration_us } => self.ended(id, outcome, duration_us, ended),
            CoreEvent::Call { id, call_id, method, arguments } => self.call(&id, call_id, method, arguments),
            CoreEvent::Parked { id, parked } => self.park(&id, parked),
        }
    }

    fn start(&mut self, attempt: Attempt) {
        let (order, orders) = watch::channel(Order::Run);
        let (replies, answers) = mpsc::channel(calls::REPLIES_MAX);
        let workspace = attempt.workspace().into();
        let calls = HashMap::new();
        let running = Running { workspace, order, replies, forgotten: false, calls, recounted: false, parked: false };
        self.running.insert(attempt.id.clone(), running);
        self.count_running();
        let attempts = Arc::clone(&self.attempts);
        tokio::spawn(attempts.run(attempt, Mail { order: orders, replies: answers }));
    }

    fn count_running(&self) {
        self.metrics.running.set(i64::try_from(self.running.len()).unwrap_or(i64::MAX));
    }

    fn cancel(&mut self, attempts: &[pb::AttemptRef], grace: Duration) {
        let mut ended = Vec::new();
        for attempt in attempts.iter().cloned().filter_map(AttemptId::from_proto) {
            self.give_back(&attempt, &mut ended);
            if let Some(running) = self.running.get(&attempt) {
                // The first cancellation counts: repeating it does not prolong the grace.
                running.order.send_if_modified(|order| {
                    let first = *order == Order::Run;
                    if first {
                        *order = Order::Stop { grace };
                    }
                    first
                });
            }
        }
        self.send_results(ended);
    }

    /// An attempt that was given to somebody else: it ends, and its outputs with it.
    fn forget(&mut self, attempt: &AttemptId) {
        if let Some(running) = self.running.get_mut(attempt) {
            running.forgotten = true;
        }
        self.cancel(&[attempt.to_proto()], LAST_GRACE);
    }

    /// Says something, if anybody listens. A stream that does not keep up is given up: the next session tells all again.
    fn say(&mut self, message: Up) {
        let Some(scheduler) = &self.scheduler else { return };
        if scheduler.sender.try_send(pb::SessionRequest { message: Some(message) }).is_err() {
            scheduler.abandon.cancel();
            self.scheduler = None;
        }
    }

    fn on_beat(&mut self) {
        self.sequence += 1;
        self.say(Up::Heartbeat(pb::Heartbeat {
            sequence: self.sequence,
            running: i32::try_from(self.running.len()).unwrap_or(i32::MAX),
        }));
        self.repeat_results();
        let (starts, builds) = self.attempts.counts();
        self.metrics.zygote_starts.inc_by(starts.saturating_sub(self.metrics.zygote_starts.get()));
        self.metrics.environment_builds.inc_by(builds.saturating_sub(self.metrics.environment_builds.get()));
        // A scheduler that is silent for half of that has a chance to be replaced before the other half is over.
        if let Some(scheduler) = &self.scheduler
            && scheduler.opened.elapsed().min(self.heard.elapsed()) > self.lost_after / 2
        {
            tracing::warn!("the scheduler is silent: opening another session");
            scheduler.abandon.cancel();
            self.scheduler = None;
        }
        if self.heard.elapsed() > self.lost_after {
            self.lose_everything();
        }
        self.leave_when_over();
    }

    /// No scheduler answered for so long that what runs here was given to others.
    fn lose_everything(&mut self) {
        let lost: Vec<AttemptId> =
            self.running.iter().filter(|(_, running)| !running.forgotten).map(|(id, _)| id.clone()).collect();
        if lost.is_empty() {
            return;
        }
        tracing::warn!(attempts = lost.len(), "no scheduler answered: stopping what was given to others by now");
        self.ahead.clear();
        for attempt in lost {
            self.forget(&attempt);
        }
        let attempts = Arc::clone(&self.attempts);
        tokio::spawn(async move { attempts.end_processes().await });
    }

    fn drain(&mut self) {
        self.draining = true;
        tracing::info!(attempts = self.running.len(), "draining: no new work is taken");
        self.say(Up::Draining(pb::Draining {}));
        // Whoever ends a container does not wait for what it runs: that goes back, to be run elsewhere.
        if self.errand.is_some() {
            self.shutdown.stop();
        }
    }

    /// The deadline has passed: what still runs is stopped and goes back.
    async fn stop_everything(&mut self, link: &mut mpsc::Receiver<LinkEvent>, events: &mut mpsc::Receiver<CoreEvent>) {
        self.draining = true;
        for running in self.running.values() {
            running.order.send_replace(Order::Stop { grace: DEADLINE_GRACE });
        }
        let until = Instant::now() + DEADLINE_GRACE + self.attempts.last_words();
        while !self.is_done() && tokio::time::timeout_at(until, self.turn(link, events)).await.is_ok() {
            self.pulse.beat();
        }
        for attempt in self.running.keys() {
            tracing::warn!(%attempt, "an attempt did not end in time; it ends with this process");
        }
    }
}

/// So long after the stop, or after now if that is later.
async fn late(shutdown: &Shutdown, by: Duration) {
    shutdown.stopped().await;
    tokio::time::sleep(by).await;
}

fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
