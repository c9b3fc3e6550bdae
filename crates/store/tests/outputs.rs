//! The end of outputs: who loses them, who removes them, and what is never taken.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use domain::id::{PipelineId, RunId};
use jiff::{SignedDuration, Timestamp};
use std::{path::Path, time::Duration};
use store::{Store, forget, outputs};
use testkit::Database;
use uuid::Uuid;

const NOW: Duration = Duration::ZERO;
const LEASE: Duration = Duration::from_secs(60);

struct World {
    database: Database,
    store: Store,
    pipeline: PipelineId,
}

impl World {
    async fn new() -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let database =
            Database::migrated(&here.join("../../migrations"), |url| async move { Store::migrate(&url).await }).await;
        let store = Store::connect(database.url(), 4).await.unwrap();
        let client = database.client().await;
        let (workspace, pipeline) = (Uuid::now_v7(), Uuid::now_v7());
        let digest = format!("sha256:{}", "0".repeat(64));
        client.execute("INSERT INTO workspace (id, name) VALUES ($1, 'w')", &[&workspace]).await.unwrap();
        let bundle = "INSERT INTO bundle (digest, project_name, file_count, size_bytes) VALUES ($1, 'p', 0, 0)";
        client.execute(bundle, &[&digest]).await.unwrap();
        let insert = "INSERT INTO pipeline (id, workspace_id, name, version) VALUES ($1, $2, 'p', 1)";
        client.execute(insert, &[&pipeline, &workspace]).await.unwrap();
        let version = "INSERT INTO pipeline_version (pipeline_id, version, bundle_digest, spec)
                       VALUES ($1, 1, $2, '{\"outputs_retention_s\": 3600}')";
        client.execute(version, &[&pipeline, &digest]).await.unwrap();
        Self { database, store, pipeline: PipelineId(pipeline) }
    }

    /// A run that ended so many days ago, or has not; its one block left an output of ten bytes, or nothing.
    async fn run(&self, status: &str, days: i64, left: bool) -> RunId {
        let id = RunId::new_in(self.pipeline.shard());
        let ended = matches!(status, "completed" | "failed");
        let at = Timestamp::now() - SignedDuration::from_hours(24 * days);
        let client = self.database.client().await;
        let run = "INSERT INTO run (id, workspace_id, pipeline_id, pipeline_version, trigger_id, shard, status,
                       execution_date, created_at, completed_at)
                   SELECT $1, workspace_id, id, 1, id, 0, $3, $4::timestamptz, $4::timestamptz,
                       CASE WHEN $5 THEN $4::timestamptz END FROM pipeline WHERE id = $2";
        client.execute(run, &[&id.0, &self.pipeline.0, &status, &at, &ended]).await.unwrap();
        let outputs =
            if left { r#"[{"name": "output_0", "kind": "json", "rows": -1, "size_bytes": 10}]"# } else { "[]" };
        let block = format!(
            "INSERT INTO block_run (run_id, block, status, lease, output)
             VALUES ($1, 'b', 'completed', 1, '{{\"outputs\": {outputs}}}')"
        );
        client.execute(&block, &[&id.0]).await.unwrap();
        id
    }

    async fn request(&self, limit: i64) -> i64 {
        let yesterday = Timestamp::now() - SignedDuration::from_hours(24);
        outputs::request(&self.store, self.pipeline, yesterday, NOW, limit).await.unwrap()
    }

    async fn claimed(&self) -> Vec<RunId> {
        let claimed = outputs::claim(&self.store, 100, LEASE).await.unwrap();
        claimed.into_iter().map(|removal| removal.run).collect()
    }
}

#[tokio::test]
async fn only_what_is_old_and_over_and_not_the_latest_goes() {
    let world = World::new().await;
    let old = world.run("completed", 9, true).await;
    let failed = world.run("failed", 8, true).await;
    let empty = world.run("completed", 7, false).await;
    let running = world.run("running", 6, true).await;
    let latest = world.run("completed", 5, true).await;
    let young = world.run("failed", 0, true).await;
    let client = world.store.client().await.unwrap();
    let kept = outputs::retentions(&client, None, None).await.unwrap();
    assert_eq!(kept[0].period, Some(Duration::from_secs(3600)));
    let yesterday = Timestamp::now() - SignedDuration::from_hours(24);
    let counted = outputs::count(&client, world.pipeline, yesterday).await.unwrap();
    assert_eq!(counted, outputs::Removable { runs: 3, bytes: 20, unfinished: 1 });

    assert_eq!((world.request(2).await, world.request(2).await, world.request(2).await), (2, 1, 0));
    for (run, gone) in [(old, true), (failed, true), (empty, true), (running, false), (latest, false), (young, false)] {
        assert_eq!(outputs::expired_at(&world.store, run).await.unwrap().is_some(), gone);
    }
    let pointer = outputs::pointer(&client, old, "b", -1).await.unwrap().unwrap();
    assert!(
        pointer.expired_at.is_some() && pointer.output.unwrap().outputs.len() == 1,
        "the run still says what there was"
    );
    let mut claimed = world.claimed().await;
    claimed.sort();
    assert_eq!(claimed, [old, failed], "one that left nothing needs nobody's visit");
}

