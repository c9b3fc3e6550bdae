//! `cargo xtask kube`: a real control plane with simulated GPU nodes, for tests and for people without GPUs.
//!
//! Refuses to know how it is made; that is `deploy/kubelab`, which `provision` builds and runs.

use crate::workspace;
use anyhow::{Context, Result};
use clap::Subcommand;
use provision::kubelab::{self, Kubelab};
use std::{
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, ExitCode},
};

/// What can be done with it.
#[derive(Subcommand)]
pub(crate) enum Task {
    /// Builds what is needed, starts it, and says how to reach it; does nothing when `ORRERY_KUBECONFIG` names a cluster
    Up {
        /// Passed to `kubelab serve`, such as `--shared 4`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Ends it and every process that its pods started
    Down,
    /// Says whether it runs and how to reach it
    Status,
    /// Runs kubectl on it
    Kubectl {
        /// What kubectl is to do
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

/// Does one of them.
pub(crate) fn run(task: &Task) -> Result<ExitCode> {
    let dir = kubelab::dir();
    match task {
        Task::Up { arguments } => {
            let running = match Kubelab::named() {
                Some(named) => named,
                None => match Kubelab::attach(&dir)? {
                    Some(running) => running,
                    None => {
                        let program = kubelab::build(&sources())?;
                        println!("looking for JupyterLab; its first installation takes a minute");
                        Kubelab::start(&program, &dir, arguments, &[kubelab::jupyter()?])?
                    }
                },
            };
            describe(&running);
        }
        Task::Down => {
            println!("{}", if kubelab::stop(&dir)? { "stopped" } else { "nothing ran" });
        }
        Task::Status => match current()? {
            Some(running) => describe(&running),
            None => {
                println!("nothing runs; `cargo xtask kube up` starts it");
                return Ok(ExitCode::FAILURE);
            }
        },
        Task::Kubectl { arguments } => {
            let running = current()?.context("nothing runs; `cargo xtask kube up` starts it")?;
            let mut kubectl = Command::new(kubelab::build(&sources())?);
            kubectl.arg("kubectl").args(arguments).env("KUBECONFIG", &running.kubeconfig);
            return Err(kubectl.exec()).context("cannot start kubectl");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn current() -> Result<Option<Kubelab>> {
    match Kubelab::named() {
        Some(named) => Ok(Some(named)),
        None => Ok(Kubelab::attach(&kubelab::dir())?),
    }
}

fn describe(running: &Kubelab) {
    println!("Kubernetes {} at {}", running.version, running.server);
    println!("nodes: {}", if running.nodes.is_empty() { "not simulated".to_owned() } else { running.nodes.join(", ") });
    println!("export KUBECONFIG={}", running.kubeconfig.display());
    println!("then: cargo xtask up --kubernetes $KUBECONFIG");
}

/// Where the Go module lies.
pub(crate) fn sources() -> PathBuf {
    workspace::root().join("deploy/kubelab")
}
