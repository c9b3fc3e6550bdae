//! Places that are kept for those who wait until others have left, and when they are kept no more.

use crate::{
    executor::Executor,
    world::{POOL, Scheduler, WAIT, World},
};
use domain::id::{QueueId, WorkspaceId};
use proto::internal::v1 as pb;
use serde_json::json;
use testkit::wait_for;
use uuid::Uuid;

const DEFAULT: QueueId = QueueId(Uuid::nil());
const NOMINATED: &str = "SELECT count(*) FROM placement WHERE state = 'nominated'";

/// One node of so many GPUs, all of them had by somebody who may be stopped, and takes his time to leave.
async fn world(gpus: u32) -> (World, Scheduler, Executor) {
    let (world, scheduler, executor) = World::simple(&[gpus as usize]).await;
    let low = world.queue("low", POOL, -1, true).await;
    let others = world.project("others", None).await;
    world.open(others, low, None).await;
    let victim = world.workspace("victim", others, low, (gpus, 1000), json!({})).await;
    scheduler.start(victim).await.unwrap();
    world.until(victim, "running").await;
    executor.change(|state| state.keeps = true);
    (world, scheduler, executor)
}

async fn nominated(world: &World, count: i64) {
    let what = format!("{count} places to be kept");
    wait_for(&what, WAIT, || async { (world.count(NOMINATED).await == count).then_some(()) }).await;
}

async fn set_quota(world: &World, gpu_milli: i64) {
    let set = "UPDATE project_policy SET gpu_milli = $1";
    world.database.client().await.execute(set, &[&gpu_milli]).await.unwrap();
}

async fn waits_with(world: &World, workspace: WorkspaceId, reason: &str) {
    wait_for(reason, WAIT, || async { (world.reason(workspace).await == reason).then_some(()) }).await;
    assert_eq!(world.stage(workspace).await, "starting/queued");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_place_is_kept_for_one_who_may_not_start_any_more() {
    let (world, scheduler, executor) = world(1).await;
    let project = world.project("p", Some(1000)).await;
    let nominee = world.workspace("nominee", project, DEFAULT, (1, 1000), json!({})).await;
    scheduler.start(nominee).await.unwrap();
    world.until(nominee, "starting/nominated").await;
    set_quota(&world, 500).await;
    nominated(&world, 0).await;
    waits_with(&world, nominee, "QUOTA_TOO_SMALL").await;
    // What it was kept is somebody else's.
    let other = world.project("other", None).await;
    let next = world.workspace("next", other, DEFAULT, (1, 1000), json!({})).await;
    scheduler.start(next).await.unwrap();
    executor.change(|state| state.keeps = false);
    world.until(next, "running").await;
    set_quota(&world, 1000).await;
    scheduler.stop(next, "USER").await.unwrap();
    world.until(nominee, "running").await;
    world.audit(false).await;
    assert_eq!(executor.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_place_is_kept_for_a_block_that_may_not_start_any_more() {
    let (world, _scheduler, executor) = world(1).await;
    let project = world.project("p", Some(1000)).await;
    world.workspace("w", project, DEFAULT, (1, 100), json!({})).await;
    let wish = pb::Wish {
        claim: "jobs/one".into(),
        workspace: "w".into(),
        class: "shared".into(),
        count: 1,
        milli: 600,
        ..pb::Wish::default()
    };
    executor.change(|state| state.wishes = vec![wish]);
    nominated(&world, 1).await;
    set_quota(&world, 500).await;
    nominated(&world, 0).await;
    executor.change(|state| state.keeps = false);
    set_quota(&world, 1000).await;
    wait_for("its place", WAIT, || async {
        let places = executor.change(|state| state.places.clone());
        places.get("jobs/one").filter(|place| !place.node.is_empty()).map(drop)
    })
    .await;
    world.audit(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_place_is_kept_of_a_device_that_others_may_have() {
    let (world, scheduler, executor) = world(1).await;
    let project = world.project("p", None).await;
    let nominee = world.workspace("nominee", project, DEFAULT, (1, 1000), json!({})).await;
    scheduler.start(nominee).await.unwrap();
    world.until(nominee, "starting/nominated").await;
    let paused = |paused: bool, maybe_taken: bool| {
        executor.set_nodes(|nodes| {
            let device = &mut nodes[0].devices[0];
            (device.healthy, device.updating, device.maybe_taken) = (!paused, paused, maybe_taken);
        });
    };
    paused(true, true);
    nominated(&world, 0).await;
    waits_with(&world, nominee, "NO_CAPACITY").await;
    executor.change(|state| state.keeps = false);
    paused(false, false);
    world.until(nominee, "running").await;
    world.audit(false).await;
    assert_eq!(executor.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_places_are_kept_for_a_gang_of_which_one_is_stopped() {
    let (world, scheduler, _executor) = world(2).await;
    let project = world.project("p", None).await;
    let gang = pb::Gang { id: Uuid::now_v7().as_bytes().to_vec(), size: 2, one_zone: false };
    let members = [
        world.workspace("one", project, DEFAULT, (1, 1000), json!({})).await,
        world.workspace("two", project, DEFAULT, (1, 1000), json!({})).await,
    ];
    for member in members {
        scheduler.caller().start_with(member, &gang).await.unwrap();
    }
    nominated(&world, 2).await;
    scheduler.stop(members[0], "USER").await.unwrap();
    nominated(&world, 0).await;
    waits_with(&world, members[1], "GANG_INCOMPLETE").await;
    world.audit(false).await;
}
