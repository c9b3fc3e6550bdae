//! How late the oldest trigger is, also while nothing can be decided about it: the number is for whoever watches, and a
//! database that is away is when it is looked at. Refuses to decide.

use super::Engine;
use jiff::{SignedDuration, Timestamp};

/// Triggers that were due, or would have become so, and could not be decided about.
#[derive(Debug, Clone, Copy)]
pub(super) struct PutOff {
    /// When the first of them was due, as far as that is known.
    since: Timestamp,
    /// When they are looked at again.
    again_at: Timestamp,
}

/// The whole seconds for which something is due that was due at `oldest`.
fn lag(oldest: Option<Timestamp>, now: Timestamp) -> i64 {
    oldest.map_or(0, |oldest| oldest.duration_until(now).max(SignedDuration::ZERO).as_secs())
}

impl Engine {
    /// What was due at `since` is looked at again at `again_at`.
    pub(super) fn put_off(&mut self, since: Timestamp, again_at: Timestamp) {
        let since = self.late.map_or(since, |late| late.since.min(since));
        self.late = Some(PutOff { since, again_at });
    }

    /// Everything that is armed waits until it is loaded again.
    pub(super) fn put_off_all(&mut self) {
        if let Some(next) = self.triggers.next() {
            self.put_off(next, self.now());
        }
    }

    /// Tells how late the oldest is: what is armed for `oldest`, or what was put off.
    pub(super) fn tell_lag(&self, oldest: Option<Timestamp>) {
        let oldest = oldest.into_iter().chain(self.late.map(|late| late.since)).min();
        self.metrics.due_lag.set(lag(oldest, self.now()));
    }

    /// What was put off has come again, and was not put off anew.
    pub(super) fn settle_late(&mut self, now: Timestamp) {
        self.late = self.late.filter(|late| late.again_at > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_due_yet_is_not_late() {
        let now = Timestamp::from_second(1_000).unwrap();
        let at = |second| Some(Timestamp::from_second(second).unwrap());
        for (oldest, expected) in [(None, 0), (at(1_000), 0), (at(1_060), 0), (at(940), 60)] {
            assert_eq!(lag(oldest, now), expected, "{oldest:?}");
        }
    }
}
