//! What was leased ahead: attempts that begin here without being told, each in the slot of the one that it follows, once that
//! has completed. Whatever does not begin so goes back, and is told before the result of what it followed: its owner then
//! sees it as never begun. Refuses to know what follows what.

use super::{Core, results::UNACKNOWLEDGED_MAX};
use crate::{
    attempt::{Attempt, AttemptId},
    attempts::span,
    noop,
};
use proto::internal::v1::{self as pb, result::Outcome};
use std::{collections::HashMap, time::Duration};
use tokio::time::Instant;

/// How long after it was assigned something may still begin by itself: the slot would be kept from others for longer.
const GOES_ON: Duration = Duration::from_millis(100);

struct Next {
    attempt: Attempt,
    until: Instant,
}

/// By the attempt that each follows.
#[derive(Default)]
pub(super) struct Ahead(HashMap<AttemptId, Next>);

impl Ahead {
    pub(super) fn ids(&self) -> impl Iterator<Item = &AttemptId> {
        self.0.values().map(|next| &next.attempt.id)
    }

    pub(super) fn holds(&self, id: &AttemptId) -> bool {
        self.ids().any(|held| held == id)
    }

    /// Forgets all of it: it was given to others.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Takes out an attempt and everything behind it, in the order in which they go back.
    fn take(&mut self, id: &AttemptId) -> Vec<AttemptId> {
        let before = self.0.iter().find(|(_, next)| next.attempt.id == *id).map(|(before, _)| before.clone());
        before.map_or_else(Vec::new, |before| self.take_behind(before))
    }

    /// The last one first: when its owner hears of one, that is still behind something, and not taken back already.
    fn take_behind(&mut self, mut before: AttemptId) -> Vec<AttemptId> {
        let mut taken = Vec::new();
        while let Some(next) = self.0.remove(&before) {
            before = next.attempt.id;
            taken.push(before.clone());
        }
        taken.reverse();
        taken
    }
}

impl Core {
    /// Takes an assignment with what it follows, or gives it back where that is not to be waited for. Answers it when it may
    /// begin at once, as what it follows has completed.
    pub(super) fn take_ahead(
        &mut self,
        before: AttemptId,
        attempt: Attempt,
        ended: &mut Vec<pb::Result>,
    ) -> Option<Attempt> {
        if self.running.contains_key(&before) || self.ahead.holds(&before) {
            self.ahead.0.insert(before, Next { attempt, until: Instant::now() + GOES_ON });
            return None;
        }
        if self.unacknowledged.has_completed(&before) {
            return Some(attempt);
        }
        ended.push(self.released(attempt.id));
        None
    }

    /// Begins an attempt. The built-in no-op is over at once, and so may be what follows it.
    pub(super) fn begin(&mut self, attempt: Attempt, ended: &mut Vec<pb::Result>) {
        self.journal.assigned(&attempt.id);
        match span(&attempt).in_scope(|| noop::outcome(&attempt)) {
            Some(outcome) => self.over(attempt.id, outcome, 0, ended),
            None => self.start(attempt),
        }
    }

    /// An attempt is over: what follows it begins, or goes back with everything behind it.
    pub(super) fn over(&mut self, id: AttemptId, outcome: Outcome, duration_us: i64, ended: &mut Vec<pb::Result>) {
        let next = self.next(&id, &outcome);
        if next.is_none() {
            self.give_back_behind(id.clone(), ended);
        }
        ended.push(self.result(id, outcome, duration_us));
        if let Some(next) = next {
            self.begin(next, ended);
        }
    }

    /// What begins behind an attempt that ended so.
    fn next(&mut self, id: &AttemptId, outcome: &Outcome) -> Option<Attempt> {
        let goes_on = matches!(outcome, Outcome::Completed(_)) && !self.draining;
        let has_room = self.unacknowledged.len() < UNACKNOWLEDGED_MAX;
        let in_time = self.ahead.0.get(id).is_some_and(|next| Instant::now() < next.until);
        if !(goes_on && has_room && in_time) {
            return None;
        }
        self.ahead.0.remove(id).map(|next| next.attempt)
    }

    /// Gives back everything behind an attempt, which has not begun.
    pub(super) fn give_back_behind(&mut self, id: AttemptId, ended: &mut Vec<pb::Result>) {
        let back = self.ahead.take_behind(id);
        ended.extend(back.into_iter().map(|id| self.released(id)));
    }

    /// Gives back an attempt that has not begun, with everything behind it.
    pub(super) fn give_back(&mut self, id: &AttemptId, ended: &mut Vec<pb::Result>) {
        let back = self.ahead.take(id);
        ended.extend(back.into_iter().map(|id| self.released(id)));
    }

    /// Of what has not begun.
    pub(super) fn released(&mut self, id: AttemptId) -> pb::Result {
        self.journal.assigned(&id);
        self.result(id, Outcome::Released(pb::Released {}), 0)
    }
}
