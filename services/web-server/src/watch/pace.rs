//! When a follower reads again: after news, not too often, at once when the run has ended, at the latest after a second,
//! and never once the server drains.

use crate::changes::{Subscription, Topic};
use crate::core::Core;
use crate::fault::Fault;
use domain::id::RunId;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// Under steady news a follower reads this often; what changes between is shown as one.
const COALESCE: Duration = Duration::from_millis(50);
/// Reads of a log that may follow each other at once after a quiet time: whoever waits for the first lines of a run shall
/// not wait for a rhythm. Blocks that come and go within an interval may be shown as one.
const LOG_BURST: u32 = 4;
/// News may be lost; then it comes this late.
const BACKSTOP: Duration = Duration::from_secs(1);

/// The rhythm of one follower.
pub(crate) struct Pace {
    subscription: Subscription,
    draining: CancellationToken,
    rhythm: Rhythm,
}

impl Pace {
    /// Takes a place among the watchers.
    pub(crate) fn new(core: &Core, run: RunId, topic: Topic) -> Result<Self, Fault> {
        let subscription = core.changes.subscribe(run, topic)?;
        let burst = match topic {
            Topic::State => 1,
            Topic::Log => LOG_BURST,
        };
        Ok(Self { subscription, draining: core.draining.clone(), rhythm: Rhythm::new(burst, Instant::now()) })
    }

    /// Waits until it is worth reading again.
    pub(crate) async fn wait(&mut self) -> Result<(), Fault> {
        let wake = async {
            // No news at all is what the backstop is for.
            let _ = timeout(BACKSTOP, self.subscription.news()).await;
            let _ = timeout_at(self.rhythm.due(), self.subscription.end()).await;
        };
        tokio::select! {
            () = wake => {}
            () = self.draining.cancelled() => return Err(Fault::draining()),
        }
        self.rhythm.read(Instant::now());
        Ok(())
    }
}

/// A read each [`COALESCE`], of which up to `burst` may have been saved up.
struct Rhythm {
    burst: u32,
    /// When the next read would be due, had none ever come early.
    even: Instant,
}

impl Rhythm {
    fn new(burst: u32, now: Instant) -> Self {
        Self { burst, even: now }
    }

    /// The earliest time of the next read; it may have passed.
    fn due(&self) -> Instant {
        let ahead = COALESCE * (self.burst - 1);
        self.even.checked_sub(ahead).unwrap_or(self.even)
    }

    fn read(&mut self, now: Instant) {
        self.even = self.even.max(now) + COALESCE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_reads_follow_at_once_and_then_one_each_interval() {
        let begun = Instant::now() + Duration::from_secs(60);
        let mut rhythm = Rhythm::new(LOG_BURST, begun);
        for read in 0..LOG_BURST {
            assert!(rhythm.due() <= begun, "read {read}");
            rhythm.read(begun);
        }
        assert_eq!(rhythm.due(), begun + COALESCE);
        rhythm.read(begun + COALESCE);
        assert_eq!(rhythm.due(), begun + COALESCE * 2, "steady");
        let later = begun + Duration::from_secs(10);
        for _ in 0..LOG_BURST {
            assert!(rhythm.due() <= later, "after a quiet time it is as at first");
            rhythm.read(later);
        }
        assert_eq!(rhythm.due(), later + COALESCE);
    }
}
