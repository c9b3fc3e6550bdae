//! What is leased ahead: it begins when what it follows has completed, and otherwise was never leased.

use crate::{
    build::{at, block, dynamic, executor, in_one_process, lenient, limited, pipeline, retried, strict},
    world::World,
};
use domain::{
    pipeline::{Block, BlockKind, Pipeline},
    run::{Event, Lease, Options, Refused},
    unit::{BlockStatus, Outcome, Output},
};

fn chain() -> Vec<Block> {
    vec![block("a", &[]), block("b", &["a"]), block("c", &["b"])]
}

/// `a` runs, and `b` and `c` are leased ahead to the same executor.
fn under_way(pipeline: Pipeline, options: Options) -> World {
    let mut world = World::started(pipeline, options);
    for (name, lease) in ["a", "b", "c"].into_iter().zip(ahead(&mut world)) {
        assert_eq!(world.key(name), lease.key);
    }
    world
}

/// Leases the first that is ready, and whatever follows ahead.
fn ahead(world: &mut World) -> Vec<Lease> {
    let first = world.lease_to(executor(1));
    std::iter::successors(first, |lease| world.lease_ahead(lease.key)).collect()
}

fn statuses(world: &World) -> [&'static str; 3] {
    ["a", "b", "c"].map(|name| world.status(name))
}

#[test]
fn each_runs_from_when_the_one_before_it_completed() {
    let mut world = under_way(pipeline(chain()), strict());
    assert_eq!(statuses(&world), ["running", "initial", "initial"]);
    assert_eq!((world.stored("b").attempts, world.stored("b").started_at), (0, None), "it has not begun");
    assert!(!world.run.has_ready());
    world.check_rebuild();
    world.complete("a");
    assert_eq!(statuses(&world), ["completed", "running", "initial"]);
    assert_eq!((world.stored("b").attempts, world.stored("b").started_at), (1, world.stored("a").completed_at));
    world.check_rebuild();
    world.complete("b");
    world.complete("c");
    assert_eq!(world.run_status(), "completed");
    assert!(world.lost.is_empty());
}

#[test]
fn what_is_heard_too_early_is_refused_until_it_makes_sense() {
    let mut world = under_way(pipeline(chain()), strict());
    let (key, (lease, _)) = (world.key("b"), world.current[&world.key("b")]);
    let early = Event::Ended { key, lease, outcome: Outcome::Completed(Output::default()) };
    assert_eq!(world.event(early.clone()), Err(Refused::Early));
    assert_eq!(statuses(&world), ["running", "initial", "initial"]);
    world.complete("a");
    world.current.remove(&key);
    world.event(early).expect("it is known that it began");
    assert_eq!(statuses(&world), ["completed", "completed", "running"]);
}

#[test]
fn what_goes_back_was_never_begun() {
    let mut world = under_way(pipeline(chain()), strict());
    let before = world.stored("b").lease;
    world.finish(world.key("b"), Outcome::Released);
    assert_eq!((world.stored("b").attempts, world.stored("b").executor), (0, None));
    world.complete("a");
    let again = ahead(&mut world);
    assert_eq!((again[0].key, again[0].attempt_number), (world.key("b"), 1));
    assert!(again[0].lease > before, "the former attempt is not mistaken for this one");
    world.complete("b");
    world.complete("c");
    assert_eq!(world.run_status(), "completed");
    assert!(world.lost.is_empty(), "no try was lost");
}

#[test]
fn what_was_taken_back_has_passed_and_what_counts_has_not() {
    let mut world = under_way(pipeline(chain()), strict());
    let tries = ["a", "b", "c"].map(|name| (world.key(name), world.current[&world.key(name)].0));
    let passed = |world: &World| tries.map(|(key, lease)| world.run.has_passed(key, lease));
    assert_eq!(passed(&world), [false; 3]);
    world.finish(world.key("b"), Outcome::Released);
    assert_eq!(passed(&world), [false, true, true], "what is behind it is taken back with it");
    world.complete("a");
    assert_eq!(passed(&world), [false, true, true], "its result counts");
    ahead(&mut world);
    assert_eq!(passed(&world), [false, true, true], "these are other tries");
    world.complete("b");
    world.complete("c");
    assert_eq!(passed(&world), [false, true, true], "and so are their results");
    let mut world = under_way(pipeline(chain()), strict());
    world.fail("a");
    assert_eq!(passed(&world), [true; 3], "of these none has a result");
}

