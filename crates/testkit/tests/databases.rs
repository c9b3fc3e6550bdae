//! Databases come fresh, carry the migrated schema, and are gone after the test.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use anyhow::Result;
use std::{
    fs,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};
use testkit::{Database, wait_for};

async fn count(database: &Database, sql: &str) -> i64 {
    database.client().await.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn every_test_has_its_own_and_leaves_nothing() {
    let (one, two) = tokio::join!(Database::new(), Database::new());
    one.client().await.batch_execute("CREATE TABLE t (n int)").await.unwrap();
    assert_eq!(count(&one, "SELECT count(*) FROM pg_class WHERE relname = 't'").await, 1);
    assert_eq!(count(&two, "SELECT count(*) FROM pg_class WHERE relname = 't'").await, 0);
    let gone = one.name().to_owned();
    drop(one);
    let look = format!("SELECT count(*) FROM pg_database WHERE datname = '{gone}'");
    assert_eq!(count(&two, &look).await, 0);
}

#[tokio::test]
async fn migrations_run_once_per_content() {
    let dir = tempfile::tempdir().unwrap();
    let sql = format!("CREATE TABLE t_{} (n int)", rand::random::<u32>());
    fs::write(dir.path().join("V1__t.sql"), &sql).unwrap();
    let runs = AtomicU32::new(0);
    let migrate = |url: String| {
        let (sql, runs) = (sql.clone(), &runs);
        async move {
            runs.fetch_add(1, Ordering::SeqCst);
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
            tokio::spawn(connection);
            client.batch_execute(&sql).await?;
            Result::<()>::Ok(())
        }
    };
    let one = Database::migrated(dir.path(), migrate).await;
    let two = Database::migrated(dir.path(), migrate).await;
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    let look = "SELECT count(*) FROM pg_class WHERE relname LIKE 't\\_%' AND relkind = 'r'";
    assert_eq!((count(&one, look).await, count(&two, look).await), (1, 1));
}

#[tokio::test]
#[should_panic(expected = "waited 20ms in vain for the moon")]
async fn waiting_ends_with_its_name() {
    wait_for("the moon", Duration::from_millis(20), || async { None::<()> }).await;
}
