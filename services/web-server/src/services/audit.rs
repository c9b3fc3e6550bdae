//! Who did what. Refuses to add to the trail: the authorisation does.

use crate::core::Core;
use crate::fault::Fault;
use crate::paging::Page;
use proto::v1::{self, ListAuditEntriesRequest, ListAuditEntriesResponse, audit_service_server::AuditService};
use std::sync::Arc;
use store::audit::{self, Entry};
use tonic::{Request, Response, Status, async_trait};

/// Serves `orrery.v1.AuditService`.
pub(crate) struct Audit(pub(crate) Arc<Core>);

fn message(entry: Entry) -> v1::AuditEntry {
    let detail = match entry.detail {
        serde_json::Value::Object(fields) => fields,
        _ => serde_json::Map::new(),
    };
    let text = |(name, value): (String, serde_json::Value)| Some((name, value.as_str()?.to_owned()));
    v1::AuditEntry {
        id: entry.id,
        at: Some(rpc::timestamp::to_proto(entry.at)),
        actor: entry.actor,
        via: entry.via,
        method: entry.method,
        object: entry.object,
        outcome: entry.outcome,
        reason: entry.reason,
        detail: detail.into_iter().filter_map(text).collect(),
    }
}

impl Audit {
    async fn list(&self, request: ListAuditEntriesRequest) -> Result<ListAuditEntriesResponse, Fault> {
        let page = Page::of(request.page_size)?;
        let scope = format!("audit/{}/{}", request.workspace, request.actor);
        let before: i64 = rpc::paging::decode(&scope, &request.page_token)?.unwrap_or(i64::MAX);
        let workspace = match request.workspace.as_str() {
            "" => None,
            name => Some(self.0.workspace(name).await?.id),
        };
        let actor = request.actor.trim().to_lowercase();
        let db = self.0.store.client().await?;
        let mut rows = audit::list(&db, workspace, &actor, before, page.limit()).await?;
        let next_page_token = page.cut(&scope, &mut rows, |entry| entry.id)?;
        Ok(ListAuditEntriesResponse { entries: rows.into_iter().map(message).collect(), next_page_token })
    }
}

#[async_trait]
impl AuditService for Audit {
    async fn list_audit_entries(
        &self,
        request: Request<ListAuditEntriesRequest>,
    ) -> Result<Response<ListAuditEntriesResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }
}
