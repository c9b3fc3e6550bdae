//! What must be true of every plan.

use crate::world::World;
use domain::{
    device::{Device, Grant, Link},
    id::{DeviceId, HolderId, NodeId, ProjectId, UserId},
    quota::{Account, Usage},
};
use placement::{Place, Plan, Request};
use std::collections::{BTreeMap, BTreeSet};

/// Panics with what is wrong.
pub(crate) fn check(world: &World, plan: &Plan) {
    assert_eq!(plan.problems, Vec::<String>::new());
    everybody_is_answered_once(world, plan);
    places_are_what_was_asked_for(world, plan);
    nothing_is_given_twice(world, plan);
    quotas_and_limits_hold(world, plan);
    gangs_are_atomic(world, plan);
    only_preemptible_holders_leave(world, plan);
}

fn request(world: &World, holder: HolderId) -> &Request {
    world.snapshot.requests.iter().find(|request| request.holder == holder).unwrap()
}

fn places(plan: &Plan) -> impl Iterator<Item = (HolderId, &Place)> {
    let assigned = plan.assignments.iter().map(|a| (a.holder, &a.place));
    assigned.chain(plan.preemptions.iter().map(|p| (p.holder, &p.place)))
}

fn everybody_is_answered_once(world: &World, plan: &Plan) {
    let mut answered: Vec<HolderId> = places(plan).map(|(holder, _)| holder).collect();
    answered.extend(plan.refusals.iter().map(|refusal| refusal.holder));
    answered.sort();
    let mut asked: Vec<HolderId> = world.snapshot.requests.iter().map(|request| request.holder).collect();
    asked.sort();
    assert_eq!(answered, asked);
}

fn device(world: &World, id: DeviceId) -> (NodeId, &Device) {
    let all = world.snapshot.nodes.iter().flat_map(|node| node.devices.iter().map(|device| (node.id, device)));
    all.into_iter().find(|(_, device)| device.id == id).unwrap()
}

fn places_are_what_was_asked_for(world: &World, plan: &Plan) {
    for (holder, place) in places(plan) {
        let ask = &request(world, holder).ask;
        assert_eq!((place.cpu_milli, place.memory_bytes), (ask.cpu_milli, ask.memory_bytes));
        let devices: Vec<&Device> = place.grants.iter().map(|grant| device(world, grant.device).1).collect();
        let distinct: BTreeSet<DeviceId> = place.grants.iter().map(|grant| grant.device).collect();
        assert_eq!(distinct.len(), ask.gpus as usize);
        assert!(place.grants.iter().all(|grant| device(world, grant.device).0 == place.node));
        assert!(place.grants.iter().all(|grant| grant.milli >= ask.gpu_milli));
        assert!(devices.iter().all(|device| device.schedulable && ask.accepts(&device.model)));
        assert!(devices.windows(2).all(|pair| pair[0].model == pair[1].model));
        if ask.link == Link::Required {
            assert!(devices.windows(2).all(|pair| pair[0].link_group == pair[1].link_group));
        }
    }
}

/// What is held, assigned, or kept for somebody whose victims still hold it, is never more than there is.
fn nothing_is_given_twice(world: &World, plan: &Plan) {
    let victims: BTreeSet<HolderId> = plan.preemptions.iter().flat_map(|p| p.victims.clone()).collect();
    let held = world.snapshot.holdings.iter();
    // Twice: before the victims have left, without those who wait for it; and after.
    let before: Vec<(NodeId, &[Grant], u64, u64)> = held
        .clone()
        .map(|h| (h.node, &h.grants[..], h.cpu_milli, h.memory_bytes))
        .chain(plan.assignments.iter().map(|a| &a.place).map(parts))
        .collect();
    let after: Vec<(NodeId, &[Grant], u64, u64)> = held
        .filter(|h| !victims.contains(&h.holder))
        .map(|h| (h.node, &h.grants[..], h.cpu_milli, h.memory_bytes))
        .chain(places(plan).map(|(_, place)| parts(place)))
        .collect();
    for all in [before, after] {
        for node in &world.snapshot.nodes {
            let here = || all.iter().filter(|(id, ..)| *id == node.id);
            assert!(here().map(|(.., cpu, _)| cpu).sum::<u64>() <= node.cpu_milli);
            assert!(here().map(|(.., memory)| memory).sum::<u64>() <= node.memory_bytes);
            for device in &node.devices {
                let grants = || here().flat_map(|(_, grants, ..)| *grants).filter(|g| g.device == device.id);
                assert!(grants().map(|g| g.milli).sum::<u32>() <= 1000);
                assert!(grants().map(|g| g.memory_bytes).sum::<u64>() <= device.memory_bytes);
                let slots = grants().fold((0_u64, 0), |(all, count), g| (all | g.slots, count + g.slots.count_ones()));
                assert_eq!(slots.0.count_ones(), slots.1, "slots are given twice");
            }
        }
    }
}

fn parts(place: &Place) -> (NodeId, &[Grant], u64, u64) {
    (place.node, &place.grants, place.cpu_milli, place.memory_bytes)
}

