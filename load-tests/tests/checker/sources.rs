//! What can be wrong with what starts runs beside schedules of a plain interval: cron, backfills, events, and with the order
//! of blocks that wait for others.

use crate::{
    story::{BLOCK, SECOND, START, attempt, due, finds, id, lease, line, right, run_id, schedule, version},
    wrongs::forget,
};
use load_tests::history::{
    AttemptName, Backfill, Call, CallAnswer, Check, ClientEvent, Firing, Graph, History, JournalEvent, Request,
    TriggerKind, TriggerSpec, check,
};
use uuid::Uuid;

/// Intervals of the backfill.
const INTERVALS: usize = 5;
const NEXT: &str = "load/sums";

/// The schedule's times, its runs and its order are right by cron too.
#[test]
fn c1_a_time_of_cron_that_nobody_decided() {
    let mut history = right();
    for version in &mut history.triggers {
        if let Some(TriggerKind::Schedule { every, .. }) = &mut version.spec.kind {
            *every = "* * * * * *".to_owned();
        }
    }
    assert!(check(&history).is_held(), "{}", check(&history));
    forget(&mut history, 17);
    finds(&history, Check::C1, "was never decided");
}

/// A backfill that has the runs of five requests: one for each minute.
fn backfilled() -> History {
    let mut history = right();
    let backfill = id(5, 0);
    history.backfills.push(Backfill {
        id: backfill,
        pipeline_id: id(1, 0),
        name: "fill".to_owned(),
        status: "completed".to_owned(),
        total: INTERVALS as i64,
        start_at_us: START,
        end_at_us: interval(INTERVALS - 1),
        unit: "minute".to_owned(),
        every: 1,
        cron: None,
        time_zone: "UTC".to_owned(),
    });
    let of_requests = history.firings.iter_mut().filter(|firing| firing.trigger_id != schedule());
    for (number, firing) in of_requests.enumerate() {
        (firing.trigger_id, firing.logical_key) = (backfill, format!("at:{}", interval(number) / 1_000));
        firing.execution_date_us = Some(interval(number));
    }
    let name = "fill".to_owned();
    let request = Request::CreateBackfill { workspace: "load".to_owned(), pipeline: "orders".to_owned(), name };
    history.calls = vec![told(request, Vec::new())];
    history
}

fn interval(number: usize) -> i64 {
    START + number as i64 * 60 * SECOND
}

/// A request that was acknowledged.
fn told(request: Request, started: Vec<(Uuid, Option<Uuid>)>) -> Call {
    let event = ClientEvent::Acknowledged { run_id: None, version: None, instead: None, started };
    let answer = CallAnswer { at_us: START + SECOND, event };
    Call { client: "client-1".to_owned(), request, asked_at_us: START, answer: Some(answer) }
}

fn of_backfill(history: &mut History) -> impl Iterator<Item = &mut Firing> {
    history.firings.iter_mut().filter(|firing| firing.trigger_id == id(5, 0))
}

#[test]
fn c1_an_interval_that_was_left_out_one_too_many_and_one_that_is_none() {
    let history = backfilled();
    let report = check(&history);
    assert!(report.is_held() && report.of(Check::C1).checked["intervals"] == INTERVALS as u64, "{report}");

    let mut history = backfilled();
    (history.backfills[0].end_at_us, history.backfills[0].total) = (interval(INTERVALS), 1 + INTERVALS as i64);
    finds(&history, Check::C1, "never had a run");

    let mut history = backfilled();
    (history.backfills[0].end_at_us, history.backfills[0].total) = (interval(INTERVALS - 2), INTERVALS as i64 - 1);
    finds(&history, Check::C1, "is the beginning of no interval of it");

    let mut history = backfilled();
    of_backfill(&mut history).next().unwrap().logical_key = format!("at:{}", interval(1) / 1_000);
    finds(&history, Check::C1, "was decided 2 times");

    let mut history = backfilled();
    history.backfills[0].total += 1;
    finds(&history, Check::C1, "it has 5 intervals, and counts 6");
}

#[test]
fn c1_a_backfill_by_cron_is_held_against_the_same_calendar() {
    let mut history = backfilled();
    (history.backfills[0].unit, history.backfills[0].cron) = ("cron".to_owned(), Some("* * * * *".to_owned()));
    assert!(check(&history).is_held(), "{}", check(&history));
    history.backfills[0].cron = Some("*/2 * * * *".to_owned());
    finds(&history, Check::C1, "is the beginning of no interval of it");
}

