//! Deployments: plan, upload, create. Refuses to run any code that is deployed.

use crate::core::Core;
use crate::identity::Caller;
use crate::{bundles, deploy};
use proto::v1::{
    CreateDeploymentRequest, CreateDeploymentResponse, PlanDeploymentRequest, PlanDeploymentResponse,
    UploadFilesRequest, UploadFilesResponse, deployment_service_server::DeploymentService,
};
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming, async_trait};

/// Serves `orrery.v1.DeploymentService`.
pub(crate) struct Deployments(pub(crate) Arc<Core>);

#[async_trait]
impl DeploymentService for Deployments {
    async fn plan_deployment(
        &self,
        request: Request<PlanDeploymentRequest>,
    ) -> Result<Response<PlanDeploymentResponse>, Status> {
        let request = request.into_inner();
        self.0.workspace(&request.workspace).await?;
        let (manifest, _) = bundles::manifest(request.manifest, &self.0.limits)?;
        let missing_sha256 = bundles::missing(&self.0, &manifest).await?;
        Ok(Response::new(PlanDeploymentResponse { missing_sha256, bundle_digest: manifest.digest() }))
    }

    async fn upload_files(
        &self,
        request: Request<Streaming<UploadFilesRequest>>,
    ) -> Result<Response<UploadFilesResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(bundles::receive(&self.0, &caller, request.into_inner()).await?))
    }

    async fn create_deployment(
        &self,
        request: Request<CreateDeploymentRequest>,
    ) -> Result<Response<CreateDeploymentResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(deploy::deploy(&self.0, &caller, request.into_inner()).await?))
    }
}
