//! The cluster's keys, from a file: one key a line, `<id>:<64 hexadecimal digits>`, the one that seals first. Refuses
//! files that others may read more of than they should: a wrong path must not be read whole.

use crate::KEY_BYTES;
use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// A file of keys is at most this long.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// The most keys.
const KEYS_MAX: usize = 64;
/// The longest id.
const ID_CHARS_MAX: usize = 64;

/// Keys by id, the one that seals first; `Debug` hides them.
pub struct Keyring(Vec<(String, Zeroizing<[u8; KEY_BYTES]>)>);

/// A file of keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("failed to read the file of secrets' keys {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is no key; the message holds nothing of it.
    #[error(
        "line {0} of the secrets' keys must be `<id>:<64 hexadecimal digits>`, with an id of its own; make one with `echo k1:$(openssl rand -hex 32)`"
    )]
    Line(usize),
    /// There is none, or there are too many.
    #[error("a file of secrets' keys holds 1 to {KEYS_MAX} keys")]
    Count,
}

impl Keyring {
    /// The keys in a file.
    ///
    /// # Errors
    /// When it cannot be read, or a line is no key.
    pub fn from_file(path: &Path) -> Result<Self, KeyFileError> {
        let mut text = Zeroizing::new(String::new());
        let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text));
        read.map_err(|source| KeyFileError::Read { path: path.to_owned(), source })?;
        Self::parse(&text)
    }

    /// The keys in a text; empty lines and lines that begin with `#` are passed over.
    ///
    /// # Errors
    /// When a line is no key.
    pub fn parse(text: &str) -> Result<Self, KeyFileError> {
        let mut keys: Vec<(String, Zeroizing<[u8; KEY_BYTES]>)> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (id, key) = key(line).ok_or(KeyFileError::Line(number + 1))?;
            if keys.iter().any(|(known, _)| *known == id) {
                return Err(KeyFileError::Line(number + 1));
            }
            keys.push((id, key));
        }
        if (1..=KEYS_MAX).contains(&keys.len()) { Ok(Self(keys)) } else { Err(KeyFileError::Count) }
    }

    /// The id of the key that seals.
    #[must_use]
    pub fn current(&self) -> &str {
        self.first().0
    }

    /// The ids of the others, which only open.
    #[must_use]
    pub fn former(&self) -> Vec<&str> {
        self.0.iter().skip(1).map(|(id, _)| id.as_str()).collect()
    }

    pub(crate) fn first(&self) -> (&str, &[u8; KEY_BYTES]) {
        static NONE: [u8; KEY_BYTES] = [0; KEY_BYTES];
        // There is at least one: parsing refuses an empty file.
        self.0.first().map_or(("", &NONE), |(id, key)| (id.as_str(), &**key))
    }

    pub(crate) fn get(&self, id: &str) -> Option<&[u8; KEY_BYTES]> {
        self.0.iter().find(|(known, _)| known == id).map(|(_, key)| &**key)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(id, _)| id)).finish()
    }
}

fn key(line: &str) -> Option<(String, Zeroizing<[u8; KEY_BYTES]>)> {
    let (id, digits) = line.split_once(':')?;
    let named = (1..=ID_CHARS_MAX).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if !named || digits.len() != 2 * KEY_BYTES || !digits.is_ascii() {
        return None;
    }
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    for (byte, pair) in key.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let digit = |d: u8| char::from(d).to_digit(16).and_then(|d| u8::try_from(d).ok());
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some((id.to_owned(), key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_hold_keys_and_nothing_else() {
        let good = "ab".repeat(32);
        let keys = Keyring::parse(&format!("# the cluster's\n\nnew:{good}\nold:{}\n", "01".repeat(32))).unwrap();
        assert_eq!((keys.current(), keys.get("old").unwrap()[0], keys.get("none")), ("new", 1, None));
        assert_eq!(format!("{keys:?}"), r#"["new", "old"]"#);
        for bad in [
            "",
            "#",
            "new",
            &good,
            &format!("new:{good}0"),
            &format!(":{good}"),
            &format!("a b:{good}"),
            &format!("x:{}", "zz".repeat(32)),
            &format!("x:{good}\nx:{good}"),
        ] {
            let error = Keyring::parse(bad).unwrap_err();
            assert!(!error.to_string().contains("abab"), "{error}");
        }
        assert!(Keyring::from_file(Path::new("/nowhere/keys")).unwrap_err().to_string().contains("/nowhere/keys"));
    }
}
