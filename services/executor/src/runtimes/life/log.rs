//! What an application prints: one file, which outlives this executor and is emptied when it is too long. Refuses to
//! understand a line of it.

use crate::{plain, pre_start::tail};
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

const NAME: &str = "log";
/// It is emptied when it is longer.
const BYTES_MAX: u64 = 16 << 20;
/// Of it, what is told when a life ends badly.
const QUOTED_BYTES: usize = 1_500;

/// Where it is.
pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

/// To print to.
///
/// # Errors
/// When it cannot be made.
pub(super) fn open(folder: &Path) -> io::Result<File> {
    plain::append(&path(folder))
}

/// Its last lines.
pub(super) fn end(folder: &Path) -> String {
    tail(&path(folder), QUOTED_BYTES)
}

/// Who writes appends, so an emptied file goes on from its beginning.
pub(super) fn bound(folder: &Path) {
    let emptied =
        open(folder).and_then(|file| if file.metadata()?.len() > BYTES_MAX { file.set_len(0) } else { Ok(()) });
    if let Err(error) = emptied {
        tracing::warn!(%error, "the log of a runtime cannot be bounded");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode, mkfifoat};

    #[test]
    fn a_pipe_in_its_place_is_not_waited_for_and_a_long_log_is_emptied() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join(NAME);
        open(folder.path()).unwrap().set_len(BYTES_MAX + 1).unwrap();
        bound(folder.path());
        assert_eq!(std::fs::metadata(&log).unwrap().len(), 0);
        std::fs::remove_file(&log).unwrap();
        mkfifoat(CWD, &log, Mode::RUSR | Mode::WUSR).unwrap();
        bound(folder.path());
        assert!(open(folder.path()).is_err());
        assert!(end(folder.path()).contains("cannot be read"));
    }
}
