//! Who held how much of GPUs, and for how long. Refuses to add anything up: the database does.

use crate::core::Core;
use crate::fault::Fault;
use crate::identity::Caller;
use crate::paging::Page;
use jiff::{SignedDuration, Timestamp};
use proto::v1::{
    GpuUsage, GpuUsageGrouping, ListGpuUsageRequest, ListGpuUsageResponse, gpu_usage_service_server::GpuUsageService,
};
use std::sync::Arc;
use store::gpu_usage::{self, Asked, Used};
use store::projects;
use tonic::{Request, Response, Status, async_trait};

/// Serves `orrery.v1.GpuUsageService`.
pub(crate) struct GpuUsages(pub(crate) Arc<Core>);

/// The longest range, hours: 366 days.
const HOURS_MAX: i64 = 366 * 24;
/// The range of a request that names no beginning, hours.
const HOURS_DEFAULT: i64 = 30 * 24;

/// From when to when; until now, where the request names no end.
fn range(request: &ListGpuUsageRequest, now: Timestamp) -> Result<(Timestamp, Option<Timestamp>), Fault> {
    let read = |at: Option<&prost_types::Timestamp>, field: &str| {
        at.map(|at| rpc::timestamp::from_proto(at, field)).transpose()
    };
    let until = read(request.until.as_ref(), "until")?;
    let end = until.map_or(now, |until| until.min(now));
    let default = end.saturating_sub(SignedDuration::from_hours(HOURS_DEFAULT)).unwrap_or(Timestamp::MIN);
    let since = read(request.since.as_ref(), "since")?.unwrap_or(default);
    if since >= end || end.duration_since(since) > SignedDuration::from_hours(HOURS_MAX) {
        return Err(Fault::field("since", "must be before now and `until`, by at most 366 days"));
    }
    Ok((since, until))
}

/// The word of the key that a grouping stands for.
fn word(grouping: i32) -> Result<&'static str, Fault> {
    match GpuUsageGrouping::try_from(grouping) {
        Ok(GpuUsageGrouping::Project) => Ok("project"),
        Ok(GpuUsageGrouping::Queue) => Ok("queue"),
        Ok(GpuUsageGrouping::Person) => Ok("person"),
        Ok(GpuUsageGrouping::Workspace) => Ok("workspace"),
        Ok(GpuUsageGrouping::Model) => Ok("model"),
        Ok(GpuUsageGrouping::Day) => Ok("day"),
        Ok(GpuUsageGrouping::Unspecified) | Err(_) => {
            Err(Fault::field("group_by", "must be project, queue, person, workspace, model or day"))
        }
    }
}

fn message(used: Used) -> GpuUsage {
    let mut key = used.key.into_iter();
    let mut next = || key.next().unwrap_or_default();
    GpuUsage {
        project: next(),
        queue: next(),
        person: next(),
        workspace: next(),
        model: next(),
        day: next(),
        gpu_milli_seconds: used.milli_seconds,
        lives: used.lives,
        held_gpu_milli: used.held_milli,
    }
}

impl GpuUsages {
    async fn list(&self, caller: &Caller, request: ListGpuUsageRequest) -> Result<ListGpuUsageResponse, Fault> {
        let page = Page::of(request.page_size)?;
        let (since, until) = range(&request, Timestamp::now())?;
        let mut by = request.group_by.iter().map(|grouping| word(*grouping)).collect::<Result<Vec<_>, _>>()?;
        by.sort_unstable();
        by.dedup();
        // As they were asked for: without an instant the range moves on with each page.
        let (from, to) = (&request.since, &request.until);
        let scope = format!("gpu_usage/{}/{from:?}/{to:?}/{}", request.project, by.join(","));
        let after: Vec<String> = rpc::paging::decode(&scope, &request.page_token)?.unwrap_or_default();
        let db = self.0.store.client().await?;
        let project = match request.project.as_str() {
            "" => None,
            name => Some(projects::get(&db, name).await?.ok_or_else(|| Fault::no_project(name))?.id),
        };
        let asked = Asked { since, until, by: &by, project, user: caller.sees() };
        let mut rows = gpu_usage::list(&db, &asked, &after, page.limit()).await?;
        let next_page_token = page.cut(&scope, &mut rows, |used| used.key.clone())?;
        Ok(ListGpuUsageResponse { usage: rows.into_iter().map(message).collect(), next_page_token })
    }
}

#[async_trait]
impl GpuUsageService for GpuUsages {
    async fn list_gpu_usage(
        &self,
        request: Request<ListGpuUsageRequest>,
    ) -> Result<Response<ListGpuUsageResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(self.list(&caller, request.into_inner()).await?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked_and_have_a_default() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let at = |text: &str| (!text.is_empty()).then(|| rpc::timestamp::to_proto(text.parse().unwrap()));
        let of = |since: &str, until: &str| {
            range(&ListGpuUsageRequest { since: at(since), until: at(until), ..Default::default() }, now)
        };
        assert_eq!(of("", "").unwrap(), ("2026-01-30T12:00:00Z".parse().unwrap(), None));
        let until = "2026-01-31T00:00:00Z";
        assert_eq!(of("", until).unwrap().0, "2026-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(of("", "2027-01-01T00:00:00Z").unwrap().0, of("", "").unwrap().0, "until now at most");
        assert!(of("2025-03-01T12:00:00Z", "").is_ok());
        for (since, until) in [(until, until), ("2026-04-01T00:00:00Z", ""), ("2025-01-01T00:00:00Z", "")] {
            assert!(of(since, until).is_err(), "{since} {until}");
        }
    }
}
