//! The fault matrix: what is promised, one row for each way in which a cluster is broken, and what is seen when it is.
//!
//! Each row starts a cluster of its own, puts load on it that is known to the single logical time, breaks something for as
//! long as the load lasts, mends it, waits until the work is done, and judges. It also has to show that the fault did
//! something: a row whose fault did not bite has failed.
//!
//! A seed decides what is broken when, and which chunk on a wire is hit. It does not decide how processes take turns, so
//! the same seed gives the same storm, and not the same interleaving.

mod callers;
mod judge;
mod pace;
mod rows;
mod seen;
mod stage;
mod table;

pub use rows::{ROWS, Row};
pub use seen::{Measured, Seen, Verdict};
pub use stage::Plan;

use crate::record::machine;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::{
    io::Write,
    path::{Path, PathBuf},
    time::Instant,
};

/// A small load for a short while: what a test has time for.
pub const SMOKE: Size = Size { seconds: 13, triggers: 30 };
/// Enough for a bar.
const ROW: Size = Size { seconds: 30, triggers: 100 };
/// Logical times that a full run decides, all rows together: a million, and what rows leave out that take less.
const FULL_FIRINGS: u64 = 1_096_000;
/// Of a full run: seconds of load in each row, but for those that say that they need more. With the rows' own starts and ends
/// that is half an hour to an hour.
const FULL_SECONDS: u32 = 40;

/// How much load a row gets.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Seconds that it lasts.
    pub seconds: u32,
    /// Triggers that are due in each of them.
    pub triggers: u32,
}

/// What is run.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Every row, small
    #[arg(long, conflicts_with = "full")]
    smoke: bool,
    /// One row, by its number; may be given several times. With `--full` or `--smoke` as large as it is there
    #[arg(long, value_name = "N")]
    row: Vec<String>,
    /// Every row, a million logical times in all, and more where rows take longer
    #[arg(long)]
    full: bool,
    /// What decides when what is broken
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds of load in each row, instead of what is usual. Rows do their roughest in as many as `--full` gives them
    #[arg(long, value_name = "S")]
    seconds: Option<u32>,
    /// Triggers that are due each second, instead of what is usual
    #[arg(long, value_name = "N")]
    triggers: Option<u32>,
    /// Runs nothing; sums up the rows of a file that `--record` wrote, as the table of a page
    #[arg(long, value_name = "FILE", conflicts_with_all = ["row", "full", "smoke"])]
    table: Option<PathBuf>,
}

/// What one row came to.
pub struct Outcome {
    /// Which.
    pub row: &'static Row,
    /// What it saw.
    pub seen: Seen,
    /// How it ended.
    pub verdict: Verdict,
    plan: Plan,
    took_s: f64,
}

impl Options {
    fn rows(&self) -> Result<Vec<&'static Row>> {
        if !self.smoke && !self.full && self.row.is_empty() {
            bail!("faults needs --smoke, --full, --row N, or --table FILE");
        }
        if let Some(unknown) = self.row.iter().find(|wanted| ROWS.iter().all(|row| row.number != wanted.as_str())) {
            bail!(
                "there is no row {unknown}; there are {}",
                ROWS.iter().map(|row| row.number).collect::<Vec<_>>().join(", ")
            );
        }
        Ok(ROWS
            .iter()
            .filter(|row| self.row.is_empty() || self.row.iter().any(|wanted| wanted == row.number))
            .collect())
    }

    fn size(&self, row: &Row) -> Size {
        let usual = if self.smoke {
            SMOKE
        } else if self.full {
            let loaded = ROWS.iter().filter(|row| row.is_loaded).count() as u64;
            let triggers = FULL_FIRINGS.div_ceil(loaded * u64::from(FULL_SECONDS));
            let seconds = FULL_SECONDS.max(row.least_s);
            Size { seconds, triggers: u32::try_from(triggers).unwrap_or(u32::MAX) }
        } else {
            ROW
        };
        Size { seconds: self.seconds.unwrap_or(usual.seconds), triggers: self.triggers.unwrap_or(usual.triggers) }
    }
}

