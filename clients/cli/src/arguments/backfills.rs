//! What can be typed after `orrery backfills`.

use super::times;
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;

/// Without one of these, backfills are listed.
#[derive(Debug, Subcommand)]
pub(crate) enum Backfills {
    /// Start one; the same again changes nothing
    Create {
        /// Unique in the pipeline
        #[arg(long)]
        name: String,
        #[command(flatten)]
        range: BackfillRange,
        /// Runs at once
        #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        parallelism: u32,
    },
    /// Say what one would do: how many runs, and when
    Preview(BackfillRange),
    /// List those of the workspace, newest first
    List {
        /// Only of this pipeline
        #[arg(long)]
        pipeline: Option<String>,
    },
    /// Show how far one is
    Show {
        /// Its name, PIPELINE/NAME, or its id
        backfill: String,
    },
    /// Start no further runs for now
    Pause {
        /// Its name, PIPELINE/NAME, or its id
        backfill: String,
    },
    /// Go on
    Resume {
        /// Its name, PIPELINE/NAME, or its id
        backfill: String,
    },
    /// Start no further runs, and stop those that have not ended
    Cancel {
        /// Its name, PIPELINE/NAME, or its id
        backfill: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct BackfillRange {
    /// The pipeline
    pub(crate) pipeline: String,
    /// The first interval begins here, as in 2024-01-31T00:00:00Z
    #[arg(long, value_name = "TIME", value_parser = times::instant)]
    pub(crate) start: Timestamp,
    /// The last interval begins here or before
    #[arg(long, value_name = "TIME", value_parser = times::instant)]
    pub(crate) end: Timestamp,
    /// What an interval is counted in
    #[arg(long, value_name = "UNIT", required_unless_present = "cron")]
    pub(crate) interval: Option<Interval>,
    /// Intervals begin where this says, such as '0 6 * * 1-5'
    #[arg(long, value_name = "EXPRESSION", conflicts_with_all = ["interval", "every"])]
    pub(crate) cron: Option<String>,
    /// Units of one interval
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) every: u32,
    /// The clock of days, weeks, months and years
    #[arg(long, default_value = "UTC", value_name = "ZONE")]
    pub(crate) time_zone: String,
    /// The latest interval first
    #[arg(long)]
    pub(crate) descending: bool,
    /// A variable of its runs; the value is JSON when it reads as JSON, else text
    #[arg(long = "var", value_name = "KEY=VALUE", value_parser = super::variable)]
    pub(crate) variables: Vec<(String, serde_json::Value)>,
    /// A run goes on where a block failed
    #[arg(long)]
    pub(crate) allow_blocks_to_fail: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Interval {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Year,
}

impl From<Interval> for proto::v1::IntervalUnit {
    fn from(interval: Interval) -> Self {
        match interval {
            Interval::Second => Self::Second,
            Interval::Minute => Self::Minute,
            Interval::Hour => Self::Hour,
            Interval::Day => Self::Day,
            Interval::Week => Self::Week,
            Interval::Month => Self::Month,
            Interval::Year => Self::Year,
        }
    }
}
