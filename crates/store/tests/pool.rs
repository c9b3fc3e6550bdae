//! A database that does not answer, seen by who waits for it.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

use std::time::{Duration, Instant};
use store::{Patience, Store};
use testkit::{Database, wait_for};

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
    let (before, mut patience) = (session(&store).await, Patience::default());
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
        tokio::time::timeout(PATIENCE, async { tokio::join!(store.answered(&mut patience, endless), given_up) })
            .await
            .unwrap();
    assert!(answer.is_none());
    let after = session(&store).await;
    assert_ne!(before, after, "the connection that did not answer is not asked again");
    assert_eq!(session(&store).await, after, "those opened since are kept");
    assert!(store.answered(&mut patience, session(&store)).await.is_some(), "only what waits at that moment ends");
}

#[tokio::test]
async fn who_hears_nothing_gives_connections_up_and_waits_longer_the_next_time() {
    let database = Database::new().await;
    let store = Store::connect(database.url(), 1).await.unwrap();
    let (before, mut patience) = (session(&store).await, Patience::of(Duration::from_millis(500)));
    let asked = async |statement: &str| {
        let client = store.client().await.unwrap();
        client.batch_execute(statement).await
    };
    let begun = Instant::now();
    assert!(store.answered(&mut patience, asked("SELECT pg_sleep(600)")).await.is_none());
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    assert_ne!(session(&store).await, before, "the connection that did not answer is not asked again");
    // Longer than the first time, and it comes to its end, also after a short one.
    assert!(store.answered(&mut patience, asked("SELECT")).await.is_some());
    assert!(store.answered(&mut patience, asked("SELECT pg_sleep(0.7)")).await.is_some());
    // Longer than that in all, but never silent for so long.
    let often = async {
        for _ in 0..7 {
            asked("SELECT pg_sleep(0.2)").await.unwrap();
        }
    };
    assert!(store.answered(&mut patience, often).await.is_some());
}

#[tokio::test]
async fn a_connection_that_somebody_left_in_the_middle_of_a_question_is_asked_before_it_is_used_again() {
    let database = Database::new().await;
    let store = Store::connect(database.url(), 1).await.unwrap();
    let asked = async |statement: &str| {
        let client = store.client().await.unwrap();
        client.batch_execute(statement).await
    };
    // Left by whoever had it, its answer is waited for by the next one.
    let cut_short = async |statement: &str| {
        let work = store.watched(asked(statement));
        assert!(tokio::time::timeout(Duration::from_millis(200), work).await.is_err());
    };
    let before = session(&store).await;
    cut_short("SELECT pg_sleep(600)").await;
    let after = session(&store).await;
    assert_ne!(before, after, "the connection that did not answer is not waited for");
    wait_for("the end of what nobody waits for", PATIENCE, || async {
        let client = database.client().await;
        let left = client.query_one("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", &[&before]).await.unwrap();
        (left.get::<_, i64>(0) == 0).then_some(())
    })
    .await;
    // One that answers stays.
    cut_short("SELECT pg_sleep(0.4)").await;
    assert_eq!(session(&store).await, after);
}

#[tokio::test]
async fn who_decides_nothing_gives_up_what_is_not_answered_and_nobody_else_notices() {
    let database = Database::new().await;
    let store = Store::connect(database.url(), 2).await.unwrap();
    let others = store.client().await.unwrap();
    let client = store.client().await.unwrap();
    assert_eq!(store.patiently(std::future::ready(7)).await, Some(7));
    // Time passes as soon as everybody waits.
    tokio::time::pause();
    let asked = async move { client.batch_execute("SELECT pg_sleep(600)").await };
    assert!(store.patiently(asked).await.is_none());
    tokio::time::resume();
    let answered = tokio::time::timeout(PATIENCE, session(&store)).await;
    assert!(answered.is_ok(), "what did not answer is not used again");
    let theirs: i32 = others.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    drop(others);
    assert_eq!(session(&store).await, theirs, "it was not given up");
}

#[tokio::test]
async fn nobody_pays_for_that_while_all_work_comes_to_its_end() {
    let database = Database::new().await;
    let ways = database.counted().await;
    let store = Store::connect(ways.url(), 1).await.unwrap();
    let ask = async || store.watched(session(&store)).await;
    ask().await;
    let before = ways.count();
    ask().await;
    let each = ways.count() - before;
    // Cut short, it leaves nothing on the way; the next one asks once more than usual, and the one after it does not.
    let work = store.watched(async {
        let _client = store.client().await.unwrap();
        std::future::pending::<()>().await;
    });
    assert!(tokio::time::timeout(Duration::from_millis(200), work).await.is_err());
    let mut more = Vec::new();
    for _ in 0..2 {
        let before = ways.count();
        ask().await;
        more.push(ways.count() - before - each);
    }
    assert_eq!(more, [1, 0]);
}
