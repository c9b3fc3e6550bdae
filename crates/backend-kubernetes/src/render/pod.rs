//! The pod: one container, pinned to its node, with nothing that it does not need.

use super::{ACCESS_KEY, Place, app, metadata, pre_start};
use crate::{inventory::TOLERATED, life::Life, names, quantity};
use domain::runtime::rules::is_reserved;
use k8s_openapi::{
    api::core::v1::{
        Affinity, Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, NodeAffinity,
        NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, ObjectFieldSelector,
        PersistentVolumeClaimVolumeSource, Pod, PodResourceClaim, PodSecurityContext, PodSpec, Probe,
        ResourceClaim as ContainerClaim, ResourceRequirements, SeccompProfile, SecretKeySelector, SecurityContext,
        TCPSocketAction, Toleration, Volume, VolumeMount,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use std::collections::BTreeMap;

/// The container of the application.
pub(crate) const APP: &str = "app";
/// Who an application runs as, unless it may be root.
const USER: i64 = 1000;
/// By which the container names the claim.
const CLAIM: &str = "gpu";
/// What a container runs as when nobody says how long it has to end.
const GRACE_S: u32 = 30;

/// Where the code of the workspace is.
const CODE: &str = "USER_CODE_PATH";

/// Variables of a pod besides those that are reserved everywhere.
pub(super) const OURS: [&str; 3] = ["POD_IP", "JUPYTER_TOKEN", "HASHED_PASSWORD"];

/// The pod of a life, which uses the claim of this name.
#[must_use]
pub fn pod(place: &Place, life: &Life, record_uid: &str, claim: Option<&str>) -> Pod {
    let own = names::object(&life.workspace, life.number);
    let shared = claim.filter(|claim| *claim != own);
    let claims = claim.map(|claim| {
        vec![PodResourceClaim {
            name: CLAIM.to_owned(),
            resource_claim_name: Some(claim.to_owned()),
            ..PodResourceClaim::default()
        }]
    });
    let mut metadata = metadata(place, life, Some(record_uid));
    if let (Some(labels), Some(shared)) = (&mut metadata.labels, shared) {
        labels.insert(names::SHARED_CLAIM.to_owned(), shared.to_owned());
    }
    let grace = if life.spec.grace_s == 0 { GRACE_S } else { life.spec.grace_s };
    let scripted = pre_start::is_wanted(life);
    let volumes = life.spec.mounts.iter().enumerate().map(volume).chain(scripted.then(pre_start::volume));
    let spec = PodSpec {
        init_containers: scripted.then(|| vec![pre_start::container(place, life)]),
        containers: vec![container(place, life, shared.is_some())],
        resource_claims: claims,
        // By the selector and not by `nodeName`, which would go round the scheduler and the claim with it.
        node_selector: Some(BTreeMap::from([("kubernetes.io/hostname".to_owned(), life.node.clone())])),
        affinity: Some(only(&life.node)),
        tolerations: Some(TOLERATED.map(tolerated).into()),
        restart_policy: Some("Never".to_owned()),
        priority_class_name: Some(names::priority_class(life.queue_priority)),
        termination_grace_period_seconds: Some(i64::from(grace)),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(PodSecurityContext {
            run_as_user: Some(if life.spec.root { 0 } else { USER }),
            run_as_non_root: Some(!life.spec.root),
            fs_group: Some(USER),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
            ..PodSecurityContext::default()
        }),
        volumes: Some(volumes.collect()),
        ..PodSpec::default()
    };
    Pod { metadata, spec: Some(spec), status: None }
}

/// Keeps kube-scheduler from looking at other nodes at all: what it says then is about this one, and not of others' taints.
fn only(node: &str) -> Affinity {
    let name = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let term = NodeSelectorTerm { match_fields: Some(vec![name]), match_expressions: None };
    let required = NodeSelector { node_selector_terms: vec![term] };
    Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(required),
            preferred_during_scheduling_ignored_during_execution: None,
        }),
        ..Affinity::default()
    }
}

fn container(place: &Place, life: &Life, by_mps: bool) -> Container {
    let port = i32::from(app::port(&life.spec.app));
    let mut command = app::command(life);
    let post_start = app::post_start(life);
    let scripted = pre_start::is_wanted(life);
    if (scripted || !post_start.is_empty()) && !command.is_empty() {
        let launcher = ["/bin/sh", "-c", app::LAUNCHER, "launcher"].map(str::to_owned);
        command.splice(0..0, launcher);
    }
    Container {
        name: APP.to_owned(),
        image: Some(app::image(&place.images, life).to_owned()),
        command: (!command.is_empty()).then_some(command),
        env: Some(environment(life, post_start, by_mps)),
        ports: Some(vec![ContainerPort {
            name: Some("app".to_owned()),
            container_port: port,
            ..ContainerPort::default()
        }]),
        readiness_probe: Some(readiness(life)),
        resources: Some(resources(life)),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        security_context: Some(confined()),
        volume_mounts: Some(
            life.spec
                .mounts
                .iter()
                .enumerate()
                .map(|(index, mount)| VolumeMount {
                    name: format!("volume-{index}"),
                    mount_path: mount.path.clone(),
                    read_only: Some(mount.read_only),
                    ..VolumeMount::default()
                })
                .chain(scripted.then(|| pre_start::mount(true)))
                .collect(),
        ),
        ..Container::default()
    }
}

