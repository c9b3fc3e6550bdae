//! The built-in no-op: a block with `executor_type: noop` completes at once, without a process. It measures the cluster
//! and nothing else. `configuration.items` makes it a dynamic parent of so many children; `configuration.fail` a failure.

use crate::attempt::{Attempt, failed};
use domain::executor_type::ExecutorType;
use proto::internal::v1 as pb;

/// The outcome, when the attempt is a no-op.
#[must_use]
pub fn outcome(attempt: &Attempt) -> Option<pb::result::Outcome> {
    let pipeline = &attempt.definition.pipeline;
    let block = attempt.block()?;
    let kind = ExecutorType::of(block.executor_type.as_deref(), pipeline.executor_type.as_deref());
    if kind != ExecutorType::Noop {
        return None;
    }
    if block.configuration.get("fail").and_then(serde_json::Value::as_bool) == Some(true) {
        return Some(failed("USER_CODE", "the no-op was configured to fail"));
    }
    let items = block.configuration.get("items").and_then(serde_json::Value::as_i64);
    Some(pb::result::Outcome::Completed(pb::Completed {
        items: items.and_then(|items| i32::try_from(items).ok()),
        ..pb::Completed::default()
    }))
}
