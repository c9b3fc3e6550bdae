//! Where a running `orrery up` can be reached: written into its data folder, and into a folder of the user's for commands
//! that are typed elsewhere.

use crate::{
    failure::{Code, Failure, Result},
    meant,
};
use serde::{Deserialize, Serialize};
use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

/// Its name in the data folder.
const FILE: &str = "up.json";

/// What `orrery up` writes down while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The web-server.
    pub(crate) server: String,
    /// The file with its token; the token itself is in no other file.
    pub(crate) token_file: PathBuf,
    /// The process of `orrery up`.
    pub(crate) pid: u32,
}

impl Record {
    /// The record of `ORRERY_DATA_DIR`, else of the closest `.orrery` above the current folder, else of the only
    /// `orrery up` of this user.
    ///
    /// # Errors
    /// Several run: a command must not go to the wrong one.
    pub(crate) fn find() -> Result<Option<Self>> {
        if let Some(dir) = env::var_os("ORRERY_DATA_DIR").filter(|d| !d.is_empty()) {
            return Ok(Self::alive(&Path::new(&dir).join(FILE)));
        }
        let here = env::current_dir().unwrap_or_default();
        let mut above = here.ancestors().map(|dir| dir.join(".orrery").join(FILE));
        if let Some(record) = above.find_map(|p| Self::alive(&p)) {
            return Ok(Some(record));
        }
        let entries = shared().and_then(|dir| fs::read_dir(dir).ok());
        the_cluster(entries.into_iter().flatten().filter_map(|e| Self::alive(&e.ok()?.path())).collect())
    }

    /// The record in one data folder, alive or not.
    pub(crate) fn of(data_dir: &Path) -> Option<Self> {
        Self::read(&data_dir.join(FILE))
    }

    fn read(file: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(file).ok()?).ok()
    }

    /// A record outlives a kill; then there is nobody to ask.
    fn alive(file: &Path) -> Option<Self> {
        Self::read(file).filter(|r| Path::new("/proc").join(r.pid.to_string()).exists())
    }

    /// Writes it where [`Record::find`] looks.
    pub(crate) fn write(&self, data_dir: &Path) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        fs::write(data_dir.join(FILE), &text)?;
        if let Some(dir) = shared() {
            forget_the_dead(&dir);
            // Only a convenience: a read-only home is no reason to stay down.
            let _ = fs::create_dir_all(&dir).and_then(|()| fs::write(self.in_folder(&dir), &text));
        }
        Ok(())
    }

    /// Forgets it.
    pub(crate) fn remove(&self, data_dir: &Path) {
        let _ = fs::remove_file(data_dir.join(FILE));
        if let Some(dir) = shared() {
            let _ = fs::remove_file(self.in_folder(&dir));
        }
    }

    fn in_folder(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{}.json", self.pid))
    }
}

fn the_cluster(records: Vec<Record>) -> Result<Option<Record>> {
    meant::at_most_one(records, |several| {
        let servers: Vec<_> = several.iter().map(|r| r.server.as_str()).collect();
        Failure::new(
            Code::Usage,
            format!("{} clusters run on this machine: {}", servers.len(), servers.join(", ")),
            "say which one: set ORRERY_DATA_DIR to its data folder, or give --server and --token-file",
        )
    })
}

fn forget_the_dead(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for path in entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| Record::alive(p).is_none()) {
        let _ = fs::remove_file(path);
    }
}

fn shared() -> Option<PathBuf> {
    let state = env::var_os("XDG_STATE_HOME").filter(|v| !v.is_empty()).map(PathBuf::from);
    let state = state.or_else(|| env::var_os("HOME").map(|h| Path::new(&h).join(".local/state")))?;
    Some(state.join("orrery/up"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_never_guesses_between_clusters() {
        let record = |pid| Record { server: format!("http://s{pid}"), token_file: "t".into(), pid };
        assert_eq!(the_cluster(vec![]).unwrap(), None);
        assert_eq!(the_cluster(vec![record(1)]).unwrap(), Some(record(1)));
        assert!(the_cluster(vec![record(1), record(2)]).unwrap_err().what.contains("http://s1, http://s2"));
    }

    #[test]
    fn the_dead_are_not_asked() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        let mut record = Record { server: "s".into(), token_file: "t".into(), pid: std::process::id() };
        fs::write(&file, serde_json::to_vec(&record).unwrap()).unwrap();
        assert_eq!(Record::alive(&file), Some(record.clone()));
        record.pid = u32::MAX;
        fs::write(&file, serde_json::to_vec(&record).unwrap()).unwrap();
        forget_the_dead(dir.path());
        assert!(!file.exists());
    }
}
