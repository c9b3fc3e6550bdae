//! Permits of limits that hold across pipelines, as the engine uses them: a unit is leased only with one of each of its
//! pools. What this engine lacks or can spare is settled with the database before it leases; see `domain::permits`.

use super::{
    Engine, Reply, TICK,
    admission::source,
    armed::Triggers,
    turn::{Chain, Turn},
};
use crate::wire::AttemptId;
use domain::{
    id::{RunId, WorkspaceId},
    limits::{self, Definitions},
    permits::{Claim, Ledger, Pool, ROUNDS_MAX},
    pipeline::Pipeline,
    run::RunStatus,
    unit::Step,
};
use serde_json::{Map, Value};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};
use store::{Client, Store};

/// How long a change of a limit may stay unseen, and between two looks at what changed.
const REFRESH: Duration = Duration::from_secs(1);
/// A look covers so much time: a change becomes visible later than the time that it wrote.
const LOOK_BACK: Duration = Duration::from_secs(15);
/// Attempts that want to go on at once; more are told to ask again.
const RESUMING_MAX: usize = 10_000;
/// How long an attempt waits for its permits before it is told to ask again: less than another scheduler waits for an answer.
const RESUME_WAIT: Duration = Duration::from_secs(1);
/// Before a pool is settled again that the database refused.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);
/// Workspaces whose limits are kept; beyond it the memory starts anew, which costs a read each.
const WORKSPACES_MAX: usize = 10_000;

/// The limits that are defined, by workspace.
pub(super) struct Limits {
    store: Store,
    known: HashMap<WorkspaceId, Definitions>,
    looked_at: Instant,
}

impl Limits {
    pub(super) fn new(store: Store) -> Self {
        Self { store, known: HashMap::new(), looked_at: Instant::now() }
    }

    /// Reads the limits of a workspace, unless they are known.
    pub(super) async fn learn(&mut self, workspace: WorkspaceId) -> Result<(), store::Error> {
        if self.known.contains_key(&workspace) {
            return Ok(());
        }
        let client = self.store.client().await?;
        let read = store::limits::definitions(&client, &[workspace]).await?;
        self.heed(read);
        Ok(())
    }

    /// Of these workspaces, those whose limits are not known.
    pub(super) fn unknown(&self, workspaces: impl IntoIterator<Item = WorkspaceId>) -> BTreeSet<WorkspaceId> {
        workspaces.into_iter().filter(|workspace| !self.known.contains_key(workspace)).collect()
    }

    /// The limit of a pool: the one that holds for its key. A key that none holds for any more is given back under its own
    /// name, and so is that of the workspace, whatever patterns fit it.
    fn holding(&self, workspace: WorkspaceId, key: &Arc<str>) -> Arc<str> {
        let of_workspace = key.as_ref() == limits::WORKSPACE;
        let defined = self.known.get(&workspace).and_then(|known| known.of(key)).filter(|_| !of_workspace);
        Arc::clone(defined.unwrap_or(key))
    }

    /// Whether it is time to look what changed.
    pub(super) fn is_time(&self) -> bool {
        !self.known.is_empty() && self.looked_at.elapsed() >= REFRESH
    }

    /// Workspaces whose limits are to be read again, if it is time to `look`.
    pub(super) async fn changed(&self, client: &Client, look: bool) -> Result<Vec<WorkspaceId>, store::Error> {
        if !look {
            return Ok(Vec::new());
        }
        let changed = store::limits::changed(client, LOOK_BACK).await?;
        Ok(changed.into_iter().filter(|workspace| self.known.contains_key(workspace)).collect())
    }

    /// Keeps what was read; answers the workspaces whose limits are others now.
    fn heed(&mut self, read: HashMap<WorkspaceId, Definitions>) -> HashSet<WorkspaceId> {
        let mut others = HashSet::new();
        for (workspace, now) in read {
            if self.known.len() >= WORKSPACES_MAX {
                self.known.clear();
            }
            if self.known.get(&workspace).is_some_and(|known| *known != now) {
                others.insert(workspace);
            }
            self.known.insert(workspace, now);
        }
        others
    }
}

