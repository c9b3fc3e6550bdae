//! `cargo xtask test` and `cargo xtask ci`: every test, all of them even when one fails; CI checks the house too.

use crate::{
    kube,
    step::{self, Count, Skips},
    suite::Suite,
    tidy, workspace,
};
use anyhow::{Context, Result};
use provision::{
    Postgres, Python, Rscript, TestServer, browser,
    kubelab::{self, Kubelab},
};
use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
    time::Instant,
};

/// The Python that is tested with Python: the runner inside executors, and the client.
const PACKAGES: [(&str, &str); 2] =
    [("the runner's tests", "services/executor/python"), ("the Python client's tests", "clients/python")];
/// Tells tests that there is no Kubernetes, and why.
const WITHOUT_KUBERNETES: &str = "ORRERY_WITHOUT_KUBERNETES";
/// Tells the runner's tests where the programs of a PostgreSQL server are.
const POSTGRES_BIN: &str = "ORRERY_POSTGRES_BIN";
/// What the runner's environments hold; the client needs nothing.
const REQUIREMENTS: &str = "services/executor/python/base-requirements.txt";
/// Further libraries that outputs and blocks know and that are heavy: tried on demand only.
const LIBRARIES: &str = "services/executor/python/tests/libraries.txt";

/// How thorough a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What a person waits for: no check of the sources, no matrix, and Kubernetes only where it was built before.
    Tests,
    /// Everything, and what cannot be run on Kubernetes or in a browser has failed.
    All,
}

/// Runs the tests, and prints `N passed, N failed, N skipped` as its last line.
pub(crate) fn run(extent: Extent) -> Result<ExitCode> {
    let postgres = Postgres::find_or_install()?;
    println!("PostgreSQL {} in {}", postgres.major, postgres.bin.display());
    let python = Python::find_or_install()?;
    println!("Python {}.{} at {}", python.version.0, python.version.1, python.path.display());

    match Rscript::find_or_install() {
        Ok(rscript) => println!("R at {}", rscript.path.display()),
        Err(error) => println!("blocks in R are not tested: {error}"),
    }
    let without = without_kubernetes(extent);
    // It looks at what runs on Kubernetes.
    let lacks_browser = without.is_none() && is_without_browser();

    let mut count = Count::default();
    if extent == Extent::All {
        count += sources()?;
    }
    let (suite, built) = Suite::build()?;
    count += built;
    let in_python = python_tests(&python, &postgres)?;
    if built.failed == 0 {
        let skips = Skips::new()?;
        let mut variables = vec![skips.variable()];
        variables.extend(without.as_ref().map(|reason| (WITHOUT_KUBERNETES, reason.clone())));
        count += skips.taken_from(suite.run(extent, &variables, in_python)?)?;
    } else {
        count += step::side_by_side(1, in_python)?;
    }
    if without.is_some() || lacks_browser {
        count += Count { failed: (extent == Extent::All).into(), ..Count::default() };
    }
    if let Err(error) = TestServer::stop_if_unused() {
        println!("the test server was left running: {error}");
    }
    if let Err(error) = kubelab::TestLab::stop_if_unused() {
        println!("the tests' Kubernetes was left running: {error}");
    }
    if extent == Extent::Tests {
        println!(
            "LEFT OUT: the matrices of faults and activities, the mutants, the replicas that are killed, and the checks of the sources, which `cargo xtask ci` has"
        );
    }
    if let Some(reason) = without {
        println!("SKIPPED: every test on Kubernetes: {reason}");
    }
    Ok(told(count))
}

/// Whether the sources are as the house wants them: what needs no test to be run.
fn sources() -> Result<Count> {
    let mut count = step::check("format", workspace::cargo().args(["fmt", "--all", "--check"]))?;
    count += step::check(
        "clippy",
        workspace::cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]),
    )?;
    count += step::check(
        "docs",
        workspace::cargo().args(["doc", "--workspace", "--no-deps", "--quiet"]).env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    count += tidy::check()?;
    Ok(count)
}

/// `cargo xtask test --libraries`: the runner's tests alone, in an environment with libraries that are too heavy for the base.
pub(crate) fn run_with_libraries() -> Result<ExitCode> {
    let (python, postgres) = (Python::find_or_install()?, Postgres::find_or_install()?);
    let environment = python.environment(&[read(REQUIREMENTS)?, read(LIBRARIES)?].join("\n"))?;
    let (name, package) = PACKAGES[0];
    Ok(told(step::tests(name, &mut unittest(&environment, &postgres, package))?))
}

fn told(count: Count) -> ExitCode {
    println!("{} passed, {} failed, {} skipped", count.passed, count.failed, count.skipped);
    if count.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn read(file: &str) -> Result<String> {
    fs::read_to_string(workspace::root().join(file)).with_context(|| format!("cannot read {file}"))
}

/// Builds the Kubernetes that tests share, before they would wait for it; why not, where it cannot be had, or where nobody asked for
/// the ten minutes that its first build takes.
fn without_kubernetes(extent: Extent) -> Option<String> {
    if let Some(named) = Kubelab::named() {
        println!("Kubernetes {}", named.server);
        return None;
    }
    if extent == Extent::Tests && !kubelab::was_built(&kube::sources()).unwrap_or_default() {
        return Some(
            "its servers were not built yet; `cargo xtask kube up` does it, in ten to twenty minutes".to_owned(),
        );
    }
    let begun = Instant::now();
    match kubelab::build(&kube::sources()) {
        Ok(program) => {
            println!("Kubernetes in {}, after {:.0} s", program.display(), begun.elapsed().as_secs_f64());
            None
        }
        Err(error) => {
            println!("SKIPPED: every test on Kubernetes: {error}");
            Some(error.to_string())
        }
    }
}

/// Finds or installs the browser in which a test looks at the pages, before it would wait for it; whether there is none.
fn is_without_browser() -> bool {
    match browser::find_or_install() {
        Ok(program) => println!("Chromium at {}", program.display()),
        Err(error) => {
            println!("SKIPPED: what somebody sees in a browser: {error}");
            return true;
        }
    }
    false
}

/// The packages' own tests, in the environment that blocks get.
fn python_tests(python: &Python, postgres: &Postgres) -> Result<Vec<(String, Command)>> {
    let environment = python.environment(&read(REQUIREMENTS)?)?;
    Ok(PACKAGES.map(|(name, package)| (name.to_owned(), unittest(&environment, postgres, package))).into())
}

fn unittest(environment: &Path, postgres: &Postgres, package: &str) -> Command {
    let mut command = Command::new(environment.join("bin/python"));
    // Verbose, since only then it says why a test was skipped.
    command.args([
        "-m",
        "unittest",
        "discover",
        "--verbose",
        "--start-directory",
        "tests",
        "--top-level-directory",
        ".",
    ]);
    command.current_dir(workspace::root().join(package)).env("PYTHONDONTWRITEBYTECODE", "1");
    // The server need not be one of the system's: blocks in SQL are tried on it all the same.
    command.env(POSTGRES_BIN, &postgres.bin);
    command
}
