//! What is there, and how the attempt's container does.

use super::*;
use serde_json::{Value, json};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn pod(status: Value) -> Arc<Pod> {
    let metadata = json!({ "uid": "p", "creationTimestamp": at(0).to_string() });
    Arc::new(serde_json::from_value(json!({ "metadata": metadata, "status": status })).unwrap())
}

fn job(status: Value) -> Job {
    let metadata = json!({ "uid": "j", "creationTimestamp": at(0).to_string() });
    serde_json::from_value(json!({ "metadata": metadata, "status": status })).unwrap()
}

fn scheduled() -> Value {
    json!([{ "type": "PodScheduled", "status": "True", "lastTransitionTime": at(0).to_string() }])
}

fn seen(status: Value, second: i64) -> Phase {
    phase(Some(&job(json!({}))), &[pod(status)], &[], at(second))
}

fn waiting(reason: &str) -> Phase {
    Phase::Waiting { reason: reason.to_owned() }
}

#[test]
fn a_container_that_waits_says_why_and_is_given_up_when_it_cannot_start() {
    let said = json!([{ "type": "PodScheduled", "status": "False", "message": "0/5 nodes are available: 5 Insufficient cpu." }]);
    let full = "NODE_FULL: 0/5 nodes are available: 5 Insufficient cpu";
    assert_eq!(seen(json!({ "phase": "Pending", "conditions": said }), 900), waiting(full), "a node may come yet");
    let pull = json!({ "phase": "Pending", "conditions": scheduled(), "containerStatuses": [{
        "name": "attempt", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "waiting": { "reason": "ImagePullBackOff", "message": "no such image" } } }] });
    assert_eq!(seen(pull.clone(), 10), waiting("IMAGE_PULL_FAILED: no such image"));
    let reason = "IMAGE_PULL_FAILED: no such image".to_owned();
    assert_eq!(seen(pull, 121), Phase::Ended(Ended::Unstartable { reason }));
    assert_eq!(phase(Some(&job(json!({}))), &[], &[], at(1)), waiting(""));
}

#[test]
fn every_end_has_its_reason() {
    let ended = |terminated: Value, more: Value| {
        let mut status = json!({ "phase": "Failed", "containerStatuses": [{ "name": "attempt", "image": "", "imageID": "",
            "ready": false, "restartCount": 0, "state": { "terminated": terminated } }] });
        status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        match seen(status, 5) {
            Phase::Ended(ended) => ended,
            other => panic!("{other:?} is no end"),
        }
    };
    assert_eq!(ended(json!({ "exitCode": 137, "reason": "OOMKilled" }), json!({})), Ended::OutOfMemory);
    let output = "no such file".to_owned();
    assert_eq!(
        ended(json!({ "exitCode": 127, "message": "no such file\n" }), json!({})),
        Ended::Exited { code: 127, output }
    );
    let disrupted = |reason: &str| json!({ "conditions": [{ "type": "DisruptionTarget", "status": "True", "reason": reason, "message": "m" }] });
    let reason = || "m".to_owned();
    assert_eq!(
        ended(json!({ "exitCode": 1 }), disrupted("EvictionByEvictionAPI")),
        Ended::Evicted { reason: reason() }
    );
    assert_eq!(ended(json!({ "exitCode": 1 }), disrupted("DeletionByTaintManager")), Ended::Lost { reason: reason() });
    let evicted = json!({ "reason": "Evicted", "message": "m" });
    assert_eq!(ended(json!({ "exitCode": 1 }), evicted), Ended::Evicted { reason: reason() });
}

#[test]
fn nothing_has_ended_while_a_pod_lives_and_a_lost_node_is_not_awaited() {
    let running = json!({ "phase": "Running", "containerStatuses": [{ "name": "attempt", "image": "", "imageID": "",
        "ready": true, "restartCount": 0, "state": { "running": {} } }] });
    let failed = pod(json!({ "phase": "Failed" }));
    assert_eq!(phase(None, &[failed, pod(running.clone())], &[], at(5)), Phase::Running, "a deleted Job's pod runs on");
    let mut lost = running.clone();
    lost["conditions"] = json!([{ "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager", "message": "gone" }]);
    assert_eq!(seen(lost.clone(), 5), Phase::Running, "it is told to go, and can");
    let mut late = Arc::unwrap_or_clone(pod(running.clone()));
    late.metadata.deletion_timestamp = late.metadata.creation_timestamp.clone();
    let late = [Arc::new(late)];
    assert_eq!(phase(None, &late, &[], at(119)), Phase::Running, "it has time to end");
    assert!(matches!(phase(None, &late, &[], at(120)), Phase::Ended(Ended::Lost { .. })));
    let mut pod = Arc::unwrap_or_clone(pod(lost));
    pod.metadata.deletion_timestamp = pod.metadata.creation_timestamp.clone();
    let reason = "gone".to_owned();
    assert_eq!(phase(None, &[Arc::new(pod)], &[], at(5)), Phase::Ended(Ended::Lost { reason }));
    let removed = job(
        json!({ "conditions": [{ "type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "m" }] }),
    );
    let reason = "somebody else removed its pod".to_owned();
    assert_eq!(phase(Some(&removed), &[], &[], at(5)), Phase::Ended(Ended::Evicted { reason }));
    assert_eq!(phase(None, &[], &[], at(5)), Phase::Absent);
}
