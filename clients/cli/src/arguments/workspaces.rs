//! What can be typed after `orrery workspaces`, about their runtimes.

use super::amounts::{self, Setting, or_none};
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Acts on the runtime of a workspace: the named one, else that of --workspace.
#[derive(Debug, Subcommand)]
pub(crate) enum Workspaces {
    /// Show runtimes with their states; of one, everything about it
    Status {
        /// The workspace; without it, all that you may see
        name: Option<String>,
        /// Only of this project
        #[arg(long = "project", value_name = "NAME")]
        of_project: Option<String>,
        /// Only in this state; may be repeated
        #[arg(long)]
        state: Vec<State>,
        /// Only of this queue
        #[arg(long, value_name = "NAME")]
        queue: Option<String>,
        /// Go on showing it whenever it changes
        #[arg(long, short, requires = "name")]
        follow: bool,
    },
    /// Say what the runtime shall be from its next start on; what is not said stays as it is
    Set(Box<Set>),
    /// Start it
    Start {
        /// The workspaces
        names: Vec<String>,
        /// While its plan's window is closed, wait until it opens
        #[arg(long)]
        wait_for_window: bool,
        /// Start all of them or none: they wait until all have a place
        #[arg(long)]
        together: bool,
        /// With --together: all on nodes of one zone
        #[arg(long, requires = "together")]
        one_zone: bool,
        /// Wait until it runs, and show what it does meanwhile
        #[arg(long)]
        wait: bool,
    },
    /// Stop it; its volumes stay
    Stop {
        /// The workspaces
        names: Vec<String>,
    },
    /// Stop it and start it with what is set now, at its place where that still fits
    Restart {
        /// The workspaces
        names: Vec<String>,
    },
    /// Put an error away
    Reset {
        /// The workspaces
        names: Vec<String>,
    },
    /// Forget what a runtime that is stopped shall be; its volumes stay
    Delete {
        /// The workspaces
        names: Vec<String>,
    },
    /// Say that its node is off for good: what it holds is free at once. Where that is not true, two may hold one device
    Fence {
        /// The workspace
        name: String,
    },
    /// Show what happened to it, newest first
    Events {
        /// The workspace
        name: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Print the address at which it is opened in a browser
    Open {
        /// The workspace
        name: Option<String>,
    },
    /// Move it to another queue, while it waits or runs too
    SwitchQueue {
        /// The queue, before the workspace
        #[arg(default_value = "default")]
        queue: String,
        /// The workspace; that of --workspace without it
        name: Option<String>,
    },
    /// Let nobody stop it for idleness for a while; others may still come first
    Snooze {
        /// How long, such as 2h or 45m, 2h without it and at most 24h; and the workspace, that of --workspace without it. In
        /// either order
        #[arg(value_name = "DURATION|NAME", num_args = 0..=2)]
        words: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    /// The workspace
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) spec: SpecOptions,
    /// The queue in which it waits for devices
    #[arg(long, value_name = "NAME")]
    pub(crate) queue: Option<String>,
    /// Only check it
    #[arg(long)]
    pub(crate) validate_only: bool,
}

/// What a runtime shall be.
#[derive(Debug, Default, Args)]
pub(crate) struct SpecOptions {
    /// What is opened in it
    #[arg(long)]
    pub(crate) app: Option<App>,
    /// Of a custom application: where it listens
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// Of a custom application: what is run, a word for each; or none for what the image itself runs
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
    /// The image, with a tag or a digest
    #[arg(long)]
    pub(crate) image: Option<String>,
    /// How many GPUs
    #[arg(long, value_parser = clap::value_parser!(i32).range(0..=32))]
    pub(crate) gpus: Option<i32>,
    /// Percent of each GPU
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(i32).range(1..=100))]
    pub(crate) sm: Option<i32>,
    /// Memory of each GPU, such as 16GiB; 0 follows the share
    #[arg(long, value_name = "SIZE", value_parser = amounts::bytes)]
    pub(crate) gpu_memory: Option<i64>,
    /// A model that will do; may be repeated
    #[arg(long, conflicts_with = "any_model")]
    pub(crate) model: Vec<String>,
    /// Any model will do
    #[arg(long)]
    pub(crate) any_model: bool,
    /// The models are in order of preference
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) ordered: Option<bool>,
    /// Whether several GPUs have to be joined by the fast link
    #[arg(long)]
    pub(crate) link: Option<Link>,
    /// Cores, such as 4 or 0.5
    #[arg(long, value_parser = amounts::some_milli)]
    pub(crate) cpu: Option<i64>,
    /// Memory, such as 8GiB
    #[arg(long, value_parser = amounts::some_bytes)]
    pub(crate) memory: Option<i64>,
    /// The most cores that it gets
    #[arg(long, value_parser = amounts::milli)]
    pub(crate) cpu_limit: Option<i64>,
    /// The most memory that it gets
    #[arg(long, value_parser = amounts::bytes)]
    pub(crate) memory_limit: Option<i64>,
    /// Disk that it may fill beside its volumes, such as 20GiB
    #[arg(long, value_parser = amounts::bytes)]
    pub(crate) storage: Option<i64>,
    /// A variable; without a value it is taken away; may be repeated
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// A volume and where it is seen; may be repeated, and replaces those that are set
    #[arg(long, value_name = "VOLUME:PATH[:ro]", conflicts_with = "no_mounts")]
    pub(crate) mount: Vec<String>,
    /// No volumes
    #[arg(long)]
    pub(crate) no_mounts: bool,
    /// Run as user 0
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) root: Option<bool>,
    /// Behind others of the queue: -100 to 0
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) priority: Option<i32>,
    /// Stop it when nobody used it for so long, such as 2h; or never
    #[arg(long, value_name = "TIME", value_parser = amounts::seconds)]
    pub(crate) idle_timeout: Option<i32>,
    /// Stop it when its GPUs did nothing for so long, where its executor tells that; or never
    #[arg(long, value_name = "TIME", value_parser = amounts::seconds)]
    pub(crate) gpu_idle_timeout: Option<i32>,
    /// Stop it after so long; or never
    #[arg(long, value_name = "TIME", value_parser = amounts::seconds)]
    pub(crate) lifetime: Option<i32>,
    /// From asking it to end to ending it
    #[arg(long, value_name = "TIME", value_parser = amounts::seconds)]
    pub(crate) grace: Option<i32>,
    /// Let it wait again after it was stopped for others
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) requeue: Option<bool>,
    /// File with Python source that defines get_custom_configs, run apart before the start; or none
    #[arg(long, value_name = "FILE", value_parser = or_none(str::parse::<PathBuf>))]
    pub(crate) pre_start: Option<Setting<PathBuf>>,
    /// File with a shell script, run inside before the application; or none
    #[arg(long, value_name = "FILE", value_parser = or_none(str::parse::<PathBuf>))]
    pub(crate) post_start: Option<Setting<PathBuf>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum App {
    /// JupyterLab
    Jupyter,
    /// VS Code in the browser
    #[value(name = "vscode")]
    VsCode,
    /// What the image brings along; with --port
    Custom,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Link {
    Any,
    Preferred,
    Required,
}

/// The states of a runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum State {
    Stopped,
    Starting,
    Running,
    Stopping,
    Error,
}
