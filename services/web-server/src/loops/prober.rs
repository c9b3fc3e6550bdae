//! Asks the database whether it is there, for readiness. Refuses to mend it.

use runtime::{health::Condition, watchdog::Beat};
use std::time::Duration;
use store::Store;
use tokio_util::sync::CancellationToken;

/// How often; a load balancer asks about as often.
const INTERVAL: Duration = Duration::from_secs(2);
/// A database that takes longer is not there: an answer may never come.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Keeps `condition` true to the database until this server drains.
pub(crate) fn start(store: Store, condition: Condition, draining: CancellationToken, beat: Beat) {
    tokio::spawn(async move { draining.run_until_cancelled(probe(store, condition, beat)).await });
}

async fn probe(store: Store, condition: Condition, beat: Beat) {
    loop {
        beat.beat();
        match tokio::time::timeout(ANSWER_MAX, store.watched(ask(&store))).await {
            Ok(Ok(())) => condition.hold(),
            Ok(Err(error)) => condition.fail(runtime::exit::chain(&error)),
            Err(_) => condition.fail(format!("no answer in {} s", ANSWER_MAX.as_secs())),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn ask(store: &Store) -> Result<(), store::Error> {
    store.client().await?.simple_query("").await?;
    Ok(())
}
