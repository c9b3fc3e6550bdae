//! Quotas of groups and of persons: who sets and reads them, what a smaller one means to whom, and where members see them.

use crate::{cluster::Cluster, runtimes::world};
use serde_json::{Value, json};

const GROUP: &str = "PolicyService/SetGroupPolicy";
const PERSON: &str = "PolicyService/SetUserQuota";

async fn execute(cluster: &Cluster, statement: &str) {
    cluster.database.client().await.batch_execute(statement).await.unwrap();
}

/// `acme` is the group's `quants`, and holds 0.9 GPU; the runtime of `lab` has 0.4 of these, and was started by Ada.
async fn held() -> (Cluster, String) {
    let (cluster, ada) = world().await;
    cluster.call("GroupService/CreateGroup", json!({ "name": "quants" })).await;
    let owned = "UPDATE project SET owner_group_id = (SELECT id FROM user_group) WHERE name = 'acme'";
    execute(&cluster, owned).await;
    let spec = json!({ "workspace": "lab", "spec": { "gpus": 1, "smPercent": 40, "models": ["A10"] } });
    cluster.call_as(&ada, "RuntimeService/SetRuntimeSpec", spec).await;
    cluster.call_as(&ada, "RuntimeService/StartRuntime", json!({ "workspace": "lab" })).await;
    let ledger = "
        INSERT INTO project_usage (project_id, gpu_milli, runtimes) SELECT id, 900, 2 FROM project WHERE name = 'acme';
        INSERT INTO placement (holder, pool, node_id, project_id, queue_id, state, cpu_milli, memory_bytes, effective_milli, model)
        SELECT r.holder, r.pool, n.id, r.project_id, r.queue_id, 'held', 1000, 1, 400, 'A10' FROM runtime r, node n;
        INSERT INTO placement_user (holder, user_id) SELECT holder, requested_by FROM runtime";
    execute(&cluster, ledger).await;
    (cluster, ada)
}

