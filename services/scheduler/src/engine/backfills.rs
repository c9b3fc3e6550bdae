//! Backfills of this engine's shards: cursors that start runs as long as enough of theirs have ended.
//!
//! Which interval is next is computed by `domain::backfill`; a run and the cursor that moved for it are one commit.

use super::{
    Engine, EngineError,
    admission::{FiredBy, Wanted, limits_of_backfill},
    turn::{Chain, Turn, unavailable},
};
use domain::{
    backfill::{Cursor, End, Intervals, Status},
    id::{BackfillId, PipelineId, RunId},
    run::{Event, Options, RunStatus},
    trigger,
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde_json::{Map, Value};
use std::collections::{BTreeSet, HashMap};
use store::{
    backfills::{Backfill, BackfillRef, Progress, Spec},
    shards::Shard,
};

/// The most backfills of one pipeline that are not over.
const OPEN_MAX: usize = 1_000;
/// Runs that backfills start in one turn, all together.
const TURN_STARTS_MAX: u64 = 256;
/// Characters of why a backfill paused itself.
const REASON_CHARS_MAX: usize = 1_000;
/// Before they are looked at again when the database did not answer.
const RETRY_PAUSE: SignedDuration = SignedDuration::from_millis(250);
/// One whose insertion was not answered is looked for this long: whatever had it in hand has ended by then.
const DOUBT: SignedDuration = SignedDuration::from_secs(30);
/// From one look to the next.
const DOUBT_PAUSE: SignedDuration = SignedDuration::from_secs(1);

/// Somebody wants a backfill.
#[derive(Debug, Clone)]
pub struct CreateBackfill {
    /// Of which pipeline; each run takes the version that is in force when it is made.
    pub pipeline: PipelineId,
    /// What exactly.
    pub spec: Spec,
    intervals: Intervals,
}

impl CreateBackfill {
    /// A backfill whose intervals are counted. With a cron expression that takes up to some hundred milliseconds.
    ///
    /// # Errors
    /// When its range has no intervals or too many, or its zone is unknown.
    pub fn new(pipeline: PipelineId, spec: Spec) -> Result<Self, EngineError> {
        let zone = zone(&spec)?;
        let intervals = Intervals::new(spec.start_at, spec.end_at, &spec.length, zone);
        Ok(Self { pipeline, intervals: intervals.map_err(|e| EngineError::Refused(e.to_string()))?, spec })
    }
}

/// What somebody wants a backfill to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeBackfill {
    /// Start no further runs for now.
    Pause,
    /// Go on.
    Resume,
    /// Start no further runs for ever, and stop those that have not ended.
    Cancel,
}

struct Active {
    backfill: Backfill,
    /// Or why this version does not understand them; it pauses then, when it is due.
    intervals: Result<Intervals, String>,
}

impl Active {
    fn is_due(&self) -> bool {
        self.backfill.cursor.due(self.backfill.spec.parallelism, 1) > 0
    }

    fn pipeline(&self) -> PipelineId {
        self.backfill.pipeline_id
    }

    /// As it is to be written.
    fn progress(&self, ended_at: Option<Timestamp>) -> Progress {
        Progress { cursor: self.backfill.cursor, ended_at, pause_reason: self.backfill.pause_reason.clone() }
    }

    /// The next interval, and what its run is told; `None` where what was left is no interval of its own.
    fn start_next(&mut self) -> Result<Option<Next>, EngineError> {
        let Self { backfill, intervals } = self;
        let intervals = intervals.as_ref().map_err(|why| EngineError::Refused(why.clone()))?;
        let Backfill { spec, cursor, .. } = backfill;
        let Some(interval) = cursor.start_next(intervals, spec.order) else {
            if cursor.started == cursor.total {
                return Ok(None);
            }
            // Counted by the rules that its zone had then; without an end it would come here for ever.
            let message = format!(
                "its cron expression names no {}. time in the range any more, of {} that were counted; cancel it, and make \
                 another one for the rest",
                cursor.started + 1,
                cursor.total
            );
            return Err(EngineError::Refused(message));
        };
        let mut variables: Map<String, Value> = spec.variables.as_object().cloned().unwrap_or_default();
        variables.extend(intervals.variables(&interval));
        Ok(Some((interval.start, variables)))
    }
}

/// When an interval begins, and what its run is told.
type Next = (Timestamp, Map<String, Value>);

/// The backfills that are not over.
#[derive(Default)]
pub(super) struct Backfills {
    active: HashMap<BackfillId, Active>,
    /// Those that may have something to start, in the order of their making.
    due: BTreeSet<BackfillId>,
    /// When they are looked at again, since the database did not answer.
    retry_at: Option<Timestamp>,
    /// Those that may be there or not, since their insertion was not answered, and until when they are looked for.
    doubtful: HashMap<BackfillId, Timestamp>,
    /// When they are looked for next.
    look_at: Option<Timestamp>,
}

