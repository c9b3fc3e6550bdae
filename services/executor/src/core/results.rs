//! Results: kept until a scheduler has confirmed them, sent in batches, said again on every new session and when no
//! confirmation comes.

use super::Core;
use crate::{attempt::AttemptId, process::outcome};
use proto::internal::v1::{self as pb, result::Outcome, session_request::Message as Up};
use std::{collections::HashSet, sync::Arc};
use tokio::time::Instant;

/// Results that no scheduler has confirmed; beyond it no assignment is taken. All of them are named in one Hello.
pub(super) const UNACKNOWLEDGED_MAX: usize = 20_000;
/// Results of one message.
const RESULTS_MAX: usize = 2_000;
/// Bytes of text in one message: far below the limit of gRPC.
const RESULTS_BYTES_MAX: usize = 512 * 1024;

impl Core {
    /// Notes a result; it is still to be sent.
    pub(super) fn result(&mut self, id: AttemptId, outcome: Outcome, duration_us: i64) -> pb::Result {
        self.metrics.attempts.with_label_values(&[outcome::name(&outcome)]).inc();
        self.journal.result(&id, outcome::name(&outcome));
        if let Some(errand) = &mut self.errand {
            errand.outcome = Some(outcome.clone());
        }
        let result = pb::Result { attempt: Some(id.to_proto()), outcome: Some(outcome), duration_us };
        self.unacknowledged.insert(id, result.clone());
        result
    }

    pub(super) fn ended(&mut self, id: AttemptId, outcome: Outcome, duration_us: i64) -> Option<pb::Result> {
        let running = self.running.remove(&id);
        self.count_running();
        if running.is_none_or(|running| running.forgotten) {
            self.journal.dropped(&id);
            self.discard(vec![id]);
            return None;
        }
        // A drain's stop is not a cancellation: the attempt goes back, and what it wrote counts nowhere.
        let outcome = match outcome {
            Outcome::Cancelled(_) if self.shutdown.is_stopped() => {
                self.discard(vec![id.clone()]);
                Outcome::Released(pb::Released {})
            }
            other => other,
        };
        Some(self.result(id, outcome, duration_us))
    }

    pub(super) fn send_results(&mut self, results: Vec<pb::Result>) {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for result in results {
            bytes += text_bytes(&result);
            batch.push(result);
            if batch.len() >= RESULTS_MAX || bytes >= RESULTS_BYTES_MAX {
                self.say(Up::Results(pb::Results { results: std::mem::take(&mut batch) }));
                bytes = 0;
            }
        }
        if !batch.is_empty() {
            self.say(Up::Results(pb::Results { results: batch }));
        }
        self.count_unacknowledged();
    }

    /// Says again what was there at the last look already. A result that reached a scheduler which was just losing or gaining
    /// its run is answered by nobody, and nobody would ask for it: an acknowledgement that does not come is all that tells.
    pub(super) fn repeat_results(&mut self) {
        if self.results_looked_at.elapsed() < self.lost_after / 2 {
            return;
        }
        self.results_looked_at = Instant::now();
        let waiting: HashSet<AttemptId> = self.unacknowledged.keys().cloned().collect();
        let before = std::mem::replace(&mut self.results_waiting, waiting);
        let overdue = before.iter().filter_map(|id| self.unacknowledged.get(id)).cloned().collect();
        self.send_results(overdue);
    }

    pub(super) fn acknowledged(&mut self, acks: Vec<pb::ResultAck>) {
        let mut refused = Vec::new();
        for ack in acks {
            let Some(attempt) = ack.attempt.and_then(AttemptId::from_proto) else { continue };
            self.journal.acknowledged(&attempt, ack.accepted);
            match (self.unacknowledged.remove(&attempt).is_some(), ack.accepted) {
                (true, false) => refused.push(attempt),
                (true, true) => self.attempts.settle(&attempt),
                (false, _) => {}
            }
        }
        self.discard(refused);
        self.count_unacknowledged();
        self.leave_when_over();
    }

    /// Removes outputs that do not count, apart from this task.
    pub(super) fn discard(&self, attempts: Vec<AttemptId>) {
        if !attempts.is_empty() {
            let runner = Arc::clone(&self.attempts);
            tokio::spawn(async move { runner.discard(&attempts).await });
        }
    }

    fn count_unacknowledged(&self) {
        self.metrics.unacknowledged.set(i64::try_from(self.unacknowledged.len()).unwrap_or(i64::MAX));
    }
}

fn text_bytes(result: &pb::Result) -> usize {
    match &result.outcome {
        Some(Outcome::Failed(failed)) => failed.message.len() + failed.traceback.len(),
        Some(Outcome::Completed(completed)) => {
            let names: usize = completed.item_names.iter().map(String::len).sum();
            names + completed.outputs.iter().map(|output| output.name.len() + output.kind.len()).sum::<usize>()
        }
        _ => 0,
    }
}
