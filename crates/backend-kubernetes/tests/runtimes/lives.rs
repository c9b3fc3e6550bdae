//! From an order to a bound pod that answers, and to nothing; strangers and lost devices.

use crate::lab::{Board, Lab, PATIENCE, SHARED, chip, get, life, until};
use backend_kubernetes::{Backend, Cluster, Goal, Order, Sink, names, render::Place};
use k8s_openapi::api::{
    core::v1::{Node, Pod, Service},
    networking::v1::NetworkPolicy,
    resource::v1::{ResourceClaim, ResourceSlice},
    scheduling::v1::PriorityClass,
};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use proto::internal::v1::{self as pb, RuntimePhase};
use serde_json::json;
use std::{sync::Arc, time::Duration};

#[tokio::test(flavor = "multi_thread")]
async fn a_life_from_its_order_to_nothing() {
    let Some(mut lab) = Lab::new("life").await else { return };
    assert!(lab.backend.recover().await.unwrap().is_empty());
    let device = lab.node("shared-0").devices.into_iter().find(|d| d.name == chip("shared-0", 0)).unwrap();
    assert_eq!((device.class.as_str(), device.memory_bytes), (SHARED, 96 << 30));
    assert_eq!((device.healthy, device.sharing.as_str()), (true, r#"{"shared":{"step_milli":10}}"#));
    let whole = lab.node("whole-0");
    assert_eq!((whole.devices.len(), whole.devices[0].sharing.as_str()), (8, r#""exclusive""#));
    let partitioned = lab.node("partitioned-0").devices;
    assert_eq!(partitioned.len(), 2, "a chip and its partitions are one: {partitioned:?}");
    assert!(partitioned[0].sharing.contains(r#""name":"3g.40gb","milli":428"#), "{}", partitioned[0].sharing);

    let (a, b) = (chip("shared-0", 0), chip("shared-0", 1));
    let life = life("lab", "shared-0", &[(&a, 400), (&b, 400)]);
    lab.run(&life, 1);
    let ready = lab.until(life.holder, RuntimePhase::Ready, "").await;
    assert!(ready.bound && ready.fence == 1 && ready.node == "shared-0", "{ready:?}");
    assert!(get(&ready.endpoint, "/").contains(" 200 "), "the application answers at {}", ready.endpoint);
    assert!(get(&ready.endpoint, "/started").contains(" 200 "), "the script ran before it, and its failure is none");

    let claim = lab.api::<ResourceClaim>().get("ws-lab-r1").await.unwrap();
    let results = claim.status.unwrap().allocation.unwrap().devices.unwrap().results.unwrap();
    let got: Vec<_> = results
        .iter()
        .map(|r| (r.device.as_str(), r.consumed_capacity.as_ref().unwrap()["cores"].0.as_str()))
        .collect();
    assert_eq!(got, [("hami-gpu-0", "40"), ("hami-gpu-1", "40")]);
    let pod = lab.api::<Pod>().get("ws-lab-r1").await.unwrap();
    let spec = pod.spec.clone().unwrap();
    assert_eq!((spec.automount_service_account_token, spec.host_network), (Some(false), None));
    assert_eq!((spec.priority, spec.preemption_policy.as_deref()), (Some(10), Some("Never")));
    let security = spec.containers[0].security_context.clone().unwrap();
    assert_eq!((security.privileged, security.allow_privilege_escalation), (Some(false), Some(false)));
    assert_eq!(spec.security_context.unwrap().run_as_non_root, Some(true));
    assert_eq!(names::label(&pod.metadata, names::GPU_MILLI), Some("800"));

    // A restart adopts it: nothing is made anew, and nothing ends. Who may come in is as this version has it.
    let policies = lab.api::<NetworkPolicy>();
    let policy = policies.get("ws-lab-r1").await.unwrap().spec.unwrap();
    let closed = Patch::Merge(json!({ "spec": { "ingress": [] } }));
    policies.patch("ws-lab-r1", &PatchParams::default(), &closed).await.unwrap();
    let orders = lab.restart().await;
    assert_eq!(policies.get("ws-lab-r1").await.unwrap().spec.unwrap(), policy);
    assert_eq!(orders, [Order { holder: life.holder, fence: 1, goal: Goal::Run(Arc::new(life.clone())) }]);
    lab.until(life.holder, RuntimePhase::Ready, "").await;
    lab.run(&life, 2);
    until("the later fence", PATIENCE, || async { lab.report(life.holder).fence == 2 }).await;
    assert_eq!(lab.api::<Pod>().get("ws-lab-r1").await.unwrap().uid(), pod.uid());
    assert!(lab.node("shared-0").foreign.iter().all(|f| f.grants.iter().all(|g| g.device != a)), "ours is no stranger");

    let goal = Goal::Stop { grace: Duration::from_secs(2) };
    lab.backend.apply(Order { holder: life.holder, fence: 3, goal });
    let gone = lab.until(life.holder, RuntimePhase::Gone, "").await;
    assert_eq!(gone.fence, 3);
    assert!(
        lab.api::<ResourceClaim>().get_opt("ws-lab-r1").await.unwrap().is_none(),
        "GONE is said when its devices are free"
    );
    // What has ended is told again after a restart, and does not begin again.
    lab.restart().await;
    lab.until(life.holder, RuntimePhase::Gone, "").await;
    lab.run(&life, 4);
    until("the later fence", PATIENCE, || async { lab.report(life.holder).fence == 4 }).await;
    assert_eq!(lab.report(life.holder).phase(), RuntimePhase::Gone);
    lab.end(&life, 5).await;
    assert!(lab.api::<Pod>().list(&ListParams::default()).await.unwrap().items.is_empty());
    assert!(lab.api::<Service>().list(&ListParams::default()).await.unwrap().items.is_empty());
    assert!(lab.api::<NetworkPolicy>().list(&ListParams::default()).await.unwrap().items.is_empty());
    // The class of its queue's priority is everybody's, and stays.
    let class = Api::<PriorityClass>::all(lab.client.clone()).get(&names::priority_class(life.queue_priority)).await;
    assert_eq!(class.unwrap().preemption_policy.as_deref(), Some("Never"));
    assert_eq!(lab.report(life.holder), pb::RuntimeReport::default(), "nothing is reported any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_lost_devices_are_seen_in_time() {
    let Some(lab) = Lab::new("strangers").await else { return };
    lab.backend.recover().await.unwrap();
    // A stranger takes 70 of 100 cores of what we are about to pin.
    let device = chip("shared-1", 3);
    let mut stranger = life("stranger", "shared-1", &[(&device, 700)]);
    stranger.queue_priority = 0;
    let other = Place { pool: "another".to_owned(), ..lab.place.clone() };
    let cluster = Cluster::connect(&lab.access, other).await.unwrap();
    let theirs = Arc::new(Board::default());
    let another = Backend::new(cluster, Arc::clone(&theirs) as Arc<dyn Sink>);
    another.recover().await.unwrap();
    another.apply(Order { holder: stranger.holder, fence: 1, goal: Goal::Run(Arc::new(stranger.clone())) });
    let claim = names::object(&stranger.workspace, stranger.number);
    until("the stranger's allocation", PATIENCE, || async {
        let claim = lab.api::<ResourceClaim>().get_opt(&claim).await.unwrap();
        claim.and_then(|claim| claim.status?.allocation).is_some()
    })
    .await;
    // Within 5 s of the word of whoever allocates.
    until("the stranger's share", Duration::from_secs(5), || async {
        let foreign = lab.node("shared-1").foreign;
        foreign.iter().flat_map(|f| &f.grants).any(|grant| grant.device == device && grant.milli == 700)
    })
    .await;
    // Pinned all the same: kube-scheduler refuses, and after its patience it is to be placed anew.
    let unlucky = life("unlucky", "shared-1", &[(&device, 400)]);
    lab.run(&unlucky, 1);
    lab.until(unlucky.holder, RuntimePhase::PodCreated, "NO_MATCHING_DEVICE").await;
    let told = lab.until(unlucky.holder, RuntimePhase::Misplaced, "NO_MATCHING_DEVICE").await;
    assert!(told.message.contains("cannot allocate all claims"), "{}", told.message);
    lab.end(&unlucky, 2).await;

    // Health, within 5 s of the word of the device's driver.
    let nodes: Api<Node> = Api::all(lab.client.clone());
    lab.annotate(nodes.clone(), "shared-1", "kubelab/devices", Some("hami-gpu-2=unhealthy")).await;
    let slices: Api<ResourceSlice> = Api::all(lab.client.clone());
    until("the driver's word", PATIENCE, || async {
        let slices = slices.list(&ListParams::default()).await.unwrap().items;
        let of_node = slices.iter().filter(|slice| slice.spec.node_name.as_deref() == Some("shared-1"));
        let mut devices = of_node.flat_map(|slice| slice.spec.devices.iter().flatten());
        devices.any(|device| device.name == "hami-gpu-2" && device.taints.is_some())
    })
    .await;
    until("the failed device", Duration::from_secs(5), || async {
        lab.node("shared-1")
            .devices
            .iter()
            .any(|d| d.name == chip("shared-1", 2) && !d.healthy && d.condition.contains("xid"))
    })
    .await;
    lab.annotate(nodes, "shared-1", "kubelab/devices", None).await;
    until("the device's recovery", PATIENCE, || async { lab.node("shared-1").devices.iter().all(|d| d.healthy) }).await;
}

/// It sees the environment of the spec and none of its own; what it says is meant letter for letter.
const SCRIPT: &str = r#"
import os
assert set(os.environ) <= {'PATH', 'LC_CTYPE'}, os.environ

def get_custom_configs(c):
    assert (c['name'], c['env']) == ('scripted', [{'name': 'PRICE', 'value': '$(POD_IP)'}]), c
    c['env'].append({'name': 'ADDED', 'value': "it's $HOME\n\"two\""})
    return c
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_pre_start_script_sets_variables_of_the_application_and_nothing_else() {
    let Some(lab) = Lab::new("scripts").await else { return };
    lab.backend.recover().await.unwrap();
    let device = chip("shared-1", 1);
    let scripted = |name: &str, script: &str| {
        let mut life = life(name, "shared-1", &[]);
        life.spec.pre_start = script.to_owned();
        life
    };
    let mut life = life("scripted", "shared-1", &[(&device, 100)]);
    life.spec.pre_start = SCRIPT.to_owned();
    life.spec.post_start.script = "printf %s \"$ADDED\" > added; env > environment".to_owned();
    lab.run(&life, 1);
    let ready = lab.until(life.holder, RuntimePhase::Ready, "").await;
    assert!(ready.bound, "{ready:?}");
    assert!(
        get(&ready.endpoint, "/added").ends_with("\r\n\r\nit's $HOME\n\"two\""),
        "{}",
        get(&ready.endpoint, "/added")
    );
    let environment = get(&ready.endpoint, "/environment");
    assert!(environment.contains("\nPRICE=$(POD_IP)\n"), "{environment}");
    assert!(!environment.contains("ORRERY_PRE_START"), "{environment}");
    let spec = lab.api::<Pod>().get("ws-scripted-r1").await.unwrap().spec.unwrap();
    let script = &spec.init_containers.unwrap()[0];
    let resources = script.resources.clone().unwrap();
    assert_eq!(
        (resources.claims, script.image.as_deref()),
        (None, Some("none")),
        "no device, and the image of the life"
    );
    let (security, own) = (script.security_context.clone(), spec.containers[0].security_context.clone());
    assert_eq!((security.is_some(), security), (true, own), "no more than the application may");
    let given: Vec<&str> = script.env.iter().flatten().map(|variable| variable.name.as_str()).collect();
    assert!(!given.contains(&"ORRERY_ACCESS_KEY"), "{given:?}");
    lab.end(&life, 2).await;

    let sets = |name: &str, value: &str| {
        format!("def get_custom_configs(c):\n    return {{'env': [{{'name': {name:?}, 'value': {value}}}]}}")
    };
    for (name, script, code, word) in [
        (
            "refused",
            "def get_custom_configs(c):\n    return {'securityContext': {}}".to_owned(),
            "PRE_START_REFUSED",
            "securityContext",
        ),
        ("reserved", sets("NVIDIA_VISIBLE_DEVICES", "'all'"), "PRE_START_REFUSED", "set by the platform"),
        ("ours", sets("JUPYTER_TOKEN", "'mine'"), "PRE_START_REFUSED", "set by the platform"),
        ("number", sets("A", "1"), "PRE_START_REFUSED", "both texts"),
        ("unnamed", sets("A-B", "''"), "PRE_START_REFUSED", "no variable"),
        ("broken", "raise ValueError('no idea')".to_owned(), "PRE_START_FAILED", "no idea"),
        ("without", "pass".to_owned(), "PRE_START_FAILED", "it has to define get_custom_configs"),
        ("long", sets("A", "'x' * 300_000"), "PRE_START_FAILED", "File too large"),
    ] {
        let life = scripted(name, &script);
        lab.run(&life, 1);
        let told = lab.until(life.holder, RuntimePhase::Failed, code).await;
        assert!(told.message.contains(word), "{name}: {told:?}");
        lab.end(&life, 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_start_script_that_fails_is_told_with_its_last_words_and_the_application_runs() {
    let Some(mut lab) = Lab::new("after").await else { return };
    lab.backend.recover().await.unwrap();
    let mut life = life("after", "shared-1", &[]);
    life.spec.post_start.script = "echo begun >&2; echo no such thing >&2; exit 3".to_owned();
    lab.run(&life, 1);
    let told = lab.until(life.holder, RuntimePhase::Ready, "POST_START_FAILED").await;
    assert!(told.message.contains("ended with code 3; its last line: no such thing\n"), "{told:?}");
    assert!(told.bound && get(&told.endpoint, "/").contains("200 OK"), "{told:?}");
    // Whoever comes after this process says the same.
    lab.restart().await;
    let again = lab.until(life.holder, RuntimePhase::Ready, "POST_START_FAILED").await;
    assert_eq!(again.message, told.message);
    lab.end(&life, 2).await;
}
