//! Leases: which of several replicas bothers to do something. Never whether its act counts.
//!
//! # The protocol
//!
//! **Roles.** An *owner* is one life of one process, named by a random token. A *name* is what is leased; this crate does
//! not know what it stands for. A *keeper of leases* is Redis or PostgreSQL ([`Redis`], [`Postgres`]); [`Leases`] picks.
//!
//! **States of a name**, as its keeper sees it: *free*; *held* by one owner until an instant, at most a time-to-live
//! away. There is one transition for owners, [`Locks::hold`]: free becomes held, held by the same owner is prolonged, held
//! by another stays as it is. [`Locks::release`] makes it free, if it is held by the one who asks; a release that comes
//! late, after another has got the name, changes nothing. Passing of time makes it free as well.
//!
//! **States of a name, as its owner sees it**: *trusted*, from the moment before the question was sent until a second
//! before the time-to-live is over ([`Held::is_trusted`]), by a clock that goes on while the machine is suspended; then
//! *doubtful*. On a doubtful answer nothing new is begun: a name that was asked for is not taken. Nobody here stops what goes
//! on for a name that has become doubtful meanwhile; its owner learns of a loss with its next question, or its next act is
//! refused (see below). An answer that does not come means doubtful, never held: the question may or may not have been
//! carried out, and the next one tells, since it compares the token.
//!
//! **What each loss means.**
//!
//! | lost | means |
//! |---|---|
//! | an owner | its names are free after the time-to-live |
//! | an answer | the name may be held without its owner knowing: the next question tells |
//! | Redis, or its answers take too long | at once, PostgreSQL keeps the leases; Redis is asked again every two seconds |
//! | every key of Redis | names are free before their time: two owners may believe in one name until the first asks again |
//! | half of the replicas see Redis, the others do not | two owners of one name |
//! | PostgreSQL, without Redis | nobody holds anything; nothing could be written either |
//! | the clock of a keeper jumps | names are free early, or late |
//! | an owner is frozen, or gets no answer, beyond its time | it believes in what it had until it asks again, or until its next act is refused |
//!
//! In every one of these rows two owners may act for one name. Whatever they do must be guarded by the act itself: a unique
//! key, or an epoch in the same statement. [`Liar`] says yes to everybody; whoever uses leases must stay correct with it,
//! and is tested with it. Nothing here fails open: no keeper that answers means no lease.
//!
//! **What is leased in Orrery.** Shards, and nothing else: that a scheduler is a member is a row in PostgreSQL
//! (`store::schedulers`), and a pool lives in a shard (decision 0015). Trust decides one thing: whether a scheduler takes
//! shards in this round. It goes on with those that it owns, and their epochs say whether what it writes counts.

mod boot_clock;
mod liar;
mod postgres;
mod redis;

pub use boot_clock::BootInstant;
pub use liar::Liar;
pub use postgres::Postgres;
pub use redis::Redis;

