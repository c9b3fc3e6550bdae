//! Lives of runtimes under whatever may happen to them, in any order.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

mod devices;
mod losses;
mod preemptions;

use domain::{
    device::{Ask, Link},
    id::{HolderId, ProjectId, QueueId, WorkspaceId},
    runtime::{
        App, PostStart, Spec,
        activity::Sign,
        life::{Bounds, Event, Goal, Life, Phase, Preemption, Report, Rules, Stage, Step},
        reason::Reason,
    },
    window::{self, Access, Window},
};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use std::sync::Arc;
use uuid::Uuid;

fn spec() -> Spec {
    Spec {
        app: App::Jupyter,
        image: String::new(),
        ask: Ask {
            gpus: 1,
            gpu_milli: 500,
            gpu_memory_bytes: None,
            models: Vec::new(),
            models_ordered: false,
            link: Link::Any,
            cpu_milli: 1000,
            memory_bytes: 1 << 30,
        },
        cpu_limit_milli: 0,
        memory_limit_bytes: 0,
        storage_bytes: 0,
        env: [].into(),
        mounts: Vec::new(),
        root: false,
        priority: 0,
        idle_timeout_s: 0,
        gpu_idle_timeout_s: 0,
        lifetime_s: 0,
        grace_s: 0,
        requeue: false,
        pre_start: String::new(),
        post_start: PostStart::default(),
    }
}

