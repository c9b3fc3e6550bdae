//! The executor's folder on the local disk: one process at a time, and who it is to its own leftovers.

use anyhow::Context;
use std::{
    fs::{File, TryLockError},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Socket paths are at most 107 bytes; a folder of this length leaves room for a name.
const SOCKET_FOLDER_BYTES_MAX: usize = 80;

/// Another executor uses the folder.
#[derive(Debug, thiserror::Error)]
#[error("{} is in use by another executor; give each its own with --data-dir", .0.display())]
pub struct InUse(PathBuf);

/// A data folder that belongs to this process as long as this value lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Stays the same over restarts: what carries it and is not ours is a leftover.
    mark: String,
    _lock: File,
}

impl DataDir {
    /// Creates or takes over the folder.
    ///
    /// # Errors
    /// When it cannot be written; [`InUse`] when another executor uses it.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))?;
        let path = path.canonicalize().with_context(|| format!("find {}", path.display()))?;
        let lock = File::create(path.join("lock")).with_context(|| format!("write to {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(InUse(path).into()),
            Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("lock {}", path.display())),
        }
        let name = path.join("identity");
        let known = std::fs::read_to_string(&name).unwrap_or_default();
        let mark = if known.trim().is_empty() {
            let mark = uuid::Uuid::new_v4().simple().to_string();
            std::fs::write(&name, &mark).with_context(|| format!("write {}", name.display()))?;
            mark
        } else {
            known.trim().to_owned()
        };
        Ok(Self { path, mark, _lock: lock })
    }

    /// What marks this executor's processes.
    #[must_use]
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// A file or folder in it.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A folder for sockets, private to this user: in here, or elsewhere when this path is too long for one.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn sockets(&self) -> anyhow::Result<PathBuf> {
        let near = self.join("run");
        let fits = near.as_os_str().len() <= SOCKET_FOLDER_BYTES_MAX;
        let folder = if fits { near } else { std::env::temp_dir().join(format!("orrery-{}", self.mark)) };
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))
            .with_context(|| format!("make {} private", folder.display()))?;
        Ok(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_owner_at_a_time_and_keeps_its_mark() {
        let root = tempfile::tempdir().unwrap();
        let first = DataDir::open(root.path()).unwrap();
        assert!(DataDir::open(root.path()).unwrap_err().to_string().contains("in use by another executor"));
        let mark = first.mark().to_owned();
        drop(first);
        assert_eq!(DataDir::open(root.path()).unwrap().mark(), mark);
    }
}
