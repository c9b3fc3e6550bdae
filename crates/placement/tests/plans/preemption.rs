//! Who has to leave for whom.

use crate::{
    checks,
    world::{World, ask, at, shared},
};
use domain::{
    id::{DeviceId, GangId, HolderId, NodeId, QueueId},
    quota::Quota,
};
use jiff::Timestamp;
use placement::{Access, Code, Hint, Plan};
use uuid::Uuid;

/// A node with two devices, a preemptible queue below the first one.
fn world() -> (World, NodeId, QueueId) {
    let mut world = World::new();
    let node = world.node(&["A", "A"], &shared());
    let low = world.queue("low", -1, true);
    (world, node, low)
}

fn planned(world: &World) -> Plan {
    let plan = world.plan();
    checks::check(world, &plan);
    plan
}

fn victims(world: &World) -> Vec<HolderId> {
    planned(world).preemptions.into_iter().flat_map(|preemption| preemption.victims).collect()
}

#[test]
fn the_least_costly_set_leaves() {
    let (mut world, node, low) = world();
    // The first device: two who have little to lose. The second one: one who has more, but is alone.
    world.hold(node, low, 1, 500).started_at = at(-10);
    world.hold(node, low, 1, 500).started_at = at(-10);
    let alone = world.hold(node, low, 1, 1000).holder;
    world.request(ask(1, 1000));
    assert_eq!(victims(&world), [alone], "one who leaves is better than two");
    // Of two single ones, who lost less.
    let (mut world, node, low) = self::world();
    world.hold(node, low, 1, 1000);
    let young = world.hold(node, low, 1, 1000);
    young.started_at = at(-10);
    let young = young.holder;
    world.request(ask(1, 1000));
    assert_eq!(victims(&world), [young]);
}

#[test]
fn a_cheaper_node_is_found() {
    let (mut world, node, low) = world();
    world.hold(node, low, 2, 1000);
    let other = world.node(&["A", "A"], &shared());
    let lower = world.queue("lower", -2, true);
    let cheap = world.hold(other, lower, 2, 1000).holder;
    world.request(ask(2, 1000));
    assert_eq!(victims(&world), [cheap]);
}

#[test]
fn some_never_leave() {
    let refused = |change: &dyn Fn(&mut World, NodeId, QueueId)| {
        let (mut world, node, low) = world();
        change(&mut world, node, low);
        world.request(ask(1, 1000));
        let plan = planned(&world);
        assert_eq!(plan.preemptions, []);
        assert_eq!(plan.refusals[0].code, Code::NoCapacity);
    };
    refused(&|w, node, low| {
        w.queue_mut(low).preemptible = false;
        w.hold(node, low, 2, 1000);
    });
    refused(&|w, node, low| {
        w.hold(node, low, 2, 1000).owner.as_mut().unwrap().protected_until = Some(at(1));
    });
    refused(&|w, node, low| w.hold(node, low, 2, 1000).owner = None);
    refused(&|w, node, low| w.hold(node, low, 2, 1000).releasing = true);
    refused(&|w, node, low| {
        w.queue_mut(low).priority = 0;
        w.hold(node, low, 2, 1000);
    });
    refused(&|w, node, low| {
        w.snapshot.projects[0].disruptions_left = Some(0);
        w.hold(node, low, 2, 1000);
    });
    refused(&|w, node, low| {
        w.policy.preemption = false;
        w.hold(node, low, 2, 1000);
    });
    refused(&|w, node, low| {
        w.policy.preempt_after_s = 61;
        w.hold(node, low, 2, 1000);
    });
}

#[test]
fn what_is_deserved_is_taken_back_but_no_more() {
    let (mut world, node, low) = world();
    // Even from a queue of higher priority, as long as it borrows.
    world.queue_mut(low).priority = 5;
    world.queue_mut(low).deserved_milli = 1000;
    world.hold(node, low, 1, 1000);
    world.hold(node, low, 1, 1000);
    world.snapshot.queues[0].deserved_milli = 2000;
    world.request(ask(1, 1000));
    world.request(ask(1, 1000));
    let plan = planned(&world);
    assert_eq!((plan.preemptions.len(), plan.refusals.len()), (1, 1), "the other keeps what it deserves");
}

#[test]
fn a_gang_leaves_as_a_whole() {
    let (mut world, node, low) = world();
    let gang = GangId(Uuid::from_u128(99));
    let other = world.node(&["A"], &shared());
    let mut members = Vec::new();
    for node in [node, other] {
        let holding = world.hold(node, low, 1, 1000);
        holding.owner.as_mut().unwrap().gang = Some(gang);
        members.push(holding.holder);
    }
    world.hold(node, low, 1, 1000).owner.as_mut().unwrap().protected_until = Some(at(1));
    world.request(ask(1, 1000));
    assert_eq!(victims(&world), members);
}

