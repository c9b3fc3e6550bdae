//! What can be wrong with a history apart from devices.

use crate::story::{
    BLOCK, SECOND, START, TIMES, acknowledged, attempt, due, finds, id, line, manual, right, run_id, schedule,
};
use load_tests::history::{
    CallAnswer, Check, ClientEvent, HarnessEvent, HarnessLine, History, JournalEvent, LostAttempt, Overlap, Request,
    Standing, check,
};

#[test]
fn a_right_history_is_held_and_every_check_says_what_it_looked_at() {
    let report = check(&right());
    for verdict in &report.verdicts {
        let expected = match verdict.check {
            Check::C4 | Check::C5 => Standing::Idle,
            _ => Standing::Held,
        };
        assert_eq!(verdict.standing, expected, "{report}");
    }
    // The last ten seconds before the pause need not be decided.
    assert_eq!(report.of(Check::C1).checked["due times"], 50, "{report}");
    assert_eq!(report.of(Check::C2).checked["acknowledged requests"], 5);
    assert_eq!(report.of(Check::C9).checked["changes of owners"], 1);
}

/// Takes the firing of a time away, with its run and all that the run left.
pub(crate) fn forget(history: &mut History, number: usize) {
    let run = run_id(number);
    history.firings.retain(|firing| firing.run_id != Some(run));
    history.runs.retain(|other| other.id != run);
    history.units.retain(|unit| unit.run_id != run);
    history.unit_writes.retain(|write| write.run_id != run);
    for (_, lines) in &mut history.journals {
        lines.retain(|line| match &line.event {
            JournalEvent::Open { .. } | JournalEvent::Hold { .. } | JournalEvent::Free { .. } => true,
            JournalEvent::Assigned { attempt }
            | JournalEvent::Start { attempt, .. }
            | JournalEvent::End { attempt, .. }
            | JournalEvent::Result { attempt, .. }
            | JournalEvent::Dropped { attempt }
            | JournalEvent::Ack { attempt, .. } => attempt.run != run,
        });
    }
}

#[test]
fn c1_a_time_that_nobody_decided() {
    let mut history = right();
    forget(&mut history, 17);
    finds(&history, Check::C1, "was never decided");
}

#[test]
fn c1_a_skipped_span_accounts_for_its_times_and_for_no_more() {
    let mut history = right();
    (10..15).for_each(|number| forget(&mut history, number));
    let mut skip = history.firings[0].clone();
    skip.logical_key = format!("at:{}", due(10) / 1_000);
    (skip.decided, skip.reason, skip.run_id) = ("skipped".to_owned(), Some("catch_up".to_owned()), None);
    (skip.execution_date_us, skip.last_date_us, skip.times) = (Some(due(10)), Some(due(14)), 5);
    skip.created_at_us = due(15);
    history.firings.push(skip);
    assert!(check(&history).is_held());
    history.firings.last_mut().unwrap().last_date_us = Some(due(15));
    finds(&history, Check::C1, "decided 2 times");
}

#[test]
fn c1_a_key_that_was_decided_twice() {
    let mut history = right();
    for version in &mut history.triggers {
        version.spec.overlap = Overlap::AllowAll;
    }
    let (mut again, mut run) = (history.firings[5].clone(), history.runs[5].clone());
    (run.id, again.run_id) = (run_id(500), Some(run_id(500)));
    history.firings.push(again);
    history.runs.push(run);
    finds(&history, Check::C1, "was decided twice");
}

#[test]
fn c1_a_run_without_a_firing_and_a_firing_without_its_run() {
    let mut history = right();
    let mut stray = history.runs[0].clone();
    stray.id = run_id(500);
    (stray.started_at_us, stray.trigger_id) = (None, manual());
    history.runs.push(stray);
    finds(&history, Check::C1, "the run has no firing");

    let mut history = right();
    history.runs.retain(|run| run.id != run_id(3));
    finds(&history, Check::C1, "which is not there");
}

