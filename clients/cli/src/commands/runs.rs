//! `orrery runs`.

use super::backfills;
use crate::{
    arguments::{Runs, Status},
    connection::{CALL_TIMEOUT, Connection, PAGE_SIZE},
    failure::{Code, Result},
    render::{
        Output, block, short_id,
        table::{self, Tone},
        time,
    },
};
use jiff::Timestamp;
use proto::v1::{ListRunsRequest, ListRunsResponse, Run, RunStatus};
use rpc::client;

/// Lists the newest runs.
pub(crate) async fn run(connection: &Connection, output: &Output, options: Runs) -> Result<Code> {
    let limit = usize::try_from(options.limit).unwrap_or(usize::MAX);
    let backfill_id = match options.backfill {
        Some(named) => backfills::find(connection, named).await?,
        None => String::new(),
    };
    let mut request = ListRunsRequest {
        workspace: connection.workspace.clone(),
        pipeline: options.pipeline.unwrap_or_default(),
        statuses: options.status.iter().map(|s| to_proto(*s).into()).collect(),
        trigger: options.trigger.unwrap_or_default(),
        backfill_id,
        ..ListRunsRequest::default()
    };
    let mut all = ListRunsResponse::default();
    loop {
        request.page_size = i32::try_from(limit - all.runs.len()).unwrap_or(PAGE_SIZE).min(PAGE_SIZE);
        request.page_token = std::mem::take(&mut all.next_page_token);
        let page = connection.runs().list_runs(client::within(CALL_TIMEOUT, request.clone())).await?.into_inner();
        all.runs.extend(page.runs);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() || all.runs.len() >= limit {
            break;
        }
    }
    let text = || table_of(&all.runs, nothing(&request), output, Timestamp::now());
    output.answer("orrery.v1.ListRunsResponse", &all, text)?;
    Ok(Code::Ok)
}

/// What an empty list means: there may be others than those that were asked for.
fn nothing(asked: &ListRunsRequest) -> &'static str {
    let asks_for_all = asked.pipeline.is_empty() && asked.statuses.is_empty() && asked.backfill_id.is_empty();
    if asks_for_all { "no runs; `orrery run PIPELINE` starts one" } else { "no such runs" }
}

fn to_proto(status: Status) -> RunStatus {
    match status {
        Status::Initial => RunStatus::Initial,
        Status::Running => RunStatus::Running,
        Status::Completed => RunStatus::Completed,
        Status::Failed => RunStatus::Failed,
        Status::Cancelled => RunStatus::Cancelled,
    }
}

fn started_by(run: &Run) -> String {
    if run.backfill_id.is_empty() {
        run.trigger.clone()
    } else {
        format!("backfill {}", block::one_line(&run.backfill))
    }
}

fn table_of(runs: &[Run], nothing: &str, output: &Output, now: Timestamp) -> String {
    let mut table =
        table::new(output.style, &["run", "pipeline", "status", "blocks", "started", "took", "started by", "reason"]);
    for run in runs {
        let (word, tone) = block::run_status(run.status());
        let started = time::instant(run.started_at.as_ref());
        let ended = time::instant(run.completed_at.as_ref());
        table.add_row([
            table::cell(short_id(&run.id), Tone::Plain),
            table::cell(&run.pipeline, Tone::Plain),
            table::cell(word, tone),
            table::number(format!("{}/{}", run.blocks_done, run.blocks_total)),
            table::cell(time::relative(started, now), Tone::Plain),
            table::number(time::span(started, ended, now)),
            table::cell(started_by(run), Tone::Dim),
            table::cell(block::one_line(&run.reason), Tone::Plain),
        ]);
    }
    table::text(&table, nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_runs_of_some_kind_are_not_no_runs() {
        let mut asked = ListRunsRequest { workspace: "default".into(), page_size: 20, ..ListRunsRequest::default() };
        assert!(nothing(&asked).starts_with("no runs; "));
        asked.statuses.push(RunStatus::Failed.into());
        assert_eq!(nothing(&asked), "no such runs");
        let asked = ListRunsRequest { pipeline: "p".into(), ..ListRunsRequest::default() };
        assert_eq!(nothing(&asked), "no such runs");
    }
}
