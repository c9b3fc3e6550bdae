//! The keeper: says each second that this scheduler lives, takes shards that nobody owns, and reads the clock.
//!
//! With one scheduler it owns everything; a second one waits until the first is gone. Safety does not rest on the
//! lease: every write names its shard's epoch.

use crate::{
    clock::{DbClock, SKEW_MAX},
    metrics::Metrics,
};
use domain::id::SchedulerId;
use std::{sync::Arc, time::Duration};
use store::{
    Store,
    shards::{self, Shard},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Without a renewal for this long a scheduler owns nothing.
pub const LEASE_TTL: Duration = Duration::from_secs(4);
/// Between two renewals.
const RENEW_INTERVAL: Duration = Duration::from_secs(1);

/// Keeps this scheduler a member.
pub struct Keeper {
    store: Store,
    scheduler: SchedulerId,
    clock: DbClock,
    metrics: Arc<Metrics>,
    owned: mpsc::Sender<Vec<Shard>>,
}

impl Keeper {
    /// A keeper that tells `owned` whenever shards were taken.
    #[must_use]
    pub fn new(
        store: Store,
        scheduler: SchedulerId,
        clock: DbClock,
        metrics: Arc<Metrics>,
        owned: mpsc::Sender<Vec<Shard>>,
    ) -> Self {
        Self { store, scheduler, clock, metrics, owned }
    }

    /// Runs until it is stopped; then hands everything back.
    pub async fn run(self, stop: CancellationToken) {
        let mut interval = tokio::time::interval(RENEW_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = interval.tick() => {}
            }
            if let Err(error) = self.run_once().await {
                tracing::warn!(error = %error, "failed to renew the membership");
            }
        }
        if let Err(error) = shards::leave(&self.store, self.scheduler).await {
            tracing::warn!(error = %error, "failed to hand the shards back; they are free in a few seconds");
        }
    }

    async fn run_once(&self) -> Result<(), store::Error> {
        let skew = self.clock.set(shards::renew(&self.store, self.scheduler, LEASE_TTL).await?);
        self.metrics.clock_skew.set(skew.as_secs_f64());
        if skew > SKEW_MAX {
            tracing::warn!(skew_ms = skew.as_millis(), "this machine's clock is off; due times follow the database's");
        }
        if !shards::take(&self.store, self.scheduler).await?.is_empty() {
            let owned = shards::owned(&self.store, self.scheduler).await?;
            // The engine has ended when nobody listens, and the process with it.
            let _ = self.owned.send(owned).await;
        }
        Ok(())
    }
}
