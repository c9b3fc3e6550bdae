//! Permits: what lets units of several pipelines, decided by several schedulers, share one limit.
//!
//! The truth is a pool in the database: so many permits, so many of them granted to shards. A shard's owner starts a unit
//! only with a permit of each of its pools, and hands the permit of an ended unit to the next one in memory. Only what it
//! lacks or can spare is settled with the database, as absolute numbers, so that settling twice changes nothing.
//!
//! - Nobody waits: permits without a unit stay with their shard for a moment, and most work touches no pool at all. They go to
//!   another shard of the same scheduler only where the pool has few left: otherwise shards that take turns would settle each time.
//! - Somebody waits: each shard may use up to a fair share, and gives the rest back. Who has all that it needs hears of it within
//!   a moment, since it settles while its units end, though seldom.
//! - An answer that was lost, a shard that changes its owner: the shard's units are counted again and settled.
//! - A unit has ended, and its end is not written yet: its permit may pass to another unit of the same scheduler, which is
//!   written with it, and goes back to the pool afterwards, so that what is written never exceeds a limit.
//! - More is held than the limit, since it was lowered, or since a new owner counts units of which it does not know yet that
//!   they wait: whatever is given back vanishes, until as much is held as may be.
//! - Nothing is held or wanted here, and the pool was told so: it is forgotten, and begins anew when somebody comes. Keys of
//!   expressions are often used once.
//!
//! Refuses to know the database: [`settle`] is what its statement does, in plain numbers, for tests and readers.

mod pool;
mod settle;

pub use pool::Pool;
pub use settle::{Answer, Want, fair_share, settle};

use jiff::{SignedDuration, Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// How long a permit stays with a shard that has no unit for it, while nobody waits.
pub const IDLE_MAX: SignedDuration = SignedDuration::from_millis(1_000);

/// Settlements of one turn: an answer may say that more is fair than was asked for, since others want less by now.
pub const ROUNDS_MAX: usize = 3;

/// What a shard says to a pool; absolute, so that saying it twice is saying it once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Which pool.
    pub pool: Pool,
    /// Which shard.
    pub shard: u8,
    /// Units that run, or whose end is not written yet: held whatever the limit says.
    pub in_use: u32,
    /// Permits that it would use now.
    pub target: u32,
    /// Permits that it could use if there were enough: what its fair share is computed from.
    pub wanted: u32,
}

/// The permits of one scheduler's shards.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    pools: BTreeMap<Pool, PoolState>,
    /// Pools with something to settle, so that a turn looks at no other.
    stirred: BTreeSet<Pool>,
}

#[derive(Debug, Clone, Default)]
struct PoolState {
    holds: BTreeMap<u8, Hold>,
    /// More is wanted by all shards of all schedulers than there is.
    contended: bool,
    /// We did not get all that we asked for last time: asking again at once is useless.
    dry: bool,
    /// Shards of other schedulers want more than they hold: what comes back here is for them to take as well.
    others_wait: bool,
    /// Permits beyond the limit, of all schedulers: none is used again before so many are gone.
    excess: u32,
    /// Permits that nobody held when the pool said so last. Others may have taken them since, or hold some that they do not want.
    free: u32,
    /// When something was claimed last.
    claimed_at: Option<Timestamp>,
    /// A unit has ended since then.
    moved: bool,
}

#[derive(Debug, Clone)]
struct Hold {
    /// Permits that units may take.
    granted: u32,
    /// Permits that the pool last said that we hold: those above `granted` are to be given back.
    known: u32,
    used: u32,
    /// Permits of units whose end is not written yet, less those that passed to other units since: they stay until then.
    fresh: u32,
    /// Of those above `granted`, how many stay until it is written that their units have ended.
    kept: u32,
    /// Units of this turn that found no permit.
    short: u32,
    /// What the pool last heard that we want.
    told: u32,
    /// While others wait, a permit above so many goes back when its unit ends.
    share: u32,
    idle_since: Option<Timestamp>,
    /// What the pool believes is not known: say it again.
    unsure: bool,
}

impl Default for Hold {
    fn default() -> Self {
        Self {
            granted: 0,
            known: 0,
            used: 0,
            fresh: 0,
            kept: 0,
            short: 0,
            told: 0,
            share: u32::MAX,
            idle_since: None,
            unsure: false,
        }
    }
}

impl Hold {
    fn has_room(&self) -> bool {
        self.used < self.granted
    }

    /// Some of what it holds is to be given back.
    fn returns(&self) -> bool {
        self.known > self.granted
    }

    /// It is as if it had never been, here and for the pool.
    fn is_void(&self) -> bool {
        let holds = self.granted.max(self.known).max(self.used).max(self.fresh);
        holds == 0 && self.short == 0 && self.told == 0 && !self.unsure
    }
}

