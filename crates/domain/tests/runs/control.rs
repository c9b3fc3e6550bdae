//! Limits, time, people and dying executors.

use crate::{
    build::{
        at, block, dynamic, executor, in_one_process, lenient, limited, pipeline, retried, strict, with_callbacks,
    },
    world::World,
};
use domain::{
    pipeline::Pipeline,
    run::{AGAIN_AFTER, DEATHS_MAX, Event, Options, Refused},
    trigger::TimeoutStatus,
    unit::{Failure, Outcome, Output},
};
use jiff::SignedDuration;

fn chain() -> Vec<domain::pipeline::Block> {
    vec![block("a", &[]), block("b", &["a"]), block("c", &["b"])]
}

#[test]
fn the_limit_holds_at_every_instant_and_zero_is_none() {
    let wide = || (0..6).map(|n| block(&format!("b{n}"), &[])).collect::<Vec<_>>();
    let mut world = World::started(limited(wide(), 2), strict());
    world.lease_all();
    assert_eq!(world.running().len(), 2);
    assert!(!world.run.has_ready());
    world.complete("b0");
    assert!(world.run.has_ready());
    world.lease_all();
    assert_eq!(world.running(), ["b1", "b2"]);

    let graph = crate::build::graph(limited(wide(), 0)).expect("valid");
    let mut run = domain::run::Run::new(world.run.id(), graph.into(), strict());
    run.advance(Event::Start, at(0)).expect("it starts");
    assert!(run.lease(executor(1), at(0), &mut Vec::new()).is_some(), "nothing would ever run");
}

#[test]
fn a_cancelled_run_waits_for_what_it_runs() {
    let mut world = World::started(with_callbacks(vec![block("a", &[]), block("b", &["a"])], &["a"]), strict());
    world.lease_all();
    world.cancel();
    assert_eq!(world.stops, [(world.key("a"), 1)]);
    assert_eq!((world.status("a"), world.status("b"), world.run_status()), ("running", "cancelled", "running"));
    world.check_rebuild();
    world.rebuild();
    assert_eq!(world.stops.len(), 2, "a new owner says it again");
    world.finish(world.key("a"), Outcome::Cancelled);
    assert_eq!(world.run_status(), "running", "the callback is due");
    world.pass(&["cb:a"]);
    assert_eq!((world.run_status(), world.reason()), ("cancelled", "enough"));
}

/// A chain of which `a` and `b` are watched.
fn watched() -> Pipeline {
    with_callbacks(chain(), &["a", "b"])
}

#[test]
fn who_cancels_again_stops_the_callbacks_too() {
    let mut world = World::started(watched(), strict());
    world.pass(&["a"]);
    world.lease_all();
    assert_eq!(world.running(), ["b", "cb:a"]);
    world.cancel_by_hand(0);
    assert_eq!(world.stops, [(world.key("b"), 1)]);
    // That one may have come twice: its answer was lost, say.
    world.cancel_by_hand(AGAIN_AFTER.as_secs() - 1);
    assert_eq!(world.stops.len(), 1);
    assert!(!world.run.is_stopping(world.key("cb:a")));
    world.cancel_by_hand(1);
    assert_eq!(world.stops[1..], [(world.key("cb:a"), 1)]);
    assert!(world.run.is_stopping(world.key("cb:a")));
    // An executor that gives it back, or dies with it, ends it as well; and nobody is called any more.
    world.lose(executor(1));
    assert_eq!((world.status("cb:a"), world.status("cb:b"), world.run_status()), ("cancelled", "-", "cancelled"));
}

#[test]
fn a_callback_that_hangs_after_a_failure_can_be_cancelled() {
    for due in [false, true] {
        let mut world = World::started(watched(), strict());
        world.lease_all();
        world.fail("a");
        if !due {
            world.lease_all();
        }
        world.cancel();
        assert_eq!((world.run_status(), world.stops.len()), ("running", 0), "it is called nonetheless");
        world.cancel_by_hand(AGAIN_AFTER.as_secs());
        if !due {
            world.check_rebuild();
            world.finish(world.key("cb:a"), Outcome::Cancelled);
        }
        assert_eq!((world.status("cb:a"), world.run_status()), ("cancelled", "failed"));
        world.event(Event::RetryIncomplete).expect("it has ended");
        world.pass(&["a", "cb:a", "b", "cb:b", "c"]);
        assert_eq!(world.run_status(), "completed", "a retry calls them again");
    }
}

