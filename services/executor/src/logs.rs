//! Log lines on their way to a scheduler, apart from the session.
//!
//! Lines wait in one queue that is bounded in lines and bytes; one attempt may fill only a part of it, so that a flood
//! drowns nobody else's words. A line without room is dropped and counted, and one line at the end of the attempt says
//! how many: nothing is lost silently, and nothing waits for a slow database.

pub mod mask;
pub mod shipper;
pub mod text;

pub use mask::Masks;
pub use shipper::Shipper;
pub use text::LINE_BYTES_MAX;

use crate::{attempt::AttemptId, metrics::Metrics};
use proto::internal::v1 as pb;
use std::borrow::Cow;
use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};
use tokio::sync::mpsc;

/// Lines that wait to be sent.
const LINES_MAX: usize = 50_000;
/// Bytes of text that wait to be sent.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// Of these lines, those of one attempt.
const ATTEMPT_LINES_MAX: usize = 20_000;
/// Places that only the executor's own lines may take.
const SYSTEM_LINES_MAX: usize = 5_000;

/// Takes lines from attempts.
#[derive(Debug, Clone)]
pub struct LogQueue {
    lines: mpsc::Sender<Waiting>,
    load: Arc<Load>,
    metrics: Arc<Metrics>,
    masks: Arc<Masks>,
}

/// What waits.
#[derive(Debug, Default)]
struct Load {
    lines: AtomicUsize,
    bytes: AtomicUsize,
}

/// What one attempt may still write, and what it has lost.
#[derive(Debug)]
struct Share {
    left: AtomicU64,
    waiting: AtomicUsize,
    dropped: AtomicU64,
}

/// A line in the queue.
#[derive(Debug)]
struct Waiting {
    line: pb::LogLine,
    share: Arc<Share>,
}

/// The receiving end of a [`LogQueue`].
#[derive(Debug)]
pub struct Lines {
    receiver: mpsc::Receiver<Waiting>,
    load: Arc<Load>,
}

/// The lines of one attempt.
#[derive(Debug, Clone)]
pub struct AttemptLog {
    queue: LogQueue,
    attempt: AttemptId,
    share: Arc<Share>,
}

impl LogQueue {
    /// The queue and the end from which a [`Shipper`] sends.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> (Self, Lines) {
        let (lines, receiver) = mpsc::channel(LINES_MAX + SYSTEM_LINES_MAX);
        let load = Arc::<Load>::default();
        let queue = Self { lines, load: Arc::clone(&load), metrics, masks: Arc::default() };
        (queue, Lines { receiver, load })
    }

    /// The log of one attempt, which may write so many bytes.
    #[must_use]
    pub fn of(&self, attempt: &AttemptId, bytes_max: u64) -> AttemptLog {
        let share = Share { left: bytes_max.into(), waiting: 0.into(), dropped: 0.into() };
        AttemptLog { queue: self.clone(), attempt: attempt.clone(), share: Arc::new(share) }
    }

    /// What no line holds.
    #[must_use]
    pub fn masks(&self) -> &Masks {
        &self.masks
    }

    fn has_room(&self) -> bool {
        self.load.lines.load(Ordering::Relaxed) < LINES_MAX && self.load.bytes.load(Ordering::Relaxed) < BYTES_MAX
    }
}

impl Lines {
    async fn recv(&mut self) -> Option<pb::LogLine> {
        let waiting = self.receiver.recv().await?;
        Some(self.taken(waiting))
    }

    fn try_recv(&mut self) -> Option<pb::LogLine> {
        let waiting = self.receiver.try_recv().ok()?;
        Some(self.taken(waiting))
    }

    fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }

    fn taken(&self, waiting: Waiting) -> pb::LogLine {
        self.load.lines.fetch_sub(1, Ordering::Relaxed);
        self.load.bytes.fetch_sub(waiting.line.message.len(), Ordering::Relaxed);
        waiting.share.waiting.fetch_sub(1, Ordering::Relaxed);
        waiting.line
    }
}

