//! What recorded rows add up to, as a table for people. Refuses to judge: each line carries the verdict of its run.

use super::ROWS;
use anyhow::{Context, Result};
use serde_json::Value;
use std::{fmt::Write, path::Path};

/// The table of a file of results: of each row its latest run, the firings of every run of it that lost and doubled nothing,
/// and how many runs there were, with those that broke a promise.
///
/// # Errors
/// When the file cannot be read or is none of results.
pub(super) fn of(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let mut runs = Vec::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).with_context(|| format!("read a line of {}", path.display()))?;
        let load = line["machine"]["load"].as_str().unwrap_or_default().to_owned();
        let build = line["build"].as_str().unwrap_or_default().to_owned();
        runs.extend(
            line["faults"].as_array().into_iter().flatten().cloned().map(|run| (run, load.clone(), build.clone())),
        );
    }
    let mut table = String::from(
        "| row | what is broken | promised | seen | firings, all runs | runs | load |\n|---|---|---|---|---|---|---|\n",
    );
    let (mut firings, mut calls) = (0, 0);
    for row in ROWS {
        let of_row: Vec<_> = runs.iter().filter(|(run, ..)| run["row"] == row.number).collect();
        let Some((last, load, _)) = of_row.last() else { continue };
        let sum = |key: &str| -> u64 {
            let safe = of_row.iter().filter(|(run, ..)| run["verdict"] != "BROKEN");
            safe.filter_map(|(run, ..)| run["seen"][key].as_u64()).sum()
        };
        firings += sum("firings");
        calls += sum("acknowledged");
        let load = load.split(' ').next().unwrap_or_default();
        let runs = match of_row.iter().filter(|(run, ..)| run["verdict"] == "BROKEN").count() {
            0 => of_row.len().to_string(),
            broke => format!("{}, {broke} broke", of_row.len()),
        };
        writeln!(
            table,
            "| {} | {} | {} | {} | {} | {runs} | {load} |",
            row.number,
            row.fault,
            row.promise,
            seen(last),
            sum("firings"),
        )?;
    }
    writeln!(table, "\n{firings} firings and {calls} acknowledged calls in all.")?;
    Ok(table)
}

/// The verdict, what bit, and the figures that have a bar.
fn seen(run: &Value) -> String {
    let verdict = run["verdict"].as_str().unwrap_or_default();
    let mut words = vec![match verdict {
        "MISSED" => "nothing lost or doubled, a bar missed".to_owned(),
        other => other.to_lowercase(),
    }];
    let list = |key: &str| run["seen"][key].as_array().into_iter().flatten();
    words.extend(list("bites").map(|bite| format!("{} {}", bite["count"], bite["what"].as_str().unwrap_or_default())));
    for figure in list("measured").filter(|figure| !figure["at_most"].is_null() || !figure["at_least"].is_null()) {
        let missed = if figure["ok"] == true { "" } else { " **missed**" };
        let (name, unit) = (figure["name"].as_str().unwrap_or_default(), figure["unit"].as_str().unwrap_or_default());
        words.push(format!("{name} {} {unit}{missed}", figure["figure"]));
    }
    words.extend(list("broken").filter_map(Value::as_str).map(str::to_owned));
    words.join("; ")
}
