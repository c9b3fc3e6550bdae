//! The server that the commands talk to: where it is, its token, and ready-made clients.

use crate::{
    failure::{Code, Failure, Result},
    kept::Kept,
    meant,
    record::Record,
};
use proto::v1::{
    ListRunsRequest, audit_service_client::AuditServiceClient, backfill_service_client::BackfillServiceClient,
    deployment_service_client::DeploymentServiceClient, device_service_client::DeviceServiceClient,
    event_service_client::EventServiceClient, executor_service_client::ExecutorServiceClient,
    gpu_usage_service_client::GpuUsageServiceClient, group_service_client::GroupServiceClient,
    limit_service_client::LimitServiceClient, log_service_client::LogServiceClient,
    member_service_client::MemberServiceClient, model_service_client::ModelServiceClient,
    monitor_service_client::MonitorServiceClient, notification_service_client::NotificationServiceClient,
    output_service_client::OutputServiceClient, pipeline_service_client::PipelineServiceClient,
    plan_service_client::PlanServiceClient, policy_service_client::PolicyServiceClient,
    project_service_client::ProjectServiceClient, queue_service_client::QueueServiceClient,
    run_service_client::RunServiceClient, runtime_service_client::RuntimeServiceClient,
    secret_service_client::SecretServiceClient, sign_in_service_client::SignInServiceClient,
    token_service_client::TokenServiceClient, trigger_service_client::TriggerServiceClient,
    user_service_client::UserServiceClient, volume_service_client::VolumeServiceClient,
    workspace_service_client::WorkspaceServiceClient,
};
use rpc::{
    auth::Token,
    client::{self, Channel},
};
use std::{path::Path, time::Duration};

/// How long one answer may take.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an upload or a deployment may take.
pub(crate) const UPLOAD_TIMEOUT: Duration = Duration::from_secs(900);
/// The largest answer: a page of block runs with long tracebacks.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The largest page.
pub(crate) const PAGE_SIZE: i32 = 500;
/// How many of the newest runs a part of an id is looked up in.
const RESOLVE_RUNS_MAX: usize = 5_000;
/// The shortest part of an id.
const ID_PART_MIN: usize = 6;
/// The length of a whole id.
const ID_LENGTH: usize = 36;

/// A lazy connection to one server and one workspace. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    channel: Channel,
    server: String,
    pub(crate) workspace: String,
}

macro_rules! clients {
    ($($name:ident: $client:ident),*) => {
        $(pub(crate) fn $name(&self) -> $client<Channel> {
            $client::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
        })*
    };
}

impl Connection {
    /// To the named server, or the one that `orrery up` wrote down.
    pub(crate) fn open(server: Option<&str>, token_file: Option<&Path>, workspace: &str) -> Result<Self> {
        let (record, kept) = (if server.is_none() { Record::find()? } else { None }, Kept::load());
        let known = record.as_ref().map(|r| r.server.as_str()).or(kept.current());
        let Some(url) = server.or(known).map(str::to_owned) else {
            return Err(Failure::new(
                Code::Unavailable,
                "no server is known",
                "start one with `orrery up`, or name one by --server or ORRERY_SERVER",
            ));
        };
        // Who has signed in is that person, also on the own machine; else the operator's token of `orrery up`.
        let token = match (token_file, kept.token(&url), record.map(|r| r.token_file)) {
            (None, Some(token), _) => Some(Token::new(token)),
            (Some(file), _, _) => Some(Token::from_file(file)),
            (None, None, file) => file.map(|file| Token::from_file(&file)),
        };
        let token = token.transpose().map_err(|e| Failure::new(Code::Permission, e, "check --token-file"))?;
        Self::to(&url, token.as_ref(), workspace)
    }

