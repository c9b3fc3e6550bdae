//! The peers: what they need, and the program that measures each. Those are in `load-tests/peers`, a folder for each.

use super::{Measured, Work};
use anyhow::{Context, Result};
use provision::{ClusterOptions, PrivatePostgres, Python, npm};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// How long one peer may take for all of it, and to end when it is told to.
const PEER_MAX: Duration = Duration::from_secs(2_400);
const END_MAX: Duration = Duration::from_secs(60);
/// As much as the hungriest of them asks for.
const CONNECTIONS: u32 = 200;

/// A system that somebody would use instead, in one of the ways in which it is measured.
pub(super) struct System {
    /// As it is asked for.
    pub(super) name: &'static str,
    /// With its version.
    pub(super) label: &'static str,
    /// What it does not do, or what favours it.
    pub(super) note: &'static str,
    /// Below `peers`.
    folder: &'static str,
    /// Which way that is, as its program understands it.
    setting: &'static str,
}

const fn system(
    (name, folder, setting): (&'static str, &'static str, &'static str),
    label: &'static str,
    note: &'static str,
) -> System {
    System { name, label, note, folder, setting }
}

const AIRFLOW: &str = "a task is a process that talks to the API server";
const AWA: &str = "a function in a process that is always there, which is the client's too; no graph: a job adds the next, and \
     a fan-out is counted; its end is that of the last handler, before that is written down";
const BULLMQ: &str = "a function in a process that is always there, no Python; Redis: what waits must fit into memory, and \
     up to a second of it can be lost";
const BULLMQ_ALWAYS: &str = "as with a log that is written each second, but nothing is lost";
const DAGSTER: &str = "ops run inside the process of their run; by default each is a process of its own";
const GRAPHILE_WORKER: &str = "a function in a process that is always there, no Python; no graph: a job adds the next, and a \
     fan-out is counted; ended jobs are deleted, so there is no history";
const GRAPHILE_WORKER_BATCHED: &str = "as without, but 24 at once, 500 fetched ahead, ends written down in batches";
const MAGE: &str = "a block is a process; by default it looks every 10 s";
const PREFECT: &str = "tasks run inside the process of their run, and only report";
const RESTATE: &str = "a function in a process that is always there, no Python; no schedules: what is late are calls that \
     were asked for ahead of time";
const RESTATE_INLINE: &str = "as above, but a task is a step that runs where its handler does";
const TEMPORAL: &str = "activities are functions in a worker that is always there; not PostgreSQL, so no statement about its \
     ceiling";

/// Every peer that can be had from registries of packages: a name, a folder, a setting; a label; a note.
pub(super) const SYSTEMS: &[System] = &[
    system(("restate", "restate", "dispatched"), "Restate 1.7.12, a task is a call", RESTATE),
    system(("restate-inline", "restate", "inline"), "Restate 1.7.12, a task is a step", RESTATE_INLINE),
    system(("graphile-worker", "graphile-worker", "plain"), "graphile-worker 0.18.0", GRAPHILE_WORKER),
    system(
        ("graphile-worker-batched", "graphile-worker", "batched"),
        "graphile-worker 0.18.0, batched",
        GRAPHILE_WORKER_BATCHED,
    ),
    system(("awa", "awa", "8"), "awa 0.6.9, Python handlers", AWA),
    system(("awa-64", "awa", "64"), "awa 0.6.9, Python, 64 at once", AWA),
    system(("bullmq", "bullmq", "everysec"), "BullMQ 6.7.0, log each second", BULLMQ),
    system(("bullmq-always", "bullmq", "always"), "BullMQ 6.7.0, log each time", BULLMQ_ALWAYS),
    system(("temporal", "temporal", ""), "Temporal 1.32.0 dev server, SQLite", TEMPORAL),
    system(("airflow", "airflow", ""), "Airflow 3.3.2, LocalExecutor", AIRFLOW),
    system(("prefect", "prefect", ""), "Prefect 3.8.8", PREFECT),
    system(("dagster", "dagster", ""), "Dagster 1.13.27, in the run's process", DAGSTER),
    system(("mage", "mage", "1"), "Mage 0.9.80, looks each second", MAGE),
    system(("mage-default", "mage", "10"), "Mage 0.9.80, looks every 10 s", MAGE),
];

/// A line that a program says.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Said {
    Idle { memory_mb: f64, cpu_percent: f64 },
    Seconds { figure: String, seconds: Vec<f64> },
    Failed { failed: String },
}

