//! Clusters that all tests of this binary share: started by whoever comes first, ended with the binary.

use crate::{processes, wait};
use serde_json::Value;
use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

/// `orrery up` from nothing; the first one on a machine installs the base environment.
const START_TIMEOUT: Duration = Duration::from_secs(240);

/// Ends the cluster when its stdin closes, which happens however the test process ends, and removes everything.
const KEEPER: &str = r#"
dir=$1; shift
"$@" >"$dir/up.log" 2>&1 &
up=$!
cat >/dev/null
kill -TERM $up
wait $up
umount "$dir"/data/outputs "$dir"/data/executor-1 2>/dev/null
rm -rf "$dir"
"#;

/// A running `orrery up`.
pub(crate) struct Cluster {
    dir: PathBuf,
    server: String,
    token_file: PathBuf,
    pub(crate) up: u32,
    /// Its stdin is what keeps the cluster up.
    _keeper: Child,
}

/// How a cluster is started.
#[derive(Default)]
struct Shape {
    executors: &'static str,
    settings: &'static [(&'static str, &'static str)],
    /// Folders of the data folder that are small file systems of their own, where root may mount them.
    small_disks: &'static [&'static str],
    /// Credentials of a Kubernetes that runs its runtimes.
    kubernetes: Option<&'static str>,
    /// A folder that is deployed whenever it changes.
    project: Option<PathBuf>,
}

/// The cluster of most tests. Attempts have 256 MiB of memory and 1 MiB of log.
pub(crate) fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(|| {
        Cluster::start(&Shape {
            executors: "1",
            settings: &[
                ("ORRERY_EXECUTOR_SLOTS", "8"),
                ("ORRERY_EXECUTOR_MEMORY_LIMIT", "256 MiB"),
                ("ORRERY_EXECUTOR_LOG_LIMIT", "1 MiB"),
                ("ORRERY_SCHEDULER_CANCEL_GRACE", "1s"),
            ],
            ..Shape::default()
        })
    })
}

/// The cluster whose services are killed, by one test at a time. It has two executors.
pub(crate) fn to_be_hurt() -> (&'static Cluster, MutexGuard<'static, ()>) {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = SHARED.get_or_init(|| {
        Cluster::start(&Shape { executors: "2", settings: &[("ORRERY_EXECUTOR_SLOTS", "4")], ..Shape::default() })
    });
    cluster.wait_for_executors(2);
    (cluster, turn)
}

/// See [`Cluster::traced`].
const TRACED_SLOTS: &str = "2";

/// A cluster with one slot and, where root may mount them, disks of 24 MiB, that looks at no token in an address; for one
/// test at a time.
pub(crate) fn tiny() -> (&'static Cluster, MutexGuard<'static, ()>) {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = SHARED.get_or_init(|| {
        Cluster::start(&Shape {
            executors: "1",
            settings: &[("ORRERY_EXECUTOR_SLOTS", "1"), ("ORRERY_WEB_SERVER_TRIGGER_TOKEN_IN_URL", "false")],
            small_disks: &["outputs", "executor-1"],
            ..Shape::default()
        })
    });
    (cluster, turn)
}

