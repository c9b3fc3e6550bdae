//! Quotas of groups and of persons: nobody gets a place beyond them, and who waits is told whose it is.

use crate::world::{POOL, WAIT, World, imagined, shard};
use domain::id::{ProjectId, QueueId, UserId, WorkspaceId};
use placement::Code;
use serde_json::json;
use testkit::wait_for;
use uuid::Uuid;

const DEFAULT: QueueId = QueueId(Uuid::nil());
const ADA: UserId = UserId(Uuid::from_u128(5));

async fn execute(world: &World, sql: &str) {
    world.database.client().await.batch_execute(sql).await.unwrap();
}

/// These projects are a group's, which may hold so much.
async fn group(world: &World, projects: &[ProjectId], gpu_milli: i64) {
    let ids = projects.iter().map(|id| format!("'{id}'")).collect::<Vec<_>>().join(", ");
    let rows = format!(
        "INSERT INTO user_group (id, name) VALUES ('{DEFAULT}', 'quants');
         UPDATE project SET owner_group_id = '{DEFAULT}' WHERE id IN ({ids});
         INSERT INTO group_policy (group_id, gpu_milli) VALUES ('{DEFAULT}', {gpu_milli})"
    );
    execute(world, &rows).await;
}

/// Ada has an account, and everybody may hold so much.
async fn everybody(world: &World, gpu_milli: i64) {
    let rows = format!(
        "INSERT INTO user_account (id, email) VALUES ('{ADA}', 'ada@example.org');
         INSERT INTO user_policy (user_id, gpu_milli) VALUES ('{}', {gpu_milli})",
        Uuid::nil()
    );
    execute(world, &rows).await;
}

/// It waits, and is told this.
async fn waits(world: &World, workspace: WorkspaceId, code: &str, words: &str) {
    let client = world.database.client().await;
    wait_for(&format!("{code}: {words}"), WAIT, || async {
        let sql = "SELECT message FROM runtime WHERE workspace_id = $1 AND state = 'starting' AND reason = $2";
        let message: String = client.query_opt(sql, &[&workspace.0, &code]).await.unwrap()?.get(0);
        message.contains(words).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_project_of_a_group_gives_back_another_one_gets() {
    let (world, scheduler, _executor) = World::simple(&[2]).await;
    let (one, other) = (world.project("one", None).await, world.project("other", None).await);
    group(&world, &[one, other], 1000).await;
    let first = world.workspace("first", one, DEFAULT, (1, 600), json!({})).await;
    let second = world.workspace("second", other, DEFAULT, (1, 600), json!({})).await;
    scheduler.start(first).await.unwrap();
    world.until(first, "running").await;
    scheduler.start(second).await.unwrap();
    let words = "the group that owns the project holds in all its projects 0.6 of 1 GPU, and 0.6 is asked for";
    waits(&world, second, "QUOTA_EXCEEDED", words).await;
    assert_eq!(scheduler.caller().would_wait(one, 500).await, Some(Code::QuotaExceeded));
    assert_eq!(scheduler.caller().would_wait(one, 400).await, None);
    scheduler.stop(first, "USER").await.unwrap();
    world.until(second, "running").await;
    // A smaller one stops nobody, and whoever asks for more than that is told so.
    execute(&world, "UPDATE group_policy SET gpu_milli = 500").await;
    scheduler.start(first).await.unwrap();
    waits(&world, first, "QUOTA_TOO_SMALL", "the group that owns the project may never hold more than 0.5").await;
    assert_eq!(world.stage(second).await, "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_s_quota_holds_over_projects_and_pools() {
    let world = World::new().await;
    everybody(&world, 1000).await;
    let mut schedulers = Vec::new();
    for pool in ["red", "green"] {
        let scheduler = world.scheduler().await;
        world.give(&scheduler, shard(pool)).await;
        schedulers.push(scheduler);
    }
    for scheduler in &schedulers {
        scheduler.refresh().await;
    }
    let executors = ["red", "green"].map(|pool| world.executor(pool, &[2]));
    let mut workspaces = Vec::new();
    for (n, pool) in ["red", "green", "red", "green"].into_iter().enumerate() {
        let project = world.project(&format!("p{n}"), None).await;
        let queue = world.queue(&format!("q{n}"), pool, 0, false).await;
        world.open(project, queue, None).await;
        workspaces.push((pool, world.workspace(&format!("w{n}"), project, queue, (1, 400), json!({})).await));
    }
    for (pool, workspace) in &workspaces {
        schedulers[0].caller().start_by(pool, *workspace, ADA).await.unwrap();
    }
    for left in (1..=workspaces.len()).rev() {
        let expected = i64::try_from(left.min(2)).unwrap();
        wait_for("as many to run as Ada may have", WAIT, || async {
            let running = world.count("SELECT count(*) FROM runtime WHERE state = 'running'").await;
            assert!(running <= 2);
            (running == expected).then_some(())
        })
        .await;
        if left > 2 {
            let waiting = "SELECT workspace_id FROM runtime WHERE state = 'starting' LIMIT 1";
            let id: Uuid = world.database.client().await.query_one(waiting, &[]).await.unwrap().get(0);
            let words = "the person who starts it holds in all projects 0.8 of 1 GPU, and 0.4 is asked for";
            waits(&world, WorkspaceId(id), "QUOTA_EXCEEDED", words).await;
        }
        let running = "SELECT workspace_id FROM runtime WHERE state = 'running' LIMIT 1";
        let id: Uuid = world.database.client().await.query_one(running, &[]).await.unwrap().get(0);
        let (pool, workspace) = workspaces.iter().find(|(_, workspace)| workspace.0 == id).unwrap();
        schedulers[0].stop_in(pool, *workspace, "USER").await.unwrap();
        world.until(*workspace, "stopped").await;
    }
    assert_eq!(world.count("SELECT count(*) FROM placement_user").await, 0);
    assert!(executors.iter().all(|executor| executor.violations().is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forecast_is_held_against_the_quota_of_who_asks() {
    let (world, scheduler, _executor) = World::simple(&[1]).await;
    let project = world.project("p", None).await;
    everybody(&world, 300).await;
    let request = placement::Request { person: Some(ADA), ..imagined(project, 400) };
    let plan = scheduler.caller().imagine(vec![request], &[]).await;
    assert_eq!(plan.refusals[0].code, Code::QuotaTooSmall);
    assert_eq!(scheduler.caller().would_wait(project, 400).await, None, "nobody's");
    // Blocks and runtimes that nobody is known to have started count for whose personal project it is.
    execute(&world, &format!("UPDATE project SET owner_user_id = '{ADA}' WHERE id = '{project}'")).await;
    let lab = world.workspace("lab", project, DEFAULT, (1, 400), json!({})).await;
    scheduler.caller().start_in(POOL, lab, "").await.unwrap();
    waits(&world, lab, "QUOTA_TOO_SMALL", "the person who starts it may never hold more than 0.3").await;
}
