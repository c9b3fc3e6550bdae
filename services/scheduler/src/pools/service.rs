//! Executors with nodes: their streams, at the owner of the pool, or on the way to it. Refuses to know what they say.

use super::{Pools, shard_of};
use crate::{
    owners::{Owners, Place},
    placer::{Message, Outbox, SessionEvent},
    session::next_session,
};
use domain::id::ExecutorId;
use proto::internal::v1::{
    self as pb, pool_service_client::PoolServiceClient, pool_service_server::PoolService, serve_request::Message as Up,
};
use rpc::client::Channel;
use std::pin::Pin;
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// Messages to one executor that it has not read; a slower one is asked to come again.
const OUTBOX_MAX: usize = 1_024;

/// The backend that has a pool's nodes together, and tells of all of them; others have a machine each.
const KUBERNETES: &str = "kubernetes";

/// Serves executors.
#[derive(Clone)]
pub struct PoolStreams {
    pools: Pools,
    owners: Owners,
    /// Streams end with it: executors are asked to look elsewhere.
    stop: CancellationToken,
}

impl PoolStreams {
    /// Between executors and the pools here and elsewhere, until `stop`.
    #[must_use]
    pub fn new(pools: Pools, owners: Owners, stop: CancellationToken) -> Self {
        Self { pools, owners, stop }
    }
}

type Outgoing = Pin<Box<dyn Stream<Item = Result<pb::ServeResponse, Status>> + Send>>;

#[tonic::async_trait]
impl PoolService for PoolStreams {
    type ServeStream = Outgoing;

    async fn serve(
        &self,
        request: Request<Streaming<pb::ServeRequest>>,
    ) -> Result<Response<Self::ServeStream>, Status> {
        let mut inbound = request.into_inner();
        let first = inbound.next().await.transpose()?.and_then(|request| request.message);
        let Some(Up::Hello(hello)) = first else {
            return Err(Status::invalid_argument("the first message must be PoolHello"));
        };
        let executor = ExecutorId(rpc::ids::uuid(&hello.executor_id, "executor_id")?);
        match self.owners.place(shard_of(&hello.pool)) {
            Place::There(_, channel) if !hello.forwarded => self.relay(channel, hello, inbound).await,
            _ => self.serve_here(executor, hello, inbound).await,
        }
    }
}

impl PoolStreams {
    /// Passes everything on to the owner, and back. The stream ends when either side does.
    async fn relay(
        &self,
        channel: Channel,
        hello: pb::PoolHello,
        inbound: Streaming<pb::ServeRequest>,
    ) -> Result<Response<Outgoing>, Status> {
        let hello = pb::PoolHello { forwarded: true, ..hello };
        let first = tokio_stream::once(pb::ServeRequest { message: Some(Up::Hello(hello)) });
        // An error of the executor's stream is its end.
        let rest = inbound.map_while(Result::ok);
        let mut owner = PoolServiceClient::new(channel).max_decoding_message_size(rpc::server::MESSAGE_BYTES_MAX);
        let answers = owner.serve(first.chain(rest)).await?.into_inner();
        let until = self.stop.clone().cancelled_owned();
        Ok(Response::new(Box::pin(futures_util::StreamExt::take_until(answers, until))))
    }

    async fn serve_here(
        &self,
        executor: ExecutorId,
        hello: pb::PoolHello,
        mut inbound: Streaming<pb::ServeRequest>,
    ) -> Result<Response<Outgoing>, Status> {
        let placer = self.pools.find(&hello.pool).await.map_err(|error| crate::runtimes::status(&error))?;
        let session = next_session();
        let (sender, outgoing) = mpsc::channel(OUTBOX_MAX);
        let over = self.stop.child_token();
        let outbox = Outbox { sender, over: over.clone() };
        let tell = |event| placer.send(Message::Session(session, event));
        let sees_cluster = hello.backend == KUBERNETES;
        let hello = SessionEvent::Hello { executor, name: hello.name, sees_cluster, outbox };
        tell(hello).await.map_err(|_| moved())?;
        let (placer, ended) = (placer.clone(), over.clone());
        tokio::spawn(async move {
            while let Some(Ok(Some(request))) = ended.run_until_cancelled(inbound.try_next()).await {
                let event = match request.message {
                    Some(Up::Nodes(nodes)) => SessionEvent::Nodes(nodes),
                    Some(Up::Runtimes(runtimes)) => SessionEvent::Runtimes(runtimes),
                    Some(Up::Wishes(wishes)) => SessionEvent::Wishes(wishes),
                    Some(Up::Volumes(reports)) => SessionEvent::Volumes(reports),
                    Some(Up::Heartbeat(_)) => SessionEvent::Heartbeat,
                    // A second Hello is the executor's mistake; its first one stands.
                    Some(Up::Hello(_)) | None => continue,
                };
                if placer.send(Message::Session(session, event)).await.is_err() {
                    break;
                }
            }
            ended.cancel();
            // A placer that has ended has lost the session anyway.
            let _ = placer.send(Message::Session(session, SessionEvent::Closed)).await;
        });
        let outgoing = futures_util::StreamExt::take_until(ReceiverStream::new(outgoing), over.cancelled_owned());
        Ok(Response::new(Box::pin(outgoing)))
    }
}

fn moved() -> Status {
    Status::unavailable("the pool is moving to another scheduler; connect again")
}
