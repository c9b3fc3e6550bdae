//! Several schedulers, deaths at every step, and people who change their minds at the wrong moment.

use crate::world::{POOL, Scheduler, WAIT, World, shard};
use domain::id::QueueId;
use proto::internal::v1::RuntimePhase as Phase;
use serde_json::json;
use std::time::Duration;
use testkit::wait_for;
use tonic::Code;
use uuid::Uuid;

const DEFAULT: QueueId = QueueId(Uuid::nil());

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_holds_over_pools_of_three_schedulers() {
    const POOLS: [&str; 3] = ["red", "green", "blue"];
    let world = World::new().await;
    let project = world.project("p", Some(1000)).await;
    let mut schedulers = Vec::new();
    for pool in POOLS {
        let scheduler = world.scheduler().await;
        world.give(&scheduler, shard(pool)).await;
        schedulers.push(scheduler);
    }
    // Each executor comes to any scheduler, which passes it on to the owner.
    for scheduler in &schedulers {
        scheduler.refresh().await;
    }
    let executors = POOLS.map(|pool| world.executor(pool, &[4]));
    let mut workspaces = Vec::new();
    for n in 0..12 {
        let pool = POOLS[n % 3];
        let name = format!("q-{pool}-{n}");
        let queue = world.queue(&name, pool, 0, false).await;
        world.open(project, queue, None).await;
        workspaces.push((pool, world.workspace(&format!("w{n}"), project, queue, (1, 300), json!({})).await));
    }
    for (n, (pool, workspace)) in workspaces.iter().enumerate() {
        // By any of them.
        schedulers[(n + 1) % 3].start_in(pool, *workspace, "").await.unwrap();
    }
    for left in (1..=workspaces.len()).rev() {
        let expected = i64::try_from(left.min(3)).unwrap();
        wait_for("as many to run as the quota allows", WAIT, || async {
            world.audit(false).await;
            let running = world.count("SELECT count(*) FROM runtime WHERE state = 'running'").await;
            assert!(running <= 3);
            (running == expected).then_some(())
        })
        .await;
        let running = "SELECT workspace_id FROM runtime WHERE state = 'running' LIMIT 1";
        let id: Uuid = world.database.client().await.query_one(running, &[]).await.unwrap().get(0);
        let (pool, workspace) = workspaces.iter().find(|(_, workspace)| workspace.0 == id).unwrap();
        schedulers[left % 3].stop_in(pool, *workspace, "USER").await.unwrap();
        world.until(*workspace, "stopped").await;
    }
    world.audit(true).await;
    assert!(executors.iter().all(|executor| executor.violations().is_empty()));
}

