//! GPUs that a device plugin gave to pods. Which ones only the node's kubelet knows, so none of that vendor's on that node can be
//! promised to anybody else as long as such a pod is there. Pure.
//!
//! Refuses to know what pods got by claims, and whether a plugin is there at present: one that restarts offers nothing, and
//! what it gave stays given.

use crate::{inventory::requested, quantity};
use k8s_openapi::api::core::v1::{Container, Pod};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Drivers whose domain is not that of the hardware's vendor.
const VENDORS: [(&str, &str); 1] = [("hami-core-gpu.project-hami.io", "nvidia.com")];

/// A pod that has GPUs without a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// `namespace/name`.
    pod: String,
    /// How many of each resource.
    resources: BTreeMap<String, u64>,
}

/// Pods that have GPUs without a claim, by node.
#[must_use]
pub fn given(pods: &[Arc<Pod>]) -> BTreeMap<String, Vec<Given>> {
    let mut found: BTreeMap<String, Vec<Given>> = BTreeMap::new();
    for pod in pods {
        let status = pod.status.as_ref();
        let is_over = matches!(status.and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed"));
        let Some(spec) = pod.spec.as_ref().filter(|_| !is_over) else { continue };
        let Some(node) = &spec.node_name else { continue };
        // What kube-scheduler has made a claim for is counted as that.
        let claimed = status.and_then(|status| status.extended_resource_claim_status.as_ref());
        let claimed = claimed.into_iter().flat_map(|claimed| &claimed.request_mappings);
        let claimed: BTreeSet<&str> = claimed.map(|mapping| mapping.resource_name.as_str()).collect();
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let named: BTreeSet<&String> = containers.flat_map(asked).filter(|name| is_gpu(name)).collect();
        let resources = named.into_iter().filter(|name| !claimed.contains(name.as_str()));
        let resources = resources.map(|name| (name.clone(), requested(spec, name, quantity::units)));
        let resources: BTreeMap<String, u64> = resources.filter(|(_, count)| *count > 0).collect();
        if !resources.is_empty() {
            let (namespace, name) = (pod.metadata.namespace.as_deref(), pod.metadata.name.as_deref());
            let pod = format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default());
            found.entry(node.clone()).or_default().push(Given { pod, resources });
        }
    }
    found
}

impl Given {
    /// Whether devices of this driver may be those that it has.
    #[must_use]
    pub fn may_have(&self, driver: &str) -> bool {
        self.resources_of(driver).next().is_some()
    }

    /// The pod and what it has of the vendor of this driver, in words.
    #[must_use]
    pub fn spoken(&self, driver: &str) -> String {
        let all: Vec<String> = self.resources_of(driver).map(|(name, count)| format!("{count} × {name}")).collect();
        format!("{}: {}", self.pod, all.join(", "))
    }

    fn resources_of<'a>(&'a self, driver: &'a str) -> impl Iterator<Item = (&'a String, &'a u64)> {
        self.resources.iter().filter(move |(name, _)| is_of(driver, name))
    }
}

/// Why devices of this driver take nobody new, for those who may not know whose the pods are; empty where they do.
#[must_use]
pub fn condition(given: &[Given], driver: &str) -> String {
    let pods: Vec<&Given> = given.iter().filter(|given| given.may_have(driver)).collect();
    let names: BTreeSet<&str> =
        pods.iter().flat_map(|given| given.resources_of(driver)).map(|(name, _)| name.as_str()).collect();
    let names = names.into_iter().collect::<Vec<_>>().join(", ");
    let have = match pods.len() {
        0 => return String::new(),
        1 => "a pod of its node has".to_owned(),
        some => format!("{some} pods of its node have"),
    };
    format!("{have} {names} of a device plugin, and nobody can tell which GPUs these are")
}

/// The API server writes a limit of such a resource as a request, too, where that is not said.
fn asked(container: &Container) -> impl Iterator<Item = &String> {
    container.resources.iter().flat_map(|resources| resources.requests.iter().flat_map(BTreeMap::keys))
}

/// Whether a resource is GPUs, or parts of them: vendors' plugins offer network cards by the same domain.
fn is_gpu(resource: &str) -> bool {
    let Some((_, name)) = resource.split_once('/') else { return false };
    let (beginnings, wholes) = (["gpu", "vgpu", "pgpu", "mig-"], ["i915", "xe"]);
    beginnings.iter().any(|beginning| name.starts_with(beginning)) || wholes.contains(&name)
}

