//! The keeper: says each second that this scheduler lives, takes the shards that are meant for it, lets go those that
//! are meant for others, and reads the clock.
//!
//! Safety does not rest on any of it: every write names its shard's epoch. The order of letting go is what makes it fast
//! and quiet: the engine forgets first, then the row is free, then the others are told.

use crate::{
    clock::{DbClock, SKEW_MAX},
    engine::Ownership,
    load::LoadGauge,
    metrics::Metrics,
    peers::Peers,
    shares,
};
use domain::id::SchedulerId;
use lease::Leases;
use runtime::{health::Health, watchdog::Beat};
use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};
use store::{
    Patience, Store, schedulers,
    shards::{self, Shard},
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Without a renewal for this long others take what a scheduler owns. It learns of that from its next round, or from its next
/// write, which is refused: its own clock stops nothing.
pub const LEASE_TTL: Duration = Duration::from_secs(4);
/// Between two renewals.
const RENEW_INTERVAL: Duration = Duration::from_secs(1);
/// A round that takes longer than a lease is given up, and the next one says at once that this scheduler lives.
const ROUND_MAX: Duration = LEASE_TTL;
/// Who hears nothing for so long in a round gives all connections up: on one whose far end is gone without a word, an answer would
/// be waited for without end, and this scheduler would never be a member again. What others asked is asked again, with more patience.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// The engine's time to let go; after it the epochs do.
const LET_GO_TIMEOUT: Duration = Duration::from_secs(2);

/// Keeps this scheduler a member.
pub struct Keeper {
    parts: Parts,
    /// What the engine was told.
    told: Vec<Shard>,
    beat: Beat,
}

/// What a keeper works with.
pub struct Parts {
    /// The database.
    pub store: Store,
    /// This life of this process; also its token as an owner of leases.
    pub scheduler: SchedulerId,
    /// Where other services reach it.
    pub address: String,
    /// Is set with each renewal.
    pub clock: DbClock,
    /// Is told what is wrong.
    pub health: Health,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// How much there is to do.
    pub load: Arc<LoadGauge>,
    /// The other schedulers.
    pub peers: Peers,
    /// Who bothers to take which shard.
    pub leases: Leases,
    /// Is told what is owned, whenever that changes.
    pub owned: mpsc::Sender<Ownership>,
}

/// Why there is a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// Its time has come.
    Due,
    /// A peer said that shards are free: some are taken, and none is let go.
    Woken,
}

