//! Python no-op blocks against a bare loop that forks the same warm interpreter once per task.

use crate::{
    cluster::{Cluster, seconds_between},
    project_files as files,
    report::{Bar, Figure, percentile},
};
use anyhow::{Context, Result, ensure};
use std::process::Command;

const CHILDREN: u32 = 400;
const SLOTS: u32 = 4;
const RUNS: usize = 3;

/// The floor: fork, run nothing, reap; as many at once as the executor has slots.
const FORK_LOOP: &str = "
import os, sys, time, gc
os.environ['OPENBLAS_NUM_THREADS'] = '1'
import pandas, pyarrow, pyarrow.parquet, yaml, jinja2, joblib, duckdb
gc.collect(); gc.freeze()
count, slots, running = int(sys.argv[1]), int(sys.argv[2]), 0
started = time.monotonic()
for _ in range(count):
    if running == slots:
        os.wait(); running -= 1
    if os.fork() == 0:
        os.setsid()
        os._exit(0)
    running += 1
while running:
    os.wait(); running -= 1
print(count / (time.monotonic() - started))
";

/// Blocks a second.
pub(crate) async fn run() -> Result<Vec<Figure>> {
    let cluster = Cluster::start(SLOTS).await?;
    let folder = cluster.folder().join("load");
    let project = files::ProjectFolder::create(&folder)?;
    let mut source = files::python("source", &[]);
    source["configuration"] = serde_json::json!({ "dynamic": true });
    project.pipeline("python", &[source, files::python("nothing", &["source"])])?;
    project
        .custom("source", &format!("@custom\ndef source(*args, **kwargs):\n    return [list(range({CHILDREN}))]\n"))?;
    project.custom("nothing", "@custom\ndef nothing(*args, **kwargs):\n    return None\n")?;
    cluster.deploy(&folder).await?;
    // The first run warms the interpreter.
    cluster.run("python").await?;
    let before = fork_loop(&cluster)?;
    let mut rates = Vec::new();
    for _ in 0..RUNS {
        let run = cluster.run("python").await?;
        rates.push(f64::from(CHILDREN) / seconds_between(run.started_at, run.completed_at)?);
    }
    let after = fork_loop(&cluster)?;
    Ok(vec![Figure {
        name: "Python no-op blocks",
        figure: percentile(&mut rates, 0.5),
        unit: "1/s",
        floor: f64::midpoint(before, after),
        floor_is: "forks of the same warm interpreter",
        bar: Bar::AtLeast(0.5),
    }])
}

fn fork_loop(cluster: &Cluster) -> Result<f64> {
    let python = cluster.base_env.join("bin/python");
    let output = Command::new(python)
        .args(["-c", FORK_LOOP, &CHILDREN.to_string(), &SLOTS.to_string()])
        .output()
        .context("run the fork loop")?;
    ensure!(output.status.success(), "the fork loop failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
}
