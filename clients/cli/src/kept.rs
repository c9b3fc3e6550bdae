//! Tokens that `orrery login` keeps, one for each server, in a file of the user's that nobody else can read.

use crate::failure::{Code, Failure, Result};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// What is kept; `Debug` is left out on purpose.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// The server of the last sign-in: where commands go that name none.
    current: Option<String>,
    /// By URL.
    tokens: BTreeMap<String, String>,
}

impl Kept {
    /// What is in the file; nothing when there is none.
    pub(crate) fn load() -> Self {
        let text = file().and_then(|path| fs::read(path).ok());
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// The server of the last sign-in.
    pub(crate) fn current(&self) -> Option<&str> {
        self.current.as_deref()
    }

    /// The token for a server.
    pub(crate) fn token(&self, server: &str) -> Option<&str> {
        self.tokens.get(key(server)).map(String::as_str)
    }

    /// Keeps a token.
    pub(crate) fn add(&mut self, server: &str, token: String) {
        self.current = Some(key(server).to_owned());
        self.tokens.insert(key(server).to_owned(), token);
    }

    /// Forgets the token for a server; false when there is none.
    pub(crate) fn remove(&mut self, server: &str) -> bool {
        if self.current.as_deref() == Some(key(server)) {
            self.current = None;
        }
        self.tokens.remove(key(server)).is_some()
    }

    /// Writes the file anew.
    pub(crate) fn save(&self) -> Result<()> {
        let path = file().ok_or_else(|| {
            Failure::new(Code::Unavailable, "there is no home folder to keep a token in", "set HOME or XDG_CONFIG_HOME")
        })?;
        write(&path, self)
            .map_err(|e| Failure::new(Code::Unavailable, format!("cannot write {}: {e}", path.display()), ""))
    }
}

/// Replaced as a whole, and never readable by others, not even for a moment.
fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let _ = fs::remove_file(&new);
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(&serde_json::to_vec_pretty(kept)?)?;
    fs::rename(&new, path)
}

fn key(server: &str) -> &str {
    server.trim_end_matches('/')
}

fn file() -> Option<PathBuf> {
    let config = env::var_os("XDG_CONFIG_HOME").filter(|v| !v.is_empty()).map(PathBuf::from);
    let config = config.or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".config")))?;
    Some(config.join("orrery/credentials.json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn tokens_are_kept_for_their_server_and_their_user() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("orrery/credentials.json");
        let mut kept = Kept::default();
        kept.add("http://a:1/", "token-a".to_owned());
        kept.add("http://b:1", "token-b".to_owned());
        write(&path, &kept).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let mut read: Kept = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!((read.token("http://a:1"), read.current()), (Some("token-a"), Some("http://b:1")));
        assert!(read.remove("http://b:1/") && !read.remove("http://b:1"));
        assert_eq!((read.token("http://b:1"), read.current()), (None, None));
    }
}
