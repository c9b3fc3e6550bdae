//! What an administrator changes under what waits or runs: who is told what it means, and what becomes of it.

use crate::{cluster::Cluster, runtimes::world};
use serde_json::{Value, json};

/// The runtime of `lab`, started as this.
async fn started(cluster: &Cluster, spec: Value) {
    cluster.call("RuntimeService/SetRuntimeSpec", json!({ "workspace": "lab", "spec": spec })).await;
    cluster.call("RuntimeService/StartRuntime", json!({ "workspace": "lab" })).await;
}

async fn execute(cluster: &Cluster, statement: &str) {
    cluster.database.client().await.batch_execute(statement).await.unwrap();
}

/// It is refused; with `force` it is done, and answers what it means to the one runtime that it concerns.
async fn forced(cluster: &Cluster, method: &str, message: Value) -> String {
    assert_eq!(cluster.refused(method, message.clone()).await.1, "WOULD_DISTURB", "{method} {message}");
    let mut meant = message;
    meant["force"] = json!(true);
    let answer = cluster.call(method, meant).await;
    let affected = answer["affected"].as_array().unwrap();
    assert_eq!((affected.len(), &affected[0]["workspace"]), (1, &json!("lab")), "{method}");
    affected[0]["effect"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn shorter_times_say_when_they_stop_whom() {
    let (cluster, _) = world().await;
    started(&cluster, json!({})).await;
    execute(&cluster, "UPDATE runtime SET running_at = now() - interval '3 days'").await;
    let set = "PolicyService/SetProjectPolicy";
    let policy = |rules: Value| json!({ "project": "acme", "policy": rules });
    let effect = forced(&cluster, set, policy(json!({ "lifetimeSMax": 28_800 }))).await;
    let (at, why) = effect.strip_prefix("will be stopped at ").unwrap().split_once(',').unwrap();
    let left = at.parse::<jiff::Timestamp>().unwrap().duration_since(jiff::Timestamp::now()).as_secs();
    assert!((14 * 60..=15 * 60).contains(&left), "{effect}");
    assert_eq!(why, " and cannot start again: the project allows at most 28800 seconds");
    // It could not have started by the old rule either, and is told of a still shorter one.
    let effect = forced(&cluster, set, policy(json!({ "lifetimeSMax": 14_400 }))).await;
    assert!(effect.starts_with("will be stopped at ") && !effect.contains("start"), "{effect}");
    // One whose end is nearer than that, by what schedulers know, notices nothing.
    let near = "UPDATE runtime SET ends_at = now() + interval '5 minutes', ends_because = 'MAX_LIFETIME'";
    execute(&cluster, near).await;
    cluster.call(set, policy(json!({ "lifetimeSMax": 7_200 }))).await;
    cluster.call(set, policy(json!({ "lifetimeSMax": 90_000 }))).await;
    let rules = json!({ "lifetimeSMax": 90_000, "idleTimeoutSMax": 1_800 });
    let effect = forced(&cluster, set, policy(rules)).await;
    assert!(effect.starts_with("will be stopped when it was idle for 1800 s, at "), "{effect}");
}

#[tokio::test]
async fn who_waits_for_what_is_not_allowed_any_more_gets_no_place() {
    let (cluster, _) = world().await;
    let set = "PolicyService/SetProjectPolicy";
    cluster.call(set, json!({ "project": "acme", "policy": { "allowRoot": true } })).await;
    started(&cluster, json!({ "root": true })).await;
    execute(&cluster, "UPDATE runtime SET state = 'starting', step = 'queued', running_at = NULL").await;
    let effect = forced(&cluster, set, json!({ "project": "acme", "policy": {} })).await;
    assert_eq!(effect, "waits, and gets no place: the project does not let containers run as root");
}

#[tokio::test]
async fn who_waits_is_told_what_a_change_means_to_who_waits() {
    let (cluster, _) = world().await;
    let (queue, plan) = ("QueueService/SetQueue", "PlanService/SetPlan");
    for name in ["gpu", "other"] {
        cluster.call(queue, json!({ "queue": { "name": name } })).await;
    }
    cluster.call(plan, json!({ "plan": { "name": "research", "queues": ["gpu"] } })).await;
    cluster.call("PlanService/GrantPlan", json!({ "project": "acme", "plan": "research" })).await;
    let set = json!({ "workspace": "lab", "queue": "gpu", "spec": {} });
    cluster.call("RuntimeService/SetRuntimeSpec", set).await;
    cluster.call("RuntimeService/StartRuntime", json!({ "workspace": "lab" })).await;
    let waits = "UPDATE runtime SET state = 'starting', step = 'nominated', running_at = NULL";
    execute(&cluster, waits).await;
    let effect = forced(&cluster, queue, json!({ "queue": { "name": "gpu", "preemptible": true } })).await;
    assert_eq!(effect, "may be stopped for others once it runs");
    let at = |hours: i64| (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(hours)).to_string();
    let window = json!({ "startsAt": at(24), "endsAt": at(48) });
    let closed = json!({ "plan": { "name": "research", "queues": ["gpu"], "windows": [window] } });
    let effect = forced(&cluster, plan, closed).await;
    assert!(effect.starts_with("waits, and gets no place before its window opens at "), "{effect}");
    let elsewhere = json!({ "plan": { "name": "research", "queues": ["other"] } });
    let effect = forced(&cluster, plan, elsewhere.clone()).await;
    assert_eq!(effect, "waits, and gets no place: the plan would not open queue `gpu` any more");
    let kept = "
        INSERT INTO placement (holder, pool, node_id, project_id, queue_id, state, cpu_milli, memory_bytes, effective_milli)
        SELECT holder, pool, '00000000-0000-0000-0000-0000000000aa', project_id, queue_id, 'nominated', 1, 1, 400 FROM runtime";
    execute(&cluster, kept).await;
    let drain = json!({ "node": "node-a", "validateOnly": true });
    let effect = cluster.call("DeviceService/DrainDevices", drain).await["affected"][0]["effect"].clone();
    let told = "waits for a place that is kept for it there, and does not get it before the drain has ended";
    assert_eq!(effect, json!(told));
    execute(&cluster, "UPDATE runtime SET state = 'running', step = 'bound'").await;
    let effect = forced(&cluster, plan, elsewhere).await;
    assert_eq!(effect, "goes on, and cannot start again: the plan would not open queue `gpu` any more");
}

#[tokio::test]
async fn a_group_that_takes_root_back_is_told_who_has_it() {
    let (cluster, _) = world().await;
    cluster.call("GroupService/CreateGroup", json!({ "name": "quants" })).await;
    execute(&cluster, "UPDATE project SET owner_user_id = NULL, owner_group_id = (SELECT id FROM user_group)").await;
    let allow = |allow: bool| json!({ "group": "quants", "allowRoot": allow });
    let set = "PolicyService/SetGroupPolicy";
    cluster.call(set, allow(true)).await;
    let project = json!({ "project": "acme", "policy": { "allowRoot": true } });
    cluster.call("PolicyService/SetProjectPolicy", project).await;
    started(&cluster, json!({})).await;
    cluster.call(set, allow(false)).await;
    cluster.call(set, allow(true)).await;
    cluster.call("RuntimeService/StopRuntime", json!({ "workspace": "lab" })).await;
    started(&cluster, json!({ "root": true })).await;
    let effect = forced(&cluster, set, allow(false)).await;
    assert!(effect.starts_with("goes on, and cannot start again: the group"), "{effect}");
    // The same again is no change.
    cluster.call(set, allow(false)).await;
    // What its project forbids by now is not the group's doing.
    cluster.call(set, allow(true)).await;
    execute(&cluster, "UPDATE project_policy SET allow_root = false").await;
    let answer = cluster.call(set, allow(false)).await;
    assert_eq!((&answer["affected"], &answer["affectedCount"]), (&json!([]), &json!("0")));
}

#[tokio::test]
async fn of_many_that_lose_root_the_first_are_named_and_all_are_counted() {
    const MORE: usize = 1_004;
    let (cluster, _) = world().await;
    cluster.call("GroupService/CreateGroup", json!({ "name": "quants" })).await;
    execute(&cluster, "UPDATE project SET owner_user_id = NULL, owner_group_id = (SELECT id FROM user_group)").await;
    let set = "PolicyService/SetGroupPolicy";
    cluster.call(set, json!({ "group": "quants", "allowRoot": true })).await;
    let project = json!({ "project": "acme", "policy": { "allowRoot": true } });
    cluster.call("PolicyService/SetProjectPolicy", project).await;
    started(&cluster, json!({ "root": true })).await;
    // By their names, as many that are not root come before them.
    let others = |name: &str, root: bool| {
        format!(
            "WITH made AS (INSERT INTO workspace (id, name, project_id)
                 SELECT gen_random_uuid(), '{name}-' || n, p.id FROM generate_series(1, {MORE}) n, project p WHERE p.name = 'acme'
                 RETURNING id)
             INSERT INTO runtime (workspace_id, project_id, pool, queue_id, number, holder, spec_version, spec, state, submitted_at)
             SELECT made.id, r.project_id, r.pool, r.queue_id, 1, gen_random_uuid(), 1,
                    jsonb_set(r.spec, '{{root}}', '{root}'), 'running', now()
               FROM made, runtime r JOIN workspace w ON w.id = r.workspace_id WHERE w.name = 'lab'"
        )
    };
    execute(&cluster, &others("plain", false)).await;
    execute(&cluster, &others("root", true)).await;
    let refused = cluster.post(set, json!({ "group": "quants", "allowRoot": false })).await.json();
    assert_eq!(refused["details"][0]["debug"]["reason"], json!("WOULD_DISTURB"));
    assert!(refused["message"].as_str().unwrap().contains(", and 1000 more"), "{refused}");
    let force = json!({ "group": "quants", "allowRoot": false, "force": true });
    let answer = cluster.call(set, force).await;
    assert_eq!(answer["affectedCount"], json!("1005"));
    let named = answer["affected"].as_array().unwrap();
    assert_eq!((named.len(), &named[0]["workspace"]), (1_000, &json!("lab")));
}

#[tokio::test]
async fn a_workspace_is_put_away_with_its_runtime() {
    let (cluster, ada) = world().await;
    started(&cluster, json!({})).await;
    let archive = "WorkspaceService/ArchiveWorkspace";
    let lab = json!({ "name": "lab" });
    let listed = async || {
        let answer = cluster.call_as(&ada, "RuntimeService/ListRuntimes", json!({})).await;
        answer["runtimes"].as_array().unwrap().len()
    };
    let batch = async |act: &str| {
        let message = json!({ "act": act, "workspaces": ["lab"] });
        let answer = cluster.call_as(&ada, "RuntimeService/BatchChangeRuntimes", message).await;
        let result = &answer["results"][0];
        (result["done"].as_bool().unwrap(), result["reason"].as_str().unwrap_or_default().to_owned())
    };
    let effect = forced(&cluster, archive, lab.clone()).await;
    assert_eq!(effect, "would be stopped, and not start again");
    let state = "SELECT state FROM runtime";
    let client = cluster.database.client().await;
    assert_eq!(client.query_one(state, &[]).await.unwrap().get::<_, String>(0), "stopped");
    assert_eq!(listed().await, 0);
    // What ends by itself disturbs nobody, and what had been left running is seen and stopped.
    execute(&cluster, "UPDATE workspace SET archived_at = NULL; UPDATE runtime SET state = 'stopping'").await;
    cluster.call(archive, lab.clone()).await;
    execute(&cluster, "UPDATE runtime SET state = 'running'").await;
    assert_eq!(listed().await, 1);
    assert_eq!(batch("RUNTIME_ACT_RESTART").await, (false, "ARCHIVED".to_owned()));
    assert_eq!(batch("RUNTIME_ACT_STOP").await, (true, String::new()));
    assert_eq!(
        (client.query_one(state, &[]).await.unwrap().get::<_, String>(0).as_str(), listed().await),
        ("stopped", 0)
    );
    assert_eq!(batch("RUNTIME_ACT_START").await, (false, "ARCHIVED".to_owned()));
    execute(&cluster, "UPDATE runtime SET state = 'error'").await;
    assert_eq!(batch("RUNTIME_ACT_RESET").await, (true, String::new()));
}

#[tokio::test]
async fn a_restart_into_a_queue_of_other_devices_is_refused() {
    let (cluster, ada) = world().await;
    started(&cluster, json!({})).await;
    cluster.call("QueueService/SetQueue", json!({ "queue": { "name": "far", "pool": "elsewhere" } })).await;
    cluster.call("PlanService/SetPlan", json!({ "plan": { "name": "research", "queues": ["far"] } })).await;
    cluster.call("PlanService/GrantPlan", json!({ "project": "acme", "plan": "research" })).await;
    let set = json!({ "workspace": "lab", "queue": "far", "spec": {} });
    cluster.call_as(&ada, "RuntimeService/SetRuntimeSpec", set).await;
    let lab = json!({ "workspace": "lab" });
    assert_eq!(cluster.refused_as(&ada, "RuntimeService/RestartRuntime", lab.clone()).await, "OTHER_POOL");
    assert!(cluster.scheduler.stops.lock().unwrap().is_empty(), "it was not stopped either");
}
