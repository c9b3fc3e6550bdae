//! Rows of the ledger, as values. Refuses to know when they are written.

use crate::Error;
use domain::{
    device::Grant,
    id::{DeviceId, HolderId, NodeId, PlanId, ProjectId, QueueId, UserId, WorkspaceId},
    runtime::{
        Spec,
        activity::Activity,
        gang::Gang,
        life::{Earlier, Ending, Entry, Life, Notice, Stage},
        reason::Reason,
    },
};
use jiff::Timestamp;
use serde::Deserialize as _;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_postgres::Row;
use uuid::Uuid;

/// A life, with what only its row and its orders need.
#[derive(Debug, Clone)]
pub struct StoredLife {
    /// The life.
    pub life: Life,
    /// The plan that lets it run.
    pub plan: Option<PlanId>,
    /// Where it is.
    pub node: Option<NodeId>,
    /// What opens its application, sealed.
    pub access_key: Arc<[u8]>,
    /// The workspace's name.
    pub workspace: Arc<str>,
    /// The project's name.
    pub project: Arc<str>,
}

/// A line of a timeline.
#[derive(Debug, Clone)]
pub struct Event {
    /// Whose.
    pub workspace: WorkspaceId,
    /// Of which life.
    pub number: i64,
    /// What it says.
    pub entry: Entry,
}

/// How a placement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlacementState {
    /// It is kept for a holder whose victims are leaving.
    Nominated,
    /// It is held.
    Held,
    /// Its holder was told to leave, and has not yet.
    Releasing,
}

/// How a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// It takes new holders.
    Ready,
    /// Its backend keeps new ones away.
    Unschedulable,
    /// Nothing is heard of it.
    Lost,
    /// It is no more; somebody holds something of it.
    Gone,
}

/// What a holder has, or is to get.
#[derive(Debug, Clone)]
pub struct Placement {
    /// Who.
    pub holder: HolderId,
    /// Where.
    pub node: NodeId,
    /// Whose quota, and that of the group which owns it.
    pub project: ProjectId,
    /// Whose own quota.
    pub person: Option<UserId>,
    /// Of a block, its workspace; a life knows its own.
    pub workspace: Option<WorkspaceId>,
    /// For which queue it counts.
    pub queue: QueueId,
    /// How it stands.
    pub state: PlacementState,
    /// Of the node's processor, thousandths of a core.
    pub cpu_milli: u64,
    /// Of the node's memory, bytes.
    pub memory_bytes: u64,
    /// As it was asked for, milli-GPU.
    pub effective_milli: u64,
    /// Disk beside volumes, bytes.
    pub storage_bytes: u64,
    /// The model of its devices; empty without any.
    pub model: String,
    /// Of a nomination: who has to leave.
    pub victims: Vec<HolderId>,
    /// Of devices.
    pub grants: Vec<Grant>,
}

impl PlacementState {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Nominated => "nominated",
            Self::Held => "held",
            Self::Releasing => "releasing",
        }
    }

    pub(super) fn read(text: &str) -> Self {
        match text {
            "nominated" => Self::Nominated,
            "releasing" => Self::Releasing,
            // The table's check leaves nothing else.
            _ => Self::Held,
        }
    }
}

impl NodeState {
    /// As its row has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Unschedulable => "unschedulable",
            Self::Lost => "lost",
            Self::Gone => "gone",
        }
    }

    pub(super) fn read(text: &str) -> Self {
        match text {
            "ready" => Self::Ready,
            "unschedulable" => Self::Unschedulable,
            "gone" => Self::Gone,
            _ => Self::Lost,
        }
    }
}

/// Counts come from values that are far below 2^63.
pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

impl Placement {
    pub(super) fn to_json(&self) -> Value {
        json!({
            "holder": self.holder, "node_id": self.node, "project_id": self.project, "queue_id": self.queue,
            "state": self.state.as_str(), "cpu_milli": self.cpu_milli, "memory_bytes": self.memory_bytes,
            "effective_milli": self.effective_milli, "storage_bytes": self.storage_bytes, "model": self.model, "victims": self.victims,
            "user_id": self.person,
            "workspace_id": self.workspace,
        })
    }

