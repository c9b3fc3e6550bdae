//! A workspace on Kubernetes, from the command that starts it to nothing: claim, pod and `orrery gpus` agree, its JupyterLab
//! is opened through the web-server, by a program and by somebody with a browser, and a cell runs in it.

use crate::{
    answer::Answer,
    cluster::Cluster,
    lab::{Lab, SOON, held, json, orrery},
    project::{Project, step},
    wait,
};
use serde_json::Value;
use std::{env, fs, path::Path, process::Command, time::Duration};

const MODEL: &str = "NVIDIA RTX PRO 6000 Blackwell Server Edition";
/// For all that a person does in a browser, on a busy machine.
const VISIT_TIMEOUT: Duration = Duration::from_secs(300);

/// The devices that the claim was allocated, likewise.
fn allocated(claim: &Value) -> Vec<(String, i64)> {
    let results = claim["status"]["allocation"]["devices"]["results"].as_array().unwrap();
    let mut all: Vec<_> = results
        .iter()
        .map(|result| {
            let name = ["driver", "pool", "device"].map(|part| result[part].as_str().unwrap()).join("/");
            let cores: i64 = result["consumedCapacity"]["cores"].as_str().unwrap().parse().unwrap();
            (name, cores * 10)
        })
        .collect();
    all.sort();
    all
}

/// Opens the application as somebody with a token would, runs a cell, and answers what it printed.
#[track_caller]
fn visit(cluster: &Cluster, programs: &Path, cell: &str) -> String {
    let (server, token_file) = cluster.server();
    let mut python = Command::new(programs.join("python"));
    python.args(["-c", include_str!("visitor.py"), &format!("{server}/runtimes/lab/")]).arg(token_file).arg(cell);
    let seen = Answer::from(wait::output(&mut python)).with_code(0).json();
    assert_eq!((&seen["status"], &seen["is_lab"]), (&200.into(), &true.into()), "{seen:#}");
    seen["cell"].as_str().unwrap().trim().to_owned()
}

/// A run of the workspace, for whoever looks at runs.
fn run(cluster: &Cluster) {
    let folder = tempfile::tempdir().unwrap();
    let project = Project::new(folder.path().join("shown"));
    let load = "@data_loader\ndef f(*args, **kwargs):\n    print('seen', 6 * 7)\n    return 1\n";
    project.pipeline("shown", "", &[step("data_loader", "load", load)]);
    orrery(cluster, &["--workspace", "lab", "deploy", project.path().to_str().unwrap()]);
    orrery(cluster, &["--workspace", "lab", "run", "shown", "--wait"]);
}

/// Does what a person does who was given an address and a one-time password: signs in, looks at the run, opens the
/// application by its button, and runs a cell in a notebook. Answers what it printed.
#[track_caller]
fn browse(cluster: &Cluster, chromium: &Path, programs: &Path, cell: &str) -> String {
    let mut python = Command::new(programs.join("python"));
    python.args(["-c", include_str!("browser.py")]).arg(chromium).arg(cluster.server().0);
    python.arg(cluster.data().join("owner.password")).args(["lab", cell]);
    let seen = Answer::from(wait::output_within(&mut python, VISIT_TIMEOUT)).with_code(0).json();
    assert_eq!(seen["complaints"], Value::Array(vec![]), "{seen:#}");
    assert_eq!(seen["who"], "owner@localhost", "{seen:#}");
    let has = |what: &str, words: &[&str]| {
        let said = seen[what].as_str().unwrap();
        assert!(words.iter().all(|word| said.contains(word)), "{what} is without one of {words:?}: {seen:#}");
    };
    has("row", &["shown", "completed", "1/1", "manual"]);
    has("head", &["shown", "completed", "Run again"]);
    has("block", &["load", "data loader", "completed", "executor-1"]);
    has("log", &["load", "seen 42"]);
    has("workspace", &["lab", "running", "2 × 40 %", "0.8"]);
    // It is an origin of its own, to which our cookies do not go.
    let server = cluster.server().0.strip_prefix("http://127.0.0.1").unwrap();
    has("address", &[".localhost", server, "/runtimes/lab/lab"]);
    assert!(!seen["cookies"].as_str().unwrap().contains("orrery"), "{seen:#}");
    seen["cell"].as_str().unwrap().trim().to_owned()
}

