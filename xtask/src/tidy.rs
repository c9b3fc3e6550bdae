//! `cargo xtask tidy`: the rules of the house that no compiler checks.

mod dependencies;
mod schema;
mod sources;

use crate::{step::Count, workspace};
use anyhow::Result;
use provision::{command, npm};
use std::{
    path::PathBuf,
    process::{Command, ExitCode},
};

/// The package of the linter of protos.
const BUF: &str = r#"{"private":true,"dependencies":{"@bufbuild/buf":"1.75.0"}}"#;

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

/// `buf lint`. Without buf, npm installs it into the cache.
fn lint_protos() -> Count {
    let installed = || Ok(npm::packages(BUF)?.join("node_modules/.bin/buf"));
    let buf: provision::Result<PathBuf> = command::on_path("buf").map_or_else(installed, Ok);
    let buf = match buf {
        Ok(buf) => buf,
        Err(error) => {
            println!("SKIPPED: there is no buf ({error}): the protos were not linted");
            return Count { skipped: 1, ..Count::default() };
        }
    };
    let ok = Command::new(buf).arg("lint").current_dir(workspace::root()).status().is_ok_and(|s| s.success());
    println!("<== tidy protos: {}", if ok { "ok" } else { "buf lint found something" });
    Count::of_check(ok)
}