/// The scheduler is replaced by one that knows nothing.
async fn replace(world: &World, scheduler: Scheduler) -> Scheduler {
    scheduler.kill();
    let next = world.scheduler().await;
    world.give_all(&next).await;
    next
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preemption_goes_on_over_a_new_scheduler_between_any_two_of_its_steps() {
    let (world, mut scheduler, executor) = World::simple(&[1]).await;
    let project = world.project("p", None).await;
    let (low, high) = (world.queue("low", POOL, 0, true).await, world.queue("high", POOL, 10, false).await);
    // The high one deserves what it asks for.
    world
        .database
        .client()
        .await
        .execute("UPDATE queue SET deserved_milli = 1000 WHERE name = 'high'", &[])
        .await
        .unwrap();
    for queue in [low, high] {
        world.open(project, queue, None).await;
    }
    let victim = world.workspace("victim", project, low, (1, 800), json!({ "requeue": true })).await;
    let winner = world.workspace("winner", project, high, (1, 700), json!({})).await;
    scheduler.start(victim).await.unwrap();
    world.until(victim, "running").await;
    let submitted = "SELECT extract(epoch FROM submitted_at)::bigint FROM runtime WHERE queue_id IN (SELECT id FROM queue WHERE name = 'low')";
    let first_time = world.count(submitted).await;
    executor.change(|state| (state.keeps, state.dawdles) = (true, true));
    scheduler.start(winner).await.unwrap();
    world.until(winner, "starting/nominated").await;
    assert_eq!((world.stage(victim).await, world.reason(victim).await), ("stopping".into(), "PREEMPTED".into()));
    world.audit(false).await;
    scheduler = replace(&world, scheduler).await;
    wait_for("the victim to be told again", WAIT, || async {
        let told = executor.state.lock().unwrap().runtimes.values().any(|running| running.phase == Phase::Stopping);
        told.then_some(())
    })
    .await;
    assert_eq!(world.stage(winner).await, "starting/nominated", "the place is kept");
    executor.change(|state| state.keeps = false);
    world.until(winner, "starting/accepted").await;
    world.audit(false).await;
    assert_eq!(world.stage(victim).await, "starting/queued", "whoever was disturbed waits again");
    assert_eq!(world.count(submitted).await, first_time, "with its first time");
    scheduler = replace(&world, scheduler).await;
    executor.change(|state| state.dawdles = false);
    world.until(winner, "running").await;
    scheduler = replace(&world, scheduler).await;
    wait_for("a command to be taken", WAIT, || async { scheduler.stop(winner, "USER").await.ok() }).await;
    world.until(winner, "stopped").await;
    world.until(victim, "running").await;
    scheduler.stop(victim, "USER").await.unwrap();
    world.until(victim, "stopped").await;
    world.audit(true).await;
    assert_eq!(executor.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_of_the_queue_wins_or_loses_whole_against_the_closing_window() {
    const RACERS: u32 = 8;
    let (world, scheduler, _executor) = World::simple(&[4]).await;
    let project = world.project("p", None).await;
    let queue = world.queue("office", POOL, 0, false).await;
    world.open(project, queue, None).await;
    let mut racers = Vec::new();
    for n in 0..RACERS {
        let workspace = world.workspace(&format!("w{n}"), project, queue, (1, 100), json!({})).await;
        scheduler.start(workspace).await.unwrap();
        racers.push(workspace);
    }
    for workspace in &racers {
        world.until(*workspace, "running").await;
    }
    // One switches long before the end, whatever else this machine does.
    let mut outcomes = vec![scheduler.switch(racers[0], DEFAULT).await];
    // The plan gets a window that closes in a moment; it is seen with the next look.
    let window = "INSERT INTO plan_window (id, plan_id, starts_at, ends_at)
                  SELECT $1, id, now() - interval '1 hour', now() + interval '2.5 seconds' FROM plan";
    world.database.client().await.execute(window, &[&Uuid::now_v7()]).await.unwrap();
    let begun = tokio::time::Instant::now();
    for (n, workspace) in racers.iter().enumerate().skip(1) {
        let at = Duration::from_millis(2_200 + 80 * n as u64);
        tokio::time::sleep_until(begun + at).await;
        outcomes.push(scheduler.switch(*workspace, DEFAULT).await);
    }
    wait_for("the window to have closed", WAIT, || async {
        let left = "SELECT count(*) FROM runtime r JOIN queue q ON q.id = r.queue_id
                    WHERE q.name = 'office' AND r.state <> 'stopped'";
        (world.count(left).await == 0).then_some(())
    })
    .await;
    for (workspace, outcome) in racers.iter().zip(&outcomes) {
        let now = (world.stage(*workspace).await, world.reason(*workspace).await);
        let (won, lost) = (now.0 == "running", now == ("stopped".into(), "PLAN_WINDOW_EXPIRED".into()));
        match outcome {
            Ok(()) => assert!(won, "{now:?}"),
            // An answer that did not come says nothing, but neither is it left half way.
            Err(status) if status.code() == Code::Unavailable => assert!(won || lost, "{now:?}, {status}"),
            Err(status) => assert!(lost, "{now:?}, {status}"),
        }
    }
    assert!(outcomes[0].is_ok(), "there was no end yet: {:?}", outcomes[0]);
    world.audit(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schedulers_that_die_at_any_step_promise_nothing_twice_and_lose_nothing() {
    const WORKSPACES: usize = 24;
    const DEATHS: u64 = 8;
    let (world, mut scheduler, executor) = World::simple(&[2, 1]).await;
    let project = world.project("p", Some(2_500)).await;
    let mut workspaces = Vec::new();
    for n in 0..WORKSPACES {
        let share = [300, 500, 700][n % 3];
        workspaces.push(world.workspace(&format!("w{n}"), project, DEFAULT, (1, share), json!({})).await);
    }
    for round in 0..DEATHS {
        let mut under_way = tokio::task::JoinSet::new();
        for (n, workspace) in workspaces.iter().copied().enumerate() {
            let client = scheduler.caller();
            let act = (n as u64 + round) % 4;
            under_way.spawn(async move {
                // What becomes of it when the scheduler dies is what the rows say.
                match act {
                    0 => drop(client.stop(workspace, "USER").await),
                    1 => drop(client.stop(workspace, "RESTART").await),
                    _ => drop(client.start(workspace).await),
                }
            });
        }
        // Sooner in each round: between decision and commit, commit and order, order and report.
        tokio::time::sleep(Duration::from_millis(120 / (round + 1))).await;
        scheduler = replace(&world, scheduler).await;
        under_way.abort_all();
        world.audit(false).await;
    }
    // However early each died: the last one gets somewhere.
    wait_for("a workspace to run", WAIT, || async {
        let _ = scheduler.start(workspaces[0]).await;
        (executor.state.lock().unwrap().started > 0).then_some(())
    })
    .await;
    wait_for("everything to be stopped", WAIT, || async {
        world.audit(false).await;
        for workspace in &workspaces {
            // One that never started has nothing to stop.
            let _ = scheduler.stop(*workspace, "USER").await;
        }
        let alive = "SELECT count(*) FROM runtime WHERE state NOT IN ('stopped', 'error')";
        (world.count(alive).await == 0).then_some(())
    })
    .await;
    world.audit(true).await;
    assert_eq!(executor.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_are_both_told_that_they_own_a_pool_give_its_gpu_once() {
    const TAKE_OVERS: usize = 24;
    let world = World::new().await;
    let schedulers = [world.scheduler().await, world.scheduler().await];
    let executor = world.executor(POOL, &[1]);
    let project = world.project("p", None).await;
    let mut workspaces = Vec::new();
    for n in 0..6 {
        // Any two of them are too many.
        workspaces.push(world.workspace(&format!("w{n}"), project, DEFAULT, (1, 600), json!({})).await);
    }
    for round in 0..TAKE_OVERS {
        // The lock says yes to whoever asks, and nobody tells the other one, who goes on with what it believes.
        world.give_all(&schedulers[round % 2]).await;
        let mut under_way = tokio::task::JoinSet::new();
        for (n, workspace) in workspaces.iter().copied().enumerate() {
            let (one, other) = (schedulers[0].caller(), schedulers[1].caller());
            under_way.spawn(async move {
                // Both are asked at once; what becomes of it is what the rows say.
                match (n + round).is_multiple_of(2) {
                    true => drop(tokio::join!(one.start(workspace), other.start(workspace))),
                    false => drop(tokio::join!(one.stop(workspace, "USER"), other.start(workspace))),
                }
            });
        }
        under_way.join_all().await;
        world.audit(false).await;
        assert!(world.count("SELECT coalesce(max(used_milli), 0)::bigint FROM device").await <= 600);
    }
    world.give_all(&schedulers[0]).await;
    schedulers[1].kill();
    wait_for("everything to be stopped", WAIT, || async {
        world.audit(false).await;
        for workspace in &workspaces {
            let _ = schedulers[0].stop(*workspace, "USER").await;
        }
        let alive = "SELECT count(*) FROM runtime WHERE state NOT IN ('stopped', 'error')";
        (world.count(alive).await == 0).then_some(())
    })
    .await;
    world.audit(true).await;
    assert_eq!(executor.violations(), Vec::<String>::new());
    assert!(executor.state.lock().unwrap().started > 0, "some ran");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_heard_in_a_turn_that_could_not_be_written_is_said_again() {
    let (world, scheduler, executor) = World::simple(&[1]).await;
    let project = world.project("p", None).await;
    let runs = world.workspace("runs", project, DEFAULT, (1, 600), json!({})).await;
    executor.change(|state| state.dawdles = true);
    scheduler.start(runs).await.unwrap();
    world.until(runs, "starting/accepted").await;
    let client = world.database.client().await;
    let refuses = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;
                   CREATE TRIGGER refuse BEFORE UPDATE ON runtime FOR EACH ROW
                       WHEN (NEW.state = 'running') EXECUTE FUNCTION refuse()";
    client.batch_execute(refuses).await.unwrap();
    executor.change(|state| state.dawdles = false);
    wait_for("a turn to be lost", WAIT, || async { (scheduler.metrics.reloads.get() > 0).then_some(()) }).await;
    client.batch_execute("DROP TRIGGER refuse ON runtime").await.unwrap();
    world.until(runs, "running").await;
    world.audit(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_that_an_owner_cannot_read_goes_on_until_one_can() {
    let (world, first, executor) = World::simple(&[2]).await;
    let project = world.project("p", None).await;
    let strange = world.workspace("strange", project, DEFAULT, (1, 1000), json!({})).await;
    let other = world.workspace("other", project, DEFAULT, (1, 1000), json!({})).await;
    first.start(strange).await.unwrap();
    world.until(strange, "running").await;
    let holder = world.holder(strange).await;
    let app = async |name: &str| {
        let sql = "UPDATE runtime SET spec = jsonb_set(spec, '{app}', to_jsonb($1::text)) WHERE workspace_id = $2";
        world.database.client().await.execute(sql, &[&name, &strange.0]).await.unwrap();
    };
    app("of a later version").await;
    let next = replace(&world, first).await;
    wait_for("a command to be taken", WAIT, || async { next.start(other).await.ok() }).await;
    world.until(other, "running").await;
    let phase = || executor.state.lock().unwrap().runtimes[&holder].phase;
    assert_eq!(phase(), Phase::Ready, "nobody said that it shall end");
    world.audit(false).await;
    app("jupyter").await;
    let last = replace(&world, next).await;
    assert_eq!(phase(), Phase::Ready);
    for workspace in [strange, other] {
        wait_for("a command to be taken", WAIT, || async { last.stop(workspace, "USER").await.ok() }).await;
        world.until(workspace, "stopped").await;
    }
    world.audit(true).await;
}
