//! One process of the cluster, and what can be done to it.

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A process; it is killed when dropped.
#[derive(Debug)]
pub struct Service {
    name: String,
    program: PathBuf,
    log: PathBuf,
    environment: Vec<(String, String)>,
    child: Child,
}

impl Service {
    pub(super) fn start(
        name: &str,
        program: PathBuf,
        log: PathBuf,
        environment: Vec<(String, String)>,
    ) -> Result<Self> {
        let child = spawn(&program, &log, &environment)?;
        Ok(Self { name: name.to_owned(), program, log, environment, child })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it answers `/metrics` and `/readyz`.
    #[must_use]
    pub fn admin(&self) -> String {
        self.setting("ORRERY_ADMIN__LISTEN")
    }

    /// Where a scheduler says that it is reached.
    #[must_use]
    pub fn advertised(&self) -> String {
        self.setting("ORRERY_SCHEDULER_ADVERTISED_ADDRESS")
    }

    fn setting(&self, key: &str) -> String {
        let found = self.environment.iter().find(|(known, _)| known == key);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    }

    /// Everything that it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// If it has ended: how, and the last line that it logged.
    pub fn last_word(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok()??;
        let log = self.log();
        Some(format!("{} has ended with {status}: {}", self.name, log.lines().last().unwrap_or("it logged nothing")))
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it at once, as a crash of its machine would.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn kill(&mut self) -> Result<()> {
        // What has ended cannot be killed again.
        let _ = self.child.kill();
        self.child.wait().with_context(|| format!("wait for {}", self.name))?;
        Ok(())
    }

    /// Freezes it (SIGSTOP).
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Asks it to drain (SIGTERM); see [`Service::wait`].
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn drain(&self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// Waits for its end; answers how long that took.
    ///
    /// # Errors
    /// When it still runs after `timeout`.
    pub async fn wait(&mut self, timeout: Duration) -> Result<Duration> {
        let begun = Instant::now();
        while self.is_running() {
            if begun.elapsed() > timeout {
                bail!("{} still runs after {} s", self.name, timeout.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(begun.elapsed())
    }

    /// Whether it has ended as it should: not killed, and not because its drain took too long.
    pub fn has_ended_well(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(status)) if status.success())
    }

    /// Starts it again, as it was; what still runs is killed first.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.child = spawn(&self.program, &self.log, &self.environment)?;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process id")?;
        kill_process(pid, signal).with_context(|| format!("signal {}", self.name))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // A frozen process dies of SIGKILL all the same.
        let _ = self.kill();
    }
}

fn spawn(program: &PathBuf, log: &PathBuf, environment: &[(String, String)]) -> Result<Child> {
    let log = std::fs::File::options().create(true).append(true).open(log)?;
    Command::new(program)
        .envs(environment.iter().map(|(key, value)| (key.as_str(), value.as_str())))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("start {}; build the workspace first", program.display()))
}
