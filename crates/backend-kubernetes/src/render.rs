//! A life of a runtime as objects of Kubernetes. Pure: the same life gives the same objects.
//!
//! No privilege, no host's namespace or path, no token of a service account; user 0 only where the spec says so, and then
//! without capabilities. Refuses to know whether anything of it exists.

pub mod app;
pub mod claim;
pub mod network;
pub mod pod;
pub mod pre_start;

use crate::{
    classes::Classes,
    life::Life,
    names::{self, GPU_MILLI, HOLDER, NUMBER, POOL, PROJECT, QUEUE, WORKSPACE},
};
use k8s_openapi::{
    ByteString,
    api::{core::v1::Secret, scheduling::v1::PriorityClass},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::api::ObjectMeta;
use std::collections::BTreeMap;

/// In the record: the life as JSON.
pub const LIFE: &str = "life";
/// In the record: what opens the application.
pub const ACCESS_KEY: &str = "access-key";
/// On the record: the fence of the order in force.
pub const FENCE: &str = "orrery.dev/fence";
/// On the record: what is to be, one of the three below.
pub const STATE: &str = "orrery.dev/state";
/// It is to run.
pub const RUN: &str = "run";
/// Its pod was made once: it is not made again.
pub const MADE: &str = "made";
/// It is to end.
pub const STOP: &str = "stop";
/// Nothing of it is left but the record.
pub const GONE: &str = "gone";
/// On the record: seconds that it has to end.
pub const GRACE: &str = "orrery.dev/grace-seconds";
/// On the record: how what comes after its start failed.
pub const POST_START: &str = "orrery.dev/post-start-failure";

/// Where objects of a pool go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The pool.
    pub pool: String,
    /// The namespace of all of its runtimes.
    pub namespace: String,
    /// The image where a life names none, by application.
    pub images: app::Images,
    /// Whose devices count, and by which class they are asked for.
    pub classes: Classes,
    /// In which namespaces web-servers and executors of runtimes are; empty is any.
    pub visitors: Vec<String>,
}

/// The record: the first object of a life and the last. All others belong to it, so that none outlives it.
///
/// # Errors
/// Never in practice: a life is plain data.
pub fn record(place: &Place, life: &Life, fence: i64) -> Result<Secret, serde_json::Error> {
    let mut metadata = metadata(place, life, None);
    metadata.annotations =
        Some(BTreeMap::from([(FENCE.to_owned(), fence.to_string()), (STATE.to_owned(), RUN.to_owned())]));
    let data = [(LIFE, serde_json::to_vec(life)?), (ACCESS_KEY, life.access_key.clone().into_bytes())];
    Ok(Secret {
        metadata,
        data: Some(data.into_iter().map(|(name, value)| (name.to_owned(), ByteString(value))).collect()),
        type_: Some("orrery.dev/runtime".to_owned()),
        ..Secret::default()
    })
}

/// The life that a record holds.
#[must_use]
pub fn read(record: &Secret) -> Option<Life> {
    serde_json::from_slice(&record.data.as_ref()?.get(LIFE)?.0).ok()
}

/// The class of pods of a queue. It never preempts: that is decided elsewhere, with all that is known.
#[must_use]
pub fn priority_class(priority: i32) -> PriorityClass {
    PriorityClass {
        metadata: ObjectMeta { name: Some(names::priority_class(priority)), ..ObjectMeta::default() },
        // Greater numbers are kept for what the cluster itself needs.
        value: priority.clamp(-1_000_000_000, 1_000_000_000),
        preemption_policy: Some("Never".to_owned()),
        description: Some("Runtimes of a queue; Orrery decides who makes room".to_owned()),
        global_default: Some(false),
    }
}

/// Name, labels and owner of an object of a life.
fn metadata(place: &Place, life: &Life, record_uid: Option<&str>) -> ObjectMeta {
    let milli: u64 = life.grants.iter().map(|grant| u64::from(grant.milli)).sum();
    let labels = [
        ("app.kubernetes.io/managed-by", "orrery".to_owned()),
        (POOL, place.pool.clone()),
        (HOLDER, life.holder.to_string()),
        (NUMBER, life.number.to_string()),
        (WORKSPACE, names::as_label(&life.workspace)),
        (PROJECT, names::as_label(&life.project)),
        (QUEUE, names::as_label(&life.queue)),
        ("orrery.dev/preemptible", life.preemptible.to_string()),
        (GPU_MILLI, milli.to_string()),
    ];
    let name = names::object(&life.workspace, life.number);
    let owner = record_uid.map(|uid| OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Secret".to_owned(),
        name: name.clone(),
        uid: uid.to_owned(),
        ..OwnerReference::default()
    });
    ObjectMeta {
        namespace: Some(place.namespace.clone()),
        labels: Some(labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        owner_references: owner.map(|owner| vec![owner]),
        name: Some(name),
        ..ObjectMeta::default()
    }
}
