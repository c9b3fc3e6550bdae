//! Which scheduler owns which shard, and how to reach it. Refuses to decide who should own anything.
//!
//! What it knows may be old by a second, or wrong: whoever is asked by mistake refuses, and whoever writes by mistake
//! writes nothing.

use domain::id::SchedulerId;
use proto::internal::v1::command_service_client::CommandServiceClient;
use rpc::{auth::Token, client::Channel};
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};
use store::Store;

/// Client of another scheduler's commands.
pub type Peer = CommandServiceClient<Channel>;

/// The owners of the shards, as this process last read them. Cheap to clone.
#[derive(Clone)]
pub struct Owners {
    store: Store,
    scheduler: SchedulerId,
    token: Option<Token>,
    known: Arc<RwLock<Known>>,
}

#[derive(Default)]
struct Known {
    /// Addresses of the shards that other schedulers own.
    addresses: HashMap<u8, String>,
    /// One channel for each address that is in use.
    peers: HashMap<String, Peer>,
}

/// Where a shard is.
pub enum Place {
    /// Here, or nowhere as far as is known.
    Here,
    /// With another scheduler.
    There(String, Peer),
}

impl Owners {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(store: Store, scheduler: SchedulerId, token: Option<Token>) -> Self {
        Self { store, scheduler, token, known: Arc::default() }
    }

    /// Reads who owns what.
    ///
    /// # Errors
    /// When the database does not answer; what was known before stays.
    pub async fn refresh(&self) -> Result<(), store::Error> {
        let owners = store::shards::owners(&self.store).await?;
        let others = owners.into_iter().filter(|owner| owner.scheduler != self.scheduler && !owner.address.is_empty());
        let addresses: HashMap<u8, String> =
            others.filter_map(|owner| Some((u8::try_from(owner.shard).ok()?, owner.address))).collect();
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.peers.retain(|address, _| addresses.values().any(|used| used == address));
        known.addresses = addresses;
        Ok(())
    }

    /// Where `shard` is, as far as is known. Must be called inside a tokio runtime.
    #[must_use]
    pub fn place(&self, shard: u8) -> Place {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let Some(address) = known.addresses.get(&shard).cloned() else { return Place::Here };
        if let Some(peer) = known.peers.get(&address) {
            return Place::There(address, peer.clone());
        }
        drop(known);
        match self.connect(&address) {
            Some(peer) => Place::There(address, peer),
            None => Place::Here,
        }
    }

    fn connect(&self, address: &str) -> Option<Peer> {
        let uri = format!("http://{address}").parse().ok()?;
        let channel = rpc::client::connect(&[uri], self.token.as_ref())
            .inspect_err(|error| tracing::warn!(error = %error, address, "a scheduler's address cannot be used"))
            .ok()?;
        let peer = CommandServiceClient::new(channel).max_decoding_message_size(rpc::server::MESSAGE_BYTES_MAX);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        Some(known.peers.entry(address.to_owned()).or_insert(peer).clone())
    }
}
