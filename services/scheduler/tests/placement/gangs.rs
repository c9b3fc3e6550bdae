//! Runtimes that start together, and what a smaller quota ends.

use crate::world::{POOL, WAIT, World};
use domain::id::QueueId;
use placement::Code;
use proto::internal::v1 as pb;
use serde_json::json;
use testkit::wait_for;
use uuid::Uuid;

const DEFAULT: QueueId = QueueId(Uuid::nil());

fn gang(size: u32) -> pb::Gang {
    pb::Gang { id: Uuid::now_v7().as_bytes().to_vec(), size, one_zone: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gang_waits_for_its_last_member_and_gets_the_places_of_others_at_once() {
    let (world, scheduler, executor) = World::simple(&[2]).await;
    let project = world.project("p", None).await;
    let low = world.queue("low", POOL, -1, true).await;
    world.open(project, low, None).await;
    let victim = world.workspace("victim", project, low, (2, 1000), json!({})).await;
    scheduler.start(victim).await.unwrap();
    world.until(victim, "running").await;
    let members = [
        world.workspace("one", project, DEFAULT, (1, 1000), json!({})).await,
        world.workspace("two", project, DEFAULT, (1, 1000), json!({})).await,
    ];
    let gang = gang(2);
    scheduler.caller().start_with(members[0], &gang).await.unwrap();
    wait_for("the first to be told that it waits for the other one", WAIT, || async {
        (world.reason(members[0]).await == "GANG_INCOMPLETE").then_some(())
    })
    .await;
    assert_eq!(world.stage(victim).await, "running", "nobody is stopped for a part of a gang");
    // Its victim takes its time: neither member starts on the other half.
    executor.change(|state| state.keeps = true);
    scheduler.caller().start_with(members[1], &gang).await.unwrap();
    for member in members {
        world.until(member, "starting/nominated").await;
    }
    // Whoever takes the pool over goes on from the rows.
    let next = world.scheduler().await;
    world.give_all(&next).await;
    scheduler.kill();
    executor.change(|state| state.keeps = false);
    for member in members {
        world.until(member, "running").await;
    }
    assert_eq!(world.reason(victim).await, "PREEMPTED");
    assert_eq!(world.count("SELECT sum(used_milli)::bigint FROM device").await, 2000);
    world.audit(false).await;
    assert_eq!(executor.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_does_not_wait_for_a_window_that_opens_no_more() {
    let (world, scheduler, _executor) = World::simple(&[1]).await;
    let project = world.project("p", None).await;
    let once = world.queue("once", POOL, 0, false).await;
    world.open(project, once, Some(60)).await;
    let late = world.workspace("late", project, once, (1, 1000), json!({})).await;
    scheduler.start(late).await.unwrap();
    world.until(late, "stopped").await;
    assert_eq!(world.reason(late).await, "PLAN_WINDOW_EXPIRED");
    // Who is done in time starts.
    world.open(project, once, Some(600)).await;
    let quick = world.workspace("quick", project, once, (1, 1000), json!({ "lifetime_s": 60 })).await;
    scheduler.start(quick).await.unwrap();
    world.until(quick, "running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forecast_knows_what_was_set_a_moment_ago() {
    let (world, scheduler, _executor) = World::simple(&[2]).await;
    let project = world.project("p", Some(2000)).await;
    let first = world.workspace("first", project, DEFAULT, (1, 600), json!({})).await;
    scheduler.start(first).await.unwrap();
    world.until(first, "running").await;
    let caller = scheduler.caller();
    let client = world.database.client().await;
    for _ in 0..3 {
        client.execute("UPDATE project_policy SET gpu_milli = 2000", &[]).await.unwrap();
        assert_eq!(caller.would_wait(project, 600).await, None);
        client.execute("UPDATE project_policy SET gpu_milli = 1000", &[]).await.unwrap();
        assert_eq!(caller.would_wait(project, 600).await, Some(Code::QuotaExceeded));
    }
    // Of a project that has nothing here nobody has read anything yet.
    let other = world.project("other", Some(100)).await;
    assert_eq!(caller.would_wait(other, 600).await, Some(Code::QuotaTooSmall));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_smaller_quota_stops_whoever_came_last_when_its_grace_is_over() {
    let (world, scheduler, _executor) = World::simple(&[2]).await;
    let project = world.project("p", Some(2000)).await;
    let first = world.workspace("first", project, DEFAULT, (1, 1000), json!({})).await;
    let last = world.workspace("last", project, DEFAULT, (1, 1000), json!({ "requeue": true })).await;
    for workspace in [first, last] {
        scheduler.start(workspace).await.unwrap();
        world.until(workspace, "running").await;
    }
    let smaller =
        "UPDATE project_policy SET gpu_milli = 1000, over_quota_grace_s = 60, quota_set_at = now() - interval '58 s'";
    world.database.client().await.execute(smaller, &[]).await.unwrap();
    wait_for("the last one to wait for room", WAIT, || async {
        (world.stage(last).await == "starting/queued" && world.reason(last).await == "QUOTA_EXCEEDED").then_some(())
    })
    .await;
    let lines = world.timeline(last).await;
    assert!(lines.contains(&"stopping QUOTA_REDUCED".to_owned()), "{lines:?}");
    assert_eq!(world.stage(first).await, "running");
    world.audit(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gang_that_is_more_than_its_queue_s_limit_is_told_that_it_never_fits() {
    let (world, scheduler, _executor) = World::simple(&[2]).await;
    let project = world.project("p", None).await;
    let client = world.database.client().await;
    let limit = async |milli: i64| {
        client.execute("UPDATE queue SET limit_milli = $1 WHERE name = 'default'", &[&milli]).await.unwrap();
    };
    limit(1000).await;
    let members = [
        world.workspace("one", project, DEFAULT, (1, 600), json!({})).await,
        world.workspace("two", project, DEFAULT, (1, 600), json!({})).await,
    ];
    let gang = gang(2);
    for member in members {
        scheduler.caller().start_with(member, &gang).await.unwrap();
    }
    for member in members {
        wait_for("each of them to be told", WAIT, || async {
            (world.reason(member).await == "QUEUE_TOO_SMALL").then_some(())
        })
        .await;
    }
    limit(1200).await;
    for member in members {
        world.until(member, "running").await;
    }
}
