//! `migrations/schema.sql`: what all migrations together give, written by pg_dump and compared with what is committed.

use super::Findings;
use crate::workspace;
use anyhow::{Context, Result, ensure};
use provision::{ClusterOptions, PrivatePostgres, command};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const HEADER: &str = "-- Written by `cargo xtask tidy --schema`: what all migrations together give.\n";

/// Writes the file anew.
pub(super) fn write() -> Result<()> {
    let (text, major) = dump()?;
    let file = file();
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    println!("wrote {} with PostgreSQL {major}", file.display());
    Ok(())
}

/// Compares the file with the migrations.
pub(super) fn check() -> Result<Findings> {
    let mut findings = Findings::default();
    let Ok(committed) = fs::read_to_string(file()) else {
        findings.errors.push("migrations/schema.sql is missing; write it with `cargo xtask tidy --schema`".into());
        return Ok(findings);
    };
    let (fresh, major) = dump()?;
    if committed == fresh {
        return Ok(findings);
    }
    let message = "migrations/schema.sql is not what the migrations give; write it with `cargo xtask tidy --schema`";
    // Another major version may write the same schema differently.
    let same_major = committed.lines().nth(1) == Some(&dumped_by(major));
    let list = if same_major { &mut findings.errors } else { &mut findings.warnings };
    list.push(format!("{message}{}", if same_major { "" } else { " (another PostgreSQL wrote it)" }));
    Ok(findings)
}

fn file() -> PathBuf {
    workspace::root().join("migrations/schema.sql")
}

fn dumped_by(major: u32) -> String {
    format!("-- PostgreSQL {major}")
}

/// The schema of a database that was migrated just now, and the major version that wrote it.
fn dump() -> Result<(String, u32)> {
    let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
    let postgres = PrivatePostgres::start(dir.path(), ClusterOptions::TEST)?;
    let result = migrated_schema(&postgres);
    postgres.stop()?;
    if !postgres.home().starts_with(dir.path()) {
        fs::remove_dir_all(postgres.home()).context("cannot remove the temporary cluster")?;
    }
    let major = postgres.programs().major;
    Ok((format!("{HEADER}{}\n\n{}", dumped_by(major), normalised(&result?)), major))
}

fn migrated_schema(postgres: &PrivatePostgres) -> Result<String> {
    let url = postgres.url("postgres");
    for migration in migrations(&workspace::root().join("migrations"))? {
        let mut psql = Command::new(postgres.programs().program("psql"));
        psql.args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]);
        let concurrent = fs::read_to_string(&migration)?.lines().next().is_some_and(|l| l.contains("concurrent"));
        if !concurrent {
            psql.arg("--single-transaction");
        }
        command::run(psql.arg("--file").arg(&migration).arg(&url))?;
    }
    let mut dump = Command::new(postgres.programs().program("pg_dump"));
    Ok(command::run(dump.args(["--schema-only", "--no-owner", "--no-privileges"]).arg(&url))?)
}

/// `V<number>__<name>.sql`, by number.
fn migrations(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .filter_map(|e| {
            let path = e.ok()?.path();
            let number = path.file_name()?.to_str()?.strip_prefix('V')?.split_once("__")?.0.parse().ok()?;
            Some((number, path))
        })
        .collect();
    ensure!(!found.is_empty(), "{} holds no migration", folder.display());
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Without session settings, comments and what changes from one dump to the next.
fn normalised(dump: &str) -> String {
    let noise = |l: &&str| {
        l.starts_with("--") || l.starts_with("SET ") || l.starts_with("SELECT pg_catalog.") || l.starts_with('\\')
    };
    let mut text = String::new();
    for line in dump.lines().filter(|l| !noise(l)) {
        if !(line.is_empty() && (text.is_empty() || text.ends_with("\n\n"))) {
            text.push_str(line);
            text.push('\n');
        }
    }
    text.trim_end().to_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_goes() {
        let dump =
            "--\n-- PostgreSQL dump\n--\n\\restrict x\n\nSET a = 1;\n\n\nCREATE TABLE t (\n    n integer\n);\n\n\n";
        assert_eq!(normalised(dump), "CREATE TABLE t (\n    n integer\n);\n");
    }
}
