//! Executors that leave, and that come again.

use crate::{
    block, name,
    world::{Cluster, FakeExecutor, WAIT, start},
};
use domain::unit::Outcome;
use proto::internal::v1::{self as pb, session_response::Message as Said};
use scheduler::{
    engine::{SessionEvent, Timing},
    wire::AttemptId,
};
use serde_json::json;
use testkit::wait_for;

fn attempt(assignment: &pb::Assignment) -> AttemptId {
    AttemptId::from_proto(assignment.attempt.clone().unwrap()).unwrap()
}

/// Waits until it is told to stop something.
async fn told_to_stop(executor: &mut FakeExecutor) -> pb::Cancel {
    loop {
        if let Said::Cancel(cancel) = executor.next().await {
            return cancel;
        }
    }
}

/// A rolling restart moves one-process runs on, and kills none of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_in_one_process_goes_on_elsewhere_when_its_executor_drained_and_left() {
    let cluster = Cluster::new().await;
    for (cached, again) in [(false, ["b"].as_slice()), (true, ["a", "b"].as_slice())] {
        let blocks = json!([block("a", &[]), block("b", &["a"])]);
        let pipeline = cluster
            .deploy_as(json!({
                "name": "p", "kind": "python", "blocks": blocks,
                "one_process": true, "cache_output_in_memory": cached,
            }))
            .await;
        let mut leaving = cluster.executor(1).await;
        let run = cluster.create(pipeline, "k").await.unwrap();
        let first = leaving.assigned().await;
        leaving.tell(SessionEvent::Draining).await;
        leaving.complete(&first[0]).await;
        assert!(leaving.acked().await);
        leaving.tell(SessionEvent::Goodbye).await;
        let mut other = cluster.executor(1).await;
        for block in again {
            let next = other.assigned().await;
            assert_eq!(name(&next[0]), *block);
            other.complete(&next[0]).await;
        }
        cluster.until(run, "completed").await;
        other.tell(SessionEvent::Goodbye).await;
    }
    cluster.stop.cancel();
}

/// The word to stop is sent once. It is lost with the session that it was meant for, with the owner that was to say it,
/// and with what the owner forgets when its database was away: whoever hears what runs says it again.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_stop_is_told_so_whenever_it_is_heard_of() {
    let patient = Timing { lost_after: 3 * WAIT, ..Timing::default() };
    let mut cluster = Cluster::with(patient).await;
    let pipeline = cluster.deploy(json!([block("a", &[])])).await;
    let mut executor = cluster.executor(1).await;
    let run = cluster.create(pipeline, "k").await.unwrap();
    let first = executor.assigned().await;
    let held = vec![attempt(&first[0])];
    executor.tell(SessionEvent::Closed).await;
    cluster.cancel(run).await.unwrap();
    let mut executor = FakeExecutor::connect(executor.id, 2, &cluster.engine, 1, held.clone()).await;
    assert_eq!(told_to_stop(&mut executor).await.attempts, vec![first[0].attempt.clone().unwrap()]);

    // The same session, and an owner that has forgotten everything.
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                     WHERE datname = current_database() AND pid <> pg_backend_pid()";
    cluster.database.client().await.execute(terminate, &[]).await.unwrap();
    wait_for("the engine to load again", WAIT, || async { cluster.create(pipeline, "other").await.ok() }).await;
    assert_eq!(told_to_stop(&mut executor).await.attempts[0].block, "a");

    // The owner is killed; the session with the next one begins before that owns the run.
    cluster.stop.cancel();
    (cluster.engine, cluster.stop) = start(&cluster.store, patient).await;
    let mut executor = FakeExecutor::connect(executor.id, 3, &cluster.engine, 1, held).await;
    let stop = told_to_stop(&mut executor).await;
    assert_eq!((stop.attempts[0].block.as_str(), stop.grace_ms), ("a", 10_000));
    executor.end(&first[0], Outcome::Cancelled).await;
    cluster.until(run, "cancelled").await;
    cluster.stop.cancel();
}
