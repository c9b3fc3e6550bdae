//! The shape of a pipeline: what is refused, and who feeds whom how.

use crate::build::{block, dynamic, graph, pipeline, reducing, with_callbacks};
use domain::{
    graph::{Feed, GraphError},
    pipeline::{Block, Pipeline},
    run::{unit_key, unit_name},
    unit::{Step, UnitKey},
};

fn refusal(pipeline: Pipeline) -> String {
    graph(pipeline).expect_err("it has a fault").to_string()
}

#[test]
fn faults_are_named() {
    let unknown = refusal(pipeline(vec![block("a", &[]), block("b", &["a", "gone"])]));
    assert_eq!(unknown, "block `b` names `gone` in upstream_blocks, but the pipeline has no such block");
    assert_eq!(refusal(with_callbacks(vec![block("a", &[])], &["gone"])), unknown.replace("`b`", "`cb`"));
    assert_eq!(refusal(pipeline(vec![block("a", &[]), block("a", &[])])), "two blocks are named `a`");
    let twice =
        Pipeline { callbacks: vec![block("cb", &["a"]), block("cb", &["a"])], ..pipeline(vec![block("a", &[])]) };
    assert_eq!(refusal(twice), "two blocks are named `cb`");
}

#[test]
fn a_name_with_a_colon_is_allowed_where_no_other_unit_is_stored_under_it() {
    let blocks = |other: &str| vec![block("load", &[]), block(other, &["load"])];
    assert_eq!(
        refusal(with_callbacks(blocks("cb:load"), &["load"])),
        "the callback `cb` of block `load` is stored as `cb:load`, which another block or callback is called as well"
    );
    let callbacks = |names: [&str; 2]| {
        let callbacks = vec![block(names[0], &["b:c"]), block(names[1], &["c"])];
        Pipeline { callbacks, ..pipeline(vec![block("b:c", &[]), block("c", &[])]) }
    };
    assert!(refusal(callbacks(["a", "a:b"])).contains("stored as `a:b:c`"));
    // Each of the others is found by its name again.
    for pipeline in [with_callbacks(blocks("cb:other"), &["load", "cb:other"]), callbacks(["x", "a:b"])] {
        let graph = graph(pipeline).expect("valid");
        for at in 0..graph.len() {
            let callbacks = graph.node(at).callbacks.iter().map(|&callback| Step::Callback { callback, block: at });
            for step in callbacks.chain([Step::Block(at)]) {
                let key = UnitKey { step, child: None };
                let (name, child) = unit_name(&graph, key);
                assert_eq!(unit_key(&graph, &name, child), Some(key), "{name}");
            }
        }
    }
}

#[test]
fn a_cycle_is_named_in_the_direction_of_the_data() {
    // `in` leads into the cycle and `out` hangs behind it; neither is part of it.
    let blocks =
        vec![block("out", &["c"]), block("in", &[]), block("a", &["c", "in"]), block("b", &["a"]), block("c", &["b"])];
    let Err(GraphError::Cycle(names)) = graph(pipeline(blocks)) else { panic!("a cycle is refused") };
    assert_eq!(names.len(), 4);
    assert_eq!(names[0], names[3]);
    for pair in names.windows(2) {
        assert!(
            [["a", "b"], ["b", "c"], ["c", "a"]].iter().any(|edge| edge[0] == pair[0] && edge[1] == pair[1]),
            "{names:?}"
        );
    }
    assert_eq!(refusal(pipeline(vec![block("a", &["a"])])), "blocks wait for each other: a → a");
}

#[test]
fn the_order_follows_the_edges_whatever_the_order_of_the_file() {
    let graph = graph(pipeline(vec![block("c", &["b", "a"]), block("b", &["a"]), block("a", &[])])).expect("valid");
    assert_eq!(graph.order(), [2, 1, 0]);
    assert_eq!(graph.closure(1), [true, true, false]);
    assert_eq!(graph.find("b"), Some(1));
    assert_eq!(graph.find("d"), None);
}

#[test]
fn an_upstream_or_a_watched_block_that_is_named_twice_counts_once() {
    let twice = with_callbacks(vec![block("a", &[]), block("b", &["a", "a"])], &["a", "a"]);
    let graph = graph(twice).expect("valid");
    assert_eq!(graph.node(1).upstream.len(), 1);
    assert_eq!(graph.node(0).downstream, [1]);
    assert_eq!(graph.node(0).callbacks, [0]);
}

#[test]
fn feeds_follow_from_dynamic_and_reduce_output() {
    let both = |uuid: &str, up: &str| Block { reduce_output: true, ..dynamic(uuid, &[up]) };
    let graph = graph(pipeline(vec![
        block("plain", &[]),
        dynamic("list", &["plain"]),
        block("child", &["plain", "list"]),
        block("grandchild", &["child"]),
        reducing("reduced", &["grandchild"]),
        block("one", &["reduced", "list"]),
        dynamic("nested", &["list"]),
        block("of_nested", &["nested"]),
        both("folded", "list"),
        block("of_folded", &["folded"]),
        reducing("not_a_fan", &["plain"]),
        block("last", &["not_a_fan"]),
    ]))
    .expect("valid");
    let feeds = |uuid: &str| {
        let node = graph.node(graph.find(uuid).expect("a block"));
        (node.upstream.iter().map(|(_, feed)| *feed).collect::<Vec<_>>(), node.is_fan)
    };
    assert_eq!(feeds("list"), (vec![Feed::Whole], false));
    assert_eq!(feeds("child"), (vec![Feed::Whole, Feed::Items], true));
    assert_eq!(feeds("grandchild"), (vec![Feed::Children], true));
    assert_eq!(feeds("reduced"), (vec![Feed::Children], true));
    assert_eq!(feeds("one"), (vec![Feed::Reduced, Feed::Items], true));
    assert_eq!(feeds("of_nested"), (vec![Feed::ChildItems], true));
    assert_eq!(feeds("of_folded"), (vec![Feed::Reduced], false));
    assert_eq!(feeds("last"), (vec![Feed::Whole], false));
}
