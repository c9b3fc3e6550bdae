//! The transaction by which turns are written: all of it or nothing, in two ways there and back.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

mod broken;
mod world;

use domain::{id::RunId, run::Transition};
use std::time::Duration;
use store::{
    runs::{self, Batch, NewRun},
    shards::Shard,
};
use world::{World, decision, graph, reached};

#[tokio::test]
async fn what_one_statement_refuses_none_has_written_and_the_next_batch_counts() {
    let mut world = World::new().await;
    let [first, second] = world.triggers;
    let mut refused = Batch::default();
    world.fire(&mut refused, first, 1, "{}");
    world.fire(&mut refused, second, 1, "no JSON");
    runs::commit(&mut world.journal, &mut refused).await.unwrap_err();
    assert_eq!(world.rows().await, [0, 0, 0]);
    let mut batch = Batch::default();
    let run = world.fire(&mut batch, first, 1, "{}");
    let committed = runs::commit(&mut world.journal, &mut batch).await.unwrap();
    assert_eq!((committed.created, committed.shards), (vec![run], vec![7]));
    assert_eq!(world.rows().await, [1, 1, 1]);
}

#[tokio::test]
async fn a_turn_is_written_in_two_ways_there_and_back_and_leaves_out_what_was_overtaken() {
    let mut world = World::new().await;
    let [first, second] = world.triggers;
    let mut batch = Batch::default();
    let run = world.fire(&mut batch, first, 1, "{}");
    world.fire(&mut batch, second, 2, "{}");
    let before = world.ways.count();
    let committed = runs::commit(&mut world.journal, &mut batch).await.unwrap();
    // What begins it goes with the question what is in force; everything else, and its end, when that is known.
    assert_eq!(world.ways.count() - before, 2);
    assert_eq!((committed.created, committed.overtaken), (vec![run], vec![second]));
    assert_eq!(world.rows().await, [1, 1, 1]);
}

/// What its session does is seen as the last thing before it counts.
#[tokio::test]
async fn what_creates_a_run_waits_for_the_disk_and_nothing_else_does() {
    let mut world = World::new().await;
    let note = "CREATE TABLE noted (how text);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO noted (how) VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER note AFTER INSERT OR UPDATE ON trigger_state
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note();
        CREATE CONSTRAINT TRIGGER note AFTER INSERT ON run
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note()";
    world.client.batch_execute(note).await.unwrap();
    let [first, second] = world.triggers;
    // By one statement, and by a transaction of several; the second time with a key that is known, so that it creates nothing.
    for (trigger, is_plain, noted) in
        [(first, true, &["on"][..]), (second, false, &["on", "on"]), (second, false, &["off"])]
    {
        let mut batch = Batch::default();
        if is_plain {
            world.create(&mut batch, trigger, 1, "{}");
        } else {
            world.fire(&mut batch, trigger, 1, "{}");
        }
        runs::commit(&mut world.journal, &mut batch).await.unwrap();
        let rows = world.client.query("DELETE FROM noted RETURNING how", &[]).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<&str>>(), noted);
    }
}

#[tokio::test]
async fn a_run_of_a_pipeline_that_is_only_remembered_counts_while_that_is_in_force() {
    let mut world = World::new().await;
    let trigger = world.triggers[0];
    let remembered = |world: &World, batch: &mut Batch| {
        let run = NewRun { if_current: true, trigger_version: None, ..world.run(trigger, 1, "{}") };
        let id = run.id;
        batch.create(run, world.shard);
        id
    };
    for (changed, back) in [
        ("UPDATE pipeline SET version = 2", "UPDATE pipeline SET version = 1"),
        ("UPDATE pipeline SET archived_at = now()", "UPDATE pipeline SET archived_at = NULL"),
        ("UPDATE workspace SET archived_at = now()", "UPDATE workspace SET archived_at = NULL"),
    ] {
        world.client.batch_execute(changed).await.unwrap();
        let mut batch = Batch::default();
        remembered(&world, &mut batch);
        let committed = runs::commit(&mut world.journal, &mut batch).await.unwrap();
        // The shard is still owned: nothing else of the batch is left out.
        assert_eq!((committed.created, committed.shards), (vec![], vec![7]), "{changed}");
        assert_eq!(world.rows().await, [0, 0, 0], "{changed}");
        world.client.batch_execute(back).await.unwrap();
    }
    let mut batch = Batch::default();
    let run = remembered(&world, &mut batch);
    let before = world.ways.count();
    assert_eq!(runs::commit(&mut world.journal, &mut batch).await.unwrap().created, [run]);
    assert_eq!(world.ways.count() - before, 1);
    assert_eq!(world.rows().await, [1, 1, 0]);
}

