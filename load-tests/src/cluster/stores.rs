//! What keeps the cluster's state, to be broken: PostgreSQL and Redis.

use super::{Cluster, socket};
use anyhow::{Context, Result, bail};
use provision::{ClusterOptions, PrivatePostgres, PrivateRedis};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Lateness is judged by when it was committed.
pub(super) const POSTGRES: ClusterOptions = ClusterOptions { commit_times: true, ..ClusterOptions::DURABLE };
/// How long PostgreSQL may take to start again, its recovery included.
const POSTGRES_START_MAX: Duration = Duration::from_secs(60);
/// Between two tries.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl Cluster {
    /// The cluster's own database, past every wire.
    #[must_use]
    pub fn database_url(&self) -> String {
        let url = self.postgres.as_ref().map(|postgres| postgres.tcp_url("postgres")).unwrap_or_default();
        match (&self.standby, url.rsplit_once('@').and_then(|(user, rest)| Some((user, rest.split_once('/')?)))) {
            (Some(standby), Some((user, (_, database)))) if self.took_over => {
                format!("{user}@{}/{database}", standby.address())
            }
            _ => url,
        }
    }

    /// Where that database listens.
    ///
    /// # Errors
    /// When there is none.
    pub fn database_address(&self) -> Result<SocketAddr> {
        let url = self.database_url();
        let after = url.rsplit_once('@').map(|(_, rest)| rest).context("the database's address")?;
        socket(after.split('/').next().unwrap_or_default())
    }

    /// Ends PostgreSQL as an operator would: open transactions are rolled back, sessions end.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop_postgres(&self) -> Result<()> {
        Ok(self.postgres()?.stop()?)
    }

    /// Ends PostgreSQL at once, as the loss of its machine's power would, but for the disk's own cache.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_postgres(&self) -> Result<()> {
        let pid = i32::try_from(self.postgres_pid()?).ok().and_then(Pid::from_raw).context("a process id")?;
        kill_process(pid, Signal::KILL).context("kill PostgreSQL")?;
        // Its children notice by themselves; before that nothing can be started on the same data.
        let begun = Instant::now();
        while rustix::process::test_kill_process(pid).is_ok() && !is_zombie(pid) {
            if begun.elapsed() > POSTGRES_START_MAX {
                bail!("PostgreSQL does not die");
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// Starts PostgreSQL again, on whatever port is free: the wires lead there. Blocks until it accepts; answers how long
    /// that took.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_postgres(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        let folder = self.folder.path().join("postgres");
        let postgres = loop {
            match PrivatePostgres::start(&folder, POSTGRES) {
                Ok(postgres) => break postgres,
                // Children of a server that was killed may still hold its memory.
                Err(error) if begun.elapsed() > POSTGRES_START_MAX => return Err(error.into()),
                Err(_) => std::thread::sleep(LOOK_AGAIN),
            }
        };
        self.postgres = Some(postgres);
        let address = self.database_address()?;
        if let Some(wires) = &self.wires {
            wires.lead("postgres", address);
        }
        Ok(begun.elapsed())
    }

    /// The private PostgreSQL.
    ///
    /// # Errors
    /// Never, as long as the cluster lives.
    pub fn postgres(&self) -> Result<&PrivatePostgres> {
        self.postgres.as_ref().context("a database")
    }

    /// The cluster's Redis, to be flushed, frozen, killed and started again.
    ///
    /// # Errors
    /// When the cluster was started without one.
    pub fn redis(&mut self) -> Result<&mut PrivateRedis> {
        self.redis.as_mut().context("a Redis; see Shape")
    }

    /// The process id of PostgreSQL's first process.
    ///
    /// # Errors
    /// When it does not run.
    pub fn postgres_pid(&self) -> Result<u32> {
        let file = self.postgres()?.home().join("data/postmaster.pid");
        let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let pid = text.lines().next().and_then(|line| line.trim().parse().ok());
        pid.context("the process id of PostgreSQL")
    }
}

/// Where nobody reaps orphans, what was killed stays in the table of processes.
fn is_zombie(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}
