//! What can be typed after `orrery triggers`.

use super::{
    amounts::{Setting, or_none},
    times,
};
use clap::{Args, Subcommand, ValueEnum};
use jiff::{SignedDuration, Timestamp};

/// Without one of these, triggers are listed.
#[derive(Debug, Subcommand)]
pub(crate) enum Triggers {
    /// List triggers by pipeline and name
    List {
        /// Only of this pipeline
        #[arg(long)]
        pipeline: Option<String>,
        /// Archived ones too
        #[arg(long)]
        archived: bool,
    },
    /// Show everything about a trigger
    Show {
        /// Its name, PIPELINE/NAME, or its id
        trigger: String,
    },
    /// Create a trigger
    Create {
        /// The pipeline that it starts
        pipeline: String,
        /// Its name, unique in the pipeline
        name: String,
        /// Create it paused
        #[arg(long)]
        paused: bool,
        #[command(flatten)]
        definition: Box<Definition>,
    },
    /// Change what is given; the rest stays
    Edit {
        /// Its name, PIPELINE/NAME, or its id
        trigger: String,
        #[command(flatten)]
        definition: Box<Definition>,
    },
    /// Start a trigger that is paused, or that a failed run has halted
    Start {
        /// Its name, PIPELINE/NAME, or its id
        trigger: String,
    },
    /// Pause a trigger: once this returns, nothing fires any more
    Pause {
        /// Its name, PIPELINE/NAME, or its id
        trigger: String,
    },
    /// Archive a trigger
    Delete {
        /// Its name, PIPELINE/NAME, or its id
        trigger: String,
    },
    /// Tell the next times of a trigger that lie in its window, or of any schedule
    Preview {
        /// Its name, PIPELINE/NAME, or its id
        #[arg(required_unless_present = "every", conflicts_with = "every")]
        trigger: Option<String>,
        /// A schedule that belongs to nothing yet
        #[arg(long, value_name = "SCHEDULE")]
        every: Option<String>,
        /// The clock that it is read from
        #[arg(long, default_value = "UTC", value_name = "IANA NAME")]
        zone: String,
        /// Times after this one
        #[arg(long, value_name = "TIME", value_parser = times::instant)]
        after: Option<Timestamp>,
        /// How many
        #[arg(long, short = 'n', default_value_t = 10, value_parser = clap::value_parser!(i32).range(1..=1_000))]
        count: i32,
    },
    /// Tell what became of its times, newest first; also when it is archived
    History {
        /// Its name, PIPELINE/NAME, or its id
        trigger: String,
        /// The archived one, where another one has its name
        #[arg(long)]
        archived: bool,
        /// At most so many
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Make a new token for an API trigger, and show it this once
    Token {
        /// Its name, PIPELINE/NAME, or its id
        trigger: String,
        /// How long former tokens still hold
        #[arg(long, default_value = "1h")]
        overlap: SignedDuration,
        /// Only list the tokens that hold
        #[arg(long)]
        list: bool,
    },
    /// Publish an event: a JSON object, or @FILE
    Send {
        /// The event
        event: String,
        /// A second event with the same key starts nothing
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<String>,
    },
}

/// What is configured of a trigger. What may be absent takes `none` too, which takes it back.
#[derive(Debug, Args)]
pub(crate) struct Definition {
    /// @hourly, @daily, @weekly, @monthly, @yearly, @once, @always_on, `@every 15m`, or cron such as `0 6 * * 1`
    #[arg(long, value_name = "SCHEDULE", conflicts_with_all = ["event", "api"])]
    pub(crate) every: Option<String>,
    /// The clock that the schedule is read from; or none for UTC
    #[arg(long, value_name = "IANA NAME", value_parser = or_none(str::parse::<String>))]
    pub(crate) zone: Option<Setting<String>>,
    /// Nothing comes before this time; or none
    #[arg(long, value_name = "TIME", value_parser = or_none(times::instant))]
    pub(crate) start: Option<Setting<Timestamp>>,
    /// Nothing comes from this time on; or none
    #[arg(long, value_name = "TIME", value_parser = or_none(times::instant))]
    pub(crate) end: Option<Setting<Timestamp>>,
    /// Starts for events that match this JSON pattern; may be repeated
    #[arg(long, value_name = "PATTERN", conflicts_with = "api")]
    pub(crate) event: Vec<String>,
    /// Starts when it is called with its token
    #[arg(long)]
    pub(crate) api: bool,
    /// What it is for; or none
    #[arg(long, value_parser = or_none(str::parse::<String>))]
    pub(crate) description: Option<Setting<String>>,
    /// A variable of its runs; the value is JSON when it reads as JSON, else text; without a value it is taken away
    #[arg(long = "var", value_name = "KEY[=VALUE]", value_parser = variable_or_none)]
    pub(crate) variables: Vec<(String, Option<serde_json::Value>)>,
    /// What a start does while runs of the trigger have not ended [usual: allow-all]
    #[arg(long)]
    pub(crate) overlap: Option<Overlap>,
    /// What becomes of times that were missed; `all` needs a window and a count [usual: latest]
    #[arg(long)]
    pub(crate) catch_up: Option<CatchUp>,
    /// With `--catch-up all`: how far back
    #[arg(long, value_name = "DURATION")]
    pub(crate) catch_up_window: Option<SignedDuration>,
    /// With `--catch-up all`: at most so many
    #[arg(long, value_name = "N")]
    pub(crate) catch_up_count: Option<i32>,
    /// Spread its times over so long; or none
    #[arg(long, value_name = "DURATION", value_parser = or_none(str::parse::<SignedDuration>))]
    pub(crate) jitter: Option<Setting<SignedDuration>>,
    /// Halt after a failed run
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) pause_on_failure: Option<bool>,
    /// `--start` tells when in their period runs should have ended
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) landing_time: Option<bool>,
    /// Fire for the period in which it is started
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) initial_run: Option<bool>,
    /// Go on where a block failed
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) allow_blocks_to_fail: Option<bool>,
    /// Hours on the clock of its zone, such as 08:00-18:00; times outside are skipped; or none
    #[arg(long, value_name = "FROM-TO", value_parser = or_none(str::parse::<String>))]
    pub(crate) window: Option<Setting<String>>,
    /// Days on which the window opens, such as mon,tue
    #[arg(long, value_delimiter = ',', requires = "window", value_name = "DAYS")]
    pub(crate) days: Vec<String>,
    /// A run that takes longer is late; or none
    #[arg(long, value_name = "DURATION", value_parser = or_none(str::parse::<SignedDuration>))]
    pub(crate) sla: Option<Setting<SignedDuration>>,
    /// A run that takes longer is stopped; or none
    #[arg(long, value_name = "DURATION", value_parser = or_none(str::parse::<SignedDuration>))]
    pub(crate) timeout: Option<Setting<SignedDuration>>,
    /// How a run that takes longer ends [usual: failed]
    #[arg(long)]
    pub(crate) timeout_status: Option<TimeoutStatus>,
    /// At most so many runs of it at once; 0 or none follows the pipeline
    #[arg(long, value_name = "N", value_parser = or_none(run_limit), allow_negative_numbers = true)]
    pub(crate) run_limit: Option<Setting<i32>>,
    /// What a run over the limit does; none follows the pipeline
    #[arg(long)]
    pub(crate) on_run_limit: Option<OnLimit>,
}

/// `key=value` as everywhere, or `key` for what is taken away.
fn variable_or_none(text: &str) -> Result<(String, Option<serde_json::Value>), String> {
    if text.contains('=') || text.is_empty() {
        return super::variable(text).map(|(key, value)| (key, Some(value)));
    }
    Ok((text.to_owned(), None))
}

fn run_limit(text: &str) -> Result<i32, String> {
    text.parse().ok().filter(|limit| *limit >= 0).ok_or_else(|| "write a number of runs".to_owned())
}

/// What a start does while others run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Overlap {
    AllowAll,
    Skip,
    BufferOne,
    BufferAll,
    CancelOther,
    TerminateOther,
}

/// What becomes of missed times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CatchUp {
    None,
    Latest,
    All,
}

/// How a run ends that took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TimeoutStatus {
    Failed,
    Cancelled,
}

/// What a run over the limit does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnLimit {
    None,
    Wait,
    Skip,
}
