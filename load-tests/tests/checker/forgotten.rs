//! A database that lost its latest commits: what was told of them is left out, and nothing older.

use crate::story::{SECOND, attempt, due, finds, line, right, run_id};
use load_tests::history::{AttemptName, Check, History, JournalEvent, check};

/// The third request's run was acknowledged and is not there.
fn without_a_run() -> History {
    let (mut history, lost) = (right(), run_id(1_002));
    history.firings.retain(|firing| firing.run_id != Some(lost));
    history.runs.retain(|run| run.id != lost);
    history.units.retain(|unit| unit.run_id != lost);
    history.unit_writes.retain(|write| write.run_id != lost);
    history
}

/// A result that counted, and the unit's next attempt, whose result counts.
fn with_a_second_try() -> History {
    let mut history = right();
    let first = AttemptName { lease: attempt(7).lease - 1, ..attempt(7) };
    let outcome = "completed".to_owned();
    history.journals[0].1.extend([
        line(due(7) + 1, JournalEvent::Assigned { attempt: first.clone() }),
        line(due(7) + 2, JournalEvent::Result { attempt: first.clone(), outcome }),
        line(due(7) + 3, JournalEvent::Ack { attempt: first, accepted: true }),
    ]);
    history
}

fn forgets(mut history: History, from_us: i64, to_us: i64) -> History {
    history.promises.forgotten_us = Some((from_us, to_us));
    history
}

#[test]
fn c2_an_answer_of_that_time_is_no_promise_and_any_other_is_one() {
    let words = "and is not there";
    finds(&without_a_run(), Check::C2, words);
    let report = check(&forgets(without_a_run(), due(2), due(2) + SECOND));
    assert!(report.is_held(), "{report}");
    finds(&forgets(without_a_run(), due(2) + SECOND, due(5)), Check::C2, words);
    finds(&forgets(without_a_run(), due(0), due(2)), Check::C2, words);
}

#[test]
fn c3_a_result_that_was_forgotten_may_count_once_more() {
    let words = "results of several leases counted";
    finds(&with_a_second_try(), Check::C3, words);
    let report = check(&forgets(with_a_second_try(), due(7), due(7) + 3));
    assert!(report.is_held(), "{report}");
    finds(&forgets(with_a_second_try(), due(7) + SECOND, due(9)), Check::C3, words);
}
