//! Devices and gangs, which only journals tell of.

use crate::story::{SECOND, START, attempt, due, finds, line, right};
use load_tests::history::{AttemptName, Check, DeviceShare, Gang, History, JournalEvent, JournalLine, Standing, check};
use uuid::Uuid;

fn started(number: usize, milli: u32, gang: Option<Gang>) -> JournalEvent {
    let devices = vec![DeviceShare { device: "GPU-1".to_owned(), milli }];
    JournalEvent::Start { attempt: name(number), pid: 7, devices, gang }
}

fn name(number: usize) -> AttemptName {
    AttemptName { lease: attempt(number).lease + 77, ..attempt(number) }
}

fn ended(number: usize) -> JournalEvent {
    JournalEvent::End { attempt: name(number), outcome: "completed".to_owned() }
}

/// With these lines on the first and on the second executor.
fn with(first: Vec<JournalLine>, second: Vec<JournalLine>) -> History {
    let mut history = right();
    history.journals[0].1.extend(first);
    history.journals[1].1.extend(second);
    history
}

#[test]
fn c4_two_whole_holders_one_after_the_other_are_right_and_at_once_are_not() {
    let after = |gap| {
        let first = vec![line(START, started(1, 1_000, None)), line(START + SECOND, ended(1))];
        with(first, vec![line(START + SECOND + gap, started(2, 1_000, None)), line(due(9), ended(2))])
    };
    let report = check(&after(0));
    assert_eq!(report.of(Check::C4).standing, Standing::Held, "{report}");
    finds(&after(-1), Check::C4, "2000 of 1000 are given away");
}

#[test]
fn c4_parts_add_up_to_the_whole_and_not_beyond() {
    let parts = |third| {
        let first = vec![line(START, started(1, 400, None)), line(START + 1, started(3, 200, None))];
        let first = first.into_iter().chain([line(due(5), ended(1)), line(due(5), ended(3))]).collect();
        with(first, vec![line(START + 2, started(2, third, None)), line(due(4), ended(2))])
    };
    assert!(check(&parts(400)).is_held());
    finds(&parts(401), Check::C4, "1001 of 1000");
}

#[test]
fn c4_a_new_life_proves_that_the_former_ones_processes_are_gone() {
    let first = vec![line(START, started(1, 1_000, None))];
    let second = vec![line(due(9), started(2, 1_000, None)), line(due(10), ended(2))];
    // Its holder was never seen to end.
    let mut history = with(first, second);
    history.promises.is_quiet = false;
    history.promises.settle_ms = 90_000;
    finds(&history, Check::C4, "2000 of 1000");
    let (executor, name) = (Uuid::from_u128(10), "executor-1".to_owned());
    let open = JournalEvent::Open { executor, name, pid: 2, boot: "boot".to_owned() };
    history.journals[0].1.push(line(due(8), open));
    assert!(check(&history).is_held());
}

#[test]
fn c5_a_gang_that_starts_half_or_scattered() {
    let member = |at, number| {
        let gang = Gang { id: Uuid::from_u128(5), members: 3 };
        vec![line(at, started(number, 100, Some(gang))), line(at + SECOND, ended(number))]
    };
    let gang = |third: Option<i64>| {
        let mut history = with(
            [member(START, 1), third.map(|at| member(at, 3)).unwrap_or_default()].concat(),
            member(START + SECOND, 2),
        );
        history.promises.gang_slack_ms = 5_000;
        history
    };
    let report = check(&gang(Some(START + 2 * SECOND)));
    assert_eq!(report.of(Check::C5).standing, Standing::Held, "{report}");
    finds(&gang(None), Check::C5, "2 of its 3 members started");
    finds(&gang(Some(START + 6 * SECOND)), Check::C5, "6000 ms apart");
}
