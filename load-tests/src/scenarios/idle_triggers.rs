//! A hundred thousand active triggers of which none is due, against none at all: what the scheduler uses meanwhile.

use crate::{
    cluster::Cluster,
    floor, project_files as files,
    report::{Bar, Figure},
};
use anyhow::{Result, ensure};
use load_tests::usage::Usage;
use std::time::{Duration, Instant};

const TRIGGERS: i32 = 100_000;
/// How long the scheduler's use of its processor is watched.
const WATCH: Duration = Duration::from_secs(10);
/// How long it may take to read all of them.
const READ: Duration = Duration::from_secs(120);

const INSERT: &str = "
    INSERT INTO trigger (id, pipeline_id, name, kind, active, source, spec)
    SELECT gen_random_uuid(), p.id, 'idle-' || n, 'time', true, 'api',
           jsonb_build_object('kind', jsonb_build_object('type', 'schedule', 'every', (n % 60) || ' 3 1 1 *', 'zone', 'UTC'))
    FROM generate_series(1, $1::integer) AS n CROSS JOIN (SELECT id FROM pipeline LIMIT 1) AS p";

/// Percent of a core, and megabytes; beside them the same scheduler with no trigger.
pub(crate) async fn run() -> Result<Vec<Figure>> {
    let mut cluster = Cluster::start(8).await?;
    let folder = cluster.folder().join("load");
    files::ProjectFolder::create(&folder)?.pipeline("idle", &[files::noop::<&str>("only", &[])])?;
    cluster.deploy(&folder).await?;
    let sql = floor::connect(&cluster.database_url()).await?;
    let pid = cluster.service("scheduler-1")?.pid();
    let (cpu_without, memory_without) = watch(pid).await;
    sql.execute(INSERT, &[&TRIGGERS]).await?;
    let begun = Instant::now();
    let read = "SELECT count(*) FROM trigger_state WHERE next_due IS NOT NULL";
    while sql.query_one(read, &[]).await?.get::<_, i64>(0) < i64::from(TRIGGERS) {
        ensure!(begun.elapsed() < READ, "the scheduler has not read all triggers");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // Definitions count as edited lately for a minute, and are looked at each second meanwhile.
    sql.execute("UPDATE trigger SET updated_at = now() - interval '1 hour'", &[]).await?;
    let (cpu, memory) = watch(pid).await;
    let figure = |name, figure, unit, floor, bar| Figure {
        name,
        figure,
        unit,
        floor,
        floor_is: "the same with no trigger",
        bar: Bar::FigureAtMost(bar),
    };
    Ok(vec![
        figure("100,000 idle triggers, processor", cpu, "% of a core", cpu_without, 1.0),
        figure("100,000 idle triggers, memory", memory, "MB", memory_without, 150.0),
    ])
}

async fn watch(pid: u32) -> (f64, f64) {
    let before = Usage::of(&[pid]);
    tokio::time::sleep(WATCH).await;
    let after = Usage::of(&[pid]);
    ((after - before).cpu_s / WATCH.as_secs_f64() * 100.0, after.memory_mb)
}
