//! What clients and executors tell of commits that the database lost.
//!
//! A standby that nobody waited for has taken over, and what had been committed since it last followed never was. Whoever was told
//! of it was told what is not so any more: that is left out, and nothing else. What is decided again is judged as usual.

use crate::history::{AttemptName, Call, History, JournalEvent, JournalLine, Request};
use std::collections::HashSet;

/// The history without answers of that time, and without attempts that began or counted then.
pub(super) fn without(history: &History, (from_us, to_us): (i64, i64)) -> History {
    let is_forgotten = |at_us: i64| (from_us..=to_us).contains(&at_us);
    let mut remembered = history.clone();
    // What several owners start at an event is answered together: an answer after that time may hold one of that time.
    let may_hold = |call: &Call, at_us: i64| {
        let has_parts = matches!(&call.request, Request::PublishEvent { matches, .. } if matches.len() > 1);
        has_parts && call.asked_at_us <= to_us && at_us >= from_us
    };
    let was_told = |call: &Call, at_us: i64| is_forgotten(at_us) || may_hold(call, at_us);
    remembered.calls.retain(|call| !call.answer.as_ref().is_some_and(|answer| was_told(call, answer.at_us)));
    let lines = || history.journals.iter().flat_map(|(_, lines)| lines);
    let told = lines().filter(|line| is_forgotten(line.at_us)).filter_map(|line| match &line.event {
        JournalEvent::Assigned { attempt } | JournalEvent::Ack { attempt, .. } => Some(attempt),
        _ => None,
    });
    let attempts: HashSet<&AttemptName> = told.collect();
    let stays = |line: &JournalLine| attempt(&line.event).is_none_or(|attempt| !attempts.contains(attempt));
    remembered.journals.iter_mut().for_each(|(_, lines)| lines.retain(stays));
    remembered
}

/// The attempt that a line is about.
fn attempt(event: &JournalEvent) -> Option<&AttemptName> {
    match event {
        JournalEvent::Assigned { attempt }
        | JournalEvent::Start { attempt, .. }
        | JournalEvent::End { attempt, .. }
        | JournalEvent::Result { attempt, .. }
        | JournalEvent::Dropped { attempt }
        | JournalEvent::Ack { attempt, .. } => Some(attempt),
        JournalEvent::Open { .. } | JournalEvent::Hold { .. } | JournalEvent::Free { .. } => None,
    }
}
