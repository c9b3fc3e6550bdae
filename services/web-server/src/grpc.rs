//! Every gRPC service of this server, on one page.

use crate::core::Core;
use crate::services::{
    deployments::Deployments, events::Events, executors::Executors, logs::Logs, monitor::Monitor,
    notifications::Notifications, outputs::Outputs, pipelines::Pipelines, runs::Runs, triggers::Triggers,
    workspaces::Workspaces,
};
use proto::v1::{
    deployment_service_server::DeploymentServiceServer, event_service_server::EventServiceServer,
    executor_service_server::ExecutorServiceServer, log_service_server::LogServiceServer,
    monitor_service_server::MonitorServiceServer, notification_service_server::NotificationServiceServer,
    output_service_server::OutputServiceServer, pipeline_service_server::PipelineServiceServer,
    run_service_server::RunServiceServer, trigger_service_server::TriggerServiceServer,
    workspace_service_server::WorkspaceServiceServer,
};
use std::sync::Arc;
use tokio::sync::watch;
use tonic::codec::CompressionEncoding::Gzip;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

macro_rules! serve {
    ($core:expr, $server:ident, $service:ident) => {
        $server::new($service($core.clone()))
            .max_decoding_message_size($core.limits.message_bytes)
            .accept_compressed(Gzip)
            .send_compressed(Gzip)
    };
}

/// The services, with health and reflection.
///
/// # Errors
/// When the compiled contract cannot be read, which is a fault of the build.
pub(crate) async fn routes(
    core: &Arc<Core>,
    ready: watch::Receiver<bool>,
) -> Result<Routes, tonic_reflection::server::Error> {
    let (reporter, health) = tonic_health::server::health_reporter();
    tokio::spawn(report(reporter, ready));
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    Ok(Routes::new(serve!(core, WorkspaceServiceServer, Workspaces))
        .add_service(serve!(core, DeploymentServiceServer, Deployments))
        .add_service(serve!(core, PipelineServiceServer, Pipelines))
        .add_service(serve!(core, RunServiceServer, Runs))
        .add_service(serve!(core, TriggerServiceServer, Triggers))
        .add_service(serve!(core, EventServiceServer, Events))
        .add_service(serve!(core, LogServiceServer, Logs))
        .add_service(serve!(core, OutputServiceServer, Outputs))
        .add_service(serve!(core, ExecutorServiceServer, Executors))
        .add_service(serve!(core, MonitorServiceServer, Monitor))
        .add_service(serve!(core, NotificationServiceServer, Notifications))
        .add_service(health)
        .add_service(reflection)
        .prepare())
}

/// Tells readiness as health, until readiness is told no more.
async fn report(reporter: HealthReporter, mut ready: watch::Receiver<bool>) {
    loop {
        let status = if *ready.borrow_and_update() { ServingStatus::Serving } else { ServingStatus::NotServing };
        reporter.set_service_status("", status).await;
        if ready.changed().await.is_err() {
            return;
        }
    }
}
