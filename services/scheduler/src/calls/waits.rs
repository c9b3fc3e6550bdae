//! How many attempts of one executor wait for runs. Each gave its slot to others and is a process that lies there, so without
//! a bound pipelines that start each other would fill a machine with them. Refuses to know what they wait for.

use crate::wire::AttemptId;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Attempts that may wait, for each slot of their executor.
const PER_SLOT: usize = 8;
/// So many may wait in any case.
const LEAST: usize = 64;

/// The attempts that wait on one session.
#[derive(Debug, Clone)]
pub struct Waits {
    most: usize,
    /// With how many runs each waits for at once.
    waiting: Arc<Mutex<HashMap<AttemptId, usize>>>,
}

impl Waits {
    /// Nobody waits yet.
    #[must_use]
    pub fn on(slots: u32) -> Self {
        let most = usize::try_from(slots).unwrap_or(usize::MAX).saturating_mul(PER_SLOT).max(LEAST);
        Self { most, waiting: Arc::default() }
    }

    /// A place for an attempt that waits, until it is dropped.
    ///
    /// # Errors
    /// When so many others wait that there is none, in words for whoever wrote the code.
    pub(super) fn enter(&self, attempt: AttemptId) -> Result<Place, String> {
        let mut waiting = self.lock();
        if !waiting.contains_key(&attempt) && waiting.len() >= self.most {
            return Err(format!(
                "{} blocks of this executor wait for runs already, which is the most that may; give it more slots or start \
                 more executors, or do not wait for the runs that a block starts",
                self.most
            ));
        }
        *waiting.entry(attempt.clone()).or_default() += 1;
        Ok(Place { waits: self.clone(), attempt })
    }

    fn leave(&self, attempt: &AttemptId) {
        let mut waiting = self.lock();
        if let Some(count) = waiting.get_mut(attempt) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(attempt);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AttemptId, usize>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that waits.
pub(super) struct Place {
    waits: Waits,
    attempt: AttemptId,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.waits.leave(&self.attempt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::id::RunId;

    #[test]
    fn so_many_attempts_wait_and_each_for_as_many_runs_as_it_likes() {
        let run = RunId::new_in(3);
        let attempt = |lease: i64| AttemptId { run, block: "a".to_owned(), child: -1, lease };
        for (slots, most) in [(1, 64), (100, 800)] {
            let waits = Waits::on(slots);
            let mut places: Vec<Place> = (0..most).map(|lease| waits.enter(attempt(lease)).ok().unwrap()).collect();
            assert!(waits.enter(attempt(most)).err().unwrap().contains("more slots"));
            places.push(waits.enter(attempt(0)).ok().unwrap());
            // One that waits for two runs waits until both are there.
            places.swap_remove(0);
            assert!(waits.enter(attempt(most)).is_err());
            drop(places.pop());
            drop(places.pop());
            assert!(waits.enter(attempt(most)).is_ok());
        }
    }
}
