//! Every gRPC service of this server, on one page.

use crate::core::Core;
use crate::services::{
    audit::Audit, backfills::Backfills, deployments::Deployments, devices::Devices, events::Events,
    executors::Executors, gpu_usage::GpuUsages, groups::Groups, limits::Limits, logs::Logs, members::Members,
    models::Models, monitor::Monitor, notifications::Notifications, outputs::Outputs, pipelines::Pipelines,
    plans::Plans, policies::Policies, projects::Projects, queues::Queues, runs::Runs, runtimes::Runtimes,
    secrets::Secrets, sign_in::SignIns, tokens::Tokens, triggers::Triggers, users::Users, volumes::Volumes,
    workspaces::Workspaces,
};
use proto::v1::{
    audit_service_server::AuditServiceServer, backfill_service_server::BackfillServiceServer,
    deployment_service_server::DeploymentServiceServer, device_service_server::DeviceServiceServer,
    event_service_server::EventServiceServer, executor_service_server::ExecutorServiceServer,
    gpu_usage_service_server::GpuUsageServiceServer, group_service_server::GroupServiceServer,
    limit_service_server::LimitServiceServer, log_service_server::LogServiceServer,
    member_service_server::MemberServiceServer, model_service_server::ModelServiceServer,
    monitor_service_server::MonitorServiceServer, notification_service_server::NotificationServiceServer,
    output_service_server::OutputServiceServer, pipeline_service_server::PipelineServiceServer,
    plan_service_server::PlanServiceServer, policy_service_server::PolicyServiceServer,
    project_service_server::ProjectServiceServer, queue_service_server::QueueServiceServer,
    run_service_server::RunServiceServer, runtime_service_server::RuntimeServiceServer,
    secret_service_server::SecretServiceServer, sign_in_service_server::SignInServiceServer,
    token_service_server::TokenServiceServer, trigger_service_server::TriggerServiceServer,
    user_service_server::UserServiceServer, volume_service_server::VolumeServiceServer,
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
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(Routes::new(serve!(core, WorkspaceServiceServer, Workspaces))
        .add_service(serve!(core, DeploymentServiceServer, Deployments))
        .add_service(serve!(core, PipelineServiceServer, Pipelines))
        .add_service(serve!(core, RunServiceServer, Runs))
        .add_service(serve!(core, TriggerServiceServer, Triggers))
        .add_service(serve!(core, EventServiceServer, Events))
        .add_service(serve!(core, BackfillServiceServer, Backfills))
        .add_service(serve!(core, LimitServiceServer, Limits))
        .add_service(serve!(core, LogServiceServer, Logs))
        .add_service(serve!(core, OutputServiceServer, Outputs))
        .add_service(serve!(core, ExecutorServiceServer, Executors))
        .add_service(serve!(core, SignInServiceServer, SignIns))
        .add_service(serve!(core, UserServiceServer, Users))
        .add_service(serve!(core, GroupServiceServer, Groups))
        .add_service(serve!(core, TokenServiceServer, Tokens))
        .add_service(serve!(core, ProjectServiceServer, Projects))
        .add_service(serve!(core, MemberServiceServer, Members))
        .add_service(serve!(core, AuditServiceServer, Audit))
        .add_service(serve!(core, SecretServiceServer, Secrets))
        .add_service(serve!(core, MonitorServiceServer, Monitor))
        .add_service(serve!(core, ModelServiceServer, Models))
        .add_service(serve!(core, NotificationServiceServer, Notifications))
        .add_service(serve!(core, RuntimeServiceServer, Runtimes))
        .add_service(serve!(core, QueueServiceServer, Queues))
        .add_service(serve!(core, PlanServiceServer, Plans))
        .add_service(serve!(core, PolicyServiceServer, Policies))
        .add_service(serve!(core, DeviceServiceServer, Devices))
        .add_service(serve!(core, GpuUsageServiceServer, GpuUsages))
        .add_service(serve!(core, VolumeServiceServer, Volumes))
        .add_service(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
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
