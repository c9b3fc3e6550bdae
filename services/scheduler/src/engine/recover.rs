//! Losing and regaining the truth: what happens when a commit fails, an epoch has moved, or shards come and go.

use super::{Engine, Ownership, Turn, owned::Owned, seat::Seat, turn::Chain};
use domain::id::{ExecutorId, RunId};
use proto::internal::v1 as pb;
use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};
use store::shards::{self, Shard};

/// First and longest pause between two tries to load.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Tries to commit what loading found due, before the run is left to the next load.
const LOAD_TRIES_MAX: u32 = 3;

impl Engine {
    /// Nobody knows whether memory is right: it is dropped and loaded again. What was promised is not kept.
    pub(super) async fn fail(&mut self) {
        self.break_promises();
        self.journal = None;
        self.drop_everything();
        let store = self.store.clone();
        let mut pause = PAUSE.0;
        while !self.stop.is_cancelled() {
            if store.answered(self.retake()).await.is_some_and(|loaded| loaded.is_ok()) {
                break;
            }
            self.observer.beat();
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
        self.metrics.reloads.inc();
    }

    /// The outcome of a failed commit is unknown; with a new epoch it cannot count any more.
    async fn retake(&mut self) -> Result<(), store::Error> {
        let owned = shards::retake(&self.store, self.scheduler).await;
        let owned =
            owned.inspect_err(|error| tracing::warn!(error = %Chain(error), "failed to take the shards again"))?;
        self.load(&owned).await
    }

    /// The shards that this scheduler owns have changed: what it does not own any more is forgotten, what is new is
    /// loaded, everything else goes on.
    pub(super) async fn own(&mut self, ownership: Ownership) {
        let (gained, lost) = self.shards.changes(&ownership.shards);
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
        let store = self.store.clone();
        let mut pause = PAUSE.0;
        while !self.stop.is_cancelled() && store.answered(self.load(&gained)).await.is_none_or(|loaded| loaded.is_err())
        {
            self.observer.beat();
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
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
        self.runs.clear();
        self.ready.clear();
        self.wakes.clear();
        self.forget_limits();
        self.shards = Owned::default();
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
        let stored = store::runs::unfinished(&self.store, &ids).await?;
        self.shards.add(gained);
        let count = stored.len();
        let mut turn = Turn::default();
        let mut expected: HashSet<ExecutorId> = HashSet::new();
        self.load_backfills(&ids).await?;
        self.load_holds(&ids).await?;
        self.load_triggers(&ids, &stored).await?;
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
                Err(error) => Self::log_unloadable(id, &error),
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
                Ok(_) => return Ok(()),
                Err(error) if tries >= LOAD_TRIES_MAX => return Err(error),
                Err(_) => tokio::time::sleep(PAUSE.0).await,
            }
        }
    }
}
