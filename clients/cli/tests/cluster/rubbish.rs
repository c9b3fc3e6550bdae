//! Broken code: each block fails with a code and a message at the right place, and the cluster goes on.

use crate::{
    answer::Run,
    cluster::{shared, to_be_hurt},
    processes,
    project::{Step, step},
    wait,
    workspace::{SOON, Workspace},
};
use std::time::{Duration, Instant};

fn load(code: &str) -> [Step; 1] {
    [step("data_loader", "load", format!("import os, sys, time\n@data_loader\ndef f(*args, **kwargs):\n{code}"))]
}

/// One run of one block with this body.
#[track_caller]
fn run(name: &str, code: &str) -> (Workspace, Run) {
    let workspace = Workspace::with_pipeline(shared(), name, "", &load(code));
    let run = workspace.run("p");
    (workspace, run)
}

#[test]
fn a_syntax_error_has_a_file_and_a_line() {
    let (_, run) = run("syntax", "    return 1\n    x = = 2\n");
    run.block("load").failed_with("USER_CODE", &["SyntaxError", "data_loaders/load.py", "line 5"]);
    assert!(run.failed().run["reason"].as_str().unwrap().contains("load"));
}

#[test]
fn an_exception_has_a_traceback_of_the_users_own_lines() {
    let (workspace, run) = run("raises", "    time.sleep(0)\n    return {}['key']\n");
    run.block("load").failed_with("USER_CODE", &["KeyError"]);
    let trace = run.block("load").0["error"]["traceback"].as_str().unwrap();
    assert!(trace.contains("load.py\", line 5") && !trace.contains("orrery_runner"), "{trace}");
    workspace.logged(&run, "KeyError");
}

#[test]
fn a_flood_of_output_delays_nothing_and_is_counted() {
    let flood = "    for n in range(1000):\n        sys.stdout.write('x' * 99 + '\\n' + ('y' * 99 + '\\n') * 999)\n    return 1\n";
    let workspace = Workspace::with_pipeline(shared(), "flood", "", &load(flood));
    let other = Workspace::with_pipeline(shared(), "beside-flood", "", &load("    return 1\n"));
    let id = workspace.start("p", &[]);
    workspace.run_when("the flood", &id, |run| run.blocks.iter().any(|b| b["attempts"] == 1));
    other.run("p").completed();
    assert!(shared().executors().iter().any(|e| e["state"] == "EXECUTOR_STATE_ONLINE"));
    let run = workspace.end_of(&id).completed();
    assert_eq!(run.block("load").attempts(), 1);
    let logs = workspace.logged(&run, "dropped");
    let kept = logs.lines().filter(|line| line.contains("yyyy")).count();
    // 1 MiB of 100 MB is kept.
    assert!(kept > 1_000 && kept < 20_000, "{kept}");
    let told = logs.lines().find(|line| line.contains("dropped")).unwrap_or_default().to_owned();
    let dropped = told.split_whitespace().find_map(|word| word.parse::<usize>().ok()).unwrap_or_default();
    assert!(told.contains("WARNING") && dropped > 900_000, "{told}");
}

#[test]
fn a_block_without_end_of_memory_hits_its_limit() {
    let (workspace, run) = run("greedy", "    kept = []\n    while True:\n        kept.append(b'x' * (8 << 20))\n");
    run.block("load").failed_with("OUT_OF_MEMORY", &["memory"]);
    workspace.pipeline("p", "", &load("    return 'x' * (8 << 20)\n"));
    workspace.deploy().with_code(0);
    workspace.run("p").completed();
}

#[test]
fn memory_has_an_end_that_nobody_set() {
    // Three quarters of the machine, never touched: without a limit it would be given.
    let code = "
    pages = os.sysconf('SC_PHYS_PAGES') * 3 // 4
    return len(bytearray(pages * os.sysconf('SC_PAGE_SIZE')))
";
    let (cluster, _turn) = to_be_hurt();
    let workspace = Workspace::with_pipeline(cluster, "greedy-by-default", "", &load(code));
    workspace.run("p").block("load").failed_with("OUT_OF_MEMORY", &["memory"]);
}

