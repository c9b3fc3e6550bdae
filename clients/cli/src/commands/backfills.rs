//! `orrery backfills`.

use crate::{
    arguments::backfills::{BackfillRange, Backfills},
    connection::{CALL_TIMEOUT, Connection, PAGE_SIZE},
    failure::{Code, Failure, Result},
    meant::{self, Named},
    render::{
        Output,
        table::{self, Tone},
        time,
    },
};
use domain::id::BackfillId;
use jiff::Timestamp;
use proto::v1::{
    Backfill, BackfillSpec, BackfillStatus, CancelBackfillRequest, CreateBackfillRequest, GetBackfillRequest,
    IntervalUnit, ListBackfillsRequest, ListBackfillsResponse, PauseBackfillRequest, PreviewBackfillRequest,
    ResumeBackfillRequest,
};
use rpc::client::within;

/// Carries out one act; without one, lists.
pub(crate) async fn run(connection: &Connection, output: &Output, act: Option<Backfills>) -> Result<Code> {
    let backfill = match act.unwrap_or(Backfills::List { pipeline: None }) {
        Backfills::List { pipeline } => return list(connection, output, pipeline.unwrap_or_default()).await,
        Backfills::Preview(range) => return preview(connection, output, range).await,
        Backfills::Create { name, range, parallelism } => {
            let spec = spec(name, parallelism, &range)?;
            let (workspace, pipeline) = (connection.workspace.clone(), range.pipeline);
            let request =
                CreateBackfillRequest { workspace, pipeline, spec: Some(spec), ..CreateBackfillRequest::default() };
            connection.backfills().create_backfill(within(CALL_TIMEOUT, request)).await?.into_inner().backfill
        }
        Backfills::Show { backfill } => {
            let backfill_id = find(connection, backfill).await?;
            let request = GetBackfillRequest { backfill_id };
            connection.backfills().get_backfill(within(CALL_TIMEOUT, request)).await?.into_inner().backfill
        }
        Backfills::Pause { backfill } => {
            let backfill_id = find(connection, backfill).await?;
            let request = PauseBackfillRequest { backfill_id };
            connection.backfills().pause_backfill(within(CALL_TIMEOUT, request)).await?.into_inner().backfill
        }
        Backfills::Resume { backfill } => {
            let backfill_id = find(connection, backfill).await?;
            let request = ResumeBackfillRequest { backfill_id };
            connection.backfills().resume_backfill(within(CALL_TIMEOUT, request)).await?.into_inner().backfill
        }
        Backfills::Cancel { backfill } => {
            let backfill_id = find(connection, backfill).await?;
            let request = CancelBackfillRequest { backfill_id };
            connection.backfills().cancel_backfill(within(CALL_TIMEOUT, request)).await?.into_inner().backfill
        }
    };
    let backfill = backfill.unwrap_or_default();
    let shown = || rows(std::slice::from_ref(&backfill), output);
    output.answer("orrery.v1.Backfill", &backfill, shown)?;
    Ok(Code::Ok)
}

fn spec(name: String, parallelism: u32, range: &BackfillRange) -> Result<BackfillSpec> {
    let variables = range.variables.iter().cloned().collect();
    let wrong = |what: String| Failure::new(Code::Usage, what, "write --var name=value");
    let unit = range.interval.map_or(IntervalUnit::Cron, IntervalUnit::from);
    Ok(BackfillSpec {
        name,
        start_time: Some(rpc::timestamp::to_proto(range.start)),
        end_time: Some(rpc::timestamp::to_proto(range.end)),
        unit: unit.into(),
        every: i32::try_from(range.every).unwrap_or(i32::MAX),
        cron: range.cron.clone().unwrap_or_default(),
        time_zone: range.time_zone.clone(),
        descending: range.descending,
        parallelism: i32::try_from(parallelism).unwrap_or(i32::MAX),
        variables: Some(rpc::json::json_to_struct(&variables, "var").map_err(|e| wrong(e.to_string()))?),
        allow_blocks_to_fail: range.allow_blocks_to_fail,
    })
}

