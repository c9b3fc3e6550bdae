//! The expirer: every few minutes it marks outputs that are older than their project keeps them, and forgets runs and
//! firings that are.

use crate::{
    clock::DbClock,
    retention::{self, Report},
};
use runtime::watchdog::Beat;
use std::time::Duration;
use store::Store;
use tokio_util::sync::CancellationToken;

/// Between two rounds; periods are hours at least.
const INTERVAL: Duration = Duration::from_secs(300);

/// Marks and forgets until it is stopped; runs are kept for `runs_kept` unless their pipeline says otherwise.
pub async fn run(store: Store, clock: DbClock, runs_kept: Duration, stop: CancellationToken, beat: Beat) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = beat.waiting(interval.tick()) => {}
        }
        let round = retention::run_once(&store, clock.now(), runs_kept);
        match beat.working(store.patiently(round)).await {
            Some(Ok(Report { expired: 0, forgotten: 0, firings: 0 })) => {}
            Some(Ok(Report { expired, forgotten, firings })) => {
                tracing::info!(
                    expired,
                    forgotten,
                    firings,
                    "runs lost their outputs or were forgotten, as old as they are"
                );
            }
            Some(Err(error)) => tracing::warn!(%error, "failed to look for runs that are older than they are kept"),
            None => tracing::warn!("what is old waited for a database that does not answer; the next round looks anew"),
        }
    }
}
