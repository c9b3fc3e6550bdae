//! Names, sizes, headers and the place of SQL, read from the tracked files.

use super::Findings;
use crate::workspace;
use anyhow::{Context, Result, ensure};
use std::{fs, process::Command};

/// Longer files are worth splitting by duty.
const LINES_WARN: usize = 500;

/// Names that say nothing.
const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "helper", "helpers", "misc", "manager"];

/// Where SQL may stand outside `crates/store`.
const SQL_PLACES: &[&str] = &["crates/store/", "crates/testkit/", "load-tests/", "migrations/", "examples/", "xtask/"];

/// How a statement in a string literal begins.
const SQL_STARTS: &[&str] = &["\"SELECT ", "\"INSERT INTO ", "\"UPDATE ", "\"DELETE FROM ", "\"WITH "];

/// Reads every tracked Rust and SQL file.
pub(super) fn check() -> Result<Findings> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs", "*.sql"])
        .current_dir(workspace::root())
        .output()
        .context("cannot run git")?;
    ensure!(listed.status.success(), "git ls-files failed: is this a clone?");
    let mut findings = Findings::default();
    for path in String::from_utf8_lossy(&listed.stdout).lines() {
        // Deleted but not yet staged files are listed too.
        if let Ok(text) = fs::read_to_string(workspace::root().join(path)) {
            check_file(path, &text, &mut findings);
        }
    }
    Ok(findings)
}

fn check_file(path: &str, text: &str, findings: &mut Findings) {
    if path.ends_with(".sql") {
        if !allows_sql(path) {
            findings.errors.push(format!("{path}: SQL lives in crates/store/sql"));
        }
        return;
    }
    let name = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".rs");
    if name == "mod" {
        findings.errors.push(format!("{path}: name it after its folder, beside the folder"));
    }
    if path.split('/').any(|part| EMPTY_NAMES.contains(&part.trim_end_matches(".rs"))) {
        findings.errors.push(format!("{path}: the name says nothing; use a noun of the field"));
    }
    if !text.trim_start().starts_with("//!") {
        findings.errors.push(format!("{path}: begins without `//!`: say what it is for and what it refuses to know"));
    }
    let lines = text.lines().count();
    if lines > LINES_WARN {
        findings.warnings.push(format!("{path}: {lines} lines; split it by duty"));
    }
    if !allows_sql(path)
        && let Some(at) = text.lines().position(|l| SQL_STARTS.iter().any(|s| l.contains(s)))
    {
        findings.errors.push(format!("{path}:{}: SQL outside crates/store", at + 1));
    }
}

fn allows_sql(path: &str) -> bool {
    SQL_PLACES.iter().any(|p| path.starts_with(p)) || path.contains("/tests/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(path: &str, text: &str) -> usize {
        let mut findings = Findings::default();
        check_file(path, text, &mut findings);
        findings.errors.len()
    }

    #[test]
    fn each_rule_finds_its_breach() {
        assert_eq!(errors("crates/a/src/runs.rs", "//! Runs.\n"), 0);
        assert_eq!(errors("crates/a/src/runs.rs", "fn f() {}\n"), 1);
        assert_eq!(errors("crates/a/src/runs/mod.rs", "//! Runs.\n"), 1);
        assert_eq!(errors("crates/a/src/utils.rs", "//! Runs.\n"), 1);
        assert_eq!(errors("services/a/src/x.rs", "//! X.\nlet q = \"SELECT 1\";\n"), 1);
        assert_eq!(errors("crates/store/src/x.rs", "//! X.\nlet q = \"SELECT 1\";\n"), 0);
        assert_eq!(errors("services/a/x.sql", "SELECT 1"), 1);
    }
}
