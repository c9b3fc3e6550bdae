//! Volumes as claims on a real control plane: their size, their class, their growth, and their end.

use crate::lab::{Lab, PATIENCE, get, life};
use backend_kubernetes::names;
use domain::{id::VolumeId, runtime::Mount, volume::Volume};
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams},
};
use proto::internal::v1::{RuntimePhase, VolumePhase, VolumeReport};
use serde_json::json;
use testkit::wait_for;
use uuid::Uuid;

const GIB: u64 = 1 << 30;

async fn until(lab: &Lab, id: VolumeId, what: &str, holds: impl Fn(&VolumeReport) -> bool) -> VolumeReport {
    wait_for(what, PATIENCE, || async { Some(lab.volume(id)).filter(|report| holds(report)) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_has_its_size_grows_outlives_a_life_and_goes() {
    let Some(mut lab) = Lab::new("volumes").await else { return };
    lab.backend.recover().await.unwrap();
    let id = VolumeId(Uuid::new_v4());
    let (project, name) = ("Ökonomie".to_owned(), "data".to_owned());
    let volume = Volume { id, project, name, size_bytes: GIB, storage_class: String::new(), deleted: false };
    let claims = lab.api::<PersistentVolumeClaim>();
    let claim = names::volume(id);

    // A life that comes before its volume waits for it.
    let mut mounts = life("volumes", "shared-1", &[]);
    mounts.spec.mounts = vec![Mount { volume: "data".into(), id: Some(id), path: "/data".into(), read_only: false }];
    mounts.spec.post_start.script = "echo moin > /data/greeting; ln -s /data/greeting started".to_owned();
    lab.run(&mounts, 1);
    lab.until(mounts.holder, RuntimePhase::Accepted, "VOLUME_FAILED").await;
    lab.backend.volumes([volume.clone()]);
    let ready = lab.until(mounts.holder, RuntimePhase::Ready, "").await;
    assert!(get(&ready.endpoint, "/started").contains("moin"), "what was written to the volume is read from it");
    let report = until(&lab, id, "its capacity", |report| report.size_bytes == 1 << 30).await;
    assert_eq!((report.phase(), report.message.as_str()), (VolumePhase::Ready, ""));
    let there = claims.get(&claim).await.unwrap();
    let asked = there.spec.unwrap().resources.unwrap().requests.unwrap()["storage"].0.clone();
    assert_eq!(asked, GIB.to_string());
    let labels = there.metadata.labels.unwrap();
    assert_eq!((labels[names::PROJECT].as_str(), labels[names::VOLUME].as_str()), ("konomie", "data"));

    // Grown while it is mounted. What the API server refuses is said, and nothing is made smaller.
    lab.backend.volumes([Volume { size_bytes: 3 * GIB, ..volume.clone() }]);
    until(&lab, id, "its growth", |report| report.size_bytes == 3 << 30).await;
    lab.backend.volumes([volume.clone()]);
    let refused = until(&lab, id, "the refusal", |report| report.phase() == VolumePhase::Failed).await;
    assert!(refused.size_bytes == 3 << 30 && !refused.message.is_empty(), "{refused:?}");
    lab.backend.volumes([Volume { size_bytes: 3 * GIB, ..volume.clone() }]);
    until(&lab, id, "peace", |report| report.phase() == VolumePhase::Ready).await;

    // It outlives the life; the next one finds what is in it. Another project finds nothing.
    lab.end(&mounts, 2).await;
    let uid = claims.get(&claim).await.unwrap().metadata.uid;
    let mut next = mounts.clone();
    (next.number, next.holder) = (2, life("x", "x", &[]).holder);
    next.spec.post_start.script = "ln -s /data/greeting started".to_owned();
    lab.run(&next, 1);
    let ready = lab.until(next.holder, RuntimePhase::Ready, "").await;
    assert!(get(&ready.endpoint, "/started").contains("moin"), "files stay");
    let mut thief = mounts.clone();
    (thief.workspace, thief.project, thief.holder) = ("thief".into(), "other".into(), life("x", "x", &[]).holder);
    lab.run(&thief, 1);
    lab.until(thief.holder, RuntimePhase::Failed, "VOLUME_FORBIDDEN").await;
    lab.end(&thief, 2).await;
    let mut sly = mounts.clone();
    (sly.workspace, sly.holder) = ("sly".into(), life("x", "x", &[]).holder);
    sly.spec.mounts = vec![Mount { volume: claim.clone(), id: None, path: "/data".into(), read_only: false }];
    lab.run(&sly, 1);
    lab.until(sly.holder, RuntimePhase::Failed, "VOLUME_FORBIDDEN").await;
    lab.end(&sly, 2).await;

    // Whoever mounts it keeps it; then it goes, also when this process begins anew meanwhile, and does not come back.
    let gone = Volume { size_bytes: 3 * GIB, deleted: true, ..volume.clone() };
    lab.backend.volumes([gone.clone()]);
    until(&lab, id, "its deletion", |report| report.phase() == VolumePhase::Deleting).await;
    lab.restart().await;
    lab.backend.volumes([gone]);
    until(&lab, id, "its deletion", |report| report.phase() == VolumePhase::Deleting).await;
    assert_eq!(claims.get(&claim).await.unwrap().metadata.uid, uid);
    lab.end(&next, 2).await;
    until(&lab, id, "its end", |report| report.phase() == VolumePhase::Gone).await;
    assert!(claims.get_opt(&claim).await.unwrap().is_none());
    lab.backend.volumes([volume]);
    let mut late = mounts.clone();
    (late.number, late.holder) = (3, life("x", "x", &[]).holder);
    lab.run(&late, 1);
    lab.until(late.holder, RuntimePhase::Accepted, "VOLUME_FAILED").await;
    assert!(claims.get_opt(&claim).await.unwrap().is_none(), "no id is used twice");
    lab.end(&late, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_of_the_class_that_was_asked_for_and_of_no_other() {
    let Some(lab) = Lab::new("classes").await else { return };
    lab.backend.recover().await.unwrap();
    let (id, plain) = (VolumeId(Uuid::new_v4()), VolumeId(Uuid::new_v4()));
    let class = format!("fast-{}", &id.to_string()[..8]);
    let (project, name) = ("p".to_owned(), "data".to_owned());
    let volume = Volume { id, project, name, size_bytes: GIB, storage_class: class.clone(), deleted: false };
    let usual = Volume { id: plain, name: "plain".to_owned(), storage_class: String::new(), ..volume.clone() };
    lab.backend.volumes([volume.clone(), usual.clone()]);

    // A class that was allowed and is not there is told, and waited for.
    let missing = until(&lab, id, "the class to be missed", |report| report.phase() == VolumePhase::Failed).await;
    assert!(missing.message.contains(&class), "{missing:?}");
    let classes: Api<StorageClass> = Api::all(lab.client.clone());
    let is_usual = |class: &StorageClass| {
        let marks = class.annotations().get("storageclass.kubernetes.io/is-default-class");
        marks.is_some_and(|mark| mark == "true")
    };
    let all = classes.list(&ListParams::default()).await.unwrap().items;
    let default = all.into_iter().find(is_usual).unwrap();
    let metadata = ObjectMeta { name: Some(class.clone()), ..ObjectMeta::default() };
    let made = StorageClass { metadata, allow_volume_expansion: Some(false), ..default.clone() };
    classes.create(&PostParams::default(), &made).await.unwrap();
    let ready = until(&lab, id, "its capacity", |report| report.size_bytes == 1 << 30).await;
    assert_eq!((ready.phase(), ready.message.as_str()), (VolumePhase::Ready, ""));
    until(&lab, plain, "the other's capacity", |report| report.size_bytes == 1 << 30).await;
    let claims = lab.api::<PersistentVolumeClaim>();
    let class_of = async |id| claims.get(&names::volume(id)).await.unwrap().spec.unwrap().storage_class_name;
    assert_eq!((class_of(id).await, class_of(plain).await), (Some(class.clone()), default.metadata.name.clone()));

    // Whatever is said later, it stays of its class; one that cannot grow stays as large as it is.
    for later in [
        Volume { storage_class: default.name_any(), ..volume.clone() },
        Volume { size_bytes: 2 * GIB, ..volume.clone() },
    ] {
        lab.backend.volumes([later.clone()]);
        let refused = until(&lab, id, "the refusal", |report| report.phase() == VolumePhase::Failed).await;
        assert!(refused.size_bytes == 1 << 30 && !refused.message.is_empty(), "{later:?}: {refused:?}");
        assert_eq!(class_of(id).await, Some(class.clone()));
        lab.backend.volumes([volume.clone()]);
        until(&lab, id, "peace", |report| report.phase() == VolumePhase::Ready).await;
    }

    lab.backend.volumes([Volume { deleted: true, ..volume }, Volume { deleted: true, ..usual }]);
    for id in [id, plain] {
        until(&lab, id, "its end", |report| report.phase() == VolumePhase::Gone).await;
    }
    classes.delete(&class, &DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_volume_can_be_mounted_is_told() {
    let Some(lab) = Lab::new("places").await else { return };
    lab.backend.recover().await.unwrap();
    let id = VolumeId(Uuid::new_v4());
    let class = format!("local-{}", &id.to_string()[..8]);
    let classes: Api<StorageClass> = Api::all(lab.client.clone());
    let disks: Api<PersistentVolume> = Api::all(lab.client.clone());
    let made = json!({ "metadata": { "name": class }, "provisioner": "kubernetes.io/no-provisioner" });
    classes.create(&PostParams::default(), &serde_json::from_value(made).unwrap()).await.unwrap();
    // A disk of one node, as an administrator writes it down.
    let node = json!({ "key": "kubernetes.io/hostname", "operator": "In", "values": ["shared-1"] });
    let disk = json!({ "metadata": { "name": class }, "spec": {
        "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"], "storageClassName": class,
        "persistentVolumeReclaimPolicy": "Retain", "local": { "path": "/nowhere" },
        "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [node] }] } },
    }});
    disks.create(&PostParams::default(), &serde_json::from_value(disk).unwrap()).await.unwrap();
    let (project, name, storage_class) = ("p".to_owned(), "data".to_owned(), class.clone());
    let volume = Volume { id, project, name, size_bytes: GIB, storage_class, deleted: false };
    lab.backend.volumes([volume.clone()]);
    let ready = until(&lab, id, "its capacity", |report| report.size_bytes == 1 << 30).await;
    assert_eq!((ready.phase(), ready.zones.len(), ready.nodes), (VolumePhase::Ready, 0, vec!["shared-1".to_owned()]));
    lab.backend.volumes([Volume { deleted: true, ..volume }]);
    until(&lab, id, "its end", |report| report.phase() == VolumePhase::Gone).await;
    disks.delete(&class, &DeleteParams::default()).await.unwrap();
    classes.delete(&class, &DeleteParams::default()).await.unwrap();
}
