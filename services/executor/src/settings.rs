//! The executor's settings: one table, checked against docs/configuration.md by a test.

use runtime::settings::{Common, Key, Kind, shared};
use serde::{Deserialize, Serialize};
use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// Of its variables, after `ORRERY_`.
pub const PREFIX: &str = "EXECUTOR";
/// Every row of the table but the common ones.
pub const KEYS: &[Key] = &[
    shared::SCHEDULER_URLS,
    shared::CLUSTER_TOKEN_FILE,
    Key::new("name", Kind::Text, "", "Shown to people; the host's name when empty."),
    Key::new(
        "slots",
        Kind::Integer,
        "0",
        "Attempts at once; 0 means four per core, and 100 where they run on Kubernetes.",
    ),
    Key::new("data_dir", Kind::Path, "orrery-executor", "Code, environments, outputs and the journal."),
    Key::new(
        "outputs_dir",
        Kind::Path,
        "",
        "Outputs of attempts; $MAGE_DATA_DIR/outputs or else `<data_dir>/outputs` when empty. Executors share it.",
    ),
    shared::OUTPUTS_URL,
    Key::new(
        "outputs_cache",
        Kind::Bytes,
        "10 GiB",
        "Disk for copies of outputs that lie in an object store, below `data_dir`; what running attempts use may exceed it.",
    ),
    Key::new(
        "bundles_cache",
        Kind::Bytes,
        "5 GiB",
        "Disk for code of bundles, below `data_dir`: those that nobody reads go, the least recently used first. As much again \
         is for copies of it that runs have written to and do not use, but the latest stays.",
    ),
    Key::new(
        "environments_cache",
        Kind::Bytes,
        "30 GiB",
        "Disk for environments of projects, below `data_dir`: those that nobody uses go, the least recently used first; what \
         warm interpreters and running attempts use may exceed it.",
    ),
    shared::PROJECT_OUTPUTS,
    shared::BLOBS_URL,
    Key::new("python", Kind::Path, "python3", "Interpreter, 3.9 or newer, from which environments are made."),
    Key::new("base_env", Kind::Path, "", "A ready environment that holds the base packages; made when empty."),
    Key::new("runner_dir", Kind::Path, "", "The runner's Python packages; those of the binary when empty."),
    Key::new("idle_children", Kind::Integer, "4", "Python processes that wait already forked, per environment."),
    Key::new(
        "zygote_idle",
        Kind::Duration,
        "1h",
        "A warm interpreter of a project's environment ends when no attempt has used it for so long; that of `base_env` stays.",
    ),
    Key::new(
        "memory_limit",
        Kind::Bytes,
        "",
        "Memory that each process of an attempt may map, its own and those that it starts; none when empty. They are not added up.",
    ),
    Key::new("log_limit", Kind::Bytes, "16 MiB", "Text that one attempt may log."),
    Key::new(
        "history_file",
        Kind::Path,
        "",
        "Where the journal goes instead of `data_dir`, with every attempt and every answer of a scheduler: for checking a \
         cluster's history. It only grows.",
    ),
    Key::new(
        "attempts_listen",
        Kind::Address,
        "127.0.0.1:7073",
        "Where attempts in containers of their own come back to; each proves itself by a token of its own.",
    ),
    Key::new(
        "attempts_url",
        Kind::Uri,
        "",
        "How they reach that address, such as `http://10.0.0.7:7073`; `attempts_listen` itself when empty.",
    ),
    Key::new(
        "start_timeout",
        Kind::Duration,
        "15m",
        "The longest time from the launch of a container to its first word: image pulls, waiting for a node.",
    ),
    Key::new(
        "outcome_file",
        Kind::Path,
        "",
        "Where `run-attempt` writes how its attempt ended, as JSON of at most 4 KiB; nowhere when empty.",
    ),
    Key::new(
        "attempts",
        Kind::Text,
        "process",
        "How this executor runs attempts of blocks: `process` on this machine; `kubernetes`, each as a Job, for blocks of the \
         executor type k8s; or `none`: then it has no slots.",
    ),
    Key::new(
        "jobs_image",
        Kind::Text,
        "",
        "The image of Jobs: this executor's own, or one made from it. Needed with `attempts = kubernetes`.",
    ),
    Key::new(
        "jobs_program",
        Kind::Text,
        "orrery-executor",
        "The executor's program in such an image: a name that is found there, or a path.",
    ),
    Key::new(
        "jobs_images",
        Kind::List,
        "",
        "Beginnings of the names of other images that projects may choose; they have to hold the program, too.",
    ),
    Key::new("jobs_namespaces", Kind::List, "", "Other namespaces that projects may choose for their Jobs."),
    Key::new(
        "jobs_service_account",
        Kind::Text,
        "",
        "What Jobs run as, without its token; the namespace's own when empty.",
    ),
    Key::new("jobs_service_accounts", Kind::List, "", "Other service accounts that projects may choose."),
    Key::new(
        "jobs_secret",
        Kind::Text,
        "",
        "A Secret of the namespace whose entries are variables of the program in each Job, such as the object store's \
         credentials; blocks' code is not given them, but runs as the same user.",
    ),
    Key::new(
        "jobs_volumes",
        Kind::List,
        "",
        "Volume claims of the namespace that each Job mounts, as `claim:/folder`: where code and outputs lie in folders and \
         not in an object store.",
    ),
    Key::new(
        "jobs_gpu_classes",
        Kind::List,
        "",
        "Device classes by which blocks may ask for GPUs, such as `gpu.nvidia.com`; the first where they name none. Without \
         any they get none. They are placed and counted with the workspaces of `pool`, which has to be of this cluster.",
    ),
    Key::new("pass_env", Kind::List, "", "Variables of the executor's environment that user code may see."),
    Key::new(
        "runtimes",
        Kind::Text,
        "none",
        "How this executor runs runtimes of workspaces: `none`, `process` on this machine, as this user, or `kubernetes`.",
    ),
    Key::new(
        "kubeconfig",
        Kind::Path,
        "",
        "Credentials for Kubernetes; when empty, those of `$KUBECONFIG` or `~/.kube/config`, or else of this pod.",
    ),
    Key::new(
        "kubernetes_namespace",
        Kind::Text,
        "orrery",
        "The namespace of what is made on Kubernetes; made itself when it is not there and that is allowed.",
    ),
    Key::new(
        "visitor_namespaces",
        Kind::List,
        "",
        "Namespaces from which web-servers and executors connect to runtimes on Kubernetes, by each runtime's NetworkPolicy; \
         when empty, pods labelled as such may from any.",
    ),
    Key::new(
        "jupyter_image",
        Kind::Text,
        "quay.io/jupyter/base-notebook:2026-07-28",
        "The image for JupyterLab on Kubernetes where a runtime names none.",
    ),
    Key::new(
        "vs_code_image",
        Kind::Text,
        "codercom/code-server",
        "The image for VS Code on Kubernetes where a runtime names none.",
    ),
    Key::new(
        "pre_start_image",
        Kind::Text,
        "",
        "The image, with Python 3, in which pre-start scripts run on Kubernetes; when empty, that of the runtime itself.",
    ),
    Key::new(
        "device_classes",
        Kind::List,
        "gpu.nvidia.com/gpu=gpu.nvidia.com,gpu.nvidia.com/mig=mig.nvidia.com,\
         hami-core-gpu.project-hami.io=hami-core-gpu.project-hami.io,gpu.example.com=gpu.example.com",
        "Drivers on Kubernetes whose devices count, and the device class by which each is asked for: `driver=class`, or \
         `driver/type=class` for devices of one `type`; with `:mps` after it, NVIDIA's MPS shares them.",
    ),
    Key::new(
        "gpu_exporter",
        Kind::Text,
        "",
        "Pods of NVIDIA's dcgm-exporter, one on each node with GPUs, as `namespace/label=value:port`, such as \
         `gpu-operator/app=nvidia-dcgm-exporter:9400`: they tell whether GPUs on Kubernetes work. When empty, nobody does, and \
         `--gpu-idle-timeout` ends nothing there.",
    ),
    Key::new(
        "pre_start_network",
        Kind::Text,
        "none",
        "Network of pre-start scripts of runtimes that are processes: `none`, without which they are not run, or `host`, this machine's.",
    ),
    Key::new(
        "pool",
        Kind::Text,
        "default",
        "The pool that this executor's devices belong to, and of which its blocks get GPUs.",
    ),
    Key::new(
        "runtimes_address",
        Kind::Text,
        "127.0.0.1",
        "Where applications of runtimes listen, and web-servers reach them; keep it off public networks.",
    ),
    Key::new(
        "devices",
        Kind::List,
        "",
        "Devices that are said to be there, such as `2xA10:24GiB`, or `nvml` for those that NVIDIA's driver tells of; \
         nothing keeps a runtime within its share of them.",
    ),
];

