//! What an application prints: one file, which outlives this executor and is emptied when it is too long. Refuses to
//! understand a line of it.

use crate::pre_start::tail;
use std::{
    fs::{File, OpenOptions},
    io,
    path::Path,
};

const NAME: &str = "log";
/// It is emptied when it is longer.
const BYTES_MAX: u64 = 16 << 20;
/// Of it, what is told when a life ends badly.
const QUOTED_BYTES: usize = 1_500;

/// To print to.
///
/// # Errors
/// When it cannot be made.
pub(super) fn open(folder: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(folder.join(NAME))
}

/// Its last lines.
pub(super) fn end(folder: &Path) -> String {
    tail(&folder.join(NAME), QUOTED_BYTES)
}

/// Who writes appends, so an emptied file goes on from its beginning.
pub(super) fn bound(folder: &Path) {
    let emptied = OpenOptions::new()
        .write(true)
        .open(folder.join(NAME))
        .and_then(|file| if file.metadata()?.len() > BYTES_MAX { file.set_len(0) } else { Ok(()) });
    if let Err(error) = emptied {
        tracing::warn!(%error, "the log of a runtime cannot be bounded");
    }
}
