//! Log lines on a real Postgres: in by COPY, found again by every filter, dropped by days.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

use domain::id::{PipelineId, RunId, TriggerId, WorkspaceId};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;
use store::{
    Store, log_chunks,
    log_search::{self, Found, Search},
    logs::{self, NewLine, Old},
};
use testkit::Database;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    database: Database,
    logs: Store,
    workspace: WorkspaceId,
    /// A pipeline, its trigger and one run; twice.
    of: [(PipelineId, TriggerId, RunId); 2],
}

impl World {
    async fn new() -> Self {
        let migrations = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations"));
        let database = Database::migrated(migrations, |url| async move { Store::migrate(&url).await }).await;
        let logs = Store::connect_for_logs(database.url(), 3).await.unwrap();
        logs::create_partitions(&logs).await.unwrap();
        let workspace = Uuid::now_v7();
        let client = database.client().await;
        client.execute("INSERT INTO workspace (id, name) VALUES ($1, 'w')", &[&workspace]).await.unwrap();
        let mut of = Vec::new();
        for name in ["a", "b"] {
            let [pipeline, trigger, run] = [(); 3].map(|()| Uuid::now_v7());
            let insert = "INSERT INTO pipeline (id, workspace_id, name, version) VALUES ($1, $2, $3, 1)";
            client.execute(insert, &[&pipeline, &workspace, &name]).await.unwrap();
            let insert = "INSERT INTO trigger (id, pipeline_id, name, kind, active, source)
                          VALUES ($1, $2, 'manual', 'manual', true, 'built-in')";
            client.execute(insert, &[&trigger, &pipeline]).await.unwrap();
            let insert = "INSERT INTO run (id, workspace_id, pipeline_id, pipeline_version, trigger_id, shard, status, execution_date)
                          VALUES ($1, $2, $3, 1, $4, 0, 'running', now())";
            client.execute(insert, &[&run, &workspace, &pipeline, &trigger]).await.unwrap();
            of.push((PipelineId(pipeline), TriggerId(trigger), RunId(run)));
        }
        Self { database, logs, workspace: WorkspaceId(workspace), of: [of[0], of[1]] }
    }