/// Values of the table.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "documented by KEYS")]
pub struct Settings {
    pub scheduler_urls: Vec<String>,
    pub cluster_token_file: Option<PathBuf>,
    pub name: Option<String>,
    pub slots: u32,
    pub data_dir: PathBuf,
    pub outputs_dir: Option<PathBuf>,
    pub outputs_url: Option<String>,
    pub outputs_cache: u64,
    pub bundles_cache: u64,
    pub environments_cache: u64,
    pub project_outputs: Vec<String>,
    pub blobs_url: Option<String>,
    pub python: PathBuf,
    pub base_env: Option<PathBuf>,
    pub runner_dir: Option<PathBuf>,
    pub idle_children: u32,
    #[serde(with = "runtime::settings::duration")]
    pub zygote_idle: Duration,
    pub memory_limit: Option<u64>,
    pub log_limit: u64,
    pub history_file: Option<PathBuf>,
    pub pass_env: Vec<String>,
    pub attempts_listen: SocketAddr,
    pub attempts_url: Option<String>,
    #[serde(with = "runtime::settings::duration")]
    pub start_timeout: Duration,
    pub outcome_file: Option<PathBuf>,
    pub attempts: AttemptBackend,
    pub jobs_image: Option<String>,
    pub jobs_program: String,
    pub jobs_images: Vec<String>,
    pub jobs_namespaces: Vec<String>,
    pub jobs_service_account: Option<String>,
    pub jobs_service_accounts: Vec<String>,
    pub jobs_secret: Option<String>,
    pub jobs_volumes: Vec<String>,
    pub jobs_gpu_classes: Vec<String>,
    pub runtimes: Runtimes,
    pub pre_start_network: PreStartNetwork,
    pub kubeconfig: Option<PathBuf>,
    pub kubernetes_namespace: String,
    pub visitor_namespaces: Vec<String>,
    pub jupyter_image: String,
    pub vs_code_image: String,
    pub pre_start_image: Option<String>,
    pub device_classes: Vec<String>,
    pub gpu_exporter: Option<String>,
    pub pool: String,
    pub runtimes_address: IpAddr,
    pub devices: Vec<String>,
    #[serde(flatten)]
    pub common: Common,
}

