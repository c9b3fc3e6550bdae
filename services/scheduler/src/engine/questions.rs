//! What a turn asks the database before it decides anything: everything that its calls, its due times and its backfills are
//! known to need, for all of them together and at once, so that a turn costs the same few ways there and back however much
//! has come. What turns out to be needed later is asked for then.
//!
//! Refuses to decide: it only reads, and what it has read is as old as the turn.

use super::{
    CreateRun, Engine, EngineError, Message,
    firer::TURN_TRIGGERS_MAX,
    turn::{Chain, unavailable},
};
use domain::{
    id::{ExecutorId, PipelineId, TriggerId, WorkspaceId},
    trigger::key,
};
use jiff::Timestamp;
use std::collections::{BTreeSet, HashMap};
use store::{
    Client,
    firing_views::{self, Known},
    runs::StartablePipeline,
};

/// A connection that broke costs one further try; whoever needs the answers then asks by himself.
const TRIES_MAX: u32 = 2;

/// A logical key, and whose it is.
type Key = (TriggerId, String);

/// What the database answered in this turn.
#[derive(Default)]
pub(super) struct Answers {
    asked_at: Timestamp,
    /// `None` where there is no such pipeline, or it is archived.
    pipelines: HashMap<PipelineId, Option<StartablePipeline>>,
    known: HashMap<Key, Option<Known>>,
    /// Executors that are not heard of here, and whether they have said goodbye to another scheduler.
    pub(super) in_doubt: Vec<(ExecutorId, bool)>,
}

impl Answers {
    /// What has come since then may be newer than the answers.
    pub(super) fn asked_at(&self) -> Timestamp {
        self.asked_at
    }

    /// What a new run of the pipeline starts from, as far as that was asked.
    pub(super) fn startable(&self, pipeline: PipelineId) -> Option<StartablePipeline> {
        self.pipelines.get(&pipeline).cloned().flatten()
    }

    /// These are to be asked for again.
    pub(super) fn forget(&mut self, pipelines: &BTreeSet<PipelineId>) {
        self.pipelines.retain(|id, _| !pipelines.contains(id));
    }

    fn note(&mut self, asked: &[PipelineId], found: Vec<StartablePipeline>) {
        self.pipelines.extend(asked.iter().map(|id| (*id, None)));
        self.pipelines.extend(found.into_iter().map(|pipeline| (pipeline.id, Some(pipeline))));
    }
}

/// What a turn is known to need.
struct Questions {
    pipelines: Vec<PipelineId>,
    keys: Vec<Key>,
    /// Whether triggers are to be read, and whether edits of them are looked for.
    triggers: Option<bool>,
    /// Whether changes of limits are looked for.
    limits: bool,
    in_doubt: Vec<ExecutorId>,
}

impl Questions {
    fn is_empty(&self) -> bool {
        let no_runs = self.pipelines.is_empty() && self.keys.is_empty();
        no_runs && self.triggers.is_none() && !self.limits && self.in_doubt.is_empty()
    }
}

impl Engine {
    /// Asks what these messages, and what is due, need. Without an answer the turn goes on, and each asks for itself.
    pub(super) async fn ask(&mut self, messages: &[Message]) -> Answers {
        let mut answers = Answers { asked_at: self.now(), ..Answers::default() };
        let questions = self.questions(messages, answers.asked_at);
        if questions.is_empty() {
            return answers;
        }
        for _ in 0..TRIES_MAX {
            match self.try_ask(&questions, &mut answers).await {
                Ok(()) => break,
                Err(error) => tracing::warn!(error = %Chain(&error), "failed to ask what a turn needs"),
            }
        }
        answers
    }

    fn questions(&mut self, messages: &[Message], now: Timestamp) -> Questions {
        let mut pipelines: BTreeSet<PipelineId> = self.backfills.due_pipelines().collect();
        let due = self.triggers.due_by(now).take(TURN_TRIGGERS_MAX);
        pipelines.extend(due.filter_map(|id| self.triggers.get(id)).map(|armed| armed.pipeline));
        let (mut keys, mut remembered) = (Vec::new(), BTreeSet::new());
        for message in messages {
            match message {
                Message::Create(runs, _) => {
                    for run in runs {
                        // What others own is refused without a question.
                        if self.shards.get(run.pipeline.shard()).is_some() {
                            let of = if self.remembers(run) { &mut remembered } else { &mut pipelines };
                            of.insert(run.pipeline);
                            keys.extend(self.key_of_call(run));
                        }
                    }
                }
                Message::CreateBackfill(backfill, _) => drop(pipelines.insert(backfill.pipeline)),
                _ => {}
            }
        }
        let (triggers, limits) = (self.triggers_to_read(), self.limits.is_time());
        let questions = Questions { pipelines: Vec::new(), keys, triggers, limits, in_doubt: self.in_doubt() };
        if !pipelines.is_empty() || !questions.is_empty() {
            // Where anything is asked, this costs no further way.
            pipelines.extend(remembered);
        }
        Questions { pipelines: pipelines.into_iter().collect(), ..questions }
    }

    /// Whether what a run starts from need not be asked: its commit sees to that, see [`super::remembered`].
    fn remembers(&self, run: &CreateRun) -> bool {
        // One whose definition is not at hand, or cannot be read, would be refused before any commit saw that there is another.
        let is_known = |of: &StartablePipeline| self.definitions.has(of.id, of.version);
        run.trigger.is_none() && run.repeats.is_none() && self.remembered.get(run.pipeline).is_some_and(is_known)
    }

