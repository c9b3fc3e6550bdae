//! Units: what an executor runs one at a time. A block, one child of a dynamic fan, or a callback after either.
//!
//! Refuses to know the run around them.

use crate::id::{ExecutorId, RunId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{fmt, fmt::Write, str::FromStr};

/// Names a unit within its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnitKey {
    /// The block or callback.
    pub step: Step,
    /// The dynamic child; `None` for the block itself.
    pub child: Option<u32>,
}

/// What a unit executes; indices of the pipeline's lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// A block.
    Block(usize),
    /// A callback, for one block that it watches.
    Callback {
        /// Index into the pipeline's callbacks.
        callback: usize,
        /// Index of the watched block.
        block: usize,
    },
}

impl UnitKey {
    /// A block, or a child of it.
    #[must_use]
    pub fn block(at: usize, child: Option<u32>) -> Self {
        Self { step: Step::Block(at), child }
    }
}

/// Where a unit is between its first lease and its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// The latest claim; rises with every claim and never falls.
    pub lease: i64,
    /// Tries that count against the retry policy.
    pub attempts: u32,
    /// Executors that died while they ran it.
    pub deaths: u32,
    /// When its first try started.
    pub started_at: Option<Timestamp>,
    /// What it does now.
    pub phase: Phase,
}

/// What a unit does now.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// Waits for a free executor.
    Ready,
    /// Waits for a time, a retry's pause or a sensor's interval, and after it for a free executor.
    Delayed {
        /// Not before this instant.
        not_before: Timestamp,
    },
    /// Leased.
    Running {
        /// To whom.
        executor: ExecutorId,
        /// Since when.
        started_at: Timestamp,
    },
    /// Leased ahead: the block before it runs there, and its executor begins it by itself once that has completed.
    Ahead {
        /// To whom.
        executor: ExecutorId,
    },
    /// Over.
    Ended(Ending),
}

/// How a unit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Its output counts.
    Completed,
    /// No try is left.
    Failed,
    /// The run was stopped.
    Cancelled,
    /// A block that it needs has failed.
    UpstreamFailed,
    /// A guard, or the guard of a block that it needs, said no.
    ConditionFailed,
}

impl Unit {
    /// Ready for its first lease; later leases start above `floor`.
    #[must_use]
    pub fn ready(floor: i64) -> Self {
        Self { lease: floor, attempts: 0, deaths: 0, started_at: None, phase: Phase::Ready }
    }

    /// Who has it, begun or ahead.
    #[must_use]
    pub fn leased_to(&self) -> Option<ExecutorId> {
        match self.phase {
            Phase::Running { executor, .. } | Phase::Ahead { executor } => Some(executor),
            Phase::Ready | Phase::Delayed { .. } | Phase::Ended(_) => None,
        }
    }

    /// True once a try of it has begun and was not taken back.
    pub(crate) fn has_run(&self) -> bool {
        matches!(self.phase, Phase::Running { .. } | Phase::Delayed { .. }) || self.attempts > 0 || self.deaths > 0
    }

    /// Ended without ever running.
    #[must_use]
    pub fn ended(floor: i64, ending: Ending) -> Self {
        Self { phase: Phase::Ended(ending), ..Self::ready(floor) }
    }
}

/// A block run's status, as Mage names them (reference: Mage's `BlockRun.BlockRunStatus`); `queued` is never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are Mage's own")]
pub enum BlockStatus {
    Initial,
    Running,
    Completed,
    Failed,
    Cancelled,
    UpstreamFailed,
    ConditionFailed,
}

impl BlockStatus {
    /// As stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::UpstreamFailed => "upstream_failed",
            Self::ConditionFailed => "condition_failed",
        }
    }
}

impl FromStr for BlockStatus {
    type Err = UnknownStatus;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        [
            Self::Initial,
            Self::Running,
            Self::Completed,
            Self::Failed,
            Self::Cancelled,
            Self::UpstreamFailed,
            Self::ConditionFailed,
        ]
        .into_iter()
        .find(|status| status.as_str() == s)
        .ok_or_else(|| UnknownStatus(s.to_owned()))
    }
}

impl From<Ending> for BlockStatus {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Completed => Self::Completed,
            Ending::Failed => Self::Failed,
            Ending::Cancelled => Self::Cancelled,
            Ending::UpstreamFailed => Self::UpstreamFailed,
            Ending::ConditionFailed => Self::ConditionFailed,
        }
    }
}

/// A status that this version does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no status")]
pub struct UnknownStatus(pub String);

impl fmt::Display for BlockStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A unit as it is stored: the whole row after a change.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitRow {
    /// Which unit.
    pub key: UnitKey,
    /// Its status.
    pub status: BlockStatus,
    /// See [`Unit::lease`]. For a fan: no child was ever leased above this before the fan's latest expansion.
    pub lease: i64,
    /// See [`Unit::attempts`].
    pub attempts: u32,
    /// See [`Unit::deaths`].
    pub deaths: u32,
    /// Who runs it, or ran it last.
    pub executor: Option<ExecutorId>,
    /// When the next try may start.
    pub not_before: Option<Timestamp>,
    /// When the first try started.
    pub started_at: Option<Timestamp>,
    /// When the latest try started.
    pub attempt_started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// What the accepted attempt produced.
    pub output: Option<Output>,
    /// Why it failed, or why its latest try did.
    pub error: Option<Failure>,
    /// Fans: how many children.
    pub children: Option<u32>,
}

