//! One turn: what happened to lives, gathered, written, and then told.

use super::{Ended, Placer, PlacerError};
use domain::{
    id::{HolderId, NodeId, ProjectId, QueueId},
    runtime::{
        life::{Change, Event, Stage},
        reason::Reason,
    },
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};
use store::ledger::{self, Act, Batch, Lost, Outcome, Placement, StoredLife};

/// Called when what a command did is written, or is not.
type Answer = Box<dyn FnOnce(Result<(), PlacerError>) + Send>;

/// What one turn writes and tells.
#[derive(Default)]
pub(super) struct Turn {
    changed: BTreeSet<HolderId>,
    /// Lives that began.
    begun: BTreeSet<HolderId>,
    /// Lives that ended in this turn, as they are to be written.
    ended: Vec<StoredLife>,
    /// Of those, the ones that others follow, with what they held.
    pub(super) followed: Vec<(StoredLife, Option<Placement>)>,
    /// Places of lives that ended, for those that follow them.
    pub(super) kept: Vec<Placement>,
    batch: Batch,
    /// Decisions that may lose, with what they make of lives.
    pub(super) acts: Vec<Act>,
    pub(super) ordered: BTreeSet<HolderId>,
    /// Ends that were noted: node, holder and fence.
    pub(super) forget: Vec<(NodeId, HolderId, i64)>,
    pub(super) probes: Vec<HolderId>,
    answers: Vec<(Option<HolderId>, Answer)>,
    /// Executors to which everything is to be said.
    pub(super) introduce: BTreeSet<u64>,
}

impl Turn {
    /// Answers when the turn is written; `begun` names the life that the command began.
    pub(super) fn answer(
        &mut self,
        begun: Option<HolderId>,
        answer: impl FnOnce(Result<(), PlacerError>) + Send + 'static,
    ) {
        self.answers.push((begun, Box::new(answer)));
    }

    /// A life begins.
    pub(super) fn begin(&mut self, holder: HolderId) {
        self.begun.insert(holder);
    }

    /// Whether this turn began it.
    pub(super) fn is_begun(&self, holder: HolderId) -> bool {
        self.begun.contains(&holder)
    }

    /// A life is to be written.
    pub(super) fn change(&mut self, holder: HolderId) {
        self.changed.insert(holder);
    }

    /// What a holder has counts for another queue.
    pub(super) fn moved(&mut self, holder: HolderId, queue: QueueId) {
        self.batch.moved.push((holder, queue));
    }

    /// Nothing is left of a holder that has no life: a block's.
    pub(super) fn release(&mut self, holder: HolderId, project: ProjectId) {
        self.batch.released.push((holder, project));
    }

    fn is_empty(&self) -> bool {
        let Batch { events, released, moved, releasing, .. } = &self.batch;
        let nothing_told = events.is_empty() && released.is_empty() && moved.is_empty() && releasing.is_empty();
        nothing_told
            && self.changed.is_empty()
            && self.begun.is_empty()
            && self.ended.is_empty()
            && self.acts.is_empty()
    }
}

impl Placer {
    /// Something happens to a life.
    pub(super) fn happen(&mut self, holder: HolderId, event: Event, turn: &mut Turn) {
        let (now, rules) = (self.now(), self.parts.timing.rules);
        let Some(stored) = self.lives.get_mut(holder) else { return };
        let (was_stopping, was_nominated) =
            (matches!(stored.life.stage, Stage::Stopping(_)), stored.life.stage == Stage::Nominated);
        let change = stored.life.advance(event, now, &rules);
        let is_stopping = matches!(stored.life.stage, Stage::Stopping(_));
        if is_stopping && !was_stopping {
            if stored.life.stage == Stage::Stopping(Reason::Preempted) {
                self.disrupted.push(stored.life.project);
            }
            turn.batch.releasing.push(holder);
            self.planning.want();
        }
        let is_given_up = was_nominated && change.released;
        self.follow(holder, change, turn);
        if is_given_up {
            // Before anything else lets time pass for those who were to leave.
            self.settle_notices(turn);
        }
    }

