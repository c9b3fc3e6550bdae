//! A clock that only goes forward and counts the time in which the machine slept.

use rustix::time::{ClockId, clock_gettime};
use std::{ops::Add, time::Duration};

/// An instant of the time since this machine started, sleep included. `std::time::Instant` leaves sleep out: a laptop or
/// a virtual machine that was suspended would wake up trusting what it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootInstant(Duration);

impl BootInstant {
    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        let time = clock_gettime(ClockId::Boottime);
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
