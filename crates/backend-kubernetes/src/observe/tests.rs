//! What is told of pods and claims, by their statuses alone.

use super::*;
use serde_json::{Value, json};

fn life(command: &[&str]) -> Life {
    let id = "00000000-0000-4000-8000-000000000001";
    let ask = json!({ "gpus": 0, "gpu_milli": 0, "gpu_memory_bytes": null, "models": [], "models_ordered": false,
                      "link": "any", "cpu_milli": 100, "memory_bytes": 1 });
    let spec = json!({ "app": { "custom": { "port": 8000, "command": command } }, "ask": ask,
                       "post_start": { "script": "true" } });
    let life = json!({
        "holder": id, "workspace_id": id, "workspace": "lab", "project": "p", "queue": "default", "queue_priority": 0,
        "preemptible": false, "number": 1, "node": "n", "grants": [], "spec": spec, "access_key": "", "base_path": "/",
    });
    serde_json::from_value(life).unwrap()
}

fn seen(life: &Life, phase: &str, ready: bool, script: &Value, app: &Value) -> Seen {
    let container = |name: &str, state: &Value| {
        let mut container = json!({ "name": name, "image": "", "imageID": "", "restartCount": 0, "ready": ready });
        container["state"] = state.clone();
        container
    };
    let ready = if ready { "True" } else { "False" };
    let conditions = json!([{ "type": "PodScheduled", "status": "True" }, { "type": "Ready", "status": ready }]);
    let status = json!({ "phase": phase, "podIP": "10.0.0.1", "conditions": conditions,
                         "initContainerStatuses": [container(pre_start::NAME, script)],
                         "containerStatuses": [container("app", app)] });
    let pod: Pod = serde_json::from_value(json!({ "metadata": {}, "status": status })).unwrap();
    observe(life, &Objects { pod: Some(&pod), ..Objects::default() }, Timestamp::UNIX_EPOCH)
}

#[test]
fn a_script_that_ended_badly_is_told_and_not_what_never_ran_after_it() {
    let life = life(&["app"]);
    let waits = json!({ "waiting": { "reason": "PodInitializing" } });
    for (ended, code, words) in [
        (json!({ "exitCode": 3, "reason": "Error", "message": "not `A`\n" }), "PRE_START_REFUSED", "not `A`"),
        (
            json!({ "exitCode": 2, "reason": "Error", "message": "it took longer than 20 s" }),
            "PRE_START_FAILED",
            "the pre-start script failed: it took longer than 20 s",
        ),
        (
            json!({ "exitCode": 2, "reason": "Error", "message": "Traceback:\nno idea\nit ended with code 1" }),
            "PRE_START_FAILED",
            "the pre-start script failed: it ended with code 1; its last line: no idea\nthe end of its output:",
        ),
        (json!({ "exitCode": 137, "reason": "OOMKilled" }), "PRE_START_FAILED", "more memory"),
        (json!({ "exitCode": 128, "reason": "StartError", "message": "no python3" }), "PRE_START_FAILED", "no python3"),
        (json!({ "exitCode": 137, "reason": "Error" }), "PRE_START_FAILED", "code 137"),
    ] {
        let seen = seen(&life, "Failed", false, &json!({ "terminated": ended }), &waits);
        assert_eq!((seen.phase, seen.code.as_str()), (RuntimePhase::Failed, code), "{seen:?}");
        assert!(seen.message.contains(words), "{seen:?}");
    }
    let done = json!({ "terminated": { "exitCode": 0 } });
    let ended = json!({ "terminated": { "exitCode": 1, "message": "mine" } });
    let app = seen(&life, "Failed", false, &done, &ended);
    assert_eq!((app.code.as_str(), app.message.as_str()), ("APP_FAILED", "ended with code 1: mine"));
}

