//! What kube-scheduler, kubelets and drivers say, as codes that people and programs act on.
//!
//! The texts are theirs and part of no promise; what is not known keeps its words under a code that says only who spoke.

/// Nothing free fits, or what was pinned is not free.
pub const NO_MATCHING_DEVICE: &str = "NO_MATCHING_DEVICE";
/// kube-scheduler gave other devices than were granted.
pub const PLACEMENT_CONFLICT: &str = "PLACEMENT_CONFLICT";
/// A device that was granted is not published any more.
pub const DEVICE_MISSING: &str = "DEVICE_MISSING";
/// A chip was granted in a way in which it cannot be asked for.
pub const DEVICE_NOT_DIVISIBLE: &str = "DEVICE_NOT_DIVISIBLE";
/// The driver could not prepare a device.
pub const DEVICE_PREPARE_FAILED: &str = "DEVICE_PREPARE_FAILED";
/// A device failed, and its users were evicted.
pub const DEVICE_FAILED: &str = "DEVICE_FAILED";
/// The node was given up, and its pods were evicted.
pub const NODE_LOST: &str = "NODE_LOST";
/// The node ran short of something, somebody emptied it, or kube-scheduler wanted the place for another pod.
pub const EVICTED: &str = "EVICTED";
/// The claim was taken away before it was allocated.
pub const CLAIM_MISSING: &str = "CLAIM_MISSING";
/// The claim is being taken away.
pub const CLAIM_DELETING: &str = "CLAIM_DELETING";
/// The driver makes a device ready first.
pub const DEVICE_NOT_READY: &str = "DEVICE_NOT_READY";
/// The pod was taken away, by nobody that we know.
pub const POD_LOST: &str = "POD_LOST";
/// The image cannot be had.
pub const IMAGE_PULL_FAILED: &str = "IMAGE_PULL_FAILED";
/// The container cannot be made.
pub const CONTAINER_CONFIG: &str = "CONTAINER_CONFIG";
/// It used more memory than it may.
pub const OUT_OF_MEMORY: &str = "OUT_OF_MEMORY";
/// It filled more disk beside its volumes than it may.
pub const OUT_OF_STORAGE: &str = "OUT_OF_STORAGE";
/// It ended with an error.
pub const APP_FAILED: &str = "APP_FAILED";
/// It ended by itself, without one.
pub const EXITED: &str = "EXITED";
/// A volume cannot be mounted.
pub const VOLUME_FAILED: &str = "VOLUME_FAILED";
/// A volume belongs to another project, or to nobody.
pub const VOLUME_FORBIDDEN: &str = "VOLUME_FORBIDDEN";
/// Root on a share that only software enforces.
pub const ROOT_NOT_ALLOWED: &str = "ROOT_NOT_ALLOWED";
/// A pre-start script whose variables nobody could hand to the application.
pub const PRE_START_UNAVAILABLE: &str = "PRE_START_UNAVAILABLE";
/// A pre-start script ended with an error.
pub const PRE_START_FAILED: &str = "PRE_START_FAILED";
/// A pre-start script asks for what it may not change.
pub const PRE_START_REFUSED: &str = "PRE_START_REFUSED";
/// What comes after the start was not run; a warning.
pub const POST_START_FAILED: &str = "POST_START_FAILED";
/// The API server refuses an object.
pub const CLUSTER_REFUSED: &str = "CLUSTER_REFUSED";
/// An object of this name belongs to somebody else.
pub const NAME_TAKEN: &str = "NAME_TAKEN";
/// kube-scheduler has another reason.
pub const UNSCHEDULABLE: &str = "UNSCHEDULABLE";

/// The node has no more of what is asked for.
pub const NODE_FULL: &str = "NODE_FULL";
/// The node has a taint that runtimes do not tolerate.
pub const NODE_TAINTED: &str = "NODE_TAINTED";

