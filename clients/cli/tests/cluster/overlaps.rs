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
use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

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
        time.sleep(HELD_S)
        with open(meet + '/asked', 'w') as file:
            print('asked', file=file)
    child = subprocess.Popen(['sh', '-c', 'trap \"\" TERM; while :; do sleep 1; done'])
    signal.signal(signal.SIGTERM, on_term)
    with open(meet + '/pids', 'w') as file:
        print(os.getpid(), child.pid, file=file)
    while True:
        time.sleep(1)
";

/// Does something, and answers for how long this machine stood still meanwhile: by how much a thread that only sleeps woke
/// too late. Nobody can promise anything for that time.
fn with_still<T>(act: impl FnOnce() -> T) -> (T, Duration) {
    const PULSE: Duration = Duration::from_millis(20);
    const PULSE_MAX: Duration = Duration::from_millis(50);
    let (over, is_over) = mpsc::channel::<()>();
    let pulse = thread::spawn(move || {
        let mut still = Duration::ZERO;
        loop {
            let begun = Instant::now();
            let goes_on = is_over.recv_timeout(PULSE) == Err(mpsc::RecvTimeoutError::Timeout);
            still += begun.elapsed().saturating_sub(PULSE_MAX);
            if !goes_on {
                return still;
            }
        }
    });
    let done = act();
    drop(over);
    (done, pulse.join().unwrap())
}

/// Two starts of one trigger, the second while the first runs, which holds out so long before it says that it was asked;
/// answers the workspace and the two runs.
fn overlapping(name: &str, policy: &str, held_s: &str) -> (Workspace, Vec<Value>) {
    let stubborn = STUBBORN.replace("HELD_S", held_s);
    let workspace = Workspace::with_pipeline(shared(), name, "", &[step("data_loader", "load", stubborn)]);
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
    // Well within its time of grace.
    let ((workspace, runs), still) = with_still(|| overlapping("cancels-other", "cancel-other", "0.1"));
    assert_eq!(statuses(&runs), ["RUN_STATUS_COMPLETED", "RUN_STATUS_CANCELLED"]);
    assert_eq!(workspace.told("asked"), "asked", "it had its time of grace");
    // The next one begins with the end of the former one.
    let at = |of: usize, key: &str| runs[of][key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let between = at(0, "startedAt").duration_since(at(1, "completedAt"));
    assert!(!between.is_negative(), "{between:?} between the two");
    let promised = Duration::from_secs(1) + still;
    assert!(between.unsigned_abs() < promised, "{between:?} between the two; the machine stood still for {still:?}");
}

#[test]
fn a_start_that_terminates_asks_nobody() {
    let (workspace, runs) = overlapping("terminates-other", "terminate-other", "0.5");
    assert_eq!(statuses(&runs), ["RUN_STATUS_COMPLETED", "RUN_STATUS_CANCELLED"]);
    assert!(!workspace.has_been_told("asked"), "it had a time of grace, which is what cancelling gives");
}