#[test]
fn callbacks_of_a_run_that_is_stopped_have_its_time_limit_once_more() {
    let options = Options { timeout_s: Some(30), ..strict() };
    let mut world = World::started(watched(), options);
    world.pass(&["a"]);
    world.lease_all();
    world.sleep();
    let since = world.now;
    world.finish(world.key("b"), Outcome::Cancelled);
    world.lease_all();
    assert_eq!(world.running(), ["cb:a", "cb:b"]);
    world.sleep();
    assert!(world.now >= since + SignedDuration::from_secs(30));
    assert_eq!(world.stops[1..], [(world.key("cb:a"), 1), (world.key("cb:b"), 1)]);
    assert!(world.run.next_wake().is_none(), "they are stopped once");
    world.finish(world.key("cb:a"), Outcome::Cancelled);
    world.fail("cb:b");
    assert_eq!((world.run_status(), world.reason()), ("failed", "the run took longer than 30 s"));
}

#[test]
fn what_finishes_while_it_is_being_stopped_counts() {
    let mut world = World::started(pipeline(chain()), strict());
    world.lease_all();
    world.cancel();
    world.complete("a");
    assert_eq!((world.status("a"), world.run_status()), ("completed", "cancelled"));
}

#[test]
fn a_run_can_be_cancelled_before_it_starts_and_between_tries() {
    let mut world = World::new(pipeline(chain()), strict());
    world.cancel();
    assert_eq!((world.status("a"), world.run_status()), ("cancelled", "cancelled"));
    world.event(Event::Start).expect("it is ignored");
    assert_eq!(world.run_status(), "cancelled");

    let mut world = World::started(pipeline(vec![retried(block("a", &[]), 3)]), strict());
    world.lease_all();
    world.fail("a");
    world.cancel();
    assert_eq!((world.status("a"), world.run_status()), ("cancelled", "cancelled"));
}

#[test]
fn the_first_reason_to_stop_counts_also_for_a_new_owner() {
    let mut world = World::started(pipeline(vec![block("a", &[]), block("b", &[])]), strict());
    world.lease_all();
    world.fail("a");
    world.cancel();
    world.rebuild();
    world.complete("b");
    assert_eq!((world.run_status(), world.reason()), ("failed", "block `a` failed: it broke"));
}

#[test]
fn a_run_that_takes_too_long_fails() {
    let options = Options { timeout_s: Some(30), ..strict() };
    let of_pipeline = Pipeline { run_timeout_s: Some(30), ..pipeline(chain()) };
    for (pipeline, options) in [(pipeline(chain()), options), (of_pipeline, strict())] {
        let mut world = World::started(pipeline, options);
        world.pass(&["a"]);
        world.lease_all();
        world.check_rebuild();
        world.sleep();
        assert_eq!(world.stops, [(world.key("b"), 1)]);
        world.rebuild();
        assert!(world.run.next_wake().is_none(), "it times out once");
        world.finish(world.key("b"), Outcome::Cancelled);
        assert_eq!((world.run_status(), world.reason()), ("failed", "the run took longer than 30 s"));
        world.event(Event::RetryIncomplete).expect("it has ended");
        world.pass(&["b", "c"]);
        assert_eq!(world.run_status(), "completed", "a retry has its own time");
    }
}

#[test]
fn a_run_that_takes_too_long_is_cancelled_where_its_trigger_says_so() {
    let options = Options { timeout_s: Some(30), timeout_status: TimeoutStatus::Cancelled, ..strict() };
    let mut world = World::started(pipeline(chain()), options);
    world.pass(&["a"]);
    world.lease_all();
    world.sleep();
    assert_eq!(world.stops, [(world.key("b"), 1)]);
    world.rebuild();
    assert!(world.run.next_wake().is_none(), "it times out once");
    world.finish(world.key("b"), Outcome::Cancelled);
    assert_eq!(world.run_status(), "cancelled");
    assert_eq!(world.run.row().cancel_reason.as_deref(), Some("the run took longer than 30 s"));
    world.event(Event::RetryIncomplete).expect("it has ended");
    world.pass(&["b", "c"]);
    assert_eq!(world.run_status(), "completed", "a retry has its own time");
}

