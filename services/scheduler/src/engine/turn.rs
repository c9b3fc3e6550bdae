//! A turn: what one batch of messages did, from the first change in memory to the last answer after the commit.

use super::{CreateRun, Created, Engine, EngineError, Reply, questions::Answers, seat::Seat};
use crate::wire::AttemptId;
use domain::{
    id::{ExecutorId, RunId, TriggerId},
    run::{Event, Refused, Transition},
    trigger::Stop,
    unit::{BlockStatus, Outcome},
};
use prost::Message as _;
use proto::internal::v1 as pb;
use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    time::Duration,
};
use store::{
    executors::ExecutorRow,
    journal::Journal,
    runs::{Batch, Committed},
};

/// Assignments of one message, about; one that is longer by itself has a message of its own, which is as long as
/// [`rpc::server::SESSION_BYTES_MAX`] at most.
const ASSIGNMENTS_BYTES: usize = 1024 * 1024;

/// What waits for the commit.
#[derive(Default)]
pub(super) struct Turn {
    pub(super) answers: Answers,
    pub(super) batch: Batch,
    pub(super) changed: HashSet<RunId>,
    pub(super) assignments: HashMap<ExecutorId, Vec<pb::Assignment>>,
    /// Attempts to stop, by executor and whether without a time of grace.
    pub(super) stops: HashMap<(ExecutorId, bool), Vec<pb::AttemptRef>>,
    /// Runs whose attempts are killed at once. It is not kept: where it was not said in time, a new owner that stops them
    /// gives them their grace.
    pub(super) terminated: HashSet<RunId>,
    pub(super) ends: Vec<(ExecutorId, RunId)>,
    pub(super) acks: HashMap<ExecutorId, Vec<pb::ResultAck>>,
    /// Results of attempts that are not running here: the database knows whether they were accepted before.
    pub(super) doubtful: Vec<(ExecutorId, AttemptId)>,
    /// The latest of each executor.
    pub(super) seats: HashMap<ExecutorId, ExecutorRow>,
    pub(super) created: Vec<Creation>,
    /// Answers to commands, by the shard that they are about.
    pub(super) done: Vec<(u8, Reply<()>)>,
    /// Runs that have ended and whose places are not yet given to others.
    pub(super) ended: VecDeque<RunId>,
    /// How many units were leased, those ahead apart.
    pub(super) leased: usize,
    /// Runs that were made.
    pub(super) launched: Vec<RunId>,
    /// Runs that a trigger stops in favour of its next one, once it is known that its decision counts.
    pub(super) overlapped: Vec<(TriggerId, RunId, Stop)>,
}

impl Turn {
    /// Says whether a result counts.
    fn acknowledge(&mut self, executor: ExecutorId, attempt: &AttemptId, accepted: bool) {
        let ack = pb::ResultAck { attempt: Some(attempt.to_proto()), accepted };
        self.acks.entry(executor).or_default().push(ack);
    }

    /// What belongs to shards that others own now was not written: it is not said either, and its commands are refused.
    fn forget_shards(&mut self, lost: &BTreeSet<u8>) {
        let is_lost = |run: &[u8]| RunId::from_slice(run).is_some_and(|run| lost.contains(&run.shard()));
        let of = |attempt: &Option<pb::AttemptRef>| attempt.as_ref().is_some_and(|attempt| is_lost(&attempt.run_id));
        self.changed.retain(|run| !lost.contains(&run.shard()));
        self.ends.retain(|(_, run)| !lost.contains(&run.shard()));
        self.doubtful.retain(|(_, attempt)| !lost.contains(&attempt.run.shard()));
        self.assignments.values_mut().for_each(|list| list.retain(|assignment| !of(&assignment.attempt)));
        self.acks.values_mut().for_each(|list| list.retain(|ack| !of(&ack.attempt)));
        self.stops.values_mut().for_each(|list| list.retain(|attempt| !is_lost(&attempt.run_id)));
        self.assignments.retain(|_, list| !list.is_empty());
        self.acks.retain(|_, list| !list.is_empty());
        self.stops.retain(|_, list| !list.is_empty());
        for (_, reply) in self.done.extract_if(.., |(shard, _)| lost.contains(shard)) {
            drop(reply.send(Err(EngineError::NotOwner)));
        }
        // A caller that is refused asks the new owner with the same keys: what was created is answered, not repeated.
        for creation in self.created.extract_if(.., |creation| {
            creation.runs.iter().filter_map(Created::run).any(|run| lost.contains(&run.shard()))
        }) {
            drop(creation.reply.send(Err(EngineError::NotOwner)));
        }
    }
}

