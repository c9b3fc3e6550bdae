//! The recorder: takes ends of runs out of the queue that their commits filled, counts each once, and notes who is to be
//! told, all in one transaction. Also notes runs that are late. Any scheduler may do it, several at once: each end is
//! taken by one. Behind, it delays statistics and messages and nothing else.

use crate::{
    engine::Chain,
    notes::{self, Versions},
};
use domain::id::RunId;
use runtime::watchdog::Beat;
use std::time::{Duration, Instant};
use store::{
    Store,
    notifications::{self, Configured},
    outbox,
    run_ends::{self, Ended, Version},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Between two looks when nothing is left.
const INTERVAL: Duration = Duration::from_secs(1);
/// Batches of up to 500 ends that one transaction records.
const BATCHES_MAX: i64 = 16;
/// Late runs of one transaction.
const LATE_MAX: i64 = 500;
/// Between two looks for runs that are late.
const LATE_INTERVAL: Duration = Duration::from_secs(5);
/// A run that became late longer ago was noted then; if nobody looked, it is at its end.
const LATELY_S: f64 = 600.0;

/// Records ends of runs.
pub struct Recorder {
    store: Store,
    public_url: Option<String>,
    versions: Versions,
    looked: Option<Instant>,
}

impl Recorder {
    /// Links in messages begin with `public_url`.
    #[must_use]
    pub fn new(store: Store, public_url: Option<String>) -> Self {
        Self { store, public_url, versions: Versions::default(), looked: None }
    }

    /// Runs until it is stopped.
    pub async fn run(mut self, stop: CancellationToken, beat: Beat) {
        let store = self.store.clone();
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = interval.tick() => {}
            }
            match beat.working(store.patiently(self.run_once())).await {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    tracing::warn!(error = %Chain(&error), "failed to record ends of runs; they stay in their queue");
                }
                None => tracing::warn!("ends of runs waited for a database that does not answer; recording anew"),
            }
        }
    }

    /// Records everything that has ended by now.
    ///
    /// # Errors
    /// When the database does not answer; what was not committed stays in the queue.
    pub async fn run_once(&mut self) -> Result<(), store::Error> {
        while self.take().await? {}
        if self.looked.is_none_or(|at| at.elapsed() >= LATE_INTERVAL) {
            self.note_late().await?;
            self.looked = Some(Instant::now());
        }
        Ok(())
    }

    /// Answers whether there may be more.
    async fn take(&mut self) -> Result<bool, store::Error> {
        let mut client = self.store.client().await?;
        let transaction = client.transaction().await?;
        let Some(taken) = run_ends::take(&transaction, BATCHES_MAX).await? else { return Ok(false) };
        let of = run_ends::count(&transaction, &taken.ends).await?;
        let configured = self.configured(&transaction, &of).await?;
        let listened = self.versions.listened(&of, &configured);
        let ends = run_ends::describe(&transaction, &taken.ends, &listened).await?;
        self.note(&transaction, &ends, &configured).await?;
        // Also where all of these runs are forgotten: what comes after them is taken next.
        transaction.commit().await?;
        Ok(taken.more)
    }

    async fn note_late(&mut self) -> Result<(), store::Error> {
        let mut after = RunId(Uuid::nil());
        loop {
            let mut client = self.store.client().await?;
            let transaction = client.transaction().await?;
            let late = run_ends::late(&transaction, LATELY_S, after, LATE_MAX).await?;
            let Some(last) = late.last() else { return Ok(()) };
            after = last.run;
            let of: Vec<Version> = late.iter().map(|run| run.of.clone()).collect();
            let configured = self.configured(&transaction, &of).await?;
            self.note(&transaction, &late, &configured).await?;
            transaction.commit().await?;
        }
    }

    /// Who wants to be told, by the API; and learns what these versions' own files say.
    async fn configured(
        &mut self,
        db: &store::Transaction<'_>,
        of: &[Version],
    ) -> Result<Vec<Configured>, store::Error> {
        self.versions.learn(db, of).await?;
        let mut workspaces: Vec<Uuid> = of.iter().map(|of| of.workspace_id.0).collect();
        workspaces.sort_unstable();
        workspaces.dedup();
        notifications::configured(db, &workspaces).await
    }

    async fn note(
        &self,
        db: &store::Transaction<'_>,
        ends: &[Ended],
        configured: &[Configured],
    ) -> Result<(), store::Error> {
        if ends.is_empty() {
            return Ok(());
        }
        let failures = run_ends::failures(db, ends).await?;
        let notes = notes::notes(ends, &self.versions, configured, &failures, self.public_url.as_deref());
        outbox::note(db, &notes).await
    }
}
