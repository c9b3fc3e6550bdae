//! Backfills: commands go to a scheduler, reads come from the database. Refuses to start any run.

use crate::core::Core;
use crate::encode;
use crate::fault::Fault;
use crate::idempotent;
use crate::identity::Caller;
use crate::new_runs;
use crate::paging::Page;
use domain::{
    ErrorKind,
    backfill::{self, Interval, Intervals, IntervalsError, Length, Order, Status as Word, Unit},
    id::{BackfillId, WorkspaceId},
    trigger,
};
use proto::internal::v1::{BackfillChange, CreateBackfillRequest as Command};
use proto::v1::{
    self, BackfillSpec, BackfillStatus, CancelBackfillRequest, CancelBackfillResponse, CreateBackfillRequest,
    CreateBackfillResponse, GetBackfillRequest, GetBackfillResponse, IntervalUnit, ListBackfillsRequest,
    ListBackfillsResponse, PauseBackfillRequest, PauseBackfillResponse, PreviewBackfillRequest,
    PreviewBackfillResponse, ResumeBackfillRequest, ResumeBackfillResponse, backfill_service_server::BackfillService,
};
use std::sync::Arc;
use store::{
    Client,
    backfills::{BackfillRef, Spec, View},
    pipelines,
};
use tonic::{Request, Response, Status, async_trait};

/// Serves `orrery.v1.BackfillService`.
pub(crate) struct Backfills(pub(crate) Arc<Core>);

/// Times that a preview shows from each end.
const PREVIEW: u64 = 5;

/// A backfill that was asked for and makes sense.
struct Checked {
    spec: Spec,
    intervals: Intervals,
}

impl Checked {
    fn of(spec: Option<BackfillSpec>, variables_bytes: usize) -> Result<Self, Fault> {
        let spec = spec.unwrap_or_default();
        trigger::check_name(&spec.name).map_err(|invalid| Fault::field("spec.name", invalid.to_string()))?;
        let at = |at: Option<prost_types::Timestamp>, field: &str| match at {
            Some(at) => Ok(rpc::timestamp::from_proto(&at, field)?),
            None => Err(Fault::field(field, "must be set")),
        };
        let start = at(spec.start_time, "spec.start_time")?;
        let end = at(spec.end_time, "spec.end_time")?;
        let length = length(&spec)?;
        let most = backfill::PARALLELISM_MAX;
        let parallelism = number(spec.parallelism, backfill::PARALLELISM_DEFAULT, most, "spec.parallelism")?;
        let name = if spec.time_zone.is_empty() { "UTC".to_owned() } else { spec.time_zone };
        let zone = trigger::zone(&name).map_err(|invalid| Fault::field("spec.time_zone", invalid.to_string()))?;
        let variables = rpc::json::struct_to_json(spec.variables.unwrap_or_default(), "spec.variables")?;
        let variables = serde_json::Value::Object(variables);
        if variables.to_string().len() > variables_bytes {
            let why = format!("must be at most {variables_bytes} bytes of JSON; pass a reference instead");
            return Err(Fault::field("spec.variables", why));
        }
        let intervals = Intervals::new(start, end, &length, zone).map_err(|error| {
            let field = match &error {
                IntervalsError::Zero => "spec.every",
                IntervalsError::Cron(_) => "spec.cron",
                IntervalsError::OutOfYears if start < trigger::FIRST => "spec.start_time",
                _ => "spec.end_time",
            };
            Fault::field(field, error.to_string())
        })?;
        let order = if spec.descending { Order::Descending } else { Order::Ascending };
        let spec = Spec {
            name: spec.name,
            start_at: start,
            end_at: end,
            length,
            time_zone: name,
            order,
            parallelism,
            variables,
            allow_blocks_to_fail: spec.allow_blocks_to_fail,
        };
        Ok(Self { spec, intervals })
    }

    /// The first intervals in an order, at most so many.
    fn first(&self, order: Order, most: u64) -> Vec<Interval> {
        let mut found: Vec<Interval> = Vec::new();
        for started in 0..most {
            let last = found.last().map(|interval| interval.start);
            found.extend(self.intervals.next(order, started, last));
        }
        found
    }
}

