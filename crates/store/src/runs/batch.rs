//! One step of the scheduler for many runs, as columns of one statement.

mod extras;

use crate::{Error, journal::Journal, shards::Shard};
use domain::{
    admission::Source,
    backfill::Cursor,
    graph::Graph,
    id::{BackfillId, PipelineId, RunId, TriggerId, WorkspaceId},
    run::{RunRow, Transition, unit_name},
    trigger::{Skip, State},
    unit::{LostAttempt, UnitKey, UnitRow},
};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

/// A run that does not exist yet, with the firing that creates it.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of run and firing")]
pub struct NewRun {
    pub id: RunId,
    pub workspace_id: WorkspaceId,
    pub pipeline_id: PipelineId,
    pub pipeline_version: i64,
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

/// What the database made of a batch.
#[derive(Debug, Clone, Default)]
pub struct Committed {
    /// Of the batch's shards, those that were still owned. Nothing of the others was written.
    pub shards: Vec<i16>,
    /// Of the new runs, those whose logical key was new.
    pub created: Vec<RunId>,
    /// Triggers whose decisions were not written, because another version is in force by now, or will be in a moment.
    pub overtaken: Vec<TriggerId>,
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
    /// What starts that wait are to be told, by their key.
    pub waiting: serde_json::Value,
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
    lost: Vec<(RunId, i16, String, i32, LostAttempt)>,
    dropped: Vec<(RunId, String, i16)>,
    decisions: HashMap<TriggerId, (i16, Decision)>,
    backfills: HashMap<BackfillId, (i16, Cursor, Option<Timestamp>)>,
    missed: Vec<(RunId, i16)>,
    missed_at: Option<Timestamp>,
}

#[derive(Debug)]
struct UnitColumns {
    shard: i16,
    is_new: bool,
    block: String,
    child: i32,
    row: UnitRow,
}

impl Batch {
    /// True when there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.new.is_empty() && self.runs.is_empty() && self.units.is_empty() && self.lost.is_empty() && self.is_plain()
    }

    /// One statement writes all of it.
    fn is_plain(&self) -> bool {
        self.dropped.is_empty() && self.decisions.is_empty() && self.backfills.is_empty() && self.missed.is_empty()
    }

    /// True when it creates runs.
    #[must_use]
    pub fn creates(&self) -> bool {
        !self.new.is_empty()
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

    /// Adds what was decided about a trigger. A later decision of the same turn goes on from the earlier one.
    pub fn decide(&mut self, decision: Decision, shard: Shard) {
        self.shards.insert(shard.id, shard.epoch);
        match self.decisions.get_mut(&decision.trigger) {
            Some((_, earlier)) => {
                let mut skips = std::mem::take(&mut earlier.skips);
                skips.extend(decision.skips);
                let latest = earlier.latest.max(decision.latest);
                *earlier = Decision { skips, latest, ..decision };
            }
            None => {
                self.decisions.insert(decision.trigger, (shard.id, decision));
            }
        }
    }

    /// Adds how far a backfill is; `ended_at` when it has ended.
    pub fn backfill(&mut self, id: BackfillId, cursor: Cursor, ended_at: Option<Timestamp>, shard: Shard) {
        self.shards.insert(shard.id, shard.epoch);
        self.backfills.insert(id, (shard.id, cursor, ended_at));
    }

    /// Adds a run that has not ended when it should have.
    pub fn miss_sla(&mut self, run: RunId, at: Timestamp, shard: Shard) {
        self.shards.insert(shard.id, shard.epoch);
        self.missed.push((run, shard.id));
        self.missed_at = Some(at);
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
                self.lost.push((run, shard.id, block, child, LostAttempt::clone(attempt)));
            }
            Transition::DropChildren(at) => {
                // Children of this batch that were written before the drop are void as well.
                self.units.retain(|(of, key), _| {
                    !(*of == run && key.child.is_some() && key.step == domain::unit::Step::Block(*at))
                });
                self.dropped.push((run, graph.block(*at).uuid.clone(), shard.id));
            }
            Transition::Stop { .. } | Transition::EndProcess(_) => {}
        }
    }
}

