//! Every key of Mage's config, one way or the other.

use super::*;
use serde_json::json;

fn read_json(config: &Value) -> Asked {
    read(&config.to_string())
}

#[test]
fn everything_that_a_block_may_ask_for_is_taken() {
    let asked = read_json(&json!({
        "namespace": "data",
        "service_account_name": "loader",
        "resource_limits": { "cpu": "2", "memory": "4Gi", "nvidia.com/gpu": 2 },
        "resource_requests": { "cpu": 0.5, "memory": "1Gi" },
        "metadata": { "labels": { "cost_centre": "7" }, "annotations": { "team_of": "a" } },
        "container": {
            "name": "mage-job-container", "image": "base/image", "image_pull_policy": "IfNotPresent",
            "env": [{ "name": "A", "value": "1" }],
            "volume_mounts": [{ "name": "cache", "mount_path": "/cache" }],
        },
        "container_config": {
            "image": "own/image",
            "env": [{ "name": "B", "value_from": { "secret_key_ref": { "name": "keys", "key": "b" } } }],
            "envFrom": [{ "configMapRef": { "name": "settings" }, "prefix": "P_" }],
            "resources": { "limits": { "memory": "8Gi" } },
        },
        "pod": {
            "affinity": { "node_affinity": { "required_during_scheduling_ignored_during_execution": { "node_selector_terms": [
                { "match_expressions": [{ "key": "zone", "operator": "In", "values": ["a"] }] }] } } },
            "node_selector": { "node_pool": "big" },
            "scheduler_name": "other",
            "tolerations": [{ "key": "spot", "operator": "Exists", "effect": "NoSchedule" }],
            "volumes": [
                { "name": "cache", "empty_dir": {} },
                { "name": "lake", "persistentVolumeClaim": { "claimName": "lake" } },
            ],
            "image_pull_secrets": ["registry"],
        },
        "job": { "backoff_limit": 0 },
    }));
    assert_eq!(asked.remarks, Vec::<String>::new());
    assert_eq!((asked.namespace.as_deref(), asked.service_account.as_deref()), (Some("data"), Some("loader")));
    assert_eq!(asked.image.as_deref(), Some("own/image"));
    let amounts = |amounts: &Amounts| amounts.iter().map(|(n, q)| format!("{n}={}", q.0)).collect::<Vec<_>>();
    assert_eq!(amounts(&asked.limits), ["cpu=2", "memory=8Gi"]);
    assert_eq!(amounts(&asked.requests), ["cpu=0.5", "memory=1Gi"]);
    assert_eq!(asked.gpus, Some(Gpus { count: 2, ..Gpus::default() }));
    assert_eq!(asked.env.iter().map(|variable| variable.name.as_str()).collect::<Vec<_>>(), ["A", "B"]);
    assert_eq!(asked.env[1].value_from.as_ref().unwrap().secret_key_ref.as_ref().unwrap().name, "keys");
    assert_eq!(asked.env_from[0].config_map_ref.as_ref().unwrap().name, "settings");
    assert_eq!((asked.mounts.len(), asked.volumes.len()), (1, 2));
    assert_eq!((asked.labels["cost_centre"].as_str(), asked.annotations["team_of"].as_str()), ("7", "a"));
    assert_eq!(asked.node_selector["node_pool"], "big");
    assert_eq!(asked.tolerations[0].key.as_deref(), Some("spot"));
    let affinity = serde_json::to_value(asked.affinity).unwrap();
    assert!(affinity.to_string().contains("matchExpressions"), "{affinity}");
    assert_eq!(asked.image_pull_secrets[0].name, "registry");
}

#[test]
fn gpus_are_a_number_or_a_share() {
    let gpus = |config: Value| read_json(&config).gpus;
    assert_eq!(gpus(json!({ "gpus": 2 })), Some(Gpus { count: 2, ..Gpus::default() }));
    let shared = gpus(json!({ "gpus": { "count": 1, "sm": 40, "memory": "16Gi", "class": "hami" } })).unwrap();
    assert_eq!((shared.count, shared.sm, shared.class.as_str()), (1, 40, "hami"));
    assert_eq!(gpus(json!({ "gpus": 0, "resource_limits": { "nvidia.com/gpu": 1 } })), None);
    for wrong in [json!({ "count": 1, "sm": 400 }), json!(33), json!(-1), json!({ "cuont": 1 })] {
        let asked = read_json(&json!({ "gpus": wrong }));
        assert_eq!((asked.gpus, asked.remarks.len()), (None, 1), "{wrong}");
    }
}

