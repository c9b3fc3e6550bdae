//! A run with what surrounds it: a store of rows as the database keeps them, executors, a clock. Every step checks what
//! must hold at every instant.

use crate::build::{at, executor};
use domain::{
    graph::{Feed, Graph},
    id::{ExecutorId, RunId},
    pipeline::Pipeline,
    run::{Event, InputMode, Lease, Options, Refused, Run, RunRow, RunStatus, Transition, unit_key, unit_name},
    unit::{BlockStatus, Failure, LostAttempt, Outcome, Output, Step, UnitKey, UnitRow},
};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use uuid::Uuid;

/// What a run would lease next: everything but the time.
type Decision = (UnitKey, i64, u32, String);

pub(crate) struct World {
    pub(crate) run: Run,
    pub(crate) graph: Arc<Graph>,
    pub(crate) now: Timestamp,
    options: Options,
    row: RunRow,
    pub(crate) rows: BTreeMap<UnitKey, UnitRow>,
    pub(crate) lost: Vec<LostAttempt>,
    pub(crate) stops: Vec<(UnitKey, i64)>,
    pub(crate) ended_processes: Vec<ExecutorId>,
    pub(crate) transitions: usize,
    /// Attempts that executors run.
    pub(crate) current: BTreeMap<UnitKey, (i64, ExecutorId)>,
    /// The highest lease that each unit ever had.
    highest: BTreeMap<UnitKey, i64>,
    dead: BTreeSet<ExecutorId>,
}

impl World {
    /// A run that has not started.
    pub(crate) fn new(pipeline: Pipeline, options: Options) -> Self {
        let graph = Arc::new(crate::build::graph(pipeline).expect("a valid pipeline"));
        let run = Run::new(RunId(Uuid::from_u128(7)), Arc::clone(&graph), options.clone());
        Self {
            row: run.row().clone(),
            run,
            graph,
            now: at(0),
            options,
            rows: BTreeMap::new(),
            lost: Vec::new(),
            stops: Vec::new(),
            ended_processes: Vec::new(),
            transitions: 0,
            current: BTreeMap::new(),
            highest: BTreeMap::new(),
            dead: BTreeSet::new(),
        }
    }

    pub(crate) fn started(pipeline: Pipeline, options: Options) -> Self {
        let mut world = Self::new(pipeline, options);
        world.event(Event::Start).expect("a start always applies");
        world
    }

    // --- acts

    pub(crate) fn event(&mut self, event: Event) -> Result<(), Refused> {
        self.now += SignedDuration::from_millis(1);
        let transitions = self.run.advance(event, self.now)?;
        self.store(transitions);
        self.check();
        Ok(())
    }

    pub(crate) fn lease_to(&mut self, executor: ExecutorId) -> Option<Lease> {
        self.now += SignedDuration::from_millis(1);
        let mut out = Vec::new();
        let lease = self.run.lease(executor, self.now, &mut out);
        self.store(out);
        if let Some(lease) = &lease {
            self.check_lease(lease);
            self.current.insert(lease.key, (lease.lease, executor));
        }
        self.check();
        lease
    }

    /// Leases what follows `key` to whoever has that.
    pub(crate) fn lease_ahead(&mut self, key: UnitKey) -> Option<Lease> {
        self.now += SignedDuration::from_millis(1);
        let mut out = Vec::new();
        let lease = self.run.lease_ahead(key, &mut |_| true, &mut out);
        self.store(out);
        if let Some(lease) = &lease {
            self.check_number(lease);
            let (before, executor) = self.current[&key];
            assert_eq!(self.run.follows(lease.key), Some((key, before)));
            let Step::Block(at) = key.step else { panic!("{} follows no block", self.name(lease.key)) };
            let read = domain::run::InputRef { block: at, mode: InputMode::Whole, outputs: vec![(None, before)] };
            assert_eq!(lease.inputs, [read], "it reads what it would read when that has completed");
            self.current.insert(lease.key, (lease.lease, executor));
        }
        self.check();
        lease
    }

    /// Leases whatever is ready to the first executor.
    pub(crate) fn lease_all(&mut self) -> Vec<Lease> {
        std::iter::from_fn(|| self.lease_to(executor(1))).collect()
    }

    pub(crate) fn finish(&mut self, key: UnitKey, outcome: Outcome) {
        if !matches!(outcome, Outcome::Completed(_)) {
            self.take_back_behind(key);
        }
        let (lease, _) = self.current.remove(&key).unwrap_or_else(|| panic!("{key:?} is not running"));
        self.event(Event::Ended { key, lease, outcome }).expect("the attempt is current");
    }

