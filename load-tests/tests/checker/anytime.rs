//! Histories of triggers that come once, and of triggers that are always on.

use crate::story::{SECOND, START, add_run, due, finds, id, right, run_id, version};
use load_tests::history::{Check, Firing, History, TriggerKind, TriggerSpec, TriggerState, TriggerVersion, check};
use uuid::Uuid;

const ONCE: usize = 2_000;
const ALWAYS: usize = 3_000;
/// Runs of the trigger that is always on; each begins a second after the end of the one before.
const ON: usize = 20;

fn once() -> Uuid {
    id(2, 2)
}

fn always() -> Uuid {
    id(2, 3)
}

fn of(every: &str) -> TriggerSpec {
    let every = every.to_owned();
    let kind = TriggerKind::Schedule { every, zone: None, start: None, end: None };
    TriggerSpec { kind: Some(kind), ..TriggerSpec::default() }
}

fn fired(trigger_id: Uuid, logical_key: String, run: usize, at: i64) -> Firing {
    Firing {
        trigger_id,
        logical_key,
        decided: "fired".to_owned(),
        reason: None,
        run_id: Some(run_id(run)),
        shard_epoch: 2,
        created_at_us: at,
        committed_at_us: None,
        trigger_version: Some(1),
        execution_date_us: Some(at),
        last_date_us: None,
        times: 1,
    }
}

/// When the n-th run of the trigger that is always on is due: each takes 200 ms from its beginning, which is 20 ms late.
fn on(number: usize) -> i64 {
    START + SECOND + i64::try_from(number).unwrap() * (SECOND + 220_000)
}

/// The right history with two more triggers. The one that is always on is paused while its last run goes on.
fn right_at_any_time() -> History {
    let mut history = right();
    history.triggers.push(version(once(), "time", 1, true, of("@once"), START));
    history.firings.push(fired(once(), "once".to_owned(), ONCE, due(0)));
    add_run(&mut history, ONCE, once(), due(0));
    history.triggers.push(version(always(), "time", 1, true, of("@always_on"), START));
    for number in 0..ON {
        let at = on(number);
        history.firings.push(fired(always(), format!("always:{}", at / 1_000), ALWAYS + number, at));
        add_run(&mut history, ALWAYS + number, always(), at);
    }
    history.triggers.push(version(always(), "time", 2, false, of("@always_on"), on(ON - 1) + 1_000));
    assert!(check(&history).is_held(), "{}", check(&history));
    history
}

fn firing(history: &mut History, run: usize) -> &mut Firing {
    history.firings.iter_mut().find(|firing| firing.run_id == Some(run_id(run))).unwrap()
}

#[test]
fn a_right_history_says_what_was_looked_at() {
    let report = check(&right_at_any_time());
    assert_eq!(report.of(Check::C1).checked["decisions of schedules without times"], 21, "{report}");
    assert_eq!(report.of(Check::C1).checked["@once that had to come"], 1, "{report}");
    // The sixty of the schedule, and those that are always on.
    assert_eq!(report.of(Check::C6).checked["runs that must be alone"], 80, "{report}");
}

#[test]
fn once_that_comes_again() {
    let mut history = right_at_any_time();
    history.firings.push(fired(once(), "once".to_owned(), ONCE + 1, due(20)));
    add_run(&mut history, ONCE + 1, once(), due(20));
    finds(&history, Check::C1, "once was decided twice");

    // By another name it is a second time as well.
    history.firings.last_mut().unwrap().logical_key = "once:2".to_owned();
    finds(&history, Check::C1, "once:2 comes from version 1, which is @once");

    // As a time of a calendar, after an edit and back: never again.
    history.firings.last_mut().unwrap().logical_key = format!("at:{}", due(20) / 1_000);
    finds(&history, Check::C1, "which is @once");
}

