//! Runtimes as pods of a real Kubernetes with simulated nodes, without devices: where their scripts run, and how an application
//! tells that it is used.

use crate::{
    idle::{activity, person, settles},
    runtimes::{ask, journal, reaches, run, spec, stop},
    scheduler::SOON,
};
use backend_kubernetes::{
    Access, Classes,
    render::{Place, app::Images},
};
use domain::{
    id::VolumeId,
    runtime::{
        App, Mount, Spec,
        activity::{Activity, Sign, Verdict},
    },
};
use executor::{
    kubernetes::KubernetesRuntimes,
    pool::{Grant, Life, Order, RuntimeBackend, Volume, order::Goal},
};
use jiff::{SignedDuration, Timestamp};
use proto::internal::v1::{RuntimePhase, VolumePhase, activity_report::State};
use std::{
    env,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use uuid::Uuid;

/// An executor of a namespace of its own; `None` where tests on Kubernetes are skipped.
async fn executor(namespace: &str) -> Option<KubernetesRuntimes> {
    with_exporter(namespace, "").await
}

/// The same, which is told of GPUs by these pods; by nobody when empty.
async fn with_exporter(namespace: &str, exporter: &str) -> Option<KubernetesRuntimes> {
    let lab = tokio::task::spawn_blocking(testkit::kubernetes::lab).await.unwrap()?;
    let place = Place {
        pool: namespace.to_owned(),
        namespace: namespace.to_owned(),
        images: Images { jupyter: "jupyter".into(), vs_code: "code".into(), pre_start: String::new() },
        classes: Classes::known(),
        visitors: Vec::new(),
    };
    let journal = journal(tempfile::TempDir::new().unwrap().path());
    let access = Access { kubeconfig: Some(lab.kubeconfig.clone()) };
    Some(KubernetesRuntimes::new(access, place, exporter.parse().ok(), journal))
}

fn namespace(what: &str) -> String {
    format!("{what}-{}", &Uuid::new_v4().to_string()[..8])
}

/// The order on a node of the lab.
fn placed(spec: Spec) -> Order {
    let order = run(spec);
    let life = Life { node: "shared-0".to_owned(), ..Life::clone(order.life().unwrap()) };
    Order { goal: Goal::Run(Arc::new(life)), ..order }
}

fn waits(pre_start: &str) -> Order {
    let command = ["python3", "-c", "import time; time.sleep(600)"].map(str::to_owned).into();
    let app = App::Custom { port: 8_000, command, keeps_base_path: false, health_path: String::new() };
    placed(Spec { image: "none".to_owned(), pre_start: pre_start.to_owned(), ..spec(app) })
}

/// A script that leaves a file with the environment of whoever started it.
fn leaves(file: &Path) -> String {
    let parent = "open('/proc/%d/environ' % os.getppid()).read()";
    format!("import os\nopen({file:?}, 'w').write({parent})\ndef get_custom_configs(c):\n    return c")
}

/// The pod of a JupyterLab, and the folder of its programs.
async fn jupyter() -> (Order, PathBuf) {
    let programs = tokio::task::spawn_blocking(provision::kubelab::jupyter).await.unwrap().unwrap();
    let mut spec = spec(App::Jupyter);
    // Simulated nodes have no images: the programs are found by a shell, which a script brings along.
    spec.post_start.script = ":".to_owned();
    let path = env::join_paths([programs.clone()].into_iter().chain(env::split_paths(&env::var_os("PATH").unwrap())));
    spec.env.insert("PATH".to_owned(), path.unwrap().to_str().unwrap().to_owned());
    (placed(spec), programs)
}

/// A command that computes without a sound for as long as the file is there.
fn computes(file: &Path) -> String {
    std::fs::write(file, "").unwrap();
    format!("sh -c 'while [ -e {} ]; do :; done' > /dev/null 2>&1", file.display())
}

async fn end(backend: &KubernetesRuntimes, order: &Order) {
    backend.apply(stop(order, Duration::from_secs(2)));
    reaches(backend, order, RuntimePhase::Gone, SOON).await;
    backend.apply(Order { fence: order.fence + 2, goal: Goal::Forget, ..order.clone() });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pre_start_script_runs_in_its_pod_once_and_not_in_one_that_is_there() {
    let (namespace, folder) = (namespace("scripts"), tempfile::tempdir().unwrap());
    let Some(backend) = executor(&namespace).await else { return };
    backend.recover().await.unwrap();
    let ran = folder.path().join("ran");
    let order = waits(&leaves(&ran));
    backend.apply(order.clone());
    reaches(&backend, &order, RuntimePhase::Starting, SOON).await;
    let parent = std::fs::read_to_string(&ran).unwrap();
    assert!(parent.contains("KUBELAB_POD="), "a process of its pod starts it: {parent}");

    // The next life of the executor finds its record, and runs nothing again.
    std::fs::remove_file(&ran).unwrap();
    drop(backend);
    let backend = executor(&namespace).await.unwrap();
    assert_eq!(backend.recover().await.unwrap()[0].holder, order.holder);
    reaches(&backend, &order, RuntimePhase::Starting, SOON).await;
    assert!(!ran.exists());
    end(&backend, &Order { fence: 3, ..order }).await;

    // What runs by a record without one goes on, though its orders name one: an older executor ran it.
    let order = waits("");
    backend.apply(order.clone());
    reaches(&backend, &order, RuntimePhase::Starting, SOON).await;
    let mut life = Life::clone(order.life().unwrap());
    life.spec.pre_start = leaves(&ran);
    backend.apply(Order { fence: 2, goal: Goal::Run(Arc::new(life)), ..order.clone() });
    let again = async || backend.board().runtime(order.holder).filter(|report| report.fence == 2);
    let report = testkit::wait_for("a report for the new order", SOON, again).await;
    assert_eq!(report.phase(), RuntimePhase::Starting, "nothing begins anew: {report:?}");
    assert!(!ran.exists());
    end(&backend, &Order { fence: 3, ..order }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_mounts_a_volume_and_the_next_one_finds_its_files() {
    let Some(backend) = executor(&namespace("volumes")).await else { return };
    backend.recover().await.unwrap();
    let id = VolumeId(Uuid::new_v4());
    let volume = |deleted| {
        let (project, name, storage_class) = ("p".into(), "data".into(), String::new());
        Volume { id, project, name, size_bytes: 1 << 30, storage_class, deleted }
    };
    let told = async |phase: VolumePhase| {
        let report = async || backend.board().volume(id).filter(|report| report.phase() == phase);
        testkit::wait_for(phase.as_str_name(), SOON, report).await
    };
    backend.volumes(vec![volume(false)]);
    told(VolumePhase::Ready).await;
    let server = |post_start: &str| {
        let command = ["python3", "-m", "http.server", "--bind", "$(POD_IP)", "--directory", "/data", "8000"];
        let command = command.map(str::to_owned).into();
        let app = App::Custom { port: 8_000, command, keeps_base_path: false, health_path: String::new() };
        let mount = Mount { volume: "data".into(), id: Some(id), path: "/data".into(), read_only: false };
        let mut spec = Spec { image: "none".to_owned(), mounts: vec![mount], ..spec(app) };
        spec.post_start.script = post_start.to_owned();
        placed(spec)
    };
    for post_start in ["echo moin > /data/greeting", ":"] {
        let order = server(post_start);
        backend.apply(order.clone());
        let ready = reaches(&backend, &order, RuntimePhase::Ready, SOON).await;
        assert!(ask(&ready.endpoint, "/greeting").contains("moin"), "{post_start}");
        end(&backend, &order).await;
    }
    backend.volumes(vec![volume(true)]);
    told(VolumePhase::Gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn matrix_of_activity_in_a_pod_which_is_never_taken_for_idle() {
    let Some(backend) = executor(&namespace("idle")).await else { return };
    backend.recover().await.unwrap();
    let (order, programs) = jupyter().await;
    backend.apply(order.clone());
    let ready = reaches(&backend, &order, RuntimePhase::Ready, SOON).await;
    settles(&backend, &order, "nobody does anything", &[]).await;
    let all = activity(&backend, &order).await;
    assert_eq!(
        all.keys().collect::<Vec<_>>(),
        ["cpu", "kernels", "terminals"],
        "and nothing else is claimed to be known"
    );
    let python = programs.join("python");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("computes");
    let computing = computes(&file);
    for (script, wanted) in [
        ("cell:while True: pass", &["cpu", "kernels"][..]),
        ("cell:import time; time.sleep(600)", &["kernels"]),
        ("leave:import time; time.sleep(600)", &["kernels"]),
        // In a terminal, and what outlives the terminal or the cell that began it.
        (&format!("terminal:{computing}"), &["cpu"]),
        (&format!("terminal:setsid {computing} & exit"), &["cpu"]),
        (&format!("cell:import os; os.system({:?})", format!("setsid {computing} &")), &["cpu"]),
    ] {
        computes(&file);
        let mut person_there = person(&python, &ready.endpoint, script);
        settles(&backend, &order, script, wanted).await;
        std::fs::remove_file(&file).unwrap();
        person_there.kill().await.unwrap();
        assert!(person(&python, &ready.endpoint, "tidy:").wait().await.unwrap().success());
        settles(&backend, &order, "nobody does anything any more", &[]).await;
    }
    // What a terminal prints moves it, again and again.
    let mut typing = person(&python, &ready.endpoint, "terminal:while :; do echo .; sleep 1; done");
    for _ in 0..2 {
        let before = Timestamp::now().as_microsecond();
        let moved = async || match activity(&backend, &order).await["terminals"] {
            State::IdleSinceUs(us) => (us > before).then_some(()),
            _ => None,
        };
        testkit::wait_for("the terminal to have printed", SOON, moved).await;
    }
    typing.kill().await.unwrap();
    end(&backend, &order).await;
}

/// What whoever stops idle runtimes makes of a look now: since when it is idle, if that is known.
async fn idle_since(backend: &KubernetesRuntimes, order: &Order, ready: Timestamp) -> Option<Timestamp> {
    let mut known = Activity::default();
    for (source, state) in activity(backend, order).await {
        let at = |us| Timestamp::from_microsecond(us).unwrap();
        let sign = match state {
            State::ActiveUs(us) => Sign::Active(at(us)),
            State::IdleSinceUs(us) => Sign::Idle(at(us)),
            State::Unknown(why) => Sign::Unknown(why),
            State::Untold(why) => Sign::Untold(why),
        };
        known.says(&source, sign, Timestamp::now());
    }
    match known.verdict(ready) {
        Verdict::IdleSince(since) => Some(since),
        Verdict::Unknown(_) => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_idle_from_when_the_last_silent_program_in_it_has_ended() {
    let Some(backend) = executor(&namespace("silent")).await else { return };
    backend.recover().await.unwrap();
    let (order, programs) = jupyter().await;
    backend.apply(order.clone());
    let ready = reaches(&backend, &order, RuntimePhase::Ready, SOON).await;
    let (began, timeout) = (Timestamp::now(), SignedDuration::from_secs(20));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("computes");
    let leaves = format!("terminal:setsid {} & exit", computes(&file));
    let mut typing = person(&programs.join("python"), &ready.endpoint, &leaves);
    settles(&backend, &order, "a program computes", &["cpu"]).await;
    typing.kill().await.unwrap();
    let left = Timestamp::now();
    // Nobody is there, nothing is printed, no kernel is busy: it would have been stopped.
    let outlives = async || idle_since(&backend, &order, began).await.filter(|since| *since > left + timeout);
    testkit::wait_for("the program to have kept it for a time-out", SOON, outlives).await;
    std::fs::remove_file(&file).unwrap();
    let ended = Timestamp::now();
    let is_idle = async || {
        let since = idle_since(&backend, &order, began).await?;
        (since + timeout <= Timestamp::now()).then_some(since)
    };
    let since = testkit::wait_for("it to be idle for a time-out", SOON, is_idle).await;
    assert!(since > left + timeout, "it worked after {left} and until {ended}, and is idle since {since}");
    end(&backend, &order).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_works_and_rests_as_the_exporter_on_its_node_says() {
    let namespace = namespace("gpus");
    // It stands in for dcgm-exporter: a pod of the node, found by a label, with a text below `/metrics`.
    let folder = tempfile::tempdir().unwrap();
    let on_node = |command: &[&str], workspace: &str, grants: Vec<Grant>| {
        let command = command.iter().map(|&part| part.to_owned()).collect();
        let app = App::Custom { port: 8_000, command, keeps_base_path: false, health_path: String::new() };
        let order = placed(Spec { image: "none".to_owned(), ..spec(app) });
        let (workspace, node) = (workspace.to_owned(), "shared-1".to_owned());
        let life = Life { node, workspace, grants, ..Life::clone(order.life().unwrap()) };
        Order { goal: Goal::Run(Arc::new(life)), ..order }
    };
    let serves = ["python3", "-m", "http.server", "--bind", "$(POD_IP)", "8000", "--directory"];
    let exporter = on_node(&[&serves[..], &[folder.path().to_str().unwrap()]].concat(), "exporter", Vec::new());
    let named = format!("{namespace}/orrery.dev/holder={}:8000", exporter.holder);
    let Some(backend) = with_exporter(&namespace, &named).await else { return };
    backend.recover().await.unwrap();
    let device = "hami-core-gpu.project-hami.io/shared-1/hami-gpu-1";
    let (profile, device_there) = (String::new(), async || backend.board().device("shared-1", device));
    let uuid = testkit::wait_for("the device", SOON, device_there).await.hardware_id;
    let grant = Grant { device: device.to_owned(), milli: 100, memory_bytes: 1 << 30, profile, slots: 0 };
    let order = on_node(&[&serves[..], &["/nowhere"]].concat(), "lab", vec![grant]);
    for one in [&exporter, &order] {
        backend.apply(one.clone());
    }
    for one in [&exporter, &order] {
        reaches(&backend, one, RuntimePhase::Ready, SOON).await;
    }
    let tells = |percent: u32| {
        let labels = format!("gpu=\"1\",UUID=\"{uuid}\",device=\"nvidia1\",modelName=\"NVIDIA GeForce RTX 5090\"");
        let text = format!("# TYPE DCGM_FI_DEV_GPU_UTIL gauge\nDCGM_FI_DEV_GPU_UTIL{{{labels}}} {percent}\n");
        std::fs::write(folder.path().join("metrics"), text).unwrap();
    };
    let seen = async |what: &str, is: fn(&State) -> bool| {
        let look = async || activity(&backend, &order).await.remove("gpu").filter(is);
        testkit::wait_for(what, SOON, look).await
    };
    let unknown = seen("an exporter without metrics", |state| matches!(state, State::Unknown(_))).await;
    assert_eq!(unknown, State::Unknown("its node's exporter answers with status 404".to_owned()));
    tells(0);
    seen("rest", |state| matches!(state, State::IdleSinceUs(_))).await;
    tells(37);
    let State::ActiveUs(worked) = seen("work", |state| matches!(state, State::ActiveUs(_))).await else { return };
    tells(0);
    let rested = seen("rest again", |state| matches!(state, State::IdleSinceUs(_))).await;
    assert!(matches!(rested, State::IdleSinceUs(since) if since >= worked), "{rested:?} after {worked}");
    assert!(!activity(&backend, &exporter).await.contains_key("gpu"), "what has none says nothing");
    end(&backend, &order).await;
    end(&backend, &exporter).await;
}
