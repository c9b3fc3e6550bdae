//! The judgement: nine checks, each with what it looked at and what it found.
//!
//! A check never passes in silence: it says how many things it looked at, and what it had to leave out and why. Whether
//! having looked at nothing is a failure is a promise of the history ([`super::Promises::must_check`]).

mod acceptance;
mod anytime;
mod backfills;
mod devices;
mod epochs;
mod firings;
mod forgotten;
mod liveness;
mod order;
mod overlap;
mod quiescence;
mod requests;

use super::{History, lines::Firing};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// The most violations of one check that are told one by one; all are counted.
pub const VIOLATIONS_MAX: usize = 50;

/// What is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "see Check::promise")]
pub enum Check {
    C1,
    C2,
    C3,
    C4,
    C5,
    C6,
    C7,
    C8,
    C9,
}

impl Check {
    /// What it decides, in a sentence.
    #[must_use]
    pub fn promise(self) -> &'static str {
        match self {
            Self::C1 => {
                "each logical time is decided exactly once, by the version in force, and what fired has one run"
            }
            Self::C2 => "each acknowledged request has exactly one run, each other one at most one",
            Self::C3 => {
                "at most one result of a unit counts, none of a former lease after a later one, and nothing begins before \
                 what it waits for"
            }
            Self::C4 => "no device is given away beyond its whole at any instant",
            Self::C5 => "a gang starts whole or not at all",
            Self::C6 => "runs overlap only where the trigger says so",
            Self::C7 => "what is due fires in time, and nothing waits without a reason",
            Self::C8 => "nothing runs that nobody knows of, and nothing counts as running that does not run",
            Self::C9 => "epochs only rise, and nothing of a former epoch is written",
        }
    }
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Nothing was found.
    Held,
    /// Something was found.
    Broken,
    /// There was nothing to look at.
    Idle,
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The trigger, run, attempt, shard or device.
    pub id: String,
    /// What is wrong with it.
    pub what: String,
}

/// The outcome of one check.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// Which.
    pub check: Check,
    /// How it ended.
    pub standing: Standing,
    /// How many of what were looked at, and figures that have no bound.
    pub checked: BTreeMap<String, u64>,
    /// The first [`VIOLATIONS_MAX`].
    pub violations: Vec<Violation>,
    /// All of them.
    pub violation_count: u64,
    /// What was left out, and why.
    pub left_out: Vec<String>,
}

/// The outcome of all.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// C1 to C9.
    pub verdicts: Vec<Verdict>,
    /// Lines that could not be read.
    pub unreadable_lines: u64,
}

impl Report {
    /// Whether no check is broken.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.verdicts.iter().all(|verdict| verdict.standing != Standing::Broken)
    }

    /// The verdict of one check.
    #[must_use]
    pub fn of(&self, check: Check) -> &Verdict {
        // All nine are there, in order.
        &self.verdicts[check as usize]
    }
}

/// Judges a history.
#[must_use]
pub fn check(history: &History) -> Report {
    let remembered = history.promises.forgotten_us.map(|span| forgotten::without(history, span));
    let history = remembered.as_ref().unwrap_or(history);
    let all: [fn(&History, &mut Findings); 9] = [
        firings::check,
        requests::check,
        acceptance::check,
        devices::check_shares,
        devices::check_gangs,
        overlap::check,
        liveness::check,
        quiescence::check,
        epochs::check,
    ];
    let names = [Check::C1, Check::C2, Check::C3, Check::C4, Check::C5, Check::C6, Check::C7, Check::C8, Check::C9];
    let verdicts = names.into_iter().zip(all).map(|(name, run)| {
        let mut findings = Findings::default();
        run(history, &mut findings);
        findings.conclude(name, history.promises.must_check.contains(&name))
    });
    Report { verdicts: verdicts.collect(), unreadable_lines: history.unreadable }
}

/// What a check has seen so far.
#[derive(Debug, Default)]
struct Findings {
    checked: BTreeMap<String, u64>,
    looked_at: u64,
    violations: Vec<Violation>,
    violation_count: u64,
    left_out: BTreeMap<String, u64>,
}

impl Findings {
    /// Looked at so many of these.
    fn looked(&mut self, at: &str, count: usize) {
        let count = count as u64;
        *self.checked.entry(at.to_owned()).or_default() += count;
        self.looked_at += count;
    }

    /// A figure that says nothing about right or wrong.
    fn figure(&mut self, name: &str, value: u64) {
        self.checked.insert(name.to_owned(), value);
    }

    fn violation(&mut self, id: impl ToString, what: impl Into<String>) {
        self.violation_count += 1;
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(Violation { id: id.to_string(), what: what.into() });
        }
    }

    fn leave_out(&mut self, why: impl Into<String>) {
        *self.left_out.entry(why.into()).or_default() += 1;
    }

    fn conclude(mut self, check: Check, must: bool) -> Verdict {
        if must && self.looked_at == 0 {
            self.violation("the history", "holds nothing that this check could look at, though it was meant to");
        }
        let standing = match (self.violation_count, self.looked_at) {
            (1.., _) => Standing::Broken,
            (0, 0) => Standing::Idle,
            (0, _) => Standing::Held,
        };
        let left_out = self.left_out.into_iter().map(|(why, count)| format!("{count} × {why}")).collect();
        Verdict {
            check,
            standing,
            checked: self.checked,
            violations: self.violations,
            violation_count: self.violation_count,
            left_out,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for verdict in &self.verdicts {
            let standing = match verdict.standing {
                Standing::Held => "held",
                Standing::Broken => "BROKEN",
                Standing::Idle => "idle",
            };
            writeln!(f, "{:?} {standing:<6} {}", verdict.check, verdict.check.promise())?;
            let checked: Vec<String> = verdict.checked.iter().map(|(what, count)| format!("{what} {count}")).collect();
            if !checked.is_empty() {
                writeln!(f, "   looked at: {}", checked.join(", "))?;
            }
            for left_out in &verdict.left_out {
                writeln!(f, "   left out: {left_out}")?;
            }
            for Violation { id, what } in &verdict.violations {
                writeln!(f, "   {id}: {what}")?;
            }
            let untold = verdict.violation_count.saturating_sub(verdict.violations.len() as u64);
            if untold > 0 {
                writeln!(f, "   and {untold} more")?;
            }
        }
        if self.unreadable_lines > 0 {
            writeln!(f, "{} lines of journals and logs could not be read", self.unreadable_lines)?;
        }
        Ok(())
    }
}

/// From when on a firing counts: its commit, or what is known to be before it.
fn counts_from_us(firing: &Firing) -> i64 {
    firing.committed_at_us.unwrap_or(firing.created_at_us)
}

/// An instant for people.
fn when(at_us: i64) -> String {
    jiff::Timestamp::from_microsecond(at_us).map_or_else(|_| format!("{at_us} µs"), |at| at.to_string())
}
