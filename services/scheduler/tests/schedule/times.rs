//! Times of schedules on a real database: what came while nobody looked, landings, hours, and jitter.

use crate::cluster::{Node, WAIT, World, block};
use domain::{
    id::TriggerId,
    trigger::{CatchUp, Kind, Schedule, Spec, Window},
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use scheduler::engine::{CreateRun, EngineError};
use serde_json::json;
use store::{firing_views, triggers::Act};
use testkit::wait_for;

/// Between two times of the schedule that catches up.
const STEP: SignedDuration = SignedDuration::from_mins(10);

fn schedule(every: &str, zone: &str, start: Option<Timestamp>) -> Schedule {
    Schedule { every: every.to_owned(), zone: zone.to_owned(), start, end: None }
}

/// The database's time.
async fn now(world: &World) -> Timestamp {
    world.database.client().await.query_one("SELECT clock_timestamp()", &[]).await.unwrap().get(0)
}

/// When each trigger is looked at again, once that is after this instant.
async fn looks(world: &World, triggers: &[TriggerId], after: Timestamp) -> Vec<Timestamp> {
    let ids: Vec<_> = triggers.iter().map(|id| id.0).collect();
    let client = world.database.client().await;
    let select =
        "SELECT next_due FROM trigger_state JOIN unnest($1::uuid[]) WITH ORDINALITY AS i (id, at) ON id = trigger_id
                   WHERE next_due > $2 ORDER BY i.at";
    wait_for("the next look at every trigger", WAIT, || async {
        let rows = client.query(select, &[&ids, &after]).await.unwrap();
        (rows.len() == ids.len()).then(|| rows.iter().map(|row| row.get(0)).collect())
    })
    .await
}

/// Moves what is known of triggers into the past: that much time went by in which no scheduler lived. A multiple of the
/// schedules' steps leaves their times where they are.
async fn let_pass(world: &World, time: SignedDuration) {
    let client = world.database.client().await;
    let seconds = time.as_secs();
    let moves = [
        "UPDATE trigger SET enabled_at = enabled_at - make_interval(secs => $1::bigint)",
        "UPDATE trigger_state SET next_due = next_due - make_interval(secs => $1::bigint),
                state = jsonb_set(state, '{mark}', to_jsonb((state ->> 'mark')::timestamptz - make_interval(secs => $1::bigint)))",
        "UPDATE firing SET created_at = created_at - make_interval(secs => $1::bigint),
                execution_date = execution_date - make_interval(secs => $1::bigint),
                logical_key = 'at:' || substr(logical_key, 4)::bigint - $1 * 1000",
    ];
    for statement in moves {
        client.execute(statement, &[&seconds]).await.unwrap();
    }
}

/// What was decided, oldest time first: the reason of a skip or nothing, the first and the last time counted in steps from
/// `anchor`, and how many.
async fn decided(world: &World, trigger: TriggerId, anchor: Timestamp) -> Vec<(String, i64, i64, i32)> {
    let client = world.store.client().await.unwrap();
    let mut firings = firing_views::list(&client, trigger, None, 100).await.unwrap();
    firings.sort_unstable_by_key(|firing| firing.at);
    let steps = |at: Timestamp| anchor.duration_until(at).as_secs() / STEP.as_secs();
    let told = firings.into_iter().map(|firing| {
        let first = firing.at.unwrap();
        (firing.reason.unwrap_or_default(), steps(first), steps(firing.last.unwrap_or(first)), firing.times)
    });
    told.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_while_no_scheduler_lived_fires_or_is_skipped_as_each_trigger_says() {
    let world = World::new().await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    // The time that the initial run is for was five minutes ago, and the next one comes in five.
    let anchor = Timestamp::from_second(now(&world).await.as_second()).unwrap() - STEP / 2;
    let policies = [
        CatchUp::None,
        CatchUp::Latest,
        CatchUp::All { window_s: 1_800, count: 10 },
        CatchUp::All { window_s: 86_400, count: 2 },
    ];
    let mut triggers = Vec::new();
    for (n, catch_up) in policies.into_iter().enumerate() {
        let kind = Kind::Schedule(schedule("@every 10m", "UTC", Some(anchor - STEP * 60)));
        let spec = Spec { catch_up, create_initial_run: true, ..Spec::new(kind) };
        triggers.push(world.trigger(pipeline, &format!("t{n}"), &spec).await);
    }
    let node = world.node(0..256, 2).await;
    looks(&world, &triggers, now(&world).await).await;
    node.settle().await;
    node.kill();
    // Six times go by.
    let_pass(&world, STEP * 6).await;
    let _successor = world.node(0..256, 2).await;
    looks(&world, &triggers, now(&world).await).await;
    let fired = |step: i64| (String::new(), step, step, 1);
    let missed = |first: i64, last: i64| ("catch_up".to_owned(), first, last, i32::try_from(last - first + 1).unwrap());
    let expected = [
        vec![fired(-6), missed(-5, 0)],
        vec![fired(-6), missed(-5, -1), fired(0)],
        vec![fired(-6), missed(-5, -3), fired(-2), fired(-1), fired(0)],
        vec![fired(-6), missed(-5, -2), fired(-1), fired(0)],
    ];
    for (trigger, expected) in triggers.into_iter().zip(expected) {
        assert_eq!(decided(&world, trigger, anchor).await, expected);
    }
    // What fired late has runs like any other, for the times that it is late for.
    assert_eq!(world.count("SELECT count(*) FROM run r JOIN firing f ON f.run_id = r.id").await, 4 + 6);
}

/// A time zone whose clock shows noon or the hour after it, so that no midnight comes near.
pub(crate) fn noon(now: Timestamp) -> String {
    format!("Etc/GMT{:+}", now.to_zoned(TimeZone::UTC).hour() - 12)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_begins_so_early_that_it_lands_in_time() {
    const DAY: SignedDuration = SignedDuration::from_hours(24);
    let world = World::new().await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let begun = now(&world).await;
    let landing = Timestamp::from_second(begun.as_second() + 66).unwrap();
    let kind = Kind::Schedule(schedule("@daily", &noon(begun), Some(landing)));
    let spec = Spec { landing_time: true, create_initial_run: true, ..Spec::new(kind) };
    let id = world.trigger(pipeline, "lands", &spec).await;
    // Nothing is known about its runs, so the first begins at once. It takes a minute: so much of it is past already when
    // its scheduler dies.
    let mut first = world.node(0..256, 2).await;
    first.until_running(1).await;
    first.kill();
    let client = world.database.client().await;
    client.execute("UPDATE run SET started_at = started_at - interval '60 s'", &[]).await.unwrap();
    let mut second = world.node(0..256, 2).await;
    second.adopt(first, 2).await;
    second.complete(0).await;
    let runtimes = "SELECT coalesce((history #>> '{runtimes_s,0}')::bigint, 0) FROM trigger_state";
    wait_for("a runtime", WAIT, || async { (world.count(runtimes).await > 0).then_some(()) }).await;
    let runtime = world.count(runtimes).await;
    assert!(runtime >= 60, "{runtime}");
    // Tomorrow's begins so much before the landing.
    let lead = SignedDuration::from_secs(runtime);
    let tomorrow = looks(&world, &[id], now(&world).await + SignedDuration::from_secs(1)).await[0];
    assert_eq!(tomorrow, landing + DAY - lead);
    second.settle().await;
    second.kill();
    // And tomorrow it does, for the day that began half a day ago.
    let_pass(&world, DAY).await;
    let _third = world.node(0..256, 2).await;
    let fired = "SELECT created_at, execution_date FROM firing WHERE decided = 'fired' ORDER BY execution_date DESC";
    let row = wait_for("the second run", WAIT, || async {
        let rows = client.query(fired, &[]).await.unwrap();
        (rows.len() == 2).then(|| (rows[0].get::<_, Timestamp>(0), rows[0].get::<_, Timestamp>(1)))
    })
    .await;
    assert!(row.0 >= landing - lead, "it began at {}, before {}", row.0, landing - lead);
    let midnight = begun.to_zoned(TimeZone::get(&noon(begun)).unwrap()).start_of_day().unwrap().timestamp();
    assert_eq!(row.1, midnight);
    assert_eq!(world.count("SELECT count(*) FROM firing").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn times_outside_of_the_hours_of_a_trigger_are_skipped_and_say_so() {
    let world = World::new().await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let zone = noon(now(&world).await);
    let mut triggers = Vec::new();
    for (name, from, to) in [("office", 8, 18), ("night", 22, 6)] {
        let time = |hour| jiff::civil::time(hour, 0, 0, 0);
        let window = Window { from: time(from), to: time(to), days: Vec::new() };
        let kind = Kind::Schedule(schedule("* * * * * *", &zone, None));
        let spec = Spec { window: Some(window), ..Spec::new(kind) };
        triggers.push(world.trigger(pipeline, name, &spec).await);
    }
    let _node = world.node(0..256, 2).await;
    let client = world.database.client().await;
    let select = "SELECT count(*) FILTER (WHERE decided = 'fired'), count(*) FILTER (WHERE reason = 'window'), count(*)
                    FROM firing WHERE trigger_id = $1";
    let counts = async |id: TriggerId| -> (i64, i64, i64) {
        let row = client.query_one(select, &[&id.0]).await.unwrap();
        (row.get(0), row.get(1), row.get(2))
    };
    wait_for("some seconds of both", WAIT, || async {
        let (office, night) = (counts(triggers[0]).await, counts(triggers[1]).await);
        (office.2 >= 2 && night.2 >= 2).then_some(())
    })
    .await;
    let (office, night) = (counts(triggers[0]).await, counts(triggers[1]).await);
    assert_eq!((office.0, office.1), (office.2, 0));
    assert_eq!((night.0, night.1), (0, night.2));
}

#[tokio::test(flavor = "multi_thread")]
async fn jitter_spreads_triggers_and_every_replica_finds_the_same() {
    const MANY: usize = 20;
    let world = World::new().await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let jittered = |every: &str, jitter_s| {
        let catch_up = CatchUp::All { window_s: 600, count: 600 };
        Spec { jitter_s, catch_up, ..Spec::new(Kind::Schedule(schedule(every, "UTC", None))) }
    };
    let mut triggers = Vec::new();
    for n in 0..MANY {
        triggers.push(world.trigger(pipeline, &format!("t{n}"), &jittered("0 0 1 1 *", 3_600)).await);
    }
    let first = world.node(0..256, 2).await;
    let begun = now(&world).await;
    let found = looks(&world, &triggers, begun).await;
    let new_year = |at: Timestamp| {
        let year = begun.to_zoned(TimeZone::UTC).year() + 1;
        jiff::civil::date(year, 1, 1).to_zoned(TimeZone::UTC).unwrap().timestamp().duration_until(at).as_millis()
    };
    assert!(found.iter().all(|at| (0..=3_600_000).contains(&new_year(*at))), "{found:?}");
    let apart: std::collections::BTreeSet<_> = found.iter().collect();
    assert!(apart.len() > MANY / 2, "{found:?}");
    first.settle().await;
    first.kill();
    // A replica that knows nothing of that computes it anew.
    world.database.client().await.execute("DELETE FROM trigger_state", &[]).await.unwrap();
    let _second = world.node(0..256, 2).await;
    assert_eq!(looks(&world, &triggers, begun).await, found);

    // What is announced is when it fires, and the run is for the time of the schedule.
    let id = world.trigger(pipeline, "quick", &jittered("@every 3s", 2)).await;
    let client = world.database.client().await;
    let mut seen = begun;
    for _ in 0..2 {
        let announced = looks(&world, &[id], seen).await[0];
        let select = "SELECT created_at, execution_date FROM firing
                       WHERE trigger_id = $1 AND created_at >= $2 ORDER BY execution_date LIMIT 1";
        let (created, at) = wait_for("the firing that was announced", WAIT, || async {
            let row = client.query_opt(select, &[&id.0, &announced]).await.unwrap();
            row.map(|row| (row.get::<_, Timestamp>(0), row.get::<_, Timestamp>(1)))
        })
        .await;
        assert!((0..=2_000).contains(&at.duration_until(announced).as_millis()), "{at} for {announced}");
        assert!(created >= announced && at.as_second() % 3 == 0, "{at} fired at {created}, announced for {announced}");
        seen = announced;
    }
    let early = "SELECT count(*) FROM firing WHERE created_at < execution_date";
    assert_eq!(world.count(early).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_accounted_for_though_the_schedule_is_edited_in_it() {
    let world = World::new().await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let metronome = Spec::new(Kind::Schedule(schedule("* * * * * *", "UTC", None)));
    let id = world.trigger(pipeline, "metronome", &metronome).await;
    let node = world.node(0..256, 2).await;
    let fired = "SELECT count(*) FROM firing WHERE decided = 'fired'";
    wait_for("a firing", WAIT, || async { (world.count(fired).await > 0).then_some(()) }).await;
    assert!(world.act(id, Act::Pause).await);
    let clock = "SELECT (extract(epoch FROM clock_timestamp() - max(paused_at)) > 2.5)::int::bigint FROM trigger";
    wait_for("some seconds", WAIT, || async { (world.count(clock).await == 1).then_some(()) }).await;
    world.edit(id, 2, &Spec::new(Kind::Schedule(schedule("0 0 1 1 *", "UTC", None)))).await;
    let skipped = "SELECT coalesce(max(times), 0)::bigint FROM firing f JOIN trigger t ON t.id = f.trigger_id
                    WHERE f.reason = 'pause' AND f.execution_date >= t.former_paused_at AND f.last_date <= t.replaced_at";
    wait_for("the seconds of the pause", WAIT, || async { (world.count(skipped).await >= 2).then_some(()) }).await;
    assert!(world.act(id, Act::Start).await);
    node.settle().await;
    assert_eq!(world.count("SELECT count(*) FROM firing WHERE reason = 'pause'").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn once_fires_for_each_time_that_it_is_set() {
    let world = World::new().await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let once = |start| Spec::new(Kind::Schedule(schedule("@once", "UTC", start)));
    let id = world.trigger(pipeline, "once", &once(None)).await;
    let node = world.node(0..256, 2).await;
    let fired = async |most: i64| {
        let sql = "SELECT count(*) FROM firing WHERE decided = 'fired'";
        wait_for("a firing", WAIT, || async { (world.count(sql).await >= most).then_some(()) }).await;
        node.settle().await;
        assert_eq!(world.count(sql).await, most);
    };
    fired(1).await;
    // It does not come again because it was paused and started.
    assert!(world.act(id, Act::Pause).await && world.act(id, Act::Start).await);
    let soon = now(&world).await + SignedDuration::from_secs(1);
    world.edit(id, 3, &once(Some(soon))).await;
    fired(2).await;
    assert!(world.act(id, Act::Archive).await);
    assert_eq!(world.trigger(pipeline, "once", &once(None)).await, id);
    fired(3).await;
    let client = world.database.client().await;
    let rows = client.query("SELECT logical_key FROM firing ORDER BY created_at", &[]).await.unwrap();
    let keys: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(keys, ["once", "once:4", "once:6"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_date_that_no_row_can_hold_is_refused_alone() {
    let world = World::new().await;
    let node = world.node(0..256, 8).await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    node.create(pipeline, "before").await;
    let reloads = node.metrics.reloads.get();
    let dated = |at: Timestamp| CreateRun { execution_date: Some(at), ..Node::creation(pipeline, "k", &json!({})) };
    for at in [Timestamp::MIN, domain::instant::FIRST - SignedDuration::from_micros(1)] {
        assert!(matches!(node.create_all(vec![dated(at)]).await, Err(EngineError::Refused(_))), "{at}");
    }
    for at in [domain::instant::FIRST, Timestamp::MAX] {
        let dated = CreateRun { logical_key: at.to_string(), ..dated(at) };
        assert!(node.create_all(vec![dated]).await.unwrap()[0].run().is_some(), "{at}");
    }
    assert_eq!(node.metrics.reloads.get(), reloads);
}