#[tokio::test]
async fn a_removal_has_one_remover_and_comes_again_when_it_fails() {
    let world = World::new().await;
    let (old, other) = (world.run("completed", 9, true).await, world.run("completed", 8, true).await);
    world.run("completed", 7, true).await;
    world.request(10).await;
    let (one, two) = tokio::join!(world.claimed(), world.claimed());
    assert_eq!(one.len() + two.len(), 2, "each has one of the two at most: {one:?} {two:?}");
    outputs::removed(&world.store, &[old]).await.unwrap();
    outputs::not_removed(&world.store, &[(other, "the store is away".to_owned())]).await.unwrap();
    assert_eq!(world.claimed().await, []);
    let client = world.database.client().await;
    let row =
        client.query_one("SELECT run_id, error, tries, not_before > now() FROM output_removal", &[]).await.unwrap();
    assert_eq!((row.get(0), row.get::<_, &str>(1), row.get(2), row.get(3)), (other.0, "the store is away", 1, true));
    client.execute("UPDATE output_removal SET not_before = now()", &[]).await.unwrap();
    assert_eq!(world.claimed().await, [other]);
}

#[tokio::test]
async fn a_run_that_was_taken_up_again_keeps_its_outputs() {
    let world = World::new().await;
    let revived = world.run("failed", 9, true).await;
    world.run("completed", 8, true).await;
    world.request(10).await;
    let client = world.database.client().await;
    let revive = "UPDATE run SET status = 'running', completed_at = NULL WHERE id = $1";
    client.execute(revive, &[&revived.0]).await.unwrap();
    assert_eq!(world.claimed().await, []);
    assert_eq!(outputs::expired_at(&world.store, revived).await.unwrap(), None);
    assert_eq!(world.claimed().await, [], "its request is gone too");
}

#[tokio::test]
async fn runs_are_forgotten_once_their_outputs_are_gone_and_their_firings_after_them() {
    let world = World::new().await;
    let with_outputs = world.run("completed", 9, true).await;
    let without = world.run("failed", 8, false).await;
    let running = world.run("running", 7, true).await;
    let latest = world.run("completed", 6, true).await;
    let client = world.database.client().await;
    let attempt = "INSERT INTO attempt (run_id, block, child, lease, executor_id, outcome, started_at)
                   VALUES ($1, 'b', -1, 1, $1, 'lost', now())";
    client.execute(attempt, &[&without.0]).await.unwrap();
    let trigger = "INSERT INTO trigger (id, pipeline_id, name, kind, active, source, spec)
                   VALUES ($1, $1, 't', 'time', true, 'api', $2)";
    let spec = serde_json::json!({ "catch_up": { "all": { "window_s": 30 * 86_400, "count": 5 } } });
    client.execute(trigger, &[&world.pipeline.0, &spec]).await.unwrap();
    let firing = "INSERT INTO firing (trigger_id, logical_key, decided, reason, run_id, shard_epoch, created_at)
                  VALUES ($1, $2, CASE WHEN $3::uuid IS NULL THEN 'skipped' ELSE 'fired' END,
                          CASE WHEN $3::uuid IS NULL THEN 'pause' END, $3, 1, now() - make_interval(days => $4))";
    for (key, run, days) in [
        ("at:1", Some(without.0), 40),
        ("at:2", Some(latest.0), 40),
        ("at:3", None, 40),
        ("at:4", None, 20),
        ("once", Some(without.0), 40),
    ] {
        client.execute(firing, &[&world.pipeline.0, &key, &run, &days]).await.unwrap();
    }
    let yesterday = Timestamp::now() - SignedDuration::from_hours(24);
    let forget = async || forget::runs(&world.store, world.pipeline, yesterday, 10).await.unwrap();
    assert_eq!(forget().await, 0, "outputs go first");
    world.request(10).await;
    assert_eq!(forget().await, 0, "a retry may have looked just before");
    client
        .execute("UPDATE run SET outputs_expired_at = now() - interval '1 h' WHERE outputs_expired_at IS NOT NULL", &[])
        .await
        .unwrap();
    assert_eq!(forget().await, 1, "an executor has not said yet that the other's outputs are gone");
    outputs::removed(&world.store, &[with_outputs]).await.unwrap();
    assert_eq!((forget().await, forget().await), (1, 0));
    let left = |table: &str| format!("SELECT array_agg(DISTINCT {table}) FROM {}", table.split('.').next().unwrap());
    let ids = async |sql: String| -> Vec<Uuid> {
        client.query_one(&sql, &[]).await.unwrap().get::<_, Option<Vec<Uuid>>>(0).unwrap_or_default()
    };
    let mut kept = [running.0, latest.0];
    kept.sort_unstable();
    assert_eq!((ids(left("run.id")).await, ids(left("block_run.run_id")).await), (kept.to_vec(), kept.to_vec()));
    assert_eq!(ids(left("attempt.run_id")).await, Vec::<Uuid>::new());
    let day = Duration::from_secs(86_400);
    assert_eq!(forget::firings(&world.store, day, 100).await.unwrap(), 2);
    let keys = client.query("SELECT logical_key FROM firing ORDER BY 1", &[]).await.unwrap();
    let keys: Vec<String> = keys.iter().map(|row| row.get(0)).collect();
    assert_eq!(keys, ["at:2", "at:4", "once"], "one has its run, one is in its catch-up window, one is for ever");
}
