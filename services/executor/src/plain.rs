//! Files by names that user code may have taken: only a plain file is opened, no link is followed and no pipe is waited
//! for. Refuses to know what is in them.

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

/// To read.
///
/// # Errors
/// `InvalidData` when it is no plain file.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    opened(path, OFlags::RDONLY)
}

/// To write at its end; made where it is missing.
///
/// # Errors
/// As for [`open`].
pub(crate) fn append(path: &Path) -> io::Result<File> {
    opened(path, OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE)
}

/// To write, for this user alone, in the place of whatever has the name.
///
/// # Errors
/// When that cannot be removed, or the file not be made.
pub(crate) fn anew(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn opened(path: &Path, flags: OFlags) -> io::Result<File> {
    // A pipe would be waited for until somebody opens its other end.
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let no_file = || io::Error::new(io::ErrorKind::InvalidData, "it is no plain file");
    let file = match rustix::fs::open(path, flags, Mode::from_raw_mode(0o666)) {
        Err(Errno::LOOP | Errno::NXIO) => return Err(no_file()),
        file => File::from(file?),
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(no_file()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn only_a_plain_file_is_opened_and_nothing_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, link, file) = (folder.path().join("pipe"), folder.path().join("link"), folder.path().join("file"));
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
        append(&file).unwrap().write_all(b"kept").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for other in [&pipe, &link] {
            for refused in [open(other), append(other)] {
                assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidData, "{other:?}");
            }
            anew(other).unwrap().write_all(b"new").unwrap();
            assert_eq!(io::read_to_string(open(other).unwrap()).unwrap(), "new");
        }
        assert_eq!(fs::read_to_string(file).unwrap(), "kept");
    }
}
