//! Which scheduler owns which shard, and how to reach it. Refuses to decide who should own anything.
//!
//! What it knows may be old by a second, or wrong: whoever is asked by mistake refuses, and whoever writes by mistake
//! writes nothing.

use crate::orders::Hop;
use domain::id::SchedulerId;
use rpc::{auth::Token, client::Channel};
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant},
};
use store::{
    Store,
    schedulers::{self, Member},
    shards::{self, Ownership, Shard},
};
use tokio::sync::Mutex;
use tonic::Status;

/// The owners of the shards, as this process last heard of them. Cheap to clone.
#[derive(Clone)]
pub struct Owners {
    store: Store,
    scheduler: SchedulerId,
    token: Option<Token>,
    known: Arc<RwLock<Known>>,
    /// When the tables were read last; held while they are.
    read_at: Arc<Mutex<Option<Instant>>>,
}

#[derive(Default)]
struct Known {
    /// By shard: the epoch, and who owns it in that.
    shards: HashMap<u8, (i64, Option<SchedulerId>)>,
    /// Other schedulers that live, and where.
    others: HashMap<SchedulerId, String>,
    /// One channel for each of them that was used.
    channels: HashMap<SchedulerId, Channel>,
}

/// How long a command waits for a shard to get its next owner: as long as it takes to replace one that died.
const HANDOVER_WAIT: Duration = Duration::from_secs(7);
/// Between two looks at who owns it.
const HANDOVER_PAUSE: Duration = Duration::from_millis(50);

/// Why a command was not done here.
pub enum NotHere {
    /// The shard is not owned here; what to say when it stays so.
    NotOwner(Status),
    /// It was refused.
    Refused(Status),
}

/// Where a shard is.
pub enum Place {
    /// Here, or nowhere as far as is known.
    Here,
    /// With another scheduler.
    There(SchedulerId, Channel),
}

impl Owners {
    /// Nothing is known yet. The token is presented to other schedulers.
    #[must_use]
    pub fn new(store: Store, scheduler: SchedulerId, token: Option<Token>) -> Self {
        Self { store, scheduler, token, known: Arc::default(), read_at: Arc::default() }
    }

    /// This scheduler.
    #[must_use]
    pub fn me(&self) -> SchedulerId {
        self.scheduler
    }

    /// Reads who lives and who owns what.
    ///
    /// # Errors
    /// When the database does not answer; what was known before stays.
    pub async fn refresh(&self) -> Result<(Vec<Member>, Vec<Ownership>), store::Error> {
        let members = schedulers::living(&self.store).await?;
        let table = shards::all(&self.store).await?;
        self.learn(&members, &table);
        Ok((members, table))
    }

    /// As `refresh`, unless somebody did so within `age`: many who wait for the same news read once.
    ///
    /// # Errors
    /// When the database does not answer; what was known before stays.
    pub async fn refresh_after(&self, age: Duration) -> Result<(), store::Error> {
        let mut read_at = self.read_at.lock().await;
        if read_at.is_none_or(|at| at.elapsed() >= age) {
            self.refresh().await?;
            *read_at = Some(Instant::now());
        }
        Ok(())
    }

    fn learn(&self, members: &[Member], table: &[Ownership]) {
        let mut known = self.write();
        let others = members.iter().filter(|member| member.id != self.scheduler && !member.address.is_empty());
        known.others = others.map(|member| (member.id, member.address.clone())).collect();
        let Known { shards, others, channels } = &mut *known;
        channels.retain(|id, _| others.contains_key(id));
        for row in table {
            let Ok(shard) = u8::try_from(row.id) else { continue };
            let entry = shards.entry(shard).or_insert((row.epoch, row.owner));
            // A peer's own word may be newer than what was read.
            if row.epoch >= entry.0 {
                *entry = (row.epoch, row.owner);
            }
        }
    }

    /// `scheduler` says that it owns these; of two that say so, the later epoch is right.
    pub fn announced(&self, scheduler: SchedulerId, owned: &[Shard]) {
        let mut known = self.write();
        for row in owned {
            let Ok(shard) = u8::try_from(row.id) else { continue };
            let entry = known.shards.entry(shard).or_insert((row.epoch, None));
            if row.epoch >= entry.0 {
                *entry = (row.epoch, Some(scheduler));
            }
        }
    }

    /// The other schedulers that live and say where they are.
    #[must_use]
    pub fn others(&self) -> Vec<SchedulerId> {
        self.read().others.keys().copied().collect()
    }

    /// The other scheduler that owns `shard`; `None` when it is owned here or by nobody, as far as is known.
    #[must_use]
    pub fn elsewhere(&self, shard: u8) -> Option<SchedulerId> {
        let owner = self.read().shards.get(&shard).and_then(|(_, owner)| *owner);
        owner.filter(|owner| *owner != self.scheduler)
    }

    /// Where `shard` is, as far as is known. Must be called inside a tokio runtime.
    #[must_use]
    pub fn place(&self, shard: u8) -> Place {
        let reached = self.elsewhere(shard).and_then(|owner| Some((owner, self.channel(owner)?)));
        reached.map_or(Place::Here, |(owner, channel)| Place::There(owner, channel))
    }

    /// A channel to another scheduler; `None` when it does not live, or its address cannot be used. Must be called inside
    /// a tokio runtime.
    #[must_use]
    pub fn channel(&self, scheduler: SchedulerId) -> Option<Channel> {
        let address = {
            let known = self.read();
            if let Some(channel) = known.channels.get(&scheduler) {
                return Some(channel.clone());
            }
            known.others.get(&scheduler)?.clone()
        };
        let uri = format!("http://{address}").parse().ok()?;
        let channel = rpc::client::connect(&[uri], self.token.as_ref())
            .inspect_err(|error| tracing::warn!(error = %error, address, "a scheduler's address cannot be used"))
            .ok()?;
        Some(self.write().channels.entry(scheduler).or_insert(channel).clone())
    }

    /// Asks the owner of `shard`, wherever it is: by `here`, or once, on the first hop, by `there`. Repeats while it has none,
    /// or is away; so the command must be one that may be repeated.
    ///
    /// # Errors
    /// The refusal of the owner; *unavailable* when there is none for too long.
    pub async fn at_owner<T, H, P>(
        &self,
        shard: u8,
        hop: Hop,
        here: impl Fn() -> H,
        there: impl Fn(Channel) -> P,
    ) -> Result<T, Status>
    where
        H: Future<Output = Result<T, NotHere>>,
        P: Future<Output = Result<T, Status>>,
    {
        let begun = Instant::now();
        loop {
            let refused = match self.place(shard) {
                Place::There(_, channel) if hop == Hop::First => match there(channel).await {
                    // What it may have done nevertheless is found again by the command's key.
                    Err(refused) if rpc::status::is_away(&refused) => Status::unavailable(refused.message()),
                    answer => return answer,
                },
                _ => match here().await {
                    Err(NotHere::NotOwner(refused)) => refused,
                    Err(NotHere::Refused(refused)) => return Err(refused),
                    Ok(answer) => return Ok(answer),
                },
            };
            if hop == Hop::Last || begun.elapsed() > HANDOVER_WAIT {
                return Err(refused);
            }
            tokio::time::sleep(HANDOVER_PAUSE).await;
            if let Err(error) = self.refresh_after(HANDOVER_PAUSE).await {
                tracing::warn!(error = %error, "failed to read who owns a shard");
                return Err(refused);
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}
