//! Log lines on their way to a scheduler, apart from the session.
//!
//! Lines wait in one queue that is bounded in lines and bytes; one attempt may fill only a part of it, so that a flood
//! drowns nobody else's words. An attempt that writes faster than its lines are stored is read no further until there is
//! room ([`AttemptLog::room`]), so that its own prints wait, and nobody else's. Only when nothing moves for
//! `STUCK_AFTER` is a line without room dropped and counted, and one line at the end of the attempt says how many:
//! nothing is lost silently, and no code waits for a database that is away.

pub mod mask;
pub mod shipper;
pub mod text;

pub use mask::{AllMasks, Masks};
pub use shipper::Shipper;
pub use text::LINE_BYTES_MAX;

use crate::{attempt::AttemptId, metrics::Metrics};
use proto::internal::v1 as pb;
use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

/// Lines that wait to be sent.
const LINES_MAX: usize = 50_000;
/// Bytes of text that wait to be sent.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// Of these lines, those of one attempt.
const ATTEMPT_LINES_MAX: usize = 20_000;
/// Beyond so many lines an attempt waits for room, and beyond the second number when the queue as a whole is nearly full.
const ATTEMPT_LINES_WAIT: usize = 15_000;
const ATTEMPT_LINES_BUSY: usize = 1_000;
const LINES_BUSY: usize = 40_000;
/// An attempt that waited so long for room waits no more until there is some.
const STUCK_AFTER: Duration = Duration::from_secs(5);
/// Places that only the executor's own lines may take.
const SYSTEM_LINES_MAX: usize = 5_000;

/// Takes lines from attempts.
#[derive(Debug, Clone)]
pub struct LogQueue {
    lines: mpsc::Sender<Waiting>,
    load: Arc<Load>,
    metrics: Arc<Metrics>,
    masks: Arc<AllMasks>,
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
    bytes_max: u64,
    left: AtomicU64,
    waiting: AtomicUsize,
    dropped: AtomicU64,
    /// Of these, those beyond `bytes_max`; for the others there was no room.
    beyond: AtomicU64,
    /// Waited in vain; ends when a line of it is sent.
    stuck: AtomicBool,
    moved: Notify,
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
    block_type: Arc<str>,
    share: Arc<Share>,
    masks: Arc<Masks>,
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

    /// The log of one attempt, of this workspace and of a block of this type, which may write so many bytes.
    #[must_use]
    pub fn of(&self, attempt: &AttemptId, workspace: &str, block_type: &str, bytes_max: u64) -> AttemptLog {
        let share = Share {
            bytes_max,
            left: bytes_max.into(),
            waiting: 0.into(),
            dropped: 0.into(),
            beyond: 0.into(),
            stuck: false.into(),
            moved: Notify::new(),
        };
        AttemptLog {
            queue: self.clone(),
            attempt: attempt.clone(),
            block_type: block_type.into(),
            share: Arc::new(share),
            masks: self.masks.of(workspace),
        }
    }

    /// What no line of a workspace holds.
    #[must_use]
    pub fn masks_of(&self, workspace: &str) -> Arc<Masks> {
        self.masks.of(workspace)
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
        waiting.share.stuck.store(false, Ordering::Relaxed);
        waiting.share.moved.notify_waiters();
        waiting.line
    }
}

impl AttemptLog {
    /// What none of its lines holds.
    #[must_use]
    pub fn masks(&self) -> &Arc<Masks> {
        &self.masks
    }

    /// Writes one line, or counts it as dropped. `level` and `stream` as in `orrery.v1.LogLine`.
    pub fn line(&self, level: &str, stream: &str, text: &str) {
        self.written(level, stream, text, now_us());
    }

