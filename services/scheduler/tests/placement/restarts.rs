//! A restart keeps the place: nobody who waits gets it in between, whoever owns the pool; and when it is given free.

use crate::{
    executor::Executor,
    world::{POOL, Scheduler, WAIT, World},
};
use domain::id::{ProjectId, QueueId, WorkspaceId};
use proto::internal::v1::RuntimePhase as Phase;
use serde_json::json;
use testkit::wait_for;
use uuid::Uuid;

const DEFAULT: QueueId = QueueId(Uuid::nil());
const NOMINATED: &str = "SELECT count(*) FROM placement WHERE state = 'nominated'";

struct Cluster {
    world: World,
    scheduler: Scheduler,
    executor: Executor,
    project: ProjectId,
    lab: WorkspaceId,
    other: WorkspaceId,
}

/// `lab` has the only GPU, and `other` waits for it.
async fn cluster() -> Cluster {
    let (world, scheduler, executor) = World::simple(&[1]).await;
    let project = world.project("p", Some(2000)).await;
    let lab = world.workspace("lab", project, DEFAULT, (1, 1000), json!({})).await;
    scheduler.start(lab).await.unwrap();
    world.until(lab, "running").await;
    let other = world.workspace("other", project, DEFAULT, (1, 1000), json!({})).await;
    scheduler.start(other).await.unwrap();
    refused(&world, other).await;
    Cluster { world, scheduler, executor, project, lab, other }
}

async fn refused(world: &World, workspace: WorkspaceId) {
    wait_for("it to be refused", WAIT, || async { (world.reason(workspace).await == "NO_CAPACITY").then_some(()) })
        .await;
}

/// The second life of a workspace runs.
async fn is_back(world: &World, workspace: WorkspaceId) {
    let sql = "SELECT count(*) FROM runtime WHERE workspace_id = $1 AND number = 2 AND state = 'running'";
    wait_for("the second life to run", WAIT, || async {
        let row = world.database.client().await.query_one(sql, &[&workspace.0]).await.unwrap();
        (row.get::<_, i64>(0) == 1).then_some(())
    })
    .await;
}

async fn replace(world: &World, scheduler: Scheduler) -> Scheduler {
    scheduler.kill();
    let next = world.scheduler().await;
    world.give_all(&next).await;
    next
}

