//! A second PostgreSQL that follows the first one, and takes its place when that is lost.

use super::Cluster;
use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use provision::{
    account::{self, Account},
    ports,
};
use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tokio_postgres::NoTls;

/// How long the standby may take to follow, and to take over.
const READY: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// It ends with the value.
pub(super) struct Standby {
    programs: PathBuf,
    data: PathBuf,
    account: Option<Account>,
    port: u16,
}

impl Drop for Standby {
    fn drop(&mut self) {
        let _ = self.pg_ctl(&["stop", "--mode=immediate", "--wait"]);
    }
}

impl Standby {
    fn pg_ctl(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(self.programs.join("pg_ctl"));
        command.arg("--pgdata").arg(&self.data).args(arguments);
        run(&mut command, self.account)
    }

    pub(super) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }
}

impl Cluster {
    /// Starts a standby that every commit waits for from then on. PostgreSQL is started again for that.
    ///
    /// # Errors
    /// When a server does not do as it is told.
    pub async fn add_standby(&mut self) -> Result<()> {
        self.add_follower().await?;
        self.alter_system(&["synchronous_standby_names = '*'"]).await?;
        self.until("SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'").await
    }

    /// Starts a standby that nobody waits for. PostgreSQL is started again for that.
    ///
    /// # Errors
    /// When a server does not do as it is told.
    pub async fn add_follower(&mut self) -> Result<()> {
        let settings = ["wal_level = 'replica'", "max_wal_senders = 4", "hot_standby = on"];
        self.alter_system(&settings).await?;
        self.stop_postgres()?;
        self.start_postgres()?;
        let postgres = self.postgres()?;
        let (programs, home) = (postgres.programs().bin.clone(), postgres.home().to_owned());
        let standby =
            Standby { programs, data: home.join("standby"), account: Account::to_drop_to()?, port: ports::free()? };
        let mut copy = Command::new(standby.programs.join("pg_basebackup"));
        copy.arg("--dbname").arg(postgres.url("postgres")).arg("--pgdata").arg(&standby.data);
        run(copy.args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast"]), standby.account)?;
        let options = format!("-c port={}", standby.port);
        let log = home.join("standby.log");
        let log = log.to_str().context("a folder with a readable name")?;
        standby.pg_ctl(&["start", "--wait", "--silent", "--log", log, "--options", &options])?;
        self.standby = Some(standby);
        self.until("SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming'").await
    }

    /// The standby follows no longer: should it take over, whatever is committed from here on is lost. Answers the instant of the
    /// latest commit that it has.
    ///
    /// # Errors
    /// When there is no standby, it does not do as it is told, or it has no commit.
    pub async fn stop_following(&self) -> Result<Timestamp> {
        let ours = self.database_address()?.to_string();
        let standby = self.standby.as_ref().context("a standby")?.address().to_string();
        let (sql, connection) = tokio_postgres::connect(&self.database_url().replace(&ours, &standby), NoTls).await?;
        tokio::spawn(connection);
        sql.batch_execute("ALTER SYSTEM SET primary_conninfo = ''").await?;
        sql.batch_execute("SELECT pg_reload_conf()").await?;
        let begun = Instant::now();
        // What has come is applied, up to a last record of which a part has come, and nothing comes any more.
        let at_rest = "SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver) AND EXISTS (SELECT FROM pg_stat_activity
                        WHERE backend_type = 'startup' AND wait_event = 'RecoveryRetrieveRetryInterval')";
        while !sql.query_one(at_rest, &[]).await?.get::<_, bool>(0) {
            ensure!(begun.elapsed() < READY, "the standby goes on following");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let latest: Option<Timestamp> = sql.query_one("SELECT pg_last_xact_replay_timestamp()", &[]).await?.get(0);
        latest.context("a commit that the standby has")
    }

    /// Kills PostgreSQL and lets the standby take its place: wires lead there. Answers how long that took.
    ///
    /// # Errors
    /// When there is no standby, or it does not take over.
    pub async fn fail_over(&mut self) -> Result<Duration> {
        self.kill_postgres()?;
        let begun = Instant::now();
        let standby = self.standby.as_ref().context("a standby")?;
        standby.pg_ctl(&["promote", "--wait"])?;
        self.took_over = true;
        let address = self.database_address()?;
        if let Some(wires) = &self.wires {
            wires.lead("postgres", address);
        }
        self.until("SELECT NOT pg_is_in_recovery()").await?;
        Ok(begun.elapsed())
    }

    async fn alter_system(&self, settings: &[&str]) -> Result<()> {
        let (sql, connection) = tokio_postgres::connect(&self.database_url(), NoTls).await?;
        tokio::spawn(connection);
        for setting in settings {
            sql.batch_execute(&format!("ALTER SYSTEM SET {setting}")).await?;
        }
        Ok(sql.batch_execute("SELECT pg_reload_conf()").await?)
    }

    async fn until(&self, question: &str) -> Result<()> {
        let begun = Instant::now();
        let url = self.database_url();
        loop {
            if let Ok((sql, connection)) = tokio_postgres::connect(&url, NoTls).await {
                tokio::spawn(connection);
                if sql.query_one(question, &[]).await.is_ok_and(|row| row.get(0)) {
                    return Ok(());
                }
            }
            ensure!(begun.elapsed() < READY, "in {} s there was no yes to: {question}", READY.as_secs());
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

fn run(command: &mut Command, account: Option<Account>) -> Result<()> {
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = account::run_as(command, account).status().with_context(|| format!("run {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
