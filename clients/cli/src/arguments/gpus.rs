//! What can be typed about devices, queues, plans and policies.

use super::amounts::{self, Bound, Setting, or_none};
use super::times;
use super::workspaces::SpecOptions;
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use proto::v1::PlanWindow;

/// Without one of these, devices are listed.
#[derive(Debug, Subcommand)]
pub(crate) enum Gpus {
    /// List devices, with who holds what of them
    Devices(Which),
    /// List nodes
    Nodes {
        /// Only of this pool
        #[arg(long)]
        pool: Option<String>,
    },
    /// List device classes
    Classes,
    /// Make a device class, or change it
    SetClass(Class),
    /// Remove a device class that no device is of
    DeleteClass {
        /// Its name
        name: String,
    },
    /// Place nobody new on a node with all its devices, or with --device on that one alone; says what it means to whom
    Drain {
        #[command(flatten)]
        place: Place,
        /// Why, for others
        #[arg(long, default_value = "")]
        reason: String,
        /// Only say who is affected
        #[arg(long)]
        dry_run: bool,
    },
    /// End the drain of a node, or with --device that of the device; another one holds on
    Undrain {
        #[command(flatten)]
        place: Place,
    },
    /// What is held of each model, who waits in each queue and how long others waited; with --by, who had how many GPU-hours
    Usage(Usage),
    /// Whose start elsewhere would free whole devices; nobody is moved, ask them first
    Consolidate {
        /// Of this pool
        #[arg(long)]
        pool: Option<String>,
    },
    /// What would become of a start now, without starting anything: of the workspace's runtime as it is saved
    Plan(Box<Plan>),
}

#[derive(Debug, Default, Args)]
pub(crate) struct Which {
    /// Only of this pool
    #[arg(long)]
    pub(crate) pool: Option<String>,
    /// Only of this node
    #[arg(long)]
    pub(crate) node: Option<String>,
    /// Only of this model
    #[arg(long)]
    pub(crate) model: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Usage {
    /// Only of this pool
    #[arg(long, conflicts_with = "by")]
    pub(crate) pool: Option<String>,
    /// Waits of the last so many hours
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(i32).range(1..=168), conflicts_with = "by")]
    pub(crate) hours: i32,
    /// GPU-hours instead, by this; several with commas between them
    #[arg(long, value_delimiter = ',')]
    pub(crate) by: Vec<By>,
    /// From then on: a day or an instant in UTC, or an age such as 12w; 30 days unless you say otherwise
    #[arg(long, value_name = "TIME", value_parser = times::before, requires = "by")]
    pub(crate) since: Option<Timestamp>,
    /// Before then, in the same forms
    #[arg(long, value_name = "TIME", value_parser = times::before, requires = "by")]
    pub(crate) until: Option<Timestamp>,
    /// Only of this project
    #[arg(long, requires = "by")]
    pub(crate) project: Option<String>,
}

/// What GPU-hours are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    Project,
    Queue,
    Person,
    Workspace,
    Model,
    Day,
}

#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The node
    pub(crate) node: String,
    /// Only this device of it, as `orrery gpus` names it
    #[arg(long)]
    pub(crate) device: Option<String>,
    /// The pool of the node
    #[arg(long, default_value = "default")]
    pub(crate) pool: String,
}

