//! Losing and regaining the truth: what happens when a commit fails, an epoch has moved, or shards are taken.

use super::{Engine, Turn, seat::Seat, turn::Chain};
use domain::id::ExecutorId;
use proto::internal::v1 as pb;
use std::{collections::HashSet, time::Duration};
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
        let mut pause = PAUSE.0;
        while !self.stop.is_cancelled() {
            // The outcome of the failed commit is unknown; with a new epoch it cannot count any more.
            match shards::retake(&self.store, self.scheduler).await {
                Ok(owned) => {
                    if self.load(owned).await.is_ok() {
                        break;
                    }
                }
                Err(error) => tracing::warn!(error = %Chain(&error), "failed to take the shards again"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
        self.metrics.reloads.inc();
    }

    /// The shards that this scheduler owns have changed.
    pub(super) async fn own(&mut self, owned: Vec<Shard>) {
        if owned.iter().all(|shard| self.shards.has(*shard)) && owned.len() == self.shards.len() {
            return;
        }
        if !self.flush_now().await {
            // Loading has followed, with what is owned now.
            return;
        }
        self.drop_everything();
        let mut pause = PAUSE.0;
        while !self.stop.is_cancelled() && self.load(owned.clone()).await.is_err() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    fn drop_everything(&mut self) {
        self.runs.clear();
        self.ready.clear();
        self.wakes.clear();
        self.shards.clear();
        self.reconnect_everybody();
    }

    /// Executors come again, to this scheduler or another, with what they have.
    pub(super) fn reconnect_everybody(&mut self) {
        for (_, mut seat) in self.seats.drain() {
            seat.send(pb::session_response::Message::Reconnect(pb::Reconnect {}));
        }
    }

    async fn load(&mut self, owned: Vec<Shard>) -> Result<(), store::Error> {
        let ids: Vec<i16> = owned.iter().map(|shard| shard.id).collect();
        self.runs.clear();
        let stored = store::runs::unfinished(&self.store, &ids).await?;
        self.shards = owned.into_iter().collect();
        let count = stored.len();
        let mut turn = Turn::default();
        for run in stored {
            let id = run.id;
            match self.revive(run).await {
                Ok(mut live) => {
                    let due = live.take_due();
                    self.runs.insert(id, live);
                    self.record(id, &due, &mut turn);
                }
                Err(error) => Self::log_unloadable(id, &error),
            }
        }
        let expected: HashSet<ExecutorId> = self
            .runs
            .values()
            .flat_map(|live| live.run.running_units().map(|(_, _, on)| on).chain(live.run.home()))
            .collect();
        for executor in expected {
            self.seats.entry(executor).or_insert_with(Seat::expected);
        }
        self.metrics.shards_owned.set(i64::try_from(self.shards.len()).unwrap_or(i64::MAX));
        if count > 0 || !self.shards.is_empty() {
            tracing::info!(shards = self.shards.len(), runs = count, "loaded what is owned");
        }
        self.commit_due(turn).await
    }

    async fn commit_due(&mut self, turn: Turn) -> Result<(), store::Error> {
        if turn.batch.is_empty() {
            return Ok(());
        }
        let mut tries = 0;
        loop {
            tries += 1;
            match self.write(&turn.batch).await {
                Ok(_) => return Ok(()),
                Err(error) if tries >= LOAD_TRIES_MAX => return Err(error),
                Err(_) => tokio::time::sleep(PAUSE.0).await,
            }
        }
    }
}
