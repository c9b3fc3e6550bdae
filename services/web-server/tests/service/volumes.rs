//! Volumes: within the quota whoever comes at once, never smaller, and not taken away from those who use them.

use crate::cluster::Cluster;
use serde_json::{Value, json};

const GIB: i64 = 1 << 30;

/// A cluster with the project `acme` whose storage is limited, and one who works in it.
async fn world(storage_bytes: i64) -> (Cluster, String) {
    let classes = ["slow", "default=fast", "elsewhere=other"].map(str::to_owned);
    let cluster = Cluster::with(|settings| settings.storage_classes = classes.into()).await;
    let ada = cluster.person("ada@example.org", "ROLE_UNSPECIFIED").await;
    cluster.call("ProjectService/CreateProject", json!({ "name": "acme" })).await;
    let member = json!({ "email": "ada@example.org", "role": "ROLE_EDITOR" });
    cluster.call("ProjectService/SetProjectMember", json!({ "project": "acme", "member": member })).await;
    let policy = json!({ "storageBytes": storage_bytes });
    cluster.call("PolicyService/SetProjectPolicy", json!({ "project": "acme", "policy": policy })).await;
    (cluster, ada)
}

fn volume(name: &str, size_bytes: i64) -> Value {
    json!({ "project": "acme", "name": name, "sizeBytes": size_bytes })
}

fn of_class(name: &str, class: &str) -> Value {
    json!({ "project": "acme", "name": name, "sizeBytes": GIB, "storageClass": class })
}

async fn list(cluster: &Cluster) -> Vec<Value> {
    let answer = cluster.call("VolumeService/ListVolumes", json!({ "project": "acme" })).await;
    answer["volumes"].as_array().cloned().unwrap_or_default()
}

