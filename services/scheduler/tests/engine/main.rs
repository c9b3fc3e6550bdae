//! The engine on a real Postgres, with executors that are channels.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

mod ahead;
mod keeping;
mod remembered;
mod retries;
mod sessions;
mod world;

use domain::{
    id::ExecutorId,
    unit::{Outcome, Output},
};
use proto::internal::v1 as pb;
use scheduler::{
    engine::{EngineError, Message, SessionEvent, Timing},
    wire::AttemptId,
};
use serde_json::{Value, json};
use std::time::Duration;
use testkit::wait_for;
use uuid::Uuid;
use world::{Cluster, FakeExecutor, WAIT, start};

/// Many, where one for each would be too many.
const CALLS: u64 = 64;

fn block(uuid: &str, upstream: &[&str]) -> Value {
    json!({ "uuid": uuid, "name": uuid, "kind": "custom", "language": "python", "upstream": upstream })
}

fn name(assignment: &pb::Assignment) -> &str {
    &assignment.attempt.as_ref().unwrap().block
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_runs_block_by_block() {
    let cluster = Cluster::new().await;
    let pipeline = cluster.deploy(json!([block("a", &[]), block("b", &["a"])])).await;
    let mut executor = cluster.executor(2).await;
    let run = cluster.create(pipeline, "k").await.unwrap();
    let first = executor.assigned().await;
    assert_eq!(first.iter().map(name).collect::<Vec<_>>(), ["a"]);
    executor.complete(&first[0]).await;
    let second = executor.assigned().await;
    assert_eq!(name(&second[0]), "b");
    let lease = first[0].attempt.as_ref().unwrap().lease;
    assert_eq!(second[0].inputs[0].outputs[0].lease, lease);
    executor.complete(&second[0]).await;
    cluster.until(run, "completed").await;
    assert_eq!(cluster.create(pipeline, "k").await.unwrap(), run, "a known key answers the run that it made");
    cluster.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_go_to_executors_of_the_backend_that_they_need() {
    let cluster = Cluster::new().await;
    let of = |kind: &str, mut block: Value| {
        block["executor_type"] = json!(kind);
        block
    };
    let pipeline = cluster
        .deploy(json!([
            of("k8s", block("a", &[])),
            of("local_python", block("b", &[])),
            of("k8s", block("c", &["b"])),
            of("noop", block("d", &["a"])),
        ]))
        .await;
    let mut process = cluster.executor(8).await;
    let run = cluster.create(pipeline, "k").await.unwrap();
    let first = process.assigned().await;
    assert_eq!(first.iter().map(name).collect::<Vec<_>>(), ["b"], "the other one waits, and keeps nobody waiting");
    let id = ExecutorId(Uuid::now_v7());
    let mut jobs = FakeExecutor::connect_on("kubernetes", id, 1, &cluster.engine, 1, Vec::new()).await;
    let first_job = jobs.assigned().await;
    assert_eq!(first_job.iter().map(name).collect::<Vec<_>>(), ["a"]);
    // Its only slot is taken: `c` waits for it, though others are free.
    process.complete(&first[0]).await;
    assert!(process.acked().await);
    jobs.complete(&first_job[0]).await;
    let mut rest = 2;
    while rest > 0 {
        let (executor, assigned) = tokio::select! {
            assigned = jobs.assigned() => (&jobs, assigned),
            assigned = process.assigned() => (&process, assigned),
        };
        for assignment in &assigned {
            // A no-op runs anywhere.
            assert!(name(assignment) == "d" || std::ptr::eq(executor, &raw const jobs), "{assignment:?}");
            executor.complete(assignment).await;
            rest -= 1;
        }
    }
    cluster.until(run, "completed").await;
    cluster.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_executor_is_lost_and_its_late_result_is_refused() {
    let cluster = Cluster::with(Timing { lost_after: Duration::from_millis(1500), ..Timing::default() }).await;
    let pipeline = cluster.deploy(json!([block("a", &[])])).await;
    let mut silent = cluster.executor(1).await;
    let run = cluster.create(pipeline, "k").await.unwrap();
    let lost = silent.assigned().await;
    let mut other = cluster.executor(1).await;
    let beat = {
        let (engine, id, silent) = (other.engine.clone(), other.id, silent.id);
        tokio::spawn(async move {
            for sequence in 0.. {
                tokio::time::sleep(Duration::from_millis(200)).await;
                // A gateway's word about its slots is no word of the executor.
                let _ = engine.send(Message::Session(silent, 1, SessionEvent::Lent(0))).await;
                let event = SessionEvent::Heartbeat { sequence, running: 0 };
                if engine.send(Message::Session(id, 1, event)).await.is_err() {
                    break;
                }
            }
        })
    };
    let again = other.assigned().await;
    assert!(again[0].attempt.as_ref().unwrap().lease > lost[0].attempt.as_ref().unwrap().lease);
    let mut back = FakeExecutor::connect(silent.id, 2, &cluster.engine, 1, Vec::new()).await;
    back.complete(&lost[0]).await;
    assert!(!back.acked().await, "the first attempt's lease is old");
    other.complete(&again[0]).await;
    cluster.until(run, "completed").await;
    // The log of the attempt says what became of it, once.
    let lines = "SELECT message, block, lease, stream, block_type FROM log_line WHERE run_id = $1";
    let lines = cluster.database.client().await.query(lines, &[&run.0]).await.unwrap();
    assert_eq!(lines.len(), 1);
    let message: String = lines[0].get(0);
    assert!(message.starts_with("executor fake was lost: it is tried again"), "{message}");
    let told: (String, i64, String, String) = (lines[0].get(1), lines[0].get(2), lines[0].get(3), lines[0].get(4));
    let lease = lost[0].attempt.as_ref().unwrap().lease;
    assert_eq!(told, ("a".to_owned(), lease, "system".to_owned(), "custom".to_owned()));
    beat.abort();
    cluster.stop.cancel();
}

/// An assignment that was under way when its executor said goodbye has reached nobody.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_on_its_way_to_an_executor_that_left_runs_elsewhere() {
    let cluster = Cluster::new().await;
    let pipeline = cluster.deploy(json!([block("a", &[])])).await;
    let mut leaving = cluster.executor(1).await;
    let run = cluster.create(pipeline, "k").await.unwrap();
    let unheard = leaving.assigned().await;
    leaving.tell(SessionEvent::Goodbye).await;
    let mut other = cluster.executor(1).await;
    let again = other.assigned().await;
    assert_eq!(again[0].attempt_number, unheard[0].attempt_number, "it counts as no try");
    other.complete(&again[0]).await;
    cluster.until(run, "completed").await;
    cluster.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_takes_over_where_the_scheduler_was_killed() {
    let mut cluster = Cluster::new().await;
    let pipeline = cluster.deploy(json!([block("a", &[]), block("b", &["a"])])).await;
    let mut executor = cluster.executor(1).await;
    let run = cluster.create(pipeline, "k").await.unwrap();
    let first = executor.assigned().await;
    // Not a clean stop: the former owner's lease is not handed back.
    cluster.engine = start(&cluster.store, Timing::default()).await.0;
    let held = AttemptId::from_proto(first[0].attempt.clone().unwrap()).unwrap();
    cluster.stop.cancel();
    // It comes before its runs have an owner: nothing of it is judged until then.
    let mut executor = FakeExecutor::connect(executor.id, 2, &cluster.engine, 1, vec![held]).await;
    let pb::session_response::Message::Welcome(welcome) = executor.next().await else { panic!("no welcome") };
    assert!(welcome.unknown.is_empty());
    wait_for("the successor to own the run", WAIT, || async {
        matches!(cluster.create(pipeline, "k").await, Ok(known) if known == run).then_some(())
    })
    .await;
    executor.complete(&first[0]).await;
    assert!(executor.acked().await);
    let second = executor.assigned().await;
    assert_eq!(name(&second[0]), "b");
    executor.complete(&second[0]).await;
    cluster.until(run, "completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_awaits_what_runs_and_retry_runs_it_again() {
    let cluster = Cluster::new().await;
    let pipeline = cluster.deploy(json!([block("a", &[]), block("b", &["a"])])).await;
    let mut executor = cluster.executor(1).await;
    let run = cluster.create(pipeline, "k").await.unwrap();
    let first = executor.assigned().await;
    cluster.cancel(run).await.unwrap();
    let stop = loop {
        if let pb::session_response::Message::Cancel(cancel) = executor.next().await {
            break cancel;
        }
    };
    assert_eq!(stop.attempts[0].block, "a");
    assert_eq!(cluster.status(run).await, "running", "what runs is awaited");
    executor.end(&first[0], Outcome::Cancelled).await;
    cluster.until(run, "cancelled").await;
    cluster.retry(run, "").await.unwrap();
    let again = executor.assigned().await;
    assert_eq!(name(&again[0]), "a");
    assert!(again[0].attempt.as_ref().unwrap().lease > first[0].attempt.as_ref().unwrap().lease);
    executor.complete(&again[0]).await;
    let last = executor.assigned().await;
    executor.complete(&last[0]).await;
    cluster.until(run, "completed").await;
    cluster.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fan_of_ten_thousand_reduces_to_one() {
    let cluster = Cluster::new().await;
    let mut source = block("source", &[]);
    source["dynamic"] = json!(true);
    let mut child = block("child", &["source"]);
    child["reduce_output"] = json!(true);
    let pipeline = cluster.deploy(json!([source, child, block("sum", &["child"])])).await;
    let mut executor = cluster.executor(500).await;
    let run = cluster.create(pipeline, "k").await.unwrap();
    let first = executor.assigned().await;
    executor.end(&first[0], Outcome::Completed(Output { items: Some(10_000), ..Output::default() })).await;
    let mut done = 0;
    while done < 10_000 {
        let assigned = executor.assigned().await;
        done += assigned.len();
        let results = assigned
            .iter()
            .map(|a| {
                let attempt = AttemptId::from_proto(a.attempt.clone().unwrap()).unwrap();
                (attempt, Outcome::Completed(Output::default()), Duration::ZERO)
            })
            .collect();
        executor.tell(SessionEvent::Results(results)).await;
    }
    let sum = executor.assigned().await;
    assert_eq!((name(&sum[0]), sum[0].inputs[0].outputs.len()), ("sum", 10_000));
    executor.complete(&sum[0]).await;
    cluster.until(run, "completed").await;
    cluster.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_in_an_old_epoch_counts_nothing() {
    let cluster = Cluster::new().await;
    let pipeline = cluster.deploy(json!([block("a", &[])])).await;
    let mut executor = cluster.executor(1).await;
    let run = cluster.create(pipeline, "k").await.unwrap();
    let first = executor.assigned().await;
    // Somebody else took the shards; this engine does not know it yet.
    let client = cluster.database.client().await;
    client.execute("UPDATE shard SET epoch = epoch + 1", &[]).await.unwrap();
    executor.complete(&first[0]).await;
    wait_for("the shard's new epoch", WAIT, || async {
        matches!(cluster.create(pipeline, "k").await, Ok(known) if known == run).then_some(())
    })
    .await;
    assert_eq!(cluster.status(run).await, "running", "the result counted though its write was refused");
    let first_words = executor.inbox.try_recv().unwrap().message;
    assert!(matches!(first_words, Some(pb::session_response::Message::InventoryRequest(_))), "{first_words:?}");
    executor.complete(&first[0]).await;
    assert!(executor.acked().await, "loaded again, the same attempt is current");
    cluster.until(run, "completed").await;
    cluster.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_end_break_what_was_promised_and_nothing_else() {
    let cluster = Cluster::new().await;
    let pipeline = cluster.deploy(json!([block("a", &[]), block("b", &["a"])])).await;
    let mut executor = cluster.executor(1).await;
    let run = cluster.create(pipeline, "k").await.unwrap();
    let first = executor.assigned().await;
    executor.held = vec![AttemptId::from_proto(first[0].attempt.clone().unwrap()).unwrap()];
    let client = cluster.database.client().await;
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                     WHERE datname = current_database() AND pid <> pg_backend_pid()";
    client.execute(terminate, &[]).await.unwrap();
    executor.complete(&first[0]).await;
    wait_for("the engine to load again", WAIT, || async {
        matches!(cluster.create(pipeline, "k").await, Ok(known) if known == run).then_some(())
    })
    .await;
    assert_eq!(cluster.status(run).await, "running", "the result counted without a session that could say so");
    executor.complete(&first[0]).await;
    assert!(executor.acked().await, "loaded again, the same attempt is current");
    let second = executor.assigned().await;
    let lease = |a: &pb::Assignment| a.attempt.as_ref().unwrap().lease;
    assert!(lease(&second[0]) > lease(&first[0]) + 1, "a lease that a crash may have forgotten was given again");
    executor.complete(&second[0]).await;
    cluster.until(run, "completed").await;
    cluster.stop.cancel();
}

/// PostgreSQL takes no NUL: who sends one must not fail the commit that everybody shares.
#[tokio::test]
async fn what_the_database_does_not_take_harms_only_its_sender() {
    let cluster = Cluster::new().await;
    let pipeline = cluster.deploy(json!([block("a", &[])])).await;
    for key in ["a\0b".to_owned(), String::new(), "k".repeat(256)] {
        let refused = cluster.create(pipeline, &key).await;
        assert!(matches!(refused, Err(EngineError::Refused(_))), "{key:?}: {refused:?}");
    }
    let run = cluster.create_with(pipeline, "variables", r#"{ "name": "a\u0000b" }"#).await.unwrap();
    let stored = store::runs::one(&cluster.store, run).await.unwrap().unwrap();
    assert_eq!(stored.variables, json!({ "name": "ab" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_come_together_ask_the_database_together() {
    let (cluster, ways) = Cluster::counted().await;
    let mut pipelines = Vec::new();
    for _ in 0..CALLS {
        pipelines.push(cluster.deploy(json!([block("a", &[])])).await);
    }
    let before = ways.count();
    let mut answers = Vec::new();
    for pipeline in pipelines {
        answers.push(cluster.ask(pipeline, "k", "{}").await);
    }
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    let asked = ways.count() - before;
    // Each of them in a workspace of its own; a few turns, and the rounds of the one who keeps the shards.
    assert!(asked < CALLS, "{CALLS} calls of as many pipelines asked {asked} times, one after the other");
    cluster.stop.cancel();
}