    /// What follows from a change, besides the life itself.
    pub(super) fn follow(&mut self, holder: HolderId, change: Change, turn: &mut Turn) {
        let Some(stored) = self.lives.get(holder) else { return };
        let (workspace, number) = (stored.life.workspace, stored.life.number);
        turn.batch.events.extend(change.told.into_iter().map(|entry| ledger::Event { workspace, number, entry }));
        if change.stored {
            turn.changed.insert(holder);
        }
        if change.ordered {
            turn.ordered.insert(holder);
        }
        if change.probe {
            turn.probes.push(holder);
        }
        let mut held = None;
        if change.released {
            turn.batch.released.push((holder, stored.life.project));
            held = self.placements.remove(&holder);
            self.planning.want();
        }
        if stored.life.is_alive() {
            return self.lives.arm(holder, &self.parts.timing.rules);
        }
        let Some(ended) = self.lives.remove(holder) else { return };
        turn.changed.remove(&holder);
        turn.ordered.remove(&holder);
        if ended.life.placed_at.is_none() {
            self.planning.unwants(&ended.life.spec.ask);
        }
        if let Some(node) = ended.node.filter(|_| ended.life.goal().is_some()) {
            turn.forget.push((node, holder, ended.life.fence));
        }
        turn.followed.push((ended.clone(), held));
        turn.ended.push(ended);
    }

    /// Whatever is due by the clock.
    pub(super) fn wake(&mut self, turn: &mut Turn) {
        for holder in self.lives.due(self.now()) {
            self.happen(holder, Event::Wake, turn);
        }
    }

    /// Writes what there is so far, for something that cannot be in the same transaction.
    pub(super) async fn flush(&mut self, turn: &mut Turn) -> Result<(), Ended> {
        self.begin_successors(turn).await?;
        self.finish(std::mem::take(turn)).await
    }

    /// Writes the turn, then tells what came of it.
    pub(super) async fn finish(&mut self, mut turn: Turn) -> Result<(), Ended> {
        if !turn.is_empty() {
            self.write(&mut turn).await?;
        }
        for (_, answer) in turn.answers.drain(..) {
            answer(Ok(()));
        }
        self.speak(&turn);
        self.tell_wishes();
        Ok(())
    }

    async fn write(&mut self, turn: &mut Turn) -> Result<(), Ended> {
        let mut batch = std::mem::take(&mut turn.batch);
        let stored = |holder: &HolderId| self.lives.get(*holder).cloned();
        batch.changed = turn.ended.clone();
        let begun_before = |id: &&HolderId| !turn.begun.contains(*id);
        batch.changed.extend(turn.changed.iter().filter(begun_before).filter_map(stored));
        batch.begun = turn.begun.iter().filter_map(stored).collect();
        // A life that began and ended in one turn has its row to be written whole.
        let (born, old): (Vec<_>, Vec<_>) =
            batch.changed.into_iter().partition(|stored| turn.begun.contains(&stored.life.holder));
        batch.changed = old;
        batch.begun.extend(born);
        batch.acts = self.keep(std::mem::take(&mut turn.kept), &turn.acts);
        batch.acts.append(&mut turn.acts);
        loop {
            let begun = std::time::Instant::now();
            let outcome = ledger::commit(&self.parts.store, self.shard, &self.pool, &batch).await;
            self.parts.metrics.placement_commit_seconds.observe(begun.elapsed().as_secs_f64());
            match outcome {
                Ok(Outcome::Done(lost)) => {
                    self.settle(batch.acts, &lost, turn);
                    return Ok(());
                }
                Ok(Outcome::Stale) => {
                    self.parts.metrics.fenced_writes.inc();
                    self.parts.metrics.epoch_conflicts.inc();
                    Self::refuse(turn, &PlacerError::NotOwner);
                    return Err(Ended);
                }
                Ok(Outcome::Alive(workspaces)) => {
                    let lost = batch.begun.iter().filter(|b| workspaces.contains(&b.life.workspace));
                    let lost: Vec<HolderId> = lost.map(|begun| begun.life.holder).collect();
                    batch.begun.retain(|begun| !lost.contains(&begun.life.holder));
                    batch.acts.retain(|act| !act.placements.iter().any(|placement| lost.contains(&placement.holder)));
                    let alive = |event: &ledger::Event| !workspaces.contains(&event.workspace);
                    batch.events.retain(alive);
                    for holder in lost {
                        self.lives.remove(holder);
                        self.placements.remove(&holder);
                        turn.refuse_begun(holder);
                    }
                }
                Ok(Outcome::NoVolumes(gone)) => {
                    // As if they began a moment later: a name without a volume is what their backend refuses.
                    let acts = batch.acts.iter_mut().flat_map(|act| &mut act.lives);
                    for stored in batch.begun.iter_mut().chain(acts) {
                        let spec = Arc::new(stored.life.spec.without_volumes(|id| gone.contains(&id)));
                        if let Some(own) = self.lives.get_mut(stored.life.holder) {
                            own.life.spec = Arc::clone(&spec);
                        }
                        stored.life.spec = spec;
                    }
                }
                Ok(Outcome::Drifted) => {
                    tracing::error!(
                        pool = &*self.pool,
                        "the pool's rows are not what they should be; they are read again"
                    );
                    return self.reload(turn).await;
                }
                Err(error) => {
                    let pool = &*self.pool;
                    tracing::warn!(
                        pool,
                        error = runtime::exit::chain(&error),
                        "failed to write a pool; it is read again"
                    );
                    return self.reload(turn).await;
                }
            }
        }
    }

