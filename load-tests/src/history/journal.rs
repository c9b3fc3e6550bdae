//! The lines of an executor's journal. Refuses to judge them.

use super::lines::AttemptName;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A line of an executor's journal.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "see the module of histories")]
pub struct JournalLine {
    pub at_us: i64,
    pub mono_us: i64,
    #[serde(flatten)]
    pub event: JournalEvent,
}

/// What an executor tells of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum JournalEvent {
    /// A life begins. What an earlier life of the same data folder left running is gone by now.
    Open { executor: Uuid, name: String, pid: u32, boot: String },
    /// It took an attempt on.
    Assigned { attempt: AttemptName },
    /// The attempt has a process.
    Start {
        attempt: AttemptName,
        pid: i64,
        /// What it may use of which devices, while it runs.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        devices: Vec<DeviceShare>,
        /// It runs only together with others.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gang: Option<Gang>,
    },
    /// The process is gone, with all that it had started.
    End { attempt: AttemptName, outcome: String },
    /// A result that is told until a scheduler answers.
    Result { attempt: AttemptName, outcome: String },
    /// It ended, and nobody wants its result.
    Dropped { attempt: AttemptName },
    /// A scheduler answered.
    Ack { attempt: AttemptName, accepted: bool },
    /// A life of a runtime may use these from here on, and goes on when its executor is killed. Said again by who finds it.
    Hold { holder: Uuid, devices: Vec<DeviceShare> },
    /// Nothing of that life is left.
    Free { holder: Uuid },
}

/// A part of a device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeviceShare {
    /// The device, by a name that no other one of the cluster has: with that of its node.
    pub device: String,
    /// Thousandths of it; 1000 is the whole device.
    pub milli: u32,
}

/// Attempts that start together or not at all.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Gang {
    /// The same for all of them.
    pub id: Uuid,
    /// How many there are.
    pub members: u32,
}
