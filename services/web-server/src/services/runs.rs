//! Runs: commands go to a scheduler, reads come from the database. Refuses to write any runtime state.

use crate::authorisation::Beside;
use crate::core::Core;
use crate::encode;
use crate::fault::Fault;
use crate::identity::Caller;
use crate::new_runs;
use crate::paging::Page;
use crate::services::backfills;
use crate::targets::{self, Target};
use crate::{block_pages, idempotent, repeated, watch};
use domain::ErrorKind;
use domain::id::RunId;
use futures_util::{StreamExt, stream::BoxStream};
use proto::internal::v1 as internal;
use proto::v1::{
    self, BatchCreateRunsRequest, BatchCreateRunsResponse, CancelRunRequest, CancelRunResponse, CreateRunRequest,
    CreateRunResponse, GetRunRequest, GetRunResponse, ListBlockRunsRequest, ListBlockRunsResponse, ListRunsRequest,
    ListRunsResponse, RetryMode, RetryRunRequest, RetryRunResponse, RunStatus, WatchRunRequest, WatchRunResponse,
    run_service_server::RunService,
};
use std::sync::Arc;
use store::{pipelines::Head, run_views};
use tonic::{Request, Response, Status, async_trait};

/// Serves `orrery.v1.RunService`.
pub(crate) struct Runs(pub(crate) Arc<Core>);

/// The longest reason of a cancellation.
const REASON_CHARS_MAX: usize = 500;

impl Runs {
    async fn message(&self, id: RunId) -> Result<v1::Run, Fault> {
        Ok(encode::run(self.0.run(id).await?))
    }

    async fn create(&self, read: Option<Head>, request: CreateRunRequest) -> Result<v1::Run, Fault> {
        let pipeline = new_runs::target_read(&self.0, read, &request.workspace, &request.pipeline).await?;
        let keys = [request.idempotency_key.clone()];
        let run = new_runs::check(pipeline, request, &self.0.limits)?;
        let wanted = repeated::Wanted::keyed(&keys, std::slice::from_ref(&run));
        let ids = self.0.commands.create_runs(vec![run]).await?;
        repeated::check(&self.0, &wanted, &ids).await?;
        let id = ids.first().ok_or_else(|| {
            Fault::new(ErrorKind::Internal, "INTERNAL", "a scheduler started no run and gave no reason")
        })?;
        self.message(*id).await
    }

    async fn create_many(
        &self,
        read: Option<Head>,
        request: BatchCreateRunsRequest,
    ) -> Result<BatchCreateRunsResponse, Fault> {
        let pipeline = new_runs::target_read(&self.0, read, &request.workspace, &request.pipeline).await?;
        let keys: Vec<String> = request.requests.iter().map(|run| run.idempotency_key.clone()).collect();
        let runs = new_runs::check_all(pipeline, request, &self.0.limits)?;
        let wanted = repeated::Wanted::keyed(&keys, &runs);
        let ids = self.0.commands.create_runs(runs).await?;
        repeated::check(&self.0, &wanted, &ids).await?;
        Ok(BatchCreateRunsResponse { run_ids: ids.iter().map(ToString::to_string).collect() })
    }

    async fn list(&self, request: ListRunsRequest) -> Result<ListRunsResponse, Fault> {
        let page = Page::of(request.page_size)?;
        let ListRunsRequest { workspace, pipeline, trigger, backfill_id, .. } = &request;
        let scope = format!("runs/{workspace}/{pipeline}/{trigger}/{backfill_id}/{:?}", request.statuses);
        let before: Option<RunId> = rpc::paging::decode(&scope, &request.page_token)?;
        let statuses = statuses(&request.statuses)?;
        let db = self.0.store.client().await?;
        let Target { workspace, pipeline, trigger } = targets::find(&self.0, &db, workspace, pipeline, trigger).await?;
        let backfill = match backfill_id.as_str() {
            "" => None,
            id => Some(backfills::of_workspace(&db, workspace, rpc::ids::parse(id, "backfill_id")?).await?),
        };
        let filter = run_views::Filter { workspace, pipeline, statuses: &statuses, trigger, backfill, before };
        let mut rows = run_views::list(&db, &filter, page.limit()).await?;
        let next_page_token = page.cut(&scope, &mut rows, |run| run.id)?;
        Ok(ListRunsResponse { runs: rows.into_iter().map(encode::run).collect(), next_page_token })
    }

    async fn cancel(&self, request: CancelRunRequest) -> Result<v1::Run, Fault> {
        let id = rpc::ids::parse::<RunId>(&request.run_id, "run_id")?;
        if request.reason.chars().count() > REASON_CHARS_MAX {
            return Err(Fault::field("reason", format!("must have at most {REASON_CHARS_MAX} characters")));
        }
        self.0.run(id).await?;
        self.0.commands.cancel_run(id, request.reason).await?;
        self.message(id).await
    }

