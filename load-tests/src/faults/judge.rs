//! What became of the load. Whether it is right is judged by the checker of histories; here is how long everything took,
//! and what that one does not ask.

use super::{seen::Seen, stage::Load};
use crate::history::{self, History, Promises, Witness};
use anyhow::Result;
use std::{path::Path, time::Duration};
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Things that are named of those that are wrong.
const NAMED_MAX: usize = 5;

/// What the worst lateness is called.
pub(super) const WORST: &str = "worst lateness";

/// What the lateness of 99 of 100 is called.
pub(super) const P99: &str = "lateness of 99 of 100";

/// Whether all work was done.
pub(super) struct Drained {
    /// How long it took.
    pub(super) took: Duration,
    /// What was not done in time.
    pub(super) open: Option<String>,
}

/// Waits until every logical time is decided and every run has ended.
pub(super) async fn until_drained(sql: &Client, load: &Load, limit: Duration) -> Result<Drained> {
    let begun = Instant::now();
    let expected = i64::from(load.schedules) * i64::from(load.seconds);
    loop {
        let row = sql
            .query_one(
                "SELECT (SELECT coalesce(sum(f.times), 0) FROM firing f JOIN trigger t ON t.id = f.trigger_id
                          WHERE starts_with(t.name, 'every-') OR starts_with(t.name, 'cron-'))::bigint,
                        (SELECT count(*) FROM run WHERE completed_at IS NULL),
                        (SELECT count(*) FROM backfill WHERE completed_at IS NULL)",
                &[],
            )
            .await?;
        let (decided, open, backfills): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
        if decided >= expected && open == 0 && backfills == 0 {
            return Ok(Drained { took: begun.elapsed(), open: None });
        }
        if begun.elapsed() > limit {
            let open = format!(
                "{} s after the load {decided} of {expected} logical times are decided, {backfills} backfills and {open} runs \
                 have not ended: {}",
                limit.as_secs(),
                unfinished(sql).await?
            );
            return Ok(Drained { took: begun.elapsed(), open: Some(open) });
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// Some of the runs that have not ended, with where they hang.
async fn unfinished(sql: &Client) -> Result<String> {
    let rows = sql
        .query(
            "SELECT format('run %s (%s) of shard %s, owner %s, unit %s %s since %s on %s', r.id, r.status, r.shard,
                           coalesce(s.owner::text, 'none'), coalesce(b.status, 'not begun'), coalesce(b.lease, 0),
                           coalesce(b.attempt_started_at::text, 'never'), coalesce(e.name || ' ' || e.state, 'none'))
             FROM run r JOIN shard s ON s.id = r.shard LEFT JOIN block_run b ON b.run_id = r.id
             LEFT JOIN executor e ON e.id = b.executor_id WHERE r.completed_at IS NULL LIMIT $1",
            &[&i64::try_from(NAMED_MAX)?],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join("; "))
}

/// How late logical times were decided: to the commit. None may be given up: every trigger catches up with what it missed.
pub(super) async fn lateness(sql: &Client, seen: &mut Seen) -> Result<()> {
    let row = sql
        .query_one(
            "SELECT count(*) FILTER (WHERE f.decided = 'fired'), count(*) FILTER (WHERE f.decided <> 'fired'),
                    coalesce(percentile_cont(ARRAY[0.5, 0.99, 1]) WITHIN GROUP
                        (ORDER BY extract(epoch FROM pg_xact_commit_timestamp(f.xmin) - f.execution_date)::float8), ARRAY[0, 0, 0]::float8[])
             FROM firing f JOIN trigger t ON t.id = f.trigger_id
             WHERE starts_with(t.name, 'every-') OR starts_with(t.name, 'cron-')",
            &[],
        )
        .await?;
    let (fired, skipped, late): (i64, i64, Vec<f64>) = (row.get(0), row.get(1), row.get(2));
    seen.firings += u64::try_from(fired)?;
    seen.must(skipped == 0, || format!("{skipped} logical times were skipped"));
    for (name, late) in ["median lateness", P99, WORST].into_iter().zip(late) {
        seen.tell(name, late, "s");
    }
    Ok(())
}

/// What the checker of histories does not ask: whether the load's runs completed, and nothing stood in its own way. Where
/// executors are `lost_often`, a block may be given up as one that kills them: that is told then, and is no fault.
pub(super) async fn leftovers(sql: &Client, lost_often: bool, seen: &mut Seen) -> Result<()> {
    let open = "
        SELECT count(*) FILTER (WHERE NOT poisoned), count(*) FILTER (WHERE poisoned)
          FROM (SELECT EXISTS (SELECT FROM block_run b WHERE b.run_id = r.id AND b.error->>'code' = 'POISON') AS poisoned
                  FROM run r JOIN pipeline p ON p.id = r.pipeline_id
                 WHERE (starts_with(p.name, 'load_') OR starts_with(p.name, 'chain_')) AND r.status <> 'completed') AS runs";
    let row = sql.query_one(open, &[]).await?;
    let (open, poisoned): (i64, i64) = (row.get(0), row.get(1));
    if lost_often {
        #[expect(clippy::cast_precision_loss, reason = "a count for people")]
        seen.tell("runs that were given up, since their executors were lost three times", poisoned as f64, "");
    }
    let open = if lost_often { open } else { open + poisoned };
    seen.must(open == 0, || format!("{open} runs of the load did not complete"));
    let deadlocks = "SELECT coalesce(sum(deadlocks), 0)::bigint FROM pg_stat_database";
    let deadlocks: i64 = sql.query_one(deadlocks, &[]).await?.get(0);
    seen.must(deadlocks == 0, || format!("{deadlocks} deadlocks"));
    Ok(())
}

/// That the rest of the load was there too: what became of it is judged by the checker of histories.
pub(super) async fn sources(sql: &Client, seen: &mut Seen) -> Result<()> {
    let count = "SELECT (SELECT count(*) FROM firing WHERE starts_with(logical_key, 'event-key:')),
                        (SELECT count(*) FROM firing f JOIN backfill b ON b.id = f.trigger_id)";
    let row = sql.query_one(count, &[]).await?;
    for (at, name) in ["firings of events", "intervals of backfills"].into_iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a count for people")]
        seen.tell(name, row.get::<_, i64>(at) as f64, "");
    }
    Ok(())
}

/// The judgement on everything that the database, the executors and the clients wrote down.
pub(super) async fn history(sql: &Client, folder: &Path, promises: &Promises, seen: &mut Seen) -> Result<()> {
    Witness::dump(sql, folder).await?;
    promises.write(folder)?;
    let report = history::check(&History::read(folder)?);
    for verdict in report.verdicts {
        for violation in verdict.violations.iter().take(NAMED_MAX) {
            let all = verdict.violation_count;
            seen.broken.push(format!("{:?}: {}: {} (one of {all})", verdict.check, violation.id, violation.what));
        }
    }
    Ok(())
}
