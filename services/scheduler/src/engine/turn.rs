//! A turn: what one batch of messages did, from the first change in memory to the last answer after the commit.

use super::{Engine, EngineError, Reply, seat::Seat};
use crate::wire::AttemptId;
use domain::{
    id::{ExecutorId, RunId},
    run::{Event, Refused, Transition},
};
use proto::internal::v1 as pb;
use std::collections::{HashMap, HashSet};
use store::{executors::ExecutorRow, runs::Batch};

/// What waits for the commit.
#[derive(Default)]
pub(super) struct Turn {
    pub(super) batch: Batch,
    pub(super) changed: HashSet<RunId>,
    pub(super) assignments: HashMap<ExecutorId, Vec<pb::Assignment>>,
    pub(super) stops: HashMap<ExecutorId, Vec<pb::AttemptRef>>,
    pub(super) ends: Vec<(ExecutorId, RunId)>,
    pub(super) acks: HashMap<ExecutorId, Vec<pb::ResultAck>>,
    /// Results of attempts that are not running here: the database knows whether they were accepted before.
    pub(super) doubtful: Vec<(ExecutorId, AttemptId)>,
    /// The latest of each executor.
    pub(super) seats: HashMap<ExecutorId, ExecutorRow>,
    pub(super) created: Vec<Creation>,
    pub(super) done: Vec<Reply<()>>,
}

/// The answer to one `Create`.
pub(super) struct Creation {
    pub(super) runs: Vec<RunId>,
    /// Trigger and logical key of each.
    pub(super) keys: Vec<(domain::id::TriggerId, String)>,
    pub(super) reply: Reply<Vec<RunId>>,
}

/// Says why a command failed on a database that is away.
pub(super) fn unavailable(error: &store::Error) -> EngineError {
    tracing::warn!(error = %Chain(error), "failed to reach the database");
    EngineError::Unavailable
}

/// An error with its causes, for one log line.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

impl Engine {
    /// Applies one event to one run in memory; false when it was refused or the run is not here.
    pub(super) fn advance(&mut self, run: RunId, event: Event, turn: &mut Turn) -> bool {
        let now = self.now();
        let Some(live) = self.runs.get_mut(&run) else { return false };
        match live.run.advance(event, now) {
            Ok(transitions) => {
                self.record(run, &transitions, turn);
                true
            }
            Err(Refused::Stale) => {
                self.metrics.stale_results.inc();
                false
            }
            Err(_) => false,
        }
    }

    /// Takes the transitions of a run into the turn, and sees to what follows from its new state.
    pub(super) fn record(&mut self, run: RunId, transitions: &[Transition], turn: &mut Turn) {
        let Some(live) = self.runs.get_mut(&run) else { return };
        let graph = std::sync::Arc::clone(live.run.graph());
        for transition in transitions {
            turn.batch.add(run, &graph, live.shard, transition);
            match transition {
                Transition::Stop { key, lease, executor } => {
                    let (block, child) = live.run.unit_name(*key);
                    let attempt = pb::AttemptRef { run_id: run.to_vec(), block, child, lease: *lease };
                    turn.stops.entry(*executor).or_default().push(attempt);
                }
                Transition::EndProcess(executor) => turn.ends.push((*executor, run)),
                Transition::Run(_) | Transition::Unit(_) | Transition::Lost(_) | Transition::DropChildren(_) => {}
            }
        }
        if !transitions.is_empty() {
            turn.changed.insert(run);
        }
        let wake = live.run.next_wake();
        if live.wake != wake {
            if let Some(old) = live.wake.take() {
                self.wakes.remove(&(old, run));
            }
            if let Some(at) = wake {
                self.wakes.insert((at, run));
            }
            live.wake = wake;
        }
        if !live.queued && live.run.has_ready() {
            live.queued = true;
            self.ready.push_back(run);
        }
    }

    /// Commits the turn, then says what it decided.
    pub(super) async fn finish(&mut self, mut turn: Turn) {
        let started = std::time::Instant::now();
        if !turn.batch.is_empty() {
            let committed = match store::runs::commit(&self.store, &turn.batch).await {
                Ok(committed) => committed,
                Err(error) => {
                    tracing::error!(error = %Chain(&error), rows = turn.batch.len(), "failed to commit; loading again");
                    return self.fail(turn).await;
                }
            };
            if committed.shards.len() < turn.batch.shard_count() {
                tracing::warn!("a shard has another owner now; loading again");
                self.metrics.fenced_writes.inc();
                return self.fail(turn).await;
            }
            self.metrics.commits.inc();
            self.metrics.commit_rows.inc_by(turn.batch.len() as u64);
            self.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
            let voided = self.answer_creations(turn.created, &committed.created).await;
            if !voided.is_empty() {
                let is_void = |a: &pb::Assignment| {
                    let run = a.attempt.as_ref().and_then(|attempt| RunId::from_slice(&attempt.run_id));
                    run.is_some_and(|run| voided.contains(&run))
                };
                for assignments in turn.assignments.values_mut() {
                    assignments.retain(|assignment| !is_void(assignment));
                }
            }
        }
        for reply in turn.done {
            // A caller that has gone does not need the answer.
            let _ = reply.send(Ok(()));
        }
        self.settle_doubts(turn.doubtful, &mut turn.acks).await;
        self.speak(turn.acks, turn.assignments, turn.stops, turn.ends);
        if !turn.seats.is_empty()
            && let Err(error) =
                store::executors::upsert(&self.store, &turn.seats.into_values().collect::<Vec<_>>()).await
        {
            tracing::warn!(error = %Chain(&error), "failed to note executors");
        }
        for run in &turn.changed {
            if self.runs.get(run).is_some_and(|live| live.run.row().status.has_ended()) {
                self.forget(*run);
            }
        }
        self.changes.changed(turn.changed.into_iter().collect());
    }

