//! One execution of a pipeline: the only place that knows what follows what.
//!
//! [`Run::advance`] takes one event and answers with the transitions that it caused. It does no I/O and reads no clock:
//! the same events give the same transitions, in memory and after [`Run::rebuild`] from stored rows. Every event is
//! O(1) in the number of dynamic children, O(downstream) in the number of blocks.
//!
//! Readiness is derived, never stored: a block that has no row has not started. A [`Transition::Unit`] is a whole row
//! after a change, so several in one batch collapse to the last one.

mod ahead;
mod attempt;
mod callback;
mod fan;
mod halt;
mod lease;
mod rebuild;
mod reopen;
mod row;
mod settle;
mod units;

use crate::{
    graph::Graph,
    id::{ExecutorId, RunId},
    trigger::TimeoutStatus,
    unit::{Ending, Failure, LostAttempt, Outcome, Output, Unit, UnitKey, UnitRow},
};
use fan::Fan;
use jiff::{SignedDuration, Timestamp};
pub use lease::{CallbackOf, InputMode, InputRef, Lease};
use row::unit_row;
pub use row::{unit_key, unit_name};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    str::FromStr,
    sync::Arc,
};

/// Executors that may die on one block before it counts as poison.
pub const DEATHS_MAX: u32 = 3;
/// Children of one block.
pub const CHILDREN_MAX: u32 = 1_000_000;
/// Attempts that one attempt reads, all inputs together: every child of one block, at the most.
pub const INPUTS_MAX: usize = CHILDREN_MAX as usize;
/// Pause between two pokes of a sensor, seconds, unless its `configuration.poke_interval` says otherwise. Mage: 60.
pub const POKE_INTERVAL_S: u32 = 60;
/// How long a run has been stopping when a cancel is taken for another one: before that, it may be the same one repeated.
pub const AGAIN_AFTER: SignedDuration = SignedDuration::from_secs(15);
/// The shortest such pause, seconds; 0 counts as this.
pub const POKE_INTERVAL_S_MIN: u32 = 1;

/// A run's status, as Mage names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are Mage's own")]
pub enum RunStatus {
    Initial,
    Running,
    Completed,
    Failed,
    Cancelled,
}

impl RunStatus {
    /// As stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// True for the three statuses that end a run.
    #[must_use]
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

impl FromStr for RunStatus {
    type Err = crate::unit::UnknownStatus;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        [Self::Initial, Self::Running, Self::Completed, Self::Failed, Self::Cancelled]
            .into_iter()
            .find(|status| status.as_str() == s)
            .ok_or_else(|| crate::unit::UnknownStatus(s.to_owned()))
    }
}

/// What a run was asked to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// A failed block stops only what is downstream of it.
    pub allow_blocks_to_fail: bool,
    /// Longest time of the run, seconds from its start.
    pub timeout_s: Option<u32>,
    /// How a run ends that took longer.
    pub timeout_status: TimeoutStatus,
}

/// What happened to a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// It may begin.
    Start,
    /// An attempt has ended.
    Ended {
        /// Which unit.
        key: UnitKey,
        /// Which try.
        lease: i64,
        /// How.
        outcome: Outcome,
    },
    /// An executor is gone, with everything that it ran.
    ExecutorLost(ExecutorId),
    /// An executor has drained and gone. Nothing died with it: what it still had was given back before.
    ExecutorLeft(ExecutorId),
    /// Time has passed.
    Wake,
    /// Somebody wants it to stop.
    Cancel {
        /// In their words.
        reason: String,
    },
    /// The same, by a person, who may ask again: where it has been stopping for [`AGAIN_AFTER`], its callbacks stop too.
    CancelByHand {
        /// In their words.
        reason: String,
    },
    /// It must wait for its turn, as a new run does: raised with a retry that a limit holds back. [`Event::Start`] ends it.
    Hold,
    /// Blocks that did not complete shall run again.
    RetryIncomplete,
    /// This block and everything downstream of it shall run again.
    RetryFrom(usize),
}

