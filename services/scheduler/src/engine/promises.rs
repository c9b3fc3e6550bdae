//! Promises: what may be told only when it is durable, and the flush that makes it so.
//!
//! A step that was committed may be acted upon at once: if the database forgets it in a crash, it forgets the session
//! as well, and the engine loads what is left with higher leases. But nobody outside may be told that something counts
//! before that is certain: an acknowledged result is deleted by its executor, an answered caller does not ask again.

use super::{Created, Engine, EngineError, Reply, turn::Chain};
use domain::id::ExecutorId;
use proto::internal::v1::{self as pb, session_response::Message as Down};
use std::{collections::HashMap, time::Duration};
use store::{Patience, journal::Flusher};
use tokio::{task::JoinHandle, time::Instant};

/// How long acknowledgements wait for others, so that one flush serves them all. No run waits for them.
const GATHER: Duration = Duration::from_millis(5);

/// What a creation is to be told, and who waits for it.
type Answer = (Reply<Vec<Created>>, Result<Vec<Created>, EngineError>);

/// What turns have promised since the last flush began.
#[derive(Default)]
pub(super) struct Promises {
    pub(super) acks: HashMap<ExecutorId, Vec<pb::ResultAck>>,
    pub(super) done: Vec<Reply<()>>,
    pub(super) created: Vec<Answer>,
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

    /// When they are to be flushed: at once when somebody waits for an answer.
    fn due(&self) -> Duration {
        if self.done.is_empty() && self.created.is_empty() { GATHER } else { Duration::ZERO }
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

    /// Its outcome does not matter any more.
    fn give_up(self) {
        self.outcome.abort();
        self.promises.break_all();
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
    /// Sees to it that what was promised is flushed; after the flush that is under way, if there is one.
    pub(super) fn flush_soon(&mut self) {
        if self.promises.is_empty() || self.flush.is_some() {
            return;
        }
        let due = Instant::now() + self.promises.due();
        self.flush_at = Some(self.flush_at.map_or(due, |at| at.min(due)));
    }

    /// Waits until a flush is due; for ever where none is. Cancel-safe.
    pub(super) async fn flush_due(at: Option<Instant>) {
        match at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// Starts a flush for what was promised, unless one is under way.
    pub(super) fn flush(&mut self) {
        self.flush_at = None;
        if !self.promises.is_empty() && self.flush.is_none() {
            self.begin_flush();
        }
    }

    fn begin_flush(&mut self) {
        let promises = std::mem::take(&mut self.promises);
        match &self.journal {
            Some(journal) => self.flush = Some(Flush::begin(journal.flusher(), promises)),
            // Nothing was committed since the last load: the promises rest on what is durable.
            None => self.keep(promises),
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
            Err(error) if self.flush_again().await => {
                tracing::warn!(error = %Chain(&error), "failed to flush; it is flushed on another session");
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

    /// Whether everything that was committed is durable, by the word of another session.
    async fn flush_again(&mut self) -> bool {
        let Some(journal) = &mut self.journal else { return false };
        let flushed = self.store.answered(&mut Patience::default(), Box::pin(journal.flush_again())).await;
        matches!(flushed, Some(Ok(())))
    }

    /// Keeps what was promised since the last flush began: all of it is durable.
    pub(super) fn keep_all(&mut self) {
        self.flush_at = None;
        let promises = std::mem::take(&mut self.promises);
        self.keep(promises);
    }

    /// Waits until everything that was committed is durable, and keeps what was promised, or breaks it where that failed.
    pub(super) async fn flush_now(&mut self) {
        // The one that is under way may have begun before the last commit: another one follows it on the same session.
        let earlier = self.flush.take();
        self.begin_flush();
        let later = std::mem::replace(&mut self.flush, earlier);
        if self.await_flush().await {
            self.flush = later;
            self.await_flush().await;
        } else {
            later.into_iter().for_each(Flush::give_up);
        }
    }

    async fn await_flush(&mut self) -> bool {
        if self.flush.is_none() {
            return true;
        }
        let outcome = Flush::ended(&mut self.flush).await;
        let is_durable = outcome.is_ok();
        self.flushed(outcome).await;
        is_durable
    }

    /// Gives up what was promised and what is being flushed.
    pub(super) fn break_promises(&mut self) {
        self.flush_at = None;
        std::mem::take(&mut self.promises).break_all();
        self.flush.take().into_iter().for_each(Flush::give_up);
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