impl Cluster {
    /// A cluster that sends its traces there; it lives as long as the test process.
    pub(crate) fn traced(endpoint: String) -> &'static Self {
        let endpoint: &'static str = endpoint.leak();
        let settings = vec![("ORRERY_EXECUTOR_SLOTS", TRACED_SLOTS), ("ORRERY_OTLP_ENDPOINT", endpoint)].leak();
        Box::leak(Box::new(Self::start(&Shape { executors: "1", settings, ..Shape::default() })))
    }

    /// A cluster whose runtimes are pods of this namespace, and whose volumes may be of this storage class.
    pub(crate) fn on_kubernetes(kubeconfig: &'static str, namespace: &str, class: Option<&str>) -> Self {
        let class = class.map(|class| ("ORRERY_WEB_SERVER_STORAGE_CLASSES", &*class.to_owned().leak()));
        Self::on_kubernetes_with(kubeconfig, namespace, class.as_slice())
    }

    /// The same, with these settings.
    pub(crate) fn on_kubernetes_with(
        kubeconfig: &'static str,
        namespace: &str,
        settings: &[(&'static str, &'static str)],
    ) -> Self {
        let namespace: &'static str = namespace.to_owned().leak();
        let own = [("ORRERY_EXECUTOR_KUBERNETES_NAMESPACE", namespace)];
        let settings = [&own, settings].concat().leak();
        Self::start(&Shape { executors: "1", settings, kubernetes: Some(kubeconfig), ..Shape::default() })
    }

    /// A cluster whose projects may keep their outputs in this bucket, and whose executors keep no copies of them.
    pub(crate) fn with_google(google: &testkit::Google) -> Self {
        let host: &'static str = google.host.clone().leak();
        let bucket: &'static str = format!("gs://{}/", google.bucket).leak();
        let settings = vec![
            ("STORAGE_EMULATOR_HOST", host),
            ("ORRERY_EXECUTOR_PROJECT_OUTPUTS", bucket),
            ("ORRERY_WEB_SERVER_PROJECT_OUTPUTS", bucket),
            ("ORRERY_EXECUTOR_OUTPUTS_CACHE", "0"),
        ];
        Self::start(&Shape { executors: "1", settings: settings.leak(), ..Shape::default() })
    }

    /// A cluster that has no key of any bucket but those that projects give. Its executors keep no copies.
    pub(crate) fn without_buckets() -> Self {
        let settings = &[("ORRERY_EXECUTOR_OUTPUTS_CACHE", "0")];
        Self::start(&Shape { executors: "1", settings, ..Shape::default() })
    }

    /// A cluster that deploys this folder, and again whenever it changes.
    pub(crate) fn of_project(folder: &Path) -> Self {
        Self::start(&Shape { executors: "1", project: Some(folder.to_owned()), ..Shape::default() })
    }

    fn start(shape: &Shape) -> Self {
        let dir = tempfile::Builder::new().prefix("orrery-cluster-").tempdir().unwrap().keep();
        let data = dir.join("data");
        for disk in shape.small_disks {
            mount_small(&data.join(disk));
        }
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "keeper"]).arg(&dir).arg(env!("CARGO_BIN_EXE_orrery"));
        command.args(["up", "--executors", shape.executors, "--data-dir"]).arg(&data);
        let port = provision::ports::free().unwrap();
        command.args(["--port", &port.to_string()]);
        command.args(shape.kubernetes.iter().flat_map(|kubeconfig| ["--kubernetes", kubeconfig]));
        if let Some(project) = &shape.project {
            command.arg("--project").arg(project);
        }
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ORRERY_")) {
            command.env_remove(name);
        }
        command.envs(shape.settings.iter().copied()).env("XDG_STATE_HOME", dir.join("state"));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let mut keeper = command.spawn().unwrap();
        let record = data.join("up.json");
        let record: Value = wait::until("the cluster", START_TIMEOUT, || {
            if let Some(status) = keeper.try_wait().unwrap() {
                panic!("the keeper of a cluster ended: {status}");
            }
            let log = fs::read_to_string(dir.join("up.log")).unwrap_or_default();
            assert!(!log.contains("error:"), "{log}\nbuild the services first: cargo build --workspace");
            serde_json::from_slice(&fs::read(&record).ok()?).ok()
        });
        Self {
            server: record["server"].as_str().unwrap().to_owned(),
            token_file: record["token_file"].as_str().unwrap().into(),
            up: record["pid"].as_u64().unwrap().try_into().unwrap(),
            dir,
            _keeper: keeper,
        }
    }

    /// The command line, pointed at this cluster.
    pub(crate) fn orrery(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orrery"));
        command.env("ORRERY_SERVER", &self.server).env("ORRERY_TOKEN_FILE", &self.token_file);
        command.env("XDG_STATE_HOME", self.dir.join("state"));
        command
    }

    /// For what the command line cannot ask.
    pub(crate) fn server(&self) -> (&str, &Path) {
        (&self.server, &self.token_file)
    }

    /// All that the cluster and its processes wrote.
    pub(crate) fn folder(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Whether a folder of the data folder really is a small disk.
    pub(crate) fn has_small_disk(&self, name: &str) -> bool {
        is_mounted(&self.data().join(name))
    }

    /// What `orrery executors --json` tells, one value per executor.
    pub(crate) fn executors(&self) -> Vec<Value> {
        let output = wait::output(self.orrery().args(["executors", "--json"]));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        answer["executors"].as_array().cloned().unwrap_or_default()
    }

    /// Until so many executors are online.
    #[track_caller]
    pub(crate) fn wait_for_executors(&self, count: usize) {
        wait::until("executors", Duration::from_secs(40), || {
            let online = self.executors().iter().filter(|e| e["state"] == "EXECUTOR_STATE_ONLINE").count();
            (online >= count).then_some(())
        });
    }

    /// The process of a service, such as `executor-1`.
    #[track_caller]
    pub(crate) fn service(&self, name: &str) -> i32 {
        let is_it = |pid: i32| match name.starts_with("executor") {
            true => processes::environment(pid).contains(&format!("ORRERY_EXECUTOR_NAME={name}")),
            false => processes::program(pid) == format!("orrery-{name}"),
        };
        wait::until(name, Duration::from_secs(20), || processes::children(self.up).into_iter().find(|p| is_it(*p)))
    }
}

fn mount_small(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(folder).stderr(Stdio::null());
    // Only root may; the tests that need it look, and say so.
    let _ = mount.status();
}

fn is_mounted(folder: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    mounts.lines().any(|line| line.split(' ').nth(1) == folder.to_str())
}