    /// To this server with this token.
    pub(crate) fn to(url: &str, token: Option<&Token>, workspace: &str) -> Result<Self> {
        let usage = |what: String| Failure::new(Code::Usage, what, "write it as https://host, or http://host:port");
        let uri = url.parse().map_err(|_| usage(format!("`{url}` is not the URL of a server")))?;
        let channel = client::connect(&[uri], token).map_err(|e| usage(e.to_string()))?;
        Ok(Self { channel, server: url.to_owned(), workspace: workspace.to_owned() })
    }

    clients! {
        runs: RunServiceClient, logs: LogServiceClient, monitor: MonitorServiceClient,
        notifications: NotificationServiceClient, pipelines: PipelineServiceClient,
        executors: ExecutorServiceClient, workspaces: WorkspaceServiceClient, deployments: DeploymentServiceClient,
        sign_ins: SignInServiceClient, users: UserServiceClient, groups: GroupServiceClient,
        tokens: TokenServiceClient, projects: ProjectServiceClient, members: MemberServiceClient,
        secrets: SecretServiceClient, audit: AuditServiceClient, triggers: TriggerServiceClient,
        runtimes: RuntimeServiceClient, queues: QueueServiceClient, plans: PlanServiceClient,
        policies: PolicyServiceClient, devices: DeviceServiceClient,
        events: EventServiceClient, outputs: OutputServiceClient, backfills: BackfillServiceClient,
        limits: LimitServiceClient, models: ModelServiceClient, volumes: VolumeServiceClient,
        gpu_usage: GpuUsageServiceClient
    }

    /// The server's URL, as it was named.
    pub(crate) fn server(&self) -> &str {
        self.server.trim_end_matches('/')
    }

    /// The whole id of the run that `part` means: all of it, or a unique beginning or end of 6 characters or more.
    pub(crate) async fn resolve_run(&self, part: &str) -> Result<String> {
        let part = part.trim().to_ascii_lowercase();
        if part.len() == ID_LENGTH {
            return Ok(part);
        }
        if part.len() < ID_PART_MIN || !part.chars().all(|c| c.is_ascii_hexdigit() || c == '-') {
            return Err(Failure::new(
                Code::Usage,
                format!("`{part}` is not a run's id"),
                "give 6 or more characters of its beginning or end; `orrery runs` lists them",
            ));
        }
        let mut found = Vec::new();
        let (mut seen, mut page_token) = (0, String::new());
        while seen < RESOLVE_RUNS_MAX {
            let request = ListRunsRequest {
                workspace: self.workspace.clone(),
                page_size: PAGE_SIZE,
                page_token,
                ..ListRunsRequest::default()
            };
            let page = self.runs().list_runs(client::within(CALL_TIMEOUT, request)).await?.into_inner();
            seen += page.runs.len();
            found.extend(page.runs.into_iter().map(|r| r.id).filter(|id| id_matches(id, &part)));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        the_run(found, &part, &self.workspace)
    }
}

fn id_matches(id: &str, part: &str) -> bool {
    id.starts_with(part) || id.ends_with(part)
}

fn the_run(found: Vec<String>, part: &str, workspace: &str) -> Result<String> {
    let one = meant::at_most_one(found, |several| {
        Failure::new(
            Code::Usage,
            format!("`{part}` means {} runs", several.len()),
            "give more characters; the end of an id differs more than its beginning",
        )
    })?;
    one.ok_or_else(|| {
        Failure::new(
            Code::NotFound,
            format!("no run of workspace {workspace} has `{part}` at the beginning or end of its id"),
            "`orrery runs --limit 1000` lists them",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_ids_mean_one_run_or_none() {
        let id = "0193a1b2-0000-7000-8000-0123456789ab";
        assert!(id_matches(id, "0193a1") && id_matches(id, "6789ab") && !id_matches(id, "7000-8000"));
        assert_eq!(the_run(vec![id.into()], "6789ab", "w").unwrap(), id);
        assert_eq!(the_run(vec![id.into(), id.into()], "0193a1", "w").unwrap_err().code, Code::Usage);
        assert_eq!(the_run(vec![], "0193a1", "w").unwrap_err().code, Code::NotFound);
    }
}
