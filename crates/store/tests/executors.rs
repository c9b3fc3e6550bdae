//! What people see of executors.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

use std::path::Path;
use store::{
    Store, executor_views,
    executors::{self, ExecutorRow},
};
use testkit::Database;
use uuid::Uuid;

#[tokio::test]
async fn nothing_runs_on_an_executor_that_is_not_there() {
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
    let database = Database::migrated(&migrations, |url| async move { Store::migrate(&url).await }).await;
    let store = Store::connect(database.url(), 2).await.unwrap();
    let ids = [(); 3].map(|()| Uuid::now_v7());
    let say = async |id: usize, state| {
        let row = ExecutorRow {
            id: ids[id],
            name: id.to_string(),
            backend: "process".to_owned(),
            slots: 4,
            version: "0".to_owned(),
            state,
            running: 1,
        };
        executors::upsert(&store, &[row]).await.unwrap();
    };
    let seen = async || {
        let db = store.client().await.unwrap();
        let mut rows = executor_views::list(&db, None, 10).await.unwrap();
        rows.sort_by_key(|row| row.name.clone());
        rows.into_iter().map(|row| (row.state, row.running)).collect::<Vec<_>>()
    };
    let row = |state: &str, running: i32| (state.to_owned(), running);
    for id in 0..3 {
        say(id, "online").await;
    }
    assert_eq!(seen().await, [row("online", 1), row("online", 1), row("online", 1)]);
    say(0, "gone").await;
    say(1, "lost").await;
    say(2, "draining").await;
    // The word of a scheduler that did not hear the goodbye.
    say(0, "online").await;
    assert_eq!(seen().await, [row("gone", 0), row("lost", 0), row("draining", 1)]);
    let counted = "SELECT running FROM executor ORDER BY name";
    let rows = database.client().await.query(counted, &[]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<i32>>(), [0, 0, 1]);
    // A row of an earlier version.
    database.client().await.execute("UPDATE executor SET running = 1 WHERE state = 'gone'", &[]).await.unwrap();
    assert_eq!(seen().await[0], row("gone", 0));
}
