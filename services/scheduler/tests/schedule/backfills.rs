//! Backfills: cursors that start runs.

use crate::cluster::{WAIT, World, block};
use domain::{
    backfill::{Cursor, Length, Order, Unit},
    id::{BackfillId, PipelineId},
};
use scheduler::engine::{ChangeBackfill, CreateBackfill, EngineError};
use serde_json::json;
use store::{
    Store,
    backfills::{Backfill, BackfillRef, Spec},
    shards::Shard,
};
use testkit::wait_for;

fn spec(name: &str, start: &str, end: &str, unit: Unit, parallelism: u32) -> Spec {
    Spec {
        name: name.to_owned(),
        start_at: start.parse().unwrap(),
        end_at: end.parse().unwrap(),
        length: Length::Units(unit, 1),
        time_zone: "UTC".to_owned(),
        order: Order::Descending,
        parallelism,
        variables: json!({ "mine": 1 }),
        allow_blocks_to_fail: false,
    }
}

fn days(pipeline: PipelineId) -> CreateBackfill {
    let spec = spec("march", "2024-03-01T00:00:00Z", "2024-03-05T00:00:00Z", Unit::Day, 2);
    CreateBackfill::new(pipeline, spec).unwrap()
}

async fn state(world: &World, id: BackfillId) -> (&'static str, u64, u64) {
    let client = world.store.client().await.unwrap();
    let cursor = store::backfills::get(&client, BackfillRef::Id(id)).await.unwrap().unwrap().backfill.cursor;
    (cursor.status.as_str(), cursor.started, cursor.completed)
}

/// Why it is paused, once it is.
async fn paused_for(world: &World, id: BackfillId) -> String {
    wait_for("a pause with a reason", WAIT, || async {
        let client = world.store.client().await.unwrap();
        let backfill = store::backfills::get(&client, BackfillRef::Id(id)).await.unwrap().unwrap().backfill;
        backfill.pause_reason.filter(|_| backfill.cursor.status.as_str() == "paused")
    })
    .await
}

