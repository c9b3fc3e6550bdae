//! One step of the scheduler for many runs.

mod columns;
mod commit;
mod extras;

use crate::{backfills::Progress, shards::Shard};
pub use commit::{Committed, commit};
use domain::{
    admission::Source,
    graph::Graph,
    id::{BackfillId, PipelineId, RunId, TriggerId, WorkspaceId},
    pipeline::BlockKind,
    run::{RunRow, Transition, unit_name},
    trigger::{Skip, State},
    unit::{LostAttempt, Step, UnitKey, UnitRow},
};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A run that does not exist yet, with the firing that creates it.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of run and firing")]
pub struct NewRun {
    pub id: RunId,
    pub workspace_id: WorkspaceId,
    pub pipeline_id: PipelineId,
    pub pipeline_version: i64,
    /// What its pipeline is was only remembered: it is created only while that version is in force, and neither the pipeline
    /// nor its workspace is archived.
    pub if_current: bool,
    pub trigger_id: TriggerId,
    /// What its firing is keyed by: the trigger, or the backfill.
    pub source: Source,
    /// The version of the trigger that decided it: the run is created only while that is in force.
    pub trigger_version: Option<i64>,
    pub logical_key: String,
    pub variables: String,
    pub execution_date: Timestamp,
    pub timeout_s: Option<i32>,
    /// Beyond its time it ends as cancelled, not as failed.
    pub timeout_cancels: bool,
    pub allow_blocks_to_fail: bool,
    pub parent_run_id: Option<RunId>,
    pub backfill_id: Option<BackfillId>,
    /// A JSON object.
    pub event_variables: Option<String>,
    pub sla_at: Option<Timestamp>,
}

/// What was decided about a trigger, besides the runs that it starts.
#[derive(Debug, Clone)]
pub struct Decision {
    /// Whose.
    pub trigger: TriggerId,
    /// The version that it was decided by.
    pub version: i64,
    /// Times that never start.
    pub skips: Vec<Skip>,
    /// Up to where everything is decided.
    pub state: State,
    /// What starts that wait are to be told, by their key, as JSON; `None` where that is as it was.
    pub waiting: Option<String>,
    /// Of runs that have ended, as far as the trigger's times depend on them.
    pub history: serde_json::Value,
    /// When it will be looked at again.
    pub next_due: Option<Timestamp>,
    /// The latest nominal time that starts by it because it has come; none of it counts before the database's clock
    /// agrees.
    pub latest: Option<Timestamp>,
}

/// Changes that are committed together. A later change of the same row replaces the earlier one.
#[derive(Debug, Default)]
pub struct Batch {
    /// In the order in which their rows are locked.
    shards: BTreeMap<i16, i64>,
    new: Vec<(NewRun, i16)>,
    new_rows: HashMap<RunId, RunRow>,
    runs: HashMap<RunId, (i16, RunRow)>,
    units: HashMap<(RunId, UnitKey), UnitColumns>,
    lost: Vec<LostColumns>,
    dropped: Vec<(RunId, String, i16)>,
    decisions: HashMap<TriggerId, (i16, Decision)>,
    backfills: HashMap<BackfillId, (i16, Progress)>,
    missed: Vec<(RunId, i16)>,
    missed_at: Option<Timestamp>,
    retried: Vec<(RunId, i16, Option<String>)>,
    repeated: HashMap<RunId, (i16, RunId)>,
    /// Triggers about which two versions decided: of neither anything counts.
    torn: BTreeSet<TriggerId>,
}

#[derive(Debug)]
struct UnitColumns {
    shard: i16,
    is_new: bool,
    block: String,
    child: i32,
    row: UnitRow,
}

#[derive(Debug)]
struct LostColumns {
    run: RunId,
    shard: i16,
    block: String,
    child: i32,
    kind: BlockKind,
    attempt: LostAttempt,
}

