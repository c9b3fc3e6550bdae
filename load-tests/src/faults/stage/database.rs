//! The cluster's database, past every wire: sessions with it, its log, its restarts.

use super::{LOOK_AGAIN, PATIENCE, SHARED_MAX, Stage};
use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Client, NoTls};

impl Stage {
    /// A session of its own with the database, past every wire.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(in crate::faults) async fn sql(&self) -> Result<Client> {
        let url = self.cluster.database_url();
        let connecting = tokio_postgres::connect(&url, NoTls);
        let (client, connection) = timeout(PATIENCE, connecting).await.context("the database does not answer")??;
        tokio::spawn(connection);
        Ok(client)
    }

    /// When the database's server was started.
    ///
    /// # Errors
    /// When it does not answer.
    pub(in crate::faults) async fn postgres_started(&self) -> Result<Timestamp> {
        Ok(self.sql().await?.query_one("SELECT pg_postmaster_start_time()", &[]).await?.get(0))
    }

    /// The timeline of its log.
    ///
    /// # Errors
    /// When it does not answer.
    pub(in crate::faults) async fn timeline(&self) -> Result<u64> {
        let segment = "SELECT pg_walfile_name(pg_current_wal_lsn())";
        let segment: String = self.sql().await?.query_one(segment, &[]).await?.get(0);
        Ok(u64::from_str_radix(segment.get(..8).unwrap_or_default(), 16)?)
    }

    /// The version of its schema.
    ///
    /// # Errors
    /// When it does not answer.
    pub(in crate::faults) async fn schema(&self) -> Result<i32> {
        let newest = "SELECT max(version) FROM refinery_schema_history";
        Ok(self.sql().await?.query_one(newest, &[]).await?.get(0))
    }

    /// Lines of the database's log that hold a text.
    pub(in crate::faults) fn postgres_log_lines(&self, text: &str) -> u64 {
        let log = self.cluster.postgres().map(|postgres| postgres.log_file());
        let log = log.ok().and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
        String::from_utf8_lossy(&log).lines().filter(|line| line.contains(text)).count() as u64
    }

    /// Starts PostgreSQL again; answers how long it took to accept.
    ///
    /// # Errors
    /// When it does not start.
    pub(in crate::faults) async fn start_postgres(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        tokio::task::block_in_place(|| self.cluster.start_postgres())?;
        // One that started itself again may still be recovering.
        while let Err(refused) = self.sql().await {
            ensure!(begun.elapsed() < SHARED_MAX, "PostgreSQL does not accept: {refused:#}");
            sleep(LOOK_AGAIN).await;
        }
        Ok(begun.elapsed())
    }

    /// Has the database go on to the next file of its log, as far as it can.
    pub(in crate::faults) async fn use_up_log(&self) {
        let Ok(sql) = self.sql().await else { return };
        // It is to fail. A file that nothing was written to would not be left.
        let _ = sql.batch_execute("SELECT pg_logical_emit_message(false, 'faults', 'x'); SELECT pg_switch_wal()").await;
    }
}
