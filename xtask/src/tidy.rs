//! `cargo xtask tidy`: the rules of the house that no compiler checks.

mod dependencies;
mod schema;
mod sources;

use crate::{step::Count, workspace};
use anyhow::Result;
use provision::command;
use std::process::{Command, ExitCode, Stdio};

/// What a rule found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Broken rules.
    errors: Vec<String>,
    /// Worth a look.
    warnings: Vec<String>,
}

/// Checks everything, or writes the schema anew.
pub(crate) fn run(write_schema: bool) -> Result<ExitCode> {
    if write_schema {
        schema::write()?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(if check()?.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Checks everything; each rule counts as one.
pub(crate) fn check() -> Result<Count> {
    println!("==> tidy");
    let mut count = report("dependencies", &dependencies::check(&workspace::metadata()?));
    count += report("sources", &sources::check()?);
    count += report("schema", &schema::check()?);
    count += lint_protos();
    Ok(count)
}

fn report(rule: &str, findings: &Findings) -> Count {
    for warning in &findings.warnings {
        println!("warning: {warning}");
    }
    for error in &findings.errors {
        println!("error: {error}");
    }
    println!("<== tidy {rule}: {} errors, {} warnings", findings.errors.len(), findings.warnings.len());
    Count::of_check(findings.errors.is_empty())
}

/// `buf lint`, where buf is installed; nothing is downloaded for it.
fn lint_protos() -> Count {
    let mut buf = if command::on_path("buf").is_some() {
        Command::new("buf")
    } else {
        let mut npx = Command::new("npx");
        npx.args(["--offline", "--no-install", "@bufbuild/buf"]);
        let known = npx.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !known.is_ok_and(|s| s.success()) {
            println!("SKIPPED: buf is not installed (npm install --global @bufbuild/buf): the protos were not linted");
            return Count { skipped: 1, ..Count::default() };
        }
        let mut npx = Command::new("npx");
        npx.args(["--offline", "--no-install", "@bufbuild/buf"]);
        npx
    };
    let ok = buf.arg("lint").current_dir(workspace::root()).status().is_ok_and(|s| s.success());
    println!("<== tidy protos: {}", if ok { "ok" } else { "buf lint found something" });
    Count::of_check(ok)
}
