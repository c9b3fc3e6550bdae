//! What can be typed.

pub(crate) mod amounts;
pub(crate) mod backfills;
pub(crate) mod deploy;
pub(crate) mod gpus;
pub(crate) mod limits;
pub(crate) mod models;
pub(crate) mod people;
pub(crate) mod times;
pub(crate) mod triggers;
pub(crate) mod volumes;
pub(crate) mod workspaces;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use jiff::{SignedDuration, Timestamp};
use std::path::PathBuf;

/// Options that every command has are told apart from its own.
const EVERYWHERE: &str = "Options of every command";
/// Below the list of commands.
const FIRST_STEPS: &str = "First steps:
  orrery up --project DIR       a cluster on this machine, with the pipelines of a Mage project
  orrery pipelines              what it holds
  orrery run PIPELINE --wait    runs one, and shows each block as it goes
  orrery logs RUN               what the run wrote";

/// Runs data and ML pipelines on a cluster.
#[derive(Debug, Parser)]
#[command(name = "orrery", version, max_term_width = 100, after_help = FIRST_STEPS)]
pub(crate) struct Arguments {
    /// Where the server is; without it, the running `orrery up` of this folder or machine
    #[arg(long, global = true, env = "ORRERY_SERVER", value_name = "URL", help_heading = EVERYWHERE)]
    pub(crate) server: Option<String>,
    /// File with the server's token
    #[arg(long, global = true, env = "ORRERY_TOKEN_FILE", value_name = "FILE", help_heading = EVERYWHERE)]
    pub(crate) token_file: Option<PathBuf>,
    /// The workspace
    #[arg(
        long,
        short,
        global = true,
        env = "ORRERY_WORKSPACE",
        default_value = "default",
        value_name = "NAME",
        help_heading = EVERYWHERE
    )]
    pub(crate) workspace: String,
    /// Print JSON: one document, or one line per event where something is followed
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a whole cluster on this machine and keep it up
    Up(Up),
    /// Make a project folder the current code of the workspace
    Deploy(deploy::Deploy),
    /// Start a run of a pipeline
    Run(Run),
    /// List runs, newest first
    Runs(Runs),
    /// Show what a run wrote, or search what all runs of the workspace wrote
    Logs(Logs),
    /// Show how many runs ended how, how long they took and how late they were
    Monitor(Monitor),
    /// Who is told of runs: list what was sent, set whom to tell, send a test
    Notifications {
        #[command(subcommand)]
        act: Option<Notifications>,
    },
    /// Show the blocks of a run
    Blocks {
        /// Its id, or 6 or more characters of its beginning or end
        run: String,
        /// With every child of dynamic blocks
        #[arg(long)]
        children: bool,
    },
    /// Look at what a block left: kinds, counts, columns and first rows
    Outputs {
        /// The run's id, or 6 or more characters of its beginning or end
        run: String,
        /// The block
        block: String,
        /// A child of a dynamic block, by its number
        #[arg(long, value_parser = clap::value_parser!(i32).range(0..))]
        child: Option<i32>,
        /// Only this output, such as output_0
        #[arg(long)]
        name: Option<String>,
        /// Save the whole outputs below this folder instead, as they were stored; takes the role of an editor
        #[arg(long, value_name = "FOLDER")]
        save: Option<PathBuf>,
    },
    /// Remove outputs of ended runs, which stay; or old days of log lines
    Clean {
        /// Whole days of log lines of the whole cluster instead; without `--before`, those that are older than it keeps
        #[arg(long, conflicts_with = "pipeline")]
        logs: bool,
        /// Only this pipeline
        #[arg(long)]
        pipeline: Option<String>,
        /// Of runs that ended before: an instant, a day, or an age such as 12h, 30d or 2w; without it, each pipeline's own
        /// variables_retention_period
        #[arg(long, value_name = "TIME", value_parser = times::before)]
        before: Option<Timestamp>,
        /// Only say what would go
        #[arg(long)]
        dry_run: bool,
    },
    /// Ask a run to stop; cancelled again 15 s later or more, it stops its callbacks too
    Cancel {
        /// Its id, or 6 or more characters of its beginning or end
        run: String,
        /// Why; shown with the run
        #[arg(long, default_value = "cancelled from the command line")]
        reason: String,
    },
    /// Run again: all of it as a new run, or a part of the same run
    Retry {
        /// Its id, or 6 or more characters of its beginning or end
        run: String,
        /// Only the blocks that did not complete
        #[arg(long, conflicts_with = "from")]
        incomplete: bool,
        /// This block and everything downstream of it
        #[arg(long, value_name = "BLOCK")]
        from: Option<String>,
        /// Show each block as it goes, and end with the run
        #[arg(long)]
        wait: bool,
    },
    /// Runs for every interval of a past range: create, preview, list, show, pause, resume, cancel
    Backfills {
        #[command(subcommand)]
        act: Option<backfills::Backfills>,
    },
    /// How many blocks run at once, over all pipelines: list, set, remove
    Limits {
        #[command(subcommand)]
        act: Option<limits::Limits>,
    },
    /// List the workspace's pipelines
    Pipelines,
    /// List, create, edit, start, pause and delete what starts pipelines
    Triggers {
        #[command(subcommand)]
        command: Option<triggers::Triggers>,
    },
    /// List executors
    Executors,
    /// List workspaces, or create one; set, start, stop and watch their runtimes
    #[command(args_conflicts_with_subcommands = true)]
    Workspaces {
        #[command(subcommand)]
        act: Option<workspaces::Workspaces>,
        /// Create this one
        #[arg(long, value_name = "NAME")]
        create: Option<String>,
        /// In this project, instead of your personal one; without --create, list only those of it
        #[arg(long, value_name = "NAME")]
        project: Option<String>,
        /// Take this one out of use
        #[arg(long, value_name = "NAME", conflicts_with = "create")]
        archive: Option<String>,
        /// Stop its runtime
        #[arg(long, requires = "archive")]
        force: bool,
        /// Take this one back into use
        #[arg(long, value_name = "NAME", conflicts_with_all = ["create", "archive"])]
        restore: Option<String>,
        /// Also list those that are archived
        #[arg(long)]
        archived: bool,
    },
    /// Devices, nodes and device classes; drain them, and ask what would become of a start
    Gpus {
        #[command(subcommand)]
        act: Option<gpus::Gpus>,
    },
    /// Volumes of a project, which outlive the runtimes that mount them: list, create, grow, delete
    Volumes {
        #[command(subcommand)]
        act: Option<volumes::Volumes>,
        /// Of this project, instead of the workspace's
        #[arg(long, value_name = "NAME", global = true)]
        project: Option<String>,
    },
    /// Queues, in which runtimes wait for devices
    Queues {
        #[command(subcommand)]
        act: Option<gpus::Queues>,
    },
    /// Plans: what projects may use besides the default queue, and when
    Plans {
        #[command(subcommand)]
        act: Option<gpus::Plans>,
    },
    /// Sign in to a server and keep a token for it; asks for the password, or lets a browser ask
    Login(people::Login),
    /// Give the kept token back
    Logout,
    /// Change your password; other sessions and sign-ins by the former one end
    Password {
        /// Read both from this file instead of asking for them: the present password, and on its second line the new one
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Show who you are and which server you talk to
    Whoami,
    /// People of the cluster
    Users {
        #[command(subcommand)]
        act: Option<people::Users>,
    },
    /// Groups of people
    Groups {
        #[command(subcommand)]
        act: Option<people::Groups>,
    },
    /// Your own tokens, and the browsers in which you are signed in
    Tokens {
        #[command(subcommand)]
        act: Option<people::Tokens>,
    },
    /// Who works in the workspace
    Members {
        #[command(subcommand)]
        act: Option<people::Members>,
    },
    /// Models of the workspace: list, upload, show, download, archive
    Models {
        #[command(subcommand)]
        act: Option<models::Models>,
    },
    /// Projects, which hold workspaces
    Projects {
        #[command(subcommand)]
        act: Option<people::Projects>,
    },
    /// Secrets of the workspace, of a pipeline or of a project; nobody reads a value back
    Secrets {
        #[command(subcommand)]
        act: Option<people::Secrets>,
        #[command(flatten)]
        scope: people::Scope,
    },
    /// Who did what, newest first
    Audit(people::Audit),
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Runs {
    /// Only this pipeline
    #[arg(long)]
    pub(crate) pipeline: Option<String>,
    /// Only those that this trigger started
    #[arg(long, requires = "pipeline")]
    pub(crate) trigger: Option<String>,
    /// Only those of this backfill: its name, PIPELINE/NAME, or its id
    #[arg(long, conflicts_with = "trigger")]
    pub(crate) backfill: Option<String>,
    /// Only runs in this state; may be repeated
    #[arg(long)]
    pub(crate) status: Vec<Status>,
    /// At most so many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Its id, or 6 or more characters of its beginning or end; without it, all runs are searched
    pub(crate) run: Option<String>,
    /// Go on until the run has ended
    #[arg(long, short, requires = "run")]
    pub(crate) follow: bool,
    /// Only lines that hold this text
    #[arg(long, short, value_name = "TEXT")]
    pub(crate) search: Option<String>,
    /// Only this block
    #[arg(long)]
    pub(crate) block: Option<String>,
    /// This level and above
    #[arg(long)]
    pub(crate) level: Option<Level>,
    /// Only blocks of this type, such as transformer or data_loader
    #[arg(long = "type", value_name = "BLOCK_TYPE", conflicts_with = "follow")]
    pub(crate) block_type: Option<String>,
    /// Only runs of this pipeline
    #[arg(long, conflicts_with = "follow")]
    pub(crate) pipeline: Option<String>,
    /// Only runs that this trigger started
    #[arg(long, requires = "pipeline", conflicts_with = "follow")]
    pub(crate) trigger: Option<String>,
    /// From then on: an instant such as 2026-01-31T12:00:00Z, or a duration back from now such as 2h
    #[arg(long, value_name = "TIME", value_parser = times::past, conflicts_with = "follow")]
    pub(crate) since: Option<Timestamp>,
    /// Before then, in the same forms
    #[arg(long, value_name = "TIME", value_parser = times::past, conflicts_with = "follow")]
    pub(crate) until: Option<Timestamp>,
    /// Of a search, the newest so many
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,
}

impl Logs {
    /// Anything that only a search can do.
    pub(crate) fn is_search(&self) -> bool {
        let narrow = [&self.block_type, &self.pipeline, &self.trigger];
        let text = self.search.is_some() && !self.follow;
        self.run.is_none() || text || narrow.iter().any(|f| f.is_some()) || self.since.or(self.until).is_some()
    }
}

#[derive(Debug, Args)]
pub(crate) struct Monitor {
    /// Only this pipeline; shows its triggers
    pub(crate) pipeline: Option<String>,
    /// So many days, today included
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=366))]
    pub(crate) days: u16,
    /// A row for each day
    #[arg(long)]
    pub(crate) by_day: bool,
    /// Blocks instead of runs
    #[arg(long)]
    pub(crate) blocks: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Notifications {
    /// What was and will be sent, newest first
    List {
        /// Only of this run
        #[arg(long)]
        run: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Send a test message to everyone who would be told
    Test {
        /// As for runs of this pipeline; without it, whom the workspace itself tells
        pipeline: Option<String>,
    },
    /// Show what is configured here, without secrets; projects' own metadata.yaml holds besides
    Show,
    /// Set whom to tell, from a JSON file in the form of notification_config; an empty object removes it
    Set {
        /// The file; - reads standard input
        file: PathBuf,
        /// For this pipeline only
        #[arg(long)]
        pipeline: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Deploy this Mage project folder, and again whenever it changes
    #[arg(long, value_name = "DIR")]
    pub(crate) project: Option<PathBuf>,
    /// Where everything is kept
    #[arg(long, env = "ORRERY_DATA_DIR", default_value = ".orrery", value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// The web-server's port on the loopback [default: 7070, or a free one]
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// How many executors
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) executors: u16,
    /// Say that the first executor has these devices, such as 2xA10:24GiB; nothing keeps anybody within a share of them
    #[arg(long, value_name = "DEVICES", value_delimiter = ',')]
    pub(crate) devices: Vec<String>,
    /// Run runtimes of workspaces, and blocks of the executor type k8s, on the Kubernetes that this file has credentials for
    #[arg(long, value_name = "KUBECONFIG", conflicts_with = "devices")]
    pub(crate) kubernetes: Option<PathBuf>,
    /// Run this pipeline once everything is up
    #[arg(long, value_name = "PIPELINE", requires = "project")]
    pub(crate) run: Option<String>,
    /// End after that run, with its exit code
    #[arg(long, requires = "run")]
    pub(crate) once: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The pipeline
    pub(crate) pipeline: String,
    /// A variable; the value is JSON when it reads as JSON, else text
    #[arg(long = "var", value_name = "KEY=VALUE", value_parser = variable)]
    pub(crate) variables: Vec<(String, serde_json::Value)>,
    /// A JSON file with variables; --var wins
    #[arg(long, value_name = "FILE")]
    pub(crate) vars_file: Option<PathBuf>,
    /// Show each block as it goes, and end with the run
    #[arg(long)]
    pub(crate) wait: bool,
    /// The longest time of the whole run, such as 90s or 2h
    #[arg(long)]
    pub(crate) timeout: Option<SignedDuration>,
    /// After a failure go on with whatever does not need the failed block; the run fails at its end
    #[arg(long)]
    pub(crate) allow_blocks_to_fail: bool,
    /// A second request with the same key gets the first one's run
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
}

/// The states of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Status {
    Initial,
    Running,
    Completed,
    Failed,
    Cancelled,
}

