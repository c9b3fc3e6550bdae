//! What is older than it is kept goes by itself: by the period that a project says, from its files to its log lines, on a real
//! Postgres; and what a dry run counts is what goes.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

use domain::id::{PipelineId, RunId};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use proto::internal::v1::{
    ClaimRemovalsRequest, ReportRemovalsRequest, output_removal_service_server::OutputRemovalService,
};
use scheduler::{
    clock::DbClock,
    log_retention::{LogRetention, LogRetentionError},
    loops::housekeeper::Housekeeper,
    metrics::Metrics,
    retention::{self, Removals, Report},
};
use std::{path::Path, sync::Arc, time::Duration};
use store::{Store, outputs};
use testkit::Database;
use tonic::Request;
use uuid::Uuid;

fn days_of(count: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * count)
}

const FOR_EVER: Duration = Duration::ZERO;

struct World {
    database: Database,
    store: Store,
    workspace: Uuid,
}

impl World {
    async fn new() -> Self {
        let migrations = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations"));
        let database = Database::migrated(migrations, |url| async move { Store::migrate(&url).await }).await;
        let store = Store::connect(database.url(), 4).await.unwrap();
        let (client, workspace) = (database.client().await, Uuid::now_v7());
        client.execute("INSERT INTO workspace (id, name) VALUES ($1, 'w')", &[&workspace]).await.unwrap();
        Self { database, store, workspace }
    }

    /// A pipeline that keeps outputs for so many days, or for ever.
    async fn pipeline(&self, name: &str, days: Option<i64>) -> PipelineId {
        let (client, id) = (self.database.client().await, Uuid::now_v7());
        let digest = format!("sha256:{}", "0".repeat(64));
        let bundle = "INSERT INTO bundle (digest, project_name, file_count, size_bytes) VALUES ($1, 'p', 0, 0)
                      ON CONFLICT DO NOTHING";
        client.execute(bundle, &[&digest]).await.unwrap();
        let insert = "INSERT INTO pipeline (id, workspace_id, name, version) VALUES ($1, $2, $3, 1)";
        client.execute(insert, &[&id, &self.workspace, &name]).await.unwrap();
        let spec = serde_json::json!({ "outputs_retention_s": days.map(|days| days * 86_400) });
        let version = "INSERT INTO pipeline_version (pipeline_id, version, bundle_digest, spec) VALUES ($1, 1, $2, $3)";
        client.execute(version, &[&id, &digest, &spec]).await.unwrap();
        PipelineId(id)
    }

    /// A run that completed so many days ago and left ten bytes.
    async fn run(&self, pipeline: PipelineId, days: i64) -> RunId {
        let (client, id) = (self.database.client().await, RunId::new_in(pipeline.shard()));
        let run = "INSERT INTO run (id, workspace_id, pipeline_id, pipeline_version, trigger_id, shard, status,
                       execution_date, created_at, completed_at)
                   SELECT $1, workspace_id, id, 1, id, 0, 'completed', at, at, at
                     FROM pipeline, (SELECT now() - make_interval(days => $3) AS at) AS t WHERE id = $2";
        client.execute(run, &[&id.0, &pipeline.0, &i32::try_from(days).unwrap()]).await.unwrap();
        let block = "INSERT INTO block_run (run_id, block, status, lease, output) VALUES ($1, 'b', 'completed', 1,
                         '{\"outputs\": [{\"name\": \"output_0\", \"kind\": \"json\", \"rows\": -1, \"size_bytes\": 10}]}')";
        client.execute(block, &[&id.0]).await.unwrap();
        id
    }

    async fn is_expired(&self, run: RunId) -> bool {
        outputs::expired_at(&self.store, run).await.unwrap().is_some()
    }
}

async fn claimed(removals: &Removals) -> Vec<RunId> {
    let answer = removals.claim_removals(Request::new(ClaimRemovalsRequest { limit: 50 })).await.unwrap();
    answer.into_inner().removals.iter().map(|removal| RunId::from_slice(&removal.run_id).unwrap()).collect()
}

