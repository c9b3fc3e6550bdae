//! Dynamic blocks: how many children, what each reads, and what their end means.

use crate::{
    build::{block, dynamic, lenient, pipeline, reducing, strict},
    world::World,
};
use domain::{
    pipeline::Pipeline,
    run::{CHILDREN_MAX, InputMode, Lease, Options},
    unit::{Outcome, Output, UnitKey},
};

fn one_list(child: domain::pipeline::Block) -> Pipeline {
    pipeline(vec![dynamic("list", &[]), child, block("after", &["child"])])
}

fn started(pipeline: Pipeline, options: Options, items: &[(&str, u32)]) -> World {
    let mut world = World::started(pipeline, options);
    world.lease_all();
    for (name, items) in items {
        world.complete_items(name, *items);
    }
    world
}

fn items_of(leases: &[Lease]) -> Vec<Vec<InputMode>> {
    leases.iter().map(|lease| lease.inputs.iter().map(|input| input.mode).collect()).collect()
}

#[test]
fn one_child_per_item_and_one_list_after_a_reduction() {
    for items in [0, 1, 3, 50] {
        let mut world = started(one_list(reducing("child", &["list"])), strict(), &[("list", items)]);
        let leases = world.lease_all();
        if items > 0 {
            assert_eq!(world.status("child"), "running");
            assert_eq!(items_of(&leases), (0..items).map(|n| vec![InputMode::Item(n)]).collect::<Vec<_>>());
        }
        world.check_rebuild();
        for child in (0..items).rev() {
            world.complete(&format!("child#{child}"));
        }
        assert_eq!((world.status("child"), world.stored("child").children), ("completed", Some(items)));
        if items > 0 {
            world.lease_all();
        }
        world.complete("after");
        assert_eq!(world.run_status(), "completed");
    }
}

#[test]
fn a_reduction_reads_the_children_in_the_order_of_their_index() {
    let mut world = started(one_list(reducing("child", &["list"])), strict(), &[("list", 3)]);
    world.lease_all();
    for child in ["child#2", "child#0", "child#1"] {
        world.complete(child);
    }
    let lease = world.lease_all().remove(0);
    assert_eq!(lease.inputs[0].mode, InputMode::Reduced);
    assert_eq!(lease.inputs[0].outputs, [(Some(0), 1), (Some(1), 1), (Some(2), 1)]);
}

#[test]
fn no_items_means_no_children_all_the_way_down() {
    let blocks = vec![dynamic("list", &[]), block("child", &["list"]), block("grandchild", &["child"])];
    let world = started(pipeline(blocks), strict(), &[("list", 0)]);
    assert_eq!(
        (world.status("child"), world.status("grandchild"), world.run_status()),
        ("completed", "completed", "completed")
    );
    assert_eq!(world.stored("grandchild").children, Some(0));
}

#[test]
fn two_dynamic_parents_multiply_and_the_last_turns_fastest() {
    let parents = vec![block("plain", &[]), dynamic("x", &[]), dynamic("y", &[]), block("child", &["plain", "x", "y"])];
    let mut world = World::started(pipeline(parents), strict());
    world.lease_all();
    world.complete("plain");
    world.complete_items("x", 2);
    world.complete_items("y", 3);
    let pairs = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)];
    let expected = pairs.map(|(x, y)| vec![InputMode::Whole, InputMode::Item(x), InputMode::Item(y)]);
    assert_eq!(items_of(&world.lease_all()), expected);
}

#[test]
fn a_child_of_a_child_reads_the_child_of_its_index() {
    let blocks = vec![dynamic("list", &[]), block("child", &["list"]), block("grandchild", &["child"])];
    let mut world = started(pipeline(blocks), strict(), &[("list", 3)]);
    world.lease_all();
    for child in ["child#1", "child#2", "child#0"] {
        world.complete(child);
    }
    let read: Vec<_> = world.lease_all().into_iter().map(|lease| lease.inputs[0].outputs.clone()).collect();
    assert_eq!(read, [[(Some(0), 1)], [(Some(1), 1)], [(Some(2), 1)]]);
}