/// Fragments of kube-scheduler's reasons; the first that is found counts, so what tells more comes first.
const SCHEDULER: [(&str, &str); 25] = [
    // A claim of storage is deleted and missing, too: no other place helps that.
    ("persistentvolumeclaim", VOLUME_FAILED),
    ("unbound immediate PersistentVolumeClaims", VOLUME_FAILED),
    ("volume node affinity conflict", VOLUME_FAILED),
    // What servers of 1.36 say of one whose users are as many as can be; older ones say it in their own words.
    ("status.reservedFor: Too many", "CLAIM_IN_USE"),
    ("device binding timeout", DEVICE_NOT_READY),
    ("device binding failed", DEVICE_NOT_READY),
    ("timed out trying to allocate devices", "ALLOCATOR_TIMEOUT"),
    ("does not exist", "DEVICE_CLASS_MISSING"),
    ("is being deleted", CLAIM_DELETING),
    ("resourceclaim in use", "CLAIM_IN_USE"),
    ("in the process of being allocated", "CLAIM_RACING"),
    ("in the meantime", "CLAIM_RACING"),
    ("got allocated elsewhere", "CLAIM_RACING"),
    ("exceeds the claim limit", "LIMIT_32"),
    ("invalid resource pools", "POOL_UPDATING"),
    ("currently being updated", "POOL_UPDATING"),
    ("CEL", "BAD_SELECTOR"),
    ("cannot allocate all claims", NO_MATCHING_DEVICE),
    ("resourceclaim not available on the node", "CLAIM_PINNED_ELSEWHERE"),
    ("resourceclaim.resource.k8s.io", CLAIM_MISSING),
    ("Insufficient cpu", NODE_FULL),
    ("Insufficient memory", NODE_FULL),
    ("Insufficient ephemeral-storage", NODE_FULL),
    ("Too many pods", NODE_FULL),
    ("untolerated taint", NODE_TAINTED),
];

/// With these, what was pinned is not to be had: it helps to be placed anew.
const MISPLACED: [&str; 10] = [
    NO_MATCHING_DEVICE,
    CLAIM_MISSING,
    // The next life has a claim of another name.
    CLAIM_DELETING,
    "CLAIM_IN_USE",
    "CLAIM_PINNED_ELSEWHERE",
    "DEVICE_CLASS_MISSING",
    NODE_FULL,
    NODE_TAINTED,
    "ALLOCATOR_TIMEOUT",
    UNSCHEDULABLE,
];

/// Reasons of events about a pod that is bound to its node, and of containers that wait.
const NODE: [(&str, &str); 13] = [
    ("FailedPrepareDynamicResources", DEVICE_PREPARE_FAILED),
    ("FailedMount", VOLUME_FAILED),
    ("FailedAttachVolume", VOLUME_FAILED),
    ("ErrImagePull", IMAGE_PULL_FAILED),
    ("ImagePullBackOff", IMAGE_PULL_FAILED),
    ("InvalidImageName", IMAGE_PULL_FAILED),
    ("ErrImageNeverPull", IMAGE_PULL_FAILED),
    ("ImageInspectError", IMAGE_PULL_FAILED),
    ("RegistryUnavailable", IMAGE_PULL_FAILED),
    ("SignatureValidationFailed", IMAGE_PULL_FAILED),
    ("CreateContainerConfigError", CONTAINER_CONFIG),
    ("CreateContainerError", CONTAINER_CONFIG),
    ("RunContainerError", CONTAINER_CONFIG),
];

/// What kube-scheduler says about a pod that it cannot place, as a code and its own words without the tail about
/// preemption, which never frees devices.
#[must_use]
pub fn of_scheduler(message: &str) -> (&'static str, &str) {
    let end = ["still not schedulable", "preemption:"].iter().filter_map(|tail| message.find(tail)).min();
    let reasons = message[..end.unwrap_or(message.len())].trim_end_matches([' ', '.', ',']);
    let known = SCHEDULER.iter().find(|(fragment, _)| reasons.contains(fragment));
    (known.map_or(UNSCHEDULABLE, |(_, code)| code), reasons)
}

/// Words with which a kubelet evicts a pod for what it filled itself, beyond its limit. For what the whole node is short of
/// it has others, and says so by a condition of the pod.
const OWN_STORAGE: [&str; 3] = [
    "exceeded its local ephemeral storage limit",
    "local storage usage exceeds the total limit",
    "Usage of EmptyDir volume",
];

/// The code for the words with which a kubelet evicted a pod.
#[must_use]
pub fn of_eviction(message: &str) -> &'static str {
    if OWN_STORAGE.iter().any(|words| message.contains(words)) { OUT_OF_STORAGE } else { EVICTED }
}