    /// Nobody knows whether memory is right: it is dropped. What would have been told is told from the rows, and what was heard
    /// is to be said again.
    pub(super) async fn reload(&mut self, turn: &mut Turn) -> Result<(), Ended> {
        Self::refuse(turn, &PlacerError::Unavailable);
        *turn = Turn::default();
        self.parts.metrics.reloads.inc();
        self.hear_again();
        self.load().await
    }

    fn refuse(turn: &mut Turn, error: &PlacerError) {
        for (_, answer) in turn.answers.drain(..) {
            answer(Err(error.clone()));
        }
    }

    /// Decisions that were written become so in memory; those that lost are made again.
    fn settle(&mut self, acts: Vec<Act>, lost: &[(HolderId, Lost)], turn: &mut Turn) {
        let lost: HashMap<HolderId, &Lost> = lost.iter().map(|(holder, why)| (*holder, why)).collect();
        self.parts.metrics.placement_conflicts.inc_by(lost.len() as u64);
        for act in acts {
            let is_lost = act.placements.iter().any(|placement| lost.contains_key(&placement.holder));
            for placement in act.placements {
                let holder = placement.holder;
                if let Some(why) = lost.get(&holder) {
                    self.planning.lost(holder, why);
                    if self.placements.remove(&holder).is_some() {
                        // What was kept for it went with the try, or with the life before.
                        self.planning.denominated.push(holder);
                    }
                    continue;
                }
                self.parts.metrics.placements.inc();
                self.observe(&placement);
                self.placements.insert(holder, placement);
                self.blocks.placed(holder);
            }
            for stored in act.lives.into_iter().filter(|_| !is_lost) {
                turn.ordered.insert(stored.life.holder);
                if stored.life.preemption.is_some() {
                    self.noticed.insert(stored.life.holder);
                }
                if stored.life.stage == Stage::Stopping(Reason::Preempted) {
                    self.disrupted.push(stored.life.project);
                }
                self.lives.insert(stored, &self.parts.timing.rules);
            }
        }
    }
}

impl Turn {
    /// The command that began this life learns that another life has not ended.
    fn refuse_begun(&mut self, holder: HolderId) {
        let answers = std::mem::take(&mut self.answers);
        for (begun, answer) in answers {
            if begun == Some(holder) {
                answer(Err(PlacerError::Alive));
            } else {
                self.answers.push((begun, answer));
            }
        }
    }
}