impl Backfills {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn retain(&mut self, stays: impl Fn(&BackfillId) -> bool) {
        self.active.retain(|id, _| stays(id));
        self.due.retain(|id| stays(id));
        self.doubtful.retain(|id, _| stays(id));
    }

    /// How many of a pipeline are not over.
    fn count(&self, pipeline: PipelineId) -> usize {
        self.active.values().filter(|active| active.pipeline() == pipeline).count()
    }

    /// The pipelines of those that may start something now, once for each of them.
    pub(super) fn due_pipelines(&self) -> impl Iterator<Item = PipelineId> {
        self.due.iter().filter_map(|id| self.active.get(id)).filter(|active| active.is_due()).map(Active::pipeline)
    }

    /// The name of one that is here, and how many of its runs there may be at once.
    pub(super) fn terms(&self, id: BackfillId) -> Option<(String, u32)> {
        let spec = &self.active.get(&id)?.backfill.spec;
        Some((spec.name.clone(), spec.parallelism))
    }

    fn insert(&mut self, backfill: Backfill) {
        let Backfill { spec, cursor, .. } = &backfill;
        let intervals = zone(spec).map_err(|error| error.to_string()).and_then(|zone| {
            Intervals::counted_before(spec.start_at, spec.end_at, &spec.length, zone, cursor.total)
                .map_err(|error| error.to_string())
        });
        self.due.insert(backfill.id);
        self.active.insert(backfill.id, Active { backfill, intervals });
    }
}

fn zone(spec: &Spec) -> Result<TimeZone, EngineError> {
    trigger::zone(&spec.time_zone).map_err(|e| EngineError::Refused(format!("time_zone: {e}")))
}

impl Engine {
    /// Creates a backfill, or answers the one of the same name that asks for the same.
    pub(super) async fn create_backfill(
        &mut self,
        command: CreateBackfill,
        turn: &mut Turn,
    ) -> Result<BackfillId, EngineError> {
        let shard = self.shards.get(command.pipeline.shard()).ok_or(EngineError::NotOwner)?;
        let pipeline = self.startable(command.pipeline, &mut turn.answers).await?;
        if pipeline.workspace_archived {
            return Err(EngineError::Archived(pipeline.workspace));
        }
        let backfill = Backfill {
            id: BackfillId::new_in(command.pipeline.shard()),
            workspace_id: pipeline.workspace_id,
            pipeline_id: command.pipeline,
            cursor: Cursor::new(command.intervals.count()),
            spec: command.spec,
            created_at: self.now(),
            completed_at: None,
            pause_reason: None,
        };
        let id = backfill.id;
        let has_room = self.backfills.count(command.pipeline) < OPEN_MAX;
        if has_room && self.insert_backfill(&backfill, shard).await? {
            self.backfills.insert(backfill);
            return Ok(id);
        }
        let client = self.store.client().await.map_err(|error| unavailable(&error))?;
        let name = BackfillRef::Name(command.pipeline, &backfill.spec.name);
        match store::backfills::get(&client, name).await.map_err(|error| unavailable(&error))? {
            Some(known) if known.backfill.spec == backfill.spec => {
                let id = known.backfill.id;
                // Inserted by a call whose answer was lost: nobody has begun it.
                if !known.backfill.cursor.status.has_ended() && !self.backfills.active.contains_key(&id) {
                    self.backfills.insert(known.backfill);
                }
                Ok(id)
            }
            Some(_) => Err(EngineError::NameTaken(backfill.spec.name)),
            None if !has_room => Err(EngineError::TooManyBackfills(OPEN_MAX)),
            // No row, and none of this name: the shard has another owner.
            None => Err(EngineError::NotOwner),
        }
    }

    /// False where there is one of this name, or the shard has another owner.
    async fn insert_backfill(&mut self, backfill: &Backfill, shard: Shard) -> Result<bool, EngineError> {
        store::backfills::insert(&self.store, backfill, shard).await.map_err(|error| {
            self.backfills.doubtful.insert(backfill.id, self.clock.now() + DOUBT);
            unavailable(&error)
        })
    }

    /// Takes those into memory whose insertion was not answered, once it is seen that they are there: whoever wanted them may not
    /// ask again.
    async fn settle_backfills(&mut self) {
        let now = self.now();
        if self.backfills.doubtful.is_empty() || self.backfills.look_at.is_some_and(|at| at > now) {
            return;
        }
        self.backfills.look_at = Some(now + DOUBT_PAUSE);
        for id in self.backfills.doubtful.keys().copied().collect::<Vec<_>>() {
            if let Err(error) = self.know_backfill(id).await {
                tracing::debug!(backfill.id = %id, %error, "whether a backfill was inserted is not known yet");
                return;
            }
        }
        let Backfills { active, doubtful, .. } = &mut self.backfills;
        doubtful.retain(|id, until| !active.contains_key(id) && *until > now);
    }

