//! Runtimes as real processes, ordered by hand.

use crate::scheduler::SOON;
use backend_process::{process::is_alive, sessions};
use domain::{
    device::Ask,
    id::{ExecutorId, HolderId, VolumeId, WorkspaceId},
    runtime::{App, Mount, Spec},
};
use executor::{
    core::Identity,
    journal::{Detail, Journal},
    pool::{Grant, Life, Order, RuntimeBackend, Volume, order::Goal},
    runtimes::{Apps, Parts, ProcessRuntimes},
};
use proto::internal::v1::{RuntimePhase, RuntimeReport, VolumePhase};
use runtime::secret::Secret;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{IpAddr, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use uuid::Uuid;

pub(crate) const KEY: &str = "0123456789abcdef0123456789abcdef";

/// Answers on $PORT with what it knows; started below a shell that also leaves something behind.
pub(crate) const SERVER: &str = "\
setsid sleep 600 & echo $! > $USER_CODE_PATH/left
exec python3 -c '
import http.server, os, json
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(dict(os.environ)).encode()
        self.send_response(200); self.end_headers(); self.wfile.write(body)
    def log_message(self, *a): pass
http.server.HTTPServer((os.environ[\"HOST\"], int(os.environ[\"PORT\"])), H).serve_forever()'";

pub(crate) struct Machine {
    pub(crate) folder: TempDir,
    pub(crate) mark: String,
    pub(crate) apps: Option<PathBuf>,
    /// Pre-start scripts are cut off from the network.
    isolated: bool,
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), mark: Uuid::new_v4().simple().to_string(), apps: None, isolated: true }
    }

    pub(crate) fn backend(&self) -> ProcessRuntimes {
        let folder = self.folder.path();
        let python = provision::Python::find_or_install().unwrap().path;
        ProcessRuntimes::new(Parts {
            launcher: PathBuf::from(env!("CARGO_BIN_EXE_orrery-executor")),
            executor: self.mark.clone(),
            folder: folder.join("runtimes"),
            volumes: folder.join("volumes"),
            apps: Apps::new(self.apps.clone().unwrap_or_else(|| folder.join("apps")), python),
            address: IpAddr::from([127, 0, 0, 1]),
            env: executor::process::passed_environment(&[]),
            machine: executor::runtimes::Machine::new("here", &["2xA10:24GiB".parse().unwrap()]),
            journal: journal(folder),
            cgroups: None,
            isolated_pre_start: self.isolated,
        })
    }

    /// What the executor's journal tells of a life: what happened, by the machine's own count, and the devices.
    fn told(&self, order: &Order) -> Vec<(String, i64, Value)> {
        let text = std::fs::read_to_string(self.folder.path().join("journal.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let of_it = lines.filter(|line| line["holder"] == order.holder.to_string());
        let told = |line: Value| {
            (line["event"].as_str().unwrap().to_owned(), line["mono_us"].as_i64().unwrap(), line["devices"].clone())
        };
        of_it.map(told).collect()
    }

    pub(crate) fn left(&self) -> usize {
        sessions::all(&self.mark).values().map(Vec::len).sum()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for members in sessions::all(&self.mark).values() {
            sessions::signal(members, rustix::process::Signal::KILL);
        }
    }
}

/// The journal of an executor whose data folder this is.
pub(crate) fn journal(folder: &Path) -> Arc<Journal> {
    let executor = Identity { id: ExecutorId(Uuid::new_v4()), name: "here".to_owned(), slots: 1 };
    Arc::new(Journal::open(&folder.join("journal.jsonl"), &executor, Detail::Processes).unwrap())
}

/// The same order, with a part of the machine's first device.
pub(crate) fn on_device(order: Order, milli: u32) -> Order {
    let grant = Grant { device: "gpu-0".to_owned(), milli, memory_bytes: 1, profile: String::new(), slots: 0 };
    let life = Life { grants: vec![grant], ..Life::clone(order.life().unwrap()) };
    Order { goal: Goal::Run(Arc::new(life)), ..order }
}

pub(crate) fn spec(app: App) -> Spec {
    let ask = Ask {
        gpus: 0,
        gpu_milli: 0,
        gpu_memory_bytes: None,
        models: Vec::new(),
        models_ordered: false,
        link: domain::device::Link::Any,
        cpu_milli: 100,
        memory_bytes: 0,
    };
    let mut spec: Spec = serde_json::from_value(serde_json::json!({ "app": "jupyter", "ask": ask })).unwrap();
    spec.app = app;
    spec
}

pub(crate) fn shell(script: &str) -> Spec {
    let port = provision::ports::free().unwrap();
    let command = ["/bin/sh", "-c", script].map(str::to_owned).into();
    spec(App::Custom { port, command, keeps_base_path: false, health_path: String::new() })
}

pub(crate) fn run(spec: Spec) -> Order {
    let workspace_id = WorkspaceId(Uuid::new_v4());
    let life = Life {
        workspace_id,
        workspace: "lab".into(),
        project: "p".into(),
        queue: "default".into(),
        queue_priority: 0,
        preemptible: false,
        number: 1,
        node: "here".into(),
        grants: Vec::new(),
        spec,
        access_key: Secret::new(KEY),
        base_path: "/runtimes/lab/".into(),
    };
    Order { holder: HolderId(Uuid::new_v4()), fence: 1, goal: Goal::Run(Arc::new(life)) }
}

pub(crate) fn stop(order: &Order, grace: Duration) -> Order {
    Order { fence: order.fence + 1, goal: Goal::Stop { grace, reason: "USER".into() }, ..order.clone() }
}

pub(crate) async fn reaches(
    backend: &dyn RuntimeBackend,
    order: &Order,
    phase: RuntimePhase,
    within: Duration,
) -> RuntimeReport {
    let reached = async || {
        let report = backend.board().runtime(order.holder)?;
        let ended = matches!(report.phase(), RuntimePhase::Failed | RuntimePhase::Gone);
        assert!(report.phase() == phase || !ended || phase == RuntimePhase::Gone, "{report:?}");
        (report.phase() == phase).then_some(report)
    };
    testkit::wait_for(phase.as_str_name(), within, reached).await
}

pub(crate) fn ask(endpoint: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(endpoint).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nAuthorization: token {KEY}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test]
async fn a_runtime_runs_and_nothing_of_it_is_left() {
    let machine = Machine::new();
    let backend = machine.backend();
    assert!(backend.recover().await.unwrap().is_empty());
    let mut spec = shell(SERVER);
    spec.env = BTreeMap::from([("GREETING".to_owned(), "moin".to_owned())]);
    // Which devices it sees is not the script's to say.
    spec.pre_start = "def get_custom_configs(c):\n    c['env'] += [{'name': 'ADDED', 'value': 'by-script'},\n        \
                      {'name': 'CUDA_VISIBLE_DEVICES', 'value': '0'}]\n    return c"
        .into();
    spec.post_start.script = "touch made; exit 3".into();
    let order = run(spec);
    backend.apply(order.clone());
    let ready = reaches(&backend, &order, RuntimePhase::Ready, SOON).await;
    assert_eq!((ready.fence, ready.code.as_str(), ready.bound), (1, "POST_START_FAILED", true), "only a warning");
    assert!(ready.message.ends_with("failed: it ended with code 3"), "it printed nothing: {}", ready.message);
    let answer = ask(&ready.endpoint, "/");
    for word in ["moin", "by-script", "USER_CODE_PATH", "\"CUDA_VISIBLE_DEVICES\": \"\""] {
        assert!(answer.contains(word), "{word}: {answer}");
    }
    let project =
        machine.folder.path().join("volumes").join(order.life().unwrap().workspace_id.to_string()).join("project");
    let left: i32 = std::fs::read_to_string(project.join("left")).unwrap().trim().parse().unwrap();
    assert!(is_alive(left) && project.join("made").exists());

    backend.apply(order.clone());
    backend.apply(stop(&order, Duration::from_secs(5)));
    let gone = reaches(&backend, &order, RuntimePhase::Gone, SOON).await;
    assert_eq!((gone.fence, gone.code.as_str()), (2, ""));
    assert!(!is_alive(left), "also what left its session");
    assert_eq!(machine.left(), 0);
    assert!(project.join("made").exists(), "the folder stays");
    // What has ended is not started again, and is told until it is forgotten.
    backend.apply(Order { fence: 3, ..order.clone() });
    assert_eq!(backend.board().runtime(order.holder).unwrap().phase(), RuntimePhase::Gone);
    backend.apply(Order { fence: 4, goal: Goal::Forget, ..order.clone() });
    assert!(backend.board().runtime(order.holder).is_none());
    backend.apply(Order { fence: 5, ..stop(&order, Duration::ZERO) });
    assert_eq!(backend.board().runtime(order.holder).unwrap().phase(), RuntimePhase::Gone, "it has none, and says so");
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let machine = Machine::new();
    let backend = machine.backend();
    backend.recover().await.unwrap();
    let mut refused = shell("true");
    refused.pre_start = "def get_custom_configs(c):\n    return {'securityContext': {}}".into();
    let mut broken = shell("true");
    broken.pre_start = "import os\nos.kill(os.getppid(), 0)\nraise ValueError('no idea')".into();
    let mut endless = shell("true");
    // Sooner than by the sandbox's own limit.
    endless.pre_start = "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (1, 1))\nwhile True: pass".into();
    let mut silent = shell("true");
    silent.pre_start = "import os\nos._exit(3)".into();
    let mut long = shell("true");
    long.pre_start = "def get_custom_configs(c):\n    return {'env': [{'name': 'A', 'value': 'x' * 300_000}]}".into();
    let imageless =
        spec(App::Custom { port: 8_099, command: vec![], keeps_base_path: false, health_path: String::new() });
    for (spec, code, word) in [
        (shell("echo the reason; exit 7"), "APP_EXITED", "(exit status: 7): the reason"),
        (refused, "PRE_START_REFUSED", "securityContext"),
        (broken, "PRE_START_FAILED", "failed: it ended with code 1; its last line: ValueError: no idea"),
        (endless, "PRE_START_FAILED", "processor time"),
        (silent, "PRE_START_FAILED", "failed: it ended with code 3"),
        (long, "PRE_START_FAILED", "File too large"),
        (imageless, "COMMAND_MISSING", "command"),
    ] {
        let order = run(spec);
        backend.apply(order.clone());
        let gone = reaches(&backend, &order, RuntimePhase::Gone, SOON).await;
        assert_eq!(gone.code, code, "{gone:?}");
        assert!(gone.message.contains(word), "{gone:?}");
    }
    // One that ignores being asked is made to end.
    let order = run(shell(&format!("trap '' TERM HUP; {}", SERVER.replace("exec ", ""))));
    backend.apply(order.clone());
    reaches(&backend, &order, RuntimePhase::Ready, SOON).await;
    backend.apply(stop(&order, Duration::from_millis(300)));
    reaches(&backend, &order, RuntimePhase::Gone, SOON).await;
    assert_eq!(machine.left(), 0);
}

#[tokio::test]
async fn pipes_that_a_script_leaves_are_not_waited_for() {
    let machine = Machine::new();
    let backend = machine.backend();
    backend.recover().await.unwrap();
    let answer = "def get_custom_configs(c):\n    import os\n    os.mkfifo('answer.json')\n    os._exit(0)";
    let log = "import os\nos.remove('log')\nos.mkfifo('log')\nos._exit(3)";
    let above = "def get_custom_configs(c):\n    import os\n    os.mkfifo('../log')\n    os.mkfifo('../ended.new')\n    return c";
    let refused = [(answer, "PRE_START_FAILED"), (log, "PRE_START_FAILED"), (above, "FAILED")]
        .map(|(script, code)| (run(Spec { pre_start: script.into(), ..shell("true") }), code));
    for (order, _) in &refused {
        backend.apply(order.clone());
    }
    let other = run(shell(SERVER));
    backend.apply(other.clone());
    reaches(&backend, &other, RuntimePhase::Ready, SOON).await;
    for (order, code) in refused {
        let gone = reaches(&backend, &order, RuntimePhase::Gone, SOON).await;
        assert!(gone.code == code && gone.message.contains("no plain file"), "{gone:?}");
    }
}

#[tokio::test]
async fn a_volume_is_a_folder_that_outlives_runtimes_until_it_is_deleted() {
    let machine = Machine::new();
    let backend = machine.backend();
    backend.recover().await.unwrap();
    let id = VolumeId(Uuid::new_v4());
    let volume = |deleted| {
        let (project, name, storage_class) = ("p".into(), "data".into(), String::new());
        Volume { id, project, name, size_bytes: 1, storage_class, deleted }
    };
    let told = async |phase: VolumePhase| {
        testkit::wait_for(phase.as_str_name(), SOON, async || {
            backend.board().volume(id).filter(|report| report.phase() == phase)
        })
        .await
    };
    let mount = |read_only, id| Mount { volume: "data".into(), id, path: "/data".into(), read_only };
    let refused = async |mount: Mount, word: &str| {
        let order = run(Spec { mounts: vec![mount], ..shell("true") });
        backend.apply(order.clone());
        let gone = reaches(&backend, &order, RuntimePhase::Gone, SOON).await;
        assert!(gone.code == "MOUNT_UNSUPPORTED" && gone.message.contains(word), "{gone:?}");
    };
    backend.volumes(vec![volume(false)]);
    assert_eq!(told(VolumePhase::Ready).await.size_bytes, 0, "nothing keeps a size");
    refused(mount(true, Some(id)), ":ro").await;
    refused(mount(false, None), "orrery volumes create").await;

    // Of a storage class there is none here: it is refused, and goes like any other.
    let classed = VolumeId(Uuid::new_v4());
    let fast = |deleted| Volume { id: classed, storage_class: "fast".into(), ..volume(deleted) };
    backend.volumes(vec![fast(false)]);
    let says = async |phase: VolumePhase| {
        let report = async || backend.board().volume(classed).filter(|report| report.phase() == phase);
        testkit::wait_for(phase.as_str_name(), SOON, report).await.message
    };
    let said = says(VolumePhase::Failed).await;
    assert!(said.contains("no storage class such as `fast`"), "{said}");
    refused(mount(false, Some(classed)), "storage class").await;
    assert!(!machine.folder.path().join(format!("volumes/volume-{classed}")).exists());
    backend.volumes(vec![fast(true)]);
    assert_eq!(says(VolumePhase::Gone).await, "");

    let write = format!("echo moin > $HOME/volumes/data/greeting; {SERVER}");
    let order = run(Spec { mounts: vec![mount(false, Some(id)), mount(false, Some(id))], ..shell(&write) });
    let links_of = |order: &Order| {
        machine.folder.path().join("volumes").join(order.life().unwrap().workspace_id.to_string()).join("volumes")
    };
    // A link of its owner's own stays.
    let own = links_of(&order).join("own");
    std::fs::create_dir_all(links_of(&order)).unwrap();
    std::os::unix::fs::symlink("/nowhere", &own).unwrap();
    backend.apply(order.clone());
    reaches(&backend, &order, RuntimePhase::Ready, SOON).await;
    assert!(own.is_symlink());
    backend.apply(stop(&order, Duration::from_secs(5)));
    reaches(&backend, &order, RuntimePhase::Gone, SOON).await;
    let folder = machine.folder.path().join(format!("volumes/volume-{id}"));
    assert_eq!(std::fs::read_to_string(folder.join("greeting")).unwrap(), "moin\n");

    // Nothing is followed, and nothing taken away, that lies where its link should.
    for (make, word) in [("mkdir -p volumes/data", "volumes/data"), ("ln -s /nowhere volumes", "no folder")] {
        let order = run(Spec { mounts: vec![mount(false, Some(id))], ..shell("true") });
        let links = links_of(&order);
        let home = links.parent().unwrap();
        std::fs::create_dir_all(home).unwrap();
        assert!(std::process::Command::new("sh").args(["-c", make]).current_dir(home).status().unwrap().success());
        backend.apply(order.clone());
        let gone = reaches(&backend, &order, RuntimePhase::Gone, SOON).await;
        assert!(gone.code == "MOUNT_UNSUPPORTED" && gone.message.contains(word), "{gone:?}");
        assert!(links.join("data").is_dir() || links.is_symlink());
    }

    // It goes with its files, and what was said before is not obeyed after it.
    backend.volumes(vec![volume(true)]);
    told(VolumePhase::Gone).await;
    backend.volumes(vec![volume(false)]);
    refused(mount(false, Some(id)), "being deleted").await;
    assert_eq!(backend.board().volume(id).unwrap().phase(), VolumePhase::Gone);
    assert!(!folder.exists());
}

/// Says in the environment whether it reached `$1`, which listens on the loopback.
const CALLER: &str = "\
import socket
def get_custom_configs(c):
    try:
        socket.create_connection(('127.0.0.1', $1), 5).close()
        said = 'reached'
    except OSError:
        said = 'cut-off'
    c['env'].append({'name': 'NETWORK', 'value': said})
    return c";

#[tokio::test]
async fn a_script_before_the_start_reaches_nothing() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let script = CALLER.replace("$1", &listener.local_addr().unwrap().port().to_string());
    for (isolated, said) in [(true, "cut-off"), (false, "reached")] {
        let mut machine = Machine::new();
        machine.isolated = isolated;
        let backend = machine.backend();
        backend.recover().await.unwrap();
        let order = run(Spec { pre_start: script.clone(), ..shell(SERVER) });
        backend.apply(order.clone());
        let begun = async || {
            let report = backend.board().runtime(order.holder)?;
            matches!(report.phase(), RuntimePhase::Ready | RuntimePhase::Gone).then_some(report)
        };
        let report = testkit::wait_for("it to run or to be refused", SOON, begun).await;
        if report.code == "PRE_START_UNAVAILABLE" {
            assert!(isolated && report.message.contains("pre_start_network"), "{report:?}");
            testkit::skipped("this machine does not let a process be cut off from its network");
            continue;
        }
        assert!(ask(&report.endpoint, "/").contains(&format!("\"NETWORK\": \"{said}\"")), "{report:?}");
        backend.close().await;
        assert_eq!(machine.left(), 0);
    }
}

#[tokio::test]
async fn a_new_life_of_the_executor_finds_what_runs() {
    let machine = Arc::new(Machine::new());
    let (order, dying) = (run(shell(SERVER)), run(shell(SERVER)));
    let first = async |machine: Arc<Machine>, order: Order, dying: Order| {
        let backend = machine.backend();
        backend.recover().await.unwrap();
        backend.apply(order.clone());
        backend.apply(dying.clone());
        reaches(&backend, &dying, RuntimePhase::Ready, SOON).await;
        reaches(&backend, &order, RuntimePhase::Ready, SOON).await.endpoint
    };
    let (theirs, orders) = (Arc::clone(&machine), (order.clone(), dying.clone()));
    // With this runtime everything that the first life does ends, as in a crash.
    let endpoint = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let endpoint = runtime.block_on(first(theirs, orders.0, orders.1));
        runtime.shutdown_background();
        endpoint
    });
    let endpoint = endpoint.await.unwrap();
    for member in sessions::all(&machine.mark).remove(&dying.holder.to_string()).unwrap() {
        sessions::signal(&[member], rustix::process::Signal::KILL);
    }
    let backend = machine.backend();
    let found = backend.recover().await.unwrap();
    assert_eq!(found.len(), 2);
    assert!(found.contains(&order), "with everything that it was told");
    // The stream that is opened next says all that is there, and nothing of it is missing before it has answered.
    let stated = backend.board().everything().runtimes.runtimes;
    assert_eq!(stated.len(), 2);
    assert_eq!(reaches(&backend, &order, RuntimePhase::Ready, SOON).await.endpoint, endpoint);
    let lost = reaches(&backend, &dying, RuntimePhase::Gone, SOON).await;
    assert_eq!(lost.code, "RUNTIME_LOST");
    backend.close().await;
    let closed = reaches(&backend, &order, RuntimePhase::Gone, SOON).await;
    assert_eq!(closed.code, "EXECUTOR_STOPPED", "it has not ended by itself");
    assert_eq!(machine.left(), 0);
}

