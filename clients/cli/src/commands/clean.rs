//! `orrery clean`: outputs of ended runs go, while the runs stay; or days of log lines.

use crate::{
    connection::{Connection, UPLOAD_TIMEOUT},
    failure::{Code, Result},
    render::{
        Output, bytes,
        style::Style,
        table::{self, Tone},
        time,
    },
};
use proto::v1::{CleanLogsRequest, CleanLogsResponse, CleanOutputsRequest, CleanOutputsResponse, CleanedPipeline};
use rpc::client;

/// Requests of one cleaning.
const REQUESTS_MAX: usize = 1_000;

/// Removes, or says what would be removed.
pub(crate) async fn run(
    connection: &Connection,
    output: &Output,
    pipeline: String,
    before: Option<jiff::Timestamp>,
    dry_run: bool,
) -> Result<Code> {
    let before = before.map(rpc::timestamp::to_proto);
    let request = CleanOutputsRequest { workspace: connection.workspace.clone(), pipeline, before, dry_run };
    let mut outputs = connection.outputs();
    let mut answer: Option<CleanOutputsResponse> = None;
    for _ in 0..REQUESTS_MAX {
        let next = outputs.clean_outputs(client::within(UPLOAD_TIMEOUT, request.clone())).await?.into_inner();
        let more = next.more;
        // The first answer counts everything; the next ones only what was left.
        let all = answer.get_or_insert(next);
        all.more = more;
        if !more {
            break;
        }
    }
    let answer = answer.unwrap_or_default();
    output.answer("orrery.v1.CleanOutputsResponse", &answer, || shown(&answer, dry_run, output.style))?;
    Ok(Code::Ok)
}

/// Drops old days of log lines, or says which ones would go.
pub(crate) async fn logs(
    connection: &Connection,
    output: &Output,
    before: Option<jiff::Timestamp>,
    dry_run: bool,
) -> Result<Code> {
    let request = CleanLogsRequest { before: before.map(rpc::timestamp::to_proto), dry_run };
    let answer = connection.logs().clean_logs(client::within(UPLOAD_TIMEOUT, request)).await?.into_inner();
    output.answer("orrery.v1.CleanLogsResponse", &answer, || shown_days(&answer, dry_run, output.style))?;
    Ok(Code::Ok)
}

fn shown_days(answer: &CleanLogsResponse, dry_run: bool, style: Style) -> String {
    if answer.days.is_empty() {
        let before = time::instant(answer.before.as_ref()).map(|at| format!("{at:.0}")).unwrap_or_default();
        return format!("there is no day of log lines wholly before {before}");
    }
    let mut table = table::new(style, &["day", "size"]);
    for day in &answer.days {
        table.add_row([table::cell(&day.day, Tone::Plain), table::number(bytes(day.size_bytes))]);
    }
    let size = bytes(answer.days.iter().map(|day| day.size_bytes).sum());
    let verb = if dry_run { "would remove" } else { "removed" };
    let days = i64::try_from(answer.days.len()).unwrap_or(i64::MAX);
    format!("{table}\n{verb} {} of log lines, {size}", many(days, "day"))
}

fn many(count: i64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn shown(answer: &CleanOutputsResponse, dry_run: bool, style: Style) -> String {
    let touched: Vec<&CleanedPipeline> =
        answer.pipelines.iter().filter(|p| p.runs > 0 || p.kept_unfinished > 0).collect();
    let mut table = table::new(style, &["pipeline", "runs", "outputs", "ended before", ""]);
    for pipeline in &touched {
        let kept = match pipeline.kept_unfinished {
            0 => String::new(),
            kept => format!("{kept} unfinished kept"),
        };
        let before = time::instant(pipeline.before.as_ref()).map(|at| format!("{at:.0}")).unwrap_or_default();
        table.add_row([
            table::cell(&pipeline.pipeline, Tone::Plain),
            table::number(pipeline.runs),
            table::number(bytes(pipeline.size_bytes)),
            table::cell(before, Tone::Dim),
            table::cell(kept, Tone::Dim),
        ]);
    }
    let (runs, size) = touched.iter().fold((0, 0), |(runs, size), p| (runs + p.runs, size + p.size_bytes));
    let said = match (runs, dry_run) {
        (0, _) => "nothing to remove".to_owned(),
        (_, true) => format!(
            "would remove the outputs of {}, {}; then a retry is a whole new run",
            many(runs, "run"),
            bytes(size)
        ),
        (_, false) => format!(
            "the outputs of {}, {}, go within minutes; from now on a retry is a whole new run",
            many(runs, "run"),
            bytes(size)
        ),
    };
    if touched.is_empty() { said } else { format!("{}\n{said}", table::text(&table, "")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_and_what_stays_is_said() {
        let plain = Style { colour: false };
        let mut answer = CleanOutputsResponse::default();
        assert_eq!(shown(&answer, false, plain), "nothing to remove");
        answer.pipelines = vec![
            CleanedPipeline { pipeline: "daily".into(), runs: 3, size_bytes: 1_024, kept_unfinished: 1, before: None },
            CleanedPipeline { pipeline: "idle".into(), ..CleanedPipeline::default() },
        ];
        let text = shown(&answer, true, plain);
        assert!(text.contains("1 unfinished kept") && !text.contains("idle"), "{text}");
        assert!(text.ends_with("would remove the outputs of 3 runs, 1.0 KiB; then a retry is a whole new run"));
        answer.pipelines[0].runs = 1;
        assert!(shown(&answer, false, plain).contains("the outputs of 1 run, 1.0 KiB, go within minutes"));
    }
}
