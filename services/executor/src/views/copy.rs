//! A folder copied file by file, and a seal that tells whether a copy was written to since. No link is shared with the
//! original; where the file system can share blocks until one side is written, the kernel does so by itself.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// The clock of a file system moves in steps of at most 10 ms; between two looks at it, and how many there are at most.
const TICK: (Duration, u32) = (Duration::from_millis(1), 50);
/// A file beside the copy, to see the clock by.
const CLOCK: &str = "clock";

/// What a copy looked like when it was made.
#[derive(Debug, Default)]
pub(super) struct Seal(Vec<(PathBuf, State)>);

/// Whatever changes a file, or the names in a folder, moves the time of its last change, which no program can set.
#[derive(Debug, PartialEq, Eq)]
struct State {
    inode: u64,
    changed: (i64, i64),
}

impl Seal {
    /// True when nothing in the folder was written, added, removed or replaced.
    pub(super) fn holds(&self, copy: &Path) -> bool {
        let same = |(path, state): &(PathBuf, State)| {
            fs::symlink_metadata(copy.join(path)).is_ok_and(|now| State::of(&now) == *state)
        };
        self.0.iter().all(same)
    }
}

impl State {
    fn of(metadata: &Metadata) -> Self {
        Self { inode: metadata.ino(), changed: (metadata.ctime(), metadata.ctime_nsec()) }
    }
}

/// Copies a folder of files and folders, which is what bundles consist of, to where nothing is.
pub(super) fn copy(original: &Path, to: &Path) -> io::Result<Seal> {
    fs::create_dir_all(to)?;
    let (mut folders, mut entries) = (vec![PathBuf::new()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(original.join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                fs::create_dir(to.join(&path))?;
                folders.push(path);
            } else {
                fs::copy(entry.path(), to.join(&path))?;
                entries.push(path);
            }
        }
        entries.push(folder);
    }
    // Last of all, since each file that was added has changed its folder.
    let sealed = entries.into_iter().map(|path| {
        let state = State::of(&fs::symlink_metadata(to.join(&path))?);
        Ok((path, state))
    });
    let seal = Seal(sealed.collect::<io::Result<_>>()?);
    pass_tick(to)?;
    Ok(seal)
}

/// Returns when a write would show another time than those of the copy.
fn pass_tick(copy: &Path) -> io::Result<()> {
    let clock = copy.with_file_name(CLOCK);
    let now = || {
        fs::write(&clock, "")?;
        fs::symlink_metadata(&clock).map(|metadata| State::of(&metadata).changed)
    };
    let begun = now()?;
    for _ in 0..TICK.1 {
        thread::sleep(TICK.0);
        if now()? != begun {
            break;
        }
    }
    fs::remove_file(&clock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn every_kind_of_write_breaks_the_seal() {
        type Write = fn(&Path);
        let writes: [(&str, Write); 6] = [
            ("change", |copy| fs::write(copy.join("a/b.py"), "c").unwrap()),
            ("same bytes", |copy| fs::write(copy.join("a/b.py"), "b").unwrap()),
            ("add", |copy| fs::write(copy.join("a/new"), "").unwrap()),
            ("remove", |copy| fs::remove_file(copy.join("a/b.py")).unwrap()),
            ("replace", |copy| {
                fs::write(copy.join("new"), "b").unwrap();
                fs::rename(copy.join("new"), copy.join("a/b.py")).unwrap();
            }),
            ("mode", |copy| fs::set_permissions(copy.join("a/b.py"), fs::Permissions::from_mode(0o755)).unwrap()),
        ];
        for (what, write) in writes {
            let root = tempfile::tempdir().unwrap();
            let (original, to) = (root.path().join("original"), root.path().join("1/copy"));
            fs::create_dir_all(original.join("a")).unwrap();
            fs::write(original.join("a/b.py"), "b").unwrap();
            let seal = copy(&original, &to).unwrap();
            assert!(seal.holds(&to));
            write(&to);
            assert!(!seal.holds(&to), "{what}");
            assert_eq!(fs::read_to_string(original.join("a/b.py")).unwrap(), "b");
        }
    }
}
