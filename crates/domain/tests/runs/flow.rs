//! What follows what, while nobody interferes.

use crate::{
    build::{block, lenient, pipeline, retried, strict, with_callbacks},
    world::World,
};
use domain::{
    pipeline::{Block, BlockKind},
    retry::RetryPolicy,
    run::InputMode,
    unit::{Outcome, Output},
};
use serde_json::json;

fn diamond() -> Vec<Block> {
    vec![block("a", &[]), block("b", &["a"]), block("c", &["a"]), block("d", &["c", "b"])]
}

#[test]
fn a_chain_runs_in_order() {
    let mut world = World::started(pipeline(vec![block("c", &["b"]), block("b", &["a"]), block("a", &[])]), strict());
    for name in ["a", "b", "c"] {
        world.lease_all();
        assert_eq!(world.running(), [name]);
        world.complete(name);
        world.check_rebuild();
    }
    assert_eq!(world.run_status(), "completed");
    assert_eq!(world.transitions, 1 + 3 * 2 + 1, "a row per claim and per end, and the run's own");
}

#[test]
fn a_fan_in_waits_for_all_and_reads_in_the_order_of_its_list() {
    let mut world = World::started(pipeline(diamond()), strict());
    world.pass(&["a"]);
    world.lease_all();
    assert_eq!(world.running(), ["b", "c"]);
    world.complete("b");
    assert!(world.lease_all().is_empty(), "d waits for c");
    world.complete("c");
    let lease = world.lease_all().remove(0);
    let read: Vec<_> = lease.inputs.iter().map(|input| (input.block, input.mode, input.outputs.clone())).collect();
    assert_eq!(read, [(2, InputMode::Whole, vec![(None, 1)]), (1, InputMode::Whole, vec![(None, 1)])]);
    world.complete("d");
    assert_eq!(world.run_status(), "completed");
}

#[test]
fn the_first_failure_stops_the_run_unless_blocks_may_fail() {
    let blocks = || vec![block("a", &[]), block("after_a", &["a"]), block("b", &[]), block("after_b", &["b"])];
    let mut world = World::started(pipeline(blocks()), strict());
    world.lease_all();
    world.fail("a");
    assert_eq!(world.stops, [(world.key("b"), 1)], "what runs is told to stop");
    assert_eq!((world.status("after_a"), world.status("after_b")), ("upstream_failed", "cancelled"));
    assert_eq!(world.run_status(), "running", "it is awaited");
    world.check_rebuild();
    world.finish(world.key("b"), Outcome::Cancelled);
    assert_eq!((world.run_status(), world.reason()), ("failed", "block `a` failed: it broke"));

    let mut world = World::started(pipeline(blocks()), lenient());
    world.lease_all();
    world.fail("a");
    world.complete("b");
    world.pass(&["after_b"]);
    assert_eq!((world.status("after_a"), world.status("after_b")), ("upstream_failed", "completed"));
    assert_eq!((world.run_status(), world.reason()), ("failed", "block `a` failed: it broke"));
}

#[test]
fn a_refused_condition_passes_over_everything_downstream() {
    let mut blocks = diamond();
    blocks.push(block("e", &["d"]));
    let mut world = World::started(pipeline(blocks), strict());
    world.pass(&["a"]);
    world.lease_all();
    world.finish(world.key("b"), Outcome::ConditionFailed);
    world.complete("c");
    assert_eq!((world.status("d"), world.status("e")), ("condition_failed", "condition_failed"));
    assert_eq!(world.run_status(), "completed");
}

#[test]
fn a_failure_upstream_outweighs_a_refused_condition() {
    for first_fails in [true, false] {
        let mut world =
            World::started(pipeline(vec![block("a", &[]), block("b", &[]), block("c", &["a", "b"])]), lenient());
        world.lease_all();
        if first_fails {
            world.fail("a");
        }
        world.finish(world.key("b"), Outcome::ConditionFailed);
        if !first_fails {
            world.fail("a");
        }
        assert_eq!(world.status("c"), "upstream_failed");
    }
}

