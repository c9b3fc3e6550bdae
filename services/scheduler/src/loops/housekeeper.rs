//! The housekeeper: creates the log partitions of the coming days and marks executors that nobody knows any more.

use std::time::Duration;
use store::Store;
use tokio_util::sync::CancellationToken;

/// Between two rounds.
const INTERVAL: Duration = Duration::from_secs(10);
/// Twice the silence after which a scheduler gives an executor up: by then nobody has it.
const SILENCE: Duration = Duration::from_secs(20);

/// Keeps the house until it is stopped.
pub async fn run(store: Store, stop: CancellationToken) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = interval.tick() => {}
        }
        if let Err(error) = run_once(&store).await {
            tracing::warn!(error = %error, "failed to keep the house");
        }
    }
}

async fn run_once(store: &Store) -> Result<(), store::Error> {
    let lost = store::executors::mark_lost(store, SILENCE).await?;
    if lost > 0 {
        tracing::info!(executors = lost, "marked executors lost that nobody has heard of");
    }
    store::logs::create_partitions(store).await
}
