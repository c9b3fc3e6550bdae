//! Follows the log of a run: what is there, then what comes, until the run has ended and no more came for a while.

use super::pace::Pace;
use super::recent::{LINES_MAX, Recent};
use crate::changes::Topic;
use crate::core::Core;
use crate::fault::Fault;
use crate::services::logs;
use domain::id::RunId;
use futures_util::Stream;
use jiff::{SignedDuration, Timestamp};
use proto::v1::TailLogsResponse;
use std::sync::Arc;
use std::time::Duration;
use store::{
    log_chunks,
    log_views::{self, Filter, Line},
};
use tokio::time::Instant;
use tonic::Status;

/// After the end of a run, its last lines may still be on their way from an executor.
const QUIET: Duration = Duration::from_secs(1);
/// Later than this after the end of a run nothing comes any more.
const SETTLED: SignedDuration = SignedDuration::from_secs(10);

/// What is followed.
pub(crate) struct Follow {
    /// The run.
    pub(crate) run: RunId,
    /// Only this block; empty means all.
    pub(crate) block: String,
    /// This level and above.
    pub(crate) min_level: i16,
    /// Lines after this one.
    pub(crate) after: i64,
}

struct Tail {
    core: Arc<Core>,
    follow: Follow,
    pace: Pace,
    recent: Recent,
    began: bool,
    over: bool,
    last_line_at: Instant,
}

/// Lines of the log, a batch at a time.
pub(crate) fn stream(
    core: Arc<Core>,
    follow: Follow,
) -> Result<impl Stream<Item = Result<TailLogsResponse, Status>>, Fault> {
    let pace = Pace::new(&core, follow.run, Topic::Log)?;
    let now = Instant::now();
    let recent = Recent::after(follow.after);
    let tail = Tail { core, follow, pace, recent, began: false, over: false, last_line_at: now };
    Ok(futures_util::stream::unfold(Some(tail), |tail| async {
        let mut tail = tail?;
        match tail.next().await {
            Ok(Some(message)) => Some((Ok(message), Some(tail))),
            Ok(None) => None,
            Err(fault) => Some((Err(fault.into()), None)),
        }
    }))
}

impl Tail {
    async fn next(&mut self) -> Result<Option<TailLogsResponse>, Fault> {
        loop {
            if self.over {
                return Ok(None);
            }
            if self.began {
                self.pace.wait().await?;
            }
            // Asked before the lines are read: what was written before the end is then among them.
            let completed_at = self.core.run(self.follow.run).await?.completed_at;
            let settled = completed_at.is_some_and(|at| Timestamp::now().duration_since(at) > SETTLED);
            if settled {
                self.recent.settle(i64::MAX);
            }
            let lines = self.read().await?;
            if !lines.is_empty() {
                // A full batch is followed by the next one at once.
                self.began = lines.len() < LINES_MAX;
                self.over = self.began && settled;
                self.last_line_at = Instant::now();
                let lines = logs::order::by_time(lines).into_iter();
                let lines = lines.map(|line| logs::message(self.follow.run, line)).collect();
                return Ok(Some(TailLogsResponse { lines }));
            }
            self.began = true;
            let is_quiet = self.last_line_at.elapsed() >= QUIET && !self.recent.holds_back();
            self.over = settled || (completed_at.is_some() && is_quiet);
        }
    }

    async fn read(&mut self) -> Result<Vec<Line>, Fault> {
        self.note_given().await?;
        let Follow { run, block, min_level, .. } = &self.follow;
        let filter = Filter { run: *run, block, min_level: *min_level, text: "" };
        let db = self.core.store.client().await?;
        let look = self.recent.look(Instant::now());
        let limit = i64::try_from(look.limit).unwrap_or(i64::MAX);
        let lines = log_views::list(&db, &filter, look.after, limit).await?;
        Ok(self.recent.choose(lines, &look))
    }

    /// Learns up to where no line appears any more: what is sealed, to begin with, and what was given a while ago.
    async fn note_given(&mut self) -> Result<(), Fault> {
        if self.recent.is_new() {
            self.recent.settle(log_chunks::sealed(&self.core.store).await?);
        }
        if self.recent.wants_given(Instant::now()) {
            let given = log_chunks::last_id(&self.core.store).await?;
            self.recent.note_given(given, Instant::now());
        }
        Ok(())
    }
}
