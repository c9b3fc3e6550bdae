//! What became of the load: which logical times, calls and runs are missing, doubled or unfinished.

use super::{callers::Told, seen::Seen, stage::Load};
use anyhow::Result;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Things that are named of those that are wrong.
const NAMED_MAX: i64 = 5;

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
    let expected = i64::from(load.triggers) * i64::from(load.seconds);
    loop {
        let row = sql
            .query_one(
                "SELECT (SELECT coalesce(sum(f.times), 0) FROM firing f JOIN trigger t ON t.id = f.trigger_id
                          WHERE starts_with(t.name, 'every-'))::bigint,
                        (SELECT count(*) FROM run WHERE completed_at IS NULL)",
                &[],
            )
            .await?;
        let (decided, open): (i64, i64) = (row.get(0), row.get(1));
        if decided >= expected && open == 0 {
            return Ok(Drained { took: begun.elapsed(), open: None });
        }
        if begun.elapsed() > limit {
            let open = format!(
                "{} s after the load {decided} of {expected} logical times are decided, and {open} runs have not ended",
                limit.as_secs()
            );
            return Ok(Drained { took: begun.elapsed(), open: Some(open) });
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// Each trigger fires exactly at its times, and how late it does.
pub(super) async fn firings(sql: &Client, load: &Load, seen: &mut Seen) -> Result<()> {
    let rows = sql
        .query(
            "WITH due AS (
                 SELECT t.id, 'at:' || ($1::bigint + k) * 1000 AS key
                 FROM trigger t, generate_series(0, $2::bigint - 1) AS k WHERE starts_with(t.name, 'every-')
             ), fired AS (
                 SELECT f.trigger_id, f.logical_key, f.decided FROM firing f JOIN trigger t ON t.id = f.trigger_id
                 WHERE starts_with(t.name, 'every-')
             )
             SELECT coalesce(d.id, f.trigger_id)::text, coalesce(d.key, f.logical_key),
                    CASE WHEN f.trigger_id IS NULL THEN 'is lost' WHEN d.id IS NULL THEN 'is not in its schedule'
                         ELSE 'was ' || f.decided END, count(*) OVER ()
             FROM due d FULL JOIN fired f ON f.trigger_id = d.id AND f.logical_key = d.key
             WHERE f.trigger_id IS NULL OR d.id IS NULL OR f.decided <> 'fired' LIMIT $3",
            &[&load.from.as_second(), &i64::from(load.seconds), &NAMED_MAX],
        )
        .await?;
    for row in &rows {
        let (trigger, key, what): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        seen.broken.push(format!("{key} of trigger {trigger} {what} (one of {})", row.get::<_, i64>(3)));
    }
    let row = sql
        .query_one(
            "SELECT count(*), coalesce(percentile_cont(ARRAY[0.5, 0.99, 1]) WITHIN GROUP
                        (ORDER BY extract(epoch FROM f.created_at - f.execution_date)::float8), ARRAY[0, 0, 0]::float8[])
             FROM firing f JOIN trigger t ON t.id = f.trigger_id WHERE starts_with(t.name, 'every-') AND f.decided = 'fired'",
            &[],
        )
        .await?;
    seen.firings += u64::try_from(row.get::<_, i64>(0))?;
    let late: Vec<f64> = row.get(1);
    for (name, late) in [("median lateness", 0), (P99, 1), (WORST, 2)].map(|(n, i)| (n, late.get(i))) {
        seen.tell(name, late.copied().unwrap_or(f64::NAN), "s");
    }
    Ok(())
}

/// What was acknowledged is there, as it was told.
pub(super) async fn calls(sql: &Client, told: &Told, seen: &mut Seen) -> Result<()> {
    let (keys, runs): (Vec<&str>, Vec<&str>) =
        told.acknowledged.iter().map(|call| (call.key.as_str(), call.run_id.as_str())).unzip();
    let rows = sql
        .query(
            "SELECT a.key, count(*) OVER () FROM unnest($1::text[], $2::text[]) AS a (key, run_id)
             LEFT JOIN run r ON r.id = a.run_id::uuid WHERE r.id IS NULL
                OR (SELECT count(*) FROM firing f WHERE f.run_id = r.id AND strpos(f.logical_key, a.key) > 0) <> 1 LIMIT $3",
            &[&keys, &runs, &NAMED_MAX],
        )
        .await?;
    for row in &rows {
        let (key, all): (String, i64) = (row.get(0), row.get(1));
        seen.broken.push(format!("the acknowledged call {key} has not exactly one run (one of {all})"));
    }
    seen.must(told.given_up.is_empty(), || format!("{} calls were never answered", told.given_up.len()));
    Ok(())
}

/// Runs are those of firings, each ran what it consists of, once, and nothing is left over.
pub(super) async fn runs(sql: &Client, seen: &mut Seen) -> Result<()> {
    // Those that a row started by itself are its own to judge.
    let checks = [
        ("runs without exactly one firing", "(SELECT count(*) FROM firing f WHERE f.run_id = r.id) <> 1"),
        ("runs that did not complete", "r.status <> 'completed'"),
        (
            "runs whose one block did not complete once",
            "(SELECT count(*) FROM block_run b WHERE b.run_id = r.id AND b.status = 'completed') <> 1",
        ),
        (
            "results of an attempt that was not the last one",
            "EXISTS (SELECT FROM block_run b JOIN attempt a USING (run_id, block, child) WHERE b.run_id = r.id AND a.lease >= b.lease)",
        ),
    ];
    for (what, check) in checks {
        let of_load =
            "SELECT count(*) FROM run r JOIN pipeline p ON p.id = r.pipeline_id WHERE starts_with(p.name, 'load_')";
        let count: i64 = sql.query_one(&format!("{of_load} AND {check}"), &[]).await?.get(0);
        seen.must(count == 0, || format!("{count} {what}"));
    }
    let checks = [
        (
            "firings without their run",
            "SELECT count(*) FROM firing f WHERE f.run_id IS NOT NULL AND NOT EXISTS (SELECT FROM run r WHERE r.id = f.run_id)",
        ),
        ("deadlocks", "SELECT coalesce(sum(deadlocks), 0)::bigint FROM pg_stat_database"),
    ];
    for (what, check) in checks {
        let count: i64 = sql.query_one(check, &[]).await?.get(0);
        seen.must(count == 0, || format!("{count} {what}"));
    }
    Ok(())
}
