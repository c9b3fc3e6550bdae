//! Triggers: when their times come, and when somebody calls them.

use crate::{
    cluster::{WAIT, World, block},
    times::noon,
};
use domain::{
    trigger::{Kind, Overlap, Schedule, Spec},
    unit::Outcome,
};
use jiff::{SignedDuration, Timestamp};
use scheduler::engine::{Created, EngineError};
use serde_json::json;
use store::triggers::Act;
use testkit::wait_for;

/// Fires once when it is enabled, for the day that it is.
fn daily() -> Spec {
    let schedule = Schedule { every: "@daily".to_owned(), zone: noon(Timestamp::now()), start: None, end: None };
    // What Mage computes counts before what a trigger says.
    let variables = json!({ "interval_seconds": 5 }).as_object().unwrap().clone().into_iter().collect();
    Spec { create_initial_run: true, sla_s: Some(1), variables, ..Spec::new(Kind::Schedule(schedule)) }
}

fn api(overlap: Overlap) -> Spec {
    Spec { overlap, ..Spec::new(Kind::Api) }
}

async fn fired(world: &World) -> i64 {
    world.count("SELECT count(*) FROM firing WHERE decided = 'fired'").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_triggers_fire_each_once_and_know_when_they_are_due_again() {
    const MANY: i64 = 1_000;
    let world = World::new().await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    for n in 0..MANY {
        world.trigger(pipeline, &format!("t{n}"), &daily()).await;
    }
    let mut node = world.node(0..256, 2).await;
    wait_for("all firings", WAIT, || async { (fired(&world).await == MANY).then_some(()) }).await;
    node.until_running(2).await;
    let variables: serde_json::Value = serde_json::from_str(&node.running[0].run.clone().unwrap().variables).unwrap();
    assert_eq!(variables["interval_seconds"], 86_400);
    assert_eq!(world.count("SELECT count(*) FROM trigger_state WHERE next_due > now()").await, MANY);
    // The day began more than a second ago, or will have.
    wait_for("missed SLAs", WAIT, || async {
        (world.count("SELECT count(*) FROM run WHERE sla_missed_at IS NOT NULL").await == MANY).then_some(())
    })
    .await;
    // A successor knows what was fired.
    node.kill();
    let successor = world.node(0..256, 2).await;
    wait_for("its triggers", WAIT, || async { (successor.metrics.triggers_armed.get() == MANY).then_some(()) }).await;
    successor.settle().await;
    assert_eq!(fired(&world).await, MANY);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_under_way_is_never_overtaken() {
    let world = World::new().await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let id = world.trigger(pipeline, "t", &daily()).await;
    let mut editor = world.store.client().await.unwrap();
    let edit = editor.transaction().await.unwrap();
    assert!(store::triggers::act(&edit, id, Act::Pause).await.unwrap());
    let node = world.node(0..256, 2).await;
    // It is due, and in force as far as anybody can see; but whoever pauses it may be told so at any moment.
    wait_for("a decision that does not count", WAIT, || async {
        (node.metrics.decisions_overtaken.get() > 0).then_some(())
    })
    .await;
    assert_eq!(fired(&world).await, 0);
    edit.commit().await.unwrap();
    wait_for("the pause to be seen", WAIT, || async { (node.metrics.triggers_armed.get() == 0).then_some(()) }).await;
    assert_eq!(fired(&world).await, 0);
    assert!(world.act(id, Act::Start).await);
    wait_for("a firing", WAIT, || async { (fired(&world).await == 1).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_runs_once_per_key_and_overlap_skips_or_waits() {
    let world = World::new().await;
    let mut node = world.node(0..256, 4).await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let skips = world.trigger(pipeline, "skips", &api(Overlap::Skip)).await;
    let waits = world.trigger(pipeline, "waits", &api(Overlap::BufferOne)).await;
    let first = node.offer(pipeline, (skips, 1), "one", json!({})).await.unwrap();
    assert!(first.run().is_some());
    assert_eq!(node.offer(pipeline, (skips, 1), "two", json!({})).await.unwrap(), Created::Not("overlap".into()));
    assert_eq!(node.offer(pipeline, (skips, 1), "one", json!({})).await.unwrap(), first, "a known key is its run");
    assert_eq!(world.count("SELECT count(*) FROM firing WHERE decided = 'skipped' AND reason = 'overlap'").await, 1);

    assert!(node.offer(pipeline, (waits, 1), "one", json!({ "n": 1 })).await.unwrap().run().is_some());
    let second = node.offer(pipeline, (waits, 1), "two", json!({ "n": 2 })).await.unwrap();
    assert_eq!(second, Created::Not("waiting".into()));
    node.until_running(2).await;
    node.complete(1).await;
    node.until_running(2).await;
    let context = node.running[1].run.clone().unwrap();
    assert_eq!(context.trigger_name, "waits");
    assert!(context.variables.contains("\"n\":2"), "what waited is told what its caller said");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_call_is_told_what_became_of_the_first_one() {
    let world = World::new().await;
    let mut node = world.node(0..256, 4).await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    for overlap in [Overlap::BufferOne, Overlap::BufferAll, Overlap::CancelOther] {
        let id = world.trigger(pipeline, &format!("{overlap:?}"), &api(overlap)).await;
        assert!(node.offer(pipeline, (id, 1), "one", json!({})).await.unwrap().run().is_some());
        node.until_running(1).await;
        for _ in 0..3 {
            let waits = node.offer(pipeline, (id, 1), "two", json!({})).await.unwrap();
            assert_eq!(waits, Created::Not("waiting".into()), "{overlap:?}");
        }
        node.complete(0).await;
        node.until_running(1).await;
        let run = node.running[0].attempt.clone().unwrap().run_id;
        let again = node.offer(pipeline, (id, 1), "two", json!({})).await.unwrap().run().unwrap();
        assert_eq!(again.to_vec(), run, "{overlap:?}: the start that waited, and no second one");
        node.complete(0).await;
        node.settle().await;
    }
    let skips = world.trigger(pipeline, "skips", &api(Overlap::Skip)).await;
    node.offer(pipeline, (skips, 1), "one", json!({})).await.unwrap();
    node.until_running(1).await;
    assert_eq!(node.offer(pipeline, (skips, 1), "two", json!({})).await.unwrap(), Created::Not("overlap".into()));
    node.complete(0).await;
    node.settle().await;
    assert_eq!(node.offer(pipeline, (skips, 1), "two", json!({})).await.unwrap(), Created::Not("overlap".into()));
    assert!(node.offer(pipeline, (skips, 1), "three", json!({})).await.unwrap().run().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_not_in_force_stops_nothing() {
    let world = World::new().await;
    let mut node = world.node(0..256, 4).await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let id = world.trigger(pipeline, "cancels", &api(Overlap::CancelOther)).await;
    let run = node.offer(pipeline, (id, 1), "one", json!({})).await.unwrap().run().unwrap();
    node.until_running(1).await;
    let mut editor = world.store.client().await.unwrap();
    let edit = editor.transaction().await.unwrap();
    assert!(store::triggers::act(&edit, id, Act::Pause).await.unwrap());
    let overtaken = node.offer(pipeline, (id, 1), "two", json!({})).await;
    assert!(matches!(overtaken, Err(EngineError::Overtaken(_))), "{overtaken:?}");
    edit.commit().await.unwrap();
    node.settle().await;
    node.look().await;
    assert_eq!((world.status(run).await.as_str(), node.stops.len()), ("running", 0));
    node.complete(0).await;
    world.until(run, "completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn always_on_goes_on_though_the_end_of_a_run_meets_an_edit() {
    let world = World::new().await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let schedule = Schedule { every: "@always_on".to_owned(), zone: "UTC".to_owned(), start: None, end: None };
    let id = world.trigger(pipeline, "always", &Spec::new(Kind::Schedule(schedule))).await;
    let mut node = world.node(0..256, 4).await;
    node.until_running(1).await;
    let mut editor = world.store.client().await.unwrap();
    let edit = editor.transaction().await.unwrap();
    edit.execute("UPDATE trigger SET version = version + 1, updated_at = now() WHERE id = $1", &[&id.0]).await.unwrap();
    node.complete(0).await;
    wait_for("a decision that does not count", WAIT, || async {
        (node.metrics.decisions_overtaken.get() > 0).then_some(())
    })
    .await;
    edit.commit().await.unwrap();
    node.until_running(1).await;
    assert_eq!(fired(&world).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_has_a_time_of_grace_and_what_is_terminated_has_none() {
    let world = World::new().await;
    let mut node = world.node(0..256, 4).await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    for (overlap, grace) in [(Overlap::CancelOther, true), (Overlap::TerminateOther, false)] {
        let id = world.trigger(pipeline, &format!("{overlap:?}"), &api(overlap)).await;
        assert!(node.offer(pipeline, (id, 1), "one", json!({})).await.unwrap().run().is_some());
        node.until_running(1).await;
        let second = node.offer(pipeline, (id, 1), "two", json!({})).await.unwrap();
        assert_eq!(second, Created::Not("waiting".into()));
        let attempt = node.attempt(0).to_proto();
        node.settle().await;
        node.look().await;
        let told = node.stops.remove(0);
        assert_eq!((told.attempts, told.grace_ms > 0), (vec![attempt], grace), "{overlap:?}");
        node.end(0, Outcome::Cancelled).await;
        node.until_running(1).await;
        node.complete(0).await;
        node.settle().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_run_halts_its_trigger_until_somebody_starts_it() {
    let world = World::new().await;
    let mut node = world.node(0..256, 4).await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let careful = Spec { pause_on_failure: true, ..api(Overlap::AllowAll) };
    let id = world.trigger(pipeline, "careful", &careful).await;
    let run = node.offer(pipeline, (id, 1), "one", json!({})).await.unwrap().run().unwrap();
    node.until_running(1).await;
    node.fail(0).await;
    world.until(run, "failed").await;
    assert_eq!(node.offer(pipeline, (id, 1), "two", json!({})).await.unwrap(), Created::Not("pause".into()));
    assert!(world.act(id, Act::Pause).await && world.act(id, Act::Start).await);
    let stale = node.offer(pipeline, (id, 1), "three", json!({})).await;
    assert!(matches!(stale, Err(EngineError::Overtaken(_))), "{stale:?}");
    assert!(node.offer(pipeline, (id, 3), "three", json!({})).await.unwrap().run().is_some());
    // The key of the call that it skipped is its client's to use again.
    assert!(node.offer(pipeline, (id, 3), "two", json!({})).await.unwrap().run().is_some());
    assert_eq!(world.count("SELECT count(*) FROM firing WHERE reason = 'pause' AND logical_key <> 'two'").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_halts_its_trigger_though_somebody_holds_its_row_and_changes_nothing() {
    let world = World::new().await;
    let mut node = world.node(0..256, 4).await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let careful = Spec { pause_on_failure: true, ..api(Overlap::AllowAll) };
    let id = world.trigger(pipeline, "careful", &careful).await;
    let mut runs = Vec::new();
    for key in ["one", "two"] {
        runs.push(node.offer(pipeline, (id, 1), key, json!({})).await.unwrap().run().unwrap());
    }
    node.until_running(2).await;
    let mut holder = world.store.client().await.unwrap();
    let held = holder.transaction().await.unwrap();
    held.execute("SELECT FROM trigger WHERE id = $1 FOR UPDATE", &[&id.0]).await.unwrap();
    // One end is overtaken; the other comes while the trigger is out of memory, or is overtaken as well.
    node.complete(0).await;
    wait_for("a decision that does not count", WAIT, || async {
        (node.metrics.decisions_overtaken.get() > 0).then_some(())
    })
    .await;
    node.fail(0).await;
    world.until(runs[1], "failed").await;
    let overtaken = node.metrics.decisions_overtaken.get();
    wait_for("another one", WAIT, || async { (node.metrics.decisions_overtaken.get() > overtaken).then_some(()) })
        .await;
    held.commit().await.unwrap();
    wait_for("the halt to be written", WAIT, || async {
        let halted = "SELECT count(*) FROM trigger_state
                       WHERE (state ->> 'halted')::bigint = 1 AND jsonb_array_length(history -> 'runtimes_s') = 2";
        (world.count(halted).await == 1).then_some(())
    })
    .await;
    assert_eq!(node.offer(pipeline, (id, 1), "three", json!({})).await.unwrap(), Created::Not("pause".into()));
    // In the next version it fires again.
    assert!(world.act(id, Act::Start).await);
    assert!(node.offer(pipeline, (id, 2), "four", json!({})).await.unwrap().run().is_some());
}

/// Comes every second.
fn every_second(description: &str) -> Spec {
    let schedule = Schedule { every: "* * * * * *".to_owned(), zone: "UTC".to_owned(), start: None, end: None };
    let spec = Spec::new(Kind::Schedule(schedule));
    Spec { overlap: Overlap::AllowAll, description: description.to_owned(), ..spec }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_firing_of_an_older_version_comes_after_an_edit_was_acknowledged() {
    const EDITS: usize = 5;
    let world = World::new().await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let metronome = world.trigger(pipeline, "metronome", &every_second("")).await;
    let edited = world.trigger(pipeline, "edited", &every_second("")).await;
    let paused = world.trigger(pipeline, "paused", &every_second("")).await;
    let client = world.database.client().await;
    let of = async |id: domain::id::TriggerId, version: i64| -> i64 {
        let count = "SELECT count(*) FROM firing WHERE trigger_id = $1 AND trigger_version <= $2";
        client.query_one(count, &[&id.0, &version]).await.unwrap().get(0)
    };
    let beat = async || {
        let seen = of(metronome, i64::MAX).await;
        wait_for("the next second", WAIT, || async { (of(metronome, i64::MAX).await > seen).then_some(()) }).await;
    };
    let node = world.node(0..256, 2).await;
    let mut acknowledged = Vec::new();
    for edit in 0..EDITS {
        let mut editor = world.store.client().await.unwrap();
        let transaction = editor.transaction().await.unwrap();
        let version = 1 + i64::try_from(edit).unwrap();
        let spec = every_second(&format!("edit {edit}"));
        let document = serde_json::to_value(&spec).unwrap();
        let definition = store::triggers::Definition { spec: &spec, document: &document };
        assert!(store::triggers::update(&transaction, edited, version, definition).await.unwrap());
        let act = if edit % 2 == 0 { Act::Pause } else { Act::Start };
        assert!(store::triggers::act(&transaction, paused, act).await.unwrap());
        // Both are due while their edits are under way.
        beat().await;
        transaction.commit().await.unwrap();
        acknowledged.push((edited, version, of(edited, version).await));
        acknowledged.push((paused, version, of(paused, version).await));
        beat().await;
    }
    beat().await;
    for (id, version, then) in acknowledged {
        assert_eq!(of(id, version).await, then, "version {version} fired after its successor was acknowledged");
    }
    let last = i64::try_from(EDITS).unwrap();
    let fires = async || (of(edited, i64::MAX).await > of(edited, last).await).then_some(());
    wait_for("the last version to fire", WAIT, fires).await;
    assert!(node.metrics.decisions_overtaken.get() > 0, "no firing was under way, and nothing was tried");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_workspace_starts_nothing_and_goes_on_as_after_a_pause() {
    let world = World::new().await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let metronome = world.trigger(pipeline, "metronome", &every_second("")).await;
    let called = world.trigger(pipeline, "called", &api(Overlap::AllowAll)).await;
    let published = Spec::new(Kind::Event { patterns: vec![json!({})] });
    let published = world.trigger(pipeline, "published", &published).await;
    let halted = world.trigger(pipeline, "halted", &api(Overlap::AllowAll)).await;
    let state = "INSERT INTO trigger_state (trigger_id, shard, version, state) VALUES ($1, 3, 1, '{\"halted\": 1}')";
    world.database.client().await.execute(state, &[&halted.0]).await.unwrap();
    let node = world.node(0..256, 2).await;
    let runs = async || world.count("SELECT count(*) FROM run").await;
    wait_for("a firing", WAIT, || async { (runs().await > 0).then_some(()) }).await;

    world.archive(true).await;
    let acknowledged = runs().await;
    // The one that is halted stays in the version that is.
    wait_for("the pause to be seen", WAIT, || async { (node.metrics.triggers_armed.get() == 1).then_some(()) }).await;
    for trigger in [called, published] {
        let stale = node.offer(pipeline, (trigger, 1), "stale", json!({})).await;
        assert!(matches!(stale, Err(EngineError::Overtaken(_))), "{stale:?}");
        assert_eq!(node.offer(pipeline, (trigger, 2), "k", json!({})).await.unwrap(), Created::Not("pause".into()));
    }
    assert!(matches!(node.try_create(pipeline, "k").await, Err(EngineError::Archived(_))));
    // A successor knows it too.
    node.kill();
    let node = world.node(0..256, 2).await;
    node.settle().await;
    // Archiving what is archived changes nothing.
    world.archive(true).await;
    let clock = "SELECT (extract(epoch FROM clock_timestamp() - max(paused_at)) > 2.5)::int::bigint FROM trigger";
    wait_for("some seconds", WAIT, || async { (world.count(clock).await == 1).then_some(()) }).await;
    assert_eq!(runs().await, acknowledged);

    world.archive(false).await;
    wait_for("a firing", WAIT, || async { (runs().await > acknowledged).then_some(()) }).await;
    assert!(node.offer(pipeline, (called, 3), "k2", json!({})).await.unwrap().run().is_some());
    assert_eq!(node.offer(pipeline, (halted, 1), "k", json!({})).await.unwrap(), Created::Not("pause".into()));
    // The seconds meanwhile are one skip, and the metronome caught up with none of them.
    let skipped = "SELECT times, execution_date >= t.paused_at AND last_date <= t.enabled_at
                     FROM firing f JOIN trigger t ON t.id = f.trigger_id WHERE t.id = $1 AND f.reason = 'pause'";
    let skipped = world.database.client().await.query_one(skipped, &[&metronome.0]).await.unwrap();
    assert!(skipped.get::<_, i32>(0) >= 2 && skipped.get::<_, bool>(1), "{skipped:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_that_was_archived_beside_its_triggers_fires_nothing_either() {
    let world = World::new().await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    world.trigger(pipeline, "metronome", &every_second("")).await;
    let _node = world.node(0..256, 2).await;
    let runs = async || world.count("SELECT count(*) FROM run").await;
    wait_for("a firing", WAIT, || async { (runs().await > 0).then_some(()) }).await;
    // As web-servers did that knew of no triggers.
    world.execute("UPDATE workspace SET archived_at = now()").await;
    let since = async |seconds: &str| {
        let ago = format!(
            "SELECT (clock_timestamp() - max(archived_at) > interval '{seconds} s')::int::bigint FROM workspace"
        );
        wait_for("some time", WAIT, || async { (world.count(&ago).await == 1).then_some(()) }).await;
    };
    // What was under way when it happened counts.
    since("1").await;
    let before = runs().await;
    since("3.5").await;
    assert_eq!(runs().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_ahead_fires_nothing_before_its_time() {
    let world = World::new().await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    world.trigger(pipeline, "t", &every_second("")).await;
    let node = world.node_ahead(SignedDuration::from_millis(400), 0..256, 2).await;
    wait_for("firings", WAIT, || async { (fired(&world).await >= 3).then_some(()) }).await;
    assert!(node.metrics.decisions_overtaken.get() > 0, "no time was decided too early, and nothing was tried");
    assert_eq!(world.count("SELECT count(*) FROM firing WHERE created_at < execution_date").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_triggers_are_made_at_once_all_of_them_are_found() {
    // More than one look reads.
    const MANY: i64 = 10_050;
    let world = World::new().await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let node = world.node(0..256, 2).await;
    let schedule = Schedule { every: "0 0 1 1 *".to_owned(), zone: "UTC".to_owned(), start: None, end: None };
    let spec = serde_json::to_value(Spec::new(Kind::Schedule(schedule))).unwrap();
    // In one transaction: each has the same time.
    let insert = "INSERT INTO trigger (id, pipeline_id, name, kind, active, source, spec)
                  SELECT gen_random_uuid(), $1, 't' || n, 'time', true, 'api', $2 FROM generate_series(1, $3::bigint) AS n";
    world.database.client().await.execute(insert, &[&pipeline.0, &spec, &MANY]).await.unwrap();
    wait_for("every trigger", 3 * WAIT, || async { (node.metrics.triggers_armed.get() == MANY).then_some(()) }).await;
}
