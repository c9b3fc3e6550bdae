//! The lines of a history. Refuses to judge them.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::collections::BTreeMap;
use uuid::Uuid;

/// A line of `database.jsonl`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "row", rename_all = "snake_case")]
#[expect(missing_docs, reason = "each holds the row that it is named after")]
pub enum DatabaseLine {
    Pipeline(Pipeline),
    Graph(Graph),
    Trigger(TriggerVersion),
    TriggerState(TriggerState),
    Backfill(Backfill),
    Firing(Firing),
    Run(Run),
    Unit(Unit),
    UnitWrite(UnitWrite),
    Lost(LostAttempt),
    Shard(Shard),
    Taking(Taking),
    Executor(Executor),
    Placement(Placement),
    /// When all of this was read.
    Taken {
        at_us: i64,
    },
}

/// A pipeline's name in its workspace.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the columns of pipeline")]
pub struct Pipeline {
    pub id: Uuid,
    pub workspace: String,
    pub name: String,
}

/// What waits for what in one version of a pipeline.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Graph {
    /// The pipeline.
    pub pipeline_id: Uuid,
    /// Which version of it.
    pub version: i64,
    /// Of each block, those that it waits for.
    pub blocks: BTreeMap<String, Vec<String>>,
}

/// A backfill as it stood in the end.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the columns of backfill")]
pub struct Backfill {
    pub id: Uuid,
    pub pipeline_id: Uuid,
    pub name: String,
    pub status: String,
    pub total: i64,
    pub start_at_us: i64,
    pub end_at_us: i64,
    /// `second` to `year`, or `cron`.
    pub unit: String,
    /// Units of one interval.
    pub every: i64,
    pub cron: Option<String>,
    pub time_zone: String,
}

/// A trigger from one edit to the next.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the columns of trigger")]
pub struct TriggerVersion {
    pub id: Uuid,
    pub pipeline_id: Uuid,
    pub kind: String,
    pub version: i64,
    pub active: bool,
    pub spec: TriggerSpec,
    pub enabled_at_us: i64,
    #[serde(default)]
    pub archived: bool,
    /// When this version came to be.
    pub at_us: i64,
}

/// Of what is configured of a trigger, what a history can be held against.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the keys of trigger.spec")]
pub struct TriggerSpec {
    pub kind: Option<TriggerKind>,
    pub overlap: Overlap,
    pub jitter_s: u32,
    pub pause_on_failure: bool,
    pub landing_time: bool,
    /// Whatever it says: what has hours is judged by nobody who would need to know them.
    pub window: Option<serde_json::Value>,
}

/// What a trigger waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the keys of trigger.spec.kind")]
pub enum TriggerKind {
    Manual,
    Api,
    Event {},
    Schedule {
        every: String,
        #[serde(default)]
        zone: Option<String>,
        #[serde(default)]
        start: Option<Timestamp>,
        #[serde(default)]
        end: Option<Timestamp>,
    },
}

/// What a start does while others run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the values of trigger.spec.overlap")]
pub enum Overlap {
    #[default]
    AllowAll,
    Skip,
    BufferOne,
    BufferAll,
    CancelOther,
    TerminateOther,
}

/// What a trigger has not decided yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the columns of trigger_state")]
pub struct TriggerState {
    pub trigger_id: Uuid,
    pub version: i64,
    #[serde(default)]
    pub waiting: Vec<WaitingStart>,
    #[serde(default)]
    pub halted: Option<i64>,
    #[serde(default)]
    pub once: bool,
    pub next_due_us: Option<i64>,
}

/// A start that waits for others to end.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the keys of trigger_state.state.waiting")]
pub struct WaitingStart {
    pub key: String,
}

/// One decision about one logical time, or about several in a row that never start.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the columns of firing")]
pub struct Firing {
    /// The trigger, or the backfill.
    pub trigger_id: Uuid,
    pub logical_key: String,
    /// `fired` or `skipped`.
    pub decided: String,
    pub reason: Option<String>,
    pub run_id: Option<Uuid>,
    pub shard_epoch: i64,
    /// When its transaction began.
    pub created_at_us: i64,
    /// When that was committed, where the server kept it.
    #[serde(default)]
    pub committed_at_us: Option<i64>,
    pub trigger_version: Option<i64>,
    pub execution_date_us: Option<i64>,
    pub last_date_us: Option<i64>,
    pub times: i64,
}

/// A run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the columns of run")]
pub struct Run {
    pub id: Uuid,
    pub pipeline_id: Uuid,
    #[serde(default)]
    pub pipeline_version: i64,
    pub trigger_id: Uuid,
    pub shard: i16,
    pub status: String,
    pub execution_date_us: i64,
    pub created_at_us: i64,
    pub started_at_us: Option<i64>,
    pub completed_at_us: Option<i64>,
}

/// A unit as it stood in the end.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the columns of block_run")]
pub struct Unit {
    pub run_id: Uuid,
    pub block: String,
    pub child: i32,
    pub status: String,
    pub lease: i64,
    pub executor_id: Option<Uuid>,
    pub attempt_started_at_us: Option<i64>,
    pub completed_at_us: Option<i64>,
}

/// One write of a unit, in the order of all that the witness saw.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the columns of block_run")]
pub struct UnitWrite {
    /// Common to all that the witness saw; writes of one unit, and of one shard's owner, have it in their true order.
    pub seq: i64,
    pub run_id: Uuid,
    pub block: String,
    pub child: i32,
    pub status: String,
    pub lease: i64,
    pub executor_id: Option<Uuid>,
    pub at_us: i64,
}

