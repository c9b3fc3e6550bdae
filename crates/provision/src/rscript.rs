//! R: found on the machine, else installed.

use crate::{
    command,
    error::{Error, Result},
};
use std::path::PathBuf;

/// The program that runs scripts in R.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rscript {
    /// The program.
    pub path: PathBuf,
}

impl Rscript {
    /// The one on `PATH`.
    #[must_use]
    pub fn find() -> Option<Self> {
        command::on_path("Rscript").map(|path| Self { path })
    }

    /// As [`Rscript::find`], and otherwise installs Debian's package when this process may.
    ///
    /// # Errors
    /// Nothing is found and nothing can be installed; the message says what to install.
    pub fn find_or_install() -> Result<Self> {
        if let Some(found) = Self::find() {
            return Ok(found);
        }
        let tried = if command::can_apt() { command::apt_install(&["r-base-core"]).err() } else { None };
        let tried = tried.map(|error| format!(" ({error})")).unwrap_or_default();
        Self::find().ok_or_else(|| Error::Missing {
            what: "Rscript",
            remedy: format!("install R, such as Debian's package `r-base-core`{tried}"),
        })
    }
}