#[test]
fn a_process_that_is_killed_is_a_crash_of_one_attempt() {
    let (_, run) = run("killed", "    os.kill(os.getpid(), 11)\n    time.sleep(600)\n");
    run.block("load").failed_with("CRASHED", &["SIGSEGV"]);
    run.failed();
}

#[test]
fn a_block_that_exits_is_a_failure() {
    let (_, run) = run("exits", "    os._exit(3)\n");
    run.block("load").failed_with("CRASHED", &["code 3"]);
}

#[test]
fn what_forks_and_hangs_dies_with_its_children() {
    let code = "
    import subprocess
    near = subprocess.Popen(['sleep', '600'])
    far = subprocess.Popen(['sleep', '600'], start_new_session=True)
    child = os.fork()
    if child == 0:
        os.setsid()
        time.sleep(600)
    with open(kwargs['meet'] + '/pids', 'w') as file:
        print(os.getpid(), near.pid, far.pid, child, file=file)
    time.sleep(600)
";
    let workspace = Workspace::new(shared(), "hangs");
    let [block] = load(code);
    workspace.pipeline("p", "", &[block.with("timeout: 10")]);
    workspace.deploy().with_code(0);
    let begun = Instant::now();
    let id = workspace.start("p", &[]);
    let pids: Vec<i32> = workspace.told("pids").split(' ').map(|pid| pid.parse().unwrap()).collect();
    assert!(pids.iter().all(|pid| processes::lives(*pid)));
    let run = workspace.end_of(&id).failed();
    run.block("load").failed_with("TIMEOUT", &["limit of 10 s"]);
    assert!(begun.elapsed() < Duration::from_secs(28), "{:?}", begun.elapsed());
    wait::until("the end of all its processes", SOON, || pids.iter().all(|p| !processes::lives(*p)).then_some(()));
}

#[test]
fn a_block_that_hides_a_child_does_not_hang() {
    // The child holds stdout and outlives the block; it goes when the attempt ends.
    let code = "
    import subprocess
    far = subprocess.Popen(['sleep', '600'], start_new_session=True)
    with open(kwargs['meet'] + '/pids', 'w') as file:
        print(far.pid, file=file)
    return 1
";
    let workspace = Workspace::with_pipeline(shared(), "hides", "", &load(code));
    let id = workspace.start("p", &[]);
    let pid = workspace.told("pids").parse().unwrap();
    workspace.end_of(&id).completed();
    wait::until("the end of the hidden process", SOON, || (!processes::lives(pid)).then_some(()));
}

#[test]
fn what_cannot_be_stored_is_named() {
    let (_, run) = run("unstorable", "    import threading\n    return threading.Lock()\n");
    run.block("load").failed_with("OUTPUT", &["lock"]);
    run.failed();
}

#[test]
fn a_failed_test_fails_the_block() {
    let code = "@data_loader\ndef f():\n    return 1\n@test\ndef never(value, *args):\n    assert value == 2, 'one is not two'\n";
    let workspace = Workspace::with_pipeline(shared(), "tested", "", &[step("data_loader", "load", code)]);
    let run = workspace.run("p").failed();
    run.block("load").failed_with("TEST_FAILED", &[]);
    workspace.logged(&run, "one is not two");
}

#[test]
fn packages_that_cannot_be_installed_are_named() {
    let workspace = Workspace::new(shared(), "packages");
    workspace.pipeline("p", "", &load("    return 1\n"));
    // A local file, so that no index is asked.
    workspace
        .write("requirements.txt", "impossible-package @ file:///nowhere/impossible_package-1.0-py3-none-any.whl\n");
    workspace.deploy().with_code(0);
    let run = workspace.run("p").failed();
    run.block("load").failed_with("ENVIRONMENT", &["impossible"]);
    workspace.logged(&run, "installing");
}
