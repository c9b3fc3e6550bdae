//! What there is: nodes and their chips, less what strangers hold. Pure.
//!
//! Only pools that are complete in their newest generation count. A pool that is being replaced stays as it was, and takes
//! nobody new meanwhile. Refuses to allocate: kube-scheduler does.

use crate::{
    chip::{self, Chip, Use},
    classes::Classes,
    names::{self, POOL},
    plugin::{self, Given},
    quantity,
    render::Place,
};
use k8s_openapi::{
    api::{
        core::v1::{Container, Node, Pod, PodSpec, ResourceRequirements},
        resource::v1::{DeviceClass, DeviceRequestAllocationResult, ResourceClaim, ResourceSlice},
    },
    apimachinery::pkg::api::resource::Quantity,
};
use kube::api::ObjectMeta;
use proto::internal::v1 as pb;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Taints with these keys are tolerated by the pods that we make.
pub const TOLERATED: [&str; 2] = ["nvidia.com/gpu", "orrery.dev/gpu"];

/// Objects of a cluster at one moment.
#[derive(Debug, Default)]
pub struct View {
    /// All nodes.
    pub nodes: Vec<Arc<Node>>,
    /// All slices.
    pub slices: Vec<Arc<ResourceSlice>>,
    /// All device classes.
    pub classes: Vec<Arc<DeviceClass>>,
    /// All claims of all namespaces.
    pub claims: Vec<Arc<ResourceClaim>>,
    /// All pods of all namespaces.
    pub pods: Vec<Arc<Pod>>,
}

/// What is known of the chips. Remembers pools that were complete once.
#[derive(Debug)]
pub struct Inventory {
    classes: Classes,
    pools: BTreeMap<(String, String), Known>,
}

#[derive(Debug)]
struct Known {
    node: String,
    chips: Vec<Chip>,
    /// A newer generation is under way.
    stale: bool,
}

impl Inventory {
    /// Of the devices that these classes serve; nothing is known yet.
    #[must_use]
    pub fn new(classes: Classes) -> Self {
        Self { classes, pools: BTreeMap::new() }
    }

    /// Takes a view over and answers all nodes, as a pool is told. `own` is the place whose claims and pods are ours.
    pub fn nodes(&mut self, view: &View, own: &Place) -> Vec<pb::Node> {
        self.take(view);
        let claims = self.foreign_claims(&view.claims, own);
        let mut strangers = foreign_pods(&view.pods, own);
        let given = plugin::given(&view.pods);
        view.nodes
            .iter()
            .map(|node| {
                let name = node.metadata.name.clone().unwrap_or_default();
                let mut foreign: Vec<pb::Foreign> = claims.get(&name).cloned().unwrap_or_default();
                foreign.extend(strangers.remove(&name));
                let given = given.get(&name).map(Vec::as_slice).unwrap_or_default();
                foreign.extend(given.iter().flat_map(|given| self.anywhere_of(&name, given)));
                let devices = self.chips_of(&name).map(|(chip, stale)| device(chip, stale, given)).collect();
                describe(node, name, grouped(devices, &self.roots_of(node)), foreign)
            })
            .collect()
    }

    /// The chip of this name.
    #[must_use]
    pub fn chip(&self, name: &str) -> Option<&Chip> {
        self.pools.values().flat_map(|pool| &pool.chips).find(|chip| chip.name == name)
    }

    /// What an allocation is of our chips.
    #[must_use]
    pub fn used(&self, result: &DeviceRequestAllocationResult) -> Option<Use> {
        let pool = self.pools.get(&(result.driver.clone(), result.pool.clone()))?;
        let consumed = |name: &str| {
            let all = result.consumed_capacity.as_ref()?;
            all.get(name).or_else(|| all.get(&format!("{}/{name}", result.driver))).map(quantity::units)
        };
        pool.chips.iter().find_map(|chip| chip.used_by(&result.device, (consumed("cores"), consumed("memory"))))
    }

