//! Executors that leave, and that come again.

use crate::{
    block, name,
    world::{Cluster, FakeExecutor, WAIT, creation, start},
};
use domain::{
    id::{PipelineId, RunId},
    unit::Outcome,
};
use prost::Message as _;
use proto::internal::v1::{self as pb, session_response::Message as Said};
use scheduler::{
    engine::{Held, SessionEvent, Timing},
    wire::AttemptId,
};
use serde_json::json;
use std::time::{Duration, Instant};
use store::executors::ExecutorRow;
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

/// Makes the engine forget everything and load it again; there is one run more then.
async fn reload(cluster: &Cluster, pipeline: PipelineId) -> RunId {
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                     WHERE datname = current_database() AND pid <> pg_backend_pid()";
    cluster.database.client().await.execute(terminate, &[]).await.unwrap();
    wait_for("the engine to load again", WAIT, || async { cluster.create(pipeline, "other").await.ok() }).await
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
    reload(&cluster, pipeline).await;
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

/// The scheduler keeps 1,024 versions. What it has forgotten of them, its runs still have.
#[tokio::test(flavor = "multi_thread")]
async fn an_executor_is_taught_what_the_scheduler_has_not_kept() {
    let cluster = Cluster::new().await;
    let pipeline = cluster.deploy(json!([block("a", &[])])).await;
    cluster.create(pipeline, "k").await.unwrap();
    // Their runs are over at once: only that one waits.
    let empty = cluster.deploy(json!([])).await;
    let others = cluster.copies(empty, 1_024).await;
    cluster.create_all(others.into_iter().map(|other| creation(other, "k", "{}")).collect()).await;
    let mut executor = cluster.executor(1).await;
    let mut taught = Vec::new();
    let assignments = loop {
        match executor.next().await {
            Said::Definition(definition) => taught.push(definition.id),
            Said::Assignments(assigned) => break assigned.assignments,
            _ => {}
        }
    };
    assert_eq!(taught, [assignments[0].definition_id.clone()]);
    cluster.stop.cancel();
}

/// Executors and gateways take messages of a bounded length, and each assignment has the variables of its run.
#[tokio::test(flavor = "multi_thread")]
async fn large_assignments_of_one_turn_come_in_several_messages() {
    const RUNS: usize = 20;
    let cluster = Cluster::new().await;
    let pipeline = cluster.deploy(json!([block("a", &[])])).await;
    let mut executor = cluster.executor(64).await;
    let variables = json!({ "large": "x".repeat(250 * 1024) }).to_string();
    cluster.create_all((0..RUNS).map(|n| creation(pipeline, &n.to_string(), &variables)).collect()).await;
    let mut lengths = Vec::new();
    while lengths.iter().map(|(count, _)| count).sum::<usize>() < RUNS {
        let assignments = executor.assigned().await;
        lengths.push((assignments.len(), pb::Assignments { assignments }.encoded_len()));
    }
    assert!(lengths.iter().all(|(_, bytes)| *bytes <= 1024 * 1024 + 64), "{lengths:?}");
    assert!(lengths.len() <= RUNS / 3, "{lengths:?}");
    cluster.stop.cancel();
}

/// Its owner forgets what an executor runs. Until that has said it again, nothing there is free.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_is_not_given_out_twice_after_a_reload() {
    let cluster = Cluster::new().await;
    let pipeline = cluster.deploy(json!([block("a", &[])])).await;
    let mut executor = cluster.executor(1).await;
    let run = cluster.create(pipeline, "k").await.unwrap();
    let first = executor.assigned().await;
    executor.held = vec![attempt(&first[0])];
    let waiting = reload(&cluster, pipeline).await;
    // The turns after that had every chance to lease it.
    cluster.create(pipeline, "other").await.unwrap();
    while let Ok(said) = executor.inbox.try_recv() {
        let said = said.message.unwrap();
        assert!(!matches!(said, Said::Assignments(_)), "{said:?}");
    }
    executor.tell(SessionEvent::Inventory(Held { running: executor.held.clone(), ahead: Vec::new() })).await;
    executor.complete(&first[0]).await;
    assert!(executor.acked().await);
    cluster.until(run, "completed").await;
    let second = executor.assigned().await;
    assert_eq!(second[0].attempt.as_ref().unwrap().run_id, waiting.to_vec());
    executor.complete(&second[0]).await;
    cluster.until(waiting, "completed").await;
    cluster.stop.cancel();
}

/// An executor keeps few processes that wait: a run that has one does not wait for runs that have none.
#[tokio::test(flavor = "multi_thread")]
async fn runs_in_one_process_that_have_begun_go_before_those_that_have_not() {
    let cluster = Cluster::new().await;
    let blocks = json!([block("a", &[]), block("b", &["a"])]);
    let spec = json!({ "name": "p", "kind": "python", "blocks": blocks, "one_process": true });
    let pipeline = cluster.deploy_as(spec).await;
    let mut executor = cluster.executor(1).await;
    let mut runs = Vec::new();
    for key in ["1", "2", "3"] {
        runs.push(cluster.create(pipeline, key).await.unwrap());
    }
    let mut order = Vec::new();
    for _ in 0..6 {
        let next = executor.assigned().await;
        order.push((next[0].attempt.as_ref().unwrap().run_id.clone(), name(&next[0]).to_owned()));
        executor.complete(&next[0]).await;
    }
    for both in order.chunks(2) {
        assert!(both[0].0 == both[1].0 && both[1].1 == "b", "{order:?}");
    }
    for run in runs {
        cluster.until(run, "completed").await;
    }
    cluster.stop.cancel();
}