    async fn retry(&self, caller: &Caller, request: RetryRunRequest) -> Result<v1::Run, Fault> {
        let id = rpc::ids::parse::<RunId>(&request.run_id, "run_id")?;
        let key = idempotent::Key::of(caller, "RetryRun", &request.idempotency_key, &request)?;
        let known: Option<internal::RetryRunResponse> = key.answer(&self.0.store).await?;
        if let Some(known) = known.and_then(|known| RunId::from_slice(&known.run_id)) {
            return self.message(known).await;
        }
        let run = self.0.run(id).await?;
        check_retry(&request, &run)?;
        let logical_key = match request.mode() {
            RetryMode::Whole => new_runs::logical_key(&request.idempotency_key),
            _ => key.unique(),
        };
        let command = internal::RetryRunRequest {
            run_id: id.to_vec(),
            mode: request.mode,
            from_block: request.from_block,
            logical_key,
            forwarded: false,
        };
        let run = self.0.commands.retry_run(command).await?;
        key.remember(&self.0.store, &internal::RetryRunResponse { run_id: run.to_vec() }).await?;
        self.message(run).await
    }
}

fn statuses(values: &[i32]) -> Result<Vec<&'static str>, Fault> {
    let word = |value: &i32| RunStatus::try_from(*value).ok().and_then(encode::run_status_word);
    let words: Option<Vec<_>> = values.iter().map(word).collect();
    words.ok_or_else(|| Fault::field("statuses", "must hold statuses of runs, such as RUN_STATUS_FAILED"))
}

fn check_retry(request: &RetryRunRequest, run: &run_views::Run) -> Result<(), Fault> {
    let mode = RetryMode::try_from(request.mode).unwrap_or(RetryMode::Unspecified);
    if mode == RetryMode::Unspecified {
        let choices = "RETRY_MODE_WHOLE, RETRY_MODE_INCOMPLETE or RETRY_MODE_FROM_BLOCK";
        return Err(Fault::field("mode", format!("must be {choices}")));
    }
    if (mode == RetryMode::FromBlock) == request.from_block.is_empty() {
        return Err(Fault::field("from_block", "must name a block with RETRY_MODE_FROM_BLOCK, and only with it"));
    }
    // One that runs may do so by this very retry, of which its caller has heard nothing: the scheduler knows.
    let may_be_repeated = mode != RetryMode::Whole && !request.idempotency_key.is_empty();
    if !run.has_ended() && !may_be_repeated {
        let message =
            format!("run `{}` is still {}; cancel it or wait for its end before retrying", run.id, run.status);
        return Err(Fault::new(ErrorKind::FailedPrecondition, "RUN_NOT_ENDED", message));
    }
    Ok(())
}

#[async_trait]
impl RunService for Runs {
    async fn create_run(&self, mut request: Request<CreateRunRequest>) -> Result<Response<CreateRunResponse>, Status> {
        let run = self.create(Beside::take(&mut request), request.into_inner()).await?;
        Ok(Response::new(CreateRunResponse { run: Some(run) }))
    }

    async fn batch_create_runs(
        &self,
        mut request: Request<BatchCreateRunsRequest>,
    ) -> Result<Response<BatchCreateRunsResponse>, Status> {
        Ok(Response::new(self.create_many(Beside::take(&mut request), request.into_inner()).await?))
    }

    async fn get_run(&self, request: Request<GetRunRequest>) -> Result<Response<GetRunResponse>, Status> {
        let run = self.message(rpc::ids::parse::<RunId>(&request.get_ref().run_id, "run_id")?).await?;
        Ok(Response::new(GetRunResponse { run: Some(run) }))
    }

    async fn list_runs(&self, request: Request<ListRunsRequest>) -> Result<Response<ListRunsResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }

    async fn list_block_runs(
        &self,
        request: Request<ListBlockRunsRequest>,
    ) -> Result<Response<ListBlockRunsResponse>, Status> {
        Ok(Response::new(block_pages::page(&self.0, &request.into_inner()).await?))
    }

    type WatchRunStream = BoxStream<'static, Result<WatchRunResponse, Status>>;

    async fn watch_run(&self, request: Request<WatchRunRequest>) -> Result<Response<Self::WatchRunStream>, Status> {
        let run = self.0.run(rpc::ids::parse::<RunId>(&request.get_ref().run_id, "run_id")?).await?;
        Ok(Response::new(watch::stream(self.0.clone(), run.id)?.boxed()))
    }

    async fn cancel_run(&self, request: Request<CancelRunRequest>) -> Result<Response<CancelRunResponse>, Status> {
        let run = self.cancel(request.into_inner()).await?;
        Ok(Response::new(CancelRunResponse { run: Some(run) }))
    }

    async fn retry_run(&self, request: Request<RetryRunRequest>) -> Result<Response<RetryRunResponse>, Status> {
        let caller = Caller::of(&request)?;
        let run = self.retry(&caller, request.into_inner()).await?;
        Ok(Response::new(RetryRunResponse { run: Some(run) }))
    }
}
