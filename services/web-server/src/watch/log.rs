//! Follows the log of a run: what is there, then what comes, until the run has ended and no more came for a while.

use super::pace::Pace;
use crate::changes::Topic;
use crate::core::Core;
use crate::fault::Fault;
use crate::services::logs;
use domain::id::RunId;
use futures_util::Stream;
use jiff::{SignedDuration, Timestamp};
use proto::v1::TailLogsResponse;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use store::log_views::{self, Filter, Line};
use tokio::time::Instant;
use tonic::Status;

/// The most lines of one message.
const LINES_MAX: usize = 500;
/// Lines get their ids before they are committed, so that a lower id may appear later than a higher one: as long as
/// this, and over as many lines, we look back.
const LATE: Duration = Duration::from_secs(2);
const LATE_LINES_MAX: usize = 500;
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
    let recent = Recent { floor: follow.after, ..Recent::default() };
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
            let lines = self.read().await?;
            if !lines.is_empty() {
                // A full batch is followed by the next one at once.
                self.began = lines.len() < LINES_MAX;
                self.over = self.began && settled;
                self.last_line_at = Instant::now();
                let lines = lines.into_iter().map(|line| logs::message(self.follow.run, line)).collect();
                return Ok(Some(TailLogsResponse { lines }));
            }
            self.began = true;
            self.over = settled || (completed_at.is_some() && self.last_line_at.elapsed() >= QUIET);
        }
    }

    async fn read(&mut self) -> Result<Vec<Line>, Fault> {
        let Follow { run, block, min_level, .. } = &self.follow;
        let filter = Filter { run: *run, block, min_level: *min_level, text: "" };
        let db = self.core.store.client().await?;
        let after = self.recent.floor(Instant::now());
        let limit = i64::try_from(LINES_MAX + LATE_LINES_MAX).unwrap_or(i64::MAX);
        let mut lines = log_views::list(&db, &filter, after, limit).await?;
        lines.retain(|line| !self.recent.contains(line.id));
        lines.truncate(LINES_MAX);
        self.recent.add(&lines, Instant::now());
        Ok(lines)
    }
}

/// The lines that were sent lately, so that a late one with a lower id is still found and none is sent twice.
#[derive(Default)]
struct Recent {
    floor: i64,
    sent: VecDeque<(Instant, i64)>,
}

impl Recent {
    /// Everything up to here was sent or will never come.
    fn floor(&mut self, now: Instant) -> i64 {
        while let Some((at, id)) = self.sent.front().copied() {
            if self.sent.len() <= LATE_LINES_MAX && now.duration_since(at) < LATE {
                break;
            }
            self.floor = self.floor.max(id);
            self.sent.pop_front();
        }
        self.floor
    }

    fn contains(&self, id: i64) -> bool {
        self.sent.iter().any(|(_, sent)| *sent == id)
    }

    fn add(&mut self, lines: &[Line], now: Instant) {
        self.sent.extend(lines.iter().map(|line| (now, line.id)));
    }
}
