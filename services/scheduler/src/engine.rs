//! The engine: one task that owns every run of this scheduler's shards.
//!
//! It takes what came since its last turn (commands, results, lost executors, timers), applies it to the runs in
//! memory, leases what became ready to executors with free slots, and writes all of it as one batch: one commit per
//! turn, however much happened. Only then does it answer, acknowledge and assign. While a commit is under way the next
//! turn's messages gather, so that batches grow with the load and a lone event waits for nobody.
//!
//! What it refuses to know: gRPC streams (it sends to bounded channels), log lines, how shards are taken.
//!
//! When a commit fails or a shard's epoch has moved, memory is no longer the truth: everything is dropped, executors
//! are asked to connect again, and the runs are loaded anew.

mod admission;
mod ahead;
mod armed;
mod backfills;
mod commands;
mod definitions;
mod departures;
mod dispatch;
mod firer;
mod gauges;
mod lateness;
mod lending;
mod live;
mod message;
mod observe;
mod owned;
mod permits;
mod promises;
mod questions;
mod recover;
mod remembered;
mod repeats;
mod seat;
mod stride;
mod turn;

pub use backfills::{ChangeBackfill, CreateBackfill};
pub use message::{
    CancelRun, CreateRun, Created, EngineError, FiredTrigger, Held, Message, Outbox, Ownership, PeerEvent, Repeated,
    Reply, RetryRun, SessionEvent, Units,
};

use crate::{changes::Changes, clock::DbClock, load::LoadGauge, metrics::Metrics, peers::Peers};
use admission::Queues;
use armed::Triggers;
use backfills::Backfills;
use definitions::Definitions;
use domain::{
    id::{ExecutorId, PipelineId, RunId, SchedulerId, TriggerId},
    trigger::Stop,
};
use firer::Reading;
use jiff::Timestamp;
use live::Live;
use owned::Owned;
use permits::{Limits, Permits};
use promises::{Flush, Promises};
use remembered::Remembered;
use runtime::{rates::Rates, watchdog::Beat};
use seat::Seat;
use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};
use store::{Patience, Store, executors::ExecutorRow, journal::Journal};
use stride::Stride;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
pub(crate) use turn::Chain;
use turn::Turn;

/// Messages that wait for a turn; senders wait beyond it.
pub const QUEUE_MAX: usize = 8_192;
/// Messages taken in one turn: half of those that can wait, so that whoever was silent in two turns has sent none.
const TURN_MESSAGES_MAX: usize = QUEUE_MAX / 2;
/// How often timers are looked at when nothing else happens.
const TICK: Duration = Duration::from_millis(250);

/// How long executors may be silent, and how often they should speak.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Between two heartbeats.
    pub heartbeat: Duration,
    /// Silence after which an executor is lost.
    pub lost_after: Duration,
    /// Between SIGTERM and SIGKILL of a cancelled attempt.
    pub grace: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { heartbeat: Duration::from_secs(2), lost_after: Duration::from_secs(10), grace: Duration::from_secs(10) }
    }
}

/// The owner of the runs. See the module's page.
pub struct Engine {
    store: Store,
    scheduler: SchedulerId,
    clock: DbClock,
    changes: Changes,
    metrics: Arc<Metrics>,
    timing: Timing,
    definitions: Definitions,
    remembered: Remembered,
    shards: Owned,
    runs: HashMap<RunId, Live>,
    /// Runs with something to lease, in turn.
    ready: VecDeque<RunId>,
    wakes: BTreeSet<(Timestamp, RunId)>,
    queues: Queues,
    limits: Limits,
    /// Calls of triggers by credential. A new owner begins with full buckets.
    rates: Rates,
    permits: Permits,
    backfills: Backfills,
    triggers: Triggers,
    reading: Reading,
    /// Triggers that fire no more, by the version that said so: they need not be read again.
    disarmed: HashMap<TriggerId, i64>,
    /// When triggers are read that were being edited while they were decided about.
    retry_overtaken_at: Option<Timestamp>,
    /// Runs to be stopped, by decisions that count.
    overlapped: Vec<(RunId, Stop)>,
    /// Pipelines in which runs that were never made gave their places back, or limits may have been raised.
    vacated: BTreeSet<PipelineId>,
    /// Triggers that are late because nothing could be decided.
    late: Option<lateness::PutOff>,
    /// Until when runs should have ended.
    slas: BTreeSet<(Timestamp, RunId)>,
    /// More is to be done than one turn takes: the next one comes at once.
    again: bool,
    stride: Stride,
    /// What the next turn takes too: it was decided by what was not in force any more.
    outdated: Vec<Message>,
    seats: HashMap<ExecutorId, Seat>,
    /// Executors that said goodbye here, until their rows say so.
    farewells: HashMap<ExecutorId, ExecutorRow>,
    told: gauges::Told,
    /// `None` until the first commit, and after each that failed.
    journal: Option<Journal>,
    promises: Promises,
    flush: Option<Flush>,
    flush_at: Option<tokio::time::Instant>,
    lending: lending::Lending,
    peers: Peers,
    observer: observe::Observer,
    stop: CancellationToken,
}