/// How attempts of blocks are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptBackend {
    /// Not at all.
    None,
    /// As processes on this machine.
    Process,
    /// Each as a Job of a cluster.
    Kubernetes,
}

/// How runtimes of workspaces are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runtimes {
    /// Not at all.
    None,
    /// As processes on this machine.
    Process,
    /// As pods of a cluster.
    Kubernetes,
}

/// What scripts reach that are run before a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PreStartNetwork {
    /// Nothing.
    None,
    /// What this executor reaches.
    Host,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            scheduler_urls: vec!["http://127.0.0.1:7071".to_owned()],
            cluster_token_file: None,
            name: None,
            slots: 0,
            data_dir: PathBuf::from("orrery-executor"),
            outputs_dir: None,
            outputs_url: None,
            outputs_cache: 10 * 1024 * 1024 * 1024,
            bundles_cache: 5 * 1024 * 1024 * 1024,
            environments_cache: 30 * 1024 * 1024 * 1024,
            project_outputs: Vec::new(),
            blobs_url: None,
            python: PathBuf::from("python3"),
            base_env: None,
            runner_dir: None,
            idle_children: 4,
            zygote_idle: Duration::from_secs(60 * 60),
            memory_limit: None,
            log_limit: 16 * 1024 * 1024,
            history_file: None,
            pass_env: Vec::new(),
            attempts_listen: SocketAddr::from(([127, 0, 0, 1], 7073)),
            attempts_url: None,
            start_timeout: Duration::from_secs(15 * 60),
            outcome_file: None,
            attempts: AttemptBackend::Process,
            jobs_image: None,
            jobs_program: "orrery-executor".to_owned(),
            jobs_images: Vec::new(),
            jobs_namespaces: Vec::new(),
            jobs_service_account: None,
            jobs_service_accounts: Vec::new(),
            jobs_secret: None,
            jobs_volumes: Vec::new(),
            jobs_gpu_classes: Vec::new(),
            runtimes: Runtimes::None,
            pre_start_network: PreStartNetwork::None,
            kubeconfig: None,
            kubernetes_namespace: "orrery".to_owned(),
            visitor_namespaces: Vec::new(),
            jupyter_image: "quay.io/jupyter/base-notebook:2026-07-28".to_owned(),
            vs_code_image: "codercom/code-server".to_owned(),
            pre_start_image: None,
            device_classes: backend_kubernetes::classes::KNOWN.map(str::to_owned).into(),
            gpu_exporter: None,
            pool: "default".to_owned(),
            runtimes_address: IpAddr::from([127, 0, 0, 1]),
            devices: Vec::new(),
            common: Common::default(),
        }
    }
}

impl AsRef<Common> for Settings {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_complete_and_documented() {
        runtime::settings::check_table::<Settings>(KEYS).unwrap();
        let doc = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        runtime::settings::check_doc(doc, "executor", KEYS).unwrap();
    }
}