fn number(given: i32, default: u32, most: u32, field: &str) -> Result<u32, Fault> {
    match u32::try_from(given) {
        Ok(0) => Ok(default),
        Ok(number) if number <= most => Ok(number),
        _ => Err(Fault::field(field, format!("must be 0 to {most}"))),
    }
}

fn length(spec: &BackfillSpec) -> Result<Length, Fault> {
    let unit = match spec.unit() {
        IntervalUnit::Second => Unit::Second,
        IntervalUnit::Minute => Unit::Minute,
        IntervalUnit::Hour => Unit::Hour,
        IntervalUnit::Day => Unit::Day,
        IntervalUnit::Week => Unit::Week,
        IntervalUnit::Month => Unit::Month,
        IntervalUnit::Year => Unit::Year,
        IntervalUnit::Cron if matches!(spec.every, 0 | 1) => return Ok(Length::Cron(spec.cron.trim().to_owned())),
        IntervalUnit::Cron => return Err(Fault::field("spec.every", "must be 0 or 1 with a cron expression")),
        IntervalUnit::Unspecified => {
            return Err(Fault::field("spec.unit", "must be a unit of time, such as INTERVAL_UNIT_DAY"));
        }
    };
    if !spec.cron.is_empty() {
        return Err(Fault::field("spec.cron", "must be empty, or come with INTERVAL_UNIT_CRON"));
    }
    Ok(Length::Units(unit, number(spec.every, 1, i32::MAX.unsigned_abs(), "spec.every")?))
}

/// Unit, number of units, and expression.
fn wire_length(length: Length) -> (IntervalUnit, i32, String) {
    match length {
        Length::Units(unit, every) => (wire_unit(unit), i32::try_from(every).unwrap_or(i32::MAX), String::new()),
        Length::Cron(expression) => (IntervalUnit::Cron, 1, expression),
    }
}

fn wire_unit(unit: Unit) -> IntervalUnit {
    match unit {
        Unit::Second => IntervalUnit::Second,
        Unit::Minute => IntervalUnit::Minute,
        Unit::Hour => IntervalUnit::Hour,
        Unit::Day => IntervalUnit::Day,
        Unit::Week => IntervalUnit::Week,
        Unit::Month => IntervalUnit::Month,
        Unit::Year => IntervalUnit::Year,
    }
}

/// There is no such backfill.
pub(crate) fn none(id: BackfillId) -> Fault {
    let message = format!("there is no backfill `{id}`; list those of its workspace to find it");
    Fault::new(ErrorKind::NotFound, "BACKFILL_NOT_FOUND", message)
}