#[test]
fn callbacks_are_told_and_awaited() {
    let blocks = vec![block("good", &[]), block("bad", &[]), block("stopped", &[]), block("never", &["bad"])];
    let mut world = World::started(with_callbacks(blocks, &["good", "bad", "stopped", "never"]), strict());
    world.lease_all();
    world.complete("good");
    let lease = world.lease_all().remove(0);
    let told = lease.callback.expect("it is a callback");
    assert_eq!((world.name(lease.key).as_str(), told.status), ("cb:good", "success"));
    world.fail("bad");
    let lease = world.lease_all().remove(0);
    let told = lease.callback.expect("it is a callback");
    assert_eq!((world.name(lease.key).as_str(), told.status), ("cb:bad", "failure"));
    assert_eq!(told.error.map(|error| error.code), Some("USER".to_owned()));
    world.finish(world.key("stopped"), Outcome::Cancelled);
    let lease = world.lease_all().remove(0);
    assert_eq!(lease.callback.expect("it is a callback").status, "cancelled");
    assert_eq!(world.status("cb:never"), "-", "a block that never ran calls nobody");
    for callback in ["cb:good", "cb:bad"] {
        world.complete(callback);
        assert_eq!(world.run_status(), "running", "callbacks are awaited");
    }
    world.complete("cb:stopped");
    assert_eq!(world.run_status(), "failed");
}

#[test]
fn a_callback_that_is_due_survives_its_owner() {
    let mut world = World::started(with_callbacks(vec![block("a", &[])], &["a"]), strict());
    world.pass(&["a"]);
    assert_eq!(world.status("cb:a"), "initial");
    world.rebuild();
    world.pass(&["cb:a"]);
    world.rebuild();
    assert_eq!(world.run_status(), "completed");
}

#[test]
fn a_failed_callback_fails_nothing() {
    let mut world = World::started(with_callbacks(vec![block("a", &[]), block("b", &["a"])], &["a"]), strict());
    world.pass(&["a"]);
    world.lease_all();
    world.fail("cb:a");
    world.complete("b");
    assert_eq!((world.status("cb:a"), world.run_status()), ("failed", "completed"));
}

#[test]
fn a_sensor_holds_no_slot_and_spends_no_try_between_pokes() {
    let mut sensor = retried(Block { kind: BlockKind::Sensor, ..block("s", &[]) }, 1);
    sensor.configuration.insert("poke_interval".to_owned(), json!(7));
    let mut world = World::started(pipeline(vec![sensor, block("after", &["s"])]), strict());
    for poke in 1..=5 {
        let lease = world.lease_all().remove(0);
        assert_eq!((lease.lease, lease.attempt_number), (poke, 1));
        let asked = world.now;
        world.finish(world.key("s"), Outcome::NotYet);
        assert!(world.running().is_empty() && !world.run.has_ready());
        assert_eq!(world.run.next_wake().expect("the next poke").duration_since(asked).as_secs(), 7);
        world.rebuild();
        world.sleep();
    }
    world.lease_all();
    world.fail("s");
    world.sleep();
    assert_eq!(world.lease_all()[0].attempt_number, 2, "a failure spends a try");
    world.complete("s");
    world.pass(&["after"]);
    assert_eq!(world.run_status(), "completed");
    assert_eq!(world.lost.len(), 1, "pokes are no lost attempts");
}

#[test]
fn a_sensor_is_never_poked_without_a_pause() {
    for (configured, pause_s) in [(json!(0), 1), (json!(1), 1), (json!(null), 60)] {
        let mut sensor = Block { kind: BlockKind::Sensor, ..block("s", &[]) };
        sensor.configuration.insert("poke_interval".to_owned(), configured.clone());
        let mut world = World::started(pipeline(vec![sensor]), strict());
        world.lease_all();
        let asked = world.now;
        world.finish(world.key("s"), Outcome::NotYet);
        let next = world.run.next_wake().expect("the next poke").duration_since(asked).as_secs();
        assert_eq!(next, pause_s, "{configured}");
    }
}

