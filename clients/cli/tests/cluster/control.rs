//! Cancel, retry, idempotency keys, and the exit codes that scripts rely on.

use crate::{
    cluster::shared,
    processes,
    project::step,
    wait,
    workspace::{SOON, Workspace},
};
use std::{
    fs,
    time::{Duration, Instant},
};

/// Fails until the test lets it pass, and counts how often it was called.
const STUBBORN: &str = "
import os
@transformer
def f(*args, **kwargs):
    with open(kwargs['meet'] + '/' + kwargs['block_uuid'], 'a') as file:
        print('called', file=file)
    assert os.path.exists(kwargs['meet'] + '/pass')
    return 1
";
const COUNTED: &str = "
@transformer
def f(*args, **kwargs):
    with open(kwargs['meet'] + '/' + kwargs['block_uuid'], 'a') as file:
        print('called', file=file)
    return 1
";

fn calls(workspace: &Workspace, block: &str) -> usize {
    fs::read_to_string(workspace.meet().join(block)).map_or(0, |text| text.lines().count())
}

#[test]
fn cancel_reaches_the_whole_process_group() {
    let code = "
import os, signal, subprocess, time
@data_loader
def f(*args, **kwargs):
    meet = kwargs['meet']
    def on_term(*_):
        open(meet + '/terminated', 'w').write('yes\\n')
    child = subprocess.Popen(['sh', '-c', 'trap \"echo yes > ' + meet + '/child_terminated\" TERM; while :; do sleep 1; done'])
    signal.signal(signal.SIGTERM, on_term)
    open(meet + '/pids', 'w').write(f'{os.getpid()} {child.pid}\\n')
    while True:
        time.sleep(1)
";
    let steps = [
        step("data_loader", "load", code),
        step("transformer", "after", COUNTED).after(&["load"]),
        step("callback", "tell", "@callback('cancelled')\ndef f(*args, **kwargs):\n    print('was cancelled')\n")
            .after(&["load"]),
    ];
    let workspace = Workspace::with_pipeline(shared(), "cancel", "", &steps);
    let meet = format!("meet={}", workspace.meet().display());
    let waiting = workspace.begin(&["run", "p", "--wait", "--var", &meet]);
    let pids: Vec<i32> = workspace.told("pids").split(' ').map(|pid| pid.parse().unwrap()).collect();
    let id = workspace.orrery(&["runs"]).json()["runs"][0]["id"].as_str().unwrap().to_owned();
    let asked = Instant::now();
    workspace.orrery(&["cancel", &id, "--reason", "enough"]).with_code(0);
    assert_eq!(workspace.told("terminated"), "yes");
    assert_eq!(workspace.told("child_terminated"), "yes");
    wait::until("the end of its processes", SOON, || pids.iter().all(|p| !processes::lives(*p)).then_some(()));
    // Both held out against SIGTERM, so they had the grace of one second.
    assert!(asked.elapsed() >= Duration::from_millis(900), "{:?}", asked.elapsed());
    assert_eq!(waiting.output("run --wait").status.code(), Some(2));
    let run = workspace.end_of(&id).ended("CANCELLED");
    assert!(run.run["reason"].as_str().unwrap().contains("enough"));
    assert_eq!(run.block("load").status(), "CANCELLED");
    assert_eq!(run.block("after").status(), "CANCELLED");
    // Twice is no error.
    workspace.orrery(&["cancel", &id]).with_code(0);
}

