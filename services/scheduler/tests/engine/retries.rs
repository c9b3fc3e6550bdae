//! A retry within a run has a key: whoever asks for it again, since no answer came, gets the same one.

use crate::{
    block, name,
    world::{Cluster, FakeExecutor, WAIT, start},
};
use domain::{
    id::RunId,
    unit::{Failure, Outcome},
};
use proto::internal::v1 as pb;
use scheduler::{
    engine::{EngineError, Timing},
    wire::AttemptId,
};
use serde_json::json;
use testkit::wait_for;

/// A run of one block, which has failed.
async fn failed(cluster: &Cluster, executor: &mut FakeExecutor) -> RunId {
    let pipeline = cluster.deploy(json!([block("a", &[])])).await;
    let run = cluster.create(pipeline, "k").await.unwrap();
    let first = executor.assigned().await;
    fail(cluster, executor, run, &first).await;
    run
}

async fn fail(cluster: &Cluster, executor: &FakeExecutor, run: RunId, assigned: &[pb::Assignment]) {
    executor.end(&assigned[0], Outcome::Failed(Failure::new("USER_CODE", "no"))).await;
    cluster.until(run, "failed").await;
}

fn lease(assigned: &[pb::Assignment]) -> i64 {
    assigned[0].attempt.as_ref().unwrap().lease
}

/// Nothing was assigned by now: what a second run gets next is the first thing that comes.
async fn gets_nothing(cluster: &Cluster, executor: &mut FakeExecutor) {
    let other = cluster.deploy(json!([block("other", &[])])).await;
    let run = cluster.create(other, "k").await.unwrap();
    let next = executor.assigned().await;
    assert_eq!(name(&next[0]), "other", "a block ran twice for one key");
    executor.complete(&next[0]).await;
    cluster.until(run, "completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_for_again_while_it_runs_it_is_answered_and_nothing_else() {
    let cluster = Cluster::new().await;
    let mut executor = cluster.executor(2).await;
    let run = failed(&cluster, &mut executor).await;
    cluster.retry(run, "first").await.unwrap();
    cluster.retry(run, "first").await.unwrap();
    let again = executor.assigned().await;
    cluster.retry(run, "first").await.unwrap();
    let refused = cluster.retry(run, "second").await;
    assert!(matches!(refused, Err(EngineError::NotEnded(of)) if of == run), "another retry: {refused:?}");
    assert!(matches!(cluster.retry(run, "").await, Err(EngineError::NotEnded(_))), "no key is like no other");
    gets_nothing(&cluster, &mut executor).await;
    executor.complete(&again[0]).await;
    cluster.until(run, "completed").await;
    cluster.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_for_again_after_the_run_has_ended_again_it_runs_nothing() {
    let cluster = Cluster::new().await;
    let mut executor = cluster.executor(2).await;
    let run = failed(&cluster, &mut executor).await;
    cluster.retry(run, "first").await.unwrap();
    let again = executor.assigned().await;
    fail(&cluster, &executor, run, &again).await;
    cluster.retry(run, "first").await.unwrap();
    assert_eq!(cluster.status(run).await, "failed");
    gets_nothing(&cluster, &mut executor).await;
    // Another key is another retry.
    cluster.retry(run, "second").await.unwrap();
    let third = executor.assigned().await;
    assert!(lease(&third) > lease(&again));
    executor.complete(&third[0]).await;
    cluster.until(run, "completed").await;
    cluster.stop.cancel();
}

/// The owner commits and dies before it answers: its successor finds the key with the run.
#[tokio::test(flavor = "multi_thread")]
async fn a_successor_knows_the_retry_that_its_predecessor_committed() {
    let mut cluster = Cluster::new().await;
    let mut executor = cluster.executor(1).await;
    let run = failed(&cluster, &mut executor).await;
    cluster.retry(run, "first").await.unwrap();
    let again = executor.assigned().await;
    cluster.engine = start(&cluster.store, Timing::default()).await.0;
    let held = AttemptId::from_proto(again[0].attempt.clone().unwrap()).unwrap();
    cluster.stop.cancel();
    let mut executor = FakeExecutor::connect(executor.id, 2, &cluster.engine, 1, vec![held]).await;
    wait_for("the successor to own the run", WAIT, || async {
        match cluster.retry(run, "first").await {
            Err(EngineError::NotOwner | EngineError::Unavailable) => None,
            answer => Some(answer),
        }
    })
    .await
    .unwrap();
    assert!(matches!(cluster.retry(run, "second").await, Err(EngineError::NotEnded(_))));
    executor.complete(&again[0]).await;
    assert!(executor.acked().await);
    cluster.until(run, "completed").await;
}

#[tokio::test]
async fn a_key_that_cannot_be_stored_is_refused_alone() {
    let cluster = Cluster::new().await;
    let mut executor = cluster.executor(1).await;
    let run = failed(&cluster, &mut executor).await;
    for key in ["a\0b".to_owned(), "k".repeat(256)] {
        assert!(matches!(cluster.retry(run, &key).await, Err(EngineError::Refused(_))), "{key:?}");
    }
    cluster.retry(run, "k").await.unwrap();
    cluster.stop.cancel();
}
