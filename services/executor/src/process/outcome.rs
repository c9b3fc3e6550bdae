//! How an attempt ended: from the runner's words and from a process's end to the wire. Pure.

use crate::{attempt::failed, logs::Masks};
use backend_process::{Exit, process::signal_name};
use proto::internal::v1::{self as pb, result::Outcome};
use serde_json::Value;

/// SIGKILL, which user code seldom sends to itself and the kernel sends when there is no memory left.
const SIGKILL: i32 = 9;
/// Bytes of a message or a traceback.
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Bytes of all names of a dynamic block's children: they travel in one message.
const NAMES_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of what is told of an attempt's outputs, in the same message.
const OUTPUTS_BYTES_MAX: usize = 1024 * 1024;
/// Of one output, beside its texts: two numbers, and what is around them.
const OUTPUT_BYTES: usize = 32;

/// Reads the `result` of a result frame.
pub(crate) fn of_result(result: &Value) -> Outcome {
    let text = |key: &str| cut(result[key].as_str().unwrap_or_default());
    match result["outcome"].as_str() {
        Some("completed") if names_bytes(result) > NAMES_BYTES_MAX => {
            failed("OUTPUT", "the metadata of the dynamic block names its children with too much text")
        }
        Some("completed") if outputs_bytes(result) > OUTPUTS_BYTES_MAX => {
            failed("OUTPUT", "the block has so many outputs that they cannot be told of; return them as one list")
        }
        Some("completed") => Outcome::Completed(pb::Completed {
            outputs: result["outputs"].as_array().into_iter().flatten().map(output).collect(),
            items: result["items"].as_i64().and_then(|items| i32::try_from(items).ok()),
            item_names: result["item_names"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|name| name.as_str().unwrap_or_default().to_owned())
                .collect(),
            store: String::new(),
        }),
        Some("condition_failed") => Outcome::ConditionFailed(pb::ConditionFailed {}),
        Some("not_yet") => Outcome::NotYet(pb::NotYet {}),
        Some("failed") => {
            let (code, message, traceback) = (text("code"), text("message"), text("traceback"));
            Outcome::Failed(pb::Failed { code, message, traceback, ..pb::Failed::default() })
        }
        _ => failed("INTERNAL", "the runner sent a result that this executor does not understand"),
    }
}

/// An outcome whose words hold no known secret.
pub(crate) fn masked(outcome: Outcome, masks: &Masks) -> Outcome {
    let mask = |text: String| masks.apply(&text).into_owned();
    match outcome {
        Outcome::Failed(failed) => {
            let (message, traceback) = (mask(failed.message), mask(failed.traceback));
            Outcome::Failed(pb::Failed { message, traceback, ..failed })
        }
        Outcome::Completed(completed) => {
            let item_names = completed.item_names.into_iter().map(mask).collect();
            Outcome::Completed(pb::Completed { item_names, ..completed })
        }
        other => other,
    }
}

/// A failure as the attempt's log tells it. A traceback ends with the message.
pub(crate) fn told(failed: &pb::Failed) -> String {
    let text = if failed.traceback.is_empty() { &failed.message } else { &failed.traceback };
    format!("{}: {}", failed.code, text.trim_end())
}

fn names_bytes(result: &Value) -> usize {
    result["item_names"].as_array().into_iter().flatten().map(|name| name.as_str().map_or(0, str::len)).sum()
}

fn outputs_bytes(result: &Value) -> usize {
    let bytes = |output: &Value| {
        let texts = [&output["name"], &output["kind"]].map(|text| text.as_str().map_or(0, str::len));
        texts.iter().sum::<usize>() + OUTPUT_BYTES
    };
    result["outputs"].as_array().into_iter().flatten().map(bytes).sum()
}

