//! Engines, their shards and the pool that they share, turn by turn.

use domain::{
    id::WorkspaceId,
    permits::{Answer, Claim, Ledger, Pool, ROUNDS_MAX, Want, fair_share, settle},
};
use jiff::{SignedDuration, Timestamp};
use std::{collections::BTreeMap, sync::Arc};
use uuid::Uuid;

pub(crate) const SHARDS: u8 = 6;

pub(crate) fn pool() -> Pool {
    let key: Arc<str> = Arc::from("warehouse");
    Pool { workspace: WorkspaceId(Uuid::nil()), key: Arc::clone(&key), limit: key }
}

/// The database's rows.
#[derive(Default)]
pub(crate) struct Rows {
    pub(crate) max: u32,
    pub(crate) held: BTreeMap<u8, u32>,
    pub(crate) wanted: BTreeMap<u8, u32>,
    pub(crate) statements: u32,
}

impl Rows {
    /// What the database forgets of idle pools.
    pub(crate) fn forget_idle(&mut self) {
        let (held, wanted) = (&mut self.held, &mut self.wanted);
        held.retain(|shard, held| *held > 0 || wanted[shard] > 0);
        wanted.retain(|shard, _| held.contains_key(shard));
    }

    pub(crate) fn settle(&mut self, claims: &[Claim]) -> Vec<Answer> {
        self.statements += 1;
        let used = self.held.values().sum();
        let pairs: Vec<_> = claims.iter().map(|c| (self.held.get(&c.shard).copied().unwrap_or(0), c)).collect();
        let granted = settle(self.max, used, &pairs);
        for (claim, granted) in claims.iter().zip(&granted) {
            self.held.insert(claim.shard, *granted);
            self.wanted.insert(claim.shard, claim.wanted);
        }
        let want = |(shard, held): (&u8, &u32)| Want { held: *held, wanted: self.wanted[shard] };
        let all: Vec<Want> = self.held.iter().map(want).collect();
        let sum = |of: fn(&Want) -> u32| all.iter().map(of).sum::<u32>();
        let in_all = Want { held: sum(|want| want.held), wanted: sum(|want| want.wanted) };
        let contended = in_all.wanted > self.max;
        let excess = in_all.held.saturating_sub(self.max);
        let answer = |(claim, granted): (&Claim, u32)| Answer {
            pool: claim.pool.clone(),
            shard: claim.shard,
            granted,
            target: claim.target,
            wanted: claim.wanted,
            contended,
            share: fair_share(self.max, &all, granted),
            excess,
            free: self.max.saturating_sub(in_all.held),
            in_all,
        };
        claims.iter().zip(granted).map(answer).collect()
    }
}

/// Units that wait for a permit, that run, and that wait for something else, by shard, and who owns the shard.
pub(crate) struct World {
    pub(crate) rows: Rows,
    pub(crate) engines: Vec<Ledger>,
    pub(crate) owner: BTreeMap<u8, usize>,
    pub(crate) waiting: BTreeMap<u8, u32>,
    pub(crate) running: BTreeMap<u8, u32>,
    /// By engine, units whose end is not written yet, less those that began since.
    pub(crate) unwritten: Vec<u32>,
    /// They gave their permit back, and go on when they have one again.
    pub(crate) resting: BTreeMap<u8, u32>,
    /// Of those that rest, the ones that a new owner takes for running.
    pub(crate) mistaken: BTreeMap<u8, u32>,
    pub(crate) was_mistaken: bool,
    pub(crate) now: Timestamp,
}

#[derive(Debug, Clone)]
pub(crate) enum Act {
    Arrive(u8, u32),
    End(u8),
    Turn(usize),
    /// The statement counted, and its answer was lost.
    LostAnswer(usize),
    /// The pool was forgotten between the statement that made it and the one that asked: nothing counted.
    NoAnswer(usize),
    Tick(usize),
    /// Idle rows are forgotten.
    ForgetIdle,
    /// The owner dies; another engine takes the shard.
    Move(u8, usize),
    /// A unit that runs waits for something else than a permit.
    Rest(u8),
    /// One that rested goes on, if there is a permit.
    GoOn(u8),
    /// The owner hears which units rest.
    Tell(u8),
}

/// Which claims of a turn were answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Answered {
    All,
    Lost,
    NotFirst,
}

impl World {
    pub(crate) fn new(max: u32, engines: usize) -> Self {
        Self {
            rows: Rows { max, ..Rows::default() },
            engines: vec![Ledger::default(); engines],
            owner: (0..SHARDS).map(|shard| (shard, usize::from(shard) % engines)).collect(),
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
            unwritten: vec![0; engines],
            resting: BTreeMap::new(),
            mistaken: BTreeMap::new(),
            was_mistaken: false,
            now: Timestamp::UNIX_EPOCH,
        }
    }