    /// Pauses, resumes or cancels a backfill; what is so already is no error.
    pub(super) async fn change_backfill(
        &mut self,
        id: BackfillId,
        change: ChangeBackfill,
        turn: &mut Turn,
    ) -> Result<(), EngineError> {
        let shard = self.shards.get(id.shard()).ok_or(EngineError::NotOwner)?;
        let Some(active) = self.backfills.active.get_mut(&id) else {
            return self.refuse_change(id, change).await;
        };
        let cursor = &mut active.backfill.cursor;
        let changed = match change {
            ChangeBackfill::Pause => cursor.pause(),
            ChangeBackfill::Resume => cursor.resume(),
            ChangeBackfill::Cancel => cursor.cancel(),
        };
        changed.map_err(|ended| EngineError::Refused(ended.to_string()))?;
        let has_ended = cursor.status.has_ended();
        // One that paused itself, and is paused once more, is paused for the same reason.
        if change != ChangeBackfill::Pause {
            active.backfill.pause_reason = None;
        }
        turn.batch.backfill(id, active.progress(has_ended.then(|| self.clock.now())), shard);
        self.backfills.due.insert(id);
        if change == ChangeBackfill::Cancel {
            let runs: Vec<RunId> =
                self.runs.iter().filter(|(_, live)| live.life.backfill == Some(id)).map(|(run, _)| *run).collect();
            for run in runs {
                self.advance(run, Event::Cancel { reason: "the backfill was cancelled".to_owned() }, turn);
            }
        }
        Ok(())
    }

    /// A backfill that is not here is over, or does not exist.
    async fn refuse_change(&self, id: BackfillId, change: ChangeBackfill) -> Result<(), EngineError> {
        let client = self.store.client().await.map_err(|error| unavailable(&error))?;
        let found = store::backfills::get(&client, BackfillRef::Id(id)).await.map_err(|error| unavailable(&error))?;
        match found.map(|view| view.backfill.cursor.status) {
            None => Err(EngineError::NoBackfill(id)),
            Some(Status::Cancelled) if change == ChangeBackfill::Cancel => Ok(()),
            Some(status) => Err(EngineError::Refused(domain::backfill::HasEnded(status).to_string())),
        }
    }

    /// Starts as many runs as the backfills may have.
    pub(super) async fn step_backfills(&mut self, turn: &mut Turn) {
        self.settle_backfills().await;
        if self.backfills.retry_at.is_some_and(|at| at > self.now()) {
            return;
        }
        let due: BTreeSet<PipelineId> = self.backfills.due_pipelines().collect();
        if let Err(error) = self.ask_for(due, &mut turn.answers).await {
            tracing::warn!(error = %Chain(&error), "failed to read pipelines of backfills; they wait");
            self.backfills.retry_at = Some(self.now() + RETRY_PAUSE);
            return;
        }
        let mut left = TURN_STARTS_MAX;
        while left > 0 {
            let Some(id) = self.backfills.due.pop_first() else { return };
            match self.step_backfill(id, left, turn).await {
                Ok(started) => left -= started,
                Err(EngineError::Archived(workspace)) => {
                    tracing::info!(backfill.id = %id, workspace, "the workspace of a backfill is archived; it is paused");
                    let reason = format!("workspace `{workspace}` is archived; restore it, and resume the backfill");
                    self.pause_itself(id, &reason, turn);
                }
                // It is tried again; nothing has been decided.
                Err(EngineError::Unavailable) => {
                    self.backfills.due.insert(id);
                    self.backfills.retry_at = Some(self.now() + RETRY_PAUSE);
                    return;
                }
                Err(error) => {
                    tracing::error!(backfill.id = %id, error = %Chain(&error), "a backfill cannot go on; it is paused");
                    self.pause_itself(id, &Chain(&error).to_string(), turn);
                }
            }
        }
        // The rest goes on in the next turn, which comes at once.
        self.again |= !self.backfills.due.is_empty();
    }

