//! Who is told of runs, and what was told. Refuses to send anything, and to show a secret.

use crate::core::Core;
use crate::encode;
use crate::fault::Fault;
use crate::notification_seals as configs;
use crate::paging::Page;
use crate::targets;
use domain::ErrorKind;
use domain::id::RunId;
use notify::Config;
use proto::internal::v1::TestNotificationRequest;
use proto::v1::{
    self, ListNotificationConfigsRequest, ListNotificationConfigsResponse, ListNotificationsRequest,
    ListNotificationsResponse, NotificationConfig, SetNotificationConfigRequest, SetNotificationConfigResponse,
    TestNotificationsRequest, TestNotificationsResponse, notification_service_server::NotificationService,
};
use rpc::timestamp::to_proto;
use serde_json::Value;
use std::sync::Arc;
use store::notifications::{self, Configured, Notification};
use tonic::{Request, Response, Status, async_trait};

/// Serves `orrery.v1.NotificationService`.
pub(crate) struct Notifications(pub(crate) Arc<Core>);

/// The largest configuration, as JSON.
const CONFIG_BYTES_MAX: usize = 64 * 1024;
/// Configurations of one workspace, so that one answer lists them all. Two that are set at the same time may both count as
/// the last.
const CONFIGS_MAX: usize = 100;

fn message(notification: Notification) -> v1::Notification {
    let pending = notification.ended_at.is_none();
    v1::Notification {
        id: notification.id,
        pipeline: notification.pipeline,
        run_id: notification.run.map(|run| run.to_string()).unwrap_or_default(),
        event: notification.event,
        source: notification.source,
        channel: notification.channel,
        status: notification.status,
        attempts: notification.attempts.into(),
        next_attempt_at: pending.then(|| to_proto(notification.not_before)),
        error: notification.error,
        created_at: Some(to_proto(notification.created_at)),
        ended_at: notification.ended_at.map(to_proto),
    }
}

fn config(configured: Configured) -> NotificationConfig {
    NotificationConfig {
        pipeline: configured.pipeline_name,
        config: Some(encode::object(notify::config::redact(&configured.config))),
        updated_at: Some(to_proto(configured.updated_at)),
    }
}

impl Notifications {
    async fn list(&self, request: ListNotificationsRequest) -> Result<ListNotificationsResponse, Fault> {
        let page = Page::of(request.page_size)?;
        let scope = format!("notifications/{}/{}", request.workspace, request.run_id);
        let before: i64 = rpc::paging::decode(&scope, &request.page_token)?.unwrap_or(i64::MAX);
        let run = match request.run_id.as_str() {
            "" => None,
            id => Some(rpc::ids::parse::<RunId>(id, "run_id")?),
        };
        let workspace = self.0.workspace(&request.workspace).await?;
        let db = self.0.store.client().await?;
        let mut rows = notifications::list(&db, workspace.id, run, before, page.limit()).await?;
        let next_page_token = page.cut(&scope, &mut rows, |row| row.id)?;
        Ok(ListNotificationsResponse { notifications: rows.into_iter().map(message).collect(), next_page_token })
    }

    async fn configs(&self, request: ListNotificationConfigsRequest) -> Result<ListNotificationConfigsResponse, Fault> {
        let workspace = self.0.workspace(&request.workspace).await?;
        let db = self.0.store.client().await?;
        let configured = notifications::configured(&db, &[workspace.id.0]).await?;
        Ok(ListNotificationConfigsResponse { configs: configured.into_iter().map(config).collect() })
    }

    async fn set(&self, request: SetNotificationConfigRequest) -> Result<SetNotificationConfigResponse, Fault> {
        let json = request.config.map(|config| rpc::json::struct_to_json(config, "config")).transpose()?;
        let json = json.unwrap_or_default();
        let wrong = |error: notify::config::ConfigError| Fault::field(format!("config.{}", error.key), error.why);
        Config::parse(&json).map_err(wrong)?;
        let json = Value::Object(json);
        if json.to_string().len() > CONFIG_BYTES_MAX || json.to_string().contains("\\u0000") {
            return Err(Fault::field("config", format!("must have at most {CONFIG_BYTES_MAX} bytes and no NUL")));
        }
        let db = self.0.store.client().await?;
        let target = targets::find(&self.0, &db, &request.workspace, &request.pipeline, "").await?;
        if json.as_object().is_none_or(serde_json::Map::is_empty) {
            notifications::unconfigure(&db, target.workspace, target.pipeline).await?;
        } else {
            let known = notifications::configured(&db, &[target.workspace.0]).await?;
            if known.len() >= CONFIGS_MAX && known.iter().all(|known| known.pipeline != target.pipeline) {
                let message = format!("the workspace has {CONFIGS_MAX} configurations already; remove some");
                return Err(Fault::new(ErrorKind::ResourceExhausted, "TOO_MANY_CONFIGS", message));
            }
            let version = notifications::version(&db, target.workspace, target.pipeline).await? + 1;
            let scope = notifications::scope(target.workspace, target.pipeline);
            let (shown, seal) = configs::seal(self.0.keyring.as_ref(), &scope, version, &json)?;
            let (of, seal) = (target.pipeline, seal.as_ref());
            if !notifications::configure(&db, target.workspace, of, &shown, version, seal).await? {
                let message = "somebody else changed this configuration meanwhile; look at it and try again";
                return Err(Fault::new(ErrorKind::Conflict, "CHANGED_MEANWHILE", message));
            }
        }
        let configured = notifications::configured(&db, &[target.workspace.0]).await?;
        let now = configured.into_iter().find(|configured| configured.pipeline == target.pipeline).map(config);
        Ok(SetNotificationConfigResponse { config: now })
    }

    async fn test(&self, request: TestNotificationsRequest) -> Result<TestNotificationsResponse, Fault> {
        let db = self.0.store.client().await?;
        let target = targets::find(&self.0, &db, &request.workspace, &request.pipeline, "").await?;
        drop(db);
        let message = TestNotificationRequest {
            workspace_id: target.workspace.to_vec(),
            pipeline_id: target.pipeline.map(|id| id.to_vec()).unwrap_or_default(),
        };
        Ok(TestNotificationsResponse { notifications: self.0.commands.test_notification(message).await? })
    }
}

#[async_trait]
impl NotificationService for Notifications {
    async fn list_notifications(
        &self,
        request: Request<ListNotificationsRequest>,
    ) -> Result<Response<ListNotificationsResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }

    async fn list_notification_configs(
        &self,
        request: Request<ListNotificationConfigsRequest>,
    ) -> Result<Response<ListNotificationConfigsResponse>, Status> {
        Ok(Response::new(self.configs(request.into_inner()).await?))
    }

    async fn set_notification_config(
        &self,
        request: Request<SetNotificationConfigRequest>,
    ) -> Result<Response<SetNotificationConfigResponse>, Status> {
        Ok(Response::new(self.set(request.into_inner()).await?))
    }

    async fn test_notifications(
        &self,
        request: Request<TestNotificationsRequest>,
    ) -> Result<Response<TestNotificationsResponse>, Status> {
        Ok(Response::new(self.test(request.into_inner()).await?))
    }
}
