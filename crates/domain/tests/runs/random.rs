//! Random pipelines, what their blocks do, and what happens to their runs meanwhile.

use crate::{
    build::{block, executor, pipeline},
    world::World,
};
use domain::{
    id::ExecutorId,
    pipeline::{Block, BlockKind, Concurrency, Pipeline},
    retry::RetryPolicy,
    run::{Event, Lease, Options, Refused},
    unit::{Failure, Outcome, Output, Step, UnitKey},
};
use jiff::SignedDuration;
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
};

/// One block; `upstream` is a mask over the blocks before it.
#[derive(Debug, Clone)]
pub(crate) struct BlockPlan {
    upstream: u32,
    dynamic: bool,
    reduce: bool,
    sensor: bool,
    inert: bool,
    guarded: bool,
    watched: bool,
    retries: u32,
}

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    blocks: Vec<BlockPlan>,
    backwards: bool,
    limit: Option<u32>,
    one_process: bool,
    cached: bool,
    lenient: bool,
    timeout_s: Option<u32>,
    /// Decides what each try does, with the share of them that fail, in percent.
    seed: u64,
    failing: u64,
}

fn block_plan() -> impl Strategy<Value = BlockPlan> {
    let flags = (
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.4),
    );
    // The two nearest masks make chains likelier than stars.
    (any::<u32>(), any::<u32>(), flags, 0..3_u32).prop_map(|(a, b, flags, retries)| BlockPlan {
        upstream: a & b,
        dynamic: flags.0,
        reduce: flags.1,
        sensor: flags.2,
        inert: flags.3,
        guarded: flags.4,
        watched: flags.5,
        retries,
    })
}

pub(crate) fn plan() -> impl Strategy<Value = Plan> {
    let process = prop_oneof![4 => Just((false, false)), 1 => Just((true, false)), 1 => Just((true, true))];
    let timeout = prop_oneof![4 => Just(None), 1 => (1..200_u32).prop_map(Some)];
    let limit = prop_oneof![2 => Just(None), 1 => (1..4_u32).prop_map(Some)];
    let blocks = prop::collection::vec(block_plan(), 0..8);
    (blocks, any::<bool>(), limit, process, any::<bool>(), timeout, any::<u64>(), 0..40_u64).prop_map(
        |(blocks, backwards, limit, (one_process, cached), lenient, timeout_s, seed, failing)| Plan {
            blocks,
            backwards,
            limit,
            one_process,
            cached,
            lenient,
            timeout_s,
            seed,
            failing,
        },
    )
}

impl Plan {
    /// The same, but neither a failure nor the time stops it.
    pub(crate) fn unstoppable(self) -> Self {
        Self { lenient: true, timeout_s: None, ..self }
    }

    /// The same, but nothing ever fails.
    pub(crate) fn flawless(self) -> Self {
        Self { lenient: false, timeout_s: None, failing: 0, ..self }
    }

    pub(crate) fn options(&self) -> Options {
        Options { allow_blocks_to_fail: self.lenient, timeout_s: self.timeout_s, ..Options::default() }
    }

    pub(crate) fn pipeline(&self) -> Pipeline {
        let mut blocks: Vec<Block> = self.blocks.iter().enumerate().map(|(at, plan)| plan.block(at)).collect();
        if self.backwards {
            blocks.reverse();
        }
        let watched: Vec<String> = named(&self.blocks, |plan| plan.watched);
        let watched: Vec<&str> = watched.iter().map(String::as_str).collect();
        let retry = RetryPolicy { retries: 1, ..RetryPolicy::default() };
        let callbacks = vec![Block { kind: BlockKind::Callback, retry, ..block("cb", &watched) }];
        Pipeline {
            callbacks,
            one_process: self.one_process,
            cache_output_in_memory: self.cached,
            concurrency: Concurrency { block_run_limit: self.limit, ..Concurrency::default() },
            ..pipeline(blocks)
        }
    }

    /// What a try of a unit does: the same whenever, wherever and in whatever order it runs.
    fn outcome(&self, world: &World, key: UnitKey, attempt: u32, pokes: u32) -> Outcome {
        let name = world.name(key);
        let roll = |salt: u64, of: u64| {
            let mut hasher = DefaultHasher::new();
            (self.seed, &name, attempt, salt).hash(&mut hasher);
            hasher.finish() % of
        };
        let (plan, is_callback) = match key.step {
            Step::Block(at) => (Some(self.plan_of(&world.graph.block(at).uuid)), false),
            Step::Callback { .. } => (None, true),
        };
        if plan.is_some_and(|plan| plan.sensor && u64::from(pokes) < roll(1, 3)) {
            return Outcome::NotYet;
        }
        if roll(2, 100) < self.failing {
            return Outcome::Failed(Failure::new("USER", "it broke"));
        }
        if plan.is_some_and(|plan| plan.guarded) && roll(3, 3) == 0 {
            return Outcome::ConditionFailed;
        }
        let items = (!is_callback).then(|| u32::try_from(roll(4, 4)).expect("small"));
        Outcome::Completed(Output { items, ..Output::default() })
    }

