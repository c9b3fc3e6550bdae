//! Leasing ahead: along a chain of quick blocks an executor begins the next one by itself.
//!
//! Between two blocks of a chain lie a message, a commit and a message back. Where blocks take longer than that by far, nobody
//! feels it. Where they do not, what follows is leased with what it follows, in the same commit, and its executor goes from
//! one to the next without asking. How far is learnt from the run itself: one quick block earns one lease ahead, and each
//! further one doubles that. Only what runs no user code is leased so. An executor gives back what it would begin too late, so
//! that a slot is never kept from others for longer than a moment. Refuses to know what follows what: that is `domain::run`.

use super::{Engine, live::Live, seat::Seat, turn::Turn};
use crate::wire::{self, AttemptId};
use domain::{
    id::{ExecutorId, RunId},
    run::{Lease, Transition},
    unit::{Outcome, UnitKey},
};
use std::time::Duration;

/// A block that took less than this was a quick one.
const QUICK: Duration = Duration::from_millis(50);
/// Leases ahead of one run.
const AHEAD_MAX: usize = 15;

impl Live {
    /// Notes how one of its attempts ended, and how long that took.
    pub(super) fn keep_pace(&mut self, outcome: &Outcome, took: Duration) {
        let quick = matches!(outcome, Outcome::Completed(_)) && took < QUICK;
        self.pace = if quick { (2 * self.pace + 1).min(AHEAD_MAX) } else { 0 };
    }
}

impl Engine {
    /// Gives a leased unit to its executor: with this turn's messages, once the turn is committed. With `before` the executor
    /// begins it behind that attempt.
    pub(super) fn assign(
        &mut self,
        run: RunId,
        lease: &Lease,
        before: Option<&AttemptId>,
        executor: ExecutorId,
        turn: &mut Turn,
    ) -> Option<AttemptId> {
        let live = self.runs.get(&run)?;
        let assignment = wire::assignment(run, live.run.graph(), &live.definition.id, &live.context, lease, before);
        let (block, child) = live.run.unit_name(lease.key);
        let attempt = AttemptId { run, block, child, lease: lease.lease };
        if let Some(seat) = self.seats.get_mut(&executor) {
            match before {
                None => seat.hold(attempt.clone()),
                Some(before) => seat.hold_behind(before.clone(), attempt.clone()),
            }
        }
        turn.assignments.entry(executor).or_default().push(assignment);
        Some(attempt)
    }

    /// Leases to the same executor what follows a unit that was just leased to it, as far as the run's pace goes.
    pub(super) fn lease_ahead(
        &mut self,
        first: (UnitKey, AttemptId),
        executor: ExecutorId,
        out: &mut Vec<Transition>,
        turn: &mut Turn,
    ) {
        if !self.seats.get(&executor).is_some_and(Seat::goes_on) {
            return;
        }
        let (mut key, mut before) = first;
        let run = before.run;
        for _ in 0..self.runs.get(&run).map_or(0, |live| live.pace) {
            let Some(lease) = self.runs.get_mut(&run).and_then(|live| live.lease_ahead(key, out)) else { break };
            let Some(attempt) = self.assign(run, &lease, Some(&before), executor, turn) else { break };
            (key, before) = (lease.key, attempt);
        }
    }

    /// Whether a result says what can be known only after another one: that the run has heard of the end of what it follows.
    /// It is not answered, and comes again behind that.
    pub(super) fn is_early(&self, run: RunId, key: UnitKey, outcome: &Outcome) -> bool {
        !outcome.is_given_back() && self.runs.get(&run).is_some_and(|live| live.run.is_ahead(key))
    }

    /// Whether what is given back was taken back before by the run itself, as what is behind another one is. Then there is
    /// nothing to look up, and nothing to learn of its executor. Of a run that is not here nobody knows.
    pub(super) fn was_taken_back(&self, attempt: &AttemptId, outcome: &Outcome) -> bool {
        let live = self.runs.get(&attempt.run).filter(|_| matches!(outcome, Outcome::Released));
        live.is_some_and(|live| {
            let key = live.run.unit_key(&attempt.block, attempt.child);
            key.is_some_and(|key| live.run.has_passed(key, attempt.lease))
        })
    }
}
