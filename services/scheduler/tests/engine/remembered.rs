//! What a new run starts from is asked once, and the commit sees whether it is so still.

use crate::{
    CALLS, block,
    world::{Cluster, creation},
};
use domain::id::PipelineId;
use proto::internal::v1 as pb;
use scheduler::engine::EngineError;
use serde_json::json;

impl Cluster {
    /// Another version of the same definition.
    async fn raise(&self, pipeline: PipelineId) {
        let raise = "
            WITH raised AS (UPDATE pipeline SET version = version + 1 WHERE id = $1 RETURNING id, version)
            INSERT INTO pipeline_version (pipeline_id, version, bundle_digest, spec)
            SELECT r.id, r.version, v.bundle_digest, v.spec
              FROM raised r JOIN pipeline_version v ON v.pipeline_id = r.id AND v.version = r.version - 1";
        assert_eq!(self.database.client().await.execute(raise, &[&pipeline.0]).await.unwrap(), 1);
    }

    async fn count_runs(&self) -> i64 {
        self.database.client().await.query_one("SELECT count(*) FROM run", &[]).await.unwrap().get(0)
    }
}

fn definition(assignments: &[pb::Assignment]) -> Vec<&str> {
    assignments.iter().map(|assignment| assignment.definition_id.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_further_run_of_a_pipeline_costs_one_way_to_the_database_and_back() {
    let (cluster, ways) = Cluster::counted().await;
    let pipeline = cluster.deploy(json!([block("a", &[])])).await;
    cluster.create(pipeline, "first").await.unwrap();
    let before = ways.count();
    for n in 0..CALLS {
        cluster.create(pipeline, &format!("call {n}")).await.unwrap();
    }
    let asked = ways.count() - before;
    // Besides, there are the rounds of the one who keeps the shards, and a look each second.
    assert!(asked < CALLS * 3 / 2, "{CALLS} calls, one after the other, asked {asked} times");
    cluster.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_made_of_what_is_in_force_whatever_was_so_before() {
    let cluster = Cluster::new().await;
    let pipeline = cluster.deploy(json!([block("a", &[])])).await;
    let mut executor = cluster.executor(8).await;
    cluster.create(pipeline, "first").await.unwrap();
    assert_eq!(definition(&executor.assigned().await), [format!("{pipeline}@1")]);
    cluster.raise(pipeline).await;
    let run = cluster.create(pipeline, "second").await.unwrap();
    let assigned = executor.assigned().await;
    assert_eq!(definition(&assigned), [format!("{pipeline}@2")], "of the run that never was, nothing is assigned");
    assert_eq!(assigned[0].attempt.as_ref().unwrap().run_id, run.to_vec());
    assert_eq!(store::runs::one(&cluster.store, run).await.unwrap().unwrap().pipeline_version, 2);
    assert_eq!(cluster.create(pipeline, "second").await.unwrap(), run, "its key is known");
    let client = cluster.database.client().await;
    for (table, key) in [("workspace", "(SELECT workspace_id FROM pipeline WHERE id = $1)"), ("pipeline", "$1")] {
        let set = |at: &str| format!("UPDATE {table} SET archived_at = {at} WHERE id = {key}");
        client.execute(&set("now()"), &[&pipeline.0]).await.unwrap();
        let refused = cluster.create(pipeline, table).await;
        let is_told = match table {
            "workspace" => matches!(refused, Err(EngineError::Archived(_))),
            _ => matches!(refused, Err(EngineError::NoPipeline(_))),
        };
        assert!(is_told, "{table}: {refused:?}");
        client.execute(&set("NULL"), &[&pipeline.0]).await.unwrap();
        // Asked about, and remembered, before it changes again.
        cluster.create(pipeline, &format!("{table} is back")).await.unwrap();
    }
    assert_eq!(cluster.count_runs().await, 4);
    cluster.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_for_together_is_made_once_though_one_of_its_pipelines_has_changed() {
    let cluster = Cluster::new().await;
    let (same, other) =
        (cluster.deploy(json!([block("a", &[])])).await, cluster.deploy(json!([block("a", &[])])).await);
    let all = |key: &str| -> Vec<(PipelineId, String)> {
        [same, other, same].into_iter().enumerate().map(|(n, of)| (of, format!("{key} {n}"))).collect()
    };
    let ask = async |all: Vec<(PipelineId, String)>| {
        cluster.create_all(all.iter().map(|(of, key)| creation(*of, key, "{}")).collect()).await;
    };
    ask(all("first")).await;
    cluster.raise(other).await;
    ask(all("second")).await;
    assert_eq!(cluster.count_runs().await, 6);
    for (pipeline, key) in all("second") {
        cluster.create(pipeline, &key).await.unwrap();
    }
    assert_eq!(cluster.count_runs().await, 6, "the keys are known");
    let client = cluster.database.client().await;
    let versions = "SELECT pipeline_version FROM run WHERE pipeline_id = $1 ORDER BY pipeline_version";
    let rows = client.query(versions, &[&other.0]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), [1, 2]);
    cluster.stop.cancel();
}