/// Why an event does not apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The attempt is not the block's current one: its outputs are to be discarded.
    #[error("the attempt is not the current one")]
    Stale,
    /// The attempt was leased ahead, and nothing is known of the end of what it follows: that must be heard first.
    #[error("the attempt follows one whose end is not known")]
    Early,
    /// Only an ended run can be retried.
    #[error("the run has not ended")]
    NotEnded,
    /// Every block has completed.
    #[error("the run has no incomplete block")]
    NothingToRetry,
    /// What runs cannot be held.
    #[error("the run is under way")]
    UnderWay,
}

/// One change, to be stored and acted on.
#[derive(Debug, Clone, PartialEq)]
pub enum Transition {
    /// The run's own row.
    Run(RunRow),
    /// A unit's row.
    Unit(Box<UnitRow>),
    /// A try that did not become the result.
    Lost(Box<LostAttempt>),
    /// An attempt is to be stopped; it is still running until its executor says otherwise.
    Stop {
        /// Which unit.
        key: UnitKey,
        /// Which try.
        lease: i64,
        /// Who runs it.
        executor: ExecutorId,
    },
    /// The rows of a block's children are void.
    DropChildren(usize),
    /// The process that a one-process run held is no longer needed.
    EndProcess(ExecutorId),
}

/// The stored form of the run itself.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRow {
    /// Its status.
    pub status: RunStatus,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// Why it ended so; set as soon as a failure stops it.
    pub reason: Option<String>,
    /// Set once somebody asked it to stop.
    pub cancel_reason: Option<String>,
}

/// A run in memory.
#[derive(Debug, Clone)]
pub struct Run {
    id: RunId,
    graph: Arc<Graph>,
    options: Options,
    row: RunRow,
    blocks: Vec<BlockState>,
    /// Callbacks that are due or run.
    callbacks: BTreeMap<UnitKey, Unit>,
    /// Leases of callbacks that are over: a later one of the same name starts above.
    callback_floor: BTreeMap<UnitKey, i64>,
    /// Why watched units failed, for their callbacks.
    errors: BTreeMap<UnitKey, Failure>,
    /// Why and how everything is being stopped, once something is.
    halt: Option<Halting>,
    /// Blocks that wait for nothing any more, until they are settled; empty between events.
    due: VecDeque<usize>,
    ready: VecDeque<UnitKey>,
    /// Fans with children that were never leased.
    open_fans: VecDeque<usize>,
    delayed: BTreeSet<(Timestamp, UnitKey)>,
    /// Blocks that have not ended.
    open_blocks: usize,
    /// Units that are leased.
    running: u32,
    /// The first failure, in words.
    any_failed: Option<String>,
    /// One-process runs: who holds the process.
    home: Option<ExecutorId>,
    /// Leases are above it.
    lease_floor: i64,
}

/// Why a run is being stopped.
#[derive(Debug, Clone, PartialEq)]
enum Halt {
    Failed(String),
    Cancelled(String),
}

/// How a run is being stopped.
#[derive(Debug, Clone)]
struct Halting {
    why: Halt,
    since: Timestamp,
    /// When callbacks became ready last.
    called_at: Option<Timestamp>,
    /// Callbacks are stopped as well, and no further one is called.
    callbacks: bool,
    /// They were, because the time for them is over.
    overdue: bool,
}

/// One block of a run.
#[derive(Debug, Clone)]
struct BlockState {
    /// Upstream blocks that have not ended.
    left: usize,
    /// What the block starts from when it becomes ready: leases never fall, and a unit that was released or lost
    /// keeps its counts when the run is rebuilt.
    carry: Unit,
    kind: Kind,
    /// Set when the block as a whole is over.
    ended: Option<Ending>,
    output: Option<Arc<Output>>,
}

#[derive(Debug, Clone)]
enum Kind {
    Waiting,
    Single(Unit),
    Fan(Fan),
}