    pub(super) fn grants_to_json(&self) -> impl Iterator<Item = Value> {
        let state = if self.state == PlacementState::Nominated { "nominated" } else { "held" };
        self.grants.iter().map(move |grant| {
            json!({
                "device_id": grant.device, "holder": self.holder, "state": state, "milli": grant.milli,
                "memory_bytes": grant.memory_bytes, "slots": grant.slots.cast_signed(),
            })
        })
    }

    pub(super) fn read(row: &Row) -> Self {
        let victims: Vec<Uuid> = row.get("victims");
        Self {
            holder: HolderId(row.get("holder")),
            node: NodeId(row.get("node_id")),
            project: ProjectId(row.get("project_id")),
            person: row.get::<_, Option<Uuid>>("user_id").map(UserId),
            workspace: row.get::<_, Option<Uuid>>("workspace_id").map(WorkspaceId),
            queue: QueueId(row.get("queue_id")),
            state: PlacementState::read(row.get("state")),
            cpu_milli: unsigned(row.get("cpu_milli")),
            memory_bytes: unsigned(row.get("memory_bytes")),
            effective_milli: unsigned(row.get("effective_milli")),
            storage_bytes: unsigned(row.get("storage_bytes")),
            model: row.get("model"),
            victims: victims.into_iter().map(HolderId).collect(),
            grants: Vec::new(),
        }
    }
}

/// A grant and its holder.
pub(super) fn read_grant(row: &Row) -> (HolderId, Grant) {
    let grant = Grant {
        device: DeviceId(row.get("device_id")),
        milli: row.get::<_, i32>("milli").unsigned_abs(),
        memory_bytes: unsigned(row.get("memory_bytes")),
        slots: row.get::<_, i64>("slots").cast_unsigned(),
    };
    (HolderId(row.get("holder")), grant)
}

impl Event {
    pub(super) fn to_json(&self) -> Value {
        let Entry { state, step, reason, message, actor } = &self.entry;
        json!({
            "workspace_id": self.workspace, "number": self.number, "state": state, "step": step, "reason": reason,
            "message": message, "actor": actor,
        })
    }
}

impl StoredLife {
    /// Every column that changes during a life.
    pub(super) fn to_json(&self) -> Value {
        let life = &self.life;
        // An ended life shows why; one under way shows what its planner or backend says.
        let reason = life.stage.reason().map_or(life.notice.code.as_str(), Reason::as_str);
        json!({
            "workspace_id": life.workspace, "queue_id": life.queue, "plan_id": self.plan, "number": life.number,
            "state": life.stage.state(), "step": life.stage.step(), "reason": reason, "message": life.notice.message,
            "hint": life.notice.hint, "start_again": life.start_again, "fence": life.fence, "node_id": self.node,
            "endpoint": life.endpoint, "step_at": life.step_at, "placed_at": life.placed_at,
            "running_at": life.running_at, "stopped_at": life.stopped_at, "active_at": life.activity.latest(),
            "protected_until": life.protected_until, "ends_at": life.ending.as_ref().map(|ending| ending.at),
            "ends_because": life.ending.as_ref().map_or("", |ending| ending.because.as_str()),
            "position": life.notice.position, "expected_at": life.notice.expected_at,
        })
    }

    /// All columns.
    pub(super) fn to_whole_json(&self) -> Value {
        let life = &self.life;
        let mut row = self.to_json();
        let fixed = json!({
            "project_id": life.project, "holder": life.holder, "spec_version": life.spec_version, "spec": spec_row(life),
            "start_key": life.start_key, "requested_by": life.requested_by, "submitted_at": life.submitted_at,
            "access_key": hex(&self.access_key), "gang": life.gang.as_ref().map(|gang| gang_row(gang, life.number)),
        });
        if let (Value::Object(row), Value::Object(fixed)) = (&mut row, fixed) {
            row.extend(fixed);
        }
        row
    }

