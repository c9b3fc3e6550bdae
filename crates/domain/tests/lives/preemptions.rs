//! Lives that others come before: told, stopped when the time is up, and left alone where nobody needs their place any more.

use crate::{at, report, running, spec};
use domain::runtime::{
    life::{Bounds, Ending, Event, Life, Phase, Preemption, Rules, Stage},
    reason::Reason,
};

fn others_first(life: &mut Life, second: i64, now: i64, rules: &Rules) -> Vec<String> {
    let preemption = Preemption { at: at(second), message: "a of queue b comes first".to_owned() };
    let change = life.advance(Event::Preempted(preemption), at(now), rules);
    change.told.into_iter().map(|entry| format!("{} {}", entry.reason, entry.message)).collect()
}

fn shown(life: &Life) -> Option<Ending> {
    life.ending.clone()
}

fn preempted_at(second: i64) -> Option<Ending> {
    Some(Ending { at: at(second), because: Reason::Preempted })
}

#[test]
fn whoever_has_to_leave_is_told_and_stopped_when_the_time_is_up() {
    let (mut life, rules) = running(spec());
    let told = others_first(&mut life, 140, 100, &rules);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("PREEMPTED a of queue b comes first; it will be stopped at "), "{told:?}");
    assert_eq!((&life.stage, shown(&life)), (&Stage::Running, preempted_at(140)));
    assert_eq!(life.due(&rules), Some(at(140)), "it was told once, and that is enough");
    assert!(others_first(&mut life, 900, 110, &rules).is_empty(), "what was told first holds");
    // Its backend's words change nothing of it.
    life.advance(report(1, Phase::Ready), at(120), &rules);
    assert_eq!(shown(&life), preempted_at(140));
    let stopped = life.advance(Event::Wake, at(140), &rules);
    assert_eq!((&life.stage, stopped.ordered), (&Stage::Stopping(Reason::Preempted), true));
    assert_eq!(stopped.told[0].message, "a of queue b comes first");
}

#[test]
fn a_longer_notice_is_told_again_a_minute_before() {
    let (mut life, rules) = running(spec());
    assert_eq!(others_first(&mut life, 400, 100, &rules).len(), 1);
    assert_eq!(life.due(&rules), Some(at(340)));
    assert_eq!(life.advance(Event::Wake, at(340), &rules).told.len(), 1);
    assert_eq!(life.due(&rules), Some(at(400)));
}

#[test]
fn whose_place_nobody_needs_any_more_goes_on() {
    let (mut life, rules) = running(spec());
    others_first(&mut life, 140, 100, &rules);
    let change = life.advance(Event::Reprieved, at(120), &rules);
    assert_eq!((change.told[0].reason.as_str(), shown(&life), life.due(&rules)), ("PREEMPTION_WITHDRAWN", None, None));
    assert_eq!(life.advance(Event::Reprieved, at(121), &rules).told, [], "it is told once");
    life.advance(Event::Wake, at(1_000), &rules);
    assert_eq!(life.stage, Stage::Running);
}

#[test]
fn what_ends_it_sooner_is_what_is_shown() {
    let (mut life, rules) = running(spec());
    life.advance(Event::Bound(Bounds { closes_at: Some(at(130)), ..Bounds::default() }), at(50), &rules);
    assert!(others_first(&mut life, 140, 100, &rules)[0].starts_with("PREEMPTED"));
    let window = Some(Ending { at: at(130), because: Reason::PlanWindowExpired });
    assert_eq!(shown(&life), window);
    life.advance(Event::Bound(Bounds::default()), at(110), &rules);
    assert_eq!(shown(&life), preempted_at(140));
}

#[test]
fn a_new_owner_keeps_the_time_that_was_told() {
    let (mut life, rules) = running(spec());
    others_first(&mut life, 140, 100, &rules);
    life.take_over(shown(&life));
    life.advance(Event::Wake, at(200), &rules);
    assert_eq!(life.stage, Stage::Running, "it has not read yet what binds it");
    assert!(others_first(&mut life, 900, 200, &rules).is_empty());
    let stopped = life.advance(Event::Bound(Bounds::default()), at(201), &rules);
    assert_eq!(life.stage, Stage::Stopping(Reason::Preempted));
    assert_eq!(stopped.told[0].message, "a of queue b comes first");
}
