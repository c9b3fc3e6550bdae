//! Sends waiting lines to a scheduler, batch by batch, each kept until it is durable.

use super::Lines;
use proto::internal::v1::{self as pb, executor_session_service_client::ExecutorSessionServiceClient};
use rpc::client::Dialer;
use runtime::{
    backoff::{self, Backoff},
    watchdog::Beat,
};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

/// Lines of one batch.
const BATCH_LINES_MAX: usize = 2_000;
/// Bytes of text in one batch: a message stays far below the limit of gRPC.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// How long the first line of a batch waits for others.
const GATHER: Duration = Duration::from_millis(50);
/// A batch that is not acknowledged by then goes to another stream.
const ACK_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two tries to reach a scheduler.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Sends lines until it is stopped and the queue is empty.
pub struct Shipper {
    dialer: Dialer,
    lines: Lines,
    stop: CancellationToken,
    sequence: i64,
    unsent: Option<pb::PushLogsRequest>,
}

impl Shipper {
    /// Sends what arrives on `lines`.
    #[must_use]
    pub fn new(dialer: Dialer, lines: Lines, stop: CancellationToken) -> Self {
        Self { dialer, lines, stop, sequence: 0, unsent: None }
    }

    /// Runs until the stop. A batch that was not acknowledged is sent again on the next stream, so a line may come
    /// twice but not never; only a batch that a scheduler calls malformed is given up.
    pub async fn run(mut self, beat: Beat) {
        let mut pause = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let before = self.sequence;
            let status = match self.stream(&beat).await {
                Ok(()) => return,
                Err(status) => status,
            };
            tracing::debug!(code = ?status.code(), message = status.message(), "the log stream broke");
            if status.code() == Code::InvalidArgument
                && let Some(batch) = self.unsent.take()
            {
                tracing::warn!(lines = batch.lines.len(), message = status.message(), "a scheduler refused log lines");
            }
            if self.sequence > before + 1 {
                pause.reset();
            }
            if self.stop.is_cancelled() && self.unsent.is_none() && self.lines.is_empty() {
                return;
            }
            tokio::time::sleep(pause.next(backoff::random())).await;
        }
    }

    /// One stream: one batch at a time, sent, acknowledged, forgotten. Ends well only when stopped with nothing left.
    async fn stream(&mut self, beat: &Beat) -> Result<(), Status> {
        // The first batch comes first: an executor with nothing to say holds no stream.
        if !self.fill(beat).await {
            return Ok(());
        }
        let (sender, outgoing) = mpsc::channel(1);
        let mut client = ExecutorSessionServiceClient::new(self.dialer.dial());
        let late = |_| Status::deadline_exceeded("no answer about log lines");
        let opened = tokio::time::timeout(ACK_TIMEOUT, client.push_logs(ReceiverStream::new(outgoing)));
        let mut acks = opened.await.map_err(late)??.into_inner();
        while self.fill(beat).await {
            let Some(batch) = self.unsent.clone() else { continue };
            sender.send(batch).await.map_err(|_| Status::unavailable("the log stream closed"))?;
            match tokio::time::timeout(ACK_TIMEOUT, acks.message()).await.map_err(late)?? {
                Some(_) => self.unsent = None,
                None => return Err(Status::unavailable("the log stream ended")),
            }
        }
        Ok(())
    }

    /// Has a batch ready; false when stopped with nothing left.
    async fn fill(&mut self, beat: &Beat) -> bool {
        beat.beat();
        if self.unsent.is_none() {
            let Some(lines) = beat.waiting(self.gather()).await else { return false };
            self.sequence += 1;
            self.unsent = Some(pb::PushLogsRequest { sequence: self.sequence, lines });
        }
        true
    }

    async fn gather(&mut self) -> Option<Vec<pb::LogLine>> {
        let first = tokio::select! {
            biased;
            line = self.lines.recv() => line?,
            () = self.stop.cancelled() => self.lines.try_recv()?,
        };
        let mut bytes = first.message.len();
        let mut batch = vec![first];
        let until = tokio::time::sleep(GATHER);
        tokio::pin!(until);
        while batch.len() < BATCH_LINES_MAX && bytes < BATCH_BYTES_MAX {
            tokio::select! {
                biased;
                line = self.lines.recv() => {
                    let Some(line) = line else { break };
                    bytes += line.message.len();
                    batch.push(line);
                }
                () = &mut until => break,
            }
        }
        Some(batch)
    }
}