/// Tries that count as lost, and deaths.
async fn deaths(cluster: &Cluster, run: RunId) -> (i64, i64) {
    let count = "SELECT (SELECT count(*) FROM attempt WHERE run_id = $1 AND outcome = 'lost'),
                        (SELECT coalesce(sum(deaths), 0) FROM block_run WHERE run_id = $1)::bigint";
    let row = cluster.database.client().await.query_one(count, &[&run.0]).await.unwrap();
    (row.get(0), row.get(1))
}

/// Its owner dies, and it leaves before its runs have the next one: whoever hears the goodbye owns nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_goodbye_that_comes_before_the_next_owner_is_no_death() {
    let patient = Timing { lost_after: 3 * WAIT, ..Timing::default() };
    let mut cluster = Cluster::with(patient).await;
    let pipeline = cluster.deploy(json!([block("a", &[])])).await;
    let mut leaving = cluster.executor(1).await;
    let run = cluster.create(pipeline, "k").await.unwrap();
    let first = leaving.assigned().await;
    cluster.stop.cancel();
    (cluster.engine, cluster.stop) = start(&cluster.store, patient).await;
    let leaving = FakeExecutor::connect(leaving.id, 2, &cluster.engine, 1, vec![attempt(&first[0])]).await;
    leaving.tell(SessionEvent::Goodbye).await;
    let mut other = cluster.executor(1).await;
    let again = other.assigned().await;
    assert_eq!(again[0].attempt_number, first[0].attempt_number, "it counts as no try");
    other.complete(&again[0]).await;
    cluster.until(run, "completed").await;
    assert_eq!(deaths(&cluster, run).await, (0, 0));
    cluster.stop.cancel();
}

/// The stream from its gateway was broken when it left: here it is only silent.
#[tokio::test(flavor = "multi_thread")]
async fn who_said_goodbye_to_another_scheduler_is_not_lost() {
    let cluster = Cluster::with(Timing { lost_after: Duration::from_millis(1500), ..Timing::default() }).await;
    let pipeline = cluster.deploy(json!([block("a", &[])])).await;
    let mut silent = cluster.executor(1).await;
    let run = cluster.create(pipeline, "k").await.unwrap();
    silent.assigned().await;
    let row = |state| ExecutorRow {
        id: silent.id.0,
        name: "fake".to_owned(),
        backend: "fake".to_owned(),
        slots: 1,
        version: "0".to_owned(),
        state,
        running: 0,
    };
    // The second is the word of a scheduler that did not hear it.
    for state in ["gone", "lost"] {
        store::executors::upsert(&cluster.store, &[row(state)]).await.unwrap();
    }
    let running = "SELECT count(*) FROM block_run WHERE run_id = $1 AND status = 'running'";
    let client = cluster.database.client().await;
    let is_back = async || (client.query_one(running, &[&run.0]).await.unwrap().get::<_, i64>(0) == 0).then_some(());
    wait_for("the block to be given back", WAIT, is_back).await;
    let mut other = cluster.executor(1).await;
    let again = other.assigned().await;
    other.complete(&again[0]).await;
    cluster.until(run, "completed").await;
    assert_eq!(deaths(&cluster, run).await, (0, 0));
    cluster.stop.cancel();
}

/// An owner that waits for its database hears nobody, and has everything that was said meanwhile in its queue.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_lost_who_spoke_while_the_database_was_away() {
    let timing = Timing { lost_after: Duration::from_millis(1500), ..Timing::default() };
    let cluster = Cluster::with(timing).await;
    let pipeline = cluster.deploy(json!([block("a", &[])])).await;
    let mut executor = cluster.executor(1).await;
    let run = cluster.create(pipeline, "k").await.unwrap();
    let first = executor.assigned().await;
    executor.held = vec![attempt(&first[0])];
    executor.tell(SessionEvent::Heartbeat { sequence: 1, running: 1 }).await;
    // Its shards cannot be taken again before this lets them go.
    let holder = cluster.database.client().await;
    holder.batch_execute("BEGIN; LOCK TABLE shard IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                     WHERE datname = current_database() AND pid <> pg_backend_pid()";
    holder.execute(terminate, &[]).await.unwrap();
    let begun = Instant::now();
    let mut sequence = 1;
    while begun.elapsed() < 2 * timing.lost_after {
        tokio::time::sleep(timing.lost_after / 3).await;
        sequence += 1;
        executor.tell(SessionEvent::Heartbeat { sequence, running: 1 }).await;
    }
    holder.batch_execute("ROLLBACK").await.unwrap();
    wait_for("the engine to load again", WAIT, || async { cluster.create(pipeline, "other").await.ok() }).await;
    executor.complete(&first[0]).await;
    assert!(executor.acked().await, "it was never lost");
    cluster.until(run, "completed").await;
    assert_eq!(deaths(&cluster, run).await, (0, 0));
    cluster.stop.cancel();
}