/// The pools that each unit of one run needs a permit of.
#[derive(Debug, Clone)]
pub(super) struct Pools {
    every: Arc<[Pool]>,
    /// Blocks that name further ones.
    blocks: HashMap<usize, Arc<[Pool]>>,
}

impl Pools {
    /// Those of a run with these variables.
    pub(super) fn new(
        workspace: WorkspaceId,
        pipeline: &Pipeline,
        variables: &Map<String, Value>,
        limits: &Limits,
    ) -> Self {
        let name: Arc<str> = Arc::from(limits::WORKSPACE);
        let every = Pool { workspace, key: Arc::clone(&name), limit: name };
        let known = limits.known.get(&workspace);
        let mut blocks = HashMap::new();
        for (at, block) in pipeline.blocks.iter().enumerate().filter(|(_, block)| !block.limits.is_empty()) {
            let mut pools = vec![every.clone()];
            for written in &block.limits {
                let key = limits::render(written, variables);
                let defined = known.and_then(|known| known.of(&key)).cloned();
                // Every unit has a permit of the workspace already, whatever a key or a pattern is called.
                if let Some(limit) = defined.filter(|_| key != limits::WORKSPACE) {
                    let pool = Pool { workspace, key: Arc::from(key), limit };
                    if !pools.contains(&pool) {
                        pools.push(pool);
                    }
                }
            }
            // One order for everybody, so that permits of several pools are found together.
            pools.sort_unstable();
            blocks.insert(at, Arc::from(pools));
        }
        Self { every: Arc::from([every]), blocks }
    }

    /// Those of a step; guards run with their block, callbacks count for the workspace only.
    pub(super) fn of(&self, step: Step) -> &Arc<[Pool]> {
        match step {
            Step::Block(at) => self.blocks.get(&at).unwrap_or(&self.every),
            Step::Callback { .. } => &self.every,
        }
    }
}

/// Permits, and runs that wait for some.
pub(super) struct Permits {
    pub(super) ledger: Ledger,
    /// Pools that the database refused to settle, and when: they are left out for a while, so that the others go on.
    refused: HashMap<Pool, Instant>,
    /// By pool and shard, in the order in which they began to wait.
    parked: HashMap<Pool, BTreeMap<u8, VecDeque<RunId>>>,
    /// Attempts that waited for a run and want to go on, in the order in which they asked.
    resuming: VecDeque<Resuming>,
    stirred_at: Instant,
}

/// An attempt that wants its permits back.
struct Resuming {
    attempt: AttemptId,
    asked_at: Instant,
    reply: Reply<bool>,
}

impl Default for Permits {
    fn default() -> Self {
        Self {
            ledger: Ledger::default(),
            refused: HashMap::new(),
            parked: HashMap::new(),
            resuming: VecDeque::new(),
            stirred_at: Instant::now(),
        }
    }
}

impl Permits {
    /// Nothing is held, nothing waits.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// An attempt wants to go on; one that asks beyond the limit is told to ask again.
    pub(super) fn resume(&mut self, attempt: AttemptId, reply: Reply<bool>) {
        if self.resuming.len() >= RESUMING_MAX {
            return drop(reply.send(Ok(false)));
        }
        self.resuming.push_back(Resuming { attempt, asked_at: Instant::now(), reply });
    }
}

impl Engine {
    /// Leases what is ready: with the permits that are here, then with those that the pools grant.
    pub(super) async fn dispatch(&mut self, turn: &mut Turn) {
        if self.permits.stirred_at.elapsed() >= TICK {
            self.permits.stirred_at = Instant::now();
            // Others may have given permits back meanwhile.
            self.permits.ledger.stir(|_| true);
        }
        for _ in 0..ROUNDS_MAX {
            self.permits.ledger.begin_pass();
            self.lease_permitted(turn);
            let claims = self.permits.ledger.claims(self.now());
            if claims.is_empty() || !self.settle(claims).await {
                return;
            }
        }
        self.lease_permitted(turn);
    }

    /// Leases what there are permits for.
    fn lease_permitted(&mut self, turn: &mut Turn) {
        self.resume_attempts();
        self.unpark();
        self.lease_ready(turn);
    }