/// The levels of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

impl Level {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }
}

/// `key=value`, with the value as JSON when it is JSON.
fn variable(text: &str) -> Result<(String, serde_json::Value), String> {
    let (key, value) = text.split_once('=').ok_or("write it as key=value")?;
    if key.is_empty() {
        return Err("the key is empty".into());
    }
    let json: serde_json::Value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    // A whole number that is too large was read as a fraction, without its last digits.
    let is_cut = |n: &serde_json::Number| n.is_f64() && n.as_f64() != Some(0.0) && !value.contains(['.', 'e', 'E']);
    match json.as_number().is_some_and(is_cut) {
        true => Err(rpc::json::beyond(value)),
        false => Ok((key.to_owned(), json)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use serde_json::json;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn variables_are_json_when_they_read_as_json() {
        let check = |text, value| assert_eq!(variable(text).unwrap().1, value, "{text}");
        check("n=3", json!(3));
        check("on=true", json!(true));
        check("l=[1, \"a\"]", json!([1, "a"]));
        check("day=2024-01-02", json!("2024-01-02"));
        check("q=\"3\"", json!("3"));
        check("eq=a=b", json!("a=b"));
        check("empty=", json!(""));
        assert!(variable("novalue").is_err() && variable("=1").is_err());
        check("account=000123456789012345678901", json!("000123456789012345678901"));
        for beyond in ["n=18446744073709551616", "n=-123456789012345678901234567890"] {
            assert!(variable(beyond).unwrap_err().contains("send it as a string"), "{beyond}");
        }
    }
}
