//! Where attempts write: one folder each, never shared and never overwritten. Which of them counts is the scheduler's
//! knowledge (the committed lease), not this module's.

use crate::attempt::AttemptId;
use domain::id::RunId;
use std::{io, path::PathBuf};

/// Written last into an attempt's folder.
const MANIFEST: &str = "manifest.json";

/// The outputs of an executor, or of several that share a file system.
#[derive(Debug, Clone)]
pub struct Outputs {
    root: PathBuf,
}

impl Outputs {
    /// Outputs below a folder.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The folder of one attempt. It exists once there is something in it.
    #[must_use]
    pub fn folder(&self, run: RunId, block: &str, child: i32, lease: i64) -> PathBuf {
        let child = if child < 0 { "_".to_owned() } else { child.to_string() };
        self.root.join(run.to_string()).join(escape(block)).join(child).join(lease.to_string())
    }

    /// Removes what an attempt wrote that does not count.
    ///
    /// # Errors
    /// When it exists and cannot be removed.
    pub fn discard(&self, attempt: &AttemptId) -> io::Result<()> {
        match std::fs::remove_dir_all(self.folder(attempt.run, &attempt.block, attempt.child, attempt.lease)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The newest attempt of a block, or of one of its children, that finished writing: for code of the same run that
    /// asks for the outputs of a block that is over. An older lease never counts beside a newer one.
    #[must_use]
    pub fn newest(&self, run: RunId, block: &str, child: i32) -> Option<PathBuf> {
        let place = self.folder(run, block, child, 0).parent()?.to_owned();
        let attempts = std::fs::read_dir(place).ok()?.flatten().map(|entry| entry.path());
        let leases = attempts.filter_map(|path| Some((path.file_name()?.to_str()?.parse::<i64>().ok()?, path)));
        leases.filter(|(_, path)| path.join(MANIFEST).is_file()).max_by_key(|(lease, _)| *lease).map(|(_, path)| path)
    }
}

/// A block's uuid as one folder name: everything but letters, digits, `_`, `-` and `.` becomes `%xx`. A name of dots
/// cannot climb, since a leading dot is escaped too.
fn escape(block: &str) -> String {
    let mut name = String::with_capacity(block.len());
    for (at, byte) in block.bytes().enumerate() {
        if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' || (byte == b'.' && at > 0) {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02x}"));
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_finished_attempt_is_found() {
        let root = tempfile::tempdir().unwrap();
        let outputs = Outputs::new(root.path().to_owned());
        let run = RunId::new_in(0);
        assert_eq!(outputs.newest(run, "a/b", -1), None);
        for (lease, finished) in [(2, true), (10, true), (11, false)] {
            let folder = outputs.folder(run, "a/b", -1, lease);
            std::fs::create_dir_all(&folder).unwrap();
            if finished {
                std::fs::write(folder.join(MANIFEST), "{}").unwrap();
            }
        }
        assert_eq!(outputs.newest(run, "a/b", -1), Some(outputs.folder(run, "a/b", -1, 10)));
    }

    #[test]
    fn no_name_leaves_its_folder() {
        for (block, folder) in
            [("load", "load"), ("a/b", "a%2fb"), ("..", "%2e."), ("cb:load", "cb%3aload"), ("ä", "%c3%a4")]
        {
            assert_eq!(escape(block), folder);
        }
    }
}
