//! Between the internal protocol and domain values. No decision is taken here.

use domain::{
    graph::Graph,
    id::RunId,
    run::{InputMode, Lease, unit_name},
    unit::{Failure, Outcome, Output, OutputInfo},
};
use proto::internal::v1 as pb;

pub use rpc::attempt::AttemptId;

/// Reads how an attempt ended. An empty outcome comes from a newer executor and counts as a failure that says so.
#[must_use]
pub fn outcome(result: pb::result::Outcome) -> Outcome {
    use pb::result::Outcome as Wire;
    match result {
        Wire::Completed(done) => Outcome::Completed(Output {
            outputs: done
                .outputs
                .into_iter()
                .map(|o| OutputInfo { name: o.name, kind: o.kind, rows: o.rows, size_bytes: o.size_bytes })
                .collect(),
            items: done.items.and_then(|items| u32::try_from(items).ok()),
            item_names: done.item_names,
            store: done.store,
        }),
        Wire::Failed(failed) => {
            let failure = Failure { code: failed.code, message: failed.message, traceback: failed.traceback };
            match (failed.process_lost, failed.process_let_go) {
                (true, true) => Outcome::ProcessLetGo(failure),
                (true, false) => Outcome::ProcessLost(failure),
                (false, _) if failed.interpreter_lost => Outcome::Lost(failure),
                (false, _) => Outcome::Failed(failure),
            }
        }
        Wire::ConditionFailed(_) => Outcome::ConditionFailed,
        Wire::NotYet(_) => Outcome::NotYet,
        Wire::Cancelled(_) => Outcome::Cancelled,
        Wire::Released(_) => Outcome::Released,
    }
}

/// Writes a lease as an assignment, of what begins now or behind another attempt.
#[must_use]
pub fn assignment(
    run: RunId,
    graph: &Graph,
    definition: &str,
    context: &pb::RunContext,
    lease: &Lease,
    after: Option<&AttemptId>,
) -> pb::Assignment {
    let (block, child) = unit_name(graph, lease.key);
    let pipeline = graph.pipeline();
    let timeout_s = match lease.key.step {
        domain::unit::Step::Block(at) => graph.block(at).timeout_s,
        domain::unit::Step::Callback { callback, .. } => pipeline.callbacks[callback].timeout_s,
    };
    pb::Assignment {
        attempt: Some(pb::AttemptRef { run_id: run.to_vec(), block, child, lease: lease.lease }),
        definition_id: definition.to_owned(),
        attempt_number: i32::try_from(lease.attempt_number).unwrap_or(i32::MAX),
        run: Some(context.clone()),
        inputs: lease
            .inputs
            .iter()
            .map(|input| {
                let (mode, item) = match input.mode {
                    InputMode::Whole => (pb::InputMode::Whole, 0),
                    InputMode::Item(item) => (pb::InputMode::Item, i32::try_from(item).unwrap_or(i32::MAX)),
                    InputMode::Reduced => (pb::InputMode::Reduced, 0),
                };
                pb::Input {
                    block: graph.block(input.block).uuid.clone(),
                    mode: mode.into(),
                    item,
                    outputs: input
                        .outputs
                        .iter()
                        .map(|(child, lease)| pb::OutputRef {
                            child: child.map_or(-1, |child| i32::try_from(child).unwrap_or(i32::MAX)),
                            lease: *lease,
                        })
                        .collect(),
                }
            })
            .collect(),
        dynamic_block_index: child,
        callback: lease.callback.as_ref().map(|callback| {
            let (watched_block, watched_child) = unit_name(graph, callback.watched);
            pb::Callback {
                status: callback.status.to_owned(),
                watched_block,
                watched_child,
                error: callback.error.as_ref().map(|error| pb::Failed {
                    code: error.code.clone(),
                    message: error.message.clone(),
                    traceback: error.traceback.clone(),
                    ..pb::Failed::default()
                }),
            }
        }),
        timeout_s: timeout_s.and_then(|s| i32::try_from(s).ok()).unwrap_or(0),
        one_process: pipeline.one_process,
        after: after.map(AttemptId::to_proto),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_died_with_its_interpreter_was_no_try() {
        let lost = |process_lost| pb::Failed { interpreter_lost: true, process_lost, ..pb::Failed::default() };
        assert!(matches!(outcome(pb::result::Outcome::Failed(lost(false))), Outcome::Lost(_)));
        // Its outputs in memory are gone all the same.
        assert!(matches!(outcome(pb::result::Outcome::Failed(lost(true))), Outcome::ProcessLost(_)));
    }

    #[test]
    fn a_process_that_was_let_go_has_not_died() {
        let read = |process_lost, process_let_go| {
            let failed = pb::Failed { process_lost, process_let_go, ..pb::Failed::default() };
            outcome(pb::result::Outcome::Failed(failed))
        };
        assert!(matches!(read(false, false), Outcome::Failed(_)));
        assert!(matches!(read(true, false), Outcome::ProcessLost(_)));
        assert!(matches!(read(true, true), Outcome::ProcessLetGo(_)));
    }
}
