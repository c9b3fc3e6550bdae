//! Where downloaded and prepared things are kept between runs, and how two processes share them.

use crate::error::{Error, Result};
use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
};

/// The user's cache folder for Orrery.
///
/// `XDG_CACHE_HOME` and `HOME` as everywhere, except that root without `XDG_CACHE_HOME` gets `/var/cache/orrery`: the
/// server drops to another user, who could not look into root's home.
#[must_use]
pub fn dir() -> PathBuf {
    if let Some(xdg) = env::var_os("XDG_CACHE_HOME").filter(|v| !v.is_empty()) {
        return PathBuf::from(xdg).join("orrery");
    }
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/cache/orrery");
    }
    match env::var_os("HOME") {
        Some(home) => PathBuf::from(home).join(".cache/orrery"),
        None => env::temp_dir().join(format!("orrery-{}", rustix::process::geteuid().as_raw())),
    }
}

/// Opens `path` as a lock file, creating it and its folder.
///
/// # Errors
/// The file system refuses.
pub fn lock_file(path: &Path) -> Result<File> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::file("create", parent))?;
    }
    File::options().create(true).append(true).read(true).open(path).map_err(Error::file("open the lock file", path))
}

/// Waits until this process alone holds `path`; the lock ends with the returned file.
///
/// # Errors
/// The file system refuses.
pub fn lock(path: &Path) -> Result<File> {
    let file = lock_file(path)?;
    file.lock().map_err(Error::file("lock", path))?;
    Ok(file)
}

/// A name for `content` that changes when it does (FNV-1a, 64 bit). It keys caches; it protects nothing.
#[must_use]
pub fn key(content: &[u8]) -> String {
    let hash =
        content.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}