impl Batch {
    /// True when there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.new.is_empty() && self.runs.is_empty() && self.units.is_empty() && self.lost.is_empty() && self.is_plain()
    }

    /// One statement writes all of it.
    fn is_plain(&self) -> bool {
        let told = self.lost.iter().any(|lost| lost.attempt.is_by_executor());
        !told
            && self.dropped.is_empty()
            && self.decisions.is_empty()
            && self.backfills.is_empty()
            && self.missed.is_empty()
            && self.retried.is_empty()
            && self.repeated.is_empty()
    }

    fn is_units_only(&self) -> bool {
        self.new.is_empty() && self.runs.is_empty() && self.lost.is_empty() && self.is_plain()
    }

    /// Of the shards that it names, those that are not among `owned`, as the commit answered them.
    #[must_use]
    pub fn lost_shards(&self, owned: &[i16]) -> BTreeSet<u8> {
        self.shards
            .keys()
            .filter(|shard| !owned.contains(shard))
            .filter_map(|shard| u8::try_from(*shard).ok())
            .collect()
    }

    /// Rows that it will write, about.
    #[must_use]
    pub fn len(&self) -> usize {
        self.new.len() + self.runs.len() + self.units.len() + self.lost.len() + self.decisions.len()
    }

    /// Adds a run that does not exist yet.
    pub fn create(&mut self, run: NewRun, shard: Shard) {
        self.shards.insert(shard.id, shard.epoch);
        self.new_rows.insert(
            run.id,
            RunRow {
                status: domain::run::RunStatus::Initial,
                started_at: None,
                completed_at: None,
                reason: None,
                cancel_reason: None,
            },
        );
        self.new.push((run, shard.id));
    }

    /// The run that this batch makes for a key of a trigger.
    #[must_use]
    pub fn run_for(&self, trigger: TriggerId, key: &str) -> Option<RunId> {
        let is_it = |run: &NewRun| run.source == Source(trigger.0) && run.logical_key == key;
        self.new.iter().map(|(run, _)| run).find(|run| is_it(run)).map(|run| run.id)
    }

    /// Adds what was decided about a trigger. A later decision of the same turn goes on from the earlier one, unless another
    /// version made it: then the trigger counts as overtaken.
    pub fn decide(&mut self, decision: Decision, shard: Shard) {
        self.shards.insert(shard.id, shard.epoch);
        match self.decisions.get_mut(&decision.trigger) {
            Some((_, earlier)) => {
                if earlier.version != decision.version {
                    self.torn.insert(decision.trigger);
                }
                let mut skips = std::mem::take(&mut earlier.skips);
                skips.extend(decision.skips);
                let latest = earlier.latest.max(decision.latest);
                let waiting = decision.waiting.or_else(|| earlier.waiting.take());
                *earlier = Decision { skips, latest, waiting, ..decision };
            }
            None => {
                self.decisions.insert(decision.trigger, (shard.id, decision));
            }
        }
    }

    /// Adds how far a backfill is.
    pub fn backfill(&mut self, id: BackfillId, progress: Progress, shard: Shard) {
        self.shards.insert(shard.id, shard.epoch);
        self.backfills.insert(id, (shard.id, progress));
    }

    /// Adds a run that has not ended when it should have.
    pub fn miss_sla(&mut self, run: RunId, at: Timestamp, shard: Shard) {
        self.shards.insert(shard.id, shard.epoch);
        self.missed.push((run, shard.id));
        self.missed_at = Some(at);
    }

    /// Adds that a run runs again, with the key of that retry, if it has one.
    pub fn retry(&mut self, run: RunId, key: Option<&str>, shard: Shard) {
        self.shards.insert(shard.id, shard.epoch);
        self.retried.push((run, shard.id, key.map(str::to_owned)));
    }

    /// Adds that a run takes the place of a `former` one in its backfill.
    pub fn repeat(&mut self, former: RunId, run: RunId, shard: Shard) {
        self.shards.insert(shard.id, shard.epoch);
        self.repeated.insert(former, (shard.id, run));
    }

    /// The run that takes the place of a `former` one in this batch.
    #[must_use]
    pub fn repeated_by(&self, former: RunId) -> Option<RunId> {
        self.repeated.get(&former).map(|(_, run)| *run)
    }

    fn epoch(&self, shard: i16) -> i64 {
        self.shards.get(&shard).copied().unwrap_or(-1)
    }

    /// Leaves out what triggers decided whose version is not in force.
    fn drop_overtaken(&mut self, overtaken: &[TriggerId]) {
        self.decisions.retain(|trigger, _| !overtaken.contains(trigger));
        let (new_rows, units) = (&mut self.new_rows, &mut self.units);
        self.new.retain(|(run, _)| {
            let stays = run.trigger_version.is_none() || !overtaken.contains(&run.trigger_id);
            if !stays {
                new_rows.remove(&run.id);
                units.retain(|(of, _), _| *of != run.id);
            }
            stays
        });
    }

    /// Adds one transition of a run. `Stop` and `EndProcess` are acts, not rows, and change nothing here.
    pub fn add(&mut self, run: RunId, graph: &Graph, shard: Shard, transition: &Transition) {
        self.shards.insert(shard.id, shard.epoch);
        match transition {
            Transition::Run(row) => match self.new_rows.get_mut(&run) {
                Some(new) => *new = row.clone(),
                None => {
                    self.runs.insert(run, (shard.id, row.clone()));
                }
            },
            Transition::Unit(row) => {
                let (block, child) = unit_name(graph, row.key);
                let mut row = UnitRow::clone(row);
                let is_new = self.new_rows.contains_key(&run);
                if let Some(earlier) = self.units.get(&(run, row.key)) {
                    row.started_at = row.started_at.or(earlier.row.started_at);
                }
                self.units.insert((run, row.key), UnitColumns { shard: shard.id, is_new, block, child, row });
            }
            Transition::Lost(attempt) => {
                let (block, child) = unit_name(graph, attempt.key);
                let kind = match attempt.key.step {
                    Step::Block(at) => graph.block(at).kind,
                    Step::Callback { .. } => BlockKind::Callback,
                };
                let attempt = LostAttempt::clone(attempt);
                self.lost.push(LostColumns { run, shard: shard.id, block, child, kind, attempt });
            }
            Transition::DropChildren(at) => {
                // Children of this batch that were written before the drop are void as well.
                self.units.retain(|(of, key), _| !(*of == run && key.child.is_some() && key.step == Step::Block(*at)));
                self.dropped.push((run, graph.block(*at).uuid.clone(), shard.id));
            }
            Transition::Stop { .. } | Transition::EndProcess(_) => {}
        }
    }
}