/// The sentence of a refusal.
async fn words(cluster: &Cluster, method: &str, message: Value) -> String {
    let answer = cluster.post(method, message).await;
    answer.json()["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_volume_from_its_creation_to_its_end() {
    let (cluster, ada) = world(4 * GIB).await;
    let (create, grow, delete) =
        ("VolumeService/CreateVolume", "VolumeService/GrowVolume", "VolumeService/DeleteVolume");
    let keyed = json!({ "project": "acme", "name": "data", "sizeBytes": GIB, "idempotencyKey": "k" });
    let made = cluster.call_as(&ada, create, keyed.clone()).await["volume"].clone();
    assert_eq!((&made["state"], &made["pool"]), (&json!("VOLUME_STATE_WAITING"), &json!("default")));
    assert_eq!((&made["sizeBytes"], &made["createdBy"]), (&json!(GIB.to_string()), &json!("ada@example.org")));
    assert_eq!(cluster.call_as(&ada, create, keyed).await["volume"], made, "the same key, the same answer");
    for (message, refusal) in [
        (volume("data", GIB), "VOLUME_EXISTS"),
        (volume("Data", GIB), "INVALID_FIELD"),
        (volume("tiny", 1), "INVALID_FIELD"),
        (volume("large", 4 * GIB), "QUOTA_EXCEEDED"),
        (json!({ "project": "acme", "name": "far", "sizeBytes": GIB, "pool": "nowhere" }), "POOL_NOT_FOUND"),
        (of_class("fast2", "other"), "STORAGE_CLASS_NOT_ALLOWED"),
    ] {
        assert_eq!(cluster.refused_as(&ada, create, message.clone()).await, refusal, "{message}");
    }
    let words = words(&cluster, create, volume("large", 4 * GIB)).await;
    for word in ["4096 MiB of storage", "1024 MiB of it in volumes", "--storage"] {
        assert!(words.contains(word), "{word}: {words}");
    }

    assert_eq!(cluster.refused_as(&ada, grow, volume("data", GIB / 2)).await, "VOLUME_SMALLER");
    assert_eq!(cluster.refused_as(&ada, grow, volume("data", 5 * GIB)).await, "QUOTA_EXCEEDED");
    assert_eq!(cluster.refused_as(&ada, grow, volume("other", GIB)).await, "VOLUME_NOT_FOUND");
    cluster.call_as(&ada, grow, volume("data", 4 * GIB)).await;
    cluster.call_as(&ada, grow, volume("data", 4 * GIB)).await;
    let policy = cluster.call("PolicyService/GetProjectPolicy", json!({ "project": "acme" })).await;
    let whole = json!((4 * GIB).to_string());
    assert_eq!((&policy["usage"]["storageBytes"], &policy["usage"]["volumeBytes"]), (&whole, &whole));

    // A runtime that mounts it.
    cluster.call_as(&ada, "WorkspaceService/CreateWorkspace", json!({ "name": "lab", "project": "acme" })).await;
    let spec = json!({ "mounts": [{ "volume": "data", "path": "/data", "readOnly": true }] });
    cluster.call_as(&ada, "RuntimeService/SetRuntimeSpec", json!({ "workspace": "lab", "spec": spec })).await;
    cluster.call_as(&ada, "RuntimeService/StartRuntime", json!({ "workspace": "lab" })).await;
    let client = cluster.database.client().await;
    // As schedulers write it.
    let found = "UPDATE runtime SET spec = jsonb_set(spec, '{mounts,0,id}', (SELECT to_jsonb(id) FROM volume))";
    client.execute(found, &[]).await.unwrap();
    let said =
        "INSERT INTO volume_state (volume_id, state, size_bytes, message) SELECT id, 'failed', 5, 'no' FROM volume";
    client.execute(said, &[]).await.unwrap();
    let shown = list(&cluster).await[0].clone();
    assert_eq!((&shown["uses"][0]["workspace"], &shown["uses"][0]["readOnly"]), (&json!("lab"), &json!(true)));
    assert!(shown["uses"][0]["since"].is_string(), "{shown}");
    assert_eq!((&shown["state"], &shown["message"]), (&json!("VOLUME_STATE_FAILED"), &json!("no")));
    assert_eq!(shown["capacityBytes"], "5");

    let got = cluster.call_as(&ada, "RuntimeService/GetRuntime", json!({ "workspace": "lab" })).await;
    assert_ne!(got["runtime"]["specChanged"], true, "what its begin found is no change of what was saved: {got}");

    let data = json!({ "project": "acme", "name": "data" });
    assert_eq!(cluster.refused_as(&ada, delete, data.clone()).await, "PERMISSION_DENIED");
    assert_eq!(cluster.refused(delete, data.clone()).await.1, "VOLUME_IN_USE");
    assert!(self::words(&cluster, delete, data.clone()).await.contains("`lab`"));
    cluster.call_as(&ada, "RuntimeService/StopRuntime", json!({ "workspace": "lab" })).await;
    cluster.call(delete, data.clone()).await;
    assert_eq!(cluster.refused(delete, data).await.1, "VOLUME_NOT_FOUND");
    assert_eq!(list(&cluster).await[0]["state"], "VOLUME_STATE_DELETING");
    assert_eq!(cluster.refused_as(&ada, create, volume("data", GIB)).await, "QUOTA_EXCEEDED", "its files are there");
    client.execute("UPDATE volume_state SET state = 'gone'", &[]).await.unwrap();
    assert!(list(&cluster).await.is_empty());
    cluster.call_as(&ada, create, volume("data", GIB)).await;

    // Those that are gone are remembered for a month, and only so many.
    let old = "WITH old AS (INSERT INTO volume (id, project_id, name, pool, size_bytes, deleted_at)
                            SELECT gen_random_uuid(), p.id, 'old-' || n, 'default', 1, now()
                              FROM project p, generate_series(1, 500) n WHERE p.name = 'acme' RETURNING id)
               INSERT INTO volume_state (volume_id, state) SELECT id, 'gone' FROM old";
    client.execute(old, &[]).await.unwrap();
    assert_eq!(cluster.refused_as(&ada, create, volume("more", GIB)).await, "TOO_MANY_VOLUMES");
    client.execute("UPDATE volume SET deleted_at = deleted_at - interval '31 days'", &[]).await.unwrap();
    cluster.call_as(&ada, create, volume("more", GIB)).await;

    let trail = "SELECT count(*) FROM audit_entry WHERE method LIKE '%VolumeService/%'";
    let told: i64 = client.query_one(trail, &[]).await.unwrap().get(0);
    assert!(told > 10, "refusals leave entries too: {told}");
}

