//! The executors that are, and that were. Refuses to command any.

use crate::core::Core;
use crate::fault::Fault;
use crate::identity::Caller;
use crate::paging::Page;
use domain::id::ExecutorId;
use jiff::Timestamp;
use proto::v1::{
    self, ExecutorState, ListExecutorsRequest, ListExecutorsResponse, executor_service_server::ExecutorService,
};
use std::sync::Arc;
use store::executor_views::{self, After, Executor};
use tonic::{Request, Response, Status, async_trait};

/// Serves `orrery.v1.ExecutorService`.
pub(crate) struct Executors(pub(crate) Arc<Core>);

fn state(word: &str) -> ExecutorState {
    match word {
        "online" => ExecutorState::Online,
        "draining" => ExecutorState::Draining,
        "lost" => ExecutorState::Lost,
        "gone" => ExecutorState::Gone,
        _ => ExecutorState::Unspecified,
    }
}

fn message(executor: Executor) -> v1::Executor {
    v1::Executor {
        id: executor.id.to_string(),
        name: executor.name,
        backend: executor.backend,
        state: state(&executor.state).into(),
        slots: executor.slots,
        running: executor.running,
        connected_at: Some(rpc::timestamp::to_proto(executor.connected_at)),
        last_seen_at: Some(rpc::timestamp::to_proto(executor.last_seen_at)),
        version: executor.version,
    }
}

/// What a page token of this list is for.
const SCOPE: &str = "executors";

impl Executors {
    async fn list(&self, caller: &Caller, request: ListExecutorsRequest) -> Result<ListExecutorsResponse, Fault> {
        let page = Page::of(request.page_size)?;
        let after: Option<(Timestamp, ExecutorId)> = rpc::paging::decode(SCOPE, &request.page_token)?;
        let after = after.map(|(connected_at, id)| After { connected_at, id });
        // How busy an executor is tells of every tenant.
        if caller.sees().is_some() {
            return Ok(ListExecutorsResponse { withheld: true, ..ListExecutorsResponse::default() });
        }
        let db = self.0.store.client().await?;
        let mut rows = executor_views::list(&db, after, page.limit()).await?;
        let next_page_token = page.cut(SCOPE, &mut rows, |e| (e.connected_at, e.id))?;
        let executors = rows.into_iter().map(message).collect();
        Ok(ListExecutorsResponse { executors, next_page_token, withheld: false })
    }
}

#[async_trait]
impl ExecutorService for Executors {
    async fn list_executors(
        &self,
        request: Request<ListExecutorsRequest>,
    ) -> Result<Response<ListExecutorsResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(self.list(&caller, request.into_inner()).await?))
    }
}
