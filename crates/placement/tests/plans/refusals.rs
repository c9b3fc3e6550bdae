//! Every reason, with its sentence.

use crate::world::{World, ask, at, of, shared};
use domain::{
    device::{Ask, DeviceModel, Sharing},
    id::{GangId, GroupId, ProjectId, QueueId, UserId},
    quota::{Account, Quota, Usage},
};
use placement::{Access, Code, Gang, Hint, Refusal, Shared};
use uuid::Uuid;

/// One node with two devices of model A, and what the test makes of it.
fn refusal(change: impl FnOnce(&mut World)) -> Refusal {
    let mut world = World::new();
    world.node(&["A", "A"], &shared());
    change(&mut world);
    let plan = world.plan();
    assert_eq!(plan.problems, Vec::<String>::new());
    plan.refusals.into_iter().last().unwrap_or_else(|| panic!("it was not refused: {:?}", plan.assignments))
}

fn check(code: Code, words: &str, change: impl FnOnce(&mut World)) {
    let refusal = refusal(change);
    assert_eq!(refusal.code, code, "{}", refusal.sentence);
    assert!(refusal.sentence.contains(words), "{:?} does not say {words:?}", refusal.sentence);
}

fn zoned(seconds: i64) -> jiff::Zoned {
    at(seconds).in_tz("Europe/Berlin").unwrap()
}

#[test]
fn what_cannot_be_asked_for() {
    check(Code::AskInvalid, "1 to 1000 are possible", |w| {
        w.request(ask(1, 1001));
    });
    check(Code::QueueUnknown, "its queue is not known yet, or was taken away", |w| {
        w.request(ask(1, 1)).queue = QueueId(Uuid::nil())
    });
    check(Code::ProjectUnknown, "its project is not known yet, or was taken away", |w| {
        w.request(ask(1, 1)).project = ProjectId(Uuid::nil())
    });
    check(Code::ModelNotAllowed, "does not allow B", |w| {
        w.request(of("B", ask(1, 1))).permitted = vec![DeviceModel::new("A")];
    });
    check(Code::ModelAbsent, "no node has a device of B", |w| {
        w.request(of("B", ask(1, 1)));
    });
    check(Code::ModelAbsent, "no node has a device of class whole", |w| {
        w.request(ask(1, 1)).class = Some("whole".to_owned());
    });
    // A class that there is, and all of whose devices are taken.
    check(Code::NoCapacity, "every place", |w| {
        w.snapshot.nodes[0].devices[0].class = "whole".to_owned();
        let (node, queue) = (w.snapshot.nodes[0].id, w.snapshot.queues[0].id);
        w.hold(node, queue, 1, 1000);
        w.request(ask(1, 1000)).class = Some("whole".to_owned());
    });
    check(Code::ShareUnsupported, "a share of 0.4 GPU of B is not offered", |w| {
        w.node(&["B"], &Sharing::Exclusive);
        w.request(of("B", ask(1, 400)));
    });
    // As MPS shares them.
    check(Code::ShareUnsupported, "of B one holder has a part of one only; it takes one GPU, or whole ones", |w| {
        w.node(&["B", "B"], &Sharing::Shared { step_milli: 10, alone: true });
        w.request(of("B", ask(2, 400)));
    });
    check(Code::NeverFits, "even when it is empty", |w| {
        w.request(ask(3, 1000));
    });
    check(Code::NeverFits, "even when it is empty", |w| {
        w.request(Ask { cpu_milli: 16_001, ..ask(1, 10) });
    });
    check(Code::NeverFits, "17408 MiB of memory", |w| {
        w.request(Ask { gpu_memory_bytes: Some(17 << 30), ..ask(1, 10) });
    });
}

#[test]
fn windows() {
    check(Code::WindowClosed, "it opens on Monday 2026-11-23 08:00", |w| {
        w.request(ask(1, 1)).access = Access::Closed { opens_at: Some(zoned(3600)) };
    });
    check(Code::WindowClosed, "does not open again", |w| {
        w.request(ask(1, 1)).access = Access::Closed { opens_at: None };
    });
    check(Code::WindowTooShort, "too soon for a start of 2 minutes and 10 minutes of use", |w| {
        w.request(ask(1, 1)).access = Access::Until { closes_at: zoned(719), opens_again_at: Some(zoned(9999)) };
    });
}

