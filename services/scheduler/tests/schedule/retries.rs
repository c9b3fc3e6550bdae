//! Runs that run again, in place or as new ones: whatever they were made by, they count there, and the limits there hold.

use crate::cluster::{Node, WAIT, World, block};
use domain::{
    backfill::{Length, Order, Unit},
    id::{BackfillId, PipelineId, RunId, SchedulerId, TriggerId},
    trigger::{Kind, Overlap, Spec, TimeoutStatus},
};
use proto::internal::v1::{RetryRunRequest, command_service_server::CommandService};
use scheduler::{
    changes::Changes,
    clock::DbClock,
    commands::Commands,
    engine::{CreateBackfill, CreateRun, EngineError, FiredTrigger, Message, RetryRun},
    log_retention::LogRetention,
    loops::recorder::Recorder,
    orders::Orders,
    owners::Owners,
};
use serde_json::json;
use std::time::Duration;
use store::{backfills::BackfillRef, triggers::Act};
use testkit::wait_for;
use tonic::{Code, Request, Status};
use uuid::Uuid;

/// Makes a run again as a whole, as a web-server asks for it.
async fn repeat(world: &World, node: &Node, run: RunId, key: &str) -> Result<RunId, Status> {
    let orders = Orders::new(node.engine.clone(), Owners::new(world.store.clone(), SchedulerId(Uuid::now_v7()), None));
    let clock = DbClock::new(jiff::Timestamp::now());
    let logs = LogRetention::new(world.store.clone(), clock, Duration::ZERO);
    let commands = Commands::new(orders, world.store.clone(), Changes::default(), logs);
    let request = RetryRunRequest {
        run_id: run.to_vec(),
        mode: proto::v1::RetryMode::Whole.into(),
        logical_key: key.to_owned(),
        ..RetryRunRequest::default()
    };
    let answer = commands.retry_run(Request::new(request)).await?.into_inner();
    Ok(RunId::from_slice(&answer.run_id).unwrap())
}

