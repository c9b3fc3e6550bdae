//! Ended runs that run again.

use crate::{
    build::{block, dynamic, executor, in_one_process, lenient, pipeline, reducing, strict, with_callbacks},
    world::World,
};
use domain::{
    run::{Event, Refused},
    unit::Outcome,
};

fn fan() -> Vec<domain::pipeline::Block> {
    vec![dynamic("list", &[]), reducing("child", &["list"]), block("after", &["child"])]
}

#[test]
fn only_an_ended_run_with_something_to_do_is_retried() {
    let mut world = World::started(pipeline(vec![block("a", &[])]), strict());
    for event in [Event::RetryIncomplete, Event::RetryFrom(0)] {
        assert_eq!(world.event(event), Err(Refused::NotEnded));
    }
    world.pass(&["a"]);
    assert_eq!(world.event(Event::RetryIncomplete), Err(Refused::NothingToRetry));
    assert_eq!(world.event(Event::RetryFrom(7)), Err(Refused::NothingToRetry), "there is no such block");
}

#[test]
fn a_retry_runs_what_did_not_complete() {
    for forgotten in [false, true] {
        let blocks = vec![block("a", &[]), block("b", &["a"]), block("c", &["b"]), block("d", &["a"])];
        let mut world = World::started(with_callbacks(blocks, &["b"]), strict());
        world.pass(&["a"]);
        world.lease_all();
        world.fail("b");
        world.finish(world.key("d"), Outcome::Cancelled);
        world.pass(&["cb:b"]);
        assert_eq!(world.run_status(), "failed");
        if forgotten {
            world.rebuild();
        }
        let ended_at = world.now;
        world.event(Event::RetryIncomplete).expect("two blocks did not complete");
        assert_eq!((world.status("a"), world.run_status()), ("completed", "running"));
        assert!(world.run.row().started_at > Some(ended_at) && world.run.row().completed_at.is_none());
        world.check_rebuild();
        let leases = world.lease_all();
        assert_eq!(
            leases.iter().map(|lease| (lease.lease, lease.attempt_number)).collect::<Vec<_>>(),
            [(2, 1), (2, 1)]
        );
        world.complete("b");
        world.complete("d");
        let leases = world.lease_all();
        let callback = leases.iter().find_map(|lease| lease.callback.as_ref());
        assert_eq!(callback.map(|callback| callback.status), Some("success"), "the callback is told of the new end");
        world.complete("cb:b");
        world.complete("c");
        assert_eq!((world.run_status(), world.stored("cb:b").lease), ("completed", 2));
    }
}

#[test]
fn a_retry_keeps_the_children_that_completed() {
    for forgotten in [false, true] {
        let mut world = World::started(pipeline(fan()), strict());
        world.lease_all();
        world.complete_items("list", 5);
        for _ in 0..3 {
            world.lease_to(executor(1));
        }
        world.complete("child#2");
        world.fail("child#0");
        world.complete("child#1");
        assert_eq!((world.run_status(), world.stored("child").children), ("failed", Some(3)));
        if forgotten {
            world.rebuild();
        }
        world.event(Event::RetryIncomplete).expect("three children did not complete");
        assert_eq!(world.stored("child").children, Some(5));
        world.check_rebuild();
        let leases = world.lease_all();
        let again: Vec<_> = leases.iter().map(|lease| (world.name(lease.key), lease.lease)).collect();
        assert_eq!(again, [("child#0".to_owned(), 2), ("child#3".to_owned(), 1), ("child#4".to_owned(), 1)]);
        for child in [0, 3, 4] {
            world.complete(&format!("child#{child}"));
        }
        let reduced = world.lease_all().remove(0);
        let read = reduced.inputs[0].outputs.iter().map(|(_, lease)| *lease).collect::<Vec<_>>();
        assert_eq!(read, [2, 1, 1, 1, 1]);
        world.complete("after");
        assert_eq!(world.run_status(), "completed");
    }
}

#[test]
fn what_was_made_from_a_part_of_the_children_is_made_again() {
    let mut blocks = fan();
    blocks.extend([block("last", &["after"]), block("aside", &["list"])]);
    blocks[4].reduce_output = true;
    let mut world = World::started(pipeline(blocks), lenient());
    world.lease_all();
    world.complete_items("list", 3);
    world.lease_all();
    world.complete("child#0");
    world.fail("child#1");
    world.complete("child#2");
    for child in 0..3 {
        world.complete(&format!("aside#{child}"));
    }
    world.pass(&["after", "last"]);
    assert_eq!((world.status("after"), world.run_status()), ("completed", "failed"));
    world.event(Event::RetryIncomplete).expect("a child failed");
    let again: Vec<_> = world.lease_all().iter().map(|lease| world.name(lease.key)).collect();
    assert_eq!(again, ["child#1"], "what others did stays");
    world.check_rebuild();
    world.complete("child#1");
    let reduced = world.lease_all().remove(0);
    assert_eq!((world.name(reduced.key), reduced.inputs[0].outputs.len()), ("after".to_owned(), 3));
    world.complete("after");
    world.pass(&["last"]);
    assert_eq!((world.run_status(), world.stored("last").lease), ("completed", 2));
}