/// Writes a batch in one transaction; one statement and one commit where only runs and units change. It counts when this
/// returns, and is durable after the journal's next flush.
///
/// What triggers decided whose version is no longer in force is left out of it: see [`Committed::overtaken`].
///
/// # Errors
/// When the database does not answer or refuses. Unless it refused, nobody knows whether the batch counts: raise the
/// epochs (`shards::retake`) and load again, with another journal.
pub async fn commit(journal: &mut Journal, batch: &mut Batch) -> Result<Committed, Error> {
    let Journal { writer, statements, .. } = journal;
    if batch.is_plain() {
        let columns = Columns::of(batch);
        let row = if !batch.is_units_only() {
            writer.query_one(&statements.commit, &columns.parameters()).await?
        } else if let Some(step) = columns.step_parameters() {
            writer.query_one(&statements.commit_step, &step).await?
        } else {
            writer.query_one(&statements.commit_units, &columns.unit_parameters()).await?
        };
        return Ok(committed(&row));
    }
    let transaction = writer.transaction().await?;
    let overtaken = extras::guard(&transaction, statements, batch).await?;
    batch.drop_overtaken(&overtaken);
    extras::drop_children(&transaction, statements, batch).await?;
    let row = transaction.query_one(&statements.commit, &Columns::of(batch).parameters()).await?;
    extras::decide(&transaction, statements, batch).await?;
    extras::backfills(&transaction, statements, batch).await?;
    extras::miss_sla(&transaction, statements, batch).await?;
    transaction.commit().await?;
    Ok(Committed { overtaken, ..committed(&row) })
}

fn committed(row: &Row) -> Committed {
    let created: Vec<Uuid> = row.get("created");
    let created = created.into_iter().map(RunId).collect();
    Committed { shards: row.get("shards"), created, overtaken: Vec::new() }
}

fn json<T: Serialize>(value: Option<&T>) -> Option<String> {
    // These types serialise to JSON without failing: no maps with odd keys, no custom serialisers.
    value.and_then(|value| serde_json::to_string(value).ok()).map(|text| without_nul(&text))
}

/// JSON without the one character that PostgreSQL refuses: one caller's value must not fail everybody's commit.
fn without_nul(json: &str) -> String {
    json.replace("\\u0000", "")
}

macro_rules! columns {
    ($($name:ident: $type:ty,)*) => {
        /// The parameters of run/commit.sql, in its order.
        #[derive(Default)]
        struct Columns { $($name: Vec<$type>,)* }

        impl Columns {
            fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
                vec![$(&self.$name,)*]
            }
        }
    };
}

columns! {
    shard: i16,
    epoch: i64,
    n_id: Uuid,
    n_trigger: Uuid,
    n_key: String,
    n_shard: i16,
    n_epoch: i64,
    n_workspace: Uuid,
    n_pipeline: Uuid,
    n_version: i64,
    n_status: &'static str,
    n_variables: String,
    n_execution_date: Timestamp,
    n_started: Option<Timestamp>,
    n_completed: Option<Timestamp>,
    n_timeout: Option<i32>,
    n_allow: bool,
    n_reason: Option<String>,
    n_parent: Option<Uuid>,
    r_id: Uuid,
    r_shard: i16,
    r_status: &'static str,
    r_started: Option<Timestamp>,
    r_completed: Option<Timestamp>,
    r_reason: Option<String>,
    r_cancel: Option<String>,
    a_run: Uuid,
    a_shard: i16,
    a_block: String,
    a_child: i32,
    a_lease: i64,
    a_executor: Uuid,
    a_outcome: &'static str,
    a_started: Timestamp,
    a_error: Option<String>,
    u_run: Uuid,
    u_shard: i16,
    u_new: bool,
    u_block: String,
    u_child: i32,
    u_status: &'static str,
    u_lease: i64,
    u_attempts: i32,
    u_deaths: i16,
    u_executor: Option<Uuid>,
    u_not_before: Option<Timestamp>,
    u_started: Option<Timestamp>,
    u_attempt_started: Option<Timestamp>,
    u_completed: Option<Timestamp>,
    u_output: Option<String>,
    u_error: Option<String>,
    u_children: Option<i32>,
    n_cancel: Option<String>,
    n_source: Uuid,
    n_trigger_version: Option<i64>,
    n_backfill: Option<Uuid>,
    n_event: Option<String>,
    n_sla: Option<Timestamp>,
    n_cancels: bool,
}

