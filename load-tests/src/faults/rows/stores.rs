//! What keeps the state: Redis and PostgreSQL, emptied, killed, frozen, slow, full.

use super::{
    disks::Tmpfs,
    schedulers::{LATE_MAX_S, count},
};
use crate::faults::{Plan, Seen, stage::Stage};
use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use std::{collections::HashMap, time::Duration};
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;
use uuid::Uuid;

/// What losing Redis may cost, in seconds.
const REDIS_LATE_MAX_S: f64 = 1.0;
/// Firing goes on so soon after PostgreSQL accepts again, in seconds.
const FIRING_AGAIN_MAX_S: f64 = 5.0;
/// How long the harness waits for a first firing.
const FIRING_AGAIN_WAIT: Duration = Duration::from_secs(60);
/// The load that has room for a stop and a kill of PostgreSQL: after it, nothing would fire again.
const RESTARTS_LOAD_S: u32 = 30;
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How far a standby is behind that takes over, and how late what it had not got may be: that, the take-over, and firing again.
const BEHIND: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(4));
const BEHIND_LATE_MAX_S: f64 = 14.0;
/// Commits so close to the last one that a standby has may be on either side of it.
const SLACK: Duration = Duration::from_millis(500);
/// While a transaction is held, 99 of 100 runs take at most so many times as long as before; less than so many seconds is nothing.
const HELD_TIMES_MAX: f64 = 2.0;
const HELD_MIN_S: f64 = 0.1;
/// Longer than Redis' time-out, and than the pause after a failure.
const AWAY: (Duration, Duration) = (Duration::from_millis(2_500), Duration::from_secs(4));

/// So soon after Redis is away every scheduler says so, in seconds: a round of its keeper, and Redis' time-out.
const SAID_MAX_S: f64 = 2.0;
const SCHEDULERS: f64 = 3.0;

/// Row 4: emptied each second, and away.
pub(super) async fn redis_lost(plan: Plan) -> Result<Seen> {
    let mut stage = Stage::open(plan, Stage::shape(plan)).await?;
    let mut seen = Seen::default();
    stage.begin().await?;
    let (mut flushes, mut kills, mut freezes, mut noticed) = (0, 0, 0, 0.0);
    let mut slowest = Duration::ZERO;
    while freezes == 0 || stage.goes_on(Duration::from_secs(4)) {
        for _ in 0..3 {
            stage.cluster.redis()?.flush()?;
            flushes += 1;
            stage.pass(Duration::from_millis(500), Duration::from_millis(1_500)).await;
        }
        stage.cluster.redis()?.kill();
        kills += 1;
        let (said, took) = until_said(&mut stage).await;
        (noticed, slowest) = (noticed + said, slowest.max(took));
        stage.pass(AWAY.0.saturating_sub(took), AWAY.1.saturating_sub(took)).await;
        stage.cluster.redis()?.restart()?;
        stage.pass(Duration::from_millis(100), Duration::from_secs(1)).await;
        stage.cluster.redis()?.freeze()?;
        freezes += 1;
        let (said, took) = until_said(&mut stage).await;
        (noticed, slowest) = (noticed + said, slowest.max(took));
        stage.pass(AWAY.0.saturating_sub(took), AWAY.1.saturating_sub(took)).await;
        stage.cluster.redis()?.thaw()?;
        stage.pass(Duration::from_millis(100), Duration::from_secs(1)).await;
    }
    seen.bite("times that every key was removed", flushes);
    seen.bite("times that Redis was killed", kills);
    seen.bite("times that Redis was frozen", freezes);
    seen.bite("schedulers that said so", count(noticed));
    seen.at_most("until all of them said so", slowest.as_secs_f64(), "s", SAID_MAX_S);
    stage.finish_within(seen, REDIS_LATE_MAX_S).await
}

