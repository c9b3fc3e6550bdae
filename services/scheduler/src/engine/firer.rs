//! The firer: decides about the times of triggers when they come, and about calls and events when they are made.
//!
//! It sleeps until the earliest due time; no loop looks at all triggers. What `domain::trigger` decides, the firings, the
//! skipped times, the runs and up to where everything is decided, is one commit, which counts only while the trigger is in
//! force in the version that decided it: an acknowledged edit or pause is never overtaken. A decision that did not count
//! is made again with what is in force then.

mod ends;
mod reader;

pub(super) use reader::Reading;

use super::{
    Engine, EngineError,
    admission::{FiredBy, Wanted, limits_of, source},
    armed::{Told, interval_variables},
    definitions::Prepared,
    turn::{Chain, Turn, unavailable},
};
use domain::{
    admission::RunLimits,
    id::{PipelineId, RunId, TriggerId},
    pipeline::OnLimit,
    run::{Event, Options},
    trigger::{self, Facts, Start, Step, Stop, Timetable, Trigger, key},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};
use std::collections::{BTreeSet, HashMap};
use store::{
    firing_views::Known,
    runs::{Decision, StartablePipeline},
};
use uuid::Uuid;

/// Triggers that are decided about in one turn.
pub(super) const TURN_TRIGGERS_MAX: usize = 2_000;
/// Before a trigger is decided about again whose definition was being edited.
const OVERTAKEN_PAUSE: SignedDuration = SignedDuration::from_millis(50);
/// Before a trigger is looked at again whose pipeline or definition could not be read.
const BROKEN_PAUSE: SignedDuration = SignedDuration::from_secs(30);

/// What becomes of a start that somebody asked for.
pub(super) enum Offered {
    /// This run.
    Run(RunId),
    /// It waits for others to end.
    Waiting,
    /// It never starts, for this reason.
    Skipped(String),
}

/// The pipelines of triggers that are due.
#[derive(Default)]
struct DuePipelines {
    all: BTreeSet<PipelineId>,
    after: BTreeSet<PipelineId>,
}

/// What all starts of one trigger share.
struct Aim<'a> {
    trigger: &'a Trigger,
    timetable: Option<&'a Timetable>,
    pipeline: StartablePipeline,
    definition: Prepared,
    limits: RunLimits,
    shard: store::shards::Shard,
}

impl Engine {
    /// Decides about every trigger that is due.
    pub(super) async fn fire(&mut self, turn: &mut Turn) {
        let now = self.now();
        let mut due = Vec::new();
        while due.len() < TURN_TRIGGERS_MAX
            && let Some(next) = self.triggers.due(now)
        {
            due.push(next);
        }
        self.tell_lag(due.first().map(|(at, _)| *at));
        let Some(&(oldest, _)) = due.first() else { return self.settle_late(now) };
        let pipelines = self.pipelines_of(&due, turn.answers.asked_at());
        turn.answers.forget(&pipelines.after);
        if let Err(error) = self.ask_for(pipelines.all, &mut turn.answers).await {
            tracing::warn!(error = %Chain(&error), "failed to read pipelines of due triggers; they wait");
            self.put_off(oldest, now + OVERTAKEN_PAUSE);
            return due.into_iter().for_each(|(_, id)| self.triggers.rearm(id, Some(now + OVERTAKEN_PAUSE)));
        }
        // About: a trigger that catches up starts all of its own.
        let (mut started, most) = (0, self.stride.now());
        let mut due = due.into_iter();
        for (at, id) in due.by_ref() {
            started += self.fire_one(at, id, turn).await;
            if started >= most {
                break;
            }
        }
        // Those that are left keep their place.
        for (at, id) in due {
            self.triggers.rearm(id, Some(at));
        }
        self.settle_late(now);
        self.again |= self.triggers.next().is_some_and(|next| next <= now);
    }

    /// The pipelines of due triggers; and those among them of triggers that were not due yet when the turn asked: a time
    /// starts from what is in force when it has come, and not from what was a moment before.
    fn pipelines_of(&self, due: &[(Timestamp, TriggerId)], asked_at: Timestamp) -> DuePipelines {
        let mut pipelines = DuePipelines::default();
        for (at, id) in due {
            let Some(armed) = self.triggers.get(*id) else { continue };
            pipelines.all.insert(armed.pipeline);
            if *at > asked_at {
                pipelines.after.insert(armed.pipeline);
            }
        }
        pipelines
    }

