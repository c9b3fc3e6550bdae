//! Running other programs to their end and keeping what they said.

use crate::error::{Error, Result};
use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Runs `command` to its end without input and returns what it wrote to stdout.
///
/// # Errors
/// The program cannot be started, or ends with another status than 0.
pub fn run(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    let output = command.stdin(Stdio::null()).output().map_err(|source| Error::File {
        action: "run",
        path: shown.clone().into(),
        source,
    })?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last = stderr.lines().chain(stdout.lines()).rfind(|l| !l.trim().is_empty()).unwrap_or("it said nothing");
    // The first error line tells more than the last one, which is often only "aborting".
    let output_line = stderr.lines().find(|l| l.to_ascii_lowercase().contains("error")).unwrap_or(last);
    Err(Error::Refused { command: shown, status: output.status.to_string(), output: output_line.trim().to_owned() })
}

/// The program's path when it is on `PATH` and executable.
#[must_use]
pub fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(program)).find(|p| is_executable(p))
}

/// Whether `path` is a file that somebody may execute.
#[must_use]
pub fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// Whether this process may install system packages: root on a machine with apt.
#[must_use]
pub fn can_apt() -> bool {
    rustix::process::geteuid().is_root() && on_path("apt-get").is_some()
}

/// Installs system packages, refreshing the package lists once when the first try fails.
///
/// # Errors
/// apt refuses twice.
pub fn apt_install(packages: &[&str]) -> Result<()> {
    eprintln!("installing {} with apt-get", packages.join(", "));
    let install = || {
        run(Command::new("apt-get")
            .args(["install", "--yes", "--no-install-recommends"])
            .args(packages)
            .env("DEBIAN_FRONTEND", "noninteractive"))
    };
    if install().is_ok() {
        return Ok(());
    }
    run(Command::new("apt-get").arg("update").env("DEBIAN_FRONTEND", "noninteractive"))?;
    install().map(|_| ())
}

fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|a| a.to_string_lossy().into_owned()));
    words.join(" ")
}
