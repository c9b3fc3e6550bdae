//! Which program each service is, where it listens, and what it is told by its environment.

use super::{folder::Folder, service::Spec};
use crate::failure::{Code, Failure, Result};
use provision::ports;
use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// Where people expect the web-server.
const DEFAULT_PORT: u16 = 7070;
/// The longest drain of a service that stops; after it the service is killed.
const DRAIN: &str = "10s";

/// Whoever starts a cluster for himself lets his projects use his own credentials.
const ANY_BUCKET: &str = "s3://,gs://";
/// Nobody else is there to be kept from them.
const JOBS_GPU_CLASSES: &str = "gpu.nvidia.com,hami-core-gpu.project-hami.io";

/// What decides about the memory of an attempt when it is set for `orrery up`, be it to nothing.
const MEMORY_LIMIT: &str = "ORRERY_EXECUTOR_MEMORY_LIMIT";
/// Less would keep ordinary libraries from being imported.
const MEMORY_LIMIT_MIN: u64 = 1 << 30;

/// The folder with the services' programs.
pub(super) struct Programs(PathBuf);

/// Finds the services: `ORRERY_BIN_DIR`, else beside this program.
pub(super) fn programs() -> Result<Programs> {
    let beside = || env::current_exe().ok()?.canonicalize().ok()?.parent().map(Path::to_path_buf);
    let dir = env::var_os("ORRERY_BIN_DIR").map(PathBuf::from).or_else(beside).unwrap_or_default();
    for name in ["orrery-web-server", "orrery-scheduler", "orrery-executor"] {
        if !dir.join(name).is_file() {
            let what = format!("{name} is not in {}", dir.display());
            return Err(Failure::new(
                Code::Unavailable,
                what,
                "build it (`cargo xtask up` does), or set ORRERY_BIN_DIR",
            ));
        }
    }
    Ok(Programs(dir))
}

/// Where the services listen, on the loopback only.
pub(super) struct Ports {
    web_server: u16,
    scheduler: u16,
}

impl Ports {
    /// The asked one, which must be free; else the usual one, else any.
    pub(super) fn choose(asked: Option<u16>) -> Result<Self> {
        let web_server = match asked {
            Some(0) => ports::free()?,
            Some(port) if ports::is_free(port) => port,
            Some(port) => {
                let what = format!("port {port} of 127.0.0.1 is taken");
                return Err(Failure::new(Code::Unavailable, what, "name another one by --port, or leave it out"));
            }
            None if ports::is_free(DEFAULT_PORT) => DEFAULT_PORT,
            None => ports::free()?,
        };
        Ok(Self { web_server, scheduler: ports::free()? })
    }

    /// The web-server's URL.
    pub(super) fn server(&self) -> String {
        format!("http://127.0.0.1:{}", self.web_server)
    }
}

/// Where runtimes of workspaces run.
pub(super) enum Runtimes<'a> {
    /// As processes of this machine, which is said to have these devices.
    Here {
        /// As `--devices` has them.
        devices: &'a [String],
    },
    /// As pods.
    Kubernetes {
        /// Credentials.
        kubeconfig: PathBuf,
    },
}

/// The file with credentials, by a path that is good in every folder.
pub(super) fn kubeconfig(named: &Path) -> Result<PathBuf> {
    named.canonicalize().ok().filter(|path| path.is_file()).ok_or_else(|| {
        let what = format!("{} is no file", named.display());
        Failure::new(Code::Usage, what, "name a kubeconfig; `cargo xtask kube up` makes a cluster and tells of its own")
    })
}

/// Makes the services' commands.
pub(super) struct Cluster<'a> {
    pub(super) folder: &'a Folder,
    pub(super) programs: &'a Programs,
    pub(super) ports: &'a Ports,
}

