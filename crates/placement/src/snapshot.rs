//! What the planner is told: the fleet, who holds what, who waits, and what they may have.
//!
//! Refuses to know where it comes from. Lists may be in any order; the plan does not depend on it.

use crate::plan::Place;
use domain::{
    device::{Ask, Device, DeviceModel, Grant},
    id::{GangId, GroupId, HolderId, NodeId, ProjectId, QueueId, UserId},
    queue::Queue,
    quota::{Account, Quota, Usage},
    runtime::gang::Gang,
    window::Access,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Devices of one node that a bit mask can tell apart; further ones are left out, with a word in [`crate::Plan::problems`].
pub const NODE_DEVICES_MAX: usize = 64;

/// Everything that a plan depends on, besides the [`crate::Policy`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The database's clock.
    pub now: Timestamp,
    /// The fleet.
    pub nodes: Vec<Node>,
    /// Who holds what, strangers included.
    pub holdings: Vec<Holding>,
    /// Capacity that is kept for requests whose victims are still leaving.
    pub nominations: Vec<Nomination>,
    /// Who waits.
    pub requests: Vec<Request>,
    /// Queues that requests and holders name.
    pub queues: Vec<Queue>,
    /// Projects that requests and holders name.
    pub projects: Vec<Project>,
    /// Of groups and persons that projects, requests and holders name; who is not here has no limits.
    #[serde(default)]
    pub quotas: Vec<Shared>,
    /// What was asked for lately, so that a short queue does not hide what will come next.
    pub recent: Vec<Demand>,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Which.
    pub id: NodeId,
    /// Rack, row or zone; gangs may want to stay within one.
    pub zone: String,
    /// Processor for holders, thousandths of a core.
    pub cpu_milli: u64,
    /// Memory for holders, bytes.
    pub memory_bytes: u64,
    /// New holders may come.
    pub schedulable: bool,
    /// Its devices.
    pub devices: Vec<Device>,
}

/// What one holder has on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// Who.
    pub holder: HolderId,
    /// Whose it is; `None` is a stranger's, which counts for no queue and is never stopped.
    pub owner: Option<Owner>,
    /// Where.
    pub node: NodeId,
    /// Of its devices.
    pub grants: Vec<Grant>,
    /// Of its processor, thousandths of a core.
    pub cpu_milli: u64,
    /// Of its memory, bytes.
    pub memory_bytes: u64,
    /// It was told to leave, and its devices are not free yet.
    pub releasing: bool,
    /// Since when.
    pub started_at: Timestamp,
    /// When it ends at the latest, where that is known.
    pub ends_at: Option<Timestamp>,
}

impl Holding {
    /// What a request holds from `at` on that got this place. It may be stopped, and nothing is known of its end.
    #[must_use]
    pub fn of(request: &Request, place: &Place, at: Timestamp) -> Self {
        Self {
            holder: request.holder,
            owner: Some(Owner {
                project: request.project,
                person: request.person,
                queue: request.queue,
                priority: request.priority,
                effective_milli: request.ask.effective_milli(),
                storage_bytes: request.storage_bytes,
                protected_until: None,
                gang: request.gang.as_ref().map(|gang| gang.id),
            }),
            node: place.node,
            grants: place.grants.clone(),
            cpu_milli: place.cpu_milli,
            memory_bytes: place.memory_bytes,
            releasing: false,
            started_at: at,
            ends_at: None,
        }
    }
}

/// Whose a holding is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its quota is used, and that of the group which owns it.
    pub project: ProjectId,
    /// Whose own quota is used, where that is known.
    #[serde(default)]
    pub person: Option<UserId>,
    /// Its share is used.
    pub queue: QueueId,
    /// Within the queue.
    pub priority: i32,
    /// Effective GPU as it was asked for, milli-GPU: what counts for quota, limit and fairness.
    pub effective_milli: u64,
    /// Disk beside volumes, bytes; only quotas count it.
    pub storage_bytes: u64,
    /// It must not be stopped before: least running time, or a snooze.
    pub protected_until: Option<Timestamp>,
    /// It ends with all others of its gang.
    pub gang: Option<GangId>,
}

/// Capacity that a preemption made, or is making, for one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nomination {
    /// For whom.
    pub holder: HolderId,
    /// Where.
    pub node: NodeId,
    /// What it will get.
    pub grants: Vec<Grant>,
    /// Processor, thousandths of a core.
    pub cpu_milli: u64,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Who makes room; members of a gang name the same ones. What they still hold is not kept twice.
    pub victims: Vec<HolderId>,
    /// Some of them were only told so far, and stay where another place is free for it before they are stopped.
    #[serde(default)]
    pub revocable: bool,
}

/// Somebody who waits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Who.
    pub holder: HolderId,
    /// Whose quota, and that of the group which owns it.
    pub project: ProjectId,
    /// Who starts it, where that is known.
    #[serde(default)]
    pub person: Option<UserId>,
    /// In which queue.
    pub queue: QueueId,
    /// Within the queue; greater is served first.
    pub priority: i32,
    /// Since when; a requeued victim keeps its first time.
    pub submitted_at: Timestamp,
    /// What.
    pub ask: Ask,
    /// Disk beside volumes, bytes; only quotas count it.
    #[serde(default)]
    pub storage_bytes: u64,
    /// Only on one of these, for the sake of a volume that lies there.
    pub nodes: Option<BTreeSet<NodeId>>,
    /// Together with whom.
    pub gang: Option<Gang>,
    /// How long it wants to run, seconds, where that is known.
    pub runtime_s: Option<u64>,
    /// When its plan lets it run.
    pub access: Access,
    /// Models that its plan lets it have; none is any.
    pub permitted: Vec<DeviceModel>,
    /// Only devices of this class; `None` is any.
    #[serde(default)]
    pub class: Option<String>,
    /// Queues to which it could be switched, and in which no window binds it. For hints.
    pub alternatives: Vec<QueueId>,
}

/// Whose quota is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// Which.
    pub id: ProjectId,
    /// The group that owns it.
    #[serde(default)]
    pub group: Option<GroupId>,
    /// What it may hold at once.
    pub quota: Quota,
    /// How many of its holders may still be stopped for others at present; `None` is any number.
    pub disruptions_left: Option<u32>,
    /// As that of a queue.
    #[serde(default)]
    pub recent_use: u64,
}

/// A quota over several projects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// Whose.
    pub account: Account,
    /// What may be held at once.
    pub quota: Quota,
    /// What is held of it and is not in the snapshot.
    pub elsewhere: Usage,
}

/// How often the same thing was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// What.
    pub ask: Ask,
    /// How often.
    pub count: u64,
}