#[test]
fn a_nominated_place_is_kept_until_it_is_empty() {
    let (mut world, node, low) = world();
    world.hold(node, low, 2, 1000);
    let holder = world.request(ask(1, 1000)).holder;
    let plan = planned(&world);
    let place = plan.preemptions[0].place.clone();
    // The victim has not left: neither the nominee nor anybody else gets its devices.
    let mut leaving = world.after(&plan, 1);
    leaving.request(ask(1, 600)).priority = 100;
    let waiting = planned(&leaving);
    assert_eq!(waiting.assignments, []);
    assert_eq!(waiting.preemptions, []);
    let code = |plan: &Plan| plan.refusals.iter().find(|r| r.holder == holder).map(|r| r.code);
    assert_eq!(code(&waiting), Some(Code::WaitingForRelease));
    // It has left: the nominee gets its place, the other one what is left.
    leaving.snapshot.holdings.clear();
    let plan = leaving.plan();
    assert_eq!(plan.assignments.iter().find(|a| a.holder == holder).map(|a| &a.place), Some(&place));
    assert_eq!(plan.assignments.len(), 2);
}

#[test]
fn whose_victims_were_only_told_takes_what_is_free_elsewhere() {
    let (mut world, node, low) = world();
    world.hold(node, low, 2, 1000);
    let holder = world.request(ask(1, 1000)).holder;
    let mut told = world.after(&planned(&world), 1);
    told.snapshot.nominations[0].revocable = true;
    assert_eq!(planned(&told).refusals[0].code, Code::WaitingForRelease, "there is no other place");
    let other = told.node(&["A"], &shared());
    let got: Vec<_> = planned(&told).assignments.iter().map(|a| (a.holder, a.place.node)).collect();
    assert_eq!(got, [(holder, other)]);
    told.snapshot.nominations[0].revocable = false;
    assert_eq!(planned(&told).assignments, [], "they are leaving already");
}

/// When others may be stopped for each who waits, as it is told; `None` where nothing is.
fn foretold(world: &World) -> Vec<Option<Timestamp>> {
    let told = |hint: &Hint| match hint {
        Hint::Turn { preempts_at, .. } => *preempts_at,
        _ => None,
    };
    let plan = planned(world);
    assert_eq!(plan.refusals.len(), world.snapshot.requests.len(), "{plan:?}");
    plan.refusals.iter().map(|refusal| refusal.hints.iter().find_map(told)).collect()
}

/// Two who hold a device each, and are safe until then; whoever is so for longer has less to lose.
fn safe_until(first: i64, second: i64) -> (World, [HolderId; 2]) {
    let (mut world, node, low) = world();
    let holders = [first, second].map(|until| {
        let holding = world.hold(node, low, 1, 1000);
        holding.started_at = at(until - 3600);
        holding.owner.as_mut().unwrap().protected_until = Some(at(until));
        holding.holder
    });
    (world, holders)
}

#[test]
fn whoever_waits_is_told_when_others_are_safe_no_more() {
    let (mut world, [_, soon]) = safe_until(600, 300);
    let holder = world.request(ask(1, 1000)).holder;
    assert_eq!(foretold(&world), [Some(at(300))], "who may be stopped first, though another one has less to lose");
    world.snapshot.now = at(299);
    assert_eq!(foretold(&world), [Some(at(300))]);
    world.snapshot.now = at(300);
    let plan = planned(&world);
    assert_eq!((plan.preemptions[0].holder, &plan.preemptions[0].victims[..]), (holder, &[soon][..]));
    // Whoever comes next waits for the other one, and so does who needs both.
    world.snapshot.now = at(0);
    world.request(ask(1, 1000));
    assert_eq!(foretold(&world), [Some(at(300)), Some(at(600))]);
    world.snapshot.requests.truncate(1);
    world.snapshot.requests[0].ask.gpus = 2;
    assert_eq!(foretold(&world), [Some(at(600))]);
}

#[test]
fn a_gang_is_safe_as_long_as_any_of_it() {
    let (mut world, members) = safe_until(300, 600);
    let owners = world.snapshot.holdings.iter_mut().filter_map(|holding| holding.owner.as_mut());
    owners.for_each(|owner| owner.gang = Some(GangId(Uuid::from_u128(99))));
    world.request(ask(1, 1000));
    assert_eq!(foretold(&world), [Some(at(600))]);
    world.snapshot.now = at(600);
    assert_eq!(victims(&world), members);
}

#[test]
fn nothing_is_foretold_where_nobody_is_ever_stopped() {
    for change in [
        |world: &mut World| world.snapshot.queues[1].preemptible = false,
        |world: &mut World| world.policy.preemption = false,
        |world: &mut World| world.snapshot.queues[1].priority = 0,
        // There is time now, and too little left then.
        |world: &mut World| {
            let closes_at = at(900).in_tz("UTC").unwrap();
            world.snapshot.requests[0].access = Access::Until { closes_at, opens_again_at: None };
        },
        // As blocks are: safe for as long as anybody looks ahead.
        |world: &mut World| {
            let owners = world.snapshot.holdings.iter_mut().filter_map(|holding| holding.owner.as_mut());
            owners.for_each(|owner| owner.protected_until = Some(at(365 * 86_400)));
        },
    ] {
        let (mut world, _) = safe_until(300, 600);
        world.request(ask(1, 1000));
        assert_eq!(foretold(&world), [Some(at(300))]);
        change(&mut world);
        assert_eq!(foretold(&world), [None]);
    }
}

