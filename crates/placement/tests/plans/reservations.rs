//! Nobody starves, and what is foretold comes true.

use crate::{
    checks,
    world::{World, ask, at, shared},
};
use domain::id::HolderId;
use jiff::Timestamp;
use placement::{Code, Hint};
use std::collections::BTreeMap;

/// Small ones come every minute and run for five; one that needs both devices waits. When does it start, minutes?
fn minutes_until_the_large_one_starts(reservations: usize, ends_are_known: bool) -> Option<i64> {
    let mut world = World::new();
    world.policy.reservations_max = reservations;
    world.node(&["A", "A"], &shared());
    let large = world.request(ask(2, 1000)).holder;
    // The first two end two minutes apart, and so does everybody after them.
    for runtime in [300, 420] {
        let small = world.request(ask(1, 1000));
        (small.runtime_s, small.submitted_at) = (Some(runtime), at(-120));
    }
    let mut ends: BTreeMap<HolderId, Timestamp> = BTreeMap::new();
    for minute in 0..120 {
        let now = world.snapshot.now;
        let small = world.request(ask(1, 1000));
        (small.runtime_s, small.submitted_at) = (Some(300), now);
        let plan = world.plan();
        checks::check(&world, &plan);
        if plan.assignments.iter().any(|assignment| assignment.holder == large) {
            return Some(minute);
        }
        world = world.after(&plan, 60);
        for holding in &mut world.snapshot.holdings {
            let end = *ends.entry(holding.holder).or_insert(holding.ends_at.unwrap_or(now));
            holding.ends_at = ends_are_known.then_some(end);
        }
        let now = world.snapshot.now;
        world.snapshot.holdings.retain(|holding| ends[&holding.holder] > now);
    }
    None
}

#[test]
fn a_reservation_ends_starvation() {
    assert_eq!(minutes_until_the_large_one_starts(0, true), None, "without reservations it starves");
    assert!(minutes_until_the_large_one_starts(1, true).is_some_and(|minutes| minutes <= 12));
    assert!(minutes_until_the_large_one_starts(1, false).is_some_and(|minutes| minutes <= 12));
}

#[test]
fn who_is_gone_in_time_may_pass() {
    let mut world = World::new();
    let node = world.node(&["A", "A"], &shared());
    let queue = world.snapshot.queues[0].id;
    world.hold(node, queue, 1, 1000).ends_at = Some(at(600));
    let large = world.request(ask(2, 1000));
    large.submitted_at = at(-3600);
    let large = large.holder;
    let short = world.request(ask(1, 1000));
    short.runtime_s = Some(600);
    let short = short.holder;
    let plan = world.plan();
    checks::check(&world, &plan);
    assert_eq!(plan.assignments.iter().map(|a| a.holder).collect::<Vec<_>>(), [short]);
    assert_eq!((plan.reservations[0].holder, plan.reservations[0].free_at), (large, Some(at(600))));
    world.snapshot.requests[1].runtime_s = Some(601);
    let plan = world.plan();
    assert_eq!(plan.assignments, []);
    assert_eq!(plan.refusals[1].code, Code::ReservedForOthers);
}

#[test]
fn what_does_not_disturb_a_reservation_may_stay_longer() {
    let mut world = World::new();
    let node = world.node(&["A", "A"], &shared());
    let queue = world.snapshot.queues[0].id;
    world.hold(node, queue, 1, 1000).ends_at = Some(at(600));
    world.request(ask(2, 600)).submitted_at = at(-3600);
    let beside = world.request(ask(1, 400)).holder;
    let plan = world.plan();
    checks::check(&world, &plan);
    assert_eq!(plan.assignments.iter().map(|a| a.holder).collect::<Vec<_>>(), [beside]);
    world.snapshot.requests[1].ask = ask(1, 401);
    assert_eq!(world.plan().assignments, []);
}

/// The hints' times, against what the planner does when that time has come.
#[test]
fn the_turn_comes_when_it_was_foretold() {
    let mut world = World::new();
    let node = world.node(&["A", "A"], &shared());
    let queue = world.snapshot.queues[0].id;
    world.hold(node, queue, 1, 1000).ends_at = Some(at(900));
    world.hold(node, queue, 1, 1000).ends_at = Some(at(1500));
    for (gpus, runtime) in [(1, 600), (2, 300), (1, 1200), (1, 60)] {
        world.request(ask(gpus, 1000)).runtime_s = Some(runtime);
    }
    let plan = world.plan();
    let turns = plan.refusals.iter().map(|refusal| match refusal.hints.last() {
        Some(Hint::Turn { position, at: Some(time), .. }) => (refusal.holder, (*position, *time)),
        other => panic!("no time for {}: {other:?}", refusal.holder),
    });
    let turns: BTreeMap<HolderId, (usize, Timestamp)> = turns.collect();
    assert_eq!(turns.values().map(|(position, _)| *position).max(), Some(4));
    let mut started = BTreeMap::new();
    while !world.snapshot.requests.is_empty() {
        let plan = world.plan();
        started.extend(plan.assignments.iter().map(|assignment| (assignment.holder, world.snapshot.now)));
        let next = world.after(&plan, 0).snapshot.holdings.iter().filter_map(|h| h.ends_at).min();
        let seconds = next.map_or(1, |next| next.as_second() - world.snapshot.now.as_second());
        world = world.after(&plan, seconds);
    }
    for (holder, (_, foretold)) in turns {
        assert_eq!(started[&holder], foretold);
    }
}

#[test]
fn hints_are_spoken() {
    let sentence = |hint: Hint| hint.sentence(at(0));
    assert_eq!(sentence(Hint::Share { gpu_milli: 300 }), "it fits now with 30 % of each GPU");
    let turn = |position, at, preempts_at| sentence(Hint::Turn { position, at, preempts_at });
    assert_eq!(turn(3, Some(at(1200)), None), "position 3, about 20 minutes");
    assert_eq!(turn(1, None, None), "position 1; when is not known");
    let both = "position 1, about 20 minutes; others may be stopped for it in 5 minutes";
    assert_eq!(turn(1, Some(at(1200)), Some(at(300))), both);
    let opens = at(3600).in_tz("Europe/Berlin").unwrap();
    assert_eq!(sentence(Hint::WindowOpens { at: opens }), "the window opens on Monday 2026-11-23 08:00 (CET)");
}