impl Ledger {
    /// Takes a permit of each pool for one unit of a shard, all or none.
    ///
    /// # Errors
    /// The first pool without one.
    pub fn take<'a>(&mut self, shard: u8, pools: &'a [Pool]) -> Result<(), &'a Pool> {
        for pool in pools {
            if self.room(shard, pool) == 0 {
                return Err(pool);
            }
        }
        for pool in pools {
            let Some(state) = self.pools.get_mut(pool) else { continue };
            state.pass_on(shard);
            if let Some(hold) = state.holds.get_mut(&shard) {
                hold.used += 1;
                // One that is left over goes on being idle, however often its neighbours are used.
                if !hold.has_room() {
                    hold.idle_since = None;
                }
            }
        }
        Ok(())
    }

    /// So many units of a shard wait for a permit of this pool.
    pub fn lack(&mut self, shard: u8, pool: &Pool, units: u32) {
        let state = self.pools.entry(pool.clone()).or_default();
        let hold = state.holds.entry(shard).or_default();
        hold.short = hold.short.saturating_add(units);
        self.stirred.insert(pool.clone());
    }

    /// A unit that ran has ended: its permits are free for the next one here, and for others' once that is
    /// [written](Ledger::written).
    pub fn give_back(&mut self, shard: u8, pools: &[Pool], now: Timestamp) {
        for pool in pools {
            let Some(state) = self.pools.get_mut(pool) else { continue };
            let contended = state.contended;
            state.moved = true;
            if let Some(hold) = state.holds.get_mut(&shard) {
                hold.fresh += u32::from(hold.used > 0);
                hold.used = hold.used.saturating_sub(1);
                hold.idle_since.get_or_insert(now);
                if contended && hold.granted > hold.share {
                    hold.granted -= 1;
                }
            }
            state.shed();
            self.stirred.insert(pool.clone());
        }
    }

    /// Every end so far is written: their permits may go back. True when somebody waits for one of them.
    pub fn written(&mut self) -> bool {
        let mut awaited = false;
        for pool in &self.stirred {
            let Some(state) = self.pools.get_mut(pool) else { continue };
            let fresh =
                state.holds.values_mut().map(|hold| std::mem::take(&mut hold.fresh)).fold(0, u32::saturating_add);
            awaited |= state.contended && fresh > 0;
        }
        awaited
    }

    /// A unit that was found running when its shard was taken.
    pub fn restore(&mut self, shard: u8, pools: &[Pool]) {
        for pool in pools {
            let hold = self.pools.entry(pool.clone()).or_default().holds.entry(shard).or_default();
            hold.used += 1;
            hold.unsure = true;
            self.stirred.insert(pool.clone());
        }
    }

    /// What the database says that a shard holds, found when the shard was taken.
    pub fn found(&mut self, shard: u8, pool: Pool) {
        let hold = self.pools.entry(pool.clone()).or_default().holds.entry(shard).or_default();
        hold.unsure = true;
        self.stirred.insert(pool);
    }

    /// Where another limit holds for a key by now, its pool goes on with that one: what is held of it stays, and is said to
    /// it again. `None` for pools whose limit is as it was.
    pub fn heed(&mut self, limit_of: impl Fn(&Pool) -> Option<Arc<str>>) {
        let other = |pool: &Pool| {
            let limit = limit_of(pool).filter(|limit| *limit != pool.limit)?;
            Some(Pool { limit, ..pool.clone() })
        };
        // A pool that is only stirred would keep the limit that it was stirred with.
        let known = &self.pools;
        self.stirred.retain(|pool| known.contains_key(pool));
        let others: Vec<Pool> = self.pools.keys().filter_map(other).collect();
        for pool in others {
            let Some(mut state) = self.pools.remove(&pool) else { continue };
            state.dry = false;
            state.holds.values_mut().for_each(|hold| hold.unsure = true);
            self.stirred.replace(pool.clone());
            self.pools.insert(pool, state);
        }
    }

    /// Shards that are owned no longer; their successor counts them.
    pub fn forget(&mut self, is_lost: impl Fn(u8) -> bool) {
        for state in self.pools.values_mut() {
            state.holds.retain(|shard, _| !is_lost(*shard));
        }
        self.pools.retain(|_, state| !state.holds.is_empty());
        let pools = &self.pools;
        self.stirred.retain(|pool| pools.contains_key(pool));
    }

    /// Somebody else gave back, or wants, or time has passed: asking is worth it again.
    pub fn stir(&mut self, is_meant: impl Fn(&Pool) -> bool) {
        for (pool, state) in &mut self.pools {
            if is_meant(pool) {
                state.dry = false;
                self.stirred.insert(pool.clone());
            }
        }
    }

    /// True when asking this pool may help: it may have permits, or another shard of ours has one to spare, or to give back.
    #[must_use]
    pub fn is_worth_trying(&self, pool: &Pool) -> bool {
        let Some(state) = self.pools.get(pool) else { return true };
        !state.dry || state.holds.values().any(|hold| hold.has_room() || (hold.returns() && !state.others_wait))
    }

    /// How many units of this shard could take a permit of this pool now.
    #[must_use]
    pub fn room(&self, shard: u8, pool: &Pool) -> u32 {
        let hold = self.pools.get(pool).and_then(|state| state.holds.get(&shard));
        hold.map_or(0, |hold| hold.granted.saturating_sub(hold.used))
    }

    /// What is to be settled now. From here on the permits that are given up are no longer used; those that are asked for
    /// count once [`Ledger::settled`] says so.
    pub fn claims(&mut self, now: Timestamp) -> Vec<Claim> {
        let mut claims = Vec::new();
        let mut quiet = Vec::new();
        for pool in &self.stirred {
            let Some(state) = self.pools.get_mut(pool) else {
                quiet.push(pool.clone());
                continue;
            };
            let before = claims.len();
            state.claims(pool, now, &mut claims);
            if claims.len() == before && !state.is_waiting_to_return() {
                quiet.push(pool.clone());
            }
        }
        for pool in quiet {
            self.stirred.remove(&pool);
            if self.pools.get(&pool).is_some_and(PoolState::is_void) {
                self.pools.remove(&pool);
            }
        }
        claims
    }

    /// The pool's answers to claims. True when permits went back that somebody elsewhere waits for: what only moved between
    /// shards of ours is used already.
    pub fn settled(&mut self, answers: &[Answer]) -> bool {
        let mut balance: BTreeMap<&Pool, (u32, u32)> = BTreeMap::new();
        for answer in answers {
            let Some(state) = self.pools.get_mut(&answer.pool) else { continue };
            state.contended = answer.contended;
            let Some(hold) = state.holds.get_mut(&answer.shard) else { continue };
            if answer.contended {
                let (before, after) = balance.entry(&answer.pool).or_default();
                *before = before.saturating_add(hold.known);
                *after = after.saturating_add(answer.granted);
            }
            hold.granted = answer.granted.saturating_sub(hold.kept);
            hold.known = answer.granted;
            hold.share = answer.share;
            hold.told = answer.wanted;
            hold.unsure = false;
            state.excess = answer.excess;
            state.free = answer.free;
        }
        for answer in answers {
            if let Some(state) = self.pools.get_mut(&answer.pool) {
                state.conclude(answer);
            }
        }
        // One of ours that may have more is reason enough to ask, whatever the others have.
        for answer in answers {
            if let Some(state) = self.pools.get_mut(&answer.pool) {
                state.dry &= !state.may_have_more(answer);
            }
        }
        for answer in answers.iter().filter(|answer| answer.excess > 0) {
            if let Some(state) = self.pools.get_mut(&answer.pool) {
                state.shed();
                self.stirred.insert(answer.pool.clone());
            }
        }
        balance.values().any(|(before, after)| after < before)
    }

    /// Nobody knows whether these claims were heard: they are made again.
    pub fn unsettled(&mut self, claims: &[Claim]) {
        for claim in claims {
            if let Some(hold) = self.hold(&claim.pool, claim.shard) {
                hold.unsure = true;
            }
            self.stirred.insert(claim.pool.clone());
        }
    }

    /// Units of the turn that found no permit are counted anew in the next pass.
    pub fn begin_pass(&mut self) {
        for pool in &self.stirred {
            if let Some(state) = self.pools.get_mut(pool) {
                for hold in state.holds.values_mut() {
                    hold.short = 0;
                }
            }
        }
    }

    /// Permits in use of a pool, over all shards of this ledger.
    #[must_use]
    pub fn in_use(&self, pool: &Pool) -> u32 {
        self.pools.get(pool).map_or(0, |state| state.holds.values().map(|hold| hold.used).sum())
    }

    /// Pools of which something is held or wanted, or was just now.
    #[must_use]
    pub fn pools(&self) -> usize {
        self.pools.len()
    }

    fn hold(&mut self, pool: &Pool, shard: u8) -> Option<&mut Hold> {
        self.pools.get_mut(pool)?.holds.get_mut(&shard)
    }
}

