//! Values of the store and the domain as messages of the contract. Refuses to decide anything.

use crate::fault::Fault;
use domain::role::{Role, WorkspaceRole};
use prost_types::Struct;
use proto::v1;
use rpc::timestamp::to_proto;
use serde_json::Map;

/// A stored JSON document as a message.
pub(crate) fn object(value: serde_json::Value) -> Struct {
    match value {
        serde_json::Value::Object(map) => structure(&map),
        _ => Struct::default(),
    }
}

/// A stored JSON object as a message. What has other doors than a message, a call's body or a project's file, may hold
/// integers that the wire has not: they are shown as text, and never left out.
pub(crate) fn structure(map: &Map<String, serde_json::Value>) -> Struct {
    rpc::json::shown(map)
}

/// Any stored JSON value as a message; one that the wire cannot hold is its text.
pub(crate) fn value(value: &serde_json::Value) -> prost_types::Value {
    let wrapped = Map::from_iter([("value".to_owned(), value.clone())]);
    structure(&wrapped).fields.remove("value").unwrap_or_default()
}

/// A name of an enumeration that the domain writes in snake case.
pub(crate) fn name(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}

/// A role; none is `ROLE_UNSPECIFIED`.
pub(crate) fn role(role: Option<Role>) -> v1::Role {
    match role {
        None => v1::Role::Unspecified,
        Some(Role::Viewer) => v1::Role::Viewer,
        Some(Role::Editor) => v1::Role::Editor,
        Some(Role::Admin) => v1::Role::Admin,
        Some(Role::Owner) => v1::Role::Owner,
    }
}

/// What a member is in a workspace; none is `WORKSPACE_ROLE_UNSPECIFIED`.
pub(crate) fn workspace_role(role: Option<WorkspaceRole>) -> v1::WorkspaceRole {
    match role {
        None => v1::WorkspaceRole::Unspecified,
        Some(WorkspaceRole::Collaborator) => v1::WorkspaceRole::Collaborator,
        Some(WorkspaceRole::Owner) => v1::WorkspaceRole::Owner,
    }
}

/// The role of the contract's value.
pub(crate) fn role_of(number: i32, field: &'static str) -> Result<Option<Role>, Fault> {
    match v1::Role::try_from(number) {
        Ok(v1::Role::Unspecified) => Ok(None),
        Ok(v1::Role::Viewer) => Ok(Some(Role::Viewer)),
        Ok(v1::Role::Editor) => Ok(Some(Role::Editor)),
        Ok(v1::Role::Admin) => Ok(Some(Role::Admin)),
        Ok(v1::Role::Owner) => Ok(Some(Role::Owner)),
        Err(_) => Err(Fault::field(field, "must be a role, such as ROLE_EDITOR")),
    }
}

/// One block of a definition.
pub(crate) fn block(block: &domain::pipeline::Block) -> v1::Block {
    v1::Block {
        uuid: block.uuid.clone(),
        name: block.name.clone(),
        r#type: name(&block.kind),
        language: name(&block.language),
        file: block.file.clone().unwrap_or_default(),
        upstream_blocks: block.upstream.clone(),
        dynamic: block.dynamic,
        reduce_output: block.reduce_output,
        replicated_block: block.replica_of.clone().unwrap_or_default(),
        executor_type: block.executor_type.clone().unwrap_or_default(),
    }
}

/// The column's word as the contract's value.
pub(crate) fn run_status(status: &str) -> v1::RunStatus {
    match status {
        "initial" => v1::RunStatus::Initial,
        "running" => v1::RunStatus::Running,
        "completed" => v1::RunStatus::Completed,
        "failed" => v1::RunStatus::Failed,
        "cancelled" => v1::RunStatus::Cancelled,
        _ => v1::RunStatus::Unspecified,
    }
}

/// The contract's value as the column's word; `None` for what is no status.
pub(crate) fn run_status_word(status: v1::RunStatus) -> Option<&'static str> {
    Some(match status {
        v1::RunStatus::Unspecified => return None,
        v1::RunStatus::Initial => "initial",
        v1::RunStatus::Running => "running",
        v1::RunStatus::Completed => "completed",
        v1::RunStatus::Failed => "failed",
        v1::RunStatus::Cancelled => "cancelled",
    })
}

/// A run.
pub(crate) fn run(run: store::run_views::Run) -> v1::Run {
    v1::Run {
        id: run.id.to_string(),
        workspace: run.workspace,
        pipeline: run.pipeline,
        pipeline_version: run.pipeline_version,
        status: run_status(&run.status).into(),
        variables: Some(object(run.variables)),
        execution_date: Some(to_proto(run.execution_date)),
        created_at: Some(to_proto(run.created_at)),
        started_at: run.started_at.map(to_proto),
        completed_at: run.completed_at.map(to_proto),
        reason: run.reason,
        trigger: run.trigger,
        parent_run_id: run.parent.map(|id| id.to_string()).unwrap_or_default(),
        blocks_total: run.blocks_total,
        blocks_done: run.blocks_done,
        backfill_id: run.backfill.map(|id| id.to_string()).unwrap_or_default(),
        backfill: run.backfill_name,
    }
}
