//! What a scheduler says, and what the core does about it.

use super::{Core, LAST_GRACE, every, results::UNACKNOWLEDGED_MAX};
use crate::attempt::{Attempt, AttemptId, Definition, failed};
use domain::id::RunId;
use proto::internal::v1::{self as pb, session_response::Message as Down};
use std::{sync::Arc, time::Duration};

/// The shortest interval that a scheduler may ask for.
const INTERVAL_MIN: Duration = Duration::from_millis(50);

impl Core {
    pub(super) fn on_message(&mut self, message: Down) {
        match message {
            Down::Welcome(welcome) => self.welcome(&welcome),
            Down::HeartbeatReply(reply) => self.cancel(&reply.cancelled, LAST_GRACE),
            Down::Definition(definition) => self.learn(definition),
            Down::Assignments(assignments) => self.assign(assignments.assignments),
            Down::Cancel(cancel) => {
                let grace = Duration::from_millis(u64::try_from(cancel.grace_ms).unwrap_or(0));
                self.cancel(&cancel.attempts, grace);
            }
            Down::ResultAcks(acks) => self.acknowledged(acks.acks),
            Down::RunnerReply(reply) => self.reply(reply),
            // The link has closed this session and opens the next.
            Down::Reconnect(_) => {}
            Down::InventoryRequest(_) => self.inventory(),
            Down::Forget(forget) => {
                for attempt in forget.attempts.into_iter().filter_map(AttemptId::from_proto) {
                    self.forget(&attempt);
                }
            }
            Down::EndProcess(end) => {
                if let Some(run) = RunId::from_slice(&end.run_id) {
                    let attempts = Arc::clone(&self.attempts);
                    tokio::spawn(async move { attempts.end_process(run).await });
                }
            }
        }
    }

    fn welcome(&mut self, welcome: &pb::Welcome) {
        self.metrics.sessions.inc();
        self.connected.hold();
        let millis = |ms: i32| Duration::from_millis(u64::try_from(ms).unwrap_or(0)).max(INTERVAL_MIN);
        self.lost_after = millis(welcome.lost_after_ms);
        self.beat = every(millis(welcome.heartbeat_interval_ms));
        // A result that waits for its acknowledgement was sent again after Hello: its own answer says whether it counts.
        for attempt in welcome.unknown.iter().cloned().filter_map(AttemptId::from_proto) {
            self.forget(&attempt);
        }
        self.ask_again();
    }

    fn learn(&mut self, definition: pb::Definition) {
        let read = Definition::from_proto(&definition).map(Arc::new);
        if let Err(error) = &read {
            tracing::error!(definition = definition.id, %error, "failed to read a definition");
        }
        self.definitions.insert(definition.id, read.ok());
    }

    fn assign(&mut self, assignments: Vec<pb::Assignment>) {
        let mut ended = Vec::new();
        for assignment in assignments {
            let Some(id) = assignment.attempt.clone().and_then(AttemptId::from_proto) else { continue };
            // Said twice, after a reconnection say: it runs already, or its result is on the way.
            if self.running.contains_key(&id) || self.unacknowledged.holds(&id) || self.ahead.holds(&id) {
                continue;
            }
            if self.draining || self.unacknowledged.len() >= UNACKNOWLEDGED_MAX {
                ended.push(self.released(id));
                continue;
            }
            let definition = match self.definitions.get(&assignment.definition_id) {
                Some(Some(definition)) => Arc::clone(definition),
                Some(None) => {
                    self.journal.assigned(&id);
                    let unread = format!("the executor cannot read the definition {}", assignment.definition_id);
                    ended.push(self.result(id, failed("INTERNAL", unread), 0));
                    continue;
                }
                // It was taught in a former session, and its owner has not heard of this one yet: no fault of the block.
                None => {
                    ended.push(self.released(id));
                    continue;
                }
            };
            let before = assignment.after.clone().and_then(AttemptId::from_proto);
            let attempt = Attempt { id, definition, assignment: Arc::new(assignment) };
            let attempt = match before {
                Some(before) => self.take_ahead(before, attempt, &mut ended),
                None => Some(attempt),
            };
            if let Some(attempt) = attempt {
                self.begin(attempt, &mut ended);
            }
        }
        self.send_results(ended);
    }
}