/// Where its packages are.
struct Installed {
    environment: PathBuf,
    /// Those of npm's registry, where it has such.
    modules: Option<PathBuf>,
}

impl System {
    /// Installs it when it is not there, and lets it do the work. What fails is part of the answer.
    pub(super) async fn measure(&self, work: &Work) -> Measured {
        let mut measured = Measured::default();
        if let Err(error) = self.try_measure(work, &mut measured).await {
            measured.fail(format!("{error:#}"));
        }
        measured
    }

    async fn try_measure(&self, work: &Work, measured: &mut Measured) -> Result<()> {
        let installed = self.install().context("install it")?;
        let folder = TempDir::with_prefix("orrery-peer-")?;
        // The database's own user must be able to reach its folder.
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let options = ClusterOptions { max_connections: CONNECTIONS, ..ClusterOptions::DURABLE };
        let postgres = PrivatePostgres::start(&folder.path().join("postgres"), options)?;
        let done = self.work(&installed, folder.path(), &postgres, work, measured).await;
        postgres.stop()?;
        if done.is_err() || measured.failed.is_some() {
            // What it said is worth reading.
            eprintln!("{}: its logs are in {}", self.name, folder.keep().display());
        }
        done
    }

    fn install(&self) -> Result<Installed> {
        let folder = self.folder();
        let requirements = std::fs::read_to_string(folder.join("requirements.txt"))?;
        let environment = Python::find_or_install()?.environment(&requirements)?;
        let manifest = folder.join("package.json");
        let modules = if manifest.exists() { Some(npm::packages(&std::fs::read_to_string(manifest)?)?) } else { None };
        Ok(Installed { environment, modules })
    }

    fn folder(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(self.folder)
    }

    async fn work(
        &self,
        installed: &Installed,
        folder: &Path,
        postgres: &PrivatePostgres,
        work: &Work,
        measured: &mut Measured,
    ) -> Result<()> {
        let mut program = self.start(installed, folder, postgres, work)?;
        let heard = timeout(PEER_MAX, listen(&mut program, measured)).await;
        end(&mut program).await;
        heard.with_context(|| format!("it was not done after {} minutes", PEER_MAX.as_secs() / 60))?
    }

    fn start(&self, installed: &Installed, folder: &Path, postgres: &PrivatePostgres, work: &Work) -> Result<Child> {
        let programs = std::env::var_os("PATH").unwrap_or_default();
        let mut paths: Vec<PathBuf> = vec![installed.environment.join("bin")];
        paths.extend(std::env::split_paths(&programs));
        Command::new(installed.environment.join("bin/python"))
            .arg(self.folder().join("measure.py"))
            // Nothing of whoever measures: neither settings nor secrets.
            .env_clear()
            .env("PATH", std::env::join_paths(paths)?)
            .env("HOME", folder)
            .env("LANG", "C.UTF-8")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PEER_FOLDER", folder)
            .env("PEER_DATABASE_URL", postgres.tcp_url("postgres"))
            .env("PEER_MODULES", installed.modules.as_deref().unwrap_or(folder))
            .env("PEER_SETTING", self.setting)
            .env("PEER_WORK", serde_json::to_string(work)?)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start its program")
    }
}

/// Takes what the program says until it ends.
async fn listen(program: &mut Child, measured: &mut Measured) -> Result<()> {
    let output = program.stdout.take().context("the program's output")?;
    let mut lines = BufReader::new(output).lines();
    while let Some(line) = lines.next_line().await? {
        // Some libraries greet whoever imports them.
        match serde_json::from_str(&line) {
            Ok(Said::Idle { memory_mb, cpu_percent }) => {
                measured.idle_mb = Some(memory_mb);
                measured.idle_cpu_percent = Some(cpu_percent);
            }
            Ok(Said::Seconds { figure, seconds }) => drop(measured.seconds.insert(figure, seconds)),
            Ok(Said::Failed { failed }) => measured.fail(failed),
            Err(_) => {}
        }
    }
    Ok(())
}

/// Asks it to end, with all that it started, and then does not ask any more.
async fn end(program: &mut Child) {
    let pid = program.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // One that has ended cannot be asked.
        let _ = kill_process(pid, Signal::TERM);
    }
    if timeout(END_MAX, program.wait()).await.is_err() {
        let _ = program.kill().await;
    }
}