#[test]
fn once_that_never_comes_or_before_its_time() {
    let mut history = right_at_any_time();
    history.firings.retain(|firing| firing.trigger_id != once());
    history.runs.retain(|run| run.id != run_id(ONCE));
    history.units.retain(|unit| unit.run_id != run_id(ONCE));
    history.unit_writes.retain(|write| write.run_id != run_id(ONCE));
    history.journals.iter_mut().for_each(|(_, lines)| {
        lines.retain(|line| !format!("{:?}", line.event).contains(&run_id(ONCE).to_string()));
    });
    finds(&history, Check::C1, "it is @once, was left time to come, and never was decided");
    // It may still come where it was not left that time, or waits.
    let mut waits = history.clone();
    waits.trigger_states.push(TriggerState {
        trigger_id: once(),
        version: 1,
        waiting: vec![serde_json::from_value(serde_json::json!({ "key": "once" })).unwrap()],
        halted: None,
        once: true,
        next_due_us: None,
    });
    assert!(check(&waits).is_held(), "{}", check(&waits));
    let starts = |history: &mut History, at: i64| {
        let version = history.triggers.iter_mut().find(|version| version.id == once()).unwrap();
        let Some(TriggerKind::Schedule { start, .. }) = &mut version.spec.kind else { unreachable!() };
        *start = Some(jiff::Timestamp::from_microsecond(at).unwrap());
    };
    let taken_at = history.taken_at_us;
    starts(&mut history, taken_at - SECOND);
    assert!(check(&history).is_held(), "{}", check(&history));

    let mut history = right_at_any_time();
    starts(&mut history, due(3));
    finds(&history, Check::C1, "is before the start of its trigger");
    let mut history = right_at_any_time();
    firing(&mut history, ONCE).execution_date_us = Some(due(1));
    finds(&history, Check::C1, "once fired too early");
}

#[test]
fn always_on_is_never_two_at_once() {
    let mut history = right_at_any_time();
    let first = history.runs.iter_mut().find(|run| run.id == run_id(ALWAYS)).unwrap();
    first.completed_at_us = Some(on(1) + SECOND);
    finds(&history, Check::C6, &format!("run {} began while {} had not ended", run_id(ALWAYS + 1), run_id(ALWAYS)));

    // Nor does one that another scheduler started as well.
    let mut history = right_at_any_time();
    let at = on(3) + 30_000;
    history.firings.push(fired(always(), format!("always:{}", at / 1_000), ALWAYS + ON, at));
    add_run(&mut history, ALWAYS + ON, always(), at);
    finds(&history, Check::C6, &format!("run {} began while", run_id(ALWAYS + ON)));
}

#[test]
fn always_on_names_its_starts_by_when_they_became_due() {
    let mut history = right_at_any_time();
    firing(&mut history, ALWAYS + 2).logical_key = format!("always:{}", on(2) / 1_000 + 5);
    finds(&history, Check::C1, "which is @always_on");
    let mut history = right_at_any_time();
    firing(&mut history, ALWAYS + 2).created_at_us -= 1;
    finds(&history, Check::C1, "fired too early");
}

#[test]
fn always_on_that_is_not_on() {
    let mut history = right_at_any_time();
    // Not paused after all.
    let is_pause = |version: &TriggerVersion| version.id == always() && !version.active;
    history.triggers.retain(|version| !is_pause(version));
    finds(&history, Check::C7, "it is always on, and nothing of it has run since");
    let halted = TriggerState {
        trigger_id: always(),
        version: 1,
        waiting: Vec::new(),
        halted: Some(1),
        once: false,
        next_due_us: None,
    };
    let mut stopped = history.clone();
    stopped.trigger_states.push(halted);
    assert!(check(&stopped).is_held(), "{}", check(&stopped));
    // Its last run ended a moment before the history did.
    history.runs.iter_mut().find(|run| run.id == run_id(ALWAYS + ON - 1)).unwrap().completed_at_us =
        Some(history.taken_at_us - SECOND);
    assert!(check(&history).is_held(), "{}", check(&history));
}