impl AttemptLog {
    /// Writes one line, or counts it as dropped. `level` and `stream` as in `orrery.v1.LogLine`.
    pub fn line(&self, level: &str, stream: &str, text: &str) {
        // Before any work on the text: a flood costs as little as reading it.
        let size = text.len().min(LINE_BYTES_MAX) as u64 + 1;
        let within = self.share.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(size));
        let room = self.share.waiting.load(Ordering::Relaxed) < ATTEMPT_LINES_MAX && self.queue.has_room();
        if within.is_err() || !room || !self.push(level, stream, self.clean(text)) {
            self.share.dropped.fetch_add(1, Ordering::Relaxed);
            self.queue.metrics.log_lines_dropped.inc();
        }
    }

    /// A line of the executor itself, which the attempt's limits do not hold back.
    pub fn system(&self, level: &str, text: &str) {
        if !self.push(level, "system", self.clean(text)) {
            self.queue.metrics.log_lines_dropped.inc();
        }
    }

    /// Says how many lines were dropped; at the end of the attempt.
    pub fn finish(&self) {
        let dropped = self.share.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let text = format!("{dropped} log lines were dropped: more than one attempt may log, or too fast");
            self.system("WARNING", &text);
        }
    }

    /// Masked before it is cut, so that no part of a secret stays, and after, since what is cleaned away may split one.
    fn clean(&self, text: &str) -> String {
        let masks = self.queue.masks();
        match masks.apply(&text::clean(&masks.apply(text))) {
            Cow::Owned(text) => text,
            Cow::Borrowed(text) => text.to_owned(),
        }
    }

    fn push(&self, level: &str, stream: &str, message: String) -> bool {
        let bytes = message.len();
        let line = pb::LogLine {
            run_id: self.attempt.run.to_vec(),
            block: self.attempt.block.clone(),
            child: self.attempt.child,
            lease: self.attempt.lease,
            at_us: jiff::Timestamp::now().as_microsecond(),
            level: level.to_owned(),
            stream: stream.to_owned(),
            message,
        };
        // Counted before it can be taken out again.
        self.queue.load.lines.fetch_add(1, Ordering::Relaxed);
        self.queue.load.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.share.waiting.fetch_add(1, Ordering::Relaxed);
        let sent = self.queue.lines.try_send(Waiting { line, share: Arc::clone(&self.share) }).is_ok();
        if sent {
            self.queue.metrics.log_lines.inc();
        } else {
            self.queue.load.lines.fetch_sub(1, Ordering::Relaxed);
            self.queue.load.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.share.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::id::RunId;

    fn queue() -> (LogQueue, Lines) {
        LogQueue::new(Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap()))
    }

    fn attempt(block: &str) -> AttemptId {
        AttemptId { run: RunId::new_in(0), block: block.to_owned(), child: -1, lease: 1 }
    }

    #[test]
    fn beyond_its_limit_an_attempt_loses_lines_and_one_line_says_so() {
        let (queue, mut lines) = queue();
        let log = queue.of(&attempt("a"), 10);
        for _ in 0..5 {
            log.line("INFO", "stdout", "1234");
        }
        log.finish();
        let texts: Vec<_> = std::iter::from_fn(|| lines.try_recv()).map(|line| line.message).collect();
        assert_eq!(texts[..2], ["1234", "1234"]);
        assert!(texts[2].starts_with("3 log lines were dropped"), "{texts:?}");
        assert_eq!(texts.len(), 3);
    }

    #[test]
    fn a_flood_of_one_attempt_leaves_room_for_others() {
        let (queue, mut lines) = queue();
        let (loud, quiet) = (queue.of(&attempt("loud"), u64::MAX), queue.of(&attempt("quiet"), u64::MAX));
        for _ in 0..LINES_MAX {
            loud.line("INFO", "stdout", "x");
        }
        quiet.line("INFO", "stdout", "y");
        let got: Vec<_> = std::iter::from_fn(|| lines.try_recv()).collect();
        assert_eq!(got.len(), ATTEMPT_LINES_MAX + 1);
        assert_eq!(got.last().unwrap().block, "quiet");
        assert_eq!(lines.load.bytes.load(Ordering::Relaxed), 0);
    }
}