/// Whether a resource is of the same vendor as a driver: of its domain, or of one that this is below.
fn is_of(driver: &str, resource: &str) -> bool {
    let vendor = VENDORS.iter().find(|(of, _)| *of == driver).map_or(driver, |(_, vendor)| vendor);
    let Some((domain, _)) = resource.split_once('/') else { return false };
    let below = vendor.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    below && domain.contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A pod of node `n` with a container that asks for so many of a resource.
    fn pod(name: &str, resource: &str, count: &str, change: impl Fn(&mut Value)) -> Arc<Pod> {
        let container = json!({ "name": "c", "image": "", "resources": { "requests": { resource: count } } });
        let mut pod = json!({ "metadata": { "namespace": "train", "name": name },
                              "spec": { "nodeName": "n", "containers": [container] }, "status": { "phase": "Running" } });
        change(&mut pod);
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    /// What is said of the devices of a driver on node `n`, where these pods are.
    fn said(driver: &str, pods: &[Arc<Pod>]) -> (String, Vec<String>) {
        let given = given(pods).remove("n").unwrap_or_default();
        let named = given.iter().filter(|given| given.may_have(driver)).map(|given| given.spoken(driver));
        (condition(&given, driver), named.collect())
    }

    #[test]
    fn a_resource_is_of_devices_of_the_same_vendor() {
        for (driver, resource, is) in [
            ("gpu.nvidia.com", "nvidia.com/gpu", true),
            ("gpu.nvidia.com", "nvidia.com/gpu.shared", true),
            ("gpu.nvidia.com", "nvidia.com/mig-3g.40gb", true),
            ("gpu.nvidia.com", "nvidia.com/hostdev", false),
            ("gpu.nvidia.com", "amd.com/gpu", false),
            ("gpu.mynvidia.com", "nvidia.com/gpu", false),
            ("gpu.nvidia.com", "com/gpu", false),
            ("hami-core-gpu.project-hami.io", "nvidia.com/gpu", true),
            ("gpu.intel.com", "gpu.intel.com/i915", true),
            ("gpu.intel.com", "gpu.intel.com/i915_monitoring", false),
            ("gpu.amd.com", "cpu", false),
        ] {
            let (condition, named) = said(driver, &[pod("a", resource, "2", |_| {})]);
            assert_eq!((!condition.is_empty(), !named.is_empty()), (is, is), "{driver} {resource}");
        }
    }

    #[test]
    fn who_has_gpus_of_a_plugin_is_named_beside_why() {
        let nobody = (String::new(), Vec::new());
        let one = "a pod of its node has nvidia.com/gpu of a device plugin, and nobody can tell which GPUs these are";
        let two = "2 pods of its node have nvidia.com/gpu of a device plugin, and nobody can tell which GPUs these are";
        let of = |pods: &[Arc<Pod>]| said("gpu.nvidia.com", pods);
        let (a, b) = (pod("a", "nvidia.com/gpu", "2", |_| {}), pod("b", "nvidia.com/gpu", "1", |_| {}));
        assert_eq!(of(std::slice::from_ref(&a)), (one.to_owned(), vec!["train/a: 2 × nvidia.com/gpu".to_owned()]));
        assert_eq!(of(&[a, b]).0, two);
        assert_eq!(of(&[pod("a", "nvidia.com/gpu", "0", |_| {})]), nobody);
        for (what, change) in [
            ("it is over", (|pod| pod["status"]["phase"] = "Succeeded".into()) as fn(&mut Value)),
            ("it has failed", |pod| pod["status"]["phase"] = "Failed".into()),
            ("it is elsewhere", |pod| pod["spec"]["nodeName"] = "m".into()),
            ("it is nowhere yet", |pod| pod["spec"]["nodeName"] = Value::Null),
            ("it has a claim", |pod| {
                let mapping = json!({ "containerName": "c", "requestName": "r", "resourceName": "nvidia.com/gpu" });
                let claimed = json!({ "resourceClaimName": "special", "requestMappings": [mapping] });
                pod["status"]["extendedResourceClaimStatus"] = claimed;
            }),
        ] {
            assert_eq!(of(&[pod("a", "nvidia.com/gpu", "1", change)]), nobody, "{what}");
        }
        // Its image is pulled: kubelet has chosen already. One that is told to end has it until then.
        for change in [
            (|pod| pod["status"]["phase"] = "Pending".into()) as fn(&mut Value),
            |pod| pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into(),
            |pod| pod["spec"]["initContainers"] = pod["spec"]["containers"].take(),
        ] {
            let pod = pod("a", "nvidia.com/gpu", "1", |pod| {
                change(pod);
                if pod["spec"]["containers"].is_null() {
                    pod["spec"]["containers"] = json!([]);
                }
            });
            assert_eq!(of(&[pod]).0, one);
        }
        // A claim for one resource says nothing of another.
        let partly = pod("a", "nvidia.com/gpu", "1", |pod| {
            let mapping = json!({ "containerName": "c", "requestName": "r", "resourceName": "nvidia.com/mig-1g.5gb" });
            pod["status"]["extendedResourceClaimStatus"] =
                json!({ "resourceClaimName": "special", "requestMappings": [mapping] });
        });
        assert_eq!(of(&[partly]).0, one);
    }
}
