//! Executors that are not there any more: who said goodbye, and who is lost.
//!
//! Nothing dies of a goodbye, and whatever runs where an executor is lost counts as a death. The owners of its runs hear the word
//! through its gateway; an owner that was just dying, loading or cut off does not. So the gateway notes it in the
//! executor's row, and nobody is called lost before that was looked at.

use super::{Engine, live::Live, turn::Turn};
use crate::wire::AttemptId;
use domain::{
    id::{ExecutorId, RunId},
    run::Event,
    unit::Outcome,
};

/// Goodbyes that the database has not been told of. Who says it beyond that, while the database is away, counts as lost to
/// owners that did not hear it.
const FAREWELLS_MAX: usize = 1_024;

impl Engine {
    /// An executor has drained and goes.
    pub(super) fn bid_farewell(&mut self, executor: ExecutorId, turn: &mut Turn) {
        let seat = self.seats.get(&executor).filter(|seat| seat.is_local());
        if let Some(seat) = seat.filter(|_| self.farewells.len() < FAREWELLS_MAX) {
            self.farewells.insert(executor, seat.row(executor, "gone"));
        }
        self.leave(executor, turn);
    }

    /// Executors of which it is to be asked whether they have said goodbye.
    pub(super) fn in_doubt(&self) -> Vec<ExecutorId> {
        let lost_after = self.timing.lost_after;
        self.seats.iter().filter(|(_, seat)| seat.is_in_doubt(lost_after)).map(|(id, _)| *id).collect()
    }

    /// What became of those that were asked about: they have left, or they are lost, or they may still come.
    ///
    /// A scheduler that slept, or waited for its database, finds everybody silent, and what they said meanwhile in its queue:
    /// whoever is lost was silent in two turns.
    pub(super) fn settle_absent(&mut self, turn: &mut Turn) {
        let lost_after = self.timing.lost_after;
        for (executor, has_left) in std::mem::take(&mut turn.answers.in_doubt) {
            let Some(seat) = self.seats.get_mut(&executor).filter(|seat| seat.is_in_doubt(lost_after)) else {
                continue;
            };
            if has_left || self.farewells.contains_key(&executor) {
                tracing::info!(executor.id = %executor, "an executor that said goodbye to another scheduler is gone");
                self.leave(executor, turn);
            } else if seat.doubt(lost_after) {
                self.lose(executor, turn);
            }
        }
    }

    /// Nothing of an executor is there any more, and nothing died with it.
    fn leave(&mut self, executor: ExecutorId, turn: &mut Turn) {
        // What it has not ended by now was on its way to it.
        self.seats.remove(&executor);
        self.release_missing(executor, turn);
        self.leave_homes(executor, turn);
    }

    /// An executor is gone without a word: whatever it ran is tried again by others.
    fn lose(&mut self, executor: ExecutorId, turn: &mut Turn) {
        let Some(seat) = self.seats.remove(&executor) else { return };
        tracing::warn!(executor.id = %executor, executor.name = seat.name, attempts = seat.begun(), "executor lost");
        self.metrics.executors_lost.inc();
        if seat.is_local() {
            turn.seats.insert(executor, seat.row(executor, "lost"));
        }
        let runs: Vec<RunId> = self.runs.iter().filter(|(_, live)| live.uses(executor)).map(|(id, _)| *id).collect();
        for run in runs {
            self.advance(run, Event::ExecutorLost(executor), turn);
        }
    }

    /// What the runs believe to be with an executor and it does not have never reached it. One that is gone has nothing.
    pub(super) fn release_missing(&mut self, executor: ExecutorId, turn: &mut Turn) {
        let seat = self.seats.get(&executor);
        let mut missing = Vec::new();
        for (run, live) in &self.runs {
            for (key, lease) in live.run.running_on(executor) {
                let (block, child) = live.run.unit_name(key);
                let attempt = AttemptId { run: *run, block, child, lease };
                if seat.is_none_or(|seat| !seat.holds(&attempt)) {
                    missing.push((*run, key, lease));
                }
            }
        }
        for (run, key, lease) in missing {
            // With one of them the run takes back what is behind it.
            if self.runs.get(&run).is_some_and(|live| live.run.is_running(key, lease, executor)) {
                self.advance(run, Event::Ended { key, lease, outcome: Outcome::Released }, turn);
            }
        }
    }

    /// One-process runs whose executor has gone go on elsewhere: nobody will ever call it lost.
    fn leave_homes(&mut self, executor: ExecutorId, turn: &mut Turn) {
        let at_home = |live: &Live| live.run.home() == Some(executor);
        let runs: Vec<RunId> = self.runs.iter().filter(|(_, live)| at_home(live)).map(|(run, _)| *run).collect();
        for run in runs {
            self.advance(run, Event::ExecutorLeft(executor), turn);
        }
    }
}
