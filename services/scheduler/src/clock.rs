//! The database's clock, carried on by this machine's monotonic one between two readings.
//!
//! Due times and leases are written by several machines; one clock decides them all. A reading is as old as its way here may
//! have been long, and that may be seconds where the database is slow: it says no more than between which two instants the
//! database's clock is. What lies there already stays as it is.

use jiff::{SignedDuration, Timestamp};
use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

/// A replica whose own clock is further off than this says so.
pub const SKEW_MAX: Duration = Duration::from_secs(2);

/// A reading of the database's clock that goes on ticking.
#[derive(Debug, Clone)]
pub struct DbClock {
    reading: Arc<RwLock<(Timestamp, Instant)>>,
}

impl DbClock {
    /// Starts from a reading.
    #[must_use]
    pub fn new(reading: Timestamp) -> Self {
        Self { reading: Arc::new(RwLock::new((reading, Instant::now()))) }
    }

    /// Takes a newer reading, which was asked for at `asked` and has just arrived: the clock is moved as little as makes it
    /// possible. Answers how far this machine's own clock is off, at least.
    pub fn set(&self, reading: Timestamp, asked: Instant) -> Duration {
        let (arrived, own) = (Instant::now(), Timestamp::now());
        let way = arrived.saturating_duration_since(asked);
        let mut current = self.reading.write().unwrap_or_else(PoisonError::into_inner);
        *current = (nearest(ticked(*current, arrived), reading, way), arrived);
        off(own, reading, way)
    }

    /// The database's time, as far as it is known.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let current = *self.reading.read().unwrap_or_else(PoisonError::into_inner);
        ticked(current, Instant::now())
    }
}

/// What a clock shows at `now` that showed `reading` at `at`.
fn ticked((reading, at): (Timestamp, Instant), now: Instant) -> Timestamp {
    after(reading, now.saturating_duration_since(at))
}

fn after(instant: Timestamp, duration: Duration) -> Timestamp {
    let duration = SignedDuration::try_from(duration).unwrap_or(SignedDuration::ZERO);
    instant.checked_add(duration).unwrap_or(instant)
}

/// Of the instants that the database's clock may show when a reading has come all its way, the nearest to this one: it was
/// read no later than now, and not before it was asked for.
fn nearest(instant: Timestamp, reading: Timestamp, way: Duration) -> Timestamp {
    instant.clamp(reading, after(reading, way))
}

/// How far a clock that shows `own` is off, whenever on its way the reading was taken.
fn off(own: Timestamp, reading: Timestamp, way: Duration) -> Duration {
    nearest(own, reading, way).duration_until(own).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: SignedDuration = SignedDuration::from_secs(3_600);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_clock_is_moved_to_what_is_possible_and_no_further() {
        for (shown, way_s, moved) in [
            (1_000, 0, 1_000),
            (1_002, 3, 1_002),
            (1_003, 3, 1_003),
            (1_009, 3, 1_003),
            (998, 3, 1_000),
            (998, 0, 1_000),
        ] {
            let way = Duration::from_secs(way_s);
            assert_eq!(nearest(at(shown), at(1_000), way), at(moved), "{shown}, a way of {way_s} s");
            assert_eq!(
                off(at(shown), at(1_000), way).as_secs(),
                shown.abs_diff(moved),
                "what the way does not explain"
            );
        }
    }

    #[test]
    fn an_answer_that_took_long_sets_nothing_back_and_accuses_nobody() {
        let now = Timestamp::now();
        let clock = DbClock::new(now);
        let asked = Instant::now() - Duration::from_secs(4);
        let skew = clock.set(now - SignedDuration::from_secs(3), asked);
        assert!(clock.now() >= now);
        assert!(skew < SKEW_MAX, "{skew:?}");
    }

    #[test]
    fn a_clock_that_is_wrong_is_set_right() {
        let now = Timestamp::now();
        for wrong in [now - HOUR, now + HOUR] {
            let clock = DbClock::new(wrong);
            clock.set(now, Instant::now());
            assert!((now..now + HOUR / 2).contains(&clock.now()), "{wrong}");
        }
        let clock = DbClock::new(now);
        for wrong in [now - HOUR, now + HOUR] {
            assert!(clock.set(wrong, Instant::now()) > SKEW_MAX, "this machine's own is an hour off");
        }
    }
}