impl Engine {
    /// An engine that owns nothing yet.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "each is a part of the process; named once, in App::build")]
    pub fn new(
        store: Store,
        scheduler: SchedulerId,
        clock: DbClock,
        changes: Changes,
        metrics: Arc<Metrics>,
        timing: Timing,
        peers: Peers,
        stop: CancellationToken,
    ) -> Self {
        Self {
            definitions: Definitions::new(store.clone()),
            limits: Limits::new(store.clone()),
            rates: Rates::default(),
            store,
            scheduler,
            clock,
            changes,
            metrics,
            timing,
            remembered: Remembered::default(),
            shards: Owned::default(),
            runs: HashMap::new(),
            ready: VecDeque::new(),
            wakes: BTreeSet::new(),
            queues: Queues::default(),
            permits: Permits::default(),
            backfills: Backfills::default(),
            triggers: Triggers::default(),
            reading: Reading::default(),
            disarmed: HashMap::new(),
            retry_overtaken_at: None,
            overlapped: Vec::new(),
            vacated: BTreeSet::new(),
            late: None,
            slas: BTreeSet::new(),
            again: false,
            stride: Stride::default(),
            outdated: Vec::new(),
            seats: HashMap::new(),
            farewells: HashMap::new(),
            told: gauges::Told::default(),
            journal: None,
            promises: Promises::default(),
            flush: None,
            flush_at: None,
            lending: lending::Lending::default(),
            peers,
            observer: observe::Observer::new(Arc::default()),
            stop,
        }
    }

    /// Tells how much it has to do, and beats for a watchdog.
    #[must_use]
    pub fn observed(mut self, load: Arc<LoadGauge>, beat: Beat) -> Self {
        self.observer = observe::Observer::new(load);
        self.observer.watched_by(beat);
        self
    }

    /// Turns until it is stopped. `shards` tells what is owned, whenever that changes.
    pub async fn run(mut self, mut inbox: mpsc::Receiver<Message>, mut shards: mpsc::Receiver<Ownership>) {
        let (stop, store) = (self.stop.clone(), self.store.clone());
        let mut arrived = Vec::with_capacity(TURN_MESSAGES_MAX);
        let mut messages = VecDeque::with_capacity(TURN_MESSAGES_MAX);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut patience = Patience::default();
        loop {
            let (due, again) = (self.until_due(), self.again);
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(owned) = shards.recv() => self.own(owned).await,
                outcome = Flush::ended(&mut self.flush) => self.flushed(outcome).await,
                () = Self::flush_due(self.flush_at) => self.flush(),
                count = inbox.recv_many(&mut arrived, TURN_MESSAGES_MAX) => if count == 0 { break },
                () = std::future::ready(()), if again => {}
                () = tokio::time::sleep(due) => {}
                _ = tick.tick() => {}
            }
            // Whatever made it turn: nobody is silent whose word waits.
            while arrived.len() < TURN_MESSAGES_MAX
                && let Ok(message) = inbox.try_recv()
            {
                arrived.push(message);
            }
            messages.extend(arrived.drain(..));
            let begun = std::time::Instant::now();
            self.observer.beat();
            self.again = false;
            if self.has_lost_journal() {
                // What is being flushed on it may never be answered.
                self.fail().await;
            }
            // Pinned where it is made: it is large, and would be copied on its way into what polls it.
            let answered = {
                let turn = std::pin::pin!(self.turn(&mut messages));
                store.answered(&mut patience, turn).await
            };
            if answered.is_none() {
                tracing::warn!("a turn waited for a database that does not answer; loading again");
                self.fail().await;
                // The turn did not come to these. What executors and peers say is said once.
                self.again |= !messages.is_empty();
            }
            self.observer.worked(begun.elapsed());
            self.observe();
            self.gauge();
        }
        self.flush_now().await;
        self.reconnect_everybody();
    }

    /// Takes `messages` from the front, one by one: dropped while it waits, it leaves those that it did not come to.
    async fn turn(&mut self, messages: &mut VecDeque<Message>) {
        messages.extend(std::mem::take(&mut self.outdated));
        let mut turn = Turn { answers: self.ask(messages.make_contiguous()).await, ..Turn::default() };
        while let Some(message) = messages.pop_front() {
            self.take(message, &mut turn).await;
        }
        self.decide(&mut turn).await;
        self.finish(turn).await;
    }

    /// Everything that follows from what came: in this order, so that room that was made is used in the same turn.
    async fn decide(&mut self, turn: &mut Turn) {
        self.timers(turn);
        self.stop_overlapped(turn);
        self.fill_vacated(turn);
        self.miss_slas(turn);
        self.fire(turn).await;
        self.make_room(turn);
        self.step_backfills(turn).await;
        self.lend_shares();
        self.dispatch(turn).await;
        self.lend_rest();
        self.settle_borrowing();
        if !turn.ended.is_empty() {
            self.make_room(turn);
            self.again = true;
        }
    }

    /// Time until something is due by the clock.
    fn until_due(&self) -> Duration {
        let first = |times: &BTreeSet<(Timestamp, RunId)>| times.first().map(|(at, _)| *at);
        let times = [first(&self.wakes), first(&self.slas), self.triggers.next(), self.retry_overtaken_at];
        let next = times.into_iter().flatten().min();
        let wait = next.map(|at| self.now().duration_until(at));
        wait.map_or(TICK, |wait| Duration::try_from(wait).unwrap_or(Duration::ZERO).min(TICK))
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn timers(&mut self, turn: &mut Turn) {
        let now = self.now();
        while let Some(&(at, run)) = self.wakes.first().filter(|(at, _)| *at <= now) {
            self.wakes.remove(&(at, run));
            self.advance(run, domain::run::Event::Wake, turn);
        }
        self.settle_absent(turn);
    }
}