#[tokio::test]
async fn what_two_versions_decided_in_one_turn_counts_neither_way() {
    let mut world = World::new().await;
    let [first, second] = world.triggers;
    world.client.execute("UPDATE trigger SET version = 2 WHERE id = $1", &[&first.0]).await.unwrap();
    let mut batch = Batch::default();
    world.fire(&mut batch, first, 1, "{}");
    let other = world.fire(&mut batch, second, 1, "{}");
    world.fire(&mut batch, first, 2, "{}");
    let committed = runs::commit(&mut world.journal, &mut batch).await.unwrap();
    assert_eq!((committed.created, committed.overtaken), (vec![other], vec![first]));
    assert_eq!(world.rows().await, [1, 1, 1]);
    let mut batch = Batch::default();
    let again = world.fire(&mut batch, first, 2, "{}");
    assert_eq!(runs::commit(&mut world.journal, &mut batch).await.unwrap().created, [again]);
}

#[tokio::test]
async fn a_retry_takes_back_a_removal_that_was_asked_for_since_it_looked() {
    let mut world = World::new().await;
    let mut batch = Batch::default();
    let run = world.fire(&mut batch, world.triggers[0], 1, "{}");
    runs::commit(&mut world.journal, &mut batch).await.unwrap();
    let ended = "UPDATE run SET status = 'failed', completed_at = now() - interval '1 h', outputs_expired_at = now()";
    world.client.execute(ended, &[]).await.unwrap();
    let asked = "INSERT INTO output_removal (run_id, bundle_digest, not_before) SELECT id, 'sha256:0', now() FROM run";
    world.client.execute(asked, &[]).await.unwrap();
    let left = async |world: &World| {
        let left = "SELECT (SELECT count(*) FROM output_removal) + (SELECT count(outputs_expired_at) FROM run)";
        world.client.query_one(left, &[]).await.unwrap().get::<_, i64>(0)
    };
    let (shard, stale) = (world.shard, Shard { epoch: world.shard.epoch - 1, ..world.shard });
    for (shard, expected) in [(stale, 2), (shard, 0)] {
        let mut batch = Batch::default();
        batch.retry(run, None, shard);
        runs::commit(&mut world.journal, &mut batch).await.unwrap();
        assert_eq!(left(&world).await, expected);
    }
}

#[tokio::test]
async fn the_key_of_a_retry_is_written_by_the_owner_of_the_run_alone() {
    let mut world = World::new().await;
    let mut batch = Batch::default();
    let run = world.fire(&mut batch, world.triggers[0], 1, "{}");
    runs::commit(&mut world.journal, &mut batch).await.unwrap();
    for (key, is_owner) in [("first", true), ("second", true), ("third", false)] {
        if !is_owner {
            world.client.execute("UPDATE shard SET epoch = epoch + 1 WHERE id = 7", &[]).await.unwrap();
        }
        let mut batch = Batch::default();
        batch.retry(run, Some(key), world.shard);
        let committed = runs::commit(&mut world.journal, &mut batch).await.unwrap();
        assert_eq!(committed.shards.len(), usize::from(is_owner), "{key}");
    }
    let latest = "SELECT retry_key FROM run WHERE id = $1";
    let latest: Option<String> = world.client.query_one(latest, &[&run.0]).await.unwrap().get(0);
    assert_eq!(latest.as_deref(), Some("second"));
}

