//! The other schedulers: what travels between this one and them, and the executors whose gateway this one is.
//!
//! An executor holds one session, with whichever scheduler it reached. That one is its *gateway*: it passes on what
//! concerns runs of other owners, over one stream to each ([`link`]). For the owner, an executor behind a gateway is an
//! executor like any other, whose slots are those that the gateway lends ([`service`]).
//!
//! Refuses to decide: who gets which slot is the engines' business, who owns what the keeper's. With one scheduler
//! nothing here is passed through.

pub mod link;
pub mod service;
mod sessions;

use crate::owners::Owners;
use domain::id::SchedulerId;
use proto::internal::v1 as pb;
use sessions::Locals;
pub use sessions::{Local, Opened};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use store::shards::Shard;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Messages of a stream between two schedulers that its reader has not taken; beyond it the stream is broken and opened
/// again.
pub(crate) const LINK_MAX: usize = 16_384;

/// The other schedulers. Cheap to clone.
#[derive(Clone)]
pub struct Peers(Arc<Inner>);

struct Inner {
    owners: Owners,
    /// Streams that this scheduler opened, as a gateway.
    links: Mutex<HashMap<SchedulerId, Stream<pb::LinkRequest>>>,
    /// Streams that gateways opened to this scheduler.
    gateways: Mutex<HashMap<u64, Stream<pb::LinkResponse>>>,
    locals: Mutex<Locals>,
    /// What this scheduler owns; a gateway that comes is told first.
    owned: watch::Sender<Vec<Shard>>,
    shards_are_free: Notify,
}

/// One direction of a stream. A reader that does not keep up loses it.
struct Stream<T> {
    sender: mpsc::Sender<T>,
    broken: CancellationToken,
}

impl<T> Stream<T> {
    fn send(&self, message: T) {
        if self.sender.try_send(message).is_err() {
            self.broken.cancel();
        }
    }
}

impl Peers {
    /// Nobody is connected yet.
    #[must_use]
    pub fn new(owners: Owners) -> Self {
        Self(Arc::new(Inner {
            owners,
            links: Mutex::default(),
            gateways: Mutex::default(),
            locals: Mutex::default(),
            owned: watch::Sender::new(Vec::new()),
            shards_are_free: Notify::new(),
        }))
    }

    /// Who owns what.
    #[must_use]
    pub fn owners(&self) -> &Owners {
        &self.0.owners
    }

    /// Says something to one peer, as a gateway; nothing when it is not connected.
    pub fn tell(&self, peer: SchedulerId, message: pb::link_request::Message) {
        if let Some(link) = lock(&self.0.links).get(&peer) {
            link.send(pb::LinkRequest { message: Some(message) });
        }
    }

    /// Says something to every gateway.
    pub fn tell_gateways(&self, message: &pb::link_response::Message) {
        for gateway in lock(&self.0.gateways).values() {
            gateway.send(pb::LinkResponse { message: Some(message.clone()) });
        }
    }

    /// True when some gateway is connected.
    #[must_use]
    pub fn has_gateways(&self) -> bool {
        !lock(&self.0.gateways).is_empty()
    }

    /// This scheduler owns exactly these from now on: commands and results of theirs are to come here.
    pub fn own(&self, owned: &[Shard]) {
        self.0.owners.announced(self.0.owners.me(), owned);
        self.0.owned.send_replace(owned.to_vec());
        self.tell_gateways(&owned_message(owned));
    }

    /// What this scheduler owns, and every change of it.
    #[must_use]
    pub fn owned(&self) -> watch::Receiver<Vec<Shard>> {
        self.0.owned.subscribe()
    }

    /// Tells the others that there are shards to take.
    pub fn wake(&self) {
        self.tell_gateways(&pb::link_response::Message::Wake(pb::Wake {}));
    }

    /// Tells the others that permits went back which somebody waits for.
    pub fn permits_are_free(&self) {
        self.tell_gateways(&pb::link_response::Message::PermitsFreed(pb::PermitsFreed {}));
    }

    /// A peer said that shards are free.
    pub fn hear_of_free_shards(&self) {
        self.0.shards_are_free.notify_one();
    }

    /// Waits until a peer says that shards are free. Cancel-safe.
    pub async fn shards_are_free(&self) {
        self.0.shards_are_free.notified().await;
    }

    fn tell_links(&self, message: &pb::link_request::Message) {
        for link in lock(&self.0.links).values() {
            link.send(pb::LinkRequest { message: Some(message.clone()) });
        }
    }

    fn has_links(&self) -> bool {
        !lock(&self.0.links).is_empty()
    }
}

fn owned_message(owned: &[Shard]) -> pb::link_response::Message {
    let shards = owned.iter().map(|shard| pb::OwnedShard { shard: i32::from(shard.id), epoch: shard.epoch }).collect();
    pb::link_response::Message::Owned(pb::Owned { shards })
}

/// Nothing panics while these are held; a map that was left odd is better than a dead scheduler.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
