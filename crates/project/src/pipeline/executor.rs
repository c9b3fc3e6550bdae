//! Warns of an `executor_type` that changes nothing here: blocks of every type run as processes of an executor.

use crate::{Env, diagnostic::Report, keys::Keys, nearest};
use domain::executor_type::ExecutorType;

/// The `executor_type` of a pipeline; where that says nothing, the environment's `DEFAULT_EXECUTOR_TYPE`.
pub(super) fn of_pipeline(keys: &Keys<'_>, env: Env<'_>, report: &mut Report) -> Option<String> {
    let written = read(keys, report);
    if ExecutorType::says_something(written.as_deref()) {
        return written;
    }
    env("DEFAULT_EXECUTOR_TYPE").filter(|kind| !kind.trim().is_empty()).or(written)
}

/// The `executor_type` of a pipeline or a block, as written.
pub(super) fn read(keys: &Keys<'_>, report: &mut Report) -> Option<String> {
    let written = keys.text("executor_type", report).filter(|kind| !kind.is_empty())?;
    let (why, remedy) = match ExecutorType::of(Some(&written), None) {
        ExecutorType::Process | ExecutorType::Noop => return Some(written),
        ExecutorType::Remote(_) => {
            ("names machines that this cluster does not have", "give the executors what it needs".to_owned())
        }
        ExecutorType::Template(_) => ("is a template, which is not rendered", "write the type itself".to_owned()),
        ExecutorType::Unknown(_) => ("is not known", nearest::choose(&written, &ExecutorType::NAMES)),
    };
    let message = format!("the executor type {written:?} {why}; what asks for it runs as a process of an executor");
    report.warn(keys.place("executor_type"), message, remedy);
    Some(written)
}