#[test]
fn who_has_to_wait_before_others_are_stopped_is_told_how_long() {
    let (mut world, _) = safe_until(-10, 0);
    world.policy.preempt_after_s = 100;
    world.request(ask(1, 1000));
    assert_eq!(foretold(&world), [Some(at(40))], "a minute is over");
    world.snapshot.now = at(40);
    assert_eq!(planned(&world).preemptions.len(), 1);
}

/// A device is kept for somebody, and those who made room for them have left.
struct Nominated {
    next: World,
    node: NodeId,
    low: QueueId,
    holder: HolderId,
    device: DeviceId,
}

fn nominated() -> Nominated {
    let (mut world, node, low) = world();
    world.hold(node, low, 2, 1000);
    let holder = world.request(ask(1, 1000)).holder;
    let plan = planned(&world);
    let device = plan.preemptions[0].place.grants[0].device;
    let mut next = world.after(&plan, 1);
    next.snapshot.holdings.clear();
    Nominated { next, node, low, holder, device }
}

#[test]
fn a_place_that_others_took_is_given_to_nobody_and_nobody_is_stopped_for_it_again() {
    let Nominated { mut next, node, low, holder, device } = nominated();
    // A stranger was faster than the nominee; and somebody elsewhere could be stopped.
    let stranger = next.hold(node, low, 1, 600);
    (stranger.owner, stranger.grants[0].device) = (None, device);
    let other = next.node(&["A"], &shared());
    next.hold(other, low, 1, 1000);
    let plan = next.plan();
    assert_eq!((plan.assignments.len(), plan.preemptions.len()), (0, 0), "{plan:?}");
    assert_eq!(plan.refusals.iter().map(|r| (r.holder, r.code)).collect::<Vec<_>>(), [(holder, Code::NoCapacity)]);
    // Without the nomination it waits as anybody does, and has the device that is free.
    next.snapshot.nominations.clear();
    assert_eq!(planned(&next).assignments.len(), 1);
}

#[test]
fn a_kept_place_waits_while_its_device_takes_nobody_new() {
    let Nominated { mut next, holder, device, .. } = nominated();
    let open = |world: &mut World, open: bool| {
        let devices = world.snapshot.nodes.iter_mut().flat_map(|node| &mut node.devices);
        devices.filter(|one| one.id == device).for_each(|one| one.schedulable = open);
    };
    open(&mut next, false);
    let plan = next.plan();
    let refused: Vec<_> = plan.refusals.iter().map(|r| (r.holder, r.code)).collect();
    assert_eq!((plan.assignments.len(), &refused[..]), (0, &[(holder, Code::WaitingForRelease)][..]), "{plan:?}");
    open(&mut next, true);
    assert_eq!(planned(&next).assignments[0].place.grants[0].device, device);
}

#[test]
fn whoever_leaves_a_queue_counts_for_its_limit_until_it_has_left() {
    let (mut world, node, low) = world();
    world.queue_mut(low).limit_milli = Some(2000);
    world.queue_mut(low).deserved_milli = 2000;
    let victim = world.hold(node, low, 1, 1000).holder;
    let queue = world.snapshot.queues[0].id;
    world.hold(node, queue, 1, 1000);
    let (first, second) = (world.request(ask(1, 1000)).holder, world.request(ask(1, 500)).holder);
    world.snapshot.requests.iter_mut().for_each(|request| (request.queue, request.priority) = (low, 1));
    let plan = planned(&world);
    assert_eq!(
        plan.preemptions.iter().map(|p| (p.holder, &p.victims[..])).collect::<Vec<_>>(),
        [(first, &[victim][..])]
    );
    // There is room for the second one, and its queue holds its limit: the victim, and what is kept for the first.
    let mut next = world.after(&plan, 1);
    next.node(&["A"], &shared());
    let plan = planned(&next);
    let code = plan.refusals.iter().find(|refusal| refusal.holder == second).map(|refusal| refusal.code);
    assert_eq!((plan.assignments.len(), code), (0, Some(Code::QueueLimit)), "{plan:?}");
    next.snapshot.holdings.retain(|holding| holding.holder != victim);
    assert_eq!(planned(&next).assignments.len(), 2);
}

#[test]
fn a_nomination_counts_for_the_quota() {
    let (mut world, node, low) = world();
    let nominee = world.project(Quota { gpu_milli: Some(1000), ..Quota::default() });
    world.hold(node, low, 1, 1000);
    world.hold(node, low, 1, 1000);
    world.request(ask(1, 1000)).project = nominee;
    let plan = planned(&world);
    assert_eq!(plan.preemptions.len(), 1);
    let mut next = world.after(&plan, 1);
    next.node(&["A"], &shared());
    let late = next.request(ask(1, 10));
    (late.project, late.priority) = (nominee, 100);
    let plan = next.plan();
    assert_eq!(plan.refusals[0].code, Code::QuotaExceeded, "{plan:?}");
}