#[tokio::test]
async fn a_class_is_chosen_once_from_those_that_are_listed() {
    let (mut cluster, ada) = world(9 * GIB).await;
    let create = "VolumeService/CreateVolume";
    let refused = words(&cluster, create, of_class("data", "other")).await;
    assert!(refused.contains("`other` is no storage class") && refused.contains("`fast`, `slow`"), "{refused}");
    let keyed =
        json!({ "project": "acme", "name": "data", "sizeBytes": GIB, "storageClass": "fast", "idempotencyKey": "k" });
    let made = cluster.call_as(&ada, create, keyed.clone()).await["volume"].clone();
    assert_eq!(made["storageClass"], "fast");
    cluster.call_as(&ada, create, volume("plain", GIB)).await;
    let other = cluster.refused_as(&ada, create, of_class("data", "slow")).await;
    assert_eq!(other, "VOLUME_EXISTS", "nothing gives it another class");
    let grown = cluster.call_as(&ada, "VolumeService/GrowVolume", volume("data", 2 * GIB)).await;
    assert_eq!(grown["volume"]["storageClass"], "fast");

    // Where none is listed any more, those that are there stay what they are.
    cluster.restart(|settings| settings.storage_classes.clear()).await;
    assert_eq!(cluster.refused_as(&ada, create, of_class("more", "fast")).await, "STORAGE_CLASS_NOT_ALLOWED");
    assert_eq!(cluster.call_as(&ada, create, keyed).await["volume"], made, "the same key, the same answer");
    let shown: Vec<_> = list(&cluster).await.iter().map(|one| one["storageClass"].clone()).collect();
    assert_eq!(shown, [json!("fast"), json!("")]);
    let client = cluster.database.client().await;
    let told =
        "SELECT detail FROM audit_entry WHERE method = 'VolumeService/CreateVolume' AND outcome = 'ok' ORDER BY id";
    let detail: Value = client.query(told, &[]).await.unwrap()[0].get(0);
    assert_eq!(detail["storage_class"], "fast", "{detail}");
}

#[tokio::test]
async fn however_many_come_at_once_the_quota_holds() {
    let (cluster, ada) = world(5 * GIB).await;
    let names: Vec<String> = (0..16).map(|n| format!("v{n}")).collect();
    let creates = names.iter().map(|name| cluster.post_as(&ada, "VolumeService/CreateVolume", volume(name, GIB)));
    let answers = futures_util::future::join_all(creates).await;
    let made = answers.iter().filter(|answer| answer.status.is_success()).count();
    assert_eq!((made, list(&cluster).await.len()), (5, 5));
    let policy = json!({ "storageBytes": 7 * GIB });
    cluster.call("PolicyService/SetProjectPolicy", json!({ "project": "acme", "policy": policy })).await;
    // Those that are there grow at once, each by one: there is room for two.
    let there: Vec<String> = list(&cluster).await.iter().map(|v| v["name"].as_str().unwrap().to_owned()).collect();
    let grows = there.iter().map(|name| cluster.post_as(&ada, "VolumeService/GrowVolume", volume(name, 2 * GIB)));
    let answers = futures_util::future::join_all(grows).await;
    assert_eq!(answers.iter().filter(|answer| answer.status.is_success()).count(), 2);
}

#[tokio::test]
async fn a_forecast_keeps_to_the_node_where_others_mount_its_volume() {
    let (cluster, ada) = world(9 * GIB).await;
    cluster.call_as(&ada, "VolumeService/CreateVolume", volume("data", GIB)).await;
    let spec = json!({ "mounts": [{ "volume": "data", "path": "/data" }] });
    for name in ["lab", "pit"] {
        cluster.call_as(&ada, "WorkspaceService/CreateWorkspace", json!({ "name": name, "project": "acme" })).await;
        cluster.call_as(&ada, "RuntimeService/SetRuntimeSpec", json!({ "workspace": name, "spec": spec })).await;
    }
    cluster.call_as(&ada, "RuntimeService/StartRuntime", json!({ "workspace": "lab" })).await;
    // As schedulers write it.
    let placed = "UPDATE runtime SET spec = jsonb_set(spec, '{mounts,0,id}', (SELECT to_jsonb(id) FROM volume));
        INSERT INTO placement (holder, pool, node_id, project_id, queue_id, state, cpu_milli, memory_bytes, effective_milli)
        SELECT holder, pool, '00000000-0000-0000-0000-0000000000aa', project_id, queue_id, 'held', 1, 1, 0 FROM runtime";
    let client = cluster.database.client().await;
    client.batch_execute(placed).await.unwrap();
    let forecast = async |message: Value| {
        cluster.call_as(&ada, "RuntimeService/PlanRuntime", message).await["forecasts"][0].clone()
    };
    let pit = json!({ "workspace": "pit" });
    assert_eq!(forecast(pit.clone()).await["fits"], true, "there is room where it is mounted");
    let moved = "SET session_replication_role = replica;
                 UPDATE placement SET node_id = '00000000-0000-0000-0000-0000000000bb';
                 SET session_replication_role = origin";
    client.batch_execute(moved).await.unwrap();
    let waits = forecast(pit).await;
    let message = waits["message"].as_str().unwrap();
    assert!(message.starts_with("every place is taken; ") && message.contains("(`data`)"), "{waits}");
    assert_eq!(forecast(json!({ "workspace": "pit", "without": ["lab"] })).await["fits"], true);
    assert_eq!(forecast(json!({ "workspace": "lab" })).await["fits"], true, "what is its own keeps it from nowhere");
}
