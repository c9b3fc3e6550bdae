//! A core that runs one attempt and leaves: when that is known, or when nobody comes with one.

use super::Core;
use proto::internal::v1::result::Outcome;
use std::time::Duration;
use tokio::time::Instant;

/// For the attempt to be assigned.
const FIRST_WORD: Duration = Duration::from_secs(120);

/// See the module's page.
#[derive(Debug)]
pub(super) struct Errand {
    until: Instant,
    pub(super) outcome: Option<Outcome>,
}

impl Core {
    /// One attempt and no other. [`Core::run`] answers how it ended.
    #[must_use]
    pub fn for_one_attempt(mut self) -> Self {
        self.errand = Some(Errand { until: Instant::now() + FIRST_WORD, outcome: None });
        self
    }

    /// Leaves when the attempt's result is confirmed; or when there is nobody to confirm it, or to assign one.
    pub(super) fn leave_when_over(&mut self) {
        let Some(errand) = &self.errand else { return };
        let over = errand.outcome.is_some() || Instant::now() > errand.until;
        if !over || !self.running.is_empty() {
            return;
        }
        if self.heard.elapsed() > self.lost_after {
            // Whoever waits for it has given it to others by now.
            self.unacknowledged.clear();
        }
        self.draining |= self.unacknowledged.is_empty();
    }
}
