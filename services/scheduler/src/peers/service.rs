//! The owner's side of the streams: executors behind a gateway, as sessions of this engine.

use super::{LINK_MAX, Peers, Stream, lock, owned_message};
use crate::{
    engine::{Message, Outbox, SessionEvent},
    session::{greeting, read_event},
};
use domain::id::{ExecutorId, SchedulerId};
use proto::internal::v1::{
    self as pb, link_request::Message as In, peer_service_server::PeerService, session_request::Message as Up,
};
use std::{
    collections::HashMap,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
};
use tokio::sync::mpsc;
use tokio_stream::{Stream as Streamed, StreamExt, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

static LINKS: AtomicU64 = AtomicU64::new(1);

/// Serves gateways.
#[derive(Clone)]
pub struct PeerLinks {
    peers: Peers,
    engine: mpsc::Sender<Message>,
}

impl PeerLinks {
    /// Speaks to the engine.
    #[must_use]
    pub fn new(peers: Peers, engine: mpsc::Sender<Message>) -> Self {
        Self { peers, engine }
    }
}

#[tonic::async_trait]
impl PeerService for PeerLinks {
    type LinkStream = Pin<Box<dyn Streamed<Item = Result<pb::LinkResponse, Status>> + Send>>;

    async fn link(&self, request: Request<Streaming<pb::LinkRequest>>) -> Result<Response<Self::LinkStream>, Status> {
        let mut inbound = request.into_inner();
        let (sender, outgoing) = mpsc::channel(LINK_MAX);
        let broken = CancellationToken::new();
        let this = self.clone();
        let ended = broken.clone();
        tokio::spawn(async move {
            let Some(Ok(Some(pb::LinkRequest { message: Some(In::Hello(hello)) }))) =
                broken.run_until_cancelled(inbound.try_next()).await
            else {
                return broken.cancel();
            };
            let Some(gateway) = SchedulerId::from_slice(&hello.scheduler_id) else { return broken.cancel() };
            // With two streams from one gateway, the end of the one would take away executors that the other keeps.
            if !hello.peer_id.is_empty() && hello.peer_id != this.peers.owners().me().to_vec() {
                tracing::debug!(gateway.id = %gateway, "a gateway means a former scheduler of this address");
                return broken.cancel();
            }
            let mut link = Link::open(this, gateway, sender, broken.clone());
            while let Some(Ok(Some(message))) = broken.run_until_cancelled(inbound.try_next()).await {
                let Some(message) = message.message else { continue };
                if link.hear(message).await.is_err() {
                    break;
                }
            }
            link.close().await;
        });
        let outgoing = ReceiverStream::new(outgoing).map(Ok);
        let stream = futures_util::StreamExt::take_until(outgoing, ended.cancelled_owned());
        Ok(Response::new(Box::pin(stream)))
    }
}

/// One gateway's stream.
struct Link {
    service: PeerLinks,
    id: u64,
    gateway: SchedulerId,
    sender: mpsc::Sender<pb::LinkResponse>,
    broken: CancellationToken,
    /// Sessions of the executors behind it.
    sessions: HashMap<ExecutorId, u64>,
}

impl Link {
    fn open(
        service: PeerLinks,
        gateway: SchedulerId,
        sender: mpsc::Sender<pb::LinkResponse>,
        broken: CancellationToken,
    ) -> Self {
        let id = LINKS.fetch_add(1, Ordering::Relaxed);
        let stream = Stream { sender: sender.clone(), broken: broken.clone() };
        // First of all where results are to go; then whatever the engine says. Under the lock that what is said next
        // needs as well, so that no change of it is missed.
        let mut gateways = lock(&service.peers.0.gateways);
        stream.send(pb::LinkResponse { message: Some(owned_message(&service.peers.0.owned.borrow())) });
        gateways.insert(id, stream);
        drop(gateways);
        Self { service, id, gateway, sender, broken, sessions: HashMap::new() }
    }

    async fn hear(&mut self, message: In) -> Result<(), ()> {
        match message {
            // A second Hello is the gateway's mistake; its first one stands.
            In::Hello(_) => Ok(()),
            In::Executor(pb::ExecutorRequest { executor_id, request }) => {
                let Some(executor) = ExecutorId::from_slice(&executor_id) else { return Ok(()) };
                match request.and_then(|request| request.message) {
                    Some(Up::Hello(hello)) => self.welcome(executor, hello).await,
                    Some(message) => match read_event(message) {
                        Some(event) => self.tell(executor, event).await,
                        None => Ok(()),
                    },
                    None => Ok(()),
                }
            }
            In::Alive(alive) => {
                for executor in alive.executor_ids.iter().filter_map(|id| ExecutorId::from_slice(id)) {
                    self.tell(executor, SessionEvent::Heartbeat { sequence: 0, running: 0 }).await?;
                }
                Ok(())
            }
            In::Lent(slots) => self.slots(&slots, SessionEvent::Lent).await,
            In::Recalled(slots) => self.slots(&slots, SessionEvent::Recalled).await,
            In::Closed(closed) => match ExecutorId::from_slice(&closed.executor_id) {
                Some(executor) => {
                    self.tell(executor, SessionEvent::Closed).await?;
                    self.sessions.remove(&executor);
                    Ok(())
                }
                None => Ok(()),
            },
        }
    }

    async fn slots(&self, slots: &pb::Slots, event: impl Fn(u32) -> SessionEvent) -> Result<(), ()> {
        let Some(executor) = ExecutorId::from_slice(&slots.executor_id) else { return Ok(()) };
        self.tell(executor, event(u32::try_from(slots.slots).unwrap_or(0))).await
    }

    async fn welcome(&mut self, executor: ExecutorId, hello: pb::Hello) -> Result<(), ()> {
        let session = crate::session::next_session();
        self.sessions.insert(executor, session);
        let outbox = Outbox::Relayed { executor, link: self.sender.clone(), broken: self.broken.clone() };
        self.tell(executor, greeting(hello, outbox, Some(self.gateway))).await
    }

    async fn tell(&self, executor: ExecutorId, event: SessionEvent) -> Result<(), ()> {
        // An executor that was not introduced on this stream is not known on it.
        let Some(session) = self.sessions.get(&executor) else { return Ok(()) };
        self.service.engine.send(Message::Session(executor, *session, event)).await.map_err(drop)
    }

    async fn close(self) {
        self.broken.cancel();
        lock(&self.service.peers.0.gateways).remove(&self.id);
        for executor in self.sessions.keys() {
            let _ = self.tell(*executor, SessionEvent::Closed).await;
        }
    }
}
