//! Random clusters, random queues.

use crate::{
    checks, consolidation,
    world::{World, ask, at, shared},
};
use domain::{
    device::{Ask, BYTES_MAX, CPU_MILLI_MAX, DeviceModel, Link, Profile, Sharing},
    id::{GangId, GroupId, UserId},
    quota::{Account, Quota, Usage},
};
use jiff::Timestamp;
use placement::{Code, Demand, Gang, Hint, Plan, Policy, Request, Shared, Snapshot, plan};
use proptest::prelude::*;
use std::collections::BTreeSet;
use uuid::Uuid;

/// What a random request is made from.
type Wanted = (u32, u32, u64, Option<bool>, u8, u8);

fn partitioned() -> Sharing {
    let profile = |name: &str, milli, gib: u64, placements: &[u64]| Profile {
        name: name.to_owned(),
        milli,
        memory_bytes: gib << 30,
        placements: placements.to_vec(),
    };
    Sharing::Partitioned {
        profiles: vec![
            profile("quarter", 250, 4, &[0b0001, 0b0010, 0b0100, 0b1000]),
            profile("half", 500, 8, &[0b0011, 0b1100]),
            profile("whole", 1000, 16, &[0b1111]),
        ],
    }
}

fn ask_of(wanted: &Wanted) -> Ask {
    let (gpus, gpu_milli, cores, model, link, _) = *wanted;
    let model = model.filter(|_| gpus > 0).map(|first| DeviceModel::new(if first { "A" } else { "B" }));
    Ask {
        models: model.into_iter().collect(),
        link: [Link::Any, Link::Preferred, Link::Required][usize::from(link % 3)],
        cpu_milli: cores * 1000,
        ..ask(gpus, gpu_milli)
    }
}

prop_compose! {
    fn worlds()(
        nodes in prop::collection::vec((0_usize..4, any::<bool>(), 0_u8..4), 1..5),
        held in prop::collection::vec((any::<prop::sample::Index>(), 1_u32..=1000, any::<bool>(), any::<bool>()), 0..8),
        wanted in prop::collection::vec((0_u32..4, 1_u32..=1000, 0_u64..12, any::<Option<bool>>(), any::<u8>(), any::<u8>()), 1..9),
        quota in prop::option::of(500_u64..6000),
        limit in prop::option::of(500_u64..6000),
        deserved in 0_u64..4000,
        shared_quota in prop::option::of(500_u64..6000),
    ) -> World {
        let mut world = World::new();
        let low = world.queue("low", -1, true);
        world.queue_mut(low).deserved_milli = deserved / 2;
        world.snapshot.queues[0].deserved_milli = deserved;
        for (size, first, sharing) in nodes {
            let sharing = match sharing { 0 => Sharing::Exclusive, 1 => partitioned(), _ => shared() };
            let model = if first { "A" } else { "B" };
            world.node(&vec![model; size], &sharing);
        }
        hold_some(&mut world, &held);
        world.snapshot.projects[0].quota = Quota { gpu_milli: quota.map(|milli| milli + 4000), ..Quota::default() };
        world.snapshot.queues[0].limit_milli = limit;
        for wanted in &wanted {
            want(&mut world, wanted);
        }
        share_some(&mut world, shared_quota);
        // Sometimes a member is missing.
        let members = world.snapshot.requests.iter().filter(|request| request.gang.is_some()).count();
        let size = u32::try_from(members).unwrap() + u32::from(deserved % 4 == 0);
        world.snapshot.requests.iter_mut().filter_map(|r| r.gang.as_mut()).for_each(|gang| gang.size = size);
        world
    }
}

/// Every second of those who wait is one person's, and the other ones are of another project of the same group.
fn share_some(world: &mut World, quota: Option<u64>) {
    let Some(milli) = quota else { return };
    let (group, person) = (GroupId(Uuid::from_u128(900)), UserId(Uuid::from_u128(901)));
    let project = world.project(Quota::default());
    world.snapshot.projects.iter_mut().for_each(|project| project.group = Some(group));
    for (at, request) in world.snapshot.requests.iter_mut().enumerate() {
        if at.is_multiple_of(2) { request.person = Some(person) } else { request.project = project }
    }
    let shared = |account, gpu_milli| Shared {
        account,
        quota: Quota { gpu_milli: Some(gpu_milli), ..Quota::default() },
        elsewhere: Usage::default(),
    };
    world.snapshot.quotas = vec![shared(Account::Group(group), milli + 4000), shared(Account::Person(person), milli)];
}

