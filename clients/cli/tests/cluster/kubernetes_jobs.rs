//! Blocks of the executor type k8s on a real control plane: each try is a Job whose pod is a process of the real one-shot
//! program, beside the lab that tests share and in a namespace of its own.

use crate::{
    answer::{Answer, Run},
    cluster::{Cluster, shared},
    processes,
    project::{WAITS, step},
    wait::{self, output},
    workspace::{SOON, Workspace},
};
use provision::Kubelab;
use rustix::process::Signal;
use serde_json::Value;
use std::{
    path::Path,
    process::Command,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

/// For a step of a busy control plane.
const PATIENCE: Duration = Duration::from_secs(90);

struct World {
    cluster: Cluster,
    lab: &'static Kubelab,
    namespace: String,
}

/// For one test at a time: its executor is killed. `None` where tests on Kubernetes are skipped.
fn world() -> Option<(&'static World, MutexGuard<'static, ()>)> {
    static WORLD: OnceLock<World> = OnceLock::new();
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = testkit::kubernetes::lab()?;
    let world = WORLD.get_or_init(|| {
        let namespace = format!("orrery-jobs-{}", std::process::id());
        kubectl(lab, &["create", "namespace", &namespace]).with_code(0);
        let cluster = Cluster::on_kubernetes(lab.kubeconfig.to_str().unwrap(), &namespace, None);
        World { cluster, lab, namespace }
    });
    Some((world, turn))
}

impl World {
    /// Objects of a kind in the namespace, but for those that every namespace has and those of runtimes.
    #[track_caller]
    fn objects(&self, kind: &str) -> Vec<Value> {
        let words = ["-n", &self.namespace, "get", kind, "-l", "orrery.dev/attempt", "-o", "json"];
        let told = kubectl(self.lab, &words).with_code(0);
        let mut told: Value = serde_json::from_str(&told.out).unwrap();
        told["items"].as_array_mut().unwrap().drain(..).collect()
    }

    #[track_caller]
    fn until_empty(&self) {
        for kind in ["jobs", "pods", "secrets", "resourceclaims"] {
            wait::until(&format!("an end of all {kind}"), PATIENCE, || self.objects(kind).is_empty().then_some(()));
        }
    }
}

#[track_caller]
fn kubectl(lab: &Kubelab, words: &[&str]) -> Answer {
    let mut kubectl = match lab.pid {
        Some(_) => Command::new(&lab.program),
        None => Command::new("kubectl"),
    };
    kubectl.args(lab.pid.map(|_| "kubectl")).args(words).env("KUBECONFIG", &lab.kubeconfig);
    output(&mut kubectl).into()
}

#[test]
fn a_pipeline_of_the_sample_project_runs_as_jobs() {
    let Some((world, _turn)) = world() else { return };
    let workspace = Workspace::new(&world.cluster, "hello");
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hello");
    let copied = Command::new("cp").arg("-r").arg(sample.join(".")).arg(workspace.path()).status().unwrap();
    assert!(copied.success());
    let file = workspace.path().join("pipelines/penguins/metadata.yaml");
    let written = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{written}\nexecutor_type: k8s\n")).unwrap();
    workspace.deploy().with_code(0);
    let run = workspace.run("penguins").completed();
    let ran = run.blocks.iter().filter(|block| block["attempts"].as_i64().is_some_and(|tries| tries > 0));
    let mut with_outputs = 0;
    for block in ran {
        assert_eq!(block["executor"], "executor-kubernetes", "{block}");
        with_outputs += usize::from(block["outputs"].as_array().is_some_and(|all| !all.is_empty()));
    }
    assert!(with_outputs > 1, "{run:#?}");
    world.until_empty();
}

#[test]
fn what_a_block_asks_for_reaches_its_container() {
    let Some((world, _turn)) = world() else { return };
    let says = "
import os
@data_loader
def f(*args, **kwargs):
    print('greeting', os.environ.get('GREETING'), 'secret', os.environ.get('ORRERY_EXECUTOR_CLUSTER_TOKEN_FILE'))
    return 1
";
    let last = "@data_exporter\ndef f(n, *args, **kwargs):\n    print('got', n)\n";
    let workspace = Workspace::new(&world.cluster, "jobs-asked");
    workspace.write(
        "metadata.yaml",
        "project_type: standalone\nk8s_executor_config:\n  container_config: |\n    env: [{name: GREETING, value: hello}]\n",
    );
    let steps = [
        step("data_loader", "load", says)
            .with("executor_type: k8s, executor_config: {gpus: {count: 1, sm: 10, memory: 1Gi, class: hami-core-gpu.project-hami.io}, namespace: kube-system}"),
        // Its output crosses from a Job to a process.
        step("data_exporter", "last", last).after(&["load"]),
    ];
    workspace.pipeline("p", "", &steps);
    workspace.deploy().with_code(0);
    let run = workspace.run("p").completed();
    workspace.logged(&run, "greeting hello secret None");
    workspace.logged(&run, "the namespace `kube-system` is not among those that projects may name");
    workspace.logged(&run, "got 1");
    assert_eq!(run.block("load").executor(), "executor-kubernetes");
    assert_eq!(run.block("last").executor(), "executor-1");
    world.until_empty();
}

#[test]
fn a_pod_that_is_killed_fails_its_try_and_a_cancelled_one_is_gone() {
    let Some((world, _turn)) = world() else { return };
    let steps = [step("data_loader", "load", WAITS).with("retry_config: {retries: 1, delay: 0}")];
    let workspace = Workspace::with_pipeline(&world.cluster, "jobs-killed", "executor_type: k8s", &steps);
    let id = workspace.start("p", &[]);
    workspace.told("begun-1");
    let pods = world.objects("pods");
    let ours = pods.iter().find(|pod| pod["metadata"]["annotations"]["orrery.dev/run"] == id.as_str()).unwrap();
    let pod = ours["metadata"]["name"].as_str().unwrap();
    kubectl(world.lab, &["-n", &world.namespace, "annotate", "pod", pod, "kubelab/fault=oom"]).with_code(0);
    workspace.told("begun-2");
    workspace.tell("go-2");
    let run = workspace.end_of(&id).completed();
    assert_eq!(run.block("load").attempts(), 2);
    workspace.logged(&run, "OUT_OF_MEMORY");

    let id = workspace.start("p", &[]);
    workspace.told("begun-3");
    workspace.orrery(&["cancel", &id]).with_code(0);
    workspace.end_of(&id);
    world.until_empty();
}

#[test]
fn what_a_killed_executor_left_ends_and_its_next_life_runs_the_block_again() {
    let Some((world, _turn)) = world() else { return };
    let steps = [step("data_loader", "load", WAITS)];
    let workspace = Workspace::with_pipeline(&world.cluster, "jobs-orphaned", "executor_type: k8s", &steps);
    let id = workspace.start("p", &[]);
    let user_code: i32 = workspace.told("begun-1").parse().unwrap();
    let left = world.objects("jobs").remove(0)["metadata"]["name"].clone();
    processes::signal(world.cluster.service("executor-kubernetes"), Signal::KILL);
    wait::until("the end of its user code", SOON, || (!processes::lives(user_code)).then_some(()));
    workspace.told("begun-2");
    assert!(world.objects("jobs").iter().all(|job| job["metadata"]["name"] != left), "{left}");
    workspace.tell("go-2");
    workspace.end_of(&id).completed();
    assert!(!workspace.has_been_told("begun-3"));
    world.until_empty();
}

#[test]
fn a_block_for_which_no_executor_is_there_says_so() {
    let steps = [step("data_loader", "load", WAITS).with("executor_type: k8s")];
    let workspace = Workspace::with_pipeline(shared(), "jobs-nowhere", "", &steps);
    let id = workspace.start("p", &[]);
    let reason = |run: &Run| run.block("load").0["waitReason"].as_str().unwrap_or_default().to_owned();
    let run = workspace.run_when("a reason", &id, |run| !run.blocks.is_empty() && !reason(run).is_empty());
    let reason = reason(&run);
    assert!(reason.contains("no executor is connected") && reason.contains("attempts = kubernetes"), "{reason}");
    workspace.orrery(&["cancel", &id]).with_code(0);
    wait::until("its end", SOON, || workspace.look(&id).run["completedAt"].is_string().then_some(()));
}
