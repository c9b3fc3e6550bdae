//! What comes between a workspace on Kubernetes and its GPU: a node that cannot start it, a stranger who takes the device
//! first, and others who come first while a scheduler dies. Each is told, and overcome, and leaves nothing.
//!
//! GPUs of `whole-0` that the planner chooses first are used here, of which other tests use the last.

use crate::{
    cluster::Cluster,
    lab::{Lab, SOON, held, json, orrery},
    processes::{self, Frozen},
    wait,
};
use rustix::process::Signal;
use serde_json::{Value, json as value};
use std::{collections::BTreeSet, fs};

const MODEL: &str = "NVIDIA H200";
const WHOLE: [&str; 4] = ["--gpus", "1", "--model", MODEL];
/// More than half of a node, so that two of them do not fit.
const MOST_CPU: &str = "40";
/// A program of this machine, at the address of its pod: simulated nodes have no images.
const SERVES: &str = "python3 -m http.server --bind $(POD_IP) 8000";

/// Makes a workspace whose runtime is this program.
fn make(cluster: &Cluster, name: &str, program: &str, more: &[&str]) {
    orrery(cluster, &["workspaces", "--create", name]);
    let app = ["--app", "custom", "--image", "none", "--port", "8000", "--memory", "64MiB"];
    let command = ["--command", "sh", "--command=-c", "--command", program];
    orrery(cluster, &[&["workspaces", "set", name][..], &app, &command, more].concat());
}

fn runtime(cluster: &Cluster, name: &str) -> Value {
    json(cluster, &["workspaces", "status", name])["runtime"].take()
}

/// The runtime, once it is in this state and step, or in any step.
#[track_caller]
fn until(cluster: &Cluster, name: &str, state: &str, step: &str) -> Value {
    wait::until(&format!("{name} to be {state} {step}"), SOON, || {
        let runtime = runtime(cluster, name);
        let is_there = runtime["state"] == format!("RUNTIME_STATE_{state}");
        (is_there && (step.is_empty() || runtime["step"] == step)).then_some(runtime)
    })
}

#[track_caller]
fn stop(cluster: &Cluster, name: &str) {
    orrery(cluster, &["workspaces", "stop", name]);
    until(cluster, name, "STOPPED", "");
    assert_eq!(held(cluster, name), [], "with `stopped` its devices are free");
}

/// The reasons that its timeline gives.
fn reasons(cluster: &Cluster, name: &str) -> BTreeSet<String> {
    let told = json(cluster, &["workspaces", "events", name]);
    let events = told["events"].as_array().unwrap_or_else(|| panic!("no events: {told:#}"));
    events.iter().filter_map(|event| Some(event["reason"].as_str()?.to_owned())).collect()
}

/// The device of which it has all, as `driver/node/name`.
#[track_caller]
fn device(cluster: &Cluster, name: &str) -> String {
    let mut held = held(cluster, name);
    assert_eq!(held.iter().map(|(_, milli)| *milli).collect::<Vec<_>>(), [1000], "{held:?}");
    held.remove(0).0
}

/// The devices that are allocated in the namespace, by claim; none of them twice.
#[track_caller]
fn allocated(lab: &Lab<'_>) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for claim in lab.get("resourceclaims")["items"].as_array().unwrap() {
        let results = claim["status"]["allocation"]["devices"]["results"].as_array();
        for result in results.into_iter().flatten() {
            let device = ["driver", "pool", "device"].map(|part| result[part].as_str().unwrap()).join("/");
            all.push((claim["metadata"]["name"].as_str().unwrap().to_owned(), device));
        }
    }
    assert_eq!(all.iter().map(|(_, device)| device).collect::<BTreeSet<_>>().len(), all.len(), "{all:?}");
    all
}

