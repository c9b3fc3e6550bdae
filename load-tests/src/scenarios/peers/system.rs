//! The peers: what they need, and the program that measures each. Those are in `load-tests/peers`, a folder for each.

use super::{Measured, Work};
use anyhow::{Context, Result};
use provision::{ClusterOptions, PrivatePostgres, Python};
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

/// A system that somebody would use instead.
pub(super) struct System {
    /// As it is asked for, and its folder.
    pub(super) name: &'static str,
    /// With its version and what else has to be known.
    pub(super) label: &'static str,
    requirements: &'static str,
}

macro_rules! systems {
    ($($name:literal: $label:literal),* $(,)?) => {
        /// Every peer that can be had from registries of packages.
        pub(super) const SYSTEMS: &[System] = &[$(System {
            name: $name,
            label: $label,
            requirements: include_str!(concat!("../../../peers/", $name, "/requirements.txt")),
        }),*];
    };
}

systems! {
    "airflow": "Airflow 3.3.2, LocalExecutor",
    "prefect": "Prefect 3.8.8, tasks in the run's process",
    "dagster": "Dagster 1.13.27, ops in the run's process",
    "mage": "Mage 0.9.80, loop of 1 s (default 10 s)",
    "temporal": "Temporal 1.32.0 dev server, SQLite",
}

/// A line that a program says.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Said {
    Idle { memory_mb: f64, cpu_percent: f64 },
    Seconds { figure: String, seconds: Vec<f64> },
    Failed { failed: String },
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
        let environment = Python::find_or_install()?.environment(self.requirements).context("install it")?;
        let folder = TempDir::with_prefix("orrery-peer-")?;
        // The database's own user must be able to reach its folder.
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let options = ClusterOptions { max_connections: CONNECTIONS, ..ClusterOptions::DURABLE };
        let postgres = PrivatePostgres::start(&folder.path().join("postgres"), options)?;
        let done = self.work(&environment, folder.path(), &postgres, work, measured).await;
        postgres.stop()?;
        if done.is_err() || measured.failed.is_some() {
            // What it said is worth reading.
            eprintln!("{}: its logs are in {}", self.name, folder.keep().display());
        }
        done
    }

    async fn work(
        &self,
        environment: &Path,
        folder: &Path,
        postgres: &PrivatePostgres,
        work: &Work,
        measured: &mut Measured,
    ) -> Result<()> {
        let mut program = self.start(environment, folder, postgres, work)?;
        let heard = timeout(PEER_MAX, listen(&mut program, measured)).await;
        end(&mut program).await;
        heard.with_context(|| format!("it was not done after {} minutes", PEER_MAX.as_secs() / 60))?
    }

    fn start(&self, environment: &Path, folder: &Path, postgres: &PrivatePostgres, work: &Work) -> Result<Child> {
        let python = environment.join("bin/python");
        let programs = std::env::var_os("PATH").unwrap_or_default();
        let mut paths: Vec<PathBuf> = vec![environment.join("bin")];
        paths.extend(std::env::split_paths(&programs));
        Command::new(python)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(self.name).join("measure.py"))
            // Nothing of whoever measures: neither settings nor secrets.
            .env_clear()
            .env("PATH", std::env::join_paths(paths)?)
            .env("HOME", folder)
            .env("LANG", "C.UTF-8")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PEER_FOLDER", folder)
            .env("PEER_DATABASE_URL", postgres.tcp_url("postgres"))
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