#[test]
fn stale_results_are_refused_and_change_nothing() {
    let mut world = World::started(pipeline(chain()), strict());
    let key = world.key("a");
    let completed = |lease| Event::Ended { key, lease, outcome: Outcome::Completed(Output::default()) };
    assert_eq!(world.event(completed(0)), Err(Refused::Stale), "it does not run yet");
    world.lease_all();
    world.lose(executor(1));
    assert_eq!(world.lease_to(executor(2)).map(|lease| lease.lease), Some(2));
    assert_eq!(world.event(completed(1)), Err(Refused::Stale), "its executor was lost");
    assert_eq!(world.event(completed(3)), Err(Refused::Stale), "nobody has this lease");
    assert_eq!(world.stored("a").lease, 2);
    world.complete("a");
    assert_eq!(world.event(completed(2)), Err(Refused::Stale), "it is over");
}

#[test]
fn an_attempt_that_died_with_its_neighbours_interpreter_costs_no_try() {
    let mut world = World::started(pipeline(vec![block("a", &[])]), strict());
    world.lease_all();
    world.finish(world.key("a"), Outcome::Lost(Failure::new("CRASHED", "it ended together with its warm interpreter")));
    assert_eq!(world.lost[0].outcome, "lost");
    assert!(!world.lost[0].is_by_executor(), "that executor lives, and told of it");
    assert_eq!(world.lease_all()[0].attempt_number, 1);
    world.complete("a");
    assert_eq!(world.run_status(), "completed");
}

#[test]
fn a_lost_executor_costs_no_try_and_three_are_poison() {
    let mut world = World::started(pipeline(vec![retried(block("a", &[]), 5), block("b", &[])]), lenient());
    for death in 1..=DEATHS_MAX {
        let lease = world.lease_to(executor(death.into())).expect("it is ready at once");
        assert_eq!((lease.lease, lease.attempt_number), (death.into(), 1));
        let _other = world.lease_to(executor(9));
        world.rebuild();
        world.lose(executor(death.into()));
    }
    let error = world.stored("a").error.clone().expect("it says why");
    assert_eq!((world.status("a"), error.code.as_str()), ("failed", "POISON"));
    assert!(error.message.starts_with("3 executors or warm interpreters died"));
    assert_eq!(world.lost.iter().map(|lost| lost.outcome).collect::<Vec<_>>(), ["lost"; 3]);
    world.complete("b");
    assert_eq!(world.run_status(), "failed");
}

#[test]
fn what_is_given_back_runs_elsewhere_and_costs_no_try() {
    let mut world = World::started(pipeline(vec![block("a", &[])]), strict());
    // A stop that nobody wanted is a draining executor's.
    for outcome in [Outcome::Released, Outcome::Cancelled] {
        let lease = world.lease_all().remove(0);
        assert_eq!(lease.attempt_number, 1);
        world.finish(world.key("a"), outcome);
        assert_eq!(world.status("a"), "initial");
    }
    assert_eq!(
        world.lost.iter().map(|lost| (lost.lease, lost.outcome)).collect::<Vec<_>>(),
        [(1, "released"), (2, "released")]
    );
    world.cancel();
    assert_eq!(world.run_status(), "cancelled");
}

#[test]
fn a_run_in_one_process_stays_with_its_executor() {
    let mut world = World::started(in_one_process(vec![block("a", &[]), block("b", &[])], false), strict());
    assert!(world.lease_to(executor(1)).is_some());
    assert!(!world.run.has_ready(), "one block at a time");
    world.complete("a");
    assert!(world.run.has_ready());
    assert!(world.lease_to(executor(2)).is_none(), "the process is elsewhere");
    world.rebuild();
    assert!(world.lease_to(executor(2)).is_none());
    assert!(world.lease_to(executor(1)).is_some());
    world.complete("b");
    assert_eq!(world.ended_processes, [executor(1)]);
}

