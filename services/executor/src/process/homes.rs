//! Processes of one-process runs, between one attempt of theirs and the next.

use super::job_child::JobChild;
use domain::id::RunId;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Without a next attempt or a word about the run's end for so long, the process goes: the word may have been lost.
const IDLE_MAX: Duration = Duration::from_secs(3600);
/// Processes that wait; beyond it the one that waits longest goes.
const WAITING_MAX: usize = 256;

/// See the module's page.
#[derive(Default)]
pub(crate) struct Homes {
    waiting: Mutex<HashMap<RunId, (Instant, JobChild)>>,
}

impl Homes {
    /// The process of a run, if one waits that can take a job.
    pub(crate) fn take(&self, run: RunId) -> Option<JobChild> {
        self.with(|waiting| waiting.remove(&run)).map(|(_, child)| child).filter(JobChild::is_alive)
    }

    /// Keeps a process for the run's next attempt. Answers those that have to go for it.
    #[must_use]
    pub(crate) fn keep(&self, run: RunId, child: JobChild) -> Vec<JobChild> {
        self.with(|waiting| {
            let mut gone: Vec<JobChild> =
                waiting.insert(run, (Instant::now(), child)).map(|(_, child)| child).into_iter().collect();
            let mut tired: Vec<RunId> =
                waiting.iter().filter(|(_, (since, _))| since.elapsed() > IDLE_MAX).map(|(run, _)| *run).collect();
            if waiting.len() - tired.len() > WAITING_MAX {
                tired.extend(waiting.iter().min_by_key(|(_, (since, _))| *since).map(|(run, _)| *run));
            }
            gone.extend(tired.iter().filter_map(|run| waiting.remove(run)).map(|(_, child)| child));
            gone
        })
    }

    /// All of them.
    #[must_use]
    pub(crate) fn take_all(&self) -> Vec<JobChild> {
        self.with(|waiting| waiting.drain().map(|(_, (_, child))| child).collect())
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<RunId, (Instant, JobChild)>) -> T) -> T {
        act(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