impl Keeper {
    /// A keeper that has done nothing yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self { parts, told: Vec::new(), beat: Beat::unwatched() }
    }

    /// Beats for a watchdog, until it is stopped.
    #[must_use]
    pub fn watched_by(self, beat: Beat) -> Self {
        Self { beat, ..self }
    }

    /// Runs until it is stopped; then hands everything back.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut interval = tokio::time::interval(RENEW_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let round = tokio::select! {
                () = stop.cancelled() => break,
                () = self.parts.peers.shards_are_free() => Round::Woken,
                _ = interval.tick() => Round::Due,
            };
            self.beat.beat();
            let (store, mut patience) = (self.parts.store.clone(), Patience::of(SILENCE_MAX));
            match tokio::time::timeout(ROUND_MAX, store.answered(&mut patience, self.run_once(round))).await {
                Ok(Some(Ok(()))) => {}
                Ok(Some(Err(error))) => tracing::warn!(error = %error, "failed to renew the membership"),
                Ok(None) => tracing::warn!("a round waited for a database that does not answer; connecting anew"),
                // It answers, and other work is in no need of another connection.
                Err(_) => {
                    tracing::warn!("a round took longer than a lease, which may have ended; beginning the next one")
                }
            }
        }
        // From here on the drain's deadline is what ends it.
        self.beat = Beat::unwatched();
        let mine: Vec<i16> = self.told.iter().map(|shard| shard.id).collect();
        // An engine that loads listens again when it was told to stop.
        let _ = tokio::time::timeout(LET_GO_TIMEOUT, self.parts.owned.reserve()).await;
        let _ = self.tell(Vec::new(), true).await;
        let Parts { store, scheduler, peers, leases, .. } = &self.parts;
        // Leases first: whoever finds the shards free shall find them free there too.
        if let Err(error) = leases.release(scheduler.0, &names(&mine)).await {
            tracing::warn!(error = %error, "failed to give leases back; they end by themselves");
        }
        match schedulers::leave(store, *scheduler).await {
            Ok(()) => peers.wake(),
            Err(error) => {
                tracing::warn!(error = %error, "failed to hand the shards back; they are free in a few seconds");
            }
        }
    }

    async fn run_once(&mut self, round: Round) -> Result<(), lease::Error> {
        self.renew().await?;
        let Parts { store, scheduler, peers, leases, metrics, .. } = &self.parts;
        let (members, table) = peers.owners().refresh().await?;
        let members: Vec<SchedulerId> = match leases.lies() {
            // To a liar it is as if there were nobody else.
            true => vec![*scheduler],
            false => members.iter().map(|member| member.id).collect(),
        };
        let mut plan = shares::plan(*scheduler, &members, &table);
        if round == Round::Woken {
            // Each release wakes the others: with theirs on top, as many would move as the machines can.
            plan.release.clear();
        }
        let release: HashSet<i16> = plan.release.iter().copied().collect();
        let mut owned: Vec<Shard> = table
            .iter()
            .filter(|row| row.owner == Some(*scheduler) && !release.contains(&row.id))
            .map(|row| Shard { id: row.id, epoch: row.epoch })
            .collect();
        let mut take = self.leased(&owned, plan.take).await?;
        if !take.is_empty() {
            take = shards_of(shards::take(store, *scheduler, &take, leases.lies()).await?, &mut owned);
            tracing::debug!(shards = take.len(), "took shards");
        }
        metrics.redis_degraded.set(i64::from(leases.is_degraded()));
        self.parts.health.note(
            "redis",
            leases.is_degraded().then(|| "it does not answer; PostgreSQL keeps the leases meanwhile".to_owned()),
        );
        if owned != self.told {
            if !self.tell(owned, !plan.release.is_empty()).await {
                // Nothing is released that an engine has not heard of.
                return Ok(());
            }
        } else if round == Round::Due && self.parts.owned.capacity() == self.parts.owned.max_capacity() {
            // An engine that loaded everything again between letting a shard go and its release has it once more, and would
            // judge what others run of it. One that is busy hears it in the next round, and no news waits behind what is none.
            let _ = self.parts.owned.try_send(Ownership { shards: owned, done: None });
        }
        if !plan.release.is_empty() {
            let Parts { store, scheduler, peers, leases, .. } = &self.parts;
            leases.release(scheduler.0, &names(&plan.release)).await?;
            shards::release(store, *scheduler, &plan.release).await?;
            peers.wake();
        }
        Ok(())
    }

    /// Says that this scheduler lives, and reads the clock.
    async fn renew(&self) -> Result<(), lease::Error> {
        let Parts { store, scheduler, address, clock, health, metrics, load, .. } = &self.parts;
        let asked = Instant::now();
        let now = schedulers::renew(store, *scheduler, LEASE_TTL, address, load.get()).await?;
        let skew = clock.set(now, asked);
        metrics.clock_skew.set(skew.as_secs_f64());
        let is_off = skew > SKEW_MAX;
        if is_off {
            tracing::warn!(skew_ms = skew.as_millis(), "this machine's clock is off; due times follow the database's");
        }
        let what = format!("{} ms off the database's; due times follow that one", skew.as_millis());
        health.note("clock", is_off.then_some(what));
        Ok(())
    }

    /// Prolongs the leases of what is owned; answers those of `take` that this scheduler may bother with.
    async fn leased(&self, owned: &[Shard], take: Vec<i16>) -> Result<Vec<i16>, lease::Error> {
        let Parts { scheduler, leases, metrics, .. } = &self.parts;
        let asked: Vec<i16> = take.iter().copied().chain(owned.iter().map(|shard| shard.id)).collect();
        let answer = leases.hold(scheduler.0, &names(&asked), LEASE_TTL).await?;
        if !answer.is_trusted() {
            // It took so long that others may have them by now.
            return Ok(Vec::new());
        }
        // Also of what is owned: after Redis forgot everything another may have been the first to ask. Epochs say whose it is.
        metrics.lock_lost.inc_by(answer.held.iter().filter(|held| !**held).count() as u64);
        Ok(take.iter().zip(&answer.held).filter(|(_, held)| **held).map(|(shard, _)| *shard).collect())
    }

    /// Tells the engine, and waits until it has let go what is not named. False where it does not listen.
    async fn tell(&mut self, owned: Vec<Shard>, wait: bool) -> bool {
        let (done, let_go) = oneshot::channel();
        let ownership = Ownership { shards: owned.clone(), done: wait.then_some(done) };
        // The engine has ended when nobody listens, and the process with it. One that loads everything again listens to nobody
        // for long: it hears this in a later round, and who lives goes on saying so.
        if self.parts.owned.try_send(ownership).is_err() {
            return false;
        }
        self.told = owned;
        if wait && tokio::time::timeout(LET_GO_TIMEOUT, let_go).await.is_err() {
            tracing::warn!("the engine takes long to let shards go; its next write of them is refused");
        }
        true
    }
}

/// What the leases of shards are called.
fn names(shards: &[i16]) -> Vec<String> {
    shards.iter().map(|shard| format!("shard/{shard}")).collect()
}

/// Adds what was taken to what is owned, in order; answers the numbers.
fn shards_of(taken: Vec<Shard>, owned: &mut Vec<Shard>) -> Vec<i16> {
    let ids = taken.iter().map(|shard| shard.id).collect();
    // A shard that was owned and taken again has a later epoch now.
    owned.retain(|shard| taken.iter().all(|new| new.id != shard.id));
    owned.extend(taken);
    owned.sort_unstable_by_key(|shard| shard.id);
    ids
}
