//! Requests that start all together or not at all.

use crate::{
    checks,
    world::{World, ask, at, shared},
};
use domain::{
    id::{GangId, HolderId, NodeId, QueueId},
    quota::Quota,
};
use placement::{Code, Gang, Plan};
use uuid::Uuid;

/// Two nodes with two devices each, and a preemptible queue below the first one.
fn world() -> (World, [NodeId; 2], QueueId) {
    let mut world = World::new();
    let nodes = [world.node(&["A", "A"], &shared()), world.node(&["A", "A"], &shared())];
    let low = world.queue("low", -1, true);
    (world, nodes, low)
}

fn gang(world: &mut World, size: u32, members: &[(u32, u32)]) -> Vec<HolderId> {
    let gang = Gang { id: GangId(Uuid::from_u128(5)), size, one_zone: false };
    let want = |(gpus, milli): &(u32, u32)| {
        let request = world.request(ask(*gpus, *milli));
        request.gang = Some(gang.clone());
        request.submitted_at = at(-600);
        request.holder
    };
    members.iter().map(want).collect()
}

fn planned(world: &World) -> Plan {
    let plan = world.plan();
    checks::check(world, &plan);
    plan
}

#[test]
fn all_get_their_places_when_their_victims_have_left() {
    let (mut world, [first, second], low) = world();
    let victims = [world.hold(first, low, 2, 1000).holder, world.hold(second, low, 1, 1000).holder];
    let members = gang(&mut world, 2, &[(2, 1000), (2, 1000)]);
    let plan = planned(&world);
    assert_eq!(plan.preemptions.len(), 2, "{:?}", plan.refusals);
    for preemption in &plan.preemptions {
        assert_eq!(preemption.victims, victims, "members wait for all who leave for any of them");
    }
    // One has left: the place of one member is free, and it waits for the other one.
    let mut next = world.after(&plan, 10);
    next.snapshot.holdings.retain(|holding| holding.holder != victims[0]);
    let waiting = planned(&next);
    assert!(waiting.assignments.is_empty());
    assert!(waiting.refusals.iter().all(|refusal| refusal.code == Code::WaitingForRelease), "{:?}", waiting.refusals);
    // What is kept for them is nobody else's.
    next.request(ask(1, 1000)).priority = 9;
    assert!(planned(&next).assignments.is_empty());
    next.snapshot.holdings.clear();
    let started: Vec<HolderId> = planned(&next).assignments.iter().map(|assignment| assignment.holder).collect();
    assert!(members.iter().all(|member| started.contains(member)), "{started:?}");
}

#[test]
fn one_victim_makes_room_for_several_members() {
    let (mut world, [first, second], low) = world();
    let victim = world.hold(first, low, 2, 1000).holder;
    let queue = world.snapshot.queues[0].id;
    world.hold(second, queue, 2, 1000);
    gang(&mut world, 2, &[(1, 1000), (1, 1000)]);
    let plan = planned(&world);
    assert_eq!(plan.preemptions.iter().map(|p| p.victims.clone()).collect::<Vec<_>>(), [[victim], [victim]]);
    // Until it has left, both places are held by it, and neither is somebody else's mistake.
    assert_eq!(planned(&world.after(&plan, 1)).problems, Vec::<String>::new());
}

#[test]
fn nobody_is_stopped_for_a_part_of_a_gang() {
    let (mut world, [first, second], low) = world();
    world.hold(first, low, 2, 1000);
    let queue = world.snapshot.queues[0].id;
    world.hold(second, queue, 2, 1000);
    gang(&mut world, 2, &[(2, 1000), (2, 1000)]);
    let plan = planned(&world);
    assert!(plan.preemptions.is_empty() && plan.assignments.is_empty());
}

#[test]
fn a_member_that_ran_alone_for_a_moment_joins_those_that_run() {
    let (mut world, [first, _], _) = world();
    let queue = world.snapshot.queues[0].id;
    let id = GangId(Uuid::from_u128(5));
    world.hold(first, queue, 1, 1000).owner.as_mut().unwrap().gang = Some(id);
    let members = gang(&mut world, 2, &[(1, 1000)]);
    assert_eq!(planned(&world).assignments.iter().map(|a| a.holder).collect::<Vec<_>>(), members);
    world.snapshot.holdings.clear();
    assert_eq!(planned(&world).refusals[0].code, Code::GangIncomplete);
}

#[test]
fn a_gang_that_never_fits_is_told_so_with_how_many_would() {
    let (mut world, [first, _], low) = world();
    // Somebody could be stopped for it, and nobody is.
    world.hold(first, low, 2, 1000);
    gang(&mut world, 5, &[(1, 1000); 5]);
    let plan = planned(&world);
    assert!(plan.preemptions.is_empty() && plan.assignments.is_empty());
    for refusal in &plan.refusals {
        assert_eq!(refusal.code, Code::NeverFits);
        assert!(refusal.sentence.contains("at most 4 of the 5 members"), "{}", refusal.sentence);
    }
    // One less fits when the others have left.
    let (mut world, [first, second], _) = self::world();
    let queue = world.snapshot.queues[0].id;
    world.hold(first, queue, 2, 1000);
    world.hold(second, queue, 1, 1000);
    gang(&mut world, 4, &[(1, 1000); 4]);
    assert!(planned(&world).refusals.iter().all(|refusal| refusal.code != Code::NeverFits));
}

