//! Commands about runtimes, as gRPC, and their way to the owner of the pool. Refuses to know what they do.

use crate::{
    access_keys,
    orders::Hop,
    owners::{NotHere, Owners},
    placer::{Imagined, Message, PlacerError, Reply, SeenActivity, StartRuntime, StopRuntime, SwitchQueue},
    pools::{Pools, shard_of},
};
use domain::{
    id::{GangId, HolderId, QueueId, UserId, WorkspaceId},
    runtime::{
        gang::{GANG_MAX, Gang},
        reason::Reason,
    },
};
use jiff::Timestamp;
use proto::internal::v1::{
    self as pb, runtime_command_service_client::RuntimeCommandServiceClient,
    runtime_command_service_server::RuntimeCommandService,
};
use rpc::client::Channel;
use std::time::Duration;
use tonic::{Request, Response, Status};

/// The owner's time to answer; one that is frozen is asked again, or its successor.
const PEER_TIMEOUT: Duration = Duration::from_secs(5);
/// Activities in one report.
const SEEN_MAX: usize = 10_000;
/// Requests that may be imagined at once.
const IMAGINED_MAX: usize = 100;
/// Nodes that are described at once.
const DESCRIBED_MAX: usize = 1_000;

/// Serves web-servers.
#[derive(Clone)]
pub struct Runtimes {
    pools: Pools,
    owners: Owners,
}

/// The status of a refusal.
#[must_use]
pub fn status(error: &PlacerError) -> Status {
    rpc::status::to_status(error.kind(), error.reason(), error.to_string(), &[])
}

fn workspace(bytes: &[u8]) -> Result<WorkspaceId, Status> {
    Ok(WorkspaceId(rpc::ids::uuid(bytes, "workspace_id")?))
}

fn gang(gang: &pb::Gang) -> Result<Gang, Status> {
    if !(2..=GANG_MAX).contains(&gang.size) {
        return Err(Status::invalid_argument(format!("a gang has 2 to {GANG_MAX} members")));
    }
    let id = GangId(rpc::ids::uuid(&gang.id, "gang.id")?);
    Ok(Gang { id, size: gang.size, one_zone: gang.one_zone })
}

type Peer = RuntimeCommandServiceClient<Channel>;

impl Runtimes {
    /// Between the pools here and those of others.
    #[must_use]
    pub fn new(pools: Pools, owners: Owners) -> Self {
        Self { pools, owners }
    }

    /// Asks the pool's placer, wherever it is. Every command may be repeated.
    async fn at_owner<T, R, P>(
        &self,
        (pool, forwarded): (&str, bool),
        message: impl Fn(Reply<T>) -> Message,
        there: impl Fn(Peer) -> P,
        answer: impl Fn(T) -> R,
    ) -> Result<Response<R>, Status>
    where
        P: Future<Output = Result<Response<R>, Status>>,
    {
        let here = || async {
            let asked = self.pools.ask(pool, &message).await;
            match asked {
                Ok(answered) => Ok(Response::new(answer(answered))),
                Err(PlacerError::NotOwner) => Err(NotHere::NotOwner(status(&PlacerError::NotOwner))),
                Err(refused) => Err(NotHere::Refused(status(&refused))),
            }
        };
        let there = |channel| {
            there(RuntimeCommandServiceClient::new(channel).max_decoding_message_size(rpc::server::MESSAGE_BYTES_MAX))
        };
        self.owners.at_owner(shard_of(pool), Hop::of(forwarded), here, there).await
    }
}