fn quotas_and_limits_hold(world: &World, plan: &Plan) {
    let usage = |gpu_milli: u64, grants: &[Grant], cpu_milli: u64, memory_bytes: u64| Usage {
        gpu_milli,
        model_milli: grants.first().map(|g| (device(world, g.device).1.model.clone(), gpu_milli)).into_iter().collect(),
        cpu_milli,
        memory_bytes,
        storage_bytes: 0,
        holders: 1,
    };
    let mut by_project: BTreeMap<_, (Usage, Usage)> = BTreeMap::new();
    let group = |id: ProjectId| {
        world.snapshot.projects.iter().find(|project| project.id == id).and_then(|project| project.group)
    };
    let counts_for = |account: Account, project: ProjectId, person: Option<UserId>| match account {
        Account::Project(id) => id == project,
        Account::Group(id) => group(project) == Some(id),
        Account::Person(id) => person == Some(id),
    };
    let mut shared: Vec<(Usage, Usage)> =
        world.snapshot.quotas.iter().map(|shared| (shared.elsewhere.clone(), Usage::default())).collect();
    let mut by_queue: BTreeMap<_, (u64, u64)> = BTreeMap::new();
    for holding in &world.snapshot.holdings {
        let Some(owner) = &holding.owner else { continue };
        let used = usage(owner.effective_milli, &holding.grants, holding.cpu_milli, holding.memory_bytes);
        by_project.entry(owner.project).or_default().0.add(&used);
        for (quota, (sum, _)) in world.snapshot.quotas.iter().zip(&mut shared) {
            if counts_for(quota.account, owner.project, owner.person) {
                sum.add(&used);
            }
        }
        // Also of those who were told to leave: they have not left.
        by_queue.entry(owner.queue).or_default().0 += owner.effective_milli;
    }
    for (holder, place) in places(plan) {
        let request = request(world, holder);
        let milli = request.ask.effective_milli();
        let more = usage(milli, &place.grants, place.cpu_milli, place.memory_bytes);
        by_project.entry(request.project).or_default().1.add(&more);
        for (quota, (_, sum)) in world.snapshot.quotas.iter().zip(&mut shared) {
            if counts_for(quota.account, request.project, request.person) {
                sum.add(&more);
            }
        }
        by_queue.entry(request.queue).or_default().1 += milli;
    }
    for project in &world.snapshot.projects {
        let (used, more) = by_project.remove(&project.id).unwrap_or_default();
        assert_eq!(project.quota.excess(&used, &more), None);
    }
    for (quota, (used, more)) in world.snapshot.quotas.iter().zip(&shared) {
        assert_eq!(quota.quota.excess(used, more), None, "{:?}", quota.account);
    }
    for queue in &world.snapshot.queues {
        let (used, more) = by_queue.remove(&queue.id).unwrap_or_default();
        assert!(queue.limit_milli.is_none_or(|limit| more == 0 || used + more <= limit));
    }
}

fn gangs_are_atomic(world: &World, plan: &Plan) {
    let started: BTreeSet<HolderId> = plan.assignments.iter().map(|assignment| assignment.holder).collect();
    let nominated: BTreeSet<HolderId> = plan.preemptions.iter().map(|preemption| preemption.holder).collect();
    all_or_none(world, &started);
    all_or_none(world, &nominated);
}

fn all_or_none(world: &World, chosen: &BTreeSet<HolderId>) {
    let running = |gang| {
        let of = |h: &&placement::Holding| h.owner.as_ref().is_some_and(|owner| owner.gang == Some(gang));
        u32::try_from(world.snapshot.holdings.iter().filter(of).count()).unwrap()
    };
    let mut gangs: BTreeMap<_, (u32, u32)> = BTreeMap::new();
    for request in &world.snapshot.requests {
        if let Some(gang) = &request.gang {
            let (_, count) = gangs.entry(gang.id).or_insert((gang.size - running(gang.id), 0));
            *count += u32::from(chosen.contains(&request.holder));
        }
    }
    assert!(gangs.values().all(|(size, count)| *count == 0 || count == size), "{gangs:?}");
}

fn only_preemptible_holders_leave(world: &World, plan: &Plan) {
    let mut seen = BTreeMap::new();
    for (preemption, victim) in plan.preemptions.iter().flat_map(|p| p.victims.iter().map(move |victim| (p, victim))) {
        // Members of one gang name the same ones.
        let whose = request(world, preemption.holder).gang.as_ref().map_or(preemption.holder.0, |gang| gang.id.0);
        assert_eq!(*seen.entry(*victim).or_insert(whose), whose, "{victim} leaves twice");
        let holding = world.snapshot.holdings.iter().find(|holding| holding.holder == *victim).unwrap();
        let owner = holding.owner.as_ref().expect("a stranger has to leave");
        assert!(world.snapshot.queues.iter().any(|queue| queue.id == owner.queue && queue.preemptible));
        assert!(owner.protected_until.is_none_or(|until| until <= world.snapshot.now));
        assert!(!holding.releasing);
    }
}