#[test]
fn retries_run_what_they_name_and_nothing_else() {
    let steps = [
        step("data_loader", "a", COUNTED.replace("@transformer", "@data_loader")),
        // Complete before anything fails: what still runs then is stopped, and would run again.
        step("transformer", "d", COUNTED).after(&["a"]),
        step("transformer", "b", STUBBORN).after(&["a", "d"]),
        step("transformer", "c", COUNTED).after(&["b"]),
    ];
    let workspace = Workspace::with_pipeline(shared(), "retry", "", &steps);
    let count = |blocks: [&str; 4]| blocks.map(|block| calls(&workspace, block));
    let id = workspace.start("p", &["--idempotency-key", "first"]);
    let first = workspace.end_of(&id).failed();
    assert_eq!(first.block("c").status(), "UPSTREAM_FAILED");
    let done = count(["a", "b", "c", "d"]);
    assert_eq!((done[0], done[1], done[2]), (1, 1, 0));

    // Still broken: the same run, only what had not completed.
    workspace.orrery(&["retry", &id, "--incomplete", "--wait"]).with_code(1);
    assert_eq!(count(["a", "b", "c", "d"])[..3], [1, 2, 0]);
    workspace.tell("pass");
    workspace.orrery(&["retry", &id, "--incomplete", "--wait"]).with_code(0);
    assert_eq!(count(["a", "b", "c", "d"]), [1, 3, 1, 1]);
    let again = workspace.orrery(&["retry", &id, "--from", "b", "--wait"]).with_code(0).json();
    assert_eq!(again["run"]["id"], *id);
    assert_eq!(count(["a", "b", "c", "d"]), [1, 4, 2, 1]);
    let whole = workspace.orrery(&["retry", &id, "--wait"]).with_code(0).json();
    assert_ne!(whole["run"]["id"], *id);
    assert_eq!(whole["run"]["parentRunId"], *id);
    assert_eq!(count(["a", "b", "c", "d"]), [2, 5, 3, 2]);

    let unknown = workspace.orrery(&["retry", &id, "--from", "nobody"]);
    assert!(unknown.code == 66 && unknown.err.contains("nobody"), "{unknown:?}");
}

#[test]
fn the_same_key_is_the_same_run() {
    let steps = [step("data_loader", "a", COUNTED.replace("@transformer", "@data_loader"))];
    let workspace = Workspace::with_pipeline(shared(), "keys", "", &steps);
    let ids = [(); 3].map(|()| workspace.start("p", &["--idempotency-key", "today"]));
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    workspace.end_of(&ids[0]).completed();
    assert_eq!(workspace.start("p", &["--idempotency-key", "today"]), ids[0]);
    let other = workspace.start("p", &["--idempotency-key", "tomorrow"]);
    assert_ne!(other, ids[0]);
    workspace.end_of(&other).completed();
    assert_eq!(calls(&workspace, "a"), 2);
}

#[test]
fn a_run_that_takes_too_long_fails() {
    let code = "import time\n@data_loader\ndef f(*args, **kwargs):\n    time.sleep(600)\n";
    let workspace = Workspace::with_pipeline(shared(), "run-timeout", "", &[step("data_loader", "load", code)]);
    let answer = workspace.orrery(&["run", "p", "--wait", "--timeout", "2s"]).with_code(1);
    let run = &answer.json()["run"];
    assert_eq!(run["status"], "RUN_STATUS_FAILED");
    assert!(run["reason"].as_str().unwrap().contains("2 s"), "{run}");
}

#[test]
fn exit_codes_tell_what_happened() {
    let steps = [step("data_loader", "load", "@data_loader\ndef f(*args, **kwargs):\n    assert kwargs['good']\n")];
    let workspace = Workspace::with_pipeline(shared(), "codes", "", &steps);
    let codes = [
        (&["run", "p", "--wait", "--var", "good=true"][..], 0),
        (&["run", "p", "--wait", "--var", "good=false"], 1),
        (&["run", "p", "--var", "good"], 64),
        (&["rnu"], 64),
        (&["run", "nobody"], 66),
        (&["cancel", "00000000-0000-7000-8000-000000000000"], 66),
        (&["deploy", "/nowhere"], 65),
        (&["--server", "http://127.0.0.1:1", "runs"], 69),
        (&["--token-file", "/dev/null", "runs"], 77),
        (&["deploy", "--validate-only", "Cargo.toml"], 65),
    ];
    for (arguments, code) in codes {
        let answer = workspace.orrery(arguments);
        assert_eq!(answer.code, code, "{arguments:?}: {answer:?}");
        assert!(code < 60 || !answer.err.is_empty(), "{arguments:?}");
    }
}
