//! What ends runtimes without anybody asking: idleness, lost nodes, failed devices.

use crate::{
    executor::node,
    world::{POOL, Scheduler, WAIT, World},
};
use domain::id::{QueueId, WorkspaceId};
use proto::internal::v1 as pb;
use serde_json::json;
use std::time::Duration;
use testkit::wait_for;
use uuid::Uuid;

const DEFAULT: QueueId = QueueId(Uuid::nil());

fn activity(state: pb::activity_report::State) -> Vec<pb::ActivityReport> {
    vec![pb::ActivityReport { source: "kernels".into(), state: Some(state), read_us: 5_000_000 }]
}

/// Until its second life runs there, because the device of the first one failed.
async fn it_runs_on_the_other_device(world: &World, moves: WorkspaceId) {
    wait_for("it to run on the other device", WAIT, || async {
        let sql = "SELECT count(*) FROM device d JOIN runtime r ON r.state = 'running' AND r.number = 2
                   WHERE d.used_milli = 600 AND d.healthy";
        (world.count(sql).await == 1).then_some(())
    })
    .await;
    let lines = world.timeline(moves).await;
    assert!(lines.contains(&"stopping DEVICE_FAILED".to_owned()), "{lines:?}");
    world.audit(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_runtime_is_asked_once_more_before_it_ends() {
    use pb::activity_report::State::{ActiveUs, IdleSinceUs, Unknown};
    let (world, scheduler, executor) = World::simple(&[1]).await;
    let project = world.project("p", None).await;
    let idle = world.workspace("idle", project, DEFAULT, (1, 100), json!({ "idle_timeout_s": 1 })).await;
    let silent = world.workspace("silent", project, DEFAULT, (1, 100), json!({ "idle_timeout_s": 1 })).await;
    // Somebody works there, and its devices do nothing.
    let hoards = json!({ "gpu_idle_timeout_s": 1, "idle_timeout_s": 7_200 });
    let hoards = world.workspace("hoards", project, DEFAULT, (1, 100), hoards).await;
    for workspace in [idle, silent, hoards] {
        scheduler.start(workspace).await.unwrap();
        world.until(workspace, "running").await;
    }
    let (idle_holder, silent_holder) = (world.holder(idle).await, world.holder(silent).await);
    let hoards_holder = world.holder(hoards).await;
    executor.change(|state| {
        state.runtimes.get_mut(&idle_holder).unwrap().activities = activity(IdleSinceUs(0));
        state.runtimes.get_mut(&silent_holder).unwrap().activities = activity(Unknown("no answer".into()));
        let rests = pb::ActivityReport { source: "gpu".into(), ..activity(IdleSinceUs(0)).remove(0) };
        let used = activity(ActiveUs(5_000_000));
        state.runtimes.get_mut(&hoards_holder).unwrap().activities = [used, vec![rests]].concat();
    });
    for (workspace, holder) in [(idle, idle_holder), (hoards, hoards_holder)] {
        world.until(workspace, "stopped").await;
        assert_eq!(world.reason(workspace).await, "IDLE");
        assert!(executor.state.lock().unwrap().probes.contains(&holder), "it was asked before");
    }
    assert_eq!(world.stage(silent).await, "running", "what nobody knows is not idle");
    let told = "SELECT count(*) FROM runtime WHERE hint = 'whether it is idle is not known: kernels: no answer'";
    assert_eq!(world.count(told).await, 1, "people are told why");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_node_frees_nothing_until_an_administrator_says_so() {
    let mut world = World::new().await;
    world.timing.lost_after = Duration::from_secs(2);
    world.timing.given_up_after = Duration::from_secs(3);
    let scheduler = world.scheduler().await;
    world.give_all(&scheduler).await;
    let executor = world.executor(POOL, &[1]);
    let project = world.project("p", None).await;
    let lost = world.workspace("lost", project, DEFAULT, (1, 1000), json!({})).await;
    let waits = world.workspace("waits", project, DEFAULT, (1, 1000), json!({})).await;
    scheduler.start(lost).await.unwrap();
    world.until(lost, "running").await;
    let refused = scheduler.stop(lost, "FENCED").await.unwrap_err();
    assert!(refused.message().contains("connected"), "{refused}");
    assert_eq!(rpc::status::Problem::from_status(&refused).reason, "NODE_ALIVE");
    executor.die();
    world.until(lost, "stopping").await;
    assert_eq!(world.reason(lost).await, "NODE_LOST");
    assert_eq!(world.count("SELECT count(*) FROM node WHERE state = 'lost'").await, 1);
    scheduler.start(waits).await.unwrap();
    assert_eq!(world.count("SELECT used_milli::bigint FROM device").await, 1000, "it may still run there");
    scheduler.stop(lost, "FENCED").await.unwrap();
    world.until(lost, "stopped").await;
    world.audit(true).await;
    let _back = world.executor(POOL, &[1]);
    world.until(waits, "running").await;
}

/// A workspace that runs with a part of a device, and asked to wait again whenever it loses its place.
async fn that_moves(world: &World, scheduler: &Scheduler) -> WorkspaceId {
    let project = world.project("p", None).await;
    let moves = world.workspace("moves", project, DEFAULT, (1, 600), json!({ "requeue": true })).await;
    scheduler.start(moves).await.unwrap();
    world.until(moves, "running").await;
    moves
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_on_a_node_that_was_given_up_or_evicted_it_runs_again_where_that_was_asked_for() {
    let (world, scheduler, executor) = World::simple(&[1]).await;
    let moves = that_moves(&world, &scheduler).await;
    for (number, code) in [(2, "NODE_LOST"), (3, "EVICTED")] {
        executor.change(|state| {
            let running = state.runtimes.values_mut().find(|running| running.phase == pb::RuntimePhase::Ready).unwrap();
            (running.phase, running.code) = (pb::RuntimePhase::Failed, code.into());
        });
        let again = format!("SELECT count(*) FROM runtime WHERE state = 'running' AND number = {number}");
        wait_for("its next life", WAIT, || async { (world.count(&again).await == 1).then_some(()) }).await;
        assert!(world.timeline(moves).await.contains(&format!("stopping {code}")));
    }
    world.audit(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_evicted_again_and_again_waits_no_more_whoever_has_the_pool_by_then() {
    let (world, first, executor) = World::simple(&[1]).await;
    let moves = that_moves(&world, &first).await;
    let evict = || {
        executor.change(|state| {
            let ready = state.runtimes.values_mut().find(|runtime| runtime.phase == pb::RuntimePhase::Ready).unwrap();
            (ready.phase, ready.code) = (pb::RuntimePhase::Failed, "EVICTED".into());
        });
    };
    let again = async |number: i64| {
        let sql = format!("SELECT count(*) FROM runtime WHERE state = 'running' AND number = {number}");
        wait_for("its next life", WAIT, || async { (world.count(&sql).await == 1).then_some(()) }).await;
    };
    for number in [2, 3] {
        evict();
        again(number).await;
    }
    let next = world.scheduler().await;
    world.give_all(&next).await;
    first.kill();
    for number in [4, 5] {
        evict();
        again(number).await;
    }
    evict();
    world.until(moves, "error").await;
    assert_eq!(world.reason(moves).await, "EVICTED");
    // Somebody starts it again, and it counts anew.
    next.start(moves).await.unwrap();
    again(6).await;
    assert_eq!(world.count("SELECT count(*) FROM runtime WHERE spec ? 'earlier'").await, 0);
    world.audit(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_device_moves_who_asked_for_it_and_warns_the_others() {
    let (world, scheduler, executor) = World::simple(&[2]).await;
    let moves = that_moves(&world, &scheduler).await;
    let device = "SELECT name FROM device WHERE used_milli > 0";
    let failed: String = world.database.client().await.query_one(device, &[]).await.unwrap().get(0);
    executor.set_nodes(|nodes| {
        let device = nodes[0].devices.iter_mut().find(|device| device.name == failed).unwrap();
        (device.healthy, device.condition) = (false, "fell off the bus".into());
    });
    it_runs_on_the_other_device(&world, moves).await;
}

/// It takes nobody new, and has not failed.
fn pause(device: &mut pb::PoolDevice) {
    (device.healthy, device.updating, device.condition) = (false, true, "its pool is being updated".into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_not_told_of_or_told_of_anew_takes_nobody_new_and_stops_nobody() {
    let (world, scheduler, executor) = World::simple(&[1]).await;
    let project = world.project("p", None).await;
    let runs = world.workspace("runs", project, DEFAULT, (1, 400), json!({ "requeue": true })).await;
    scheduler.start(runs).await.unwrap();
    world.until(runs, "running").await;
    let is_not_told: fn(&mut pb::Node) = |node| node.devices.clear();
    let is_told_anew: fn(&mut pb::Node) = |node| pause(&mut node.devices[0]);
    let may_be_others: fn(&mut pb::Node) = |node| {
        pause(&mut node.devices[0]);
        node.devices[0].maybe_taken = true;
    };
    for (name, change) in [("one", is_not_told), ("two", is_told_anew), ("three", may_be_others)] {
        executor.set_nodes(|nodes| change(&mut nodes[0]));
        wait_for(name, WAIT, || async {
            (world.count("SELECT count(*) FROM device WHERE NOT healthy").await == 1).then_some(())
        })
        .await;
        let waits = world.workspace(name, project, DEFAULT, (1, 200), json!({})).await;
        scheduler.start(waits).await.unwrap();
        wait_for("a reason", WAIT, || async { (!world.reason(waits).await.is_empty()).then_some(()) }).await;
        assert_eq!(world.stage(waits).await, "starting/queued", "{name}");
        executor.set_nodes(|nodes| nodes[0] = node("node-0", 1));
        world.until(waits, "running").await;
    }
    assert_eq!(world.stage(runs).await, "running");
    assert_eq!(executor.state.lock().unwrap().started, 4, "nobody was started twice");
    let lines = world.timeline(runs).await;
    assert!(lines.contains(&"running DEVICE_MISSING".to_owned()), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("stopping") || line.contains("FAILED")), "{lines:?}");
    world.audit(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_not_told_of_for_long_has_failed() {
    let mut world = World::new().await;
    world.timing.given_up_after = Duration::from_secs(1);
    let scheduler = world.scheduler().await;
    world.give_all(&scheduler).await;
    let executor = world.executor(POOL, &[2]);
    let moves = that_moves(&world, &scheduler).await;
    let device = "SELECT name FROM device WHERE used_milli > 0";
    let held: String = world.database.client().await.query_one(device, &[]).await.unwrap().get(0);
    executor.set_nodes(|nodes| nodes[0].devices.retain(|device| device.name != held));
    it_runs_on_the_other_device(&world, moves).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_fails_while_the_pool_has_no_owner_moves_who_asked_for_it() {
    let (world, first, executor) = World::simple(&[2]).await;
    let moves = that_moves(&world, &first).await;
    let device = "SELECT name FROM device WHERE used_milli > 0";
    let ill: String = world.database.client().await.query_one(device, &[]).await.unwrap().get(0);
    let set = |updating: bool, condition: &str| {
        executor.set_nodes(|nodes| {
            let device = nodes[0].devices.iter_mut().find(|device| device.name == ill).unwrap();
            (device.healthy, device.updating, device.condition) = (false, updating, condition.to_owned());
        });
    };
    set(true, "its pool is being updated");
    wait_for("it to be told anew", WAIT, || async {
        (world.count("SELECT count(*) FROM device WHERE NOT healthy").await == 1).then_some(())
    })
    .await;
    first.kill();
    set(false, "fell off the bus");
    let next = world.scheduler().await;
    world.give_all(&next).await;
    it_runs_on_the_other_device(&world, moves).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_a_node_that_went_while_nobody_looked_can_be_ended() {
    let world = World::new().await;
    let first = world.scheduler().await;
    world.give_all(&first).await;
    let executor = world.executor_of("kubernetes", vec![node("node-0", 1), node("node-1", 1)]);
    let project = world.project("p", None).await;
    let runs = world.workspace("runs", project, DEFAULT, (1, 600), json!({})).await;
    first.start(runs).await.unwrap();
    world.until(runs, "running").await;
    let of = "SELECT n.name FROM node n JOIN placement p ON p.node_id = n.id";
    let gone: String = world.database.client().await.query_one(of, &[]).await.unwrap().get(0);
    // Whoever tells of the cluster is there, whatever became of the node.
    let refused = first.stop(runs, "FENCED").await.unwrap_err();
    assert!(refused.message().contains(&format!("kubectl delete node {gone}")), "{refused:?}");
    assert_eq!(rpc::status::Problem::from_status(&refused).reason, "NODE_ALIVE");
    first.kill();
    executor.set_nodes(|nodes| nodes.retain(|node| node.name != gone));
    let next = world.scheduler().await;
    world.give_all(&next).await;
    wait_for("a command to be taken", WAIT, || async { next.stop(runs, "USER").await.ok() }).await;
    world.until(runs, "stopped").await;
    wait_for("the end of its node", WAIT, || async {
        (world.count("SELECT count(*) FROM node").await == 1).then_some(())
    })
    .await;
    world.audit(true).await;
    assert_eq!(executor.violations(), Vec::<String>::new());
}