/// Nothing but what every process has.
pub(super) fn confined() -> SecurityContext {
    SecurityContext {
        privileged: Some(false),
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        ..SecurityContext::default()
    }
}

/// The user's variables, without those that are ours.
pub(super) fn users(life: &Life) -> impl Iterator<Item = (&String, &String)> {
    life.spec.env.iter().filter(|(name, _)| !OURS.contains(&name.as_str()) && !is_reserved(name))
}

/// The user's variables first: those that Kubernetes fills in are ours, and win.
fn environment(life: &Life, post_start: String, by_mps: bool) -> Vec<EnvVar> {
    let plain = |name: &str, value: String| EnvVar { name: name.to_owned(), value: Some(value), value_from: None };
    let from = |name: &str, value_from| EnvVar { name: name.to_owned(), value: None, value_from: Some(value_from) };
    let key = || EnvVarSource {
        secret_key_ref: Some(SecretKeySelector {
            name: names::object(&life.workspace, life.number),
            key: ACCESS_KEY.to_owned(),
            optional: None,
        }),
        ..EnvVarSource::default()
    };
    let address = EnvVarSource {
        field_ref: Some(ObjectFieldSelector {
            field_path: "status.podIP".to_owned(),
            api_version: Some("v1".to_owned()),
        }),
        ..EnvVarSource::default()
    };
    // A dollar sign would begin a reference of Kubernetes; what a user wrote is meant as it stands.
    let mut all: Vec<EnvVar> = users(life).map(|(name, value)| plain(name, value.replace('$', "$$"))).collect();
    all.extend([
        from("POD_IP", address),
        from("JUPYTER_TOKEN", key()),
        // code-server compares it with the cookie that the proxy brings; nobody types it.
        from("HASHED_PASSWORD", key()),
        from("ORRERY_ACCESS_KEY", key()),
        plain("ORRERY_BASE_PATH", life.base_path.clone()),
        plain("ORRERY_WORKSPACE", life.workspace.clone()),
        plain("ORRERY_PROJECT", life.project.replace('$', "$$")),
    ]);
    // What is not on a volume ends with the pod. Whoever has it elsewhere says so.
    if let Some(mount) = life.spec.mounts.iter().find(|mount| !mount.read_only)
        && !life.spec.env.contains_key(CODE)
    {
        all.push(plain(CODE, mount.path.replace('$', "$$")));
    }
    if let Some(grant) = life.grants.first().filter(|_| by_mps) {
        // A client keeps itself to these; the server knows only the most that any may have.
        all.push(plain("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", (grant.milli / 10).max(1).to_string()));
        all.push(plain("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", format!("0={}M", (grant.memory_bytes >> 20).max(1))));
    }
    if pre_start::is_wanted(life) {
        all.push(plain("ORRERY_PRE_START_FILE", pre_start::FILE.to_owned()));
    }
    if !post_start.is_empty() {
        all.push(plain("ORRERY_POST_START", post_start.replace('$', "$$")));
    }
    all
}

fn readiness(life: &Life) -> Probe {
    let port = IntOrString::String("app".to_owned());
    let path = app::health(life);
    Probe {
        http_get: path.map(|path| HTTPGetAction { path: Some(path), port: port.clone(), ..HTTPGetAction::default() }),
        tcp_socket: app::health(life).is_none().then_some(TCPSocketAction { port, host: None }),
        period_seconds: Some(1),
        timeout_seconds: Some(5),
        // An application that is busy for a moment is not taken away from its user.
        failure_threshold: Some(30),
        ..Probe::default()
    }
}

pub(super) fn resources(life: &Life) -> ResourceRequirements {
    let (spec, ask) = (&life.spec, &life.spec.ask);
    let amounts = |cpu: u64, memory: u64| {
        let all = [
            ("cpu", cpu, quantity::of_milli(cpu)),
            ("memory", memory, quantity::of(memory)),
            // The kubelet evicts who fills more.
            ("ephemeral-storage", spec.storage_bytes, quantity::of(spec.storage_bytes)),
        ];
        let given = all.into_iter().filter(|(_, amount, _)| *amount > 0);
        Some(given.map(|(name, _, written)| (name.to_owned(), written)).collect::<BTreeMap<_, _>>())
    };
    ResourceRequirements {
        requests: amounts(ask.cpu_milli, ask.memory_bytes),
        limits: amounts(spec.cpu_limit_milli.max(ask.cpu_milli), spec.memory_limit_bytes.max(ask.memory_bytes)),
        claims: (!life.grants.is_empty()).then(|| vec![ContainerClaim { name: CLAIM.to_owned(), request: None }]),
    }
}

