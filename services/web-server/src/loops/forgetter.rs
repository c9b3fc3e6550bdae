//! Forgets answers to keys that no client repeats any more, and what the trail keeps no longer. Refuses to know what they say.

use crate::idempotent::KEPT_DAYS;
use std::time::Duration;
use store::{Store, audit, idempotency};
use tokio_util::sync::CancellationToken;

/// How often each server does so; it may find that another one did.
const INTERVAL: Duration = Duration::from_secs(3_600);
/// Rows of one statement, so that none takes long, however much there is.
const BATCH: i64 = 5_000;

/// Goes on until this server drains. Entries of the trail are kept for `audit_kept`; zero is for ever.
pub(crate) fn start(store: Store, audit_kept: Duration, draining: CancellationToken) {
    tokio::spawn(async move { draining.run_until_cancelled(forget(store, audit_kept)).await });
}

async fn forget(store: Store, audit_kept: Duration) {
    loop {
        if let Err(error) = forget_keys(&store).await {
            tracing::warn!(error = runtime::exit::chain(&error), "failed to forget old idempotency keys; tries again");
        }
        if !audit_kept.is_zero()
            && let Err(error) = forget_entries(&store, audit_kept).await
        {
            let error = runtime::exit::chain(&error);
            tracing::warn!(error, "failed to forget old entries of the trail; tries again");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn forget_keys(store: &Store) -> Result<(), store::Error> {
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

async fn forget_entries(store: &Store, kept: Duration) -> Result<(), store::Error> {
    let (mut forgotten, mut after) = (0, 0);
    loop {
        let batch = audit::forget(&store.client().await?, kept, after, BATCH).await?;
        // Also behind one that is younger than its id, as long as there are old ones beside it.
        if batch.entries == 0 {
            break;
        }
        forgotten += batch.entries;
        after = batch.last;
    }
    if forgotten > 0 {
        tracing::info!(forgotten, "entries of the trail are forgotten");
    }
    Ok(())
}
