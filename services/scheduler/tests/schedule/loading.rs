//! What an engine loads that takes shards, and what it leaves out.

use crate::cluster::{Node, WAIT, World, block};
use serde_json::json;
use store::Store;
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_cannot_be_read_keeps_its_own_runs_from_going_on_and_no_others() {
    let world = World::new().await;
    let mut first = world.node(0..256, 8).await;
    let spec = json!({ "blocks": [block("a", &[]), block("b", &["a"])] });
    let (broken, whole) = (world.deploy("broken", 3, spec.clone()).await, world.deploy("whole", 3, spec).await);
    let (of_broken, of_whole) = (first.create(broken, "k").await, first.create(whole, "k").await);
    first.until_running(2).await;
    first.kill();
    let spoil = format!("UPDATE pipeline_version SET spec = '[]' WHERE pipeline_id = '{broken}'");
    world.execute(&spoil).await;
    let mut second = world.node(0..256, 8).await;
    second.adopt(first, 8).await;
    let at = (0..2).find(|at| second.attempt(*at).run == of_whole).expect("it runs");
    second.complete(at).await;
    second.until_running(2).await;
    let at = (0..2).find(|at| second.attempt(*at).run == of_whole).expect("its next block runs");
    second.complete(at).await;
    world.until(of_whole, "completed").await;
    assert_eq!(world.status(of_broken).await, "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_that_no_connection_bears_as_a_whole_is_loaded_in_parts() {
    const PIPELINES: u8 = 16;
    const RUNS: usize = 50;
    let mut world = World::new().await;
    world.limit("workspace", 1_000).await;
    let first = world.node(0..256, 0).await;
    let long = json!({ "text": "x".repeat(8_000) });
    for number in 0..PIPELINES {
        let spec = json!({ "blocks": [block("a", &[])] });
        let pipeline = world.deploy(&format!("p{number}"), number * 16, spec).await;
        let commands = (0..RUNS).map(|n| Node::creation(pipeline, &format!("k{n}"), &long)).collect();
        first.create_all(commands).await.unwrap();
    }
    first.kill();
    let ways = world.database.counted().await;
    // Two pipelines, and not three.
    ways.bear(1_000_000);
    world.store = Store::connect(ways.url(), 16).await.unwrap();
    let mut second = timeout(WAIT, world.node(0..256, 1_000)).await.expect("all of it is loaded");
    second.until_running(usize::from(PIPELINES) * RUNS).await;
}
