//! The secrets that a run may have been given, by this executor or another, in this life or one before: whoever runs an
//! attempt of it hides their values from its first line on. Refuses to know why a run may be given them.

use super::{ProcessBackend, keeping::PLACE_SECRETS};
use crate::{
    attempt::{Attempt, failed},
    core::CoreEvent,
    logs::{Masks, mask::Held},
};
use proto::internal::v1::result::Outcome;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// The call that an attempt begins with; its code does not make it.
const GET_SECRETS: &str = "get_secrets";
/// Its number, which no call of user code has.
const CALL_ID: i64 = -1;
/// The call that starts a run; whoever sees that run reads its variables.
const TRIGGER_PIPELINE: &str = "trigger_pipeline";
/// Before it is made again, when the cluster could not answer it.
const AGAIN: Duration = Duration::from_secs(1);
/// How a scheduler of an earlier version answers it.
const UNKNOWN_METHOD: &str = "the cluster has no method";

impl ProcessBackend {
    /// Asks the cluster until it answers. Ends with the attempt's outcome where there are more secrets than can be hidden.
    pub(super) async fn given(
        &self,
        attempt: &Attempt,
        masks: &Arc<Masks>,
        replies: &mut mpsc::Receiver<Value>,
    ) -> Result<Option<Held>, Outcome> {
        loop {
            let (id, method) = (attempt.id.clone(), GET_SECRETS.to_owned());
            let call = CoreEvent::Call { id, call_id: CALL_ID, method, arguments: json!({}) };
            // The core has ended only when the process ends.
            let _ = self.parts.core.send(call).await;
            let reply = loop {
                match replies.recv().await {
                    Some(reply) if reply["id"] == CALL_ID => break reply,
                    // What was asked before may be answered twice.
                    Some(_) => {}
                    None => return std::future::pending().await,
                }
            };
            match reply["error"].as_str() {
                None => return hold(masks, &reply["result"]).map(Some),
                // It masks what is given out here, as its version did.
                Some(error) if error.starts_with(UNKNOWN_METHOD) => return Ok(None),
                Some(error) => tracing::warn!(attempt = %attempt.id, error, "failed to learn what is to be hidden"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

fn hold(masks: &Arc<Masks>, answer: &Value) -> Result<Held, Outcome> {
    if let Some(refused) = answer["refused"].as_str() {
        return Err(failed("ENVIRONMENT", refused));
    }
    masks.hold(values(answer)).ok_or_else(|| {
        let why = "attempts of this workspace on this executor may read more secrets than it can hide at once";
        failed("ENVIRONMENT", why)
    })
}

/// The values of an answer's `secrets`, which are pairs of a name and a value.
pub(super) fn values(answer: &Value) -> impl Iterator<Item = &str> {
    answer["secrets"].as_array().into_iter().flatten().filter_map(|pair| pair[1].as_str())
}

/// Whether user code may make this call.
///
/// # Errors
/// Where that would show what is hidden; says what to do instead.
pub(super) fn allowed(method: &str, arguments: &Value, held: Option<&Held>) -> Result<(), String> {
    match (method, held) {
        (PLACE_SECRETS, _) => Err(format!("{UNKNOWN_METHOD} `{method}`")),
        (GET_SECRETS, _) => Err("a block asks for one secret at a time, by its name".to_owned()),
        (TRIGGER_PIPELINE, Some(held)) => match arguments["variables"].as_object() {
            Some(variables) => variables.iter().try_for_each(|(name, value)| shown(name, value, held)),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

fn shown(name: &str, value: &Value, held: &Held) -> Result<(), String> {
    let remedy = "whoever sees the run reads its variables; let its pipeline read the secret itself, by get_secret_value, \
                  and name it as `secrets` in that pipeline's metadata.yaml";
    if held.is_in(name) {
        return Err(format!("the name of a variable holds a secret: {remedy}"));
    }
    if holds(value, held) { Err(format!("the variable `{name}` holds a secret: {remedy}")) } else { Ok(()) }
}

fn holds(value: &Value, held: &Held) -> bool {
    match value {
        Value::String(text) => held.is_in(text),
        Value::Array(items) => items.iter().any(|item| holds(item, held)),
        Value::Object(fields) => fields.iter().any(|(name, value)| held.is_in(name) || holds(value, held)),
        Value::Number(number) => held.is_in(&number.to_string()),
        Value::Null | Value::Bool(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::Masks;
    use std::sync::Arc;

    #[test]
    fn variables_of_other_runs_hold_no_secret() {
        let held = Arc::new(Masks::default()).hold(["hunt\"er2", "48151623"].into_iter()).unwrap();
        for (variables, refused) in [
            (json!({}), false),
            (json!({ "day": "2026-01-01", "n": [1, null, true] }), false),
            (json!({ "password": "hunt\"er2" }), true),
            (json!({ "url": "sql://me:hunt\"er2@db" }), true),
            (json!({ "deep": [{ "a": { "b": "hunt\"er2" } }] }), true),
            (json!({ "as_json": "{\"p\": \"hunt\\\"er2\"}" }), true),
            (json!({ "hunt\"er2": 1 }), true),
            (json!({ "a": { "hunt\"er2": 1 } }), true),
            (json!({ "pin": 48_151_623 }), true),
        ] {
            let answer = allowed("trigger_pipeline", &json!({ "variables": variables }), Some(&held));
            assert_eq!(answer.is_err(), refused, "{variables}");
            let told = answer.err().unwrap_or_default();
            assert!(!told.contains("er2") && (!refused || told.contains("get_secret_value")), "{told}");
        }
        assert!(allowed("get_secret", &json!({ "name": "hunt\"er2" }), Some(&held)).is_ok());
        assert!(allowed("get_secrets", &json!({}), None).is_err());
        assert!(allowed("place_secrets", &json!({}), None).is_err());
    }
}
