//! Results: kept until a scheduler has confirmed them, sent in batches, said again on every new session and when no
//! confirmation comes.

use super::Core;
use crate::{attempt::AttemptId, process::outcome};
use proto::internal::v1::{self as pb, result::Outcome, session_request::Message as Up};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use tokio::time::Instant;

/// Results that no scheduler has confirmed; beyond it no assignment is taken. All of them are named in one Hello.
pub(super) const UNACKNOWLEDGED_MAX: usize = 20_000;
/// Results of one message.
const RESULTS_MAX: usize = 2_000;
/// Bytes of text in one message: far below the limit of gRPC.
const RESULTS_BYTES_MAX: usize = 512 * 1024;

/// Results that no scheduler has confirmed.
#[derive(Default)]
pub(super) struct Unacknowledged {
    /// With when each was noted: one that follows another is not understood before that.
    results: HashMap<AttemptId, (u64, pb::Result)>,
    noted: u64,
}

impl Unacknowledged {
    fn note(&mut self, id: AttemptId, result: pb::Result) {
        self.noted += 1;
        self.results.insert(id, (self.noted, result));
    }

    fn remove(&mut self, id: &AttemptId) -> bool {
        self.results.remove(id).is_some()
    }

    pub(super) fn clear(&mut self) {
        self.results.clear();
    }

    pub(super) fn holds(&self, id: &AttemptId) -> bool {
        self.results.contains_key(id)
    }

    pub(super) fn has_completed(&self, id: &AttemptId) -> bool {
        self.results.get(id).is_some_and(|(_, result)| matches!(result.outcome, Some(Outcome::Completed(_))))
    }

    pub(super) fn len(&self) -> usize {
        self.results.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.results.is_empty()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &AttemptId> {
        self.results.keys()
    }

    /// Those that `counts`, as they were noted.
    pub(super) fn in_order(&self, counts: impl Fn(&AttemptId) -> bool) -> Vec<pb::Result> {
        let mut results: Vec<_> = self.results.iter().filter(|(id, _)| counts(id)).map(|(_, noted)| noted).collect();
        results.sort_unstable_by_key(|(at, _)| *at);
        results.into_iter().map(|(_, result)| result.clone()).collect()
    }
}

impl Core {
    /// Notes a result; it is still to be sent.
    pub(super) fn result(&mut self, id: AttemptId, outcome: Outcome, duration_us: i64) -> pb::Result {
        self.metrics.attempts.with_label_values(&[outcome::name(&outcome)]).inc();
        self.journal.result(&id, outcome::name(&outcome));
        if let Some(errand) = &mut self.errand {
            errand.outcome = Some(outcome.clone());
        }
        let result = pb::Result { attempt: Some(id.to_proto()), outcome: Some(outcome), duration_us };
        self.unacknowledged.note(id, result.clone());
        result
    }

    /// An attempt is over; its result, and that of what was behind it, is still to be sent.
    pub(super) fn ended(&mut self, id: AttemptId, outcome: Outcome, duration_us: i64, ended: &mut Vec<pb::Result>) {
        let running = self.running.remove(&id);
        if running.is_none_or(|running| running.forgotten) {
            self.count_running();
            self.give_back_behind(id.clone(), ended);
            self.journal.dropped(&id);
            self.discard(vec![id]);
            return;
        }
        // A drain's stop is not a cancellation: the attempt goes back, and what it wrote counts nowhere.
        let outcome = match outcome {
            Outcome::Cancelled(_) if self.shutdown.is_stopped() => {
                self.discard(vec![id.clone()]);
                Outcome::Released(pb::Released {})
            }
            other => other,
        };
        self.over(id, outcome, duration_us, ended);
        self.count_running();
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
        let waiting: HashSet<AttemptId> = self.unacknowledged.ids().cloned().collect();
        let before = std::mem::replace(&mut self.results_waiting, waiting);
        self.send_results(self.unacknowledged.in_order(|id| before.contains(id)));
    }

    pub(super) fn acknowledged(&mut self, acks: Vec<pb::ResultAck>) {
        let mut refused = Vec::new();
        for ack in acks {
            let Some(attempt) = ack.attempt.and_then(AttemptId::from_proto) else { continue };
            self.journal.acknowledged(&attempt, ack.accepted);
            match (self.unacknowledged.remove(&attempt), ack.accepted) {
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