    /// Nothing behind an attempt that did not complete is leased any more.
    fn take_back_behind(&mut self, key: UnitKey) {
        let follows = |other: &UnitKey| self.run.follows(*other).is_some_and(|(before, _)| before == key);
        if let Some(behind) = self.current.keys().copied().find(follows) {
            self.take_back_behind(behind);
            self.current.remove(&behind);
        }
    }

    pub(crate) fn lose(&mut self, executor: ExecutorId) {
        self.current.retain(|_, (_, on)| *on != executor);
        self.dead.insert(executor);
        self.event(Event::ExecutorLost(executor)).expect("a loss always applies");
    }

    /// It gives back what it still has, and goes.
    pub(crate) fn leave(&mut self, executor: ExecutorId) {
        let has = |world: &Self| world.current.iter().find(|(_, (_, on))| *on == executor).map(|(key, _)| *key);
        while let Some(key) = has(self) {
            self.finish(key, Outcome::Released);
        }
        self.dead.insert(executor);
        self.event(Event::ExecutorLeft(executor)).expect("a departure always applies");
    }

    pub(crate) fn cancel(&mut self) {
        self.event(Event::Cancel { reason: "enough".to_owned() }).expect("a cancel always applies");
    }

    /// Somebody asks, so many seconds later.
    pub(crate) fn cancel_by_hand(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
        self.event(Event::CancelByHand { reason: "enough".to_owned() }).expect("a cancel always applies");
    }

    /// Sleeps until the run wants to be woken.
    pub(crate) fn sleep(&mut self) {
        self.now = self.now.max(self.run.next_wake().expect("it waits for a time"));
        self.event(Event::Wake).expect("a wake always applies");
    }

    /// The owner dies; another one reads the rows.
    pub(crate) fn rebuild(&mut self) {
        let (run, out) = self.rebuilt();
        self.run = run;
        self.store(out);
        if let Some(home) = self.run.home().filter(|home| self.dead.contains(home)) {
            self.event(Event::ExecutorLost(home)).expect("a loss always applies");
        }
        self.check();
    }

    // --- acts by name: `block`, `block#child`, `callback:block`, `callback:block#child`

    pub(crate) fn key(&self, name: &str) -> UnitKey {
        let (block, child) = match name.split_once('#') {
            Some((block, child)) => (block, child.parse().expect("a child's number")),
            None => (name, -1),
        };
        unit_key(&self.graph, block, child).unwrap_or_else(|| panic!("no unit is named {name}"))
    }

    pub(crate) fn complete(&mut self, name: &str) {
        self.finish(self.key(name), Outcome::Completed(Output::default()));
    }

    pub(crate) fn complete_items(&mut self, name: &str, items: u32) {
        self.finish(self.key(name), Outcome::Completed(Output { items: Some(items), ..Output::default() }));
    }

    pub(crate) fn fail(&mut self, name: &str) {
        self.finish(self.key(name), Outcome::Failed(Failure::new("USER", "it broke\nbadly")));
    }

    /// Leases all and completes these, in this order.
    pub(crate) fn pass(&mut self, names: &[&str]) {
        for name in names {
            self.lease_all();
            self.complete(name);
        }
    }

    // --- looks

