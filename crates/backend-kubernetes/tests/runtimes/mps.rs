//! Whole devices that several share through a server of MPS. The simulated driver starts none: what is shown is who has which
//! claim, when it is there, and what each application is told.

use crate::lab::{Lab, PATIENCE, life, until};
use backend_kubernetes::{Classes, names};
use k8s_openapi::api::{core::v1::Pod, resource::v1::ResourceClaim};
use kube::{
    ResourceExt as _,
    api::{DeleteParams, ListParams},
};
use proto::internal::v1::RuntimePhase;

const NODE: &str = "whole-0";
const DEVICE: &str = "gpu.nvidia.com/whole-0/gpu-6";
const OTHER: &str = "gpu.nvidia.com/whole-0/gpu-5";

async fn lab() -> Option<Lab> {
    let classes = Classes::read(["gpu.nvidia.com/gpu=gpu.nvidia.com:mps"]).unwrap();
    let lab = Lab::with("mps", classes).await?;
    lab.backend.recover().await.unwrap();
    Some(lab)
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_use_one_claim_that_goes_with_the_last_of_them() {
    let Some(lab) = lab().await else { return };
    let published = lab.node(NODE).devices.into_iter().find(|device| device.name == DEVICE).unwrap();
    assert_eq!(published.sharing, r#"{"shared":{"step_milli":10,"alone":true}}"#);
    let (mut a, b) = (life("a", NODE, &[(DEVICE, 300)]), life("b", NODE, &[(DEVICE, 600)]));
    a.spec.env.insert("GPU_CORE_UTILIZATION_POLICY".to_owned(), "DISABLE".to_owned());
    for life in [&a, &b] {
        lab.run(life, 1);
    }
    for (life, percent) in [(&a, "30"), (&b, "60")] {
        assert!(lab.until(life.holder, RuntimePhase::Ready, "").await.bound);
        let pod = lab.api::<Pod>().get(&names::object(&life.workspace, 1)).await.unwrap();
        let env = pod.spec.unwrap().containers[0].env.clone().unwrap();
        let of = |name: &str| env.iter().find(|one| one.name == name).and_then(|one| one.value.clone());
        assert_eq!(of("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE").as_deref(), Some(percent));
        assert_eq!(of("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT").as_deref(), Some("0=16384M"));
        assert_eq!(of("GPU_CORE_UTILIZATION_POLICY"), None, "whoever keeps specs, no share is loosened here");
    }
    let claims = lab.api::<ResourceClaim>();
    let shared = claims.get(&names::shared_claim(DEVICE)).await.unwrap();
    assert_eq!(claims.list(&ListParams::default()).await.unwrap().items.len(), 1, "there is no other");
    assert_eq!(shared.status.unwrap().reserved_for.unwrap().len(), 2);
    let config = shared.spec.devices.unwrap().config.unwrap().remove(0).opaque.unwrap();
    assert_eq!(config.parameters.0["sharing"]["strategy"], "MPS");
    assert!(
        lab.node(NODE).foreign.iter().all(|stranger| !stranger.holder.contains(&lab.place.namespace)),
        "it is ours"
    );

    // Root could take more than its share, and an application reaches one server only.
    let mut root = life("root", NODE, &[(DEVICE, 100)]);
    root.spec.root = true;
    lab.run(&root, 1);
    lab.until(root.holder, RuntimePhase::Failed, "ROOT_NOT_ALLOWED").await;
    let two = life("two", NODE, &[(DEVICE, 100), (OTHER, 100)]);
    lab.run(&two, 1);
    lab.until(two.holder, RuntimePhase::Misplaced, "DEVICE_NOT_DIVISIBLE").await;

    for life in [&root, &a] {
        lab.end(life, 2).await;
    }
    assert!(claims.get_opt(&names::shared_claim(DEVICE)).await.unwrap().is_some(), "somebody still uses it");
    lab.end(&b, 2).await;
    assert!(claims.list(&ListParams::default()).await.unwrap().items.is_empty(), "`two` never had a part");
    lab.end(&two, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_claim_that_goes_as_another_comes_is_made_again() {
    let Some(lab) = lab().await else { return };
    let claims = lab.api::<ResourceClaim>();
    let whole = life("whole", NODE, &[(OTHER, 1000)]);
    lab.run(&whole, 1);
    assert!(lab.until(whole.holder, RuntimePhase::Ready, "").await.bound);
    assert!(claims.get_opt("ws-whole-r1").await.unwrap().is_some(), "nobody shares a whole device");

    // Its pod waits for the device, and so has not begun to use the claim when whoever was last takes it away.
    let next = life("next", NODE, &[(OTHER, 500)]);
    lab.run(&next, 1);
    lab.until(next.holder, RuntimePhase::PodCreated, "NO_MATCHING_DEVICE").await;
    let name = names::shared_claim(OTHER);
    let first = claims.get(&name).await.unwrap().uid();
    claims.delete(&name, &DeleteParams::default()).await.unwrap();
    until("another claim of that name", PATIENCE, || async {
        claims.get_opt(&name).await.unwrap().is_some_and(|claim| claim.uid() != first)
    })
    .await;
    lab.end(&whole, 2).await;
    assert!(lab.until(next.holder, RuntimePhase::Ready, "").await.bound);
    lab.end(&next, 2).await;
    assert!(claims.list(&ListParams::default()).await.unwrap().items.is_empty());
}
