//! Commands from people and programs: create, cancel, retry.

use super::{
    CancelRun, CreateRun, Created, Engine, EngineError, Message, Reply, RetryRun,
    admission::{Wanted, limits_of, limits_of_backfill},
    armed::Told,
    firer::Offered,
    live::{ContextOf, Life, Live},
    permits::Pools,
    repeats::{Asked, not_repeated},
    turn::{Chain, Creation, Turn, unavailable},
};
use domain::{
    id::{PipelineId, RunId, TriggerId},
    instant,
    run::{Event, Options, Refused, Run},
    trigger::{Start, key},
};
use std::collections::{BTreeSet, HashSet};
use store::{firing_views::Known, runs::StoredRun, triggers::MANUAL};
use tokio::time::Instant;

/// Refuses what the database would refuse with everything else of the turn.
fn check_storable(command: &CreateRun) -> Result<(), EngineError> {
    if !key::is_storable(&command.logical_key) {
        let why = format!("the key of the run must have 1 to {} bytes and hold no NUL", key::BYTES_MAX);
        return Err(EngineError::Refused(why));
    }
    if command.execution_date.is_some_and(|at| !instant::is_storable(at)) {
        let why = format!("the execution date of the run must be an instant {}", instant::RANGE);
        return Err(EngineError::Refused(why));
    }
    Ok(())
}

