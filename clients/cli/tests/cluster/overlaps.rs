//! Triggers whose starts end other runs, with blocks that really run: the processes of the former run are gone before the
//! next one begins, asked first where the policy cancels, and killed at once where it terminates.

use crate::{
    cluster::shared,
    processes,
    project::step,
    wait,
    workspace::{SOON, Workspace},
};
use serde_json::Value;

/// Says who it is and holds out against SIGTERM, with a child that does the same; the second run says whether those of the
/// first live when it begins, and ends.
const STUBBORN: &str = "
import os, signal, subprocess, time
@data_loader
def f(*args, **kwargs):
    meet = kwargs['meet']
    if os.path.exists(meet + '/pids'):
        pids = open(meet + '/pids').read().split()
        alive = [pid for pid in pids if os.path.exists('/proc/' + pid) and ') Z ' not in open('/proc/' + pid + '/stat').read()]
        with open(meet + '/found', 'w') as file:
            print('alive', *alive, file=file)
        return 2
    def on_term(*_):
        # Who is killed at once does not come to write it.
        time.sleep(0.5)
        with open(meet + '/asked', 'w') as file:
            print('asked', file=file)
    child = subprocess.Popen(['sh', '-c', 'trap \"\" TERM; while :; do sleep 1; done'])
    signal.signal(signal.SIGTERM, on_term)
    with open(meet + '/pids', 'w') as file:
        print(os.getpid(), child.pid, file=file)
    while True:
        time.sleep(1)
";

/// Two starts of one trigger, the second while the first runs; answers the workspace and the two runs.
fn overlapping(name: &str, policy: &str) -> (Workspace, Vec<Value>) {
    let workspace = Workspace::with_pipeline(shared(), name, "", &[step("data_loader", "load", STUBBORN)]);
    let meet = format!("meet={}", workspace.meet().display());
    let event = format!("{{\"of\": [\"{name}\"]}}");
    let create = ["triggers", "create", "p", "events", "--event", &event, "--overlap", policy, "--var", &meet];
    workspace.orrery(&create).with_code(0);
    let told = format!("{{\"of\": \"{name}\"}}");
    workspace.orrery(&["triggers", "send", &told, "--idempotency-key", "one"]).with_code(0);
    let pids = workspace.told("pids");
    workspace.orrery(&["triggers", "send", &told, "--idempotency-key", "two"]).with_code(0);
    assert_eq!(workspace.told("found"), "alive", "processes of the first run lived when the second began");
    for pid in pids.split(' ') {
        assert!(!processes::lives(pid.parse().unwrap()), "{pid} of {pids} lives");
    }
    let runs = wait::until("the end of both runs", SOON, || {
        let runs = workspace.orrery(&["runs", "--pipeline", "p"]).json()["runs"].take();
        let runs = runs.as_array().cloned().unwrap_or_default();
        (runs.len() == 2 && runs.iter().all(|run| run["completedAt"].is_string())).then_some(runs)
    });
    (workspace, runs)
}

fn statuses(runs: &[Value]) -> Vec<&str> {
    // The latest comes first.
    runs.iter().filter_map(|run| run["status"].as_str()).collect()
}

#[test]
fn a_start_that_cancels_waits_until_the_process_group_is_gone() {
    let (workspace, runs) = overlapping("cancels-other", "cancel-other");
    assert_eq!(statuses(&runs), ["RUN_STATUS_COMPLETED", "RUN_STATUS_CANCELLED"]);
    assert_eq!(workspace.told("asked"), "asked", "it had its time of grace");
    // The next one begins with the end of the former one.
    let at = |of: usize, key: &str| runs[of][key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let between = at(0, "startedAt").duration_since(at(1, "completedAt"));
    assert!(between.as_millis() < 1_000 && !between.is_negative(), "{between:?} between the two");
}

#[test]
fn a_start_that_terminates_asks_nobody() {
    let (workspace, runs) = overlapping("terminates-other", "terminate-other");
    assert_eq!(statuses(&runs), ["RUN_STATUS_COMPLETED", "RUN_STATUS_CANCELLED"]);
    assert!(!workspace.has_been_told("asked"), "it had a time of grace, which is what cancelling gives");
}
