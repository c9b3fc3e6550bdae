//! What recorded rows add up to, as a table for people. Refuses to judge: each line carries the verdict of its run.

use super::{ROWS, seen::OF_TWO_BUILDS};
use anyhow::{Context, Result};
use serde_json::Value;
use std::{fmt::Write, path::Path};

/// Verdicts of runs whose firings show nothing, and what is said of such runs.
const UNCOUNTED: [(&str, &str); 2] = [("BROKEN", "broke"), ("DID NOT BITE", "did not bite")];

/// The table of a file of results: of each row its latest run, the firings of every run of it that lost and doubled nothing
/// though its fault bit, and how many runs there were, with those that broke a promise or proved nothing. What began with an
/// earlier build is told apart.
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
    for (row, is_upgrade) in ROWS.iter().flat_map(|row| [(row, false), (row, true)]) {
        let of_row: Vec<_> =
            runs.iter().filter(|(run, ..)| run["row"] == row.number && is_of_two_builds(run) == is_upgrade).collect();
        let Some((last, load, _)) = of_row.last() else { continue };
        let sum = |key: &str| -> u64 {
            let safe =
                of_row.iter().filter(|(run, ..)| UNCOUNTED.iter().all(|(verdict, _)| run["verdict"] != *verdict));
            safe.filter_map(|(run, ..)| run["seen"][key].as_u64()).sum()
        };
        firings += sum("firings");
        calls += sum("acknowledged");
        let load = load.split(' ').next().unwrap_or_default();
        let mut runs = of_row.len().to_string();
        for (verdict, what) in UNCOUNTED {
            let count = of_row.iter().filter(|(run, ..)| run["verdict"] == verdict).count();
            if count > 0 {
                write!(runs, ", {count} {what}")?;
            }
        }
        let builds = if is_upgrade { ", of two builds" } else { "" };
        writeln!(
            table,
            "| {}{builds} | {} | {} | {} | {} | {runs} | {load} |",
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

fn is_of_two_builds(run: &Value) -> bool {
    run["seen"]["measured"].as_array().into_iter().flatten().any(|measured| measured["name"] == OF_TWO_BUILDS)
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(verdict: &str, told: &str) -> String {
        let measured =
            json!([{ "name": told, "figure": 1.0, "unit": "", "at_most": null, "at_least": null, "ok": true }]);
        let seen = json!({ "bites": [], "measured": measured, "broken": [], "firings": 10, "acknowledged": 1 });
        let run = json!({ "row": "19", "verdict": verdict, "seen": seen });
        json!({ "machine": { "load": "0.50" }, "build": "release", "faults": [run] }).to_string()
    }

    #[test]
    fn what_did_not_bite_is_not_counted_and_two_builds_are_told_apart() -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        let lines = [line("held", "longest drain"), line("DID NOT BITE", ""), line("held", OF_TWO_BUILDS)];
        std::fs::write(file.path(), lines.join("\n"))?;
        let table = of(file.path())?;
        for part in [
            "\n| 19 | ",
            "| did not bite | 10 | 2, 1 did not bite | 0.50 |\n| 19, of two builds | ",
            "| held | 10 | 1 | 0.50 |\n",
            "\n20 firings and 2 acknowledged calls in all.",
        ] {
            assert!(table.contains(part), "{part:?} is not in {table}");
        }
        Ok(())
    }
}