#[test]
fn a_gang_that_asks_for_more_than_may_ever_be_held_is_told_so() {
    /// All are told the same, of the kind and with these words; with a little more they start.
    fn told(world: &World, code: Code, words: &str, more: impl FnOnce(&mut World)) {
        let plan = planned(world);
        assert!(plan.assignments.is_empty() && plan.preemptions.is_empty());
        for refusal in &plan.refusals {
            assert_eq!(refusal.code, code, "{}", refusal.sentence);
            assert!(refusal.sentence.starts_with(words), "{}", refusal.sentence);
            assert_eq!(refusal.hints, [], "no position: its turn never comes");
        }
        let mut enough = world.clone();
        more(&mut enough);
        assert_eq!(planned(&enough).refusals, []);
    }
    let (mut world, [first, _], low) = world();
    // Somebody could be stopped for it, and nobody is.
    world.hold(first, low, 2, 1000);
    gang(&mut world, 3, &[(1, 600); 3]);
    let limited = |quota: Quota| {
        let mut world = world.clone();
        world.snapshot.projects[0].quota = quota;
        world
    };
    let mut queue = world.clone();
    queue.snapshot.queues[0].limit_milli = Some(1799);
    let words = "1.8 GPU is asked for by 3 that start together, and queue default may never hold more than 1.799 GPU; \
                 start fewer together, ask for less, or for another queue";
    told(&queue, Code::QueueTooSmall, words, |w| w.snapshot.queues[0].limit_milli = Some(1800));
    let words =
        "1.8 GPU is asked for by 3 that start together, and the project may never hold more than 1.5; start fewer";
    let quota = limited(Quota { gpu_milli: Some(1500), ..Quota::default() });
    told(&quota, Code::QuotaTooSmall, words, |w| {
        w.snapshot.holdings.clear();
        w.snapshot.projects[0].quota.gpu_milli = Some(1800);
    });
    let words = "3 running at once is asked for by 3 that start together";
    let quota = limited(Quota { holders: Some(2), ..Quota::default() });
    told(&quota, Code::QuotaTooSmall, words, |w| {
        w.snapshot.holdings.clear();
        w.snapshot.projects[0].quota.holders = Some(3);
    });
    // Others hold of what would be enough: it waits for these.
    let quota = limited(Quota { gpu_milli: Some(1800), ..Quota::default() });
    assert!(planned(&quota).refusals.iter().all(|refusal| refusal.code != Code::QuotaTooSmall));
    // With one that runs already, it is as much.
    let (mut world, [first, _], _) = self::world();
    world.snapshot.queues[0].limit_milli = Some(1000);
    let queue = world.snapshot.queues[0].id;
    world.hold(first, queue, 1, 600).owner.as_mut().unwrap().gang = Some(GangId(Uuid::from_u128(5)));
    gang(&mut world, 2, &[(1, 600)]);
    let words = "1.2 GPU is asked for by 2 that start together, and queue default may never hold more than 1 GPU";
    told(&world, Code::QueueTooSmall, words, |w| w.snapshot.queues[0].limit_milli = Some(1200));
}

/// Both nodes are taken by work that ends; small work comes after it, again and again. When does the gang start, minutes?
fn minutes_until_it_starts(reservations: usize) -> Option<i64> {
    let (mut world, ..) = world();
    world.policy.reservations_max = reservations;
    for (milli, runtime) in [(1000, 300), (1000, 360), (1000, 420), (1000, 480)] {
        let first = world.request(ask(1, milli));
        (first.runtime_s, first.submitted_at) = (Some(runtime), at(-7_200));
    }
    let members = gang(&mut world, 2, &[(2, 1000), (2, 1000)]);
    for minute in 0..90 {
        let now = world.snapshot.now;
        for _ in 0..2 {
            let small = world.request(ask(1, 1000));
            (small.runtime_s, small.submitted_at) = (Some(300), now);
        }
        let plan = world.plan();
        checks::check(&world, &plan);
        if plan.assignments.iter().any(|assignment| assignment.holder == members[0]) {
            return Some(minute);
        }
        world = world.after(&plan, 60);
    }
    None
}

#[test]
fn places_are_kept_for_all_of_a_gang() {
    assert_eq!(minutes_until_it_starts(0), None, "without reservations it starves");
    assert!(minutes_until_it_starts(4).is_some_and(|minutes| minutes <= 15), "{:?}", minutes_until_it_starts(4));
}