#[track_caller]
fn stop(cluster: &Cluster, lab: &Lab<'_>) {
    orrery(cluster, &["workspaces", "stop", "lab"]);
    wait::until("the workspace to be stopped", SOON, || {
        let runtime = json(cluster, &["workspaces", "status", "lab"])["runtime"].take();
        (runtime["state"] == "RUNTIME_STATE_STOPPED").then_some(())
    });
    assert_eq!(held(cluster, "lab"), [], "with `stopped` its devices are free");
    // The record goes when its end has been noted.
    wait::until("nothing to be left", SOON, || lab.names().is_empty().then_some(()));
}

#[test]
fn a_jupyterlab_with_shares_of_two_gpus() {
    let Some(kubernetes) = testkit::kubernetes::lab() else { return };
    let chromium = testkit::browser::program();
    let programs = provision::kubelab::jupyter().unwrap();
    let namespace = format!("cli-{}", std::process::id());
    let lab = Lab { kubernetes, namespace };
    let class = lab.default_class();
    let cluster = &Cluster::on_kubernetes(kubernetes.kubeconfig.to_str().unwrap(), &lab.namespace, Some(&class));
    wait::until("the devices of the cluster", SOON, || {
        let devices = json(cluster, &["gpus"])["devices"].take();
        devices.as_array()?.iter().any(|device| device["model"] == MODEL).then_some(())
    });

    // Where nodes are simulated there is no image, so the programs are named; what a script leaves, the application finds.
    let path = env::join_paths([programs.clone()].into_iter().chain(env::split_paths(&env::var_os("PATH").unwrap())));
    let path = format!("PATH={}", path.unwrap().to_str().unwrap());
    let script = tempfile::NamedTempFile::new().unwrap();
    fs::write(script.path(), "echo 42 > answer\n").unwrap();
    let script = script.path().to_str().unwrap();
    orrery(cluster, &["workspaces", "--create", "lab"]);
    let gpus =
        ["--gpus", "2", "--sm", "40", "--gpu-memory", "8GiB", "--model", MODEL, "--cpu", "0.5", "--memory", "512MiB"];
    orrery(cluster, &["--workspace", "lab", "volumes", "create", "data", "--size", "1GiB", "--class", &class]);
    let app = ["--app", "jupyter", "--env", &path, "--post-start", script, "--mount", "data:/data"];
    orrery(cluster, &[&["workspaces", "set", "lab"][..], &gpus, &app].concat());
    orrery(cluster, &["workspaces", "start", "lab", "--wait"]);

    let (claim, pod) = (lab.only("resourceclaims"), lab.only("pods"));
    let held = held(cluster, "lab");
    assert_eq!(held.iter().map(|(_, milli)| *milli).collect::<Vec<_>>(), [400, 400], "{held:?}");
    assert_eq!(allocated(&claim), held, "{claim:#}");
    assert_eq!(claim["status"]["reservedFor"][0]["uid"], pod["metadata"]["uid"]);
    let runtime = json(cluster, &["workspaces", "status", "lab"])["runtime"].take();
    assert_eq!((&runtime["bound"], &runtime["node"]), (&true.into(), &pod["spec"]["nodeName"]), "{runtime:#}");
    assert_eq!((&runtime["gpus"], &runtime["effectiveGpuMilli"]), (&2.into(), &"800".into()), "{runtime:#}");
    let volume = json(cluster, &["--workspace", "lab", "volumes"])["volumes"][0].take();
    let made = lab.only("persistentvolumeclaims")["spec"]["storageClassName"].take();
    assert_eq!((&volume["storageClass"], &made), (&class.as_str().into(), &class.as_str().into()), "{volume:#}");
    assert_eq!(volume["uses"][0]["workspace"], "lab", "{volume:#}");

    let cell = "import os\nprint(open('answer').read().strip(), os.environ['CUDA_DEVICE_SM_LIMIT_1'])";
    assert_eq!(visit(cluster, &programs, cell), "42 40");
    if let Some(chromium) = chromium {
        run(cluster);
        assert_eq!(browse(cluster, &chromium, &programs, cell), "42 40");
    }

    stop(cluster, &lab);
    orrery(cluster, &["workspaces", "start", "lab", "--wait"]);
    assert_eq!(lab.only("pods")["metadata"]["name"], "ws-lab-r2");
    let refused = Answer::from(wait::output(cluster.orrery().args(["workspaces", "delete", "lab"])));
    assert!(refused.code != 0 && lab.only("pods")["metadata"]["deletionTimestamp"].is_null(), "{refused:?}");
    stop(cluster, &lab);
    orrery(cluster, &["workspaces", "delete", "lab"]);
}
