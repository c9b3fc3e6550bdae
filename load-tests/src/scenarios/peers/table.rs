//! One table of all systems: each figure, and how many times Orrery's it is.

use super::{Measured, Row, Work};
use crate::report::percentile;
use anyhow::Result;
use load_tests::record::machine;
use serde_json::{Value, json};
use std::{fs::OpenOptions, io::Write, path::Path};

/// Figures by the names that programs give them, what heads their column, and which part of the samples is told.
const COLUMNS: [(&str, &str, f64); 7] = [
    ("chain", "chain of 40", 0.5),
    ("fan_out", "fan-out of 40", 0.5),
    ("runs", "20 runs, by run", 0.5),
    ("first_line", "call to 1st line", 0.5),
    ("bulk", "in bulk, by task", 0.5),
    ("cron", "cron late, p50", 0.5),
    ("cron", "cron late, worst", 1.0),
];

fn figure(measured: &Measured, (name, _, share): (&str, &str, f64)) -> Option<f64> {
    let mut samples = measured.seconds.get(name).filter(|samples| !samples.is_empty())?.clone();
    Some(percentile(&mut samples, share))
}

/// Prints the table, and with `as_json` a line for each system after it.
pub(super) fn print(rows: &[Row], base: &Measured, as_json: bool) {
    let heads: Vec<String> = COLUMNS.iter().map(|(_, head, _)| format!("{head:>22}")).collect();
    println!("{:<40}{}{:>10}{:>8}", "seconds (times Orrery's)", heads.concat(), "idle MB", "idle %");
    for Row { label, note, measured } in rows {
        let cells = COLUMNS.iter().map(|of| format!("{:>22}", cell(figure(measured, *of), figure(base, *of))));
        let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.1}"));
        let (memory, cpu) = (number(measured.idle_mb), number(measured.idle_cpu_percent));
        println!("{label:<40}{}{memory:>10}{cpu:>8}", cells.collect::<String>());
        println!("    {note}");
        if let Some(why) = &measured.failed {
            println!("    could not be measured in full: {why}");
        }
    }
    if as_json {
        rows.iter().for_each(|row| println!("{}", line(row, base)));
    }
}

fn cell(value: Option<f64>, base: Option<f64>) -> String {
    let Some(value) = value else { return "–".to_owned() };
    base.map_or_else(|| told(value), |base| format!("{} ({}×)", told(value), told(value / base)))
}

/// Three digits that say something.
fn told(value: f64) -> String {
    let decimals = [10.0, 1.0, 0.1, 0.01, 0.001].iter().position(|bound| value >= *bound).unwrap_or(5) + 1;
    format!("{value:.decimals$}")
}

/// Appends one line to a file, with the machine.
pub(super) fn record(path: &Path, work: &Work, rows: &[Row], base: &Measured) -> Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let peers: Vec<Value> = rows.iter().map(|row| line(row, base)).collect();
    let at = jiff::Timestamp::now().to_string();
    writeln!(file, "{}", json!({ "at": at, "machine": machine(), "work": work, "peers": peers }))?;
    Ok(())
}

/// A system with its figures, the samples that they are of in the order in which they were taken, and what is missing.
fn line(Row { label, note, measured }: &Row, base: &Measured) -> Value {
    let round = |value: f64| (value * 1e6).round() / 1e6;
    let figures = COLUMNS.iter().filter_map(|of| {
        let value = figure(measured, *of)?;
        let ratio = figure(base, *of).map(|base| round(value / base));
        Some(json!({ "figure": of.1, "seconds": round(value), "ratio": ratio }))
    });
    let samples = measured.seconds.iter().map(|(name, seconds)| {
        let rounded: Vec<f64> = seconds.iter().copied().map(round).collect();
        (name.clone(), json!(rounded))
    });
    json!({
        "system": label, "note": note, "figures": figures.collect::<Vec<_>>(),
        "samples": samples.collect::<serde_json::Map<_, _>>(), "idle_mb": measured.idle_mb.map(round),
        "idle_cpu_percent": measured.idle_cpu_percent.map(round), "failed": measured.failed,
    })
}

#[cfg(test)]
mod tests {
    use super::{cell, told};

    #[test]
    fn small_and_large_values_keep_three_digits() {
        let seen = [77.04, 2.5, 0.128, 0.0321, 0.004_56, 0.000_081].map(told);
        assert_eq!(seen, ["77.0", "2.50", "0.128", "0.0321", "0.00456", "0.000081"]);
        assert_eq!(cell(Some(0.5), Some(2.0)), "0.500 (0.250×)");
        assert_eq!(cell(Some(0.5), None), "0.500");
        assert_eq!(cell(None, Some(2.0)), "–");
    }
}