    fn plan_of(&self, uuid: &str) -> &BlockPlan {
        &self.blocks[uuid[1..].parse::<usize>().expect("b and a number")]
    }
}

fn named(blocks: &[BlockPlan], which: impl Fn(&BlockPlan) -> bool) -> Vec<String> {
    blocks.iter().enumerate().filter(|(_, plan)| which(plan)).map(|(at, _)| format!("b{at}")).collect()
}

impl BlockPlan {
    fn block(&self, at: usize) -> Block {
        let upstream = (0..at).filter(|bit| self.upstream >> bit & 1 == 1).map(|bit| format!("b{bit}")).collect();
        let kind = match (self.inert, self.sensor) {
            (true, _) => BlockKind::Markdown,
            (false, true) => BlockKind::Sensor,
            (false, false) => BlockKind::Transformer,
        };
        Block {
            upstream,
            kind,
            dynamic: self.dynamic && !self.inert,
            reduce_output: self.reduce,
            retry: RetryPolicy { retries: self.retries, ..RetryPolicy::default() },
            ..block(&format!("b{at}"), &[])
        }
    }
}

/// What happens next, as far as it can.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act {
    /// An executor asks for work, and perhaps gets what follows ahead.
    Lease(u8),
    /// One of the running attempts ends.
    Finish(u8),
    /// One of them is given back.
    Release(u8),
    /// A result that nobody waits for comes in.
    Stale(u8),
    /// Time passes, seconds.
    Pass(u8),
    Lose(u8),
    /// An executor drains and goes.
    Leave(u8),
    Rebuild,
    Cancel,
    /// So many seconds after what was before.
    CancelByHand(u8),
    RetryIncomplete,
    RetryFrom(u8),
}

/// Work, time, and owners that come and go.
pub(crate) fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        10 => any::<u8>().prop_map(Act::Lease),
        10 => any::<u8>().prop_map(Act::Finish),
        1 => any::<u8>().prop_map(Act::Release),
        1 => any::<u8>().prop_map(Act::Stale),
        3 => any::<u8>().prop_map(Act::Pass),
        2 => Just(Act::Rebuild),
    ];
    prop::collection::vec(act, 0..80)
}

/// The same, with people and dying executors.
pub(crate) fn wild_acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        10 => any::<u8>().prop_map(Act::Lease),
        10 => any::<u8>().prop_map(Act::Finish),
        1 => any::<u8>().prop_map(Act::Release),
        1 => any::<u8>().prop_map(Act::Stale),
        3 => any::<u8>().prop_map(Act::Pass),
        3 => Just(Act::Rebuild),
        2 => any::<u8>().prop_map(Act::Lose),
        1 => any::<u8>().prop_map(Act::Leave),
        1 => Just(Act::Cancel),
        1 => any::<u8>().prop_map(Act::CancelByHand),
        2 => Just(Act::RetryIncomplete),
        1 => any::<u8>().prop_map(Act::RetryFrom),
    ];
    prop::collection::vec(act, 0..160)
}

/// A run of a plan and the executors around it.
pub(crate) struct Play<'a> {
    plan: &'a Plan,
    pub(crate) world: World,
    executors: Vec<ExecutorId>,
    born: u128,
    attempts: BTreeMap<UnitKey, u32>,
    pokes: BTreeMap<UnitKey, u32>,
    /// Attempts that ended, were lost or taken back.
    over: BTreeSet<(UnitKey, i64)>,
    /// A process broke: once a play, since the third death of a block is its end.
    broke: bool,
}

impl<'a> Play<'a> {
    pub(crate) fn new(plan: &'a Plan) -> Self {
        Self {
            plan,
            world: World::started(plan.pipeline(), plan.options()),
            executors: vec![executor(1), executor(2), executor(3)],
            born: 3,
            attempts: BTreeMap::new(),
            pokes: BTreeMap::new(),
            over: BTreeSet::new(),
            broke: false,
        }
    }

    pub(crate) fn act(&mut self, act: Act) {
        match act {
            Act::Lease(n) => self.lease(pick(&self.executors, n), usize::from(n / 16 % 4)),
            Act::Finish(n) => {
                if let Some(key) = self.running(n) {
                    self.finish(key);
                }
            }
            Act::Release(n) => {
                if let Some(key) = self.running(n) {
                    self.give_back_behind(key);
                    self.over.insert((key, self.world.current[&key].0));
                    let in_memory = self.world.graph.pipeline().keeps_outputs_in_memory();
                    let outcome = match n % 2 {
                        1 if in_memory && !std::mem::replace(&mut self.broke, true) => {
                            Outcome::ProcessLost(Failure::new("CRASHED", "it broke its process"))
                        }
                        _ => Outcome::Released,
                    };
                    self.world.finish(key, outcome);
                }
            }
            Act::Stale(n) => self.stale(n),
            Act::Pass(seconds) => {
                self.world.now += SignedDuration::from_secs(i64::from(seconds));
                self.apply(Event::Wake);
            }
            Act::Lose(n) => self.lose(pick(&self.executors, n)),
            Act::Leave(n) => self.leave(pick(&self.executors, n)),
            Act::Rebuild => {
                self.world.check_rebuild();
                self.world.rebuild();
            }
            Act::Cancel => self.world.cancel(),
            Act::CancelByHand(seconds) => {
                self.act(Act::Pass(seconds));
                self.world.cancel_by_hand(0);
            }
            Act::RetryIncomplete => self.apply(Event::RetryIncomplete),
            Act::RetryFrom(n) if !self.plan.blocks.is_empty() => {
                self.apply(Event::RetryFrom(usize::from(n) % self.plan.blocks.len()));
            }
            Act::RetryFrom(_) => self.apply(Event::RetryFrom(0)),
        }
    }

