//! Lives whose place is lost or cannot be had, and what that means for whoever ran there.

use crate::{at, life, report, running, spec};
use domain::{
    id::HolderId,
    runtime::{
        Spec,
        life::{Event, Life, Phase, Rules, Stage, Step},
        reason::Reason,
    },
};
use uuid::Uuid;

#[test]
fn a_place_that_cannot_be_had_says_by_which_code() {
    let turned_away = |has_run: bool, code: &str| {
        let (mut life, rules) = if has_run { running(spec()) } else { (life(spec()), Rules::default()) };
        life.advance(Event::Placed, at(5), &rules);
        let Event::Report(mut told) = report(1, Phase::Misplaced) else { unreachable!("a report is one") };
        (told.code, told.message) = (code.to_owned(), "no room".to_owned());
        life.advance(Event::Report(told), at(100), &rules);
        (life.stage, life.notice.message)
    };
    let stops = |reason, message: &str| (Stage::Stopping(reason), message.to_owned());
    assert_eq!(turned_away(false, "NODE_FULL"), stops(Reason::Misplaced, "NODE_FULL: no room"));
    assert_eq!(turned_away(true, "PLACEMENT_CONFLICT"), stops(Reason::Misplaced, "no room"));
    assert_eq!(turned_away(true, "NODE_FULL"), stops(Reason::NodeLost, "NODE_FULL: no room"), "it ran there");
}

#[test]
fn each_step_has_its_time_and_the_code_of_taking_longer() {
    for (step, minutes, code) in [
        (None, 5, "EXECUTOR_SILENT"),
        (Some(Step::Accepted), 5, "SCHEDULE_TIMEOUT"),
        (Some(Step::ClaimCreated), 5, "SCHEDULE_TIMEOUT"),
        (Some(Step::PodCreated), 5, "SCHEDULE_TIMEOUT"),
        (Some(Step::ClaimAllocated), 5, "CREATE_TIMEOUT"),
        (Some(Step::Pulling), 15, "PULL_TIMEOUT"),
        (Some(Step::Starting), 10, "START_TIMEOUT"),
    ] {
        let (mut life, rules) = (life(spec()), Rules::default());
        life.advance(Event::Placed, at(0), &rules);
        if let Some(step) = step {
            life.advance(report(1, Phase::Starting(step)), at(0), &rules);
        }
        let (starts, end) = (life.stage.clone(), minutes * 60);
        life.advance(Event::Wake, at(end - 1), &rules);
        assert_eq!(life.stage, starts, "{code}");
        assert_eq!(life.due(&rules), Some(at(end)), "{code}");
        life.advance(Event::Wake, at(end), &rules);
        assert_eq!(life.stage, Stage::Stopping(Reason::Error(code.to_owned())));
    }
}

#[test]
fn what_a_backend_tells_of_its_cluster_is_no_error_of_whoever_ran() {
    let ended = |requeue: bool, code: &str| {
        let (mut life, rules) = running(Spec { requeue, ..spec() });
        let Event::Report(mut failed) = report(1, Phase::Failed) else { unreachable!("a report is one") };
        failed.code = code.to_owned();
        life.advance(Event::Report(failed), at(100), &rules);
        life.advance(report(2, Phase::Gone), at(110), &rules);
        let waits_again = life.successor(HolderId(Uuid::from_u128(7)), at(110)).is_some();
        (life, waits_again)
    };
    let failed = |code: &str| {
        let (life, waits_again) = ended(true, code);
        (life.stage, waits_again)
    };
    assert_eq!(failed("NODE_LOST"), (Stage::Stopped(Reason::NodeLost), true));
    assert_eq!(failed("DEVICE_FAILED"), (Stage::Stopped(Reason::DeviceFailed), true));
    assert_eq!(failed("EVICTED"), (Stage::Stopped(Reason::Evicted), true));
    let (evicted, waits_again) = ended(false, "EVICTED");
    assert_eq!((evicted.stage, waits_again), (Stage::Failed(Reason::Evicted), false), "and nobody overlooks it");
    assert!(evicted.notice.hint.contains("--requeue"), "{:?}", evicted.notice);
    assert_eq!(failed("EXITED"), (Stage::Stopped(Reason::Exited), false));
    // Reasons that are ours to give are no backend's.
    for error in ["PREEMPTED", "USER", "APP_FAILED", "OUT_OF_STORAGE"] {
        assert_eq!(failed(error), (Stage::Failed(Reason::Error(error.to_owned())), false));
    }
}

/// Runs so many seconds, and is evicted.
fn evicted(life: &mut Life, from: i64, ran: i64, rules: &Rules) {
    life.advance(Event::Placed, at(from), rules);
    life.advance(report(1, Phase::Ready), at(from), rules);
    let Event::Report(mut failed) = report(1, Phase::Failed) else { unreachable!("a report is one") };
    (failed.code, failed.message) = ("EVICTED".to_owned(), "DiskPressure".to_owned());
    life.advance(Event::Report(failed), at(from + ran), rules);
    life.advance(report(2, Phase::Gone), at(from + ran + 10), rules);
}

#[test]
fn whoever_is_evicted_again_and_again_waits_no_more() {
    // Each life runs so long, one after the other, until none follows.
    let lives = |runs: &[i64]| {
        let (mut last, mut from) = (life(Spec { requeue: true, ..spec() }), 0);
        for (count, ran) in (1..).zip(runs) {
            evicted(&mut last, from, *ran, &Rules::default());
            from += ran + 20;
            match last.successor(HolderId(Uuid::from_u128(7)), at(from)) {
                Some(next) => last = next,
                None => return (count, Some(last)),
            }
        }
        (runs.len(), None)
    };
    let (count, last) = lives(&[600; 9]);
    let last = last.unwrap();
    assert_eq!((count, &last.stage), (5, &Stage::Failed(Reason::Error("EVICTED".to_owned()))));
    let expected = "it was evicted 5 times in a row and waits no more; the last time: DiskPressure";
    assert_eq!(last.notice.message, expected);
    assert!(last.notice.hint.contains("--storage") && last.notice.hint.contains("--memory"), "{:?}", last.notice);
    assert_eq!(lives(&[600, 600, 600, 600]), (4, None), "fewer are borne");
    assert_eq!(lives(&[600, 600, 600, 600, 3_600, 600, 600, 600, 600, 600]).0, 9, "who ran for long begins anew");
    assert_eq!(lives(&[3_600; 20]), (20, None));
}
