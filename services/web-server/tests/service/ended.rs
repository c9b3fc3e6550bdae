//! Acts on a runtime that ended with an error: what they mean is its next start.

use crate::{cluster::reason, runtimes::world};
use serde_json::json;

#[tokio::test]
async fn what_failed_goes_to_another_queue_and_starts_again_there() {
    let (cluster, ada) = world().await;
    cluster.call("QueueService/SetQueue", json!({ "queue": { "name": "gpu" } })).await;
    cluster.call("PlanService/SetPlan", json!({ "plan": { "name": "research", "queues": ["gpu"] } })).await;
    cluster.call("PlanService/GrantPlan", json!({ "project": "acme", "plan": "research" })).await;
    let lab = json!({ "workspace": "lab" });
    cluster.call_as(&ada, "RuntimeService/SetRuntimeSpec", json!({ "workspace": "lab", "spec": {} })).await;
    cluster.call_as(&ada, "RuntimeService/StartRuntime", lab.clone()).await;
    cluster.database.client().await.batch_execute("UPDATE runtime SET state = 'error'").await.unwrap();

    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let snooze = json!({ "workspace": "lab", "until": until.to_string() });
    let refused = cluster.post_as(&ada, "RuntimeService/SnoozeRuntime", snooze).await;
    assert_eq!(reason(&refused), "WRONG_STATE");
    let to = json!({ "workspace": "lab", "queue": "gpu" });
    let moved = cluster.call_as(&ada, "RuntimeService/SwitchQueue", to).await["runtime"].clone();
    assert_eq!((&moved["queue"], &moved["state"]), (&json!("gpu"), &json!("RUNTIME_STATE_ERROR")), "{moved}");
    let again = cluster.call_as(&ada, "RuntimeService/RestartRuntime", lab).await["runtime"].clone();
    assert_eq!((&again["queue"], &again["state"]), (&json!("gpu"), &json!("RUNTIME_STATE_RUNNING")), "{again}");
}
