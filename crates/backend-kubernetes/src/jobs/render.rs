//! An attempt as objects of Kubernetes. Pure: the same launch gives the same objects.
//!
//! No privilege, no host's namespace or path, no token of a service account, no root. Refuses to know whether anything of it
//! exists.

use super::{
    config::{Gpus, OURS},
    policy::{Allowed, Policy},
};
use crate::{
    inventory::TOLERATED,
    names,
    render::claim::{self, Alike},
};
use ::backend::{ARGUMENTS, DATA_DIR_VARIABLE, Device, Launch, PASS_ENV_VARIABLE, TOKEN_FILE_VARIABLE};
use domain::device::WHOLE_MILLI;
use k8s_openapi::{
    ByteString,
    api::{
        batch::v1::{Job, JobSpec},
        core::v1::{
            Capabilities, Container, EmptyDirVolumeSource, EnvFromSource, EnvVar, PersistentVolumeClaimVolumeSource,
            PodResourceClaim, PodSecurityContext, PodSpec, PodTemplateSpec, ResourceClaim as ContainerClaim,
            ResourceRequirements, SeccompProfile, Secret, SecretEnvSource, SecretVolumeSource, SecurityContext,
            Toleration, Volume, VolumeMount,
        },
        resource::v1::{DeviceClaim, ResourceClaim, ResourceClaimSpec},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::api::ObjectMeta;
use std::{collections::BTreeMap, time::Duration};

/// The mark of the executor that launched it.
pub(super) const EXECUTOR: &str = "orrery.dev/executor";
/// The name of the attempt's Job.
pub(super) const ATTEMPT: &str = "orrery.dev/attempt";
/// By which the container names the claim.
const CLAIM: &str = "gpu";
/// The file with the attempt's token, in a folder of its own.
const TOKEN: &str = "token";
/// Time to end by itself for one that Kubernetes takes away.
const GRACE_S: i64 = 30;
/// A job that ended and that nobody came for goes after so long, with everything of it.
const KEPT_S: i32 = 600;
/// Pods of a node that does not answer are given up after so long.
const UNREACHABLE_S: i64 = 30;
/// Group of the files that a container gets, whichever user it has.
const GROUP: i64 = 10_001;
/// By which a pod is kept to its node.
const HOSTNAME: &str = "kubernetes.io/hostname";
/// Cores of a shared device, and the least step of them, where an older scheduler gave the place, which says neither.
const CORES: (u64, u64) = (100, 1);

/// The Job, the owner of everything else, with pods of this priority class.
pub(super) fn job(launch: &Launch, allowed: &Allowed, policy: &Policy, mark: &str, class: Option<String>) -> Job {
    let metadata = metadata(launch, allowed, mark, None);
    let template = ObjectMeta { name: None, namespace: None, ..metadata.clone() };
    let pod = PodSpec { priority_class_name: class, ..pod(launch, allowed, policy) };
    let spec = JobSpec {
        // Whether and when an attempt is followed by another one is not decided by the cluster.
        backoff_limit: Some(0),
        completions: Some(1),
        parallelism: Some(1),
        pod_replacement_policy: Some("Failed".to_owned()),
        active_deadline_seconds: Some(seconds(launch.lifetime_max)),
        ttl_seconds_after_finished: Some(KEPT_S),
        template: PodTemplateSpec { metadata: Some(template), spec: Some(pod) },
        ..JobSpec::default()
    };
    Job { metadata, spec: Some(spec), status: None }
}

/// By what the attempt proves itself.
pub(super) fn token(launch: &Launch, allowed: &Allowed, mark: &str, owner: &OwnerReference) -> Secret {
    Secret {
        metadata: metadata(launch, allowed, mark, Some(owner)),
        data: Some(BTreeMap::from([(TOKEN.to_owned(), ByteString(launch.token.expose().as_bytes().to_vec()))])),
        type_: Some("orrery.dev/attempt".to_owned()),
        ..Secret::default()
    }
}

/// Its devices, pinned to those that it was given; none when it asks for none.
pub(super) fn claim(launch: &Launch, allowed: &Allowed, mark: &str, owner: &OwnerReference) -> Option<ResourceClaim> {
    let (gpus, place) = (allowed.asked.gpus.as_ref()?, launch.place.as_ref()?);
    let mut groups: BTreeMap<Alike, Vec<String>> = BTreeMap::new();
    for device in &place.devices {
        groups.entry(alike(gpus, device)).or_default().push(device.hardware_id.clone());
    }
    let groups = groups.into_iter().enumerate();
    let requests = groups.map(|(index, (alike, ids))| claim::request(index, alike, &ids)).collect();
    let devices = DeviceClaim { requests: Some(requests), ..DeviceClaim::default() };
    Some(ResourceClaim {
        metadata: metadata(launch, allowed, mark, Some(owner)),
        spec: ResourceClaimSpec { devices: Some(devices) },
        status: None,
    })
}

/// How a device is asked for. What is whole is asked for without amounts, which those have that are never divided.
fn alike(gpus: &Gpus, device: &Device) -> Alike {
    let in_part = device.milli < WHOLE_MILLI;
    let cores = device.cores.unwrap_or(CORES);
    let capacity = in_part.then(|| claim::share(cores, device.milli, device.memory_bytes));
    Alike {
        class: gpus.class.clone(),
        driver: device.name.split('/').next().unwrap_or_default().to_owned(),
        profile: String::new(),
        capacity: capacity.unwrap_or_default(),
    }
}

/// Name, labels and owner. Labels are cut to what Kubernetes takes; the whole values are annotations.
fn metadata(launch: &Launch, allowed: &Allowed, mark: &str, owner: Option<&OwnerReference>) -> ObjectMeta {
    let (mut labels, mut annotations) = (allowed.asked.labels.clone(), allowed.asked.annotations.clone());
    for (name, value) in &launch.labels {
        // The same label would make the objects of an attempt those of its workspace, which blocks may read.
        if *name != "workspace" {
            labels.insert(format!("orrery.dev/{name}"), names::as_label(value));
        }
        annotations.insert(format!("orrery.dev/{name}"), value.clone());
    }
    labels.extend(
        [
            ("app.kubernetes.io/managed-by", names::MANAGER),
            ("app.kubernetes.io/component", "attempt"),
            (EXECUTOR, mark),
            (ATTEMPT, launch.name.as_str()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    ObjectMeta {
        name: Some(launch.name.as_str().to_owned()),
        namespace: Some(allowed.namespace.clone()),
        labels: Some(labels),
        annotations: Some(annotations),
        owner_references: owner.map(|owner| vec![owner.clone()]),
        ..ObjectMeta::default()
    }
}

fn pod(launch: &Launch, allowed: &Allowed, policy: &Policy) -> PodSpec {
    let asked = &allowed.asked;
    let has_gpus = asked.gpus.is_some();
    let mut node_selector = asked.node_selector.clone();
    node_selector.extend(launch.place.as_ref().map(|place| (HOSTNAME.to_owned(), place.node.clone())));
    let claim = || PodResourceClaim {
        name: CLAIM.to_owned(),
        resource_claim_name: Some(launch.name.as_str().to_owned()),
        ..PodResourceClaim::default()
    };
    let tainted = TOLERATED.iter().filter(|_| has_gpus).map(|key| Toleration {
        key: Some((*key).to_owned()),
        operator: Some("Exists".to_owned()),
        ..Toleration::default()
    });
    let unreachable = ["not-ready", "unreachable"].map(|what| Toleration {
        key: Some(format!("node.kubernetes.io/{what}")),
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        toleration_seconds: Some(UNREACHABLE_S),
        ..Toleration::default()
    });
    PodSpec {
        containers: vec![container(launch, allowed, policy)],
        restart_policy: Some("Never".to_owned()),
        termination_grace_period_seconds: Some(GRACE_S),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        service_account_name: Some(allowed.service_account.clone()).filter(|name| !name.is_empty()),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            fs_group: Some(GROUP),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
            ..PodSecurityContext::default()
        }),
        resource_claims: has_gpus.then(|| vec![claim()]),
        affinity: asked.affinity.clone(),
        node_selector: Some(node_selector).filter(|selector| !selector.is_empty()),
        scheduler_name: asked.scheduler_name.clone(),
        tolerations: Some(asked.tolerations.iter().cloned().chain(tainted).chain(unreachable).collect()),
        image_pull_secrets: (!asked.image_pull_secrets.is_empty()).then(|| asked.image_pull_secrets.clone()),
        volumes: Some(asked.volumes.iter().cloned().chain(shared(policy)).chain(ours(launch)).collect()),
        ..PodSpec::default()
    }
}

/// The operator's volumes.
fn shared(policy: &Policy) -> impl Iterator<Item = Volume> {
    policy.volumes.iter().enumerate().map(|(index, (claim, _))| Volume {
        name: format!("orrery-shared-{index}"),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource { claim_name: claim.clone(), read_only: None }),
        ..Volume::default()
    })
}

/// Its token, and a folder for everything that it makes.
fn ours(launch: &Launch) -> [Volume; 2] {
    let token = SecretVolumeSource {
        secret_name: Some(launch.name.as_str().to_owned()),
        default_mode: Some(0o440),
        ..SecretVolumeSource::default()
    };
    [
        Volume { name: "orrery-token".to_owned(), secret: Some(token), ..Volume::default() },
        Volume {
            name: "orrery-data".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..Volume::default()
        },
    ]
}

fn container(launch: &Launch, allowed: &Allowed, policy: &Policy) -> Container {
    let asked = &allowed.asked;
    let mount = |name: &str, folder: &str, read_only| VolumeMount {
        name: name.to_owned(),
        mount_path: format!("{OURS}/{folder}"),
        read_only: Some(read_only),
        ..VolumeMount::default()
    };
    let mounts = [mount("orrery-token", "secret", true), mount("orrery-data", "data", false)];
    let shared = policy.volumes.iter().enumerate().map(|(index, (_, folder))| VolumeMount {
        name: format!("orrery-shared-{index}"),
        mount_path: folder.clone(),
        ..VolumeMount::default()
    });
    let secret = (!policy.secret.is_empty()).then(|| EnvFromSource {
        secret_ref: Some(SecretEnvSource { name: policy.secret.clone(), optional: None }),
        ..EnvFromSource::default()
    });
    // Of the same name the later source counts: what the program itself needs.
    let sources: Vec<_> = asked.env_from.iter().cloned().chain(secret).collect();
    Container {
        name: "attempt".to_owned(),
        image: Some(allowed.image.clone()),
        image_pull_policy: asked.image_pull_policy.clone(),
        command: Some(vec![policy.program.clone()]),
        args: Some(ARGUMENTS.map(str::to_owned).into()),
        env: Some(environment(launch, allowed)),
        env_from: (!sources.is_empty()).then_some(sources),
        resources: Some(ResourceRequirements {
            limits: (!asked.limits.is_empty()).then(|| asked.limits.clone()),
            requests: (!asked.requests.is_empty()).then(|| asked.requests.clone()),
            claims: asked.gpus.is_some().then(|| vec![ContainerClaim { name: CLAIM.to_owned(), request: None }]),
        }),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        security_context: Some(SecurityContext {
            privileged: Some(false),
            allow_privilege_escalation: Some(false),
            run_as_non_root: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(asked.mounts.iter().cloned().chain(shared).chain(mounts).collect()),
        ..Container::default()
    }
}

/// The project's variables first: of the same name the later one counts, which is ours.
fn environment(launch: &Launch, allowed: &Allowed) -> Vec<EnvVar> {
    let plain = |name: &str, value: String| EnvVar { name: name.to_owned(), value: Some(value), value_from: None };
    let mut seen = allowed.seen_by_user_code();
    let mut ours = launch.env.clone();
    if let Some(others) = ours.get(PASS_ENV_VARIABLE).filter(|others| !others.is_empty()) {
        seen.insert(0, others.clone());
    }
    ours.insert(PASS_ENV_VARIABLE.to_owned(), seen.join(","));
    ours.insert(DATA_DIR_VARIABLE.to_owned(), format!("{OURS}/data"));
    ours.insert(TOKEN_FILE_VARIABLE.to_owned(), format!("{OURS}/secret/{TOKEN}"));
    let mut all: Vec<EnvVar> =
        allowed.asked.env.iter().filter(|variable| !ours.contains_key(&variable.name)).cloned().collect();
    if !all.iter().any(|variable| variable.name == "HOME") {
        // A user that the image does not know has none.
        all.push(plain("HOME", format!("{OURS}/data")));
    }
    // A dollar sign would begin a reference of Kubernetes; a setting is meant as it stands.
    all.extend(ours.iter().map(|(name, value)| plain(name, value.replace('$', "$$"))));
    all
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_asked_for_in_the_devices_own_cores() {
        for (milli, cores, asked) in [
            (400, Some((100, 1)), Some("40")),
            (400, Some((132, 1)), Some("53")),
            (400, Some((132, 4)), Some("56")),
            (990, Some((132, 50)), Some("132")),
            (400, None, Some("40")),
            (1000, Some((132, 1)), None),
        ] {
            let device = Device {
                name: "hami.io/pool/gpu-0".into(),
                class: "shares".into(),
                hardware_id: "GPU-1".into(),
                milli,
                memory_bytes: 1,
                profile: String::new(),
                cores,
            };
            let capacity = alike(&Gpus { class: "shares".into(), ..Gpus::default() }, &device).capacity;
            assert_eq!(capacity.get("cores").map(String::as_str), asked, "{milli} of {cores:?}");
        }
    }
}
