//! `orrery up --project`: what a person edits is what runs.

use crate::{
    cluster::Cluster,
    project::{Project, step},
    wait,
    workspace::SOON,
};
use serde_json::Value;

fn load(word: &str) -> String {
    format!("@data_loader\ndef f(*args, **kwargs):\n    print('this is the', '{word}')\n    return 1\n")
}

/// The number of the pipeline's version in force, when there is one.
fn version(cluster: &Cluster) -> Option<String> {
    let answer = wait::output(cluster.orrery().args(["pipelines", "--json"]));
    let listed: Value = serde_json::from_slice(&answer.stdout).ok()?;
    Some(listed["pipelines"][0]["version"].as_str()?.to_owned())
}

fn run(cluster: &Cluster) -> String {
    let mut command = cluster.orrery();
    let ran = wait::output(command.args(["run", "p", "--wait", "--json"]));
    let out = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{out}");
    // The last line tells of the run and its blocks as they ended.
    let ended: Value = out.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap();
    ended["run"]["id"].as_str().unwrap().to_owned()
}

#[track_caller]
fn logged(cluster: &Cluster, run: &str, text: &str) {
    wait::until(text, SOON, || {
        let logs = wait::output(cluster.orrery().args(["logs", run]));
        String::from_utf8_lossy(&logs.stdout).contains(text).then_some(())
    });
}

#[test]
fn a_project_is_deployed_and_again_when_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let project = Project::new(dir.path().join("shop"));
    project.pipeline("p", "", &[step("data_loader", "load", load("first"))]);
    let cluster = Cluster::of_project(project.path());
    let in_force = |wanted: &str| {
        wait::until(&format!("version {wanted}"), SOON, || version(&cluster).filter(|v| v == wanted));
    };
    in_force("1");
    logged(&cluster, &run(&cluster), "this is the first");
    project.write("data_loaders/load.py", &load("second"));
    in_force("2");
    logged(&cluster, &run(&cluster), "this is the second");
}