/// Its driver tells anew what there is, and nobody is placed on the GPU until it has.
fn updating(executor: &Executor, updating: bool) {
    executor.set_nodes(|nodes| {
        let device = &mut nodes[0].devices[0];
        (device.healthy, device.updating) = (!updating, updating);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_its_place_from_whoever_waits() {
    let Cluster { world, scheduler, executor, lab, other, .. } = cluster().await;
    scheduler.stop(lab, "RESTART").await.unwrap();
    is_back(&world, lab).await;
    assert_eq!(world.stage(other).await, "starting/queued");
    let lines = world.timeline(lab).await;
    let ended = lines.iter().position(|line| line == "stopped RESTART").unwrap();
    assert_eq!(lines[ended + 1], "starting/nominated", "{lines:?}");
    world.audit(false).await;
    scheduler.stop(lab, "USER").await.unwrap();
    world.until(other, "running").await;
    world.audit(false).await;
    assert_eq!(executor.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_its_place_over_a_new_scheduler_between_any_two_of_its_steps() {
    let Cluster { world, mut scheduler, executor, lab, other, .. } = cluster().await;
    executor.change(|state| (state.keeps, state.dawdles) = (true, true));
    scheduler.stop(lab, "RESTART").await.unwrap();
    assert_eq!(world.stage(lab).await, "stopping");
    scheduler = replace(&world, scheduler).await;
    wait_for("the life to be told again", WAIT, || async {
        let told = executor.state.lock().unwrap().runtimes.values().any(|running| running.phase == Phase::Stopping);
        told.then_some(())
    })
    .await;
    updating(&executor, true);
    let unhealthy = "SELECT count(*) FROM device WHERE NOT healthy";
    wait_for("the driver to be heard", WAIT, || async { (world.count(unhealthy).await == 1).then_some(()) }).await;
    executor.change(|state| state.keeps = false);
    world.until(lab, "starting/nominated").await;
    assert_eq!(world.count(NOMINATED).await, 1);
    world.audit(false).await;
    scheduler = replace(&world, scheduler).await;
    updating(&executor, false);
    world.until(lab, "starting/accepted").await;
    world.audit(false).await;
    let _last = replace(&world, scheduler).await;
    executor.change(|state| state.dawdles = false);
    is_back(&world, lab).await;
    assert_eq!(world.stage(other).await, "starting/queued");
    world.audit(false).await;
    assert_eq!(executor.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_fits_no_more_is_given_free_and_the_timeline_says_so() {
    for what in ["less of the GPU", "another queue"] {
        let Cluster { world, scheduler, executor, project, lab, other } = cluster().await;
        let client = world.database.client().await;
        let queue = match what {
            "another queue" => {
                let queue = world.queue("research", POOL, 0, false).await;
                world.open(project, queue, None).await;
                queue
            }
            _ => {
                let less = "UPDATE runtime_spec SET spec = jsonb_set(spec, '{ask,gpu_milli}', '300')
                            WHERE workspace_id = $1";
                client.execute(less, &[&lab.0]).await.unwrap();
                DEFAULT
            }
        };
        let set = "UPDATE runtime_spec SET version = 2, queue_id = $2 WHERE workspace_id = $1";
        client.execute(set, &[&lab.0, &queue.0]).await.unwrap();
        scheduler.stop(lab, "RESTART").await.unwrap();
        world.until(other, "running").await;
        world.until(lab, "starting/queued").await;
        let lines = world.timeline(lab).await;
        let ended = lines.iter().position(|line| line == "stopped RESTART").unwrap();
        assert_eq!(lines[ended + 1], "starting/queued PLACE_GIVEN_UP", "{what}: {lines:?}");
        world.audit(false).await;
        assert_eq!(executor.violations(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_memory_of_the_same_node_keeps_the_devices() {
    let Cluster { world, scheduler, lab, other, executor, .. } = cluster().await;
    let more = "UPDATE runtime_spec SET version = 2, spec = jsonb_set(spec, '{ask,memory_bytes}', '2147483648')
                WHERE workspace_id = $1";
    world.database.client().await.execute(more, &[&lab.0]).await.unwrap();
    scheduler.stop(lab, "RESTART").await.unwrap();
    is_back(&world, lab).await;
    assert_eq!(world.count("SELECT memory_used FROM node").await, 2 << 30);
    assert_eq!(world.stage(other).await, "starting/queued");
    world.audit(false).await;
    assert_eq!(executor.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_place_is_kept_where_nobody_is_placed_any_more() {
    let (world, scheduler, executor) = World::simple(&[1, 1]).await;
    let project = world.project("p", None).await;
    let lab = world.workspace("lab", project, DEFAULT, (1, 1000), json!({})).await;
    scheduler.start(lab).await.unwrap();
    world.until(lab, "running").await;
    let node = "SELECT n.name FROM runtime r JOIN node n ON n.id = r.node_id";
    let client = world.database.client().await;
    let before: String = client.query_one(node, &[]).await.unwrap().get(0);
    let cordoned = before.clone();
    executor.set_nodes(|nodes| {
        nodes.iter_mut().filter(|node| node.name == cordoned).for_each(|node| node.schedulable = false);
    });
    let heard = "SELECT count(*) FROM node WHERE state = 'unschedulable'";
    wait_for("the cordon to be heard", WAIT, || async { (world.count(heard).await == 1).then_some(()) }).await;
    scheduler.stop(lab, "RESTART").await.unwrap();
    is_back(&world, lab).await;
    let after: String = client.query_one(node, &[]).await.unwrap().get(0);
    assert_ne!(before, after);
    assert!(world.timeline(lab).await.contains(&"starting/queued PLACE_GIVEN_UP".to_owned()));
    world.audit(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_place_is_kept_for_one_who_may_not_start_any_more() {
    let Cluster { world, scheduler, executor, lab, other, project } = cluster().await;
    executor.change(|state| state.keeps = true);
    scheduler.stop(lab, "RESTART").await.unwrap();
    let client = world.database.client().await;
    client.execute("UPDATE project_policy SET gpu_milli = 500", &[]).await.unwrap();
    scheduler.stop(other, "USER").await.unwrap();
    let rich = world.project("rich", None).await;
    assert_ne!(rich, project);
    let next = world.workspace("next", rich, DEFAULT, (1, 1000), json!({})).await;
    scheduler.start(next).await.unwrap();
    executor.change(|state| state.keeps = false);
    world.until(next, "running").await;
    wait_for("it to be refused", WAIT, || async { (world.reason(lab).await == "QUOTA_TOO_SMALL").then_some(()) }).await;
    assert_eq!(world.count(NOMINATED).await, 0);
    assert_eq!(executor.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_told_to_leave_does_not_keep_the_place_by_a_restart() {
    let notice = |timing: &mut scheduler::placer::Timing| {
        timing.rules.preemption_notice = jiff::SignedDuration::from_hours(1);
    };
    let (world, scheduler, executor) = World::with_timing(&[1], notice).await;
    let low = world.queue("low", POOL, -1, true).await;
    let project = world.project("p", None).await;
    world.open(project, low, None).await;
    let victim = world.workspace("victim", project, low, (1, 1000), json!({})).await;
    scheduler.start(victim).await.unwrap();
    world.until(victim, "running").await;
    let nominee = world.workspace("nominee", project, DEFAULT, (1, 1000), json!({})).await;
    scheduler.start(nominee).await.unwrap();
    world.until(nominee, "starting/nominated").await;
    scheduler.stop(victim, "RESTART").await.unwrap();
    world.until(nominee, "running").await;
    world.until(victim, "starting/queued").await;
    assert!(world.timeline(victim).await.contains(&"starting/queued PLACE_GIVEN_UP".to_owned()));
    world.audit(false).await;
    assert_eq!(executor.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_first_waits_for_a_restart_and_gets_the_place_after_it() {
    let (world, scheduler, executor) = World::simple(&[1]).await;
    let low = world.queue("low", POOL, -1, true).await;
    let project = world.project("p", None).await;
    world.open(project, low, None).await;
    let lab = world.workspace("lab", project, low, (1, 1000), json!({})).await;
    scheduler.start(lab).await.unwrap();
    world.until(lab, "running").await;
    executor.change(|state| state.keeps = true);
    scheduler.stop(lab, "RESTART").await.unwrap();
    let urgent = world.workspace("urgent", project, DEFAULT, (1, 1000), json!({})).await;
    scheduler.start(urgent).await.unwrap();
    refused(&world, urgent).await;
    assert_eq!(world.count(NOMINATED).await, 0, "nobody is promised what somebody starts again on");
    executor.change(|state| state.keeps = false);
    world.until(urgent, "running").await;
    world.until(lab, "stopped").await;
    assert_eq!(world.reason(lab).await, "PREEMPTED", "the life that followed had it, and was stopped as any other");
    world.audit(false).await;
    assert_eq!(executor.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stops_what_restarts_gives_the_place_free() {
    let Cluster { world, scheduler, executor, lab, other, .. } = cluster().await;
    executor.change(|state| state.keeps = true);
    scheduler.stop(lab, "RESTART").await.unwrap();
    scheduler.stop(lab, "USER").await.unwrap();
    executor.change(|state| state.keeps = false);
    world.until(other, "running").await;
    assert_eq!((world.stage(lab).await, world.reason(lab).await), ("stopped".into(), "USER".into()));
    world.audit(false).await;
    assert_eq!(executor.violations(), Vec::<String>::new());
}
