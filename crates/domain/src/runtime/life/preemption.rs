//! That a life has to make room for others: told before it is stopped, and taken back where they need its place no more.
//!
//! Refuses to know who the others are, and who decides.

use super::{Change, Life, Rules, Stage};
use crate::runtime::reason::Reason;
use jiff::Timestamp;

/// That others come first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preemption {
    /// When it is stopped.
    pub at: Timestamp,
    /// For whom, in words; empty where a new owner of the life has not found that out yet.
    pub message: String,
}

impl Life {
    /// Others come first. The time that was told first holds.
    pub(super) fn preempted(&mut self, preemption: Preemption, now: Timestamp, rules: &Rules, change: &mut Change) {
        if !self.is_up() {
            return;
        }
        if let Some(told) = &mut self.preemption {
            told.message = preemption.message;
            return;
        }
        let message = format!("{}; it will be stopped at {:.0}", preemption.message, preemption.at);
        self.preemption = Some(preemption);
        // That is the first of the warnings.
        if let Some(ending) = self.shown_ending(now, rules).filter(|ending| ending.because == Reason::Preempted) {
            self.warned = Self::warnings_due(&ending, now);
            self.ending = Some(ending);
        }
        self.tell(Reason::Preempted.as_str(), message, None, change);
    }

    /// Nobody needs its place any more.
    pub(super) fn reprieved(&mut self, change: &mut Change) {
        if !self.is_up() || self.preemption.take().is_none() {
            return;
        }
        self.ending = self.ending.take().filter(|ending| ending.because != Reason::Preempted);
        let message = "nobody needs its place any more, and it goes on".to_owned();
        self.tell("PREEMPTION_WITHDRAWN", message, None, change);
    }

    /// Why it is stopped by the clock, in words.
    pub(super) fn parting_word(&self, because: &Reason) -> String {
        match (because, &self.preemption) {
            (Reason::Preempted, Some(preemption)) if !preemption.message.is_empty() => preemption.message.clone(),
            (Reason::Preempted, _) => "others come first".to_owned(),
            _ => String::new(),
        }
    }

    fn is_up(&self) -> bool {
        matches!(self.stage, Stage::Starting(_) | Stage::Running)
    }
}