    /// Whether a run is made from what is remembered, since that was not asked either.
    pub(super) fn assumes(&self, run: &CreateRun, answers: &Answers) -> bool {
        self.remembers(run) && !answers.pipelines.contains_key(&run.pipeline)
    }

    /// The key of a call of a trigger; one that is not known as its caller saw it is read in this turn.
    fn key_of_call(&mut self, run: &CreateRun) -> Option<Key> {
        let called = run.trigger.as_ref()?;
        if self.triggers.get(called.id).is_none_or(|armed| armed.version != called.version) {
            self.reading.stale.insert(called.id);
        }
        // One that cannot be stored would spoil the question for all, and is refused in its own call.
        key::is_storable(&run.logical_key).then(|| (called.id, run.logical_key.clone()))
    }

    async fn try_ask(&mut self, questions: &Questions, answers: &mut Answers) -> Result<(), store::Error> {
        let Questions { pipelines, keys, triggers, limits, in_doubt } = questions;
        let client = self.store.client().await?;
        let executors: Vec<_> = in_doubt.iter().map(|executor| executor.0).collect();
        let (found, known, changed, heard, departed) = tokio::try_join!(
            biased;
            store::runs::current_pipelines(&client, pipelines),
            firing_views::known(&client, keys),
            self.limits.changed(&client, *limits),
            self.hear_triggers(&client, *triggers),
            store::executors::departed(&client, &executors),
        )?;
        answers.in_doubt = in_doubt.iter().map(|executor| (*executor, departed.contains(&executor.0))).collect();
        let versions: Vec<_> = found.iter().map(|pipeline| (pipeline.id, pipeline.version)).collect();
        let workspaces: Vec<_> = found.iter().map(|pipeline| pipeline.workspace_id).collect();
        self.remembered.note(pipelines, &found);
        answers.note(pipelines, found);
        answers.known.extend(keys.iter().cloned().zip(known));
        let unread = self.unread_triggers(heard);
        let changed = limits.then_some(changed);
        let learning = self.learn(&client, versions, workspaces, changed);
        let (learned, rest) = tokio::join!(biased; learning, Self::rest_of_triggers(&client, &unread));
        match rest {
            Ok(rest) => self.arm_triggers(unread, rest),
            Err(error) => tracing::warn!(error = %Chain(&error), "failed to read triggers; they are read again"),
        }
        learned
    }

    /// Asks for what is not among the answers.
    pub(super) async fn ask_for(
        &mut self,
        pipelines: BTreeSet<PipelineId>,
        answers: &mut Answers,
    ) -> Result<(), store::Error> {
        let asked: Vec<_> = pipelines.into_iter().filter(|id| !answers.pipelines.contains_key(id)).collect();
        if asked.is_empty() {
            return Ok(());
        }
        let client = self.store.client().await?;
        let found = store::runs::current_pipelines(&client, &asked).await?;
        let versions: Vec<_> = found.iter().map(|pipeline| (pipeline.id, pipeline.version)).collect();
        let workspaces: Vec<_> = found.iter().map(|pipeline| pipeline.workspace_id).collect();
        self.remembered.note(&asked, &found);
        answers.note(&asked, found);
        self.learn(&client, versions, workspaces, None).await
    }

    /// What a new run of a pipeline starts from.
    pub(super) async fn startable(
        &mut self,
        pipeline: PipelineId,
        answers: &mut Answers,
    ) -> Result<StartablePipeline, EngineError> {
        self.ask_for(BTreeSet::from([pipeline]), answers).await.map_err(|error| unavailable(&error))?;
        answers.startable(pipeline).ok_or(EngineError::NoPipeline(pipeline))
    }

    /// What a run starts from that somebody asks for, and whether that is only remembered.
    pub(super) async fn start_of(
        &mut self,
        run: &CreateRun,
        answers: &mut Answers,
    ) -> Result<(StartablePipeline, bool), EngineError> {
        let assumed = self.assumes(run, answers);
        match self.remembered.get(run.pipeline).filter(|_| assumed) {
            Some(remembered) => Ok((remembered.clone(), true)),
            None => Ok((self.startable(run.pipeline, answers).await?, false)),
        }
    }

    /// What a key became, if it was decided about before this turn.
    pub(super) async fn known_key(&self, key: Key, answers: &Answers) -> Result<Option<Known>, EngineError> {
        if let Some(known) = answers.known.get(&key) {
            return Ok(known.clone());
        }
        let known = self.known_keys(&[key]).await.map_err(|error| unavailable(&error))?;
        Ok(known.into_iter().next().flatten())
    }

    /// What keys became, in their order.
    pub(super) async fn known_keys(&self, keys: &[Key]) -> Result<Vec<Option<Known>>, store::Error> {
        let client = self.store.client().await?;
        firing_views::known(&client, keys).await
    }

    /// Reads what is not known yet of these versions and of the limits of these workspaces; and the limits of those in which
    /// some `changed`, when that was looked for.
    pub(super) async fn learn(
        &mut self,
        client: &Client,
        versions: Vec<(PipelineId, i64)>,
        workspaces: Vec<WorkspaceId>,
        changed: Option<Vec<WorkspaceId>>,
    ) -> Result<(), store::Error> {
        let looked = changed.is_some();
        let versions = self.definitions.unknown(versions);
        let mut limited = self.limits.unknown(workspaces);
        limited.extend(changed.unwrap_or_default());
        let limited: Vec<WorkspaceId> = limited.into_iter().collect();
        let definitions = store::runs::definitions(client, &versions);
        let limits = store::limits::definitions(client, &limited);
        let (definitions, limits) = tokio::try_join!(biased; definitions, limits)?;
        self.definitions.learn(definitions);
        self.heed_limits(limits, looked);
        Ok(())
    }
}