#[test]
fn whatever_would_break_out_is_refused_and_told() {
    for (config, what) in [
        (
            json!({ "container_config": { "security_context": { "privileged": true } } }),
            "container_config.security_context",
        ),
        (json!({ "container_config": { "command": ["sh"] } }), "container_config.command"),
        (json!({ "pod": { "host_network": true } }), "pod.host_network"),
        (json!({ "pod": { "hostPID": true } }), "pod.hostPID"),
        (json!({ "pod": { "automount_service_account_token": true } }), "pod.automount_service_account_token"),
        (json!({ "pod": { "volumes": [{ "name": "root", "host_path": { "path": "/" } }] } }), "pod.volumes root"),
        (
            json!({ "pod": { "volumes": [{ "name": "id", "projected": { "sources": [
                { "serviceAccountToken": { "path": "token" } }] } }] } }),
            "pod.volumes id",
        ),
        (json!({ "container_config": { "env": [{ "name": "ORRERY_EXECUTOR_SLOTS", "value": "9" }] } }), "env ORRERY_"),
        (json!({ "container_config": { "env": [{ "name": "A", "valeu": "9" }] } }), "env[0].valeu"),
        (json!({ "job": { "backoff_limit": 3 } }), "job.backoff_limit"),
        (json!({ "job": { "active_deadline_seconds": -1 } }), "job.active_deadline_seconds"),
        (json!({ "job": { "ttl_seconds_after_finished": 60 } }), "job.ttl_seconds_after_finished"),
        (json!({ "metadata": { "labels": { "orrery.dev/executor": "x" } } }), "metadata.labels.orrery.dev/executor"),
        (
            json!({ "metadata": { "annotations": { "cdi.k8s.io/gpu": "nvidia.com/gpu=all" } } }),
            "annotations.cdi.k8s.io",
        ),
        (
            json!({ "metadata": { "annotations": { "io.kubernetes.cri-o.Devices": "/dev/sda" } } }),
            "io.kubernetes.cri-o",
        ),
        (json!({ "job_name_prefix": "mine" }), "job_name_prefix"),
        (json!({ "config_file": "gone.yaml" }), "config_file"),
        (json!({ "resource_limit": {} }), "resource_limit"),
        (json!({ "pod": { "tolerations": "all" } }), "pod.tolerations"),
        (json!(["a"]), "executor_config"),
    ] {
        let asked = read_json(&config);
        assert!(asked.remarks.iter().any(|remark| remark.contains(what)), "{config}: {:?}", asked.remarks);
        let taken = (asked.volumes.len(), asked.labels.len(), asked.annotations.len());
        assert_eq!(taken, (0, 0, 0), "{config}");
    }
    let mounts = read_json(&json!({
        "pod": { "volumes": [{ "name": "a", "emptyDir": {} }] },
        "container_config": { "volume_mounts": [
            { "name": "a", "mountPath": "/a" },
            { "name": "a", "mountPath": "/var/run/orrery/secret" },
            { "name": "a", "mountPath": "/var" },
            { "name": "gone", "mountPath": "/b" },
        ] },
    }));
    assert_eq!((mounts.mounts.len(), mounts.remarks.len()), (1, 3), "{:?}", mounts.remarks);
}

#[test]
fn amounts_that_kubernetes_would_not_read_are_told_of_with_what_would_be_right() {
    let asked = read_json(&json!({
        "resource_requests": { "memory": "512MiB", "cpu": "two" },
        "resource_limits": { "memory": "1e3Mi", "cpu": [1], "ephemeral-storage": "1e9" },
        "gpus": { "count": 1, "memory": "8GiB" },
    }));
    assert!(asked.requests.is_empty() && asked.limits.len() == 1, "{:?} {:?}", asked.requests, asked.limits);
    assert_eq!(asked.gpus, Some(Gpus { count: 1, ..Gpus::default() }));
    let told = asked.remarks.join("\n");
    for words in
        ["`resource_requests.memory` is `512MiB`", "write 512Mi", "`two`", "`1e3Mi`", "`gpus.memory`", "write 8Gi"]
    {
        assert!(told.contains(words), "{words} in {told}");
    }
    assert_eq!(asked.remarks.len(), 5);
}

#[test]
fn what_keeps_a_block_within_its_share_is_not_for_its_project_to_set() {
    let variable = |name: &str| json!({ "name": name, "value": "0" });
    let env = ["CUDA_DEVICE_SM_LIMIT_0", "NVIDIA_VISIBLE_DEVICES", "LD_PRELOAD", "CUDA_LAUNCH_BLOCKING"].map(variable);
    let asked = read_json(&json!({ "container_config": { "env": env } }));
    assert_eq!(asked.env.iter().map(|variable| variable.name.as_str()).collect::<Vec<_>>(), ["CUDA_LAUNCH_BLOCKING"]);
    assert_eq!(asked.remarks.len(), 3);
}
