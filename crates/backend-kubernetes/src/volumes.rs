//! Volumes of projects as claims: each has the size that it shall have, or is gone with what is in it.
//!
//! A claim belongs to no life. One node at a time writes it. Its class is the one that was asked for, else the cluster's
//! default one, and never another. Refuses to know who mounts what, and to make anything smaller.

use crate::{
    backend::Sink,
    cluster::Cluster,
    error::{Error, Result},
    names::{self, POOL, PROJECT, VOLUME},
    quantity,
    render::Place,
};
use domain::{id::VolumeId, volume::Volume};
use futures_util::StreamExt as _;
use k8s_openapi::api::{
    core::v1::{
        PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus,
        VolumeResourceRequirements,
    },
    storage::v1::StorageClass,
};
use kube::{ResourceExt as _, api::ObjectMeta};
use proto::internal::v1::{self as pb, VolumePhase};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Volumes that are worked on at once; lives wait for them.
const AT_ONCE: usize = 8;
/// Volumes of one look; the others are worked on with the next.
const LOOK_MAX: usize = 64;
/// Between two looks at one, at least and at most: as long as it has been wanted like this.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// How much a volume's size is known by.
const STORAGE: &str = "storage";

/// What all volumes shall be, and which are due for a look.
#[derive(Default)]
pub(crate) struct Volumes(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// And since when.
    wanted: BTreeMap<VolumeId, (Volume, Instant)>,
    due: BTreeMap<VolumeId, Instant>,
}

/// The claim of a volume.
#[must_use]
pub fn claim(place: &Place, volume: &Volume) -> PersistentVolumeClaim {
    let label = |name: &str, value: &str| (name.to_owned(), names::as_label(value));
    let labels = [label(POOL, &place.pool), label(PROJECT, &volume.project), label(VOLUME, &volume.name)];
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(names::volume(volume.id)),
            labels: Some(labels.into()),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            // Said only where it was asked for: what nobody says, the cluster fills in, and keeps.
            storage_class_name: Some(volume.storage_class.clone()).filter(|class| !class.is_empty()),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([(STORAGE.to_owned(), quantity::of(volume.size_bytes))])),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

impl Volumes {
    /// Takes levels over. What goes does not come back: no id is used twice.
    pub(crate) fn want(&self, volumes: impl IntoIterator<Item = Volume>) {
        let (mut known, now) = (self.lock(), Instant::now());
        for volume in volumes {
            if known.wanted.get(&volume.id).is_some_and(|(former, _)| former.deleted || *former == volume) {
                continue;
            }
            known.due.insert(volume.id, now);
            known.wanted.insert(volume.id, (volume, now));
        }
    }

    /// Does what is due, and says what is seen after it.
    pub(crate) async fn keep(&self, cluster: &Cluster, sink: &dyn Sink) {
        let mut looks = futures_util::stream::iter(self.due())
            .map(|volume| async move {
                let seen = look(cluster, &volume).await;
                (volume, seen)
            })
            .buffer_unordered(AT_ONCE);
        while let Some((volume, seen)) = looks.next().await {
            match seen {
                Ok(report) => {
                    self.again(&volume, report.phase() == VolumePhase::Gone);
                    sink.volume(report);
                }
                Err(error) => {
                    tracing::warn!(volume = %volume.id, %error, "a volume is not as it should be yet");
                    self.again(&volume, false);
                }
            }
        }
    }

    fn due(&self) -> Vec<Volume> {
        let (known, now) = (self.lock(), Instant::now());
        let due = known.due.iter().filter(|(_, at)| **at <= now).map(|(id, at)| (*at, *id));
        let due: BTreeSet<(Instant, VolumeId)> = due.collect();
        due.into_iter().take(LOOK_MAX).filter_map(|(_, id)| Some(known.wanted.get(&id)?.0.clone())).collect()
    }

