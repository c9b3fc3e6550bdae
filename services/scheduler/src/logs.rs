//! Log lines on their way to the database. Apart from the engine, with a thread and connections of their own: a flood of
//! lines never delays a decision.
//!
//! Batches of all executors go into one bounded queue; the writer takes what is there and stores it as one COPY, so that a
//! batch costs the less the more come. There is one, so that a flood keeps one core of the database busy and not two. A
//! batch is acknowledged when it is stored. While the queue is full, streams are not read, executors keep their lines, and
//! the attempts that write most are the ones that wait.

use crate::{changes::Changes, engine::Chain, metrics::Metrics};
use domain::id::RunId;
use jiff::{SignedDuration, Timestamp};
use proto::internal::v1 as pb;
use runtime::watchdog::Beat;
use std::{collections::HashSet, sync::Arc};
use store::{Store, logs::NewLine};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};
use uuid::Uuid;

/// Bytes of one line; the rest is cut by executors, and here for those that do not.
const MESSAGE_MAX: usize = 64 * 1024;
/// Ends a line that was cut, as executors end it.
const CUT: &str = " … (cut)";
/// Batches that wait for a writer.
const QUEUE_MAX: usize = 64;
/// Batches that are stored as one.
const MERGED_MAX: usize = 16;
/// A writer's clock may be ahead by so much; what is later is taken for now.
const AHEAD_MAX: SignedDuration = SignedDuration::from_mins(5);
/// An executor may have kept lines for so long; what is older is taken for now.
const BEHIND_MAX: SignedDuration = SignedDuration::from_hours(24);

/// Takes lines to be stored.
#[derive(Clone)]
pub struct LogSink {
    queue: mpsc::Sender<Batch>,
}

/// What came in one message.
struct Batch {
    lines: Vec<NewLine>,
    stored: oneshot::Sender<Result<(), String>>,
}

impl LogSink {
    /// Starts the writer on that runtime; it ends when the last copy of the sink is gone.
    #[must_use]
    pub fn start(on: &Handle, store: Store, changes: Changes, metrics: Arc<Metrics>, beat: Beat) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        on.spawn(Writer { waiting, store, changes, metrics }.run(beat));
        Self { queue }
    }

    /// Stores a batch; lines with a malformed run id are dropped. Returns once it is stored.
    ///
    /// # Errors
    /// When the database does not answer, with the reason: the executor keeps the lines and sends them again.
    pub async fn store(&self, lines: Vec<pb::LogLine>) -> Result<(), String> {
        let now = Timestamp::now();
        let lines: Vec<NewLine> = lines.into_iter().filter_map(|line| new_line(line, now)).collect();
        if lines.is_empty() {
            return Ok(());
        }
        let (stored, answer) = oneshot::channel();
        let gone = || "this scheduler is stopping".to_owned();
        self.queue.send(Batch { lines, stored }).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

struct Writer {
    waiting: mpsc::Receiver<Batch>,
    store: Store,
    changes: Changes,
    metrics: Arc<Metrics>,
}

impl Writer {
    async fn run(mut self, beat: Beat) {
        let mut batches = Vec::with_capacity(MERGED_MAX);
        while beat.waiting(self.waiting.recv_many(&mut batches, MERGED_MAX)).await > 0 {
            let stored = self.store.patiently(self.store(std::mem::take(&mut batches)));
            if beat.working(stored).await.is_none() {
                // Their streams end with them, and executors send them again.
                tracing::warn!("log lines waited for a database that does not answer; executors keep them");
            }
        }
    }

    async fn store(&self, mut batches: Vec<Batch>) {
        let all: Vec<NewLine> = batches.iter_mut().flat_map(|batch| std::mem::take(&mut batch.lines)).collect();
        let outcome = store::logs::insert(&self.store, &all).await;
        if let Err(error) = &outcome {
            tracing::warn!(error = %Chain(error), lines = all.len(), "failed to store log lines; executors keep them");
        } else {
            self.metrics.log_lines.inc_by(all.len() as u64);
            let runs: HashSet<RunId> = all.iter().map(|line| RunId(line.run_id)).collect();
            self.changes.logged(runs.into_iter().collect());
        }
        let outcome = outcome.map_err(|error| error.to_string());
        for batch in batches {
            // A stream that broke meanwhile sends its lines again.
            let _ = batch.stored.send(outcome.clone());
        }
    }
}

fn new_line(line: pb::LogLine, now: Timestamp) -> Option<NewLine> {
    let written = Timestamp::from_microsecond(line.at_us).unwrap_or(now);
    let off = written.duration_since(now);
    Some(NewLine {
        run_id: Uuid::from_slice(&line.run_id).ok()?,
        at: if off > AHEAD_MAX || off < -BEHIND_MAX { now } else { written },
        block: printable(line.block),
        child: line.child,
        lease: line.lease,
        level: level(&line.level),
        stream: printable(line.stream),
        message: printable(line.message),
        block_type: printable(line.block_type),
    })
}

fn level(name: &str) -> i16 {
    match name {
        "DEBUG" => 10,
        "WARNING" => 30,
        "ERROR" => 40,
        "CRITICAL" => 50,
        _ => 20,
    }
}

/// Postgres stores no NUL in text.
fn printable(mut message: String) -> String {
    if message.len() > MESSAGE_MAX {
        let end = message.floor_char_boundary(MESSAGE_MAX - CUT.len());
        message.truncate(end);
        message.push_str(CUT);
    }
    if message.contains('\0') { message.replace('\0', "") } else { message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_far_off_decides_no_day() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let at = |seconds: i64| {
            let line = pb::LogLine {
                run_id: Uuid::nil().as_bytes().to_vec(),
                at_us: (1_800_000_000 + seconds) * 1_000_000,
                message: "a\0b".into(),
                ..Default::default()
            };
            new_line(line, now).unwrap()
        };
        assert_eq!(at(-3600).at.duration_since(now).as_secs(), -3600);
        assert_eq!((at(3600).at, at(-200_000).at), (now, now));
        assert_eq!(at(0).message, "ab");
        assert!(new_line(pb::LogLine::default(), now).is_none());
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters_with_a_mark() {
        let fits = "x".repeat(MESSAGE_MAX);
        assert_eq!(printable(fits.clone()), fits);
        for long in [format!("{fits}{CUT}"), "€".repeat(MESSAGE_MAX)] {
            let cut = printable(long);
            assert!(cut.ends_with(CUT) && cut.len() <= MESSAGE_MAX && cut.len() > MESSAGE_MAX - 4, "{}", cut.len());
            assert_eq!(cut.matches(CUT).count(), 1);
        }
    }
}
