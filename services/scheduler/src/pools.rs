//! The pools of this scheduler: a placer for each whose shard it owns, from when it gains the shard until it loses it.
//!
//! Refuses to know what a placer does.

pub mod service;

use crate::{
    peers::Peers,
    placer::{self, Message, Parts, Placer, PlacerError, Reply},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use store::{ledger, shards::Shard};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Pools of one scheduler.
const POOLS_MAX: usize = 1_000;
/// Before pools are looked for again that could not be read.
const PAUSE: Duration = Duration::from_millis(500);

/// The pools. Cheap to clone.
#[derive(Clone)]
pub struct Pools(Arc<Inner>);

struct Inner {
    parts: Parts,
    state: Mutex<State>,
    stop: CancellationToken,
}

#[derive(Default)]
struct State {
    owned: BTreeMap<u8, Shard>,
    running: HashMap<String, Running>,
}

struct Running {
    shard: Shard,
    inbox: mpsc::Sender<Message>,
    stop: CancellationToken,
}

/// The shard that a pool lives in: the same on every machine and version (FNV-1a, folded).
#[must_use]
pub fn shard_of(pool: &str) -> u8 {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = pool.bytes().fold(0xcbf2_9ce4_8422_2325, fold);
    hash.to_le_bytes().into_iter().fold(0, |folded, byte| folded ^ byte)
}

/// Whether a pool may be called so: a DNS label, as its table demands.
#[must_use]
pub fn is_name(pool: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&pool.len()) && pool.bytes().all(inner) && !pool.starts_with('-') && !pool.ends_with('-')
}

impl Pools {
    /// No pool yet. They end with `stop`.
    #[must_use]
    pub fn new(parts: Parts, stop: CancellationToken) -> Self {
        Self(Arc::new(Inner { parts, state: Mutex::default(), stop }))
    }

    /// What the placers work with.
    #[must_use]
    pub fn parts(&self) -> &Parts {
        &self.0.parts
    }

    /// Follows what the engine owns, until it is stopped.
    pub async fn follow(self, peers: Peers) {
        let (mut owned, beat) = (peers.owned(), self.0.parts.watchdog.duty("pools"));
        let store = &self.0.parts.store;
        loop {
            let shards = owned.borrow_and_update().clone();
            let gained = self.own(&shards);
            while !self.0.stop.is_cancelled()
                && !beat.working(store.patiently(self.start_known(&gained))).await.unwrap_or(false)
            {
                tokio::time::sleep(PAUSE).await;
            }
            tokio::select! {
                () = self.0.stop.cancelled() => return,
                changed = beat.waiting(owned.changed()) => if changed.is_err() { return },
            }
        }
    }

    /// Ends the placers of what is owned no more, or in another epoch; answers what is new.
    fn own(&self, shards: &[Shard]) -> Vec<Shard> {
        let mut state = self.state();
        let owned: BTreeMap<u8, Shard> =
            shards.iter().filter_map(|shard| Some((u8::try_from(shard.id).ok()?, *shard))).collect();
        state.running.retain(|_, running| {
            let stays = owned.values().any(|shard| *shard == running.shard);
            if !stays {
                running.stop.cancel();
            }
            stays
        });
        let gained = owned.iter().filter(|(id, shard)| state.owned.get(id) != Some(shard)).map(|(_, s)| *s).collect();
        state.owned = owned;
        gained
    }

    /// Starts the placers of the pools that there are in these shards; false when they cannot be read.
    async fn start_known(&self, gained: &[Shard]) -> bool {
        if gained.is_empty() {
            return true;
        }
        let ids: Vec<i16> = gained.iter().map(|shard| shard.id).collect();
        match ledger::pools_of(&self.0.parts.store, &ids).await {
            Ok(pools) => {
                for (pool, shard) in pools {
                    if let Ok(shard) = u8::try_from(shard) {
                        self.start(&pool, shard);
                    }
                }
                true
            }
            Err(error) => {
                tracing::warn!(
                    error = runtime::exit::chain(&error),
                    "failed to read which pools there are; they are read again"
                );
                false
            }
        }
    }

    /// The inbox of a pool's placer, which is started if it does not run; `None` when its shard is not owned here.
    fn start(&self, pool: &str, shard: u8) -> Option<mpsc::Sender<Message>> {
        let mut state = self.state();
        let shard = *state.owned.get(&shard)?;
        if let Some(running) = state.running.get(pool).filter(|running| !running.inbox.is_closed()) {
            return Some(running.inbox.clone());
        }
        if state.running.len() >= POOLS_MAX && !state.running.contains_key(pool) {
            tracing::error!(pool, "this scheduler has {POOLS_MAX} pools and takes no more");
            return None;
        }
        let (inbox, messages) = mpsc::channel(placer::QUEUE_MAX);
        let stop = self.0.stop.child_token();
        let placer = Placer::new(self.0.parts.clone(), pool.into(), shard, stop.clone());
        tokio::spawn(placer.run(messages));
        state.running.insert(pool.to_owned(), Running { shard, inbox: inbox.clone(), stop });
        Some(inbox)
    }

    /// The inbox of a pool's placer; a pool that is named for the first time is made.
    ///
    /// # Errors
    /// When its shard is not owned here, or the database does not answer.
    pub async fn find(&self, pool: &str) -> Result<mpsc::Sender<Message>, PlacerError> {
        if !is_name(pool) {
            return Err(PlacerError::denied(
                "POOL_INVALID",
                format!("`{pool}` is no name of a pool; use letters, digits and dashes"),
            ));
        }
        let shard = shard_of(pool);
        let known = {
            let state = self.state();
            let running = state.running.get(pool).filter(|running| !running.inbox.is_closed());
            match (running, state.owned.get(&shard)) {
                (Some(running), _) => return Ok(running.inbox.clone()),
                (None, owned) => owned.copied(),
            }
        };
        let owned = known.ok_or(PlacerError::NotOwner)?;
        ledger::ensure_pool(&self.0.parts.store, pool, owned).await.map_err(|error| {
            tracing::warn!(pool, error = runtime::exit::chain(&error), "failed to make a pool");
            PlacerError::Unavailable
        })?;
        self.start(pool, shard).ok_or(PlacerError::NotOwner)
    }

    /// Asks a pool's placer.
    ///
    /// # Errors
    /// Its refusal; `NotOwner` when it is not here.
    pub async fn ask<T>(&self, pool: &str, message: impl FnOnce(Reply<T>) -> Message) -> Result<T, PlacerError> {
        let (reply, answer) = oneshot::channel();
        self.find(pool).await?.send(message(reply)).await.map_err(|_| PlacerError::NotOwner)?;
        answer.await.map_err(|_| PlacerError::NotOwner)?
    }

    /// Nothing panics while it is held.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_stays_in_its_shard() {
        // Rows say so: another hash would strand every pool.
        assert_eq!((shard_of("default"), shard_of("a"), shard_of("gpu-2")), (104, 187, 85));
        assert!(is_name("gpu-2") && !is_name("") && !is_name("-a") && !is_name("A"));
    }
}
