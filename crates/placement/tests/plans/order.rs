//! Whose turn is first, and where things are put.

use crate::{
    checks,
    world::{World, ask, at, of, shared},
};
use domain::{
    device::{Ask, DeviceModel, Link},
    id::{GangId, HolderId, NodeId},
};
use placement::{Demand, Gang};
use uuid::Uuid;

/// One device; who gets it?
fn first(change: impl FnOnce(&mut World) -> HolderId) {
    let mut world = World::new();
    world.node(&["A"], &shared());
    let expected = change(&mut world);
    let plan = world.plan();
    checks::check(&world, &plan);
    assert_eq!(plan.assignments[0].holder, expected);
}

#[test]
fn turns() {
    first(|w| {
        let high = w.queue("high", 1, false);
        w.request(ask(1, 1000));
        let request = w.request(ask(1, 1000));
        request.queue = high;
        request.submitted_at = at(-1);
        request.holder
    });
    first(|w| {
        // What is deserved comes before priority.
        let high = w.queue("high", 1, false);
        w.request(ask(1, 1000)).queue = high;
        w.snapshot.queues[0].deserved_milli = 1000;
        w.request(ask(1, 1000)).holder
    });
    first(|w| {
        // The queue that borrows less by its weight.
        let node = w.node(&["B", "B"], &shared());
        let (first, light) = (w.snapshot.queues[0].id, w.queue("light", 0, false));
        w.queue_mut(first).weight = 3;
        w.hold(node, first, 1, 1000);
        w.hold(node, light, 1, 500);
        w.request(of("A", ask(1, 1000))).queue = light;
        w.request(of("A", ask(1, 1000))).holder
    });
    first(|w| {
        w.request(ask(1, 1000));
        let request = w.request(ask(1, 1000));
        request.priority = 1;
        request.holder
    });
    first(|w| {
        // The project that has less.
        let node = w.node(&["B"], &shared());
        let queue = w.snapshot.queues[0].id;
        w.hold(node, queue, 1, 1000);
        w.request(of("A", ask(1, 1000)));
        let other = w.project(domain::quota::Quota::default());
        let request = w.request(of("A", ask(1, 1000)));
        request.project = other;
        request.holder
    });
    first(|w| {
        // The queue that had less lately.
        let light = w.queue("light", 0, false);
        let first = w.snapshot.queues[0].id;
        w.queue_mut(first).recent_use = 7_200_000;
        w.request(ask(1, 1000));
        let request = w.request(ask(1, 1000));
        request.queue = light;
        request.holder
    });
    first(|w| {
        // The project that had less lately.
        w.snapshot.projects[0].recent_use = 7_200_000;
        w.request(ask(1, 1000));
        let other = w.project(domain::quota::Quota::default());
        let request = w.request(ask(1, 1000));
        request.project = other;
        request.holder
    });
    first(|w| {
        w.request(ask(1, 1000));
        let request = w.request(ask(1, 1000));
        request.submitted_at = at(-61);
        request.holder
    });
    first(|w| {
        // Waiting makes up for priority.
        let high = w.queue("high", 2, false);
        w.request(ask(1, 1000)).queue = high;
        w.policy.aging_s = 100;
        let request = w.request(ask(1, 1000));
        request.submitted_at = at(-300);
        request.holder
    });
}

fn put(world: &World) -> Vec<NodeId> {
    let plan = world.plan();
    checks::check(world, &plan);
    plan.assignments.iter().map(|assignment| assignment.place.node).collect()
}

#[test]
fn shares_are_put_where_they_fit_best() {
    let mut world = World::new();
    world.node(&["A"], &shared());
    let used = world.node(&["A"], &shared());
    let queue = world.snapshot.queues[0].id;
    world.hold(used, queue, 1, 600);
    world.request(ask(1, 400));
    world.snapshot.recent.push(Demand { ask: ask(1, 1000), count: 10 });
    assert_eq!(put(&world), [used]);
}

#[test]
fn a_model_that_others_insist_on_is_left_to_them() {
    for demanded in ["A", "B"] {
        let mut world = World::new();
        let (a, b) = (world.node(&["A"], &shared()), world.node(&["B"], &shared()));
        world.snapshot.recent.push(Demand { ask: of(demanded, ask(1, 1000)), count: 5 });
        world.snapshot.recent.push(Demand { ask: ask(1, 1000), count: 5 });
        world.request(ask(1, 1000));
        assert_eq!(put(&world), [if demanded == "A" { b } else { a }]);
    }
}

