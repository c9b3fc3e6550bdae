//! Promises: what may be told only when it is durable, and the flush that makes it so.
//!
//! A step that was committed may be acted upon at once: if the database forgets it in a crash, it forgets the session
//! as well, and the engine loads what is left with higher leases. But nobody outside may be told that something counts
//! before that is certain: an acknowledged result is deleted by its executor, an answered caller does not ask again.

use super::{Engine, EngineError, Reply, turn::Chain};
use domain::id::{ExecutorId, RunId};
use proto::internal::v1::{self as pb, session_response::Message as Down};
use std::collections::HashMap;
use store::journal::Flusher;
use tokio::task::JoinHandle;

/// What turns have promised since the last flush began.
#[derive(Default)]
pub(super) struct Promises {
    pub(super) acks: HashMap<ExecutorId, Vec<pb::ResultAck>>,
    pub(super) done: Vec<Reply<()>>,
    pub(super) created: Vec<(Reply<Vec<RunId>>, Result<Vec<RunId>, EngineError>)>,
}

/// A flush that is under way, for the promises that were made before it began.
pub(super) struct Flush {
    promises: Promises,
    outcome: JoinHandle<Result<(), store::Error>>,
}

impl Promises {
    pub(super) fn is_empty(&self) -> bool {
        self.acks.is_empty() && self.done.is_empty() && self.created.is_empty()
    }

    /// What cannot be kept: callers learn that nobody knows; executors send their results again.
    pub(super) fn break_all(self) {
        for reply in self.done {
            drop(reply.send(Err(EngineError::Unavailable)));
        }
        for (reply, _) in self.created {
            drop(reply.send(Err(EngineError::Unavailable)));
        }
    }
}

impl Flush {
    fn begin(flusher: Flusher, promises: Promises) -> Self {
        Self { promises, outcome: tokio::spawn(async move { flusher.flush().await }) }
    }

    /// Waits for the disk; for ever where nothing is flushed. Cancel-safe.
    pub(super) async fn ended(flush: &mut Option<Self>) -> Result<(), store::Error> {
        match flush {
            // A flush that panicked or was aborted told nothing: as if the session had ended.
            Some(flush) => (&mut flush.outcome).await.unwrap_or_else(|_| Err(store::Error::Interrupted)),
            None => std::future::pending().await,
        }
    }
}

impl Engine {
    /// Starts a flush for what was promised, unless one is under way: the next one follows it.
    pub(super) fn flush_soon(&mut self) {
        if self.promises.is_empty() || self.flush.is_some() {
            return;
        }
        // Without a journal nothing was committed since the last load: the promises rest on what is durable.
        match &self.journal {
            Some(journal) => self.flush = Some(Flush::begin(journal.flusher(), std::mem::take(&mut self.promises))),
            None => {
                let promises = std::mem::take(&mut self.promises);
                self.keep(promises);
            }
        }
    }

    /// A flush has ended: its promises are kept, and the next one begins.
    pub(super) async fn flushed(&mut self, outcome: Result<(), store::Error>) {
        let Some(flush) = self.flush.take() else { return };
        match outcome {
            Ok(()) => {
                self.keep(flush.promises);
                self.flush_soon();
            }
            Err(error) => {
                tracing::error!(error = %Chain(&error), "failed to flush; loading again");
                flush.promises.break_all();
                self.fail().await;
            }
        }
    }

    /// Waits until everything that was committed is durable, and keeps what was promised. False when that failed.
    pub(super) async fn flush_now(&mut self) -> bool {
        self.flush_soon();
        while self.flush.is_some() {
            let outcome = Flush::ended(&mut self.flush).await;
            let failed = outcome.is_err();
            self.flushed(outcome).await;
            if failed {
                return false;
            }
        }
        true
    }

    /// Gives up what was promised and what is being flushed.
    pub(super) fn break_promises(&mut self) {
        std::mem::take(&mut self.promises).break_all();
        if let Some(flush) = self.flush.take() {
            flush.outcome.abort();
            flush.promises.break_all();
        }
    }

    fn keep(&mut self, promises: Promises) {
        for reply in promises.done {
            // A caller that has gone does not need the answer.
            let _ = reply.send(Ok(()));
        }
        for (reply, answer) in promises.created {
            let _ = reply.send(answer);
        }
        for (executor, acks) in promises.acks {
            self.tell_seat(executor, Down::ResultAcks(pb::ResultAcks { acks }));
        }
    }
}
