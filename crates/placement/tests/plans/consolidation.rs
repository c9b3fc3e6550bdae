//! Who could move so that whole devices become free.

use crate::world::{World, at, shared};
use domain::id::{DeviceId, HolderId};
use placement::{Move, Policy};
use std::collections::BTreeSet;

/// What the planner says at the end of its plan.
fn moves(world: &World) -> Vec<Move> {
    let policy = Policy { moves_max: 8, ..world.policy.clone() };
    placement::plan(&world.snapshot, &policy).moves
}

/// The world when these have moved.
pub(crate) fn moved(world: &World, moves: &[Move]) -> World {
    let mut next = world.clone();
    for step in moves {
        let holding = next.snapshot.holdings.iter_mut().find(|holding| holding.holder == step.holder).unwrap();
        assert_eq!((holding.node, holding.grants[0].device), (step.node, step.device));
        (holding.node, holding.grants) = (step.to.node, step.to.grants.clone());
    }
    next
}

/// Devices of which anything is held, or kept for one who waits for others to leave.
pub(crate) fn held_devices(world: &World) -> BTreeSet<DeviceId> {
    let held = world.snapshot.holdings.iter().flat_map(|holding| &holding.grants);
    let kept = world.snapshot.nominations.iter().flat_map(|nomination| &nomination.grants);
    held.chain(kept).map(|grant| grant.device).collect()
}

/// Three devices of one model and one of another one, with these parts held of each.
fn world(parts: [&[u32]; 4]) -> (World, Vec<Vec<HolderId>>) {
    let mut world = World::new();
    let nodes = ["A", "A", "A", "B"].map(|model| world.node(&[model], &shared()));
    let queue = world.snapshot.queues[0].id;
    let holders = nodes
        .into_iter()
        .zip(parts)
        .map(|(node, parts)| parts.iter().map(|milli| world.hold(node, queue, 1, *milli).holder).collect::<Vec<_>>());
    let holders = holders.collect();
    (world, holders)
}

#[test]
fn the_emptiest_devices_are_emptied_onto_the_fullest() {
    let (world, holders) = world([&[600], &[300], &[200, 150], &[100]]);
    let moves = moves(&world);
    let who: Vec<HolderId> = moves.iter().map(|step| step.holder).collect();
    assert_eq!(who, [holders[1][0]], "300 joins 600, and 350 have room nowhere any more; B has one device");
    assert_eq!(moves[0].to.node, world.snapshot.nodes[0].id);
    let next = moved(&world, &moves);
    assert_eq!(held_devices(&next).len(), 3);
    assert_eq!(self::moves(&next), [], "and that is all");
}

#[test]
fn a_device_is_emptied_whole_or_not_at_all() {
    assert_eq!(moves(&world([&[700], &[200, 150], &[], &[]]).0), [], "one of two moved would free nothing");
    assert_eq!(moves(&world([&[600], &[200, 150], &[], &[]]).0).len(), 2);
}

#[test]
fn nobody_is_named_who_may_not_be_asked() {
    let count = |change: fn(&mut World)| {
        let (mut world, _) = world([&[600], &[300], &[], &[]]);
        change(&mut world);
        moves(&world).len()
    };
    assert_eq!(count(|_| ()), 1);
    assert_eq!(count(|world| world.snapshot.holdings.iter_mut().for_each(|h| h.releasing = true)), 0, "they leave");
    assert_eq!(count(|world| world.snapshot.holdings.iter_mut().for_each(|h| h.owner = None)), 0, "strangers");
    let snooze = |world: &mut World| {
        let owners = world.snapshot.holdings.iter_mut().filter_map(|holding| holding.owner.as_mut());
        owners.for_each(|owner| owner.protected_until = Some(at(60)));
    };
    assert_eq!(count(snooze), 0, "they want to be left alone");
    let (world, _) = world([&[600], &[300], &[], &[]]);
    assert_eq!(world.plan().moves, [], "nobody asked");
}
