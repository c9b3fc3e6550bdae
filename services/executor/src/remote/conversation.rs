//! What is said between an attempt that runs elsewhere and this executor, which is its scheduler: one attempt, one result,
//! over as many sessions as it takes. Refuses to know where the attempt runs.

use super::guests::{Outbox, Word};
use crate::{
    attempt::{Attempt, AttemptId},
    core::CoreEvent,
};
use proto::internal::v1::{
    self as pb, result::Outcome, session_request::Message as Up, session_response::Message as Down,
};
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

/// Between two heartbeats of a guest.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);
/// A guest that hears nothing for so long ends by itself.
pub(super) const LOST_AFTER: Duration = Duration::from_secs(30);

/// What a guest has said that concerns others.
pub(super) enum Heard {
    /// Its result, which it may forget by now.
    Ended(Outcome),
    /// For the core.
    Call(CoreEvent),
}

/// See the module's page.
pub(super) struct Conversation<'a> {
    attempt: &'a Attempt,
    /// The life of the guest that was given the attempt.
    guest: Option<Vec<u8>>,
    outbox: Option<Outbox>,
    stop: Option<Duration>,
    heard: Option<Instant>,
}

impl<'a> Conversation<'a> {
    pub(super) fn new(attempt: &'a Attempt) -> Self {
        Self { attempt, guest: None, outbox: None, stop: None, heard: None }
    }

    /// When it last said anything.
    pub(super) fn heard(&self) -> Option<Instant> {
        self.heard
    }

    /// Takes what the guest says.
    pub(super) fn hear(&mut self, word: Word) -> Option<Heard> {
        self.heard = Some(Instant::now());
        match word {
            Word::Hello(hello, outbox) => {
                // A container that was started twice must not run the attempt twice: the second one finds nothing to do.
                if self.guest.get_or_insert_with(|| hello.executor_id.clone()) == &hello.executor_id {
                    self.outbox = Some(outbox);
                    self.greet(&hello);
                }
                None
            }
            Word::Said(Up::Heartbeat(beat)) => {
                self.say(Down::HeartbeatReply(pb::HeartbeatReply { sequence: beat.sequence, cancelled: Vec::new() }));
                None
            }
            Word::Said(Up::Results(results)) => self.result(results),
            Word::Said(Up::RunnerCall(call)) => Some(Heard::Call(CoreEvent::Call {
                id: self.attempt.id.clone(),
                call_id: call.call_id,
                method: call.method,
                // The core makes a text of it again; what is no JSON was not written by our own runner.
                arguments: serde_json::from_str(&call.arguments).unwrap_or_default(),
            })),
            // That an attempt waits without a slot the core tells by itself; the rest is of interest to schedulers only.
            Word::Said(Up::Hello(_) | Up::SlotChange(_) | Up::Draining(_) | Up::Goodbye(_) | Up::Inventory(_)) => None,
        }
    }

    fn greet(&mut self, hello: &pb::Hello) {
        let millis = |time: Duration| i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
        let (heartbeat_interval_ms, lost_after_ms) = (millis(HEARTBEAT_INTERVAL), millis(LOST_AFTER));
        self.say(Down::Welcome(pb::Welcome { heartbeat_interval_ms, lost_after_ms, unknown: Vec::new() }));
        if self.stop.is_none()
            && !hello
                .running
                .iter()
                .cloned()
                .filter_map(AttemptId::from_proto)
                .any(|running| running == self.attempt.id)
        {
            self.assign();
        }
        if let Some(grace) = self.stop {
            self.say_stop(grace);
        }
    }

    fn assign(&mut self) {
        let definition = &self.attempt.definition;
        // A pipeline that came as JSON is written as JSON again.
        let pipeline = serde_json::to_string(&definition.pipeline).unwrap_or_default();
        self.say(Down::Definition(pb::Definition {
            id: self.attempt.assignment.definition_id.clone(),
            pipeline,
            bundle_digest: definition.bundle_digest.clone(),
        }));
        self.say(Down::Assignments(pb::Assignments { assignments: vec![(*self.attempt.assignment).clone()] }));
    }

    /// This executor keeps a result until a scheduler has confirmed it, so its guest need not.
    fn result(&mut self, results: pb::Results) -> Option<Heard> {
        let acks =
            results.results.iter().map(|result| pb::ResultAck { attempt: result.attempt.clone(), accepted: true });
        self.say(Down::ResultAcks(pb::ResultAcks { acks: acks.collect() }));
        results.results.into_iter().find_map(|result| result.outcome).map(Heard::Ended)
    }

    /// Asks it to end.
    pub(super) fn stop(&mut self, grace: Duration) {
        self.stop = Some(grace);
        self.say_stop(grace);
    }

    fn say_stop(&mut self, grace: Duration) {
        let grace_ms = i32::try_from(grace.as_millis()).unwrap_or(i32::MAX);
        self.say(Down::Cancel(pb::Cancel { attempts: vec![self.attempt.id.to_proto()], grace_ms }));
    }

    /// Answers a call: a frame as a Python child would get it.
    pub(super) fn reply(&mut self, frame: &Value) {
        let error = frame["error"].as_str().unwrap_or_default().to_owned();
        self.say(Down::RunnerReply(pb::RunnerReply {
            call_id: frame["id"].as_i64().unwrap_or(0),
            attempt: Some(self.attempt.id.to_proto()),
            result: if error.is_empty() { frame["result"].to_string() } else { String::new() },
            error,
        }));
    }

    /// A session that does not keep up ends; with the next one its guest asks again, and is told again.
    fn say(&mut self, message: Down) {
        let Some(outbox) = &self.outbox else { return };
        if outbox.try_send(Ok(pb::SessionResponse { message: Some(message) })).is_err() {
            self.outbox = None;
        }
    }
}