#[tokio::test]
async fn what_waiting_starts_are_told_stays_until_a_decision_says_otherwise() {
    let mut world = World::new().await;
    let trigger = world.triggers[0];
    // The decisions of each turn, and what is stored after it.
    let turns: [(&[Option<&str>], &str); 4] = [
        (&[Some(r#"{"a": 1}"#)], r#"{"a": 1}"#),
        (&[None], r#"{"a": 1}"#),
        (&[Some(r#"{"b": "x\u0000y"}"#), None], r#"{"b": "xy"}"#),
        (&[None, Some("{}")], "{}"),
    ];
    for (decisions, stored) in turns {
        let mut batch = Batch::default();
        for waiting in decisions {
            batch.decide(decision(trigger, 1, *waiting), world.shard);
        }
        runs::commit(&mut world.journal, &mut batch).await.unwrap();
        let row = world.client.query_one("SELECT waiting::text FROM trigger_state", &[]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), stored);
    }
}

#[tokio::test]
async fn who_loses_a_shard_while_it_writes_drops_no_children_of_its_runs() {
    let mut world = World::new().await;
    let mut batch = Batch::default();
    let run = world.fire(&mut batch, world.triggers[0], 1, "{}");
    runs::commit(&mut world.journal, &mut batch).await.unwrap();
    let children =
        "INSERT INTO block_run (run_id, block, child, status) SELECT $1, 'a', n, 'failed' FROM generate_series(0, 2) n";
    world.client.execute(children, &[&run.0]).await.unwrap();
    let graph = graph();
    let left = async |world: &World| {
        let left = "SELECT count(*) FROM block_run WHERE child >= 0";
        world.client.query_one(left, &[]).await.unwrap().get::<_, i64>(0)
    };
    for (is_owner, expected) in [(false, 3), (true, 0)] {
        let mut other = world.database.client().await;
        let transaction = other.transaction().await.unwrap();
        let lock = if is_owner {
            "SELECT FROM shard WHERE id = 7 FOR UPDATE"
        } else {
            "UPDATE shard SET epoch = epoch + 1 WHERE id = 7"
        };
        transaction.execute(lock, &[]).await.unwrap();
        let mut batch = Batch::default();
        batch.add(run, &graph, world.shard, &Transition::DropChildren(0));
        let watcher = world.database.client().await;
        let taken = async {
            let waits = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
            testkit::wait_for("the commit to wait", Duration::from_secs(20), || async {
                watcher.query_opt(waits, &[]).await.unwrap().map(drop)
            })
            .await;
            transaction.commit().await.unwrap();
        };
        let (committed, ()) = tokio::join!(runs::commit(&mut world.journal, &mut batch), taken);
        assert_eq!((committed.unwrap().shards.len(), left(&world).await), (usize::from(is_owner), expected));
        world.shard.epoch += 1;
    }
}

/// What a new owner loads is what has not ended, whoever writes it: also a scheduler that knows no such list.
#[tokio::test]
async fn the_list_of_unfinished_runs_follows_their_beginnings_and_ends() {
    let mut world = World::new().await;
    let graph = graph();
    let mut batch = Batch::default();
    let [first, second] = world.triggers.map(|trigger| world.create(&mut batch, trigger, 1, "{}"));
    reached(true).iter().for_each(|transition| batch.add(second, &graph, world.shard, transition));
    runs::commit(&mut world.journal, &mut batch).await.unwrap();
    let unfinished = async |world: &World| {
        let rows = world.client.query("SELECT run_id, shard FROM unfinished_run", &[]).await.unwrap();
        rows.iter().map(|row| (RunId(row.get(0)), row.get::<_, i16>(1))).collect::<Vec<_>>()
    };
    assert_eq!(unfinished(&world).await, [(first, 7)], "the other one ended where it began");
    for (completed, expected) in [(true, None), (false, Some((first, 7))), (false, Some((first, 7))), (true, None)] {
        let mut batch = Batch::default();
        reached(completed).iter().for_each(|transition| batch.add(first, &graph, world.shard, transition));
        runs::commit(&mut world.journal, &mut batch).await.unwrap();
        assert_eq!(unfinished(&world).await, expected.into_iter().collect::<Vec<_>>());
    }
    let by_hand = "UPDATE run SET status = 'running', completed_at = NULL WHERE id = $1";
    world.client.execute(by_hand, &[&second.0]).await.unwrap();
    assert_eq!(unfinished(&world).await, [(second, 7)]);
}

/// A new version of a row that fits beside the old one, and changes nothing that an index names, costs a third.
#[tokio::test]
async fn the_ends_of_many_runs_touch_no_index() {
    let mut world = World::new().await;
    let graph = graph();
    let mut begun = Batch::default();
    let mut runs = Vec::new();
    for n in 0..300 {
        let run = NewRun { logical_key: n.to_string(), ..world.run(world.triggers[0], 1, "{}") };
        runs.push(run.id);
        begun.create(run, world.shard);
    }
    let mut ended = Batch::default();
    for run in runs {
        reached(false).iter().for_each(|transition| begun.add(run, &graph, world.shard, transition));
        reached(true).iter().for_each(|transition| ended.add(run, &graph, world.shard, transition));
    }
    for batch in [&mut begun, &mut ended] {
        runs::commit(&mut world.journal, batch).await.unwrap();
    }
    // One row in the queue of ends, for all of them.
    let queued = "SELECT count(*), sum(cardinality(run_ids)) FROM run_end_batch WHERE NOT 'running' = ANY (statuses)";
    let row = world.client.query_one(queued, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, Option<i64>>(1)), (1, Some(300)));
    // A session that ends tells what it did.
    drop(world.journal);
    let told = "SELECT relname, n_tup_hot_upd FROM pg_stat_user_tables
                WHERE relname IN ('run', 'block_run') AND n_tup_upd = 300 ORDER BY relname";
    let rows = testkit::wait_for("the statistics", Duration::from_secs(20), || async {
        let rows = world.client.query(told, &[]).await.unwrap();
        (rows.len() == 2).then_some(rows)
    })
    .await;
    let hot: Vec<(String, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(hot, [("block_run".to_owned(), 300), ("run".to_owned(), 300)]);
}
