//! Attempts as Jobs on a real control plane: from a launch to nothing. The program is a script; what the executor's own does
//! there is tested with the executor.
//!
//! Each test has a namespace of its own, in which the backend may do what the chart allows it and no more; of devices, only
//! shares of GPU 3 of `shared-0` are used here.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is the report of a test")]

use backend::{Backend as _, Device, Ended, Error, Launch, Name, Phase, Place, Token};
use backend_kubernetes::{Access, Jobs, Policy};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Namespace, PersistentVolumeClaim, Pod, Secret},
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
    resource::v1::{ResourceClaim, ResourceSlice},
};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};
use testkit::wait_for;
use uuid::Uuid;

/// For one step, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Of devices that are shared.
const CLASS: &str = "hami-core-gpu.project-hami.io";
const TOKEN: &str = "0123456789abcdef";
/// What the chart allows an executor of Jobs.
const RULES: &str = include_str!("../../../deploy/helm/orrery/files/jobs-rules.yaml");
/// The same, everywhere.
const CLUSTER_RULES: &str = include_str!("../../../deploy/helm/orrery/files/jobs-cluster-rules.yaml");

/// Leaves what it sees where the test can read it, then does what it was told.
const PROGRAM: &str = r#"#!/bin/sh
cat "$ORRERY_EXECUTOR_CLUSTER_TOKEN_FILE" > "$SEEN.token"
touch "$ORRERY_EXECUTOR_DATA_DIR/writable" && env > "$SEEN.env.new" && mv "$SEEN.env.new" "$SEEN.env"
[ "$1" = run-attempt ] || exit 9
trap 'echo asked > "$SEEN.term"; exit 75' TERM
case "$DO" in
  wait) while :; do sleep 0.1; done ;;
  fail) echo "no such thing" >&2; exit 3 ;;
esac
"#;

struct Lab {
    client: Client,
    access: Access,
    policy: Policy,
    folder: PathBuf,
    mark: String,
    jobs: Jobs,
}

impl Lab {
    /// `None` where tests on Kubernetes are skipped.
    async fn new(name: &str) -> Option<Self> {
        let lab = tokio::task::spawn_blocking(testkit::kubernetes::lab).await.unwrap()?;
        let namespace = format!("{name}-{}", &Uuid::new_v4().to_string()[..8]);
        let config = Kubeconfig::read_from(&lab.kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
        let folder = std::env::temp_dir().join(&namespace);
        std::fs::create_dir_all(&folder).unwrap();
        let program = folder.join("program");
        std::fs::write(&program, PROGRAM).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let policy = Policy {
            namespace: namespace.clone(),
            image: "ours".to_owned(),
            program: program.to_str().unwrap().to_owned(),
            gpu_classes: vec![CLASS.to_owned()],
            ..Policy::default()
        };
        // Whoever was first is right.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::try_from(config).unwrap();
        let metadata = ObjectMeta { name: Some(namespace.clone()), ..ObjectMeta::default() };
        let made = Namespace { metadata, ..Namespace::default() };
        Api::all(client.clone()).create(&PostParams::default(), &made).await.unwrap();
        let kubeconfig = folder.join("kubeconfig");
        std::fs::write(&kubeconfig, as_the_chart_allows(&client, &namespace, &lab.kubeconfig).await).unwrap();
        let (access, mark) = (Access { kubeconfig: Some(kubeconfig) }, Uuid::new_v4().simple().to_string());
        let jobs = Jobs::connect(&access, policy.clone(), &mark).await.unwrap();
        Some(Self { client, access, policy, folder, mark, jobs })
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.policy.namespace)
    }