    /// Says when it is looked at again, unless something else is wanted by now: then it is due at once.
    fn again(&self, volume: &Volume, is_gone: bool) {
        let (mut known, now) = (self.lock(), Instant::now());
        let Some((_, since)) = known.wanted.get(&volume.id).filter(|(wanted, _)| wanted == volume) else { return };
        let after = now.duration_since(*since).clamp(LOOK_AGAIN.0, LOOK_AGAIN.1);
        if is_gone {
            known.due.remove(&volume.id);
        } else {
            known.due.insert(volume.id, now + after);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes it as it shall be; answers what is there then.
async fn look(cluster: &Cluster, volume: &Volume) -> Result<pb::VolumeReport> {
    let (api, name) = (cluster.api::<PersistentVolumeClaim>(), names::volume(volume.id));
    if volume.deleted {
        let Some(there) = api.get_opt(&name).await? else {
            return Ok(report(volume, VolumePhase::Gone, 0, String::new()));
        };
        // Whoever mounts it still keeps it until he has ended.
        if there.metadata.deletion_timestamp.is_none() {
            cluster.delete(&api, &name, there.uid(), None).await?;
        }
        return Ok(report(volume, VolumePhase::Deleting, 0, String::new()));
    }
    let there = match cluster.apply(&api, &claim(&cluster.place, volume)).await {
        Ok(there) => there,
        // Such as a class that cannot grow: what is there stays as it was.
        Err(error) if error.is_refusal() => {
            let there = api.get_opt(&name).await?;
            let given = there.as_ref().map_or(0, given);
            return Ok(report(volume, VolumePhase::Failed, given, error.to_string()));
        }
        Err(error) => return Err(error),
    };
    if there.metadata.deletion_timestamp.is_some() {
        let message = "somebody deletes its claim in the cluster".to_owned();
        return Ok(report(volume, VolumePhase::Failed, given(&there), message));
    }
    if !is_bound(&there) && lacks_class(cluster, volume).await? {
        let message = format!(
            "the cluster has no storage class `{}`; its claim waits for one, so ask an administrator, or delete it and make \
             another",
            volume.storage_class
        );
        return Ok(report(volume, VolumePhase::Failed, 0, message));
    }
    let Reach { zones, nodes } = reach(cluster, &there).await?;
    let ready = report(volume, VolumePhase::Ready, given(&there), said(there.status.as_ref()));
    Ok(pb::VolumeReport { zones, nodes, ..ready })
}

/// Who can mount it: nodes of these zones, and these nodes; with neither, any.
#[derive(Debug, Default, PartialEq, Eq)]
struct Reach {
    zones: Vec<String>,
    nodes: Vec<String>,
}

/// As the claim's volume says it, once there is one; what may not be looked at is taken for any.
async fn reach(cluster: &Cluster, claim: &PersistentVolumeClaim) -> Result<Reach> {
    let Some(name) = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()) else {
        return Ok(Reach::default());
    };
    match cluster.everywhere::<PersistentVolume>().get_opt(name).await.map_err(Error::from) {
        Ok(there) => Ok(there.as_ref().map(reach_of).unwrap_or_default()),
        Err(error) if error.is_forbidden() => Ok(Reach::default()),
        Err(error) => Err(error),
    }
}

/// A node that fits to one of the volume's terms can mount it. Where a term names neither nodes nor zones, kube-scheduler alone
/// judges.
fn reach_of(volume: &PersistentVolume) -> Reach {
    let required = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref()?.required.as_ref());
    let mut reach = Reach::default();
    for term in required.iter().flat_map(|required| &required.node_selector_terms) {
        let all = || term.match_expressions.iter().chain(&term.match_fields).flatten();
        let named = |is_key: fn(&str) -> bool| {
            let one = all().find(|one| is_key(&one.key) && one.operator == "In");
            one.and_then(|one| one.values.clone())
        };
        if let Some(nodes) = named(|key| matches!(key, "kubernetes.io/hostname" | "metadata.name")) {
            reach.nodes.extend(nodes);
        } else if let Some(zones) = named(|key| key.ends_with("/zone")) {
            // Drivers have keys of their own, and the values of the usual one.
            reach.zones.extend(zones);
        } else {
            return Reach::default();
        }
    }
    reach
}

fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
}

/// Whether the class that was asked for is not there; what may not be looked at is taken to be.
async fn lacks_class(cluster: &Cluster, volume: &Volume) -> Result<bool> {
    if volume.storage_class.is_empty() {
        return Ok(false);
    }
    match cluster.everywhere::<StorageClass>().get_opt(&volume.storage_class).await.map_err(Error::from) {
        Ok(there) => Ok(there.is_none()),
        Err(error) if error.is_forbidden() => Ok(false),
        Err(error) => Err(error),
    }
}

/// What the cluster gave, bytes; 0 before it did.
fn given(claim: &PersistentVolumeClaim) -> u64 {
    let capacity = claim.status.as_ref().and_then(|status| status.capacity.as_ref()?.get(STORAGE));
    capacity.map_or(0, quantity::units)
}

/// What Kubernetes says of a claim that it is changing.
fn said(status: Option<&PersistentVolumeClaimStatus>) -> String {
    let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let said = conditions.filter(|condition| condition.status == "True").map(|condition| {
        let message = condition.message.as_deref().unwrap_or_default();
        format!("{}: {message}", condition.type_).trim_end_matches([':', ' ']).to_owned()
    });
    said.collect::<Vec<_>>().join("; ")
}

fn report(volume: &Volume, phase: VolumePhase, size_bytes: u64, message: String) -> pb::VolumeReport {
    let size_bytes = i64::try_from(size_bytes).unwrap_or(i64::MAX);
    let (id, phase) = (volume.id.to_vec(), phase.into());
    pb::VolumeReport { id, phase, size_bytes, message, ..pb::VolumeReport::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn of(terms: &Value) -> (Vec<String>, Vec<String>) {
        let spec = json!({ "nodeAffinity": { "required": { "nodeSelectorTerms": terms } } });
        let Reach { zones, nodes } =
            reach_of(&serde_json::from_value(json!({ "metadata": {}, "spec": spec })).unwrap());
        (zones, nodes)
    }

    #[test]
    fn a_volume_is_reached_by_any_of_its_terms() {
        let is_in = |key: &str, values: &[&str]| json!({ "key": key, "operator": "In", "values": values });
        let zone = json!({ "matchExpressions": [is_in("topology.ebs.csi.aws.com/zone", &["a", "b"])] });
        let node = json!({ "matchExpressions": [is_in("topology.kubernetes.io/zone", &["a"]),
                                                is_in("kubernetes.io/hostname", &["n"])] });
        let field = json!({ "matchFields": [is_in("metadata.name", &["m"])] });
        let texts = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        assert_eq!(of(&json!([zone, node, field])), (texts(&["a", "b"]), texts(&["n", "m"])));
        let other = json!({ "matchExpressions": [is_in("rack", &["7"])] });
        let out = json!({ "matchExpressions": [{ "key": "topology.kubernetes.io/zone", "operator": "NotIn", "values": ["a"] }] });
        for unknown in [other, out] {
            assert_eq!(of(&json!([zone, unknown])), (Vec::new(), Vec::new()), "kube-scheduler alone judges");
        }
    }
}