fn volume((index, mount): (usize, &domain::runtime::Mount)) -> Volume {
    Volume {
        name: format!("volume-{index}"),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: names::claim_of(mount),
            read_only: Some(mount.read_only),
        }),
        ..Volume::default()
    }
}

fn tolerated(key: &str) -> Toleration {
    Toleration { key: Some(key.to_owned()), operator: Some("Exists".to_owned()), ..Toleration::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{classes::Classes, render::app::Images};
    use serde_json::json;

    fn life(spec: &serde_json::Value) -> Life {
        let id = "00000000-0000-4000-8000-000000000001";
        let ask = json!({ "gpus": 0, "gpu_milli": 0, "gpu_memory_bytes": null, "models": [], "models_ordered": false,
                          "link": "any", "cpu_milli": 100, "memory_bytes": 1 });
        let mut whole = json!({ "app": "jupyter", "ask": ask });
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let life = json!({
            "holder": id, "workspace_id": id, "workspace": "lab", "project": "p", "queue": "default", "queue_priority": 0,
            "preemptible": false, "number": 1, "node": "n", "grants": [], "spec": whole, "access_key": "", "base_path": "/",
        });
        serde_json::from_value(life).unwrap()
    }

    fn code_path(env: &serde_json::Value, mounts: &serde_json::Value) -> Vec<String> {
        let all = environment(&life(&json!({ "env": env, "mounts": mounts })), String::new(), false);
        all.into_iter().filter(|variable| variable.name == CODE).filter_map(|variable| variable.value).collect()
    }

    #[test]
    fn a_pod_has_nothing_that_it_does_not_need() {
        let images = Images { jupyter: "lab".to_owned(), vs_code: String::new(), pre_start: String::new() };
        let (pool, namespace) = ("default".to_owned(), "runtimes".to_owned());
        let place = Place { pool, namespace, images, classes: Classes::default(), visitors: Vec::new() };
        for (root, user) in [(false, USER), (true, 0)] {
            let pod = pod(&place, &life(&json!({ "root": root, "pre_start": "pass" })), "uid", None);
            let pod = serde_json::to_value(pod).unwrap();
            let spec = &pod["spec"];
            assert_eq!(spec["automountServiceAccountToken"], false);
            assert_eq!(spec["enableServiceLinks"], false);
            for none in ["hostNetwork", "hostPID", "hostIPC", "serviceAccountName"] {
                assert!(spec.get(none).is_none(), "{none}");
            }
            assert_eq!(
                spec["securityContext"],
                json!({ "runAsUser": user, "runAsNonRoot": !root, "fsGroup": USER,
                        "seccompProfile": { "type": "RuntimeDefault" } })
            );
            let confined =
                json!({ "privileged": false, "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } });
            for container in [&spec["containers"][0], &spec["initContainers"][0]] {
                assert_eq!(container["securityContext"], confined);
            }
            let volumes = spec["volumes"].as_array().unwrap();
            assert!(volumes.iter().all(|volume| volume.get("hostPath").is_none()), "{volumes:?}");
        }
    }

    #[test]
    fn people_find_the_objects_of_a_life_by_what_they_know_of_it() {
        let images = Images { jupyter: "lab".to_owned(), vs_code: String::new(), pre_start: String::new() };
        let (pool, namespace) = ("gpus".to_owned(), "runtimes".to_owned());
        let place = Place { pool, namespace, images, classes: Classes::default(), visitors: Vec::new() };
        let pod = serde_json::to_value(pod(&place, &life(&json!({})), "uid", None)).unwrap();
        assert_eq!(pod["metadata"]["name"], "ws-lab-r1");
        for (name, value) in [
            ("pool", "gpus"),
            ("life", "1"),
            ("workspace", "lab"),
            ("project", "p"),
            ("queue", "default"),
            ("preemptible", "false"),
            ("gpu-milli", "0"),
        ] {
            assert_eq!(pod["metadata"]["labels"][format!("orrery.dev/{name}")], value, "{name}");
        }
    }

    #[test]
    fn code_is_on_the_first_volume_that_can_be_written_unless_somebody_says_otherwise() {
        let mounts = json!([
            { "volume": "models", "path": "/models", "read_only": true },
            { "volume": "home", "path": "/home/$me" },
            { "volume": "data", "path": "/data" },
        ]);
        assert_eq!(code_path(&json!({}), &mounts), ["/home/$$me"]);
        assert_eq!(code_path(&json!({ CODE: "/src" }), &mounts), ["/src"]);
        assert!(code_path(&json!({}), &json!([])).is_empty());
    }
}
