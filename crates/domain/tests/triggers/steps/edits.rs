//! What an edit of a trigger does to the times before it and after.

use super::{World, skips, starts, ts};
use domain::trigger::{CatchUp, Kind, Schedule, SkipReason, State, Trigger};
use jiff::Timestamp;

/// Gives the trigger another schedule at this time, as an edit does.
fn replace(world: &mut World, every: &str, start: Option<&str>, at: &str) {
    let schedule = Schedule { every: every.into(), zone: "UTC".into(), start: start.map(ts), end: None };
    world.trigger.spec.kind = Kind::Schedule(schedule);
    world.trigger.version += 1;
    (world.trigger.enabled_at, world.trigger.replaced_at) = (ts(at), Some(ts(at)));
    world.trigger.former_paused_at = world.trigger.paused_at.take().filter(|_| !world.trigger.active);
}

#[test]
fn once_that_is_set_anew_comes_anew() {
    let mut world = World::new("@once", |_| {});
    assert_eq!(world.at("2026-01-01T10:30:00Z").start.len(), 1);
    // Another start, which is yet to come.
    replace(&mut world, "@once", Some("2027-01-01T00:00:00Z"), "2026-01-02T00:00:00Z");
    world.trigger.once_version = 2;
    let step = world.at("2026-01-02T00:00:00Z");
    assert_eq!((step.start.len(), step.skip.len(), step.wake), (0, 0, Some(ts("2027-01-01T00:00:00Z"))));
    assert!(!world.state.has_come(&world.trigger));
    let step = world.at("2027-01-01T00:00:00Z");
    assert_eq!((step.start[0].key.as_str(), step.start.len()), ("once:2", 1));
    assert!(world.at("2027-01-01T00:00:01Z").start.is_empty() && world.state.has_come(&world.trigger));
    // The same name again, after it was deleted.
    world.trigger = Trigger {
        version: 4,
        once_version: 4,
        enabled_at: ts("2027-02-01T00:00:00Z"),
        replaced_at: Some(Timestamp::UNIX_EPOCH),
        ..world.trigger
    };
    assert_eq!(world.at("2027-02-01T00:00:00Z").start[0].key, "once:4");
}

#[test]
fn once_that_the_version_before_has_fired_does_not_come_again() {
    // That one knows nothing of versions, and fires what was edited meanwhile like any other.
    let mut world = World::new("@once", |_| {});
    world.trigger = Trigger { version: 2, once_version: 2, ..world.trigger };
    world.state = State { mark: Some(world.trigger.enabled_at), once: true, ..State::default() };
    assert!(world.at("2026-01-01T10:30:01Z").start.is_empty());
    // What it fired before the edit is another one.
    replace(&mut world, "@once", None, "2026-01-03T00:00:00Z");
    world.trigger.once_version = 3;
    world.state.schedule = None;
    assert_eq!(world.at("2026-01-03T00:00:00Z").start[0].key, "once:3");
}

#[test]
fn what_an_edit_leaves_undecided_of_the_schedule_before_is_accounted_for() {
    let paused = || {
        let mut world = World::new("@hourly", |_| {});
        world.at("2026-01-01T11:00:00Z");
        world.trigger =
            Trigger { active: false, version: 2, paused_at: Some(ts("2026-01-01T11:30:00Z")), ..world.trigger };
        world.at("2026-01-01T11:30:00Z");
        world
    };
    let pause = |from: &str, times| (format!("2026-01-01T{from}:00Z"), times, SkipReason::Pause);
    // Looked at while it is paused: the pause's hours are those of the schedule that was paused.
    let mut world = paused();
    replace(&mut world, "*/5 * * * *", None, "2026-01-01T14:31:00Z");
    assert_eq!(skips(&world.at("2026-01-01T14:31:00Z")), [pause("12:00", 3)]);
    world.trigger = Trigger { active: true, version: 4, enabled_at: ts("2026-01-01T14:42:00Z"), ..world.trigger };
    let step = world.at("2026-01-01T14:42:00Z");
    assert_eq!((starts(&step).len(), skips(&step)), (0, vec![pause("14:35", 2)]));
    assert_eq!(step.wake, Some(ts("2026-01-01T14:45:00Z")));
    // Not looked at before it was started again.
    let mut world = paused();
    replace(&mut world, "*/5 * * * *", None, "2026-01-01T14:31:00Z");
    world.trigger = Trigger { active: true, version: 4, enabled_at: ts("2026-01-01T14:42:00Z"), ..world.trigger };
    let step = world.at("2026-01-01T14:42:00Z");
    assert_eq!((starts(&step).len(), skips(&step)), (0, vec![pause("12:00", 3), pause("14:35", 2)]));
    // It becomes one that is called.
    let mut world = paused();
    world.trigger.spec.kind = Kind::Api;
    let former_paused_at = world.trigger.paused_at.take();
    world.trigger =
        Trigger { version: 3, replaced_at: Some(ts("2026-01-01T12:30:00Z")), former_paused_at, ..world.trigger };
    assert_eq!(skips(&world.at("2026-01-01T12:30:00Z")), [pause("12:00", 1)]);
    assert!(world.at("2026-01-01T13:30:00Z").skip.is_empty());
    // Nobody was there, and the schedule was edited; the new one's own initial run comes.
    let mut world = World::new("@hourly", |spec| spec.create_initial_run = true);
    world.at("2026-01-01T10:30:00Z");
    replace(&mut world, "@daily", None, "2026-01-02T02:30:00Z");
    let step = world.at("2026-01-02T02:30:00Z");
    assert_eq!(skips(&step), [("2026-01-01T11:00:00Z".into(), 16, SkipReason::CatchUp)]);
    assert_eq!(starts(&step), ["2026-01-02T00:00:00Z"]);
    // One that was made again under its name owes nothing of the former one's.
    let mut world = paused();
    replace(&mut world, "@daily", None, "2026-01-09T00:30:00Z");
    world.trigger =
        Trigger { active: true, former_paused_at: None, replaced_at: Some(Timestamp::UNIX_EPOCH), ..world.trigger };
    let step = world.at("2026-01-09T00:30:00Z");
    assert_eq!((step.start.len(), step.skip.len(), step.wake), (0, 0, Some(ts("2026-01-10T00:00:00Z"))));
}

#[test]
fn what_the_former_schedule_waited_for_makes_no_late_time_of_another_one_good() {
    let mut world = World::new("@daily", |spec| spec.catch_up = CatchUp::None);
    world.former_wake = world.at("2026-01-01T11:00:00Z").wake;
    assert_eq!(world.former_wake, Some(ts("2026-01-02T00:00:00Z")));
    replace(&mut world, "@hourly", None, "2026-01-01T11:50:00Z");
    // Nobody owned it at noon.
    let step = world.at("2026-01-01T12:40:00Z");
    assert_eq!(skips(&step), [("2026-01-01T12:00:00Z".to_owned(), 1, SkipReason::CatchUp)]);
    assert!(starts(&step).is_empty(), "{:?}", starts(&step));
}
