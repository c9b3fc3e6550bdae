//! One runtime from its start to its end, and what may come in between.

use crate::world::{POOL, WAIT, World};
use domain::id::QueueId;
use proto::internal::v1::RuntimePhase as Phase;
use serde_json::json;
use testkit::wait_for;
use tonic::Code;
use uuid::Uuid;

const DEFAULT: QueueId = QueueId(Uuid::nil());

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_starts_runs_stops_and_leaves_nothing() {
    let (world, scheduler, executor) = World::simple(&[2]).await;
    let project = world.project("p", Some(1000)).await;
    let workspace = world.workspace("w", project, DEFAULT, (2, 400), json!({})).await;
    assert_eq!(scheduler.start_in(POOL, workspace, "key").await.unwrap(), 1);
    assert_eq!(scheduler.start_in(POOL, workspace, "key").await.unwrap(), 1, "the same start");
    world.until(workspace, "running").await;
    assert_eq!(scheduler.start(workspace).await.unwrap_err().code(), Code::AlreadyExists);
    world.audit(false).await;
    assert_eq!(world.count("SELECT sum(used_milli)::bigint FROM device").await, 800);
    let (order, key) = executor.change(|state| {
        let running = state.runtimes.values().next().unwrap();
        (running.order.clone(), running.order.access_key.clone())
    });
    assert_eq!((order.workspace.as_str(), order.base_path.as_str(), key.len()), ("w", "/runtimes/w/", 64));
    assert_eq!(order.grants.iter().map(|grant| grant.milli).collect::<Vec<_>>(), [400, 400]);
    scheduler.stop(workspace, "USER").await.unwrap();
    world.until(workspace, "stopped").await;
    world.audit(true).await;
    scheduler.stop(workspace, "USER").await.unwrap();
    wait_for("the executor to forget it", WAIT, || async {
        executor.state.lock().unwrap().runtimes.is_empty().then_some(())
    })
    .await;
    let lines = world.timeline(workspace).await;
    assert_eq!(
        lines,
        ["starting/queued", "starting/placed", "running", "stopping USER", "stopped USER"],
        "what a person reads"
    );
    assert_eq!(scheduler.start(workspace).await.unwrap(), 2);
    world.until(workspace, "running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capacity_comes_back_with_gone_and_nothing_else() {
    let (world, scheduler, executor) = World::simple(&[1]).await;
    let project = world.project("p", None).await;
    let first = world.workspace("first", project, DEFAULT, (1, 1000), json!({})).await;
    let second = world.workspace("second", project, DEFAULT, (1, 600), json!({})).await;
    executor.change(|state| state.keeps = true);
    scheduler.start(first).await.unwrap();
    world.until(first, "running").await;
    scheduler.start(second).await.unwrap();
    scheduler.stop(first, "USER").await.unwrap();
    world.until(first, "stopping").await;
    let waiting = "SELECT count(*) FROM runtime WHERE step = 'queued' AND reason <> '' AND message <> ''";
    wait_for("a reason to wait", WAIT, || async { (world.count(waiting).await == 1).then_some(()) }).await;
    assert_eq!(world.stage(second).await, "starting/queued");
    executor.change(|state| state.keeps = false);
    world.until(first, "stopped").await;
    world.until(second, "running").await;
    assert_eq!(executor.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_who_waits_why_and_which_devices_are_free() {
    let (world, scheduler, _executor) = World::simple(&[2]).await;
    let project = world.project("p", None).await;
    let metrics = &scheduler.metrics;
    let seen = |free: i64, waiting: i64| async move {
        let what = format!("{free} free devices and {waiting} that wait");
        wait_for(&what, WAIT, || async {
            let depth = metrics.queue_depth.with_label_values(&["default", "runtime", "gpu"]).get();
            let is_free = metrics.devices_free.with_label_values(&[POOL, "shared"]).get();
            ((is_free, depth) == (free, waiting)).then_some(())
        })
        .await;
    };
    let first = world.workspace("first", project, DEFAULT, (1, 300), json!({})).await;
    let second = world.workspace("second", project, DEFAULT, (2, 1000), json!({})).await;
    scheduler.start(first).await.unwrap();
    // A part of a device is taken: it is free to nobody who wants one alone.
    seen(1, 0).await;
    let used = metrics.gpu_milli_seconds.with_label_values(&[POOL, "default", "p"]);
    wait_for("its use to be counted", WAIT, || async { (used.get() > 0.0).then_some(()) }).await;
    scheduler.start(second).await.unwrap();
    seen(1, 1).await;
    let reason: String = wait_for("a reason", WAIT, || async {
        let sql = "SELECT reason FROM runtime WHERE step = 'queued' AND reason <> ''";
        Some(world.database.client().await.query_opt(sql, &[]).await.unwrap()?.get(0))
    })
    .await;
    wait_for("the same reason told", WAIT, || async {
        (metrics.unschedulable.with_label_values(&[POOL, &reason]).get() == 1).then_some(())
    })
    .await;
    scheduler.stop(first, "USER").await.unwrap();
    seen(0, 0).await;
    assert_eq!(metrics.unschedulable.with_label_values(&[POOL, &reason]).get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_frees_only_when_nothing_is_left_and_can_be_put_away() {
    let (world, scheduler, executor) = World::simple(&[1]).await;
    let project = world.project("p", None).await;
    let workspace = world.workspace("w", project, DEFAULT, (1, 500), json!({})).await;
    executor.change(|state| (state.dawdles, state.keeps) = (true, true));
    scheduler.start(workspace).await.unwrap();
    world.until(workspace, "starting/accepted").await;
    executor.change(|state| {
        let running = state.runtimes.values_mut().next().unwrap();
        (running.phase, running.code) = (Phase::Failed, "IMAGE_PULL_FAILED".into());
    });
    world.until(workspace, "stopping").await;
    world.audit(false).await;
    executor.change(|state| state.keeps = false);
    world.until(workspace, "error").await;
    world.audit(true).await;
    assert_eq!(world.reason(workspace).await, "IMAGE_PULL_FAILED");
    // What is meant for another life leaves this one's error where it is.
    scheduler.caller().stop_only(workspace, 7, "RESET", "").await.unwrap();
    assert_eq!(world.stage(workspace).await, "error");
    // Whoever has lost the pool puts nothing away, and does not say that it has.
    world.database.client().await.execute("UPDATE shard SET epoch = epoch + 1", &[]).await.unwrap();
    let refused = scheduler.caller().stop_only(workspace, 1, "RESET", "").await.unwrap_err();
    assert_eq!((refused.code(), world.stage(workspace).await), (Code::Unavailable, "error".into()), "{refused}");
    world.give_all(&scheduler).await;
    let reset = async || scheduler.caller().stop_only(workspace, 1, "RESET", "").await.ok();
    wait_for("the next owner to put it away", WAIT, reset).await;
    assert_eq!((world.stage(workspace).await, world.reason(workspace).await), ("stopped".into(), "ERROR_RESET".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_takes_the_new_spec_and_a_lost_place_is_looked_for_again() {
    let (world, scheduler, executor) = World::simple(&[1]).await;
    let project = world.project("p", None).await;
    let workspace = world.workspace("w", project, DEFAULT, (1, 500), json!({})).await;
    scheduler.start(workspace).await.unwrap();
    world.until(workspace, "running").await;
    let edit = "UPDATE runtime_spec SET version = 2, spec = jsonb_set(spec, '{ask,gpu_milli}', '300')";
    world.database.client().await.execute(edit, &[]).await.unwrap();
    scheduler.stop(workspace, "RESTART").await.unwrap();
    wait_for("the second life", WAIT, || async {
        let sql = "SELECT number * 1000 + spec_version FROM runtime WHERE state = 'running'";
        let found = world.database.client().await.query_opt(sql, &[]).await.unwrap();
        (found.map(|row| row.get::<_, i64>(0)) == Some(2002)).then_some(())
    })
    .await;
    assert_eq!(world.count("SELECT sum(used_milli)::bigint FROM device").await, 300);
    // A restart of the first life that comes late leaves the second one alone.
    scheduler.caller().restart_only(workspace, 1, "").await.unwrap();
    assert_eq!((world.stage(workspace).await, world.reason(workspace).await), ("running".into(), String::new()));
    executor.change(|state| state.runtimes.values_mut().for_each(|running| running.phase = Phase::Misplaced));
    wait_for("the third life", WAIT, || async {
        let number = world.count("SELECT number FROM runtime").await;
        (number == 3 && world.stage(workspace).await == "running").then_some(())
    })
    .await;
    world.audit(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_that_a_node_turned_away_is_placed_on_another_one() {
    let (world, scheduler, executor) = World::simple(&[1, 1]).await;
    let project = world.project("p", None).await;
    let workspace = world.workspace("w", project, DEFAULT, (1, 500), json!({})).await;
    scheduler.start(workspace).await.unwrap();
    world.until(workspace, "running").await;
    let node =
        "SELECT CASE WHEN n.name = 'node-0' THEN 0 ELSE 1 END::bigint FROM runtime r JOIN node n ON n.id = r.node_id";
    let mut nodes = vec![world.count(node).await];
    // Away from the one, away from the other, and back to what there is.
    for life in 2..=4 {
        executor.change(|state| state.runtimes.values_mut().for_each(|running| running.phase = Phase::Misplaced));
        wait_for("the next life", WAIT, || async {
            let number = world.count("SELECT number FROM runtime").await;
            (number == life && world.stage(workspace).await == "running").then_some(())
        })
        .await;
        nodes.push(world.count(node).await);
    }
    assert_eq!((nodes[1], nodes.len()), (1 - nodes[0], 4), "{nodes:?}");
    world.audit(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_runs_no_image_that_nobody_checked() {
    let (world, scheduler, _executor) = World::simple(&[1]).await;
    let project = world.project("p", None).await;
    let workspace = world.workspace("w", project, DEFAULT, (1, 500), json!({ "image": "lab:1" })).await;
    scheduler.start(workspace).await.unwrap();
    world.until(workspace, "running").await;
    for (number, edit, checked, runs) in [
        (1, ("image", json!("lab:2")), "", (1, "lab:1")),
        (2, ("image", json!("lab:2")), "lab:20@sha256:aa", (1, "lab:1")),
        (3, ("image", json!("lab:2")), "lab:2@sha256:aa", (4, "lab:2@sha256:aa")),
        // The content that ran is one that was checked.
        (4, ("requeue", json!(true)), "", (5, "lab:2@sha256:aa")),
        (5, ("image", json!("")), "", (6, "")),
    ] {
        let (field, value) = edit;
        let edit = "UPDATE runtime_spec SET version = version + 1, spec = jsonb_set(spec, ARRAY[$1::text], $2::jsonb)";
        let client = world.database.client().await;
        client.execute(edit, &[&field, &value]).await.unwrap();
        scheduler.caller().restart_only(workspace, number, checked).await.unwrap();
        let found = wait_for("the next life", WAIT, || async {
            let sql = "SELECT spec_version, spec->>'image' FROM runtime WHERE state = 'running' AND number = $1";
            let row = client.query_opt(sql, &[&(number + 1)]).await.unwrap()?;
            Some((row.get::<_, i64>(0), row.get::<_, String>(1)))
        })
        .await;
        assert_eq!(found, (runs.0, runs.1.to_owned()), "{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clusters_keys_change_under_an_application_that_runs() {
    let (mut world, first, executor) = World::simple(&[1]).await;
    let project = world.project("p", None).await;
    let (one, two) = (world.keys.clone(), format!("two:{}\n", "08".repeat(32)));
    let runs = world.workspace("runs", project, DEFAULT, (1, 400), json!({})).await;
    first.start(runs).await.unwrap();
    world.until(runs, "running").await;
    let key = executor.change(|state| state.runtimes.values().next().unwrap().order.access_key.clone());
    let refused = first.caller().rewrap("two", 10).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "this one does not seal with that key: {refused}");
    assert_eq!(rpc::status::Problem::from_status(&refused).reason, "OTHER_KEY");
    // Started again with the new key before the old one.
    let (mut scheduler, mut last) = (first, None);
    for keys in [format!("{two}{one}"), two] {
        scheduler.kill();
        world.keys = keys;
        scheduler = world.scheduler().await;
        world.give_all(&scheduler).await;
        if last.is_none() {
            let caller = scheduler.caller();
            let (a, b) = tokio::join!(caller.rewrap("two", 10), caller.rewrap("two", 10));
            assert_eq!(a.unwrap() + b.unwrap(), 1, "once, whoever asks at once");
        }
        last = Some(scheduler.caller().rewrap("two", 10).await.unwrap());
    }
    assert_eq!(last, Some(0));
    // The old key is gone, and nothing needs it.
    let later = world.workspace("later", project, DEFAULT, (1, 400), json!({})).await;
    wait_for("a start to be taken", WAIT, || async { scheduler.start(later).await.ok() }).await;
    world.until(later, "running").await;
    assert_eq!(world.stage(runs).await, "running");
    executor.change(|state| {
        let same = state.runtimes.values().find(|running| running.order.access_key == key);
        assert_eq!(same.map(|running| running.phase), Some(Phase::Ready), "with the key that it was started with");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_that_cannot_open_a_key_lets_its_application_run() {
    let (mut world, first, executor) = World::simple(&[1]).await;
    let project = world.project("p", None).await;
    let runs = world.workspace("runs", project, DEFAULT, (1, 400), json!({})).await;
    first.start(runs).await.unwrap();
    world.until(runs, "running").await;
    first.kill();
    world.keys = format!("two:{}\n", "08".repeat(32));
    let next = world.scheduler().await;
    world.give_all(&next).await;
    // It has its orders with all others, or none.
    let later = world.workspace("later", project, DEFAULT, (1, 400), json!({})).await;
    wait_for("a start to be taken", WAIT, || async { next.start(later).await.ok() }).await;
    world.until(later, "running").await;
    assert_eq!(world.stage(runs).await, "running");
    let phases: Vec<Phase> = executor.change(|state| state.runtimes.values().map(|running| running.phase).collect());
    assert_eq!(phases, [Phase::Ready, Phase::Ready]);
    world.audit(false).await;
}