impl Cluster<'_> {
    pub(super) fn web_server(&self, database_url_file: &Path) -> Spec {
        self.spec("web-server", "web-server")
            .with("ORRERY_WEB_SERVER_LISTEN", format!("127.0.0.1:{}", self.ports.web_server))
            .with("ORRERY_WEB_SERVER_DATABASE_URL_FILE", database_url_file)
            .with("ORRERY_WEB_SERVER_SCHEDULER_URLS", self.scheduler_url())
            .with("ORRERY_WEB_SERVER_BLOBS_URL", self.blobs_url())
            .with("ORRERY_WEB_SERVER_OUTPUTS_URL", format!("file://{}", self.folder.path().join("outputs").display()))
            .with("ORRERY_WEB_SERVER_PROJECT_OUTPUTS", ANY_BUCKET)
            .with("ORRERY_WEB_SERVER_TOKEN_FILE", self.folder.api_token_file())
            .with("ORRERY_WEB_SERVER_OWNER_PASSWORD_FILE", self.folder.owner_password_file())
            .with("ORRERY_WEB_SERVER_CLUSTER_TOKEN_FILE", self.folder.cluster_token_file())
            .with("ORRERY_WEB_SERVER_SECRET_KEYS_FILE", self.folder.secret_keys_file())
            // Every name below `localhost` is this machine: applications of workspaces have origins without any set-up.
            .with("ORRERY_WEB_SERVER_RUNTIMES_DOMAIN", format!("localhost:{}", self.ports.web_server))
            .with("ORRERY_WEB_SERVER_PUBLIC_URL", self.ports.server())
    }

    pub(super) fn scheduler(&self, database_url_file: &Path) -> Spec {
        self.spec("scheduler", "scheduler")
            .with("ORRERY_SCHEDULER_LISTEN", format!("127.0.0.1:{}", self.ports.scheduler))
            .with("ORRERY_SCHEDULER_DATABASE_URL_FILE", database_url_file)
            .with("ORRERY_SCHEDULER_CLUSTER_TOKEN_FILE", self.folder.cluster_token_file())
            .with("ORRERY_SCHEDULER_SECRET_KEYS_FILE", self.folder.secret_keys_file())
    }

    /// The first one runs runtimes of workspaces: there is one machine, or one cluster.
    pub(super) fn executor(&self, number: u16, (python, base_env): (&Path, &Path), runtimes: &Runtimes<'_>) -> Spec {
        let name = format!("executor-{number}");
        let spec = self.spec(&name, "executor");
        let spec = match runtimes {
            _ if number > 1 => spec.with("ORRERY_EXECUTOR_RUNTIMES", "none"),
            Runtimes::Here { devices } => {
                spec.with("ORRERY_EXECUTOR_RUNTIMES", "process").with("ORRERY_EXECUTOR_DEVICES", devices.join(","))
            }
            Runtimes::Kubernetes { kubeconfig } => {
                spec.with("ORRERY_EXECUTOR_RUNTIMES", "kubernetes").with("ORRERY_EXECUTOR_KUBECONFIG", kubeconfig)
            }
        };
        let spec = match default_memory_limit() {
            Some(bytes) if env::var_os(MEMORY_LIMIT).is_none() => spec.with(MEMORY_LIMIT, bytes.to_string()),
            _ => spec,
        };
        self.with_places(spec, &name, (python, base_env))
    }

    /// The one that runs blocks of the executor type k8s. The cluster's nodes have to see this machine's files and its
    /// loopback, as those of a lab do.
    pub(super) fn jobs_executor(&self, python: (&Path, &Path), kubeconfig: &Path) -> Spec {
        let name = "executor-kubernetes";
        let spec = self
            .spec(name, "executor")
            .with("ORRERY_EXECUTOR_ATTEMPTS", "kubernetes")
            .with("ORRERY_EXECUTOR_RUNTIMES", "none")
            .with("ORRERY_EXECUTOR_KUBECONFIG", kubeconfig)
            .with("ORRERY_EXECUTOR_ATTEMPTS_LISTEN", "127.0.0.1:0")
            .with("ORRERY_EXECUTOR_JOBS_IMAGE", "orrery-executor")
            .with("ORRERY_EXECUTOR_JOBS_GPU_CLASSES", JOBS_GPU_CLASSES)
            .with("ORRERY_EXECUTOR_JOBS_PROGRAM", self.programs.0.join("orrery-executor"));
        self.with_places(spec, name, python)
    }

    fn with_places(&self, spec: Spec, name: &str, (python, base_env): (&Path, &Path)) -> Spec {
        spec.with("ORRERY_EXECUTOR_SCHEDULER_URLS", self.scheduler_url())
            .with("ORRERY_EXECUTOR_NAME", name)
            .with("ORRERY_EXECUTOR_DATA_DIR", self.folder.path().join(name))
            // A block may run on another executor than its upstream blocks.
            .with("ORRERY_EXECUTOR_OUTPUTS_DIR", self.folder.path().join("outputs"))
            .with("ORRERY_EXECUTOR_PROJECT_OUTPUTS", ANY_BUCKET)
            .with("ORRERY_EXECUTOR_BLOBS_URL", self.blobs_url())
            .with("ORRERY_EXECUTOR_CLUSTER_TOKEN_FILE", self.folder.cluster_token_file())
            .with("ORRERY_EXECUTOR_PYTHON", python)
            .with("ORRERY_EXECUTOR_BASE_ENV", base_env)
    }

    fn spec(&self, name: &str, service: &str) -> Spec {
        let spec = Spec::new(name, self.programs.0.join(format!("orrery-{service}")), self.folder.log(name));
        spec.with("ORRERY_DRAIN_TIMEOUT", DRAIN)
    }

    fn scheduler_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.scheduler)
    }

    fn blobs_url(&self) -> String {
        format!("file://{}", self.folder.path().join("blobs").display())
    }
}

/// Half of the machine: one attempt that allocates without end leaves room for the cluster and for others. None beside NVIDIA's
/// driver, since the limit is one of address space, of which CUDA reserves more than any machine has memory.
fn default_memory_limit() -> Option<u64> {
    let bytes = memory_bytes(&fs::read_to_string("/proc/meminfo").ok()?)?;
    // In a container it is the container's.
    let contained = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    let half = bytes.min(contained.unwrap_or(bytes)) / 2;
    (!Path::new("/dev/nvidiactl").exists()).then_some(half.max(MEMORY_LIMIT_MIN))
}

fn memory_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        assert_eq!(memory_bytes("MemTotal:       24689764 kB\nMemFree:  1 kB\n"), Some(24_689_764 << 10));
        assert_eq!(memory_bytes("MemFree:  1 kB\n"), None);
    }

    #[test]
    fn an_asked_port_that_is_taken_is_refused() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_eq!(Ports::choose(Some(port)).err().map(|f| f.code), Some(Code::Unavailable));
    }
}
