//! Whoever has to leave for others is told first, and stopped when the time is up and they still need its place.

use crate::{
    executor::{Executor, node},
    world::{POOL, Scheduler, WAIT, World},
};
use domain::id::{ProjectId, QueueId, WorkspaceId};
use jiff::SignedDuration;
use scheduler::placer::Timing;
use serde_json::json;
use std::time::Duration;
use testkit::wait_for;
use uuid::Uuid;

const DEFAULT: QueueId = QueueId(Uuid::nil());
const NEVER: SignedDuration = SignedDuration::from_hours(1);

struct Cluster {
    world: World,
    scheduler: Scheduler,
    executor: Executor,
    project: ProjectId,
    victim: WorkspaceId,
    nominee: WorkspaceId,
}

/// One GPU, which a victim has that was told to leave for a nominee.
async fn told(notice: SignedDuration) -> Cluster {
    let (world, scheduler, executor) = World::with_timing(&[1], |timing| timing.rules.preemption_notice = notice).await;
    let low = world.queue("low", POOL, -1, true).await;
    let project = world.project("p", None).await;
    let victim = that_may_be_stopped(&world, &scheduler, project, low).await;
    let nominee = world.workspace("nominee", project, DEFAULT, (1, 1000), json!({})).await;
    scheduler.start(nominee).await.unwrap();
    world.until(nominee, "starting/nominated").await;
    Cluster { world, scheduler, executor, project, victim, nominee }
}

/// It has the GPU.
async fn that_may_be_stopped(world: &World, scheduler: &Scheduler, project: ProjectId, low: QueueId) -> WorkspaceId {
    world.open(project, low, None).await;
    let victim = world.workspace("victim", project, low, (1, 1000), json!({})).await;
    scheduler.start(victim).await.unwrap();
    world.until(victim, "running").await;
    victim
}

async fn ends_at(world: &World, workspace: WorkspaceId) -> Option<jiff::Timestamp> {
    let sql = "SELECT ends_at FROM runtime WHERE workspace_id = $1 AND ends_because = 'PREEMPTED'";
    world.database.client().await.query_opt(sql, &[&workspace.0]).await.unwrap()?.get(0)
}