#[test]
fn the_items_of_dynamic_children_are_counted_through() {
    let blocks = vec![dynamic("list", &[]), dynamic("child", &["list"]), block("leaf", &["child"])];
    let mut world = started(pipeline(blocks), strict(), &[("list", 4)]);
    world.lease_all();
    for (child, items) in [(3, 1), (1, 0), (0, 2), (2, 3)] {
        world.complete_items(&format!("child#{child}"), items);
    }
    assert_eq!(world.stored("leaf").children, Some(6));
    world.check_rebuild();
    world.rebuild();
    let read: Vec<_> =
        world.lease_all().into_iter().map(|lease| (lease.inputs[0].outputs[0].0, lease.inputs[0].mode)).collect();
    let expected = [(0, 0), (0, 1), (2, 0), (2, 1), (2, 2), (3, 0)];
    assert_eq!(read, expected.map(|(child, item)| (Some(child), InputMode::Item(item))));
}

#[test]
fn one_failed_child_fails_what_needs_all_of_them() {
    let mut world = started(one_list(reducing("child", &["list"])), strict(), &[("list", 3)]);
    world.lease_all();
    world.complete("child#0");
    world.fail("child#1");
    assert_eq!(world.stops, [(world.key("child#2"), 1)]);
    world.complete("child#2");
    assert_eq!((world.status("child"), world.status("after")), ("failed", "upstream_failed"));
    assert_eq!((world.run_status(), world.reason()), ("failed", "child 1 of block `child` failed: it broke"));
}

#[test]
fn where_blocks_may_fail_the_rest_of_the_children_count() {
    let mut world = started(one_list(reducing("child", &["list"])), lenient(), &[("list", 3)]);
    world.lease_all();
    world.complete("child#0");
    world.fail("child#1");
    world.complete("child#2");
    let lease = world.lease_all().remove(0);
    assert_eq!(lease.inputs[0].outputs, [(Some(0), 1), (Some(2), 1)]);
    world.complete("after");
    assert_eq!((world.status("child"), world.status("after"), world.run_status()), ("failed", "completed", "failed"));

    let blocks = vec![dynamic("list", &[]), block("child", &["list"]), block("grandchild", &["child"])];
    let mut world = started(pipeline(blocks), lenient(), &[("list", 3)]);
    world.lease_all();
    world.fail("child#0");
    world.finish(world.key("child#1"), Outcome::ConditionFailed);
    world.complete("child#2");
    world.lease_all();
    assert_eq!(world.running(), ["grandchild#2"]);
    world.complete("grandchild#2");
    assert_eq!((world.status("grandchild#0"), world.status("grandchild#1")), ("upstream_failed", "condition_failed"));
    assert_eq!(world.status("grandchild"), "upstream_failed");
}

#[test]
fn guards_ask_for_each_child() {
    for (refused, expected) in [(1, "completed"), (2, "condition_failed")] {
        let mut world = started(one_list(reducing("child", &["list"])), strict(), &[("list", 2)]);
        world.lease_all();
        for child in 0..2 {
            let outcome =
                if child < refused { Outcome::ConditionFailed } else { Outcome::Completed(Output::default()) };
            world.finish(world.key(&format!("child#{child}")), outcome);
        }
        assert_eq!(world.status("child"), expected);
        if refused == 1 {
            world.pass(&["after"]);
        }
        assert_eq!((world.status("after"), world.run_status()), (expected, "completed"));
    }
}

#[test]
fn too_many_children_are_refused() {
    let parents = vec![dynamic("x", &[]), dynamic("y", &[]), block("child", &["x", "y"])];
    let world = started(pipeline(parents), strict(), &[("x", CHILDREN_MAX), ("y", 2)]);
    assert_eq!((world.status("child"), world.run_status()), ("failed", "failed"));
    assert!(
        world.reason().contains("2000000 dynamic children are more than the limit of 1000000"),
        "{}",
        world.reason()
    );
}

#[test]
fn cancelled_children_are_not_called_failed() {
    let mut world = started(one_list(block("child", &["list"])), strict(), &[("list", 3)]);
    world.lease_to(crate::build::executor(1));
    world.cancel();
    world.finish(UnitKey { child: Some(0), ..world.key("child") }, Outcome::Cancelled);
    assert_eq!(
        (world.status("child"), world.status("after"), world.run_status()),
        ("cancelled", "cancelled", "cancelled")
    );
}
