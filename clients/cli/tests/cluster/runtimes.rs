//! A workspace on Kubernetes, from the command that starts it to nothing: claim, pod and `orrery gpus` agree, its JupyterLab
//! is opened through the web-server, and a cell runs in it.
//!
//! The cluster is the lab that all tests share, in a namespace of this test's own.

use crate::{answer::Answer, cluster::Cluster, wait};
use provision::Kubelab;
use serde_json::Value;
use std::{env, fs, path::Path, process::Command, time::Duration};

/// For a start or a stop on a busy machine.
const SOON: Duration = Duration::from_secs(90);
const MODEL: &str = "NVIDIA RTX PRO 6000 Blackwell Server Edition";
/// What a runtime may leave behind, and must not.
const KINDS: &str = "pods,resourceclaims,services,networkpolicies,secrets";

/// The lab as its administrator sees it, in one namespace, which goes with the value.
struct Lab<'a> {
    kubernetes: &'a Kubelab,
    namespace: String,
}

impl Lab<'_> {
    fn kubectl(&self, words: &[&str]) -> Answer {
        let mut command = match self.kubernetes.pid {
            Some(_) => Command::new(&self.kubernetes.program),
            None => Command::new("kubectl"),
        };
        command.args(self.kubernetes.pid.map(|_| "kubectl"));
        command.env("KUBECONFIG", &self.kubernetes.kubeconfig).args(["--namespace", &self.namespace]).args(words);
        wait::output(&mut command).into()
    }

    #[track_caller]
    fn get(&self, what: &str) -> Value {
        let answer = self.kubectl(&["get", what, "--output", "json"]).with_code(0);
        serde_json::from_str(&answer.out).unwrap()
    }

    /// The only object of a kind.
    #[track_caller]
    fn only(&self, what: &str) -> Value {
        let all = self.get(what)["items"].take();
        assert_eq!(all.as_array().map(Vec::len), Some(1), "{all:#}");
        all[0].clone()
    }

    /// The storage class that a volume is of which asks for none.
    fn default_class(&self) -> String {
        let all = self.get("storageclasses")["items"].take();
        let is_default =
            |class: &&Value| class["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true";
        all.as_array().unwrap().iter().find(is_default).unwrap()["metadata"]["name"].as_str().unwrap().to_owned()
    }

    fn names(&self) -> Vec<String> {
        let all = self.get(KINDS)["items"].take();
        all.as_array().unwrap().iter().map(|one| format!("{}/{}", one["kind"], one["metadata"]["name"])).collect()
    }
}

impl Drop for Lab<'_> {
    fn drop(&mut self) {
        self.kubectl(&["delete", "namespace", &self.namespace, "--wait=false", "--ignore-not-found"]);
    }
}

#[track_caller]
fn orrery(cluster: &Cluster, words: &[&str]) -> Answer {
    Answer::from(wait::output(cluster.orrery().args(words))).with_code(0)
}

#[track_caller]
fn json(cluster: &Cluster, words: &[&str]) -> Value {
    orrery(cluster, &[words, &["--json"]].concat()).json()
}

/// The devices of which the workspace holds a share, as `class/node/name` and milli-GPU.
fn held(cluster: &Cluster) -> Vec<(String, i64)> {
    let all = json(cluster, &["gpus"])["devices"].take();
    let share = |device: &Value| {
        let holder = device["holders"].as_array()?.iter().find(|holder| holder["workspace"] == "lab")?;
        Some((device["name"].as_str()?.to_owned(), holder["milli"].as_i64()?))
    };
    let mut held: Vec<_> = all.as_array().into_iter().flatten().filter_map(share).collect();
    held.sort();
    held
}

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

#[track_caller]
fn stop(cluster: &Cluster, lab: &Lab<'_>) {
    orrery(cluster, &["workspaces", "stop", "lab"]);
    wait::until("the workspace to be stopped", SOON, || {
        let runtime = json(cluster, &["workspaces", "status", "lab"])["runtime"].take();
        (runtime["state"] == "RUNTIME_STATE_STOPPED").then_some(())
    });
    assert_eq!(held(cluster), [], "with `stopped` its devices are free");
    // The record goes when its end has been noted.
    wait::until("nothing to be left", SOON, || lab.names().is_empty().then_some(()));
}

#[test]
fn a_jupyterlab_with_shares_of_two_gpus() {
    let Some(kubernetes) = testkit::kubernetes::lab() else { return };
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
    let held = held(cluster);
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

    stop(cluster, &lab);
    orrery(cluster, &["workspaces", "start", "lab", "--wait"]);
    assert_eq!(lab.only("pods")["metadata"]["name"], "ws-lab-r2");
    let refused = Answer::from(wait::output(cluster.orrery().args(["workspaces", "delete", "lab"])));
    assert!(refused.code != 0 && lab.only("pods")["metadata"]["deletionTimestamp"].is_null(), "{refused:?}");
    stop(cluster, &lab);
    orrery(cluster, &["workspaces", "delete", "lab"]);
}
