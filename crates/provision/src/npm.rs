//! Packages of npm's registry, installed once for each list of them.
//!
//! Knows nothing of what runs with them.

use crate::{
    cache, command,
    error::{Error, Result},
};
use std::{fs, path::PathBuf, process::Command};

/// A folder with the `node_modules` of a `package.json` with this text, made once per text.
///
/// No script of a package is run. Two processes that want the same folder wait for each other; one that was interrupted
/// is made anew.
///
/// # Errors
/// There is no npm, or the packages cannot be installed.
pub fn packages(manifest: &str) -> Result<PathBuf> {
    let dir = cache::dir().join("npm").join(cache::key(manifest.as_bytes()));
    let complete = dir.join(".complete");
    let _lock = cache::lock(&dir.with_extension("lock"))?;
    if complete.exists() {
        return Ok(dir);
    }
    let npm = command::on_path("npm").ok_or_else(|| Error::Missing {
        what: "npm",
        remedy: "install Node.js with npm, such as Debian's package `npm`".to_owned(),
    })?;
    if dir.exists() {
        fs::remove_dir_all(&dir).map_err(Error::file("remove the unfinished", &dir))?;
    }
    fs::create_dir_all(&dir).map_err(Error::file("create", &dir))?;
    let list = dir.join("package.json");
    fs::write(&list, manifest).map_err(Error::file("write", list))?;
    let quietly = ["install", "--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"];
    command::run(Command::new(npm).args(quietly).current_dir(&dir))?;
    fs::write(&complete, "").map_err(Error::file("write", complete))?;
    Ok(dir)
}
