//! Forgets answers to keys that no client repeats any more. Refuses to know what they answered.

use crate::idempotent::KEPT_DAYS;
use std::time::Duration;
use store::{Store, idempotency};
use tokio_util::sync::CancellationToken;

/// How often each server does so; it may find that another one did.
const INTERVAL: Duration = Duration::from_secs(3_600);
/// Keys of one statement, so that none takes long, however much there is.
const BATCH: i64 = 5_000;

/// Goes on until this server drains.
pub(crate) fn start(store: Store, draining: CancellationToken) {
    tokio::spawn(async move { draining.run_until_cancelled(forget(store)).await });
}

async fn forget(store: Store) {
    loop {
        if let Err(error) = forget_once(&store).await {
            tracing::warn!(error = runtime::exit::chain(&error), "failed to forget old idempotency keys; tries again");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn forget_once(store: &Store) -> Result<(), store::Error> {
    let mut forgotten = 0;
    loop {
        let batch = idempotency::forget(&store.client().await?, KEPT_DAYS, BATCH).await?;
        forgotten += batch;
        if batch < BATCH.unsigned_abs() {
            break;
        }
    }
    if forgotten > 0 {
        tracing::info!(forgotten, "idempotency keys are forgotten");
    }
    Ok(())
}