/// The start and the end of what is too long: a traceback says most at its end.
fn cut(text: &str) -> String {
    if text.len() <= TEXT_BYTES_MAX {
        return text.to_owned();
    }
    let boundary = |at: usize| (at..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    let half = TEXT_BYTES_MAX / 2;
    format!("{}\n…\n{}", &text[..boundary(half)], &text[boundary(text.len() - half)..])
}

fn output(output: &Value) -> pb::Output {
    pb::Output {
        name: output["name"].as_str().unwrap_or_default().to_owned(),
        kind: output["kind"].as_str().unwrap_or_default().to_owned(),
        rows: output["rows"].as_i64().unwrap_or(-1),
        size_bytes: output["size_bytes"].as_i64().unwrap_or(0),
    }
}

/// What a process that ended without a result means; `None` is one that closed its channel and lives on.
pub(crate) fn of_exit(exit: Option<Exit>) -> Outcome {
    match exit {
        Some(Exit::Signal(SIGKILL)) => failed(
            "OUT_OF_MEMORY",
            "the process was killed by SIGKILL; usually the machine had no memory left: give the executor more memory, \
             or let the block hold less at once",
        ),
        Some(Exit::Signal(number)) => {
            failed("CRASHED", format!("the process was killed by {}; its last lines may say why", signal_name(number)))
        }
        Some(Exit::Code(code)) => {
            failed("CRASHED", format!("the process ended with code {code} before it had a result"))
        }
        Some(Exit::ZygoteGone) => Outcome::Failed(pb::Failed {
            code: "CRASHED".to_owned(),
            message:
                "the process ended together with its warm interpreter, which something killed; that counts as no try"
                    .to_owned(),
            interpreter_lost: true,
            ..pb::Failed::default()
        }),
        None => failed("CRASHED", "the process closed its channel to the executor, and was killed"),
    }
}

/// For the journal and the metrics.
pub(crate) fn name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Completed(_) => "completed",
        Outcome::Failed(_) => "failed",
        Outcome::ConditionFailed(_) => "condition_failed",
        Outcome::NotYet(_) => "not_yet",
        Outcome::Cancelled(_) => "cancelled",
        Outcome::Released(_) => "released",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn results_are_read_as_the_protocol_says() {
        let outputs = json!([{ "name": "output_0", "kind": "dataframe", "rows": 3, "size_bytes": 9 }]);
        let read =
            of_result(&json!({ "outcome": "completed", "outputs": outputs, "items": 2, "item_names": ["a", "b"] }));
        let Outcome::Completed(completed) = read else { panic!("{read:?}") };
        assert_eq!((completed.items, completed.item_names.len(), completed.outputs[0].rows), (Some(2), 2, 3));
        assert_eq!(name(&of_result(&json!({ "outcome": "not_yet" }))), "not_yet");
        assert_eq!(name(&of_result(&json!({ "outcome": "?" }))), "failed");
    }

    #[test]
    fn what_one_message_does_not_hold_is_a_failure_of_the_block() {
        let output = json!({ "name": "output_0", "kind": "memory", "rows": -1, "size_bytes": 0 });
        for (fields, code) in [
            (json!({ "outputs": vec![output.clone(); 1_000], "item_names": ["a"] }), None),
            (json!({ "outputs": vec![output; 117_000] }), Some("OUTPUT")),
            (json!({ "outputs": [{ "name": "output_0", "kind": "x".repeat(OUTPUTS_BYTES_MAX) }] }), Some("OUTPUT")),
            (json!({ "outputs": [], "item_names": ["x".repeat(NAMES_BYTES_MAX + 1)] }), Some("OUTPUT")),
        ] {
            let mut result = json!({ "outcome": "completed" });
            result.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            let failed = match of_result(&result) {
                Outcome::Failed(failed) => Some(failed.code),
                _ => None,
            };
            assert_eq!(failed.as_deref(), code);
        }
    }

    #[test]
    fn of_a_long_text_both_ends_stay() {
        let cut = cut(&format!("first {} last", "€".repeat(TEXT_BYTES_MAX)));
        assert!(cut.starts_with("first ") && cut.ends_with(" last") && cut.len() < TEXT_BYTES_MAX + 16);
    }

    #[test]
    fn a_crash_names_its_signal() {
        let said = |exit| match of_exit(exit) {
            Outcome::Failed(failed) => format!("{} {}", failed.code, failed.message),
            other => panic!("{other:?}"),
        };
        assert!(said(Some(Exit::Signal(11))).starts_with("CRASHED the process was killed by SIGSEGV"));
        assert!(said(Some(Exit::Signal(9))).starts_with("OUT_OF_MEMORY"));
        assert!(said(Some(Exit::Code(3))).contains("code 3"));
        let is_lost = |exit| matches!(of_exit(Some(exit)), Outcome::Failed(failed) if failed.interpreter_lost);
        assert!(is_lost(Exit::ZygoteGone) && !is_lost(Exit::Signal(9)));
    }
}