    pub(super) fn read(row: &Row) -> Result<Self, Error> {
        let workspace = WorkspaceId(row.get("workspace_id"));
        let corrupt = |source| Error::Corrupt { what: "runtime", id: format!("workspace {workspace}"), source };
        let (spec, earlier) = read_spec(row.get("spec")).map_err(corrupt)?;
        let (state, step, reason): (&str, &str, &str) = (row.get("state"), row.get("step"), row.get("reason"));
        let stage = Stage::read(state, step, reason).ok_or_else(|| {
            corrupt(serde::de::Error::custom(format!("`{state}` with step `{step}` is no state of this version")))
        })?;
        let mut life = Life::new(
            workspace,
            ProjectId(row.get("project_id")),
            QueueId(row.get("queue_id")),
            row.get("number"),
            HolderId(row.get("holder")),
            Arc::new(spec),
            row.get("spec_version"),
            row.get("submitted_at"),
        );
        life.earlier = earlier;
        life.start_key = row.get("start_key");
        life.requested_by = row.get::<_, Option<Uuid>>("requested_by").map(UserId);
        let code = if stage.reason().is_some() { String::new() } else { reason.to_owned() };
        let position = row.get::<_, Option<i32>>("position").and_then(|position| u32::try_from(position).ok());
        let expected_at = row.get("expected_at");
        life.notice = Notice { code, message: row.get("message"), hint: row.get("hint"), position, expected_at };
        life.gang = row.get::<_, Option<Value>>("gang").and_then(|stored| read_gang(&stored, life.number));
        life.stage = stage;
        life.step_at = row.get("step_at");
        life.placed_at = row.get("placed_at");
        life.running_at = row.get("running_at");
        life.stopped_at = row.get("stopped_at");
        life.protected_until = row.get("protected_until");
        life.fence = row.get("fence");
        life.start_again = row.get("start_again");
        life.endpoint = row.get("endpoint");
        let ends_at: Option<Timestamp> = row.get("ends_at");
        life.take_over(ends_at.map(|at| Ending { at, because: Reason::read(row.get("ends_because")) }));
        life.activity = Activity::known(row.get("active_at"));
        Ok(Self {
            life,
            plan: row.get::<_, Option<Uuid>>("plan_id").map(PlanId),
            node: row.get::<_, Option<Uuid>>("node_id").map(NodeId),
            access_key: row.get::<_, Option<&[u8]>>("access_key").unwrap_or_default().into(),
            workspace: row.get::<_, &str>("workspace").into(),
            project: row.get::<_, &str>("project").into(),
        })
    }
}

/// Of a spec that a life began with: what its owner has to know of the lives before it. Whoever reads only the spec passes over it.
const EARLIER: &str = "earlier";

/// Both are written once, when a life begins.
fn spec_row(life: &Life) -> Value {
    let mut row = json!(&*life.spec);
    if life.earlier != Earlier::default()
        && let Value::Object(fields) = &mut row
    {
        fields.insert(EARLIER.to_owned(), json!(life.earlier));
    }
    row
}

fn read_spec(stored: Value) -> Result<(Spec, Earlier), serde_json::Error> {
    let earlier = stored.get(EARLIER).and_then(|earlier| Earlier::deserialize(earlier).ok());
    Ok((serde_json::from_value(stored)?, earlier.unwrap_or_default()))
}

/// With the life's number: a version that knows no gangs leaves the one of an earlier life in the row.
fn gang_row(gang: &Gang, number: i64) -> Value {
    json!({ "id": gang.id, "size": gang.size, "one_zone": gang.one_zone, "number": number })
}

fn read_gang(stored: &Value, number: i64) -> Option<Gang> {
    let is_this_life = stored.get("number").and_then(Value::as_i64) == Some(number);
    is_this_life.then(|| serde_json::from_value(stored.clone()).ok()).flatten()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
