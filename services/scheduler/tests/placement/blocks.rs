//! Attempts of blocks that want devices, among runtimes that want the same.

use crate::{
    executor::{Executor, node},
    world::{POOL, WAIT, World},
};
use domain::id::QueueId;
use proto::internal::v1 as pb;
use serde_json::json;
use std::time::Duration;
use testkit::wait_for;
use uuid::Uuid;

const DEFAULT: QueueId = QueueId(Uuid::nil());
const HELD: &str = "SELECT sum(used_milli)::bigint FROM device";

fn wish(claim: &str, workspace: &str, milli: i32) -> pb::Wish {
    pb::Wish {
        claim: claim.into(),
        workspace: workspace.into(),
        class: "shared".into(),
        count: 1,
        milli,
        cpu_milli: 500,
        ..pb::Wish::default()
    }
}

async fn told(executor: &Executor, claim: &str, what: &str, is: impl Fn(&pb::Place) -> bool) -> pb::Place {
    wait_for(format!("{claim}: {what}"), WAIT, || async {
        executor.state.lock().unwrap().places.get(claim).filter(|place| is(place)).cloned()
    })
    .await
}

async fn placed(executor: &Executor, claim: &str) -> (String, pb::DeviceGrant) {
    let place = told(executor, claim, "a place", |place| !place.node.is_empty()).await;
    (place.node, place.devices[0].grant.clone().unwrap())
}