#[test]
fn c2_a_backfill_that_was_acknowledged_and_is_not_there() {
    let mut history = backfilled();
    history.backfills[0].name = "another".to_owned();
    finds(&history, Check::C2, "the backfill was acknowledged, and there are 0 of its name");
}

#[test]
fn c7_a_backfill_that_never_ends() {
    let mut history = backfilled();
    history.backfills[0].status = "running".to_owned();
    finds(&history, Check::C7, "the backfill goes on");
}

/// An event that two triggers have to start a run for, of the first two requests' runs.
fn published() -> History {
    let mut history = right();
    let matches = vec![id(2, 8), id(2, 9)];
    let spec = TriggerSpec { kind: Some(TriggerKind::Event {}), ..TriggerSpec::default() };
    history.triggers.extend(matches.iter().map(|trigger| version(*trigger, "event", 1, true, spec.clone(), START)));
    let started = matches.iter().zip([1_000, 1_001]).map(|(trigger, run)| (*trigger, Some(run_id(run)))).collect();
    for (trigger, run) in matches.iter().zip([1_000, 1_001]) {
        let firing = history.firings.iter_mut().find(|firing| firing.run_id == Some(run_id(run))).unwrap();
        (firing.trigger_id, firing.logical_key) = (*trigger, "event-key:tick".to_owned());
    }
    history.calls.drain(..2);
    history.calls.push(told(Request::PublishEvent { key: "tick".to_owned(), matches }, started));
    history
}

#[test]
fn c2_an_event_that_a_trigger_missed_and_one_that_it_took_twice() {
    let history = published();
    assert!(check(&history).is_held(), "{}", check(&history));

    // Neither the answer nor the database knows of it: only its sender does.
    let mut history = published();
    let missed = history.firings.iter().position(|firing| firing.trigger_id == id(2, 9)).unwrap();
    history.firings[missed].logical_key = "event-key:another".to_owned();
    let answer = &mut history.calls.last_mut().unwrap().answer.as_mut().unwrap().event;
    let ClientEvent::Acknowledged { started, .. } = answer else { unreachable!() };
    started.pop();
    finds(&history, Check::C2, "matches, and was decided 0 times");

    let mut history = published();
    let again = history.firings.iter().position(|firing| firing.run_id == Some(run_id(1_001))).unwrap();
    history.firings[again].trigger_id = id(2, 8);
    let report = check(&history);
    let words = |check| report.of(check).violations.iter().map(|found| found.what.clone()).collect::<String>();
    assert!(words(Check::C2).contains("was decided 2 times") && words(Check::C1).contains("decided twice"), "{report}");
}

/// A run of two blocks, the second of which waits for the first.
fn chained() -> History {
    let mut history = right();
    let blocks = [(BLOCK.to_owned(), Vec::new()), (NEXT.to_owned(), vec![BLOCK.to_owned()])];
    history.graphs.push(Graph { pipeline_id: id(1, 0), version: 1, blocks: blocks.into() });
    let mut unit = history.units.iter().find(|unit| unit.run_id == run_id(4)).unwrap().clone();
    (unit.block, unit.lease) = (NEXT.to_owned(), lease(4) + 1);
    history.units.push(unit);
    let next = AttemptName { block: NEXT.to_owned(), lease: lease(4) + 1, ..attempt(4) };
    let at = due(4) + 150_000;
    let outcome = "completed".to_owned();
    // By another executor than the first one.
    history.journals[1].1.extend([
        line(at, JournalEvent::Assigned { attempt: next.clone() }),
        line(at + 10_000, JournalEvent::Result { attempt: next.clone(), outcome }),
        line(at + 20_000, JournalEvent::Ack { attempt: next, accepted: true }),
    ]);
    history
}

#[test]
fn c3_a_block_that_began_before_what_it_waits_for() {
    let history = chained();
    let report = check(&history);
    assert!(report.is_held() && report.of(Check::C3).checked["blocks that wait for others"] == 1, "{report}");

    let mut history = chained();
    let assigned = history.journals[1]
        .1
        .iter_mut()
        .find(|line| matches!(&line.event, JournalEvent::Assigned { attempt } if attempt.block == NEXT));
    assigned.unwrap().mono_us -= 100_000;
    finds(&history, Check::C3, "had ended, which it waits for");

    // The pipeline's next version has another order; this run is of the first one.
    history.graphs[0].version = 2;
    assert!(check(&history).is_held(), "{}", check(&history));
}