#[derive(Debug, Args)]
pub(crate) struct Class {
    /// Its name, as backends report it
    pub(crate) name: String,
    /// How its devices are divided
    #[arg(long)]
    pub(crate) sharing: Option<Sharing>,
    /// Shares are rounded up to a multiple of this part of a GPU, such as 0.01
    #[arg(long, value_name = "GPU", value_parser = amounts::milli)]
    pub(crate) step: Option<i64>,
    /// What keeps a holder within its share
    #[arg(long)]
    pub(crate) enforcement: Option<Enforcement>,
    /// A model, exact or a beginning ending in *; may be repeated, and replaces those that are set
    #[arg(long)]
    pub(crate) model: Vec<String>,
    /// The DeviceClass of Kubernetes that claims name; or none
    #[arg(long, value_name = "NAME", value_parser = or_none(str::parse::<String>))]
    pub(crate) claim_class: Option<Setting<String>>,
    /// What a whole device is worth beside others
    #[arg(long)]
    pub(crate) worth: Option<i32>,
    /// Although running work is concerned
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sharing {
    Exclusive,
    Shared,
    Mps,
    Mig,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Enforcement {
    Hard,
    Soft,
    AccountingOnly,
}

#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// Of a runtime as the options say, instead
    #[arg(long)]
    pub(crate) what_if: bool,
    #[command(flatten)]
    pub(crate) spec: SpecOptions,
    /// In this queue
    #[arg(long, value_name = "NAME")]
    pub(crate) queue: Option<String>,
    /// So many of it at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=100))]
    pub(crate) count: i32,
    /// As if the runtime of this workspace had ended; may be repeated
    #[arg(long, value_name = "WORKSPACE")]
    pub(crate) without: Vec<String>,
}

/// Without one of these, queues are listed.
#[derive(Debug, Subcommand)]
pub(crate) enum Queues {
    /// Make a queue, or change it; what is not said stays as it is
    Set {
        /// Its name
        name: String,
        /// Greater is served first
        #[arg(long, allow_hyphen_values = true)]
        priority: Option<i32>,
        /// Its runtimes may be stopped for the sake of others
        #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
        preemptible: Option<bool>,
        /// GPUs that it gets when it wants them, such as 4 or 0.5
        #[arg(long, value_name = "GPUS", value_parser = amounts::milli)]
        deserved: Option<i64>,
        /// GPUs that it never exceeds; or none
        #[arg(long, value_name = "GPUS", value_parser = amounts::milli_bound)]
        limit: Option<Bound>,
        /// How much of what is left over it gets, against others of its priority
        #[arg(long)]
        weight: Option<i32>,
        /// The devices that it is served from
        #[arg(long)]
        pool: Option<String>,
        /// Although running work is concerned
        #[arg(long)]
        force: bool,
    },
    /// Take a queue out of use
    Archive {
        /// Its name
        name: String,
    },
}

/// Without one of these, plans are listed.
#[derive(Debug, Subcommand)]
pub(crate) enum Plans {
    /// Make a plan, or change it; what is not said stays as it is
    Set(Box<SetPlan>),
    /// Take a plan out of use, and from all projects
    Archive {
        /// Its name
        name: String,
        /// Although running work is concerned
        #[arg(long)]
        force: bool,
    },
    /// Give a plan to a project
    Grant {
        /// The plan
        plan: String,
        /// The project
        project: String,
    },
    /// Take a plan from a project
    Revoke {
        /// The plan
        plan: String,
        /// The project
        project: String,
        /// Although running work is concerned
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SetPlan {
    /// Its name
    pub(crate) name: String,
    /// A queue that it opens; may be repeated, and replaces those that are set; or none
    #[arg(long, value_name = "NAME", value_parser = or_none(str::parse::<String>))]
    pub(crate) queue: Vec<Setting<String>>,
    /// A model that it allows, exact or a beginning ending in *; may be repeated, and replaces those that are set
    #[arg(long, conflicts_with = "any_model")]
    pub(crate) model: Vec<String>,
    /// It allows any model
    #[arg(long)]
    pub(crate) any_model: bool,
    /// GPUs of one runtime; or none for no limit
    #[arg(long, value_parser = amounts::count_bound)]
    pub(crate) gpus: Option<Bound>,
    /// GPUs times share of one runtime, such as 1.5; or none
    #[arg(long, value_name = "GPUS", value_parser = amounts::milli_bound)]
    pub(crate) effective: Option<Bound>,
    /// Cores of one runtime; or none
    #[arg(long, value_parser = amounts::milli_bound)]
    pub(crate) cpu: Option<Bound>,
    /// Memory of one runtime, such as 64GiB; or none
    #[arg(long, value_parser = amounts::bytes_bound)]
    pub(crate) memory: Option<Bound>,
    /// The longest lifetime of one runtime; or none
    #[arg(long, value_name = "TIME", value_parser = amounts::seconds_bound)]
    pub(crate) lifetime: Option<Bound>,
    /// When it is open: `mon-fri 08:00-18:00 Europe/Berlin`, or START/END; may be repeated, and replaces those that are set
    #[arg(long, value_name = "WINDOW", value_parser = amounts::window, conflicts_with = "always")]
    pub(crate) window: Vec<PlanWindow>,
    /// It is always open
    #[arg(long)]
    pub(crate) always: bool,
    /// Although running work is concerned
    #[arg(long)]
    pub(crate) force: bool,
}

/// What a project's runtimes may be and hold; what is not said stays as it is, and saying nothing shows it.
#[derive(Debug, Default, Args)]
pub(crate) struct PolicyOptions {
    /// An image: a reference, a beginning ending in *, or name@sha256:digest; may be repeated, and replaces those that are set
    #[arg(long, conflicts_with = "any_image", value_parser = image)]
    pub(crate) image: Vec<String>,
    /// Any image
    #[arg(long)]
    pub(crate) any_image: bool,
    /// Containers may run as root
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) allow_root: Option<bool>,
    #[command(flatten)]
    pub(crate) quota: QuotaOptions,
    /// Its runtimes that may be stopped for others within an hour; or none for any number
    #[arg(long, value_parser = amounts::count_bound)]
    pub(crate) disruptions: Option<Bound>,
    /// After a quota became less than what is held: stop those that were placed last after so long; or none to let them go on
    #[arg(long, value_name = "TIME", value_parser = amounts::seconds_bound)]
    pub(crate) over_quota_grace: Option<Bound>,
    /// The longest time-out for idleness; or none
    #[arg(long, value_name = "TIME", value_parser = amounts::seconds_bound)]
    pub(crate) idle_timeout_max: Option<Bound>,
    /// The longest lifetime; or none
    #[arg(long, value_name = "TIME", value_parser = amounts::seconds_bound)]
    pub(crate) lifetime_max: Option<Bound>,
}

/// What a project, all projects of a group, or one person hold at once; what is not said stays as it is, and saying nothing
/// shows it.
#[derive(Debug, Default, Args)]
pub(crate) struct QuotaOptions {
    /// GPUs times share at once, such as 4 or 0.5; or none
    #[arg(long, value_name = "GPUS", value_parser = amounts::milli_bound)]
    pub(crate) gpu: Option<Bound>,
    /// The same of one model; may be repeated, and replaces those that are set; or none
    #[arg(long, value_name = "MODEL=GPUS", value_parser = or_none(amounts::model_milli))]
    pub(crate) model_gpu: Vec<Setting<(String, i64)>>,
    /// Cores; or none
    #[arg(long, value_parser = amounts::milli_bound)]
    pub(crate) cpu: Option<Bound>,
    /// Memory, such as 256GiB; or none
    #[arg(long, value_parser = amounts::bytes_bound)]
    pub(crate) memory: Option<Bound>,
    /// Storage; or none
    #[arg(long, value_parser = amounts::bytes_bound)]
    pub(crate) storage: Option<Bound>,
    /// Runtimes at once; or none
    #[arg(long, value_parser = amounts::count_bound)]
    pub(crate) runtimes: Option<Bound>,
    /// Although running work is concerned
    #[arg(long)]
    pub(crate) force: bool,
}

impl QuotaOptions {
    /// Nothing is to be changed.
    pub(crate) fn is_empty(&self) -> bool {
        let bounds = [self.gpu, self.cpu, self.memory, self.storage, self.runtimes];
        self.model_gpu.is_empty() && bounds.iter().all(Option::is_none)
    }
}

impl PolicyOptions {
    /// Nothing is to be changed.
    pub(crate) fn is_empty(&self) -> bool {
        let rules = self.image.is_empty() && !self.any_image && self.allow_root.is_none();
        let bounds = [self.disruptions, self.over_quota_grace, self.idle_timeout_max, self.lifetime_max];
        rules && self.quota.is_empty() && bounds.iter().all(Option::is_none)
    }
}

fn image(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("an image has a name; `--any-image` lets any run".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use crate::arguments::Arguments;
    use clap::Parser as _;

    #[test]
    fn an_image_without_a_name_is_refused_with_what_lets_any_run() {
        let parse =
            |more: &[&str]| Arguments::try_parse_from(["orrery", "projects", "policy", "acme"].iter().chain(more));
        let refused = parse(&["--image", ""]).unwrap_err().to_string();
        assert!(refused.contains("`--any-image` lets any run"), "{refused}");
        assert!(parse(&["--any-image"]).is_ok() && parse(&["--image", "lab/*"]).is_ok());
    }
}
