//! What one row of the matrix saw, and the verdict that follows from it.

use serde_json::{Value, json};
use std::fmt;

/// What a row says that began with the programs of an earlier build.
pub(super) const OF_TWO_BUILDS: &str = "of two builds";

/// How a row ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The fault bit, and everything that was promised held.
    Held,
    /// Something that was promised did not hold.
    Broken,
    /// Nothing was lost or doubled, but it took longer, or more, than was promised.
    Missed,
    /// Nothing shows that the fault did anything: such a run proves nothing, and counts as failed.
    DidNotBite,
    /// What the row is about is not there yet.
    NotHere,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Held => "held",
            Self::Broken => "BROKEN",
            Self::Missed => "MISSED",
            Self::DidNotBite => "DID NOT BITE",
            Self::NotHere => "not here",
        })
    }
}

/// A number with its bar.
#[derive(Debug, Clone)]
pub struct Measured {
    /// What was measured.
    pub name: String,
    /// How much.
    pub figure: f64,
    /// Of what.
    pub unit: &'static str,
    /// It must not be more; `None` where it is only told.
    pub at_most: Option<f64>,
    /// It must not be less.
    pub at_least: Option<f64>,
}

impl Measured {
    /// Whether the bar is held.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.at_most.is_none_or(|most| self.figure <= most) && self.at_least.is_none_or(|least| self.figure >= least)
    }
}

/// What one row saw.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// What shows that the fault did something, and how often. One that is zero did not bite.
    pub bites: Vec<(String, u64)>,
    /// Numbers, some with bars.
    pub measured: Vec<Measured>,
    /// What was promised and did not hold.
    pub broken: Vec<String>,
    /// Why the row could not be run, where it could not.
    pub not_here: Option<String>,
    /// Where the services' logs are, when something went wrong.
    pub logs: Option<String>,
    /// Logical times that were decided.
    pub firings: u64,
    /// Calls that were acknowledged.
    pub acknowledged: u64,
}

impl Seen {
    /// A row whose subject is not there yet.
    #[must_use]
    pub fn not_here(why: &str) -> Self {
        Self { not_here: Some(why.to_owned()), ..Self::default() }
    }

    /// Notes what shows that the fault bit.
    pub fn bite(&mut self, what: &str, count: u64) {
        self.bites.push((what.to_owned(), count));
    }

    /// Notes a number without a bar.
    pub fn tell(&mut self, name: &str, figure: f64, unit: &'static str) {
        self.measured.push(Measured { name: name.to_owned(), figure, unit, at_most: None, at_least: None });
    }

    /// Notes a number that must not be more than `most`.
    pub fn at_most(&mut self, name: &str, figure: f64, unit: &'static str, most: f64) {
        self.measured.push(Measured { name: name.to_owned(), figure, unit, at_most: Some(most), at_least: None });
    }

    /// Notes a number that must not be less than `least`.
    pub fn at_least(&mut self, name: &str, figure: f64, unit: &'static str, least: f64) {
        self.measured.push(Measured { name: name.to_owned(), figure, unit, at_most: None, at_least: Some(least) });
    }

    /// Notes something that must hold.
    pub fn must(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(otherwise());
        }
    }

    /// What it adds up to. Bars count only where `bars_count`: an unoptimised build measures itself.
    #[must_use]
    pub fn verdict(&self, bars_count: bool) -> Verdict {
        if self.not_here.is_some() {
            return Verdict::NotHere;
        }
        if !self.broken.is_empty() {
            return Verdict::Broken;
        }
        if self.bites.is_empty() || self.bites.iter().any(|(_, count)| *count == 0) {
            return Verdict::DidNotBite;
        }
        if bars_count && self.measured.iter().any(|measured| !measured.is_held()) {
            return Verdict::Missed;
        }
        Verdict::Held
    }

    pub(super) fn json(&self) -> Value {
        let round = |figure: f64| (figure * 1000.0).round() / 1000.0;
        let measured = self.measured.iter().map(|m| {
            json!({ "name": m.name, "figure": round(m.figure), "unit": m.unit, "at_most": m.at_most, "at_least": m.at_least,
                    "ok": m.is_held() })
        });
        json!({
            "bites": self.bites.iter().map(|(what, count)| json!({ "what": what, "count": count })).collect::<Vec<_>>(),
            "measured": measured.collect::<Vec<_>>(),
            "broken": self.broken,
            "not_here": self.not_here,
            "firings": self.firings,
            "acknowledged": self.acknowledged,
        })
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(why) = &self.not_here {
            return writeln!(f, "       {why}");
        }
        writeln!(f, "       {} logical times decided, {} calls acknowledged", self.firings, self.acknowledged)?;
        for (what, count) in &self.bites {
            writeln!(f, "       bit: {what}: {count}")?;
        }
        for m in &self.measured {
            let bar = match (m.at_most, m.at_least) {
                (Some(most), _) => format!("  (at most {most})"),
                (_, Some(least)) => format!("  (at least {least})"),
                (None, None) => String::new(),
            };
            let missed = if m.is_held() { "" } else { "  MISSED" };
            writeln!(f, "       {}: {:.3} {}{bar}{missed}", m.name, m.figure, m.unit)?;
        }
        self.broken.iter().try_for_each(|broken| writeln!(f, "       BROKEN: {broken}"))?;
        self.logs.iter().try_for_each(|logs| writeln!(f, "       the services' logs are in {logs}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_did_nothing_proves_nothing() {
        let mut seen = Seen::default();
        assert_eq!(seen.verdict(true), Verdict::DidNotBite);
        seen.bite("kills", 3);
        assert_eq!(seen.verdict(true), Verdict::Held);
        seen.bite("writes that were refused", 0);
        assert_eq!(seen.verdict(true), Verdict::DidNotBite);
        seen.must(false, || "a firing is lost".to_owned());
        assert_eq!(seen.verdict(true), Verdict::Broken);
    }

    #[test]
    fn bars_count_where_they_are_to() {
        let mut seen = Seen::default();
        seen.bite("kills", 1);
        seen.at_most("lateness", 7.0, "s", 6.0);
        assert_eq!((seen.verdict(true), seen.verdict(false)), (Verdict::Missed, Verdict::Held));
    }
}