    fn written(&self, level: &str, stream: &str, text: &str, at_us: i64) {
        // Before any work on the text: a flood costs as little as reading it.
        let size = text.len().min(LINE_BYTES_MAX) as u64 + 1;
        let within = self.share.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(size));
        let room = self.share.waiting.load(Ordering::Relaxed) < ATTEMPT_LINES_MAX && self.queue.has_room();
        if within.is_err() || !room || !self.push(level, stream, self.clean(text), at_us) {
            self.share.dropped.fetch_add(1, Ordering::Relaxed);
            self.share.beyond.fetch_add(u64::from(within.is_err()), Ordering::Relaxed);
            self.queue.metrics.log_lines_dropped.inc();
        }
    }

    /// Writes a line that another executor has taken from this attempt, with its time.
    pub fn relay(&self, line: &pb::LogLine) {
        self.written(&line.level, &line.stream, &line.message, line.at_us);
    }

    /// Returns when there is room for more lines of this attempt: at once, unless it floods. Cancel-safe.
    pub async fn room(&self) {
        self.room_within(STUCK_AFTER).await;
    }

    async fn room_within(&self, stuck_after: Duration) {
        let share = &self.share;
        let until = Instant::now() + stuck_after;
        while self.floods() && !share.stuck.load(Ordering::Relaxed) {
            let moved = share.moved.notified();
            // What was sent between the look and the wait would not be told.
            if self.floods() && tokio::time::timeout_at(until, moved).await.is_err() {
                share.stuck.store(true, Ordering::Relaxed);
            }
        }
    }

    fn floods(&self) -> bool {
        let waiting = self.share.waiting.load(Ordering::Relaxed);
        let busy = self.queue.load.lines.load(Ordering::Relaxed) > LINES_BUSY;
        // What its limit does not let in needs no room.
        let quiet = self.share.left.load(Ordering::Relaxed) == 0;
        !quiet && (waiting > ATTEMPT_LINES_WAIT || (busy && waiting > ATTEMPT_LINES_BUSY))
    }

    /// A line of the executor itself, which the attempt's limits do not hold back.
    pub fn system(&self, level: &str, text: &str) {
        if !self.push(level, "system", self.clean(text), now_us()) {
            self.queue.metrics.log_lines_dropped.inc();
        }
    }

    /// Says how many lines were dropped, and for which limit; at the end of the attempt.
    pub fn finish(&self) {
        let dropped = self.share.dropped.swap(0, Ordering::Relaxed);
        let beyond = self.share.beyond.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            self.system("WARNING", &told(dropped, beyond, self.share.bytes_max));
        }
    }

    /// Masked before it is cut, so that no part of a secret stays, and after, since what is cleaned away may split one. What
    /// is too long was cut already, by whoever read it.
    fn clean(&self, text: &str) -> String {
        let masks = &self.masks;
        let masked = if text.len() > LINE_BYTES_MAX { masks.apply_to_beginning(text) } else { masks.apply(text) };
        match masks.apply(&text::clean(&masked, text::is_too_long(text))) {
            Cow::Owned(text) => text,
            Cow::Borrowed(text) => text.to_owned(),
        }
    }

    fn push(&self, level: &str, stream: &str, message: String, at_us: i64) -> bool {
        let bytes = message.len();
        let line = pb::LogLine {
            run_id: self.attempt.run.to_vec(),
            block: self.attempt.block.clone(),
            child: self.attempt.child,
            lease: self.attempt.lease,
            at_us,
            level: level.to_owned(),
            stream: stream.to_owned(),
            message,
            block_type: self.block_type.to_string(),
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

/// What is said of lines that were dropped, `beyond` of them for the attempt's limit.
fn told(dropped: u64, beyond: u64, bytes_max: u64) -> String {
    let limit = format!("the {bytes_max} bytes that one attempt may log (the executor's setting `log_limit`)");
    let late = "they came faster than they could be stored";
    match dropped.saturating_sub(beyond) {
        0 => format!("{dropped} log lines were dropped: they are beyond {limit}"),
        _ if beyond == 0 => format!("{dropped} log lines were dropped: {late}"),
        rest => format!("{dropped} log lines were dropped: {beyond} are beyond {limit}; {rest} are not, but {late}"),
    }
}

fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::id::RunId;
    use futures_util::FutureExt;

    fn queue() -> (LogQueue, Lines) {
        LogQueue::new(Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap()))
    }

    fn attempt(block: &str) -> AttemptId {
        AttemptId { run: RunId::new_in(0), block: block.to_owned(), child: -1, lease: 1 }
    }

    #[test]
    fn beyond_its_limit_an_attempt_loses_lines_and_one_line_says_so() {
        let (queue, mut lines) = queue();
        let log = queue.of(&attempt("a"), "", "", 10);
        for _ in 0..5 {
            log.line("INFO", "stdout", "1234");
        }
        log.finish();
        let texts: Vec<_> = std::iter::from_fn(|| lines.try_recv()).map(|line| line.message).collect();
        assert_eq!(texts[..2], ["1234", "1234"]);
        let why = "3 log lines were dropped: they are beyond the 10 bytes that one attempt may log (the executor's \
                   setting `log_limit`)";
        assert_eq!(texts[2..], [why]);
    }

    #[test]
    fn lines_without_room_are_told_apart_from_those_beyond_the_limit() {
        let (queue, mut lines) = queue();
        // It may log two lines more than may wait.
        let log = queue.of(&attempt("a"), "", "", 2 * (ATTEMPT_LINES_MAX as u64 + 2));
        let flood = |count: usize| (0..count).for_each(|_| log.line("INFO", "stdout", "x"));
        let mut end = || {
            log.finish();
            std::iter::from_fn(|| lines.try_recv()).last().map(|line| line.message).unwrap_or_default()
        };
        flood(ATTEMPT_LINES_MAX + 2);
        assert_eq!(end(), "2 log lines were dropped: they came faster than they could be stored");
        assert!(!end().contains("dropped"), "it is said once");
        let both = told(5, 2, 10);
        assert!(both.starts_with("5 log lines") && both.contains(": 2 are beyond the 10 bytes"), "{both}");
        assert!(both.ends_with("; 3 are not, but they came faster than they could be stored"), "{both}");
    }

    #[test]
    fn a_flood_of_one_attempt_leaves_room_for_others() {
        let (queue, mut lines) = queue();
        let (loud, quiet) =
            (queue.of(&attempt("loud"), "", "", u64::MAX), queue.of(&attempt("quiet"), "", "", u64::MAX));
        for _ in 0..LINES_MAX {
            loud.line("INFO", "stdout", "x");
        }
        quiet.line("INFO", "stdout", "y");
        let got: Vec<_> = std::iter::from_fn(|| lines.try_recv()).collect();
        assert_eq!(got.len(), ATTEMPT_LINES_MAX + 1);
        assert_eq!(got.last().unwrap().block, "quiet");
        assert_eq!(lines.load.bytes.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_flood_waits_for_room_and_not_for_ever() {
        const STUCK: Duration = Duration::from_millis(50);
        let (queue, mut lines) = queue();
        let (loud, quiet) =
            (queue.of(&attempt("loud"), "", "", u64::MAX), queue.of(&attempt("quiet"), "", "", u64::MAX));
        for _ in 0..=ATTEMPT_LINES_WAIT {
            loud.line("INFO", "stdout", "x");
        }
        assert!(quiet.room().now_or_never().is_some(), "who does not flood does not wait");
        assert!(loud.room().now_or_never().is_none());
        tokio::join!(loud.room(), async { drop(lines.recv().await) });
        loud.line("INFO", "stdout", "x");
        loud.room_within(STUCK).await;
        assert!(loud.room().now_or_never().is_some(), "nothing moves, and the code goes on");
        drop(lines.recv().await);
        loud.line("INFO", "stdout", "x");
        assert!(loud.room().now_or_never().is_none(), "once lines move, it waits again");
    }
}
