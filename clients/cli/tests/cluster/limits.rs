//! One slot and small disks: what waits holds no slot, and a full disk fails one block.

use crate::{cluster::tiny, project::step, workspace::Workspace};
use std::{fs, path::PathBuf};

const QUICK: &str = "@data_loader\ndef f(*args, **kwargs):\n    return kwargs.get('number', 0)\n";

#[test]
fn a_child_run_needs_no_second_slot() {
    let (cluster, _turn) = tiny();
    let workspace = Workspace::new(cluster, "child-runs");
    let trigger = "
from mage_ai.orchestration.triggers.api import trigger_pipeline
@data_loader
def f(*args, **kwargs):
    run = trigger_pipeline('child', variables={'number': 7}, check_status=True, error_on_failure=True)
    print('child ended as', run.status)
    return run.id
";
    workspace.pipeline("child", "", &[step("data_loader", "quick", QUICK)]);
    workspace.pipeline("p", "", &[step("data_loader", "trigger", trigger)]);
    let bad = "@data_loader\ndef f(*args, **kwargs):\n    raise ValueError('bad child')\n";
    workspace.pipeline("bad_child", "", &[step("data_loader", "bad", bad)]);
    workspace.pipeline("q", "", &[step("data_loader", "trigger_bad", trigger.replace("'child',", "'bad_child',"))]);
    workspace.deploy().with_code(0);
    let run = workspace.run("p").completed();
    workspace.logged(&run, "child ended as completed");
    let children = workspace.orrery(&["runs", "--pipeline", "child"]).json()["runs"].take();
    assert_eq!(children.as_array().unwrap().len(), 1, "{children:#?}");
    assert_eq!(children[0]["parentRunId"], *run.id());
    assert_eq!(children[0]["variables"]["number"].as_f64(), Some(7.0));
    workspace.run("q").failed().block("trigger_bad").failed_with("USER_CODE", &["bad_child", "failed"]);
}

#[test]
fn a_child_run_with_a_time_out_needs_no_second_slot() {
    let (cluster, _turn) = tiny();
    let workspace = Workspace::new(cluster, "impatience");
    let trigger = "
from mage_ai.orchestration.triggers.api import trigger_pipeline
@data_loader
def f(*args, **kwargs):
    quick = trigger_pipeline('child', check_status=True, poll_timeout=60)
    print('child ended as', quick.status)
    try:
        trigger_pipeline('endless', check_status=True, poll_timeout=1)
    except TimeoutError as error:
        print('gave up:', error)
";
    workspace.pipeline("child", "", &[step("data_loader", "quick", QUICK)]);
    let never = "@sensor\ndef f(*args, **kwargs):\n    return False\n";
    workspace.pipeline("endless", "", &[step("sensor", "never", never)]);
    workspace.pipeline("p", "", &[step("data_loader", "trigger", trigger)]);
    workspace.deploy().with_code(0);
    let run = workspace.run("p").completed();
    workspace.logged(&run, "child ended as completed");
    workspace.logged(&run, "gave up: ");
}

#[test]
fn a_sensor_that_waits_holds_no_slot() {
    let (cluster, _turn) = tiny();
    let workspace = Workspace::new(cluster, "patience");
    let sensor = "
import datetime
from mage_ai.orchestration.run_status_checker import check_status
@sensor
def f(*args, **kwargs):
    return check_status('other', kwargs['execution_date'] + datetime.timedelta(days=366), hours=24 * 800)
";
    workspace.pipeline("p", "", &[step("sensor", "wait", sensor).with("configuration: {poke_interval: 1}")]);
    workspace.pipeline("other", "", &[step("data_loader", "quick", QUICK)]);
    workspace.deploy().with_code(0);
    let id = workspace.start("p", &[]);
    workspace.run_when("the first question", &id, |run| run.blocks.iter().any(|b| b["notBefore"].is_string()));
    workspace.run("other").completed();
    workspace.end_of(&id).completed();
}

#[test]
fn full_outputs_fail_one_block() {
    let (cluster, _turn) = tiny();
    if !cluster.has_small_disk("outputs") {
        testkit::skipped("only root can mount the small disk that this test needs");
        return;
    }
    let big = "import numpy, pandas\n@data_loader\ndef f(*args, **kwargs):\n    return pandas.DataFrame({'a': numpy.random.rand(6_000_000)})\n";
    let workspace = Workspace::new(cluster, "full-outputs");
    workspace.pipeline("big", "", &[step("data_loader", "big", big)]);
    workspace.pipeline("small", "", &[step("data_loader", "quick", QUICK)]);
    workspace.deploy().with_code(0);
    workspace.run("big").failed().block("big").failed_with("DISK_FULL", &[]);
    workspace.run("small").completed();
}

/// The disk is free again however a test ends.
struct Filled(PathBuf);

impl Drop for Filled {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_full_disk_of_the_executor_is_survived() {
    let (cluster, _turn) = tiny();
    if !cluster.has_small_disk("executor-1") {
        testkit::skipped("only root can mount the small disk that this test needs");
        return;
    }
    let fill = "@data_loader\ndef f(*args, **kwargs):\n    with open(kwargs['disk'] + '/fill', 'wb') as file:\n        while True:\n            file.write(bytes(1 << 20))\n            file.flush()\n";
    let workspace = Workspace::with_pipeline(cluster, "full-disk", "", &[step("data_loader", "fill", fill)]);
    let disk = cluster.data().join("executor-1");
    let filled = Filled(disk.join("fill"));
    let variable = format!("disk={}", disk.display());
    let run = workspace.end_of(&workspace.start("p", &["--var", &variable])).failed();
    run.block("fill").failed_with("DISK_FULL", &["No space left"]);
    // New code does not fit; what is there still runs.
    workspace.pipeline("q", "", &[step("data_loader", "quick", QUICK)]);
    workspace.write("large.txt", &"x".repeat(1 << 20));
    workspace.deploy().with_code(0);
    workspace.run("q").failed().block("quick").failed_with("DISK_FULL", &[]);
    drop(filled);
    workspace.run("q").completed();
}
