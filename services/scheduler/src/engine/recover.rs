//! Losing and regaining the truth: what happens when a commit fails, an epoch has moved, or shards come and go.

use super::{Engine, EngineError, Ownership, Turn, seat::Seat, turn::Chain};
use crate::loops::keeper::LEASE_TTL;
use domain::id::{ExecutorId, RunId};
use proto::internal::v1 as pb;
use std::{
    collections::{BTreeSet, HashSet},
    time::{Duration, Instant},
};
use store::{
    Patience,
    journal::Journal,
    shards::{self, Shard},
};

/// First and longest pause between two tries to load.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Tries to commit what loading found due, before the run is left to the next load.
const LOAD_TRIES_MAX: u32 = 3;

impl Engine {
    /// Nobody knows whether memory is right: it is dropped and loaded again. What was promised is not kept.
    pub(super) async fn fail(&mut self) {
        self.break_promises();
        self.put_off_all();
        self.drop_everything();
        self.stride.shorten();
        let store = self.store.clone();
        let (mut pause, mut patience, mut at_once) = (PAUSE.0, Patience::default(), usize::MAX);
        while !self.stop.is_cancelled() {
            // Both on the heap, here and below: they are large, and everybody on the way to them would keep room for them.
            if let Some(Ok(owned)) = store.answered(&mut patience, Box::pin(self.retake())).await
                && self.load_until_done(&owned, &mut at_once, &mut patience).await
            {
                break;
            }
            // What was loaded by half is not counted twice, and the journal may be what broke.
            self.drop_everything();
            self.observer.beat();
            self.tell_lag(None);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
        self.metrics.reloads.inc();
    }

    /// Whether what was committed last may never be durable, and nothing further can be written.
    pub(super) fn has_lost_journal(&self) -> bool {
        self.journal.as_ref().is_some_and(Journal::is_lost)
    }

    /// The outcome of a failed commit is unknown; with a new epoch it cannot count any more.
    async fn retake(&mut self) -> Result<Vec<Shard>, store::Error> {
        let retaken =
            async { tokio::try_join!(shards::retake(&self.store, self.scheduler), Journal::open(&self.store)) };
        let (owned, journal) = retaken
            .await
            .inspect_err(|error| tracing::warn!(error = %Chain(error), "failed to take the shards again"))?;
        self.journal = Some(journal);
        Ok(owned)
    }

    /// The shards that this scheduler owns have changed: what it does not own any more is forgotten, what is new is
    /// loaded, everything else goes on.
    pub(super) async fn own(&mut self, ownership: Ownership) {
        let (gained, lost) = self.shards.changes(&ownership.shards, Instant::now());
        self.lose_shards(&lost);
        if let Some(done) = ownership.done {
            // Whoever waited may be gone.
            let _ = done.send(());
        }
        if gained.is_empty() {
            if !lost.is_empty() {
                self.announce();
            }
            return;
        }
        let (mut at_once, mut patience) = (usize::MAX, Patience::default());
        if !self.load_until_done(&gained, &mut at_once, &mut patience).await {
            self.fail().await;
        }
    }

    /// Loads these, what is only read again and again, until that works: where connections break, half as many `at_once` after each
    /// try in vain, since a short load comes through where a long one never would. False once the journal is lost, with which all is
    /// loaded again; or when nothing was loaded for the time of a lease, in which others may have taken them.
    async fn load_until_done(&mut self, gained: &[Shard], at_once: &mut usize, patience: &mut Patience) -> bool {
        let (store, mut loaded_at, mut pause) = (self.store.clone(), Instant::now(), PAUSE.0);
        let mut left = gained;
        while !self.stop.is_cancelled() {
            let (next, later) = left.split_at(left.len().min(*at_once));
            if matches!(store.answered(patience, Box::pin(self.load(next))).await, Some(Ok(()))) {
                if later.is_empty() {
                    return true;
                }
                (left, loaded_at, pause) = (later, Instant::now(), PAUSE.0);
                self.observer.beat();
                continue;
            }
            *at_once = next.len().div_ceil(2).max(1);
            if self.has_lost_journal() || loaded_at.elapsed() >= LEASE_TTL {
                return false;
            }
            // What was loaded by half is not counted twice.
            self.lose_shards(&next.iter().filter_map(|shard| u8::try_from(shard.id).ok()).collect());
            self.observer.beat();
            self.tell_lag(self.triggers.next());
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
        true
    }

    /// Forgets everything of these shards. Attempts of theirs run on; their next owner asks for them.
    pub(super) fn lose_shards(&mut self, lost: &BTreeSet<u8>) {
        if lost.is_empty() {
            return;
        }
        self.shards.remove(lost);
        let is_lost = |run: RunId| lost.contains(&run.shard());
        self.runs.retain(|run, _| !is_lost(*run));
        self.ready.retain(|run| !is_lost(*run));
        self.wakes.retain(|(_, run)| !is_lost(*run));
        self.forget_limits_of(lost);
        for (executor, seat) in &mut self.seats {
            let count = seat.give_up(|attempt| is_lost(attempt.run), self.timing.lost_after);
            if !seat.is_local() {
                seat.give_back(*executor, count);
            }
        }
        self.metrics.shards_owned.set(i64::try_from(self.shards.len()).unwrap_or(i64::MAX));
        tracing::info!(lost = lost.len(), shards = self.shards.len(), "let shards go");
    }

    fn drop_everything(&mut self) {
        self.journal = None;
        self.runs.clear();
        self.ready.clear();
        self.wakes.clear();
        self.forget_limits();
        self.shards.clear(Instant::now());
        for seat in self.seats.values_mut() {
            seat.forget_all();
        }
    }

    /// Executors come again, to this scheduler or another, with what they have. Those behind a gateway stay there.
    pub(super) fn reconnect_everybody(&mut self) {
        for (_, mut seat) in self.seats.drain().filter(|(_, seat)| seat.is_local()) {
            seat.send(pb::session_response::Message::Reconnect(pb::Reconnect {}));
        }
    }

    /// Tells everybody what is owned here.
    fn announce(&self) {
        self.peers.own(&self.shards.iter().collect::<Vec<_>>());
    }

    async fn load(&mut self, gained: &[Shard]) -> Result<(), store::Error> {
        let ids: Vec<i16> = gained.iter().map(|shard| shard.id).collect();
        self.reading.gain(&ids);
        let client = self.store.client().await?;
        // What none of the others waits for is asked at once; what follows from the answers, at once again.
        let (stored, backfills, holds, heard) = tokio::try_join!(
            biased;
            store::runs::unfinished(&client, &ids),
            store::backfills::unfinished(&client, &ids),
            store::permits::of_shards(&client, &ids),
            self.hear_triggers(&client, Some(false)),
        )?;
        self.shards.add(gained);
        let count = stored.len();
        let mut turn = Turn::default();
        let mut expected: HashSet<ExecutorId> = HashSet::new();
        self.gain_triggers(&stored);
        let unread = self.unread_triggers(heard);
        let versions = stored.iter().map(|run| (run.pipeline_id, run.pipeline_version)).collect();
        let workspaces = stored.iter().map(|run| run.workspace_id).chain(holds.iter().map(|(of, ..)| *of)).collect();
        let learning = self.learn(&client, versions, workspaces, None);
        let ((), rest) = tokio::try_join!(biased; learning, Self::rest_of_triggers(&client, &unread))?;
        drop(client);
        self.found_backfills(backfills);
        self.found_holds(holds);
        self.arm_triggers(unread, rest);
        for run in stored {
            let id = run.id;
            match self.revive(run).await {
                Ok(mut live) => {
                    expected.extend(live.run.running_units().map(|(_, _, on)| on).chain(live.run.home()));
                    let due = live.take_due();
                    self.runs.insert(id, live);
                    self.restore_limits(id);
                    self.record(id, &due, &mut turn);
                }
                // The others go on without it. Anything else may be over in a moment, and no run is left out for that.
                Err(error @ (EngineError::Definition(_) | EngineError::NoPipeline(_))) => {
                    Self::log_unloadable(id, &error);
                }
                Err(error) => {
                    tracing::warn!(run.id = %id, error = %Chain(&error), "failed to load a run; all are loaded again");
                    return Err(store::Error::Interrupted);
                }
            }
        }
        self.metrics.shards_owned.set(i64::try_from(self.shards.len()).unwrap_or(i64::MAX));
        tracing::info!(gained = gained.len(), shards = self.shards.len(), runs = count, "loaded what was gained");
        // Where results go from now on is said before the question what there is.
        self.announce();
        for executor in expected {
            self.seats.entry(executor).or_insert_with(Seat::expected);
        }
        self.make_room(&mut turn);
        self.start_waiting(&mut turn);
        for seat in self.seats.values_mut() {
            seat.ask_inventory();
        }
        self.commit_due(turn).await
    }

    async fn commit_due(&mut self, mut turn: Turn) -> Result<(), store::Error> {
        if turn.batch.is_empty() {
            return Ok(());
        }
        let mut tries = 0;
        loop {
            tries += 1;
            match self.write(&mut turn.batch).await {
                Ok(committed) => {
                    self.overtaken(&committed.overtaken);
                    return Ok(());
                }
                Err(error) if tries >= LOAD_TRIES_MAX => return Err(error),
                Err(_) => tokio::time::sleep(PAUSE.0).await,
            }
        }
    }
}
