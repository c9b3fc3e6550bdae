//! That a life is evicted again and again: by then it is likelier that it needs more than it asks for than that its nodes are
//! to blame. Refuses to know what a node was short of.

use super::{Life, Stage};
use crate::runtime::reason::Reason;
use jiff::{SignedDuration, Timestamp};

/// Lives in a row that are evicted; after the last one it waits no more.
const EVICTED_MAX: u32 = 5;
/// An eviction after so long begins a new row.
const SETTLED: SignedDuration = SignedDuration::from_hours(1);

/// What helps whoever was evicted and does not wait again.
const HINT: &str = "start it again; with `--requeue` it waits again by itself";
/// What helps whoever was evicted again and again.
const HINT_OFTEN: &str = "ask for what it fills, so that it gets a node that has it: `orrery workspaces set --storage 20GiB`, or \
                          `--memory`; then start it again";

impl Life {
    /// How it ends by its backend's word. Whoever waits again, and is evicted each time, is an error in the end.
    pub(super) fn ended_by(&self, code: String, message: String, now: Timestamp) -> (Reason, String) {
        let (reason, times) = (Reason::told(code), self.evictions(now));
        if reason != Reason::Evicted || !self.spec.requeue || times < EVICTED_MAX {
            return (reason, message);
        }
        let message = format!("it was evicted {times} times in a row and waits no more; the last time: {message}");
        (Reason::Error(Reason::Evicted.as_str().to_owned()), message)
    }

    /// Evictions in a row that the next life knows of.
    pub(super) fn evictions_known(&self, reason: &Reason, now: Timestamp) -> u32 {
        match reason {
            Reason::Evicted => self.evictions(now),
            // It did not come so far as to fill anything.
            Reason::Misplaced => self.earlier.evicted,
            _ => 0,
        }
    }

    /// How many there are in a row, with the one that ends it now.
    fn evictions(&self, now: Timestamp) -> u32 {
        let has_settled = self.running_at.is_some_and(|at| now.duration_since(at) >= SETTLED);
        if has_settled { 1 } else { self.earlier.evicted + 1 }
    }
}

/// What helps a life that was evicted, and that nothing follows; empty for others.
pub(super) fn hint(stage: &Stage) -> &'static str {
    match stage {
        Stage::Failed(Reason::Evicted) => HINT,
        Stage::Failed(Reason::Error(code)) if code == Reason::Evicted.as_str() => HINT_OFTEN,
        _ => "",
    }
}