#[test]
fn a_model_that_others_insist_on_is_taken_rather_than_a_whole_device_broken() {
    let mut world = World::new();
    let (a, _b) = (world.node(&["A"], &shared()), world.node(&["B"], &shared()));
    let queue = world.snapshot.queues[0].id;
    world.hold(a, queue, 1, 500);
    world.snapshot.recent.push(Demand { ask: of("A", ask(1, 500)), count: 20 });
    world.snapshot.recent.push(Demand { ask: ask(1, 1000), count: 20 });
    world.request(ask(1, 500));
    assert_eq!(put(&world), [a]);
}

#[test]
fn those_who_insist_count_also_where_much_else_is_asked_for_more_often() {
    let mut world = World::new();
    world.node(&["C"], &shared());
    let (_a, b) = (world.node(&["A"], &shared()), world.node(&["B"], &shared()));
    let recent = |model, milli, count| Demand { ask: of(model, ask(1, milli)), count };
    world.snapshot.recent.extend((0..100).map(|at| recent("C", 400 + at, 2)));
    world.snapshot.recent.extend((0..40).map(|at| recent("A", 900 + at, 1)));
    let request = world.request(ask(1, 1000));
    request.permitted = vec![DeviceModel::new("A"), DeviceModel::new("B")];
    assert_eq!(put(&world), [b]);
}

#[test]
fn a_dear_model_is_spared_and_a_preferred_one_is_taken() {
    let mut world = World::new();
    let (a, b) = (world.node(&["A"], &shared()), world.node(&["B"], &shared()));
    world.request(ask(1, 1000));
    world.policy.model_value_percent = [(DeviceModel::new("A"), 300)].into();
    assert_eq!(put(&world), [b]);
    world.snapshot.requests[0].ask =
        Ask { models: vec![DeviceModel::new("A"), DeviceModel::new("B")], models_ordered: true, ..ask(1, 1000) };
    assert_eq!(put(&world), [a]);
}

#[test]
fn holders_that_end_together_are_put_together() {
    let mut world = World::new();
    let queue = world.snapshot.queues[0].id;
    let ends = [600, 86_400].map(|end| {
        let node = world.node(&["A"], &shared());
        world.hold(node, queue, 1, 500).ends_at = Some(at(end));
        node
    });
    for (runtime, expected) in [(600, ends[0]), (86_400, ends[1])] {
        world.snapshot.requests.clear();
        world.request(ask(1, 500)).runtime_s = Some(runtime);
        assert_eq!(put(&world), [expected]);
    }
}

#[test]
fn joined_devices() {
    // Links join the first two devices and the last two; one of each pair is taken.
    let mut world = World::new();
    let node = world.node(&["A", "A", "A", "A"], &shared());
    let queue = world.snapshot.queues[0].id;
    world.hold(node, queue, 1, 1000);
    world.request(Ask { link: Link::Preferred, ..ask(2, 1000) });
    let plan = world.plan();
    let devices: Vec<_> = plan.assignments[0].place.grants.iter().map(|grant| grant.device).collect();
    let joined: Vec<_> = world.snapshot.nodes[0].devices[2..].iter().map(|device| device.id).collect();
    assert_eq!(devices, joined);
    world.hold(node, queue, 3, 10).grants.remove(0);
    world.snapshot.requests[0].ask = Ask { link: Link::Required, ..ask(3, 100) };
    assert_eq!(put(&world), []);
}

#[test]
fn a_gang_stays_in_one_zone_if_it_has_to() {
    let mut world = World::new();
    for zone in ["a", "b", "b"] {
        world.node(&["A"], &shared());
        world.snapshot.nodes.last_mut().unwrap().zone = zone.to_owned();
    }
    let gang = Gang { id: GangId(Uuid::from_u128(5)), size: 2, one_zone: true };
    for _ in 0..2 {
        world.request(ask(1, 1000)).gang = Some(gang.clone());
    }
    let ids: Vec<NodeId> = world.snapshot.nodes.iter().map(|node| node.id).collect();
    assert_eq!(put(&world), ids[1..]);
}
