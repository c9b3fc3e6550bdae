//! Notices that a project folder changed, by the sizes and times of its files.

use project::bundle::FILES_MAX;
use std::{
    collections::hash_map::DefaultHasher,
    fs,
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
};

/// Folders that change without the project changing; the first ones are what a bundle leaves out.
const PASSED_OVER: [&str; 7] =
    [".git", "__pycache__", ".orrery", ".venv", "venv", "node_modules", ".ipynb_checkpoints"];

/// Two looks that see the same new state are a change; one alone may be the middle of a save.
#[derive(Debug, Default)]
pub(super) struct Watcher {
    deployed: Option<u64>,
    seen: Option<u64>,
}

impl Watcher {
    /// Looks at the folder: whether it has changed since the last settled state, and rests now. The first look at all
    /// counts as a change, since the folder may have changed before it.
    pub(super) async fn settled_change(&mut self, folder: PathBuf) -> bool {
        let Ok(now) = tokio::task::spawn_blocking(move || fingerprint(&folder)).await else { return false };
        self.settle(now)
    }

    fn settle(&mut self, now: u64) -> bool {
        let rests = self.seen.replace(now) == Some(now);
        let changed = self.deployed != Some(now);
        if rests && changed {
            self.deployed = Some(now);
        }
        rests && changed
    }
}

/// Changes when a file is added, removed, renamed or written.
fn fingerprint(folder: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut stack = vec![folder.to_path_buf()];
    let mut left = FILES_MAX;
    while let Some(dir) = stack.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
        paths.sort();
        for path in paths {
            let name = path.file_name().unwrap_or_default();
            let Ok(meta) = path.symlink_metadata() else { continue };
            if PASSED_OVER.iter().any(|p| name == *p) || left == 0 {
                continue;
            }
            left -= 1;
            path.hash(&mut hasher);
            if meta.is_dir() {
                stack.push(path);
            } else {
                // A folder's own time changes with what we pass over; a file's is what counts.
                (meta.len(), meta.modified().ok()).hash(&mut hasher);
            }
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_change_that_rests_counts() {
        let mut watcher = Watcher::default();
        let looks = [1, 1, 1, 2, 3, 3, 3, 1, 1].map(|state| watcher.settle(state));
        assert_eq!(looks, [false, true, false, false, false, true, false, false, true]);
    }

    #[test]
    fn files_count_and_caches_do_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.py"), "1").unwrap();
        let before = fingerprint(dir.path());
        fs::create_dir(dir.path().join("__pycache__")).unwrap();
        fs::write(dir.path().join("__pycache__/a.pyc"), "x").unwrap();
        assert_eq!(fingerprint(dir.path()), before);
        fs::write(dir.path().join("a.py"), "12").unwrap();
        assert_ne!(fingerprint(dir.path()), before);
    }
}
