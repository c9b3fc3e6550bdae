//! Ends of runs: taken once, counted once.

use crate::World;
use serde_json::json;
use std::collections::BTreeSet;
use store::{
    run_ends::{self, End, Ended, Taken},
    statistics::{self, Filter},
};

#[tokio::test]
async fn ends_are_counted_once_by_however_many_recorders() {
    let world = World::new(json!({})).await;
    for _ in 0..30 {
        world.run("completed").await;
    }
    for _ in 0..10 {
        world.run("failed").await;
    }
    let (mut one, mut other) = (world.recorder(), world.recorder());
    let (a, b) = tokio::join!(one.run_once(), other.run_once());
    a.unwrap();
    b.unwrap();
    one.run_once().await.unwrap();
    let db = world.store.client().await.unwrap();
    let filter = Filter {
        workspace: world.workspace,
        pipeline: None,
        trigger: None,
        first_day: "2020-01-01",
        last_day: "2100-01-01",
    };
    let runs = statistics::runs(&db, &filter).await.unwrap();
    let count = |status: &str| runs.iter().filter(|r| r.status == status).map(|r| r.runs).sum::<i64>();
    assert_eq!((count("completed"), count("failed")), (30, 10));
    assert!(runs.iter().all(|r| (r.total_ms / r.runs as f64 - 2000.0).abs() < 1.0 && r.bucket == 43), "{runs:?}");
    let blocks = statistics::blocks(&db, &filter).await.unwrap();
    assert_eq!(blocks.iter().map(|b| (b.of.as_str(), b.runs)).fold(0, |sum, (_, n)| sum + n), 40);
    let late = statistics::lateness(&db, &filter).await.unwrap();
    assert_eq!(late.iter().map(|l| l.runs).sum::<i64>(), 40);
    assert!(late.iter().all(|l| (l.longest_ms - 3000.0).abs() < 1.0), "{late:?}");
}

#[tokio::test]
async fn a_run_that_ends_again_was_late_once_and_counts_only_what_ended_since() {
    let world = World::new(json!({})).await;
    let run = world.run("failed").await;
    world.recorder().run_once().await.unwrap();
    let client = world.database.client().await;
    // Retried, it waited for its turn, and was cancelled before that came.
    let former = "UPDATE run SET former_end_at = completed_at WHERE id = $1";
    client.execute(former, &[&run]).await.unwrap();
    let again = "UPDATE run SET status = 'cancelled', started_at = NULL, completed_at = completed_at + interval '1 h'";
    client.execute(again, &[]).await.unwrap();
    let block = "INSERT INTO block_run (run_id, block, status, completed_at) SELECT id, 'next', 'cancelled', completed_at FROM run";
    client.execute(block, &[]).await.unwrap();
    let end = "INSERT INTO run_end_batch (run_ids, statuses, started_ats, completed_ats, former_end_ats)
               SELECT ARRAY[id], ARRAY[status], ARRAY[started_at], ARRAY[completed_at], ARRAY[former_end_at] FROM run";
    client.execute(end, &[]).await.unwrap();
    world.recorder().run_once().await.unwrap();
    let counted = "SELECT (SELECT sum(runs) FROM run_stat)::bigint, (SELECT sum(runs) FROM lateness_stat)::bigint,
                          (SELECT sum(runs) FROM block_stat WHERE block = 'load')::bigint,
                          (SELECT sum(runs) FROM block_stat WHERE block = 'next')::bigint";
    let row = client.query_one(counted, &[]).await.unwrap();
    assert_eq!([0, 1, 2, 3].map(|at| row.get::<_, i64>(at)), [2, 1, 1, 1], "ends, times late, and of two blocks");
}

/// What a message could tell of these ends.
async fn described(transaction: &store::Transaction<'_>, ends: &[End]) -> Vec<Ended> {
    let of = run_ends::count(transaction, ends).await.unwrap();
    let of: Vec<_> = of.iter().map(|of| of.pipeline_id).collect();
    assert!(run_ends::describe(transaction, ends, &[]).await.unwrap().is_empty(), "nobody listens");
    run_ends::describe(transaction, ends, &of).await.unwrap()
}

