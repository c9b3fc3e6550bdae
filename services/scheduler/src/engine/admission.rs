//! The one way in: whoever wants a run, a person, a program, a schedule, a retry, a backfill, it is made here, and starts
//! when its pipeline's limits let it.
//!
//! Refuses to know why somebody wants it; the decision itself is `domain::admission`.

use super::{
    Engine,
    definitions::Prepared,
    live::{ContextOf, Life, Live},
    permits::Pools,
    turn::Turn,
};
use domain::{
    admission::{Admission, RunLimits, Source, Verdict},
    id::{BackfillId, PipelineId, RunId, TriggerId},
    pipeline::{OnLimit, Pipeline},
    run::{Event, Options, Run},
    trigger::TimeoutStatus,
};
use jiff::Timestamp;
use serde_json::{Map, Value};
use std::collections::HashMap;
use store::{
    runs::{NewRun, StartablePipeline},
    shards::Shard,
};

/// Why a run over a limit that is not to wait was cancelled.
const LIMIT_REASON: &str = "LIMIT: as many runs as the pipeline allows had not ended, and it skips further ones";

/// A run that is to be.
pub(super) struct Wanted {
    pub(super) pipeline: StartablePipeline,
    /// That is only remembered: the run counts only if its commit finds it in force still.
    pub(super) if_current: bool,
    pub(super) definition: Prepared,
    pub(super) shard: Shard,
    pub(super) fired_by: FiredBy,
    pub(super) logical_key: String,
    pub(super) variables: Map<String, Value>,
    /// A JSON object.
    pub(super) event_variables: Option<String>,
    pub(super) execution_date: Timestamp,
    pub(super) options: Options,
    pub(super) parent: Option<RunId>,
    pub(super) sla_at: Option<Timestamp>,
    pub(super) limits: RunLimits,
    /// The trace of whoever asked; empty when nobody traces.
    pub(super) traceparent: String,
}

/// What a run's firing belongs to.
#[derive(Debug, Clone)]
pub(super) struct FiredBy {
    /// The trigger; for a backfill the pipeline's manual one.
    pub(super) trigger: TriggerId,
    pub(super) name: String,
    /// The version that decided it, where one did.
    pub(super) version: Option<i64>,
    pub(super) backfill: Option<BackfillId>,
}

impl FiredBy {
    /// What the run counts for.
    pub(super) fn source(&self) -> Source {
        source(self.trigger, self.backfill)
    }
}

/// What a run counts for: its backfill, or its trigger.
pub(super) fn source(trigger: TriggerId, backfill: Option<BackfillId>) -> Source {
    Source(backfill.map_or(trigger.0, |backfill| backfill.0))
}

/// What a pipeline says about its runs, unless a trigger says otherwise.
pub(super) fn limits_of(pipeline: &Pipeline, run_limit: Option<u32>, on_limit: Option<OnLimit>) -> RunLimits {
    let own = &pipeline.concurrency;
    RunLimits {
        per_source: run_limit.or(own.pipeline_run_limit),
        all: own.pipeline_run_limit_all_triggers,
        on_limit: on_limit.unwrap_or(own.on_limit),
    }
}

/// A backfill counts as a trigger of its own, as in Mage, and waits where it meets a limit. Its parallelism is one more,
/// which its cursor keeps, and this keeps for runs of it that are retried.
pub(super) fn limits_of_backfill(pipeline: &Pipeline, parallelism: Option<u32>) -> RunLimits {
    let limits = limits_of(pipeline, None, Some(OnLimit::Wait));
    // A limit of 0 is none.
    let per_source = limits.per_source.into_iter().chain(parallelism).filter(|limit| *limit > 0).min();
    RunLimits { per_source, ..limits }
}

/// The queues of all pipelines of this engine.
#[derive(Default)]
pub(super) struct Queues {
    pipelines: HashMap<PipelineId, Admission>,
}

impl Queues {
    pub(super) fn of(&mut self, pipeline: PipelineId) -> &mut Admission {
        self.pipelines.entry(pipeline).or_default()
    }

    /// Runs of one source that have not ended.
    pub(super) fn unfinished_of(&self, pipeline: PipelineId, source: Source) -> usize {
        self.pipelines.get(&pipeline).map_or(0, |admission| admission.unfinished_of(source))
    }

    /// Other limits hold for the waiting runs of one source; false where none waits or runs in its pipeline.
    fn relimit(&mut self, pipeline: PipelineId, of: Source, limits: impl Fn(RunId) -> Option<RunLimits>) -> bool {
        self.pipelines.get_mut(&pipeline).map(|admission| admission.relimit(of, limits)).is_some()
    }

    pub(super) fn clear(&mut self) {
        self.pipelines.clear();
    }

    pub(super) fn retain(&mut self, stays: impl Fn(&PipelineId) -> bool) {
        self.pipelines.retain(|pipeline, _| stays(pipeline));
    }
}

