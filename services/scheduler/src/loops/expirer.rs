//! The expirer: every few minutes it marks outputs that are older than their project keeps them.

use crate::{clock::DbClock, retention};
use std::time::Duration;
use store::Store;
use tokio_util::sync::CancellationToken;

/// Between two rounds; periods are hours at least.
const INTERVAL: Duration = Duration::from_secs(300);

/// Marks until it is stopped.
pub async fn run(store: Store, clock: DbClock, stop: CancellationToken) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = interval.tick() => {}
        }
        match retention::run_once(&store, clock.now()).await {
            Ok(0) => {}
            Ok(runs) => tracing::info!(runs, "outputs are older than their project keeps them and go"),
            Err(error) => {
                tracing::warn!(%error, "failed to look for outputs that are older than their project keeps them")
            }
        }
    }
}
