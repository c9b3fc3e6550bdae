//! What nobody can have of devices: what strangers hold of them, and why their nodes take nobody.

use crate::{cluster::Cluster, runtimes::world};
use serde_json::{Value, json};

/// Of each device: code, condition, held, of strangers, free.
async fn devices(cluster: &Cluster) -> Vec<Value> {
    let answer = cluster.call("DeviceService/ListDevices", json!({})).await;
    let of = |device: &Value| {
        json!(["code", "condition", "heldMilli", "foreignMilli", "freeMilli"].map(|field| device[field].clone()))
    };
    answer["devices"].as_array().unwrap().iter().map(of).collect()
}

#[tokio::test]
async fn devices_say_what_strangers_hold_and_why_nobody_comes() {
    let (cluster, _) = world().await;
    let more = r#"
        UPDATE device SET used_milli = 400 WHERE name = 'gpu-0';
        INSERT INTO node (id, pool, name, cpu_milli, memory_bytes, state)
        VALUES ('00000000-0000-0000-0000-0000000000ab', 'default', 'spot', 16000, 68719476736, 'unschedulable');
        INSERT INTO device (id, node_id, name, class, model, memory_bytes, sharing)
        VALUES ('00000000-0000-0000-0000-0000000000d3', '00000000-0000-0000-0000-0000000000ab', 'gpu-1', 'whole', 'T4',
                17179869184, '"exclusive"')"#;
    cluster.database.client().await.batch_execute(more).await.unwrap();
    let spot = json!(["NODE_TAINTED", "its node: spot (NoSchedule)", 0, 0, 0]);
    assert_eq!(devices(&cluster).await, [json!(["", "", 400, 300, 300]), json!(["", "", 0, 0, 1000]), spot.clone()]);
    cluster.call("DeviceService/DrainDevices", json!({ "node": "node-a", "device": "gpu-1", "reason": "fan" })).await;
    let drained = json!(["DEVICE_DRAINED", "an administrator drained it: fan", 0, 0, 0]);
    assert_eq!(devices(&cluster).await, [json!(["", "", 400, 300, 300]), drained, spot]);

    let nodes = cluster.call("DeviceService/ListNodes", json!({})).await;
    let (first, second) = (&nodes["nodes"][0], &nodes["nodes"][1]);
    assert_eq!((&first["gpuForeignMilli"], &first["cpuForeignMilli"]), (&json!("300"), &json!("500")), "{nodes}");
    assert_eq!((&first["code"], &second["code"]), (&json!(""), &json!("NODE_TAINTED")), "{nodes}");
}

#[tokio::test]
async fn only_administrators_are_told_who_strangers_are() {
    let (cluster, _) = world().await;
    let eve = cluster.person("eve@example.org", "ROLE_VIEWER").await;
    let list = "DeviceService/ListDevices";
    let told = cluster.call(list, json!({})).await["devices"][0].clone();
    let holder = &told["holders"][0];
    assert_eq!((&holder["stranger"], &holder["state"]), (&json!("others/train"), &json!("foreign")), "{told}");
    let told = cluster.call_as(&eve, list, json!({})).await;
    assert_eq!(told["devices"][0]["foreignMilli"], 300, "{told}");
    assert!(!told.to_string().contains("others/train"), "{told}");
}