/// A node that cannot have the image: that is said, with its words, and tried again.
fn an_image_that_cannot_be_had(cluster: &Cluster, lab: &Lab<'_>) {
    lab.kubectl(&["annotate", "namespace", &lab.namespace, "kubelab/fault=image-pull"]).with_code(0);
    make(cluster, "pulls", SERVES, &WHOLE);
    orrery(cluster, &["workspaces", "start", "pulls"]);
    wait::until("the trouble to be told", SOON, || {
        (runtime(cluster, "pulls")["reason"] == "IMAGE_PULL_FAILED").then_some(())
    });
    let told = until(cluster, "pulls", "STARTING", "pulling");
    assert!(told["message"].as_str().is_some_and(|words| words.contains("none")), "{told:#}");
    let read = orrery(cluster, &["workspaces", "status", "pulls"]).out;
    assert!(read.contains("IMAGE_PULL_FAILED"), "{read}");
    lab.kubectl(&["annotate", "namespace", &lab.namespace, "kubelab/fault-"]).with_code(0);
    let runs = until(cluster, "pulls", "RUNNING", "");
    assert_eq!((&runs["number"], &runs["reason"]), (&"1".into(), &"".into()), "{runs:#}");
    stop(cluster, "pulls");
}

/// Somebody's pod with a claim on one device, by its id.
fn strangers(device: &Value) -> Value {
    let id = device["hardwareId"].as_str().unwrap();
    let selector = value!({ "cel": { "expression": format!("device.attributes['gpu.nvidia.com'].uuid == '{id}'") } });
    let request =
        value!({ "name": "gpu", "exactly": { "deviceClassName": "gpu.nvidia.com", "selectors": [selector] } });
    let claim = value!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": { "name": "stranger" },
        "spec": { "devices": { "requests": [request] } },
    });
    let container = value!({
        "name": "main", "image": "none", "command": ["sleep", "600"], "resources": { "claims": [{ "name": "gpu" }] },
    });
    let pod = value!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "stranger" },
        "spec": {
            "containers": [container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
            "resourceClaims": [{ "name": "gpu", "resourceClaimName": "stranger" }],
        },
    });
    value!({ "apiVersion": "v1", "kind": "List", "items": [claim, pod] })
}

/// Between the decision and the claim, somebody who asks nobody has the device: it is theirs, and the next best is given.
fn a_stranger_who_was_first(cluster: &Cluster, lab: &Lab<'_>) {
    make(cluster, "late", SERVES, &WHOLE);
    let frozen = Frozen::new(cluster.service("executor-1"));
    orrery(cluster, &["workspaces", "start", "late"]);
    let placed = wait::until("a place", SOON, || {
        Some(runtime(cluster, "late")).filter(|runtime| runtime["devices"][0].is_object())
    });
    let wanted = device(cluster, "late");
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), strangers(&placed["devices"][0]).to_string()).unwrap();
    lab.kubectl(&["create", "--filename", file.path().to_str().unwrap()]).with_code(0);
    wait::until("the stranger's device", SOON, || {
        allocated(lab).contains(&("stranger".to_owned(), wanted.clone())).then_some(())
    });
    drop(frozen);
    until(cluster, "late", "RUNNING", "");
    let given = device(cluster, "late");
    assert_ne!(given, wanted);
    let claims: Vec<_> = allocated(lab).into_iter().filter(|(claim, _)| claim != "stranger").collect();
    assert_eq!(claims.iter().map(|(_, device)| device).collect::<Vec<_>>(), [&given], "{claims:?}");
    let reasons = reasons(cluster, "late");
    assert!(reasons.contains("NO_MATCHING_DEVICE"), "{reasons:?}");
    stop(cluster, "late");
    lab.kubectl(&["delete", "pod/stranger", "resourceclaim/stranger"]).with_code(0);
}

