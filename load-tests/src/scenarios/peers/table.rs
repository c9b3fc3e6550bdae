//! One table of all systems: each figure, and how many times Orrery's it is.

use super::{Measured, Work};
use crate::report::percentile;
use anyhow::Result;
use load_tests::record::machine;
use serde_json::{Value, json};
use std::{fs::OpenOptions, io::Write, path::Path};

/// Figures by the names that programs give them, what heads their column, and which part of the samples is told.
const FIGURES: [(&str, &str, f64); 6] = [
    ("chain", "chain of 40", 0.5),
    ("fan_out", "fan-out of 40", 0.5),
    ("runs", "20 runs, by run", 0.5),
    ("first_line", "call to 1st line", 0.5),
    ("cron", "cron late, p50", 0.5),
    ("cron", "cron late, worst", 1.0),
];

fn figure(measured: &Measured, (name, _, share): (&str, &str, f64)) -> Option<f64> {
    let mut samples = measured.seconds.get(name).filter(|samples| !samples.is_empty())?.clone();
    Some(percentile(&mut samples, share))
}

/// Prints the table, and with `as_json` a line for each system after it.
pub(super) fn print(rows: &[(&str, Measured)], as_json: bool) {
    let heads: Vec<String> = FIGURES.iter().map(|(_, head, _)| format!("{head:>18}")).collect();
    println!("{:<42}{}{:>10}{:>8}", "seconds (times Orrery's)", heads.concat(), "idle MB", "idle %");
    let base = rows.first().map(|(_, measured)| measured.clone()).unwrap_or_default();
    for (label, measured) in rows {
        let cells = FIGURES.iter().map(|of| format!("{:>18}", cell(figure(measured, *of), figure(&base, *of))));
        let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.1}"));
        let (memory, cpu) = (number(measured.idle_mb), number(measured.idle_cpu_percent));
        println!("{label:<42}{}{memory:>10}{cpu:>8}", cells.collect::<String>());
        if let Some(why) = &measured.failed {
            println!("    could not be measured in full: {why}");
        }
    }
    if as_json {
        rows.iter().for_each(|row| println!("{}", line(row, &base)));
    }
}

fn cell(value: Option<f64>, base: Option<f64>) -> String {
    let Some(value) = value else { return "–".to_owned() };
    let ratio = base.map(|base| value / base);
    let times = ratio.map_or_else(String::new, |ratio| format!(" ({ratio:.*}×)", usize::from(ratio < 10.0)));
    format!("{value:.*}{times}", if value < 1.0 { 3 } else { 1 })
}

/// Appends one line to a file, with the machine.
pub(super) fn record(path: &Path, work: &Work, rows: &[(&str, Measured)]) -> Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let base = rows.first().map(|(_, measured)| measured.clone()).unwrap_or_default();
    let peers: Vec<Value> = rows.iter().map(|row| line(row, &base)).collect();
    let at = jiff::Timestamp::now().to_string();
    writeln!(file, "{}", json!({ "at": at, "machine": machine(), "work": work, "peers": peers }))?;
    Ok(())
}

fn line((label, measured): &(&str, Measured), base: &Measured) -> Value {
    let round = |value: f64| (value * 10_000.0).round() / 10_000.0;
    let figures = FIGURES.iter().filter_map(|of| {
        let value = figure(measured, *of)?;
        let ratio = figure(base, *of).map(|base| round(value / base));
        Some(json!({ "figure": of.1, "seconds": round(value), "ratio": ratio }))
    });
    json!({
        "system": label, "figures": figures.collect::<Vec<_>>(), "idle_mb": measured.idle_mb.map(round),
        "idle_cpu_percent": measured.idle_cpu_percent.map(round), "failed": measured.failed,
    })
}
