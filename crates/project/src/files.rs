//! Reading below a project folder and nowhere else.
//!
//! A path that leaves the folder, by `..`, by being absolute or through a symlink, is refused before it is opened.
//! Refuses to know what is in a file.

use std::{
    fs, io,
    io::Read,
    path::{Component, Path, PathBuf},
};

/// A project folder, resolved once.
#[derive(Debug)]
pub(crate) struct Folder {
    real: PathBuf,
}

/// Why a path of the project is not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("does not exist")]
    Absent,
    #[error("leaves the project folder")]
    Outside,
    #[error("is a symlink that leads out of the project folder")]
    LinkOutside,
    #[error("is not a file")]
    NotAFile,
    #[error("is larger than {0} bytes")]
    TooLarge(u64),
    #[error("is not UTF-8 text")]
    NotText,
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
}

impl Refusal {
    /// What to do about it.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::Absent => "create the file, or correct the path",
            Self::Outside | Self::LinkOutside => "copy the file into the project folder and name it by a relative path",
            Self::NotAFile => "put a regular file there",
            Self::TooLarge(_) => "split the file",
            Self::NotText => "save the file as UTF-8",
            Self::Unreadable(_) => "check the file's permissions",
        }
    }
}

impl Folder {
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let real = root.canonicalize()?;
        if real.is_dir() { Ok(Self { real }) } else { Err(io::ErrorKind::NotADirectory.into()) }
    }

    /// The folder's own name, by which user code imports it.
    pub(crate) fn name(&self) -> String {
        self.real.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.real
    }

    /// The real path of the file `relative`, which lies below the folder.
    pub(crate) fn file(&self, relative: &str) -> Result<PathBuf, Refusal> {
        if !is_inside(relative) {
            return Err(Refusal::Outside);
        }
        let real = self.real.join(relative).canonicalize().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Refusal::Absent,
            _ => Refusal::Unreadable(error),
        })?;
        if !real.starts_with(&self.real) {
            return Err(Refusal::LinkOutside);
        }
        if real.is_file() { Ok(real) } else { Err(Refusal::NotAFile) }
    }

    /// The text of the file `relative`.
    pub(crate) fn read(&self, relative: &str, bytes_max: u64) -> Result<String, Refusal> {
        let file = fs::File::open(self.file(relative)?).map_err(Refusal::Unreadable)?;
        let mut bytes = Vec::new();
        file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(Refusal::Unreadable)?;
        if bytes.len() as u64 > bytes_max {
            return Err(Refusal::TooLarge(bytes_max));
        }
        let text = String::from_utf8(bytes).map_err(|_| Refusal::NotText)?;
        Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
    }
}

/// Whether a path, as it is written, stays below where it starts.
pub(crate) fn is_inside(relative: &str) -> bool {
    !relative.is_empty()
        && !relative.contains(['\0', '\\'])
        && Path::new(relative).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn nothing_outside_is_read() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("demo");
        fs::create_dir_all(root.join("pipelines")).unwrap();
        fs::write(outer.path().join("secret.yaml"), "a: 1").unwrap();
        fs::write(root.join("ok.yaml"), "\u{feff}a: 1").unwrap();
        symlink("../secret.yaml", root.join("link.yaml")).unwrap();
        symlink("ok.yaml", root.join("inner.yaml")).unwrap();
        symlink("..", root.join("up")).unwrap();
        let folder = Folder::open(&root).unwrap();
        assert_eq!(folder.name(), "demo");
        assert_eq!(folder.read("ok.yaml", 100).unwrap(), "a: 1");
        assert_eq!(folder.read("./inner.yaml", 100).unwrap(), "a: 1");
        assert!(matches!(folder.read("ok.yaml", 3), Err(Refusal::TooLarge(3))));
        assert!(matches!(folder.read("../secret.yaml", 100), Err(Refusal::Outside)));
        assert!(matches!(folder.read("/etc/hosts", 100), Err(Refusal::Outside)));
        assert!(matches!(folder.read("link.yaml", 100), Err(Refusal::LinkOutside)));
        assert!(matches!(folder.read("up/secret.yaml", 100), Err(Refusal::LinkOutside)));
        assert!(matches!(folder.read("pipelines", 100), Err(Refusal::NotAFile)));
        assert!(matches!(folder.read("none", 100), Err(Refusal::Absent)));
    }
}
