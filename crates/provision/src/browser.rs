//! A browser, for tests that see what a person sees: found on the machine, else installed.
//!
//! Knows nothing of how it is driven.

use crate::{
    command,
    error::{Error, Result},
};
use std::path::PathBuf;

/// Names under which Chromium and its kin are installed, the free one first.
const PROGRAMS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// The Chromium on `PATH`.
#[must_use]
pub fn find() -> Option<PathBuf> {
    PROGRAMS.iter().find_map(|program| command::on_path(program))
}

/// As [`find`], and otherwise installs Debian's package when this process may.
///
/// # Errors
/// Nothing is found and nothing can be installed; the message says what to install.
pub fn find_or_install() -> Result<PathBuf> {
    if let Some(found) = find() {
        return Ok(found);
    }
    let tried = if command::can_apt() { command::apt_install(&["chromium"]).err() } else { None };
    let tried = tried.map(|error| format!(" ({error})")).unwrap_or_default();
    find().ok_or_else(|| Error::Missing {
        what: "a browser",
        remedy: format!("install Chromium, such as Debian's package `chromium`{tried}"),
    })
}
