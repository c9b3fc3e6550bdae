//! Volumes from the command line to a folder of the machine, and its end.

use crate::{cluster::shared, wait, workspace::Workspace};
use serde_json::Value;
use std::time::Duration;

/// For an executor to be told, and to do it, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_volume_is_made_grown_and_deleted() {
    let workspace = Workspace::new(shared(), "voluminous");
    let listed = || -> Vec<Value> {
        let answer = workspace.orrery(&["volumes"]).with_code(0).json();
        let all = answer["volumes"].as_array().cloned().unwrap_or_default();
        all.into_iter().filter(|volume| volume["name"] == "voluminous-data").collect()
    };
    workspace.orrery(&["volumes", "create", "voluminous-data", "--size", "2GiB"]).with_code(0);
    let taken = workspace.orrery(&["volumes", "create", "voluminous-data", "--size", "2GiB"]).with_code(65);
    assert!(taken.err.contains("choose another name"), "{taken:?}");
    let classed = ["volumes", "create", "voluminous-fast", "--size", "1GiB", "--class", "fast"];
    let refused = workspace.orrery(&classed).with_code(65);
    assert!(refused.err.contains("no storage class may be asked for in pool `default`"), "{refused:?}");
    let ready = wait::until("an executor to make it", SOON, || {
        listed().pop().filter(|volume| volume["state"] == "VOLUME_STATE_READY")
    });
    let project = ready["project"].as_str().unwrap();
    let smaller = workspace.orrery(&["volumes", "grow", "voluminous-data", "--size", "1GiB"]).with_code(65);
    assert!(smaller.err.contains("never gets smaller"), "{smaller:?}");
    workspace.orrery(&["volumes", "--project", project, "grow", "voluminous-data", "--size", "3GiB"]).with_code(0);
    let shown = workspace.plain(&["volumes"]).with_code(0).out;
    assert!(shown.contains("voluminous-data") && shown.contains("3072 MiB") && shown.contains("ready"), "{shown}");
    let usage = workspace.plain(&["projects", "policy", project]).with_code(0).out;
    assert!(usage.contains("in volumes"), "{usage}");
    workspace.orrery(&["volumes", "delete", "voluminous-data"]).with_code(0);
    workspace.orrery(&["volumes", "delete", "voluminous-data"]).with_code(66);
    wait::until("nothing of it to be left", SOON, || listed().is_empty().then_some(()));
}