/// On shared devices only, so that whatever is held is possible.
fn hold_some(world: &mut World, held: &[(prop::sample::Index, u32, bool, bool)]) {
    for (node, milli, low, ends) in held {
        let node = &world.snapshot.nodes[node.index(world.snapshot.nodes.len())];
        let used = |id| {
            world
                .snapshot
                .holdings
                .iter()
                .flat_map(|h| &h.grants)
                .filter(|g| g.device == id)
                .map(|g| g.milli)
                .sum::<u32>()
        };
        let free =
            node.devices.iter().any(|d| matches!(d.sharing, Sharing::Shared { .. }) && used(d.id) + milli <= 1000);
        let (id, queue) = (node.id, world.snapshot.queues[usize::from(*low)].id);
        if free {
            let holding = world.hold(id, queue, 1, *milli);
            holding.ends_at = ends.then(|| at(600 + i64::from(*milli)));
        }
    }
}

fn want(world: &mut World, wanted: &Wanted) {
    let extra = wanted.5;
    let queue = world.snapshot.queues[usize::from(extra & 1)].id;
    let request = world.request(ask_of(wanted));
    request.queue = queue;
    request.submitted_at = at(-i64::from(extra) * 4);
    request.priority = i32::from(extra % 5);
    request.runtime_s = (extra & 2 > 0).then_some(u64::from(wanted.1) * 3);
    request.gang = (extra & 12 == 12).then(|| Gang { id: GangId(Uuid::from_u128(9)), size: 2, one_zone: false });
}

fn changed(world: &World, plan: &Plan, request: &Request, change: impl FnOnce(&mut Request)) -> World {
    let mut next = world.after(plan, 0);
    change(next.snapshot.requests.iter_mut().find(|r| r.holder == request.holder).unwrap());
    next
}

fn hint_holds(world: &World, plan: &Plan, request: &Request, hint: &Hint) {
    let next = changed(world, plan, request, |request| match hint {
        Hint::Share { gpu_milli } => request.ask.gpu_milli = *gpu_milli,
        Hint::FewerGpus { gpus } => request.ask.gpus = *gpus,
        Hint::OtherModel { model } => request.ask.models = vec![model.clone()],
        Hint::LessCpu { cpu_milli } => request.ask.cpu_milli = *cpu_milli,
        Hint::LessMemory { memory_bytes } => request.ask.memory_bytes = *memory_bytes,
        Hint::OtherQueue { queue, .. } => (request.queue, request.permitted) = (*queue, Vec::new()),
        Hint::WindowOpens { .. } | Hint::Turn { .. } => {}
    });
    if matches!(hint, Hint::WindowOpens { .. } | Hint::Turn { .. }) {
        return;
    }
    let replanned = next.plan();
    let started = replanned.assignments.iter().any(|assignment| assignment.holder == request.holder);
    assert!(started, "{hint:?} did not help {:?}: {:?}", request.ask, replanned.refusals);
}

fn mirrored(snapshot: &Snapshot) -> Snapshot {
    let mut mirrored = snapshot.clone();
    mirrored.nodes.reverse();
    mirrored.nodes.iter_mut().for_each(|node| node.devices.reverse());
    mirrored.holdings.reverse();
    mirrored.requests.reverse();
    mirrored.queues.reverse();
    mirrored.projects.reverse();
    mirrored
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn plans_are_possible_fair_and_atomic(world in worlds()) {
        checks::check(&world, &world.plan());
    }

    #[test]
    fn the_order_of_the_lists_does_not_matter(world in worlds()) {
        prop_assert_eq!(plan(&mirrored(&world.snapshot), &world.policy), world.plan());
    }

    #[test]
    fn what_is_said_to_help_helps(mut world in worlds()) {
        let queues: Vec<_> = world.snapshot.queues.iter().map(|queue| queue.id).collect();
        for request in &mut world.snapshot.requests {
            request.alternatives.clone_from(&queues);
        }
        let plan = world.plan();
        for refusal in &plan.refusals {
            let request = world.snapshot.requests.iter().find(|r| r.holder == refusal.holder).unwrap();
            for hint in &refusal.hints {
                hint_holds(&world, &plan, request, hint);
            }
        }
    }

    #[test]
    fn moves_are_possible_and_free_devices(mut world in worlds()) {
        world.policy.moves_max = 16;
        let plan = world.plan();
        let before = world.after(&plan, 0);
        let after = consolidation::moved(&before, &plan.moves);
        let emptied: BTreeSet<_> = plan.moves.iter().map(|step| step.device).collect();
        let (held_before, held_after) = (consolidation::held_devices(&before), consolidation::held_devices(&after));
        prop_assert_eq!(held_before.difference(&held_after).copied().collect::<BTreeSet<_>>(), emptied);
        prop_assert!(held_after.is_subset(&held_before));
        prop_assert_eq!(after.plan().problems, Vec::<String>::new());
    }

    #[test]
    fn a_snapshot_and_a_plan_survive_json(world in worlds()) {
        let snapshot: Snapshot = serde_json::from_str(&serde_json::to_string(&world.snapshot).unwrap()).unwrap();
        prop_assert_eq!(&snapshot, &world.snapshot);
        let plan = world.plan();
        prop_assert_eq!(serde_json::from_str::<Plan>(&serde_json::to_string(&plan).unwrap()).unwrap(), plan);
        let policy: Policy = serde_json::from_str("{}").unwrap();
        prop_assert_eq!(policy, Policy::default());
    }
}