#[test]
fn c1_a_time_that_is_not_the_schedules_and_one_before_its_time() {
    let mut history = right();
    let (mut odd, run) = (history.firings[5].clone(), run_id(5));
    odd.logical_key = format!("at:{}", due(5) / 1_000 + 500);
    odd.execution_date_us = Some(due(5) + SECOND / 2);
    odd.created_at_us += SECOND;
    history.firings[5].decided = "skipped".to_owned();
    (history.firings[5].run_id, history.firings[5].reason) = (None, Some("window".to_owned()));
    odd.run_id = Some(run);
    history.firings.push(odd);
    finds(&history, Check::C1, "is no time of version 1");

    let mut history = right();
    history.firings[5].created_at_us = due(5) - 1;
    finds(&history, Check::C1, "fired too early");
}

#[test]
fn c1_a_firing_of_a_version_after_the_next_was_acknowledged() {
    let mut history = right();
    history.calls.push(load_tests::history::Call {
        client: "client-1".to_owned(),
        request: Request::ChangeTrigger { trigger_id: schedule() },
        asked_at_us: due(TIMES - 1) - SECOND,
        answer: Some(CallAnswer {
            at_us: due(TIMES - 1) - SECOND / 2,
            event: ClientEvent::Acknowledged { run_id: None, version: Some(2), instead: None, started: Vec::new() },
        }),
    });
    finds(&history, Check::C1, "after version 2 had been acknowledged");
}

#[test]
fn c2_a_request_that_was_acknowledged_and_is_not_there() {
    let mut history = right();
    history.calls.push(history.calls[0].clone());
    let Request::CreateRun { key, .. } = &mut history.calls[5].request else { unreachable!() };
    *key = "order-lost".to_owned();
    history.calls[5].answer = Some(acknowledged(START, Some(run_id(4_000))));
    finds(&history, Check::C2, "is not there");
}

#[test]
fn c2_a_key_with_two_runs() {
    let mut history = right();
    history.calls.push(history.calls[0].clone());
    history.calls[5].answer = Some(acknowledged(START, Some(run_id(1_001))));
    finds(&history, Check::C2, "which has another one or none");
}

#[test]
fn c2_a_repeated_request_with_the_same_answer_is_right() {
    let mut history = right();
    history.calls.push(history.calls[0].clone());
    let mut lost = history.calls[1].clone();
    lost.answer = None;
    history.calls.push(lost);
    assert!(check(&history).is_held());
}

#[test]
fn c3_two_leases_of_a_unit_that_both_count() {
    let mut history = right();
    let mut second = attempt(8);
    second.lease += 1;
    let at = due(8) + 300_000;
    history.journals[1].1.extend([
        line(at, JournalEvent::Assigned { attempt: second.clone() }),
        line(at, JournalEvent::Result { attempt: second.clone(), outcome: "completed".to_owned() }),
        line(at, JournalEvent::Ack { attempt: second, accepted: true }),
    ]);
    finds(&history, Check::C3, "results of several leases counted");
}

#[test]
fn c3_a_lost_try_that_counts() {
    let mut history = right();
    let name = attempt(9);
    history.lost.push(LostAttempt {
        run_id: name.run,
        block: name.block,
        child: -1,
        lease: name.lease,
        outcome: "lost".to_owned(),
        ended_at_us: due(9),
    });
    finds(&history, Check::C3, "given up as lost");
}

#[test]
fn c3_an_end_that_is_written_over() {
    let mut history = right();
    let mut again = history.unit_writes[3].clone();
    assert_eq!(again.status, "completed");
    (again.seq, again.status) = (900, "failed".to_owned());
    history.unit_writes.push(again);
    finds(&history, Check::C3, "and then failed");

    let mut history = right();
    let mut stale = history.unit_writes[3].clone();
    (stale.seq, stale.lease) = (900, stale.lease - 1);
    history.unit_writes.push(stale);
    finds(&history, Check::C3, "was written after lease");
}

#[test]
fn c6_runs_that_overlap_against_their_policy() {
    let mut history = right();
    history.runs[10].completed_at_us = Some(due(11) + SECOND / 2);
    finds(&history, Check::C6, "had not ended");
    for version in &mut history.triggers {
        version.spec.overlap = Overlap::AllowAll;
    }
    assert!(check(&history).is_held());
}

