//! A chain of 40 no-op blocks: what the cluster adds to a durable commit, per block. Once as it is, where no-ops are leased
//! ahead, and once with one lease at a time, as blocks with code of users have it.

use crate::{
    cluster::{Cluster, seconds_between},
    floor, project_files as files,
    report::{Bar, Figure, percentile},
};
use anyhow::Result;

const BLOCKS: usize = 40;
const RUNS: usize = 30;
/// The same blocks in a pipeline with a limit that they do not reach: where there is one, nothing is leased ahead.
const ONE_BY_ONE: &str = "one_by_one";

/// Milliseconds a block against milliseconds a commit.
pub(crate) async fn run() -> Result<Vec<Figure>> {
    let cluster = Cluster::start(8).await?;
    let folder = cluster.folder().join("load");
    let project = files::ProjectFolder::create(&folder)?;
    let names: Vec<String> = (0..BLOCKS).map(|at| format!("block_{at}")).collect();
    let blocks: Vec<_> =
        (0..BLOCKS).map(|at| files::noop(&names[at], if at == 0 { &[] } else { &names[at - 1..at] })).collect();
    project.pipeline("chain", &blocks)?;
    project.limited_pipeline(ONE_BY_ONE, &blocks, BLOCKS)?;
    cluster.deploy(&folder).await?;
    let sql = floor::connect(&cluster.database_url()).await?;
    cluster.run("chain").await?;
    let before = floor::commit_ms(&sql, 1_000).await?;
    let ahead = block_ms(&cluster, "chain").await?;
    let between = floor::commit_ms(&sql, 1_000).await?;
    cluster.run(ONE_BY_ONE).await?;
    let one_by_one = block_ms(&cluster, ONE_BY_ONE).await?;
    let after = floor::commit_ms(&sql, 1_000).await?;
    let figure = |name, figure, floor, bar| Figure {
        name,
        figure,
        unit: "ms",
        floor,
        floor_is: "one durable commit, median",
        bar,
    };
    Ok(vec![
        figure("chain, per block", ahead, f64::midpoint(before, between), Bar::AtMost(2.0)),
        figure("chain, one lease at a time", one_by_one, f64::midpoint(between, after), Bar::Told),
    ])
}

/// Median time of a run, by block.
async fn block_ms(cluster: &Cluster, pipeline: &str) -> Result<f64> {
    let mut samples = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let run = cluster.run(pipeline).await?;
        samples.push(seconds_between(run.started_at, run.completed_at)? * 1000.0 / BLOCKS as f64);
    }
    Ok(percentile(&mut samples, 0.5))
}