    async fn search(&self, narrow: impl FnOnce(&mut Search<'_>), before: i64, limit: i64) -> Found {
        let mut search = Search {
            workspace: self.workspace,
            pipeline: None,
            trigger: None,
            run: None,
            block: "",
            block_type: "",
            min_level: 0,
            text: "",
            since: Timestamp::UNIX_EPOCH,
            until: Timestamp::now() + SignedDuration::from_hours(1),
        };
        narrow(&mut search);
        let db = self.logs.client().await.unwrap();
        log_search::search(&db, &search, before, limit, PATIENCE).await.unwrap()
    }

    /// Every message that fits, newest first, page by page.
    async fn found(&self, narrow: impl Fn(&mut Search<'_>)) -> Vec<String> {
        let (mut all, mut before) = (Vec::new(), i64::MAX);
        loop {
            let page = self.search(&narrow, before, 7).await;
            all.extend(page.hits.into_iter().map(|hit| hit.line.message));
            match page.before {
                Some(next) => before = next,
                None => return all,
            }
        }
    }
}

fn line(run: RunId, at: Timestamp, n: usize) -> NewLine {
    let (block, block_type) = if n.is_multiple_of(3) { ("load", "data_loader") } else { ("shape", "transformer") };
    NewLine {
        run_id: run.0,
        at,
        block: block.to_owned(),
        child: -1,
        lease: 1,
        level: if n % 1000 == 500 { 40 } else { 20 },
        stream: "stdout".to_owned(),
        message: format!("Handled item number {n} of the batch, checksum {:x}", n * 7_919),
        block_type: block_type.to_owned(),
    }
}

#[tokio::test]
async fn every_filter_finds_its_lines_within_chunks_and_beyond() {
    let world = World::new().await;
    let now = Timestamp::now();
    let [(_, _, first), (second_pipeline, second_trigger, second)] = world.of;
    // Two and a half chunks; the last quarter of the lines are those of the second run.
    let count = 10_240;
    let lines: Vec<NewLine> = (0..count)
        .map(|n| line(if n < 7_680 { first } else { second }, now - SignedDuration::from_millis((count - n) as i64), n))
        .collect();
    for part in lines.chunks(3_000) {
        logs::insert(&world.logs, part).await.unwrap();
    }
    let last = log_chunks::last_id(&world.logs).await.unwrap();
    assert_eq!(last, count as i64);
    let mut chunks = 0;
    while log_chunks::seal(&world.logs, last).await.unwrap() {
        chunks += 1;
    }
    assert_eq!(chunks, 2, "a part of a chunk is not sealed");

    assert_eq!(
        world.found(|s| s.text = "ITEM NUMBER 42 of").await,
        ["Handled item number 42 of the batch, checksum 51336"]
    );
    assert_eq!(world.found(|s| s.text = "number 10239 ").await.len(), 1, "beyond the chunks");
    assert!(world.found(|s| s.text = "nowhere to be found").await.is_empty());
    let errors = world.found(|s| s.min_level = 40).await;
    assert_eq!(errors.len(), 10);
    assert!(errors[0].contains("number 9500 ") && errors[9].contains("number 500 "), "newest first: {errors:?}");
    assert_eq!(world.found(|s| (s.min_level, s.block_type) = (40, "data_loader")).await.len(), 3);
    assert_eq!(world.found(|s| (s.min_level, s.block) = (40, "shape")).await.len(), 7);
    assert_eq!(world.found(|s| (s.min_level, s.pipeline) = (40, Some(second_pipeline))).await.len(), 2);
    assert_eq!(world.found(|s| (s.min_level, s.trigger) = (40, Some(second_trigger))).await.len(), 2);
    assert_eq!(world.found(|s| (s.min_level, s.run) = (40, Some(first))).await.len(), 8);
    assert!(world.found(|s| (s.min_level, s.workspace) = (40, WorkspaceId(Uuid::nil()))).await.is_empty());
    let recent = now - SignedDuration::from_millis(800);
    assert_eq!(world.found(|s| (s.min_level, s.since) = (40, recent)).await.len(), 1);
    assert_eq!(world.found(|s| (s.min_level, s.until) = (40, recent)).await.len(), 9);

    // Chunks are believed about who wrote their lines, and asked where they do not say.
    let client = world.database.client().await;
    let says = [
        ("blocks = '{shape}'", 0),
        ("blocks = NULL", 3),
        ("block_types = '{transformer}'", 0),
        ("block_types = NULL", 3),
    ];
    for (says, found) in says {
        client.batch_execute(&format!("UPDATE log_chunk SET {says}")).await.unwrap();
        let errors = world.found(|s| (s.min_level, s.block, s.block_type) = (40, "load", "data_loader")).await;
        assert_eq!(errors.len(), found, "{says}: {errors:?}");
    }

    let nothing = world.search(|s| s.text = "nowhere to be found", i64::MAX, 10).await;
    assert_eq!((nothing.hits.len(), nothing.before), (0, None), "all was looked at");
}

#[tokio::test]
async fn chunks_that_hold_nothing_of_what_is_asked_for_are_passed_over_unread() {
    let world = World::new().await;
    let [(quiet, quiet_trigger, first), (loud, loud_trigger, second)] = world.of;
    // Each line is of another block; only the second run has errors.
    let lines = (0..4_096).map(|n| NewLine {
        block: format!("block {n}"),
        level: if n % 100 == 1 { 40 } else { 20 },
        ..line(if n % 2 == 0 { first } else { second }, Timestamp::now(), n)
    });
    logs::insert(&world.logs, &lines.collect::<Vec<_>>()).await.unwrap();
    assert!(log_chunks::seal(&world.logs, 4_096).await.unwrap());
    // What is changed behind a chunk's back is found by whoever reads its lines, and by nobody else.
    let client = world.database.client().await;
    client.batch_execute("UPDATE log_line SET level = 40, block = 'elsewhere' WHERE id = 1").await.unwrap();
    let elsewhere = async || world.found(|s| s.block = "elsewhere").await.len();
    let of_quiet = async || {
        let of_pipeline = world.found(|s| (s.min_level, s.pipeline) = (40, Some(quiet))).await.len();
        let of_trigger =
            world.found(|s| (s.min_level, s.pipeline, s.trigger) = (40, Some(quiet), Some(quiet_trigger))).await;
        (of_pipeline, of_trigger.len())
    };
    assert_eq!((elsewhere().await, of_quiet().await), (0, (0, 0)));
    assert_eq!(world.found(|s| s.block = "block 7").await.len(), 1);
    for errors in [
        world.found(|s| (s.min_level, s.pipeline) = (40, Some(loud))).await,
        world.found(|s| (s.min_level, s.trigger) = (40, Some(loud_trigger))).await,
    ] {
        assert_eq!(errors.len(), 41);
    }
    assert_eq!(world.found(|s| s.min_level = 40).await.len(), 42, "the workspace has some");
    // Those of the version before do not say it, and are read.
    client.batch_execute("UPDATE log_chunk SET errors_of = NULL, blocks = NULL").await.unwrap();
    assert_eq!((elsewhere().await, of_quiet().await), (1, (1, 1)));
}

#[tokio::test]
async fn a_search_without_patience_says_how_far_it_got() {
    let world = World::new().await;
    let lines: Vec<NewLine> = (0..4_200).map(|n| line(world.of[0].2, Timestamp::now(), n)).collect();
    logs::insert(&world.logs, &lines).await.unwrap();
    log_chunks::seal(&world.logs, 4_200).await.unwrap();
    let db = world.logs.client().await.unwrap();
    let search = Search {
        workspace: world.workspace,
        pipeline: None,
        trigger: None,
        run: None,
        block: "",
        block_type: "",
        min_level: 0,
        text: "number 7 of",
        since: Timestamp::UNIX_EPOCH,
        until: Timestamp::now() + SignedDuration::from_hours(1),
    };
    let found = log_search::search(&db, &search, i64::MAX, 10, Duration::ZERO).await.unwrap();
    assert_eq!((found.hits.len(), found.before), (0, Some(4_097)), "one step was made: what no chunk holds yet");
    let found = log_search::search(&db, &search, 4_097, 10, Duration::ZERO).await.unwrap();
    assert_eq!(found.hits.len(), 1);
}

#[tokio::test]
async fn days_that_are_over_are_dropped_whole_and_later_ones_stay() {
    let world = World::new().await;
    let now = Timestamp::now();
    let old = now - SignedDuration::from_hours(24 * 40);
    let run = world.of[0].2;
    // A day that was created when it was today, and a stray line of a clock that was off.
    let day = old.to_zoned(jiff::tz::TimeZone::UTC).date();
    let name = format!("log_line_{}", day.strftime("%Y%m%d"));
    let create = format!(
        "CREATE TABLE {name} PARTITION OF log_line FOR VALUES FROM ('{day} 00:00+00') TO ('{} 00:00+00')",
        day.tomorrow().unwrap()
    );
    world.database.client().await.batch_execute(&create).await.unwrap();
    logs::insert(
        &world.logs,
        &[line(run, old, 1), line(run, old - SignedDuration::from_hours(48), 2), line(run, now, 3)],
    )
    .await
    .unwrap();
    let before = now - SignedDuration::from_hours(24 * 30);
    let expired = logs::expired(&world.logs, before).await.unwrap();
    assert_eq!(expired.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), [name.as_str()]);
    assert!(expired[0].bytes > 0);
    assert_eq!(logs::drop_expired(&world.logs, before).await.unwrap(), expired);
    assert!(logs::drop_expired(&world.logs, before).await.unwrap().is_empty());
    assert_eq!(world.found(|_| {}).await.len(), 1);
    // The day of a line that came before its partition moves into it.
    logs::create_partitions(&world.logs).await.unwrap();
}

#[tokio::test]
async fn lines_that_came_before_their_day_was_made_move_into_it() {
    let world = World::new().await;
    let client = world.database.client().await;
    let today = Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date().strftime("%Y%m%d").to_string();
    client.batch_execute(&format!("DROP TABLE log_line_{today}")).await.unwrap();
    logs::insert(&world.logs, &[line(world.of[0].2, Timestamp::now(), 1)]).await.unwrap();
    logs::create_partitions(&world.logs).await.unwrap();
    let count = format!("SELECT (SELECT count(*) FROM log_line_{today}), (SELECT count(*) FROM log_line_default)");
    let row = client.query_one(&count, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (1, 0));
}

#[tokio::test]
async fn a_projects_own_retention_takes_lines_of_its_old_runs_and_no_others() {
    let world = World::new().await;
    let client = world.database.client().await;
    let [(pipeline, _, old), (_, _, foreign)] = world.of;
    let young = RunId(Uuid::now_v7());
    let copy =
        "INSERT INTO run (id, workspace_id, pipeline_id, pipeline_version, trigger_id, shard, status, execution_date)
                SELECT $2, workspace_id, pipeline_id, 1, trigger_id, 0, 'running', now() FROM run WHERE id = $1";
    client.execute(copy, &[&old.0, &young.0]).await.unwrap();
    client.execute("UPDATE run SET created_at = now() - interval '9 d'", &[]).await.unwrap();
    let begin = "UPDATE run SET status = 'running', completed_at = NULL WHERE id = $1";
    let end = "UPDATE run SET status = 'completed', completed_at = now() - $2::text::interval WHERE id = $1";
    for (run, ago) in [(old, "8 d"), (foreign, "8 d"), (young, "6 d")] {
        client.execute(end, &[&run.0, &ago]).await.unwrap();
        let line = "INSERT INTO log_line (run_id, at, block, level, stream, message)
                    SELECT $1, now() - $2::text::interval, 'load', 20, 'stdout', n::text FROM generate_series(1, 25) AS n";
        client.execute(line, &[&run.0, &ago]).await.unwrap();
    }
    let week_ago = Timestamp::now() - SignedDuration::from_hours(7 * 24);
    let old_lines = Old { pipeline, before: week_ago, runs_max: 10, lines_max: 10 };
    let delete = async || match logs::delete_of_stragglers(&world.logs, &old_lines).await.unwrap() {
        Some(deleted) => Some(deleted),
        None => logs::delete_of_ended(&world.logs, &old_lines).await.unwrap(),
    };
    assert_eq!([delete().await, delete().await, delete().await, delete().await], [Some(10), Some(10), Some(5), None]);
    let left = "SELECT count(*) FROM log_line WHERE run_id = $1";
    let left = async |run: RunId| client.query_one(left, &[&run.0]).await.unwrap().get::<_, i64>(0);
    assert_eq!((left(old).await, left(foreign).await, left(young).await), (0, 25, 25));
    // It ran again. Somebody else was faster with as many as one statement takes: the others of that run still go.
    let more = "INSERT INTO log_line (run_id, at, block, level, stream, message)
                SELECT $1, now(), 'load', 20, 'stdout', n::text FROM generate_series(1, 15) AS n";
    client.execute(begin, &[&old.0]).await.unwrap();
    client.execute(end, &[&old.0, &"7 d 2 h"]).await.unwrap();
    client.execute(more, &[&old.0]).await.unwrap();
    let mut faster = world.database.client().await;
    let faster = faster.transaction().await.unwrap();
    let first = "DELETE FROM log_line WHERE (run_id, id) IN
                 (SELECT run_id, id FROM log_line WHERE run_id = $1 ORDER BY run_id, id LIMIT 10)";
    assert_eq!(faster.execute(first, &[&old.0]).await.unwrap(), 10);
    let waits =
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let end_it = async {
        while !client.query_one(waits, &[]).await.unwrap().get::<_, bool>(0) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        faster.commit().await.unwrap();
    };
    assert_eq!(tokio::join!(delete(), end_it).0, Some(0));
    assert_eq!((delete().await, delete().await), (Some(5), None));
    // Retried in place, it ends again, and its new lines go after that end, and not before.
    let line = "INSERT INTO log_line (run_id, at, block, level, stream, message) VALUES ($1, now(), 'load', 20, 'stdout', 'again')";
    client.execute(line, &[&old.0]).await.unwrap();
    client.execute(begin, &[&old.0]).await.unwrap();
    assert_eq!((delete().await, left(old).await), (None, 1));
    client.execute(end, &[&old.0, &"7 d 1 h"]).await.unwrap();
    assert_eq!((delete().await, delete().await, left(old).await), (Some(1), None, 0));
    // So do those of a run that was passed before it had ended for so long.
    client.execute(end, &[&young.0, &"7 d 1 h"]).await.unwrap();
    assert_eq!([delete().await, delete().await, delete().await, delete().await], [Some(10), Some(10), Some(5), None]);
    assert_eq!((left(young).await, left(foreign).await), (0, 25));
    let noted = "SELECT count(*) FROM log_straggler";
    assert_eq!(client.query_one(noted, &[]).await.unwrap().get::<_, i64>(0), 0);
}
