//! Limits on blocks that run at once, over all pipelines of a workspace. Refuses to hold anything back: schedulers do.

use crate::changed::Changed;
use crate::core::Core;
use crate::fault::Fault;
use domain::{ErrorKind, limits};
use proto::v1::{
    self, ListLimitsRequest, ListLimitsResponse, RemoveLimitRequest, RemoveLimitResponse, SetLimitRequest,
    SetLimitResponse, limit_service_server::LimitService,
};
use std::sync::Arc;
use store::Transaction;
use store::limits::BlockLimit;
use store::workspaces::{self, Workspace};
use tonic::{Request, Response, Status, async_trait};

/// Serves `orrery.v1.LimitService`.
pub(crate) struct Limits(pub(crate) Arc<Core>);

/// Limits of one workspace that are set here, so that one answer lists them with those of its project, which are as many at
/// most.
const LIMITS_MAX: usize = 500;
/// The source of those.
const SET_HERE: &str = "api";
/// What the trail tells of one.
const MAX_BLOCKS: &str = "max_blocks";

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

    async fn set(&self, request: SetLimitRequest) -> Result<Changed, Fault> {
        limits::check_name(&request.name).map_err(|error| Fault::field("name", error.to_string()))?;
        let blocks = u32::try_from(request.max_blocks).ok().filter(|blocks| (1..=limits::LIMIT_MAX).contains(blocks));
        let Some(blocks) = blocks else {
            return Err(Fault::field("max_blocks", format!("must be 1 to {}", limits::LIMIT_MAX)));
        };
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        let workspace = locked(&transaction, &request.workspace).await?;
        let known = store::limits::list(&transaction, workspace.id).await?;
        let others = known.iter().filter(|limit| limit.source == SET_HERE && limit.name != request.name).count();
        if others >= LIMITS_MAX {
            let message = format!(
                "workspace `{}` has {LIMITS_MAX} limits besides those of its project; remove some",
                workspace.name
            );
            return Err(Fault::new(ErrorKind::ResourceExhausted, "TOO_MANY_LIMITS", message));
        }
        store::limits::set(&transaction, workspace.id, &request.name, blocks).await?;
        transaction.commit().await.map_err(store::Error::from)?;
        Ok(Changed::of(MAX_BLOCKS, of_name(&known, &request.name), Some(blocks)))
    }

    async fn remove(&self, request: RemoveLimitRequest) -> Result<Changed, Fault> {
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        let workspace = locked(&transaction, &request.workspace).await?;
        let known = store::limits::list(&transaction, workspace.id).await?;
        if store::limits::remove(&transaction, workspace.id, &request.name).await? {
            transaction.commit().await.map_err(store::Error::from)?;
            return Ok(Changed::of(MAX_BLOCKS, of_name(&known, &request.name), None::<u32>));
        }
        let message = format!(
            "workspace `{}` has no limit `{}`; `orrery limits` lists those that it has",
            workspace.name, request.name
        );
        Err(Fault::new(ErrorKind::NotFound, "LIMIT_NOT_FOUND", message))
    }
}

/// The workspace, whose limits nobody else sets until the transaction ends.
async fn locked(db: &Transaction<'_>, name: &str) -> Result<Workspace, Fault> {
    workspaces::lock(db, name).await?.ok_or_else(|| Fault::no_workspace(name))
}

fn of_name(known: &[BlockLimit], name: &str) -> Option<u32> {
    known.iter().find(|limit| limit.name == name).map(|limit| limit.max_blocks)
}

#[async_trait]
impl LimitService for Limits {
    async fn list_limits(&self, request: Request<ListLimitsRequest>) -> Result<Response<ListLimitsResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }

    async fn set_limit(&self, request: Request<SetLimitRequest>) -> Result<Response<SetLimitResponse>, Status> {
        Ok(self.set(request.into_inner()).await?.told_with(SetLimitResponse {}))
    }

    async fn remove_limit(
        &self,
        request: Request<RemoveLimitRequest>,
    ) -> Result<Response<RemoveLimitResponse>, Status> {
        Ok(self.remove(request.into_inner()).await?.told_with(RemoveLimitResponse {}))
    }
}