impl Engine {
    pub(super) async fn take(&mut self, message: Message, turn: &mut Turn) {
        match message {
            Message::Session(executor, session, event) => self.session(executor, session, event, turn),
            Message::Peer(peer, event) => self.peer(peer, event),
            Message::Resume(attempt, reply) => self.permits.resume(attempt, reply),
            Message::Create(runs, reply) => {
                let assumes = runs.iter().any(|run| self.assumes(run, &turn.answers));
                let assumed = if assumes { runs.clone() } else { Vec::new() };
                match self.create(runs, turn).await {
                    Ok((runs, keys)) => turn.created.push(Creation { runs, keys, assumed, reply }),
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            Message::Cancel(command, reply) => self.cancel(command, reply, turn).await,
            Message::Retry(command, reply) => match self.retry(command, turn).await {
                Ok(run) => turn.done.push((run.shard(), reply)),
                Err(error) => drop(reply.send(Err(error))),
            },
            // Its row is durable by now; its first runs follow in this turn.
            Message::CreateBackfill(command, reply) => {
                drop(reply.send(self.create_backfill(command, turn).await));
            }
            Message::ChangeBackfill(id, change, reply) => match self.change_backfill(id, change, turn).await {
                Ok(()) => turn.done.push((id.shard(), reply)),
                Err(error) => drop(reply.send(Err(error))),
            },
        }
    }

    async fn create(
        &mut self,
        commands: Vec<CreateRun>,
        turn: &mut Turn,
    ) -> Result<(Vec<Created>, Vec<(TriggerId, String)>), EngineError> {
        let mut prepared = Vec::with_capacity(commands.len());
        // Everything that can fail comes before the first change: all or none.
        for command in commands {
            check_storable(&command)?;
            let shard = self.shards.get(command.pipeline.shard()).ok_or(EngineError::NotOwner)?;
            let (pipeline, if_current) = self.start_of(&command, &mut turn.answers).await?;
            // A trigger is paused with its workspace, which is for the firer to say.
            if pipeline.workspace_archived && command.trigger.is_none() {
                return Err(EngineError::Archived(pipeline.workspace));
            }
            let definition = self.definitions.get(pipeline.id, pipeline.version).await?;
            let variables: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&command.variables)
                .map_err(|e| EngineError::Refused(format!("variables are no JSON object: {e}")))?;
            self.limits.learn(pipeline.workspace_id).await.map_err(|error| unavailable(&error))?;
            if let Some((caller, per_second)) = command.trigger.as_ref().and_then(|trigger| trigger.rate.as_ref()) {
                self.rates.take(caller, *per_second, Instant::now()).map_err(EngineError::TooManyCalls)?;
            }
            let asked = self.origin(&command, &pipeline, &definition, turn).await?;
            prepared.push((command, shard, (pipeline, if_current), definition, variables, asked));
        }
        let now = self.now();
        let mut ids = Vec::with_capacity(prepared.len());
        let mut keys = Vec::with_capacity(prepared.len());
        for (command, shard, (pipeline, if_current), definition, variables, asked) in prepared {
            let at = command.execution_date.unwrap_or(now);
            if let Some(trigger) = command.trigger {
                let bytes = command.variables.len() + trigger.event_variables.as_ref().map_or(0, String::len);
                let start = Start { key: command.logical_key.clone(), at, bytes };
                let told =
                    Told { variables, event_variables: trigger.event_variables, traceparent: command.traceparent };
                keys.push((trigger.id, command.logical_key));
                ids.push(match self.offer((trigger.id, trigger.version), start, told, turn).await? {
                    Offered::Run(run) => Created::Run(run),
                    Offered::Waiting => Created::Not("waiting".to_owned()),
                    Offered::Skipped(reason) => Created::Not(reason),
                });
                continue;
            }
            let origin = match asked {
                Asked::Known(run) => {
                    keys.push((pipeline.trigger_id, command.logical_key));
                    ids.push(Created::Run(run));
                    continue;
                }
                Asked::New(origin) => origin,
            };
            let options = Options {
                allow_blocks_to_fail: command.allow_blocks_to_fail,
                timeout_s: command.timeout_s,
                timeout_status: origin.timeout_status,
            };
            keys.push((TriggerId(origin.fired_by.source().0), command.logical_key.clone()));
            let (backfill, replaces) = (origin.fired_by.backfill, origin.replaces);
            let wanted = Wanted {
                fired_by: origin.fired_by,
                logical_key: command.logical_key,
                variables,
                event_variables: origin.event_variables,
                execution_date: at,
                options,
                parent: command.parent,
                sla_at: origin.sla_at,
                limits: origin.limits,
                pipeline,
                if_current,
                definition,
                shard,
                traceparent: command.traceparent,
            };
            let run = self.launch(wanted, turn);
            if let (Some(backfill), Some((former, ended))) = (backfill, replaces) {
                self.backfill_run_reopened(backfill, ended, turn);
                turn.batch.repeat(former, run, shard);
            }
            ids.push(Created::Run(run));
        }
        Ok((ids, keys))
    }

    /// Forgets runs that were made in memory and not in the database, because their key was known, or their trigger was
    /// edited. Answers them.
    pub(super) fn void_others(&mut self, launched: &[RunId], created: &[RunId]) -> HashSet<RunId> {
        let created: HashSet<RunId> = created.iter().copied().collect();
        let void: HashSet<RunId> = launched.iter().copied().filter(|run| !created.contains(run)).collect();
        void.iter().for_each(|run| self.void(*run));
        void
    }

    /// Prepares the answers to creations. Where the key of a void run was known, the answer is the run that the key created
    /// first. What was decided by a version that is not in force does not count, and its caller looks at the trigger again.
    /// What was made from what is not in force of its pipeline any more comes again with the next turn, by the same keys.
    pub(super) async fn answer_creations(
        &mut self,
        creations: Vec<Creation>,
        void: &HashSet<RunId>,
        overtaken: &[TriggerId],
    ) {
        for mut creation in creations {
            let is_void = |at: &usize| creation.runs[*at].run().is_some_and(|run| void.contains(&run));
            let void: Vec<usize> = (0..creation.runs.len()).filter(is_void).collect();
            let keys: Vec<_> = void.iter().map(|&at| creation.keys[at].clone()).collect();
            let known = match void.is_empty() {
                true => Ok(Vec::new()),
                false => self.known_keys(&keys).await.map_err(|error| unavailable(&error)),
            };
            let unknown = void.iter().zip(known.iter().flatten()).filter(|(_, known)| known.is_none());
            let outdated: BTreeSet<PipelineId> =
                unknown.filter_map(|(at, _)| creation.assumed.get(*at)).map(|command| command.pipeline).collect();
            if !outdated.is_empty() {
                outdated.iter().for_each(|pipeline| self.remembered.forget(*pipeline));
                self.outdated.push(Message::Create(creation.assumed, creation.reply));
                self.again = true;
                continue;
            }
            let answer = known.and_then(|known| {
                for (&at, known) in void.iter().zip(known) {
                    let Some(Known::Run(run)) = known else { return Err(EngineError::Overtaken(creation.keys[at].0)) };
                    creation.runs[at] = Created::Run(run);
                }
                let undecided = |(created, (trigger, _)): (&Created, &(TriggerId, String))| {
                    (created.run().is_none() && overtaken.contains(trigger)).then_some(*trigger)
                };
                match creation.runs.iter().zip(&creation.keys).find_map(undecided) {
                    Some(trigger) => Err(EngineError::Overtaken(trigger)),
                    None => Ok(creation.runs),
                }
            });
            self.promises.created.push((creation.reply, answer));
        }
    }

    /// A run that was never created: its leases are taken back from seats.
    fn void(&mut self, run: RunId) {
        let Some(mut live) = self.runs.remove(&run) else { return };
        live.release_all(&mut self.permits.ledger, self.clock.now());
        self.queues.of(live.life.pipeline).leave(run);
        self.vacated.insert(live.life.pipeline);
        if live.life.backfill.is_none() {
            self.trigger_run_void(live.life.trigger);
        }
        if let Some(at) = live.life.sla_at {
            self.slas.remove(&(at, run));
        }
        self.again = true;
        if let Some(at) = live.wake {
            self.wakes.remove(&(at, run));
        }
        for (key, lease, executor) in live.run.running_units() {
            let (block, child) = live.run.unit_name(key);
            if let Some(seat) = self.seats.get_mut(&executor) {
                seat.release(&crate::wire::AttemptId { run, block, child, lease });
            }
        }
    }

    async fn cancel(&mut self, command: CancelRun, reply: Reply<()>, turn: &mut Turn) {
        if self.runs.contains_key(&command.run) {
            self.advance(command.run, Event::CancelByHand { reason: command.reason }, turn);
            turn.done.push((command.run.shard(), reply));
            return;
        }
        if self.shards.get(command.run.shard()).is_none() {
            return drop(reply.send(Err(EngineError::NotOwner)));
        }
        let answer = match store::runs::one(&self.store, command.run).await {
            // Cancelling what has ended is no error.
            Ok(Some(stored)) if stored.row.status.has_ended() => Ok(()),
            Ok(Some(_)) => Err(EngineError::NotOwner),
            Ok(None) => Err(EngineError::NoRun(command.run)),
            Err(error) => Err(unavailable(&error)),
        };
        drop(reply.send(answer));
    }

    async fn retry(&mut self, command: RetryRun, turn: &mut Turn) -> Result<RunId, EngineError> {
        let has_key = !command.key.is_empty();
        if has_key && !key::is_storable(&command.key) {
            let why = format!("the key of a retry must have at most {} bytes and hold no NUL", key::BYTES_MAX);
            return Err(EngineError::Refused(why));
        }
        // Asked for again, it is answered again, once its commit is durable: whoever asks may not have heard the answer.
        let is_repeated = |latest: &Option<String>| has_key && latest.as_ref() == Some(&command.key);
        if let Some(live) = self.runs.get(&command.run) {
            return if is_repeated(&live.retry_key) {
                Ok(command.run)
            } else {
                Err(EngineError::NotEnded(command.run))
            };
        }
        if self.shards.get(command.run.shard()).is_none() {
            return Err(EngineError::NotOwner);
        }
        let stored = store::runs::one(&self.store, command.run)
            .await
            .map_err(|error| unavailable(&error))?
            .ok_or(EngineError::NoRun(command.run))?;
        // It ran again, and has ended again.
        if is_repeated(&stored.retry_key) {
            return Ok(command.run);
        }
        not_repeated(command.run, stored.repeated_by.or_else(|| turn.batch.repeated_by(command.run)))?;
        self.require_outputs(command.run).await?;
        // The limits of what it counts for, which may be over, or paused, hold for it too.
        match stored.backfill_id {
            Some(backfill) => self.know_backfill(backfill).await?,
            None if stored.trigger != MANUAL => self.know_trigger(stored.trigger_id).await?,
            None => {}
        }
        let status = stored.row.status;
        let mut live = self.revive(stored).await?;
        let event = match &command.from_block {
            None => Event::RetryIncomplete,
            Some(block) => {
                let at = live.run.graph().find(block).ok_or_else(|| EngineError::NoBlock(block.clone()))?;
                Event::RetryFrom(at)
            }
        };
        let mut transitions = live.run.advance(event, self.now()).map_err(|refused| {
            EngineError::Refused(match refused {
                Refused::NothingToRetry => {
                    "every block of the run has completed; name a block to run again from".to_owned()
                }
                other => other.to_string(),
            })
        })?;
        if let Some(backfill) = live.life.backfill {
            self.backfill_run_reopened(backfill, status, turn);
        }
        if !self.has_place(command.run, &live.life)
            && let Ok(held) = live.run.advance(Event::Hold, self.now())
        {
            transitions.extend(held);
        }
        let key = Some(command.key).filter(|_| has_key);
        turn.batch.retry(command.run, key.as_deref(), live.shard);
        live.retry_key = key.or(live.retry_key);
        self.runs.insert(command.run, live);
        self.record(command.run, &transitions, turn);
        Ok(command.run)
    }

    /// Blocks that run again read what those before them left. A removal that is requested after this look begins only
    /// after its grace, and is taken back by the commit of the retry.
    async fn require_outputs(&self, run: RunId) -> Result<(), EngineError> {
        match store::outputs::expired_at(&self.store, run).await.map_err(|error| unavailable(&error))? {
            None => Ok(()),
            Some(since) => Err(EngineError::Refused(format!(
                "the outputs of run {run} are gone since {since:.0}, by retention or by `orrery clean`; retry the whole run"
            ))),
        }
    }

    /// A run from its rows.
    pub(super) async fn revive(&mut self, stored: StoredRun) -> Result<Live, EngineError> {
        let shard = self.shards.get(stored.id.shard()).ok_or(EngineError::NotOwner)?;
        let definition = self.definitions.get(stored.pipeline_id, stored.pipeline_version).await?;
        let units = stored.units.into_iter().filter_map(|unit| unit.resolve(&definition.graph)).collect::<Vec<_>>();
        let empty = serde_json::Map::new();
        self.limits.learn(stored.workspace_id).await.map_err(|error| unavailable(&error))?;
        let of = ContextOf {
            run: stored.id,
            pipeline: &definition.graph.pipeline().name,
            workspace: &stored.workspace,
            trigger: &stored.trigger,
            variables: stored.variables.as_object().unwrap_or(&empty),
            defaults: &definition.graph.pipeline().variables,
            event_variables: stored.event_variables.as_ref().and_then(serde_json::Value::as_object),
            execution_date: stored.execution_date,
            traceparent: "",
        };
        let pipeline = definition.graph.pipeline();
        let pools = Pools::new(stored.workspace_id, pipeline, &of.merged(), &self.limits);
        let context = of.build();
        let life = Life {
            pipeline: stored.pipeline_id,
            workspace: stored.workspace_id,
            trigger: stored.trigger_id,
            backfill: stored.backfill_id,
            limits: match stored.backfill_id {
                Some(id) => limits_of_backfill(pipeline, self.backfills.terms(id).map(|(_, parallelism)| parallelism)),
                None => {
                    let armed = self.triggers.get(stored.trigger_id);
                    let (limit, on) = armed.map_or((None, None), |armed| (armed.run_limit, armed.on_limit));
                    limits_of(pipeline, limit, on)
                }
            },
            sla_at: stored.sla_at.filter(|_| stored.sla_missed_at.is_none()),
        };
        let (run, due) = Run::rebuild(stored.id, definition.graph, stored.options, stored.row, units, self.now());
        if !due.is_empty() {
            tracing::debug!(run.id = %stored.id, transitions = due.len(), "a loaded run had changes due");
        }
        let mut live = Live::new(run, shard, context, definition.wire, life, pools).with_due(due);
        live.retry_key = stored.retry_key;
        Ok(live)
    }

    pub(super) fn log_unloadable(run: RunId, error: &EngineError) {
        tracing::error!(run.id = %run, error = %Chain(error), "failed to load a run; the others go on");
    }
}