#[test]
fn outputs_on_disk_outlive_the_process_and_outputs_in_memory_do_not() {
    for (cached, again) in [(false, ["b"].as_slice()), (true, ["a", "b"].as_slice())] {
        let mut world = World::started(in_one_process(chain(), cached), strict());
        world.pass(&["a"]);
        world.lease_all();
        world.lose(executor(1));
        world.check_rebuild();
        world.rebuild();
        let started_at = world.run.row().started_at;
        for name in again {
            assert!(world.lease_to(executor(2)).is_some());
            assert_eq!(world.running(), [*name]);
            world.complete(name);
        }
        world.lease_to(executor(2));
        world.complete("c");
        assert_eq!(world.run_status(), "completed");
        assert_eq!(world.run.row().started_at, started_at, "the run did not start again");
    }
}

#[test]
fn an_executor_that_drains_and_goes_is_no_home_and_no_death() {
    for (cached, again) in [(false, ["b", "c"].as_slice()), (true, ["a", "b", "c"].as_slice())] {
        let mut world = World::started(in_one_process(chain(), cached), strict());
        // More often than executors may die, with a block given back and with nothing under way.
        for n in 1..=u128::from(DEATHS_MAX) + 1 {
            if world.status("a") != "completed" {
                world.lease_to(executor(n));
                world.complete("a");
            }
            if n % 2 == 0 {
                assert!(world.lease_to(executor(n)).is_some());
            }
            world.leave(executor(n));
            assert_eq!((world.run.home(), world.run_status()), (None, "running"), "departure {n}");
            world.check_rebuild();
        }
        for name in again {
            assert!(world.lease_to(executor(9)).is_some(), "{name} is due elsewhere");
            world.complete(name);
        }
        assert_eq!(world.run_status(), "completed");
        assert_eq!(world.rows.values().map(|row| row.deaths).max(), Some(0));
    }
}

#[test]
fn a_process_that_keeps_dying_with_the_outputs_ends_the_run() {
    // Each time at another block, and once between two blocks.
    let mut world = World::started(in_one_process(chain(), true), lenient());
    world.lease_to(executor(1));
    world.lose(executor(1));
    world.lease_to(executor(2));
    world.complete("a");
    world.lose(executor(2));
    world.rebuild();
    world.lease_to(executor(3));
    world.complete("a");
    world.lease_to(executor(3));
    world.lose(executor(3));
    assert_eq!(world.run_status(), "failed");
    assert_eq!(world.reason(), "3 executors died, one after the other, that held the outputs in memory");
}

#[test]
fn a_process_that_dies_alone_takes_the_outputs_in_memory_with_it() {
    let crash = || Outcome::ProcessLost(Failure::new("CRASHED", "the process was killed by SIGSEGV"));
    let mut world = World::started(in_one_process(chain(), true), strict());
    world.pass(&["a", "b"]);
    for again in 1..DEATHS_MAX {
        world.lease_all();
        world.finish(world.key("c"), crash());
        assert_eq!((world.run_status(), world.run.home()), ("running", None), "death {again}");
        world.check_rebuild();
        world.rebuild();
        // From the beginning, wherever there is room.
        for name in ["a", "b"] {
            assert_eq!(world.lease_to(executor(2)).map(|lease| lease.attempt_number), Some(1));
            assert_eq!(world.running(), [name]);
            world.complete(name);
        }
        world.lease_to(executor(2));
    }
    world.finish(world.key("c"), crash());
    let error = world.stored("c").error.clone().expect("it says why");
    assert_eq!((world.run_status(), error.code.as_str()), ("failed", "POISON"));
    assert!(error.message.ends_with("held the outputs in memory: the process was killed by SIGSEGV"), "{error:?}");
}

#[test]
fn a_block_that_is_slow_to_stop_takes_no_time_from_its_callback() {
    let mut world = World::started(watched(), Options { timeout_s: Some(5), ..strict() });
    world.lease_all();
    world.sleep();
    assert_eq!(world.stops, [(world.key("a"), 1)]);
    world.now += SignedDuration::from_secs(10);
    world.finish(world.key("a"), Outcome::Cancelled);
    world.event(Event::Wake).expect("a look at the clock");
    world.lease_all();
    assert_eq!((world.running(), world.stops.len()), (vec!["cb:a".to_owned()], 1));
    world.sleep();
    assert_eq!(world.stops[1..], [(world.key("cb:a"), 1)]);
}