use std::{
    future::Future,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use uuid::Uuid;

/// Names in one question.
pub const NAMES_MAX: usize = 1_024;
/// A lease is not trusted for the last part of its time.
pub const DISTRUST: Duration = Duration::from_secs(1);
/// Redis that failed is left alone for so long.
const REDIS_PAUSE: Duration = Duration::from_secs(2);

/// A keeper did not answer, or not in time. What was asked may have been done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Redis.
    #[error("reach Redis, or get an answer in {} ms", redis::TIMEOUT.as_millis())]
    Redis(#[source] Option<::redis::RedisError>),
    /// The address of Redis cannot be read.
    #[error("read redis_url; write redis://host:port/0")]
    Url(#[source] ::redis::RedisError),
    /// PostgreSQL.
    #[error(transparent)]
    Postgres(#[from] store::Error),
    /// More names than one question may hold.
    #[error("ask for {0} names at once; at most {NAMES_MAX}")]
    TooMany(usize),
}

/// What every keeper of leases does. One suite of tests holds for all of them.
pub trait Locks {
    /// Takes or prolongs each name for `owner`, for `ttl` from now; says of each, in order, whether it is held. Names that
    /// another holds are left alone.
    ///
    /// # Errors
    /// When the keeper does not answer: nothing is known then.
    fn hold(
        &self,
        owner: Uuid,
        names: &[String],
        ttl: Duration,
    ) -> impl Future<Output = Result<Vec<bool>, Error>> + Send;

    /// Frees those of the names that `owner` holds.
    ///
    /// # Errors
    /// When the keeper does not answer; the names are free when their time is over.
    fn release(&self, owner: Uuid, names: &[String]) -> impl Future<Output = Result<(), Error>> + Send;
}

/// The answer to one question.
#[derive(Debug, Clone)]
pub struct Held {
    /// For each name, in order, whether it is held.
    pub held: Vec<bool>,
    until: BootInstant,
}

impl Held {
    /// Whether something may be begun on what is held, as far as a lease may be relied upon.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        BootInstant::now() < self.until
    }
}

/// The leases of one process: in Redis when there is one and it answers, else in PostgreSQL.
pub struct Leases {
    keeper: Keeper,
    degraded: AtomicBool,
}

#[expect(clippy::large_enum_variant, reason = "a process has one")]
enum Keeper {
    Liar(Liar),
    Postgres(Postgres),
    Redis { redis: Redis, postgres: Postgres, failed: Mutex<Option<BootInstant>> },
}

impl Leases {
    /// In PostgreSQL alone.
    #[must_use]
    pub fn in_postgres(postgres: Postgres) -> Self {
        Self { keeper: Keeper::Postgres(postgres), degraded: AtomicBool::new(false) }
    }

    /// In Redis, and in PostgreSQL while Redis is away.
    #[must_use]
    pub fn in_redis(redis: Redis, postgres: Postgres) -> Self {
        let keeper = Keeper::Redis { redis, postgres, failed: Mutex::default() };
        Self { keeper, degraded: AtomicBool::new(false) }
    }

    /// Everything is always everybody's. For trying that nothing depends on leases.
    #[must_use]
    pub fn lying() -> Self {
        Self { keeper: Keeper::Liar(Liar), degraded: AtomicBool::new(false) }
    }

    /// Whether another owner's word is nothing to go by.
    #[must_use]
    pub fn lies(&self) -> bool {
        matches!(self.keeper, Keeper::Liar(_))
    }

    /// Redis is configured and does not answer.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.degraded.load(Ordering::Relaxed)
    }

    /// As [`Locks::hold`], by whichever keeper answers.
    ///
    /// # Errors
    /// When none does.
    pub async fn hold(&self, owner: Uuid, names: &[String], ttl: Duration) -> Result<Held, Error> {
        if names.len() > NAMES_MAX {
            return Err(Error::TooMany(names.len()));
        }
        let until = BootInstant::now() + ttl.saturating_sub(DISTRUST);
        let held = match &self.keeper {
            Keeper::Liar(liar) => liar.hold(owner, names, ttl).await?,
            Keeper::Postgres(postgres) => postgres.hold(owner, names, ttl).await?,
            Keeper::Redis { redis, postgres, failed } => {
                match self.unless_failed(failed, || redis.hold(owner, names, ttl)).await {
                    Some(held) => held,
                    None => postgres.hold(owner, names, ttl).await?,
                }
            }
        };
        Ok(Held { held, until })
    }

    /// As [`Locks::release`], by every keeper that may know of it.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn release(&self, owner: Uuid, names: &[String]) -> Result<(), Error> {
        match &self.keeper {
            Keeper::Liar(_) => Ok(()),
            Keeper::Postgres(postgres) => postgres.release(owner, names).await,
            Keeper::Redis { redis, postgres, failed } => {
                // A name may be held with both, after Redis was away.
                let _ = self.unless_failed(failed, || redis.release(owner, names)).await;
                postgres.release(owner, names).await
            }
        }
    }

    /// Asks Redis, unless it has just failed; `None` when it did or does.
    async fn unless_failed<T, F>(&self, failed: &Mutex<Option<BootInstant>>, ask: impl FnOnce() -> F) -> Option<T>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let last = *failed.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|at| BootInstant::now() < at + REDIS_PAUSE) {
            return None;
        }
        let answer = ask().await;
        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(answer) => {
                if failed.take().is_some() {
                    tracing::info!("Redis answers again");
                }
                self.degraded.store(false, Ordering::Relaxed);
                Some(answer)
            }
            Err(error) => {
                if failed.is_none() {
                    tracing::warn!(error = %error, "Redis does not answer: PostgreSQL keeps the leases meanwhile");
                }
                *failed = Some(BootInstant::now());
                self.degraded.store(true, Ordering::Relaxed);
                None
            }
        }
    }
}
