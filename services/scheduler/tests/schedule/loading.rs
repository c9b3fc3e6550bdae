//! What an engine loads that takes shards, and what it leaves out.

use crate::cluster::{World, block};
use serde_json::json;

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