    pub(crate) fn status(&self, name: &str) -> &'static str {
        self.rows.get(&self.key(name)).map_or("-", |row| row.status.as_str())
    }

    pub(crate) fn stored(&self, name: &str) -> &UnitRow {
        &self.rows[&self.key(name)]
    }

    pub(crate) fn run_status(&self) -> &'static str {
        self.row.status.as_str()
    }

    pub(crate) fn reason(&self) -> &str {
        self.row.reason.as_deref().unwrap_or("")
    }

    /// Everything that executors run, by name.
    pub(crate) fn running(&self) -> Vec<String> {
        self.current.keys().map(|key| self.name(*key)).collect()
    }

    pub(crate) fn name(&self, key: UnitKey) -> String {
        match unit_name(&self.graph, key) {
            (block, -1) => block,
            (block, child) => format!("{block}#{child}"),
        }
    }

    /// Every unit's status, and the run's.
    pub(crate) fn outcome(&self) -> BTreeMap<String, &'static str> {
        let units = self.rows.values().map(|row| (self.name(row.key), row.status.as_str()));
        units.chain([(String::new(), self.run_status())]).collect()
    }

    // --- the store

    fn store(&mut self, transitions: Vec<Transition>) {
        self.transitions += transitions.len();
        for transition in transitions {
            match transition {
                Transition::Run(row) => self.row = row,
                Transition::Unit(row) => self.upsert(*row),
                Transition::Lost(attempt) => self.lost.push(*attempt),
                Transition::DropChildren(at) => {
                    self.rows.retain(|key, _| key.step != Step::Block(at) || key.child.is_none());
                }
                // It ran others too that the same event takes back: what is said to the dead reaches nobody.
                Transition::Stop { executor, .. } if self.dead.contains(&executor) => {}
                Transition::Stop { key, lease, executor } => {
                    assert_eq!(self.current.get(&key), Some(&(lease, executor)), "what is stopped runs");
                    self.stops.push((key, lease));
                }
                Transition::EndProcess(executor) => self.ended_processes.push(executor),
            }
        }
    }

    fn upsert(&mut self, mut row: UnitRow) {
        let is_fresh = row.status == BlockStatus::Initial && row.attempts == 0;
        row.started_at = match self.rows.get(&row.key) {
            _ if is_fresh => row.started_at,
            Some(old) => row.started_at.or(old.started_at),
            None => row.started_at,
        };
        if let Some(old) = self.rows.get(&row.key) {
            assert!(
                row.lease >= old.lease,
                "the lease of {} fell from {} to {}",
                self.name(row.key),
                old.lease,
                row.lease
            );
        }
        self.rows.insert(row.key, row);
    }

    // --- what must hold

    /// After every step.
    fn check(&self) {
        assert_eq!(&self.row, self.run.row(), "the stored run is the run");
        let pipeline = self.graph.pipeline();
        let limit = if pipeline.one_process { Some(1) } else { pipeline.concurrency.block_run_limit };
        assert!(limit.is_none_or(|limit| self.current.len() <= limit as usize), "over the limit");
        let believed: BTreeMap<_, _> = self.run.running_units().map(|(key, lease, on)| (key, (lease, on))).collect();
        assert_eq!(believed, self.current, "the run knows what runs");
        for (key, (lease, on)) in &self.current {
            assert!(self.run.is_running(*key, *lease, *on));
            let row = &self.rows[key];
            let status = if self.run.is_ahead(*key) { BlockStatus::Initial } else { BlockStatus::Running };
            assert_eq!((row.status, row.lease, row.executor), (status, *lease, Some(*on)));
            assert_eq!(row.attempt_started_at.is_some(), status == BlockStatus::Running);
            if let Some((before, lease)) = self.run.follows(*key) {
                assert_eq!(
                    self.current.get(&before),
                    Some(&(lease, *on)),
                    "what is ahead follows what is leased there"
                );
            }
        }
        assert_eq!(self.row.status.has_ended(), self.row.completed_at.is_some());
        if self.row.status.has_ended() {
            self.check_end();
        }
    }

    fn check_end(&self) {
        assert!(self.current.is_empty() && !self.run.has_ready() && self.run.next_wake().is_none());
        for (at, block) in self.graph.pipeline().blocks.iter().enumerate() {
            let row = self.rows.get(&UnitKey::block(at, None));
            let row = row.unwrap_or_else(|| panic!("block {} was lost", block.uuid));
            if let (Some(total), BlockStatus::Completed) = (row.children, row.status) {
                let children =
                    self.rows.keys().filter(|key| key.step == Step::Block(at) && key.child.is_some()).count();
                assert_eq!(children, total as usize, "children of {}", block.uuid);
            }
        }
        let mut is_bad = false;
        for row in self.rows.values() {
            let ended = !matches!(row.status, BlockStatus::Initial | BlockStatus::Running);
            assert!(ended && row.completed_at.is_some(), "{} has not ended: {row:?}", self.name(row.key));
            let is_good = matches!(row.status, BlockStatus::Completed | BlockStatus::ConditionFailed);
            is_bad |= matches!(row.key.step, Step::Block(_)) && !is_good;
        }
        assert!(!(is_bad && self.row.status == RunStatus::Completed), "a run with a bad block has not completed");
        assert_eq!(self.row.status == RunStatus::Completed, self.row.reason.is_none());
    }

    fn check_lease(&mut self, lease: &Lease) {
        let name = self.name(lease.key);
        self.check_number(lease);
        match lease.key.step {
            Step::Block(at) => {
                assert!(!self.graph.block(at).kind.is_inert());
                assert_eq!(lease.key.child.is_some(), self.graph.node(at).is_fan);
                assert_eq!(lease.inputs.len(), self.graph.node(at).upstream.len());
                for (input, (up, feed)) in lease.inputs.iter().zip(&self.graph.node(at).upstream) {
                    assert_eq!(input.block, *up);
                    self.check_upstream(&name, *up);
                    self.check_input(&name, *feed, input);
                }
            }
            Step::Callback { block, .. } => {
                let watched = &self.rows[&UnitKey::block(block, lease.key.child)];
                let told = lease.callback.as_ref().expect("a callback is told of what it watches");
                let expected = match watched.status {
                    BlockStatus::Completed => "success",
                    BlockStatus::Failed => "failure",
                    BlockStatus::Cancelled => "cancelled",
                    other => panic!("{name} was called for a {other} block"),
                };
                assert_eq!((told.status, &told.error), (expected, &watched.error));
            }
        }
    }

    fn check_number(&mut self, lease: &Lease) {
        let name = self.name(lease.key);
        assert!(!self.current.contains_key(&lease.key), "{name} was leased twice");
        let before = self.highest.insert(lease.key, lease.lease).unwrap_or(0);
        assert!(lease.lease > before, "the lease of {name} went from {before} to {}", lease.lease);
    }

    fn check_upstream(&self, name: &str, up: usize) {
        let row = self.rows.get(&UnitKey::block(up, None)).map(|row| row.status);
        let some_child = || {
            self.rows.values().any(|row| {
                row.key.step == Step::Block(up) && row.key.child.is_some() && row.status == BlockStatus::Completed
            })
        };
        let ended_well = row == Some(BlockStatus::Completed) || (self.options.allow_blocks_to_fail && some_child());
        assert!(ended_well, "{name} was leased although {} is {row:?}", self.graph.block(up).uuid);
    }

    /// Only committed attempts are read, and all of them.
    fn check_input(&self, name: &str, feed: Feed, input: &domain::run::InputRef) {
        for (child, lease) in &input.outputs {
            let row = self.rows.get(&UnitKey::block(input.block, *child));
            let committed = row.is_some_and(|row| row.status == BlockStatus::Completed && row.lease == *lease);
            assert!(committed, "{name} reads {input:?}, but there is {row:?}");
        }
        let children = || {
            let of_up = |row: &&UnitRow| row.key.step == Step::Block(input.block) && row.key.child.is_some();
            self.rows.values().filter(of_up).filter(|row| row.status == BlockStatus::Completed).count()
        };
        let expected = match feed {
            Feed::Reduced => children(),
            Feed::Whole if self.graph.block(input.block).kind.is_inert() => 0,
            _ => 1,
        };
        assert_eq!(input.outputs.len(), expected, "{name} reads {input:?}");
        assert_eq!(matches!(input.mode, InputMode::Item(_)), matches!(feed, Feed::Items | Feed::ChildItems));
        assert_eq!(input.mode == InputMode::Reduced, feed == Feed::Reduced);
    }

    fn rebuilt(&self) -> (Run, Vec<Transition>) {
        let rows = self.rows.values().rev().cloned().collect();
        let graph = Arc::clone(&self.graph);
        Run::rebuild(self.run.id(), graph, self.options.clone(), self.row.clone(), rows, self.now)
    }

    /// A new owner would decide as the present one does.
    pub(crate) fn check_rebuild(&self) {
        let (mut copy, due) = self.rebuilt();
        let is_stop = |transition: &Transition| matches!(transition, Transition::Stop { .. });
        assert!(due.iter().all(is_stop), "everything that was due is stored, but {due:?}");
        assert_eq!(copy.row(), self.run.row());
        // The new owner cannot know what the old one was woken for already.
        let mut run = self.run.clone();
        for run in [&mut run, &mut copy] {
            run.advance(Event::Wake, self.now).expect("a wake always applies");
        }
        assert_eq!(copy.row(), run.row());
        let running = |run: &Run| run.running_units().collect::<BTreeSet<_>>();
        assert_eq!(running(&copy), running(&run));
        let stopping = self.row.reason.is_some() || self.row.cancel_reason.is_some();
        if !stopping {
            assert_eq!(copy.home().filter(|home| !self.dead.contains(home)), run.home());
            // How long its callbacks may take, the new owner counts anew.
            assert_eq!(copy.next_wake(), run.next_wake());
        }
        assert_eq!(copy.has_ready(), run.has_ready());
        let (ours, theirs) = (self.decisions(&run), self.decisions(&copy));
        if self.graph.pipeline().concurrency.block_run_limit.is_none() && !self.graph.pipeline().one_process {
            assert_eq!(ours, theirs);
        }
        assert_eq!(ours.len(), theirs.len());
    }

    fn decisions(&self, run: &Run) -> BTreeSet<Decision> {
        let mut run = run.clone();
        let on = run.home().unwrap_or(executor(1));
        let mut out = Vec::new();
        std::iter::from_fn(|| run.lease(on, self.now, &mut out))
            .map(|lease| {
                (lease.key, lease.lease, lease.attempt_number, format!("{:?}{:?}", lease.inputs, lease.callback))
            })
            .collect()
    }
}
