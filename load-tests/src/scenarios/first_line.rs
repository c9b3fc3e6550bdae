//! From the API call to the start of a no-op, and to the first line of warm Python.

use crate::{
    cluster::Cluster,
    floor, project_files as files,
    report::{Bar, Figure, percentile},
};
use anyhow::{Context, Result};
use proto::v1 as pb;
use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const CALLS: usize = 60;

/// Milliseconds, median; beside them one durable commit.
pub(crate) async fn run() -> Result<Vec<Figure>> {
    let cluster = Cluster::start(8).await?;
    let folder = cluster.folder().join("load");
    let project = files::ProjectFolder::create(&folder)?;
    project.pipeline("noop", &[files::noop::<&str>("only", &[])])?;
    project.pipeline("python", &[files::python("stamp", &[])])?;
    let stamps = cluster.folder().join("stamps");
    project.custom(
        "stamp",
        &format!(
            "import time\nat = time.time_ns()\n@custom\ndef stamp(*args, **kwargs):\n    with open({:?}, 'a') as f:\n        f.write(f\"{{kwargs['n']}} {{at}}\\n\")\n",
            stamps.display().to_string()
        ),
    )?;
    cluster.deploy(&folder).await?;
    let sql = floor::connect(&cluster.database_url()).await?;
    let commit = floor::commit_ms(&sql, 1_000).await?;
    let mut to_noop = Vec::new();
    let mut to_python = Vec::new();
    for n in 0..CALLS + 5 {
        let called = now_ns()?;
        let run = start(&cluster, "noop", n).await?;
        cluster.wait(&run).await?;
        let ended = end_of_noop(&cluster, &run).await?;
        let (called_python, run) = (now_ns()?, start(&cluster, "python", n).await?);
        cluster.wait(&run).await?;
        let at = stamp_of(&stamps, n)?;
        // The first few warm the interpreter, connections and prepared statements.
        if n >= 5 {
            to_noop.push((ended - called) / 1e6);
            to_python.push((at - called_python) / 1e6);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(vec![
        figure("API call to the end of a no-op", percentile(&mut to_noop, 0.5), commit, 4.0),
        figure("API call to first line of Python", percentile(&mut to_python, 0.5), commit, 10.0),
    ])
}

fn figure(name: &'static str, figure: f64, floor: f64, bar: f64) -> Figure {
    Figure { name, figure, unit: "ms", floor, floor_is: "one durable commit, median", bar: Bar::FigureAtMost(bar) }
}

async fn start(cluster: &Cluster, pipeline: &str, n: usize) -> Result<String> {
    let number = prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(n as f64)) };
    let request = pb::CreateRunRequest {
        workspace: crate::cluster::WORKSPACE.to_owned(),
        pipeline: pipeline.to_owned(),
        variables: Some(prost_types::Struct { fields: [("n".to_owned(), number)].into() }),
        ..pb::CreateRunRequest::default()
    };
    Ok(cluster.runs().create_run(request).await?.into_inner().run.context("a run")?.id)
}

/// The no-op's end as the scheduler saw it: later than its start, so the figure is on the safe side of the bar.
async fn end_of_noop(cluster: &Cluster, run: &str) -> Result<f64> {
    let request = pb::ListBlockRunsRequest { run_id: run.to_owned(), ..pb::ListBlockRunsRequest::default() };
    let blocks = cluster.runs().list_block_runs(request).await?.into_inner().block_runs;
    let at = blocks.first().and_then(|block| block.completed_at).context("the block's end")?;
    #[expect(clippy::cast_precision_loss, reason = "microseconds survive")]
    let ns = at.seconds as f64 * 1e9 + f64::from(at.nanos);
    Ok(ns)
}

fn stamp_of(path: &Path, n: usize) -> Result<f64> {
    let text = std::fs::read_to_string(path)?;
    let prefixes = [format!("{n} "), format!("{n}.0 ")];
    let line = text.lines().find(|line| prefixes.iter().any(|prefix| line.starts_with(prefix.as_str())));
    let at = line.and_then(|line| line.split(' ').nth(1)).context("the block's stamp")?;
    Ok(at.parse()?)
}

fn now_ns() -> Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64() * 1e9)
}