impl Run {
    /// A run that has not started.
    #[must_use]
    pub fn new(id: RunId, graph: Arc<Graph>, options: Options) -> Self {
        let blocks = (0..graph.len())
            .map(|at| BlockState {
                left: graph.node(at).upstream.len(),
                carry: Unit::ready(0),
                kind: Kind::Waiting,
                ended: None,
                output: None,
            })
            .collect();
        Self {
            id,
            open_blocks: graph.len(),
            graph,
            options,
            row: RunRow {
                status: RunStatus::Initial,
                started_at: None,
                completed_at: None,
                reason: None,
                cancel_reason: None,
            },
            blocks,
            callbacks: BTreeMap::new(),
            callback_floor: BTreeMap::new(),
            errors: BTreeMap::new(),
            halt: None,
            due: VecDeque::new(),
            ready: VecDeque::new(),
            open_fans: VecDeque::new(),
            delayed: BTreeSet::new(),
            running: 0,
            any_failed: None,
            home: None,
            lease_floor: 0,
        }
    }

    /// Gives only leases above `floor` from here on. An owner that may have lost what the former one decided last must
    /// not name another attempt with a lease that was given before: `floor` rises with the owner's epoch.
    #[must_use]
    pub fn with_leases_above(self, floor: i64) -> Self {
        Self { lease_floor: floor, ..self }
    }

    /// Its identifier.
    #[must_use]
    pub fn id(&self) -> RunId {
        self.id
    }

    /// The pipeline that it executes.
    #[must_use]
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// Its own row.
    #[must_use]
    pub fn row(&self) -> &RunRow {
        &self.row
    }

    /// Applies one event.
    ///
    /// # Errors
    /// When the event does not apply; then nothing has changed.
    pub fn advance(&mut self, event: Event, now: Timestamp) -> Result<Vec<Transition>, Refused> {
        let mut out = Vec::new();
        match event {
            Event::Start => self.start(now, &mut out),
            Event::Ended { key, lease, outcome } => self.attempt_ended(key, lease, outcome, now, &mut out)?,
            Event::ExecutorLost(executor) => self.executor_lost(executor, now, &mut out),
            Event::ExecutorLeft(executor) => self.leave_home(executor, self.deaths(), now, &mut out),
            Event::Wake => self.wake(now, &mut out),
            Event::Cancel { reason } => self.cancel(reason, now, &mut out),
            Event::CancelByHand { reason } => self.cancel_by_hand(reason, now, &mut out),
            Event::Hold => self.hold(&mut out)?,
            Event::RetryIncomplete => self.retry_incomplete(now, &mut out)?,
            Event::RetryFrom(at) => self.retry_from(at, now, &mut out)?,
        }
        self.conclude(now, &mut out);
        Ok(out)
    }

    /// The next instant at which [`Event::Wake`] would do something.
    #[must_use]
    pub fn next_wake(&self) -> Option<Timestamp> {
        let delayed = self.delayed.first().map(|(at, _)| *at);
        let timeout = match &self.halt {
            None => self.deadline(),
            Some(halt) if !halt.overdue && !self.callbacks.is_empty() => self.last_deadline(),
            Some(_) => None,
        };
        [delayed, timeout].into_iter().flatten().min()
    }

    /// The names of a unit as stored: block (or `<callback>:<watched block>`) and child (-1 for none).
    #[must_use]
    pub fn unit_name(&self, key: UnitKey) -> (String, i32) {
        unit_name(&self.graph, key)
    }

    /// The unit with the stored names.
    #[must_use]
    pub fn unit_key(&self, block: &str, child: i32) -> Option<UnitKey> {
        unit_key(&self.graph, block, child)
    }

    fn time_limit(&self) -> Option<SignedDuration> {
        let seconds = self.options.timeout_s.or(self.graph.pipeline().run_timeout_s)?;
        Some(SignedDuration::from_secs(i64::from(seconds)))
    }

    fn deadline(&self) -> Option<Timestamp> {
        let limit = self.time_limit().filter(|_| self.row.status == RunStatus::Running)?;
        self.row.started_at?.checked_add(limit).ok()
    }

    /// Callbacks of a run that is being stopped have as long as it had, from when the last of them could begin.
    fn last_deadline(&self) -> Option<Timestamp> {
        let halt = self.halt.as_ref()?;
        halt.called_at.unwrap_or(halt.since).checked_add(self.time_limit()?).ok()
    }