    fn launch(&self, what: &str, config: &Value) -> Launch {
        let name = Name::of("attempt", Uuid::new_v4().as_bytes());
        let env = BTreeMap::from([
            ("DO".to_owned(), what.to_owned()),
            ("SEEN".to_owned(), self.folder.join(name.as_str()).to_str().unwrap().to_owned()),
            ("ORRERY_EXECUTOR_PASS_ENV".to_owned(), "LANG".to_owned()),
        ]);
        Launch {
            name,
            labels: BTreeMap::from([("block", "Lädt alles".to_owned()), ("workspace", "lake".to_owned())]),
            env,
            token: Token::new(TOKEN.to_owned()),
            config: config.to_string(),
            place: None,
            lifetime_max: Duration::from_secs(600),
        }
    }

    /// A share of GPU 3 of `shared-0`, as the owner of a pool gives it.
    async fn given(&self, milli: u32) -> Place {
        let slices = Api::<ResourceSlice>::all(self.client.clone()).list(&ListParams::default()).await.unwrap().items;
        let of = |slice: &ResourceSlice| slice.spec.driver == CLASS && slice.spec.pool.name == "shared-0";
        let mut devices = slices.into_iter().filter(of).flat_map(|slice| slice.spec.devices.unwrap_or_default());
        let device = devices.find(|device| device.name == "hami-gpu-3").unwrap();
        let hardware_id = device.attributes.unwrap()["uuid"].string.clone().unwrap();
        let name = format!("{CLASS}/shared-0/hami-gpu-3");
        let device = Device {
            name,
            class: CLASS.to_owned(),
            hardware_id,
            milli,
            memory_bytes: 8 << 30,
            profile: String::new(),
            cores: None,
        };
        Place { node: "shared-0".to_owned(), devices: vec![device] }
    }

    async fn seen(&self, launch: &Launch, what: &str) -> String {
        let path = self.folder.join(format!("{}.{what}", launch.name));
        wait_for(format!("{what} of the program"), PATIENCE, async || {
            std::fs::read_to_string(&path).ok().filter(|text| !text.is_empty())
        })
        .await
    }

    async fn until(&self, name: &Name, what: &str, holds: impl Fn(&Phase) -> bool) -> Phase {
        wait_for(what.to_owned(), PATIENCE, async || self.jobs.observe(name).await.ok().filter(|phase| holds(phase)))
            .await
    }

    /// Until nothing of any attempt is left.
    async fn empty(&self) {
        let all = ListParams::default();
        wait_for("an empty namespace", PATIENCE, async || {
            let left = self.api::<Job>().list(&all).await.unwrap().items.len()
                + self.api::<Pod>().list(&all).await.unwrap().items.len()
                + self.api::<Secret>().list(&all).await.unwrap().items.len()
                + self.api::<ResourceClaim>().list(&all).await.unwrap().items.len();
            (left == 0).then_some(())
        })
        .await;
    }

    async fn fault(&self, fault: Option<&str>) {
        let patch = Patch::Merge(json!({ "metadata": { "annotations": { "kubelab/fault": fault } } }));
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces.patch(&self.policy.namespace, &PatchParams::default(), &patch).await.unwrap();
    }
}