    /// A result may come twice, when its first acknowledgement was lost: then its outputs count and must stay. Without
    /// an answer from the database nothing is said, and the executor asks again on its next session.
    async fn settle_doubts(
        &mut self,
        doubtful: Vec<(ExecutorId, AttemptId)>,
        acks: &mut HashMap<ExecutorId, Vec<pb::ResultAck>>,
    ) {
        if doubtful.is_empty() {
            return;
        }
        let asked: Vec<_> = doubtful.iter().map(|(_, a)| (a.run, a.block.as_str(), a.child, a.lease)).collect();
        match store::runs::accepted(&self.store, &asked).await {
            Ok(accepted) => {
                for ((executor, attempt), accepted) in doubtful.into_iter().zip(accepted) {
                    self.metrics.stale_results.inc_by(u64::from(!accepted));
                    let ack = pb::ResultAck { attempt: Some(attempt.to_proto()), accepted };
                    acks.entry(executor).or_default().push(ack);
                }
            }
            Err(error) => tracing::warn!(error = %Chain(&error), "failed to look up results that came again"),
        }
    }

    fn forget(&mut self, run: RunId) {
        if let Some(live) = self.runs.remove(&run) {
            self.metrics.runs_ended.inc();
            if let Some(at) = live.wake {
                self.wakes.remove(&(at, run));
            }
        }
    }

    fn speak(
        &mut self,
        acks: HashMap<ExecutorId, Vec<pb::ResultAck>>,
        assignments: HashMap<ExecutorId, Vec<pb::Assignment>>,
        stops: HashMap<ExecutorId, Vec<pb::AttemptRef>>,
        ends: Vec<(ExecutorId, RunId)>,
    ) {
        use pb::session_response::Message as M;
        for (executor, acks) in acks {
            self.tell_seat(executor, M::ResultAcks(pb::ResultAcks { acks }));
        }
        for (executor, assignments) in assignments {
            let mut fresh: HashSet<&str> = HashSet::new();
            for assignment in &assignments {
                fresh.insert(&assignment.definition_id);
            }
            let unknown: Vec<String> = fresh.into_iter().map(str::to_owned).collect();
            for definition in unknown {
                self.teach(executor, &definition);
            }
            self.metrics.assignments.inc_by(assignments.len() as u64);
            self.tell_seat(executor, M::Assignments(pb::Assignments { assignments }));
        }
        let grace_ms = i32::try_from(self.timing.grace.as_millis()).unwrap_or(i32::MAX);
        for (executor, attempts) in stops {
            self.tell_seat(executor, M::Cancel(pb::Cancel { attempts, grace_ms }));
        }
        for (executor, run) in ends {
            self.tell_seat(executor, M::EndProcess(pb::EndProcess { run_id: run.to_vec() }));
        }
    }

    fn teach(&mut self, executor: ExecutorId, definition: &str) {
        let Some(seat) = self.seats.get_mut(&executor) else { return };
        if !seat.learns(definition) {
            return;
        }
        if let Some(wire) = self.definitions.by_wire_id(definition) {
            seat.send(pb::session_response::Message::Definition(pb::Definition::clone(&wire)));
        }
    }

    pub(super) fn tell_seat(&mut self, executor: ExecutorId, message: pb::session_response::Message) {
        if let Some(seat) = self.seats.get_mut(&executor) {
            Seat::send(seat, message);
        }
    }

    /// An attempt has ended: the seat is free, the run goes on, the executor learns whether it counted.
    pub(super) fn result(
        &mut self,
        executor: ExecutorId,
        attempt: &AttemptId,
        outcome: domain::unit::Outcome,
        turn: &mut Turn,
    ) {
        if let Some(seat) = self.seats.get_mut(&executor) {
            seat.release(attempt);
        }
        let key = self.runs.get(&attempt.run).and_then(|live| {
            let key = live.run.unit_key(&attempt.block, attempt.child)?;
            live.run.is_running(key, attempt.lease, executor).then_some(key)
        });
        let Some(key) = key else {
            turn.doubtful.push((executor, attempt.clone()));
            return;
        };
        self.metrics.results.inc();
        let accepted = self.advance(attempt.run, Event::Ended { key, lease: attempt.lease, outcome }, turn);
        let ack = pb::ResultAck { attempt: Some(attempt.to_proto()), accepted };
        turn.acks.entry(executor).or_default().push(ack);
    }
}
