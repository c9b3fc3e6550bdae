//! A run in the engine's memory, with what assignments of it need.

use super::permits::Pools;
use domain::{
    admission::RunLimits,
    executor_type::Backend,
    graph::Graph,
    id::{BackfillId, ExecutorId, PipelineId, RunId, TriggerId, WorkspaceId},
    permits::{Ledger, Pool},
    run::{Lease, Run, Transition},
    unit::{Step, UnitKey},
};
use jiff::{Timestamp, tz::TimeZone};
use proto::internal::v1 as pb;
use serde_json::{Map, Value};
use std::{collections::HashMap, sync::Arc};
use store::shards::Shard;

/// Leases of one epoch: more than a unit can be leased while its shard has the same owner.
const LEASES_PER_EPOCH: i64 = 1 << 20;

/// Where a run belongs, and what holds for it as a whole.
#[derive(Debug, Clone)]
pub(super) struct Life {
    pub(super) pipeline: PipelineId,
    pub(super) workspace: WorkspaceId,
    pub(super) trigger: TriggerId,
    pub(super) backfill: Option<BackfillId>,
    pub(super) limits: RunLimits,
    pub(super) sla_at: Option<Timestamp>,
}

/// Permits of a unit.
struct Hold {
    pools: Arc<[Pool]>,
    /// Found with the run when it was loaded: whether the unit runs or waits for a run is not known yet. It counts as
    /// running, and what it is allowed to do does not follow from that.
    is_assumed: bool,
}

/// One unfinished run.
pub(super) struct Live {
    pub(super) run: Run,
    pub(super) shard: Shard,
    pub(super) life: Life,
    pub(super) context: Arc<pb::RunContext>,
    /// Sent to each session once.
    pub(super) definition: Arc<pb::Definition>,
    /// In the engine's queue of runs with something to lease.
    pub(super) queued: bool,
    pub(super) wake: Option<Timestamp>,
    /// What its units need permits of.
    pub(super) pools: Pools,
    /// The permits that its running units hold.
    held: HashMap<UnitKey, Hold>,
    /// Pools that it waits for.
    pub(super) parked: Vec<Pool>,
    /// Of its latest retry.
    pub(super) retry_key: Option<String>,
    /// Its place was given to others.
    pub(super) has_left: bool,
    /// Some unit needs Kubernetes.
    wants_kubernetes: bool,
    /// How many leases ahead its latest blocks have earned.
    pub(super) pace: usize,
    due: Vec<Transition>,
}

impl Live {
    pub(super) fn new(
        run: Run,
        shard: Shard,
        context: pb::RunContext,
        definition: Arc<pb::Definition>,
        life: Life,
        pools: Pools,
    ) -> Self {
        // A crash of the database may have forgotten leases of an earlier epoch that executors still hold.
        let run = run.with_leases_above(shard.epoch.saturating_mul(LEASES_PER_EPOCH));
        let pipeline = run.graph().pipeline();
        let mut steps = pipeline.blocks.iter().chain(&pipeline.callbacks);
        let wants_kubernetes = steps.any(|block| Backend::of(block, pipeline) == Some(Backend::Kubernetes));
        Self {
            run,
            shard,
            life,
            context: Arc::new(context),
            definition,
            queued: false,
            wake: None,
            pools,
            held: HashMap::new(),
            parked: Vec::new(),
            retry_key: None,
            has_left: false,
            wants_kubernetes,
            pace: 0,
            due: Vec::new(),
        }
    }

    /// With changes that loading found due.
    pub(super) fn with_due(self, due: Vec<Transition>) -> Self {
        Self { due, ..self }
    }

    pub(super) fn take_due(&mut self) -> Vec<Transition> {
        std::mem::take(&mut self.due)
    }

    pub(super) fn uses(&self, executor: ExecutorId) -> bool {
        self.run.home() == Some(executor) || self.run.running_units().any(|(_, _, on)| on == executor)
    }

    /// The shard's number as ids carry it.
    pub(super) fn shard_byte(&self) -> u8 {
        self.run.id().shard()
    }

    /// Every variable of the run, as its blocks get them.
    pub(super) fn variables(&self) -> Option<Map<String, Value>> {
        serde_json::from_str(&self.context.variables).ok()
    }

    /// Takes the permits of a unit that has been leased.
    pub(super) fn hold(&mut self, key: UnitKey, ledger: &mut Ledger) {
        let pools = Arc::clone(self.pools.of(key.step));
        // There was room when it was asked for, in this very turn.
        if ledger.take(self.shard_byte(), &pools).is_ok() {
            self.held.insert(key, Hold { pools, is_assumed: false });
        }
    }

