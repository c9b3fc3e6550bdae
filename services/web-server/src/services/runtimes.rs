//! Runtimes of workspaces. Refuses to decide anything itself: see `crate::runtimes`.

use crate::core::Core;
use crate::fault::Fault;
use crate::idempotent;
use crate::identity::Caller;
use crate::paging::Page;
use crate::runtimes::{act, batch, define, forecast, spec, view, watch};
use futures_util::{StreamExt, stream::BoxStream};
use proto::v1::{
    self, BatchChangeRuntimesRequest, BatchChangeRuntimesResponse, DeleteRuntimeRequest, DeleteRuntimeResponse,
    FenceRuntimeRequest, FenceRuntimeResponse, GetRuntimeRequest, GetRuntimeResponse, ListRuntimeEventsRequest,
    ListRuntimeEventsResponse, ListRuntimesRequest, ListRuntimesResponse, PlanRuntimeRequest, PlanRuntimeResponse,
    ResetRuntimeRequest, ResetRuntimeResponse, RestartRuntimeRequest, RestartRuntimeResponse, SetRuntimeSpecRequest,
    SetRuntimeSpecResponse, SnoozeRuntimeRequest, SnoozeRuntimeResponse, StartRuntimeRequest, StartRuntimeResponse,
    StopRuntimeRequest, StopRuntimeResponse, SwitchQueueRequest, SwitchQueueResponse, WatchRuntimeRequest,
    WatchRuntimeResponse, runtime_service_server::RuntimeService,
};
use std::sync::Arc;
use store::runtime_views::{self, Filter};
use tonic::{Request, Response, Status, async_trait};

/// Serves `orrery.v1.RuntimeService`.
pub(crate) struct Runtimes(pub(crate) Arc<Core>);

impl Runtimes {
    async fn message(&self, workspace: &str) -> Result<Option<v1::Runtime>, Fault> {
        Ok(Some(view::message(&self.0, self.0.runtime(workspace).await?).await?))
    }

    async fn get(&self, workspace: &str) -> Result<GetRuntimeResponse, Fault> {
        let runtime = self.0.runtime(workspace).await?;
        let saved = runtime.saved.as_ref().map(|saved| spec::encode(saved.spec.clone()));
        Ok(GetRuntimeResponse { runtime: Some(view::message(&self.0, runtime).await?), spec: saved })
    }

    async fn list(&self, caller: &Caller, request: ListRuntimesRequest) -> Result<ListRuntimesResponse, Fault> {
        let page = Page::of(request.page_size)?;
        let states: Option<Vec<&str>> = request.states.iter().map(|state| view::state_word(*state)).collect();
        let states = states.ok_or_else(|| Fault::field("states", "must hold states, such as RUNTIME_STATE_RUNNING"))?;
        let scope = format!("runtimes/{}/{}/{states:?}", request.project, request.queue);
        let after: String = rpc::paging::decode(&scope, &request.page_token)?.unwrap_or_default();
        let (project, queue) = (request.project.as_str(), request.queue.as_str());
        let filter = Filter { user: caller.sees(), project, states: &states, queue };
        let db = self.0.store.client().await?;
        let mut rows = runtime_views::list(&db, &filter, &after, page.limit()).await?;
        drop(db);
        let next_page_token = page.cut(&scope, &mut rows, |runtime| runtime.name.clone())?;
        Ok(ListRuntimesResponse { runtimes: view::messages(&self.0, rows).await?, next_page_token })
    }

    async fn events(&self, request: ListRuntimeEventsRequest) -> Result<ListRuntimeEventsResponse, Fault> {
        let page = Page::of(request.page_size)?;
        let scope = format!("runtime_events/{}", request.workspace);
        let before: i64 = rpc::paging::decode(&scope, &request.page_token)?.unwrap_or(i64::MAX);
        let (_, workspace) = self.0.target(&request.workspace).await?;
        let db = self.0.store.client().await?;
        let mut rows = runtime_views::events(&db, workspace, before, page.limit()).await?;
        let next_page_token = page.cut(&scope, &mut rows, |event| event.id)?;
        Ok(ListRuntimeEventsResponse { events: rows.into_iter().map(view::event).collect(), next_page_token })
    }

    async fn start(&self, caller: &Caller, request: StartRuntimeRequest) -> Result<StartRuntimeResponse, Fault> {
        let start = act::Start { wait_for_window: request.wait_for_window, key: &request.idempotency_key, gang: None };
        act::start(&self.0, caller, &request.workspace, start).await?;
        Ok(StartRuntimeResponse { runtime: self.message(&request.workspace).await? })
    }

    async fn snooze(&self, caller: &Caller, request: SnoozeRuntimeRequest) -> Result<SnoozeRuntimeResponse, Fault> {
        let until = request.until.ok_or_else(|| Fault::field("until", "must be an instant"))?;
        let until = rpc::timestamp::from_proto(&until, "until")?;
        act::snooze(&self.0, caller, &request.workspace, until).await?;
        Ok(SnoozeRuntimeResponse { runtime: self.message(&request.workspace).await? })
    }
}

