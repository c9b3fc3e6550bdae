//! A database that does not answer, seen by who waits for it.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

use std::time::Duration;
use store::Store;
use testkit::Database;

/// For what must end at once.
const PATIENCE: Duration = Duration::from_secs(20);

async fn session(store: &Store) -> i32 {
    let client = store.client().await.unwrap();
    tokio::time::timeout(PATIENCE, client.query_one("SELECT pg_backend_pid()", &[])).await.unwrap().unwrap().get(0)
}

#[tokio::test]
async fn what_waits_ends_when_connections_are_given_up_and_none_of_them_is_used_again() {
    let database = Database::new().await;
    let store = Store::connect(database.url(), 1).await.unwrap();
    let before = session(&store).await;
    let endless = async {
        let client = store.client().await.unwrap();
        client.execute("SELECT pg_sleep(600)", &[]).await
    };
    let given_up = async {
        // The only connection is taken when nobody else gets it at once.
        let free = async || tokio::time::timeout(Duration::from_millis(100), store.client()).await.is_ok();
        while free().await {}
        store.give_up_connections();
    };
    let (answer, ()) =
        tokio::time::timeout(PATIENCE, async { tokio::join!(store.answered(endless), given_up) }).await.unwrap();
    assert!(answer.is_none());
    let after = session(&store).await;
    assert_ne!(before, after, "the connection that did not answer is not asked again");
    assert_eq!(session(&store).await, after, "those opened since are kept");
    assert!(store.answered(session(&store)).await.is_some(), "only what waits at that moment ends");
}
