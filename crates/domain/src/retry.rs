//! How often, and after what pause, a failed block is tried again.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Mage's `retry_config`: attempts are `retries + 1`.
///
/// `max_delay_s` caps each pause. (Mage caps the sum of all pauses, so that `max_delay: 0` switches retries off, which
/// its users report as a fault: mage-ai #5266, #4818.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetryPolicy {
    /// Further tries after the first.
    pub retries: u32,
    /// Pause before the second try, seconds.
    pub delay_s: u32,
    /// Longest pause, seconds.
    pub max_delay_s: u32,
    /// Double the pause with every try.
    pub exponential_backoff: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { retries: 0, delay_s: 5, max_delay_s: 60, exponential_backoff: true }
    }
}

impl RetryPolicy {
    /// The pause after the `failed`-th failed try (from 1), or `None` when no try is left.
    #[must_use]
    pub fn pause_after(&self, failed: u32) -> Option<Duration> {
        if failed == 0 || failed > self.retries {
            return None;
        }
        let doublings = if self.exponential_backoff { (failed - 1).min(31) } else { 0 };
        let pause = u64::from(self.delay_s).saturating_mul(1 << doublings);
        Some(Duration::from_secs(pause.min(u64::from(self.max_delay_s))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap_and_end() {
        let policy = RetryPolicy { retries: 4, delay_s: 5, max_delay_s: 12, exponential_backoff: true };
        let pauses: Vec<_> = (1..=5).map(|n| policy.pause_after(n).map(|d| d.as_secs())).collect();
        assert_eq!(pauses, [Some(5), Some(10), Some(12), Some(12), None]);
    }

    #[test]
    fn a_cap_of_zero_retries_at_once() {
        let policy = RetryPolicy { retries: 1, max_delay_s: 0, ..RetryPolicy::default() };
        assert_eq!(policy.pause_after(1), Some(Duration::ZERO));
    }
}
