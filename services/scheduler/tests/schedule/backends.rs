//! What is told of the work that waits and runs: by the backend that it needs, since nobody can do another one's.

use crate::cluster::{WAIT, World, block};
use serde_json::json;
use testkit::wait_for;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ready_and_what_runs_is_counted_by_backend() {
    let world = World::new().await;
    let on_kubernetes = |name: &str| {
        let mut block = block(name, &[]);
        block["executor_type"] = json!("k8s");
        block
    };
    let blocks = json!([
        block("a", &[]),
        block("b", &[]),
        block("c", &[]),
        on_kubernetes("d"),
        on_kubernetes("e"),
        on_kubernetes("f"),
        on_kubernetes("g"),
    ]);
    let pipeline = world.deploy("p", 3, json!({ "blocks": blocks })).await;
    // Two places for processes, and none on Kubernetes.
    let mut node = world.node(0..256, 2).await;
    node.create(pipeline, "k").await;
    node.until_running(2).await;
    let count =
        |of: &prometheus::IntGaugeVec| ["process", "kubernetes"].map(|name| of.with_label_values(&[name]).get());
    let told = || async {
        let told = (count(&node.metrics.ready_units), count(&node.metrics.running_units));
        (told == ([1, 4], [2, 0])).then_some(())
    };
    wait_for("units by backend", WAIT, told).await;
    node.kill();
}
