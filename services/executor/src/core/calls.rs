//! What user code asks of the cluster, and the slot that it gives back while it waits for a run.

use super::{Core, Running};
use crate::{attempt::AttemptId, process::GET_VARIABLE};
use proto::internal::v1::{self as pb, session_request::Message as Up};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::time::Instant;

/// Replies that one attempt has not read.
pub(super) const REPLIES_MAX: usize = 64;
/// Calls of one attempt under way.
const CALLS_MAX: usize = 64;
/// Bytes of a call's arguments: they travel in one message.
const ARGUMENTS_BYTES_MAX: usize = 1024 * 1024;
/// The call whose answer is secret.
const GET_SECRET: &str = "get_secret";
/// The call during which an attempt holds no slot; it is answered when the attempt has the permits of its limits again.
pub(crate) const WAIT: &str = "wait_run";

/// A call without an answer.
#[derive(Clone)]
pub(super) struct Call {
    method: String,
    arguments: Value,
    since: Instant,
}

impl Call {
    /// What it asks now: a wait that is asked for again has what is left of its time.
    fn arguments(&self) -> String {
        let Some(timeout_s) = self.arguments["timeout_s"].as_f64().filter(|_| self.method == WAIT) else {
            return self.arguments.to_string();
        };
        let mut arguments = self.arguments.clone();
        arguments["timeout_s"] = json!((timeout_s - self.since.elapsed().as_secs_f64()).max(0.0));
        arguments.to_string()
    }
}

impl Running {
    fn waits(&self) -> bool {
        self.parked || self.calls.values().any(|call| call.method == WAIT)
    }
}

impl Core {
    pub(super) fn call(&mut self, id: &AttemptId, call_id: i64, method: String, arguments: Value) {
        let Some(running) = self.running.get_mut(id) else { return };
        if arguments.to_string().len() > ARGUMENTS_BYTES_MAX || running.calls.len() >= CALLS_MAX {
            let error = format!("{method}: more than {ARGUMENTS_BYTES_MAX} bytes, or {CALLS_MAX} calls at once");
            // An attempt that does not read its replies waits for ever by its own doing, until its time-out.
            let _ = running.replies.try_send(json!({ "type": "reply", "id": call_id, "error": error }));
            return;
        }
        let call = Call { method, arguments, since: Instant::now() };
        running.calls.insert(call_id, call.clone());
        self.ask(id, call_id, call);
    }

    /// It waits for something of its own, or does so no more: what it asks next says that it goes on.
    pub(super) fn park(&mut self, id: &AttemptId, parked: bool) {
        let Some(running) = self.running.get_mut(id) else { return };
        running.parked = parked;
        if parked && !running.forgotten {
            self.say(Up::SlotChange(pb::SlotChange { attempt: Some(id.to_proto()), holds_slot: false }));
        }
    }

    fn ask(&mut self, id: &AttemptId, call_id: i64, call: Call) {
        if call.method == WAIT {
            self.say(Up::SlotChange(pb::SlotChange { attempt: Some(id.to_proto()), holds_slot: false }));
        }
        let (arguments, method) = (call.arguments(), call.method);
        self.say(Up::RunnerCall(pb::RunnerCall { call_id, attempt: Some(id.to_proto()), method, arguments }));
    }

    /// A new owner counts every attempt as running, until it hears which ones wait. The answer that ends such a wait may
    /// be on its way, on the word of the former owner: it does not count any more, see `reply`.
    pub(super) fn tell_who_waits(&mut self) {
        let mut waiting = Vec::new();
        for (id, running) in self.running.iter_mut().filter(|(_, running)| !running.forgotten) {
            if running.waits() {
                running.recounted = true;
                waiting.push(id.to_proto());
            }
        }
        for attempt in waiting {
            self.say(Up::SlotChange(pb::SlotChange { attempt: Some(attempt), holds_slot: false }));
        }
    }

    /// A session took its calls with it: the next one hears them again.
    pub(super) fn ask_again(&mut self) {
        let parked = self.running.iter().filter(|(_, running)| running.parked && !running.forgotten);
        for attempt in parked.map(|(id, _)| id.to_proto()).collect::<Vec<_>>() {
            self.say(Up::SlotChange(pb::SlotChange { attempt: Some(attempt), holds_slot: false }));
        }
        let calls: Vec<_> = self
            .running
            .iter()
            .filter(|(_, running)| !running.forgotten)
            .flat_map(|(id, running)| running.calls.iter().map(|(n, call)| (id.clone(), *n, call.clone())))
            .collect();
        for (id, call_id, call) in calls {
            self.ask(&id, call_id, call);
        }
    }

    pub(super) fn reply(&mut self, reply: pb::RunnerReply) {
        let Some(id) = reply.attempt.clone().and_then(AttemptId::from_proto) else { return };
        let Some(running) = self.running.get_mut(&id) else { return };
        // An answer to a question that was asked twice comes twice.
        let Some(call) = running.calls.remove(&reply.call_id) else { return };
        let call_id = reply.call_id;
        if call.method == WAIT && std::mem::take(&mut running.recounted) {
            running.calls.insert(call_id, call.clone());
            return self.ask(&id, call_id, call);
        }
        let method = call.method;
        if !reply.error.is_empty() {
            let _ = running.replies.try_send(json!({ "type": "reply", "id": call_id, "error": reply.error }));
        } else {
            let result: Value = serde_json::from_str(&reply.result).unwrap_or_default();
            if method == GET_VARIABLE {
                // The cluster names an attempt; its outputs are brought here, apart from this task.
                let (runner, replies) = (Arc::clone(&self.attempts), running.replies.clone());
                let workspace = Arc::clone(&running.workspace);
                tokio::spawn(async move {
                    let answer = match runner.located(&workspace, &id, result).await {
                        Ok(result) => json!({ "type": "reply", "id": call_id, "result": result }),
                        Err(error) => json!({ "type": "reply", "id": call_id, "error": error }),
                    };
                    let _ = replies.try_send(answer);
                });
                return;
            }
            // Nobody gets a secret that would not be masked in what they write.
            let answer = match (method.as_str(), result["value"].as_str()) {
                (GET_SECRET, Some(value)) if !self.attempts.mask(&running.workspace, value) => {
                    let error = "this executor was given too many secrets of this workspace; it must be started again";
                    json!({ "type": "reply", "id": call_id, "error": error })
                }
                _ => json!({ "type": "reply", "id": call_id, "result": result }),
            };
            let _ = running.replies.try_send(answer);
        }
        if method == WAIT && !running.waits() {
            self.say(Up::SlotChange(pb::SlotChange { attempt: Some(id.to_proto()), holds_slot: true }));
        }
    }
}