async fn goes_on(world: &World, victim: WorkspaceId) {
    wait_for("the notice to be withdrawn", WAIT, || async { ends_at(world, victim).await.is_none().then_some(()) })
        .await;
    assert_eq!(world.stage(victim).await, "running");
    let lines = world.timeline(victim).await;
    assert_eq!(lines[lines.len() - 2..], ["running PREEMPTED", "running PREEMPTION_WITHDRAWN"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_victim_is_told_and_stopped_when_the_time_is_up_whoever_owns_the_pool_then() {
    let Cluster { world, scheduler, executor, victim, nominee, .. } = told(SignedDuration::from_secs(4)).await;
    let told = ends_at(&world, victim).await;
    assert!(told.is_some() && world.stage(victim).await == "running");
    assert_eq!(world.timeline(victim).await.last().map(String::as_str), Some("running PREEMPTED"));
    let next = world.scheduler().await;
    world.give_all(&next).await;
    scheduler.kill();
    world.until(victim, "stopped").await;
    assert_eq!(world.reason(victim).await, "PREEMPTED");
    let sql = "SELECT count(*) FROM runtime_event WHERE workspace_id = $1 AND state = 'stopping'
                   AND reason = 'PREEMPTED' AND at >= $2";
    let stopped = world.database.client().await.query_one(sql, &[&victim.0, &told]).await.unwrap();
    assert_eq!(stopped.get::<_, i64>(0), 1, "not before the time that was told");
    world.until(nominee, "running").await;
    world.audit(false).await;
    assert_eq!(executor.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_is_withdrawn_with_whoever_came_first() {
    let Cluster { world, scheduler, executor, victim, nominee, .. } = told(NEVER).await;
    scheduler.stop(nominee, "USER").await.unwrap();
    goes_on(&world, victim).await;
    assert_eq!(world.count("SELECT count(*) FROM placement WHERE state <> 'held'").await, 0);
    world.audit(false).await;
    assert_eq!(executor.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_is_withdrawn_when_whoever_came_first_has_another_place() {
    let Cluster { world, executor, project, victim, nominee, scheduler } = told(NEVER).await;
    // Somebody else waits, too: the victim leaves for one of them at most.
    let later = world.workspace("later", project, DEFAULT, (1, 1000), json!({})).await;
    scheduler.start(later).await.unwrap();
    wait_for("the other one to be refused", WAIT, || async { (!world.reason(later).await.is_empty()).then_some(()) })
        .await;
    executor.set_nodes(|nodes| nodes.push(node("second", 1)));
    world.until(nominee, "running").await;
    wait_for("the notice to be withdrawn", WAIT, || async {
        let lines = world.timeline(victim).await;
        lines.contains(&"running PREEMPTION_WITHDRAWN".to_owned()).then_some(())
    })
    .await;
    assert_eq!(world.stage(victim).await, "running");
    world.audit(false).await;
    assert_eq!(executor.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_stopped_for_one_who_has_not_waited_for_long_enough() {
    let delay = |timing: &mut Timing| timing.preempt_after = Duration::from_secs(2);
    let (world, scheduler, _executor) = World::with_timing(&[1], delay).await;
    let low = world.queue("low", POOL, -1, true).await;
    let project = world.project("p", None).await;
    let victim = that_may_be_stopped(&world, &scheduler, project, low).await;
    let waits = world.workspace("waits", project, DEFAULT, (1, 1000), json!({})).await;
    scheduler.start(waits).await.unwrap();
    wait_for("it to be refused", WAIT, || async { (world.reason(waits).await == "NO_CAPACITY").then_some(()) }).await;
    assert_eq!(world.stage(victim).await, "running");
    world.until(waits, "running").await;
    assert_eq!(world.reason(victim).await, "PREEMPTED");
    world.audit(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_stopped_before_it_has_run_for_the_least_time_and_whoever_waits_is_told_when_that_is() {
    let least = |timing: &mut Timing| timing.rules.min_running = SignedDuration::from_secs(6);
    let (world, scheduler, executor) = World::with_timing(&[1], least).await;
    let low = world.queue("low", POOL, -1, true).await;
    let project = world.project("p", None).await;
    let victim = that_may_be_stopped(&world, &scheduler, project, low).await;
    let sql = "SELECT to_char(running_at AT TIME ZONE 'UTC' + interval '6 s', 'YYYY-MM-DD HH24:MI:SS') FROM runtime
               WHERE workspace_id = $1";
    let from: String = world.database.client().await.query_one(sql, &[&victim.0]).await.unwrap().get(0);
    let waits = world.workspace("waits", project, DEFAULT, (1, 1000), json!({})).await;
    scheduler.start(waits).await.unwrap();
    wait_for("the time to be told", WAIT, || async {
        let sql = "SELECT hint FROM runtime WHERE workspace_id = $1";
        let hint: String = world.database.client().await.query_one(sql, &[&waits.0]).await.unwrap().get(0);
        hint.contains(&format!("others may be stopped for it from {from} UTC on")).then_some(())
    })
    .await;
    world.until(waits, "running").await;
    assert_eq!(world.reason(victim).await, "PREEMPTED");
    let sql = "SELECT e.at - r.running_at >= interval '6 s' FROM runtime r JOIN runtime_event e USING (workspace_id)
               WHERE workspace_id = $1 AND e.state = 'stopping' AND e.reason = 'PREEMPTED'";
    let ran: bool = world.database.client().await.query_one(sql, &[&victim.0]).await.unwrap().get(0);
    assert!(ran, "it was stopped too early");
    world.audit(false).await;
    assert_eq!(executor.violations(), Vec::<String>::new());
}

/// Keeps new holders away from the GPU of the only node, in one of three ways.
async fn close(world: &World, executor: &Executor, how: &str) {
    let device = match how {
        "cordoned" => return executor.set_nodes(|nodes| nodes[0].schedulable = false),
        "node drained" => "",
        _ => "gpu-0",
    };
    let drain = "INSERT INTO drained_node (pool, node, device) VALUES ($1, 'node-0', $2)";
    world.database.client().await.execute(drain, &[&POOL, &device]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_stopped_for_a_place_that_takes_nobody_any_more() {
    for how in ["cordoned", "node drained", "device drained"] {
        let Cluster { world, executor, victim, nominee, scheduler: _scheduler, .. } = told(NEVER).await;
        close(&world, &executor, how).await;
        goes_on(&world, victim).await;
        world.until(nominee, "starting/queued").await;
        assert_eq!(world.count("SELECT count(*) FROM placement WHERE state <> 'held'").await, 0, "{how}");
        world.audit(false).await;
        assert_eq!(executor.violations(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_that_is_over_counts_for_the_disruptions_of_its_project_at_once() {
    let short = |timing: &mut Timing| timing.rules.preemption_notice = SignedDuration::from_secs(2);
    let (world, scheduler, executor) = World::with_timing(&[2], short).await;
    let low = world.queue("low", POOL, -1, true).await;
    let (p, q) = (world.project("p", None).await, world.project("q", None).await);
    let limit = "INSERT INTO project_policy (project_id, disruptions_per_hour) VALUES ($1, 1)";
    world.database.client().await.execute(limit, &[&p.0]).await.unwrap();
    world.open(p, low, None).await;
    let mut victims = Vec::new();
    for name in ["one", "two"] {
        let victim = world.workspace(name, p, low, (1, 1000), json!({})).await;
        scheduler.start(victim).await.unwrap();
        world.until(victim, "running").await;
        victims.push(victim);
    }
    let first = world.workspace("first", q, DEFAULT, (1, 1000), json!({})).await;
    let second = world.workspace("second", q, DEFAULT, (1, 1000), json!({})).await;
    for waits in [first, second] {
        scheduler.start(waits).await.unwrap();
    }
    world.until(first, "running").await;
    let told = "SELECT count(DISTINCT workspace_id) FROM runtime_event WHERE reason = 'PREEMPTED'";
    assert_eq!(world.count(told).await, 1, "the other one was told in the turn in which the first was stopped");
    // The terms tell of it by the next look at them, and nothing but them is what keeps the other one then.
    wait_for("the terms to be read again", WAIT, || async {
        let stopped_s = "SELECT extract(epoch FROM now() - max(at))::bigint FROM runtime_event
                         WHERE reason = 'PREEMPTED' AND state = 'stopping'";
        (world.count(stopped_s).await >= 4).then_some(())
    })
    .await;
    assert_eq!(world.count(told).await, 1, "nor later");
    let mut stages = [world.stage(victims[0]).await, world.stage(victims[1]).await];
    stages.sort();
    assert_eq!(stages, ["running", "stopped"]);
    assert_eq!(world.stage(second).await, "starting/queued");
    world.audit(false).await;
    assert_eq!(executor.violations(), Vec::<String>::new());
}