/// What an accepted attempt produced. The files lie in the attempt's directory; this is the pointer to it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// In order.
    #[serde(default)]
    pub outputs: Vec<OutputInfo>,
    /// Dynamic blocks: how many items the first output holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<u32>,
    /// Names for the children, where the block's metadata gives them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub item_names: Vec<String>,
    /// The address of the store that the project names for its outputs; empty for the cluster's own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub store: String,
}

/// Where an attempt's outputs lie below their store: `<run>/<block>/<child or _>/<lease>`.
///
/// A block's uuid is one name: everything but letters, digits, `_`, `-` and `.` becomes `%xx`, and so does a leading dot,
/// so that no name climbs.
#[must_use]
pub fn output_folder(run: RunId, block: &str, child: i32, lease: i64) -> String {
    let mut folder = format!("{run}/");
    for (at, byte) in block.bytes().enumerate() {
        if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' || (byte == b'.' && at > 0) {
            folder.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(folder, "%{byte:02x}");
        }
    }
    let child = if child < 0 { "_".to_owned() } else { child.to_string() };
    let _ = write!(folder, "/{child}/{lease}");
    folder
}

/// Whether the address of a store is `beginning` or lies below it: `s3://lake` allows `s3://lake/x` but not
/// `s3://lakes`; `s3://` allows every bucket.
#[must_use]
pub fn store_is_below(store: &str, beginning: &str) -> bool {
    let Some(rest) = store.strip_prefix(beginning) else { return false };
    !beginning.is_empty() && (rest.is_empty() || beginning.ends_with('/') || rest.starts_with('/'))
}

/// One stored value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputInfo {
    /// `output_0`, `output_1`, ...
    pub name: String,
    /// Mage's variable type.
    pub kind: String,
    /// -1 when it has no rows.
    pub rows: i64,
    /// On disk.
    pub size_bytes: i64,
}

/// Why a try failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// One of the codes of `orrery.v1.BlockError`.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// The user's frames.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub traceback: String,
}

impl Failure {
    /// A failure that the cluster itself found.
    #[must_use]
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), traceback: String::new() }
    }
}

/// How an attempt ended, as its executor (or its loss) tells it.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The block's function returned and its outputs are on disk.
    Completed(Output),
    /// It raised, crashed, timed out or could not start.
    Failed(Failure),
    /// A guard returned false.
    ConditionFailed,
    /// A sensor returned false.
    NotYet,
    /// It stopped because it was told to.
    Cancelled,
    /// It never started, or was given back by a draining executor: no try is counted.
    Released,
    /// What ran it is gone, and others with it: its executor, or its warm interpreter. No try of the user's code. Why, in words.
    Lost(Failure),
    /// The process is gone that held the outputs of a one-process run in memory; its executor lives. Why, in words.
    ProcessLost(Failure),
    /// The same, and it did not die: its executor had no room for it while it waited for the run's next attempt.
    ProcessLetGo(Failure),
}

impl Outcome {
    /// Of an attempt whose executor is gone.
    #[must_use]
    pub fn executor_lost() -> Self {
        Self::Lost(Failure::new(LOST, "the executor that ran it was lost"))
    }

    /// It says nothing of what the unit did, if it did anything.
    #[must_use]
    pub fn is_given_back(&self) -> bool {
        matches!(self, Self::Cancelled | Self::Released | Self::Lost(_))
    }
}

/// The code of an attempt whose executor is gone.
pub const LOST: &str = "LOST";

/// An attempt that did not become the block's result.
#[derive(Debug, Clone, PartialEq)]
pub struct LostAttempt {
    /// Which unit.
    pub key: UnitKey,
    /// Which try.
    pub lease: i64,
    /// Who ran it.
    pub executor: ExecutorId,
    /// failed, lost, released or cancelled.
    pub outcome: &'static str,
    /// When it started.
    pub started_at: Timestamp,
    /// Why.
    pub error: Option<Failure>,
}

impl LostAttempt {
    /// Its executor is gone, and told nobody how it ended.
    #[must_use]
    pub fn is_by_executor(&self) -> bool {
        self.outcome == "lost" && self.error.as_ref().is_some_and(|error| error.code == LOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leaves_its_folder() {
        let run = RunId::new_in(0);
        for (block, name) in
            [("load", "load"), ("a/b", "a%2fb"), ("..", "%2e."), ("cb:load", "cb%3aload"), ("ä", "%c3%a4")]
        {
            assert_eq!(output_folder(run, block, -1, 3), format!("{run}/{name}/_/3"));
        }
        assert_eq!(output_folder(run, "load", 7, 3), format!("{run}/load/7/3"));
    }

    #[test]
    fn a_store_is_below_whole_names() {
        for (store, beginning, below) in [
            ("s3://lake/x", "s3://lake", true),
            ("s3://lake/x", "s3://lake/", true),
            ("s3://lake", "s3://lake", true),
            ("s3://lakes/x", "s3://lake", false),
            ("s3://lake/xy", "s3://lake/x", false),
            ("gs://lake", "s3://", false),
            ("s3://any/x", "s3://", true),
            ("s3://any/x", "", false),
        ] {
            assert_eq!(store_is_below(store, beginning), below, "{store} {beginning}");
        }
    }
}
