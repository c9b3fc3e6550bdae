//! Figures, each beside its floor and its bar.

use anyhow::Result;
use load_tests::record::machine;
use serde_json::{Value, json};
use std::{fs::OpenOptions, io::Write, path::Path};

/// Which side of the bar is good.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bar {
    /// The ratio must not exceed it.
    AtMost(f64),
    /// The ratio must reach it.
    AtLeast(f64),
    /// The figure itself must not exceed it.
    FigureAtMost(f64),
    /// The figure itself must reach it.
    FigureAtLeast(f64),
    /// Nothing is asked of it.
    Told,
}

/// Held or missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// On the good side.
    Held,
    /// On the other one.
    Missed,
}

/// One measured number.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) name: &'static str,
    /// How much.
    pub(crate) figure: f64,
    /// Of what.
    pub(crate) unit: &'static str,
    /// The same of the bare thing, in the same run.
    pub(crate) floor: f64,
    /// What the floor is.
    pub(crate) floor_is: &'static str,
    /// How good it has to be.
    pub(crate) bar: Bar,
}

impl Figure {
    /// Figure over floor.
    pub(crate) fn ratio(&self) -> f64 {
        self.figure / self.floor
    }

    /// Whether the bar is held.
    pub(crate) fn verdict(&self) -> Verdict {
        let held = match self.bar {
            Bar::AtMost(bar) => self.ratio() <= bar,
            Bar::AtLeast(bar) => self.ratio() >= bar,
            Bar::FigureAtMost(bar) => self.figure <= bar,
            Bar::FigureAtLeast(bar) => self.figure >= bar,
            Bar::Told => true,
        };
        if held { Verdict::Held } else { Verdict::Missed }
    }

    fn bar(&self) -> (f64, String) {
        match self.bar {
            Bar::AtMost(bar) => (bar, format!("ratio ≤ {bar}")),
            Bar::AtLeast(bar) => (bar, format!("ratio ≥ {bar}")),
            Bar::FigureAtMost(bar) => (bar, format!("≤ {bar} {}", self.unit)),
            Bar::FigureAtLeast(bar) => (bar, format!("≥ {bar} {}", self.unit)),
            Bar::Told => (f64::NAN, "–".to_owned()),
        }
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name, "figure": round(self.figure), "unit": self.unit, "floor": round(self.floor),
            "ratio": round(self.ratio()), "bar": self.bar().0, "ok": self.verdict() == Verdict::Held,
        })
    }
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Prints a table, and with `json` one line per figure after it.
pub(crate) fn print(figures: &[Figure], json: bool) {
    println!("{:<34} {:>12} {:>12} {:>7}  {:<14} {:<6} floor is", "figure", "measured", "floor", "ratio", "bar", "");
    for f in figures {
        let (measured, floor) = (format!("{:.2}", f.figure), format!("{:.2}", f.floor));
        let held = if f.verdict() == Verdict::Held { "held" } else { "MISSED" };
        let name = format!("{} ({})", f.name, f.unit);
        println!(
            "{name:<34} {measured:>12} {floor:>12} {:>7.2}  {:<14} {held:<6} {}",
            f.ratio(),
            f.bar().1,
            f.floor_is
        );
    }
    if json {
        for figure in figures {
            println!("{}", figure.json());
        }
    }
}

/// Appends the figures to a file, with the machine.
pub(crate) fn record(path: &Path, figures: &[Figure]) -> Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let figures: Vec<Value> = figures.iter().map(Figure::json).collect();
    writeln!(
        file,
        "{}",
        json!({ "at": jiff::Timestamp::now().to_string(), "machine": machine(), "figures": figures })
    )?;
    Ok(())
}

/// The value below which this share of the samples lies.
pub(crate) fn percentile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_unstable_by(f64::total_cmp);
    let last = samples.len().saturating_sub(1);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index between 0 and last")]
    let at = (last as f64 * share).round() as usize;
    samples.get(at).copied().unwrap_or(f64::NAN)
}
