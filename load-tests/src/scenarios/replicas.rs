//! What one, two and four schedulers get done, and what a run costs the machine with each number of them.
//!
//! On a machine with cores to spare more schedulers do more; on one without, they only cost. The processor time of a run
//! tells that cost whatever else the machine does.

use crate::{
    cluster::{Cluster, Shape, WORKSPACE},
    floor, project_files as files,
    report::{Bar, Figure, percentile},
};
use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use load_tests::usage::Usage;
use proto::v1 as pb;
use std::time::{Duration, Instant};
use tokio_postgres::Client;

/// Enough for every scheduler to own some.
const PIPELINES: usize = 64;
/// Runs of a round, of one call, and callers at once. A round takes seconds, as the floor does: its beginning and its end, when
/// not everybody has something to do, are little of it.
const RUNS: usize = 40_000;
const BATCH: usize = 250;
const CALLERS: usize = 4;
const ROUNDS: usize = 3;
/// Executors, whatever the number of schedulers.
const EXECUTORS: usize = 4;
const FLOOR: Duration = Duration::from_secs(3);
const WAIT: Duration = Duration::from_secs(120);

/// What one number of schedulers came to.
struct Measured {
    runs_per_s: f64,
    floor_per_s: f64,
    /// Processor time of all services and PostgreSQL by run, microseconds.
    run_us: f64,
}

/// Runs a second beside as many clients of batched SQL as there are schedulers; processor time by run beside that with one.
pub(crate) async fn run() -> Result<Vec<Figure>> {
    let [one, two, four] = [measure(1).await?, measure(2).await?, measure(4).await?];
    let rate = |name, measured: &Measured, floor_is| Figure {
        name,
        figure: measured.runs_per_s,
        unit: "1/s",
        floor: measured.floor_per_s,
        floor_is,
        bar: Bar::AtLeast(0.5),
    };
    let cost = |name, measured: &Measured, bar| Figure {
        name,
        figure: measured.run_us,
        unit: "µs",
        floor: one.run_us,
        floor_is: "the same with one scheduler",
        bar: Bar::AtMost(bar),
    };
    Ok(vec![
        rate("runs, 1 scheduler", &one, "batches of 100 in SQL, one client"),
        rate("runs, 2 schedulers", &two, "batches of 100 in SQL, two clients"),
        rate("runs, 4 schedulers", &four, "batches of 100 in SQL, four clients"),
        cost("processor by run, 2 schedulers", &two, 1.5),
        cost("processor by run, 4 schedulers", &four, 2.0),
    ])
}

async fn measure(schedulers: usize) -> Result<Measured> {
    let mut cluster = Cluster::start_as(Shape {
        schedulers,
        scheduler_places: schedulers,
        executors: EXECUTORS,
        slots: 1_000,
        ..Shape::default()
    })
    .await?;
    let folder = cluster.folder().join("load");
    let project = files::ProjectFolder::create(&folder)?;
    for number in 0..PIPELINES {
        project.pipeline(&pipeline(number), &[files::noop::<&str>("only", &[])])?;
    }
    cluster.deploy(&folder).await?;
    let url = cluster.database_url();
    let clients = try_join_all((0..schedulers).map(|_| floor::connect(&url))).await?;
    let sql = clients.first().context("a client")?;
    until_shared(sql, schedulers).await?;
    round(&cluster, sql, RUNS / 16).await?;
    let before = floor::batched_tasks_per_s_by(&clients, FLOOR).await?;
    let mut processes: Vec<u32> = cluster.services().map(|(_, service)| service.pid()).collect();
    processes.push(cluster.postgres_pid()?);
    let used = Usage::of(&processes);
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        rates.push(RUNS as f64 / round(&cluster, sql, RUNS).await?.as_secs_f64());
    }
    let used = Usage::of(&processes) - used;
    let after = floor::batched_tasks_per_s_by(&clients, FLOOR).await?;
    Ok(Measured {
        runs_per_s: percentile(&mut rates, 0.5),
        floor_per_s: f64::midpoint(before, after),
        run_us: used.cpu_s * 1e6 / (RUNS * ROUNDS) as f64,
    })
}

fn pipeline(number: usize) -> String {
    format!("one_{:02}", number % PIPELINES)
}

/// From the first call to the end of the last run.
async fn round(cluster: &Cluster, sql: &Client, runs: usize) -> Result<Duration> {
    let begun = Instant::now();
    let last = try_join_all((0..CALLERS).map(|caller| call(cluster, caller, runs / BATCH / CALLERS))).await?;
    // Asked of the database only when little can be left: what asks takes from what is measured.
    try_join_all(last.iter().map(|run| cluster.wait(run))).await?;
    let unfinished = "SELECT EXISTS (SELECT FROM unfinished_run)";
    while sql.query_one(unfinished, &[]).await?.get::<_, bool>(0) {
        ensure!(begun.elapsed() < WAIT, "runs have not ended in {} s", WAIT.as_secs());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(begun.elapsed())
}

/// One client: so many batches, each of another pipeline. Answers its last run.
async fn call(cluster: &Cluster, caller: usize, batches: usize) -> Result<String> {
    let mut last = None;
    for number in 0..batches {
        let pipeline = pipeline(caller + number * CALLERS);
        let one = pb::CreateRunRequest {
            workspace: WORKSPACE.to_owned(),
            pipeline: pipeline.clone(),
            ..pb::CreateRunRequest::default()
        };
        let request =
            pb::BatchCreateRunsRequest { workspace: WORKSPACE.to_owned(), pipeline, requests: vec![one; BATCH] };
        last = cluster.runs().batch_create_runs(request).await?.into_inner().run_ids.pop();
    }
    last.context("runs")
}

/// Until every scheduler has its part of the shards.
async fn until_shared(sql: &Client, schedulers: usize) -> Result<()> {
    let begun = Instant::now();
    let shares = "SELECT count(s.id) FROM scheduler m LEFT JOIN shard s ON s.owner = m.id
                   WHERE m.lease_until > clock_timestamp() GROUP BY m.id";
    let fair = 256 / i64::try_from(schedulers)?;
    loop {
        let owned: Vec<i64> = sql.query(shares, &[]).await?.iter().map(|row| row.get(0)).collect();
        if owned.len() == schedulers && owned.iter().all(|share| (share - fair).abs() * 5 <= fair) {
            return Ok(());
        }
        ensure!(begun.elapsed() < WAIT, "after {} s the shares are {owned:?}", WAIT.as_secs());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