/// Waits until every scheduler says that Redis is away, as long as that is; answers how many do, and how long that took.
async fn until_said(stage: &mut Stage) -> (f64, Duration) {
    let begun = Instant::now();
    loop {
        let said = stage.metric_of_all("scheduler", "redis_degraded").await;
        if said >= SCHEDULERS || begun.elapsed() >= AWAY.1 {
            return (said, begun.elapsed());
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// Row 5.
pub(super) async fn postgres_restarted(plan: Plan) -> Result<Seen> {
    let plan = Plan { seconds: plan.seconds.max(RESTARTS_LOAD_S), ..plan };
    let mut stage = Stage::open(plan, Stage::shape(plan)).await?;
    let mut seen = Seen::default();
    stage.begin().await?;
    let (mut stops, mut kills, mut slowest) = (0_u64, 0_u64, 0.0_f64);
    let mut started = stage.postgres_started().await?;
    let first = started;
    while kills == 0 || stage.goes_on(Duration::from_secs(6)) {
        if stops > kills {
            stage.cluster.kill_postgres()?;
            kills += 1;
        } else {
            stage.cluster.stop_postgres()?;
            stops += 1;
        }
        let (accepts, took) = start(&mut stage).await?;
        seen.tell("until PostgreSQL accepted again", took.as_secs_f64(), "s");
        slowest = slowest.max(fires_again(&stage, accepts).await?);
        ensure!(stage.postgres_started().await? > started, "PostgreSQL was not started again");
        started = stage.postgres_started().await?;
        stage.pass(Duration::from_secs(1), Duration::from_secs(4)).await;
    }
    seen.bite("times that PostgreSQL was stopped", stops);
    seen.bite("times that PostgreSQL was killed", kills);
    seen.bite("later start of the server", u64::from(started > first));
    seen.at_most("firing again after PostgreSQL accepts", slowest, "s", FIRING_AGAIN_MAX_S);
    let ended = stage.ended();
    seen.must(ended.is_empty(), || format!("services ended: {}", ended.join(", ")));
    stage.finish(seen).await
}

/// Starts it again; answers when it accepted, and how long that took.
async fn start(stage: &mut Stage) -> Result<(Timestamp, Duration)> {
    // Nothing else of this process may go on for a while: the wires lie in it.
    let took = stage.start_postgres().await?;
    Ok((Timestamp::now(), took))
}

/// Seconds from `since` to the first firing after it.
async fn fires_again(stage: &Stage, since: Timestamp) -> Result<f64> {
    let sql = stage.sql().await?;
    let begun = Instant::now();
    loop {
        let query = "SELECT min(extract(epoch FROM pg_xact_commit_timestamp(xmin) - $1))::float8 FROM firing WHERE created_at > $1";
        if let Some(after) = sql.query_one(query, &[&since]).await?.get::<_, Option<f64>>(0) {
            return Ok(after);
        }
        ensure!(begun.elapsed() < FIRING_AGAIN_WAIT, "nothing fired in {} s", FIRING_AGAIN_WAIT.as_secs());
        sleep(LOOK_AGAIN).await;
    }
}

/// Row 6.
pub(super) async fn sessions_ended(plan: Plan) -> Result<Seen> {
    let mut stage = Stage::open(plan, Stage::shape(plan)).await?;
    let mut seen = Seen::default();
    let load = stage.begin().await?;
    let sql = stage.sql().await?;
    let mut ended = 0;
    while Instant::now() < load.broken_until {
        let one = "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity
                    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1) AS victim";
        ended += sql.query_one(one, &[]).await?.get::<_, i64>(0);
        sleep(Duration::from_millis(100)).await;
    }
    seen.bite("sessions ended by an administrator", u64::try_from(ended)?);
    let broken = stage.metric_of_all("scheduler", "scheduler_broken_commits_total").await;
    seen.bite("sessions that were ended under a commit, or before it", count(broken));
    let reloads = stage.metric_of_all("scheduler", "scheduler_reloads_total").await;
    seen.tell("times that a scheduler dropped its memory and loaded it again", reloads, "");
    let gone = stage.ended();
    seen.must(gone.is_empty(), || format!("services ended: {}", gone.join(", ")));
    stage.finish_within(seen, LATE_MAX_S).await
}

/// Row 7: a standby that every commit waits for takes over.
pub(super) async fn failed_over(plan: Plan) -> Result<Seen> {
    let mut stage = Stage::open(plan, Stage::shape(plan)).await?;
    let mut seen = Seen::default();
    stage.cluster.add_standby().await?;
    stage.begin().await?;
    stage.pass(Duration::from_secs(2), Duration::from_secs(4)).await;
    let server = "SELECT count(*) FROM firing WHERE decided = 'fired'";
    let before: i64 = stage.sql().await?.query_one(server, &[]).await?.get(0);
    let former = stage.timeline().await?;
    let took = stage.cluster.fail_over().await?;
    let accepts = Timestamp::now();
    // Who is promoted begins a timeline of its own.
    seen.bite("timelines that followed the first server's", stage.timeline().await?.saturating_sub(former));
    seen.bite("firings before the standby took over", u64::try_from(before)?);
    let after: i64 = stage.sql().await?.query_one(server, &[]).await?.get(0);
    // Read before they were durable, and so not told to anybody: they are decided again. What was acknowledged is judged
    // by the checker.
    #[expect(clippy::cast_precision_loss, reason = "a count for people")]
    seen.tell("firings that could be read and were not durable yet", (before - after).max(0) as f64, "");
    seen.tell("until the standby accepted", took.as_secs_f64(), "s");
    let again = fires_again(&stage, accepts).await?;
    seen.at_most("firing again after the standby accepts", again, "s", FIRING_AGAIN_MAX_S);
    let ended = stage.ended();
    seen.must(ended.is_empty(), || format!("services ended: {}", ended.join(", ")));
    stage.finish_within(seen, 10.0).await
}

/// Row 7b: a standby takes over that nobody waited for, and that has not followed for some seconds.
pub(super) async fn failed_over_behind(plan: Plan) -> Result<Seen> {
    let mut stage = Stage::open(plan, Stage::shape(plan)).await?;
    let mut seen = Seen::default();
    stage.cluster.add_follower().await?;
    stage.begin().await?;
    stage.pass(Duration::from_secs(2), Duration::from_secs(4)).await;
    let latest = stage.cluster.stop_following().await?;
    stage.pass(BEHIND.0, BEHIND.1).await;
    let before = decided(&stage.sql().await?).await?;
    let took = stage.cluster.fail_over().await?;
    let accepts = Timestamp::now();
    seen.tell("until the standby accepted", took.as_secs_f64(), "s");
    // Commits have their instants a moment before their places in the log.
    let forgotten = latest - SLACK;
    stage.promises.forgotten_us = Some((forgotten.as_microsecond(), accepts.as_microsecond()));
    let again = fires_again(&stage, accepts).await?;
    seen.at_most("firing again after the standby accepts", again, "s", FIRING_AGAIN_MAX_S);
    let ended = stage.ended();
    seen.must(ended.is_empty(), || format!("services ended: {}", ended.join(", ")));
    let lost = before.values().filter(|(_, committed_at)| *committed_at > latest).count();
    seen.bite("firings that the standby had not got", lost as u64);
    stage
        .finish_with(seen, BEHIND_LATE_MAX_S, async |sql: &Client| {
            let now = decided(sql).await?;
            let decided_again = |from: Timestamp, to: Timestamp| {
                let of_then = before.iter().filter(|(_, (_, committed_at))| (from..to).contains(committed_at));
                of_then.filter(|(key, (run, _))| now.get(*key).is_none_or(|(other, _)| other != run)).count()
            };
            let (older, newer) = (decided_again(Timestamp::MIN, forgotten), decided_again(latest, accepts));
            let older =
                (older > 0).then(|| format!("{older} firings that the standby had are gone, or have other runs"));
            let newer = (newer == 0).then(|| "nothing that was lost was decided again".to_owned());
            Ok(older.into_iter().chain(newer).collect())
        })
        .await
}

/// What has fired so far: of each trigger and key its run, and when that was committed.
async fn decided(sql: &Client) -> Result<HashMap<(Uuid, String), (Uuid, Timestamp)>> {
    let fired =
        "SELECT trigger_id, logical_key, run_id, pg_xact_commit_timestamp(xmin) FROM firing WHERE run_id IS NOT NULL";
    let rows = sql.query(fired, &[]).await?;
    Ok(rows.iter().map(|row| ((row.get(0), row.get(1)), (row.get(2), row.get(3)))).collect())
}

/// Row 17: a snapshot that is held all the time, so that no dead row can go.
pub(super) async fn transaction_held(plan: Plan) -> Result<Seen> {
    let mut stage = Stage::open(plan, Stage::shape(plan)).await?;
    let mut seen = Seen::default();
    let load = stage.begin().await?;
    let holder = stage.sql().await?;
    holder.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM run").await?;
    // One that wrote as well, so that its number is in everybody's way.
    let writer = stage.sql().await?;
    writer.batch_execute("CREATE TABLE faults_held (id int); BEGIN; INSERT INTO faults_held VALUES (1)").await?;
    tokio::time::sleep_until(load.broken_until).await;
    let sql = stage.sql().await?;
    let row = sql
        .query_one(
            "SELECT (SELECT coalesce(extract(epoch FROM max(clock_timestamp() - xact_start)), 0)::float8 FROM pg_stat_activity
                      WHERE backend_xmin IS NOT NULL OR backend_xid IS NOT NULL),
                    (SELECT coalesce(sum(n_dead_tup), 0)::bigint FROM pg_stat_user_tables)",
            &[],
        )
        .await?;
    seen.bite("seconds that a transaction was held", count(row.get::<_, f64>(0)));
    compare(&sql, load.from + load.calm.unwrap_or_default(), &mut seen).await?;
    #[expect(clippy::cast_precision_loss, reason = "a count for people")]
    seen.tell("dead rows that could not go", row.get::<_, i64>(1) as f64, "");
    let seen = stage.finish_within(seen, LATE_MAX_S).await;
    drop((holder, writer));
    seen
}

/// Holds how long runs took from a time on against how long they took before.
async fn compare(sql: &Client, from: Timestamp, seen: &mut Seen) -> Result<()> {
    // One that has not ended takes at least until now.
    let took = "
        SELECT percentile_cont(0.99) WITHIN GROUP (ORDER BY took) FILTER (WHERE due < $1),
               percentile_cont(0.99) WITHIN GROUP (ORDER BY took) FILTER (WHERE due >= $1)
          FROM (SELECT f.execution_date AS due,
                       extract(epoch FROM coalesce(r.completed_at, clock_timestamp()) - f.execution_date)::float8 AS took
                  FROM firing f JOIN trigger t ON t.id = f.trigger_id JOIN run r ON r.id = f.run_id
                 WHERE starts_with(t.name, 'every-')) AS runs";
    let row = sql.query_one(took, &[&from]).await?;
    let (before, held): (Option<f64>, Option<f64>) = (row.get(0), row.get(1));
    // Where a load is too short to be undisturbed at first, there is nothing to compare with.
    if let (Some(before), Some(held)) = (before, held) {
        seen.tell("from due to done before, 99 of 100", before, "s");
        let most = (HELD_TIMES_MAX * before).max(HELD_MIN_S);
        seen.at_most("from due to done while it was held, 99 of 100", held, "s", most);
    }
    Ok(())
}

/// Row 12, the database's part: its write-ahead log has a small disk of its own, which is full for a while.
pub(super) async fn disk_full(plan: Plan) -> Result<Seen> {
    let mut stage = Stage::open(plan, Stage::shape(plan)).await?;
    let mut seen = Seen::default();
    // The log moves to a disk that is a little larger than what is there.
    stage.cluster.stop_postgres()?;
    let log = stage.cluster.postgres()?.home().join("data/pg_wal");
    // A load of thousands a second fills that between two checkpoints by itself.
    let disk = Tmpfs::under(&log, 96 + 2 * plan.triggers).context("put the write-ahead log on a disk of its own")?;
    start(&mut stage).await?;
    stage.begin().await?;
    stage.pass(Duration::from_secs(1), Duration::from_secs(2)).await;
    let before = stage.postgres_log_lines("No space left on device");
    let ballast = disk.fill()?;
    // The server needs new room for its log only once what it has is used up.
    while stage.postgres_log_lines("No space left on device") == before && stage.goes_on(Duration::from_secs(4)) {
        stage.use_up_log().await;
        sleep(LOOK_AGAIN).await;
    }
    seen.bite("times that PostgreSQL found no space", stage.postgres_log_lines("No space left on device") - before);
    stage.pass(Duration::from_secs(1), Duration::from_secs(2)).await;
    drop(ballast);
    // It ends itself when its log has no room; whoever runs it starts it again.
    let (accepts, took) = start(&mut stage).await?;
    seen.tell("until PostgreSQL accepted again", took.as_secs_f64(), "s");
    let again = fires_again(&stage, accepts).await?;
    seen.at_most("firing again after there was space", again, "s", 10.0);
    stage.finish(seen).await
}
