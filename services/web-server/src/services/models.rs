//! Models of workspaces. Refuses to know how their bytes are kept: `models` does.

use crate::core::Core;
use crate::fault::Fault;
use crate::identity::Caller;
use crate::models as contents;
use crate::paging::Page;
use crate::people;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use proto::v1::{
    ArchiveModelRequest, ArchiveModelResponse, CountModelsRequest, CountModelsResponse, DownloadModelRequest,
    DownloadModelResponse, ListModelVersionsRequest, ListModelVersionsResponse, ListModelsRequest, ListModelsResponse,
    StartUploadRequest, StartUploadResponse, UploadModelRequest, UploadModelResponse, WorkspaceCounts,
    model_service_server::ModelService, upload_model_request::Part,
};
use std::sync::Arc;
use store::models;
use tonic::{Request, Response, Status, Streaming, async_trait};
use uuid::Uuid;

/// Serves `orrery.v1.ModelService`.
pub(crate) struct Models(pub(crate) Arc<Core>);

/// What a page token of the counts is for.
const COUNTS: &str = "model-counts";

impl Models {
    async fn receive(
        &self,
        caller: &Caller,
        mut parts: Streaming<UploadModelRequest>,
    ) -> Result<UploadModelResponse, Status> {
        let Some(Part::Header(header)) = parts.message().await?.and_then(|message| message.part) else {
            return Err(Fault::field("part", "must begin with a header").into());
        };
        let chunks = stream::unfold(parts, |mut parts| async {
            let chunk = match parts.message().await {
                Ok(None) => return None,
                Err(status) => Err(status),
                Ok(Some(UploadModelRequest { part: Some(Part::Chunk(chunk)) })) => Ok(chunk.into()),
                Ok(Some(_)) => Err(Fault::field("part", "must be a chunk after the header").into()),
            };
            Some((chunk, parts))
        });
        let version = contents::receive(&self.0, caller, &header, chunks).await?;
        Ok(UploadModelResponse { version: Some(version) })
    }

    async fn list(&self, request: ListModelsRequest) -> Result<ListModelsResponse, Fault> {
        let page = Page::of(request.page_size)?;
        let scope = format!("models/{}", request.workspace);
        let after: String = rpc::paging::decode(&scope, &request.page_token)?.unwrap_or_default();
        let workspace = self.0.workspace(&request.workspace).await?;
        let mut rows = models::list(&self.0.store.client().await?, workspace.id, &after, page.limit()).await?;
        let next_page_token = page.cut(&scope, &mut rows, |model| model.name.clone())?;
        let models = rows.into_iter().map(|row| contents::model(&workspace.name, row)).collect();
        Ok(ListModelsResponse { models, next_page_token })
    }

    async fn versions(&self, request: ListModelVersionsRequest) -> Result<ListModelVersionsResponse, Fault> {
        people::check_label(&request.name, "name")?;
        let page = Page::of(request.page_size)?;
        let scope = format!("model-versions/{}/{}", request.workspace, request.name);
        let before: Option<(Timestamp, Uuid)> = rpc::paging::decode(&scope, &request.page_token)?;
        let workspace = self.0.workspace(&request.workspace).await?;
        let db = self.0.store.client().await?;
        let mut rows = models::versions(&db, workspace.id, &request.name, before, page.limit()).await?;
        if rows.is_empty() && before.is_none() {
            return Err(contents::no_model(&workspace.name, &request.name));
        }
        let next_page_token = page.cut(&scope, &mut rows, |version| (version.created_at, version.id.0))?;
        Ok(ListModelVersionsResponse { versions: rows.into_iter().map(contents::version).collect(), next_page_token })
    }

    async fn archive(&self, request: ArchiveModelRequest) -> Result<(), Fault> {
        people::check_label(&request.name, "name")?;
        let workspace = self.0.workspace(&request.workspace).await?;
        if models::archive(&self.0.store.client().await?, workspace.id, &request.name).await? {
            return Ok(());
        }
        Err(contents::no_model(&workspace.name, &request.name))
    }

    async fn count(&self, caller: &Caller, request: CountModelsRequest) -> Result<CountModelsResponse, Fault> {
        let page = Page::of(request.page_size)?;
        let after: String = rpc::paging::decode(COUNTS, &request.page_token)?.unwrap_or_default();
        let db = self.0.store.client().await?;
        let mut rows = models::counts(&db, &after, page.limit(), caller.sees()).await?;
        let next_page_token = page.cut(COUNTS, &mut rows, |counts| counts.workspace.clone())?;
        let number = |count: i64| i32::try_from(count).unwrap_or(i32::MAX);
        let counts = |row: models::Counts| WorkspaceCounts {
            workspace: row.workspace,
            models: number(row.models),
            pipelines: number(row.pipelines),
        };
        Ok(CountModelsResponse { workspaces: rows.into_iter().map(counts).collect(), next_page_token })
    }
}

#[async_trait]
impl ModelService for Models {
    type DownloadModelStream = BoxStream<'static, Result<DownloadModelResponse, Status>>;

    async fn start_upload(
        &self,
        request: Request<StartUploadRequest>,
    ) -> Result<Response<StartUploadResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(contents::start(&self.0, &caller, request.get_ref()).await?))
    }

    async fn upload_model(
        &self,
        request: Request<Streaming<UploadModelRequest>>,
    ) -> Result<Response<UploadModelResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(self.receive(&caller, request.into_inner()).await?))
    }

    async fn list_models(&self, request: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }

    async fn list_model_versions(
        &self,
        request: Request<ListModelVersionsRequest>,
    ) -> Result<Response<ListModelVersionsResponse>, Status> {
        Ok(Response::new(self.versions(request.into_inner()).await?))
    }

    async fn download_model(
        &self,
        request: Request<DownloadModelRequest>,
    ) -> Result<Response<Self::DownloadModelStream>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(contents::download(&self.0, &caller, request.get_ref()).await?.boxed()))
    }

    async fn archive_model(
        &self,
        request: Request<ArchiveModelRequest>,
    ) -> Result<Response<ArchiveModelResponse>, Status> {
        self.archive(request.into_inner()).await?;
        Ok(Response::new(ArchiveModelResponse {}))
    }

    async fn count_models(
        &self,
        request: Request<CountModelsRequest>,
    ) -> Result<Response<CountModelsResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(self.count(&caller, request.into_inner()).await?))
    }
}
