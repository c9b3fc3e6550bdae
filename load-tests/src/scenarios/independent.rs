//! Ten thousand runs of one block, created through the public API in batches.

use crate::{
    cluster::{Cluster, WORKSPACE},
    floor, project_files as files,
    report::{Bar, Figure, percentile},
};
use anyhow::{Context, Result};
use proto::v1 as pb;
use std::time::{Duration, Instant};

const RUNS: usize = 10_000;
const BATCH: usize = 500;
const ROUNDS: usize = 3;

/// Whole runs a second, from the first request to the end of the last run, against batched SQL.
pub(crate) async fn run() -> Result<Vec<Figure>> {
    let cluster = Cluster::start(2_000).await?;
    let folder = cluster.folder().join("load");
    files::ProjectFolder::create(&folder)?.pipeline("one", &[files::noop::<&str>("only", &[])])?;
    cluster.deploy(&folder).await?;
    let sql = floor::connect(&cluster.database_url()).await?;
    cluster.run("one").await?;
    let before = floor::batched_tasks_per_s(&sql, Duration::from_secs(3)).await?;
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        rates.push(RUNS as f64 / seconds(&cluster, &sql, "one", RUNS).await?);
    }
    let after = floor::batched_tasks_per_s(&sql, Duration::from_secs(3)).await?;
    Ok(vec![Figure {
        name: "independent runs of one no-op",
        figure: percentile(&mut rates, 0.5),
        unit: "1/s",
        floor: f64::midpoint(before, after),
        floor_is: "insert, claim, complete in batches of 100",
        bar: Bar::AtLeast(0.5),
    }])
}

/// How long so many runs of a pipeline take, created in batches, from the first request to the end of the last run.
pub(super) async fn seconds(
    cluster: &Cluster,
    sql: &tokio_postgres::Client,
    pipeline: &str,
    runs: usize,
) -> Result<f64> {
    let started = Instant::now();
    let mut last = String::new();
    for first in (0..runs).step_by(BATCH) {
        let one = pb::CreateRunRequest {
            workspace: WORKSPACE.to_owned(),
            pipeline: pipeline.to_owned(),
            ..pb::CreateRunRequest::default()
        };
        let request = pb::BatchCreateRunsRequest {
            workspace: WORKSPACE.to_owned(),
            pipeline: pipeline.to_owned(),
            requests: vec![one; BATCH.min(runs - first)],
        };
        let ids = cluster.runs().batch_create_runs(request).await?.into_inner().run_ids;
        last = ids.last().context("ids")?.clone();
    }
    cluster.wait(&last).await?;
    let unfinished = "SELECT count(*) FROM unfinished_run";
    while sql.query_one(unfinished, &[]).await?.get::<_, i64>(0) > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(started.elapsed().as_secs_f64())
}
