//! How long to wait before trying again: exponential, capped, with full jitter. Pure: randomness is passed in, and
//! nothing here sleeps.

use std::time::Duration;

/// The waits between the tries of one thing.
///
/// Full jitter (anything from zero to the ceiling) spreads replicas that failed together further apart than a wait with
/// a little noise does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// Ceilings `base`, `2·base`, `4·base`, … up to `cap`.
    #[must_use]
    pub const fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, failures: 0 }
    }

    /// The longest wait after so many failures in a row (0 is the first).
    #[must_use]
    pub fn ceiling(&self, failures: u32) -> Duration {
        let factor = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }

    /// The wait after so many failures; `random` lies in `0.0..1.0`.
    #[must_use]
    pub fn delay(&self, failures: u32, random: f64) -> Duration {
        self.ceiling(failures).mul_f64(random.clamp(0.0, 1.0))
    }

    /// Counts one more failure and gives the wait before the next try; `random` lies in `0.0..1.0`.
    pub fn next(&mut self, random: f64) -> Duration {
        let delay = self.delay(self.failures, random);
        self.failures = self.failures.saturating_add(1);
        delay
    }

    /// It worked: the next failure starts from `base` again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures since the last success.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }
}

/// A number in `0.0..1.0` from the process's generator, for callers outside of tests.
#[must_use]
pub fn random() -> f64 {
    rand::random()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn ceilings_double_up_to_the_cap_and_never_overflow() {
        let backoff = Backoff::new(MS(100), MS(5_000));
        let ceilings: Vec<_> = [0, 1, 2, 5, 6, 31, 32, 1000].map(|n| backoff.ceiling(n).as_millis()).into();
        assert_eq!(ceilings, [100, 200, 400, 3200, 5000, 5000, 5000, 5000]);
        assert_eq!(Backoff::new(Duration::MAX, Duration::MAX).ceiling(40), Duration::MAX);
    }

    #[test]
    fn jitter_covers_the_whole_range() {
        let mut backoff = Backoff::new(MS(100), MS(1_000));
        assert_eq!(backoff.next(0.0), MS(0));
        assert_eq!(backoff.next(0.5), MS(100));
        assert_eq!(backoff.next(1.0), MS(400));
        backoff.reset();
        assert_eq!(backoff.next(1.0), MS(100));
        assert_eq!(backoff.failures(), 1);
    }

    #[test]
    fn the_generator_stays_in_range() {
        assert!((0..1000).all(|_| (0.0..1.0).contains(&random())));
    }
}