impl PoolState {
    /// A unit of a shard begins with the permit of one that has ended, if there is one: best of the same shard.
    fn pass_on(&mut self, shard: u8) {
        let own = self.holds.get(&shard).is_some_and(|hold| hold.fresh > 0).then_some(shard);
        let of = own.or_else(|| self.holds.iter().find(|(_, hold)| hold.fresh > 0).map(|(shard, _)| *shard));
        if let Some(hold) = of.and_then(|of| self.holds.get_mut(&of)) {
            hold.fresh -= 1;
        }
    }

    fn claims(&mut self, pool: &Pool, now: Timestamp, claims: &mut Vec<Claim>) {
        // Permits of ours that can move between shards, in one statement.
        let is_moving = |hold: &Hold| hold.returns() && !self.others_wait;
        let moving = self.holds.values().any(|hold| is_moving(hold) || (hold.granted > hold.used && hold.short == 0));
        let short = self.holds.values().map(|hold| hold.short).fold(0, u32::saturating_add);
        // A pool that had nothing is asked again when it may have some.
        let asks = short > 0 && (!self.dry || moving);
        // What is idle here stays where it is while the pool has enough, and as much again for others.
        let moves = asks && (self.dry || short.saturating_mul(2) > self.free);
        self.dry &= !asks;
        // Whoever lacks nothing asks nothing, and hears that others wait, all the same.
        let listens = self.moved && self.claimed_at.is_some_and(|at| now.duration_since(at) >= IDLE_MAX);
        // What one of ours gives back and another one takes in the same statement is written together.
        let passed_on = if self.others_wait { 0 } else { self.holds.values().map(|hold| hold.short).sum() };
        let fresh: u32 = self.holds.values().map(|hold| hold.fresh).sum();
        let mut fresh = fresh.saturating_sub(passed_on);
        for (shard, hold) in &mut self.holds {
            let stays = fresh.min(hold.fresh);
            fresh -= stays;
            let busy = hold.used.saturating_add(stays);
            let wanted = busy.saturating_add(hold.short);
            let spare = hold.granted.saturating_sub(wanted);
            if spare > 0 {
                // One that came for a unit that could not begin after all is idle as well.
                hold.idle_since.get_or_insert(now);
            }
            let idle_long = hold.idle_since.is_some_and(|since| now.duration_since(since) >= IDLE_MAX);
            let returns = hold.known > hold.granted.max(busy) || (spare > 0 && (self.contended || idle_long || moves));
            let gets = asks && hold.short > 0;
            // Who holds nothing and wants nothing more says it with nothing else.
            let is_over = wanted == 0 && hold.known == 0;
            // A want that was not met, and is over, counts against the others for as long as it is not taken back.
            let is_unmet = hold.told > hold.known;
            let corrects = !self.dry && hold.told != wanted && (self.contended || is_over || is_unmet);
            if !(hold.unsure || returns || gets || corrects || (listens && hold.known > 0)) {
                continue;
            }
            (self.claimed_at, self.moved) = (Some(now), false);
            let cap = if self.contended { hold.share.max(hold.granted).max(busy) } else { u32::MAX };
            let target = wanted.min(cap);
            hold.kept = stays.min(hold.known.max(busy).saturating_sub(hold.granted));
            hold.granted = hold.granted.min(target);
            claims.push(Claim { pool: pool.clone(), shard: *shard, in_use: busy, target, wanted });
            if hold.granted <= hold.used {
                hold.idle_since = None;
            }
        }
    }