impl Engine {
    /// Makes a run: it starts at once, waits for its turn, or is cancelled because of a limit.
    pub(super) fn launch(&mut self, wanted: Wanted, turn: &mut Turn) -> RunId {
        let Wanted { pipeline, definition, shard, fired_by, .. } = wanted;
        let id = RunId::new_in(pipeline.id.shard());
        let told: Option<Map<String, Value>> =
            wanted.event_variables.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let context = ContextOf {
            run: id,
            pipeline: &pipeline.name,
            workspace: &pipeline.workspace,
            trigger: &fired_by.name,
            variables: &wanted.variables,
            defaults: &definition.graph.pipeline().variables,
            event_variables: told.as_ref(),
            execution_date: wanted.execution_date,
            traceparent: &wanted.traceparent,
        };
        let merged = context.merged();
        let pools = Pools::new(pipeline.workspace_id, definition.graph.pipeline(), &merged, &self.limits);
        let context = context.build();
        let life = Life {
            pipeline: pipeline.id,
            workspace: pipeline.workspace_id,
            trigger: fired_by.trigger,
            backfill: fired_by.backfill,
            limits: wanted.limits,
            sla_at: wanted.sla_at,
        };
        let source = fired_by.source();
        turn.batch.create(
            NewRun {
                id,
                workspace_id: pipeline.workspace_id,
                pipeline_id: pipeline.id,
                pipeline_version: pipeline.version,
                if_current: wanted.if_current,
                trigger_id: fired_by.trigger,
                source,
                trigger_version: fired_by.version,
                logical_key: wanted.logical_key,
                variables: Value::Object(wanted.variables).to_string(),
                execution_date: wanted.execution_date,
                timeout_s: wanted.options.timeout_s.and_then(|s| i32::try_from(s).ok()),
                timeout_cancels: wanted.options.timeout_status == TimeoutStatus::Cancelled,
                allow_blocks_to_fail: wanted.options.allow_blocks_to_fail,
                parent_run_id: wanted.parent,
                backfill_id: fired_by.backfill,
                event_variables: wanted.event_variables,
                sla_at: wanted.sla_at,
            },
            shard,
        );
        let run = Run::new(id, definition.graph, wanted.options);
        self.runs.insert(id, Live::new(run, shard, context, definition.wire, life, pools));
        turn.changed.insert(id);
        turn.launched.push(id);
        if let Some(at) = wanted.sla_at {
            self.slas.insert((at, id));
        }
        self.admit(id, turn);
        self.metrics.runs_created.inc();
        id
    }

    /// Lets a run start, wait, or end, as the limits of its pipeline say.
    pub(super) fn admit(&mut self, run: RunId, turn: &mut Turn) {
        let Some(life) = self.runs.get(&run).map(|live| live.life.clone()) else { return };
        let source = source(life.trigger, life.backfill);
        match self.queues.of(life.pipeline).ask(run, source, life.limits) {
            Verdict::Start => drop(self.advance(run, Event::Start, turn)),
            Verdict::Wait => self.metrics.runs_held_back.inc(),
            Verdict::Skip => drop(self.advance(run, Event::Cancel { reason: LIMIT_REASON.to_owned() }, turn)),
        }
    }

    /// True when a run of this life could start now; asked before a retry.
    pub(super) fn has_place(&mut self, run: RunId, life: &Life) -> bool {
        let source = source(life.trigger, life.backfill);
        let limits = RunLimits { on_limit: OnLimit::Wait, ..life.limits };
        self.queues.of(life.pipeline).ask(run, source, limits) == Verdict::Start
    }

    /// A trigger was read, and may say other limits than before: they hold for its waiting runs as well.
    pub(super) fn relimit(&mut self, trigger: TriggerId) {
        let Some(armed) = self.triggers.get(trigger) else { return };
        let (limit, on_limit) = (armed.run_limit, armed.on_limit);
        let of = |run| self.runs.get(&run).map(|live| limits_of(live.run.graph().pipeline(), limit, on_limit));
        if self.queues.relimit(armed.pipeline, source(trigger, None), of) {
            self.vacated.insert(armed.pipeline);
        }
    }

    /// Runs that have ended make room for those that wait, in the same turn.
    pub(super) fn make_room(&mut self, turn: &mut Turn) {
        // A started run may end at once, and is then appended.
        while let Some(run) = turn.ended.pop_front() {
            let Some(life) = self.runs.get(&run).map(|live| live.life.clone()) else { continue };
            self.queues.of(life.pipeline).leave(run);
            self.backfill_run_ended(run, turn);
            self.trigger_run_ended(run, turn);
            self.start_next(life.pipeline, turn);
        }
    }

    /// Runs that were never made after all make room as well, and so do limits that were raised.
    pub(super) fn fill_vacated(&mut self, turn: &mut Turn) {
        for pipeline in std::mem::take(&mut self.vacated) {
            self.start_next(pipeline, turn);
        }
    }

    /// Starts what may start in every pipeline: its former owner may have died before it did.
    pub(super) fn start_waiting(&mut self, turn: &mut Turn) {
        let pipelines: Vec<PipelineId> = self.queues.pipelines.keys().copied().collect();
        for pipeline in pipelines {
            self.start_next(pipeline, turn);
        }
    }

    /// Starts every waiting run of a pipeline that may start.
    pub(super) fn start_next(&mut self, pipeline: PipelineId, turn: &mut Turn) {
        while let Some(next) = self.queues.of(pipeline).start_next() {
            self.advance(next, Event::Start, turn);
        }
        if self.queues.of(pipeline).is_idle() {
            self.queues.pipelines.remove(&pipeline);
        }
    }
}