impl Columns {
    /// The parameters of run/commit_units.sql, in its order.
    fn unit_parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        vec![
            &self.shard,
            &self.epoch,
            &self.u_run,
            &self.u_shard,
            &self.u_block,
            &self.u_child,
            &self.u_status,
            &self.u_lease,
            &self.u_attempts,
            &self.u_deaths,
            &self.u_executor,
            &self.u_not_before,
            &self.u_started,
            &self.u_attempt_started,
            &self.u_completed,
            &self.u_output,
            &self.u_error,
            &self.u_children,
        ]
    }

    /// The parameters of run/commit_step.sql, in its order; `None` unless it is two units of one run.
    fn step_parameters(&self) -> Option<Vec<&(dyn ToSql + Sync)>> {
        let ([shard], [epoch], [run, other]) = (&self.shard[..], &self.epoch[..], &self.u_run[..]) else { return None };
        if run != other {
            return None;
        }
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![shard, epoch, run];
        for at in 0..2 {
            parameters.extend([
                &self.u_block[at] as &(dyn ToSql + Sync),
                &self.u_child[at],
                &self.u_status[at],
                &self.u_lease[at],
                &self.u_attempts[at],
                &self.u_deaths[at],
                &self.u_executor[at],
                &self.u_not_before[at],
                &self.u_started[at],
                &self.u_attempt_started[at],
                &self.u_completed[at],
                &self.u_output[at],
                &self.u_error[at],
                &self.u_children[at],
            ]);
        }
        Some(parameters)
    }

    fn of(batch: &Batch) -> Self {
        let mut columns = Self::default();
        for (shard, epoch) in &batch.shards {
            columns.shard.push(*shard);
            columns.epoch.push(*epoch);
        }
        for (run, shard) in &batch.new {
            columns.new_run(run, *shard, batch);
        }
        for (run, (shard, row)) in &batch.runs {
            columns.run(*run, *shard, row);
        }
        for (run, shard, block, child, attempt) in &batch.lost {
            columns.attempt(*run, *shard, (block, *child), attempt);
        }
        // One global order of row locks: by key.
        let mut units: Vec<_> = batch.units.iter().collect();
        units.sort_unstable_by_key(|(key, _)| **key);
        for ((run, _), unit) in units {
            columns.unit(*run, unit);
        }
        columns
    }

    fn new_run(&mut self, run: &NewRun, shard: i16, batch: &Batch) {
        let row = batch.new_rows.get(&run.id);
        self.n_id.push(run.id.0);
        self.n_trigger.push(run.trigger_id.0);
        self.n_key.push(run.logical_key.clone());
        self.n_shard.push(shard);
        self.n_epoch.push(batch.epoch(shard));
        self.n_workspace.push(run.workspace_id.0);
        self.n_pipeline.push(run.pipeline_id.0);
        self.n_version.push(run.pipeline_version);
        self.n_status.push(row.map_or("initial", |row| row.status.as_str()));
        self.n_variables.push(without_nul(&run.variables));
        self.n_execution_date.push(run.execution_date);
        self.n_started.push(row.and_then(|row| row.started_at));
        self.n_completed.push(row.and_then(|row| row.completed_at));
        self.n_timeout.push(run.timeout_s);
        self.n_allow.push(run.allow_blocks_to_fail);
        self.n_reason.push(row.and_then(|row| row.reason.clone()));
        self.n_cancel.push(row.and_then(|row| row.cancel_reason.clone()));
        self.n_parent.push(run.parent_run_id.map(|parent| parent.0));
        self.n_source.push(run.source.0);
        self.n_trigger_version.push(run.trigger_version);
        self.n_backfill.push(run.backfill_id.map(|backfill| backfill.0));
        self.n_event.push(run.event_variables.as_deref().map(without_nul));
        self.n_sla.push(run.sla_at);
        self.n_cancels.push(run.timeout_cancels);
    }

    fn run(&mut self, run: RunId, shard: i16, row: &RunRow) {
        self.r_id.push(run.0);
        self.r_shard.push(shard);
        self.r_status.push(row.status.as_str());
        self.r_started.push(row.started_at);
        self.r_completed.push(row.completed_at);
        self.r_reason.push(row.reason.as_ref().map(|reason| reason.replace('\0', "")));
        self.r_cancel.push(row.cancel_reason.as_ref().map(|reason| reason.replace('\0', "")));
    }

    fn attempt(&mut self, run: RunId, shard: i16, (block, child): (&String, i32), attempt: &LostAttempt) {
        self.a_run.push(run.0);
        self.a_shard.push(shard);
        self.a_block.push(block.clone());
        self.a_child.push(child);
        self.a_lease.push(attempt.lease);
        self.a_executor.push(attempt.executor.0);
        self.a_outcome.push(attempt.outcome);
        self.a_started.push(attempt.started_at);
        self.a_error.push(json(attempt.error.as_ref()));
    }

    fn unit(&mut self, run: RunId, unit: &UnitColumns) {
        let row = &unit.row;
        self.u_run.push(run.0);
        self.u_shard.push(unit.shard);
        self.u_new.push(unit.is_new);
        self.u_block.push(unit.block.clone());
        self.u_child.push(unit.child);
        self.u_status.push(row.status.as_str());
        self.u_lease.push(row.lease);
        self.u_attempts.push(i32::try_from(row.attempts).unwrap_or(i32::MAX));
        self.u_deaths.push(i16::try_from(row.deaths).unwrap_or(i16::MAX));
        self.u_executor.push(row.executor.map(|executor| executor.0));
        self.u_not_before.push(row.not_before);
        self.u_started.push(row.started_at);
        self.u_attempt_started.push(row.attempt_started_at);
        self.u_completed.push(row.completed_at);
        self.u_output.push(json(row.output.as_ref()));
        self.u_error.push(json(row.error.as_ref()));
        self.u_children.push(row.children.map(|children| i32::try_from(children).unwrap_or(i32::MAX)));
    }
}
