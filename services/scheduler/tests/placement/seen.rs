//! What the planner knows of nodes and no row has.

use crate::world::{WAIT, World};
use proto::internal::v1 as pb;
use testkit::wait_for;

#[tokio::test(flavor = "multi_thread")]
async fn why_nodes_take_nobody_and_what_strangers_hold_is_told() {
    let (_world, scheduler, executor) = World::simple(&[2, 1]).await;
    let grant =
        pb::DeviceGrant { device: "gpu-1".into(), milli: 300, memory_bytes: 1 << 30, ..pb::DeviceGrant::default() };
    executor.set_nodes(|nodes| {
        let holder = "others/train".to_owned();
        nodes[0].foreign.push(pb::Foreign { holder, cpu_milli: 500, memory_bytes: 7, grants: vec![grant] });
        (nodes[1].schedulable, nodes[1].condition) = (false, "NODE_TAINTED: spot (NoSchedule)".into());
        let taken = &mut nodes[0].devices[0];
        (taken.healthy, taken.updating, taken.maybe_taken) = (false, true, true);
        let holder = "others/run: 1 × a.b/gpu".to_owned();
        let anywhere = pb::DeviceGrant { device: "gpu-0".into(), ..pb::DeviceGrant::default() };
        nodes[0].foreign.push(pb::Foreign { holder, grants: vec![anywhere], ..pb::Foreign::default() });
        (nodes[1].devices[0].healthy, nodes[1].devices[0].condition) = (false, "xid=79 (NoExecute)".into());
    });
    let caller = scheduler.caller();
    let seen = wait_for("the taint to be told", WAIT, || async {
        let seen = caller.describe(&["node-0", "nowhere", "node-1"]).await;
        seen.last().is_some_and(|node| node.code == "NODE_TAINTED").then_some(seen)
    })
    .await;
    assert_eq!(seen.len(), 2, "one that is not there is left out: {seen:?}");
    let (held, tainted) = (&seen[0], &seen[1]);
    assert_eq!((held.code.as_str(), held.cpu_milli, held.memory_bytes), ("", 500, 7));
    let stranger = pb::SeenStranger { name: "others/train".into(), milli: 300, memory_bytes: 1 << 30 };
    let device = pb::SeenDevice { name: "gpu-1".into(), code: String::new(), strangers: vec![stranger] };
    let stranger = pb::SeenStranger { name: "others/run: 1 × a.b/gpu".into(), ..pb::SeenStranger::default() };
    let taken = pb::SeenDevice { name: "gpu-0".into(), code: "DEVICE_PLUGIN".into(), strangers: vec![stranger] };
    assert_eq!(held.devices.len(), 2);
    assert!(held.devices.contains(&device) && held.devices.contains(&taken), "{:?}", held.devices);
    assert_eq!(tainted.message, "spot (NoSchedule)");
    assert_eq!(tainted.devices[0].code, "DEVICE_UNHEALTHY");

    executor.die();
    wait_for("the silence to be told", WAIT, || async {
        let seen = caller.describe(&["node-0"]).await;
        (seen[0].code == "NODE_SILENT").then_some(())
    })
    .await;
}
