//! The data folder of one local cluster: its lock, its tokens, its logs.

use crate::{
    failure::{Code, Failure, Result},
    record::Record,
};
use rpc::auth::Token;
use std::{
    fmt::Write as _,
    fs::{self, File, Permissions, TryLockError},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// A longer log is moved aside; there is one old one.
const LOG_BYTES_MAX: u64 = 16 << 20;

/// Folders inside that are for this user only.
const PRIVATE: [&str; 3] = ["logs", "blobs", "outputs"];

/// An open data folder; nobody else can open it as long as this value lives.
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Opens or creates it.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = |e: io::Error| unwritable(path, &e);
        let fresh = !path.exists();
        PRIVATE.iter().try_for_each(|inner| fs::create_dir_all(path.join(inner))).map_err(failed)?;
        let path = path.canonicalize().map_err(failed)?;
        if fresh {
            // Others may pass through, since Postgres may run as another user; they see no names.
            fs::set_permissions(&path, Permissions::from_mode(0o711)).map_err(failed)?;
        }
        for inner in PRIVATE {
            fs::set_permissions(path.join(inner), Permissions::from_mode(0o700)).map_err(failed)?;
        }
        let lock = File::options().create(true).append(true).open(path.join("up.lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(&path)),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let folder = Self { path, _lock: lock };
        for name in ["api", "cluster"] {
            make_private(&folder.token_file(name), "").map_err(failed)?;
        }
        make_private(&folder.secret_keys_file(), "local:").map_err(failed)?;
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What the services that run were, for a life after a kill.
    pub(super) fn children_file(&self) -> PathBuf {
        self.path.join("children.json")
    }

    pub(super) fn api_token_file(&self) -> PathBuf {
        self.token_file("api")
    }

    pub(super) fn cluster_token_file(&self) -> PathBuf {
        self.token_file("cluster")
    }

    /// What seals the secrets of this cluster; without it they are lost.
    pub(super) fn secret_keys_file(&self) -> PathBuf {
        self.path.join("secret.keys")
    }

    /// Where the first start leaves the owner's one-time password.
    pub(super) fn owner_password_file(&self) -> PathBuf {
        self.path.join("owner.password")
    }

    pub(super) fn api_token(&self) -> Result<Token> {
        Token::from_file(&self.api_token_file()).map_err(|e| Failure::new(Code::Permission, e, "remove the file"))
    }

    /// The token itself, for the URL that is shown.
    pub(super) fn api_token_text(&self) -> Result<String> {
        let text = fs::read_to_string(self.api_token_file()).map_err(|e| unwritable(&self.path, &e))?;
        Ok(text.trim().to_owned())
    }

    /// Writes down where the database is, for the services; the command line and the environment are less private.
    pub(super) fn write_database_url(&self, url: &str) -> Result<PathBuf> {
        let path = self.path.join("database.url");
        write_private(&path, url).map_err(|e| unwritable(&self.path, &e))?;
        Ok(path)
    }

    /// The log of a service.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.path.join("logs").join(format!("{name}.log"))
    }

    /// Moves logs aside that have become too long. The services append, so emptying the file is enough for them.
    pub(super) fn bound_logs(&self) {
        let Ok(entries) = fs::read_dir(self.path.join("logs")) else { return };
        for path in entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.extension().is_some_and(|e| e == "log")) {
            if path.metadata().is_ok_and(|m| m.len() > LOG_BYTES_MAX)
                && fs::copy(&path, path.with_extension("old")).is_ok()
            {
                let _ = File::options().write(true).open(&path).and_then(|f| f.set_len(0));
            }
        }
    }

    fn token_file(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.token"))
    }
}

/// The last lines of a log, for a person who wonders why.
pub(super) fn tail(log: &Path, lines: usize) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(64 << 10)..]);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The folder refuses.
pub(super) fn unwritable(path: &Path, error: &io::Error) -> Failure {
    let what = format!("cannot use the data folder {}: {error}", path.display());
    Failure::new(Code::Unavailable, what, "name another one by --data-dir")
}

fn in_use(path: &Path) -> Failure {
    let who = Record::of(path).map(|r| format!(" (process {}, {})", r.pid, r.server)).unwrap_or_default();
    let what = format!("another `orrery up` runs on {}{who}", path.display());
    Failure::new(Code::Temporary, what, "use that one, stop it, or name another folder by --data-dir")
}

/// 256 random bits after `prefix`, for the eyes of this user only; an existing file stays.
fn make_private(path: &Path, prefix: &str) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|m| m.len() > 0) {
        return fs::set_permissions(path, Permissions::from_mode(0o600));
    }
    let secret = rand::random::<[u8; 32]>().iter().fold(prefix.to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    write_private(path, &secret)
}

/// Writes a file that was never readable by others.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let _ = fs::remove_file(path);
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_user_and_keeps_its_tokens() {
        let dir = tempfile::tempdir().unwrap();
        let first = Folder::open(&dir.path().join("d")).unwrap();
        let token = first.api_token_text().unwrap();
        assert_eq!(token.len(), 64);
        assert_eq!(first.api_token_file().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let refused = Folder::open(&dir.path().join("d")).err().unwrap();
        assert!(refused.code == Code::Temporary && refused.what.contains("another `orrery up`"));
        drop(first);
        assert_eq!(Folder::open(&dir.path().join("d")).unwrap().api_token_text().unwrap(), token);
    }

    #[test]
    fn the_tail_is_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("x.log");
        fs::write(&log, "a\nb\nc\n").unwrap();
        assert_eq!((tail(&log, 2), tail(&dir.path().join("none"), 2)), ("b\nc".into(), String::new()));
    }
}
