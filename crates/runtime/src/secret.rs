//! A secret that comes from a file and does not print. Refuses to be given on a command line, where every process of the
//! machine could read it.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// A secret file is at most this long: a wrong path (a disk, a log) must not be read whole.
pub const FILE_BYTES_MAX: u64 = 64 * 1024;

/// A secret: `Debug` and `Display` hide it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret that is already in memory.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// Reads a secret, without the line end after it.
    ///
    /// # Errors
    /// When the file cannot be read, is empty, too long or not text; the message never holds its content.
    pub fn from_file(path: &Path) -> Result<Self, SecretError> {
        let fail = |source| SecretError { path: path.to_owned(), source };
        let mut text = String::new();
        File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)).map_err(fail)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(fail(io::Error::other(format!("longer than {FILE_BYTES_MAX} bytes"))));
        }
        let value = text.trim_end_matches(['\r', '\n']);
        if value.is_empty() {
            return Err(fail(io::Error::other("the file is empty")));
        }
        Ok(Self(value.to_owned()))
    }

    /// A setting that may be given as text, or as the name of a file where it is secret; the file wins.
    ///
    /// # Errors
    /// As [`Secret::from_file`].
    pub fn given(file: Option<&Path>, text: Option<&str>) -> Result<Option<Self>, SecretError> {
        match file {
            Some(path) => Self::from_file(path).map(Some),
            None => Ok(text.map(Self::new)),
        }
    }

    /// The secret itself; keep it out of logs and messages.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// A secret could not be read.
#[derive(Debug, thiserror::Error)]
#[error("failed to read the secret file {}", path.display())]
pub struct SecretError {
    /// The file.
    pub path: PathBuf,
    /// Why; says nothing of the content.
    pub source: io::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(content: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    #[test]
    fn reads_without_the_line_end_and_never_prints() {
        let secret = Secret::from_file(written(b" s3cret \r\n").path()).unwrap();
        assert_eq!(secret.expose(), " s3cret ");
        assert_eq!(format!("{secret:?}"), "Secret(hidden)");
    }

    #[test]
    fn refuses_empty_long_and_binary_files() {
        let long = vec![b'x'; usize::try_from(FILE_BYTES_MAX).unwrap() + 1];
        for content in [&b""[..], b"\n", &long, b"\xff\xfe"] {
            assert!(Secret::from_file(written(content).path()).is_err());
        }
        assert!(Secret::from_file(Path::new("/nonexistent")).unwrap_err().to_string().contains("/nonexistent"));
    }
}
