//! Thousands of schedules that are due in the same second: how late the last one fires.

use crate::{
    cluster::{Cluster, WORKSPACE},
    floor, project_files as files,
    report::{Bar, Figure},
};
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

/// Pipelines that the schedules are spread over.
const PIPELINES: usize = 10;
/// Between the making of the schedules and their time.
const LEAD_S: f64 = 8.0;
/// How long the last firing is waited for.
const WAIT: Duration = Duration::from_secs(60);

/// Every trigger of the herd is due at one instant: the anchor of its interval.
const INSERT: &str = "
    INSERT INTO trigger (id, pipeline_id, name, kind, active, source, spec)
    SELECT gen_random_uuid(), p.id, $1::text || n, 'time', true, 'api',
           jsonb_build_object('kind', jsonb_build_object('type', 'schedule', 'every', '@every 1d', 'zone', 'UTC', 'start', $2::text))
    FROM generate_series(1, $3::integer) AS n
    JOIN (SELECT id, row_number() OVER (ORDER BY id) - 1 AS place, count(*) OVER () AS all FROM pipeline) AS p
      ON p.place = n % p.all";

/// Milliseconds from the due time to the commit of the last firing; beside them one durable commit.
pub(crate) async fn run() -> Result<Vec<Figure>> {
    let cluster = Cluster::start(2_000).await?;
    let folder = cluster.folder().join("load");
    let project = files::ProjectFolder::create(&folder)?;
    for n in 0..PIPELINES {
        project.pipeline(&format!("herd_{n}"), &[files::noop::<&str>("only", &[])])?;
    }
    cluster.deploy(&folder).await?;
    let sql = floor::connect(&cluster.database_url()).await?;
    for n in 0..PIPELINES {
        cluster.run(&format!("herd_{n}")).await?;
    }
    let commit = floor::commit_ms(&sql, 1_000).await?;
    let mut figures = Vec::new();
    for (name, count, bar) in
        [("1,000 schedules, last fired", 1_000, 200.0), ("10,000 schedules, last fired", 10_000, 2_000.0)]
    {
        let late = herd(&sql, count).await?;
        figures.push(Figure {
            name,
            figure: late,
            unit: "ms",
            floor: commit,
            floor_is: "one durable commit, median",
            bar: Bar::FigureAtMost(bar),
        });
    }
    Ok(figures)
}

/// How late the last one of so many fires.
async fn herd(sql: &tokio_postgres::Client, count: i32) -> Result<f64> {
    let prefix = format!("{WORKSPACE}-{count}-");
    let due = "SELECT to_char(date_trunc('second', clock_timestamp() + make_interval(secs => $1)) AT TIME ZONE 'UTC',
                              'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')";
    let due: String = sql.query_one(due, &[&(LEAD_S + f64::from(count) / 2_000.0)]).await?.get(0);
    sql.execute(INSERT, &[&prefix, &due, &count]).await?;
    let fired = "
        SELECT count(*), extract(epoch FROM max(pg_xact_commit_timestamp(f.xmin)) - $2::text::timestamptz)::float8 * 1000
        FROM firing f JOIN trigger t ON t.id = f.trigger_id
        WHERE starts_with(t.name, $1) AND f.decided = 'fired'";
    let begun = Instant::now();
    loop {
        let row = sql.query_one(fired, &[&prefix, &due]).await?;
        if row.get::<_, i64>(0) == i64::from(count) {
            return row.get::<_, Option<f64>>(1).context("a firing");
        }
        ensure!(begun.elapsed() < WAIT, "{} of {count} schedules have fired", row.get::<_, i64>(0));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
