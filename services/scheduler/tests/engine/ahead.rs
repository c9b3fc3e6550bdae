//! What an executor is given ahead, and what becomes of it.

use crate::{
    block, name,
    world::{Cluster, FakeExecutor, WAIT, start},
};
use domain::{
    id::{ExecutorId, RunId},
    unit::{Outcome, Output},
};
use proto::internal::v1::{self as pb, session_response::Message as Said};
use scheduler::{
    engine::{Held, SessionEvent, Timing},
    wire::AttemptId,
};
use serde_json::Value;
use std::time::Duration;
use uuid::Uuid;

const ME: ExecutorId = ExecutorId(Uuid::from_u128(11));

fn chain(length: usize) -> Value {
    let name = |at: usize| format!("b{at}");
    let blocks = (0..length).map(|at| {
        let upstream: Vec<String> = (at > 0).then(|| name(at - 1)).into_iter().collect();
        let mut block = block(&name(at), &upstream.iter().map(String::as_str).collect::<Vec<_>>());
        block["executor_type"] = "noop".into();
        block
    });
    blocks.collect()
}

fn attempt(assignment: &pb::Assignment) -> AttemptId {
    AttemptId::from_proto(assignment.attempt.clone().unwrap()).unwrap()
}

fn completed(assignments: &[pb::Assignment]) -> SessionEvent {
    completed_in(assignments, Duration::ZERO)
}

fn completed_in(assignments: &[pb::Assignment], took: Duration) -> SessionEvent {
    let done = || Outcome::Completed(Output::default());
    SessionEvent::Results(assignments.iter().map(|assignment| (attempt(assignment), done(), took)).collect())
}

/// A cluster in which a run of these blocks has begun, and its one executor, with one slot: what is ahead holds none.
async fn begun(blocks: Value, timing: Timing) -> (Cluster, FakeExecutor, RunId) {
    let cluster = Cluster::with(timing).await;
    let pipeline = cluster.deploy(blocks).await;
    let executor = FakeExecutor::that_goes_on(ME, &cluster.engine, 1).await;
    let run = cluster.create(pipeline, "k").await.unwrap();
    (cluster, executor, run)
}

/// What it is given behind the first block.
async fn second_lane(executor: &mut FakeExecutor) -> Vec<pb::Assignment> {
    let first = executor.assigned().await;
    executor.tell(completed(&first)).await;
    let lane = executor.assigned().await;
    assert_eq!(lane.len(), 2);
    lane
}

/// Completes what it is given, until it was so many.
async fn finish(executor: &mut FakeExecutor, count: usize) {
    let mut given = 0;
    while given < count {
        let lane = executor.assigned().await;
        given += lane.len();
        executor.tell(completed(&lane)).await;
    }
}

