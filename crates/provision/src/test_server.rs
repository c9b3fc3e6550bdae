//! One throw-away PostgreSQL that all test processes of a user share.
//!
//! Whoever comes first starts it; it stops by itself some time after the last test process ended.

use crate::{
    cache,
    cluster::{ClusterOptions, PrivatePostgres},
    error::{Error, Result},
};
use std::{
    fs::File,
    path::{Path, PathBuf},
};

/// How long the server stays after the last test process.
const IDLE_S: u32 = 120;

/// The server, for as long as this value lives.
#[derive(Debug)]
pub struct TestServer {
    postgres: PrivatePostgres,
    /// A shared lock: tells the watcher that somebody uses the server.
    _in_use: File,
}

impl TestServer {
    /// The running server, started if need be.
    ///
    /// # Errors
    /// No server programs, or a server that does not start.
    pub fn share() -> Result<Self> {
        // Installs Postgres if there is none: the folder is named after its version.
        crate::Postgres::find_or_install()?;
        let dir = dir();
        // One process at a time, so that only one starts the server and leaves a watcher.
        let _starting = cache::lock(&dir.join("testkit.lock"))?;
        let (postgres, adopted) = match PrivatePostgres::attach(&dir)? {
            Some(running) => (running, true),
            None => (PrivatePostgres::start(&dir, ClusterOptions::TEST)?, false),
        };
        let users = users_of(&postgres);
        let in_use = cache::lock_file(&users)?;
        in_use.lock_shared().map_err(Error::file("lock", &users))?;
        if adopted && postgres.is_running() {
            return Ok(Self { postgres, _in_use: in_use });
        }
        // Either it is ours, or the watcher stopped it between our look and our lock; from now on it cannot.
        let postgres = if adopted { PrivatePostgres::start(&dir, ClusterOptions::TEST)? } else { postgres };
        postgres.stop_when_unused(&users, IDLE_S)?;
        Ok(Self { postgres, _in_use: in_use })
    }

    /// Stops the server now, unless some test process uses it. `cargo xtask test` ends with this.
    ///
    /// # Errors
    /// The server does not stop.
    pub fn stop_if_unused() -> Result<()> {
        let Some(postgres) = PrivatePostgres::attach(&dir())? else { return Ok(()) };
        let users = cache::lock_file(&users_of(&postgres))?;
        match users.try_lock() {
            Ok(()) => postgres.stop(),
            Err(_) => Ok(()),
        }
    }

    /// The server itself.
    #[must_use]
    pub fn postgres(&self) -> &PrivatePostgres {
        &self.postgres
    }
}

/// One folder per major version: a machine whose Postgres was replaced starts anew instead of failing.
fn dir() -> PathBuf {
    let major = crate::Postgres::find().map_or(0, |postgres| postgres.major);
    cache::dir().join(format!("test-postgres-{major}"))
}

fn users_of(postgres: &PrivatePostgres) -> PathBuf {
    Path::new(postgres.home()).join("users.lock")
}
