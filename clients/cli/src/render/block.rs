//! States of runs and blocks, and one line about a block.

use super::{
    style::{Style, harmless},
    table::Tone,
    time,
};
use jiff::Timestamp;
use proto::v1::{BlockRun, BlockRunStatus, Run, RunStatus};

/// Longer error messages are cut; `orrery logs` has all of them.
const MESSAGE_CHARS_MAX: usize = 200;

/// The word for a run's state, and its tone.
pub(crate) fn run_status(status: RunStatus) -> (&'static str, Tone) {
    match status {
        RunStatus::Unspecified => ("unknown", Tone::Dim),
        RunStatus::Initial => ("initial", Tone::Dim),
        RunStatus::Running => ("running", Tone::Busy),
        RunStatus::Completed => ("completed", Tone::Good),
        RunStatus::Failed => ("failed", Tone::Bad),
        RunStatus::Cancelled => ("cancelled", Tone::Warn),
    }
}

/// Whether the run has ended.
pub(crate) fn run_ended(run: &Run) -> bool {
    matches!(run.status(), RunStatus::Completed | RunStatus::Failed | RunStatus::Cancelled)
}

/// Sign, word and tone of a block's state.
pub(crate) fn block_status(status: BlockRunStatus) -> (&'static str, &'static str, Tone) {
    match status {
        BlockRunStatus::Unspecified => ("?", "unknown", Tone::Dim),
        BlockRunStatus::Initial => ("·", "waiting", Tone::Dim),
        BlockRunStatus::Queued => ("·", "queued", Tone::Dim),
        BlockRunStatus::Running => ("▸", "running", Tone::Busy),
        BlockRunStatus::Completed => ("✔", "completed", Tone::Good),
        BlockRunStatus::Failed => ("✘", "failed", Tone::Bad),
        BlockRunStatus::Cancelled => ("◌", "cancelled", Tone::Warn),
        BlockRunStatus::UpstreamFailed => ("◌", "upstream failed", Tone::Warn),
        BlockRunStatus::ConditionFailed => ("◌", "condition failed", Tone::Warn),
    }
}

/// Whether nothing more happens to the block.
pub(crate) fn block_ended(status: BlockRunStatus) -> bool {
    !matches!(
        status,
        BlockRunStatus::Unspecified | BlockRunStatus::Initial | BlockRunStatus::Queued | BlockRunStatus::Running
    )
}

/// `text` in the colour of `tone`.
pub(crate) fn toned(style: Style, tone: Tone, text: &str) -> String {
    match tone {
        Tone::Plain => text.to_owned(),
        Tone::Good => style.good(text),
        Tone::Bad => style.bad(text),
        Tone::Busy => style.busy(text),
        Tone::Warn => style.warn(text),
        Tone::Dim => style.dim(text),
    }
}

/// The block's name, or that of a dynamic child.
pub(crate) fn name(block: &BlockRun) -> String {
    if block.child < 0 {
        return block.block.clone();
    }
    let child = if block.child_name.is_empty() { String::new() } else { format!(" {}", harmless(&block.child_name)) };
    format!("{}[{}]{child}", block.block, block.child)
}

/// What is to be said after the name: state, time, tries, children, outputs, error.
pub(crate) fn details(block: &BlockRun, now: Timestamp) -> String {
    let (_, word, _) = block_status(block.status());
    let mut parts = vec![word.to_owned()];
    let span = time::span(time::instant(block.started_at.as_ref()), time::instant(block.completed_at.as_ref()), now);
    if !span.is_empty() {
        parts.push(span);
    }
    if block.attempts > 1 {
        parts.push(format!("try {}", block.attempts));
    }
    if block.children_total > 0 {
        let failed =
            if block.children_failed > 0 { format!(", {} failed", block.children_failed) } else { String::new() };
        // Of one that was stopped only these are known.
        let stopped = matches!(block.status(), BlockRunStatus::Cancelled | BlockRunStatus::Failed);
        let begun = if stopped { " that began" } else { "" };
        parts.push(format!("{} of {} children{begun}{failed}", block.children_completed, block.children_total));
    }
    // A returned list counts its values, which nobody calls rows.
    let counts = || block.outputs.iter().filter(|o| o.rows >= 0 && o.kind != "list").map(|o| o.rows);
    if counts().next().is_some() {
        parts.push(format!("{} rows", counts().sum::<i64>()));
    }
    if !block.wait_reason.is_empty() {
        parts.push(one_line(&block.wait_reason));
    }
    if let Some(error) = &block.error {
        parts.push(format!("{}: {}", error.code, one_line(&error.message)));
    }
    parts.join("  ")
}

/// The first line of a message, cut and harmless.
pub(crate) fn one_line(message: &str) -> String {
    let line = harmless(message.trim().lines().next().unwrap_or_default());
    match line.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::v1::{BlockError, Output};

    #[test]
    fn a_block_tells_what_matters() {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let mut block = BlockRun { block: "load".into(), child: -1, attempts: 2, ..BlockRun::default() };
        block.set_status(BlockRunStatus::Failed);
        (block.started_at, block.completed_at) = (at(100), at(103));
        block.error =
            Some(BlockError { code: "USER_CODE".into(), message: "no\x1b\nmore".into(), ..BlockError::default() });
        let now = Timestamp::from_second(200).unwrap();
        assert_eq!(details(&block, now), "failed  3.0 s  try 2  USER_CODE: no\u{fffd}");

        let mut block = BlockRun { child: -1, children_total: 282, children_completed: 274, ..BlockRun::default() };
        block.set_status(BlockRunStatus::Running);
        assert_eq!(details(&block, now), "running  274 of 282 children");
        block.set_status(BlockRunStatus::Cancelled);
        assert_eq!(details(&block, now), "cancelled  274 of 282 children that began");

        let mut block = BlockRun { child: 4, child_name: "x".into(), block: "b".into(), ..BlockRun::default() };
        block.set_status(BlockRunStatus::Completed);
        let list = Output { rows: 2, kind: "list".into(), ..Output::default() };
        block.outputs = vec![Output { rows: 5, ..Output::default() }, Output { rows: -1, ..Output::default() }, list];
        assert_eq!((name(&block), details(&block, now)), ("b[4] x".into(), "completed  5 rows".into()));
    }
}