#[tokio::test]
async fn outputs_older_than_their_project_keeps_them_go_and_a_dry_run_counts_the_same() {
    let world = World::new().await;
    let short = world.pipeline("short", Some(7)).await;
    let long = world.pipeline("long", Some(90)).await;
    let for_ever = world.pipeline("for ever", None).await;
    let mut runs = Vec::new();
    for pipeline in [short, long, for_ever] {
        for days in [30, 8, 6, 1] {
            runs.push((pipeline, days, world.run(pipeline, days).await));
        }
    }
    let now = Timestamp::now();
    let db = world.store.client().await.unwrap();
    let counted = outputs::count(&db, short, now - days_of(7)).await.unwrap();
    assert_eq!((counted.runs, counted.bytes), (2, 20));
    let report = retention::run_once(&world.store, now, FOR_EVER).await.unwrap();
    assert_eq!(report, Report { expired: counted.runs, ..Report::default() });
    assert_eq!(outputs::count(&db, short, now - days_of(7)).await.unwrap().runs, 0, "nothing is left to go");
    let mut gone = Vec::new();
    for (pipeline, days, run) in &runs {
        let expected = *pipeline == short && *days > 7;
        assert_eq!(world.is_expired(*run).await, expected, "{days} days");
        gone.extend(expected.then_some(*run));
    }
    // A retry that looked just before comes first; after that an executor is told what to remove, once.
    let removals = Removals::new(world.store.clone(), None);
    assert_eq!(claimed(&removals).await, []);
    let client = world.database.client().await;
    client.execute("UPDATE output_removal SET not_before = now()", &[]).await.unwrap();
    let mut told = claimed(&removals).await;
    told.sort_unstable();
    gone.sort_unstable();
    assert_eq!(told, gone);
    assert_eq!(claimed(&removals).await, []);
    let removed = ReportRemovalsRequest {
        removed_run_ids: gone.iter().map(|run| run.to_vec()).collect(),
        ..ReportRemovalsRequest::default()
    };
    removals.report_removals(Request::new(removed)).await.unwrap();
    let left = client.query_one("SELECT count(*) FROM output_removal", &[]).await.unwrap();
    assert_eq!(left.get::<_, i64>(0), 0);
    assert_eq!(retention::run_once(&world.store, now, FOR_EVER).await.unwrap(), Report::default());
}

#[tokio::test]
async fn days_of_log_lines_that_are_older_than_they_are_kept_are_dropped_as_a_dry_run_said() {
    let world = World::new().await;
    let client = world.database.client().await;
    let now = Timestamp::now();
    let day = |age: i64| (now - days_of(age)).to_zoned(TimeZone::UTC).date();
    let table = |age: i64| format!("log_line_{}", day(age).strftime("%Y%m%d"));
    for age in [40, 31, 20] {
        let (from, to) = (day(age), day(age).tomorrow().unwrap());
        let create = format!(
            "CREATE TABLE {} PARTITION OF log_line FOR VALUES FROM ('{from} 00:00+00') TO ('{to} 00:00+00')",
            table(age)
        );
        client.batch_execute(&create).await.unwrap();
    }
    let logs = Store::connect_for_logs(world.database.url(), 2).await.unwrap();
    let clock = DbClock::new(now);
    let for_ever = LogRetention::new(logs.clone(), clock.clone(), FOR_EVER);
    assert!(matches!(for_ever.drop_expired(None).await, Err(LogRetentionError::ForEver)));
    let kept = LogRetention::new(logs, clock, Duration::from_secs(30 * 86_400));
    let names = |days: &[store::logs::Partition]| days.iter().map(|day| day.name.clone()).collect::<Vec<_>>();
    let dry = names(&kept.expired(None).await.unwrap().days);
    assert_eq!(dry, [table(40), table(31)]);
    assert_eq!(names(&kept.drop_expired(None).await.unwrap().days), dry);
    assert_eq!(names(&kept.expired(None).await.unwrap().days), Vec::<String>::new());
    let there = "SELECT count(*) FROM pg_class WHERE relname = ANY ($1)";
    let there = client.query_one(there, &[&[table(40), table(31), table(20)].to_vec()]).await.unwrap();
    assert_eq!(there.get::<_, i64>(0), 1, "the table is gone, and the younger one is not");
    // A person may ask for less, and never for what is to come.
    assert_eq!(names(&kept.drop_expired(Some(now + days_of(1))).await.unwrap().days).first(), Some(&table(20)));
}

