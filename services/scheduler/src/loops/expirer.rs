//! The expirer: every few minutes it marks outputs that are older than their project keeps them, and forgets runs and
//! firings that are.

use crate::{
    clock::DbClock,
    retention::{self, Report},
};
use std::time::Duration;
use store::Store;
use tokio_util::sync::CancellationToken;

/// Between two rounds; periods are hours at least.
const INTERVAL: Duration = Duration::from_secs(300);

/// Marks and forgets until it is stopped; runs are kept for `runs_kept` unless their pipeline says otherwise.
pub async fn run(store: Store, clock: DbClock, runs_kept: Duration, stop: CancellationToken) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = interval.tick() => {}
        }
        match retention::run_once(&store, clock.now(), runs_kept).await {
            Ok(Report { expired: 0, forgotten: 0, firings: 0 }) => {}
            Ok(Report { expired, forgotten, firings }) => {
                tracing::info!(
                    expired,
                    forgotten,
                    firings,
                    "runs lost their outputs or were forgotten, as old as they are"
                );
            }
            Err(error) => tracing::warn!(%error, "failed to look for runs that are older than they are kept"),
        }
    }
}