/// The backfill, when it is one of this workspace.
pub(crate) async fn of_workspace(db: &Client, workspace: WorkspaceId, id: BackfillId) -> Result<BackfillId, Fault> {
    let found = store::backfills::get(db, BackfillRef::Id(id)).await?.map(|view| view.backfill);
    found.filter(|backfill| backfill.workspace_id == workspace).map(|backfill| backfill.id).ok_or_else(|| none(id))
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn message(view: View) -> Result<v1::Backfill, Fault> {
    let View { backfill, pipeline, workspace } = view;
    let status = match backfill.cursor.status {
        Word::Running => BackfillStatus::Running,
        Word::Paused => BackfillStatus::Paused,
        Word::Completed => BackfillStatus::Completed,
        Word::Failed => BackfillStatus::Failed,
        Word::Cancelled => BackfillStatus::Cancelled,
    };
    let spec = backfill.spec;
    let parallelism = i32::try_from(spec.parallelism).unwrap_or(i32::MAX);
    let (unit, every, cron) = wire_length(spec.length);
    let (created_at, completed_at) = (backfill.created_at, backfill.completed_at);
    let reason = backfill.pause_reason.filter(|_| backfill.cursor.status == Word::Paused);
    Ok(v1::Backfill {
        id: backfill.id.to_string(),
        workspace,
        pipeline,
        spec: Some(BackfillSpec {
            name: spec.name,
            start_time: Some(rpc::timestamp::to_proto(spec.start_at)),
            end_time: Some(rpc::timestamp::to_proto(spec.end_at)),
            unit: unit.into(),
            every,
            cron,
            time_zone: spec.time_zone,
            descending: spec.order == Order::Descending,
            parallelism,
            variables: Some(encode::object(spec.variables)),
            allow_blocks_to_fail: spec.allow_blocks_to_fail,
        }),
        status: status.into(),
        intervals_total: signed(backfill.cursor.total),
        runs_started: signed(backfill.cursor.started),
        runs_completed: signed(backfill.cursor.completed),
        runs_failed: signed(backfill.cursor.failed),
        runs_cancelled: signed(backfill.cursor.cancelled),
        created_at: Some(rpc::timestamp::to_proto(created_at)),
        completed_at: completed_at.map(rpc::timestamp::to_proto),
        pause_reason: reason.unwrap_or_default(),
    })
}

impl Backfills {
    async fn find(&self, id: BackfillId) -> Result<v1::Backfill, Fault> {
        let db = self.0.store.client().await?;
        let found = store::backfills::get(&db, BackfillRef::Id(id)).await?;
        message(found.ok_or_else(|| none(id))?)
    }

    /// Off this thread, since times of a cron expression are counted one by one.
    async fn check(&self, spec: Option<BackfillSpec>) -> Result<Checked, Fault> {
        let bytes = self.0.limits.variables_bytes;
        tokio::task::spawn_blocking(move || Checked::of(spec, bytes)).await.map_err(|e| Fault::internal(&e))?
    }

    async fn create(&self, caller: &Caller, request: CreateBackfillRequest) -> Result<CreateBackfillResponse, Fault> {
        let key = idempotent::Key::of(caller, "CreateBackfill", &request.idempotency_key, &request)?;
        let Checked { spec, .. } = self.check(request.spec).await?;
        let pipeline = new_runs::target(&self.0, &request.workspace, &request.pipeline).await?;
        let (unit, every, cron) = wire_length(spec.length);
        let command = Command {
            pipeline_id: pipeline.to_vec(),
            name: spec.name,
            start_us: spec.start_at.as_microsecond(),
            end_us: spec.end_at.as_microsecond(),
            unit: unit.into(),
            every,
            cron,
            time_zone: spec.time_zone,
            descending: spec.order == Order::Descending,
            parallelism: i32::try_from(spec.parallelism).unwrap_or(i32::MAX),
            variables: spec.variables.to_string(),
            allow_blocks_to_fail: spec.allow_blocks_to_fail,
            forwarded: false,
        };
        if let Some(answer) = key.answer(&self.0.store).await? {
            return Ok(answer);
        }
        // Nothing of the database is held while schedulers are asked. Of two requests at once, and when this server dies before
        // the key is recorded, the name is taken and tells the client so.
        let created = self.0.commands.create_backfill(command).await;
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        if let Some(answer) = key.answered(&transaction).await? {
            return Ok(answer);
        }
        let id = created?;
        let view = store::backfills::get(&transaction, BackfillRef::Id(id)).await?.ok_or_else(|| none(id))?;
        let answer = CreateBackfillResponse { backfill: Some(message(view)?) };
        key.record(&transaction, &answer).await?;
        transaction.commit().await.map_err(store::Error::from)?;
        Ok(answer)
    }

    async fn preview(&self, request: PreviewBackfillRequest) -> Result<PreviewBackfillResponse, Fault> {
        let checked = self.check(request.spec).await?;
        new_runs::target(&self.0, &request.workspace, &request.pipeline).await?;
        let total = checked.intervals.count();
        let (order, backwards) = match checked.spec.order {
            Order::Ascending => (Order::Ascending, Order::Descending),
            Order::Descending => (Order::Descending, Order::Ascending),
        };
        let first = checked.first(order, total.min(PREVIEW));
        let mut last = checked.first(backwards, total.saturating_sub(PREVIEW).min(PREVIEW));
        last.reverse();
        let mut variables = checked.spec.variables.as_object().cloned().unwrap_or_default();
        variables.extend(first.first().map(|interval| checked.intervals.variables(interval)).unwrap_or_default());
        let times = |found: Vec<Interval>| found.into_iter().map(|i| rpc::timestamp::to_proto(i.start)).collect();
        Ok(PreviewBackfillResponse {
            intervals_total: signed(total),
            first: times(first),
            last: times(last),
            variables: Some(encode::structure(&variables)),
        })
    }

    async fn list(&self, request: ListBackfillsRequest) -> Result<ListBackfillsResponse, Fault> {
        let page = Page::of(request.page_size)?;
        let scope = format!("backfills/{}/{}", request.workspace, request.pipeline);
        let before: Option<BackfillId> = rpc::paging::decode(&scope, &request.page_token)?;
        let workspace = self.0.workspace(&request.workspace).await?;
        let db = self.0.store.client().await?;
        let pipeline = match request.pipeline.as_str() {
            "" => None,
            name => {
                let head = pipelines::get(&db, workspace.id, name).await?;
                Some(head.ok_or_else(|| Fault::no_pipeline(&workspace.name, name))?.id)
            }
        };
        let mut rows = store::backfills::list(&db, workspace.id, pipeline, before, page.limit()).await?;
        let next_page_token = page.cut(&scope, &mut rows, |view| view.backfill.id)?;
        let backfills = rows.into_iter().map(message).collect::<Result<_, _>>()?;
        Ok(ListBackfillsResponse { backfills, next_page_token })
    }

    async fn change(&self, id: &str, change: BackfillChange) -> Result<Option<v1::Backfill>, Fault> {
        let id = rpc::ids::parse::<BackfillId>(id, "backfill_id")?;
        self.find(id).await?;
        self.0.commands.change_backfill(id, change).await?;
        Ok(Some(self.find(id).await?))
    }
}

#[async_trait]
impl BackfillService for Backfills {
    async fn create_backfill(
        &self,
        request: Request<CreateBackfillRequest>,
    ) -> Result<Response<CreateBackfillResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(self.create(&caller, request.into_inner()).await?))
    }

    async fn preview_backfill(
        &self,
        request: Request<PreviewBackfillRequest>,
    ) -> Result<Response<PreviewBackfillResponse>, Status> {
        Ok(Response::new(self.preview(request.into_inner()).await?))
    }

    async fn get_backfill(
        &self,
        request: Request<GetBackfillRequest>,
    ) -> Result<Response<GetBackfillResponse>, Status> {
        let id = rpc::ids::parse::<BackfillId>(&request.get_ref().backfill_id, "backfill_id")?;
        Ok(Response::new(GetBackfillResponse { backfill: Some(self.find(id).await?) }))
    }

    async fn list_backfills(
        &self,
        request: Request<ListBackfillsRequest>,
    ) -> Result<Response<ListBackfillsResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }

    async fn pause_backfill(
        &self,
        request: Request<PauseBackfillRequest>,
    ) -> Result<Response<PauseBackfillResponse>, Status> {
        let backfill = self.change(&request.get_ref().backfill_id, BackfillChange::Pause).await?;
        Ok(Response::new(PauseBackfillResponse { backfill }))
    }

    async fn resume_backfill(
        &self,
        request: Request<ResumeBackfillRequest>,
    ) -> Result<Response<ResumeBackfillResponse>, Status> {
        let backfill = self.change(&request.get_ref().backfill_id, BackfillChange::Resume).await?;
        Ok(Response::new(ResumeBackfillResponse { backfill }))
    }

    async fn cancel_backfill(
        &self,
        request: Request<CancelBackfillRequest>,
    ) -> Result<Response<CancelBackfillResponse>, Status> {
        let backfill = self.change(&request.get_ref().backfill_id, BackfillChange::Cancel).await?;
        Ok(Response::new(CancelBackfillResponse { backfill }))
    }
}