async fn all(connection: &Connection, pipeline: String) -> Result<Vec<Backfill>> {
    let workspace = connection.workspace.clone();
    let request = ListBackfillsRequest { workspace, pipeline, page_size: PAGE_SIZE, page_token: String::new() };
    Ok(pages!(connection.backfills(), list_backfills, request, backfills))
}

async fn list(connection: &Connection, output: &Output, pipeline: String) -> Result<Code> {
    let backfills = all(connection, pipeline).await?;
    let all = ListBackfillsResponse { backfills, next_page_token: String::new() };
    output.answer("orrery.v1.ListBackfillsResponse", &all, || rows(&all.backfills, output))?;
    Ok(Code::Ok)
}

/// The id of the backfill that was meant: by its id, its name, or its pipeline's name and its own.
pub(super) async fn find(connection: &Connection, named: String) -> Result<String> {
    if named.parse::<BackfillId>().is_ok() {
        return Ok(named);
    }
    Ok(meant::by_name(all(connection, String::new()).await?, &named, &connection.workspace)?.id)
}

impl Named for Backfill {
    const KIND: &'static str = "backfill";

    fn pipeline(&self) -> &str {
        &self.pipeline
    }

    fn name(&self) -> &str {
        self.spec.as_ref().map(|spec| spec.name.as_str()).unwrap_or_default()
    }
}

fn rows(backfills: &[Backfill], output: &Output) -> String {
    let now = Timestamp::now();
    let headings = ["backfill", "pipeline", "name", "status", "done", "failed", "of", "created"];
    let mut table = table::new(output.style, &headings);
    for backfill in backfills {
        let (word, tone) = match backfill.status() {
            BackfillStatus::Unspecified => ("unknown", Tone::Dim),
            BackfillStatus::Running => ("running", Tone::Busy),
            BackfillStatus::Paused => ("paused", Tone::Warn),
            BackfillStatus::Completed => ("completed", Tone::Good),
            BackfillStatus::Failed => ("failed", Tone::Bad),
            BackfillStatus::Cancelled => ("cancelled", Tone::Dim),
        };
        table.add_row([
            table::cell(&backfill.id, Tone::Dim),
            table::cell(&backfill.pipeline, Tone::Plain),
            table::cell(backfill.name(), Tone::Plain),
            table::cell(word, tone),
            table::number(backfill.runs_completed),
            table::number(backfill.runs_failed + backfill.runs_cancelled),
            table::number(backfill.intervals_total),
            table::cell(time::relative(time::instant(backfill.created_at.as_ref()), now), Tone::Plain),
        ]);
    }
    let reasons = backfills.iter().filter(|backfill| !backfill.pause_reason.is_empty());
    let reasons = reasons.map(|backfill| format!("\n{} paused itself: {}", backfill.name(), backfill.pause_reason));
    table::text(&table, "no backfills; `orrery backfills create` starts one") + &reasons.collect::<String>()
}

async fn preview(connection: &Connection, output: &Output, range: BackfillRange) -> Result<Code> {
    let spec = spec("preview".to_owned(), 0, &range)?;
    let (workspace, pipeline) = (connection.workspace.clone(), range.pipeline);
    let request = PreviewBackfillRequest { workspace, pipeline, spec: Some(spec) };
    let answer = connection.backfills().preview_backfill(within(CALL_TIMEOUT, request)).await?.into_inner();
    output.answer("orrery.v1.PreviewBackfillResponse", &answer, || {
        let text = |times: &[prost_types::Timestamp]| -> Vec<String> {
            times.iter().filter_map(|at| time::instant(Some(at))).map(|at| format!("  {at}")).collect()
        };
        let mut lines = vec![format!("{} runs, in this order:", answer.intervals_total)];
        lines.extend(text(&answer.first));
        if answer.intervals_total > 10 {
            lines.push("  …".to_owned());
        }
        lines.extend(text(&answer.last));
        lines.join("\n")
    })?;
    Ok(Code::Ok)
}
