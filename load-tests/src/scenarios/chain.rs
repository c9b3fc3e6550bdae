//! A chain of 40 no-op blocks: what the cluster adds to a durable commit, per block.

use crate::{
    cluster::{Cluster, seconds_between},
    floor, project_files as files,
    report::{Bar, Figure, percentile},
};
use anyhow::Result;

const BLOCKS: usize = 40;
const RUNS: usize = 30;

/// Milliseconds a block against milliseconds a commit.
pub(crate) async fn run() -> Result<Vec<Figure>> {
    let cluster = Cluster::start(8).await?;
    let folder = cluster.folder().join("load");
    let project = files::ProjectFolder::create(&folder)?;
    let names: Vec<String> = (0..BLOCKS).map(|at| format!("block_{at}")).collect();
    let blocks: Vec<_> =
        (0..BLOCKS).map(|at| files::noop(&names[at], if at == 0 { &[] } else { &names[at - 1..at] })).collect();
    project.pipeline("chain", &blocks)?;
    cluster.deploy(&folder).await?;
    let sql = floor::connect(&cluster.database_url()).await?;
    cluster.run("chain").await?;
    let before = floor::commit_ms(&sql, 1_000).await?;
    let mut samples = Vec::new();
    for _ in 0..RUNS {
        let run = cluster.run("chain").await?;
        samples.push(seconds_between(run.started_at, run.completed_at)? * 1000.0 / BLOCKS as f64);
    }
    let after = floor::commit_ms(&sql, 1_000).await?;
    Ok(vec![Figure {
        name: "chain, per block",
        figure: percentile(&mut samples, 0.5),
        unit: "ms",
        floor: f64::midpoint(before, after),
        floor_is: "one durable commit, median",
        bar: Bar::AtMost(2.0),
    }])
}
