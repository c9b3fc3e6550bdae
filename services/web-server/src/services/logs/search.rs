//! Searches over the lines of a workspace. Refuses to look at any other workspace's.

use super::{check_text, message, min_level};
use crate::core::Core;
use crate::fault::Fault;
use crate::paging::Page;
use crate::targets;
use domain::id::RunId;
use jiff::Timestamp;
use proto::v1::{LogLine, SearchLogsRequest, SearchLogsResponse};
use std::time::Duration;
use store::log_search::{self, Hit, Search};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// A search that found nothing in this time says so and offers to go on.
const PATIENCE: Duration = Duration::from_secs(3);
/// Searches at once in this process: they must not take every connection to the database.
const SEARCHES_MAX: usize = 6;
/// The longest name of a block or a block type.
const NAME_CHARS_MAX: usize = 500;

static PLACES: Semaphore = Semaphore::const_new(SEARCHES_MAX);

/// One page.
pub(super) async fn search(core: &Core, request: SearchLogsRequest) -> Result<SearchLogsResponse, Fault> {
    let page = Page::of(request.page_size)?;
    let scope = scope(&request);
    let before: i64 = rpc::paging::decode(&scope, &request.page_token)?.unwrap_or(i64::MAX);
    let min_level = min_level(&request.min_level)?;
    check_text(&request.text)?;
    for (field, name) in [("block", &request.block), ("block_type", &request.block_type)] {
        if name.chars().count() > NAME_CHARS_MAX || name.contains('\0') {
            return Err(Fault::field(
                field,
                format!("must have at most {NAME_CHARS_MAX} characters, none of them NUL"),
            ));
        }
    }
    let (since, until) = (instant(&request.since, "since")?, instant(&request.until, "until")?);
    let _place = place().await?;
    let db = core.store.client().await?;
    let target = targets::find(core, &db, &request.workspace, &request.pipeline, &request.trigger).await?;
    let run = run(core, &request).await?;
    let search = Search {
        workspace: target.workspace,
        pipeline: target.pipeline,
        trigger: target.trigger,
        run: run.as_ref().map(|run| run.id),
        block: &request.block,
        block_type: &request.block_type,
        min_level,
        text: &request.text,
        since: since.unwrap_or(Timestamp::UNIX_EPOCH),
        until: until.unwrap_or(FAR),
    };
    let limit = i64::try_from(page.size()).unwrap_or(i64::MAX);
    let found = log_search::search(&db, &search, before, limit, PATIENCE).await?;
    let next_page_token = match found.before {
        Some(before) => rpc::paging::encode(&scope, &before)?,
        None => String::new(),
    };
    let lines = found.hits.into_iter().map(|hit| line(hit, run.as_ref())).collect();
    Ok(SearchLogsResponse { lines, next_page_token })
}

async fn place() -> Result<SemaphorePermit<'static>, Fault> {
    let busy = || {
        let message = format!("this server has its limit of {SEARCHES_MAX} searches; try again in a moment");
        Fault::busy("TOO_MANY_SEARCHES", message, Fault::SOON)
    };
    timeout(PATIENCE, PLACES.acquire()).await.ok().and_then(Result::ok).ok_or_else(busy)
}

/// Later than any line.
const FAR: Timestamp = Timestamp::constant(253_000_000_000, 0);

fn instant(at: &Option<prost_types::Timestamp>, field: &str) -> Result<Option<Timestamp>, Fault> {
    Ok(at.as_ref().map(|at| rpc::timestamp::from_proto(at, field)).transpose()?)
}

/// A page token goes on with the search that it came from.
fn scope(request: &SearchLogsRequest) -> String {
    let SearchLogsRequest { workspace, pipeline, trigger, run_id, block, block_type, min_level, text, .. } = request;
    let range = (&request.since, &request.until);
    format!("search/{workspace}/{pipeline}/{trigger}/{run_id}/{block}/{block_type}/{min_level}/{text}/{range:?}")
}

/// The run that was asked for, when it is of that workspace.
async fn run(core: &Core, request: &SearchLogsRequest) -> Result<Option<store::run_views::Run>, Fault> {
    if request.run_id.is_empty() {
        return Ok(None);
    }
    let id = rpc::ids::parse::<RunId>(&request.run_id, "run_id")?;
    let run = core.run(id).await?;
    if run.workspace != request.workspace {
        return Err(Fault::no_run(id));
    }
    let fits = |wanted: &str, is: &str| wanted.is_empty() || wanted == is;
    if !fits(&request.pipeline, &run.pipeline) || !fits(&request.trigger, &run.trigger) {
        return Err(Fault::field("run_id", "must name a run of the pipeline and the trigger that are asked for"));
    }
    Ok(Some(run))
}

fn line(hit: Hit, run: Option<&store::run_views::Run>) -> LogLine {
    let (pipeline, trigger) = match run {
        Some(run) => (run.pipeline.clone(), run.trigger.clone()),
        None => (hit.pipeline, hit.trigger),
    };
    LogLine { pipeline, trigger, ..message(hit.run, hit.line) }
}
