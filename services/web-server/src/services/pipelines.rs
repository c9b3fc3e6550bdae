//! Pipelines as the last deployment left them. Refuses to change any.

use crate::core::Core;
use crate::encode;
use crate::fault::Fault;
use crate::paging::Page;
use proto::v1::{
    self, GetPipelineRequest, GetPipelineResponse, ListPipelinesRequest, ListPipelinesResponse,
    pipeline_service_server::PipelineService,
};
use std::sync::Arc;
use store::pipelines::{self, Head, Summary};
use tonic::{Request, Response, Status, async_trait};

/// Serves `orrery.v1.PipelineService`.
pub(crate) struct Pipelines(pub(crate) Arc<Core>);

fn whole(workspace: String, head: Head) -> Result<v1::Pipeline, Fault> {
    let spec = head.pipeline()?;
    let blocks = spec.blocks.iter().chain(&spec.conditionals).chain(&spec.callbacks).map(encode::block).collect();
    Ok(v1::Pipeline {
        workspace,
        name: head.name,
        description: spec.description,
        r#type: encode::name(&spec.kind),
        version: head.version,
        bundle_digest: head.bundle_digest,
        tags: spec.tags,
        block_count: i32::try_from(spec.blocks.len()).unwrap_or(i32::MAX),
        blocks,
        variables: Some(encode::structure(&spec.variables)),
        updated_at: Some(rpc::timestamp::to_proto(head.updated_at)),
    })
}

fn summary(workspace: &str, row: Summary) -> v1::Pipeline {
    v1::Pipeline {
        workspace: workspace.to_owned(),
        name: row.name,
        description: row.description,
        r#type: encode::name(&row.kind),
        version: row.version,
        bundle_digest: row.bundle_digest,
        tags: row.tags,
        updated_at: Some(rpc::timestamp::to_proto(row.updated_at)),
        block_count: row.block_count,
        ..v1::Pipeline::default()
    }
}

impl Pipelines {
    async fn get(&self, request: GetPipelineRequest) -> Result<GetPipelineResponse, Fault> {
        let workspace = self.0.workspace(&request.workspace).await?;
        let db = self.0.store.client().await?;
        let head = pipelines::get(&db, workspace.id, &request.pipeline).await?;
        let head = head.filter(|h| !h.archived);
        let head = head.ok_or_else(|| Fault::no_pipeline(&workspace.name, &request.pipeline))?;
        Ok(GetPipelineResponse { pipeline: Some(whole(workspace.name, head)?) })
    }

    async fn list(&self, request: ListPipelinesRequest) -> Result<ListPipelinesResponse, Fault> {
        let page = Page::of(request.page_size)?;
        let scope = format!("pipelines/{}", request.workspace);
        let after: String = rpc::paging::decode(&scope, &request.page_token)?.unwrap_or_default();
        let workspace = self.0.workspace(&request.workspace).await?;
        let db = self.0.store.client().await?;
        let mut rows = pipelines::list(&db, workspace.id, &after, page.limit()).await?;
        let next_page_token = page.cut(&scope, &mut rows, |p| p.name.clone())?;
        let pipelines = rows.into_iter().map(|row| summary(&workspace.name, row)).collect();
        Ok(ListPipelinesResponse { pipelines, next_page_token })
    }
}

#[async_trait]
impl PipelineService for Pipelines {
    async fn get_pipeline(
        &self,
        request: Request<GetPipelineRequest>,
    ) -> Result<Response<GetPipelineResponse>, Status> {
        Ok(Response::new(self.get(request.into_inner()).await?))
    }

    async fn list_pipelines(
        &self,
        request: Request<ListPipelinesRequest>,
    ) -> Result<Response<ListPipelinesResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }
}