#[tokio::test]
async fn what_a_retry_has_done_before_an_end_is_recorded_counts_for_the_retry_alone() {
    let world = World::new(json!({})).await;
    let run = world.run("failed").await;
    let client = world.database.client().await;
    // It ran again in place, and failed again, elsewhere, before anybody looked.
    let again = "UPDATE run SET former_end_at = completed_at, started_at = completed_at + interval '1 s',
                                completed_at = completed_at + interval '1 h'";
    client.execute(again, &[]).await.unwrap();
    let blocks = "UPDATE block_run SET status = 'completed', error = NULL, completed_at = r.completed_at FROM run r WHERE r.id = run_id";
    client.execute(blocks, &[]).await.unwrap();
    let next = "INSERT INTO block_run (run_id, block, status, completed_at, error)
                SELECT id, 'next', 'failed', completed_at, '{\"message\": \"later\"}' FROM run";
    client.execute(next, &[]).await.unwrap();
    let end = "INSERT INTO run_end_batch (run_ids, statuses, started_ats, completed_ats, former_end_ats)
               SELECT ARRAY[id], ARRAY[status], ARRAY[started_at], ARRAY[completed_at], ARRAY[former_end_at] FROM run";
    client.execute(end, &[]).await.unwrap();
    let mut db = world.store.client().await.unwrap();
    let transaction = db.transaction().await.unwrap();
    let ends = run_ends::take(&transaction, 10).await.unwrap().unwrap().ends;
    let ends = described(&transaction, &ends).await;
    let failures = run_ends::failures(&transaction, &ends).await.unwrap();
    let blocks: Vec<_> = ends.iter().map(|end| failures.get(&end.end_id).map(|of| of.block.as_str())).collect();
    assert_eq!((ends[0].run.0, blocks), (run, vec![None, Some("next")]));
    transaction.rollback().await.unwrap();
    world.recorder().run_once().await.unwrap();
    let row = client.query_one("SELECT sum(runs)::bigint FROM block_stat", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 2, "each block ended once");
}

#[tokio::test]
async fn ends_are_taken_with_the_transaction_and_whoever_left_them() {
    let world = World::new(json!({})).await;
    for status in ["failed", "running", "completed", "cancelled"] {
        world.run(status).await;
    }
    let client = world.database.client().await;
    // Two of one commit; and what a scheduler of the version before leaves.
    let merge = "
        WITH gone AS (DELETE FROM run_end_batch WHERE statuses <> '{cancelled}' RETURNING *)
        INSERT INTO run_end_batch (run_ids, statuses, started_ats, completed_ats, former_end_ats)
        SELECT array_agg(run_ids[1]), array_agg(statuses[1]), array_agg(started_ats[1]), array_agg(completed_ats[1]),
               array_agg(former_end_ats[1]) FROM gone";
    client.execute(merge, &[]).await.unwrap();
    let before = "
        WITH gone AS (DELETE FROM run_end_batch WHERE statuses = '{cancelled}' RETURNING *)
        INSERT INTO run_end (run_id, status, started_at, completed_at) SELECT run_ids[1], statuses[1], started_ats[1], completed_ats[1]
          FROM gone";
    assert_eq!(client.execute(before, &[]).await.unwrap(), 1);
    let mut db = world.store.client().await.unwrap();
    // A recorder that dies before its commit has taken nothing.
    for _ in 0..2 {
        let transaction = db.transaction().await.unwrap();
        let Taken { ends, more } = run_ends::take(&transaction, 2).await.unwrap().unwrap();
        let ends = described(&transaction, &ends).await;
        let mut statuses: Vec<_> = ends.iter().map(|end| (end.status.as_str(), end.reason.as_str())).collect();
        statuses.sort_unstable();
        assert_eq!((statuses, more), (vec![("cancelled", "why"), ("completed", "why"), ("failed", "why")], false));
        let ids: BTreeSet<i64> = ends.iter().map(|end| end.end_id).collect();
        assert_eq!(ids.len(), 3, "each has an id of its own");
        assert!(run_ends::take(&transaction, 2).await.unwrap().is_none());
        drop(transaction);
    }
    let transaction = db.transaction().await.unwrap();
    assert!(run_ends::take(&transaction, 1).await.unwrap().unwrap().more, "one batch is as many as were asked for");
    drop(transaction);
    world.recorder().run_once().await.unwrap();
    let row = client.query_one("SELECT sum(runs)::bigint FROM run_stat", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 3);
}

#[tokio::test]
async fn ends_of_runs_that_are_forgotten_keep_none_waiting() {
    let world = World::new(json!({})).await;
    let client = world.database.client().await;
    for _ in 0..20 {
        world.run("completed").await;
    }
    client.execute("DELETE FROM run", &[]).await.unwrap();
    world.run("failed").await;
    world.recorder().run_once().await.unwrap();
    let row = client
        .query_one("SELECT (SELECT sum(runs)::bigint FROM run_stat), (SELECT count(*) FROM run_end_batch)", &[])
        .await
        .unwrap();
    assert_eq!((row.get::<_, Option<i64>>(0), row.get::<_, i64>(1)), (Some(1), 0));
}
