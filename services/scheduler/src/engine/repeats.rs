//! Where new runs come from that somebody asks for: below the manual trigger; or, when a run is made again as a whole,
//! from what the former one was made by, so that it counts there and the limits there hold for it.
//!
//! In a backfill one run stands for each interval: the new one takes the place of the former, which does not run again.

use super::{
    CreateRun, Engine, EngineError, Repeated,
    admission::{FiredBy, limits_of, limits_of_backfill},
    armed::Armed,
    definitions::Prepared,
    turn::{Turn, unavailable},
};
use domain::{
    admission::RunLimits,
    id::{BackfillId, RunId, TriggerId},
    run::RunStatus,
    trigger::{TimeoutStatus, Trigger},
};
use jiff::{SignedDuration, Timestamp};
use store::{firing_views::Known, runs::StartablePipeline};

/// Where a run comes from.
pub(super) struct Origin {
    pub(super) fired_by: FiredBy,
    pub(super) limits: RunLimits,
    pub(super) sla_at: Option<Timestamp>,
    pub(super) event_variables: Option<String>,
    pub(super) timeout_status: TimeoutStatus,
    /// The run whose place it takes in its backfill, and how that one had ended.
    pub(super) replaces: Option<(RunId, RunStatus)>,
}

/// What becomes of a request for a run.
pub(super) enum Asked {
    /// This run, which the same request has made.
    Known(RunId),
    /// A run from there.
    New(Box<Origin>),
}

impl Origin {
    fn manual(pipeline: &StartablePipeline, definition: &Prepared) -> Self {
        Self {
            fired_by: FiredBy {
                trigger: pipeline.trigger_id,
                name: pipeline.trigger.clone(),
                version: None,
                backfill: None,
            },
            limits: limits_of(definition.graph.pipeline(), None, None),
            sla_at: None,
            event_variables: None,
            timeout_status: TimeoutStatus::default(),
            replaces: None,
        }
    }

    /// No version decided it: it is made whether the trigger is in force, paused or archived.
    fn of_trigger(trigger: &Trigger, definition: &Prepared, now: Timestamp, manual: Self) -> Self {
        let spec = &trigger.spec;
        let sla = spec.sla_s.map(|s| SignedDuration::from_secs(i64::from(s)));
        Self {
            fired_by: FiredBy { trigger: trigger.id, name: trigger.name.clone(), ..manual.fired_by },
            limits: limits_of(definition.graph.pipeline(), spec.run_limit, spec.on_limit),
            // Its nominal time is over; from now on it has as long as one in time.
            sla_at: sla.and_then(|sla| now.checked_add(sla).ok()),
            ..manual
        }
    }
}

impl Engine {
    /// Where a run comes from that somebody asks for. Changes nothing but what is known.
    pub(super) async fn origin(
        &mut self,
        command: &CreateRun,
        pipeline: &StartablePipeline,
        definition: &Prepared,
        turn: &Turn,
    ) -> Result<Asked, EngineError> {
        let manual = Origin::manual(pipeline, definition);
        let Some(Repeated { trigger, backfill, event_variables, timeout_cancels }) = &command.repeats else {
            return Ok(Asked::New(Box::new(manual)));
        };
        // Asked for twice, it is made once; not even for a moment is there another one, which would count where it counts.
        let source = backfill.map_or(*trigger, |id| TriggerId(id.0));
        if let Some(run) = self.made_by((&source, &command.logical_key), turn) {
            return Ok(Asked::Known(run));
        }
        if let Some(Known::Run(run)) = self.known_key((source, command.logical_key.clone()), &turn.answers).await? {
            return Ok(Asked::Known(run));
        }
        let told = Origin {
            event_variables: event_variables.clone(),
            timeout_status: if *timeout_cancels { TimeoutStatus::Cancelled } else { TimeoutStatus::Failed },
            ..manual
        };
        let origin = match (backfill, command.parent) {
            (Some(id), Some(former)) => {
                return self.origin_in_backfill((*id, former), told, definition, turn).await;
            }
            _ if *trigger == pipeline.trigger_id => told,
            _ => {
                self.know_trigger(*trigger).await?;
                let read =
                    |armed: &Armed| armed.read(*trigger).map_err(|error| EngineError::Definition(error.to_string()));
                let (trigger, _) = self.triggers.get(*trigger).map(read).ok_or(EngineError::Overtaken(*trigger))??;
                Origin::of_trigger(&trigger, definition, self.now(), told)
            }
        };
        Ok(Asked::New(Box::new(origin)))
    }

    async fn origin_in_backfill(
        &mut self,
        (id, former): (BackfillId, RunId),
        told: Origin,
        definition: &Prepared,
        turn: &Turn,
    ) -> Result<Asked, EngineError> {
        let found = store::runs::repeated(&self.store, former).await.map_err(|error| unavailable(&error))?;
        let (status, by) = found.ok_or(EngineError::NoRun(former))?;
        not_repeated(former, by.or_else(|| turn.batch.repeated_by(former)))?;
        if self.runs.contains_key(&former) || !status.has_ended() {
            return Err(EngineError::NotEnded(former));
        }
        self.know_backfill(id).await?;
        let Some((name, parallelism)) = self.backfills.terms(id) else { return Ok(Asked::New(Box::new(told))) };
        let origin = Origin {
            fired_by: FiredBy { name, backfill: Some(id), ..told.fired_by },
            limits: limits_of_backfill(definition.graph.pipeline(), Some(parallelism)),
            replaces: Some((former, status)),
            ..told
        };
        Ok(Asked::New(Box::new(origin)))
    }

    /// The run that this turn makes for a key already.
    fn made_by(&self, key: (&TriggerId, &String), turn: &Turn) -> Option<RunId> {
        let made = turn.created.iter().flat_map(|creation| creation.keys.iter().zip(&creation.runs));
        made.filter(|((trigger, of), _)| (trigger, of) == key).find_map(|(_, created)| created.run())
    }

    /// Reads a trigger that is not in memory: it is paused or archived, or was being edited a moment ago.
    pub(super) async fn know_trigger(&mut self, id: TriggerId) -> Result<(), EngineError> {
        if self.triggers.get(id).is_none() {
            self.reading.stale.insert(id);
            self.read_triggers().await.map_err(|error| unavailable(&error))?;
        }
        Ok(())
    }
}

/// Refuses a run in whose place another one is.
pub(super) fn not_repeated(run: RunId, by: Option<RunId>) -> Result<(), EngineError> {
    by.map_or(Ok(()), |by| {
        Err(EngineError::Refused(format!(
            "run `{run}` was made again as run `{by}`, which counts for their backfill in its place; retry that one"
        )))
    })
}
