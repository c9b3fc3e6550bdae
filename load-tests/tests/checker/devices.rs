//! Devices and gangs, which only journals tell of.

use crate::story::{SECOND, START, attempt, due, finds, line, right};
use load_tests::history::{
    AttemptName, Check, DeviceShare, Gang, History, JournalEvent, JournalLine, Placement, Standing, check,
};
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

/// A life of a runtime, with a part of the device that attempts of other tests have.
fn holds(life: u128, milli: u32) -> JournalEvent {
    let devices = vec![DeviceShare { device: "GPU-1".to_owned(), milli }];
    JournalEvent::Hold { holder: Uuid::from_u128(life), devices }
}

fn frees(life: u128) -> JournalEvent {
    JournalEvent::Free { holder: Uuid::from_u128(life) }
}

fn open(boot: &str) -> JournalEvent {
    JournalEvent::Open { executor: Uuid::from_u128(10), name: "executor-1".to_owned(), pid: 2, boot: boot.to_owned() }
}

#[test]
fn c4_two_lives_on_one_device_at_once() {
    let after = |gap| {
        let first = vec![line(START, holds(1, 1_000)), line(START + SECOND, frees(1))];
        with(first, vec![line(START + SECOND + gap, holds(2, 1_000)), line(due(9), frees(2))])
    };
    let report = check(&after(0));
    assert_eq!(report.of(Check::C4).standing, Standing::Held, "{report}");
    assert_eq!(report.of(Check::C4).checked["shares of devices"], 2);
    finds(&after(-1), Check::C4, "2000 of 1000 are given away");
    // A block's attempt and a life.
    let block = vec![line(START, started(1, 600, None)), line(due(5), ended(1))];
    finds(&with(block, vec![line(due(4), holds(2, 401)), line(due(6), frees(2))]), Check::C4, "1001 of 1000");
}

#[test]
fn c4_a_life_that_two_executors_tell_of_has_its_share_once() {
    let told = |life| {
        let first = vec![line(START, holds(1, 1_000)), line(due(3), frees(1))];
        with(first, vec![line(due(1), holds(life, 1_000)), line(due(2), frees(life))])
    };
    let report = check(&told(1));
    assert!(report.is_held(), "{report}");
    finds(&told(2), Check::C4, "2000 of 1000");
}

#[test]
fn c4_a_life_outlives_its_executor_and_not_its_machine() {
    let restarted = |boot: &str| {
        let first = vec![line(START, holds(1, 1_000)), line(due(1), open(boot)), line(due(1), holds(1, 1_000))];
        let first = first.into_iter().chain([line(due(3), frees(1))]).collect();
        with(first, vec![line(due(2), holds(2, 1_000)), line(due(4), frees(2))])
    };
    finds(&restarted("boot"), Check::C4, "2000 of 1000");
    assert_eq!(check(&restarted("another")).of(Check::C4).standing, Standing::Held, "devices of another machine");
}

#[test]
fn c8_what_has_devices_counts_as_having_them_and_what_is_gone_does_not() {
    let ends_with = |state: Option<&str>, is_gone: bool| {
        let mut lines = vec![line(START, holds(1, 1_000))];
        lines.extend(is_gone.then(|| line(due(2), frees(1))));
        let mut history = with(lines, Vec::new());
        let holder = Uuid::from_u128(1);
        history.placements.extend(state.map(|state| Placement { holder, state: state.to_owned() }));
        history
    };
    for (state, is_gone) in [(Some("held"), false), (None, true), (Some("nominated"), true)] {
        let report = check(&ends_with(state, is_gone));
        assert!(report.is_held(), "{state:?}: {report}");
        assert_eq!(report.of(Check::C8).checked["lives on devices"], 1);
    }
    finds(&ends_with(None, false), Check::C8, "counts as having none");
    finds(&ends_with(Some("releasing"), true), Check::C8, "its devices did not come back");
}

/// As the executor writes them.
#[test]
fn the_lines_of_an_executor_are_read() {
    let life = Uuid::from_u128(7);
    let text = format!(
        r#"{{"at_us":2,"devices":[{{"device":"here/gpu-0","milli":400}}],"event":"hold","holder":"{life}","mono_us":1}}"#
    );
    let JournalEvent::Hold { holder, devices } = serde_json::from_str::<JournalLine>(&text).unwrap().event else {
        panic!("a life that begins")
    };
    assert_eq!((holder, devices[0].device.as_str(), devices[0].milli), (life, "here/gpu-0", 400));
    let text = format!(r#"{{"at_us":2,"event":"free","holder":"{life}","mono_us":1}}"#);
    assert!(
        matches!(serde_json::from_str::<JournalLine>(&text).unwrap().event, JournalEvent::Free { holder } if holder == life)
    );
}