#[test]
fn a_sensor_looks_until_its_time_is_over() {
    let mut sensor = retried(Block { kind: BlockKind::Sensor, timeout_s: Some(10), ..block("s", &[]) }, 2);
    sensor.configuration.insert("poke_interval".to_owned(), json!(7));
    let mut world = World::started(pipeline(vec![sensor, block("after", &["s"])]), strict());
    for pause in [Some(7), Some(3), None] {
        world.lease_all();
        let asked = world.now;
        world.finish(world.key("s"), Outcome::NotYet);
        let next = world.run.next_wake().map(|wake| wake.duration_since(asked).as_secs());
        assert_eq!(next, pause, "a last look is when the time is over");
        world.rebuild();
        if pause.is_some() {
            world.sleep();
        }
    }
    let error = world.stored("s").error.clone().expect("why");
    assert_eq!((world.status("s"), error.code.as_str()), ("failed", "TIMEOUT"), "whatever its retries");
    assert_eq!((world.status("after"), world.run_status()), ("upstream_failed", "failed"));
}

#[test]
fn retries_wait_longer_each_time_and_end() {
    let policy = RetryPolicy { retries: 3, delay_s: 5, max_delay_s: 12, exponential_backoff: true };
    let mut world = World::started(pipeline(vec![Block { retry: policy, ..block("a", &[]) }]), strict());
    for (attempt, pause) in [(1, 5), (2, 10), (3, 12)] {
        assert_eq!(world.lease_all()[0].attempt_number, attempt);
        world.fail("a");
        let row = world.stored("a");
        assert_eq!((row.status.as_str(), row.error.is_some()), ("initial", true));
        let not_before = row.not_before.expect("it waits");
        assert_eq!(not_before.duration_since(world.now).as_secs(), pause);
        assert!(world.lease_all().is_empty());
        world.rebuild();
        world.sleep();
    }
    assert_eq!(world.lease_all()[0].attempt_number, 4);
    world.fail("a");
    assert_eq!((world.status("a"), world.run_status()), ("failed", "failed"));
    let lost: Vec<_> = world.lost.iter().map(|lost| (lost.lease, lost.outcome)).collect();
    assert_eq!(lost, [(1, "failed"), (2, "failed"), (3, "failed")]);
}

#[test]
fn inert_blocks_are_passed_over() {
    let note = |uuid: &str, up: &[&str]| Block { kind: BlockKind::Markdown, ..block(uuid, up) };
    let mut world =
        World::started(pipeline(vec![note("title", &[]), block("a", &["title"]), note("end", &["a"])]), strict());
    assert_eq!(world.status("title"), "completed");
    let lease = world.lease_all().remove(0);
    assert!(lease.inputs[0].outputs.is_empty(), "a note has no output");
    world.complete("a");
    assert_eq!((world.status("end"), world.run_status()), ("completed", "completed"));
}

#[test]
fn an_empty_pipeline_completes_at_once() {
    let world = World::started(pipeline(vec![]), strict());
    assert_eq!(world.run_status(), "completed");
    assert!(world.run.row().completed_at.is_some());
}

#[test]
fn a_chain_of_any_length_ends_without_running() {
    let names: Vec<String> = (0..20_000).map(|at| format!("b{at}")).collect();
    let chained = names.iter().enumerate().map(|(at, name)| {
        let upstream: &[&str] = if at == 0 { &[] } else { &[names[at - 1].as_str()] };
        block(name, upstream)
    });
    let mut world = World::started(pipeline(chained.collect()), lenient());
    world.lease_all();
    world.fail("b0");
    assert_eq!((world.status("b19999"), world.run_status()), ("upstream_failed", "failed"));
}

#[test]
fn a_dynamic_block_that_returns_no_list_fails() {
    let dynamic = crate::build::dynamic("list", &[]);
    let mut world = World::started(pipeline(vec![dynamic, block("child", &["list"])]), strict());
    world.lease_all();
    world.finish(world.key("list"), Outcome::Completed(Output::default()));
    assert_eq!((world.status("list"), world.status("child")), ("failed", "upstream_failed"));
    assert!(world.reason().contains("did not return a list of items"));
}
