//! Coming and going in logical time.

use crate::world::{World, ask, at, shared};
use domain::{
    device::Sharing,
    id::{DeviceId, HolderId, NodeId},
};
use placement::{Arrival, Fate, Pauses, Policy, Simulation, Snapshot, plan};
use proptest::prelude::*;
use std::collections::BTreeMap;

const PAUSES: Pauses = Pauses { plan_s: 1, grace_s: 30 };

/// So many GPUs, this share of each, from when, for how long, preemptible or not, known to end or not.
type Visit = (u32, u32, i64, u64, bool, bool);

fn simulation(mut world: World, visits: &[Visit]) -> (Simulation, Vec<HolderId>) {
    let low = world.queue("low", -1, true);
    let arrival = |(gpus, milli, comes_s, lasts_s, stoppable, known): &Visit| {
        let request = world.request(ask(*gpus, *milli));
        request.submitted_at = at(*comes_s);
        request.runtime_s = known.then_some(*lasts_s);
        if *stoppable {
            request.queue = low;
        }
        Arrival { request: request.clone(), lasts_s: *lasts_s }
    };
    let arrivals: Vec<Arrival> = visits.iter().map(arrival).collect();
    let holders = arrivals.iter().map(|arrival| arrival.request.holder).collect();
    world.snapshot.requests.clear();
    (Simulation::new(world.snapshot, arrivals, &Policy::default(), PAUSES), holders)
}

/// Panics when somebody has what is not there, or what another has.
fn nothing_is_held_twice(snapshot: &Snapshot) {
    let mut shares: BTreeMap<DeviceId, u32> = BTreeMap::new();
    let mut hosts: BTreeMap<NodeId, (u64, u64)> = BTreeMap::new();
    for holding in &snapshot.holdings {
        holding.grants.iter().for_each(|grant| *shares.entry(grant.device).or_default() += grant.milli);
        let host = hosts.entry(holding.node).or_default();
        *host = (host.0 + holding.cpu_milli, host.1 + holding.memory_bytes);
    }
    assert!(shares.values().all(|milli| *milli <= 1000), "{shares:?}");
    for node in &snapshot.nodes {
        let held = hosts.get(&node.id).copied().unwrap_or_default();
        assert!(held.0 <= node.cpu_milli && held.1 <= node.memory_bytes, "{held:?} of {node:?}");
    }
}

/// Whether each of these gets a place when nobody else wants one.
fn fit(snapshot: &Snapshot, requests: impl IntoIterator<Item = placement::Request>) -> Vec<bool> {
    let alone = |request| {
        let snapshot = Snapshot { requests: vec![request], ..snapshot.clone() };
        !plan(&snapshot, &Policy::default()).assignments.is_empty()
    };
    requests.into_iter().map(alone).collect()
}

fn whole_nodes(world: &World) -> Vec<placement::Request> {
    let mut world = world.clone();
    let nodes: Vec<(NodeId, u32)> =
        world.snapshot.nodes.iter().map(|node| (node.id, u32::try_from(node.devices.len()).unwrap())).collect();
    let whole = |(node, gpus): (NodeId, u32)| {
        let request = world.request(ask(gpus, 1000));
        request.nodes = Some([node].into());
        request.clone()
    };
    nodes.into_iter().filter(|(_, gpus)| *gpus > 0).map(whole).collect()
}

#[test]
fn whoever_comes_later_waits_until_somebody_leaves() {
    let mut world = World::new();
    world.node(&["A"], &shared());
    let (mut simulation, holders) = simulation(
        world,
        &[(1, 1000, 0, 100, false, true), (1, 600, 10, 50, false, false), (1, 600, 20, 50, false, true)],
    );
    while simulation.step().is_some() {}
    let waited: Vec<_> = holders.iter().map(|holder| simulation.fates()[holder].waited_s).collect();
    assert_eq!(waited, [Some(0), Some(90), Some(130)]);
    assert_eq!(simulation.snapshot().now, at(200));
}

#[test]
fn whoever_is_stopped_for_somebody_begins_anew() {
    let mut world = World::new();
    world.node(&["A"], &shared());
    let (mut simulation, holders) = simulation(world, &[(1, 800, 0, 100, true, false), (1, 800, 10, 60, false, false)]);
    while simulation.step().is_some() {}
    let [low, high] = [0, 1].map(|at| simulation.fates()[&holders[at]]);
    assert_eq!(high, Fate { waited_s: Some(30), stopped: 0, finished: true }, "it waits for the grace");
    assert_eq!(low, Fate { waited_s: Some(0), stopped: 1, finished: true });
    assert_eq!(simulation.snapshot().now, at(10 + 30 + 60 + 100));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn all_capacity_is_back_when_everybody_has_left(
        nodes in prop::collection::vec((0_usize..4, any::<bool>()), 1..4),
        visits in prop::collection::vec(
            (0_u32..4, 1_u32..=1000, 0_i64..3000, 1_u64..2000, any::<bool>(), any::<bool>()), 1..24),
    ) {
        let mut world = World::new();
        for (size, exclusive) in nodes {
            world.node(&vec!["A"; size], &if exclusive { Sharing::Exclusive } else { shared() });
        }
        let (mut simulation, _) = simulation(world.clone(), &visits);
        let mut waiting = Vec::new();
        while simulation.step().is_some() {
            nothing_is_held_twice(simulation.snapshot());
            waiting.clone_from(&simulation.snapshot().requests);
        }
        let end = simulation.snapshot();
        prop_assert!(end.holdings.is_empty() && end.nominations.is_empty());
        prop_assert_eq!(fit(end, waiting.iter().cloned()), vec![false; waiting.len()], "nobody waits who has a place");
        let finished = simulation.fates().values().filter(|fate| fate.finished).count();
        prop_assert_eq!(finished + waiting.len(), visits.len());
        let whole = whole_nodes(&world);
        prop_assert_eq!(fit(end, whole.clone()), vec![true; whole.len()], "all of each node is free");
    }
}
