//! The unprivileged account that a server gets when we are root, and which folders it can reach.
//!
//! Never changes the permissions of a folder that it did not create.

use crate::error::{Error, Result};
use std::{
    fs::{self, Metadata},
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

/// A user and its first group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Account {
    /// Whom a server must run as: `None` when this process is not root and simply stays who it is.
    ///
    /// # Errors
    /// Root on a machine that has neither `postgres` nor `nobody`.
    pub fn to_drop_to() -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let passwd = fs::read_to_string("/etc/passwd").map_err(Error::file("read", "/etc/passwd"))?;
        ["postgres", "nobody"].iter().find_map(|name| find(&passwd, name)).map(Some).ok_or_else(|| Error::Missing {
            what: "an unprivileged account",
            remedy: "PostgreSQL refuses to run as root; add a user named postgres, or run as another user".into(),
        })
    }

    /// Whether this account can look into `dir`, judged by every folder above it.
    #[must_use]
    pub fn reaches(self, dir: &Path) -> bool {
        dir.ancestors().all(|d| d.metadata().map_or(true, |m| self.may_traverse(&m)))
    }

    fn may_traverse(self, meta: &Metadata) -> bool {
        let mode = meta.permissions().mode();
        if meta.uid() == self.uid {
            mode & 0o100 != 0
        } else if meta.gid() == self.gid {
            mode & 0o010 != 0
        } else {
            mode & 0o001 != 0
        }
    }
}

fn find(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next()? == name;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        found.then_some(Account { uid, gid })
    })
}

/// Lets `command` run as `account`, without further groups.
pub fn run_as(command: &mut Command, account: Option<Account>) -> &mut Command {
    if let Some(Account { uid, gid }) = account {
        command.uid(uid).gid(gid);
    }
    command
}

/// Creates `dir` for `account` alone (mode 0700), with its missing parents.
///
/// # Errors
/// The file system refuses.
pub fn create_private_dir(dir: &Path, account: Option<Account>) -> Result<()> {
    fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(Error::file("protect", dir))?;
    give(dir, account)
}

/// Makes `account` the owner of `path`.
///
/// # Errors
/// The file system refuses.
pub fn give(path: &Path, account: Option<Account>) -> Result<()> {
    match account {
        Some(a) => chown(path, Some(a.uid), Some(a.gid)).map_err(Error::file("change the owner of", path)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_whole_name() {
        let passwd = "postgres2:x:7:8::/:/bin/sh\npostgres:x:101:104::/var/lib/postgresql:/bin/bash\n";
        assert_eq!(find(passwd, "postgres"), Some(Account { uid: 101, gid: 104 }));
        assert_eq!(find(passwd, "nobody"), None);
    }

    #[test]
    fn a_closed_folder_above_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("closed/inner");
        fs::create_dir_all(&inner).unwrap();
        let closed = dir.path().join("closed");
        let stranger = Account { uid: 4_000_000, gid: 4_000_000 };
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!stranger.reaches(&inner));
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o711)).unwrap();
        assert!(stranger.reaches(&inner));
    }
}
