//! What a cluster did, told by three places that do not know of each other, and the judgement on it.
//!
//! A history is a folder of files of JSON lines. Instants are microseconds since 1970; `mono_us` counts from the start of
//! the machine and orders what happened on it whatever its clock said.
//!
//! | file | told by | written by |
//! |---|---|---|
//! | `database.jsonl` | PostgreSQL: firings, runs, block runs, lost attempts, backfills, triggers and pipelines in all their versions, each change of a shard's owner, and who had devices in the end | [`Witness::dump`], at the end |
//! | `executor-<name>.jsonl` | an executor's own journal: what it was given, which processes it really ran, on which devices, and when they were gone, what a scheduler accepted | the executor, with `history_file` |
//! | `client-<name>.jsonl` | whoever uses the cluster: what was asked and what was acknowledged | [`ClientLog`] |
//! | `harness.jsonl` | whoever breaks the cluster: faults, repairs, and counters of the services | [`HarnessLog`] |
//! | `promises.json` | what has to hold, beside what always has to | [`Promises::write`] |
//!
//! [`check`] decides C1 to C9; the binary `check-history` does the same with a folder. It works out nominal times with a
//! calendar of its own. Refuses to know how the cluster decides anything: no rule of `domain` is used here.

mod calendar;
mod check;
mod journal;
mod lines;
mod logs;
mod promises;
mod read;
mod witness;

pub use check::{Check, Report, Standing, VIOLATIONS_MAX, Verdict, Violation, check};
pub use journal::{DeviceShare, Gang, JournalEvent, JournalLine};
pub use lines::{
    AttemptName, Backfill, Call, CallAnswer, ClientEvent, ClientLine, DatabaseLine, Executor, Firing, Graph,
    HarnessEvent, HarnessLine, LostAttempt, Overlap, Pipeline, Placement, Request, Run, Shard, Taking, TriggerKind,
    TriggerSpec, TriggerState, TriggerVersion, Unit, UnitWrite, WaitingStart,
};
pub use logs::{Asked, ClientLog, HarnessLog};
pub use promises::Promises;
pub use witness::{Detail, Witness};

/// All that was told of one cluster.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Pipelines, for requests that name them.
    pub pipelines: Vec<Pipeline>,
    /// Every version of every pipeline.
    pub graphs: Vec<Graph>,
    /// Every version of every trigger, in the order in which they came.
    pub triggers: Vec<TriggerVersion>,
    /// What triggers have not decided yet.
    pub trigger_states: Vec<TriggerState>,
    /// Every backfill.
    pub backfills: Vec<Backfill>,
    /// Every decision about a logical time.
    pub firings: Vec<Firing>,
    /// Every run.
    pub runs: Vec<Run>,
    /// Every unit as it stood in the end.
    pub units: Vec<Unit>,
    /// Every change of a unit, where the witness was asked to note them.
    pub unit_writes: Vec<UnitWrite>,
    /// Tries that ended without counting.
    pub lost: Vec<LostAttempt>,
    /// Shards as they stood in the end.
    pub shards: Vec<Shard>,
    /// Every change of a shard's owner or epoch.
    pub takings: Vec<Taking>,
    /// Executors that the cluster knew.
    pub executors: Vec<Executor>,
    /// Who had devices in the end.
    pub placements: Vec<Placement>,
    /// The executors' journals, by file.
    pub journals: Vec<(String, Vec<JournalLine>)>,
    /// What clients asked, and what they were answered.
    pub calls: Vec<Call>,
    /// What was done to the cluster.
    pub harness: Vec<HarnessLine>,
    /// What has to hold.
    pub promises: Promises,
    /// When the database told its part, by its clock.
    pub taken_at_us: i64,
    /// Lines that a crash or a full disk left unreadable.
    pub unreadable: u64,
}
