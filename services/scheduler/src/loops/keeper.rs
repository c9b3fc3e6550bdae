//! The keeper: says each second that this scheduler lives, takes the shards that are meant for it, lets go those that
//! are meant for others, and reads the clock.
//!
//! Safety does not rest on any of it: every write names its shard's epoch. The order of letting go is what makes it fast
//! and quiet: the engine forgets first, then the row is free, then the others are told.

use crate::{
    clock::{DbClock, SKEW_MAX},
    engine::Ownership,
    metrics::Metrics,
    peers::Peers,
    shares,
};
use domain::id::SchedulerId;
use std::{collections::HashSet, sync::Arc, time::Duration};
use store::{
    Store, schedulers,
    shards::{self, Shard},
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Without a renewal for this long a scheduler owns nothing.
pub const LEASE_TTL: Duration = Duration::from_secs(4);
/// Between two renewals.
const RENEW_INTERVAL: Duration = Duration::from_secs(1);
/// The engine's time to let go; after it the epochs do.
const LET_GO_TIMEOUT: Duration = Duration::from_secs(2);

/// Keeps this scheduler a member.
pub struct Keeper {
    store: Store,
    scheduler: SchedulerId,
    address: String,
    clock: DbClock,
    metrics: Arc<Metrics>,
    peers: Peers,
    owned: mpsc::Sender<Ownership>,
    /// What the engine was told.
    told: Vec<Shard>,
}

impl Keeper {
    /// A keeper of the scheduler that is reached at this address; it tells `owned` whenever that changes.
    #[must_use]
    pub fn new(
        store: Store,
        (scheduler, address): (SchedulerId, String),
        clock: DbClock,
        metrics: Arc<Metrics>,
        peers: Peers,
        owned: mpsc::Sender<Ownership>,
    ) -> Self {
        Self { store, scheduler, address, clock, metrics, peers, owned, told: Vec::new() }
    }

    /// Runs until it is stopped; then hands everything back.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut interval = tokio::time::interval(RENEW_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.peers.shards_are_free() => {}
                _ = interval.tick() => {}
            }
            if let Err(error) = self.run_once().await {
                tracing::warn!(error = %error, "failed to renew the membership");
            }
        }
        self.tell(Vec::new(), true).await;
        match schedulers::leave(&self.store, self.scheduler).await {
            Ok(()) => self.peers.wake(),
            Err(error) => {
                tracing::warn!(error = %error, "failed to hand the shards back; they are free in a few seconds");
            }
        }
    }

    async fn run_once(&mut self) -> Result<(), store::Error> {
        let now = schedulers::renew(&self.store, self.scheduler, LEASE_TTL, &self.address).await?;
        let skew = self.clock.set(now);
        self.metrics.clock_skew.set(skew.as_secs_f64());
        if skew > SKEW_MAX {
            tracing::warn!(skew_ms = skew.as_millis(), "this machine's clock is off; due times follow the database's");
        }
        let (members, table) = self.peers.owners().refresh().await?;
        let members: Vec<SchedulerId> = members.iter().map(|member| member.id).collect();
        let plan = shares::plan(self.scheduler, &members, &table);
        let release: HashSet<i16> = plan.release.iter().copied().collect();
        let mut owned: Vec<Shard> = table
            .iter()
            .filter(|row| row.owner == Some(self.scheduler) && !release.contains(&row.id))
            .map(|row| Shard { id: row.id, epoch: row.epoch })
            .collect();
        if !plan.take.is_empty() {
            owned.extend(shards::take(&self.store, self.scheduler, &plan.take, false).await?);
            owned.sort_unstable_by_key(|shard| shard.id);
        }
        let releases = !plan.release.is_empty();
        if owned != self.told {
            self.tell(owned, releases).await;
        }
        if releases {
            shards::release(&self.store, self.scheduler, &plan.release).await?;
            self.peers.wake();
        }
        Ok(())
    }

    /// Tells the engine, and waits until it has let go what is not named.
    async fn tell(&mut self, owned: Vec<Shard>, wait: bool) {
        let (done, let_go) = oneshot::channel();
        let ownership = Ownership { shards: owned.clone(), done: wait.then_some(done) };
        // The engine has ended when nobody listens, and the process with it.
        if self.owned.send(ownership).await.is_ok() {
            self.told = owned;
        }
        if wait && tokio::time::timeout(LET_GO_TIMEOUT, let_go).await.is_err() {
            tracing::warn!("the engine takes long to let shards go; its next write of them is refused");
        }
    }
}