    /// Holds the permits of a unit that runs; of one that was leased ahead, those of the unit that it followed, which has just
    /// given them back.
    pub(super) fn hold_on(&mut self, key: UnitKey, ledger: &mut Ledger) {
        if !self.held.contains_key(&key) {
            let pools = Arc::clone(self.pools.of(key.step));
            if ledger.take(self.shard_byte(), &pools).is_err() {
                ledger.restore(self.shard_byte(), &pools);
            }
            self.held.insert(key, Hold { pools, is_assumed: false });
        }
    }

    /// Takes the permits of a unit that has waited and wants to go on, all or none; answers the pools that have none.
    pub(super) fn hold_if_free(&mut self, key: UnitKey, ledger: &mut Ledger, now: Timestamp) -> Vec<Pool> {
        match self.held.get(&key) {
            // Whoever asks waits: what was assumed of it was wrong.
            Some(hold) if hold.is_assumed => self.release(key, ledger, now),
            Some(_) => return Vec::new(),
            None => {}
        }
        let (shard, pools) = (self.shard_byte(), Arc::clone(self.pools.of(key.step)));
        let lacking: Vec<Pool> = pools.iter().filter(|pool| ledger.room(shard, pool) == 0).cloned().collect();
        if lacking.is_empty() {
            self.hold(key, ledger);
        }
        lacking
    }

    /// Gives back the permits of a unit that does not run any more, if it holds some.
    pub(super) fn release(&mut self, key: UnitKey, ledger: &mut Ledger, now: Timestamp) {
        if let Some(hold) = self.held.remove(&key) {
            ledger.give_back(self.shard_byte(), &hold.pools, now);
        }
    }

    /// Gives back every permit.
    pub(super) fn release_all(&mut self, ledger: &mut Ledger, now: Timestamp) {
        let shard = self.shard_byte();
        for (_, hold) in self.held.drain() {
            ledger.give_back(shard, &hold.pools, now);
        }
    }

    /// Holds a permit for a unit that runs, whether there is one or not: it has waited and goes on.
    pub(super) fn hold_running(&mut self, key: UnitKey, ledger: &mut Ledger) {
        self.restore(key, false, ledger);
        if let Some(hold) = self.held.get_mut(&key) {
            hold.is_assumed = false;
        }
    }

    /// Holds permits for every unit that was found running when the run was loaded; some may wait for another run.
    pub(super) fn assume_all_running(&mut self, ledger: &mut Ledger) {
        let running = self.run.running_units().map(|(key, ..)| key).filter(|key| !self.run.is_ahead(*key));
        for key in running.collect::<Vec<_>>() {
            self.restore(key, true, ledger);
        }
    }

    fn restore(&mut self, key: UnitKey, is_assumed: bool, ledger: &mut Ledger) {
        if !self.held.contains_key(&key) {
            let pools = Arc::clone(self.pools.of(key.step));
            ledger.restore(self.shard_byte(), &pools);
            self.held.insert(key, Hold { pools, is_assumed });
        }
    }

    /// Other limits hold now: units that run are counted by them. What they hold of a pool that goes on stays as it is.
    pub(super) fn recount(&mut self, ledger: &mut Ledger) {
        let shard = self.shard_byte();
        let beyond = |some: &[Pool], others: &[Pool]| -> Vec<Pool> {
            some.iter().filter(|pool| !others.contains(pool)).cloned().collect()
        };
        for (key, hold) in &mut self.held {
            let pools = Arc::clone(self.pools.of(key.step));
            ledger.give_back(shard, &beyond(&hold.pools, &pools), Timestamp::UNIX_EPOCH);
            ledger.restore(shard, &beyond(&pools, &hold.pools));
            hold.pools = pools;
        }
    }

