//! The sealer: sums up log lines that are settled into chunks, so that searches can skip them. Any scheduler may do it,
//! and several at once: one row of each chunk counts. Behind or away, it costs searches time and nothing else.

use crate::engine::Chain;
use runtime::watchdog::Beat;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};
use store::{LOG_STATEMENT_TIMEOUT, Store, log_chunks};
use tokio_util::sync::CancellationToken;

/// Between two looks for settled lines.
const INTERVAL: Duration = Duration::from_secs(1);
/// Between two chunks while there are more: each takes some milliseconds of this process and of the database, and several in a row
/// would be felt by whoever wants a core just then. 80,000 lines a second at most, above what one scheduler takes in.
const BETWEEN_CHUNKS: Duration = Duration::from_millis(50);
/// An id that was given so long ago belongs to a line that is there, or to none: twice what a statement may take.
const SETTLED: Duration = LOG_STATEMENT_TIMEOUT.saturating_mul(2);

/// Seals chunks.
pub struct Sealer {
    store: Store,
    /// The last id that was given, at several times.
    given: VecDeque<(Instant, i64)>,
    settled: i64,
}

impl Sealer {
    /// A sealer that knows no settled line yet.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, given: VecDeque::new(), settled: 0 }
    }

    /// Runs until it is stopped.
    pub async fn run(mut self, stop: CancellationToken, beat: Beat) {
        let store = self.store.clone();
        let mut pause = INTERVAL;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
            pause = match beat.working(store.patiently(self.run_once())).await {
                Some(Ok(true)) => BETWEEN_CHUNKS,
                Some(Ok(false)) => INTERVAL,
                Some(Err(error)) => {
                    tracing::warn!(error = %Chain(&error), "failed to seal log lines");
                    INTERVAL
                }
                None => {
                    tracing::warn!("sealing waited for a database that does not answer; sealing anew");
                    INTERVAL
                }
            };
        }
    }

    /// Seals a chunk; false when there is none to be sealed yet.
    async fn run_once(&mut self) -> Result<bool, store::Error> {
        let last = log_chunks::last_id(&self.store).await?;
        if self.given.back().is_none_or(|(_, given)| *given != last) {
            self.given.push_back((Instant::now(), last));
        }
        while let Some((at, given)) = self.given.front().copied()
            && at.elapsed() >= SETTLED
        {
            self.settled = given;
            self.given.pop_front();
        }
        log_chunks::seal(&self.store, self.settled).await
    }
}
