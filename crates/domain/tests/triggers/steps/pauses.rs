//! Pauses whose ends nobody looked at in time.

use super::{World, skips, starts, ts};
use domain::trigger::{CatchUp, Kind, Schedule, SkipReason, Step, Trigger};

/// As a person does it, at this time.
fn pause(world: &mut World, at: &str) {
    let version = world.trigger.version + 1;
    world.trigger = Trigger { active: false, version, paused_at: Some(ts(at)), ..world.trigger.clone() };
}

fn start(world: &mut World, at: &str) {
    let version = world.trigger.version + 1;
    world.trigger = Trigger { active: true, version, enabled_at: ts(at), ..world.trigger.clone() };
}

#[test]
fn a_pause_goes_on_where_its_end_and_the_next_one_were_not_looked_at() {
    let skipped = |step: &Step| (skips(step), starts(step).len());
    let hours = |times| vec![("2026-01-01T12:00:00Z".to_owned(), times, SkipReason::Pause)];
    let mut world = World::new("@hourly", |_| {});
    world.at("2026-01-01T11:00:00Z");
    pause(&mut world, "2026-01-01T11:30:00Z");
    world.at("2026-01-01T11:30:00Z");
    start(&mut world, "2026-01-01T14:10:00Z");
    pause(&mut world, "2026-01-01T14:10:00.2Z");
    let mut edited = world.clone();
    start(&mut world, "2026-01-01T15:30:00Z");
    assert_eq!(skipped(&world.at("2026-01-01T15:30:00Z")), (hours(4), 0));
    assert_eq!(skipped(&world.at("2026-01-01T16:00:00Z")), (vec![], 1));
    // The next pause is another one.
    pause(&mut world, "2026-01-01T16:30:00Z");
    world.at("2026-01-01T16:30:00Z");
    start(&mut world, "2026-01-01T17:30:00Z");
    let from_then_on = vec![("2026-01-01T17:00:00Z".to_owned(), 1, SkipReason::Pause)];
    assert_eq!(skipped(&world.at("2026-01-01T17:30:00Z")), (from_then_on, 0));
    // It gets another schedule in the second one.
    let schedule = Schedule { every: "@daily".into(), zone: "UTC".into(), start: None, end: None };
    edited.trigger.spec.kind = Kind::Schedule(schedule);
    edited.trigger.former_paused_at = edited.trigger.paused_at.take();
    edited.trigger.replaced_at = Some(ts("2026-01-01T14:20:00Z"));
    start(&mut edited, "2026-01-01T14:20:00Z");
    assert_eq!(skipped(&edited.at("2026-01-01T14:20:00Z")), (hours(3), 0));
}

#[test]
fn a_pause_in_which_the_schedule_was_edited_goes_on_too() {
    let mut world = World::new("@hourly", |_| {});
    world.at("2026-01-01T11:00:00Z");
    pause(&mut world, "2026-01-01T11:30:00Z");
    world.at("2026-01-01T11:30:00Z");
    let schedule = Schedule { every: "*/30 * * * *".into(), zone: "UTC".into(), start: None, end: None };
    world.trigger.spec.kind = Kind::Schedule(schedule);
    (world.trigger.former_paused_at, world.trigger.replaced_at) =
        (world.trigger.paused_at.take(), Some(ts("2026-01-01T12:10:00Z")));
    (world.trigger.version, world.trigger.enabled_at) = (3, ts("2026-01-01T12:10:00Z"));
    world.at("2026-01-01T12:10:00Z");
    start(&mut world, "2026-01-01T14:10:00Z");
    pause(&mut world, "2026-01-01T14:10:00.2Z");
    world.at("2026-01-01T14:10:01Z");
    start(&mut world, "2026-01-01T15:15:00Z");
    let step = world.at("2026-01-01T15:15:00Z");
    assert_eq!(
        (skips(&step), starts(&step).len()),
        (vec![("2026-01-01T12:30:00Z".to_owned(), 6, SkipReason::Pause)], 0)
    );
}

#[test]
fn what_came_between_two_pauses_while_nobody_was_there_is_not_lost() {
    let mut world = World::new("@hourly", |spec| spec.catch_up = CatchUp::All { window_s: 86_400, count: 10 });
    world.at("2026-01-01T11:00:00Z");
    pause(&mut world, "2026-01-01T11:30:00Z");
    world.at("2026-01-01T11:30:00Z");
    start(&mut world, "2026-01-01T13:10:00Z");
    pause(&mut world, "2026-01-01T15:30:00Z");
    let paused = |from: &str, times| vec![(format!("2026-01-01T{from}:00Z"), times, SkipReason::Pause)];
    assert_eq!(skips(&world.at("2026-01-01T18:00:00Z")), paused("12:00", 2));
    start(&mut world, "2026-01-01T18:10:00Z");
    let step = world.at("2026-01-01T18:10:00Z");
    assert_eq!(
        (starts(&step), skips(&step)),
        (vec!["2026-01-01T14:00:00Z".into(), "2026-01-01T15:00:00Z".into()], paused("16:00", 3))
    );
}

#[test]
fn a_pause_before_the_first_look_is_accounted_for() {
    let mut world = World::new("@hourly", |_| {});
    pause(&mut world, "2026-01-01T10:30:00.1Z");
    let mut unseen = world.clone();
    world.at("2026-01-01T10:31:00Z");
    for world in [&mut world, &mut unseen] {
        start(world, "2026-01-01T12:30:00Z");
        let step = world.at("2026-01-01T12:30:00Z");
        assert_eq!(skips(&step), [("2026-01-01T11:00:00Z".to_owned(), 2, SkipReason::Pause)]);
        assert!(starts(&step).is_empty());
    }
}
