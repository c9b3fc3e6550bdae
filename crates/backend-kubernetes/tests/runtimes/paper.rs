//! What kube-scheduler, controllers and kubelets say of a node that is only written down: its driver and its kubelet are this
//! test, so that nobody else's pods come to harm.

use crate::lab::{Lab, PATIENCE, afterwards, life, until};
use backend_kubernetes::{Classes, Goal, Life, Order, names};
use domain::runtime::App;
use k8s_openapi::api::{
    core::v1::{Event, Node, PersistentVolumeClaim, Pod, Secret},
    resource::v1::{DeviceClass, ResourceClaim, ResourceSlice},
};
use kube::{
    Api, Resource, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use proto::internal::v1::RuntimePhase;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{fmt::Debug, time::Duration};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// More often than a node may be silent before it is given up.
const BEAT: Duration = Duration::from_secs(2);

struct Paper {
    lab: Lab,
    /// Of the node, its pool, its slice; and its driver and class, which are below it.
    name: String,
    driver: String,
    beat: JoinHandle<()>,
    lives: u32,
}

impl Paper {
    /// A node with two whole GPUs and room for little.
    async fn new() -> Option<Self> {
        let name = format!("paper-{}", &Uuid::new_v4().to_string()[..8]);
        let driver = format!("{name}.example.com");
        let row = format!("{driver}={driver}");
        let lab = Lab::with("paper", Classes::read([row.as_str()]).unwrap()).await?;
        let node = json!({
            "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
            // Ours tolerate it, and nobody else's.
            "spec": { "taints": [{ "key": "orrery.dev/gpu", "effect": "NoSchedule" }] },
        });
        Api::<Node>::all(lab.client.clone())
            .create(&PostParams::default(), &serde_json::from_value(node).unwrap())
            .await
            .unwrap();
        let beat = tokio::spawn(beat(Api::all(lab.client.clone()), name.clone()));
        let paper = Self { lab, name, driver, beat, lives: 0 };
        paper.class(&format!("device.driver == '{}'", paper.driver)).await;
        paper.publish(1, json!([])).await;
        paper.lab.backend.recover().await.unwrap();
        until("the node", PATIENCE, || async {
            let node = paper.lab.node(&paper.name);
            node.schedulable && node.devices.len() == 3
        })
        .await;
        Some(paper)
    }

    async fn class(&self, selector: &str) {
        let spec = json!({ "selectors": [{ "cel": { "expression": selector } }] });
        self.apply(&Api::<DeviceClass>::all(self.lab.client.clone()), &self.driver, json!({ "spec": spec })).await;
    }

    /// Publishes both devices in this generation, of one slice; the first one has these taints.
    async fn publish(&self, generation: i64, taints: Value) {
        self.publish_slice(&self.name, (generation, 1), taints).await;
    }

    /// Publishes a slice in this generation of so many.
    async fn publish_slice(&self, name: &str, (generation, slices): (i64, i64), taints: Value) {
        self.publish_as(name, (generation, slices), json!({ "taints": taints })).await;
    }

    /// The same, with these fields on the first device.
    async fn publish_as(&self, name: &str, (generation, slices): (i64, i64), first: Value) {
        let device = |index: u32, more: Value| {
            let attributes =
                json!({ "uuid": { "string": format!("GPU-{index}") }, "productName": { "string": "Paper" } });
            let mut device = json!({ "name": format!("gpu-{index}"), "attributes": attributes,
                                     "capacity": { "memory": { "value": "16Gi" } } });
            device.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            device
        };
        let spec = json!({
            "driver": self.driver, "nodeName": self.name,
            "pool": { "name": self.name, "generation": generation, "resourceSliceCount": slices },
            // What has no id cannot be pinned, and must not harm what has one.
            "devices": [{ "name": "a-channel", "attributes": {} }, device(0, first), device(1, json!({}))],
        });
        self.apply(&self.slices(), name, json!({ "spec": spec })).await;
    }

    fn slices(&self) -> Api<ResourceSlice> {
        Api::all(self.lab.client.clone())
    }

    async fn apply<K>(&self, api: &Api<K>, name: &str, mut object: Value)
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        object["apiVersion"] = K::api_version(&()).into();
        object["kind"] = K::kind(&()).into();
        object["metadata"]["name"] = name.into();
        api.patch(name, &PatchParams::apply("paper").force(), &Patch::Apply(&object)).await.unwrap();
    }

    async fn patch_node(&self, patch: Value) {
        let nodes: Api<Node> = Api::all(self.lab.client.clone());
        nodes.patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// Besides the one that keeps others away.
    async fn taint(&self, taints: &[(&str, &str)]) {
        let ours = [("orrery.dev/gpu", "NoSchedule")];
        let all = ours.iter().chain(taints).map(|(key, effect)| json!({ "key": key, "effect": effect }));
        self.patch_node(json!({ "spec": { "taints": all.collect::<Value>() } })).await;
    }

    /// Somebody else writes the claim's allocation: the first device, with these fields and these users. The pod is kept
    /// from its node until then.
    async fn allocated(&mut self, fields: Value, users: usize) -> Life {
        self.taint(&[("broken", "NoSchedule")]).await;
        let life = self.begins().await;
        self.lab.until(life.holder, RuntimePhase::PodCreated, "NODE_TAINTED").await;
        let device = json!({ "request": "gpu-0", "driver": self.driver, "pool": self.name, "device": "gpu-0" });
        let mut allocation = json!({ "devices": { "results": [device] } });
        allocation.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let user = |n| json!({ "apiGroup": "example.com", "resource": "things", "name": format!("thing-{n}"), "uid": format!("{n}") });
        let users: Vec<Value> = (0..users).map(user).collect();
        let status = json!({ "status": { "allocation": allocation, "reservedFor": users } });
        let name = names::object(&life.workspace, life.number);
        let claims = self.lab.api::<ResourceClaim>();
        claims.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        self.taint(&[]).await;
        life
    }

    /// A life on the first device.
    fn life(&mut self) -> Life {
        self.lives += 1;
        let device = format!("{0}/{1}/gpu-0", self.driver, self.name);
        life(&format!("paper-{}", self.lives), &self.name, &[(&device, 1000)])
    }

    async fn begins(&mut self) -> Life {
        let life = self.life();
        self.lab.run(&life, 1);
        life
    }

    /// One whose pod is bound; no kubelet takes it up.
    async fn bound(&mut self) -> Life {
        let life = self.begins().await;
        self.lab.until(life.holder, RuntimePhase::ClaimAllocated, "").await;
        life
    }

    async fn status(&self, life: &Life, status: Value) {
        let pods = self.lab.api::<Pod>();
        let patch = Patch::Strategic(json!({ "status": status }));
        pods.patch_status(&names::object(&life.workspace, life.number), &PatchParams::default(), &patch).await.unwrap();
    }

    /// Ends a life. Where a pod was bound, its end is never told, so that it is taken away.
    async fn end(&self, life: &Life) {
        let name = names::object(&life.workspace, life.number);
        let goal = Goal::Stop { grace: Duration::from_secs(1) };
        self.lab.backend.apply(Order { holder: life.holder, fence: 2, goal });
        let pods = self.lab.api::<Pod>();
        until("the end of its pod", PATIENCE, || async {
            let pod = pods.get_opt(&name).await.unwrap();
            if pod.as_ref().is_some_and(|pod| pod.metadata.deletion_timestamp.is_some()) {
                assert_ne!(self.lab.report(life.holder).phase(), RuntimePhase::Gone, "its pod may still run");
                drop(pods.delete(&name, &DeleteParams::default().grace_period(0)).await);
            }
            pod.is_none()
        })
        .await;
        self.lab.end(life, 3).await;
    }
}

impl Drop for Paper {
    fn drop(&mut self) {
        self.beat.abort();
        let (name, class) = (&self.name, &self.driver);
        afterwards(self.lab.config(), async |client| {
            let all = DeleteParams::default();
            drop(Api::<Node>::all(client.clone()).delete(name, &all).await);
            for slice in [name, &format!("{name}-second")] {
                drop(Api::<ResourceSlice>::all(client.clone()).delete(slice, &all).await);
            }
            drop(Api::<DeviceClass>::all(client).delete(class, &all).await);
        });
    }
}

/// What a kubelet says of its node, again and again.
async fn beat(nodes: Api<Node>, name: String) {
    let size = json!({ "cpu": "8", "memory": "64Gi", "pods": "20" });
    loop {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let ready = json!({ "type": "Ready", "status": "True", "reason": "Paper", "lastHeartbeatTime": now });
        let status = json!({ "capacity": size, "allocatable": size, "conditions": [ready] });
        drop(nodes.patch_status(&name, &PatchParams::default(), &Patch::Strategic(json!({ "status": status }))).await);
        tokio::time::sleep(BEAT).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kube_scheduler_says_why() {
    let Some(mut paper) = Paper::new().await else { return };
    let waits = RuntimePhase::PodCreated;
    let mut large = paper.life();
    large.spec.ask.cpu_milli = 9_000;
    paper.lab.run(&large, 1);
    paper.lab.until(large.holder, waits, "NODE_FULL").await;
    paper.lab.end(&large, 2).await;

    // What is wrong with this node is no reason of a pod for another one.
    paper.taint(&[("elsewhere", "NoSchedule")]).await;
    let mut nowhere = paper.life();
    (nowhere.node, nowhere.grants) = ("nowhere".to_owned(), Vec::new());
    paper.lab.run(&nowhere, 1);
    paper.lab.until(nowhere.holder, waits, "UNSCHEDULABLE").await;
    paper.lab.until(nowhere.holder, RuntimePhase::Misplaced, "UNSCHEDULABLE").await;
    paper.lab.end(&nowhere, 2).await;
    paper.taint(&[]).await;

    let volume = json!({
        "metadata": { "name": "data", "labels": { names::PROJECT: names::as_label("Ökonomie") } },
        "spec": { "storageClassName": "nobody", "accessModes": ["ReadWriteOnce"],
                  "resources": { "requests": { "storage": "1Gi" } } },
    });
    let volumes = paper.lab.api::<PersistentVolumeClaim>();
    volumes.create(&PostParams::default(), &serde_json::from_value(volume).unwrap()).await.unwrap();
    let mut mounts = paper.life();
    mounts.spec.mounts = serde_json::from_value(json!([{ "volume": "data", "path": "/data" }])).unwrap();
    paper.lab.run(&mounts, 1);
    paper.lab.until(mounts.holder, waits, "VOLUME_FAILED").await;
    paper.lab.end(&mounts, 2).await;

    // Other devices than were granted: somebody else has written the allocation.
    paper.taint(&[("broken", "NoSchedule")]).await;
    let life = paper.begins().await;
    paper.lab.until(life.holder, waits, "NODE_TAINTED").await;
    let other = json!({ "request": "gpu-0", "driver": paper.driver, "pool": paper.name, "device": "gpu-1" });
    let status = json!({ "status": { "allocation": { "devices": { "results": [other] } } } });
    let claims = paper.lab.api::<ResourceClaim>();
    let name = names::object(&life.workspace, life.number);
    claims.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    paper.lab.until(life.holder, RuntimePhase::Misplaced, "PLACEMENT_CONFLICT").await;
    paper.lab.end(&life, 2).await;
    paper.taint(&[]).await;

    // A generation of which a slice is missing takes nobody new; one whose devices come twice is none.
    let second = format!("{}-second", paper.name);
    paper.publish_slice(&paper.name, (2, 2), json!([])).await;
    until("the pool that changes", PATIENCE, || async {
        paper.lab.node(&paper.name).devices.iter().all(|device| device.condition.contains("being updated"))
    })
    .await;
    paper.publish_slice(&second, (2, 2), json!([])).await;
    until("both slices", PATIENCE, || async { paper.lab.node(&paper.name).devices.len() == 6 }).await;
    let life = paper.begins().await;
    paper.lab.until(life.holder, waits, "POOL_UPDATING").await;
    paper.slices().delete(&second, &DeleteParams::default()).await.unwrap();
    paper.publish(3, json!([])).await;
    paper.lab.until(life.holder, RuntimePhase::ClaimAllocated, "").await;
    paper.end(&life).await;

    // A class that asks for an attribute which nobody publishes; then it is gone, and with it the claim.
    paper.class(&format!("device.attributes['{}'].nothing == 'x'", paper.driver)).await;
    let life = paper.begins().await;
    paper.lab.until(life.holder, waits, "BAD_SELECTOR").await;
    let classes: Api<DeviceClass> = Api::all(paper.lab.client.clone());
    classes.delete(&paper.driver, &DeleteParams::default()).await.unwrap();
    paper.publish(4, json!([])).await;
    paper.lab.until(life.holder, waits, "DEVICE_CLASS_MISSING").await;
    claims.delete(&names::object(&life.workspace, life.number), &DeleteParams::default()).await.unwrap();
    let told = paper.lab.until(life.holder, RuntimePhase::Misplaced, "CLAIM_MISSING").await;
    assert!(!told.bound, "{told:?}");
    paper.lab.end(&life, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_and_devices_take_lives_along() {
    let Some(mut paper) = Paper::new().await else { return };
    // What a kubelet says of a container that it cannot start.
    let life = paper.bound().await;
    for (reason, code) in
        [("ImagePullBackOff", "IMAGE_PULL_FAILED"), ("CreateContainerConfigError", "CONTAINER_CONFIG")]
    {
        let waiting = json!({ "waiting": { "reason": reason, "message": "in its own words" } });
        let container = json!({ "name": "app", "image": "none", "imageID": "", "ready": false, "restartCount": 0, "state": waiting });
        paper.status(&life, json!({ "phase": "Pending", "containerStatuses": [container] })).await;
        let told = paper.lab.until(life.holder, RuntimePhase::Pulling, code).await;
        assert_eq!(told.message, "in its own words");
    }
    paper.end(&life).await;

    let life = paper.bound().await;
    let pod = paper.lab.api::<Pod>().get(&names::object(&life.workspace, life.number)).await.unwrap();
    let event = json!({
        "metadata": { "generateName": "paper-" }, "type": "Warning", "reason": "FailedMount", "message": "no such disk",
        "involvedObject": { "apiVersion": "v1", "kind": "Pod", "name": pod.name_any(), "namespace": pod.namespace(),
                            "uid": pod.uid() },
    });
    let events = paper.lab.api::<Event>();
    events.create(&PostParams::default(), &serde_json::from_value(event).unwrap()).await.unwrap();
    paper.lab.until(life.holder, RuntimePhase::Pulling, "VOLUME_FAILED").await;
    // Its device fails under it.
    paper.publish(2, json!([{ "key": "example.com/xid", "value": "79", "effect": "NoExecute" }])).await;
    paper.lab.until(life.holder, RuntimePhase::Failed, "DEVICE_FAILED").await;
    paper.end(&life).await;
    paper.publish(3, json!([])).await;

    // The node ran short of memory.
    let life = paper.bound().await;
    let target = json!({ "type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet",
                         "message": "The node was low on resource: memory." });
    let status = json!({ "phase": "Failed", "reason": "Evicted", "conditions": [target] });
    paper.status(&life, status).await;
    let told = paper.lab.until(life.holder, RuntimePhase::Failed, "EVICTED").await;
    assert!(told.message.contains("low on resource"), "{told:?}");
    paper.end(&life).await;

    // The node is given up.
    let life = paper.bound().await;
    paper.taint(&[("example.com/gone", "NoExecute")]).await;
    paper.lab.until(life.holder, RuntimePhase::Failed, "NODE_LOST").await;
    paper.end(&life).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_is_away_for_a_while_takes_no_life_along() {
    let Some(mut paper) = Paper::new().await else { return };
    let life = paper.bound().await;
    let container = json!({ "name": "app", "image": "none", "imageID": "", "ready": true, "state": { "running": {} } });
    let ready = json!({ "type": "Ready", "status": "True" });
    let runs = json!({ "phase": "Running", "podIP": "10.0.0.1", "podIPs": [{ "ip": "10.0.0.1" }],
                       "conditions": [ready], "containerStatuses": [container] });
    paper.status(&life, runs).await;
    paper.lab.until(life.holder, RuntimePhase::Ready, "").await;
    paper.slices().delete(&paper.name, &DeleteParams::default()).await.unwrap();
    let told = paper.lab.until(life.holder, RuntimePhase::Ready, "DEVICE_MISSING").await;
    assert!(told.message.contains("gpu-0"), "{told:?}");
    paper.publish(2, json!([])).await;
    paper.lab.until(life.holder, RuntimePhase::Ready, "").await;

    // What was told to end goes on ending, whatever is asked of it then by an order that is as good.
    let goal = Goal::Stop { grace: Duration::from_secs(1) };
    paper.lab.backend.apply(Order { holder: life.holder, fence: 1, goal });
    paper.lab.until(life.holder, RuntimePhase::Stopping, "").await;
    paper.lab.run(&life, 1);
    let name = names::object(&life.workspace, life.number);
    drop(paper.lab.api::<Pod>().delete(&name, &DeleteParams::default().grace_period(0)).await);
    paper.lab.until(life.holder, RuntimePhase::Gone, "").await;
    paper.lab.end(&life, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_do_to_a_claim_is_told() {
    let Some(mut paper) = Paper::new().await else { return };
    let waits = RuntimePhase::PodCreated;
    // As many users as a claim can have.
    let life = paper.allocated(json!({}), 256).await;
    paper.lab.until(life.holder, waits, "CLAIM_IN_USE").await;
    paper.lab.end(&life, 2).await;

    let there = json!({ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["nowhere"] }] });
    let life = paper.allocated(json!({ "nodeSelector": { "nodeSelectorTerms": [there] } }), 1).await;
    paper.lab.until(life.holder, waits, "CLAIM_PINNED_ELSEWHERE").await;
    paper.lab.end(&life, 2).await;

    // Somebody deletes it, and somebody else keeps it from going.
    paper.taint(&[("broken", "NoSchedule")]).await;
    let life = paper.begins().await;
    paper.lab.until(life.holder, waits, "NODE_TAINTED").await;
    let (claims, name) = (paper.lab.api::<ResourceClaim>(), names::object(&life.workspace, life.number));
    let kept = |finalizers: Value| Patch::Merge(json!({ "metadata": { "finalizers": finalizers } }));
    claims.patch(&name, &PatchParams::default(), &kept(json!(["example.com/keep"]))).await.unwrap();
    claims.delete(&name, &DeleteParams::default()).await.unwrap();
    paper.lab.until(life.holder, waits, "CLAIM_DELETING").await;
    paper.lab.until(life.holder, RuntimePhase::Misplaced, "CLAIM_DELETING").await;
    claims.patch(&name, &PatchParams::default(), &kept(Value::Null)).await.unwrap();
    paper.lab.end(&life, 2).await;
    paper.taint(&[]).await;

    // The driver has to do something before anybody may come.
    let pending = json!({ "bindsToNode": true, "bindingConditions": ["example.com/attached"],
                          "bindingFailureConditions": ["example.com/failed"] });
    paper.publish_as(&paper.name, (2, 1), pending).await;
    let life = paper.begins().await;
    let told = paper.lab.until(life.holder, waits, "DEVICE_NOT_READY").await;
    assert!(!told.message.is_empty(), "{told:?}");
    paper.lab.end(&life, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_taken_and_objects_that_are_refused_fail() {
    let Some(mut paper) = Paper::new().await else { return };
    let life = paper.life();
    let name = names::object(&life.workspace, life.number);
    let record = json!({ "metadata": { "name": name, "labels": { names::HOLDER: Uuid::new_v4().to_string() } } });
    let secrets = paper.lab.api::<Secret>();
    secrets.create(&PostParams::default(), &serde_json::from_value(record).unwrap()).await.unwrap();
    paper.lab.run(&life, 1);
    paper.lab.until(life.holder, RuntimePhase::Failed, "NAME_TAKEN").await;
    let goal = Goal::Stop { grace: Duration::from_secs(1) };
    paper.lab.backend.apply(Order { holder: life.holder, fence: 2, goal: goal.clone() });
    paper.lab.until(life.holder, RuntimePhase::Gone, "").await;
    assert!(secrets.get_opt(&name).await.unwrap().is_some(), "what is another's stays");

    // A life that has just ended has its name until its record is forgotten, and the next one waits for that.
    let mut ended = paper.life();
    ended.spec.pre_start = "def get_custom_configs(c): return c".to_owned();
    // Whatever its image starts by itself is not told what the script sets.
    ended.spec.app =
        App::Custom { port: 8_000, command: Vec::new(), keeps_base_path: false, health_path: String::new() };
    paper.lab.run(&ended, 1);
    paper.lab.until(ended.holder, RuntimePhase::Failed, "PRE_START_UNAVAILABLE").await;
    paper.lab.backend.apply(Order { holder: ended.holder, fence: 2, goal });
    paper.lab.until(ended.holder, RuntimePhase::Gone, "").await;
    let next = Life { holder: paper.life().holder, ..ended.clone() };
    paper.lab.run(&next, 1);
    let told = paper.lab.until(next.holder, RuntimePhase::Accepted, "").await;
    assert!(told.message.contains("earlier life"), "{told:?}");
    paper.lab.backend.apply(Order { holder: ended.holder, fence: 3, goal: Goal::Forget });
    paper.lab.until(next.holder, RuntimePhase::Failed, "PRE_START_UNAVAILABLE").await;
    paper.lab.end(&next, 2).await;

    let mut wrong = paper.life();
    wrong.spec.env = serde_json::from_value(json!({ "A=B": "no name of a variable" })).unwrap();
    paper.lab.run(&wrong, 1);
    let told = paper.lab.until(wrong.holder, RuntimePhase::Failed, "CLUSTER_REFUSED").await;
    assert!(told.message.contains("A=B"), "{told:?}");
    paper.lab.end(&wrong, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gpus_of_a_node_where_a_device_plugin_gives_some_are_promised_to_nobody() {
    let Some(mut paper) = Paper::new().await else { return };
    let in_time = Duration::from_secs(5);
    let life = paper.bound().await;
    let pods = paper.lab.api::<Pod>();
    // A network card of the same vendor, and a GPU. The API server makes requests of limits.
    for (name, resource) in [("card", "example.com/nic"), ("train", "example.com/gpu")] {
        let all = paper.lab.node(&paper.name).devices;
        assert!(all.iter().all(|device| device.healthy), "before {name}: {all:?}");
        let container = json!({ "name": "c", "image": "none", "resources": { "limits": { resource: "1" } } });
        let spec = json!({ "nodeName": paper.name, "containers": [container], "automountServiceAccountToken": false });
        let pod = json!({ "metadata": { "name": name }, "spec": spec });
        pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    }
    until("its devices to be closed", in_time, || async {
        paper.lab.node(&paper.name).devices.iter().all(|device| !device.healthy && device.maybe_taken)
    })
    .await;
    let node = paper.lab.node(&paper.name);
    assert!(node.devices.iter().all(|device| device.condition.contains("has example.com/gpu of a device plugin")));
    let holder = format!("{}/train: 1 × example.com/gpu", paper.lab.place.namespace);
    let strangers: Vec<_> = node.foreign.iter().filter(|foreign| !foreign.grants.is_empty()).collect();
    assert_eq!(strangers.iter().map(|one| (&one.holder, one.grants.len())).collect::<Vec<_>>(), [(&holder, 3)]);
    let told = paper.lab.report(life.holder);
    assert_eq!((told.phase(), told.code.as_str()), (RuntimePhase::ClaimAllocated, ""), "what holds a device goes on");
    // It is over, and its object stays.
    let over = Patch::Strategic(json!({ "status": { "phase": "Succeeded" } }));
    pods.patch_status("train", &PatchParams::default(), &over).await.unwrap();
    until("its devices to be open again", in_time, || async {
        paper.lab.node(&paper.name).devices.iter().all(|device| device.healthy && !device.maybe_taken)
    })
    .await;
    paper.end(&life).await;
}
