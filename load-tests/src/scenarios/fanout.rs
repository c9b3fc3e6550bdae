//! Dynamic children: ten thousand must cost, each, what a hundred do; and most of what bare batched SQL costs.

use crate::{
    cluster::{Cluster, seconds_between},
    floor, project_files as files,
    report::{Bar, Figure, percentile},
};
use anyhow::Result;
use std::time::Duration;

const WIDE: u32 = 10_000;
const NARROW: u32 = 100;

/// Microseconds a child of 10,000 against one of 100; children a second against batched SQL.
pub(crate) async fn run() -> Result<Vec<Figure>> {
    let cluster = Cluster::start(1_000).await?;
    let folder = cluster.folder().join("load");
    let project = files::ProjectFolder::create(&folder)?;
    for (name, width) in [("wide", WIDE), ("narrow", NARROW)] {
        project.pipeline(name, &[files::noop_items("source", width), files::noop("child", &["source"])])?;
    }
    cluster.deploy(&folder).await?;
    let sql = floor::connect(&cluster.database_url()).await?;
    cluster.run("wide").await?;
    let before = floor::batched_tasks_per_s(&sql, Duration::from_secs(3)).await?;
    let wide = per_child_us(&cluster, "wide", WIDE, 5).await?;
    let narrow = per_child_us(&cluster, "narrow", NARROW, 40).await?;
    let after = floor::batched_tasks_per_s(&sql, Duration::from_secs(3)).await?;
    Ok(vec![
        Figure {
            name: "fan-out of 10,000, per child",
            figure: wide,
            unit: "µs",
            floor: narrow,
            floor_is: "per child of 100",
            bar: Bar::AtMost(1.5),
        },
        Figure {
            name: "no-op children of a wide run",
            figure: 1e6 / wide,
            unit: "1/s",
            floor: f64::midpoint(before, after),
            floor_is: "insert, claim, complete in batches of 100",
            bar: Bar::AtLeast(0.7),
        },
    ])
}

async fn per_child_us(cluster: &Cluster, pipeline: &str, children: u32, runs: usize) -> Result<f64> {
    let mut samples = Vec::new();
    for _ in 0..runs {
        let run = cluster.run(pipeline).await?;
        samples.push(seconds_between(run.started_at, run.completed_at)? * 1e6 / f64::from(children));
    }
    Ok(percentile(&mut samples, 0.5))
}
