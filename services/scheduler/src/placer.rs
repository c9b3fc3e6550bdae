//! The placer of one pool: one task that owns its runtimes and devices while this scheduler owns the pool's shard.
//!
//! It takes what came since its last turn (commands, what executors report, timers), applies it to the lives in memory,
//! plans who gets which devices, and writes all of it as one transaction. Only then does it answer, and tell executors
//! what there shall be. Both sides of a stream state levels: what is lost is said again, whole.
//!
//! When a commit fails, memory is dropped and the rows are read again; nothing was said that is not in them. Refuses to
//! know gRPC, how shards are taken, and who may ask for what.

mod avoided;
mod blocks;
mod commands;
mod fleet;
mod gauges;
mod kept;
mod lives;
mod message;
mod notices;
mod orders;
mod planning;
mod recent;
mod reports;
mod sentences;
mod snapshot;
mod terms;
mod ties;
mod turn;
mod volumes;
mod wire;

pub use message::{
    Imagined, Message, Outbox, PlacerError, Reply, SeenActivity, SessionEvent, StartRuntime, StopRuntime, SwitchQueue,
};

use crate::{clock::DbClock, metrics::Metrics};
use avoided::Avoided;
use blocks::Blocks;
use domain::{
    id::{HolderId, ProjectId},
    quota::{Account, Usage},
    runtime::{life::Rules, rules::Offer},
};
use fleet::Fleet;
use gauges::Gauges;
use jiff::Timestamp;
use lives::Lives;
use planning::Planning;
use recent::Recent;
use runtime::watchdog::{Beat, Watchdog};
use secrets::Keyring;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};
use store::{
    Patience, Store,
    ledger::{self, Placement},
    placement_terms::Terms,
    shards::Shard,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use turn::Turn;
use volumes::Volumes;

/// Messages that wait for a turn; senders wait beyond it.
pub const QUEUE_MAX: usize = 4_096;
/// Messages taken in one turn.
const TURN_MESSAGES_MAX: usize = 1_024;
/// Lives of one pool that have not ended.
const LIVES_MAX: usize = 50_000;
/// How often silence and terms are looked at when nothing else happens.
const TICK: Duration = Duration::from_secs(1);
/// First and longest pause between two tries to load.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How long a pool's executors may be silent, and what ends lives.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Between two heartbeats.
    pub heartbeat: Duration,
    /// Silence after which an executor's nodes take nobody new.
    pub lost_after: Duration,
    /// Silence after which the lives on its nodes are told to end.
    pub given_up_after: Duration,
    /// Whoever waits has others stopped no sooner than after so long.
    pub preempt_after: Duration,
    /// The cluster's times.
    pub rules: Rules,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(2),
            lost_after: Duration::from_secs(10),
            given_up_after: Duration::from_secs(300),
            preempt_after: Duration::ZERO,
            rules: Rules::default(),
        }
    }
}

/// What every placer of this process works with.
#[derive(Clone)]
pub struct Parts {
    /// The database.
    pub store: Store,
    /// Its clock.
    pub clock: DbClock,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Seals the keys of applications; nothing starts without.
    pub keyring: Option<Arc<Keyring>>,
    /// How long what may take.
    pub timing: Timing,
    /// Ends the process when a placer hangs.
    pub watchdog: Watchdog,
}

/// The owner of one pool. See the module's page.
pub struct Placer {
    parts: Parts,
    pool: Arc<str>,
    shard: Shard,
    lives: Lives,
    placements: HashMap<HolderId, Placement>,
    fleet: Fleet,
    terms: Terms,
    /// The kinds of devices of the pool, while they matter to somebody who waits.
    offers: Vec<Offer>,
    /// Whose terms these are: of projects and persons.
    terms_of: BTreeSet<Account>,
    /// What projects, groups and persons held in other pools when the terms were read.
    elsewhere: BTreeMap<Account, Usage>,
    terms_read_at: Option<Instant>,
    volumes: Volumes,
    avoided: Avoided,
    /// Who was told to leave in a while for others, or is to be told.
    noticed: BTreeSet<HolderId>,
    /// Projects of those that were stopped for others: of which the terms that were read last do not know.
    disrupted: Vec<ProjectId>,
    planning: Planning,
    blocks: Blocks,
    recent: Recent,
    gauges: Gauges,
    beat: Beat,
    stop: CancellationToken,
}

/// Why a placer ends.
struct Ended;

impl Placer {
    /// A placer that knows nothing yet.
    #[must_use]
    pub fn new(parts: Parts, pool: Arc<str>, shard: Shard, stop: CancellationToken) -> Self {
        Self {
            beat: parts.watchdog.duty("placer"),
            gauges: Gauges::new(&parts.metrics, &pool),
            parts,
            pool,
            shard,
            lives: Lives::default(),
            placements: HashMap::new(),
            fleet: Fleet::default(),
            terms: Terms::default(),
            offers: Vec::new(),
            terms_of: BTreeSet::new(),
            elsewhere: BTreeMap::new(),
            terms_read_at: None,
            volumes: Volumes::default(),
            avoided: Avoided::default(),
            noticed: BTreeSet::new(),
            disrupted: Vec::new(),
            planning: Planning::default(),
            blocks: Blocks::default(),
            recent: Recent::default(),
            stop,
        }
    }

