//! `orrery monitor`.

use crate::{
    arguments::Monitor,
    connection::{CALL_TIMEOUT, Connection},
    failure::{Code, Result},
    render::{
        Output,
        table::{self, Tone},
        time,
    },
};
use comfy_table::Cell;
use jiff::{SignedDuration, Timestamp, ToSpan, tz::TimeZone};
use proto::v1::{
    DayStatistics, Durations, GetBlockStatisticsRequest, GetBlockStatisticsResponse, GetRunStatisticsRequest,
    GetRunStatisticsResponse, RunGrouping, Statistics,
};
use rpc::client;

/// Shows what became of runs, or of blocks.
pub(crate) async fn run(connection: &Connection, output: &Output, options: Monitor) -> Result<Code> {
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let first_day = today.checked_sub((i32::from(options.days) - 1).days()).unwrap_or(today).to_string();
    let workspace = connection.workspace.clone();
    let pipeline = options.pipeline.clone().unwrap_or_default();
    if options.blocks {
        let request =
            GetBlockStatisticsRequest { workspace, pipeline, first_day, by_block: true, ..Default::default() };
        let request = client::within(CALL_TIMEOUT, request);
        let answer = connection.monitor().get_block_statistics(request).await?.into_inner();
        output.answer("orrery.v1.GetBlockStatisticsResponse", &answer, || of_blocks(&answer, &options, output))?;
        return Ok(Code::Ok);
    }
    let group_by = if pipeline.is_empty() { RunGrouping::Pipeline } else { RunGrouping::Trigger };
    let request =
        GetRunStatisticsRequest { workspace, pipeline, first_day, group_by: group_by.into(), ..Default::default() };
    let answer = connection.monitor().get_run_statistics(client::within(CALL_TIMEOUT, request)).await?.into_inner();
    output.answer("orrery.v1.GetRunStatisticsResponse", &answer, || of_runs(&answer, &options, output))?;
    Ok(Code::Ok)
}

fn of_runs(answer: &GetRunStatisticsResponse, options: &Monitor, output: &Output) -> String {
    let name = if options.pipeline.is_some() { "trigger" } else { "pipeline" };
    let headings =
        [name, "day", "completed", "failed", "cancelled", "failed %", "p50", "p95", "longest", "late p95", "latest"];
    let cells = |day: &DayStatistics| {
        let lateness = day.lateness.as_ref();
        let mut cells = counts(day, &["completed", "failed", "cancelled"]);
        cells.push(share(day));
        cells.extend(durations(day.durations.as_ref()));
        cells.push(span(lateness.and_then(|d| d.p95.as_ref())));
        cells.push(span(lateness.and_then(|d| d.longest.as_ref())));
        cells
    };
    let name = |s: &Statistics| if options.pipeline.is_some() { s.name.clone() } else { s.pipeline.clone() };
    let mut text = rows(&answer.statistics, &headings, options, output, name, cells);
    let unfinished: i64 = answer.unfinished.iter().map(|u| u.runs).sum();
    if unfinished > 0 {
        text = format!("{text}\n\n{unfinished} not ended yet");
    }
    with_note(text, answer.cut)
}

fn of_blocks(answer: &GetBlockStatisticsResponse, options: &Monitor, output: &Output) -> String {
    let headings = ["block", "day", "completed", "failed", "cancelled", "skipped", "failed %", "p50", "p95", "longest"];
    let cells = |day: &DayStatistics| {
        let mut cells = counts(day, &["completed", "failed", "cancelled"]);
        let skipped: i64 = ["upstream_failed", "condition_failed"].iter().map(|s| count(day, s)).sum();
        cells.push(table::number(skipped));
        cells.push(share(day));
        cells.extend(durations(day.durations.as_ref()));
        cells
    };
    let name = |s: &Statistics| {
        if options.pipeline.is_some() { s.name.clone() } else { format!("{}/{}", s.pipeline, s.name) }
    };
    with_note(rows(&answer.statistics, &headings, options, output, name, cells), answer.cut)
}

fn rows(
    statistics: &[Statistics],
    headings: &[&str],
    options: &Monitor,
    output: &Output,
    name: impl Fn(&Statistics) -> String,
    cells: impl Fn(&DayStatistics) -> Vec<Cell>,
) -> String {
    let headings: Vec<&str> = headings.iter().copied().filter(|h| options.by_day || *h != "day").collect();
    let mut table = table::new(output.style, &headings);
    for thing in statistics {
        let days: Vec<&DayStatistics> =
            if options.by_day { thing.days.iter().collect() } else { thing.total.iter().collect() };
        for day in days {
            let mut row = vec![table::cell(name(thing), Tone::Plain)];
            if options.by_day {
                row.push(table::cell(&day.day, Tone::Dim));
            }
            row.extend(cells(day));
            table.add_row(row);
        }
    }
    table::text(&table, "nothing ended in these days")
}

fn count(day: &DayStatistics, status: &str) -> i64 {
    day.count_by_status.get(status).copied().unwrap_or(0)
}

fn counts(day: &DayStatistics, statuses: &[&str]) -> Vec<Cell> {
    let cell = |status: &&str| {
        let n = count(day, status);
        let tone = match (*status, n) {
            (_, 0) => Tone::Dim,
            ("failed", _) => Tone::Bad,
            ("completed", _) => Tone::Good,
            _ => Tone::Plain,
        };
        table::cell(n, tone).set_alignment(comfy_table::CellAlignment::Right)
    };
    statuses.iter().map(cell).collect()
}

fn share(day: &DayStatistics) -> Cell {
    let failed = count(day, "failed");
    let timed = failed + count(day, "completed");
    let share = if timed == 0 { String::new() } else { format!("{:.1}", 100.0 * failed as f64 / timed as f64) };
    table::number(share)
}

fn durations(durations: Option<&Durations>) -> Vec<Cell> {
    let of = |pick: fn(&Durations) -> Option<&prost_types::Duration>| span(durations.and_then(pick));
    vec![of(|d| d.p50.as_ref()), of(|d| d.p95.as_ref()), of(|d| d.longest.as_ref())]
}

fn span(duration: Option<&prost_types::Duration>) -> Cell {
    let text = duration.map(|d| time::duration(SignedDuration::new(d.seconds, d.nanos)));
    table::number(text.unwrap_or_default())
}

fn with_note(text: String, cut: bool) -> String {
    if !cut {
        return text;
    }
    format!("{text}\n\nThere is more than is added up at once; ask for fewer --days, or for one pipeline.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::style::Style;

    #[test]
    fn a_table_says_what_became_of_runs() {
        let day = DayStatistics {
            day: "2026-01-31".into(),
            count_by_status: [("completed".into(), 3), ("failed".into(), 1)].into(),
            durations: Some(Durations {
                count: 4,
                p50: Some(prost_types::Duration { seconds: 2, nanos: 0 }),
                ..Default::default()
            }),
            lateness: None,
        };
        let statistics = vec![Statistics {
            pipeline: "nightly".into(),
            total: Some(day.clone()),
            days: vec![day],
            ..Default::default()
        }];
        let answer = GetRunStatisticsResponse { statistics, ..Default::default() };
        let output = Output { json: false, style: Style { colour: false } };
        let options = |by_day| Monitor { pipeline: None, days: 30, by_day, blocks: false };
        let shown = of_runs(&answer, &options(false), &output);
        let row = shown.lines().last().unwrap().split_whitespace().collect::<Vec<_>>();
        assert_eq!(row, ["nightly", "3", "1", "0", "25.0", "2.0", "s"]);
        assert!(of_runs(&answer, &options(true), &output).contains("2026-01-31"));
    }
}
