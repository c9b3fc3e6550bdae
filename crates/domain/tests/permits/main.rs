//! Several schedulers, one pool: whatever comes, ends, is lost or dies, the limit holds, and room is used.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

mod world;

use domain::permits::{IDLE_MAX, Ledger, Pool};
use jiff::Timestamp;
use proptest::prelude::*;
use std::{collections::BTreeMap, sync::Arc};
use world::{Act, Rows, SHARDS, World, pool};

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

/// Whether the unit of shard 1 runs after so many rounds at most.
fn shard_1_gets_its_permit(world: &mut World, rounds: u32, round: &[Act]) -> bool {
    let runs = |world: &World| world.running.get(&1) == Some(&1);
    for _ in 0..rounds {
        if runs(world) {
            break;
        }
        for act in round {
            world.act(act);
        }
    }
    runs(world)
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
        let round = [Act::Tick(0), Act::End(0), Act::Turn(0), Act::Tick(1), Act::Tick(1)];
        prop_assert!(shard_1_gets_its_permit(&mut world, 4 * max, &round));
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
        let round = [Act::End(0), Act::End(2), Act::Turn(0), Act::Tick(1), Act::Tick(1)];
        prop_assert!(shard_1_gets_its_permit(&mut world, 4 * max, &round));
    }
}
