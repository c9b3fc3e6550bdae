//! Runtimes that start together: all or none, and none where together they are more than may ever be held.

use crate::{
    cluster::Cluster,
    runtimes::{share, world},
};
use serde_json::{Value, json};

/// Of `workspaces`, which shall start together: that each was started, or why not in a word and a sentence.
async fn start(cluster: &Cluster, who: &str, workspaces: &Value) -> Vec<(String, String)> {
    let together = json!({ "act": "RUNTIME_ACT_START", "workspaces": workspaces, "together": true });
    let answer = cluster.call_as(who, "RuntimeService/BatchChangeRuntimes", together).await;
    let told = |result: &Value| match result["done"].as_bool() {
        Some(true) => ("done".to_owned(), String::new()),
        _ => {
            let word = |name: &str| result[name].as_str().unwrap_or_default().to_owned();
            (word("reason"), word("message"))
        }
    };
    answer["results"].as_array().unwrap().iter().map(told).collect()
}

#[tokio::test]
async fn what_is_too_much_together_is_refused_at_once_with_both_figures() {
    let (cluster, ada) = world().await;
    let db = cluster.database.client().await;
    let set = async |statement: &str| db.batch_execute(statement).await.unwrap();
    for name in ["pit", "den"] {
        cluster.call_as(&ada, "WorkspaceService/CreateWorkspace", json!({ "name": name, "project": "acme" })).await;
    }
    for name in ["lab", "pit", "den"] {
        let save = json!({ "workspace": name, "spec": share() });
        cluster.call_as(&ada, "RuntimeService/SetRuntimeSpec", save).await;
    }
    let all = json!(["lab", "pit", "den"]);
    let refused = async |reason: &str, words: &str| {
        for (told, sentence) in start(&cluster, &ada, &all).await {
            assert_eq!((told.as_str(), sentence.contains(words)), (reason, true), "{sentence}");
        }
    };
    // Each asks for 0.4, and alone it would start.
    set("UPDATE queue SET limit_milli = 1199 WHERE name = 'default'").await;
    let words = "1.2 GPU is asked for by 3 that start together, and queue `default` may never hold more than 1.199 GPU; \
                 start fewer together";
    refused("QUEUE_TOO_SMALL", words).await;
    let trail = "SELECT count(*) FROM audit_entry WHERE reason = 'QUEUE_TOO_SMALL'";
    assert_eq!(db.query_one(trail, &[]).await.unwrap().get::<_, i64>(0), 3);
    set("UPDATE queue SET limit_milli = 1200").await;
    let policy = |milli: &str| json!({ "project": "acme", "policy": { "gpuMilli": milli } });
    cluster.call("PolicyService/SetProjectPolicy", policy("1199")).await;
    refused("QUOTA_TOO_SMALL", "by 3 that start together, and the project may never hold more than 1.199 GPU").await;
    cluster.call("PolicyService/SetProjectPolicy", policy("1200")).await;
    cluster.call("GroupService/CreateGroup", json!({ "name": "quants" })).await;
    set("UPDATE project SET owner_group_id = (SELECT id FROM user_group) WHERE name = 'acme'").await;
    let group = |milli: &str| json!({ "group": "quants", "quota": { "gpuMilli": milli } });
    cluster.call("PolicyService/SetGroupPolicy", group("1199")).await;
    refused("QUOTA_TOO_SMALL", "the group that owns the project may never hold more than 1.199 GPU").await;
    cluster.call("PolicyService/SetGroupPolicy", group("1200")).await;
    let person = |most: &str| json!({ "email": "ada@example.org", "quota": { "runtimes": most } });
    cluster.call("PolicyService/SetUserQuota", person("2")).await;
    refused("QUOTA_TOO_SMALL", "the person who starts it may never hold more than 2 runtimes at once").await;
    cluster.call("PolicyService/SetUserQuota", person("3")).await;
    assert_eq!(db.query_one("SELECT count(*) FROM runtime", &[]).await.unwrap().get::<_, i64>(0), 0, "none was begun");
    assert!(start(&cluster, &ada, &all).await.iter().all(|(told, _)| told == "done"));
}

#[tokio::test]
async fn who_may_not_start_one_of_them_is_not_told_what_it_asks_for() {
    let (cluster, ada) = world().await;
    cluster.call("WorkspaceService/CreateWorkspace", json!({ "name": "secret" })).await;
    for name in ["lab", "secret"] {
        cluster.call("RuntimeService/SetRuntimeSpec", json!({ "workspace": name, "spec": share() })).await;
    }
    let limit = "UPDATE queue SET limit_milli = 700 WHERE name = 'default'";
    cluster.database.client().await.batch_execute(limit).await.unwrap();
    let told = start(&cluster, &ada, &json!(["lab", "secret"])).await;
    assert_eq!((told[0].0.as_str(), told[1].0.as_str()), ("GANG_INCOMPLETE", "WORKSPACE_NOT_FOUND"), "{told:?}");
}

#[tokio::test]
async fn what_starts_together_starts_whole_or_not_at_all() {
    let (cluster, ada) = world().await;
    cluster.call("WorkspaceService/CreateWorkspace", json!({ "name": "pit", "project": "acme" })).await;
    cluster.call("RuntimeService/SetRuntimeSpec", json!({ "workspace": "lab", "spec": share() })).await;
    let together = |workspaces: Value| json!({ "act": "RUNTIME_ACT_START", "workspaces": workspaces, "together": true, "oneZone": true });
    let start = async |workspaces: Value| {
        let answer = cluster.call("RuntimeService/BatchChangeRuntimes", together(workspaces)).await;
        let results = answer["results"].as_array().unwrap();
        let reason = |result: &Value| match result["done"].as_bool() {
            Some(true) => "done".to_owned(),
            _ => result["reason"].as_str().unwrap_or_default().to_owned(),
        };
        results.iter().map(reason).collect::<Vec<_>>()
    };
    // Nobody said what `pit` shall be: `lab` does not wait for it.
    assert_eq!(start(json!(["lab", "pit"])).await, ["GANG_INCOMPLETE", "NO_RUNTIME"]);
    let lab = cluster.call_as(&ada, "RuntimeService/GetRuntime", json!({ "workspace": "lab" })).await;
    assert_eq!(lab["runtime"]["state"], "RUNTIME_STATE_STOPPED", "{lab}");
    cluster.call("RuntimeService/SetRuntimeSpec", json!({ "workspace": "pit", "spec": share() })).await;
    assert_eq!(start(json!(["lab", "pit"])).await, ["done", "done"]);
    for wrong in [
        together(json!(["lab"])),
        together(json!(["lab", "lab"])),
        json!({ "act": "RUNTIME_ACT_STOP", "workspaces": ["lab", "pit"], "together": true }),
        json!({ "act": "RUNTIME_ACT_START", "workspaces": ["lab", "pit"], "oneZone": true }),
    ] {
        assert_eq!(cluster.refused("RuntimeService/BatchChangeRuntimes", wrong).await.0, "invalid_argument");
    }
}
