//! What a process prints, line by line, into the log of whichever attempt it runs at the moment.

use crate::logs::{AttemptLog, LINE_BYTES_MAX};
use futures_util::FutureExt;
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, BufReader},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

/// Bytes read at once. Every attempt has two such buffers, and most print little: a larger one costs more to clear than it saves.
const BUFFER_BYTES: usize = 8 * 1024;

/// Where the lines of a process go; changes from attempt to attempt in a process that is used again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Target(Arc<Mutex<Option<AttemptLog>>>);

impl Target {
    /// Whose lines they are from here on.
    pub(crate) fn set(&self, log: Option<AttemptLog>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = log;
    }

    /// Writes a line, if there is anybody whose line it could be.
    pub(crate) fn line(&self, level: &str, stream: &str, text: &str) {
        if let Some(log) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            log.line(level, stream, text);
        }
    }

    /// Returns when there is room for more. Cancel-safe.
    pub(crate) async fn room(&self) {
        let log = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(log) = log {
            log.room().await;
        }
    }
}

/// One stream of a process.
#[derive(Debug)]
pub(crate) struct Printing {
    task: JoinHandle<()>,
    flush: mpsc::Sender<oneshot::Sender<()>>,
}

impl Printing {
    /// Reads `stream` to its end.
    pub(crate) fn start(
        stream: impl AsyncRead + Unpin + Send + 'static,
        level: &'static str,
        name: &'static str,
        target: Target,
    ) -> Self {
        let (flush, asked) = mpsc::channel(1);
        let reader = Lines { stream: BufReader::with_capacity(BUFFER_BYTES, stream), line: Vec::new(), cutting: false };
        Self { task: tokio::spawn(relay(reader, level, name, target, asked)), flush }
    }

    /// Returns when what the process has flushed by now is in the log, or after the time-out.
    pub(crate) async fn flush(&self, timeout: Duration) {
        let (done, told) = oneshot::channel();
        if self.flush.send(done).await.is_ok() {
            // At the end of the stream there is nothing left to wait for.
            let _ = tokio::time::timeout(timeout, told).await;
        }
    }

    /// Waits for the end of the stream; false when somebody still holds it open after the time-out.
    pub(crate) async fn ended(&mut self, timeout: Duration) -> bool {
        self.task.is_finished() || tokio::time::timeout(timeout, &mut self.task).await.is_ok()
    }

    /// Reads no further.
    pub(crate) fn stop(&self) {
        self.task.abort();
    }
}

async fn relay<R: AsyncRead + Unpin>(
    mut lines: Lines<BufReader<R>>,
    level: &'static str,
    name: &'static str,
    target: Target,
    mut asked: mpsc::Receiver<oneshot::Sender<()>>,
) {
    let emit = |line: &[u8]| target.line(level, name, &String::from_utf8_lossy(line));
    loop {
        tokio::select! {
            more = async {
                target.room().await;
                lines.next().await
            } => match more {
                Ok(true) => lines.take(emit),
                Ok(false) | Err(_) => break lines.take_rest(emit),
            },
            Some(done) = asked.recv() => {
                // What was flushed before is in the pipe; two looks, since readiness may be noticed between them.
                for _ in 0..2 {
                    while let Some(Ok(true)) = lines.next().now_or_never() {
                        lines.take(emit);
                    }
                    tokio::task::yield_now().await;
                }
                lines.take_rest(emit);
                let _ = done.send(());
            }
        }
    }
}

/// Lines of bounded length: of a longer one the rest is passed over.
struct Lines<R> {
    stream: R,
    line: Vec<u8>,
    cutting: bool,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    /// Reads until `line` holds a whole line; false at the end of the stream. Cancel-safe: what was read stays.
    async fn next(&mut self) -> io::Result<bool> {
        loop {
            let available = self.stream.fill_buf().await?;
            if available.is_empty() {
                return Ok(false);
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let text = &available[..end.unwrap_or(available.len())];
            if !self.cutting {
                // One byte over the limit tells the text's cleaner that there was more.
                let room = (LINE_BYTES_MAX + 1).saturating_sub(self.line.len());
                self.line.extend_from_slice(&text[..text.len().min(room)]);
                self.cutting = text.len() >= room;
            }
            let used = end.map_or(available.len(), |at| at + 1);
            self.stream.consume(used);
            if end.is_some() {
                self.cutting = false;
                return Ok(true);
            }
        }
    }

    fn take(&mut self, emit: impl FnOnce(&[u8])) {
        emit(&self.line);
        self.line.clear();
    }

    /// What is there of a line without end.
    fn take_rest(&mut self, emit: impl FnOnce(&[u8])) {
        if !self.line.is_empty() {
            self.take(emit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_read_whole_and_never_without_bound() {
        let long = "x".repeat(3 * LINE_BYTES_MAX);
        let text = format!("first\n\n{long}\nlast\nrest");
        let mut lines = Lines { stream: text.as_bytes(), line: Vec::new(), cutting: false };
        let mut got = Vec::new();
        while lines.next().await.unwrap() {
            lines.take(|line| got.push(line.len()));
        }
        lines.take_rest(|line| got.push(line.len()));
        assert_eq!(got, [5, 0, LINE_BYTES_MAX + 1, 4, 4]);
    }
}
