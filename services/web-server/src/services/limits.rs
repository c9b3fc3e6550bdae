//! Limits on blocks that run at once, over all pipelines of a workspace. Refuses to hold anything back: schedulers do.

use crate::core::Core;
use crate::fault::Fault;
use domain::{ErrorKind, limits};
use proto::v1::{
    self, ListLimitsRequest, ListLimitsResponse, RemoveLimitRequest, RemoveLimitResponse, SetLimitRequest,
    SetLimitResponse, limit_service_server::LimitService,
};
use std::sync::Arc;
use store::limits::BlockLimit;
use tonic::{Request, Response, Status, async_trait};

/// Serves `orrery.v1.LimitService`.
pub(crate) struct Limits(pub(crate) Arc<Core>);

/// Limits of one workspace that are set here, so that one answer lists them with those of its project, which are as many at
/// most. Two that are set at the same time may both count as the last.
const LIMITS_MAX: usize = 500;
/// The source of those.
const SET_HERE: &str = "api";

fn message(limit: BlockLimit) -> v1::Limit {
    v1::Limit {
        name: limit.name,
        max_blocks: i32::try_from(limit.max_blocks).unwrap_or(i32::MAX),
        source: limit.source,
        changed_at: Some(rpc::timestamp::to_proto(limit.changed_at)),
        held: i64::try_from(limit.used).unwrap_or(i64::MAX),
    }
}

impl Limits {
    async fn list(&self, request: ListLimitsRequest) -> Result<ListLimitsResponse, Fault> {
        let workspace = self.0.workspace(&request.workspace).await?;
        let db = self.0.store.client().await?;
        let limits = store::limits::list(&db, workspace.id).await?;
        Ok(ListLimitsResponse { limits: limits.into_iter().map(message).collect() })
    }

    async fn set(&self, request: SetLimitRequest) -> Result<SetLimitResponse, Fault> {
        limits::check_name(&request.name).map_err(|error| Fault::field("name", error.to_string()))?;
        let blocks = u32::try_from(request.max_blocks).ok().filter(|blocks| (1..=limits::LIMIT_MAX).contains(blocks));
        let Some(blocks) = blocks else {
            return Err(Fault::field("max_blocks", format!("must be 1 to {}", limits::LIMIT_MAX)));
        };
        let workspace = self.0.workspace(&request.workspace).await?;
        let db = self.0.store.client().await?;
        let known = store::limits::list(&db, workspace.id).await?;
        let others = known.iter().filter(|limit| limit.source == SET_HERE && limit.name != request.name).count();
        if others >= LIMITS_MAX {
            let message = format!(
                "workspace `{}` has {LIMITS_MAX} limits besides those of its project; remove some",
                workspace.name
            );
            return Err(Fault::new(ErrorKind::ResourceExhausted, "TOO_MANY_LIMITS", message));
        }
        store::limits::set(&db, workspace.id, &request.name, blocks).await?;
        Ok(SetLimitResponse {})
    }

    async fn remove(&self, request: RemoveLimitRequest) -> Result<RemoveLimitResponse, Fault> {
        let workspace = self.0.workspace(&request.workspace).await?;
        let db = self.0.store.client().await?;
        if store::limits::remove(&db, workspace.id, &request.name).await? {
            return Ok(RemoveLimitResponse {});
        }
        let message = format!(
            "workspace `{}` has no limit `{}`; `orrery limits` lists those that it has",
            workspace.name, request.name
        );
        Err(Fault::new(ErrorKind::NotFound, "LIMIT_NOT_FOUND", message))
    }
}

#[async_trait]
impl LimitService for Limits {
    async fn list_limits(&self, request: Request<ListLimitsRequest>) -> Result<Response<ListLimitsResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }

    async fn set_limit(&self, request: Request<SetLimitRequest>) -> Result<Response<SetLimitResponse>, Status> {
        Ok(Response::new(self.set(request.into_inner()).await?))
    }

    async fn remove_limit(
        &self,
        request: Request<RemoveLimitRequest>,
    ) -> Result<Response<RemoveLimitResponse>, Status> {
        Ok(Response::new(self.remove(request.into_inner()).await?))
    }
}
