//! What an event costs, counted in transitions: no clock is needed to see that ten thousand children cost per child what
//! ten do.

use crate::{
    build::{block, dynamic, executor, lenient, pipeline, reducing, strict, with_callbacks},
    world::World,
};

const CHILDREN: u32 = 10_000;
/// Children that run at once.
const WINDOW: usize = 16;

/// Runs every child of `child`; answers the most transitions that any one end and any one claim caused.
fn run_children(world: &mut World, children: u32, fails: impl Fn(u32) -> bool) -> (usize, usize) {
    let (mut per_end, mut per_claim) = (0, 0);
    for child in 0..children {
        while world.current.len() < WINDOW {
            let before = world.transitions;
            if world.lease_to(executor(1)).is_none() {
                break;
            }
            per_claim = per_claim.max(world.transitions - before);
        }
        let before = world.transitions;
        let name = format!("child#{child}");
        if fails(child) {
            world.fail(&name)
        } else {
            world.complete(&name)
        }
        // The last child also ends the fan.
        per_end = per_end.max(world.transitions - before - usize::from(child + 1 == children));
    }
    (per_end, per_claim)
}

#[test]
fn ten_thousand_children_cost_a_row_per_claim_and_a_row_per_end() {
    for children in [10, CHILDREN] {
        let blocks = vec![dynamic("list", &[]), reducing("child", &["list"]), block("after", &["child"])];
        let mut world = World::started(pipeline(blocks), strict());
        world.lease_all();
        let before = world.transitions;
        world.complete_items("list", children);
        assert_eq!(world.transitions - before, 2, "the list's end and one row for all of its children");
        assert_eq!(run_children(&mut world, children, |_| false), (1, 1));
        assert_eq!(world.lease_all()[0].inputs[0].outputs.len(), children as usize);
        world.complete("after");
        assert_eq!(world.run_status(), "completed");
    }
}

#[test]
fn failures_and_callbacks_of_children_cost_no_more() {
    let blocks = vec![dynamic("list", &[]), reducing("child", &["list"]), block("after", &["child"])];
    let mut world = World::started(pipeline(blocks.clone()), lenient());
    world.lease_all();
    world.complete_items("list", CHILDREN);
    assert_eq!(run_children(&mut world, CHILDREN, |child| child % 3 == 0), (1, 1));
    world.pass(&["after"]);
    assert_eq!(world.run_status(), "failed");

    let mut world = World::started(with_callbacks(blocks, &["child"]), strict());
    world.lease_all();
    world.complete_items("list", 200);
    world.lease_all();
    for child in 0..200 {
        let before = world.transitions;
        world.complete(&format!("child#{child}"));
        assert_eq!(world.transitions - before, 2 + usize::from(child == 199), "the child's row and its callback's");
    }
}

#[test]
fn a_new_owner_takes_up_ten_thousand_children_without_writing() {
    let blocks = vec![dynamic("list", &[]), reducing("child", &["list"]), block("after", &["child"])];
    let mut world = World::started(pipeline(blocks), strict());
    world.lease_all();
    world.complete_items("list", CHILDREN);
    let half = CHILDREN / 2;
    run_children(&mut world, half, |_| false);
    let before = world.transitions;
    world.rebuild();
    assert_eq!(world.transitions, before);
    for child in half..CHILDREN {
        world.lease_to(executor(1));
        world.complete(&format!("child#{child}"));
    }
    world.pass(&["after"]);
    assert_eq!(world.run_status(), "completed");
}

#[test]
fn the_items_of_many_dynamic_children_are_found_without_counting_them_again() {
    let blocks = vec![dynamic("list", &[]), dynamic("child", &["list"]), block("leaf", &["child"])];
    let mut world = World::started(pipeline(blocks), strict());
    world.lease_all();
    world.complete_items("list", 2_000);
    for child in 0..2_000 {
        world.lease_to(executor(1));
        world.complete_items(&format!("child#{child}"), 1);
    }
    for leaf in 0..2_000 {
        let lease = world.lease_to(executor(1)).expect("one leaf per item");
        assert_eq!(lease.inputs[0].outputs[0].0, Some(leaf));
        world.complete(&format!("leaf#{leaf}"));
    }
    assert_eq!(world.run_status(), "completed");
}