/// Writes a backfill as an engine does whose connection breaks before it hears that it was written.
async fn insert_unheard(world: &World, command: &CreateBackfill, pipeline: PipelineId) -> BackfillId {
    let id = BackfillId::new_in(pipeline.shard());
    let backfill = Backfill {
        id,
        workspace_id: world.workspace,
        pipeline_id: pipeline,
        cursor: Cursor::new(5),
        spec: command.spec.clone(),
        created_at: jiff::Timestamp::now(),
        completed_at: None,
        pause_reason: None,
    };
    let shard = i16::from(pipeline.shard());
    let client = world.database.client().await;
    let epoch = client.query_one("SELECT epoch FROM shard WHERE id = $1", &[&shard]).await.unwrap().get(0);
    assert!(store::backfills::insert(&world.store, &backfill, Shard { id: shard, epoch }).await.unwrap());
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_first_call_lost_its_answer_begins_with_the_second() {
    let world = World::new().await;
    let mut node = world.node(0..256, 10).await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let id = insert_unheard(&world, &days(pipeline), pipeline).await;
    assert_eq!(node.backfill(days(pipeline)).await.unwrap(), id);
    node.until_running(2).await;
    assert_eq!(state(&world, id).await, ("running", 2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_only_call_lost_its_answer_begins_by_itself() {
    let mut world = World::new().await;
    let ways = world.database.counted().await;
    world.store = Store::connect(ways.url(), 16).await.unwrap();
    let mut node = world.node(0..256, 10).await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let spec = spec("unheard", "2024-03-01T00:00:00Z", "2024-03-05T00:00:00Z", Unit::Day, 2);
    ways.lose_answer_to("unheard");
    let unheard = node.backfill(CreateBackfill::new(pipeline, spec).unwrap()).await;
    assert!(matches!(unheard, Err(EngineError::Unavailable)), "{unheard:?}");
    node.until_running(2).await;
    let begun = "SELECT count(*) FROM backfill WHERE name = 'unheard' AND started = 2";
    assert_eq!(world.count(begun).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_runs_at_once_from_the_latest_on() {
    let world = World::new().await;
    let mut node = world.node(0..256, 10).await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let id = node.backfill(days(pipeline)).await.unwrap();
    assert_eq!(node.backfill(days(pipeline)).await.unwrap(), id, "the same again is the same");
    let mut other = days(pipeline);
    other.spec.parallelism = 3;
    assert!(matches!(node.backfill(other).await, Err(EngineError::NameTaken(_))));
    let mut unkept = days(pipeline);
    (unkept.spec.name, unkept.spec.variables) = ("unkept".to_owned(), json!({ "x": "a\0b" }));
    let refused = node.backfill(unkept).await;
    assert!(matches!(&refused, Err(EngineError::Refused(why)) if why.contains("NUL")), "{refused:?}");
    let mut dates = Vec::new();
    for left in (0..5).rev() {
        node.until_running(2.min(left + 1)).await;
        node.settle().await;
        node.look().await;
        assert_eq!(node.running.len(), 2.min(left + 1));
        let context = node.running[0].run.clone().unwrap();
        let variables: serde_json::Value = serde_json::from_str(&context.variables).unwrap();
        assert_eq!((&variables["mine"], &variables["interval_seconds"]), (&json!(1), &json!(86_400)));
        dates.push(variables["ds"].as_str().unwrap().to_owned());
        node.complete(0).await;
    }
    assert_eq!(dates, ["2024-03-05", "2024-03-04", "2024-03-03", "2024-03-02", "2024-03-01"]);
    wait_for("its end", WAIT, || async { (state(&world, id).await == ("completed", 5, 5)).then_some(()) }).await;
    assert!(matches!(node.change(id, ChangeBackfill::Pause).await, Err(EngineError::Refused(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pipelines_limit_holds_for_each_backfill() {
    let world = World::new().await;
    let mut node = world.node(0..256, 10).await;
    let concurrency = json!({ "pipeline_run_limit": 1, "on_limit": "skip" });
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])], "concurrency": concurrency })).await;
    let mut ids = Vec::new();
    for name in ["march", "again"] {
        let mut backfill = days(pipeline);
        backfill.spec.name = name.to_owned();
        backfill.spec.parallelism = 16;
        ids.push(node.backfill(backfill).await.unwrap());
    }
    for left in (0..10).rev() {
        node.until_running(2.min(left + 1)).await;
        node.settle().await;
        node.look().await;
        // Each counts as a trigger, and what meets the limit waits, whatever the pipeline does with its other runs.
        assert_eq!(node.running.len(), 2.min(left + 1));
        node.complete(0).await;
    }
    for id in ids {
        wait_for("its end", WAIT, || async { (state(&world, id).await == ("completed", 5, 5)).then_some(()) }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_it_starts_nothing_and_cancelled_it_stops_what_runs() {
    let world = World::new().await;
    let mut node = world.node(0..256, 10).await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let id = node.backfill(days(pipeline)).await.unwrap();
    node.until_running(2).await;
    node.change(id, ChangeBackfill::Pause).await.unwrap();
    node.complete(0).await;
    node.settle().await;
    node.look().await;
    assert_eq!((node.running.len(), state(&world, id).await), (1, ("paused", 2, 1)));
    // A successor knows that it is paused, and goes on when it is told to.
    node.kill();
    let mut successor = world.node(0..256, 10).await;
    successor.adopt(node, 10).await;
    successor.change(id, ChangeBackfill::Resume).await.unwrap();
    successor.until_running(2).await;
    successor.change(id, ChangeBackfill::Cancel).await.unwrap();
    successor.change(id, ChangeBackfill::Cancel).await.unwrap();
    for _ in 0..2 {
        successor.end(0, domain::unit::Outcome::Cancelled).await;
    }
    wait_for("its runs to end", WAIT, || async {
        (world.count("SELECT count(*) FROM run WHERE status = 'cancelled'").await == 2).then_some(())
    })
    .await;
    assert_eq!(state(&world, id).await, ("cancelled", 3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_intervals_are_a_row_and_what_runs() {
    let world = World::new().await;
    let mut node = world.node(0..256, 64).await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let spec = spec("million", "2024-01-01T00:00:00Z", "2025-11-25T10:39:00Z", Unit::Minute, 8);
    let id = node.backfill(CreateBackfill::new(pipeline, spec).unwrap()).await.unwrap();
    node.until_running(8).await;
    assert_eq!(world.count("SELECT count(*) FROM run").await, 8);
    assert_eq!(world.count("SELECT total FROM backfill").await, 1_000_000);
    assert_eq!(state(&world, id).await, ("running", 8, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_of_an_archived_workspace_is_paused() {
    let world = World::new().await;
    let mut node = world.node(0..256, 10).await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let id = node.backfill(days(pipeline)).await.unwrap();
    node.until_running(2).await;
    world.archive(true).await;
    node.complete(0).await;
    wait_for("the pause", WAIT, || async { (state(&world, id).await == ("paused", 2, 1)).then_some(()) }).await;
    assert_eq!(paused_for(&world, id).await, "workspace `w` is archived; restore it, and resume the backfill");
    let mut other = days(pipeline);
    other.spec.name = "again".to_owned();
    assert!(matches!(node.backfill(other).await, Err(EngineError::Archived(_))));
    world.archive(false).await;
    node.change(id, ChangeBackfill::Resume).await.unwrap();
    node.until_running(2).await;
    assert_eq!(state(&world, id).await.1, 3);
    assert_eq!(world.count("SELECT count(pause_reason) FROM backfill").await, 0);
    // A pause by somebody has no reason of ours.
    node.change(id, ChangeBackfill::Pause).await.unwrap();
    assert_eq!(world.count("SELECT count(pause_reason) FROM backfill").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_whose_pipeline_is_gone_says_so() {
    let world = World::new().await;
    let mut node = world.node(0..256, 10).await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let id = node.backfill(days(pipeline)).await.unwrap();
    node.until_running(2).await;
    world.execute("UPDATE pipeline SET archived_at = now()").await;
    node.complete(0).await;
    let why = paused_for(&world, id).await;
    assert!(why.contains("pipeline"), "{why}");
    // A successor knows it too.
    node.kill();
    let _successor = world.node(0..256, 10).await;
    assert_eq!(paused_for(&world, id).await, why);
}

#[tokio::test(flavor = "multi_thread")]
async fn times_that_are_not_found_again_pause_it() {
    let world = World::new().await;
    let mut node = world.node(0..256, 10).await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let mut years = spec("years", "1970-01-01T00:00:00Z", "1971-06-01T00:00:00Z", Unit::Year, 2);
    years.length = Length::Cron("0 0 1 1 *".to_owned());
    let id = node.backfill(CreateBackfill::new(pipeline, years).unwrap()).await.unwrap();
    node.until_running(2).await;
    assert_eq!(world.count("SELECT total FROM backfill").await, 2, "the very first time is one");
    node.kill();
    // As if they had been counted by other rules of the zone.
    world.execute("UPDATE backfill SET total = 3").await;
    let mut successor = world.node(0..256, 10).await;
    successor.adopt(node, 10).await;
    successor.complete(0).await;
    let why = paused_for(&world, id).await;
    assert!(why.contains("names no 3. time in the range any more, of 3 that were counted"), "{why}");
    // It is let go again, finds nothing again, and can be cancelled.
    successor.change(id, ChangeBackfill::Resume).await.unwrap();
    assert_eq!(paused_for(&world, id).await, why);
    successor.complete(0).await;
    successor.settle().await;
    successor.change(id, ChangeBackfill::Cancel).await.unwrap();
    assert_eq!(state(&world, id).await, ("cancelled", 2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_that_is_no_more_pauses_it() {
    let world = World::new().await;
    let mut node = world.node(0..256, 10).await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let id = node.backfill(days(pipeline)).await.unwrap();
    node.until_running(2).await;
    node.kill();
    world.execute("UPDATE backfill SET time_zone = 'Mars/Olympus'").await;
    let mut successor = world.node(0..256, 10).await;
    successor.adopt(node, 10).await;
    successor.complete(0).await;
    let why = paused_for(&world, id).await;
    assert!(why.contains("Mars/Olympus"), "{why}");
    successor.change(id, ChangeBackfill::Cancel).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_has_so_many_backfills_that_are_not_over_and_no_more() {
    let world = World::new().await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let fill = "INSERT INTO backfill (id, workspace_id, pipeline_id, shard, name, start_at, end_at, unit, every, time_zone,
                                      descending, parallelism, status, total)
                SELECT gen_random_uuid(), $1, $2, 3, 'b' || n, '2024-03-01', '2024-03-05', 'day', 1, 'UTC', false, 1, 'paused', 5
                  FROM generate_series(1, 999) AS n";
    world.database.client().await.execute(fill, &[&world.workspace.0, &pipeline.0]).await.unwrap();
    let node = world.node(0..256, 1).await;
    node.settle().await;
    let id = node.backfill(days(pipeline)).await.unwrap();
    let mut more = days(pipeline);
    more.spec.name = "april".to_owned();
    assert!(matches!(node.backfill(more.clone()).await, Err(EngineError::TooManyBackfills(1_000))));
    assert_eq!(node.backfill(days(pipeline)).await.unwrap(), id, "what is there is answered");
    // One that is over leaves room for another, and other pipelines have theirs.
    node.change(id, ChangeBackfill::Cancel).await.unwrap();
    node.settle().await;
    let other = world.deploy("q", 3, json!({ "blocks": [block("a", &[])] })).await;
    node.backfill(days(other)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_over_a_day_that_was_left_out_ends_with_one_run_less() {
    let world = World::new().await;
    let mut node = world.node(0..256, 10).await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    // Samoa had no 30 December in 2011; in one of the ranges it is the last day.
    for (name, order, end, days) in [
        ("over", Order::Ascending, "2012-01-01T10:00:00Z", 5),
        ("back", Order::Descending, "2012-01-01T10:00:00Z", 5),
        ("at its end", Order::Ascending, "2011-12-30T10:00:00Z", 3),
    ] {
        let mut spec = spec(name, "2011-12-28T10:00:00Z", end, Unit::Day, 1);
        (spec.time_zone, spec.order) = ("Pacific/Apia".to_owned(), order);
        let id = node.backfill(CreateBackfill::new(pipeline, spec).unwrap()).await.unwrap();
        for _ in 0..days {
            node.until_running(1).await;
            node.complete(0).await;
        }
        let all = days + 1;
        wait_for("its end", WAIT, || async { (state(&world, id).await == ("completed", all, all)).then_some(()) })
            .await;
    }
}