/// Each is to begin behind the one before it.
fn is_a_lane(assignments: &[pb::Assignment]) -> bool {
    assignments[0].after.is_none() && assignments.windows(2).all(|two| two[1].after == two[0].attempt)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_quick_blocks_is_given_further_and_further_ahead() {
    let (cluster, mut executor, run) = begun(chain(20), Timing::default()).await;
    let (mut given, mut lengths) = (0, Vec::new());
    while given < 20 {
        let lane = executor.assigned().await;
        assert!(is_a_lane(&lane), "{lane:?}");
        for assignment in &lane {
            assert_eq!(name(assignment), format!("b{given}"));
            given += 1;
        }
        lengths.push(lane.len());
        executor.tell(completed(&lane)).await;
    }
    assert_eq!(lengths, [1, 2, 8, 9], "as far as the quick blocks before have earned, and as the chain goes");
    cluster.until(run, "completed").await;
    let ran = "SELECT count(*) FROM block_run WHERE run_id = $1 AND status = 'completed' AND attempts = 1
                  AND completed_at >= started_at";
    let row = cluster.database.client().await.query_one(ran, &[&run.0]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 20);
    cluster.stop.cancel();
}

/// What it asks of the cluster is answered from what is committed.
#[tokio::test(flavor = "multi_thread")]
async fn user_code_is_never_given_ahead() {
    let mut blocks = chain(4);
    blocks[2].as_object_mut().unwrap().remove("executor_type");
    let (cluster, mut executor, run) = begun(blocks, Timing::default()).await;
    for blocks in [&["b0"][..], &["b1"], &["b2", "b3"]] {
        let lane = executor.assigned().await;
        assert_eq!(lane.iter().map(name).collect::<Vec<_>>(), blocks);
        executor.tell(completed(&lane)).await;
    }
    cluster.until(run, "completed").await;
    cluster.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_slow_block_nothing_is_given_ahead() {
    let (cluster, mut executor, run) = begun(chain(5), Timing::default()).await;
    for (took, ahead) in [(0, 1), (1, 2), (0, 1), (0, 1)] {
        let lane = executor.assigned().await;
        assert_eq!(lane.len(), ahead);
        executor.tell(completed_in(&lane, Duration::from_secs(took))).await;
    }
    cluster.until(run, "completed").await;
    cluster.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_given_ahead_to_one_that_does_not_go_on_nor_while_others_wait() {
    let cluster = Cluster::new().await;
    let pipeline = cluster.deploy(chain(3)).await;
    let mut executor = cluster.executor(1).await;
    cluster.create(pipeline, "k").await.unwrap();
    for _ in 0..3 {
        let lane = executor.assigned().await;
        assert_eq!(lane.len(), 1);
        executor.tell(completed(&lane)).await;
    }
    executor.tell(SessionEvent::Goodbye).await;
    let mut executor = FakeExecutor::that_goes_on(ME, &cluster.engine, 1).await;
    for key in ["1", "2"] {
        cluster.create(pipeline, key).await.unwrap();
    }
    let (mut alone, mut waits) = (0, 4);
    while waits > 0 {
        let lane = executor.assigned().await;
        alone += usize::from(lane.len() == 1);
        waits -= lane.len().min(waits);
        executor.tell(completed(&lane)).await;
    }
    assert!(alone >= 3, "of two runs that wait for one slot none is given ahead: {alone}");
    cluster.stop.cancel();
}

/// Given back before what it followed has ended, it is leased anew when its time has come; a result that was heard before its time
/// has no answer.
#[tokio::test(flavor = "multi_thread")]
async fn what_goes_back_is_leased_again_and_what_comes_early_comes_again() {
    let (cluster, mut executor, run) = begun(chain(4), Timing::default()).await;
    let lane = second_lane(&mut executor).await;
    executor.tell(completed(&lane[1..])).await;
    executor.tell(SessionEvent::Results(vec![(attempt(&lane[1]), Outcome::Released, Duration::ZERO)])).await;
    executor.tell(completed(&lane[..1])).await;
    let rest = executor.assigned().await;
    assert_eq!(name(&rest[0]), "b2");
    assert!(attempt(&rest[0]).lease > attempt(&lane[1]).lease);
    executor.tell(completed(&rest)).await;
    finish(&mut executor, 2 - rest.len()).await;
    cluster.until(run, "completed").await;
    cluster.stop.cancel();
}

/// Executors give back the last one first. Older ones do not, and the run takes back by itself what is behind one that goes back.
#[tokio::test(flavor = "multi_thread")]
async fn from_whichever_end_a_lane_goes_back_nothing_is_taught_again_or_stale() {
    for (first, second, counts) in [(2, 1, true), (1, 2, false)] {
        let (cluster, mut executor, run) = begun(chain(6), Timing::default()).await;
        let lane = second_lane(&mut executor).await;
        executor.tell(completed(&lane)).await;
        let lane = executor.assigned().await;
        assert_eq!(lane.len(), 3);
        let back = [first, second].map(|at| (attempt(&lane[at]), Outcome::Released, Duration::ZERO));
        executor.tell(SessionEvent::Results(back.to_vec())).await;
        assert!(executor.answered(&lane[first]).await);
        assert_eq!(executor.answered(&lane[second]).await, counts);
        executor.tell(completed(&lane[..1])).await;
        finish(&mut executor, 2).await;
        cluster.until(run, "completed").await;
        assert_eq!((executor.taught, cluster.metrics.stale_results.get()), (1, 0));
        cluster.stop.cancel();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_lane_that_never_arrived_nothing_is_stale() {
    let (cluster, mut executor, run) = begun(chain(4), Timing::default()).await;
    second_lane(&mut executor).await;
    let mut executor = FakeExecutor::that_goes_on(ME, &cluster.engine, 1).await;
    executor.tell(SessionEvent::Heartbeat { sequence: 1, running: 0 }).await;
    finish(&mut executor, 3).await;
    cluster.until(run, "completed").await;
    assert_eq!(cluster.metrics.stale_results.get(), 0);
    cluster.stop.cancel();
}

/// The next owner finds in the rows what was given ahead, and in the executor's words that it is still there.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_owner_goes_on_with_what_was_given_ahead() {
    let patient = Timing { lost_after: 3 * WAIT, ..Timing::default() };
    let (mut cluster, mut executor, run) = begun(chain(3), patient).await;
    let lane = second_lane(&mut executor).await;
    cluster.stop.cancel();
    (cluster.engine, cluster.stop) = start(&cluster.store, patient).await;
    let mut executor = FakeExecutor::that_goes_on(ME, &cluster.engine, 1).await;
    let held = || Held { running: vec![attempt(&lane[0])], ahead: vec![attempt(&lane[1])] };
    // Whoever owns the run asks what there is.
    loop {
        let message = tokio::time::timeout(WAIT, executor.inbox.recv()).await.expect("a question").unwrap().message;
        match message.unwrap() {
            Said::InventoryRequest(_) => break,
            Said::Assignments(given) => panic!("{given:?} was given while it was held"),
            _ => {}
        }
    }
    executor.tell(SessionEvent::Inventory(held())).await;
    executor.tell(completed(&lane)).await;
    cluster.until(run, "completed").await;
    let once = "SELECT count(*) FROM block_run WHERE run_id = $1 AND attempts = 1";
    let row = cluster.database.client().await.query_one(once, &[&run.0]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 3, "nothing was run again");
    cluster.stop.cancel();
}