#[test]
fn when_a_window_opens_is_told_while_it_is_closed() {
    let told = |access: Access| {
        let refusal = refusal(|w| {
            let (node, queue) = (w.snapshot.nodes[0].id, w.snapshot.queues[0].id);
            w.hold(node, queue, 2, 1000);
            w.request(ask(1, 1000)).access = access;
        });
        let opens = refusal.hints.iter().any(|hint| matches!(hint, Hint::WindowOpens { .. }));
        (refusal.code, opens, refusal.sentence.contains("opens again on Monday 2026-11-23 08:00"))
    };
    let until = |seconds| Access::Until { closes_at: zoned(seconds), opens_again_at: Some(zoned(3600)) };
    assert_eq!(told(Access::Closed { opens_at: Some(zoned(3600)) }), (Code::WindowClosed, true, false));
    assert_eq!(told(until(720)), (Code::NoCapacity, false, false), "it is open, and not what is in the way");
    assert_eq!(told(until(719)), (Code::WindowTooShort, false, true), "the reason says it");
}

#[test]
fn a_window_that_is_long_enough_admits_and_tells_when_it_ends() {
    let mut world = World::new();
    world.node(&["A"], &shared());
    let request = world.request(ask(1, 1));
    request.access = Access::Until { closes_at: zoned(720), opens_again_at: None };
    request.runtime_s = Some(721);
    let plan = world.plan();
    assert_eq!(plan.assignments[0].stopped_at, Some(at(720)));
}

#[test]
fn quotas_and_limits() {
    let limited = |w: &mut World, quota: Quota| w.snapshot.projects[0].quota = quota;
    check(Code::QuotaTooSmall, "2 GPU is asked for, and the project may never hold more than 1.5; ask for less", |w| {
        limited(w, Quota { gpu_milli: Some(1500), ..Quota::default() });
        w.request(ask(2, 1000));
    });
    check(Code::QuotaExceeded, "the project holds 1 of 1.5 GPU, and 0.6 is asked for", |w| {
        limited(w, Quota { gpu_milli: Some(1500), ..Quota::default() });
        let (node, queue) = (w.snapshot.nodes[0].id, w.snapshot.queues[0].id);
        w.hold(node, queue, 1, 1000);
        w.request(ask(1, 600));
    });
    check(Code::QuotaExceeded, "the project holds 1 of 1 GPU of model A", |w| {
        limited(w, Quota { model_milli: [(DeviceModel::new("A"), 1000)].into(), ..Quota::default() });
        let (node, queue) = (w.snapshot.nodes[0].id, w.snapshot.queues[0].id);
        w.hold(node, queue, 1, 1000);
        w.request(ask(1, 600));
    });
    check(Code::QuotaTooSmall, "1 running at once", |w| {
        limited(w, Quota { holders: Some(0), ..Quota::default() });
        w.request(ask(0, 0));
    });
    let words =
        "0.501 GPU is asked for, and queue default may never hold more than 0.5 GPU; ask for less, or for another";
    check(Code::QueueTooSmall, words, |w| {
        w.snapshot.queues[0].limit_milli = Some(500);
        w.request(ask(1, 501));
    });
    check(Code::QueueLimit, "queue default holds 0.4 GPU of its limit of 0.5 GPU", |w| {
        let (node, queue) = (w.snapshot.nodes[0].id, w.snapshot.queues[0].id);
        w.snapshot.queues[0].limit_milli = Some(500);
        w.hold(node, queue, 1, 400);
        w.request(ask(1, 500));
    });
    // One of its holders was told to leave, and has not.
    check(Code::QueueLimit, "queue default holds 1.5 GPU of its limit of 1.5 GPU", |w| {
        let (node, queue) = (w.snapshot.nodes[0].id, w.snapshot.queues[0].id);
        w.snapshot.queues[0].limit_milli = Some(1500);
        w.hold(node, queue, 1, 1000).releasing = true;
        w.hold(node, queue, 1, 500);
        w.request(ask(1, 500));
    });
}