impl World {
    /// A scheduler's housekeeper with connections of its own, and what it counts.
    async fn housekeeper(&self) -> (Housekeeper, Arc<Metrics>) {
        let store = Store::connect(self.database.url(), 2).await.unwrap();
        let logs = Store::connect_for_logs(self.database.url(), 2).await.unwrap();
        let clock = DbClock::new(Timestamp::now());
        let kept = LogRetention::new(logs.clone(), clock.clone(), Duration::from_secs(30 * 86_400));
        let metrics = Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap());
        let house = Housekeeper::new(store, logs, kept, clock, Arc::clone(&metrics));
        (house.keeping_gpu_usage(Duration::from_secs(5 * 86_400)), metrics)
    }

    /// So many lines of a run, of so many days ago.
    async fn log(&self, run: RunId, days: i32, lines: i32) {
        let insert = "INSERT INTO log_line (run_id, at, level, stream, message)
                      SELECT $1, now() - make_interval(days => $2), 20, 'stdout', n::text FROM generate_series(1, $3) AS n";
        self.database.client().await.execute(insert, &[&run.0, &days, &lines]).await.unwrap();
    }

    async fn count(&self, sql: &str) -> i64 {
        self.database.client().await.query_one(sql, &[]).await.unwrap().get(0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_schedulers_that_keep_house_at_once_do_each_thing_once_and_lose_nothing() {
    let world = World::new().await;
    let client = world.database.client().await;
    let pipeline = world.pipeline("p", Some(7)).await;
    let keeps_lines = "UPDATE pipeline_version SET spec = spec || '{\"logs_retention_s\": 604800}'";
    client.execute(keeps_lines, &[]).await.unwrap();
    for (days, lines) in [(9, 700), (8, 700), (6, 50), (0, 500)] {
        let run = world.run(pipeline, days).await;
        world.log(run, i32::try_from(days).unwrap(), lines).await;
    }
    let (from, to) = (Timestamp::now() - days_of(40), Timestamp::now() - days_of(39));
    let [from, to] = [from, to].map(|at| at.to_zoned(TimeZone::UTC).date());
    let old = format!(
        "CREATE TABLE log_line_{} PARTITION OF log_line FOR VALUES FROM ('{from} 00:00+00') TO ('{to} 00:00+00');
         INSERT INTO executor (id, name, backend, slots, version, state, last_seen_at)
         SELECT gen_random_uuid(), n::text, 'process', 1, '0', 'online', now() - make_interval(secs => n) FROM generate_series(1, 100, 33) AS n;
         INSERT INTO notification (key, workspace_id, pipeline_id, pipeline_version, event, source, channel, created_at)
         SELECT n::text, gen_random_uuid(), gen_random_uuid(), 1, 'failure', 'project', 'c', now() - make_interval(days => n)
           FROM generate_series(0, 60) AS n WHERE n <> 1;
         INSERT INTO notification (key, workspace_id, pipeline_id, pipeline_version, event, source, channel, status, ended_at)
         SELECT 'sent' || n, gen_random_uuid(), gen_random_uuid(), 1, 'failure', 'project', 'c', 'sent', now() - make_interval(days => n)
           FROM generate_series(10, 59) AS n WHERE n <> 30;
         INSERT INTO notification_lane (workspace_id, pipeline_id, source, channel, failures, not_before)
         SELECT workspace_id, pipeline_id, source, channel, 1, now() - interval '2 hours' FROM notification WHERE key IN ('0', 'sent20');
         INSERT INTO limit_pool (workspace_id, key, max, used)
         SELECT '00000000-0000-0000-0000-000000000001', 'order:' || n, 1, (n = 7)::integer FROM generate_series(1, 2500) AS n;
         INSERT INTO limit_hold (workspace_id, key, shard, held, wanted) SELECT workspace_id, key, 3, used, used FROM limit_pool;
         INSERT INTO gpu_usage (holder, held_at, freed_at, project_id, queue_id, model, gpu_milli)
         SELECT gen_random_uuid(), now() - interval '9 days', now() - make_interval(days => n, mins => 1), gen_random_uuid(),
                gen_random_uuid(), 'A10', 1000
           FROM generate_series(0, 8) AS n;
         INSERT INTO runtime_event (workspace_id, number, at, state)
         SELECT gen_random_uuid(), 1, now() - make_interval(days => n, mins => 1), 'stopped' FROM generate_series(8, 0, -1) AS n",
        from.strftime("%Y%m%d")
    );
    client.batch_execute(&old).await.unwrap();

    let ((mut one, one_counts), (mut other, other_counts)) = (world.housekeeper().await, world.housekeeper().await);
    let mut rounds = 0;
    while let (Err(_), _) | (_, Err(_)) = tokio::join!(one.run_once(), other.run_once()) {
        rounds += 1;
        assert!(rounds < 10, "neither gets its work done beside the other");
    }
    let given_up = |metrics: &Metrics| metrics.notifications.with_label_values(&["failed"]).get();
    let counts = [
        ("SELECT count(*) FROM executor WHERE state = 'lost'", 3),
        ("SELECT count(*) FROM executor WHERE state = 'online'", 1),
        // Lines of today moved to their day, none of them twice; those that the project keeps no longer are gone.
        ("SELECT count(*) FROM log_line_default WHERE at > now() - interval '1 minute'", 0),
        ("SELECT count(DISTINCT (run_id, message)) FROM log_line", 550),
        ("SELECT count(*) FROM log_line", 550),
        ("SELECT count(*) FROM pg_inherits WHERE inhparent = 'log_line'::regclass", 5),
        ("SELECT count(*) FROM notification WHERE key LIKE 'sent%'", 20),
        ("SELECT count(*) FROM notification WHERE key NOT LIKE 'sent%'", 60),
        ("SELECT count(*) FROM notification WHERE status = 'failed'", 59),
        ("SELECT count(*) FROM notification_lane", 1),
        ("SELECT count(*) FROM limit_pool", 1),
        ("SELECT count(*) FROM limit_hold", 1),
        // By when they were free again, however long ago they were taken.
        ("SELECT count(*) FROM gpu_usage", 5),
        ("SELECT count(*) FROM runtime_event", 5),
    ];
    for (sql, expected) in counts {
        assert_eq!(world.count(sql).await, expected, "{sql}");
    }
    // Each was given up by one of the two, and counted by that one.
    assert_eq!(given_up(&one_counts) + given_up(&other_counts), 59);

    // The same of outputs, and of runs that are forgotten.
    let forgotten = world.run(pipeline, 400).await;
    let gone = "UPDATE run SET outputs_expired_at = now() - interval '1 hour' WHERE id = $1";
    client.execute(gone, &[&forgotten.0]).await.unwrap();
    let second = Store::connect(world.database.url(), 2).await.unwrap();
    let (now, year) = (Timestamp::now(), Duration::from_secs(365 * 86_400));
    let (one, other) =
        tokio::join!(retention::run_once(&world.store, now, year), retention::run_once(&second, now, year));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!((one.expired + other.expired, one.forgotten + other.forgotten), (2, 1));
    assert_eq!(world.count("SELECT count(*) FROM output_removal").await, 2);
    assert_eq!(world.count("SELECT count(*) FROM run").await, 4);
}