/// Runs rows, prints a table and with `json` a line for each row after it, and appends a line to `record` whenever a row has
/// ended, so that rows may be run one by one and added up. True when every row that could be run held.
///
/// # Errors
/// When the options make no sense, or rows cannot be recorded. One that cannot be set up or looked at is told, and counts
/// as one that did not hold; the others go on.
pub async fn run(options: &Options, as_json: bool, record: Option<&PathBuf>) -> Result<bool> {
    if let Some(path) = &options.table {
        print!("{}", table::of(path)?);
        return Ok(true);
    }
    let (mut outcomes, mut failed) = (Vec::new(), 0_u64);
    for row in options.rows()? {
        // Programs that are not optimised would be measured against themselves.
        match run_row(row, options.size(row), options.seed, build() == "release").await {
            Ok(outcome) => {
                print(&outcome);
                record.map_or(Ok(()), |path| outcome.record(path, options.seed))?;
                outcomes.push(outcome);
            }
            Err(error) => {
                println!("{:<5}  FAILED        {error:#}", row.number);
                failed += 1;
            }
        }
    }
    summarise(&outcomes, failed);
    if as_json {
        outcomes.iter().for_each(|outcome| println!("{}", outcome.json()));
    }
    Ok(failed == 0 && outcomes.iter().all(|outcome| matches!(outcome.verdict, Verdict::Held | Verdict::NotHere)))
}

/// How the services were built. A folder that is named for them holds optimised ones.
fn build() -> &'static str {
    let named = std::env::var_os(crate::cluster::PROGRAMS).is_some();
    if cfg!(debug_assertions) && !named { "unoptimised" } else { "release" }
}

/// Runs one row.
///
/// # Errors
/// When it cannot be set up or looked at; a broken promise is no error.
pub async fn run_row(row: &'static Row, size: Size, seed: u64, bars_count: bool) -> Result<Outcome> {
    let Size { seconds, triggers } = size;
    let plan = Plan { seed, seconds, triggers, redis: true, goes_on: row.goes_on, bars_count };
    let begun = Instant::now();
    let seen = (row.run)(plan).await.with_context(|| format!("run row {} with seed {seed}", row.number))?;
    let verdict = seen.verdict(bars_count);
    Ok(Outcome { row, seen, verdict, plan, took_s: begun.elapsed().as_secs_f64() })
}

impl Outcome {
    /// Appends it to a file of results.
    fn record(&self, path: &Path, seed: u64) -> Result<()> {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
        let at = jiff::Timestamp::now().to_string();
        let line = json!({ "at": at, "machine": machine(), "build": build(), "seed": seed, "faults": [self.json()] });
        writeln!(file, "{line}").with_context(|| format!("write {}", path.display()))
    }

    fn json(&self) -> Value {
        json!({
            "row": self.row.number, "fault": self.row.fault, "promise": self.row.promise,
            "verdict": self.verdict.to_string(), "seed": self.plan.seed, "seconds": self.plan.seconds,
            "triggers": self.plan.triggers, "took_s": self.took_s.round(), "seen": self.seen.json(),
        })
    }
}

/// Prints one row.
pub fn print(outcome: &Outcome) {
    let Outcome { row, seen, verdict, plan, took_s } = outcome;
    println!("{:<5}  {verdict:<12}  {}  (seed {}, {took_s:.0} s)", row.number, row.fault, plan.seed);
    println!("       promised: {}", row.promise);
    print!("{seen}");
}

fn summarise(outcomes: &[Outcome], failed: u64) {
    let count = |verdict| outcomes.iter().filter(|outcome| outcome.verdict == verdict).count();
    let firings: u64 = outcomes.iter().map(|outcome| outcome.seen.firings).sum();
    let acknowledged: u64 = outcomes.iter().map(|outcome| outcome.seen.acknowledged).sum();
    println!(
        "{} rows held, {} broken, {} missed a bar, {} did not bite, {} not here, {failed} could not be run; {firings} logical \
         times, {acknowledged} calls",
        count(Verdict::Held),
        count(Verdict::Broken),
        count(Verdict::Missed),
        count(Verdict::DidNotBite),
        count(Verdict::NotHere),
    );
}