#[test]
fn whoever_asks_for_more_than_the_queue_s_limit_is_not_in_line_and_is_told_what_helps() {
    let mut world = World::new();
    world.node(&["A", "A"], &shared());
    let other = world.queue("other", 0, false);
    world.snapshot.queues[0].limit_milli = Some(500);
    world.request(ask(1, 600)).alternatives = vec![other];
    let hints = world.plan().refusals[0].hints.clone();
    assert_eq!(
        hints,
        [Hint::OtherQueue { queue: other, name: "other".to_owned() }, Hint::Share { gpu_milli: 500 }],
        "no position: its turn never comes"
    );
    world.snapshot.queues[0].limit_milli = Some(600);
    assert_eq!(world.plan().assignments.len(), 1, "the limit was raised");
}

#[test]
fn what_is_held_beside_a_device_that_is_not_there_is_not_free() {
    let mut world = World::new();
    let node = world.node(&["A", "A"], &shared());
    let queue = world.snapshot.queues[0].id;
    let held = world.hold(node, queue, 2, 1000);
    held.cpu_milli = 15_000;
    world.snapshot.nodes[0].devices.remove(0);
    world.request(ask(1, 100));
    world.request(Ask { cpu_milli: 2_000, ..ask(0, 0) });
    let plan = world.plan();
    assert_eq!(plan.assignments, [], "neither its other device nor its processor");
    assert_eq!(plan.problems.len(), 1, "{:?}", plan.problems);
    assert!(plan.problems[0].contains("not in the fleet"), "{:?}", plan.problems);
}

const GROUP: GroupId = GroupId(Uuid::from_u128(900));
const PERSON: UserId = UserId(Uuid::from_u128(901));

/// A quota, of which 0.5 GPU are held in other pools.
fn shared_by(world: &mut World, account: Account, quota: Quota) {
    let elsewhere = Usage { gpu_milli: 500, holders: 1, ..Usage::default() };
    world.snapshot.quotas.push(Shared { account, quota, elsewhere });
}

/// A holder of a second project of the group, of one GPU.
fn sibling(world: &mut World) {
    let project = world.project(Quota::default());
    world.snapshot.projects.iter_mut().for_each(|project| project.group = Some(GROUP));
    let (node, queue) = (world.snapshot.nodes[0].id, world.snapshot.queues[0].id);
    world.hold(node, queue, 1, 1000).owner.as_mut().unwrap().project = project;
}

#[test]
fn a_group_is_judged_over_all_its_projects() {
    let quota = |gpu_milli| Quota { gpu_milli: Some(gpu_milli), ..Quota::default() };
    let words = "the group that owns the project holds in all its projects 1.5 of 2 GPU, and 0.6 is asked for; what runtimes of any";
    check(Code::QuotaExceeded, words, |w| {
        shared_by(w, Account::Group(GROUP), quota(2000));
        sibling(w);
        w.request(ask(1, 600));
    });
    check(
        Code::QuotaTooSmall,
        "2 GPU is asked for, and the group that owns the project may never hold more than 1.9",
        |w| {
            shared_by(w, Account::Group(GROUP), quota(1900));
            sibling(w);
            w.request(ask(2, 1000));
        },
    );
    // Of a project of somebody else it is no business, nor of the group's where there is room.
    let mut world = World::new();
    world.node(&["A", "A"], &shared());
    shared_by(&mut world, Account::Group(GROUP), quota(1500));
    sibling(&mut world);
    let stranger = world.project(Quota::default());
    world.request(ask(1, 600)).project = stranger;
    assert_eq!(world.plan().assignments.len(), 1);
    world.request(ask(1, 400));
    assert_eq!(world.plan().refusals.len(), 1, "only the group's");
    world.snapshot.quotas[0].quota = quota(1900);
    assert_eq!(world.plan().assignments.len(), 2);
}