    /// Where it waits, for whoever counts those that do.
    pub(super) fn resource_class(&self) -> &'static str {
        if self.wants_kubernetes { "kubernetes" } else { "process" }
    }

    /// Units that are ready and run on this backend, counted up to `max`.
    pub(super) fn ready_units_on(&self, backend: Backend, max: usize) -> usize {
        if !self.wants_kubernetes {
            return if backend == Backend::Process { self.run.ready_units(max) } else { 0 };
        }
        let graph = Arc::clone(self.run.graph());
        // What runs anywhere is counted once.
        self.run.ready_units_where(max, &|step| needed(&graph, step).unwrap_or(Backend::Process) == backend)
    }

    /// Leases the next unit that there are permits for and that may run there. Answers what kept others waiting as well.
    pub(super) fn lease(
        &mut self,
        (executor, backend): (ExecutorId, Backend),
        now: Timestamp,
        ledger: &Ledger,
        out: &mut Vec<Transition>,
    ) -> Leased {
        let graph = Arc::clone(self.run.graph());
        let (shard, pools) = (self.shard_byte(), &self.pools);
        let (mut lacking, mut elsewhere) = (Vec::<Pool>::new(), false);
        let mut has_room = |step: Step| {
            if needed(&graph, step).is_some_and(|needed| needed != backend) {
                elsewhere = true;
                return false;
            }
            let mut room = true;
            for pool in pools.of(step).iter().filter(|pool| ledger.room(shard, pool) == 0) {
                room = false;
                if !lacking.contains(pool) {
                    lacking.push(pool.clone());
                }
            }
            room
        };
        let lease = self.run.lease_where(executor, now, &mut has_room, out);
        Leased { lease, lacking, elsewhere }
    }
}

impl Live {
    /// Leases to the executor of `key` what follows it, where that runs no user code and needs the same permits: it will have
    /// those of `key`. What user code asks is answered from what is committed, so it begins behind that only.
    pub(super) fn lease_ahead(&mut self, key: UnitKey, out: &mut Vec<Transition>) -> Option<Lease> {
        let (graph, pools) = (Arc::clone(self.run.graph()), &self.pools);
        // The built-in no-op needs no backend.
        let runs_no_code = |step: Step| needed(&graph, step).is_none();
        self.run.lease_ahead(key, &mut |step| pools.of(step) == pools.of(key.step) && runs_no_code(step), out)
    }
}

/// What came of asking a run for its next unit.
#[derive(Default)]
pub(super) struct Leased {
    pub(super) lease: Option<Lease>,
    /// The pools that had no permit for some unit.
    pub(super) lacking: Vec<Pool>,
    /// Some unit needs another backend.
    pub(super) elsewhere: bool,
}

/// The backend that a step needs.
fn needed(graph: &Graph, step: Step) -> Option<Backend> {
    let pipeline = graph.pipeline();
    let block = match step {
        Step::Block(at) => pipeline.blocks.get(at),
        Step::Callback { callback, .. } => pipeline.callbacks.get(callback),
    };
    block.and_then(|block| Backend::of(block, pipeline))
}

/// What the executor needs to know of the run around an attempt.
pub(super) struct ContextOf<'a> {
    pub(super) run: RunId,
    pub(super) pipeline: &'a str,
    pub(super) workspace: &'a str,
    pub(super) trigger: &'a str,
    pub(super) variables: &'a Map<String, Value>,
    pub(super) defaults: &'a Map<String, Value>,
    pub(super) event_variables: Option<&'a Map<String, Value>>,
    pub(super) execution_date: Timestamp,
    /// Known only to the process in which the run began.
    pub(super) traceparent: &'a str,
}

impl ContextOf<'_> {
    /// Pipeline variables overlaid with the run's own; what an event told fills what is left, as Mage does it.
    pub(super) fn merged(&self) -> Map<String, Value> {
        let mut variables = self.defaults.clone();
        variables.extend(self.variables.iter().map(|(key, value)| (key.clone(), value.clone())));
        for (key, value) in self.event_variables.into_iter().flatten() {
            variables.entry(key.clone()).or_insert_with(|| value.clone());
        }
        variables
    }

    /// The variable `event` with what an event told.
    fn event(&self, variables: &Map<String, Value>) -> Value {
        match (variables.get("event"), self.event_variables) {
            (Some(Value::Object(event)), Some(told)) => {
                let mut event = event.clone();
                event.extend(told.clone());
                Value::Object(event)
            }
            (Some(event), _) => event.clone(),
            (None, told) => Value::Object(told.cloned().unwrap_or_default()),
        }
    }

    /// The partition names the run, so that two runs of the same second never share one (in Mage they do), in the form
    /// that Mage's code expects: `<trigger>/<time>_<unique>`.
    pub(super) fn build(&self) -> pb::RunContext {
        let variables = self.merged();
        let date = self.execution_date.to_zoned(TimeZone::UTC);
        let unique = self.run.0.simple().to_string();
        pb::RunContext {
            pipeline: self.pipeline.to_owned(),
            workspace: self.workspace.to_owned(),
            event: self.event(&variables).to_string(),
            variables: Value::Object(variables).to_string(),
            execution_date: self.execution_date.to_string(),
            execution_partition: format!("{}/{}_{unique}", self.trigger, date.strftime("%Y%m%dT%H%M%S")),
            trigger_name: self.trigger.to_owned(),
            traceparent: self.traceparent.to_owned(),
        }
    }
}