#[test]
fn a_failure_takes_what_follows_with_it_as_if_nothing_had_been_leased() {
    for options in [strict(), lenient()] {
        let mut world = under_way(pipeline(chain()), options);
        // An executor gives back first.
        world.finish(world.key("b"), Outcome::Released);
        world.fail("a");
        assert_eq!(statuses(&world), ["failed", "upstream_failed", "upstream_failed"]);
        assert_eq!(world.run_status(), "failed");
    }
    // What it says after that is stale.
    let mut world = under_way(pipeline(chain()), strict());
    let (key, (lease, _)) = (world.key("b"), world.current[&world.key("b")]);
    world.fail("a");
    assert_eq!(statuses(&world), ["failed", "upstream_failed", "upstream_failed"]);
    for outcome in [Outcome::Released, Outcome::Completed(Output::default())] {
        assert_eq!(world.event(Event::Ended { key, lease, outcome }), Err(Refused::Stale));
    }
}

/// As after a database has lost its latest commits: the executor has gone on, and the run knows nothing of it.
#[test]
fn what_went_on_behind_a_try_that_does_not_count_does_not_count() {
    let mut world = under_way(pipeline(chain()), strict());
    let (key, (lease, _)) = (world.key("b"), world.current[&world.key("b")]);
    world.finish(world.key("a"), Outcome::Released);
    assert_eq!(statuses(&world), ["initial"; 3]);
    let result = Event::Ended { key, lease, outcome: Outcome::Completed(Output::default()) };
    assert_eq!(world.event(result), Err(Refused::Stale));
    world.check_rebuild();
    for name in ["a", "b", "c"] {
        world.pass(&[name]);
    }
    assert_eq!(world.run_status(), "completed");
}

#[test]
fn a_try_that_is_made_again_is_awaited() {
    let blocks = vec![retried(block("a", &[]), 1), block("b", &["a"])];
    let mut world = World::started(pipeline(blocks), strict());
    assert_eq!(ahead(&mut world).len(), 2);
    world.fail("a");
    assert_eq!((world.status("a"), world.status("b")), ("initial", "initial"));
    while world.lease_all().is_empty() {
        world.sleep();
    }
    world.complete("a");
    world.pass(&["b"]);
    assert_eq!(world.run_status(), "completed");
}

#[test]
fn a_lost_executor_counts_as_the_death_of_what_ran_only() {
    let mut world = under_way(pipeline(chain()), strict());
    world.complete("a");
    world.lose(executor(1));
    assert_eq!((world.stored("b").deaths, world.stored("c").deaths), (1, 0));
    assert_eq!(world.lost.len(), 1);
    assert_eq!(world.lease_to(executor(2)).map(|lease| lease.key), Some(world.key("b")));
}

#[test]
fn a_cancelled_run_ends_when_everything_was_given_back() {
    let mut world = under_way(pipeline(chain()), strict());
    world.cancel();
    assert_eq!(world.stops.len(), 3, "what is ahead is told to stop as well");
    assert_eq!(world.run_status(), "running");
    world.finish(world.key("a"), Outcome::Cancelled);
    assert_eq!(statuses(&world), ["cancelled"; 3]);
    assert_eq!(world.run_status(), "cancelled");
}

#[test]
fn only_what_would_be_leased_there_anyway_is_leased_ahead() {
    let mut fork = chain();
    fork.push(block("d", &["a"]));
    let mut join = chain();
    join.push(block("d", &[]));
    join[1].upstream.push("d".to_owned());
    let inert = vec![block("a", &[]), Block { kind: BlockKind::Markdown, ..block("b", &["a"]) }, block("c", &["b"])];
    for (blocks, why) in [
        (pipeline(fork), "others follow as well"),
        (pipeline(join), "it waits for others as well"),
        (pipeline(vec![dynamic("a", &[]), block("b", &["a"])]), "how many there will be is not known"),
        (pipeline(inert), "nothing is to be run"),
        (limited(chain(), 2), "so many of it may run at once"),
        (in_one_process(chain(), false), "its process is given one at a time"),
    ] {
        let mut world = World::started(blocks, strict());
        let first = world.lease_to(executor(1)).expect("a is ready");
        assert_eq!(world.lease_ahead(first.key), None, "{why}");
    }
    // Nothing of a run that is being stopped, and nothing behind what is not leased.
    let mut world = World::started(pipeline(chain()), strict());
    assert_eq!(world.run.lease_ahead(world.key("a"), &mut |_| true, &mut Vec::new()), None);
    let first = world.lease_to(executor(1)).expect("a is ready");
    assert_eq!(world.run.clone().lease_ahead(first.key, &mut |_| false, &mut Vec::new()), None);
    world.cancel();
    assert_eq!(world.lease_ahead(first.key), None);
    assert!(world.now > at(0) && world.stored("a").status == BlockStatus::Running);
}
