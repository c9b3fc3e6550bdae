//! Overlap policies and the halt after a failure, with a schedule that comes each second while a run goes on.

use crate::cluster::{Node, WAIT, World, block};
use domain::{
    id::TriggerId,
    trigger::{BUFFER_BYTES_MAX, Kind, Overlap, Schedule, Spec},
    unit::Outcome,
};
use jiff::Timestamp;
use scheduler::engine::{CreateRun, Created, FiredTrigger};
use serde_json::json;
use testkit::wait_for;

fn each_second(overlap: Overlap) -> Spec {
    let schedule = Schedule { every: "* * * * * *".to_owned(), zone: "UTC".to_owned(), start: None, end: None };
    Spec { overlap, ..Spec::new(Kind::Schedule(schedule)) }
}

/// A cluster whose trigger has started its first run, which goes on.
async fn begun(spec: &Spec) -> (World, Node, TriggerId) {
    let world = World::new().await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let id = world.trigger(pipeline, "each second", spec).await;
    let mut node = world.node(0..256, 8).await;
    node.until_running(1).await;
    (world, node, id)
}

/// Every decision in the order of its time: the second since the first one, and the reason of a skip or nothing.
async fn decided(world: &World) -> Vec<(i64, String)> {
    let select = "SELECT execution_date, coalesce(reason, '') FROM firing WHERE decided = 'fired' OR times = 1
                   ORDER BY execution_date";
    let rows = world.database.client().await.query(select, &[]).await.unwrap();
    let first: Timestamp = rows[0].get(0);
    rows.iter().map(|row| (first.duration_until(row.get(0)).as_secs(), row.get(1))).collect()
}

/// The seconds of the runs that started.
async fn fired(world: &World) -> Vec<i64> {
    decided(world).await.into_iter().filter(|(_, reason)| reason.is_empty()).map(|(second, _)| second).collect()
}

async fn waiting(world: &World) -> i64 {
    world.count("SELECT coalesce(sum(jsonb_array_length(state -> 'waiting')), 0)::bigint FROM trigger_state").await
}

async fn skipped(world: &World, reason: &str) -> i64 {
    let count = format!("SELECT coalesce(sum(times), 0)::bigint FROM firing WHERE reason = '{reason}'");
    world.count(&count).await
}

#[tokio::test(flavor = "multi_thread")]
async fn buffer_one_lets_the_first_wait_and_skips_the_others() {
    let (world, mut node, _) = begun(&each_second(Overlap::BufferOne)).await;
    wait_for("two skips", WAIT, || async { (skipped(&world, "overlap").await >= 2).then_some(()) }).await;
    node.look().await;
    assert_eq!((node.running.len(), waiting(&world).await), (1, 1));
    assert_eq!(fired(&world).await, [0]);
    node.complete(0).await;
    node.until_running(1).await;
    assert_eq!(fired(&world).await, [0, 1], "the first that came, and not the latest");
}

