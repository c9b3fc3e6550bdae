//! A Python that can run blocks, and the base environment that projects without requirements of their own get.
//!
//! Knows nothing of what runs in it.

use crate::{
    cache, command,
    error::{Error, Result},
};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The oldest version that the runner supports.
pub const OLDEST: (u32, u32) = (3, 9);

/// What a usable interpreter must be able to do, and how it tells its version.
const PROBE: &str = "import sys, venv, ensurepip; print(sys.version_info[0], sys.version_info[1])";

/// A Python interpreter with `venv`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Python {
    /// The interpreter.
    pub path: PathBuf,
    /// Major and minor version.
    pub version: (u32, u32),
}

impl Python {
    /// The first usable interpreter: `ORRERY_PYTHON`, then `python3`, then the versioned names, newest first.
    #[must_use]
    pub fn find() -> Option<Self> {
        let named = env::var_os("ORRERY_PYTHON").filter(|v| !v.is_empty()).map(PathBuf::from);
        let versioned = (OLDEST.1..=15).rev().map(|minor| format!("python3.{minor}"));
        let found = std::iter::once("python3".to_owned()).chain(versioned).filter_map(|n| command::on_path(&n));
        named.into_iter().chain(found).find_map(|path| Self::at(&path))
    }

    /// As [`Python::find`], and otherwise installs Debian's packages when this process may.
    ///
    /// # Errors
    /// Nothing is found and nothing can be installed; the message says what to install.
    pub fn find_or_install() -> Result<Self> {
        if let Some(found) = Self::find() {
            return Ok(found);
        }
        let tried = if command::can_apt() { command::apt_install(&["python3", "python3-venv"]).err() } else { None };
        Self::find().ok_or_else(|| Error::Missing {
            what: "Python",
            remedy: format!(
                "install Python {}.{} or newer with venv, such as Debian's packages `python3 python3-venv`{}",
                OLDEST.0,
                OLDEST.1,
                tried.map(|e| format!(" ({e})")).unwrap_or_default()
            ),
        })
    }

    fn at(path: &Path) -> Option<Self> {
        let said = command::run(Command::new(path).args(["-I", "-c", PROBE])).ok()?;
        let mut numbers = said.split_whitespace().map(|n| n.parse().ok());
        let version = (numbers.next()??, numbers.next()??);
        (version >= OLDEST).then(|| Self { path: path.to_path_buf(), version })
    }

    /// `pip` of this interpreter, or of a small environment of its own where the system's Python has none.
    pub(crate) fn pip_anywhere(&self) -> Result<Command> {
        if command::run(Command::new(&self.path).args(["-I", "-m", "pip", "--version"])).is_ok() {
            return Ok(pip(&self.path));
        }
        let dir = cache::dir().join("python/pip");
        if !dir.join("bin/python").exists() {
            command::run(Command::new(&self.path).args(["-I", "-m", "venv"]).arg(&dir))?;
        }
        Ok(pip(&dir.join("bin/python")))
    }

    /// An environment with the packages of a `requirements.txt` with this text, made once per text and interpreter;
    /// returns its folder.
    ///
    /// Two processes that want the same one wait for each other; one that was interrupted is made anew.
    ///
    /// # Errors
    /// The packages cannot be installed.
    pub fn environment(&self, requirements: &str) -> Result<PathBuf> {
        let made_from = format!("{} {}.{}\n{requirements}", self.path.display(), self.version.0, self.version.1);
        let dir = cache::dir().join("python").join(cache::key(made_from.as_bytes()));
        let complete = dir.join(".complete");
        let _lock = cache::lock(&dir.with_extension("lock"))?;
        if complete.exists() && dir.join("bin/python").exists() {
            return Ok(dir);
        }
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(Error::file("remove the unfinished", &dir))?;
        }
        let list = dir.with_extension("txt");
        fs::write(&list, requirements).map_err(Error::file("write", &list))?;
        self.install(&list, &dir)?;
        fs::write(&complete, "").map_err(Error::file("write", complete))?;
        Ok(dir)
    }

    fn install(&self, requirements: &Path, dir: &Path) -> Result<()> {
        let interpreter = dir.join("bin/python");
        if let Some(uv) = command::on_path("uv") {
            command::run(Command::new(&uv).args(["venv", "--quiet", "--python"]).arg(&self.path).arg(dir))?;
            let install = ["pip", "install", "--quiet", "--python"];
            command::run(Command::new(&uv).args(install).arg(&interpreter).arg("-r").arg(requirements))?;
        } else {
            command::run(Command::new(&self.path).args(["-I", "-m", "venv"]).arg(dir))?;
            command::run(pip(&interpreter).args(["install", "--quiet", "-r"]).arg(requirements))?;
        }
        Ok(())
    }
}

fn pip(interpreter: &Path) -> Command {
    let mut command = Command::new(interpreter);
    command.args(["-I", "-m", "pip", "--disable-pip-version-check", "--no-input"]);
    command
}