    /// Turns until it is stopped, or the shard has another owner.
    pub async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        let (stop, store) = (self.stop.clone(), self.parts.store.clone());
        if self.load().await.is_err() {
            return;
        }
        let mut messages = Vec::with_capacity(TURN_MESSAGES_MAX);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut patience = Patience::default();
        loop {
            self.beat.beat();
            let due = self.until_due();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                count = inbox.recv_many(&mut messages, TURN_MESSAGES_MAX) => if count == 0 { break },
                () = tokio::time::sleep(due) => {}
                _ = tick.tick() => {}
            }
            let turned = match store.answered(&mut patience, self.turn(messages.drain(..))).await {
                Some(turned) => turned,
                None => {
                    tracing::warn!(
                        pool = &*self.pool,
                        "a turn waited for a database that does not answer; loading again"
                    );
                    self.parts.metrics.reloads.inc();
                    self.hear_again();
                    self.load().await
                }
            };
            if turned.is_err() {
                tracing::info!(pool = &*self.pool, "the pool has another owner");
                break;
            }
        }
        // Streams end with their outboxes: executors look for the next owner.
    }

    async fn turn(&mut self, messages: impl Iterator<Item = Message>) -> Result<(), Ended> {
        let mut turn = Turn::default();
        let (written, read_at) = (self.disrupted.len(), self.terms_read_at);
        // Before anything lets time pass for lives: nobody is stopped for one who has left.
        self.settle_notices(&mut turn);
        self.read_terms(&mut turn).await?;
        if self.terms_read_at != read_at {
            self.disrupted.drain(..written);
        }
        for message in messages {
            self.take(message, &mut turn).await?;
        }
        self.look_at_sessions(&mut turn).await?;
        self.look_at_volumes().await;
        self.know_wishes().await;
        self.tidy_blocks(&mut turn);
        self.settle_notices(&mut turn);
        self.wake(&mut turn);
        self.begin_successors(&mut turn).await?;
        // Of a project that is new here nothing was known.
        self.read_terms(&mut turn).await?;
        self.plan(&mut turn).await;
        self.finish(turn).await?;
        self.gauge();
        Ok(())
    }

    /// What executors said may be lost. Their streams end, so that they come again and say it again.
    fn hear_again(&mut self) {
        self.fleet.sessions().into_iter().for_each(|session| self.fleet.close(session));
    }

    /// Reads the pool's rows until that works. No executor is connected: what they said before may not be in the rows, and those
    /// who come say and are told everything.
    async fn load(&mut self) -> Result<(), Ended> {
        let (mut pause, mut patience) = (PAUSE.0, Patience::default());
        loop {
            if self.stop.is_cancelled() {
                return Err(Ended);
            }
            self.beat.beat();
            let store = &self.parts.store;
            match store.answered(&mut patience, ledger::load(store, self.shard, &self.pool)).await {
                Some(Ok(Some(found))) => {
                    self.take_over(found);
                    return Ok(());
                }
                Some(Ok(None)) => return Err(Ended),
                None => tracing::warn!(pool = &*self.pool, "a pool's rows did not come; they are read again"),
                Some(Err(error)) => {
                    let pool = &*self.pool;
                    tracing::warn!(
                        pool,
                        error = runtime::exit::chain(&error),
                        "failed to read a pool; it is read again"
                    );
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    fn take_over(&mut self, found: ledger::Pool) {
        for problem in &found.unreadable {
            tracing::error!(pool = &*self.pool, problem, "a runtime cannot be read; what it holds stays held");
        }
        self.placements = found.placements.into_iter().map(|placement| (placement.holder, placement)).collect();
        self.blocks.load(self.placements.keys());
        self.fleet.load(found.nodes, found.devices);
        self.lives = Lives::default();
        self.planning.want();
        self.terms_read_at = None;
        let count = found.lives.len();
        for stored in found.lives {
            self.lives.insert(stored, &self.parts.timing.rules);
        }
        self.find_noticed();
        tracing::info!(pool = &*self.pool, runtimes = count, placements = self.placements.len(), "took a pool over");
    }

    fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    /// Time until something is due by the clock, or may be planned.
    fn until_due(&self) -> Duration {
        let due = self.lives.next_due().map(|at| self.now().duration_until(at));
        let due = due.map_or(TICK, |wait| Duration::try_from(wait).unwrap_or(Duration::ZERO));
        due.min(self.planning.pause(self.now())).min(self.until_unwished().unwrap_or(TICK)).min(TICK)
    }
}
