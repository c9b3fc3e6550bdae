//! What user code asks for while it runs: child runs over several tries, and what a question costs.

use crate::cluster::{Node, WAIT, World, block};
use domain::id::{RunId, SchedulerId};
use proto::internal::v1 as pb;
use scheduler::{calls::Calls, changes::Changes, orders::Orders, owners::Owners, wire::AttemptId};
use serde_json::{Value, json};
use uuid::Uuid;

fn calls(world: &World, node: &Node) -> Calls {
    let orders = Orders::new(node.engine.clone(), Owners::new(world.store.clone(), SchedulerId(Uuid::now_v7()), None));
    Calls::new(world.store.clone(), orders, Changes::default(), None, false)
}

async fn answered(calls: &Calls, asker: &AttemptId, method: &str, arguments: Value) -> pb::RunnerReply {
    let (outbox, mut inbox) = tokio::sync::mpsc::channel(1);
    let (attempt, method, arguments) = (Some(asker.to_proto()), method.to_owned(), arguments.to_string());
    calls.answer(pb::RunnerCall { call_id: 1, attempt, method, arguments }, outbox);
    let answer = tokio::time::timeout(WAIT, inbox.recv()).await.expect("an answer in time").unwrap();
    let Some(pb::session_response::Message::RunnerReply(reply)) = answer.message else { panic!("a reply") };
    reply
}

async fn call(calls: &Calls, asker: &AttemptId, method: &str, arguments: Value) -> Value {
    let reply = answered(calls, asker, method, arguments).await;
    assert_eq!(reply.error, "");
    serde_json::from_str(&reply.result).unwrap()
}

/// The child run that an attempt is given for its first call, and how that stands.
async fn child(calls: &Calls, asker: &AttemptId) -> (RunId, String) {
    let answer = call(calls, asker, "trigger_pipeline", json!({ "pipeline_uuid": "child", "key": "parent:1" })).await;
    (answer["run_id"].as_str().unwrap().parse().unwrap(), answer["status"].as_str().unwrap().to_owned())
}

/// Where the only attempt of a block is among what runs.
fn place_of(node: &Node, block: &str) -> usize {
    let is_it = |at: &usize| node.running[*at].attempt.as_ref().is_some_and(|attempt| attempt.block == block);
    (0..node.running.len()).find(is_it).expect("it runs")
}

/// Ends the try of the parent that runs, and waits for the next one.
async fn next_try(node: &mut Node, others: usize) -> AttemptId {
    node.fail(place_of(node, "parent")).await;
    node.until_running(others + 1).await;
    node.attempt(place_of(node, "parent"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_further_try_starts_another_run_in_the_place_of_one_that_failed_and_joins_any_other() {
    let world = World::new().await;
    let mut node = world.node(0..256, 20).await;
    world.deploy("child", 9, json!({ "blocks": [block("child", &[])] })).await;
    let mut parent = block("parent", &[]);
    parent["retry"] = json!({ "retries": 4, "delay_s": 1, "exponential_backoff": false });
    let parents = world.deploy("parents", 3, json!({ "blocks": [parent] })).await;
    let of_parent = node.create(parents, "k").await;
    let calls = calls(&world, &node);
    let runs = async || world.count("SELECT count(*) FROM run WHERE parent_run_id IS NOT NULL").await;
    node.until_running(1).await;
    let first_try = node.attempt(0);

    // PostgreSQL keeps no NUL, and what is sent is not changed behind its sender's back.
    let nul = json!({ "pipeline_uuid": "child", "key": "parent:1", "variables": { "x": ["a\0"] } });
    let refused = answered(&calls, &first_try, "trigger_pipeline", nul).await.error;
    assert!(refused.contains("variables.x[0] must hold no NUL"), "{refused}");
    assert_eq!(runs().await, 0);

    let (first, _) = child(&calls, &first_try).await;
    node.until_running(2).await;
    node.fail(place_of(&node, "child")).await;
    world.until(first, "failed").await;
    let again = child(&calls, &first_try).await;
    assert_eq!(again, (first, "failed".to_owned()), "what one try asks for twice is one run");

    let second_try = next_try(&mut node, 0).await;
    let (second, _) = child(&calls, &second_try).await;
    assert!(second != first, "the run that failed is of a try before");
    node.until_running(2).await;
    assert_eq!(child(&calls, &second_try).await.0, second);
    assert_eq!(child(&calls, &first_try).await.0, second, "who holds the block no more starts nothing");

    let third_try = next_try(&mut node, 1).await;
    assert_eq!(child(&calls, &third_try).await.0, second, "one that runs is joined");
    node.cancel(second).await;
    node.complete(place_of(&node, "child")).await;
    world.until(second, "cancelled").await;
    assert_eq!(child(&calls, &first_try).await.0, second);

    let fourth_try = next_try(&mut node, 0).await;
    let (third, _) = child(&calls, &fourth_try).await;
    assert!(third != second && third != first);
    node.until_running(2).await;
    node.complete(place_of(&node, "child")).await;
    world.until(third, "completed").await;

    let fifth_try = next_try(&mut node, 0).await;
    assert_eq!(child(&calls, &fifth_try).await, (third, "completed".to_owned()), "and so is one that completed");
    // Also where the run as a whole is tried again.
    node.fail(place_of(&node, "parent")).await;
    world.until(of_parent, "failed").await;
    node.retry(of_parent).await;
    node.until_running(1).await;
    assert_eq!(child(&calls, &node.attempt(0)).await.0, third);
    world.execute("UPDATE run SET status = 'failed' WHERE parent_run_id IS NOT NULL").await;
    let (last, _) = child(&calls, &node.attempt(0)).await;
    assert!(![first, second, third].contains(&last));
    assert_eq!(runs().await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_about_a_run_waits_for_none_of_its_units() {
    let world = World::new().await;
    let mut node = world.node(0..256, 20).await;
    let spec = json!({ "blocks": [block("parent", &[])], "variables": { "a": 1 } });
    let pipeline = world.deploy("parents", 3, spec).await;
    let run = node.create(pipeline, "k").await;
    node.until_running(1).await;
    node.settle().await;
    let (calls, asker) = (calls(&world, &node), node.attempt(0));
    let mut client = world.database.client().await;
    let nobody_reads = client.transaction().await.unwrap();
    nobody_reads.batch_execute("LOCK TABLE block_run IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let asked = json!({ "run_id": run, "timeout_s": 0, "pipeline_uuid": "parents" });
    for (method, field, expected) in [
        ("run_status", "status", json!("running")),
        ("wait_run", "status", json!("running")),
        ("global_variables", "a", json!(1)),
    ] {
        assert_eq!(call(&calls, &asker, method, asked.clone()).await[field], expected, "{method}");
    }
    nobody_reads.rollback().await.unwrap();
}