/// Who comes first has the place when the claim of whoever leaves is free and not before, whichever scheduler decided it.
fn an_urgent_one_whose_scheduler_dies(cluster: &Cluster, lab: &Lab<'_>) {
    let project = runtime(cluster, "late")["project"].take();
    for (queue, terms) in [("spare", &["--priority=-10", "--preemptible"][..]), ("urgent", &["--priority=10"])] {
        orrery(cluster, &[&["queues", "set", queue][..], terms].concat());
        orrery(cluster, &["plans", "set", queue, "--queue", queue]);
        orrery(cluster, &["plans", "grant", queue, project.as_str().unwrap()]);
    }
    let folder = tempfile::tempdir().unwrap();
    let done = folder.path().join("done");
    let takes_leave =
        format!("trap 'until [ -e {} ]; do sleep 0.1; done; exit 0' TERM; {SERVES} & wait", done.display());
    let large = [&WHOLE[..], &["--cpu", MOST_CPU]].concat();
    make(cluster, "leaves", &takes_leave, &[&large[..], &["--queue", "spare", "--requeue", "--grace", "5m"]].concat());
    make(cluster, "urgent", SERVES, &[&large[..], &["--queue", "urgent"]].concat());
    orrery(cluster, &["workspaces", "start", "leaves", "--wait"]);
    let kept = device(cluster, "leaves");
    orrery(cluster, &["workspaces", "start", "urgent"]);
    until(cluster, "urgent", "STARTING", "nominated");
    assert_eq!(until(cluster, "leaves", "STOPPING", "")["reason"], "PREEMPTED");

    processes::signal(cluster.service("scheduler"), Signal::KILL);
    // One that comes meanwhile shows that the next scheduler decides.
    make(cluster, "beside", SERVES, &["--cpu", "0.1"]);
    wait::until("the next scheduler", SOON, || {
        wait::output(cluster.orrery().args(["workspaces", "start", "beside"]));
        (runtime(cluster, "beside")["state"] != "RUNTIME_STATE_STOPPED").then_some(())
    });
    until(cluster, "beside", "RUNNING", "");
    assert_eq!(runtime(cluster, "urgent")["step"], "nominated");
    assert_eq!(runtime(cluster, "leaves")["state"], "RUNTIME_STATE_STOPPING");
    assert_eq!(device(cluster, "leaves"), kept, "it is held as long as its pod may run");
    assert_eq!(allocated(lab), [("ws-leaves-r1".to_owned(), kept)]);

    fs::write(&done, "").unwrap();
    until(cluster, "urgent", "RUNNING", "");
    assert_eq!(allocated(lab), [("ws-urgent-r1".to_owned(), device(cluster, "urgent"))]);
    let waits = until(cluster, "leaves", "STARTING", "queued");
    assert_eq!((&waits["number"], held(cluster, "leaves")), (&"2".into(), vec![]), "{waits:#}");
    stop(cluster, "urgent");
    until(cluster, "leaves", "RUNNING", "");
    assert!(reasons(cluster, "leaves").contains("PREEMPTED"));
    for name in ["leaves", "beside"] {
        stop(cluster, name);
    }
}

#[test]
fn what_stands_in_the_way_of_a_gpu_is_told_and_overcome() {
    let Some(kubernetes) = testkit::kubernetes::lab() else { return };
    let lab = &Lab { kubernetes, namespace: format!("cli-troubles-{}", std::process::id()) };
    let settings =
        [("ORRERY_SCHEDULER_RUNTIME_MIN_RUNNING", "0s"), ("ORRERY_SCHEDULER_RUNTIME_PREEMPTION_NOTICE", "0s")];
    let cluster = &Cluster::on_kubernetes_with(kubernetes.kubeconfig.to_str().unwrap(), &lab.namespace, &settings);
    wait::until("the devices of the cluster", SOON, || {
        let devices = json(cluster, &["gpus"])["devices"].take();
        devices.as_array()?.iter().any(|device| device["model"] == MODEL).then_some(())
    });
    an_image_that_cannot_be_had(cluster, lab);
    a_stranger_who_was_first(cluster, lab);
    an_urgent_one_whose_scheduler_dies(cluster, lab);
    wait::until("nothing to be left", SOON, || lab.names().is_empty().then_some(()));
    for name in ["pulls", "late", "leaves", "urgent", "beside"] {
        orrery(cluster, &["workspaces", "delete", name]);
    }
}
