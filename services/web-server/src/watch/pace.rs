//! When a follower reads again: after news, not too often, at the latest after a second, and never once the server
//! drains.

use crate::changes::{Subscription, Topic};
use crate::core::Core;
use crate::fault::Fault;
use domain::id::RunId;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// Changes closer together than this are shown as one.
const COALESCE: Duration = Duration::from_millis(50);
/// News may be lost; then it comes this late.
const BACKSTOP: Duration = Duration::from_secs(1);

/// The rhythm of one follower.
pub(crate) struct Pace {
    subscription: Subscription,
    draining: CancellationToken,
    read_at: Instant,
}

impl Pace {
    /// Takes a place among the watchers.
    pub(crate) fn new(core: &Core, run: RunId, topic: Topic) -> Result<Self, Fault> {
        let subscription = core.changes.subscribe(run, topic)?;
        Ok(Self { subscription, draining: core.draining.clone(), read_at: Instant::now() })
    }

    /// Waits until it is worth reading again.
    pub(crate) async fn wait(&mut self) -> Result<(), Fault> {
        let wake = async {
            // No news at all is what the backstop is for.
            let _ = timeout(BACKSTOP, self.subscription.news()).await;
            sleep_until(self.read_at + COALESCE).await;
        };
        tokio::select! {
            () = wake => {}
            () = self.draining.cancelled() => return Err(Fault::draining()),
        }
        self.read_at = Instant::now();
        Ok(())
    }
}