/// It is refused; with `force` it is done, and answers what it means to `lab`, which goes on.
async fn forced(cluster: &Cluster, method: &str, message: Value) -> String {
    assert_eq!(cluster.refused(method, message.clone()).await.1, "WOULD_DISTURB", "{method} {message}");
    let mut meant = message.clone();
    meant["force"] = json!(true);
    let answer = cluster.call(method, meant).await;
    let affected = answer["affected"].as_array().unwrap();
    assert_eq!((affected.len(), &affected[0]["workspace"]), (1, &json!("lab")), "{method}");
    let client = cluster.database.client().await;
    let state: String = client.query_one("SELECT state FROM runtime", &[]).await.unwrap().get(0);
    assert_eq!(state, "running");
    // The same again is no change.
    cluster.call(method, message).await;
    affected[0]["effect"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_group_s_quota_is_an_administrator_s_to_set_and_its_projects_to_see() {
    let (cluster, ada) = held().await;
    let quota = |quota: Value| json!({ "group": "quants", "quota": quota });
    let read = json!({ "group": "quants" });
    assert_eq!(cluster.refused_as(&ada, GROUP, quota(json!({}))).await, "PERMISSION_DENIED");
    assert_eq!(cluster.refused_as(&ada, "PolicyService/GetGroupPolicy", read.clone()).await, "PERMISSION_DENIED");
    let project = json!({ "project": "acme" });
    let seen = cluster.call_as(&ada, "PolicyService/GetProjectPolicy", project.clone()).await;
    assert_eq!((&seen["groupQuota"], &seen["yourQuota"]), (&Value::Null, &Value::Null));
    let answer = cluster.call(GROUP, quota(json!({ "gpuMilli": "1000", "modelGpuMilli": { "A1O": "1" } }))).await;
    assert!(answer["warnings"][0].as_str().unwrap().contains("no node has a device of model `A1O`"), "{answer}");
    let effect = forced(&cluster, GROUP, quota(json!({ "gpuMilli": "500" }))).await;
    let told = "goes on, and nothing new starts in projects of the group, which hold 0.9 GPU of 0.5 GPU then";
    assert_eq!(effect, told);
    let effect = forced(&cluster, GROUP, quota(json!({ "gpuMilli": "300" }))).await;
    let why = "0.4 GPU is asked for, and the group that owns the project may never hold more than 0.3 GPU";
    assert_eq!(effect, format!("goes on, and cannot start again: {why}"));
    let seen = cluster.call_as(&ada, "PolicyService/GetProjectPolicy", project).await;
    let group = &seen["groupQuota"];
    assert_eq!((&group["quota"]["gpuMilli"], &group["usage"]["gpuMilli"]), (&json!("300"), &json!("900")));
    // Who says nothing of the quota leaves it; who edited an older one is told so.
    cluster.call(GROUP, json!({ "group": "quants", "allowRoot": true })).await;
    let known = cluster.call("PolicyService/GetGroupPolicy", read).await;
    assert_eq!((&known["allowRoot"], &known["quota"]["gpuMilli"]), (&json!(true), &json!("300")));
    assert_eq!(known["usage"]["runtimes"], "2");
    let older = quota(json!({ "gpuMilli": "9000", "version": 1 }));
    assert_eq!(cluster.refused(GROUP, older).await.1, "CHANGED_MEANWHILE");
    assert_eq!(cluster.refused(GROUP, quota(json!({ "cpuMilli": "-1" }))).await.1, "INVALID_FIELD");
    // What is more than that is refused where it is saved, and volumes count.
    let large = json!({ "workspace": "lab", "spec": { "gpus": 1 } });
    assert_eq!(cluster.refused_as(&ada, "RuntimeService/SetRuntimeSpec", large).await, "QUOTA_TOO_SMALL");
    cluster.call(GROUP, quota(json!({ "storageBytes": (1_i64 << 30).to_string() }))).await;
    let volume = |size: i64| json!({ "project": "acme", "name": "data", "sizeBytes": size.to_string() });
    assert_eq!(cluster.refused_as(&ada, "VolumeService/CreateVolume", volume((1 << 30) + 1)).await, "QUOTA_EXCEEDED");
    cluster.call_as(&ada, "VolumeService/CreateVolume", volume(1 << 30)).await;
}

#[tokio::test]
async fn everybody_has_a_quota_and_one_person_another_one() {
    let (cluster, ada) = held().await;
    let own = |quota: Value| json!({ "email": "ada@example.org", "quota": quota });
    assert_eq!(cluster.refused_as(&ada, PERSON, own(json!({}))).await, "PERMISSION_DENIED");
    let read = json!({ "email": "Ada@example.org" });
    assert_eq!(cluster.refused_as(&ada, "PolicyService/GetUserQuota", read.clone()).await, "PERMISSION_DENIED");
    let effect = forced(&cluster, PERSON, json!({ "quota": { "gpuMilli": "300" } })).await;
    let why = "0.4 GPU is asked for, and the person who starts it may never hold more than 0.3 GPU";
    assert_eq!(effect, format!("goes on, and cannot start again: {why}"));
    let yours = async || {
        let seen = cluster.call_as(&ada, "PolicyService/GetProjectPolicy", json!({ "project": "acme" })).await;
        let yours = &seen["yourQuota"];
        (yours["quota"]["gpuMilli"].clone(), yours["usage"]["gpuMilli"].clone())
    };
    assert_eq!(yours().await, (json!("300"), json!("400")));
    let known = async || {
        let known = cluster.call("PolicyService/GetUserQuota", read.clone()).await;
        (known["own"] == json!(true), known["quota"]["gpuMilli"].clone(), known["usage"]["gpuMilli"].clone())
    };
    assert_eq!(known().await, (false, json!("300"), json!("400")));
    let lab = json!({ "workspace": "lab" });
    cluster.call_as(&ada, "RuntimeService/StopRuntime", lab.clone()).await;
    assert_eq!(cluster.refused_as(&ada, "RuntimeService/StartRuntime", lab.clone()).await, "QUOTA_TOO_SMALL");
    cluster.call(PERSON, own(json!({ "gpuMilli": "700" }))).await;
    assert_eq!((known().await, yours().await.0), ((true, json!("700"), json!("400")), json!("700")));
    cluster.call_as(&ada, "RuntimeService/StartRuntime", lab).await;
    // Everybody's does not concern her any more; and hers is taken away.
    cluster.call(PERSON, json!({ "quota": { "gpuMilli": "100" } })).await;
    let effect = forced(&cluster, PERSON, json!({ "email": "ada@example.org" })).await;
    assert!(effect.contains("may never hold more than 0.1 GPU"), "{effect}");
    assert!(!known().await.0);
    assert_eq!(cluster.refused(PERSON, json!({ "email": "eve@example.org" })).await.1, "USER_NOT_FOUND");
    let everybody = cluster.call("PolicyService/GetUserQuota", json!({})).await;
    assert_eq!((&everybody["quota"]["gpuMilli"], &everybody["usage"]), (&json!("100"), &Value::Null));
}