#[test]
fn a_person_is_judged_over_all_projects() {
    let words =
        "the person who starts it holds in all projects 2 of 2 running at once, and 1 is asked for; what this person's";
    let at_once = || Quota { holders: Some(2), ..Quota::default() };
    check(Code::QuotaExceeded, words, |w| {
        shared_by(w, Account::Person(PERSON), at_once());
        sibling(w);
        w.snapshot.holdings[0].owner.as_mut().unwrap().person = Some(PERSON);
        w.request(ask(1, 100)).person = Some(PERSON);
    });
    // In one plan, too, and others of the project are not concerned.
    let mut world = World::new();
    world.node(&["A", "A"], &shared());
    shared_by(&mut world, Account::Person(PERSON), at_once());
    for person in [Some(PERSON), Some(PERSON), None, Some(UserId(Uuid::from_u128(902)))] {
        world.request(ask(1, 100)).person = person;
    }
    let plan = world.plan();
    assert_eq!((plan.assignments.len(), plan.refusals.len()), (3, 1));
    // Models of which this person has enough are left out.
    let mut world = World::new();
    world.node(&["A"], &shared());
    let b = world.node(&["B"], &shared());
    let quota = Quota { model_milli: [(DeviceModel::new("A"), 100)].into(), ..Quota::default() };
    shared_by(&mut world, Account::Person(PERSON), quota);
    world.request(ask(1, 500)).person = Some(PERSON);
    assert_eq!(world.plan().assignments[0].place.node, b);
}

#[test]
fn another_model_is_taken_where_the_quota_of_one_is_used_up() {
    let mut world = World::new();
    world.node(&["A"], &shared());
    let b = world.node(&["B"], &shared());
    world.snapshot.projects[0].quota = Quota { model_milli: [(DeviceModel::new("A"), 100)].into(), ..Quota::default() };
    world.request(ask(1, 500));
    assert_eq!(world.plan().assignments[0].place.node, b);
}

#[test]
fn room() {
    check(Code::NoCapacity, "every place for 1 × 60 % of A with 1 CPU and 1024 MiB is taken", |w| {
        let (node, queue) = (w.snapshot.nodes[0].id, w.snapshot.queues[0].id);
        w.hold(node, queue, 1, 1000);
        w.hold(node, queue, 1, 500);
        w.request(of("A", ask(1, 600)));
    });
    check(Code::NoCapacity, "with 0.1 CPU and 1024 MiB is taken", |w| {
        let (node, queue) = (w.snapshot.nodes[0].id, w.snapshot.queues[0].id);
        w.hold(node, queue, 1, 1000);
        w.hold(node, queue, 1, 500);
        w.request(of("A", Ask { cpu_milli: 100, ..ask(1, 600) }));
    });
    check(Code::NoCapacity, "drained or not healthy", |w| {
        w.snapshot.nodes[0].devices.iter_mut().for_each(|device| device.schedulable = false);
        w.request(ask(1, 10));
    });
    check(Code::Fragmented, "0.95 GPU is idle in all", |w| {
        let (node, queue) = (w.snapshot.nodes[0].id, w.snapshot.queues[0].id);
        w.hold(node, queue, 1, 600);
        // The second device: the first has no room for it.
        w.hold(node, queue, 1, 450);
        w.request(ask(1, 700));
    });
    check(Code::ReservedForOthers, "kept for others who waited longer", |w| {
        let (node, queue) = (w.snapshot.nodes[0].id, w.snapshot.queues[0].id);
        w.hold(node, queue, 1, 1000);
        w.request(ask(2, 1000)).submitted_at = at(-3600);
        w.request(ask(1, 1000));
    });
}

#[test]
fn gangs() {
    let gang = Gang { id: GangId(Uuid::from_u128(7)), size: 2, one_zone: false };
    check(Code::GangIncomplete, "1 of 2 members wait", |w| w.request(ask(1, 1)).gang = Some(gang.clone()));
    let codes = |models: &[&str]| -> Vec<Code> {
        let mut world = World::new();
        let (node, queue) = (world.node(models, &shared()), world.snapshot.queues[0].id);
        world.hold(node, queue, models.len() - 1, 1000);
        for milli in [700, 600] {
            world.request(ask(1, milli)).gang = Some(gang.clone());
        }
        world.plan().refusals.iter().map(|refusal| refusal.code).collect()
    };
    assert_eq!(codes(&["A", "A"]), [Code::GangIncomplete, Code::NoCapacity], "it fits when another has left");
    assert_eq!(codes(&["A"]), [Code::NeverFits, Code::NeverFits]);
}