    pub(crate) fn act(&mut self, act: &Act) {
        let count = self.engines.len();
        match *act {
            Act::Arrive(shard, units) => *self.waiting.entry(shard).or_default() += units,
            Act::End(shard) => self.end(shard),
            Act::Turn(engine) => self.turn(engine % count, Answered::All),
            Act::LostAnswer(engine) => self.turn(engine % count, Answered::Lost),
            Act::NoAnswer(engine) => self.turn(engine % count, Answered::NotFirst),
            Act::Tick(engine) => {
                self.now += SignedDuration::from_millis(250);
                self.engines[engine % count].stir(|_| true);
                self.turn(engine % count, Answered::All);
            }
            Act::ForgetIdle => self.rows.forget_idle(),
            Act::Move(shard, to) => self.take_over(shard, to % count),
            Act::Rest(shard) if self.running.get(&shard).is_some_and(|running| *running > 0) => {
                self.end(shard);
                *self.resting.entry(shard).or_default() += 1;
            }
            Act::Rest(_) => {}
            Act::GoOn(shard) => self.go_on(shard),
            Act::Tell(shard) => {
                for _ in 0..self.mistaken.remove(&shard).unwrap_or(0) {
                    self.engines[self.owner[&shard]].give_back(shard, &[pool()], self.now);
                }
            }
        }
        let running: u32 = self.running.values().sum();
        assert!(running <= self.rows.max, "more runs than may");
        assert!(running + self.unwritten.iter().sum::<u32>() <= self.rows.max, "more is written than may run");
        let granted: u32 = self.rows.held.values().sum();
        assert!(granted <= self.rows.max || self.was_mistaken, "more is granted than there is");
        for (shard, running) in &self.running {
            let held = self.rows.held.get(shard).copied().unwrap_or(0);
            assert!(*running <= held, "shard {shard} runs {running} and holds {held}");
        }
    }

    pub(crate) fn end(&mut self, shard: u8) {
        let running = self.running.entry(shard).or_default();
        if *running > 0 {
            *running -= 1;
            self.unwritten[self.owner[&shard]] += 1;
            self.engines[self.owner[&shard]].give_back(shard, &[pool()], self.now);
        }
    }

    pub(crate) fn go_on(&mut self, shard: u8) {
        let resting = self.resting.entry(shard).or_default();
        if *resting == 0 {
            return;
        }
        let ledger = &mut self.engines[self.owner[&shard]];
        let mistaken = self.mistaken.entry(shard).or_default();
        if *mistaken > 0 {
            *mistaken -= 1;
            ledger.give_back(shard, &[pool()], self.now);
        }
        if ledger.take(shard, &[pool()]).is_ok() {
            *resting -= 1;
            *self.running.entry(shard).or_default() += 1;
            let unwritten = &mut self.unwritten[self.owner[&shard]];
            *unwritten = unwritten.saturating_sub(1);
        } else {
            ledger.lack(shard, &pool(), 1);
        }
    }

    pub(crate) fn dispatch(&mut self, engine: usize) {
        self.engines[engine].begin_pass();
        for shard in (0..SHARDS).filter(|shard| self.owner[shard] == engine) {
            let waiting = self.waiting.entry(shard).or_default();
            while *waiting > 0 && self.engines[engine].take(shard, &[pool()]).is_ok() {
                *waiting -= 1;
                *self.running.entry(shard).or_default() += 1;
                self.unwritten[engine] = self.unwritten[engine].saturating_sub(1);
            }
            if *waiting > 0 {
                self.engines[engine].lack(shard, &pool(), *waiting);
            }
        }
    }

    pub(crate) fn turn(&mut self, engine: usize, answered: Answered) {
        self.settle(engine, answered);
        // What others have taken meanwhile is written beside what is not.
        let all = self.running.values().sum::<u32>() + self.unwritten.iter().sum::<u32>();
        assert!(all <= self.rows.max, "more is written than may run");
        self.unwritten[engine] = 0;
        self.engines[engine].written();
    }

    pub(crate) fn settle(&mut self, engine: usize, answered: Answered) {
        for round in 0..ROUNDS_MAX {
            self.dispatch(engine);
            let claims = self.engines[engine].claims(self.now);
            if claims.is_empty() {
                return;
            }
            if answered == Answered::NotFirst && round == 0 {
                self.engines[engine].settled(&[]);
                continue;
            }
            let answers = self.rows.settle(&claims);
            if answered == Answered::Lost {
                return self.engines[engine].unsettled(&claims);
            }
            self.engines[engine].settled(&answers);
        }
        self.dispatch(engine);
    }

    pub(crate) fn take_over(&mut self, shard: u8, to: usize) {
        let from = self.owner.insert(shard, to).unwrap();
        self.engines[from].forget(|lost| lost == shard);
        // The dead one's turn counts no more: what ended in it is running still, for whoever looks.
        self.unwritten[from] = 0;
        let resting = self.resting.get(&shard).copied().unwrap_or(0);
        for _ in 0..self.running.get(&shard).copied().unwrap_or(0) + resting {
            self.engines[to].restore(shard, &[pool()]);
        }
        self.mistaken.insert(shard, resting);
        self.was_mistaken |= resting > 0;
        if self.rows.held.contains_key(&shard) {
            self.engines[to].found(shard, pool());
        }
    }

    pub(crate) fn settle_down(&mut self) {
        for shard in 0..SHARDS {
            self.act(&Act::Tell(shard));
        }
        for _ in 0..12 {
            for engine in 0..self.engines.len() {
                self.act(&Act::Tick(engine));
            }
        }
    }
}
