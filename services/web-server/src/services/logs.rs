//! The log of a run, searches over many, and the end of old days. Refuses to write any line.

pub(crate) mod order;
mod search;

use crate::core::Core;
use crate::fault::Fault;
use crate::paging::Page;
use crate::watch::log::{self, Follow};
use domain::id::RunId;
use futures_util::{StreamExt, stream::BoxStream};
use proto::internal::v1 as internal;
use proto::v1::{
    CleanLogsRequest, CleanLogsResponse, ListLogsRequest, ListLogsResponse, LogDay, LogLine, SearchLogsRequest,
    SearchLogsResponse, TailLogsRequest, TailLogsResponse, log_service_server::LogService,
};
use std::sync::Arc;
use store::log_views::{self, Filter, Line};
use tonic::{Request, Response, Status, async_trait};

/// Serves `orrery.v1.LogService`.
pub(crate) struct Logs(pub(crate) Arc<Core>);

/// The longest text to search for.
const TEXT_CHARS_MAX: usize = 200;

const LEVELS: [(i16, &str); 5] = [(10, "DEBUG"), (20, "INFO"), (30, "WARNING"), (40, "ERROR"), (50, "CRITICAL")];

fn min_level(name: &str) -> Result<i16, Fault> {
    if name.is_empty() {
        return Ok(0);
    }
    let known = LEVELS.iter().find(|(_, level)| level.eq_ignore_ascii_case(name));
    let why = "must be DEBUG, INFO, WARNING, ERROR or CRITICAL, or empty for all";
    known.map(|(number, _)| *number).ok_or_else(|| Fault::field("min_level", why))
}

fn level_name(number: i16) -> &'static str {
    LEVELS.iter().rev().find(|(least, _)| number >= *least).map_or("DEBUG", |(_, name)| name)
}

/// A line of the contract.
pub(crate) fn message(run: RunId, line: Line) -> LogLine {
    LogLine {
        id: line.id,
        at: Some(rpc::timestamp::to_proto(line.at)),
        level: level_name(line.level).to_owned(),
        run_id: run.to_string(),
        block: line.block,
        child: line.child,
        lease: line.lease,
        stream: line.stream,
        message: line.message,
        block_type: line.block_type,
        ..LogLine::default()
    }
}

fn check_text(text: &str) -> Result<(), Fault> {
    if text.chars().count() > TEXT_CHARS_MAX || text.contains('\0') {
        return Err(Fault::field("text", format!("must have at most {TEXT_CHARS_MAX} characters, none of them NUL")));
    }
    Ok(())
}

impl Logs {
    async fn list(&self, request: ListLogsRequest) -> Result<ListLogsResponse, Fault> {
        let page = Page::of(request.page_size)?;
        let scope = format!("logs/{}/{}/{}/{}", request.run_id, request.block, request.min_level, request.text);
        let after: i64 = rpc::paging::decode(&scope, &request.page_token)?.unwrap_or(0);
        let min_level = min_level(&request.min_level)?;
        check_text(&request.text)?;
        let run = self.0.run(rpc::ids::parse(&request.run_id, "run_id")?).await?.id;
        let filter = Filter { run, block: &request.block, min_level, text: &request.text };
        let db = self.0.store.client().await?;
        let mut rows = log_views::list(&db, &filter, after, page.limit()).await?;
        let next_page_token = page.cut(&scope, &mut rows, |line| line.id)?;
        let lines = order::by_time(rows).into_iter().map(|line| message(run, line)).collect();
        Ok(ListLogsResponse { lines, next_page_token })
    }
}

/// What the tables of days are called, before the day.
const TABLE: &str = "log_line_";

/// `2026-01-31`, from a table's name.
fn day_of(table: &str) -> String {
    let digits = table.strip_prefix(TABLE).unwrap_or(table);
    match (digits.get(..4), digits.get(4..6), digits.get(6..)) {
        (Some(year), Some(month), Some(day)) => format!("{year}-{month}-{day}"),
        _ => digits.to_owned(),
    }
}

impl Logs {
    async fn clean(&self, request: CleanLogsRequest) -> Result<CleanLogsResponse, Fault> {
        let before = request.before.map(|at| rpc::timestamp::from_proto(&at, "before")).transpose()?;
        let before_us = before.map(jiff::Timestamp::as_microsecond);
        let message = internal::CleanLogsRequest { before_us, dry_run: request.dry_run };
        let answer = self.0.commands.clean_logs(message).await?;
        let day = |day: internal::LogDay| LogDay { day: day_of(&day.name), size_bytes: day.size_bytes };
        let before = jiff::Timestamp::from_microsecond(answer.before_us).ok().map(rpc::timestamp::to_proto);
        Ok(CleanLogsResponse { days: answer.days.into_iter().map(day).collect(), before })
    }
}

#[async_trait]
impl LogService for Logs {
    async fn clean_logs(&self, request: Request<CleanLogsRequest>) -> Result<Response<CleanLogsResponse>, Status> {
        Ok(Response::new(self.clean(request.into_inner()).await?))
    }

    async fn search_logs(&self, request: Request<SearchLogsRequest>) -> Result<Response<SearchLogsResponse>, Status> {
        Ok(Response::new(search::search(&self.0, request.into_inner()).await?))
    }

    async fn list_logs(&self, request: Request<ListLogsRequest>) -> Result<Response<ListLogsResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }

    type TailLogsStream = BoxStream<'static, Result<TailLogsResponse, Status>>;

    async fn tail_logs(&self, request: Request<TailLogsRequest>) -> Result<Response<Self::TailLogsStream>, Status> {
        let request = request.into_inner();
        let min_level = min_level(&request.min_level)?;
        let run = self.0.run(rpc::ids::parse(&request.run_id, "run_id")?).await?.id;
        let follow = Follow { run, block: request.block, min_level, after: request.after };
        Ok(Response::new(log::stream(self.0.clone(), follow)?.boxed()))
    }
}
