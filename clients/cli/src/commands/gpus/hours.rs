//! `orrery gpus usage --by`.

use crate::{
    arguments::gpus::{By, Usage},
    commands::workspaces::gpus,
    connection::{Connection, PAGE_SIZE},
    failure::Result,
    render::{
        Output,
        table::{self, Tone},
    },
};
use proto::v1::{GpuUsage, GpuUsageGrouping, ListGpuUsageRequest, ListGpuUsageResponse};

/// Milli-GPU times seconds of a hundredth of a GPU-hour.
const HUNDREDTH: i64 = 36_000;

/// Shows who had how many GPU-hours: whoever had most comes first, or the first day.
pub(super) async fn show(connection: &Connection, output: &Output, asked: Usage) -> Result<()> {
    let request = ListGpuUsageRequest {
        project: asked.project.unwrap_or_default(),
        since: asked.since.map(rpc::timestamp::to_proto),
        until: asked.until.map(rpc::timestamp::to_proto),
        group_by: asked.by.iter().map(|by| grouping(*by).into()).collect(),
        page_size: PAGE_SIZE,
        page_token: String::new(),
    };
    let mut usage = pages!(connection.gpu_usage(), list_gpu_usage, request, usage);
    if asked.by.contains(&By::Day) {
        usage.sort_by(|a, b| a.day.cmp(&b.day).then(b.gpu_milli_seconds.cmp(&a.gpu_milli_seconds)));
    } else {
        usage.sort_by_key(|line| std::cmp::Reverse(line.gpu_milli_seconds));
    }
    let all = ListGpuUsageResponse { usage, next_page_token: String::new() };
    output.answer("orrery.v1.ListGpuUsageResponse", &all, || text(&all.usage, &asked.by, output))
}

fn grouping(by: By) -> GpuUsageGrouping {
    match by {
        By::Project => GpuUsageGrouping::Project,
        By::Queue => GpuUsageGrouping::Queue,
        By::Person => GpuUsageGrouping::Person,
        By::Workspace => GpuUsageGrouping::Workspace,
        By::Model => GpuUsageGrouping::Model,
        By::Day => GpuUsageGrouping::Day,
    }
}

/// How a column is called, and where it is found.
fn column(by: By) -> (&'static str, fn(&GpuUsage) -> &str) {
    match by {
        By::Project => ("project", |line| &line.project),
        By::Queue => ("queue", |line| &line.queue),
        By::Person => ("person", |line| &line.person),
        By::Workspace => ("workspace", |line| &line.workspace),
        By::Model => ("model", |line| &line.model),
        By::Day => ("day", |line| &line.day),
    }
}

fn text(usage: &[GpuUsage], by: &[By], output: &Output) -> String {
    let columns: Vec<_> = by.iter().map(|by| column(*by)).collect();
    let headings: Vec<&str> = columns.iter().map(|(name, _)| *name).chain(["GPU-hours", "lives", "held now"]).collect();
    let mut table = table::new(output.style, &headings);
    for line in usage {
        let cell = |text: &str| table::cell(if text.is_empty() { "–" } else { text }, Tone::Plain);
        let mut row: Vec<_> = columns.iter().map(|(_, of)| cell(of(line))).collect();
        row.push(table::number(gpu_hours(line.gpu_milli_seconds)));
        row.push(table::number(line.lives));
        row.push(table::number(gpus(line.held_gpu_milli)));
        table.add_row(row);
    }
    let sum = usage.iter().map(|line| line.gpu_milli_seconds).fold(0, i64::saturating_add);
    let text = table::text(&table, "nobody held a GPU in this time, as far as you may see");
    if usage.len() > 1 { format!("{text}\n\n{} GPU-hours in all", gpu_hours(sum)) } else { text }
}

/// With two digits, rounded.
fn gpu_hours(milli_seconds: i64) -> String {
    let hundredths = milli_seconds.saturating_add(HUNDREDTH / 2) / HUNDREDTH;
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        arguments::{Arguments, Command, gpus::Gpus},
        render::style::Style,
    };
    use clap::Parser;

    #[test]
    fn hours_are_told_with_two_digits() {
        for (milli_seconds, text) in [(0, "0.00"), (18_000, "0.01"), (3_600_000, "1.00"), (9_018_000_000, "2505.00")] {
            assert_eq!(gpu_hours(milli_seconds), text);
        }
    }

    #[test]
    fn a_line_has_what_it_was_asked_by_and_all_have_a_sum() {
        let output = Output { json: false, style: Style { colour: false } };
        let line = |person: &str, gpu_milli_seconds, held_gpu_milli| GpuUsage {
            person: person.into(),
            model: "A10".into(),
            gpu_milli_seconds,
            lives: 2,
            held_gpu_milli,
            ..GpuUsage::default()
        };
        let by = [By::Model, By::Person];
        let shown = text(&[line("ada@example.org", 7_200_000, 500), line("", 900_000, 0)], &by, &output);
        let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["model", "person", "GPU-hours", "lives", "held", "now"]);
        assert_eq!(lines[1], ["A10", "ada@example.org", "2.00", "2", "0.5"]);
        assert_eq!(lines[2], ["A10", "–", "0.25", "2", "0"]);
        assert!(shown.ends_with("2.25 GPU-hours in all"), "{shown}");
        assert!(text(&[], &by, &output).starts_with("nobody held a GPU"));
    }

    #[test]
    fn times_and_projects_need_something_to_tell_apart() {
        let parse = |more: &str| Arguments::try_parse_from(format!("orrery gpus usage {more}").split_whitespace());
        let Command::Gpus { act: Some(Gpus::Usage(asked)) } =
            parse("--by project,day --since 2026-01-02").unwrap().command
        else {
            panic!("it is another command")
        };
        assert_eq!(asked.by, [By::Project, By::Day]);
        assert_eq!(asked.since.unwrap().to_string(), "2026-01-02T00:00:00Z");
        assert!(parse("--hours 12 --pool a").is_ok());
        for wrong in ["--since 30d", "--project acme", "--by day --hours 12", "--by day --pool a", "--by size"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
