//! Killed services: what ran is finished once, elsewhere or after the restart.

use crate::{
    cluster::{Cluster, to_be_hurt},
    processes,
    project::{WAITS, step},
    wait,
    workspace::{SOON, Workspace},
};
use rustix::process::Signal;
use std::{
    fs,
    time::{Duration, Instant},
};

/// The longest time until an attempt of a dead executor begins elsewhere.
const REASSIGNED: Duration = Duration::from_secs(15);

fn workspace(cluster: &'static Cluster, name: &str) -> Workspace {
    let check = "@data_exporter\ndef f(attempt, *args, **kwargs):\n    print('the result is of attempt', attempt)\n";
    let steps = [step("data_loader", "load", WAITS), step("data_exporter", "check", check).after(&["load"])];
    Workspace::with_pipeline(cluster, name, "", &steps)
}

#[test]
fn the_attempt_of_a_killed_executor_runs_elsewhere() {
    let (cluster, _turn) = to_be_hurt();
    let workspace = workspace(cluster, "executor-killed");
    let id = workspace.start("p", &[]);
    let user_code: i32 = workspace.told("begun-1").parse().unwrap();
    let executor = workspace.look(&id).block("load").executor().to_owned();
    let killed = Instant::now();
    processes::signal(cluster.service(&executor), Signal::KILL);
    wait::until("the end of its user code", SOON, || (!processes::lives(user_code)).then_some(()));
    workspace.told("begun-2");
    assert!(killed.elapsed() <= REASSIGNED, "{:?}", killed.elapsed());
    workspace.tell("go-2");
    let run = workspace.end_of(&id).completed();
    workspace.logged(&run, "result is of attempt 2");
    workspace.logged(&run, &format!("executor {executor} was lost: it is tried again"));
    assert!(!workspace.has_been_told("begun-3"));
}

#[test]
fn a_frozen_executor_is_replaced_and_its_late_result_refused() {
    let (cluster, _turn) = to_be_hurt();
    let workspace = workspace(cluster, "executor-frozen");
    let id = workspace.start("p", &[]);
    workspace.told("begun-1");
    let name = workspace.look(&id).block("load").executor().to_owned();
    let executor = cluster.service(&name);
    let frozen_executor = processes::Frozen::new(executor);
    let frozen = Instant::now();
    // The user code goes on and has a result, which its executor sends when it wakes up.
    workspace.tell("go-1");
    workspace.told("begun-2");
    assert!(frozen.elapsed() <= REASSIGNED, "{:?}", frozen.elapsed());
    let outputs = cluster.data().join("outputs").join(&id).join("load/_");
    let leases = || fs::read_dir(&outputs).map_or(0, Iterator::count);
    wait::until("the outputs of the first attempt", SOON, || (leases() == 1).then_some(()));
    drop(frozen_executor);
    wait::until("their removal", SOON, || (leases() == 0).then_some(()));
    workspace.tell("go-2");
    let run = workspace.end_of(&id).completed();
    assert_eq!(leases(), 1);
    workspace.logged(&run, "result is of attempt 2");
}

#[test]
fn a_run_survives_its_scheduler() {
    let (cluster, _turn) = to_be_hurt();
    let workspace = workspace(cluster, "scheduler-killed");
    let id = workspace.start("p", &[]);
    workspace.told("begun-1");
    let old = cluster.service("scheduler");
    processes::signal(old, Signal::KILL);
    // The result comes while nobody listens.
    workspace.tell("go-1");
    wait::until("another scheduler", SOON, || (cluster.service("scheduler") != old).then_some(()));
    let run = workspace.end_of(&id).completed();
    assert_eq!(run.block("load").attempts(), 1);
    assert_eq!(run.block("check").attempts(), 1);
}

#[test]
fn who_waits_for_a_run_survives_the_web_server() {
    let (cluster, _turn) = to_be_hurt();
    let workspace = workspace(cluster, "web-server-killed");
    let meet = format!("meet={}", workspace.meet().display());
    let waiting = workspace.begin(&["run", "p", "--wait", "--var", &meet]);
    workspace.told("begun-1");
    let old = cluster.service("web-server");
    processes::signal(old, Signal::KILL);
    workspace.tell("go-1");
    wait::until("another web-server", SOON, || (cluster.service("web-server") != old).then_some(()));
    let output = waiting.output("run --wait");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}