    fn take(&mut self, view: &View) {
        let installed: BTreeSet<String> = view.classes.iter().filter_map(|class| class.metadata.name.clone()).collect();
        let mut pools: BTreeMap<(String, String), Vec<&ResourceSlice>> = BTreeMap::new();
        for slice in &view.slices {
            pools.entry((slice.spec.driver.clone(), slice.spec.pool.name.clone())).or_default().push(slice);
        }
        self.pools.retain(|key, _| pools.contains_key(key));
        for (key, slices) in pools {
            match newest(&slices) {
                Some(complete) => {
                    if let Some(known) = read(&key, &complete, &self.classes, &installed) {
                        self.pools.insert(key, known);
                    }
                }
                None => {
                    self.pools.entry(key).and_modify(|known| known.stale = true);
                }
            }
        }
    }

    fn chips_of<'a>(&'a self, node: &'a str) -> impl Iterator<Item = (&'a Chip, bool)> {
        let here = self.pools.values().filter(move |pool| pool.node == node);
        here.flat_map(|pool| pool.chips.iter().map(|chip| (chip, pool.stale)))
    }

    fn roots_of(&self, node: &Node) -> Vec<String> {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        self.chips_of(name).map(|(chip, _)| chip.root.clone()).collect()
    }

    /// A pod that has devices of a node, nobody knows which: each that it may have, and nothing of it. Once for each driver.
    fn anywhere_of(&self, node: &str, given: &Given) -> Vec<pb::Foreign> {
        let mut found: BTreeMap<&str, pb::Foreign> = BTreeMap::new();
        for (chip, _) in self.chips_of(node).filter(|(chip, _)| given.may_have(&chip.driver)) {
            let spoken = || pb::Foreign { holder: given.spoken(&chip.driver), ..pb::Foreign::default() };
            let nothing = pb::DeviceGrant { device: chip.name.clone(), ..pb::DeviceGrant::default() };
            found.entry(&chip.driver).or_insert_with(spoken).grants.push(nothing);
        }
        found.into_values().collect()
    }

    /// Allocated claims that are none of ours, by node.
    fn foreign_claims(&self, claims: &[Arc<ResourceClaim>], own: &Place) -> BTreeMap<String, Vec<pb::Foreign>> {
        let mut found: BTreeMap<String, Vec<pb::Foreign>> = BTreeMap::new();
        for claim in claims.iter().filter(|claim| !is_own(&claim.metadata, own)) {
            let allocation = claim.status.as_ref().and_then(|status| status.allocation.as_ref());
            let results = allocation.and_then(|allocation| allocation.devices.as_ref()?.results.as_ref());
            let mut grants: BTreeMap<&str, Vec<pb::DeviceGrant>> = BTreeMap::new();
            for result in results.into_iter().flatten().filter(|result| result.admin_access != Some(true)) {
                let pool = self.pools.get(&(result.driver.clone(), result.pool.clone()));
                if let (Some(pool), Some(used)) = (pool, self.used(result)) {
                    grants.entry(&pool.node).or_default().push(grant(used));
                }
            }
            let holder = format!(
                "{}/{}",
                claim.metadata.namespace.as_deref().unwrap_or_default(),
                claim.metadata.name.as_deref().unwrap_or_default()
            );
            for (node, grants) in grants {
                let foreign = pb::Foreign { holder: holder.clone(), cpu_milli: 0, memory_bytes: 0, grants };
                found.entry(node.to_owned()).or_default().push(foreign);
            }
        }
        found
    }
}

/// The slices of the newest generation, when all of them are there.
fn newest<'a>(slices: &[&'a ResourceSlice]) -> Option<Vec<&'a ResourceSlice>> {
    let generation = slices.iter().map(|slice| slice.spec.pool.generation).max()?;
    let of: Vec<_> = slices.iter().copied().filter(|slice| slice.spec.pool.generation == generation).collect();
    let wanted = of.first()?.spec.pool.resource_slice_count;
    (i64::try_from(of.len()) == Ok(wanted)).then_some(of)
}

