//! The job that a Python child is given: an assignment, its definition and the folders, as docs/runner-protocol.md says.

use crate::{attempt::Attempt, outputs::Place};
use domain::pipeline::Block;
use proto::internal::v1 as pb;
use serde_json::{Map, Value, json};
use std::path::Path;

/// Writes the job. `repo_path` is the materialised project, `place` where its outputs are on this disk.
///
/// # Errors
/// When the assignment does not fit its definition.
pub fn build(attempt: &Attempt, repo_path: &Path, place: &Place) -> Result<Value, String> {
    let pipeline = &attempt.definition.pipeline;
    let assignment = &attempt.assignment;
    let run = assignment.run.as_ref().ok_or("the assignment has no run")?;
    let block = attempt.block().ok_or_else(|| format!("the definition has no block `{}`", attempt.id.block))?;
    let id = &attempt.id;
    let guards: Vec<&Block> = match assignment.callback {
        Some(_) => Vec::new(),
        None => pipeline.conditionals.iter().filter(|guard| guard.upstream.contains(&block.uuid)).collect(),
    };
    let upstream: Map<String, Value> = pipeline
        .blocks
        .iter()
        .filter(|other| block.upstream.contains(&other.uuid))
        .map(|other| (other.uuid.clone(), json!(other)))
        .collect();
    let downstream: Vec<Value> = pipeline
        .blocks
        .iter()
        .filter(|other| other.upstream.contains(&block.uuid))
        .map(|other| json!({ "uuid": other.uuid, "kind": other.kind, "language": other.language }))
        .collect();
    let dynamic: Vec<&str> =
        pipeline.blocks.iter().filter(|block| block.dynamic).map(|block| block.uuid.as_str()).collect();
    Ok(json!({
        "run_id": id.run,
        "block_run_id": if id.child < 0 { id.block.clone() } else { format!("{}:{}", id.block, id.child) },
        "lease": id.lease,
        "attempt_number": assignment.attempt_number,
        "mode": if assignment.callback.is_some() { "callback" } else { "block" },
        "repo_path": repo_path,
        "project_name": repo_path.file_name().and_then(|name| name.to_str()),
        "pipeline_uuid": run.pipeline,
        "workspace": run.workspace,
        "block": block,
        "upstream": upstream,
        "downstream": downstream,
        "conditions": guards,
        "inputs": assignment.inputs.iter().map(|input| self::input(id.run, input, place)).collect::<Vec<_>>(),
        "output_dir": place.folder(id.run, &id.block, id.child, id.lease),
        "log_level": pipeline.log_level,
        "keep_in_memory": pipeline.keeps_outputs_in_memory(),
        "dynamic_block_index": (id.child >= 0).then_some(id.child),
        "variables": object(&run.variables)?,
        "event": object(&run.event)?,
        "execution_date": run.execution_date,
        "execution_partition": run.execution_partition,
        "trigger_name": run.trigger_name,
        "callback": assignment.callback.as_ref().map(|callback| json!({
            "status": callback.status,
            "block": callback.watched_block,
            "error": callback.error.as_ref().map(|error| json!({
                "code": error.code, "message": error.message, "traceback": error.traceback,
            })),
        })),
        "pipeline": { "dynamic": dynamic, "kind": pipeline.kind },
    }))
}

fn input(run: domain::id::RunId, input: &pb::Input, place: &Place) -> Value {
    let mode = match input.mode() {
        pb::InputMode::Item => "item",
        pb::InputMode::Reduced => "reduced",
        pb::InputMode::Whole | pb::InputMode::Unspecified => "whole",
    };
    let dirs: Vec<_> =
        input.outputs.iter().map(|part| place.folder(run, &input.block, part.child, part.lease)).collect();
    json!({ "block": input.block, "mode": mode, "item": input.item, "dirs": dirs })
}

fn object(text: &str) -> Result<Value, String> {
    if text.is_empty() {
        return Ok(json!({}));
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(map)) => Ok(Value::Object(map)),
        Ok(_) => Err("variables are no JSON object".to_owned()),
        Err(error) => Err(format!("variables are no JSON: {error}")),
    }
}