#[tokio::test(flavor = "multi_thread")]
async fn buffer_all_starts_each_in_its_turn() {
    let (world, mut node, _) = begun(&each_second(Overlap::BufferAll)).await;
    wait_for("three that wait", WAIT, || async { (waiting(&world).await >= 3).then_some(()) }).await;
    for ended in 1..=3 {
        node.look().await;
        assert_eq!(node.running.len(), 1, "one at a time");
        node.complete(0).await;
        node.until_running(1).await;
        assert_eq!(fired(&world).await, (0..=ended).collect::<Vec<_>>());
    }
    assert_eq!(skipped(&world, "overlap").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_wait_while_there_is_room_for_what_they_say_and_an_heir_knows_it() {
    const CALLS: usize = 4;
    let world = World::new().await;
    let mut first = world.node(0..256, 4).await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let id = world.trigger(pipeline, "called", &Spec { overlap: Overlap::BufferAll, ..Spec::new(Kind::Api) }).await;
    let call = async |node: &Node, n: usize, bytes: usize| {
        let variables = json!({ "n": n, "text": "x".repeat(bytes) });
        node.offer(pipeline, (id, 1), &format!("call {n}"), variables).await.unwrap()
    };
    assert!(call(&first, 0, 0).await.run().is_some());
    first.until_running(1).await;
    let (waits, skipped_one) = (Created::Not("waiting".into()), Created::Not("overlap".into()));
    // With their keys, quotes and commas they are a little more than a quarter each.
    let quarter = BUFFER_BYTES_MAX / CALLS;
    for n in 1..CALLS {
        assert_eq!(call(&first, n, quarter).await, waits, "{n}");
    }
    assert_eq!(call(&first, 90, quarter).await, skipped_one, "it is told, and what waits stays");
    assert_eq!((waiting(&world).await, skipped(&world, "overlap").await), (3, 1));
    assert_eq!(call(&first, CALLS, 0).await, waits, "a smaller one has room");
    let told = "SELECT octet_length(waiting::text)::bigint FROM trigger_state";
    assert!(world.count(told).await <= 2 * i64::try_from(BUFFER_BYTES_MAX).unwrap());
    first.kill();
    let mut second = world.node(0..256, 4).await;
    second.adopt(first, 4).await;
    assert_eq!(call(&second, 91, quarter).await, skipped_one, "an heir counts what waits");
    for n in 1..=CALLS {
        second.complete(0).await;
        second.until_running(1).await;
        let told = &second.running[0].run.as_ref().unwrap().variables;
        assert_eq!(serde_json::from_str::<serde_json::Value>(told).unwrap()["n"], json!(n));
    }
    assert_eq!((waiting(&world).await, skipped(&world, "overlap").await), (0, 2));
}

/// The first run is told to stop when the next time comes; when it has, the latest of those that came meanwhile starts,
/// and the others are skipped.
async fn stops_the_other(overlap: Overlap, has_grace: bool) {
    let (world, mut node, _) = begun(&each_second(overlap)).await;
    let attempt = node.attempt(0).to_proto();
    let first = world.database.client().await.query_one("SELECT run_id FROM firing", &[]).await.unwrap().get(0);
    wait_for("two that wait", WAIT, || async { (waiting(&world).await >= 2).then_some(()) }).await;
    node.settle().await;
    node.look().await;
    let told = node.stops.first().expect("the run is told to stop");
    assert_eq!((told.attempts.as_slice(), told.grace_ms > 0), ([attempt].as_slice(), has_grace));
    assert_eq!((node.running.len(), fired(&world).await), (1, vec![0]), "it waits for the end of the other");
    node.end(0, Outcome::Cancelled).await;
    node.until_running(1).await;
    world.until(domain::id::RunId(first), "cancelled").await;
    let decided = decided(&world).await;
    let next = decided.iter().rposition(|(_, reason)| reason.is_empty()).unwrap();
    assert!(next >= 2, "the latest starts: {decided:?}");
    let all = decided[..=next].iter().enumerate();
    for (place, (second, reason)) in all {
        assert_eq!(usize::try_from(*second), Ok(place), "every second is decided once: {decided:?}");
        assert_eq!(reason.is_empty(), place == 0 || place == next, "{decided:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_other_gives_a_time_of_grace_and_starts_the_latest() {
    stops_the_other(Overlap::CancelOther, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn terminate_other_gives_none_and_starts_the_latest() {
    stops_the_other(Overlap::TerminateOther, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_halts_a_schedule_and_the_times_until_it_is_started_are_one_skip() {
    let careful = Spec { pause_on_failure: true, ..each_second(Overlap::Skip) };
    let (world, mut node, id) = begun(&careful).await;
    node.fail(0).await;
    let halted = "SELECT count(*) FROM trigger_state WHERE state ->> 'halted' = '1'";
    wait_for("the halt", WAIT, || async { (world.count(halted).await == 1).then_some(()) }).await;
    // Three seconds after the last decision nothing was decided since.
    let idle = "SELECT count(*) FROM firing HAVING max(created_at) < clock_timestamp() - interval '3 s'";
    let client = world.database.client().await;
    wait_for("some seconds", WAIT, || async { client.query_opt(idle, &[]).await.unwrap().map(|_| ()) }).await;
    assert_eq!((fired(&world).await, skipped(&world, "pause").await), (vec![0], 0));
    assert!(world.act(id, store::triggers::Act::Start).await);
    node.until_running(1).await;
    let skips = client.query("SELECT times FROM firing WHERE reason = 'pause'", &[]).await.unwrap();
    assert_eq!(skips.len(), 1);
    assert!(skips[0].get::<_, i32>(0) >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_comes_twice_in_one_turn_is_one_start_which_nothing_overlaps() {
    let world = World::new().await;
    let mut node = world.node(0..256, 8).await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    for (place, overlap) in [Overlap::CancelOther, Overlap::BufferOne, Overlap::Skip].into_iter().enumerate() {
        let id = world.trigger(pipeline, &format!("called {place}"), &Spec { overlap, ..Spec::new(Kind::Api) }).await;
        let call = CreateRun {
            trigger: Some(FiredTrigger { id, version: 1, event_variables: None, rate: None }),
            ..Node::creation(pipeline, "key:a", &json!({}))
        };
        let created = node.create_all(vec![call.clone(), call]).await.unwrap();
        assert_eq!(created[0], created[1], "{overlap:?}");
        let run = created[0].run().expect("it starts");
        node.until_running(1).await;
        node.settle().await;
        node.look().await;
        assert_eq!((node.running.len(), node.stops.len(), world.status(run).await.as_str()), (1, 0, "running"));
        assert_eq!((waiting(&world).await, skipped(&world, "overlap").await), (0, 0), "{overlap:?}");
        node.complete(0).await;
        world.until(run, "completed").await;
    }
}
