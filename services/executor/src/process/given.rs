//! The secrets that a run may have been given, by this executor or another, in this life or one before: whoever runs an
//! attempt of it hides their values from its first line on. Refuses to know why a run may be given them.

use super::ProcessBackend;
use crate::{
    attempt::{Attempt, failed},
    core::CoreEvent,
    logs::mask::Held,
};
use proto::internal::v1::result::Outcome;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::mpsc;

/// The call that an attempt begins with; its code does not make it.
pub(super) const GET_SECRETS: &str = "get_secrets";
/// Its number, which no call of user code has.
const CALL_ID: i64 = -1;
/// Before it is made again, when the cluster could not answer it.
const AGAIN: Duration = Duration::from_secs(1);
/// How a scheduler of an earlier version answers it.
const UNKNOWN_METHOD: &str = "the cluster has no method";

impl ProcessBackend {
    /// Asks the cluster until it answers. Ends with the attempt's outcome where there are more secrets than can be hidden.
    pub(super) async fn given(
        &self,
        attempt: &Attempt,
        replies: &mut mpsc::Receiver<Value>,
    ) -> Result<Option<Held>, Outcome> {
        loop {
            let (id, method) = (attempt.id.clone(), GET_SECRETS.to_owned());
            let call = CoreEvent::Call { id, call_id: CALL_ID, method, arguments: json!({}) };
            // The core has ended only when the process ends.
            let _ = self.parts.core.send(call).await;
            let Some(reply) = replies.recv().await else { return std::future::pending().await };
            match reply["error"].as_str() {
                None => return self.hold(&reply["result"]).map(Some),
                // It masks what is given out here, as its version did.
                Some(error) if error.starts_with(UNKNOWN_METHOD) => return Ok(None),
                Some(error) => tracing::warn!(attempt = %attempt.id, error, "failed to learn what is to be hidden"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn hold(&self, answer: &Value) -> Result<Held, Outcome> {
        if let Some(refused) = answer["refused"].as_str() {
            return Err(failed("ENVIRONMENT", refused));
        }
        self.parts.logs.masks().hold(values(answer)).ok_or_else(|| {
            failed("ENVIRONMENT", "attempts that run on this executor may read more secrets than it can hide at once")
        })
    }
}

/// The values of an answer's `secrets`, which are pairs of a name and a value.
pub(super) fn values(answer: &Value) -> impl Iterator<Item = &str> {
    answer["secrets"].as_array().into_iter().flatten().filter_map(|pair| pair[1].as_str())
}
