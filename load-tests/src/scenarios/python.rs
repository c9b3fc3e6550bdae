//! Python no-op blocks against a bare loop that forks the same warm interpreter once per task.
//!
//! Rounds of both alternate, so that whatever else the machine does hits both.

use crate::{
    cluster::{Cluster, seconds_between},
    project_files as files,
    report::{Bar, Figure},
};
use anyhow::{Context, Result, ensure};
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

const CHILDREN: u32 = 400;
/// As many as an executor has by default on two cores.
const SLOTS: u32 = 8;
const ROUNDS: usize = 7;

/// The floor: fork, run nothing, reap; as many at once as the executor has slots. The interpreter is warmed by the very
/// function that warms the executor's.
const FORK_LOOP: &str = "
import os, sys, time
from orrery_runner import zygote
zygote.warm_up()

def forks(count, slots):
    running = 0
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
    return count / (time.monotonic() - started)

for line in sys.stdin:
    print(forks(*map(int, line.split())), flush=True)
";

/// Blocks a second: of all rounds the one with the median ratio.
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
    let mut forks = ForkLoop::start(&cluster.base_env)?;
    forks.rate()?;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let floor = forks.rate()?;
        let run = cluster.run_unwatched("python").await?;
        rounds.push(Figure {
            name: "Python no-op blocks",
            figure: f64::from(CHILDREN) / seconds_between(run.started_at, run.completed_at)?,
            unit: "1/s",
            floor,
            floor_is: "forks of the same warm interpreter",
            bar: Bar::AtLeast(0.5),
        });
    }
    rounds.sort_by(|a, b| a.ratio().total_cmp(&b.ratio()));
    Ok(vec![rounds.swap_remove(ROUNDS / 2)])
}

/// A warm interpreter that forks when it is told to.
struct ForkLoop {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl ForkLoop {
    fn start(environment: &Path) -> Result<Self> {
        let runner = Path::new(env!("CARGO_MANIFEST_DIR")).join("../services/executor/python");
        let mut process = Command::new(environment.join("bin/python"))
            .args(["-c", FORK_LOOP])
            .env("PYTHONPATH", runner)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the fork loop")?;
        let orders = process.stdin.take().context("the fork loop's stdin")?;
        let answers = BufReader::new(process.stdout.take().context("the fork loop's stdout")?);
        Ok(Self { process, orders, answers })
    }

    /// Forks a second of one round.
    fn rate(&mut self) -> Result<f64> {
        writeln!(self.orders, "{CHILDREN} {SLOTS}")?;
        self.orders.flush()?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        ensure!(!answer.is_empty(), "the fork loop ended");
        Ok(answer.trim().parse()?)
    }
}

impl Drop for ForkLoop {
    fn drop(&mut self) {
        // What has ended cannot be killed again.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