/// A pool of one node. Devices that any node can reach are none of a node's, and are left out.
fn read(
    key: &(String, String),
    slices: &[&ResourceSlice],
    classes: &Classes,
    installed: &BTreeSet<String>,
) -> Option<Known> {
    let node = slices.iter().find_map(|slice| slice.spec.node_name.clone())?;
    let devices: Vec<_> = slices.iter().flat_map(|slice| slice.spec.devices.iter().flatten()).collect();
    let counters: Vec<_> = slices.iter().flat_map(|slice| slice.spec.shared_counters.iter().flatten()).collect();
    Some(Known { node, chips: chip::chips((&key.0, &key.1), &devices, &counters, classes, installed), stale: false })
}

fn device(chip: &Chip, stale: bool, given: &[Given]) -> pb::PoolDevice {
    // What was said to be wrong with it is so until something else is said.
    let works = chip.condition.is_empty();
    let taken = Some(plugin::condition(given, &chip.driver)).filter(|taken| works && !taken.is_empty());
    let maybe_taken = taken.is_some();
    // Schedulers of the version before know only this word for what takes nobody new and has not failed.
    let updating = works && (stale || maybe_taken);
    let condition = match taken {
        Some(taken) => taken,
        None if updating => "its pool is being updated".to_owned(),
        None => chip.condition.clone(),
    };
    let (cores, cores_step) = chip.cores().unwrap_or_default();
    pb::PoolDevice {
        name: chip.name.clone(),
        hardware_id: chip.uuid.clone(),
        class: chip.class.clone(),
        model: chip.model.clone(),
        memory_bytes: signed(chip.memory_bytes),
        // It is made of words and numbers only.
        sharing: serde_json::to_string(&chip.sharing()).unwrap_or_default(),
        link_group: 0,
        healthy: condition.is_empty(),
        condition,
        cores: signed(cores),
        cores_step: signed(cores_step),
        updating,
        maybe_taken,
    }
}

/// Numbers the roots of a node's devices, in the order in which they come.
fn grouped(mut devices: Vec<pb::PoolDevice>, roots: &[String]) -> Vec<pb::PoolDevice> {
    let mut order: Vec<&String> = Vec::new();
    for (device, root) in devices.iter_mut().zip(roots) {
        let at = order.iter().position(|known| *known == root).unwrap_or_else(|| {
            order.push(root);
            order.len() - 1
        });
        device.link_group = i32::try_from(at).unwrap_or(0);
    }
    devices
}

fn describe(node: &Node, name: String, devices: Vec<pb::PoolDevice>, foreign: Vec<pb::Foreign>) -> pb::Node {
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    let amount = |what: &str| allocatable.and_then(|all| all.get(what));
    let condition = trouble(node);
    pb::Node {
        zone: names::label(&node.metadata, "topology.kubernetes.io/zone").unwrap_or_default().to_owned(),
        cpu_milli: signed(amount("cpu").map_or(0, quantity::milli)),
        memory_bytes: signed(amount("memory").map_or(0, quantity::units)),
        schedulable: condition.is_empty(),
        condition,
        devices,
        foreign,
        name,
    }
}

/// Why a node takes no new pods; empty when it does.
fn trouble(node: &Node) -> String {
    let spec = node.spec.clone().unwrap_or_default();
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready");
    if ready.is_none_or(|ready| ready.status != "True") {
        return format!("NODE_NOT_READY: {}", ready.and_then(|ready| ready.message.clone()).unwrap_or_default());
    }
    if spec.unschedulable == Some(true) {
        return "NODE_CORDONED: an administrator keeps new pods away".to_owned();
    }
    let taint = spec
        .taints
        .into_iter()
        .flatten()
        .find(|taint| taint.effect != "PreferNoSchedule" && !TOLERATED.contains(&taint.key.as_str()));
    taint.map(|taint| format!("NODE_TAINTED: {} ({})", taint.key, taint.effect)).unwrap_or_default()
}

/// Another installation may have a pool of the same name, and what it holds is not ours.
fn is_own(metadata: &ObjectMeta, own: &Place) -> bool {
    metadata.namespace.as_ref() == Some(&own.namespace) && names::label(metadata, POOL) == Some(&own.pool)
}