    /// Runs to the end; `order` decides which attempt ends first.
    pub(crate) fn run_out(&mut self, order: &[u8]) {
        let mut order = order.iter().copied().chain(std::iter::repeat(0));
        for _ in 0..20_000 {
            if self.world.run.row().status.has_ended() {
                self.world.check_rebuild();
                return;
            }
            let on = self.world.run.home().unwrap_or(self.executors[0]);
            while self.world.run.has_ready() {
                let before = self.world.transitions;
                self.lease(on, 1);
                assert!(self.world.transitions > before, "what is ready can be leased");
            }
            if let Some(key) = self.running(order.next().unwrap_or(0)) {
                self.finish(key);
            } else if !self.world.run.row().status.has_ended() {
                self.world.sleep();
            }
        }
        panic!("the run does not end");
    }

    fn apply(&mut self, event: Event) {
        // Retries of runs that go on are refused; nothing else is.
        match self.world.event(event) {
            Ok(()) | Err(Refused::NotEnded | Refused::NothingToRetry) => {}
            Err(Refused::Stale | Refused::Early | Refused::UnderWay) => {
                panic!("only results are stale or early, and nothing is held")
            }
        }
    }

    fn running(&self, n: u8) -> Option<UnitKey> {
        let count = self.world.current.len();
        (count > 0).then(|| *self.world.current.keys().nth(usize::from(n) % count).expect("in range"))
    }

    fn lease(&mut self, on: ExecutorId, ahead: usize) {
        let mut lease = self.world.lease_to(on);
        for _ in 0..=ahead {
            let Some(Lease { key, attempt_number, .. }) = lease else { break };
            self.attempts.insert(key, attempt_number);
            lease = self.world.lease_ahead(key);
        }
        if let Some(lease) = lease {
            self.attempts.insert(lease.key, lease.attempt_number);
        }
    }

    /// An executor that does not go on says so before it says how the attempt ended that they follow.
    fn give_back_behind(&mut self, key: UnitKey) {
        let follows = |other: &UnitKey| self.world.run.follows(*other).is_some_and(|(before, _)| before == key);
        let behind = self.world.current.keys().copied().find(follows);
        if let Some(behind) = behind {
            self.give_back_behind(behind);
            self.over.insert((behind, self.world.current[&behind].0));
            self.world.finish(behind, Outcome::Released);
        }
    }

    fn finish(&mut self, mut key: UnitKey) {
        // Nothing ends before what it follows, and a result that is heard before that one's counts only after it.
        while let Some((before, _)) = self.world.run.follows(key) {
            let lease = self.world.current[&key].0;
            let early = Event::Ended { key, lease, outcome: Outcome::Completed(Output::default()) };
            assert_eq!(self.world.event(early), Err(Refused::Early));
            key = before;
        }
        let pokes = self.pokes.entry(key).or_insert(0);
        let outcome = self.plan.outcome(&self.world, key, self.attempts[&key], *pokes);
        *pokes += u32::from(outcome == Outcome::NotYet);
        if !matches!(outcome, Outcome::Completed(_)) {
            self.give_back_behind(key);
        }
        self.over.insert((key, self.world.current[&key].0));
        self.world.finish(key, outcome);
    }

    fn lose(&mut self, executor: ExecutorId) {
        self.end_all_of(executor);
        self.world.lose(executor);
        self.replace(executor);
    }

    fn leave(&mut self, executor: ExecutorId) {
        self.end_all_of(executor);
        self.world.leave(executor);
        self.replace(executor);
    }

    fn end_all_of(&mut self, executor: ExecutorId) {
        let ended = self.world.current.iter().filter(|(_, (_, on))| *on == executor);
        self.over.extend(ended.map(|(key, (lease, _))| (*key, *lease)));
    }

    fn replace(&mut self, executor: ExecutorId) {
        self.executors.retain(|other| *other != executor);
        self.born += 1;
        self.executors.push(crate::build::executor(self.born));
    }

    fn stale(&mut self, n: u8) {
        let count = self.over.len();
        if count == 0 {
            return;
        }
        let &(key, lease) = self.over.iter().nth(usize::from(n) % count).expect("in range");
        let before = self.world.outcome();
        let event = Event::Ended { key, lease, outcome: Outcome::Completed(Output::default()) };
        assert_eq!(self.world.event(event), Err(Refused::Stale));
        assert_eq!(self.world.outcome(), before);
    }
}

fn pick(executors: &[ExecutorId], n: u8) -> ExecutorId {
    executors[usize::from(n) % executors.len()]
}