#[test]
fn c6_a_skip_for_an_overlap_that_was_none_and_an_order_that_was_lost() {
    let mut history = right();
    forget(&mut history, 20);
    let mut skip = history.firings[0].clone();
    skip.logical_key = format!("at:{}", due(20) / 1_000);
    (skip.decided, skip.reason, skip.run_id) = ("skipped".to_owned(), Some("overlap".to_owned()), None);
    (skip.execution_date_us, skip.created_at_us) = (Some(due(20)), due(20) + 10_000);
    history.firings.push(skip);
    finds(&history, Check::C6, "nothing ran");

    let mut history = right();
    for version in &mut history.triggers {
        version.spec.overlap = Overlap::BufferAll;
    }
    history.runs[10].execution_date_us = due(13);
    finds(&history, Check::C6, "which is of a later time");
}

#[test]
fn c7_what_is_late_what_never_ends_and_what_nobody_looks_at() {
    let mut history = right();
    history.firings[5].committed_at_us = Some(due(5) + 3 * SECOND);
    finds(&history, Check::C7, "fired 3000 ms late");

    let mut history = right();
    history.promises.lateness_p99_ms = Some(5);
    finds(&history, Check::C7, "later than 10 ms; promised are 5");

    let mut history = right();
    let last = history.runs.last_mut().unwrap();
    (last.status, last.completed_at_us) = ("running".to_owned(), None);
    finds(&history, Check::C7, "is still running");

    let mut history = right();
    // Not paused after all: its last times are missing, and nobody will look.
    history.triggers.pop();
    history.taken_at_us = due(TIMES);
    history.trigger_states[0].version = 1;
    history.promises.settle_ms = 10_000;
    finds(&history, Check::C7, "nobody will look at it again");
    history.trigger_states[0].next_due_us = Some(due(TIMES + 1));
    assert!(check(&history).is_held(), "{}", check(&history));
}

#[test]
fn c8_a_unit_that_does_not_run_and_an_attempt_that_nobody_knows() {
    let mut history = right();
    history.promises.is_quiet = false;
    let unit = &mut history.units[40];
    unit.status = "running".to_owned();
    finds(&history, Check::C8, "no executor runs it");

    let mut history = right();
    let mut stray = attempt(7);
    stray.block = format!("{BLOCK}_more");
    history.journals[0].1.push(line(due(7), JournalEvent::Assigned { attempt: stray }));
    finds(&history, Check::C8, "does not count as running");
    // Its executor was killed, and what it ran with it.
    let fault = HarnessEvent::Fault { fault: "kill".to_owned(), target: "executor-1".to_owned() };
    history.harness.push(HarnessLine { at_us: due(8), event: fault });
    assert!(check(&history).is_held());
}

#[test]
fn c9_an_epoch_that_falls_or_is_shared() {
    let mut history = right();
    let mut back = history.takings[1].clone();
    (back.seq, back.epoch, back.at_us) = (1_900, 1, due(TIMES + 5));
    history.takings.push(back);
    finds(&history, Check::C9, "epoch 1 came after epoch 2");

    let mut history = right();
    let mut shared = history.takings[1].clone();
    (shared.seq, shared.owner) = (1_900, Some(id(9, 3)));
    history.takings.push(shared);
    finds(&history, Check::C9, "another owner within epoch 2");
}

#[test]
fn c9_what_a_former_owner_wrote() {
    let mut history = right();
    history.firings[40].shard_epoch = 1;
    finds(&history, Check::C9, "in epoch 1, over since");

    let mut history = right();
    let claim = history.unit_writes.iter_mut().find(|write| write.run_id == run_id(5)).unwrap();
    claim.seq = 1_001;
    finds(&history, Check::C9, "was given to an executor in epoch 1");
}

#[test]
fn c9_a_fault_that_did_not_bite() {
    let counted = |at_us, value| {
        let (service, metric) = ("scheduler-1".to_owned(), "fenced_writes_total".to_owned());
        HarnessLine { at_us, event: HarnessEvent::Counted { service, metric, value } }
    };
    let mut history = right();
    history.promises.fenced_writes_min = 5;
    history.harness = vec![counted(START, 2), counted(START + 1, 3), counted(START + 2, 1)];
    finds(&history, Check::C9, "4 writes of former owners were refused, expected 5");
    history.promises.fenced_writes_min = 4;
    assert!(check(&history).is_held());
    history.promises.takings_min = 2;
    finds(&history, Check::C9, "owners changed 1 times, expected 2");
}

#[test]
fn a_check_that_was_meant_to_look_and_had_nothing_is_broken() {
    let mut history = right();
    history.promises.must_check = vec![Check::C4];
    finds(&history, Check::C4, "nothing that this check could look at");
}
