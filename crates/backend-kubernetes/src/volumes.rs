//! Volumes of projects as claims: each has the size that it shall have, or is gone with what is in it.
//!
//! A claim belongs to no life. Its class is the cluster's default one, and one node at a time writes it. Refuses to know
//! who mounts what, and to make anything smaller.

use crate::{
    backend::Sink,
    cluster::Cluster,
    error::Result,
    names::{self, POOL, PROJECT, VOLUME},
    quantity,
    render::Place,
};
use domain::{id::VolumeId, volume::Volume};
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus, VolumeResourceRequirements,
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
    Ok(report(volume, VolumePhase::Ready, given(&there), said(there.status.as_ref())))
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
    pb::VolumeReport { id: volume.id.to_vec(), phase: phase.into(), size_bytes, message }
}