/// What pods that are not ours ask of each node, as one holder.
fn foreign_pods(pods: &[Arc<Pod>], own: &Place) -> BTreeMap<String, pb::Foreign> {
    let mut found: BTreeMap<String, pb::Foreign> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| !is_own(&pod.metadata, own)) {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let Some(spec) = pod.spec.as_ref().filter(|_| !matches!(phase, Some("Succeeded" | "Failed"))) else { continue };
        let Some(node) = &spec.node_name else { continue };
        let stranger = found
            .entry(node.clone())
            .or_insert_with(|| pb::Foreign { holder: "other pods".to_owned(), ..pb::Foreign::default() });
        stranger.cpu_milli += signed(requested(spec, "cpu", quantity::milli));
        stranger.memory_bytes += signed(requested(spec, "memory", quantity::units));
    }
    found.retain(|_, stranger| stranger.cpu_milli > 0 || stranger.memory_bytes > 0);
    found
}

/// What kube-scheduler counts for a pod: what runs together at any time, or what is said of the whole pod, and its overhead.
pub(crate) fn requested(spec: &PodSpec, what: &str, amount: fn(&Quantity) -> u64) -> u64 {
    let of = |resources: Option<&ResourceRequirements>| {
        resources.and_then(|resources| resources.requests.as_ref()?.get(what)).map(amount)
    };
    let of_container = |container: &Container| of(container.resources.as_ref()).unwrap_or(0);
    let (mut stays, mut before) = (0, 0);
    for first in spec.init_containers.iter().flatten() {
        if first.restart_policy.as_deref() == Some("Always") {
            stays += of_container(first);
            before = before.max(stays);
        } else {
            before = before.max(stays + of_container(first));
        }
    }
    let together = stays + spec.containers.iter().map(of_container).sum::<u64>();
    let overhead = spec.overhead.as_ref().and_then(|overhead| overhead.get(what)).map_or(0, amount);
    of(spec.resources.as_ref()).unwrap_or_else(|| together.max(before)) + overhead
}

fn grant(used: Use) -> pb::DeviceGrant {
    pb::DeviceGrant {
        device: used.chip,
        milli: i32::try_from(used.milli).unwrap_or(i32::MAX),
        memory_bytes: signed(used.memory_bytes),
        profile: used.profile,
        slots: used.slots,
    }
}

fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::app;
    use serde_json::{Value, json};

    /// A slice of node `n` with one GPU, of a pool of so many slices; the GPU has these taints.
    fn slice(gpu: &str, (generation, slices): (i64, i64), taints: &Value) -> Arc<ResourceSlice> {
        let device = json!({ "name": gpu, "attributes": { "uuid": { "string": gpu }, "productName": { "string": "A" } },
                             "capacity": { "memory": { "value": "16Gi" } }, "taints": taints });
        let pool = json!({ "name": "n", "generation": generation, "resourceSliceCount": slices });
        let spec = json!({ "driver": "gpu.example.com", "nodeName": "n", "pool": pool, "devices": [device] });
        Arc::new(serde_json::from_value(json!({ "metadata": {}, "spec": spec })).unwrap())
    }

    /// What the node's devices are told to be: name, healthy, updating.
    fn told(inventory: &mut Inventory, slices: Vec<Arc<ResourceSlice>>) -> Vec<(String, bool, bool)> {
        let devices = seen(inventory, slices, Vec::new()).devices.into_iter();
        devices.map(|device| (device.hardware_id, device.healthy, device.updating)).collect()
    }

    fn seen(inventory: &mut Inventory, slices: Vec<Arc<ResourceSlice>>, pods: Vec<Arc<Pod>>) -> pb::Node {
        let node = serde_json::from_value(json!({ "metadata": { "name": "n" } })).unwrap();
        let class = serde_json::from_value(json!({ "metadata": { "name": "gpu" }, "spec": {} })).unwrap();
        let view =
            View { nodes: vec![Arc::new(node)], slices, classes: vec![Arc::new(class)], pods, ..View::default() };
        let images = app::Images { jupyter: String::new(), vs_code: String::new(), pre_start: String::new() };
        let (pool, namespace) = (String::new(), String::new());
        inventory
            .nodes(&view, &Place { pool, namespace, images, classes: Classes::default(), visitors: Vec::new() })
            .remove(0)
    }

    #[test]
    fn a_pool_that_is_told_anew_takes_nobody_new_and_has_not_failed() {
        let mut inventory = Inventory::new(Classes::read(["gpu.example.com=gpu"]).unwrap());
        let taints = json!([{ "key": "gpu.example.com/xid", "effect": "NoExecute" }]);
        let (well, ill) = (|of| slice("a", of, &json!([])), |of| slice("b", of, &taints));
        let is = |updating: bool| [("a".to_owned(), !updating, updating), ("b".to_owned(), false, false)];
        assert_eq!(told(&mut inventory, vec![well((1, 2)), ill((1, 2))]), is(false));
        assert_eq!(told(&mut inventory, vec![well((2, 2)), ill((1, 2))]), is(true), "slice by slice");
        assert_eq!(told(&mut inventory, vec![well((2, 2)), ill((2, 2))]), is(false));
    }

    #[test]
    fn a_device_that_a_plugin_may_have_given_takes_nobody_new_and_has_not_failed() {
        let mut inventory = Inventory::new(Classes::read(["gpu.example.com=gpu"]).unwrap());
        let taints = json!([{ "key": "gpu.example.com/xid", "effect": "NoExecute" }]);
        let slices = vec![slice("a", (1, 2), &json!([])), slice("b", (1, 2), &taints)];
        let container = json!({ "name": "c", "image": "", "resources": { "requests": { "example.com/gpu": "1" } } });
        let pod = json!({ "metadata": { "namespace": "train", "name": "one" },
                          "spec": { "nodeName": "n", "containers": [container] } });
        let pod: Arc<Pod> = Arc::new(serde_json::from_value(pod).unwrap());
        let node = seen(&mut inventory, slices.clone(), vec![pod]);
        let is = |device: &pb::PoolDevice| (device.healthy, device.updating, device.maybe_taken);
        assert_eq!(node.devices.iter().map(is).collect::<Vec<_>>(), [(false, true, true), (false, false, false)]);
        assert!(node.devices[0].condition.starts_with("a pod of its node has example.com/gpu of a device plugin"));
        assert!(node.devices[1].condition.contains("xid"), "what has failed has failed");
        assert_eq!(node.foreign.len(), 1);
        let anywhere: Vec<_> =
            node.foreign[0].grants.iter().map(|grant| (grant.device.as_str(), grant.milli)).collect();
        assert_eq!(node.foreign[0].holder, "train/one: 1 × example.com/gpu");
        assert_eq!(anywhere, [("gpu.example.com/n/a", 0), ("gpu.example.com/n/b", 0)]);
        let node = seen(&mut inventory, slices, Vec::new());
        assert_eq!((is(&node.devices[0]), node.foreign.len()), ((true, false, false), 0));
    }

    #[test]
    fn a_stranger_counts_as_kube_scheduler_counts_it() {
        let cpu = |cpu: &str| json!({ "requests": { "cpu": cpu } });
        let container = |name: &str, cpu: &Value| json!({ "name": name, "image": "", "resources": cpu });
        let mut sidecar = container("sidecar", &cpu("200m"));
        sidecar["restartPolicy"] = json!("Always");
        let first = |amount: &str| container("first", &cpu(amount));
        let app = container("app", &cpu("1"));
        let counted = |spec: Value| requested(&serde_json::from_value(spec).unwrap(), "cpu", quantity::milli);
        for (spec, milli) in [
            (json!({ "containers": [app, app] }), 2_000),
            (json!({ "containers": [app], "initContainers": [first("500m"), sidecar] }), 1_200),
            (json!({ "containers": [app], "initContainers": [sidecar, first("3")] }), 3_200),
            (json!({ "containers": [app], "overhead": { "cpu": "250m" } }), 1_250),
            (json!({ "containers": [app], "resources": cpu("4") }), 4_000),
            (json!({ "containers": [container("app", &json!({}))] }), 0),
        ] {
            assert_eq!(counted(spec.clone()), milli, "{spec}");
        }
    }
}
