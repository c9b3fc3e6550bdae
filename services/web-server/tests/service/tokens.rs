//! Tokens of triggers: what ends them, and whose they are.

use crate::calls::{call, id, token};
use crate::cluster::{Cluster, project};
use crate::deploy::{deploy, deploy_into};
use crate::triggers::{cluster, create};
use serde_json::{Value, json};

/// Calls a trigger; answers the status, and the type of the error if it is one.
async fn answer(cluster: &Cluster, trigger: &Value, token: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let path = format!("/api/pipeline_schedules/{}/pipeline_runs/{token}", id(trigger));
    let answer = call(cluster, &path, headers, "{}").await;
    (answer.status.as_u16(), answer.json()["error"]["type"].as_str().unwrap_or_default().to_owned())
}

async fn status(cluster: &Cluster, trigger: &Value, token: &str) -> u16 {
    answer(cluster, trigger, token, &[]).await.0
}

/// Gives a trigger another definition.
async fn edit(cluster: &Cluster, trigger: &Value, spec: Value) {
    let id = &trigger["id"];
    let version =
        cluster.call("TriggerService/GetTrigger", json!({ "triggerId": id })).await["trigger"]["version"].clone();
    let message = json!({ "triggerId": id, "version": version, "spec": spec });
    cluster.call("TriggerService/UpdateTrigger", message).await;
}

async fn kept(cluster: &Cluster) -> i64 {
    cluster.database.client().await.query_one("SELECT count(*) FROM trigger_token", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn the_tokens_of_a_deleted_trigger_do_not_come_back_with_its_name() {
    let cluster = cluster().await;
    let first = create(&cluster, "called", json!({ "api": {} })).await;
    let leaked = token(&cluster, &first, "0s").await;
    assert_eq!(status(&cluster, &first, &leaked).await, 200);
    cluster.call("TriggerService/DeleteTrigger", json!({ "triggerId": first["id"] })).await;
    assert_eq!((status(&cluster, &first, &leaked).await, kept(&cluster).await), (401, 0));
    let second = create(&cluster, "called", json!({ "api": {} })).await;
    assert_eq!((&second["id"], status(&cluster, &second, &leaked).await), (&first["id"], 401));
    let new = token(&cluster, &second, "0s").await;
    assert_eq!(status(&cluster, &second, &new).await, 200);

    // One that the version before this deleted still has its tokens; whoever takes its name drops them.
    let db = cluster.database.client().await;
    db.execute("UPDATE trigger SET archived_at = now(), active = false WHERE name = 'called'", &[]).await.unwrap();
    assert_eq!((status(&cluster, &second, &new).await, kept(&cluster).await), (401, 1));
    let third = create(&cluster, "called", json!({ "api": {} })).await;
    assert_eq!((&third["id"], status(&cluster, &third, &new).await), (&first["id"], 401));
}

#[tokio::test]
async fn what_is_called_no_more_has_no_tokens() {
    let cluster = cluster().await;
    let trigger = create(&cluster, "called", json!({ "api": {} })).await;
    let leaked = token(&cluster, &trigger, "0s").await;
    edit(&cluster, &trigger, json!({ "schedule": { "every": "@daily" } })).await;
    assert_eq!((status(&cluster, &trigger, &leaked).await, kept(&cluster).await), (401, 0));
    edit(&cluster, &trigger, json!({ "api": {} })).await;
    assert_eq!(status(&cluster, &trigger, &leaked).await, 401, "nor when it is called again");
    // An edit that leaves it called leaves it its token.
    let new = token(&cluster, &trigger, "0s").await;
    edit(&cluster, &trigger, json!({ "api": {}, "description": "other" })).await;
    assert_eq!(status(&cluster, &trigger, &new).await, 200);
    // And whatever a row says, only an API trigger is called.
    let db = cluster.database.client().await;
    db.execute("UPDATE trigger SET kind = 'event' WHERE name = 'called'", &[]).await.unwrap();
    assert_eq!(status(&cluster, &trigger, &new).await, 401);
}

async fn called(cluster: &Cluster, workspace: &str) -> Value {
    let all = cluster.call("TriggerService/ListTriggers", json!({ "workspace": workspace })).await;
    all["triggers"].as_array().unwrap().iter().find(|t| t["name"] == "called").unwrap().clone()
}

#[tokio::test]
async fn a_token_of_the_projects_file_works_in_every_workspace_that_has_it() {
    let cluster = Cluster::new().await;
    cluster.workspace("sales").await;
    cluster.workspace("prod").await;
    let mage = "0123456789abcdef0123456789abcdef";
    let mut files = project();
    let file = |token: &str| format!("triggers:\n- {{name: called, schedule_type: api, status: active{token}}}\n");
    files.insert("pipelines/daily/triggers.yaml", file(&format!(", token: {mage}")));
    deploy(&cluster, &files).await;
    deploy_into(&cluster, "prod", &files).await;
    // Again: it is not there twice.
    deploy_into(&cluster, "prod", &files).await;
    let (sales, prod) = (called(&cluster, "sales").await, called(&cluster, "prod").await);
    assert_ne!(sales["id"], prod["id"]);
    let both = [status(&cluster, &sales, mage).await, status(&cluster, &prod, mage).await];
    assert_eq!((both, kept(&cluster).await), ([200, 200], 2));
    for trigger in [&sales, &prod] {
        let held = cluster.call("TriggerService/ListTriggerTokens", json!({ "triggerId": trigger["id"] })).await;
        assert_eq!(held["tokens"].as_array().unwrap().len(), 1);
    }
    // The file that gives it no more takes it from the workspace that it is deployed to, and from no other.
    files.insert("pipelines/daily/triggers.yaml", file(""));
    deploy(&cluster, &files).await;
    assert_eq!([status(&cluster, &sales, mage).await, status(&cluster, &prod, mage).await], [401, 200]);
}

#[tokio::test]
async fn a_token_of_the_projects_file_that_was_rotated_away_does_not_come_back() {
    let cluster = Cluster::new().await;
    cluster.workspace("sales").await;
    let leaked = "0123456789abcdef0123456789abcdef";
    let mut files = project();
    let file = format!("triggers:\n- {{name: called, schedule_type: api, status: active, token: {leaked}}}\n");
    files.insert("pipelines/daily/triggers.yaml", file);
    deploy(&cluster, &files).await;
    let trigger = called(&cluster, "sales").await;
    assert_eq!(status(&cluster, &trigger, leaked).await, 200);
    for _ in 0..2 {
        token(&cluster, &trigger, "0s").await;
        deploy(&cluster, &files).await;
        assert_eq!(status(&cluster, &trigger, leaked).await, 401);
    }
}

#[tokio::test]
async fn a_halted_trigger_leaves_the_keys_of_its_calls_free() {
    let cluster = cluster().await;
    let trigger = create(&cluster, "called", json!({ "api": {}, "pauseOnFailure": true })).await;
    let token = token(&cluster, &trigger, "0s").await;
    let db = cluster.database.client().await;
    let halt = "INSERT INTO trigger_state (trigger_id, shard, version, state)
                SELECT id, 0, version, '{\"halted\": 1}' FROM trigger WHERE name = 'called'";
    db.execute(halt, &[]).await.unwrap();
    let key = [("idempotency-key", "order-7")];
    assert_eq!(answer(&cluster, &trigger, &token, &key).await, (412, "TRIGGER_PAUSED".to_owned()));
    cluster.call("TriggerService/StartTrigger", json!({ "triggerId": trigger["id"] })).await;
    assert_eq!(answer(&cluster, &trigger, &token, &key).await.0, 200);
}
