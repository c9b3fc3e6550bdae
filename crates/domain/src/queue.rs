//! Queues: whose request for devices is served before whose, and what a queue may use.
//!
//! Refuses to know projects' quotas, and which plan binds a queue.

use crate::id::QueueId;
use serde::{Deserialize, Serialize};

/// What an administrator sets about a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// Which.
    pub id: QueueId,
    /// As people call it.
    pub name: String,
    /// Greater is served first.
    pub priority: i32,
    /// Its holders may be stopped for the sake of others.
    pub preemptible: bool,
    /// Milli-GPU that it gets when it wants them; more is borrowed and can be claimed back.
    pub deserved_milli: u64,
    /// Milli-GPU that it never exceeds; `None` is no limit.
    pub limit_milli: Option<u64>,
    /// How much of what is left over it gets, against others of the same priority; at least 1.
    pub weight: u32,
    /// Milli-GPU seconds that it had lately, decayed by whoever measures them. Breaks ties only.
    pub recent_use: u64,
}