#[test]
fn tries_are_used_up_though_their_process_had_to_go_between_them() {
    let blocks = vec![block("a", &[]), retried(block("b", &["a"]), 2)];
    let mut world = World::started(in_one_process(blocks, true), strict());
    for _ in 0..2 {
        world.pass(&["a"]);
        world.lease_all();
        world.fail("b");
        world.sleep();
        world.lease_all();
        world.finish(world.key("b"), Outcome::ProcessLetGo(Failure::new("CRASHED", "there was no room for it")));
        world.check_rebuild();
    }
    world.pass(&["a"]);
    world.lease_all();
    world.fail("b");
    assert_eq!(world.run_status(), "failed", "it was its third try");
}

#[test]
fn a_process_that_its_executor_let_go_is_no_death() {
    let mut world = World::started(in_one_process(chain(), true), strict());
    for again in 1..=DEATHS_MAX + 1 {
        world.pass(&["a"]);
        world.lease_all();
        let gone = Failure::new("CRASHED", "there was no room for it");
        world.finish(world.key("b"), Outcome::ProcessLetGo(gone));
        assert_eq!((world.run_status(), world.run.home(), world.status("a")), ("running", None, "initial"), "{again}");
        world.check_rebuild();
    }
    world.pass(&["a", "b", "c"]);
    assert_eq!(world.run_status(), "completed");
}

#[test]
fn a_process_that_dies_with_outputs_on_disk_is_a_failed_try() {
    let blocks = vec![block("a", &[]), retried(block("b", &["a"]), 1)];
    let mut world = World::started(in_one_process(blocks, false), strict());
    world.pass(&["a"]);
    for _ in 0..2 {
        world.lease_all();
        world.finish(world.key("b"), Outcome::ProcessLost(Failure::new("CRASHED", "gone")));
        if world.run_status() == "running" {
            world.sleep();
        }
    }
    assert_eq!((world.status("a"), world.status("b"), world.run_status()), ("completed", "failed", "failed"));
}

#[test]
fn a_new_owner_counts_no_death_twice() {
    let callbacks = with_callbacks(chain(), &["a"]);
    let process = Pipeline { one_process: true, cache_output_in_memory: true, ..callbacks };
    let mut world = World::started(process, strict());
    world.pass(&["a", "cb:a"]);
    world.lose(executor(1));
    for _ in 0..5 {
        world.rebuild();
    }
    assert_eq!((world.run.home(), world.stored("a").deaths), (None, 1));
    assert_eq!(world.run_status(), "running");
}

#[test]
fn callbacks_of_outputs_that_are_gone_are_called_again() {
    let callbacks = with_callbacks(chain(), &["a"]);
    let process = Pipeline { one_process: true, cache_output_in_memory: true, ..callbacks };
    let mut world = World::started(process, strict());
    world.pass(&["a"]);
    world.lease_all();
    world.lose(executor(1));
    for name in ["a", "cb:a", "b", "c"] {
        world.rebuild();
        while !world.running().iter().any(|running| running == name) {
            assert!(world.lease_to(executor(2)).is_some(), "{name} is due");
        }
        world.complete(name);
    }
    assert_eq!(world.run_status(), "completed");
}

#[test]
fn a_lost_executor_takes_all_of_its_children_with_it() {
    let mut world = World::started(pipeline(vec![dynamic("list", &[]), block("child", &["list"])]), strict());
    world.lease_all();
    world.complete_items("list", 6);
    for n in 0..6 {
        world.lease_to(executor(1 + n % 2));
    }
    world.lose(executor(1));
    assert_eq!(world.running(), ["child#1", "child#3", "child#5"]);
    world.check_rebuild();
    for _ in 0..3 {
        assert_eq!(world.lease_to(executor(2)).map(|lease| lease.lease), Some(2));
    }
    for child in 0..6 {
        world.complete(&format!("child#{child}"));
    }
    assert_eq!(world.run_status(), "completed");
}

#[test]
fn a_failure_of_the_user_is_kept_in_one_line_for_the_run() {
    let mut world = World::started(pipeline(vec![block("a", &[])]), strict());
    world.lease_all();
    world.finish(world.key("a"), Outcome::Failed(Failure::new("USER", "first\nsecond")));
    assert_eq!(world.reason(), "block `a` failed: first");
    assert_eq!(world.stored("a").error.as_ref().map(|error| error.message.as_str()), Some("first\nsecond"));
}
