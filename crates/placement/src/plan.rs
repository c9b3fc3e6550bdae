//! What the planner answers: who gets what, who has to leave for whom, and why somebody waits.

use domain::{
    device::{DeviceModel, Grant},
    id::{DeviceId, HolderId, NodeId, QueueId},
};
use jiff::{Timestamp, Zoned};
use serde::{Deserialize, Serialize};

/// The answer to a [`crate::Snapshot`]. Each of its requests is in exactly one of the first three lists.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Who gets what now, in the order of the decisions.
    pub assignments: Vec<Assignment>,
    /// Who gets something as soon as others have left.
    pub preemptions: Vec<Preemption>,
    /// Who waits, in the order of the decisions.
    pub refusals: Vec<Refusal>,
    /// What is kept free for those who waited long.
    pub reservations: Vec<Reservation>,
    /// Who could move so that whole devices become free, where [`crate::Policy::moves_max`] asks for that. Nobody is told to.
    #[serde(default)]
    pub moves: Vec<Move>,
    /// What in the snapshot cannot be; the rest was planned without it.
    pub problems: Vec<String>,
}

/// A place on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Where.
    pub node: NodeId,
    /// Of its devices, all of one model.
    pub grants: Vec<Grant>,
    /// Of its processor, thousandths of a core.
    pub cpu_milli: u64,
    /// Of its memory, bytes.
    pub memory_bytes: u64,
}

/// Somebody gets a place now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Who.
    pub holder: HolderId,
    /// What.
    pub place: Place,
    /// It wants to run longer than its window is open: it will be stopped at this time.
    pub stopped_at: Option<Timestamp>,
}

/// Somebody gets a place when the victims have left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preemption {
    /// Who.
    pub holder: HolderId,
    /// What.
    pub place: Place,
    /// Who has to leave, in order of their ids; members of a gang name all who leave for any of them.
    pub victims: Vec<HolderId>,
}

/// A place that is kept for somebody who waited long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// For whom.
    pub holder: HolderId,
    /// What.
    pub place: Place,
    /// When it is free; `None` where a holder in the way has no known end.
    pub free_at: Option<Timestamp>,
}

/// Somebody who could be elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Who.
    pub holder: HolderId,
    /// Where it is.
    pub node: NodeId,
    /// Of which device it holds a part. When all have moved who hold one of it, it is free.
    pub device: DeviceId,
    /// Where there is room for it.
    pub to: Place,
}

/// Why somebody waits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// Who.
    pub holder: HolderId,
    /// The kind of reason.
    pub code: Code,
    /// A sentence for the person who asked.
    pub sentence: String,
    /// What would help; each of them is true at the end of this plan.
    pub hints: Vec<Hint>,
}

/// The kinds of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Code {
    /// The request contradicts itself or a fixed limit.
    AskInvalid,
    /// The queue is not in the snapshot.
    QueueUnknown,
    /// The project is not in the snapshot.
    ProjectUnknown,
    /// The plan's window is closed.
    WindowClosed,
    /// The plan's window closes too soon.
    WindowTooShort,
    /// The project, the group that owns it, or the person who starts it holds too much already.
    QuotaExceeded,
    /// It is more than one of these may ever hold.
    QuotaTooSmall,
    /// The queue is at its limit.
    QueueLimit,
    /// It is more than the queue may ever hold.
    QueueTooSmall,
    /// Its plan does not allow the models that it wants.
    ModelNotAllowed,
    /// No such model is in the fleet.
    ModelAbsent,
    /// The devices cannot be divided like that.
    ShareUnsupported,
    /// No node is large enough, even when empty.
    NeverFits,
    /// Every place is taken.
    NoCapacity,
    /// There is enough in all, but not in one place.
    Fragmented,
    /// What is free is kept for others who waited longer.
    ReservedForOthers,
    /// Its nominated place is still being left.
    WaitingForRelease,
    /// Other members of its gang have no place, or do not wait yet.
    GangIncomplete,
    /// The planner panicked about it.
    PlannerFailed,
}

/// What would help.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hint {
    /// It fits now with another share of each device.
    Share {
        /// The greatest smaller share that fits, in steps of one percent; 1000 where only whole devices are offered.
        gpu_milli: u32,
    },
    /// It fits now with fewer devices.
    FewerGpus {
        /// The greatest number that fits.
        gpus: u32,
    },
    /// It fits now on another model.
    OtherModel {
        /// Which.
        model: DeviceModel,
    },
    /// It fits now with less processor.
    LessCpu {
        /// The most that fits, thousandths of a core.
        cpu_milli: u64,
    },
    /// It fits now with less memory of the node.
    LessMemory {
        /// The most that fits, bytes.
        memory_bytes: u64,
    },
    /// It fits now in another queue, which its own window does not bind.
    OtherQueue {
        /// Which.
        queue: QueueId,
        /// Its name.
        name: String,
    },
    /// The window opens, which is closed now.
    WindowOpens {
        /// When, in the window's own zone.
        at: Zoned,
    },
    /// Its turn, when nobody cancels and everybody ends in time.
    Turn {
        /// 1 is the first of those who wait in the same queue.
        position: usize,
        /// When a place is free for it, where that is known.
        at: Option<Timestamp>,
        /// From when on others may be stopped for it, where that is so later and not now.
        #[serde(default)]
        preempts_at: Option<Timestamp>,
    },
}