    /// Settles claims with their pools; false when nobody knows whether any was heard. Where the database refuses them
    /// together, each pool is settled by itself, and what is wrong with one holds up no other.
    async fn settle(&mut self, mut claims: Vec<Claim>) -> bool {
        let refused = &mut self.permits.refused;
        refused.retain(|_, at| at.elapsed() < REFUSED_PAUSE);
        let left_out: Vec<Claim> = claims.extract_if(.., |claim| refused.contains_key(&claim.pool)).collect();
        self.permits.ledger.unsettled(&left_out);
        if claims.is_empty() {
            return false;
        }
        match self.try_settle(&claims).await {
            Ok(()) => true,
            Err(error) if error.refuses_what_is_asked() => self.settle_each(&claims).await,
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "failed to settle permits; they are settled again");
                self.permits.ledger.unsettled(&claims);
                false
            }
        }
    }

    async fn try_settle(&mut self, claims: &[Claim]) -> Result<(), store::Error> {
        let owned: Vec<_> =
            claims.iter().filter_map(|claim| Some((self.shards.get(claim.shard)?, claim.clone()))).collect();
        let answers = store::permits::settle(&self.store, &owned).await?;
        self.metrics.permit_settlements.inc();
        if self.permits.ledger.settled(&answers) {
            self.peers.permits_are_free();
        }
        Ok(())
    }

    async fn settle_each(&mut self, claims: &[Claim]) -> bool {
        let mut any = false;
        for of_pool in claims.chunk_by(|one, other| one.pool == other.pool) {
            let pool = &of_pool[0].pool;
            let Err(error) = self.try_settle(of_pool).await else {
                any = true;
                continue;
            };
            self.permits.ledger.unsettled(of_pool);
            if error.refuses_what_is_asked() {
                tracing::error!(workspace.id = %pool.workspace, pool.key = ?pool.key, error = %Chain(&error),
                    "the database refuses to settle a pool of permits; its units wait, and it is tried again");
                self.permits.refused.insert(pool.clone(), Instant::now());
            } else {
                tracing::warn!(error = %Chain(&error), "failed to settle permits; they are settled again");
            }
        }
        any
    }

    /// Attempts that waited for a run go on, before anything new starts: as many as there are permits for.
    fn resume_attempts(&mut self) {
        for Resuming { attempt, asked_at, reply } in std::mem::take(&mut self.permits.resuming) {
            if self.resume_attempt(&attempt) {
                drop(reply.send(Ok(true)));
            } else if asked_at.elapsed() >= RESUME_WAIT {
                drop(reply.send(Ok(false)));
            } else if !reply.is_closed() {
                self.permits.resuming.push_back(Resuming { attempt, asked_at, reply });
            }
        }
    }

    /// Whether the attempt has its permits, or needs none because it is over.
    fn resume_attempt(&mut self, attempt: &AttemptId) -> bool {
        let now = self.now();
        let Some(live) = self.runs.get_mut(&attempt.run) else { return true };
        let Some(key) = live.run.unit_key(&attempt.block, attempt.child) else { return true };
        let runs = live.run.running_units().any(|(unit, lease, _)| unit == key && lease == attempt.lease);
        if !runs {
            return true;
        }
        let lacking = live.hold_if_free(key, &mut self.permits.ledger, now);
        for pool in &lacking {
            self.permits.ledger.lack(attempt.run.shard(), pool, 1);
        }
        lacking.is_empty()
    }

    /// Runs that wait for a permit look again: as many as their shard has permits, and where more may be had as many as
    /// could run, to say how much is wanted.
    fn unpark(&mut self) {
        let Permits { ledger, parked, .. } = &mut self.permits;
        // Without a free slot one looks, so that slots are borrowed for it.
        let credits = self.seats.values().map(|seat| seat.credits()).sum::<u32>().max(1);
        for (pool, shards) in parked.iter_mut() {
            let asks = if ledger.is_worth_trying(pool) { credits } else { 0 };
            for (shard, queue) in shards.iter_mut() {
                let most = ledger.room(*shard, pool).max(asks) as usize;
                for run in queue.drain(..queue.len().min(most)) {
                    let Some(live) = self.runs.get_mut(&run) else { continue };
                    live.parked.retain(|of| of != pool);
                    if !live.queued && live.run.has_ready() {
                        live.queued = true;
                        self.ready.push_back(run);
                    }
                }
            }
            shards.retain(|_, queue| !queue.is_empty());
        }
        parked.retain(|_, shards| !shards.is_empty());
    }

    /// A run has ready units, and these pools had no permit for them.
    pub(super) fn park(&mut self, run: RunId, lacking: &[Pool]) {
        let credits: u32 = self.seats.values().map(|seat| seat.credits()).sum();
        let Some(live) = self.runs.get_mut(&run) else { return };
        live.queued = false;
        let units = u32::try_from(live.run.ready_units(credits as usize)).unwrap_or(u32::MAX).max(1);
        for pool in lacking {
            self.permits.ledger.lack(live.shard_byte(), pool, units);
            if !live.parked.contains(pool) {
                live.parked.push(pool.clone());
                let shards = self.permits.parked.entry(pool.clone()).or_default();
                shards.entry(run.shard()).or_default().push_back(run);
            }
        }
    }

    /// Limits were read, for the first time or again; where others are defined now, the runs of these workspaces heed them.
    /// `looked` when all that changed is among them.
    pub(super) fn heed_limits(&mut self, read: HashMap<WorkspaceId, Definitions>, looked: bool) {
        if looked {
            self.limits.looked_at = Instant::now();
        }
        let changed = self.limits.heed(read);
        if changed.is_empty() {
            return;
        }
        let limits = &self.limits;
        self.permits
            .ledger
            .heed(|pool| changed.contains(&pool.workspace).then(|| limits.holding(pool.workspace, &pool.key)));
        for (id, live) in self.runs.iter_mut().filter(|(_, live)| changed.contains(&live.life.workspace)) {
            let Some(variables) = live.variables() else { continue };
            live.pools = Pools::new(live.life.workspace, live.run.graph().pipeline(), &variables, &self.limits);
            live.recount(&mut self.permits.ledger);
            tracing::debug!(run.id = %id, "heeds other limits from now on");
        }
    }

    /// What the pools believe of shards that have just been taken; runs that are loaded say what is true. The limits of
    /// these workspaces are known.
    pub(super) fn found_holds(&mut self, holds: Vec<(WorkspaceId, Arc<str>, u8)>) {
        for (workspace, key, shard) in holds {
            let limit = self.limits.holding(workspace, &key);
            self.permits.ledger.found(shard, Pool { workspace, key, limit });
        }
    }

    /// Counts a run that was loaded: its place among the runs of its pipeline, and the permits of what it runs.
    pub(super) fn restore_limits(&mut self, run: RunId) {
        let Some(live) = self.runs.get_mut(&run) else { return };
        live.assume_all_running(&mut self.permits.ledger);
        let is_running = live.run.row().status != RunStatus::Initial;
        let source = source(live.life.trigger, live.life.backfill);
        let (pipeline, limits) = (live.life.pipeline, live.life.limits);
        self.queues.of(pipeline).restore(run, source, limits, is_running);
        if let Some(at) = live.life.sla_at {
            self.slas.insert((at, run));
        }
    }

    /// These shards are owned no longer.
    pub(super) fn forget_limits_of(&mut self, lost: &BTreeSet<u8>) {
        self.queues.retain(|pipeline| !lost.contains(&pipeline.shard()));
        self.triggers.retain(|pipeline| !lost.contains(&pipeline.shard()));
        self.reading.lose(|shard| u8::try_from(shard).is_ok_and(|shard| lost.contains(&shard)));
        self.slas.retain(|(_, run)| !lost.contains(&run.shard()));
        self.permits.ledger.forget(|shard| lost.contains(&shard));
        self.backfills.retain(|backfill| !lost.contains(&backfill.shard()));
        for shards in self.permits.parked.values_mut() {
            shards.retain(|shard, _| !lost.contains(shard));
        }
    }

    /// Nothing is owned any more.
    pub(super) fn forget_limits(&mut self) {
        self.queues.clear();
        self.permits.clear();
        self.backfills.clear();
        self.triggers = Triggers::default();
        self.reading.clear();
        self.slas.clear();
    }
}
