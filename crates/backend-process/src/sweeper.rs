//! Finds and kills what attempts left behind in process groups of their own. Apart from the path of an attempt, since
//! it reads the whole of `/proc`: at most once a second, and only when an attempt has ended.

use crate::process;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;

/// Between two sweeps.
const INTERVAL: Duration = Duration::from_secs(1);

/// Knows the attempts that live, and sweeps after those that ended.
#[derive(Debug)]
pub struct Sweeper {
    executor: String,
    living: Mutex<HashMap<String, Option<i32>>>,
    ended: Notify,
}

impl Sweeper {
    /// A sweeper for the processes that carry `executor` as [`process::EXECUTOR_MARK`].
    #[must_use]
    pub fn new(executor: String) -> Self {
        Self { executor, living: Mutex::default(), ended: Notify::new() }
    }

    /// The mark of this executor.
    #[must_use]
    pub fn executor(&self) -> &str {
        &self.executor
    }

    /// An attempt is about to start; it lives as long as the answer does. To be told before its first process can start
    /// another.
    #[must_use]
    pub fn begin(self: &Arc<Self>, attempt: String) -> Living {
        self.with(|living| living.insert(attempt.clone(), None));
        Living { sweeper: Arc::clone(self), attempt }
    }

    /// Kills what is left of ended attempts now. Blocking work runs apart from the async threads.
    pub async fn sweep(&self) -> usize {
        let living = self.with(|living| living.clone());
        let executor = self.executor.clone();
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let work = move || process::kill(process::orphans(&process::marked(&executor), &living, own));
        tokio::task::spawn_blocking(work).await.unwrap_or(0)
    }

    /// Sweeps whenever something ended; never returns.
    pub async fn run(&self) {
        loop {
            self.ended.notified().await;
            tokio::time::sleep(INTERVAL).await;
            let killed = self.sweep().await;
            if killed > 0 {
                tracing::warn!(processes = killed, "killed what ended attempts had left running");
            }
        }
    }

    fn end(&self, attempt: &str) {
        if self.with(|living| living.remove(attempt)).is_some() {
            self.ended.notify_one();
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<String, Option<i32>>) -> T) -> T {
        act(&mut self.living.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An attempt that lives. What it left behind is killed within a second or two of its end.
#[derive(Debug)]
pub struct Living {
    sweeper: Arc<Sweeper>,
    attempt: String,
}

impl Living {
    /// The attempt's first process.
    pub fn lead(&self, pid: i32) {
        self.sweeper.with(|living| living.insert(self.attempt.clone(), Some(pid)));
    }

    /// It has ended. Dropping says the same.
    pub fn end(&self) {
        self.sweeper.end(&self.attempt);
    }

    /// Kills at once what it, and others that ended, left behind.
    pub async fn sweep(&self) {
        self.end();
        self.sweeper.sweep().await;
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        self.end();
    }
}
