//! Devices that are had whole or in pieces of hardware.

use crate::lab::{Lab, life};
use backend_kubernetes::{Grant, Life};
use k8s_openapi::api::{core::v1::Pod, resource::v1::ResourceClaim};
use kube::{
    ResourceExt as _,
    api::{Patch, PatchParams},
};
use proto::internal::v1::RuntimePhase;
use serde_json::{Value, json};

const DRIVER: &str = "gpu.nvidia.com";

/// The first place of a profile on a chip, as a planner would choose it from what is told of the chip.
fn piece(lab: &Lab, chip: &str, profile: &str, place: usize) -> Grant {
    let device = lab.node("partitioned-0").devices.into_iter().find(|device| device.name == chip).unwrap();
    let sharing: Value = serde_json::from_str(&device.sharing).unwrap();
    let profiles = sharing["partitioned"]["profiles"].as_array().unwrap();
    let found = profiles.iter().find(|known| known["name"] == profile).unwrap();
    Grant {
        device: chip.to_owned(),
        milli: found["milli"].as_u64().unwrap().try_into().unwrap(),
        memory_bytes: found["memory_bytes"].as_u64().unwrap(),
        profile: profile.to_owned(),
        slots: found["placements"][place].as_u64().unwrap(),
    }
}

fn on_piece(workspace: &str, grant: Grant) -> Life {
    let mut life = life(workspace, "partitioned-0", &[]);
    life.grants = vec![grant];
    life.spec.ask.gpus = 1;
    life
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_pinned_and_exclude_each_other() {
    let Some(lab) = Lab::new("pieces").await else { return };
    lab.backend.recover().await.unwrap();
    let chip = format!("{DRIVER}/partitioned-0/gpu-1-counter-set");
    let (first, second) = (piece(&lab, &chip, "3g.40gb", 0), piece(&lab, &chip, "3g.40gb", 1));
    assert_eq!((first.milli, first.slots & second.slots), (428, 0), "{first:?} {second:?}");
    let lives = [on_piece("first", first), on_piece("second", second)];
    for life in &lives {
        lab.run(life, 1);
    }
    for (life, device) in lives.iter().zip(["gpu-1-mig-3g40gb-9-0", "gpu-1-mig-3g40gb-9-4"]) {
        let ready = lab.until(life.holder, RuntimePhase::Ready, "").await;
        assert!(ready.bound, "{ready:?}");
        let claim = lab.api::<ResourceClaim>().get(&format!("ws-{}-r1", life.workspace)).await.unwrap();
        let results = claim.status.unwrap().allocation.unwrap().devices.unwrap().results.unwrap();
        assert_eq!(results.iter().map(|result| result.device.as_str()).collect::<Vec<_>>(), [device]);
        let request = claim.spec.devices.unwrap().requests.unwrap().remove(0).exactly.unwrap();
        assert_eq!(request.device_class_name, "mig.nvidia.com");
    }
    // The chip as a whole overlaps with both.
    let whole = on_piece("whole", piece(&lab, &chip, "whole", 0));
    lab.run(&whole, 1);
    lab.until(whole.holder, RuntimePhase::PodCreated, "NO_MATCHING_DEVICE").await;
    for life in &lives {
        lab.end(life, 2).await;
    }
    lab.until(whole.holder, RuntimePhase::Ready, "").await;
    lab.end(&whole, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_device_has_no_part_and_may_have_a_root_shell() {
    let Some(lab) = Lab::new("whole").await else { return };
    lab.backend.recover().await.unwrap();
    let device = format!("{DRIVER}/whole-0/gpu-7");
    let part = life("part", "whole-0", &[(&device, 400)]);
    lab.run(&part, 1);
    lab.until(part.holder, RuntimePhase::Misplaced, "DEVICE_NOT_DIVISIBLE").await;
    lab.end(&part, 2).await;

    let mut root = life("root", "whole-0", &[(&device, 1000)]);
    root.spec.root = true;
    lab.run(&root, 1);
    lab.until(root.holder, RuntimePhase::Ready, "").await;
    let spec = lab.api::<Pod>().get("ws-root-r1").await.unwrap().spec.unwrap();
    assert_eq!(spec.security_context.unwrap().run_as_user, Some(0));
    let security = spec.containers[0].security_context.clone().unwrap();
    assert_eq!(security.capabilities.unwrap().drop, Some(vec!["ALL".to_owned()]), "user 0, and nothing more");
    assert_eq!((security.privileged, security.allow_privilege_escalation), (Some(false), Some(false)));
    lab.end(&root, 2).await;
}

/// The last line of all: whoever allocates, a driver prepares nothing twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_somebody_gives_twice_is_refused_by_its_driver() {
    let Some(lab) = Lab::new("twice").await else { return };
    lab.backend.recover().await.unwrap();
    let device = format!("{DRIVER}/whole-0/gpu-4");
    let (first, second) = (life("one", "whole-0", &[(&device, 1000)]), life("two", "whole-0", &[(&device, 1000)]));
    lab.run(&first, 1);
    lab.until(first.holder, RuntimePhase::Ready, "").await;
    lab.run(&second, 1);
    lab.until(second.holder, RuntimePhase::PodCreated, "NO_MATCHING_DEVICE").await;
    // Somebody else writes an allocation, of which the API server checks nothing.
    let claims = lab.api::<ResourceClaim>();
    let uid = lab.api::<Pod>().get("ws-two-r1").await.unwrap().uid();
    let given = claims.get("ws-one-r1").await.unwrap().status.unwrap().allocation;
    let user = json!({ "resource": "pods", "name": "ws-two-r1", "uid": uid });
    let status = json!({ "status": { "allocation": given, "reservedFor": [user] } });
    claims.patch_status("ws-two-r1", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    let told = lab.until(second.holder, RuntimePhase::Pulling, "DEVICE_PREPARE_FAILED").await;
    assert!(told.message.contains("gpu-4"), "{told:?}");
    assert_eq!(lab.report(first.holder).phase(), RuntimePhase::Ready, "its holder keeps it");
    for life in [&second, &first] {
        lab.end(life, 2).await;
    }
}