    async fn step_backfill(&mut self, id: BackfillId, most: u64, turn: &mut Turn) -> Result<u64, EngineError> {
        let Some(shard) = self.shards.get(id.shard()) else { return Ok(0) };
        let Some(active) = self.backfills.active.get(&id) else { return Ok(0) };
        let parallelism = active.backfill.spec.parallelism;
        let due = active.backfill.cursor.due(parallelism, most);
        if due == 0 {
            self.forget_backfill_if_over(id);
            return Ok(0);
        }
        let pipeline = self.startable(active.backfill.pipeline_id, &mut turn.answers).await?;
        if pipeline.workspace_archived {
            return Err(EngineError::Archived(pipeline.workspace));
        }
        let definition = self.definitions.get(pipeline.id, pipeline.version).await?;
        self.limits.learn(pipeline.workspace_id).await.map_err(|error| unavailable(&error))?;
        for _ in 0..due {
            let Some(active) = self.backfills.active.get_mut(&id) else { break };
            let Some((execution_date, variables)) = active.start_next()? else {
                let has_ended = active.backfill.cursor.status.has_ended();
                turn.batch.backfill(id, active.progress(has_ended.then(|| self.clock.now())), shard);
                break;
            };
            let (spec, progress) = (&active.backfill.spec, active.progress(None));
            let wanted = Wanted {
                fired_by: FiredBy {
                    trigger: pipeline.trigger_id,
                    name: spec.name.clone(),
                    version: None,
                    backfill: Some(id),
                },
                logical_key: trigger::key::of_time(execution_date),
                variables,
                event_variables: None,
                execution_date,
                options: Options { allow_blocks_to_fail: spec.allow_blocks_to_fail, ..Options::default() },
                parent: None,
                sla_at: None,
                limits: limits_of_backfill(definition.graph.pipeline(), Some(spec.parallelism)),
                pipeline: pipeline.clone(),
                if_current: false,
                definition: definition.clone(),
                shard,
                traceparent: String::new(),
            };
            turn.batch.backfill(id, progress, shard);
            self.launch(wanted, turn);
        }
        self.backfills.due.insert(id);
        Ok(due)
    }

    /// A run of a backfill has ended, in memory; its backfill counts it in the same commit.
    pub(super) fn backfill_run_ended(&mut self, run: RunId, turn: &mut Turn) {
        let Some(live) = self.runs.get(&run) else { return };
        let Some(id) = live.life.backfill else { return };
        let (status, shard) = (live.run.row().status, live.shard);
        let Some(active) = self.backfills.active.get_mut(&id) else { return };
        let Some(end) = end_of(status) else { return };
        let cursor = &mut active.backfill.cursor;
        cursor.end(end);
        let has_ended = cursor.status.has_ended();
        turn.batch.backfill(id, active.progress(has_ended.then(|| self.clock.now())), shard);
        self.backfills.due.insert(id);
    }

    /// Reads a backfill that is not in memory, as one that is over is not, if there is one.
    pub(super) async fn know_backfill(&mut self, id: BackfillId) -> Result<(), EngineError> {
        if !self.backfills.active.contains_key(&id) {
            let client = self.store.client().await.map_err(|error| unavailable(&error))?;
            let found =
                store::backfills::get(&client, BackfillRef::Id(id)).await.map_err(|error| unavailable(&error))?;
            found.into_iter().for_each(|view| self.backfills.insert(view.backfill));
        }
        Ok(())
    }

    /// A run of a backfill that had ended runs again, or another one in its place: it is to be counted once more.
    pub(super) fn backfill_run_reopened(&mut self, id: BackfillId, ended: RunStatus, turn: &mut Turn) {
        let (Some(end), Some(shard)) = (end_of(ended), self.shards.get(id.shard())) else { return };
        if let Some(active) = self.backfills.active.get_mut(&id) {
            active.backfill.cursor.reopen(end);
            turn.batch.backfill(id, active.progress(None), shard);
        }
    }

    /// The backfills of shards that have just been taken.
    pub(super) fn found_backfills(&mut self, found: Vec<Backfill>) {
        for backfill in found {
            self.backfills.insert(backfill);
        }
    }

    fn pause_itself(&mut self, id: BackfillId, reason: &str, turn: &mut Turn) {
        let Some(shard) = self.shards.get(id.shard()) else { return };
        let Some(active) = self.backfills.active.get_mut(&id) else { return };
        // One that has ended starts nothing, and cannot have come here.
        if active.backfill.cursor.pause().is_ok() {
            // PostgreSQL keeps no NUL, and nobody reads a book.
            let shown = reason.chars().filter(|c| *c != '\0').take(REASON_CHARS_MAX);
            active.backfill.pause_reason = Some(shown.collect());
            turn.batch.backfill(id, active.progress(None), shard);
        }
    }

    fn forget_backfill_if_over(&mut self, id: BackfillId) {
        let over =
            |active: &Active| active.backfill.cursor.status.has_ended() && active.backfill.cursor.unfinished() == 0;
        if self.backfills.active.get(&id).is_some_and(over) {
            self.backfills.active.remove(&id);
        }
    }
}

fn end_of(status: RunStatus) -> Option<End> {
    match status {
        RunStatus::Completed => Some(End::Completed),
        RunStatus::Failed => Some(End::Failed),
        RunStatus::Cancelled => Some(End::Cancelled),
        RunStatus::Initial | RunStatus::Running => None,
    }
}