/// A try that ended without counting.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the columns of attempt")]
pub struct LostAttempt {
    pub run_id: Uuid,
    pub block: String,
    pub child: i32,
    pub lease: i64,
    pub outcome: String,
    pub ended_at_us: i64,
}

/// A shard as it stood in the end.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the columns of shard")]
pub struct Shard {
    pub id: i16,
    pub epoch: i64,
    pub owner: Option<Uuid>,
}

/// A change of a shard's owner or epoch.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the columns of shard")]
pub struct Taking {
    /// As in [`UnitWrite`].
    pub seq: i64,
    pub shard: i16,
    pub epoch: i64,
    pub owner: Option<Uuid>,
    pub at_us: i64,
}

/// An executor that the cluster knew.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the columns of executor")]
pub struct Executor {
    pub id: Uuid,
    pub name: String,
    pub state: String,
}

/// Who had devices in the end, as the cluster knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the columns of placement")]
pub struct Placement {
    pub holder: Uuid,
    /// `held`, `releasing`; one that is `nominated` has nothing yet.
    pub state: String,
}

/// Names an attempt: `<run>/<block>/<child>/<lease>`; a block may itself hold slashes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "as everywhere")]
pub struct AttemptName {
    pub run: Uuid,
    pub block: String,
    pub child: i32,
    pub lease: i64,
}

impl std::fmt::Display for AttemptName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}/{}", self.run, self.block, self.child, self.lease)
    }
}

impl std::str::FromStr for AttemptName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} names no attempt");
        let (run, rest) = text.split_once('/').ok_or_else(wrong)?;
        let (rest, lease) = rest.rsplit_once('/').ok_or_else(wrong)?;
        let (block, child) = rest.rsplit_once('/').ok_or_else(wrong)?;
        Ok(Self {
            run: run.parse().map_err(|_| wrong())?,
            block: block.to_owned(),
            child: child.parse().map_err(|_| wrong())?,
            lease: lease.parse().map_err(|_| wrong())?,
        })
    }
}

impl Serialize for AttemptName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AttemptName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A line of a client's log.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "see the module of histories")]
pub struct ClientLine {
    /// The same for a question and its answer.
    pub call: u64,
    pub at_us: i64,
    #[serde(flatten)]
    pub event: ClientEvent,
}

/// A question, or the answer to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ClientEvent {
    /// About to be sent.
    Asked {
        /// What.
        request: Request,
    },
    /// The cluster said that it counts.
    Acknowledged {
        /// The run that it named, if it named one.
        #[serde(default)]
        run_id: Option<Uuid>,
        /// The version of the trigger that it named, if it named one.
        #[serde(default)]
        version: Option<i64>,
        /// Why no run was named: `waiting`, or the reason of a skip.
        #[serde(default)]
        instead: Option<String>,
        /// For events: the trigger and the run of each start.
        #[serde(default)]
        started: Vec<(Uuid, Option<Uuid>)>,
    },
    /// Refused, or nobody knows: an answer that did not come may have been preceded by the act.
    Failed {
        /// In words.
        error: String,
    },
}

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the fields of the requests")]
pub enum Request {
    /// A run of a pipeline, with an idempotency key; empty for none.
    CreateRun { workspace: String, pipeline: String, key: String },
    /// A start of an API trigger, with an idempotency key; empty for none.
    CallTrigger { trigger_id: Uuid, key: String },
    /// An event, with an idempotency key; empty for none.
    PublishEvent {
        key: String,
        /// The triggers that the sender knows to match.
        #[serde(default)]
        matches: Vec<Uuid>,
    },
    /// A backfill, by its name, which no other one of the pipeline has.
    CreateBackfill { workspace: String, pipeline: String, name: String },
    /// An edit, a start or a pause of a trigger.
    ChangeTrigger { trigger_id: Uuid },
    /// The same run once more, from a block or from its start.
    RetryRun { run_id: Uuid },
    /// The end of a run.
    CancelRun { run_id: Uuid },
}

/// A question with its answer.
#[derive(Debug, Clone)]
pub struct Call {
    /// Who asked: the file.
    pub client: String,
    /// What.
    pub request: Request,
    /// When it was about to be sent.
    pub asked_at_us: i64,
    /// What came back; nothing when the client or the connection ended before.
    pub answer: Option<CallAnswer>,
}

/// An answer and its time.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "as its line")]
pub struct CallAnswer {
    pub at_us: i64,
    pub event: ClientEvent,
}

/// A line of `harness.jsonl`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "see the module of histories")]
pub struct HarnessLine {
    pub at_us: i64,
    #[serde(flatten)]
    pub event: HarnessEvent,
}

/// What was done to a cluster, and what its services counted.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum HarnessEvent {
    /// Something was broken.
    Fault {
        /// `kill`, `freeze`, `flush`, `partition` …
        fault: String,
        /// The service, or what else.
        target: String,
    },
    /// It was mended.
    Healed {
        /// As above.
        fault: String,
        /// As above.
        target: String,
    },
    /// What a service had counted when it was looked at; counters of one service may start again with a new life.
    Counted {
        /// The service.
        service: String,
        /// Of its metrics, such as `fenced_writes_total`.
        metric: String,
        /// The value.
        value: u64,
    },
}