#[test]
fn what_somebody_else_ends_is_not_the_applications_fault() {
    let taken = |phase: &str, code: i32, ended_s: i64, condition: &Value| {
        let at = |second: i64| Timestamp::from_second(1_000_000 + second).unwrap().to_string();
        let ended = json!({ "exitCode": code, "finishedAt": at(ended_s) });
        let status = json!({ "phase": phase, "conditions": [condition], "containerStatuses": [
            { "name": "app", "image": "", "imageID": "", "restartCount": 0, "ready": false,
              "state": { "terminated": ended } }] });
        // Asked at 100, to be gone at 130.
        let metadata = json!({ "deletionTimestamp": at(130), "deletionGracePeriodSeconds": 30 });
        let pod: Pod = serde_json::from_value(json!({ "metadata": metadata, "status": status })).unwrap();
        let seen = observe(&life(&["app"]), &Objects { pod: Some(&pod), ..Objects::default() }, Timestamp::UNIX_EPOCH);
        assert_eq!(seen.phase, RuntimePhase::Failed, "{seen:?}");
        (seen.code, seen.message)
    };
    let told = |code: &str, message: &str| (code.to_owned(), message.to_owned());
    let none = json!({ "type": "Ready", "status": "False" });
    assert_eq!(taken("Failed", 143, 101, &none), told("POD_LOST", TAKEN));
    assert_eq!(taken("Succeeded", 0, 101, &none), told("POD_LOST", TAKEN));
    assert_eq!(taken("Running", 143, 101, &none), told("POD_LOST", TAKEN));
    assert_eq!(taken("Failed", 3, 99, &none), told("APP_FAILED", "ended with code 3: "));
    assert_eq!(taken("Succeeded", 0, 99, &none).0, "EXITED");
    let disrupted = |reason: &str, message: &str| {
        json!({ "type": "DisruptionTarget", "status": "True",
        "reason": reason, "message": message })
    };
    for (reason, words) in [
        ("EvictionByEvictionAPI", "somebody evicted it: m"),
        ("TerminationByKubelet", "ran short of something, or goes down: m"),
        ("PreemptionByScheduler", "for another pod: m"),
    ] {
        let (code, message) = taken("Failed", 143, 101, &disrupted(reason, "m"));
        assert!(code == "EVICTED" && message.ends_with(words), "{code} {message}");
    }
    assert_eq!(taken("Running", 143, 101, &disrupted("DeletionByTaintManager", "m")), told("NODE_LOST", "m"));
    assert_eq!(taken("Failed", 143, 101, &disrupted("Else", "")), told("POD_LOST", "Else"));
}

#[test]
fn who_fills_more_disk_than_it_may_is_told_so_and_others_that_their_node_evicted_them() {
    for (message, code) in [
        ("Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ", codes::OUT_OF_STORAGE),
        ("Container app exceeded its local ephemeral storage limit \"1Gi\". ", codes::OUT_OF_STORAGE),
        ("The node had condition: [DiskPressure]. ", codes::EVICTED),
    ] {
        let ended = json!({ "name": "app", "image": "", "imageID": "", "restartCount": 0, "ready": false,
                            "state": { "terminated": { "exitCode": 137 } } });
        for containers in [json!([]), json!([ended])] {
            let status = json!({ "phase": "Failed", "reason": "Evicted", "message": message,
                                 "containerStatuses": containers });
            let pod: Pod = serde_json::from_value(json!({ "metadata": {}, "status": status })).unwrap();
            let objects = Objects { pod: Some(&pod), ..Objects::default() };
            let seen = observe(&life(&["app"]), &objects, Timestamp::UNIX_EPOCH);
            assert_eq!((seen.phase, seen.code.as_str()), (RuntimePhase::Failed, code), "{seen:?}");
            assert!(seen.message.ends_with(message.trim()), "{seen:?}");
        }
    }
}

#[test]
fn a_pod_that_its_node_turns_away_is_placed_again() {
    for (reason, code) in [
        ("OutOfcpu", codes::NODE_FULL),
        ("OutOfpods", codes::NODE_FULL),
        ("TaintToleration", codes::NODE_TAINTED),
        ("UnexpectedAdmissionError", codes::UNSCHEDULABLE),
    ] {
        let status = json!({ "phase": "Failed", "reason": reason, "message": "Pod was rejected: no room" });
        let pod: Pod = serde_json::from_value(json!({ "metadata": {}, "status": status })).unwrap();
        let objects = Objects { pod: Some(&pod), ..Objects::default() };
        let seen = observe(&life(&["app"]), &objects, Timestamp::UNIX_EPOCH);
        assert_eq!((seen.phase, seen.code.as_str()), (RuntimePhase::Misplaced, code), "{seen:?}");
        assert_eq!(seen.message, format!("{reason}: Pod was rejected: no room"));
    }
}

