//! The gateway's side of the streams: one to every other scheduler that lives, opened again whenever it breaks.

use super::{LINK_MAX, Peers, Stream, lock};
use crate::engine::{Message, PeerEvent, Units};
use domain::id::{ExecutorId, SchedulerId};
use proto::internal::v1::{
    self as pb, link_request::Message as Out, link_response::Message as In, peer_service_client::PeerServiceClient,
};
use runtime::{
    backoff::{self, Backoff},
    watchdog::Beat,
};
use std::{collections::HashMap, time::Duration};
use store::shards::Shard;
use tokio::{sync::mpsc, task::AbortHandle, time::MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

/// How often it is looked who lives, and peers are told whose heartbeats came.
const INTERVAL: Duration = Duration::from_millis(500);
/// Between two tries to reach a peer.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));

/// Keeps a stream to every other scheduler until it is stopped.
pub async fn keep_all(peers: Peers, engine: mpsc::Sender<Message>, stop: CancellationToken, beat: Beat) {
    let mut links: HashMap<SchedulerId, AbortHandle> = HashMap::new();
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(interval.tick()).await.is_some() {
        beat.beat();
        let others = peers.owners().others();
        links.retain(|peer, link| {
            let lives = others.contains(peer);
            if !lives {
                link.abort();
            }
            lives
        });
        for peer in others {
            links.entry(peer).or_insert_with(|| {
                tokio::spawn(keep_one(peers.clone(), peer, engine.clone(), stop.clone())).abort_handle()
            });
        }
        peers.tell_beats();
    }
}

/// Tells the engine of the end of a link, however it came.
struct Registered {
    peers: Peers,
    peer: SchedulerId,
    engine: mpsc::Sender<Message>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        lock(&self.peers.0.links).remove(&self.peer);
        let (engine, peer) = (self.engine.clone(), self.peer);
        // Its queue may be full at this moment; the word must not be lost.
        tokio::spawn(async move { engine.send(Message::Peer(peer, PeerEvent::Down)).await });
    }
}

async fn keep_one(peers: Peers, peer: SchedulerId, engine: mpsc::Sender<Message>, stop: CancellationToken) {
    let mut pause = BACKOFF;
    // Two schedulers that drain together would otherwise wait for the end of each other's stream.
    while let Some(ended) = stop.run_until_cancelled(one(&peers, peer, &engine, &mut pause)).await {
        match ended {
            Ok(()) => tracing::debug!(peer.id = %peer, "the stream to a scheduler ended"),
            Err(status) if pause.failures() == 0 => {
                tracing::warn!(peer.id = %peer, error = status.message(), "lost the stream to a scheduler");
            }
            Err(_) => {}
        }
        tokio::time::sleep(pause.next(backoff::random())).await;
    }
}

async fn one(
    peers: &Peers,
    peer: SchedulerId,
    engine: &mpsc::Sender<Message>,
    pause: &mut Backoff,
) -> Result<(), tonic::Status> {
    let Some(channel) = peers.owners().channel(peer) else { return Ok(()) };
    let mut client = PeerServiceClient::new(channel).max_decoding_message_size(rpc::server::SESSION_BYTES_MAX);
    let (sender, outgoing) = mpsc::channel(LINK_MAX);
    let hello = Out::Hello(pb::LinkHello { scheduler_id: peers.owners().me().to_vec(), peer_id: peer.to_vec() });
    let broken = CancellationToken::new();
    let stream = Stream { sender, broken: broken.clone() };
    stream.send(pb::LinkRequest { message: Some(hello) });
    let mut incoming = client.link(ReceiverStream::new(outgoing)).await?.into_inner();
    pause.reset();
    lock(&peers.0.links).insert(peer, stream);
    let _registered = Registered { peers: peers.clone(), peer, engine: engine.clone() };
    peers.introduce(peer);
    while let Some(message) = broken.run_until_cancelled(incoming.message()).await {
        let Some(message) = message? else { return Ok(()) };
        if let Some(message) = message.message {
            hear(peers, peer, message, engine).await;
        }
    }
    Ok(())
}

async fn hear(peers: &Peers, peer: SchedulerId, message: In, engine: &mpsc::Sender<Message>) {
    let slots = |slots: pb::Slots| {
        let count = u32::try_from(slots.slots).unwrap_or(0);
        ExecutorId::from_slice(&slots.executor_id).map(|executor| (executor, count))
    };
    let event = match message {
        In::Owned(owned) => {
            let shard = |row: &pb::OwnedShard| Some(Shard { id: i16::try_from(row.shard).ok()?, epoch: row.epoch });
            peers.owners().announced(peer, &owned.shards.iter().filter_map(shard).collect::<Vec<_>>());
            None
        }
        In::Executor(pb::ExecutorResponse { executor_id, response }) => {
            if let (Some(executor), Some(response)) = (ExecutorId::from_slice(&executor_id), response) {
                peers.deliver(executor, response);
            }
            None
        }
        In::Demand(demand) => {
            let homes = demand.home_ids.iter().filter_map(|id| ExecutorId::from_slice(id)).collect();
            let count = |units: i32| u32::try_from(units).unwrap_or(0);
            let units = Units { process: count(demand.units), kubernetes: count(demand.kubernetes_units) };
            Some(PeerEvent::Demand(units, homes))
        }
        In::Returned(returned) => slots(returned).map(|(executor, count)| PeerEvent::Returned(executor, count)),
        In::Claimed(claimed) => slots(claimed).map(|(executor, count)| PeerEvent::Claimed(executor, count)),
        In::PermitsFreed(_) => Some(PeerEvent::PermitsFreed),
        In::Wake(_) => {
            peers.hear_of_free_shards();
            None
        }
    };
    if let Some(event) = event {
        // The engine has ended when nobody listens, and the process with it.
        let _ = engine.send(Message::Peer(peer, event)).await;
    }
}