#[async_trait]
impl RuntimeService for Runtimes {
    async fn set_runtime_spec(
        &self,
        request: Request<SetRuntimeSpecRequest>,
    ) -> Result<Response<SetRuntimeSpecResponse>, Status> {
        Ok(Response::new(define::set(&self.0, request.into_inner()).await?))
    }

    async fn get_runtime(&self, request: Request<GetRuntimeRequest>) -> Result<Response<GetRuntimeResponse>, Status> {
        Ok(Response::new(self.get(&request.get_ref().workspace).await?))
    }

    async fn list_runtimes(
        &self,
        request: Request<ListRuntimesRequest>,
    ) -> Result<Response<ListRuntimesResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(self.list(&caller, request.into_inner()).await?))
    }

    async fn list_runtime_events(
        &self,
        request: Request<ListRuntimeEventsRequest>,
    ) -> Result<Response<ListRuntimeEventsResponse>, Status> {
        Ok(Response::new(self.events(request.into_inner()).await?))
    }

    type WatchRuntimeStream = BoxStream<'static, Result<WatchRuntimeResponse, Status>>;

    async fn watch_runtime(
        &self,
        request: Request<WatchRuntimeRequest>,
    ) -> Result<Response<Self::WatchRuntimeStream>, Status> {
        Ok(Response::new(watch::stream(self.0.clone(), request.into_inner().workspace).await?.boxed()))
    }

    async fn start_runtime(
        &self,
        request: Request<StartRuntimeRequest>,
    ) -> Result<Response<StartRuntimeResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(self.start(&caller, request.into_inner()).await?))
    }

    async fn stop_runtime(
        &self,
        request: Request<StopRuntimeRequest>,
    ) -> Result<Response<StopRuntimeResponse>, Status> {
        let caller = Caller::of(&request)?;
        let workspace = &request.get_ref().workspace;
        act::stop(&self.0, &caller, workspace).await?;
        Ok(Response::new(StopRuntimeResponse { runtime: self.message(workspace).await? }))
    }

    async fn restart_runtime(
        &self,
        request: Request<RestartRuntimeRequest>,
    ) -> Result<Response<RestartRuntimeResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.get_ref();
        let key = idempotent::Key::of(&caller, "RestartRuntime", &request.idempotency_key, request)?;
        act::restart(&self.0, &caller, &request.workspace, &key).await?;
        Ok(Response::new(RestartRuntimeResponse { runtime: self.message(&request.workspace).await? }))
    }

    async fn reset_runtime(
        &self,
        request: Request<ResetRuntimeRequest>,
    ) -> Result<Response<ResetRuntimeResponse>, Status> {
        let caller = Caller::of(&request)?;
        let workspace = &request.get_ref().workspace;
        act::reset(&self.0, &caller, workspace).await?;
        Ok(Response::new(ResetRuntimeResponse { runtime: self.message(workspace).await? }))
    }

    async fn delete_runtime(
        &self,
        request: Request<DeleteRuntimeRequest>,
    ) -> Result<Response<DeleteRuntimeResponse>, Status> {
        define::delete(&self.0, &request.get_ref().workspace).await?;
        Ok(Response::new(DeleteRuntimeResponse {}))
    }

    async fn fence_runtime(
        &self,
        request: Request<FenceRuntimeRequest>,
    ) -> Result<Response<FenceRuntimeResponse>, Status> {
        let caller = Caller::of(&request)?;
        let workspace = &request.get_ref().workspace;
        act::fence(&self.0, &caller, workspace).await?;
        Ok(Response::new(FenceRuntimeResponse { runtime: self.message(workspace).await? }))
    }

    async fn batch_change_runtimes(
        &self,
        request: Request<BatchChangeRuntimesRequest>,
    ) -> Result<Response<BatchChangeRuntimesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let results = batch::change(&self.0, &caller, request.into_inner()).await?;
        Ok(Response::new(BatchChangeRuntimesResponse { results }))
    }

    async fn switch_queue(
        &self,
        request: Request<SwitchQueueRequest>,
    ) -> Result<Response<SwitchQueueResponse>, Status> {
        let caller = Caller::of(&request)?;
        let SwitchQueueRequest { workspace, queue } = request.get_ref();
        let changed = act::switch_queue(&self.0, &caller, workspace, queue).await?;
        Ok(changed.told_with(SwitchQueueResponse { runtime: self.message(workspace).await? }))
    }

    async fn snooze_runtime(
        &self,
        request: Request<SnoozeRuntimeRequest>,
    ) -> Result<Response<SnoozeRuntimeResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(self.snooze(&caller, request.into_inner()).await?))
    }

    async fn plan_runtime(
        &self,
        request: Request<PlanRuntimeRequest>,
    ) -> Result<Response<PlanRuntimeResponse>, Status> {
        let caller = Caller::of(&request)?;
        let forecasts = forecast::forecast(&self.0, &caller, request.into_inner()).await?;
        Ok(Response::new(PlanRuntimeResponse { forecasts }))
    }
}
