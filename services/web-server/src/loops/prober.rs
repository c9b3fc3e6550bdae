//! Asks the database whether it is there, for readiness. Refuses to mend it.

use runtime::health::Condition;
use std::time::Duration;
use store::Store;
use tokio_util::sync::CancellationToken;

/// How often; a load balancer asks about as often.
const INTERVAL: Duration = Duration::from_secs(2);

/// Keeps `condition` true to the database until this server drains.
pub(crate) fn start(store: Store, condition: Condition, draining: CancellationToken) {
    tokio::spawn(async move { draining.run_until_cancelled(probe(store, condition)).await });
}

async fn probe(store: Store, condition: Condition) {
    loop {
        match ask(&store).await {
            Ok(()) => condition.hold(),
            Err(error) => condition.fail(runtime::exit::chain(&error)),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn ask(store: &Store) -> Result<(), store::Error> {
    store.client().await?.simple_query("").await?;
    Ok(())
}
