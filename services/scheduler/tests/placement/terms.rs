//! What people change while somebody waits or runs: policies, queues of specs, workspaces that are put away.

use crate::world::{POOL, Scheduler, WAIT, World};
use domain::id::{ProjectId, QueueId, WorkspaceId};
use proto::internal::v1::RuntimePhase as Phase;
use serde_json::json;
use testkit::wait_for;
use uuid::Uuid;

const DEFAULT: QueueId = QueueId(Uuid::nil());

/// Says something of a project's policy.
async fn policy(world: &World, project: ProjectId, column: &str, value: &str) {
    let set = format!(
        "INSERT INTO project_policy (project_id, {column}) VALUES ($1, {value})
         ON CONFLICT (project_id) DO UPDATE SET {column} = EXCLUDED.{column}"
    );
    world.database.client().await.execute(&set, &[&project.0]).await.unwrap();
}

async fn waits_because(world: &World, workspace: WorkspaceId, code: &str) {
    let what = format!("workspace {workspace} to wait because of {code}");
    wait_for(&what, WAIT, || async {
        let there = world.stage(workspace).await == "starting/queued" && world.reason(workspace).await == code;
        there.then_some(())
    })
    .await;
}

/// A life of this number runs: its queue, and the version of its spec.
async fn runs_as(world: &World, workspace: WorkspaceId, number: i64) -> (Uuid, i64) {
    let sql =
        "SELECT queue_id, spec_version FROM runtime WHERE workspace_id = $1 AND number = $2 AND state = 'running'";
    wait_for(&format!("life {number} to run"), WAIT, || async {
        let row = world.database.client().await.query_opt(sql, &[&workspace.0, &number]).await.unwrap()?;
        Some((row.get(0), row.get(1)))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shorter_lifetime_leaves_a_quarter_of_an_hour_whoever_owns_the_pool() {
    let (world, first, _executor) = World::simple(&[1]).await;
    let project = world.project("p", None).await;
    let lab = world.workspace("lab", project, DEFAULT, (1, 300), json!({})).await;
    first.start(lab).await.unwrap();
    world.until(lab, "running").await;
    first.kill();
    let client = world.database.client().await;
    // Whatever the first one still has to write comes too late.
    client.execute("UPDATE shard SET epoch = epoch + 1", &[]).await.unwrap();
    client.execute("UPDATE runtime SET running_at = now() - interval '3 days'", &[]).await.unwrap();
    let mut told: Vec<i64> = Vec::new();
    let mut owners: Vec<Scheduler> = Vec::new();
    for name in ["one", "two", "three"] {
        owners.push(world.scheduler().await);
        let owner = owners.last().unwrap();
        world.give_all(owner).await;
        if told.is_empty() {
            policy(&world, project, "lifetime_max_s", "28800").await;
        }
        // Once somebody got a place, the terms were read and said to everybody.
        let other = world.workspace(name, project, DEFAULT, (1, 100), json!({})).await;
        wait_for("a start to be taken", WAIT, || async { owner.start(other).await.ok() }).await;
        world.until(other, "running").await;
        let end = wait_for("its end to be told", WAIT, || async {
            let sql = "SELECT (extract(epoch FROM ends_at) * 1e6)::bigint FROM runtime
                        WHERE workspace_id = $1 AND ends_because = 'MAX_LIFETIME'";
            Some(client.query_opt(sql, &[&lab.0]).await.unwrap()?.get::<_, i64>(0))
        })
        .await;
        told.push(end);
        owners.last().unwrap().kill();
    }
    assert_eq!((told[1], told[2]), (told[0], told[0]), "the next owner stays with what was told");
    assert_eq!(world.stage(lab).await, "running");
    let left = told[0] - jiff::Timestamp::now().as_microsecond();
    assert!((13 * 60_000_000..15 * 60_000_000).contains(&left), "{left} us are left");
}

/// A workspace that runs with the one device that there is.
async fn takes_all(world: &World, scheduler: &Scheduler, project: ProjectId) -> WorkspaceId {
    let full = world.workspace("full", project, DEFAULT, (1, 1000), json!({})).await;
    scheduler.start(full).await.unwrap();
    world.until(full, "running").await;
    full
}

/// What keeps a holder within its share of the devices.
async fn enforced(world: &World, how: &str) {
    let set = "INSERT INTO device_class (name, sharing, enforcement) VALUES ('shared', 'shared', $1)
               ON CONFLICT (name) DO UPDATE SET enforcement = EXCLUDED.enforcement";
    world.database.client().await.execute(set, &[&how]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_a_share_as_root_that_is_not_enforced_any_more() {
    let (world, scheduler, _executor) = World::simple(&[1]).await;
    enforced(&world, "hard").await;
    let project = world.project("p", None).await;
    policy(&world, project, "allow_root", "true").await;
    let full = takes_all(&world, &scheduler, project).await;
    let lab = world.workspace("lab", project, DEFAULT, (1, 500), json!({ "root": true })).await;
    scheduler.start(lab).await.unwrap();
    waits_because(&world, lab, "NO_CAPACITY").await;
    enforced(&world, "soft").await;
    waits_because(&world, lab, "ROOT_NOT_ALLOWED").await;
    scheduler.stop(full, "USER").await.unwrap();
    let other = world.workspace("other", project, DEFAULT, (1, 500), json!({})).await;
    scheduler.start(other).await.unwrap();
    world.until(other, "running").await;
    waits_because(&world, lab, "ROOT_NOT_ALLOWED").await;
    enforced(&world, "hard").await;
    world.until(lab, "running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_hears_what_its_plan_does_not_let_it_be_any_more() {
    let (world, scheduler, _executor) = World::simple(&[1]).await;
    let project = world.project("p", None).await;
    let research = world.queue("research", POOL, 0, false).await;
    world.open(project, research, None).await;
    takes_all(&world, &scheduler, project).await;
    let lab = world.workspace("lab", project, research, (1, 500), json!({})).await;
    scheduler.start(lab).await.unwrap();
    waits_because(&world, lab, "NO_CAPACITY").await;
    let client = world.database.client().await;
    client.execute("UPDATE plan SET gpu_milli_max = 100", &[]).await.unwrap();
    waits_because(&world, lab, "GPU_COUNT_LIMIT").await;
    client.execute("DELETE FROM project_plan", &[]).await.unwrap();
    waits_because(&world, lab, "QUEUE_NOT_BOUND").await;
    world.open(project, research, None).await;
    waits_because(&world, lab, "NO_CAPACITY").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_was_made_just_before_is_known() {
    let (world, scheduler, _executor) = World::simple(&[2]).await;
    let project = world.project("p", None).await;
    // With a project that is new here the terms are read, and not again for a second.
    takes_all(&world, &scheduler, project).await;
    let other = world.project("other", None).await;
    let first = world.workspace("first", other, DEFAULT, (1, 100), json!({})).await;
    scheduler.start(first).await.unwrap();
    let queue = world.queue("research", POOL, 0, false).await;
    world.open(other, queue, None).await;
    let lab = world.workspace("lab", other, queue, (1, 100), json!({})).await;
    scheduler.start(lab).await.unwrap();
    world.until(lab, "running").await;
    let timeline = world.timeline(lab).await;
    assert!(!timeline.iter().any(|line| line.contains("UNKNOWN") || line.contains("WINDOW")), "{timeline:?}");
    // Likewise for whoever changes to one; and for one that was there, and was opened just now.
    let another = world.queue("another", POOL, 0, false).await;
    world.open(other, another, None).await;
    scheduler.switch(first, another).await.unwrap();
    let said = "SELECT message FROM runtime_event WHERE reason = 'QUEUE_SWITCHED'";
    let said: String = world.database.client().await.query_one(said, &[]).await.unwrap().get(0);
    assert_eq!(said, "from queue `default` to queue `another`");
    let opened = world.queue("opened", POOL, 0, false).await;
    let waits = world.workspace("waits", other, opened, (1, 100), json!({})).await;
    let third = world.workspace("third", other, opened, (1, 100), json!({})).await;
    scheduler.start(waits).await.unwrap();
    waits_because(&world, waits, "QUEUE_NOT_BOUND").await;
    world.open(other, opened, None).await;
    scheduler.start(third).await.unwrap();
    world.until(third, "running").await;
    let timeline = world.timeline(third).await;
    assert!(!timeline.iter().any(|line| line.contains("NOT_BOUND") || line.contains("WINDOW")), "{timeline:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_victim_hears_the_name_of_a_workspace_of_its_own_project_only() {
    let (world, scheduler, _executor) = World::simple(&[2]).await;
    let (ours, theirs) = (world.project("ours", None).await, world.project("theirs", None).await);
    let low = world.queue("low", POOL, -10, true).await;
    let high = world.queue("high", POOL, 10, false).await;
    for (project, queue) in [(ours, low), (ours, high), (theirs, low)] {
        world.open(project, queue, None).await;
    }
    let mut victims = Vec::new();
    for (name, project) in [("mine", ours), ("others", theirs)] {
        let victim = world.workspace(name, project, low, (1, 1000), json!({})).await;
        scheduler.start(victim).await.unwrap();
        world.until(victim, "running").await;
        victims.push(victim);
    }
    let client = world.database.client().await;
    client.execute("UPDATE runtime SET running_at = now() - interval '1 day'", &[]).await.unwrap();
    let merger = world.workspace("merger", ours, high, (2, 1000), json!({})).await;
    scheduler.start(merger).await.unwrap();
    let said = |workspace: WorkspaceId| {
        let client = &client;
        async move {
            wait_for("a preemption", WAIT, || async {
                let sql = "SELECT message FROM runtime_event WHERE workspace_id = $1 AND reason = 'PREEMPTED' AND message <> ''";
                Some(client.query(sql, &[&workspace.0]).await.unwrap().first()?.get::<_, String>(0))
            })
            .await
        }
    };
    let own = said(victims[0]).await;
    assert!(own.contains("workspace merger of queue high"), "{own}");
    let foreign = said(victims[1]).await;
    assert!(!foreign.contains("merger") && !foreign.contains("high"), "{foreign}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_allowed_any_more_gets_no_place() {
    let (world, scheduler, executor) = World::simple(&[1]).await;
    enforced(&world, "hard").await;
    let project = world.project("p", None).await;
    policy(&world, project, "allow_root", "true").await;
    let full = takes_all(&world, &scheduler, project).await;
    let root = json!({ "root": true, "image": "lab:1@sha256:aa" });
    let lab = world.workspace("lab", project, DEFAULT, (1, 500), root).await;
    scheduler.start(lab).await.unwrap();
    waits_because(&world, lab, "NO_CAPACITY").await;
    policy(&world, project, "allow_root", "false").await;
    waits_because(&world, lab, "ROOT_NOT_ALLOWED").await;
    // There is room for it now, and others take it.
    scheduler.stop(full, "USER").await.unwrap();
    let other = world.workspace("other", project, DEFAULT, (1, 200), json!({})).await;
    scheduler.start(other).await.unwrap();
    world.until(other, "running").await;
    waits_because(&world, lab, "ROOT_NOT_ALLOWED").await;
    // A project of a group needs the group's word, too.
    let (client, group) = (world.database.client().await, Uuid::now_v7());
    client.execute("INSERT INTO user_group (id, name) VALUES ($1, 'quants')", &[&group]).await.unwrap();
    client.execute("UPDATE project SET owner_group_id = $1", &[&group]).await.unwrap();
    policy(&world, project, "allow_root", "true").await;
    let sure = world.workspace("sure", project, DEFAULT, (1, 200), json!({})).await;
    scheduler.start(sure).await.unwrap();
    world.until(sure, "running").await;
    waits_because(&world, lab, "ROOT_NOT_ALLOWED").await;
    client.execute("INSERT INTO group_policy (group_id, allow_root) VALUES ($1, true)", &[&group]).await.unwrap();
    world.until(lab, "running").await;
    // Whoever runs goes on, and its successor is held against what is set by then.
    policy(&world, project, "images", "'{other:*}'").await;
    let large = world.workspace("large", project, DEFAULT, (1, 1000), json!({ "image": "lab:1" })).await;
    scheduler.start(large).await.unwrap();
    waits_because(&world, large, "IMAGE_NOT_ALLOWED").await;
    executor.change(|state| state.runtimes.values_mut().for_each(|running| running.phase = Phase::Misplaced));
    waits_because(&world, lab, "IMAGE_NOT_ALLOWED").await;
    policy(&world, project, "images", "'{lab:1}'").await;
    assert_eq!(runs_as(&world, lab, 2).await, (DEFAULT.0, 1), "allowed by the name that it was started with");
    world.audit(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_for_more_than_its_queue_s_limit_starts_once_that_is_raised() {
    let (world, scheduler, _executor) = World::simple(&[1]).await;
    let project = world.project("p", None).await;
    let client = world.database.client().await;
    let limit = async |milli: i64| {
        client.execute("UPDATE queue SET limit_milli = $1 WHERE name = 'default'", &[&milli]).await.unwrap();
    };
    limit(500).await;
    let lab = world.workspace("lab", project, DEFAULT, (1, 600), json!({})).await;
    scheduler.start(lab).await.unwrap();
    waits_because(&world, lab, "QUEUE_TOO_SMALL").await;
    limit(600).await;
    world.until(lab, "running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_is_kept_is_given_up_with_the_permission() {
    let (world, scheduler, executor) = World::simple(&[1]).await;
    enforced(&world, "hard").await;
    let project = world.project("p", None).await;
    policy(&world, project, "allow_root", "true").await;
    let (low, high) = (world.queue("low", POOL, 0, true).await, world.queue("high", POOL, 10, false).await);
    let deserved = "UPDATE queue SET deserved_milli = 1000 WHERE name = 'high'";
    world.database.client().await.execute(deserved, &[]).await.unwrap();
    for queue in [low, high] {
        world.open(project, queue, None).await;
    }
    let victim = world.workspace("victim", project, low, (1, 800), json!({})).await;
    let winner = world.workspace("winner", project, high, (1, 700), json!({ "root": true })).await;
    scheduler.start(victim).await.unwrap();
    world.until(victim, "running").await;
    executor.change(|state| state.keeps = true);
    scheduler.start(winner).await.unwrap();
    world.until(winner, "starting/nominated").await;
    policy(&world, project, "allow_root", "false").await;
    waits_because(&world, winner, "ROOT_NOT_ALLOWED").await;
    assert_eq!(world.count("SELECT count(*) FROM placement WHERE state = 'nominated'").await, 0);
    executor.change(|state| state.keeps = false);
    world.until(victim, "stopped").await;
    let other = world.workspace("other", project, low, (1, 800), json!({})).await;
    scheduler.start(other).await.unwrap();
    world.until(other, "running").await;
    world.audit(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_to_the_queue_that_was_set_meanwhile() {
    let (world, scheduler, _executor) = World::simple(&[2]).await;
    let project = world.project("p", None).await;
    let research = world.queue("research", POOL, 0, false).await;
    world.open(project, research, None).await;
    let client = world.database.client().await;
    client.execute("UPDATE plan SET gpus_max = 1", &[]).await.unwrap();
    let lab = world.workspace("lab", project, research, (1, 500), json!({})).await;
    scheduler.start(lab).await.unwrap();
    assert_eq!(runs_as(&world, lab, 1).await, (research.0, 1));
    // No plan lets it have two GPUs there.
    let edit =
        "UPDATE runtime_spec SET version = version + 1, queue_id = $1, spec = jsonb_set(spec, '{ask,gpus}', '2')";
    client.execute(edit, &[&DEFAULT.0]).await.unwrap();
    scheduler.stop(lab, "RESTART").await.unwrap();
    assert_eq!(runs_as(&world, lab, 2).await, (DEFAULT.0, 2));
    // A queue of other devices is not taken by a life of this pool: whoever asked for the restart was refused before.
    let far = world.queue("far", "elsewhere", 0, false).await;
    client.execute(edit, &[&far.0]).await.unwrap();
    scheduler.stop(lab, "RESTART").await.unwrap();
    assert_eq!(runs_as(&world, lab, 3).await, (DEFAULT.0, 2));
    world.audit(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_follows_in_a_workspace_that_was_put_away() {
    let (world, scheduler, executor) = World::simple(&[1]).await;
    let project = world.project("p", None).await;
    let lab = world.workspace("lab", project, DEFAULT, (1, 500), json!({ "requeue": true })).await;
    scheduler.start(lab).await.unwrap();
    world.until(lab, "running").await;
    world.database.client().await.execute("UPDATE workspace SET archived_at = now()", &[]).await.unwrap();
    executor.change(|state| state.runtimes.values_mut().for_each(|running| running.phase = Phase::Misplaced));
    world.until(lab, "stopped").await;
    assert_eq!(world.count("SELECT number FROM runtime").await, 1);
    world.audit(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_lost_an_order_before_it_made_anything_is_told_again() {
    let (world, scheduler, executor) = World::simple(&[1]).await;
    let project = world.project("p", None).await;
    let lab = world.workspace("lab", project, DEFAULT, (1, 500), json!({})).await;
    executor.change(|state| state.dawdles = true);
    scheduler.start(lab).await.unwrap();
    world.until(lab, "starting/accepted").await;
    executor.die();
    let _restarted = world.executor(POOL, &[1]);
    assert_eq!(runs_as(&world, lab, 1).await, (DEFAULT.0, 1), "the same life");
}
