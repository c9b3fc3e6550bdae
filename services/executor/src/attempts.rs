//! What the core asks of whoever runs attempts, be it here as processes or elsewhere, each in a container of its own.

use crate::attempt::{Attempt, AttemptId};
use domain::id::RunId;
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::sync::{mpsc, watch};

/// What an attempt is told while it runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// Go on.
    Run,
    /// End: SIGTERM, and SIGKILL after the grace.
    Stop {
        /// Time to end by itself.
        grace: Duration,
    },
}

/// The orders and the answers for one attempt.
#[derive(Debug)]
pub struct Mail {
    /// The last order; the first one is [`Order::Run`].
    pub order: watch::Receiver<Order>,
    /// Answers to what its code asked.
    pub replies: mpsc::Receiver<Value>,
}

/// Waits for a stop; answers its grace. Cancel-safe.
pub async fn stop_asked(order: &mut watch::Receiver<Order>) -> Duration {
    match order.wait_for(|order| matches!(order, Order::Stop { .. })).await.map(|order| (*order).clone()) {
        Ok(Order::Stop { grace }) => grace,
        Ok(Order::Run) => Duration::ZERO,
        // Whoever gives orders is gone, with the process.
        Err(_) => std::future::pending().await,
    }
}

/// Runs attempts and tells the core by [`crate::core::CoreEvent`] what they ask and how they end.
#[tonic::async_trait]
pub trait Attempts: Send + Sync {
    /// As people read it in the list of executors.
    fn backend(&self) -> &'static str;

    /// At the deadline of a drain, beyond the grace of what is stopped then: for it to be gone, and for a scheduler to confirm
    /// that. What is still there after it may be run a second time while it lives.
    fn last_words(&self) -> Duration;

    /// Runs one attempt to its end and tells the core. Never fails: whatever goes wrong is an outcome.
    async fn run(self: Arc<Self>, attempt: Attempt, mail: Mail);

    /// Masks a value in every line and error of a workspace from here on; false when there is no room for it: then nobody must get it.
    fn mask(&self, workspace: &str, value: &str) -> bool;

    /// The cluster named outputs in answer to `get_variable`: what user code of `reader`, of this workspace, is told instead.
    ///
    /// # Errors
    /// When they cannot be brought to where it runs, for user code to read.
    async fn located(&self, workspace: &str, reader: &AttemptId, answer: Value) -> Result<Value, String>;

    /// The attempt counts: its outputs stay where they are.
    fn settle(&self, attempt: &AttemptId);

    /// Removes what attempts wrote that do not count. A failure is logged: what is left goes with the run.
    async fn discard(&self, attempts: &[AttemptId]);

    /// The run has ended: its process, if it has one, may go.
    async fn end_process(&self, run: RunId);

    /// No run has a process here any more.
    async fn end_processes(&self);

    /// Interpreters started and environments built, ever.
    fn counts(&self) -> (u64, u64);

    /// Prepares what the first attempt would wait for.
    async fn warm_up(&self);

    /// Keeps removing what ended attempts, or an earlier life, left running; never returns.
    async fn sweep(&self);
}

/// Of the trace of the call that started the run.
pub(crate) fn span(attempt: &Attempt) -> tracing::Span {
    let AttemptId { run, block, child, lease } = &attempt.id;
    let span = tracing::info_span!("attempt", run.id = %run, block, child, lease);
    if let Some(context) = &attempt.assignment.run {
        rpc::trace::continue_from(&span, &context.traceparent);
    }
    span
}
