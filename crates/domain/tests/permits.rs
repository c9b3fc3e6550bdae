//! Several schedulers, one pool: whatever comes, ends, is lost or dies, the limit holds, and room is used.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

use domain::{
    id::WorkspaceId,
    permits::{Answer, Claim, IDLE_MAX, Ledger, Pool, ROUNDS_MAX, Want, fair_share, settle},
};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use std::{collections::BTreeMap, sync::Arc};
use uuid::Uuid;

const SHARDS: u8 = 6;

fn pool() -> Pool {
    let key: Arc<str> = Arc::from("warehouse");
    Pool { workspace: WorkspaceId(Uuid::nil()), key: Arc::clone(&key), limit: key }
}

/// The database's rows.
#[derive(Default)]
struct Rows {
    max: u32,
    held: BTreeMap<u8, u32>,
    wanted: BTreeMap<u8, u32>,
    statements: u32,
}

impl Rows {
    /// What the database forgets of idle pools.
    fn forget_idle(&mut self) {
        let (held, wanted) = (&mut self.held, &mut self.wanted);
        held.retain(|shard, held| *held > 0 || wanted[shard] > 0);
        wanted.retain(|shard, _| held.contains_key(shard));
    }

    fn settle(&mut self, claims: &[Claim]) -> Vec<Answer> {
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
struct World {
    rows: Rows,
    engines: Vec<Ledger>,
    owner: BTreeMap<u8, usize>,
    waiting: BTreeMap<u8, u32>,
    running: BTreeMap<u8, u32>,
    /// By engine, units whose end is not written yet, less those that began since.
    unwritten: Vec<u32>,
    /// They gave their permit back, and go on when they have one again.
    resting: BTreeMap<u8, u32>,
    /// Of those that rest, the ones that a new owner takes for running.
    mistaken: BTreeMap<u8, u32>,
    was_mistaken: bool,
    now: Timestamp,
}

#[derive(Debug, Clone)]
enum Act {
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
enum Answered {
    All,
    Lost,
    NotFirst,
}

impl World {
    fn new(max: u32, engines: usize) -> Self {
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

    fn act(&mut self, act: &Act) {
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

    fn end(&mut self, shard: u8) {
        let running = self.running.entry(shard).or_default();
        if *running > 0 {
            *running -= 1;
            self.unwritten[self.owner[&shard]] += 1;
            self.engines[self.owner[&shard]].give_back(shard, &[pool()], self.now);
        }
    }

    fn go_on(&mut self, shard: u8) {
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

    fn dispatch(&mut self, engine: usize) {
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

    fn turn(&mut self, engine: usize, answered: Answered) {
        self.settle(engine, answered);
        // What others have taken meanwhile is written beside what is not.
        let all = self.running.values().sum::<u32>() + self.unwritten.iter().sum::<u32>();
        assert!(all <= self.rows.max, "more is written than may run");
        self.unwritten[engine] = 0;
        self.engines[engine].written();
    }

    fn settle(&mut self, engine: usize, answered: Answered) {
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

    fn take_over(&mut self, shard: u8, to: usize) {
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

    fn settle_down(&mut self) {
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

/// A permit that one shard gives back, as its share demands, is another shard's in the same turn where one engine owns both:
/// no tick is waited for.
fn one_engine_uses_what_came_back(max: u32, units: &[u32], ends: &[u8]) -> Result<(), TestCaseError> {
    let mut world = World::new(max, 1);
    for (shard, units) in (0..SHARDS).zip(units) {
        world.act(&Act::Arrive(shard, *units));
        world.act(&Act::Turn(0));
    }
    for shard in ends {
        let (running, waiting): (u32, u32) = (world.running.values().sum(), world.waiting.values().sum());
        prop_assert_eq!(running, max.min(running + waiting), "{} wait", waiting);
        world.act(&Act::End(*shard));
        world.act(&Act::Turn(0));
    }
    Ok(())
}

/// One has its share and lacks more, another one may have more by now: the pool is asked for the second.
#[test]
fn who_has_its_share_keeps_nobody_from_asking() {
    one_engine_uses_what_came_back(11, &[3, 2, 1, 7, 6, 4], &[1, 0, 0, 1, 5, 3, 5, 0, 0]).unwrap();
}

/// One engine's shards never lack a permit, one unit after the other: they hear of the other engine all the same, and give way.
#[test]
fn who_never_lacks_a_permit_gives_way_to_who_waits() {
    for (max, shards) in [(1, [0, 0]), (2, [0, 0]), (3, [0, 2])] {
        let mut world = World::new(max, 2);
        for (turn, shard) in shards.into_iter().cycle().take(20).enumerate() {
            if turn == 8 {
                world.act(&Act::Arrive(1, max));
                world.act(&Act::Turn(1));
            }
            let tick = [Act::Arrive(shard, 1), Act::Turn(0), Act::Tick(0)];
            // The other one asks when it is told that something came back.
            for act in tick.iter().chain(&[Act::End(shard), Act::Turn(0), Act::Turn(0), Act::Tick(1)]) {
                world.act(act);
            }
        }
        assert_eq!(world.running.get(&1), Some(&max), "at a limit of {max}");
    }
}

/// What one wanted and did not get is taken back when it is over, though it does not know of those who wait: it counted in their
/// shares, and what they left to it nobody used.
#[test]
fn a_want_that_is_over_keeps_nothing_from_others() {
    let mut world = World::new(6, 3);
    for (shard, units) in [(1, 1), (4, 3)] {
        world.act(&Act::Arrive(shard, units));
    }
    let before =
        [Act::Turn(1), Act::Arrive(2, 2), Act::Arrive(3, 2), Act::NoAnswer(0), Act::End(4), Act::End(4), Act::End(4)];
    let between = [Act::Tick(2), Act::Tick(0), Act::Tick(1), Act::Arrive(0, 2), Act::Tick(0), Act::Arrive(2, 4)];
    let after = [Act::Turn(1), Act::End(3), Act::Turn(0), Act::End(0), Act::Arrive(3, 1), Act::End(3)];
    for act in before.iter().chain(&between).chain(&after) {
        world.act(act);
    }
    world.settle_down();
    assert_eq!((world.running.values().sum::<u32>(), world.waiting.values().sum::<u32>()), (6, 3));
}

/// Shards that take turns settle once each: a permit that is idle for a moment goes to another shard only where the pool has few
/// left.
#[test]
fn idle_permits_stay_where_they_are_while_the_pool_has_enough() {
    for (max, further) in [(3, 0), (2, 1), (1, 1)] {
        let mut world = World::new(max, 1);
        for (turn, shard) in [0, 1, 0, 1, 0, 1].into_iter().enumerate() {
            let before = world.rows.statements;
            world.act(&Act::Arrive(shard, 1));
            world.act(&Act::Turn(0));
            assert_eq!(world.running[&shard], 1, "it starts at once, at a limit of {max}");
            world.act(&Act::End(shard));
            world.act(&Act::Turn(0));
            let expected = if turn < 2 { 1 } else { further };
            assert_eq!(world.rows.statements - before, expected, "turn {turn} at a limit of {max}");
        }
    }
}

/// A permit that came when there was no slot left for its unit goes back like any other that is idle.
#[test]
fn a_permit_that_was_never_used_goes_back() {
    let (mut ledger, mut rows) = (Ledger::default(), Rows { max: 4, ..Rows::default() });
    ledger.lack(1, &pool(), 2);
    let answers = rows.settle(&ledger.claims(Timestamp::UNIX_EPOCH));
    ledger.settled(&answers);
    ledger.take(1, &[pool()]).unwrap();
    ledger.begin_pass();
    assert_eq!(ledger.claims(Timestamp::UNIX_EPOCH), []);
    let answers = rows.settle(&ledger.claims(Timestamp::UNIX_EPOCH + IDLE_MAX));
    ledger.settled(&answers);
    assert_eq!((rows.held[&1], ledger.in_use(&pool())), (1, 1));
}

/// Whichever limit holds for its key, a pool is one: units that run are counted once, by the limit that holds now.
#[test]
fn another_limit_makes_no_other_pool() {
    let (pattern, exact) = (Pool { limit: Arc::from("ware*"), ..pool() }, pool());
    assert_eq!((&pattern, pattern.cmp(&exact)), (&exact, std::cmp::Ordering::Equal));
    let mut ledger = Ledger::default();
    let mut rows = Rows { max: 4, ..Rows::default() };
    ledger.lack(1, &pattern, 2);
    let answers = rows.settle(&ledger.claims(Timestamp::UNIX_EPOCH));
    ledger.settled(&answers);
    for _ in 0..2 {
        ledger.take(1, std::slice::from_ref(&pattern)).unwrap();
    }
    ledger.written();
    ledger.heed(|pool| (pool.limit.as_ref() == "ware*").then(|| Arc::clone(&exact.limit)));
    ledger.begin_pass();
    let claims = ledger.claims(Timestamp::UNIX_EPOCH);
    let said: Vec<_> = claims.iter().map(|claim| (claim.pool.limit.as_ref(), claim.in_use, claim.wanted)).collect();
    assert_eq!(said, [("warehouse", 2, 2)]);
    ledger.settled(&rows.settle(&claims));
    assert_eq!((ledger.pools(), ledger.in_use(&pattern), ledger.in_use(&exact)), (1, 2, 2));
    assert_eq!(ledger.claims(Timestamp::UNIX_EPOCH), []);
}

fn act() -> impl Strategy<Value = Act> {
    let shard = 0..SHARDS;
    prop_oneof![
        4 => (shard.clone(), 1..5_u32).prop_map(|(shard, units)| Act::Arrive(shard, units)),
        5 => shard.clone().prop_map(Act::End),
        6 => (0..3_usize).prop_map(Act::Turn),
        1 => (0..3_usize).prop_map(Act::LostAnswer),
        1 => (0..3_usize).prop_map(Act::NoAnswer),
        2 => (0..3_usize).prop_map(Act::Tick),
        1 => Just(Act::ForgetIdle),
        1 => (shard.clone(), 0..3_usize).prop_map(|(shard, to)| Act::Move(shard, to)),
        1 => shard.clone().prop_map(Act::Rest),
        2 => shard.clone().prop_map(Act::GoOn),
        1 => shard.prop_map(Act::Tell),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_limit_holds_and_room_is_used(
        max in 1..9_u32, engines in 1..4_usize, acts in prop::collection::vec(act(), 1..120),
    ) {
        let mut world = World::new(max, engines);
        for act in &acts {
            world.act(act);
        }
        world.settle_down();
        let running: u32 = world.running.values().sum();
        let waiting: u32 = world.waiting.values().sum();
        prop_assert!(waiting == 0 || running == max, "{waiting} wait, and {running} of {max} run");
        if waiting == 0 {
            prop_assert_eq!(world.rows.held.values().sum::<u32>(), running, "idle permits go back");
        }
        for (engine, ledger) in world.engines.iter().enumerate() {
            let has = |units: &BTreeMap<u8, u32>| (0..SHARDS).any(|shard| {
                world.owner[&shard] == engine && units.get(&shard).is_some_and(|units| *units > 0)
            });
            let is_used = has(&world.running) || has(&world.waiting);
            prop_assert_eq!(ledger.pools(), usize::from(is_used), "what is idle is forgotten");
        }
    }

    /// Everything ends and is forgotten, by engines and rows; what comes then finds the whole limit, and no more.
    #[test]
    fn a_pool_that_was_forgotten_begins_anew(
        max in 1..9_u32, engines in 1..4_usize, acts in prop::collection::vec(act(), 1..60),
    ) {
        let mut world = World::new(max, engines);
        for act in &acts {
            world.act(act);
        }
        world.settle_down();
        world.resting.clear();
        while world.running.values().sum::<u32>() > 0 {
            for shard in 0..SHARDS {
                world.act(&Act::End(shard));
            }
            world.settle_down();
        }
        world.act(&Act::ForgetIdle);
        prop_assert!(world.rows.held.is_empty() && world.engines.iter().all(|ledger| ledger.pools() == 0));
        for shard in 0..SHARDS {
            world.act(&Act::Arrive(shard, max));
        }
        world.settle_down();
        prop_assert_eq!(world.running.values().sum::<u32>(), max);
    }

    #[test]
    fn a_permit_that_came_back_is_used_in_the_same_turn(
        max in 1..20_u32, units in prop::collection::vec(0..30_u32, usize::from(SHARDS)),
        ends in prop::collection::vec(0..SHARDS, 1..200),
    ) {
        one_engine_uses_what_came_back(max, &units, &ends)?;
    }

    /// With work for ever at one engine, another one's unit starts as soon as units end.
    #[test]
    fn nobody_starves(max in 1..9_u32) {
        let mut world = World::new(max, 2);
        world.act(&Act::Arrive(0, 10_000));
        world.act(&Act::Turn(0));
        world.act(&Act::Arrive(1, 1));
        world.act(&Act::Turn(1));
        for _ in 0..4 * max {
            if world.running.get(&1) == Some(&1) {
                break;
            }
            for act in [Act::Tick(0), Act::End(0), Act::Turn(0), Act::Tick(1), Act::Tick(1)] {
                world.act(&act);
            }
        }
        prop_assert_eq!(world.running.get(&1), Some(&1));
    }

    /// Neither does a permit go from hand to hand within one engine while somebody at another one waits.
    #[test]
    fn nobody_starves_beside_an_engine_whose_shards_could_pass_permits_on_for_ever(max in 1..9_u32) {
        let mut world = World::new(max, 2);
        for (shard, engine) in [(0, 0), (2, 0), (1, 1)] {
            world.act(&Act::Arrive(shard, if engine == 0 { 10_000 } else { 1 }));
            world.act(&Act::Turn(engine));
        }
        // The engine learns of the other one with its next answer.
        world.act(&Act::Tick(0));
        for _ in 0..4 * max {
            if world.running.get(&1) == Some(&1) {
                break;
            }
            for act in [Act::End(0), Act::End(2), Act::Turn(0), Act::Tick(1), Act::Tick(1)] {
                world.act(&act);
            }
        }
        prop_assert_eq!(world.running.get(&1), Some(&1));
    }
}
