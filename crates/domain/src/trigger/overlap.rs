//! What becomes of starts while runs of the same trigger have not ended. Temporal's semantics, policy by policy.
//!
//! Refuses to know where the starts came from.

use super::Start;
use serde::{Deserialize, Serialize};

/// The most starts that wait behind one trigger; what is too much is skipped.
pub const BUFFER_MAX: usize = 1_000;
/// The most bytes that they wait with, see [`Start::bytes`]; a start that would make them more is skipped, unless it waits alone.
pub const BUFFER_BYTES_MAX: usize = 1024 * 1024;

/// What a start does while others run. Held against the starts when they are looked at and not when they came, so that
/// a changed policy holds for those that wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// It starts beside them. Mage's default.
    #[default]
    AllowAll,
    /// It is skipped. Mage's `skip_if_previous_running`.
    Skip,
    /// The first one waits, others are skipped while it does.
    BufferOne,
    /// All wait and start one after the other.
    BufferAll,
    /// It asks the others to stop, and starts when they have: the latest of those that wait, and none before it.
    CancelOther,
    /// It has the others killed, and starts when they are gone; likewise.
    TerminateOther,
}

/// What happens to the runs that have not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// They are asked to, and have their time of grace.
    Cancel,
    /// They are killed.
    Terminate,
}

/// The outcome for a row of starts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sorted {
    /// Start now, in this order.
    pub start: Vec<Start>,
    /// Wait, in this order.
    pub wait: Vec<Start>,
    /// Never start: something ran, or too many waited.
    pub skip: Vec<Start>,
    /// What the runs that have not ended are told.
    pub stop: Option<Stop>,
}

impl Sorted {
    /// Skips what is too much to wait. The first ones keep their places, or the latest, where it is them that will start.
    fn bound(&mut self, keeps_latest: bool) {
        let mut starts = std::mem::take(&mut self.wait);
        if keeps_latest {
            starts.reverse();
        }
        let (mut bytes, mut over) = (0_usize, Vec::new());
        for start in starts {
            let with_it = bytes.saturating_add(start.bytes);
            if self.wait.len() < BUFFER_MAX && (with_it <= BUFFER_BYTES_MAX || self.wait.is_empty()) {
                bytes = with_it;
                self.wait.push(start);
            } else {
                over.push(start);
            }
        }
        if keeps_latest {
            self.wait.reverse();
            over.reverse();
        }
        self.skip.append(&mut over);
    }
}

impl Overlap {
    /// Sorts starts, those that waited first, for a trigger of which something `runs` or not.
    #[must_use]
    pub fn sort(self, starts: Vec<Start>, runs: bool) -> Sorted {
        let mut sorted = match self {
            Self::AllowAll => Sorted { start: starts, ..Sorted::default() },
            // One at a time: without anything running the first one starts, whatever the policy.
            _ => self.one_at_a_time(starts, runs),
        };
        sorted.bound(self.starts_the_latest());
        sorted
    }

    /// Whether of those that wait only the latest will start.
    const fn starts_the_latest(self) -> bool {
        matches!(self, Self::CancelOther | Self::TerminateOther)
    }

    fn one_at_a_time(self, starts: Vec<Start>, runs: bool) -> Sorted {
        let mut sorted = Sorted::default();
        for start in starts {
            if !runs && sorted.start.is_empty() {
                sorted.start.push(start);
                continue;
            }
            match self {
                Self::AllowAll => sorted.start.push(start),
                Self::Skip => sorted.skip.push(start),
                Self::BufferOne if sorted.wait.is_empty() => sorted.wait.push(start),
                Self::BufferOne => sorted.skip.push(start),
                Self::BufferAll => sorted.wait.push(start),
                Self::CancelOther | Self::TerminateOther if runs => {
                    let stop = if self == Self::CancelOther { Stop::Cancel } else { Stop::Terminate };
                    sorted.stop = Some(stop);
                    sorted.wait.push(start);
                }
                // What it would stop has not even begun: it takes its place.
                Self::CancelOther | Self::TerminateOther => {
                    sorted.skip.append(&mut sorted.start);
                    sorted.start.push(start);
                }
            }
        }
        sorted
    }
}