/// Whether a new place is what helps.
#[must_use]
pub fn wants_another_place(code: &str) -> bool {
    MISPLACED.contains(&code)
}

/// The code for the reason for which a kubelet turned a pod away that kube-scheduler had given it.
#[must_use]
pub fn of_refusal(reason: &str) -> &'static str {
    match reason {
        "TaintToleration" => NODE_TAINTED,
        // What is out follows: `OutOfcpu`, `OutOfpods`.
        full if full.starts_with("OutOf") => NODE_FULL,
        _ => UNSCHEDULABLE,
    }
}

/// The code for a reason of a kubelet; `None` for those that are no trouble.
#[must_use]
pub fn of_node(reason: &str) -> Option<&'static str> {
    NODE.iter().find(|(known, _)| *known == reason).map(|(_, code)| *code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_has_its_code() {
        for (message, code) in [
            (
                "0/5 nodes are available: 1 cannot allocate all claims, 4 node(s) didn't match Pod's node affinity/selector. \
                 still not schedulable, preemption: 0/5 nodes are available: 5 Preemption is not helpful for scheduling.",
                NO_MATCHING_DEVICE,
            ),
            (
                "0/5 nodes are available: 1 invalid resource pools were encountered, 4 cannot allocate all claims.",
                "POOL_UPDATING",
            ),
            (r#"0/1 nodes are available: request gpu: device class x does not exist"#, "DEVICE_CLASS_MISSING"),
            (r#"resourceclaim "x" is being deleted"#, CLAIM_DELETING),
            ("0/2 nodes are available: 2 resourceclaim in use.", "CLAIM_IN_USE"),
            (
                "running PreBind plugin \"DynamicResources\": add reservation to claim a/x: ResourceClaim.resource.k8s.io \"x\" \
                 is invalid: [status.reservedFor: Too many: 257: must have at most 256 items]",
                "CLAIM_IN_USE",
            ),
            ("resource claim x is in the process of being allocated", "CLAIM_RACING"),
            ("claim default/x got allocated elsewhere in the meantime", "CLAIM_RACING"),
            ("claim default/x got deallocated elsewhere in the meantime", "CLAIM_RACING"),
            (
                "0/5 nodes are available: 1 resourceclaim not available on the node, 4 node(s) didn't match Pod's node \
                 affinity/selector.",
                "CLAIM_PINNED_ELSEWHERE",
            ),
            ("claim default/x, request gpu: asks for 40 devices, which exceeds the claim limit of 32", "LIMIT_32"),
            ("running PreBind plugin: device binding timeout: claim=x", DEVICE_NOT_READY),
            ("device n/gpu-0: CEL runtime error: no such key: uuid", "BAD_SELECTOR"),
            (r#"resourceclaim.resource.k8s.io "x" not found"#, "CLAIM_MISSING"),
            ("node n: timed out trying to allocate devices", "ALLOCATOR_TIMEOUT"),
            ("0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1", NODE_FULL),
            ("0/1 nodes are available: 1 Insufficient ephemeral-storage.", NODE_FULL),
            ("0/1 nodes are available: 1 Too many pods.", NODE_FULL),
            ("0/1 nodes are available: 1 node(s) had untolerated taint(s).", NODE_TAINTED),
            (r#"0/1 nodes are available: persistentvolumeclaim "x" not found."#, VOLUME_FAILED),
            (r#"0/1 nodes are available: persistentvolumeclaim "x" is being deleted."#, VOLUME_FAILED),
            ("resource pool n is currently being updated", "POOL_UPDATING"),
            ("0/1 nodes are available: 1 node(s) were unschedulable.", UNSCHEDULABLE),
        ] {
            assert_eq!(of_scheduler(message).0, code, "{message}");
        }
        let (_, words) =
            of_scheduler("0/5 nodes are available: 5 cannot allocate all claims. still not schedulable, preemption: x");
        assert_eq!(words, "0/5 nodes are available: 5 cannot allocate all claims");
        assert!(wants_another_place(NO_MATCHING_DEVICE) && !wants_another_place("CLAIM_RACING"));
        assert_eq!(of_node("FailedMount"), Some(VOLUME_FAILED));
        assert_eq!(of_node("ImageInspectError"), Some(IMAGE_PULL_FAILED));
        assert_eq!(of_node("Scheduled"), None);
    }
}