/// The journal is what the checker of histories holds the ledger against.
#[tokio::test]
async fn the_journal_tells_which_devices_a_life_had_and_when_it_was_gone() {
    let machine = Machine::new();
    let backend = machine.backend();
    backend.recover().await.unwrap();
    let order = on_device(run(shell(SERVER)), 400);
    backend.apply(order.clone());
    reaches(&backend, &order, RuntimePhase::Ready, SOON).await;
    let devices = json!([{ "device": "here/gpu-0", "milli": 400 }]);
    let [(event, began, held)] = machine.told(&order).try_into().unwrap();
    assert_eq!((event.as_str(), held), ("hold", devices));
    backend.apply(stop(&order, Duration::from_secs(5)));
    reaches(&backend, &order, RuntimePhase::Gone, SOON).await;
    assert_eq!(machine.left(), 0);
    let told = machine.told(&order);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].0 == "free" && told[1].1 > began, "{told:?}");
}

/// Its first process died while nobody looked; what is left of it uses its devices until it is gone as well.
#[tokio::test]
async fn what_is_left_of_a_dead_life_is_awaited_before_its_devices_are_free() {
    let machine = Arc::new(Machine::new());
    let order = on_device(run(shell(SERVER)), 1_000);
    let (theirs, told) = (Arc::clone(&machine), order.clone());
    let first = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let backend = theirs.backend();
            backend.recover().await.unwrap();
            backend.apply(told.clone());
            reaches(&backend, &told, RuntimePhase::Ready, SOON).await;
        });
        runtime.shutdown_background();
    });
    first.await.unwrap();
    let members = sessions::all(&machine.mark).remove(&order.holder.to_string()).unwrap();
    let led: Vec<_> = members.into_iter().filter(|member| member.name != "sleep").collect();
    sessions::signal(&led, rustix::process::Signal::KILL);
    // A signal is sent before its process is gone.
    testkit::wait_for("only what its first process has left", SOON, async || (machine.left() == 1).then_some(())).await;
    let backend = machine.backend();
    backend.recover().await.unwrap();
    let report = backend.board().runtime(order.holder).unwrap();
    assert_ne!(report.phase(), RuntimePhase::Gone, "nobody has looked yet whether anything is left");
    let lost = reaches(&backend, &order, RuntimePhase::Gone, SOON).await;
    assert_eq!((lost.code.as_str(), machine.left()), ("RUNTIME_LOST", 0));
    let told = machine.told(&order);
    assert_eq!(told.iter().map(|(event, ..)| event.as_str()).collect::<Vec<_>>(), ["hold", "hold", "free"]);
}