/// Credentials of one who may do what the chart allows, and nothing else.
async fn as_the_chart_allows(client: &Client, namespace: &str, kubeconfig: &Path) -> String {
    let rules: Value = serde_saphyr::from_str(RULES).unwrap();
    let role: Role = serde_json::from_value(json!({ "metadata": { "name": "jobs" }, "rules": rules })).unwrap();
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": { "name": "jobs" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "jobs" },
        "subjects": [{ "kind": "ServiceAccount", "name": "jobs", "namespace": namespace }],
    }))
    .unwrap();
    let params = PostParams::default();
    Api::namespaced(client.clone(), namespace).create(&params, &role).await.unwrap();
    Api::namespaced(client.clone(), namespace).create(&params, &binding).await.unwrap();
    let rules: Value = serde_saphyr::from_str(CLUSTER_RULES).unwrap();
    let role: ClusterRole =
        serde_json::from_value(json!({ "metadata": { "name": namespace }, "rules": rules })).unwrap();
    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": { "name": namespace },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": namespace },
        "subjects": [{ "kind": "ServiceAccount", "name": "jobs", "namespace": namespace }],
    }))
    .unwrap();
    Api::all(client.clone()).create(&params, &role).await.unwrap();
    Api::all(client.clone()).create(&params, &binding).await.unwrap();
    let mut config: Value = serde_saphyr::from_str(&std::fs::read_to_string(kubeconfig).unwrap()).unwrap();
    config["users"][0]["user"]["as"] = json!(format!("system:serviceaccount:{namespace}:jobs"));
    config.to_string()
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
        // With the namespace goes whatever a test that failed has left.
        let (client, name) = (self.client.clone(), self.policy.namespace.clone());
        tokio::spawn(async move {
            let params = DeleteParams::default();
            let _ = Api::<ClusterRoleBinding>::all(client.clone()).delete(&name, &params).await;
            let _ = Api::<ClusterRole>::all(client.clone()).delete(&name, &params).await;
            Api::<Namespace>::all(client).delete(&name, &params).await
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_from_its_launch_to_nothing() {
    let Some(lab) = Lab::new("job").await else { return };
    let config = json!({
        "gpus": { "count": 1, "sm": 40, "memory": "8Gi" },
        "resource_limits": { "memory": "512Mi" },
        "container_config": { "image": "theirs", "env": [{ "name": "GREETING", "value": "hello" }] },
        "pod": { "host_network": true },
    });
    let mut launch = lab.launch("wait", &config);
    let asked = lab.jobs.devices(&launch).unwrap().unwrap();
    assert_eq!(
        (asked.count, asked.milli, asked.memory_bytes, asked.node_memory_bytes),
        (1, 400, Some(8 << 30), 512 << 20)
    );
    assert_eq!((asked.class.as_str(), asked.claim), (CLASS, format!("{}/{}", lab.policy.namespace, launch.name)));
    let refused = lab.jobs.launch(&launch).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Refused(why) if why.contains("given none")),
        "not by kube-scheduler: {refused:?}"
    );
    let mut given = lab.given(400).await;
    launch.place = Some(given.clone());
    given.devices[0].class = "another".to_owned();
    let other = Launch { place: Some(given), ..launch.clone() };
    let refused = lab.jobs.launch(&other).await.unwrap_err();
    assert!(matches!(&refused, Error::Refused(why) if why.contains("of the class `another`")), "{refused:?}");
    let remarks = lab.jobs.launch(&launch).await.unwrap();
    assert_eq!(remarks.len(), 2, "{remarks:?}");
    assert!(
        remarks.iter().any(|r| r.contains("pod.host_network")) && remarks.iter().any(|r| r.contains("jobs_images"))
    );
    lab.jobs.launch(&launch).await.expect("a second launch is an adoption");
    lab.until(&launch.name, "a running container", |phase| *phase == Phase::Running).await;
    assert_eq!(lab.seen(&launch, "token").await, TOKEN);
    let env = lab.seen(&launch, "env").await;
    for line in ["GREETING=hello", "ORRERY_EXECUTOR_PASS_ENV=LANG,GREETING"] {
        assert!(env.lines().any(|known| known == line), "{line} in {env}");
    }
    assert!(!env.contains(TOKEN), "the token is in a file only");

    let pods = lab.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(pods.len(), 1);
    let spec = pods[0].spec.clone().unwrap();
    assert_eq!((spec.automount_service_account_token, spec.host_network), (Some(false), None));
    assert_eq!(spec.preemption_policy.as_deref(), Some("Never"), "no workspace is ended for a block");
    let security = spec.containers[0].security_context.clone().unwrap();
    assert_eq!((security.privileged, security.allow_privilege_escalation), (Some(false), Some(false)));
    assert_eq!((security.run_as_non_root, spec.containers[0].image.as_deref()), (Some(true), Some("ours")));
    assert_eq!(pods[0].metadata.annotations.as_ref().unwrap()["orrery.dev/block"], "Lädt alles");
    let claim = lab.api::<ResourceClaim>().get(launch.name.as_str()).await.unwrap();
    let results = claim.status.unwrap().allocation.unwrap().devices.unwrap().results.unwrap();
    assert_eq!((results.len(), results[0].device.as_str()), (1, "hami-gpu-3"), "the one that was given");
    assert_eq!(results[0].consumed_capacity.as_ref().unwrap()["cores"].0, "40");

    lab.jobs.cancel(&launch.name, Duration::from_secs(10)).await.unwrap();
    assert_eq!(lab.seen(&launch, "term").await.trim(), "asked", "it is asked before it is killed");
    lab.until(&launch.name, "an end", |phase| matches!(phase, Phase::Ended(_) | Phase::Absent)).await;
    lab.empty().await;
    lab.jobs.cancel(&launch.name, Duration::ZERO).await.expect("what is absent is cancelled");
    assert_eq!(lab.jobs.observe(&launch.name).await.unwrap(), Phase::Absent);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_end_is_told_as_what_it_was() {
    let Some(lab) = Lab::new("ends").await else { return };
    let failed = lab.launch("fail", &json!({}));
    lab.jobs.launch(&failed).await.unwrap();
    let ended = lab.until(&failed.name, "its end", |phase| matches!(phase, Phase::Ended(_))).await;
    assert_eq!(ended, Phase::Ended(Ended::Exited { code: 3, output: "no such thing".to_owned() }));
    lab.jobs.cancel(&failed.name, Duration::ZERO).await.unwrap();

    lab.fault(Some("image-pull")).await;
    let pulled = lab.launch("wait", &json!({}));
    lab.jobs.launch(&pulled).await.unwrap();
    let says = |phase: &Phase| matches!(phase, Phase::Waiting { reason } if reason.starts_with("IMAGE_PULL_FAILED"));
    lab.until(&pulled.name, "a reason", says).await;
    lab.jobs.cancel(&pulled.name, Duration::ZERO).await.unwrap();

    lab.fault(Some("oom")).await;
    let hungry = lab.launch("wait", &json!({}));
    lab.jobs.launch(&hungry).await.unwrap();
    lab.until(&hungry.name, "the end of its memory", |phase| *phase == Phase::Ended(Ended::OutOfMemory)).await;
    lab.jobs.cancel(&hungry.name, Duration::ZERO).await.unwrap();
    lab.fault(None).await;

    let huge = lab.launch("wait", &json!({ "resource_requests": { "cpu": "100000" } }));
    lab.jobs.launch(&huge).await.unwrap();
    let says = |phase: &Phase| matches!(phase, Phase::Waiting { reason } if reason.starts_with("NODE_FULL"));
    lab.until(&huge.name, "a reason", says).await;
    lab.jobs.cancel(&huge.name, Duration::ZERO).await.unwrap();

    // Somebody takes the pod away.
    let lost = lab.launch("wait", &json!({}));
    lab.jobs.launch(&lost).await.unwrap();
    lab.seen(&lost, "env").await;
    let pods = lab.api::<Pod>();
    let of = ListParams::default().labels(&format!("orrery.dev/attempt={}", lost.name));
    let pod = pods.list(&of).await.unwrap().items.remove(0).metadata.name.unwrap();
    pods.delete(&pod, &DeleteParams::default().grace_period(0)).await.unwrap();
    lab.until(&lost.name, "its loss", |phase| matches!(phase, Phase::Ended(_))).await;
    lab.jobs.cancel(&lost.name, Duration::ZERO).await.unwrap();

    // What the API server refuses is never tried again.
    let wrong = lab
        .launch("wait", &json!({ "resource_requests": { "memory": "2Gi" }, "resource_limits": { "memory": "1Gi" } }));
    assert!(matches!(lab.jobs.launch(&wrong).await, Err(Error::Refused(_))));
    lab.empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_get_what_is_labelled_with_their_workspace_and_nothing_else() {
    let Some(lab) = Lab::new("objects").await else { return };
    for (name, workspace) in [("mine", "lake"), ("others", "sea")] {
        let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name,
            "labels": { "orrery.dev/workspace": workspace } }, "stringData": { "KEY": name } });
        lab.api::<Secret>().create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
    }
    let volume = json!({ "metadata": { "name": "lake", "labels": { "orrery.dev/workspace": "lake" } },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } } });
    let volumes = lab.api::<PersistentVolumeClaim>();
    volumes.create(&PostParams::default(), &serde_json::from_value(volume).unwrap()).await.unwrap();
    let launch = lab.launch(
        "wait",
        &json!({
            "container_config": {
                "env_from": [{ "secret_ref": { "name": "mine" }, "prefix": "MY_" }, { "secret_ref": { "name": "others" } }],
                "env": [{ "name": "STOLEN", "value_from": { "secret_key_ref": { "name": "others", "key": "KEY" } } },
                        { "name": "PLACE", "value": "/lake/here" }],
                "volume_mounts": [{ "name": "lake", "mount_path": "/lake" }, { "name": "theirs", "mount_path": "/theirs" }],
            },
            "pod": { "volumes": [{ "name": "lake", "persistent_volume_claim": { "claim_name": "lake" } },
                                 { "name": "theirs", "secret": { "secretName": "others" } }] },
        }),
    );
    let remarks = lab.jobs.launch(&launch).await.unwrap();
    assert_eq!(remarks.len(), 1, "{remarks:?}");
    assert!(remarks[0].contains("`others`") && remarks[0].contains("orrery.dev/workspace=lake"), "{remarks:?}");
    let env = lab.seen(&launch, "env").await;
    assert!(env.contains("MY_KEY=mine") && !env.contains("STOLEN") && !env.contains("KEY=others"), "{env}");
    assert!(env.contains("ORRERY_EXECUTOR_PASS_ENV=LANG,PLACE,MY_KEY"), "{env}");
    let place = env.lines().find_map(|line| line.strip_prefix("PLACE=")).unwrap();
    assert!(place.ends_with("/here") && place != "/lake/here", "the volume is mounted: {place}");
    lab.jobs.cancel(&launch.name, Duration::ZERO).await.unwrap();
    lab.until(&launch.name, "its end", |phase| *phase == Phase::Absent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_life_of_an_executor_ends_what_the_last_one_left() {
    let Some(lab) = Lab::new("reap").await else { return };
    let share = json!({ "gpus": { "count": 1, "sm": 10 } });
    let (left, mut kept) = (lab.launch("wait", &json!({})), lab.launch("wait", &share));
    kept.place = Some(lab.given(100).await);
    lab.jobs.launch(&left).await.unwrap();
    lab.jobs.launch(&kept).await.unwrap();
    lab.seen(&left, "env").await;
    lab.seen(&kept, "env").await;
    let stranger = Jobs::connect(&lab.access, lab.policy.clone(), "another").await.unwrap();
    assert_eq!(reaped(&stranger, |_| false).await, 0, "what others launched is theirs");
    let next = Jobs::connect(&lab.access, lab.policy.clone(), &lab.mark).await.unwrap();
    assert_eq!(reaped(&next, |name| *name == kept.name).await, 1);
    wait_for("the end of what was left", PATIENCE, async || {
        matches!(next.observe(&left.name).await, Ok(Phase::Absent)).then_some(())
    })
    .await;
    assert_eq!(next.observe(&kept.name).await.unwrap(), Phase::Running);
    assert_eq!(reaped(&next, |_| false).await, 1);
    lab.empty().await;
}

/// How many were ended, as soon as it was read what there is.
async fn reaped(jobs: &Jobs, lives: impl Fn(&Name) -> bool + Sync) -> usize {
    wait_for("a sweep", PATIENCE, async || jobs.reap(&lives).await.ok()).await
}