/// A call of a trigger in its first version, by acme.
async fn call(node: &Node, pipeline: PipelineId, id: TriggerId, key: &str) -> RunId {
    let event_variables = Some(json!({ "customer": "acme" }).to_string());
    let command = CreateRun {
        trigger: Some(FiredTrigger { id, version: 1, event_variables, rate: None }),
        ..Node::creation(pipeline, key, &json!({}))
    };
    node.create_all(vec![command]).await.unwrap()[0].run().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_made_again_is_told_the_same_and_counts_for_the_same_trigger() {
    let world = World::new().await;
    let mut node = world.node(0..256, 10).await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let spec = Spec {
        overlap: Overlap::AllowAll,
        run_limit: Some(1),
        sla_s: Some(600),
        timeout_s: Some(3_600),
        timeout_status: TimeoutStatus::Cancelled,
        ..Spec::new(Kind::Api)
    };
    let trigger = world.trigger(pipeline, "called", &spec).await;
    let former = call(&node, pipeline, trigger, "key:a").await;
    node.until_running(1).await;
    node.fail(0).await;
    world.until(former, "failed").await;
    world.execute("UPDATE run SET sla_at = now() - interval '1 h', sla_missed_at = now()").await;

    let again = repeat(&world, &node, former, "key:a").await.unwrap();
    assert_ne!(again, former, "the key of a retry is none of a call's");
    assert_eq!(repeat(&world, &node, former, "key:a").await.unwrap(), again, "and is that of one retry");
    node.until_running(1).await;
    let context = node.running[0].run.clone().unwrap();
    let variables: serde_json::Value = serde_json::from_str(&context.variables).unwrap();
    assert_eq!((context.trigger_name.as_str(), &variables["customer"]), ("called", &json!("acme")));
    let same =
        "SELECT count(DISTINCT (trigger_id, event_variables, execution_date, timeout_s, timeout_cancels)) FROM run";
    assert_eq!(world.count(same).await, 1);
    let late = "SELECT count(*) FROM run WHERE sla_at > now() AND sla_at <= now() + interval '600 s' AND sla_missed_at IS NULL";
    assert_eq!(world.count(late).await, 1, "it has as long as the first had");

    // The trigger's limit holds, for those that are made again as well, and when it is paused.
    let waits = call(&node, pipeline, trigger, "key:b").await;
    assert_eq!(world.status(waits).await, "initial");
    assert!(world.act(trigger, Act::Pause).await);
    let third = repeat(&world, &node, former, "key:c").await.unwrap();
    assert_eq!(world.status(third).await, "initial");
    for run in [again, waits, third] {
        node.until_running(1).await;
        world.until(run, "running").await;
        node.complete(0).await;
        world.until(run, "completed").await;
    }
}

fn days(pipeline: PipelineId, last: &str, parallelism: u32) -> CreateBackfill {
    let spec = store::backfills::Spec {
        name: "march".to_owned(),
        start_at: "2024-03-01T00:00:00Z".parse().unwrap(),
        end_at: last.parse().unwrap(),
        length: Length::Units(Unit::Day, 1),
        time_zone: "UTC".to_owned(),
        order: Order::Ascending,
        parallelism,
        variables: json!({}),
        allow_blocks_to_fail: false,
    };
    CreateBackfill::new(pipeline, spec).unwrap()
}

/// Waits until a backfill has this status, so many runs, and so many that completed and that failed.
async fn until(world: &World, id: BackfillId, expected: (&str, u64, u64, u64)) {
    wait_for(&format!("a backfill that is {expected:?}"), WAIT, || async {
        let client = world.store.client().await.unwrap();
        let cursor = store::backfills::get(&client, BackfillRef::Id(id)).await.unwrap().unwrap().backfill.cursor;
        ((cursor.status.as_str(), cursor.started, cursor.completed, cursor.failed) == expected).then_some(())
    })
    .await;
}

/// The runs of a backfill, oldest first.
async fn runs_of(world: &World, id: BackfillId) -> Vec<RunId> {
    let of = "SELECT id FROM run WHERE backfill_id = $1 ORDER BY id";
    let rows = world.database.client().await.query(of, &[&id.0]).await.unwrap();
    rows.iter().map(|row| RunId(row.get(0))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_made_again_takes_its_place_in_the_backfill() {
    let world = World::new().await;
    let mut node = world.node(0..256, 10).await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let id = node.backfill(days(pipeline, "2024-03-02T00:00:00Z", 1)).await.unwrap();
    node.until_running(1).await;
    node.fail(0).await;
    node.until_running(1).await;
    node.complete(0).await;
    until(&world, id, ("failed", 2, 1, 1)).await;
    let former = runs_of(&world, id).await[0];

    let again = repeat(&world, &node, former, "key:a").await.unwrap();
    until(&world, id, ("running", 2, 1, 0)).await;
    assert_eq!(repeat(&world, &node, former, "key:a").await.unwrap(), again);
    // One run stands for the interval: its former one does not run again beside it.
    let refused = repeat(&world, &node, former, "key:b").await.unwrap_err();
    assert_eq!((refused.code(), refused.message().contains(&again.to_string())), (Code::FailedPrecondition, true));
    let retry = RetryRun { run: former, from_block: None, key: String::new() };
    let refused = node.ask(|reply| Message::Retry(retry, reply)).await;
    assert!(matches!(refused, Err(EngineError::Refused(_))), "{refused:?}");
    // A successor counts it as well, and it can itself be made again.
    node.until_running(1).await;
    node.kill();
    let mut successor = world.node(0..256, 10).await;
    successor.adopt(node, 10).await;
    successor.fail(0).await;
    until(&world, id, ("failed", 2, 1, 1)).await;
    let last = repeat(&world, &successor, again, "key:a").await.unwrap();
    successor.until_running(1).await;
    successor.complete(0).await;
    until(&world, id, ("completed", 2, 2, 0)).await;
    assert_eq!(runs_of(&world, id).await.last(), Some(&last));
    let same =
        "SELECT count(DISTINCT execution_date) FROM run WHERE id IN (SELECT id FROM run ORDER BY id DESC LIMIT 2)";
    assert_eq!(world.count(same).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_keep_the_limit_of_a_trigger_that_is_paused() {
    let world = World::new().await;
    let mut node = world.node(0..256, 10).await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let spec = Spec { overlap: Overlap::AllowAll, run_limit: Some(1), ..Spec::new(Kind::Api) };
    let trigger = world.trigger(pipeline, "called", &spec).await;
    let mut failed = Vec::new();
    for n in 0..3 {
        failed.push(call(&node, pipeline, trigger, &format!("key:{n}")).await);
        node.until_running(1).await;
        node.fail(0).await;
        world.until(failed[n], "failed").await;
    }
    assert!(world.act(trigger, Act::Pause).await);
    wait_for("the pause to be seen", WAIT, || async { (node.metrics.triggers_armed.get() == 0).then_some(()) }).await;
    for run in &failed {
        node.retry(*run).await;
    }
    for run in failed {
        node.until_running(1).await;
        node.settle().await;
        node.until_running(1).await;
        node.complete(0).await;
        world.until(run, "completed").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_keep_the_parallelism_of_their_backfill() {
    let world = World::new().await;
    let mut node = world.node(0..256, 10).await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let id = node.backfill(days(pipeline, "2024-03-03T00:00:00Z", 1)).await.unwrap();
    for _ in 0..3 {
        node.until_running(1).await;
        node.fail(0).await;
    }
    until(&world, id, ("failed", 3, 0, 3)).await;
    // Two in place, and one as a new run.
    let failed = runs_of(&world, id).await;
    node.retry(failed[0]).await;
    node.retry(failed[1]).await;
    repeat(&world, &node, failed[2], "key:a").await.unwrap();
    for _ in 0..3 {
        node.until_running(1).await;
        node.settle().await;
        node.until_running(1).await;
        node.complete(0).await;
    }
    until(&world, id, ("completed", 3, 3, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_edited_holds_for_runs_that_wait_already() {
    let world = World::new().await;
    let mut node = world.node(0..256, 10).await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let spec = |limit| Spec { overlap: Overlap::AllowAll, run_limit: Some(limit), ..Spec::new(Kind::Api) };
    let trigger = world.trigger(pipeline, "called", &spec(3)).await;
    for n in 0..8 {
        call(&node, pipeline, trigger, &format!("key:{n}")).await;
    }
    node.until_running(3).await;
    world.edit(trigger, 1, &spec(1)).await;
    // Whoever calls it in its second version has it read.
    node.offer(pipeline, (trigger, 2), "key:8", json!({})).await.unwrap();
    for left in [2, 1, 1] {
        node.complete(0).await;
        node.settle().await;
        node.until_running(left).await;
    }
    world.edit(trigger, 2, &spec(4)).await;
    node.offer(pipeline, (trigger, 3), "key:9", json!({})).await.unwrap();
    node.until_running(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_before_it_runs_again_is_counted_once() {
    let world = World::new().await;
    let mut node = world.node(0..256, 10).await;
    let concurrency = json!({ "pipeline_run_limit": 1 });
    let blocks = json!([block("a", &[]), block("b", &["a"])]);
    let pipeline = world.deploy("p", 3, json!({ "blocks": blocks, "concurrency": concurrency })).await;
    let mut recorder = Recorder::new(world.store.clone(), None);
    let ends = async |block: &str| {
        world.count(&format!("SELECT coalesce(sum(runs), 0)::bigint FROM block_stat WHERE block = '{block}'")).await
    };
    let run = node.create(pipeline, "1").await;
    node.until_running(1).await;
    node.complete(0).await;
    node.until_running(1).await;
    node.fail(0).await;
    world.until(run, "failed").await;
    recorder.run_once().await.unwrap();
    assert_eq!((ends("a").await, ends("b").await), (1, 1));
    node.create(pipeline, "2").await;
    node.until_running(1).await;
    node.retry(run).await;
    assert_eq!(world.status(run).await, "initial");
    node.cancel(run).await;
    world.until(run, "cancelled").await;
    recorder.run_once().await.unwrap();
    assert_eq!((ends("a").await, ends("b").await), (1, 2), "what it was stopped at counts, and nothing from before");
    // Once more, after the other run with both of its blocks.
    node.retry(run).await;
    for _ in 0..2 {
        node.complete(0).await;
        node.until_running(1).await;
    }
    node.fail(0).await;
    world.until(run, "failed").await;
    recorder.run_once().await.unwrap();
    assert_eq!((ends("a").await, ends("b").await), (2, 4));
}