#[test]
fn a_device_that_is_not_published_for_a_while_takes_no_life_along() {
    let mut life = life(&["app"]);
    let gpu = |n| format!("d/p/gpu-{n}");
    let grant = |n| Grant { device: gpu(n), milli: 400, memory_bytes: 1, profile: String::new(), slots: 0 };
    life.grants = vec![grant(0), grant(1)];
    let status = json!({ "phase": "Running", "podIP": "10.0.0.1", "conditions": [
        { "type": "PodScheduled", "status": "True" }, { "type": "Ready", "status": "True" }],
        "containerStatuses": [{ "name": "app", "image": "", "imageID": "", "restartCount": 0, "ready": true,
                                "state": { "running": {} } }] });
    let pod: Pod = serde_json::from_value(json!({ "metadata": {}, "status": status })).unwrap();
    let claim = json!({ "metadata": {}, "spec": {}, "status": { "allocation": {} } });
    let claim: ResourceClaim = serde_json::from_value(claim).unwrap();
    let used = |n| Use { chip: gpu(n), milli: 400, memory_bytes: 1, profile: String::new(), slots: 0 };
    for (uses, missing, phase, code) in [
        (vec![0, 1], vec![], RuntimePhase::Ready, ""),
        (vec![0], vec![1], RuntimePhase::Ready, codes::DEVICE_MISSING),
        (vec![], vec![0, 1], RuntimePhase::Ready, codes::DEVICE_MISSING),
        (vec![0, 2], vec![1], RuntimePhase::Misplaced, codes::PLACEMENT_CONFLICT),
        (vec![0], vec![], RuntimePhase::Misplaced, codes::PLACEMENT_CONFLICT),
    ] {
        let (uses, missing) = (uses.into_iter().map(used).collect(), missing.into_iter().map(gpu).collect());
        let objects = Objects { claim: Some(&claim), uses, missing, pod: Some(&pod), ..Objects::default() };
        let seen = observe(&life, &objects, Timestamp::UNIX_EPOCH);
        assert_eq!((seen.phase, seen.code.as_str()), (phase, code), "{objects:?}");
    }
}

#[test]
fn what_keeps_a_script_from_beginning_is_told() {
    let life = life(&["app"]);
    let waits = json!({ "waiting": { "reason": "PodInitializing" } });
    let pulls = json!({ "waiting": { "reason": "ImagePullBackOff", "message": "not found" } });
    let told = seen(&life, "Pending", false, &pulls, &waits);
    assert_eq!((told.phase, told.code.as_str()), (RuntimePhase::Pulling, codes::IMAGE_PULL_FAILED), "{told:?}");
    let runs = seen(&life, "Pending", false, &json!({ "running": {} }), &waits);
    assert_eq!((runs.phase, runs.code.as_str()), (RuntimePhase::Pulling, ""), "{runs:?}");
    let after = seen(&life, "Pending", false, &json!({ "terminated": { "exitCode": 0 } }), &pulls);
    assert_eq!(after.code, codes::IMAGE_PULL_FAILED);
}

#[test]
fn what_was_not_run_after_the_start_is_a_warning() {
    let (done, runs) = (json!({ "terminated": { "exitCode": 0 } }), json!({ "running": {} }));
    for (command, code) in [(&["app"][..], ""), (&[], codes::POST_START_FAILED)] {
        let seen = seen(&life(command), "Running", true, &done, &runs);
        assert_eq!(
            (seen.phase, seen.code.as_str(), seen.endpoint.as_str()),
            (RuntimePhase::Ready, code, "10.0.0.1:8000")
        );
    }
}
