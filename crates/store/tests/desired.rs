//! What a project's file wants of its triggers, as a deployment writes it.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

use domain::{
    id::PipelineId,
    trigger::{Kind, Spec},
};
use std::path::Path;
use store::{
    Store,
    triggers::{self, Change, Desired},
};
use testkit::Database;
use uuid::Uuid;

fn desired(name: &str, description: &str) -> Desired {
    let spec = Spec { description: description.to_owned(), ..Spec::new(Kind::Api) };
    let document = serde_json::to_value(&spec).unwrap();
    Desired { name: name.to_owned(), active: true, spec, document, token: None }
}

#[tokio::test]
async fn a_deployment_that_changes_nothing_of_a_trigger_keeps_nobody_from_firing_it() {
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
    let database = Database::migrated(&migrations, |url| async move { Store::migrate(&url).await }).await;
    let store = Store::connect(database.url(), 2).await.unwrap();
    let client = database.client().await;
    let [workspace, pipeline] = [(); 2].map(|()| Uuid::now_v7());
    client.execute("INSERT INTO workspace (id, name) VALUES ($1, 'w')", &[&workspace]).await.unwrap();
    let insert = "INSERT INTO pipeline (id, workspace_id, name, version) VALUES ($1, $2, 'p', 1)";
    client.execute(insert, &[&pipeline, &workspace]).await.unwrap();
    let pipeline = PipelineId(pipeline);
    let mut deployer = store.client().await.unwrap();
    let first = [desired("same", ""), desired("other", "")];
    let made = triggers::set_desired(&deployer, pipeline, &first, Some(&[])).await.unwrap();
    assert_eq!(made.iter().map(|(_, change)| *change).collect::<Vec<_>>(), [Change::Created, Change::Created]);
    // Edits by other ways hold, and lock nothing either.
    client.execute("UPDATE trigger SET active = false WHERE name = 'same'", &[]).await.unwrap();

    let deployment = deployer.transaction().await.unwrap();
    let second = [desired("same", ""), desired("other", "edited")];
    let changed = triggers::set_desired(&deployment, pipeline, &second, Some(&[])).await.unwrap();
    assert_eq!(changed, [("other".to_owned(), Change::Updated)]);
    let free = "SELECT name, active FROM trigger WHERE source = 'project' FOR SHARE SKIP LOCKED";
    let rows = client.query(free, &[]).await.unwrap();
    let free: Vec<(String, bool)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(free, [("same".to_owned(), false)]);
    deployment.commit().await.unwrap();
    let third = triggers::set_desired(&deployer, pipeline, &second, Some(&[])).await.unwrap();
    assert_eq!(third, [], "what it says is known by now");
}
