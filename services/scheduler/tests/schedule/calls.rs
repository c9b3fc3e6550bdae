//! What user code asks for while it runs: child runs over several tries, and what a question costs.

use crate::cluster::{Node, WAIT, World, block};
use domain::id::{RunId, SchedulerId};
use proto::internal::v1 as pb;
use scheduler::{
    calls::{Calls, Waits},
    changes::Changes,
    orders::Orders,
    owners::Owners,
    wire::AttemptId,
};
use serde_json::{Value, json};
use uuid::Uuid;

fn calls(world: &World, node: &Node) -> Calls {
    let orders = Orders::new(node.engine.clone(), Owners::new(world.store.clone(), SchedulerId(Uuid::now_v7()), None));
    Calls::new(world.store.clone(), orders, Changes::default(), None, false)
}

async fn call(calls: &Calls, asker: &AttemptId, method: &str, arguments: Value) -> Value {
    ask(calls, asker, method, arguments).await.unwrap()
}

async fn ask(calls: &Calls, asker: &AttemptId, method: &str, arguments: Value) -> Result<Value, String> {
    let (outbox, mut inbox) = tokio::sync::mpsc::channel(1);
    let (attempt, method, arguments) = (Some(asker.to_proto()), method.to_owned(), arguments.to_string());
    calls.answer(pb::RunnerCall { call_id: 1, attempt, method, arguments }, outbox, &Waits::on(1));
    let answer = tokio::time::timeout(WAIT, inbox.recv()).await.expect("an answer in time").unwrap();
    let Some(pb::session_response::Message::RunnerReply(reply)) = answer.message else { panic!("a reply") };
    match reply.error.as_str() {
        "" => Ok(serde_json::from_str(&reply.result).unwrap()),
        error => Err(error.to_owned()),
    }
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
    let refused = ask(&calls, &first_try, "trigger_pipeline", nul).await.unwrap_err();
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
async fn nobody_waits_for_what_is_not_there() {
    let world = World::new().await;
    let mut node = world.node(0..256, 20).await;
    let spec = json!({ "blocks": [block("first", &[]), block("second", &["first"])] });
    let pipeline = world.deploy("watched", 3, spec).await;
    node.create(pipeline, "k").await;
    node.until_running(1).await;
    let (calls, asker) = (calls(&world, &node), node.attempt(0));
    let long_ago = "2020-01-01T00:00:00Z";
    for (asked, expect) in [
        (json!({ "pipeline_uuid": "watched", "block_uuid": "second" }), Ok(json!("initial"))),
        (json!({ "pipeline_uuid": "watched", "block_uuid": "second", "execution_date": long_ago }), Ok(Value::Null)),
        (json!({ "pipeline_uuid": "watched", "block_uuid": "third" }), Err("has no block `third`")),
        (json!({ "pipeline_uuid": "watched", "block_uuid": "third", "execution_date": long_ago }), Err("`third`")),
        (json!({ "pipeline_uuid": "other" }), Err("has no pipeline `other`")),
    ] {
        match (ask(&calls, &asker, "check_status", asked).await, expect) {
            (Ok(answer), Ok(status)) => assert_eq!(answer["status"], status),
            (Err(refused), Err(said)) => assert!(refused.contains(said), "{refused}"),
            (answer, expect) => panic!("{answer:?}, and not {expect:?}"),
        }
    }
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

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_forgotten_is_started_anew_for_who_asks_for_it_again() {
    let world = World::new().await;
    let mut node = world.node(0..256, 20).await;
    world.deploy("child", 9, json!({ "blocks": [block("child", &[])] })).await;
    let parents = world.deploy("parents", 3, json!({ "blocks": [block("parent", &[])] })).await;
    let of_parent = node.create(parents, "k").await;
    let calls = calls(&world, &node);
    let mut known: Vec<RunId> = Vec::new();
    // The first run that the call started is forgotten, then the one in its place.
    for _ in 0..3 {
        node.until_running(1).await;
        let asker = node.attempt(0);
        let (run, _) = child(&calls, &asker).await;
        assert!(!known.contains(&run), "it is there no more");
        assert_eq!(child(&calls, &asker).await.0, run, "what one try asks for twice is one run");
        known.push(run);
        node.until_running(2).await;
        node.complete(place_of(&node, "child")).await;
        world.until(run, "completed").await;
        node.fail(0).await;
        world.until(of_parent, "failed").await;
        let forget = "DELETE FROM block_run WHERE run_id = '{run}'; DELETE FROM run WHERE id = '{run}'";
        world.execute(&forget.replace("{run}", &run.to_string())).await;
        node.retry(of_parent).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_outlasts_a_database_that_is_away_for_a_moment() {
    let world = World::new().await;
    let mut node = world.node(0..256, 20).await;
    let parents = world.deploy("parents", 3, json!({ "blocks": [block("parent", &[])] })).await;
    world.deploy("child", 9, json!({ "blocks": [block("child", &[])] })).await;
    let run = node.create(parents, "k").await;
    node.until_running(1).await;
    let asker = node.attempt(0);
    let orders = Orders::new(node.engine.clone(), Owners::new(world.store.clone(), SchedulerId(Uuid::now_v7()), None));
    let store = store::Store::connect(world.database.url(), 1).await.unwrap();
    let waited = std::sync::Arc::new(tokio::sync::Notify::new());
    let told = std::sync::Arc::clone(&waited);
    let held = store.client().await.unwrap();
    store.observe_waits(move |_| told.notify_one());
    let calls = Calls::new(store, orders, Changes::default(), None, false);
    let answers = async {
        let status = call(&calls, &asker, "wait_run", json!({ "run_id": run, "timeout_s": 0 })).await;
        assert_eq!(status["status"], "running");
        child(&calls, &asker).await
    };
    let back = async {
        // The first question has found nobody.
        waited.notified().await;
        drop(held);
    };
    tokio::join!(answers, back);
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_start_each_other_so_deep_and_no_deeper() {
    let world = World::new().await;
    let mut node = world.node(0..256, 100).await;
    let pipeline = world.deploy("child", 9, json!({ "blocks": [block("child", &[])] })).await;
    let calls = calls(&world, &node);
    let mut run = node.create(pipeline, "0").await;
    for depth in 1..=31 {
        run = node.create_child(pipeline, &depth.to_string(), run).await;
        // One that is made again takes the place of the one that it is made from.
        run = node.create_child(pipeline, &format!("again:{run}:{depth}"), run).await;
    }
    let asker = |run: RunId| AttemptId { run, block: "child".to_owned(), child: -1, lease: 1 };
    let (deepest, _) = child(&calls, &asker(run)).await;
    let asked = json!({ "pipeline_uuid": "child", "key": "deeper" });
    let refused = ask(&calls, &asker(deepest), "trigger_pipeline", asked).await.unwrap_err();
    assert!(refused.contains("32 deep"), "{refused}");
    node.look().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_attempts_of_an_executor_wait_and_the_next_one_is_told_why_it_may_not() {
    const MOST: i64 = 64;
    let world = World::new().await;
    let mut node = world.node(0..256, 20).await;
    let pipeline = world.deploy("child", 9, json!({ "blocks": [block("child", &[])] })).await;
    let run = node.create(pipeline, "k").await;
    let (calls, waits) = (calls(&world, &node), Waits::on(1));
    let (outbox, mut inbox) = tokio::sync::mpsc::channel(100);
    for lease in 1..=MOST + 1 {
        let attempt = AttemptId { run, block: "other".to_owned(), child: -1, lease }.to_proto();
        let (attempt, method) = (Some(attempt), "wait_run".to_owned());
        let arguments = json!({ "run_id": run }).to_string();
        calls.answer(pb::RunnerCall { call_id: lease, attempt, method, arguments }, outbox.clone(), &waits);
    }
    let next = async |inbox: &mut tokio::sync::mpsc::Receiver<pb::SessionResponse>| {
        let answer = tokio::time::timeout(WAIT, inbox.recv()).await.expect("an answer in time").unwrap();
        let Some(pb::session_response::Message::RunnerReply(reply)) = answer.message else { panic!("a reply") };
        reply.error
    };
    assert!(next(&mut inbox).await.contains("more slots"));
    node.until_running(1).await;
    node.complete(0).await;
    for _ in 0..MOST {
        assert_eq!(next(&mut inbox).await, "");
    }
}
