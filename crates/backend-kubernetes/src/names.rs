//! Names and labels by which our objects are found again.

use domain::{id::VolumeId, runtime::Mount};
use kube::api::ObjectMeta;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Who writes: the field manager of server-side apply.
pub const MANAGER: &str = "orrery";
/// The pool that an object serves. What has this label with our pool is ours.
pub const POOL: &str = "orrery.dev/pool";
/// The life of the runtime, a UUID.
pub const HOLDER: &str = "orrery.dev/holder";
/// Which life of the workspace's runtime it is, a number.
pub const NUMBER: &str = "orrery.dev/life";
/// The workspace's name.
pub const WORKSPACE: &str = "orrery.dev/workspace";
/// The project's name; also wanted of volumes that its runtimes mount.
pub const PROJECT: &str = "orrery.dev/project";
/// On claims of volumes: the volume's name in its project.
pub const VOLUME: &str = "orrery.dev/volume";
/// The queue's name.
pub const QUEUE: &str = "orrery.dev/queue";
/// On pods: the claim that it shares with others.
pub const SHARED_CLAIM: &str = "orrery.dev/shared-claim";
/// Thousandths of a GPU in all.
pub const GPU_MILLI: &str = "orrery.dev/gpu-milli";
/// What those are labelled with who alone may connect to a runtime: web-servers, and executors that ask how it is used.
pub const VISITORS: (&str, [&str; 2]) = ("app.kubernetes.io/component", ["web-server", "runtimes"]);
/// The longest value of a label.
const LABEL_MAX: usize = 63;

/// A label's value.
#[must_use]
pub fn label<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.labels.as_ref()?.get(name).map(String::as_str)
}

/// A text as the value of a label: letters that Kubernetes refuses become dashes, and it is cut. For people and selectors
/// of theirs; nothing is decided by it.
#[must_use]
pub fn as_label(text: &str) -> String {
    let plain: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' })
        .take(LABEL_MAX)
        .collect();
    plain.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

/// The name of all objects of one life.
#[must_use]
pub fn object(workspace: &str, number: i64) -> String {
    format!("ws-{workspace}-r{number}")
}

/// The name of the claim that those who share a chip by MPS use together. The same for the same chip, and nothing of the
/// chip's own name, which may be longer than a name can be.
#[must_use]
pub fn shared_claim(chip: &str) -> String {
    format!("mps-{}", Uuid::new_v5(&Uuid::NAMESPACE_OID, chip.as_bytes()).simple())
}

/// The name of a volume's claim: of the id, so that neither another project nor a later volume of the same name has it.
#[must_use]
pub fn volume(id: VolumeId) -> String {
    format!("volume-{id}")
}

/// The claim that a mount means.
#[must_use]
pub fn claim_of(mount: &Mount) -> String {
    mount.id.map_or_else(|| mount.volume.clone(), volume)
}

/// The priority class for a queue's priority. Classes cannot be changed, so there is one for each number.
#[must_use]
pub fn priority_class(priority: i32) -> String {
    format!("orrery-{}{}", if priority < 0 { "minus-" } else { "" }, priority.unsigned_abs())
}

/// A selector of everything that has these labels.
#[must_use]
pub fn selector(labels: &BTreeMap<&str, &str>) -> String {
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_kubernetes_takes() {
        assert_eq!(object("lab", 7), "ws-lab-r7");
        assert_eq!(priority_class(-5), "orrery-minus-5");
        assert_eq!(priority_class(i32::MIN), "orrery-minus-2147483648");
        assert_eq!(as_label("Ökonomie & more"), "konomie---more");
        assert_eq!(as_label(&"x".repeat(99)).len(), LABEL_MAX);
    }
}
