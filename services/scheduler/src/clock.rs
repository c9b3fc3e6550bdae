//! The database's clock, carried on by this machine's monotonic one between two readings.
//!
//! Due times and leases are written by several machines; one clock decides them all.

use jiff::{SignedDuration, Timestamp};
use std::{
    sync::{Arc, RwLock},
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

    /// Takes a newer reading. Answers how far this machine's own clock is off.
    pub fn set(&self, reading: Timestamp) -> Duration {
        let mut current = self.reading.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        *current = (reading, Instant::now());
        reading.duration_until(Timestamp::now()).unsigned_abs()
    }

    /// The database's time, as far as it is known.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let (reading, at) = *self.reading.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let elapsed = SignedDuration::try_from(at.elapsed()).unwrap_or(SignedDuration::ZERO);
        reading.checked_add(elapsed).unwrap_or(reading)
    }
}
