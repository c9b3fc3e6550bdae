//! A look at what blocks left, their files, and their end. Refuses to read an output: what is shown was noted when it was
//! written, and files pass unread.

use crate::core::Core;
use crate::fault::Fault;
use crate::identity::Caller;
use crate::outputs::{self, Left, PreviewOf};
use domain::ErrorKind;
use domain::id::RunId;
use domain::unit::OutputInfo;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use proto::internal::v1::ExpireOutputsOf;
use proto::v1::{
    CleanOutputsRequest, CleanOutputsResponse, CleanedPipeline, DownloadOutputRequest, DownloadOutputResponse,
    GetOutputsRequest, GetOutputsResponse, OutputColumn, OutputPreview, output_service_server::OutputService,
};
use std::collections::HashMap;
use std::sync::Arc;
use store::outputs::Retention;
use tonic::{Request, Response, Status, async_trait};

/// Serves `orrery.v1.OutputService`.
pub(crate) struct Outputs(pub(crate) Arc<Core>);

/// Requests to schedulers that one cleaning makes; the caller asks again for the rest.
const REQUESTS_MAX: usize = 20;

impl Outputs {
    async fn get(&self, request: GetOutputsRequest) -> Result<GetOutputsResponse, Fault> {
        let run = self.0.run(rpc::ids::parse::<RunId>(&request.run_id, "run_id")?).await?;
        let child = request.child.unwrap_or(-1);
        let db = self.0.store.client().await?;
        let pointer = store::outputs::pointer(&db, run.id, &request.block, child).await?;
        drop(db);
        let pointer = pointer.ok_or_else(|| outputs::nothing(run.id, &request.block, child))?;
        let output = pointer.output.clone().unwrap_or_default();
        let infos: Vec<OutputInfo> =
            output.outputs.into_iter().filter(|o| request.name.is_empty() || o.name == request.name).collect();
        if infos.is_empty() && !request.name.is_empty() {
            return Err(outputs::no_output(run.id, &request.block, &request.name));
        }
        if infos.is_empty() || pointer.expired_at.is_some() {
            let outputs = infos.into_iter().map(|info| preview(info, None)).collect();
            let expired_at = pointer.expired_at.map(rpc::timestamp::to_proto);
            return Ok(GetOutputsResponse { outputs, expired_at, ..GetOutputsResponse::default() });
        }
        Ok(self.look(&Left::of(run.id, &request.block, child, &pointer), infos).await)
    }

    /// What there is, with what was noted of it, or why that cannot be had.
    async fn look(&self, left: &Left, infos: Vec<OutputInfo>) -> GetOutputsResponse {
        let (mut noted, unavailable) = match self.0.outputs.preview(left).await {
            Ok(preview) => {
                let noted = preview.outputs.into_iter().map(|noted| (noted.name.clone(), noted)).collect();
                (noted, String::new())
            }
            Err(blind) => (HashMap::new(), blind.to_string()),
        };
        let outputs = infos.into_iter().map(|info| {
            let noted = noted.remove(&info.name);
            preview(info, noted)
        });
        GetOutputsResponse { outputs: outputs.collect(), expired_at: None, unavailable }
    }

    async fn clean(&self, request: CleanOutputsRequest) -> Result<CleanOutputsResponse, Fault> {
        let workspace = self.0.workspace(&request.workspace).await?;
        let name = Some(request.pipeline.as_str()).filter(|name| !name.is_empty());
        let before = request.before.map(|at| rpc::timestamp::from_proto(&at, "before")).transpose()?;
        let db = self.0.store.client().await?;
        let kept = store::outputs::retentions(&db, Some(workspace.id), name).await?;
        if let (Some(name), true) = (name, kept.is_empty()) {
            return Err(Fault::no_pipeline(&workspace.name, name));
        }
        let due = due(&kept, before, Timestamp::now())?;
        let mut answer = CleanOutputsResponse::default();
        for (kept, before) in &due {
            let counted = store::outputs::count(&db, kept.pipeline, *before).await?;
            answer.pipelines.push(CleanedPipeline {
                pipeline: kept.name.clone(),
                runs: counted.runs,
                size_bytes: counted.bytes,
                kept_unfinished: counted.unfinished,
                before: Some(rpc::timestamp::to_proto(*before)),
            });
        }
        drop(db);
        if !request.dry_run {
            answer.more = self.expire(&due).await?;
        }
        Ok(answer)
    }

    async fn expire(&self, due: &[(&Retention, Timestamp)]) -> Result<bool, Fault> {
        let of = |(kept, before): &(&Retention, Timestamp)| ExpireOutputsOf {
            pipeline_id: kept.pipeline.to_vec(),
            before_us: before.as_microsecond(),
        };
        let message: Vec<_> = due.iter().map(of).collect();
        for _ in 0..REQUESTS_MAX {
            if !self.0.commands.expire_outputs(message.clone()).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Each pipeline with the instant before which its outputs go: the one that was asked for, or what its period gives.
fn due(kept: &[Retention], before: Option<Timestamp>, now: Timestamp) -> Result<Vec<(&Retention, Timestamp)>, Fault> {
    let of = |kept: &Retention| before.or_else(|| now.checked_sub(kept.period?).ok());
    let due: Vec<_> = kept.iter().filter_map(|kept| Some((kept, of(kept)?))).collect();
    if due.is_empty() && !kept.is_empty() {
        let message = "no pipeline says how long it keeps outputs; say `before`, or set variables_retention_period in the \
                       project's metadata.yaml and deploy it";
        return Err(Fault::new(ErrorKind::FailedPrecondition, "NO_RETENTION", message));
    }
    Ok(due)
}

fn preview(info: OutputInfo, noted: Option<PreviewOf>) -> OutputPreview {
    let noted = noted.unwrap_or_default();
    OutputPreview {
        name: info.name,
        kind: info.kind,
        rows: info.rows,
        size_bytes: info.size_bytes,
        columns: noted.columns.into_iter().map(|(name, r#type)| OutputColumn { name, r#type }).collect(),
        sample: noted.sample.iter().map(crate::encode::value).collect(),
        text: noted.text,
        complete: noted.complete,
    }
}

#[async_trait]
impl OutputService for Outputs {
    type DownloadOutputStream = BoxStream<'static, Result<DownloadOutputResponse, Status>>;

    async fn download_output(
        &self,
        request: Request<DownloadOutputRequest>,
    ) -> Result<Response<Self::DownloadOutputStream>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(outputs::download(&self.0, &caller, request.get_ref()).await?.boxed()))
    }

    async fn get_outputs(&self, request: Request<GetOutputsRequest>) -> Result<Response<GetOutputsResponse>, Status> {
        Ok(Response::new(self.get(request.into_inner()).await?))
    }

    async fn clean_outputs(
        &self,
        request: Request<CleanOutputsRequest>,
    ) -> Result<Response<CleanOutputsResponse>, Status> {
        Ok(Response::new(self.clean(request.into_inner()).await?))
    }
}