#[test]
fn a_fan_whose_children_all_finished_while_it_was_stopped_is_complete() {
    let mut world = World::started(pipeline(fan()), strict());
    world.lease_all();
    world.complete_items("list", 2);
    world.lease_all();
    world.cancel();
    world.complete("child#0");
    world.complete("child#1");
    assert_eq!(
        (world.status("child"), world.status("after"), world.run_status()),
        ("completed", "cancelled", "cancelled")
    );
    world.event(Event::RetryIncomplete).expect("after was cancelled");
    world.pass(&["after"]);
    assert_eq!(world.run_status(), "completed");
}

#[test]
fn a_retry_from_a_block_runs_it_and_all_that_follows() {
    let mut world = World::started(pipeline(fan()), strict());
    world.lease_all();
    world.complete_items("list", 3);
    world.pass(&["child#0", "child#1", "child#2", "after"]);
    world.rebuild();
    let from = world.graph.find("child").expect("a block");
    world.event(Event::RetryFrom(from)).expect("it has ended");
    assert_eq!(world.status("list"), "completed");
    let leases: Vec<_> = world.lease_all().iter().map(|lease| lease.lease).collect();
    assert_eq!(leases, [2, 2, 2]);
    world.check_rebuild();
    for child in 0..3 {
        world.complete(&format!("child#{child}"));
    }
    world.pass(&["after"]);
    assert_eq!((world.run_status(), world.stored("after").lease), ("completed", 2));
}

#[test]
fn fewer_items_the_second_time_leave_no_child_behind() {
    let mut world = World::started(pipeline(fan()), strict());
    world.lease_all();
    world.complete_items("list", 3);
    world.pass(&["child#0", "child#1", "child#2", "after"]);
    world.event(Event::RetryFrom(0)).expect("it has ended");
    world.lease_all();
    world.complete_items("list", 1);
    world.pass(&["child#0"]);
    assert_eq!((world.status("child#1"), world.stored("child").children), ("-", Some(1)));
    world.pass(&["after"]);
    assert_eq!(world.run_status(), "completed");
}

#[test]
fn a_retry_from_one_block_does_not_make_up_for_another() {
    let blocks = || vec![block("a", &[]), block("b", &[]), block("after_b", &["b"])];
    let mut world = World::started(pipeline(blocks()), strict());
    world.lease_all();
    world.fail("a");
    world.fail("b");
    world.event(Event::RetryFrom(0)).expect("it has ended");
    world.rebuild();
    world.pass(&["a"]);
    assert_eq!(
        (world.status("a"), world.run_status(), world.reason()),
        ("completed", "failed", "block `b` failed: it broke")
    );

    // A block whose upstream was cancelled cannot run, and the run says so.
    let mut world = World::started(pipeline(blocks()), strict());
    world.cancel();
    world.event(Event::RetryFrom(2)).expect("it has ended");
    assert_eq!((world.status("after_b"), world.run_status()), ("upstream_failed", "failed"));
    assert_eq!(world.reason(), "block `a` did not complete");
}

#[test]
fn leases_rise_through_every_life() {
    let mut world = World::started(pipeline(fan()), lenient());
    for life in 1..=4 {
        world.lease_all();
        world.complete_items("list", 2);
        world.lease_all();
        assert_eq!(world.stored("child#1").lease, life);
        world.fail("child#1");
        world.complete("child#0");
        world.pass(&["after"]);
        world.rebuild();
        world.event(Event::RetryFrom(0)).expect("it has ended");
    }
}

#[test]
fn a_retry_that_is_held_back_waits_like_a_new_run() {
    let mut world = World::started(pipeline(vec![block("a", &[]), block("b", &["a"])]), strict());
    let first = world.lease_all();
    assert_eq!(world.event(Event::Hold), Err(Refused::UnderWay));
    world.finish(first[0].key, Outcome::Failed(domain::unit::Failure::new("USER_CODE", "no")));
    assert_eq!(world.run_status(), "failed");
    world.event(Event::RetryIncomplete).expect("a failed");
    world.event(Event::Hold).expect("nothing runs yet");
    assert_eq!((world.run_status(), world.lease_all().len()), ("initial", 0));
    world.rebuild();
    world.event(Event::Start).expect("its turn has come");
    for _ in 0..2 {
        let leased = world.lease_all();
        assert_eq!(leased.len(), 1);
        world.finish(leased[0].key, Outcome::Completed(domain::unit::Output::default()));
    }
    assert_eq!(world.run_status(), "completed");
}

#[test]
fn a_retry_makes_again_what_lay_in_the_memory_of_an_ended_run() {
    for event in [Event::RetryIncomplete, Event::RetryFrom(1)] {
        for (cached, again) in [(false, ["b"].as_slice()), (true, ["a", "b"].as_slice())] {
            let blocks = vec![block("a", &[]), block("b", &["a"]), block("c", &["b"])];
            let mut world = World::started(in_one_process(blocks, cached), strict());
            world.pass(&["a"]);
            world.lease_all();
            world.finish(world.key("b"), Outcome::Failed(domain::unit::Failure::new("USER_CODE", "no")));
            assert_eq!(world.run_status(), "failed");
            world.event(event.clone()).expect("it has ended");
            world.check_rebuild();
            for name in again {
                assert!(world.lease_to(executor(2)).is_some());
                assert_eq!(world.running(), [*name], "cached: {cached}");
                world.complete(name);
            }
            world.lease_to(executor(2));
            world.complete("c");
            assert_eq!(world.run_status(), "completed");
        }
    }
}