    /// Decides about one trigger; answers how many runs it started.
    async fn fire_one(&mut self, due_at: Timestamp, id: TriggerId, turn: &mut Turn) -> usize {
        let now = self.now();
        let Some(armed) = self.triggers.get(id) else { return 0 };
        let (trigger, timetable) = match armed.read(id) {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(trigger.id = %id, error = %error, "a trigger cannot be understood; it does not fire");
                self.triggers.rearm(id, None);
                return 0;
            }
        };
        let (active, version) = (armed.active, armed.version);
        let Some(pipeline) = turn.answers.startable(armed.pipeline) else {
            // The pipeline is archived: its triggers are archived with it, and read again as such.
            if active {
                self.triggers.rearm(id, Some(now + BROKEN_PAUSE));
            } else {
                self.disarmed.insert(id, version);
                self.triggers.disarm(id);
            }
            return 0;
        };
        if active && pipeline.workspace_archived {
            // Its triggers are paused with it, in a version that is not read yet; or not at all, by a web-server of before.
            self.triggers.rearm(id, Some(now + BROKEN_PAUSE));
            return 0;
        }
        let aim = match self.aim(&trigger, timetable.as_ref(), pipeline).await {
            Ok(aim) => aim,
            Err(error) => {
                tracing::warn!(trigger.id = %id, error = %Chain(&error), "a trigger cannot fire now; it is tried again");
                // A database that did not answer is no fault of the definition.
                let is_away = matches!(error, EngineError::Unavailable);
                if is_away {
                    self.put_off(due_at, now + OVERTAKEN_PAUSE);
                }
                self.triggers.rearm(id, Some(now + if is_away { OVERTAKEN_PAUSE } else { BROKEN_PAUSE }));
                return 0;
            }
        };
        let facts = self.facts(id, &aim);
        let Some(armed) = self.triggers.get(id) else { return 0 };
        let step = trigger::step(&trigger, timetable.as_ref(), &armed.state, &facts);
        let started = step.start.len();
        if started > 0 {
            self.metrics.fire_latency.observe(due_at.duration_until(now).as_secs_f64().max(0.0));
        }
        let latest = step.start.iter().map(|start| start.at).max();
        self.apply(id, &aim, step, latest, turn);
        started
    }

    async fn aim<'a>(
        &mut self,
        trigger: &'a Trigger,
        timetable: Option<&'a Timetable>,
        pipeline: StartablePipeline,
    ) -> Result<Aim<'a>, EngineError> {
        let shard = self.shards.get(pipeline.id.shard()).ok_or(EngineError::NotOwner)?;
        let definition = self.definitions.get(pipeline.id, pipeline.version).await?;
        self.limits.learn(pipeline.workspace_id).await.map_err(|error| unavailable(&error))?;
        let limits = limits_of(definition.graph.pipeline(), trigger.spec.run_limit, trigger.spec.on_limit);
        Ok(Aim { trigger, timetable, pipeline, definition, limits, shard })
    }

    fn facts(&mut self, id: TriggerId, aim: &Aim<'_>) -> Facts {
        let of = source(id, None);
        let running = self.queues.unfinished_of(aim.pipeline.id, of);
        let room = (aim.limits.on_limit == OnLimit::Skip)
            .then(|| self.queues.of(aim.pipeline.id).room(of, aim.limits))
            .flatten();
        let armed = self.triggers.get(id);
        let history = armed.map(|armed| armed.history.clone()).unwrap_or_default();
        let former_wake = armed.and_then(|armed| armed.former_wake);
        Facts {
            now: self.now(),
            running: u32::try_from(running).unwrap_or(u32::MAX),
            room,
            ended_at: history.ended_at,
            lead: trigger::lead(&history.runtimes_s),
            former_wake,
        }
    }

    /// Does what was decided: in memory and in the turn's commit, which leaves it out while the `latest` of its times has
    /// not come. Answers the runs by their keys.
    fn apply(
        &mut self,
        id: TriggerId,
        aim: &Aim<'_>,
        step: Step,
        latest: Option<Timestamp>,
        turn: &mut Turn,
    ) -> HashMap<String, RunId> {
        if let Some(stop) = step.stop {
            turn.overlapped.extend(self.runs_of(id).map(|run| (id, run, stop)));
        }
        let mut runs = HashMap::with_capacity(step.start.len());
        for start in step.start {
            let told = self.triggers.get_mut(id).map(|armed| armed.waits.take(&start.key)).unwrap_or_default();
            let key = start.key.clone();
            runs.insert(key, self.start(aim, start, told, turn));
            self.metrics.firings.with_label_values(&["fired", ""]).inc();
        }
        for skip in &step.skip {
            self.metrics.firings.with_label_values(&["skipped", skip.reason.as_str()]).inc_by(u64::from(skip.times));
        }
        let Some(armed) = self.triggers.get_mut(id) else { return runs };
        armed.waits.keep(&step.state.waiting);
        let differs = armed.state != step.state || armed.next_due != step.wake || !step.skip.is_empty();
        // Nor is a run stopped unless the version that says so is in force.
        let differs = differs || step.stop.is_some() || armed.unwritten;
        armed.state = step.state.clone();
        armed.unwritten = false;
        armed.former_wake = None;
        if differs || !runs.is_empty() {
            let decision = Decision {
                trigger: id,
                version: armed.version,
                skips: step.skip,
                state: step.state,
                waiting: armed.waits.unstored(),
                history: serde_json::to_value(&armed.history).unwrap_or_default(),
                next_due: step.wake,
                latest,
            };
            turn.batch.decide(decision, aim.shard);
        }
        let gone = !armed.active && armed.state.waiting.is_empty();
        let version = armed.version;
        self.triggers.rearm(id, step.wake);
        if gone {
            self.disarmed.insert(id, version);
            self.triggers.disarm(id);
        }
        runs
    }

    fn start(&mut self, aim: &Aim<'_>, start: Start, told: Told, turn: &mut Turn) -> RunId {
        let spec = &aim.trigger.spec;
        let mut variables: Map<String, Value> = spec.variables.clone().into_iter().collect();
        variables.extend(told.variables);
        // What is computed counts last, as in Mage.
        if let Some(timetable) = aim.timetable {
            variables.extend(interval_variables(timetable, start.at));
        }
        let sla = spec.sla_s.map(|s| SignedDuration::from_secs(i64::from(s)));
        let wanted = Wanted {
            pipeline: aim.pipeline.clone(),
            if_current: false,
            definition: aim.definition.clone(),
            shard: aim.shard,
            fired_by: FiredBy {
                trigger: aim.trigger.id,
                name: aim.trigger.name.clone(),
                version: Some(aim.trigger.version),
                backfill: None,
            },
            logical_key: start.key,
            variables,
            event_variables: told.event_variables,
            execution_date: start.at,
            options: Options {
                allow_blocks_to_fail: spec.allow_blocks_to_fail,
                timeout_s: spec.timeout_s,
                timeout_status: spec.timeout_status,
            },
            parent: None,
            sla_at: sla.and_then(|sla| start.at.checked_add(sla).ok()),
            limits: aim.limits,
            traceparent: told.traceparent,
        };
        self.launch(wanted, turn)
    }

    fn runs_of(&self, id: TriggerId) -> impl Iterator<Item = RunId> {
        let is_of = move |live: &super::live::Live| live.life.trigger == id && live.life.backfill.is_none();
        self.runs.iter().filter(move |(_, live)| is_of(live)).map(|(run, _)| *run)
    }

    /// Stops what a trigger overlaps, now that its decision counts. Should nobody come to this, the start that waits for the end of
    /// these runs makes its trigger decide the same again.
    pub(super) fn stop_overlapped(&mut self, turn: &mut Turn) {
        for (run, stop) in std::mem::take(&mut self.overlapped) {
            let reason = match stop {
                Stop::Cancel => "OVERLAP: the trigger fired again, and cancels runs that have not ended",
                Stop::Terminate => "OVERLAP: the trigger fired again, and terminates runs that have not ended",
            };
            if stop == Stop::Terminate {
                turn.terminated.insert(run);
            }
            self.advance(run, Event::Cancel { reason: reason.to_owned() }, turn);
        }
    }

    /// A start that a call or an event asks for, of a trigger in the version that the caller saw.
    pub(super) async fn offer(
        &mut self,
        (id, version): (TriggerId, i64),
        mut start: Start,
        told: Told,
        turn: &mut Turn,
    ) -> Result<Offered, EngineError> {
        // The same request may have come twice: it is one start, which overlaps with nothing of its own.
        if let Some(run) = turn.batch.run_for(id, &start.key) {
            return Ok(Offered::Run(run));
        }
        match self.known_key((id, start.key.clone()), &turn.answers).await? {
            Some(Known::Run(run)) => return Ok(Offered::Run(run)),
            Some(Known::Skipped(reason)) => return Ok(Offered::Skipped(reason)),
            None => {}
        }
        if self.triggers.get(id).is_none_or(|armed| armed.version != version) {
            self.reading.stale.insert(id);
            self.read_triggers().await.map_err(|error| unavailable(&error))?;
        }
        let Some(armed) = self.triggers.get(id).filter(|armed| armed.version == version) else {
            return Err(EngineError::Overtaken(id));
        };
        if armed.state.waiting.iter().any(|waiting| waiting.key == start.key) {
            return Ok(Offered::Waiting);
        }
        let (trigger, timetable) = armed.read(id).map_err(|error| EngineError::Definition(error.to_string()))?;
        let pipeline = self.startable(armed.pipeline, &mut turn.answers).await?;
        let aim = self.aim(&trigger, timetable.as_ref(), pipeline).await?;
        let facts = self.facts(id, &aim);
        let is_halted = self.triggers.get(id).is_some_and(|armed| armed.state.halted == Some(version));
        if is_halted {
            // It is skipped, and its client may come again with its key when the trigger fires again.
            start.key = key::unchosen(&start.key, Uuid::now_v7);
        }
        let key = start.key.clone();
        let Some(armed) = self.triggers.get_mut(id) else { return Err(EngineError::Overtaken(id)) };
        armed.waits.offer(key.clone(), told);
        let step = trigger::offer(&trigger, &armed.state, &facts, start);
        let skipped = step.skip.iter().find(|skip| skip.first.key == key).map(|skip| skip.reason.as_str());
        // It is asked for now, whatever time it is.
        let runs = self.apply(id, &aim, step, None, turn);
        Ok(match (runs.get(&key), skipped) {
            (Some(run), _) => Offered::Run(*run),
            (None, Some(reason)) => Offered::Skipped(reason.to_owned()),
            (None, None) => Offered::Waiting,
        })
    }
}
