//! A clock that only goes forward and counts the time in which the machine slept.

use rustix::time::{ClockId, Timespec, clock_gettime};
use std::{ops::Add, time::Duration};

/// An instant of the time since this machine started, sleep included. `std::time::Instant` leaves sleep out: a laptop or
/// a virtual machine that was suspended would wake up trusting what it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootInstant(Duration);

impl BootInstant {
    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        Self::by(clock_gettime)
    }

    /// This moment by a kernel that has these clocks.
    fn by(clocks: impl FnOnce(ClockId) -> Timespec) -> Self {
        let time = clocks(ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
        Self(Duration::new(seconds, nanos))
    }
}

impl Add<Duration> for BootInstant {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine that has been up for 100 s, and slept for so many more.
    fn kernel(slept: i64) -> impl Fn(ClockId) -> Timespec {
        move |clock| {
            let since_start = if clock == ClockId::Boottime { 100 + slept } else { 100 };
            Timespec { tv_sec: since_start, tv_nsec: 0 }
        }
    }

    #[test]
    fn what_was_held_before_a_sleep_is_not_trusted_after_it() {
        let until = BootInstant::by(kernel(0)) + Duration::from_secs(3);
        assert!(BootInstant::by(kernel(2)) < until);
        assert!(BootInstant::by(kernel(3)) >= until, "sleep counts");
    }
}