/// Until nothing is placed and one node of two is left.
async fn its_place_and_its_node_end(world: &World) {
    wait_for("the end of its place and of its node", WAIT, || async {
        let left = "SELECT (SELECT count(*) FROM placement) * 10 + (SELECT count(*) FROM node)";
        (world.count(left).await == 1).then_some(())
    })
    .await;
    world.audit(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_counts_for_its_project_until_nothing_of_it_is_left() {
    let (world, scheduler, executor) = World::simple(&[2]).await;
    let project = world.project("p", Some(1000)).await;
    let workspace = world.workspace("w", project, DEFAULT, (1, 600), json!({})).await;
    scheduler.start(workspace).await.unwrap();
    world.until(workspace, "running").await;
    executor.change(|state| state.wishes = vec![wish("jobs/one", "w", 500)]);
    let waits = told(&executor, "jobs/one", "the quota", |place| place.code == "QUOTA_EXCEEDED").await;
    assert!(waits.node.is_empty() && !waits.hopeless && !waits.message.is_empty(), "{waits:?}");

    scheduler.stop(workspace, "USER").await.unwrap();
    let (node, grant) = placed(&executor, "jobs/one").await;
    assert_eq!((node.as_str(), grant.milli, world.count(HELD).await), ("node-0", 500, 500));
    scheduler.start(workspace).await.unwrap();
    let waits = || async { (world.reason(workspace).await == "QUOTA_EXCEEDED").then_some(()) };
    wait_for("the runtime to wait for the block", WAIT, waits).await;

    let foreign = pb::Foreign { holder: "jobs/one".into(), grants: vec![grant], ..pb::Foreign::default() };
    executor.set_nodes(|nodes| nodes[0].foreign.push(foreign));
    executor.change(|state| state.wishes = vec![wish("jobs/two", "w", 600)]);
    // Its attempt is over, and its claim is still there: it holds on.
    told(&executor, "jobs/two", "the quota", |place| place.code == "QUOTA_EXCEEDED").await;
    assert_eq!(world.count(HELD).await, 500);
    executor.change(|state| state.wishes = vec![wish("jobs/three", "nobody", 500)]);
    let told = told(&executor, "jobs/three", "a refusal", |place| place.code == "WORKSPACE_NOT_FOUND").await;
    assert!(told.hopeless, "{told:?}");
    world.audit(false).await;
    executor.set_nodes(|nodes| nodes[0].foreign.clear());
    world.until(workspace, "running").await;
    assert_eq!(world.count(HELD).await, 600);
    world.audit(false).await;
    let counted = "SELECT count(*) FROM gpu_usage u JOIN workspace w ON w.id = u.workspace_id
                   WHERE w.name = 'w' AND u.gpu_milli = 500 AND u.model <> '' AND u.person_id IS NULL";
    assert_eq!(world.count(counted).await, 1, "what it held is in the account");
    assert_eq!(executor.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_is_served_before_lower_queues_and_keeps_its_place_over_another_owner() {
    let mut world = World::new().await;
    world.timing.lost_after = Duration::from_secs(2);
    let first = world.scheduler().await;
    world.give_all(&first).await;
    let executor = world.executor(POOL, &[1]);
    let project = world.project("p", None).await;
    let low = world.queue("low", POOL, -1, true).await;
    world.open(project, low, None).await;
    let victim = world.workspace("victim", project, low, (1, 1000), json!({})).await;
    first.start(victim).await.unwrap();
    world.until(victim, "running").await;
    executor.change(|state| state.keeps = true);
    executor.change(|state| state.wishes = vec![wish("jobs/one", "victim", 700)]);
    world.until(victim, "stopping").await;
    assert_eq!(world.reason(victim).await, "PREEMPTED");
    executor.change(|state| state.keeps = false);
    let place = placed(&executor, "jobs/one").await;
    world.until(victim, "stopped").await;

    // The cluster shows its claim, as a stranger's: that is the same part of the GPU, and the rest of it is free.
    let foreign = pb::Foreign { holder: "jobs/one".into(), grants: vec![place.1.clone()], ..pb::Foreign::default() };
    executor.set_nodes(|nodes| nodes[0].foreign.push(foreign));
    executor.change(|state| state.wishes.push(wish("jobs/two", "victim", 300)));
    placed(&executor, "jobs/two").await;
    executor.set_nodes(|nodes| nodes[0].foreign.clear());
    executor.change(|state| drop(state.wishes.pop()));
    wait_for("the end of the second", WAIT, || async { (world.count(HELD).await == 700).then_some(()) }).await;

    executor.change(|state| state.places.clear());
    let next = world.scheduler().await;
    world.give_all(&next).await;
    first.kill();
    assert_eq!(placed(&executor, "jobs/one").await, place, "it is told the same again");
    assert_eq!(world.count(HELD).await, 700);
    world.audit(false).await;
    // Its executor is never heard of again. Another one comes, of whose nodes none tells of its claim.
    executor.die();
    let _other = world.executor(POOL, &[1]);
    wait_for("the end of its place", WAIT, || async { (world.count(HELD).await == 0).then_some(()) }).await;
    world.audit(true).await;
    let counted = "SELECT count(*) FROM gpu_usage WHERE gpu_milli = 700";
    assert_eq!(world.count(counted).await, 1, "once, by whoever owned the pool at its end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_gets_devices_of_its_class_and_is_told_of_their_cores() {
    let (world, _scheduler, executor) = World::simple(&[2]).await;
    let project = world.project("p", None).await;
    world.workspace("w", project, DEFAULT, (1, 100), json!({})).await;
    // The same model, had in another way.
    executor.set_nodes(|nodes| {
        nodes[0].devices[0].class = "whole".into();
        (nodes[0].devices[1].cores, nodes[0].devices[1].cores_step) = (132, 4);
    });
    let classes = "SELECT count(DISTINCT class) FROM device";
    wait_for("the two classes", WAIT, || async { (world.count(classes).await == 2).then_some(()) }).await;
    let of = |claim: &str, class: &str| pb::Wish { class: class.into(), ..wish(claim, "w", 500) };
    let wishes = vec![of("jobs/one", "shared"), of("jobs/two", "shared"), of("jobs/three", "shared")];
    executor.change(|state| state.wishes = wishes.clone());
    let waits = told(&executor, "jobs/three", "no room", |place| !place.code.is_empty()).await;
    assert_eq!(waits.code, "NO_CAPACITY", "{waits:?}");
    for claim in ["jobs/one", "jobs/two"] {
        let place = told(&executor, claim, "a place", |place| !place.node.is_empty()).await;
        let device = &place.devices[0];
        let name = device.grant.as_ref().unwrap().device.as_str();
        assert_eq!((name, device.class.as_str()), ("gpu-1", "shared"), "{claim}");
        assert_eq!((device.cores, device.cores_step), (132, 4), "{claim}");
    }
    executor.change(|state| state.wishes = [wishes, vec![of("jobs/four", "whole"), of("jobs/five", "mig")]].concat());
    let (_, grant) = placed(&executor, "jobs/four").await;
    assert_eq!(grant.device, "gpu-0");
    let absent = told(&executor, "jobs/five", "no such class", |place| !place.code.is_empty()).await;
    assert_eq!((absent.code.as_str(), absent.hopeless), ("MODEL_ABSENT", true));
    assert_eq!(absent.message, "no node has a device of class mig");
}

/// The node of this name tells of the claim, and of so much processor: which is seen in its row.
async fn tell_of(world: &World, executor: &Executor, name: &str, claim: &str, grant: pb::DeviceGrant) {
    let foreign = pb::Foreign { holder: claim.into(), grants: vec![grant], ..pb::Foreign::default() };
    executor.set_nodes(|nodes| {
        let node = nodes.iter_mut().find(|node| node.name == name).unwrap();
        (node.cpu_milli, node.foreign) = (63_000, vec![foreign]);
    });
    let told = "SELECT count(*) FROM node WHERE cpu_milli = 63000";
    wait_for("the claim to be told of", WAIT, || async { (world.count(told).await == 1).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_block_has_of_a_node_that_is_no_more_comes_back() {
    let (world, _scheduler, executor) = World::simple(&[1, 1]).await;
    let project = world.project("p", None).await;
    world.workspace("w", project, DEFAULT, (1, 100), json!({})).await;
    executor.change(|state| state.wishes = vec![wish("jobs/one", "w", 500)]);
    let (name, grant) = placed(&executor, "jobs/one").await;
    tell_of(&world, &executor, &name, "jobs/one", grant).await;
    executor.set_nodes(|nodes| nodes.retain(|node| node.name != name));
    executor.change(|state| state.wishes.clear());
    its_place_and_its_node_end(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_owner_frees_nothing_of_blocks_before_it_hears_of_their_nodes() {
    let mut world = World::new().await;
    (world.timing.lost_after, world.timing.given_up_after) = (Duration::from_secs(1), Duration::from_secs(3));
    let first = world.scheduler().await;
    world.give_all(&first).await;
    let executor = world.executor(POOL, &[1]);
    let project = world.project("p", None).await;
    let runs = world.workspace("w", project, DEFAULT, (1, 300), json!({})).await;
    first.start(runs).await.unwrap();
    world.until(runs, "running").await;
    executor.change(|state| state.wishes = vec![wish("jobs/one", "w", 500)]);
    let (name, grant) = placed(&executor, "jobs/one").await;
    tell_of(&world, &executor, &name, "jobs/one", grant.clone()).await;

    executor.die();
    let next = world.scheduler().await;
    world.give_all(&next).await;
    first.kill();
    // The new owner has waited for the node much longer than for a wish.
    world.until(runs, "stopping").await;
    assert_eq!(world.count(HELD).await, 800, "its Job may have its part still");
    let foreign = pb::Foreign { holder: "jobs/one".into(), grants: vec![grant], ..pb::Foreign::default() };
    let back = world.executor_that_tells(POOL, &[1], |nodes| nodes[0].foreign.push(foreign));
    world.until(runs, "stopped").await;
    assert_eq!(world.count(HELD).await, 500, "and it has");
    back.set_nodes(|nodes| nodes[0].foreign.clear());
    wait_for("the end of its place", WAIT, || async { (world.count(HELD).await == 0).then_some(()) }).await;
    world.audit(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_block_has_of_a_node_that_went_while_nobody_looked_comes_back() {
    let mut world = World::new().await;
    world.timing.lost_after = Duration::from_secs(1);
    let scheduler = world.scheduler().await;
    world.give_all(&scheduler).await;
    let before = world.executor_of("kubernetes", vec![node("node-0", 1), node("node-1", 1)]);
    let project = world.project("p", None).await;
    world.workspace("w", project, DEFAULT, (1, 100), json!({})).await;
    before.change(|state| state.wishes = vec![wish("jobs/one", "w", 500)]);
    let (gone, grant) = placed(&before, "jobs/one").await;
    tell_of(&world, &before, &gone, "jobs/one", grant).await;
    before.die();

    // One who tells of its own machine says nothing about others.
    let left = if gone == "node-0" { "node-1" } else { "node-0" };
    let machine = world.executor_of("process", vec![node(left, 1)]);
    let lost = "SELECT count(*) FROM node WHERE state = 'lost'";
    wait_for("the node to be lost", WAIT, || async { (world.count(lost).await == 1).then_some(()) }).await;
    assert_eq!(world.count(HELD).await, 500, "its Job may have its part still");
    machine.die();
    // One that only wants devices for its blocks is no machine.
    let _wants = world.executor_of("none", Vec::new());
    let _back = world.executor_of("kubernetes", vec![node(left, 1)]);
    its_place_and_its_node_end(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_block_has_of_a_device_that_is_not_told_of_stays_its() {
    let mut world = World::new().await;
    world.timing.lost_after = Duration::from_secs(1);
    let scheduler = world.scheduler().await;
    world.give_all(&scheduler).await;
    let executor = world.executor(POOL, &[2]);
    let project = world.project("p", None).await;
    world.workspace("w", project, DEFAULT, (1, 100), json!({})).await;
    executor.change(|state| state.wishes = vec![wish("jobs/one", "w", 500)]);
    let (name, grant) = placed(&executor, "jobs/one").await;
    let device = grant.device.clone();
    tell_of(&world, &executor, &name, "jobs/one", grant.clone()).await;

    // Its driver restarts: nothing is told of the device, and so not who has it.
    executor.set_nodes(|nodes| {
        nodes[0].foreign.clear();
        nodes[0].devices.retain(|known| known.name != device);
    });
    let ill = "SELECT count(*) FROM device WHERE NOT healthy";
    wait_for("the device to be missed", WAIT, || async { (world.count(ill).await == 1).then_some(()) }).await;
    executor.change(|state| state.wishes = vec![wish("jobs/two", "w", 500)]);
    placed(&executor, "jobs/two").await;
    assert_eq!(world.count(HELD).await, 1000, "its Job may run on");
    executor.set_nodes(|nodes| {
        nodes[0] = node("node-0", 2);
        nodes[0].foreign =
            vec![pb::Foreign { holder: "jobs/one".into(), grants: vec![grant], ..pb::Foreign::default() }];
    });
    wait_for("the device to be told again", WAIT, || async { (world.count(ill).await == 0).then_some(()) }).await;
    assert_eq!(world.count(HELD).await, 1000, "and it did");
    executor.set_nodes(|nodes| nodes[0].foreign.clear());
    wait_for("the end of its place", WAIT, || async { (world.count(HELD).await == 500).then_some(()) }).await;
    world.audit(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_block_has_of_a_device_that_has_failed_comes_back() {
    let mut world = World::new().await;
    (world.timing.lost_after, world.timing.given_up_after) = (Duration::from_secs(1), Duration::from_secs(2));
    let scheduler = world.scheduler().await;
    world.give_all(&scheduler).await;
    let executor = world.executor(POOL, &[1]);
    let project = world.project("p", None).await;
    world.workspace("w", project, DEFAULT, (1, 100), json!({})).await;
    executor.change(|state| state.wishes = vec![wish("jobs/one", "w", 500)]);
    placed(&executor, "jobs/one").await;
    executor.set_nodes(|nodes| nodes[0].devices.clear());
    let ill = "SELECT count(*) FROM device WHERE NOT healthy";
    wait_for("the device to be missed", WAIT, || async { (world.count(ill).await == 1).then_some(()) }).await;
    executor.change(|state| state.wishes.clear());
    let held = "SELECT count(*) FROM placement";
    wait_for("the end of its place", WAIT, || async { (world.count(held).await == 0).then_some(()) }).await;
    world.audit(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_away_beside_a_cluster_is_lost_and_not_gone() {
    let mut world = World::new().await;
    world.timing.lost_after = Duration::from_secs(1);
    let scheduler = world.scheduler().await;
    world.give_all(&scheduler).await;
    let machine = world.executor_of("process", vec![node("bare", 1)]);
    let _cluster = world.executor_of("kubernetes", vec![node("node-0", 1)]);
    let of = |state: &'static str| format!("SELECT count(*) FROM node WHERE state = '{state}'");
    wait_for("both", WAIT, || async { (world.count(&of("ready")).await == 2).then_some(()) }).await;
    machine.die();
    wait_for("the machine to be lost", WAIT, || async { (world.count(&of("lost")).await == 1).then_some(()) }).await;
    assert_eq!(world.count("SELECT count(*) FROM node").await, 2);
}