    /// What an answer says of the pool, when all answers are noted.
    fn conclude(&mut self, answer: &Answer) {
        let own = |of: fn(&Hold) -> u32| self.holds.values().map(of).fold(0_u32, u32::saturating_add);
        let wanted = answer.in_all.wanted.saturating_sub(own(|hold| hold.told));
        self.others_wait = wanted > answer.in_all.held.saturating_sub(own(|hold| hold.known));
        self.dry |= answer.granted < answer.wanted;
    }

    /// The shard lacks permits, got all that it asked for, and may have more by what is fair now.
    const fn may_have_more(&self, answer: &Answer) -> bool {
        let was_modest = answer.granted == answer.target && answer.target < answer.wanted;
        was_modest && answer.share > answer.granted && answer.free > 0 && !self.others_wait
    }

    /// Gives up idle permits while there are too many. Another scheduler may do the same at this moment: then there are too
    /// few of them until somebody asks, and never too many.
    fn shed(&mut self) {
        for hold in self.holds.values_mut() {
            let gone = hold.granted.saturating_sub(hold.used).min(self.excess);
            hold.granted -= gone;
            self.excess -= gone;
        }
    }

    fn is_void(&self) -> bool {
        self.holds.values().all(Hold::is_void)
    }

    /// Idle permits stay for a moment: the pool is looked at again until they are gone or used.
    fn is_waiting_to_return(&self) -> bool {
        self.holds.values().any(|hold| hold.known > hold.used || hold.unsure || hold.short > 0)
    }
}
