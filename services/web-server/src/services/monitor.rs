//! What became of runs, added up from the counts that the scheduler keeps. Refuses to look at single runs.

use crate::core::Core;
use crate::fault::Fault;
use crate::gpu_statistics;
use crate::sums::{self, Sums};
use crate::targets;
use jiff::{ToSpan, civil::Date, tz::TimeZone};
use proto::v1::{
    GetBlockStatisticsRequest, GetBlockStatisticsResponse, GetGpuStatisticsRequest, GetGpuStatisticsResponse,
    GetRunStatisticsRequest, GetRunStatisticsResponse, RunGrouping, Unfinished, monitor_service_server::MonitorService,
};
use std::sync::Arc;
use store::statistics::{self, Counted, Filter, ROWS_MAX};
use tonic::{Request, Response, Status, async_trait};

/// Serves `orrery.v1.MonitorService`.
pub(crate) struct Monitor(pub(crate) Arc<Core>);

/// The longest range.
const DAYS_MAX: i32 = 366;
/// The range of a request that names none.
const DAYS_DEFAULT: i32 = 30;
/// Pipelines with unfinished runs that are told.
const UNFINISHED_MAX: i64 = 2_000;

/// The first and the last day of a request, checked.
fn range(first: &str, last: &str) -> Result<(String, String), Fault> {
    let today = jiff::Timestamp::now().to_zoned(TimeZone::UTC).date();
    let read = |field: &str, text: &str| {
        text.parse::<Date>().map_err(|_| Fault::field(field, "must be a day such as 2026-01-31"))
    };
    let last = if last.is_empty() { today } else { read("last_day", last)? };
    let first = match first {
        "" => last.checked_sub((DAYS_DEFAULT - 1).days()).unwrap_or(last),
        first => read("first_day", first)?,
    };
    let days = last.since(first).map_or(i32::MAX, |span| span.get_days());
    if !(0..DAYS_MAX).contains(&days) {
        let why = format!("must be at most {} days before last_day, and not after it", DAYS_MAX - 1);
        return Err(Fault::field("first_day", why));
    }
    Ok((first.to_string(), last.to_string()))
}

fn is_cut(rows: &[Counted]) -> bool {
    rows.len() as i64 == ROWS_MAX
}

impl Monitor {
    async fn runs(&self, request: GetRunStatisticsRequest) -> Result<GetRunStatisticsResponse, Fault> {
        let (first_day, last_day) = range(&request.first_day, &request.last_day)?;
        let grouping = RunGrouping::try_from(request.group_by).map_err(|_| {
            Fault::field("group_by", "must be RUN_GROUPING_PIPELINE or RUN_GROUPING_TRIGGER, or absent")
        })?;
        let db = self.0.store.client().await?;
        let target = targets::find(&self.0, &db, &request.workspace, &request.pipeline, &request.trigger).await?;
        let filter = Filter {
            workspace: target.workspace,
            pipeline: target.pipeline,
            trigger: target.trigger,
            first_day: &first_day,
            last_day: &last_day,
        };
        let ends = statistics::runs(&db, &filter).await?;
        let lateness = statistics::lateness(&db, &filter).await?;
        let unfinished = statistics::unfinished(&db, target.workspace, UNFINISHED_MAX).await?;
        let name = |row: &Counted| match grouping {
            RunGrouping::Unspecified => (String::new(), String::new()),
            RunGrouping::Pipeline => (row.pipeline.clone(), String::new()),
            RunGrouping::Trigger => (row.pipeline.clone(), row.of.clone()),
        };
        let cut = is_cut(&ends) || is_cut(&lateness);
        let mut sums = Sums::default();
        ends.iter().for_each(|row| sums.ended(name(row), row));
        lateness.iter().for_each(|row| sums.late(name(row), row));
        let wanted = |pipeline: &str| request.pipeline.is_empty() || request.pipeline == pipeline;
        let unfinished = unfinished.into_iter().filter(|(pipeline, ..)| wanted(pipeline));
        Ok(GetRunStatisticsResponse {
            statistics: sums.finish(),
            unfinished: unfinished.map(|(pipeline, status, runs)| Unfinished { pipeline, status, runs }).collect(),
            cut,
        })
    }

    async fn blocks(&self, request: GetBlockStatisticsRequest) -> Result<GetBlockStatisticsResponse, Fault> {
        let (first_day, last_day) = range(&request.first_day, &request.last_day)?;
        let db = self.0.store.client().await?;
        let target = targets::find(&self.0, &db, &request.workspace, &request.pipeline, "").await?;
        let filter = Filter {
            workspace: target.workspace,
            pipeline: target.pipeline,
            trigger: None,
            first_day: &first_day,
            last_day: &last_day,
        };
        let ends = statistics::blocks(&db, &filter).await?;
        let mut sums = Sums::default();
        for row in &ends {
            let name = if request.by_block { (row.pipeline.clone(), row.of.clone()) } else { sums::all() };
            sums.ended(name, row);
        }
        Ok(GetBlockStatisticsResponse { statistics: sums.finish(), cut: is_cut(&ends) })
    }
}

#[async_trait]
impl MonitorService for Monitor {
    async fn get_run_statistics(
        &self,
        request: Request<GetRunStatisticsRequest>,
    ) -> Result<Response<GetRunStatisticsResponse>, Status> {
        Ok(Response::new(self.runs(request.into_inner()).await?))
    }

    async fn get_block_statistics(
        &self,
        request: Request<GetBlockStatisticsRequest>,
    ) -> Result<Response<GetBlockStatisticsResponse>, Status> {
        Ok(Response::new(self.blocks(request.into_inner()).await?))
    }

    async fn get_gpu_statistics(
        &self,
        request: Request<GetGpuStatisticsRequest>,
    ) -> Result<Response<GetGpuStatisticsResponse>, Status> {
        Ok(Response::new(gpu_statistics::read(&self.0, request.get_ref()).await?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_days_are_checked() {
        assert_eq!(range("2026-01-01", "2026-01-31").unwrap(), ("2026-01-01".into(), "2026-01-31".into()));
        assert_eq!(range("", "2026-01-31").unwrap().0, "2026-01-02");
        for (first, last) in [("2026-02-01", "2026-01-31"), ("2024-01-01", "2026-01-01"), ("x", ""), ("", "9999-99-99")]
        {
            assert!(range(first, last).is_err(), "{first} {last}");
        }
        assert!(range("2025-01-01", "2026-01-01").is_ok());
    }
}