#[tonic::async_trait]
impl RuntimeCommandService for Runtimes {
    async fn start_runtime(
        &self,
        request: Request<pb::StartRuntimeRequest>,
    ) -> Result<Response<pb::StartRuntimeResponse>, Status> {
        let request = request.into_inner();
        let command = StartRuntime {
            workspace: workspace(&request.workspace_id)?,
            spec_version: request.spec_version,
            requested_by: UserId::from_slice(&request.requested_by),
            key: request.idempotency_key.clone(),
            gang: request.gang.as_ref().map(gang).transpose()?,
            image: request.image.clone(),
        };
        let message = |reply| Message::Start(command.clone(), reply);
        let there = |mut peer: Peer| {
            let passed_on = pb::StartRuntimeRequest { forwarded: true, ..request.clone() };
            async move { peer.start_runtime(rpc::client::within(PEER_TIMEOUT, passed_on)).await }
        };
        let to = (request.pool.as_str(), request.forwarded);
        self.at_owner(to, message, there, |number| pb::StartRuntimeResponse { number }).await
    }

    async fn stop_runtime(
        &self,
        request: Request<pb::StopRuntimeRequest>,
    ) -> Result<Response<pb::StopRuntimeResponse>, Status> {
        let request = request.into_inner();
        let reason = match request.reason.as_str() {
            "USER" => Some(Reason::User),
            "ADMIN" => Some(Reason::Admin),
            "RESTART" => Some(Reason::Restart),
            "RESET" => Some(Reason::ErrorReset),
            "FENCED" => None,
            _ => return Err(Status::invalid_argument("reason must be USER, ADMIN, RESTART, RESET or FENCED")),
        };
        let command = StopRuntime {
            workspace: workspace(&request.workspace_id)?,
            start_again: request.start_again || reason == Some(Reason::Restart),
            reason,
            requested_by: UserId::from_slice(&request.requested_by),
            only: (request.number != 0).then_some(request.number),
            image: request.image.clone(),
        };
        let message = |reply| Message::Stop(command.clone(), reply);
        let there = |mut peer: Peer| {
            let passed_on = pb::StopRuntimeRequest { forwarded: true, ..request.clone() };
            async move { peer.stop_runtime(rpc::client::within(PEER_TIMEOUT, passed_on)).await }
        };
        let to = (request.pool.as_str(), request.forwarded);
        self.at_owner(to, message, there, |()| pb::StopRuntimeResponse {}).await
    }

    async fn switch_queue(
        &self,
        request: Request<pb::SwitchQueueRequest>,
    ) -> Result<Response<pb::SwitchQueueResponse>, Status> {
        let request = request.into_inner();
        let command = SwitchQueue {
            workspace: workspace(&request.workspace_id)?,
            queue: QueueId(rpc::ids::uuid(&request.queue_id, "queue_id")?),
            requested_by: UserId::from_slice(&request.requested_by),
        };
        let message = |reply| Message::Switch(command.clone(), reply);
        let there = |mut peer: Peer| {
            let passed_on = pb::SwitchQueueRequest { forwarded: true, ..request.clone() };
            async move { peer.switch_queue(rpc::client::within(PEER_TIMEOUT, passed_on)).await }
        };
        let to = (request.pool.as_str(), request.forwarded);
        self.at_owner(to, message, there, |()| pb::SwitchQueueResponse {}).await
    }

    async fn snooze_runtime(
        &self,
        request: Request<pb::SnoozeRuntimeRequest>,
    ) -> Result<Response<pb::SnoozeRuntimeResponse>, Status> {
        let request = request.into_inner();
        let workspace = workspace(&request.workspace_id)?;
        let until = Timestamp::from_microsecond(request.until_us)
            .map_err(|error| rpc::status::Problem::invalid("until_us", error.to_string()))?;
        let actor = UserId::from_slice(&request.requested_by);
        let message = |reply| Message::Snooze(workspace, until, actor, reply);
        let there = |mut peer: Peer| {
            let passed_on = pb::SnoozeRuntimeRequest { forwarded: true, ..request.clone() };
            async move { peer.snooze_runtime(rpc::client::within(PEER_TIMEOUT, passed_on)).await }
        };
        let to = (request.pool.as_str(), request.forwarded);
        self.at_owner(to, message, there, |()| pb::SnoozeRuntimeResponse {}).await
    }

