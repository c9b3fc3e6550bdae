//! Executors that leave, and that come again.

use crate::{block, name, world::Cluster};
use scheduler::engine::SessionEvent;
use serde_json::json;

/// A rolling restart moves one-process runs on, and kills none of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_in_one_process_goes_on_elsewhere_when_its_executor_drained_and_left() {
    let cluster = Cluster::new().await;
    for (cached, again) in [(false, ["b"].as_slice()), (true, ["a", "b"].as_slice())] {
        let blocks = json!([block("a", &[]), block("b", &["a"])]);
        let pipeline = cluster
            .deploy_as(json!({
                "name": "p", "kind": "python", "blocks": blocks,
                "one_process": true, "cache_output_in_memory": cached,
            }))
            .await;
        let mut leaving = cluster.executor(1).await;
        let run = cluster.create(pipeline, "k").await.unwrap();
        let first = leaving.assigned().await;
        leaving.tell(SessionEvent::Draining).await;
        leaving.complete(&first[0]).await;
        assert!(leaving.acked().await);
        leaving.tell(SessionEvent::Goodbye).await;
        let mut other = cluster.executor(1).await;
        for block in again {
            let next = other.assigned().await;
            assert_eq!(name(&next[0]), *block);
            other.complete(&next[0]).await;
        }
        cluster.until(run, "completed").await;
        other.tell(SessionEvent::Goodbye).await;
    }
    cluster.stop.cancel();
}