/// Whatever a type can say, small and at its end.
fn extreme() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), 0_u64..5_000, Just(CPU_MILLI_MAX), Just(BYTES_MAX), any::<u64>(), Just(u64::MAX)]
}

prop_compose! {
    fn extreme_worlds()(
        mut world in worlds(),
        values in prop::collection::vec(extreme(), 40),
        ratios in prop::collection::vec(any::<u32>(), 12),
    ) -> World {
        let mut values = values.into_iter().cycle();
        let mut next = || values.next().unwrap();
        let mut ratios = ratios.into_iter().cycle();
        let mut small = || [0, 1, 1000, u32::MAX][ratios.next().unwrap() as usize % 4];
        let snapshot = &mut world.snapshot;
        for node in &mut snapshot.nodes {
            (node.cpu_milli, node.memory_bytes) = (next(), next());
            node.devices.iter_mut().for_each(|device| device.memory_bytes = next());
        }
        for holding in &mut snapshot.holdings {
            (holding.cpu_milli, holding.memory_bytes) = (next(), next());
            holding.grants.iter_mut().for_each(|grant| (grant.milli, grant.memory_bytes) = (small(), next()));
            if let Some(owner) = &mut holding.owner {
                (owner.effective_milli, owner.storage_bytes) = (next(), next());
                owner.priority = if next() % 2 == 0 { i32::MIN } else { i32::MAX };
            }
        }
        for request in &mut snapshot.requests {
            (request.ask.cpu_milli, request.ask.memory_bytes, request.storage_bytes) = (next(), next(), next());
            request.ask.gpu_memory_bytes = Some(next()).filter(|bytes| bytes % 2 == 0);
            if next() % 3 == 0 {
                (request.ask.gpus, request.ask.gpu_milli) = (small(), small());
            }
            request.priority = if next() % 2 == 0 { i32::MIN } else { i32::MAX };
            request.runtime_s = Some(next());
            if next() % 2 == 0 {
                request.submitted_at = if next() % 2 == 0 { Timestamp::MIN } else { Timestamp::MAX };
            }
        }
        for queue in &mut snapshot.queues {
            (queue.deserved_milli, queue.limit_milli, queue.recent_use) = (next(), Some(next()), next());
            (queue.weight, queue.priority) = (small(), if next() % 2 == 0 { i32::MIN } else { i32::MAX });
        }
        for project in &mut snapshot.projects {
            project.recent_use = next();
            project.disruptions_left = Some(small());
            let model_milli = [(DeviceModel::new("A"), next())].into();
            let (gpu_milli, cpu_milli) = (Some(next()), Some(next()));
            project.quota = Quota { gpu_milli, model_milli, cpu_milli, memory_bytes: Some(next()), ..Quota::default() };
        }
        let asks: Vec<Ask> = snapshot.requests.iter().map(|request| request.ask.clone()).collect();
        snapshot.recent.extend(asks.into_iter().map(|ask| Demand { ask, count: next() }));
        world.policy.model_value_percent = [(DeviceModel::new("A"), next())].into();
        world.policy.moves_max = 4;
        world
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn nothing_that_a_snapshot_can_say_breaks_a_plan(world in extreme_worlds()) {
        let plan = world.plan();
        let answered = plan.assignments.len() + plan.preemptions.len() + plan.refusals.len();
        prop_assert_eq!(answered, world.snapshot.requests.len(), "everybody gets an answer");
    }

    #[test]
    fn one_that_asks_for_what_cannot_be_takes_nothing_from_others(milli in 1_u32..=1000, cpu_milli in CPU_MILLI_MAX + 1..) {
        let mut world = World::new();
        world.node(&["A"], &shared());
        let other = world.request(ask(1, milli)).holder;
        let absurd = Ask { cpu_milli, memory_bytes: u64::MAX, ..ask(32, 1000) };
        world.snapshot.recent.push(Demand { ask: absurd.clone(), count: 1 });
        let bad = world.request(absurd).holder;
        let plan = world.plan();
        prop_assert_eq!(plan.assignments.iter().map(|one| one.holder).collect::<Vec<_>>(), [other]);
        let refused: Vec<_> = plan.refusals.iter().map(|refusal| (refusal.holder, refusal.code)).collect();
        prop_assert_eq!(refused, [(bad, Code::AskInvalid)]);
    }
}
