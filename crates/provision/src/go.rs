//! A Go toolchain: found on the machine, else installed.
//!
//! Knows nothing of what is built with it.

use crate::{
    command,
    error::{Error, Result},
};
use std::{env, path::PathBuf, process::Command};

/// From this version on, Go fetches the newer toolchain that a module asks for by itself.
pub const OLDEST: (u32, u32) = (1, 21);

/// The `go` program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Go {
    /// The program.
    pub path: PathBuf,
    /// Its own version; a module may ask for a newer one.
    pub version: (u32, u32),
}

impl Go {
    /// The one on `PATH`, else the one in the folder where its installer puts it.
    #[must_use]
    pub fn find() -> Option<Self> {
        let usual = PathBuf::from("/usr/local/go/bin/go");
        let found = command::on_path("go").or_else(|| command::is_executable(&usual).then_some(usual))?;
        // Outside every module and without fetching anything: its own version is asked.
        let said = command::run(
            Command::new(&found).args(["env", "GOVERSION"]).current_dir(env::temp_dir()).env("GOTOOLCHAIN", "local"),
        );
        let version = version(&said.ok()?)?;
        (version >= OLDEST).then_some(Self { path: found, version })
    }

    /// As [`Go::find`], and otherwise installs Debian's package when this process may.
    ///
    /// # Errors
    /// Nothing is found and nothing can be installed; the message says what to install.
    pub fn find_or_install() -> Result<Self> {
        if let Some(found) = Self::find() {
            return Ok(found);
        }
        let tried = if command::can_apt() { command::apt_install(&["golang-go"]).err() } else { None };
        Self::find().ok_or_else(|| Error::Missing {
            what: "Go",
            remedy: format!(
                "install Go {}.{} or newer, such as Debian's package `golang-go` or the archive of the Go project{}",
                OLDEST.0,
                OLDEST.1,
                tried.map(|error| format!(" ({error})")).unwrap_or_default()
            ),
        })
    }
}

/// `go1.26.8` and `go1.27rc1` as numbers.
fn version(said: &str) -> Option<(u32, u32)> {
    let mut parts = said.trim().strip_prefix("go")?.split('.');
    let major = parts.next()?.parse().ok()?;
    let minor: String = parts.next()?.chars().take_while(char::is_ascii_digit).collect();
    Some((major, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_are_numbers() {
        assert_eq!(version("go1.26.8\n"), Some((1, 26)));
        assert_eq!(version("go1.27rc1"), Some((1, 27)));
        assert_eq!(version("devel +abc"), None);
    }
}