fn life(spec: Spec) -> Life {
    let id = Uuid::from_u128;
    let (workspace, project, queue) = (WorkspaceId(id(1)), ProjectId(id(2)), QueueId(id(3)));
    Life::new(workspace, project, queue, 1, HolderId(id(4)), Arc::new(spec), 1, at(0))
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn report(fence: i64, phase: Phase) -> Event {
    let (code, message, endpoint) = (String::new(), String::new(), "a:1".to_owned());
    Event::Report(Report { fence, phase, code, message, endpoint, signs: Vec::new() })
}

fn signs(fence: i64, signs: &[(&str, Sign)]) -> Event {
    let signs = signs.iter().map(|(source, sign)| ((*source).to_owned(), sign.clone())).collect();
    let Event::Report(ready) = report(fence, Phase::Ready) else { unreachable!() };
    Event::Report(Report { signs, ..ready })
}

fn stop(reason: Reason) -> Event {
    Event::Stop { reason, message: String::new(), again: false, actor: None }
}

fn switch() -> Event {
    Event::Switched { queue: QueueId(Uuid::from_u128(9)), message: "from one to another".to_owned(), actor: None }
}

/// One that runs since second 10, without a least time.
fn running(spec: Spec) -> (Life, Rules) {
    let rules = Rules { min_running: SignedDuration::ZERO, ..Rules::default() };
    let mut life = life(spec);
    life.advance(Event::Placed, at(5), &rules);
    life.advance(report(1, Phase::Ready), at(10), &rules);
    assert_eq!(life.stage, Stage::Running);
    (life, rules)
}

/// What may happen; fences are told against the one in force.
fn event() -> impl Strategy<Value = (Event, i64)> {
    let phases = prop_oneof![
        Just(Phase::Starting(Step::Accepted)),
        Just(Phase::Starting(Step::Pulling)),
        Just(Phase::Ready),
        Just(Phase::Stopping),
        Just(Phase::Gone),
        Just(Phase::Failed),
        Just(Phase::Misplaced),
    ];
    let reasons = prop_oneof![
        Just(Reason::User),
        Just(Reason::Preempted),
        Just(Reason::Restart),
        Just(Reason::ErrorReset),
        Just(Reason::Idle)
    ];
    let events = prop_oneof![
        2 => Just(Event::Nominated),
        1 => Just(Event::Denominated),
        3 => Just(Event::Placed),
        6 => phases.prop_map(|phase| report(0, phase)),
        1 => Just(Event::Missing),
        1 => Just(Event::NodeLost),
        1 => Just(Event::Fenced(None)),
        2 => reasons.prop_map(stop),
        1 => (0_i64..40_000).prop_map(|second| Event::Preempted(Preemption { at: at(second), message: String::new() })),
        1 => Just(Event::Reprieved),
        1 => Just(switch()),
        1 => Just(Event::Snoozed(at(1 << 30), None)),
        1 => (0_u32..4_000).prop_map(|seconds| Event::Bound(Bounds { lifetime_max_s: Some(seconds), ..Bounds::default() })),
        2 => Just(Event::Wake),
    ];
    (events, -1_i64..=1)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn capacity_comes_free_once_and_an_ended_life_orders_nothing(
        events in proptest::collection::vec((event(), 0_i64..2_000), 0..40),
        requeue: bool,
    ) {
        let rules = Rules::default();
        let mut life = life(Spec { requeue, lifetime_s: 3_600, ..spec() });
        let (mut now, mut has) = (0, false);
        for ((event, offset), later) in events {
            now += later;
            let fence = life.fence;
            let event = match event {
                Event::Report(report) => Event::Report(Report { fence: fence + offset, ..report }),
                other => other,
            };
            let before = life.clone();
            let stale = matches!(&event, Event::Report(report) if report.fence != fence);
            let change = life.advance(event.clone(), at(now), &rules);
            prop_assert!(life.fence >= before.fence);
            prop_assert!(change.stored || life.stage == before.stage, "a change of stage is stored");
            if stale {
                let mut woken = before.clone();
                woken.advance(Event::Wake, at(now), &rules);
                prop_assert_eq!(&life, &woken, "an old fence says nothing");
            }
            if change.released {
                prop_assert!(has, "{:?} frees what is not held", event);
                prop_assert!(!life.holds());
                has = false;
            }
            has |= life.stage == Stage::Nominated || life.holds();
            prop_assert_eq!(has, life.stage == Stage::Nominated || life.holds());
            if !before.is_alive() {
                prop_assert!(!change.ordered && !life.is_alive() && life.fence == before.fence);
            }
            if before.holds() && !life.holds() {
                let by_word = matches!(&event, Event::Report(report) if report.phase == Phase::Gone) || matches!(event, Event::Fenced(_));
                prop_assert!(by_word, "{:?} is nobody's word that nothing is left", event);
            }
            prop_assert!(life.is_alive() || life.due(&rules).is_none(), "nothing is due of an ended life");
        }
        life.advance(stop(Reason::User), at(now), &rules);
        if life.holds() {
            prop_assert_eq!(life.goal(), Some(Goal::Stop));
            life.advance(report(life.fence, Phase::Gone), at(now), &rules);
        }
        prop_assert!(!life.is_alive(), "whoever is asked to end does, at {:?}", life.stage);
    }
}

#[test]
fn idleness_is_asked_about_again_and_what_nobody_knows_is_not_idle() {
    let (mut life, rules) = running(Spec { idle_timeout_s: 600, ..spec() });
    assert_eq!(life.due(&rules), None, "nothing was said about its use yet");
    life.advance(signs(1, &[("kernels", Sign::Idle(at(20)))]), at(30), &rules);
    assert_eq!(life.due(&rules), Some(at(320)), "warned five minutes before");
    let warned = life.advance(Event::Wake, at(320), &rules);
    assert_eq!((warned.told.len(), life.ending.as_ref().map(|ending| ending.at)), (1, Some(at(620))));
    life.advance(Event::Seen(at(400)), at(400), &rules);
    assert_eq!(life.ending, None, "somebody is there");
    life.advance(Event::Wake, at(700), &rules);
    let asked = life.advance(Event::Wake, at(1000), &rules);
    assert!(asked.probe && life.stage == Stage::Running, "a stop is never by old words");
    let unknown = [("kernels", Sign::Unknown("no answer".into()))];
    life.advance(signs(1, &unknown), at(1001), &rules);
    life.advance(Event::Wake, at(5000), &rules);
    assert_eq!(life.stage, Stage::Running);
    // Known again, it is idle for long already: whoever is there is told first.
    let idle = [("kernels", Sign::Idle(at(20)))];
    let told = life.advance(signs(1, &idle), at(5001), &rules);
    assert_eq!((told.told.len(), life.ending.as_ref().map(|ending| ending.at)), (1, Some(at(5301))));
    for second in [5002, 5100, 5300] {
        assert!(!life.advance(signs(1, &idle), at(second), &rules).probe, "at {second}");
    }
    assert!(life.advance(Event::Wake, at(5301), &rules).probe && life.stage == Stage::Running);
    let change = life.advance(signs(1, &idle), at(5302), &rules);
    assert_eq!(life.stage, Stage::Stopping(Reason::Idle));
    assert!(change.told[0].message.contains("kernels idle since"), "{}", change.told[0].message);
}

#[test]
fn an_end_that_moves_by_milliseconds_is_told_once() {
    let (mut life, rules) = running(Spec { idle_timeout_s: 600, ..spec() });
    let idle = |millis| signs(1, &[("kernels", Sign::Idle(at(20) + SignedDuration::from_millis(millis)))]);
    life.advance(idle(0), at(305), &rules);
    assert_eq!(life.advance(Event::Wake, at(320), &rules).told.len(), 1);
    for (second, millis) in [(335, -20), (350, 20), (365, 0), (380, -10)] {
        let change = life.advance(idle(millis), at(second), &rules);
        assert_eq!((change.told, change.stored, life.due(&rules)), (vec![], false, Some(at(560))), "at {second}");
    }
    let used = life.advance(idle(2_000), at(395), &rules);
    assert!(used.stored && life.ending.as_ref().is_some_and(|ending| ending.at == at(622)), "that is another one");
}

#[test]
fn a_busy_answer_or_a_snooze_keeps_it() {
    let (mut life, rules) = running(Spec { idle_timeout_s: 600, ..spec() });
    life.advance(signs(1, &[("kernels", Sign::Idle(at(20)))]), at(30), &rules);
    life.advance(Event::Wake, at(320), &rules);
    assert!(life.advance(Event::Wake, at(620), &rules).probe);
    life.advance(signs(1, &[("kernels", Sign::Active(at(621)))]), at(621), &rules);
    assert_eq!((life.stage.clone(), life.due(&rules)), (Stage::Running, Some(at(921))));
    life.advance(Event::Snoozed(at(9_000), None), at(700), &rules);
    assert_eq!(life.due(&rules), Some(at(8_700)));
}

#[test]
fn windows_warn_and_close_and_another_queue_wins_only_before() {
    let (mut life, rules) = running(spec());
    life.bounds = Some(Bounds { closes_at: Some(at(2_000)), ..Bounds::default() });
    life.advance(Event::Wake, at(11), &rules);
    assert_eq!(life.due(&rules), Some(at(1_100)), "fifteen minutes before");
    for warning in [1_100, 1_700, 1_940] {
        assert_eq!(life.advance(Event::Wake, at(warning), &rules).told.len(), 1, "at {warning}");
    }
    let mut switched = life.clone();
    switched.bounds = Some(Bounds::default());
    switched.advance(switch(), at(1_999), &rules);
    switched.advance(Event::Wake, at(2_000), &rules);
    assert_eq!((switched.stage, switched.ending), (Stage::Running, None));
    life.advance(Event::Wake, at(2_000), &rules);
    assert_eq!(life.stage, Stage::Stopping(Reason::PlanWindowExpired));
    assert!(!life.may_switch());
}

#[test]
fn a_switch_at_the_last_moment_wins_and_tells_no_end_of_the_former_queue() {
    let until = Bounds { closes_at: Some(at(2_000)), ..Bounds::default() };
    let lifetime = Bounds { lifetime_max_s: Some(1_990), ..Bounds::default() };
    for former in [until, lifetime] {
        let (mut life, rules) = running(spec());
        life.advance(Event::Bound(former), at(20), &rules);
        life.advance(Event::Wake, at(1_999), &rules);
        assert_eq!(life.ending.as_ref().map(|ending| ending.at), Some(at(2_000)));
        let switched = life.advance(switch(), at(2_000), &rules);
        let told: Vec<_> = switched.told.iter().map(|entry| (entry.reason.as_str(), entry.message.as_str())).collect();
        let expected = vec![("QUEUE_SWITCHED", "from one to another")];
        assert_eq!((life.stage.clone(), told, switched.stored), (Stage::Running, expected, true));
        let bound = life.advance(Event::Bound(Bounds::default()), at(2_000), &rules);
        life.advance(Event::Wake, at(2_001), &rules);
        assert_eq!((life.stage, life.ending, bound.told), (Stage::Running, None, vec![]), "{former:?}");
    }
}

#[test]
fn a_smaller_quota_warns_and_runs_its_grace() {
    let (mut life, rules) = running(Spec { requeue: true, ..spec() });
    let bounds = Bounds { over_quota_until: Some(at(2_000)), closes_at: Some(at(3_000)), ..Bounds::default() };
    life.bounds = Some(bounds);
    assert_eq!(life.advance(Event::Wake, at(1_100), &rules).told.len(), 1, "a warning");
    life.advance(Event::Wake, at(2_000), &rules);
    assert_eq!(life.stage, Stage::Stopping(Reason::QuotaReduced));
    life.advance(report(2, Phase::Gone), at(2_010), &rules);
    assert!(life.successor(HolderId(Uuid::from_u128(7)), at(2_010)).is_some(), "it waits for room");
}

#[test]
fn a_window_ends_a_life_by_its_own_clock_on_the_days_on_which_that_jumps() {
    let night = [Window::weekly("Europe/Berlin", &[7], 0, 150).unwrap()];
    for (opened, closes) in [
        // 02:30 is not there that night and stands for the end of the gap; then it comes twice, and the first counts.
        ("2026-03-28T23:00:00Z", "2026-03-29T01:00:00Z"),
        ("2026-10-24T22:00:00Z", "2026-10-25T00:30:00Z"),
    ] {
        let (opened, closes): (Timestamp, Timestamp) = (opened.parse().unwrap(), closes.parse().unwrap());
        let Access::Until { closes_at, .. } = window::access(&night, opened) else { panic!("it is open at {opened}") };
        let (mut life, rules) = running(spec());
        life.bounds = Some(Bounds { closes_at: Some(closes_at.timestamp()), ..Bounds::default() });
        life.advance(Event::Wake, opened, &rules);
        for minutes in [15, 5, 1] {
            let warned = closes - SignedDuration::from_mins(minutes);
            assert_eq!(life.due(&rules), Some(warned), "{minutes} minutes before {closes}");
            assert_eq!(life.advance(Event::Wake, warned, &rules).told.len(), 1);
        }
        life.advance(Event::Wake, closes - SignedDuration::from_secs(1), &rules);
        assert_eq!((life.stage.clone(), life.due(&rules)), (Stage::Running, Some(closes)));
        life.advance(Event::Wake, closes, &rules);
        assert_eq!(life.stage, Stage::Stopping(Reason::PlanWindowExpired));
    }
}

#[test]
fn an_end_with_the_executor_is_told_apart_from_one_by_itself() {
    let reason = |code: &str| {
        let (mut life, rules) = running(spec());
        let Event::Report(mut gone) = report(1, Phase::Gone) else { unreachable!("a report is one") };
        gone.code = code.to_owned();
        life.advance(Event::Report(gone), at(100), &rules);
        life.stage
    };
    assert_eq!(reason(""), Stage::Stopped(Reason::Exited));
    assert_eq!(reason("EXECUTOR_STOPPED"), Stage::Stopped(Reason::ExecutorStopped));
    assert_eq!(reason("RUNTIME_LOST"), Stage::Failed(Reason::Error("RUNTIME_LOST".to_owned())));
}

#[test]
fn whoever_was_disturbed_waits_again_with_its_first_time() {
    let (mut life, rules) = running(Spec { requeue: true, ..spec() });
    life.advance(stop(Reason::Preempted), at(100), &rules);
    let mut stopped = life.clone();
    life.advance(report(2, Phase::Gone), at(110), &rules);
    let next = life.successor(HolderId(Uuid::from_u128(7)), at(110)).unwrap();
    assert_eq!((next.submitted_at, next.number, next.stage), (at(0), 2, Stage::Queued));
    stopped.advance(stop(Reason::User), at(105), &rules);
    stopped.advance(report(2, Phase::Gone), at(110), &rules);
    assert_eq!(stopped.successor(HolderId(Uuid::from_u128(7)), at(110)), None, "the person's word is the last");
}

#[test]
fn a_step_that_took_too_long_says_what_was_said_about_it() {
    for (code, words, told) in [
        ("", "", "its image or environment could not be had in time"),
        ("IMAGE_PULL_FAILED", "no such tag", "in time; the last word about it was IMAGE_PULL_FAILED: no such tag"),
    ] {
        let (mut life, rules) = (life(spec()), Rules::default());
        life.advance(Event::Placed, at(0), &rules);
        let Event::Report(mut pulls) = report(1, Phase::Starting(Step::Pulling)) else {
            unreachable!("a report is one")
        };
        (pulls.code, pulls.message) = (code.to_owned(), words.to_owned());
        life.advance(Event::Report(pulls), at(10), &rules);
        life.advance(Event::Wake, at(10 + 15 * 60), &rules);
        assert_eq!(life.stage, Stage::Stopping(Reason::Error("PULL_TIMEOUT".to_owned())));
        assert!(life.notice.message.ends_with(told), "{}", life.notice.message);
    }
}

/// The next owner of a life, as far as its row tells of one that began to run at second 10.
fn taken_over(life: &Life, spec: Spec) -> Life {
    let (mut next, _) = running(spec);
    next.take_over(life.ending.clone());
    next
}

#[test]
fn a_shorter_lifetime_warns_whoever_runs_and_is_told_once() {
    let (mut life, rules) = running(spec());
    let bounds = Bounds { lifetime_max_s: Some(28_800), ..Bounds::default() };
    let days = 3 * 86_400;
    let told = life.advance(Event::Bound(bounds), at(days), &rules).told;
    let ending = Some((at(days + 900), Reason::MaxLifetime));
    let shown = |life: &Life| life.ending.clone().map(|ending| (ending.at, ending.because));
    assert_eq!((life.stage.clone(), shown(&life), told.len()), (Stage::Running, ending.clone(), 1));
    assert_eq!(life.due(&rules), Some(at(days + 600)), "and warned again");
    life.advance(Event::Wake, at(days + 700), &rules);
    assert_eq!(shown(&life), ending, "not a quarter of an hour from every look");
    // Who takes it over does not know at once what binds it, and stays with what was told.
    let mut next = taken_over(&life, spec());
    next.advance(Event::Seen(at(days + 790)), at(days + 790), &rules);
    assert_eq!((next.due(&rules), shown(&next)), (None, ending.clone()));
    next.advance(Event::Bound(bounds), at(days + 800), &rules);
    assert_eq!((next.stage.clone(), shown(&next)), (Stage::Running, ending));
    for mut life in [life, next] {
        life.advance(Event::Wake, at(days + 899), &rules);
        assert_eq!(life.stage, Stage::Running);
        life.advance(Event::Wake, at(days + 900), &rules);
        assert_eq!(life.stage, Stage::Stopping(Reason::MaxLifetime));
    }
}

#[test]
fn a_lifetime_that_was_there_before_is_kept_to_the_second() {
    let rules = Rules::default();
    let mut life = life(Spec { lifetime_s: 600, ..spec() });
    life.bounds = Some(Bounds { lifetime_max_s: Some(60), ..Bounds::default() });
    life.advance(Event::Placed, at(5), &rules);
    life.advance(report(1, Phase::Ready), at(10), &rules);
    assert_eq!(life.ending.as_ref().map(|ending| ending.at), Some(at(70)));
    life.advance(Event::Bound(Bounds::default()), at(20), &rules);
    assert_eq!(life.ending.as_ref().map(|ending| ending.at), Some(at(610)), "a longer one counts at once");
}

#[test]
fn a_shorter_time_out_for_idleness_warns_whoever_was_idle_for_longer() {
    let (mut life, rules) = running(spec());
    let idle = |life: &Life| signs(life.fence, &[("kernels", Sign::Idle(at(20)))]);
    life.advance(idle(&life), at(30), &rules);
    let bounds = Bounds { idle_timeout_max_s: Some(1_800), ..Bounds::default() };
    let told = life.advance(Event::Bound(bounds), at(10_000), &rules).told;
    let ending = Some((at(10_900), Reason::Idle));
    let shown = |life: &Life| life.ending.clone().map(|ending| (ending.at, ending.because));
    assert_eq!((life.stage.clone(), shown(&life), told.len()), (Stage::Running, ending.clone(), 1));
    for warning in [10_600, 10_840] {
        assert_eq!(life.due(&rules), Some(at(warning)));
        assert_eq!(life.advance(Event::Wake, at(warning), &rules).told.len(), 1, "at {warning}");
    }
    let mut next = taken_over(&life, spec());
    next.advance(Event::Bound(bounds), at(10_850), &rules);
    next.advance(idle(&next), at(10_851), &rules);
    assert_eq!(shown(&next), ending, "by its next owner, too");
    let mut used = life.clone();
    used.advance(Event::Seen(at(10_850)), at(10_850), &rules);
    assert_eq!((used.ending.clone(), used.due(&rules)), (None, Some(at(10_850 + 1_800 - 300))), "somebody is there");
    assert!(life.advance(Event::Wake, at(10_900), &rules).probe);
    life.advance(idle(&life), at(10_901), &rules);
    assert_eq!(life.stage, Stage::Stopping(Reason::Idle));
}

#[test]
fn idleness_that_only_the_policy_bounds_is_warned_of() {
    let rules = Rules::default();
    let mut life = life(spec());
    life.bounds = Some(Bounds { idle_timeout_max_s: Some(1_800), ..Bounds::default() });
    life.advance(Event::Placed, at(5), &rules);
    life.advance(report(1, Phase::Ready), at(10), &rules);
    life.advance(signs(1, &[("kernels", Sign::Idle(at(20)))]), at(30), &rules);
    assert_eq!(life.due(&rules), Some(at(1_820 - 300)));
    // One that another end comes before is never spoken of.
    life.bounds = Some(Bounds { closes_at: Some(at(1_700)), ..life.bounds.unwrap() });
    life.advance(Event::Wake, at(1_690), &rules);
    assert_eq!(life.due(&rules), Some(at(1_700)));
}

#[test]
fn a_snooze_puts_off_idleness_and_nothing_else() {
    let rules = Rules::default();
    let mut life = life(Spec { idle_timeout_s: 60, ..spec() });
    life.advance(Event::Placed, at(5), &rules);
    life.advance(report(1, Phase::Ready), at(10), &rules);
    life.advance(signs(1, &[("kernels", Sign::Idle(at(20)))]), at(30), &rules);
    let protected = Some(at(610));
    assert_eq!((life.undisturbed_until(&rules), life.protected_until), (protected, None));
    // A short one takes nothing of the first minutes away, and a long one is a day at most: what is told is what holds.
    for (until, holds) in [(at(60), at(610)), (at(1 << 30), at(40 + 86_400)), (at(4_000), at(4_000))] {
        let change = life.advance(Event::Snoozed(until, None), at(40), &rules);
        assert!(change.told[0].message.ends_with(&holds.to_string()), "{}", change.told[0].message);
        assert_eq!((life.protected_until, life.undisturbed_until(&rules)), (Some(holds), protected));
    }
    life.advance(Event::Wake, at(3_970), &rules);
    life.advance(Event::Wake, at(3_999), &rules);
    assert_eq!(life.stage, Stage::Running);
    assert!(life.advance(Event::Wake, at(4_000), &rules).probe);
}

#[test]
fn an_order_that_was_lost_before_anything_was_made_is_given_again() {
    let rules = Rules::default();
    for (step, stays) in [(Step::Accepted, true), (Step::ClaimCreated, false)] {
        let mut life = life(spec());
        life.advance(Event::Placed, at(5), &rules);
        life.advance(report(1, Phase::Starting(step)), at(6), &rules);
        life.advance(Event::Missing, at(7), &rules);
        assert_eq!((life.goal() == Some(Goal::Run), life.fence == 1), (stays, stays), "{step:?}: {:?}", life.stage);
    }
}
