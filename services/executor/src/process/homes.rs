//! Processes of one-process runs, between one attempt of theirs and the next.

use super::job_child::JobChild;
use domain::id::RunId;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Without a next attempt or a word about the run's end for so long, the process goes: the word may have been lost.
const IDLE_MAX: Duration = Duration::from_secs(3600);
/// Processes that wait; beyond it the one that waits longest goes.
const WAITING_MAX: usize = 256;

/// Runs whose process was let go, of which it is known.
const LET_GO_MAX: usize = 4_096;

/// See the module's page. `P` is a process.
pub(crate) struct Homes<P = JobChild> {
    waiting: Mutex<Waiting<P>>,
}

struct Waiting<P> {
    processes: HashMap<RunId, (Instant, P)>,
    /// The latest that had to go for others: what their runs lack has not died.
    let_go: VecDeque<RunId>,
}

impl<P> Default for Homes<P> {
    fn default() -> Self {
        Self { waiting: Mutex::new(Waiting { processes: HashMap::new(), let_go: VecDeque::new() }) }
    }
}

impl Homes {
    /// The process of a run, if one waits that can take a job.
    pub(crate) fn take(&self, run: RunId) -> Option<JobChild> {
        self.with(|waiting| waiting.processes.remove(&run)).map(|(_, child)| child).filter(JobChild::is_alive)
    }
}

impl<P> Homes<P> {
    /// Keeps a process for the run's next attempt. Answers those that have to go for it.
    #[must_use]
    pub(crate) fn keep(&self, run: RunId, process: P) -> Vec<P> {
        self.with(|waiting| {
            // It has one again, which may die.
            waiting.let_go.retain(|known| *known != run);
            let processes = &mut waiting.processes;
            let mut gone: Vec<P> =
                processes.insert(run, (Instant::now(), process)).map(|(_, former)| former).into_iter().collect();
            let mut tired: Vec<RunId> =
                processes.iter().filter(|(_, (since, _))| since.elapsed() > IDLE_MAX).map(|(run, _)| *run).collect();
            if processes.len() - tired.len() > WAITING_MAX {
                let longest = processes.iter().min_by_key(|(_, (since, _))| *since).map(|(run, _)| *run);
                waiting.let_go.extend(longest);
                tired.extend(longest);
            }
            gone.extend(tired.iter().filter_map(|run| processes.remove(run)).map(|(_, process)| process));
            let excess = waiting.let_go.len().saturating_sub(LET_GO_MAX);
            waiting.let_go.drain(..excess);
            gone
        })
    }

    /// Whether the process of a run was let go here.
    pub(crate) fn has_let_go(&self, run: RunId) -> bool {
        self.with(|waiting| waiting.let_go.contains(&run))
    }

    /// All of them.
    #[must_use]
    pub(crate) fn take_all(&self) -> Vec<P> {
        self.with(|waiting| waiting.processes.drain().map(|(_, (_, process))| process).collect())
    }

    fn with<T>(&self, act: impl FnOnce(&mut Waiting<P>) -> T) -> T {
        act(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn run(n: usize) -> RunId {
        RunId(Uuid::from_u128(n as u128))
    }

    #[test]
    fn who_waits_longest_goes_and_is_remembered() {
        let homes = Homes::default();
        let kept: Vec<usize> = (0..WAITING_MAX).flat_map(|n| homes.keep(run(n), n)).collect();
        assert!(kept.is_empty() && !homes.has_let_go(run(0)));
        assert_eq!(homes.keep(run(WAITING_MAX), WAITING_MAX), [0]);
        assert!(homes.has_let_go(run(0)) && !homes.has_let_go(run(1)));
        // One that is replaced by the next of its run was not let go.
        assert_eq!(homes.keep(run(1), 7), [1]);
        assert!(!homes.has_let_go(run(1)));
        // One that has a process again may lose it.
        assert_eq!(homes.keep(run(0), 0).len(), 1);
        assert!(!homes.has_let_go(run(0)) && homes.has_let_go(run(2)));
        for n in 0..LET_GO_MAX {
            assert_eq!(homes.keep(run(1_000 + n), n).len(), 1);
        }
        assert!(!homes.has_let_go(run(2)), "the memory of them has an end");
    }
}