/// The answer to one `Create`.
pub(super) struct Creation {
    pub(super) runs: Vec<Created>,
    /// Trigger and logical key of each.
    pub(super) keys: Vec<(TriggerId, String)>,
    /// What was asked for, in the same order, where one of them was made from what is only remembered.
    pub(super) assumed: Vec<CreateRun>,
    pub(super) reply: Reply<Vec<Created>>,
}

/// Says why a command failed on a database that is away.
pub(super) fn unavailable(error: &store::Error) -> EngineError {
    if error.kind() == domain::ErrorKind::InvalidArgument {
        return EngineError::Refused("a text of the request holds a NUL; leave it out".to_owned());
    }
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

/// Cuts off what makes more than `bytes` together with what is before it, but never the first one.
fn beyond(bytes: usize, assignments: &mut Vec<pb::Assignment>) -> Vec<pb::Assignment> {
    let mut sum = 0;
    let fits = assignments.iter().take_while(|assignment| {
        sum += assignment.encoded_len();
        sum <= bytes
    });
    let fitting = fits.count().max(1);
    assignments.split_off(fitting)
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
        let now = self.now();
        let Some(live) = self.runs.get_mut(&run) else { return };
        let graph = std::sync::Arc::clone(live.run.graph());
        for transition in transitions {
            turn.batch.add(run, &graph, live.shard, transition);
            match transition {
                Transition::Unit(row) if row.status != BlockStatus::Running => {
                    live.release(row.key, &mut self.permits.ledger, now);
                }
                // The row of a fan runs nothing itself.
                Transition::Unit(row) if row.children.is_none() => live.hold_on(row.key, &mut self.permits.ledger),
                _ => {}
            }
            match transition {
                Transition::Stop { key, lease, executor } => {
                    let (block, child) = live.run.unit_name(*key);
                    let attempt = pb::AttemptRef { run_id: run.to_vec(), block, child, lease: *lease };
                    let at_once = turn.terminated.contains(&run);
                    turn.stops.entry((*executor, at_once)).or_default().push(attempt);
                }
                Transition::EndProcess(executor) => turn.ends.push((*executor, run)),
                Transition::Run(_) | Transition::Unit(_) | Transition::Lost(_) | Transition::DropChildren(_) => {}
            }
        }
        if !transitions.is_empty() {
            turn.changed.insert(run);
        }
        if live.run.row().status.has_ended() && !std::mem::replace(&mut live.has_left, true) {
            turn.ended.push_back(run);
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
            if live.run.home().is_some() {
                // Its process waits, and an executor keeps few that do: what has begun goes before what has not.
                self.ready.push_front(run);
            } else {
                self.ready.push_back(run);
            }
        }
    }

    /// Commits the turn, then says what it decided.
    pub(super) async fn finish(&mut self, mut turn: Turn) {
        let mut created = Vec::new();
        let mut overtaken = Vec::new();
        // What people see of executors needs no commit, and no commit needs it.
        let mut seats = std::mem::take(&mut turn.seats);
        seats.extend(self.farewells.iter().map(|(executor, row)| (*executor, row.clone())));
        let noting = Self::note_executors(self.store.clone(), seats);
        if turn.batch.is_empty() {
            self.noted(noting.await);
        } else {
            let (committed, noted) = tokio::join!(self.commit(&mut turn), noting);
            self.noted(noted);
            match committed {
                Some(committed) => {
                    self.overtaken(&committed.overtaken);
                    (created, overtaken) = (committed.created, committed.overtaken);
                }
                None => return self.fail_turn(turn).await,
            }
        }
        // What ended is written: whoever waits elsewhere for its permits may have them, with the next turn.
        self.again |= self.permits.ledger.written();
        let counts = |(trigger, run, stop)| (!overtaken.contains(&trigger)).then_some((run, stop));
        self.overlapped.extend(turn.overlapped.drain(..).filter_map(counts));
        self.again |= !self.overlapped.is_empty();
        let voided = self.void_others(&turn.launched, &created);
        self.answer_creations(turn.created, &voided, &overtaken).await;
        if !voided.is_empty() {
            let is_void = |a: &pb::Assignment| {
                let run = a.attempt.as_ref().and_then(|attempt| RunId::from_slice(&attempt.run_id));
                run.is_some_and(|run| voided.contains(&run))
            };
            for assignments in turn.assignments.values_mut() {
                assignments.retain(|assignment| !is_void(assignment));
            }
            turn.assignments.retain(|_, assignments| !assignments.is_empty());
        }
        self.promises.done.extend(turn.done.into_iter().map(|(_, reply)| reply));
        for (executor, acks) in turn.acks {
            self.promises.acks.entry(executor).or_default().extend(acks);
        }
        // What creates runs is durable with its commit, and so is all before it. Not what others commit from here on, and doubts
        // are settled by that.
        if !created.is_empty() {
            self.keep_all();
        }
        self.settle_doubts(turn.doubtful).await;
        self.speak(turn.assignments, turn.stops, turn.ends);
        self.flush_soon();
        let has_ended = |run: &RunId| self.runs.get(run).is_some_and(|live| live.run.row().status.has_ended());
        let ended: Vec<RunId> = turn.changed.iter().copied().filter(has_ended).collect();
        for run in &ended {
            self.forget(*run);
        }
        self.changes.changed(turn.changed.into_iter().collect(), ended);
    }

    async fn note_executors(store: store::Store, seats: HashMap<ExecutorId, ExecutorRow>) -> bool {
        if seats.is_empty() {
            return true;
        }
        let noted = store::executors::upsert(&store, &seats.into_values().collect::<Vec<_>>()).await;
        noted.inspect_err(|error| tracing::warn!(error = %Chain(error), "failed to note executors")).is_ok()
    }

    /// What people see of executors may be old; a goodbye is noted again until it is there.
    fn noted(&mut self, is_noted: bool) {
        if is_noted {
            self.farewells.clear();
        }
    }

    /// `None` when nobody knows whether the batch counts.
    async fn commit(&mut self, turn: &mut Turn) -> Option<Committed> {
        let started = std::time::Instant::now();
        let committed = match self.write(&mut turn.batch).await {
            Ok(committed) => committed,
            Err(error) => {
                tracing::error!(error = %Chain(&error), rows = turn.batch.len(), "failed to commit; loading again");
                return None;
            }
        };
        if committed.broken > 0 {
            tracing::warn!(
                sessions = committed.broken,
                rows = turn.batch.len(),
                "sessions broke under a commit; it counts"
            );
            self.metrics.broken_commits.inc_by(committed.broken.into());
            self.stride.shorten();
        } else {
            self.stride.lengthen();
        }
        let lost = turn.batch.lost_shards(&committed.shards);
        if !lost.is_empty() {
            // Of these nothing was written, of the others everything: the statement says so itself.
            tracing::warn!(shards = ?lost, "shards have another owner now");
            self.metrics.fenced_writes.inc();
            self.metrics.epoch_conflicts.inc_by(lost.len() as u64);
            turn.forget_shards(&lost);
            self.shards.refuse(&lost, std::time::Instant::now());
            self.lose_shards(&lost);
        }
        self.metrics.commits.inc();
        self.metrics.commit_rows.inc_by(turn.batch.len() as u64);
        self.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
        Some(committed)
    }

    pub(super) async fn write(&mut self, batch: &mut Batch) -> Result<Committed, store::Error> {
        let journal = match &mut self.journal {
            Some(journal) => journal,
            None => self.journal.insert(Journal::open(&self.store).await?),
        };
        store::runs::commit(journal, batch).await
    }

    /// A turn that did not count: nobody is told that it did.
    async fn fail_turn(&mut self, turn: Turn) {
        for creation in turn.created {
            drop(creation.reply.send(Err(EngineError::Unavailable)));
        }
        for (_, reply) in turn.done {
            drop(reply.send(Err(EngineError::Unavailable)));
        }
        self.fail().await;
    }

    /// A result may come twice, when its first acknowledgement was lost: then its outputs count and must stay. Without
    /// an answer from the database nothing is said, and the executor asks again on its next session.
    async fn settle_doubts(&mut self, doubtful: Vec<(ExecutorId, AttemptId)>) {
        // Whether results of others' runs count is for their owners to say; they will be asked again.
        let is_owned = |attempt: &AttemptId| self.shards.get(attempt.run.shard()).is_some();
        let doubtful: Vec<_> = doubtful.into_iter().filter(|(_, attempt)| is_owned(attempt)).collect();
        if doubtful.is_empty() {
            return;
        }
        let asked: Vec<_> = doubtful.iter().map(|(_, a)| (a.run, a.block.as_str(), a.child, a.lease)).collect();
        match store::runs::accepted(&self.store, &asked).await {
            Ok(accepted) => {
                for ((executor, attempt), accepted) in doubtful.into_iter().zip(accepted) {
                    self.metrics.stale_results.inc_by(u64::from(!accepted));
                    let ack = pb::ResultAck { attempt: Some(attempt.to_proto()), accepted };
                    self.promises.acks.entry(executor).or_default().push(ack);
                }
            }
            Err(error) => tracing::warn!(error = %Chain(&error), "failed to look up results that came again"),
        }
    }

    fn forget(&mut self, run: RunId) {
        if let Some(mut live) = self.runs.remove(&run) {
            live.release_all(&mut self.permits.ledger, self.clock.now());
            self.metrics.runs_ended.inc();
            if let Some(at) = live.life.sla_at {
                self.slas.remove(&(at, run));
            }
            if let Some(at) = live.wake {
                self.wakes.remove(&(at, run));
            }
        }
    }

    fn speak(
        &mut self,
        assignments: HashMap<ExecutorId, Vec<pb::Assignment>>,
        stops: HashMap<(ExecutorId, bool), Vec<pb::AttemptRef>>,
        ends: Vec<(ExecutorId, RunId)>,
    ) {
        use pb::session_response::Message as M;
        for (executor, assignments) in assignments {
            self.teach(executor, &assignments);
            self.metrics.assignments.inc_by(assignments.len() as u64);
            let ahead = assignments.iter().filter(|assignment| assignment.after.is_some()).count();
            self.metrics.leases_ahead.inc_by(ahead as u64);
            self.hand_out(executor, assignments);
        }
        let grace_ms = i32::try_from(self.timing.grace.as_millis()).unwrap_or(i32::MAX);
        for ((executor, at_once), attempts) in stops {
            let grace_ms = if at_once { 0 } else { grace_ms };
            self.tell_seat(executor, M::Cancel(pb::Cancel { attempts, grace_ms }));
        }
        for (executor, run) in ends {
            self.tell_seat(executor, M::EndProcess(pb::EndProcess { run_id: run.to_vec() }));
        }
    }

    /// Sends the definitions that these assignments name and that the session does not know, from the runs themselves.
    fn teach(&mut self, executor: ExecutorId, assignments: &[pb::Assignment]) {
        let Some(seat) = self.seats.get_mut(&executor) else { return };
        for assignment in assignments {
            if seat.knows(&assignment.definition_id) {
                continue;
            }
            let run = assignment.attempt.as_ref().and_then(|attempt| RunId::from_slice(&attempt.run_id));
            if let Some(live) = run.and_then(|run| self.runs.get(&run)) {
                seat.teach(&live.definition);
            }
        }
    }

    /// In several messages where one would be too long: it would break the stream, and the next one as well.
    fn hand_out(&mut self, executor: ExecutorId, mut assignments: Vec<pb::Assignment>) {
        while !assignments.is_empty() {
            let rest = beyond(ASSIGNMENTS_BYTES, &mut assignments);
            self.tell_seat(executor, pb::session_response::Message::Assignments(pb::Assignments { assignments }));
            assignments = rest;
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
        (outcome, took): (Outcome, Duration),
        turn: &mut Turn,
    ) {
        let key = self.runs.get(&attempt.run).and_then(|live| {
            let key = live.run.unit_key(&attempt.block, attempt.child)?;
            live.run.is_running(key, attempt.lease, executor).then_some(key)
        });
        if key.is_some_and(|key| self.is_early(attempt.run, key, &outcome)) {
            return;
        }
        let was_ahead = key.zip(self.runs.get(&attempt.run)).is_some_and(|(key, live)| live.run.is_ahead(key));
        let was_taken_back = self.was_taken_back(attempt, &outcome);
        if let Some(seat) = self.seats.get_mut(&executor) {
            seat.release(attempt);
            if matches!(outcome, Outcome::Released) && !was_ahead && !was_taken_back {
                seat.unlearn();
            }
        }
        let Some(key) = key else {
            if was_taken_back {
                turn.acknowledge(executor, attempt, false);
            } else {
                turn.doubtful.push((executor, attempt.clone()));
            }
            return;
        };
        self.metrics.results.inc();
        if let Some(live) = self.runs.get_mut(&attempt.run) {
            live.keep_pace(&outcome, took);
        }
        let accepted = self.advance(attempt.run, Event::Ended { key, lease: attempt.lease, outcome }, turn);
        turn.acknowledge(executor, attempt, accepted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(count: usize) -> pb::Assignment {
        let output = pb::OutputRef { child: i32::MAX, lease: i64::MAX };
        let input = pb::Input { outputs: vec![output; count], ..pb::Input::default() };
        pb::Assignment { inputs: vec![input], ..pb::Assignment::default() }
    }

    #[test]
    fn assignments_are_cut_before_they_are_too_long_together() {
        let one = reading(10).encoded_len();
        let mut assignments = vec![reading(10); 5];
        let mut lengths = Vec::new();
        while !assignments.is_empty() {
            let rest = beyond(2 * one, &mut assignments);
            lengths.push(assignments.len());
            assignments = rest;
        }
        assert_eq!(lengths, [2, 2, 1]);
        // One that is too long by itself goes alone.
        let mut assignments = vec![reading(10), reading(0)];
        assert_eq!(beyond(one - 1, &mut assignments), [reading(0)]);
    }

    #[test]
    fn whatever_one_attempt_may_read_fits_into_one_message() {
        let longest = reading(domain::run::INPUTS_MAX).encoded_len();
        assert!(longest < rpc::server::SESSION_BYTES_MAX * 2 / 3, "{longest}");
    }
}
