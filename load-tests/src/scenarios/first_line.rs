//! From the API call to the start of a no-op, and to the first line of warm Python.

use crate::{
    cluster::Cluster,
    floor, project_files as files,
    report::{Bar, Figure, percentile},
};
use anyhow::{Context, Result};
use load_tests::history::{JournalEvent, JournalLine};
use proto::v1 as pb;
use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use uuid::Uuid;

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
    let mut to_start = Vec::new();
    let mut to_end = Vec::new();
    let mut to_python = Vec::new();
    for n in 0..CALLS + 5 {
        let called = now_ns()?;
        let run_of_noop = start(&cluster, "noop", n).await?;
        cluster.wait(&run_of_noop).await?;
        let ended = end_of_noop(&cluster, &run_of_noop).await?;
        let (called_python, run) = (now_ns()?, start(&cluster, "python", n).await?);
        cluster.wait(&run).await?;
        let at = stamp_of(&stamps, n)?;
        // The first few warm the interpreter, connections and prepared statements.
        if n >= 5 {
            to_start.push((start_of_noop(&cluster, &run_of_noop)? - called) / 1e6);
            to_end.push((ended - called) / 1e6);
            to_python.push((at - called_python) / 1e6);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(vec![
        figure("API call to the start of a no-op", to_start, commit, Bar::FigureAtMost(4.0)),
        figure("API call to the end of a no-op", to_end, commit, Bar::Told),
        figure("API call to first line of Python", to_python, commit, Bar::FigureAtMost(10.0)),
    ])
}

fn figure(name: &'static str, mut samples: Vec<f64>, floor: f64, bar: Bar) -> Figure {
    let figure = percentile(&mut samples, 0.5);
    Figure { name, figure, unit: "ms", floor, floor_is: "one durable commit, median", bar }
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

/// When the executor began it, by its own journal and this machine's clock.
fn start_of_noop(cluster: &Cluster, run: &str) -> Result<f64> {
    let run: Uuid = run.parse()?;
    let journal = std::fs::read_to_string(cluster.history().join("executor-1.jsonl"))?;
    let begins = |line: &JournalLine| matches!(&line.event, JournalEvent::Assigned { attempt } if attempt.run == run);
    let mut lines = journal.lines().rev().filter_map(|line| serde_json::from_str::<JournalLine>(line).ok());
    let at_us = lines.find(begins).context("the no-op in the executor's journal")?.at_us;
    #[expect(clippy::cast_precision_loss, reason = "microseconds survive")]
    let ns = at_us as f64 * 1e3;
    Ok(ns)
}

/// The no-op's end, as its scheduler saw it.
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