    fn start(&mut self, now: Timestamp, out: &mut Vec<Transition>) {
        if self.row.status != RunStatus::Initial {
            return;
        }
        self.row.status = RunStatus::Running;
        self.row.started_at = Some(now);
        out.push(Transition::Run(self.row.clone()));
        self.settle_all();
    }

    fn hold(&mut self, out: &mut Vec<Transition>) -> Result<(), Refused> {
        if self.running > 0 || self.row.status != RunStatus::Running {
            return Err(Refused::UnderWay);
        }
        self.row.status = RunStatus::Initial;
        self.row.started_at = None;
        out.push(Transition::Run(self.row.clone()));
        Ok(())
    }

    fn executor_lost(&mut self, executor: ExecutorId, now: Timestamp, out: &mut Vec<Transition>) {
        let deaths = self.deaths();
        for (key, lease) in self.running_on(executor) {
            // What was behind another one was taken back with it, and is not there any more. So none is refused.
            if self.is_running(key, lease, executor) {
                let _ = self.attempt_ended(key, lease, Outcome::executor_lost(), now, out);
            }
        }
        self.leave_home(executor, deaths + 1, now, out);
    }

    /// The process of a one-process run is gone, with whatever only its memory held.
    fn leave_home(&mut self, executor: ExecutorId, deaths: u32, now: Timestamp, out: &mut Vec<Transition>) {
        if self.home != Some(executor) {
            return;
        }
        self.home = None;
        if self.graph.pipeline().keeps_outputs_in_memory() && self.halt.is_none() {
            self.restart(deaths, now, out);
        }
    }

    fn wake(&mut self, now: Timestamp, out: &mut Vec<Transition>) {
        if self.last_deadline().is_some_and(|at| at <= now) {
            self.stop_overdue_callbacks(now, out);
        }
        if self.halt.is_none() && self.deadline().is_some_and(|at| at <= now) {
            let limit = self.options.timeout_s.or(self.graph.pipeline().run_timeout_s).unwrap_or_default();
            let reason = format!("the run took longer than {limit} s");
            match self.options.timeout_status {
                TimeoutStatus::Failed => self.halt(Halt::Failed(reason), now, out),
                TimeoutStatus::Cancelled => self.cancel(reason, now, out),
            }
        }
        // That a pause is over is a fact of the clock: the unit's row and phase stay as they are until it is leased.
        while let Some((_, key)) = self.delayed.first().copied().filter(|(at, _)| *at <= now) {
            self.delayed.pop_first();
            self.ready.push_back(key);
        }
    }

    /// What every change ends with: blocks that were released are settled, and the run ends if nothing is open.
    fn conclude(&mut self, now: Timestamp, out: &mut Vec<Transition>) {
        self.settle_due(now, out);
        let open = self.open_blocks > 0 || !self.callbacks.is_empty() || self.running > 0;
        if open || self.row.status != RunStatus::Running {
            return;
        }
        let failed = self.any_failed.take();
        let (status, reason) = match self.halt.take().map(|halt| halt.why) {
            Some(Halt::Cancelled(reason)) => (RunStatus::Cancelled, Some(reason)),
            Some(Halt::Failed(reason)) => (RunStatus::Failed, Some(reason)),
            None => match self.incomplete_block() {
                Some(at) => {
                    let reason = || format!("block `{}` did not complete", self.graph.block(at).uuid);
                    (RunStatus::Failed, Some(failed.unwrap_or_else(reason)))
                }
                None => (RunStatus::Completed, None),
            },
        };
        self.row.status = status;
        self.row.reason = reason;
        self.row.completed_at = Some(now);
        out.push(Transition::Run(self.row.clone()));
        if let Some(home) = self.home.take() {
            out.push(Transition::EndProcess(home));
        }
    }

    /// The first block that keeps the run from having completed.
    fn incomplete_block(&self) -> Option<usize> {
        let is_bad = |at: &usize| !matches!(self.blocks[*at].ended, Some(Ending::Completed | Ending::ConditionFailed));
        self.graph.order().iter().copied().find(is_bad)
    }
}
