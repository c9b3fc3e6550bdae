//! Whether something works in a pod, by the processor time that the cluster measures for it now and then.
//!
//! Measurements come late, and may stay away. Their times are of the clock of whoever measured: only that they move on
//! counts, and when that was seen here. What was not measured is never idle. Refuses to know how they are had.

use crate::signs::{BUSY_MILLI, since};
use backend_kubernetes::metrics::Usage;
use jiff::Timestamp;
use proto::internal::v1::activity_report::State;
use std::time::Duration;
use tokio::time::Instant;

/// Over a longer time, hours of rest would hide minutes of work.
const WINDOW_MAX: Duration = Duration::from_secs(120);
/// A measurement may come later than its window after the one before by as much: by the time between two looks, and the
/// time that it takes to collect all of them.
const LATE: Duration = Duration::from_secs(45);

/// What is remembered of one pod.
#[derive(Default)]
pub(super) struct Meter {
    /// The end of the youngest measurement.
    until: Option<Timestamp>,
    latest: Option<Latest>,
}

/// The youngest measurement of which it is known when it came.
struct Latest {
    came: Instant,
    window: Duration,
    is_busy: bool,
    /// When it was seen to be busy last, or was not measured.
    used: Timestamp,
}

impl Meter {
    /// What is known now, with what was measured last; `at` and `now` are the same moment.
    pub(super) fn judge(&mut self, found: Result<Usage, String>, at: Instant, now: Timestamp) -> State {
        match found {
            Ok(usage) if usage.window.is_zero() || usage.window > WINDOW_MAX => {
                State::Unknown(format!("a measurement over {:?} says nothing", usage.window))
            }
            Ok(usage) => {
                self.take(usage, at, now);
                match self.latest.as_ref().filter(|latest| latest.is_fresh(at)) {
                    Some(latest) if latest.is_busy => State::ActiveUs(latest.used.as_microsecond()),
                    Some(latest) => since(latest.used),
                    None => State::Unknown("no new measurement has come".to_owned()),
                }
            }
            Err(why) => State::Unknown(why),
        }
    }

    fn take(&mut self, usage: Usage, at: Instant, now: Timestamp) {
        let before = self.until.replace(self.until.map_or(usage.until, |until| until.max(usage.until)));
        // How old the first one is cannot be told.
        if before.is_none_or(|before| usage.until <= before) {
            return;
        }
        let is_busy = usage.cpu_milli > BUSY_MILLI;
        let former = self.latest.take().filter(|former| former.is_fresh(at));
        let used = former.filter(|_| !is_busy).map_or(now, |former| former.used);
        self.latest = Some(Latest { came: at, window: usage.window, is_busy, used });
    }
}

impl Latest {
    fn is_fresh(&self, at: Instant) -> bool {
        at.duration_since(self.came) <= self.window + LATE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(second: u64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + i64::try_from(second).unwrap()).unwrap()
    }

    /// A pod that is looked at, by seconds of our clock.
    struct Pod {
        meter: Meter,
        start: Instant,
    }

    impl Pod {
        fn new() -> Self {
            Self { meter: Meter::default(), start: Instant::now() }
        }

        /// What is said at `second` of a measurement over 15 s that ended at `until`, by a clock of another day.
        fn says(&mut self, second: u64, until: u64, cpu_milli: u64) -> State {
            let until = on(until) - jiff::SignedDuration::from_hours(40);
            self.hears(second, Ok(Usage { cpu_milli, until, window: Duration::from_secs(15) }))
        }

        fn hears(&mut self, second: u64, found: Result<Usage, String>) -> State {
            self.meter.judge(found, self.start + Duration::from_secs(second), on(second))
        }
    }

    fn active(second: u64) -> State {
        State::ActiveUs(on(second).as_microsecond())
    }

    #[track_caller]
    fn unknown(state: &State) {
        assert!(matches!(state, State::Unknown(_)), "{state:?}");
    }

    #[test]
    fn a_pod_is_active_above_a_twentieth_of_a_core() {
        let mut pod = Pod::new();
        unknown(&pod.says(0, 0, 0));
        unknown(&pod.says(5, 0, 0));
        assert_eq!(pod.says(15, 10, 50), since(on(15)), "idle from when that is known");
        assert_eq!(pod.says(30, 25, 0), since(on(15)));
        assert_eq!(pod.says(45, 40, 51), active(45));
        assert_eq!(pod.says(50, 40, 51), active(45), "the same measurement once more");
        assert_eq!(pod.says(60, 55, 3), since(on(45)));
    }

    #[test]
    fn what_does_not_come_or_is_old_says_nothing_and_then_the_pod_was_not_idle() {
        let mut pod = Pod::new();
        pod.says(0, 0, 0);
        assert_eq!(pod.says(15, 10, 0), since(on(15)));
        assert_eq!(pod.says(75, 10, 0), since(on(15)), "it may be late");
        unknown(&pod.says(76, 10, 0));
        unknown(&pod.says(80, 9, 0));
        // Nobody knows what went on meanwhile.
        assert_eq!(pod.says(90, 85, 0), since(on(90)));
        // One look that failed hides nothing: the next measurement comes in time.
        assert_eq!(pod.hears(105, Err("forbidden".to_owned())), State::Unknown("forbidden".to_owned()));
        assert_eq!(pod.says(120, 115, 0), since(on(90)));
        // Another replica of what measures, which is behind.
        assert_eq!(pod.says(125, 112, 900), since(on(90)));
        unknown(&pod.says(190, 113, 0));
    }

    #[test]
    fn a_measurement_over_too_long_a_time_says_nothing() {
        let mut pod = Pod::new();
        for (second, window) in [(0, 0), (15, 0), (30, 121), (45, 121)] {
            let usage = Usage { cpu_milli: 0, until: on(second), window: Duration::from_secs(window) };
            unknown(&pod.hears(second, Ok(usage)));
        }
    }
}
