//! What is caught up with after a commit that did not count: in small commits at first.

use crate::cluster::{WAIT, World, block};
use domain::trigger::{CatchUp, Kind, Schedule, Spec};
use jiff::Timestamp;
use serde_json::json;
use testkit::wait_for;

/// Of the turn after one that did not count.
const SHORTEST: usize = 256;
const MANY: usize = 300;

/// Sessions that may break under one batch before it is given up.
const TRIES: usize = 5;

/// The first one who writes into `table` loses its session in the middle of that, however often it tries.
async fn break_once(world: &World, table: &str) {
    let sql = format!(
        "CREATE SEQUENCE broken;
         CREATE FUNCTION break_once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF nextval('broken') <= {TRIES} THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
             RETURN NULL;
         END $$;
         CREATE TRIGGER break_once AFTER INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION break_once()"
    );
    world.execute(&sql).await;
}

/// How many rows each commit wrote that there are of, the first one first; and the oldest and the latest of their dates.
async fn commits(world: &World, sql: &str) -> Vec<(usize, Timestamp, Timestamp)> {
    let sql = format!("SELECT count(*), min(at), max(at) FROM ({sql}) AS r GROUP BY r.number ORDER BY r.number");
    let rows = world.database.client().await.query(&sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get::<_, i64>(0) as usize, row.get(1), row.get(2))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn triggers_catch_up_in_small_commits_after_one_that_broke() {
    let world = World::new().await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    let second = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
    let start = second - jiff::SignedDuration::from_secs(5);
    let schedule =
        Schedule { every: "@every 1s".to_owned(), zone: "UTC".to_owned(), start: Some(start), end: Some(second) };
    let catch_up = CatchUp::All { window_s: 3_600, count: 100 };
    let spec = Spec { catch_up, ..Spec::new(Kind::Schedule(schedule)) };
    for n in 0..MANY {
        world.trigger(pipeline, &format!("t{n}"), &spec).await;
    }
    let since =
        "UPDATE trigger SET enabled_at = date_trunc('second', now()) - interval '1 minute' WHERE kind <> 'manual'";
    world.execute(since).await;
    break_once(&world, "firing").await;
    let node = world.node(0..256, 2).await;
    let left = "SELECT count(*) FROM trigger_state WHERE next_due IS NULL";
    wait_for("all times", WAIT, || async { (world.count(left).await == MANY as i64).then_some(()) }).await;
    node.kill();
    let written = commits(&world, "SELECT execution_date AS at, xmin::text::bigint AS number FROM firing").await;
    assert_eq!(written.iter().map(|(count, ..)| count).sum::<usize>() % MANY, 0, "each fired as often: {written:?}");
    // The last trigger that a turn comes to starts all of its own.
    let each = written.iter().map(|(count, ..)| count).sum::<usize>() / MANY;
    let mut most = SHORTEST;
    for (count, ..) in &written {
        assert!(*count < most + each, "{written:?}");
        most *= 2;
    }
    assert!(written.len() > 2, "{written:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ready_is_leased_in_small_commits_after_one_that_broke_and_all_of_it() {
    let world = World::new().await;
    let pipeline = world.deploy("p", 3, json!({ "blocks": [block("a", &[])] })).await;
    world.limit("workspace", 1_000).await;
    let first = world.node(0..256, 0).await;
    let commands = (0..MANY).map(|n| crate::cluster::Node::creation(pipeline, &format!("k{n}"), &json!({}))).collect();
    first.create_all(commands).await.unwrap();
    first.kill();
    break_once(&world, "block_run").await;
    let mut second = world.node(0..256, 1_000).await;
    second.until_running(MANY).await;
    let leased =
        "SELECT attempt_started_at AS at, xmin::text::bigint AS number FROM block_run WHERE status = 'running'";
    let counts: Vec<usize> = commits(&world, leased).await.into_iter().map(|(count, ..)| count).collect();
    assert_eq!(counts, [SHORTEST, MANY - SHORTEST]);
}
