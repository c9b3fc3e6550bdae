//! `orrery runs`.

use crate::{
    arguments::Status,
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
pub(crate) async fn run(
    connection: &Connection,
    output: &Output,
    pipeline: String,
    statuses: &[Status],
    limit: u32,
) -> Result<Code> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let statuses: Vec<i32> = statuses.iter().map(|s| to_proto(*s).into()).collect();
    let mut all = ListRunsResponse::default();
    loop {
        let request = ListRunsRequest {
            workspace: connection.workspace.clone(),
            pipeline: pipeline.clone(),
            statuses: statuses.clone(),
            page_size: i32::try_from(limit - all.runs.len()).unwrap_or(PAGE_SIZE).min(PAGE_SIZE),
            page_token: std::mem::take(&mut all.next_page_token),
        };
        let page = connection.runs().list_runs(client::within(CALL_TIMEOUT, request)).await?.into_inner();
        all.runs.extend(page.runs);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() || all.runs.len() >= limit {
            break;
        }
    }
    output.answer("orrery.v1.ListRunsResponse", &all, || table_of(&all.runs, output, Timestamp::now()))?;
    Ok(Code::Ok)
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

fn table_of(runs: &[Run], output: &Output, now: Timestamp) -> String {
    let mut table =
        table::new(output.style, &["run", "pipeline", "status", "blocks", "started", "took", "trigger", "reason"]);
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
            table::cell(&run.trigger, Tone::Dim),
            table::cell(block::one_line(&run.reason), Tone::Plain),
        ]);
    }
    table::text(&table, "no runs; `orrery run PIPELINE` starts one")
}