    async fn report_activity(
        &self,
        request: Request<pb::ReportActivityRequest>,
    ) -> Result<Response<pb::ReportActivityResponse>, Status> {
        let request = request.into_inner();
        if request.seen.len() > SEEN_MAX {
            return Err(Status::invalid_argument(format!("at most {SEEN_MAX} activities in one report")));
        }
        let read = |seen: &pb::SeenActivity| {
            let workspace = WorkspaceId::from_slice(&seen.workspace_id)?;
            Some(SeenActivity { workspace, number: seen.number, ago_ms: seen.ago_ms })
        };
        let seen: Vec<SeenActivity> = request.seen.iter().filter_map(read).collect();
        let message = |reply| Message::Seen(seen.clone(), reply);
        let there = |mut peer: Peer| {
            let passed_on = pb::ReportActivityRequest { forwarded: true, ..request.clone() };
            async move { peer.report_activity(rpc::client::within(PEER_TIMEOUT, passed_on)).await }
        };
        let to = (request.pool.as_str(), request.forwarded);
        self.at_owner(to, message, there, |()| pb::ReportActivityResponse {}).await
    }

    async fn plan_runtimes(
        &self,
        request: Request<pb::PlanRuntimesRequest>,
    ) -> Result<Response<pb::PlanRuntimesResponse>, Status> {
        let request = request.into_inner();
        let imagined: Vec<placement::Request> = serde_json::from_str(&request.requests)
            .map_err(|error| rpc::status::Problem::invalid("requests", error.to_string()))?;
        if imagined.len() > IMAGINED_MAX {
            return Err(Status::invalid_argument(format!("at most {IMAGINED_MAX} requests can be imagined at once")));
        }
        let gone = request.gone.iter().map(|holder| rpc::ids::uuid(holder, "gone").map(HolderId));
        let imagined = Imagined { requests: imagined, gone: gone.collect::<Result<_, _>>()? };
        let message = |reply| Message::Imagine(imagined.clone(), reply);
        let there = |mut peer: Peer| {
            let passed_on = pb::PlanRuntimesRequest { forwarded: true, ..request.clone() };
            async move { peer.plan_runtimes(rpc::client::within(PEER_TIMEOUT, passed_on)).await }
        };
        let to = (request.pool.as_str(), request.forwarded);
        let answer = |plan| pb::PlanRuntimesResponse { plan: serde_json::to_string(&plan).unwrap_or_default() };
        self.at_owner(to, message, there, answer).await
    }

    async fn describe_nodes(
        &self,
        request: Request<pb::DescribeNodesRequest>,
    ) -> Result<Response<pb::DescribeNodesResponse>, Status> {
        let request = request.into_inner();
        if request.nodes.len() > DESCRIBED_MAX {
            return Err(Status::invalid_argument(format!("at most {DESCRIBED_MAX} nodes can be described at once")));
        }
        let message = |reply| Message::Look(request.nodes.clone(), reply);
        let there = |mut peer: Peer| {
            let passed_on = pb::DescribeNodesRequest { forwarded: true, ..request.clone() };
            async move { peer.describe_nodes(rpc::client::within(PEER_TIMEOUT, passed_on)).await }
        };
        let to = (request.pool.as_str(), request.forwarded);
        self.at_owner(to, message, there, |nodes| pb::DescribeNodesResponse { nodes }).await
    }

    async fn rewrap_access_keys(
        &self,
        request: Request<pb::RewrapAccessKeysRequest>,
    ) -> Result<Response<pb::RewrapAccessKeysResponse>, Status> {
        let request = request.into_inner();
        let limit = i64::from(request.limit);
        if !(1..=access_keys::LIMIT_MAX).contains(&limit) {
            return Err(Status::invalid_argument(format!("limit must be 1 to {}", access_keys::LIMIT_MAX)));
        }
        let parts = self.pools.parts();
        let rewrapped = access_keys::rewrap(&parts.store, parts.keyring.as_deref(), (&request.key_id, limit)).await;
        let rewrapped = rewrapped.map_err(|refused| status(&refused))?;
        Ok(Response::new(pb::RewrapAccessKeysResponse { rewrapped: i64::try_from(rewrapped).unwrap_or(i64::MAX) }))
    }
}
