//! What a request is about when it names a workspace and perhaps a pipeline and a trigger in it. Refuses to find anything
//! outside the workspace.

use crate::core::Core;
use crate::fault::Fault;
use domain::ErrorKind;
use domain::id::{PipelineId, TriggerId, WorkspaceId};
use store::{Client, pipelines, triggers};

/// What was named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    /// Always.
    pub(crate) workspace: WorkspaceId,
    /// `None` means all.
    pub(crate) pipeline: Option<PipelineId>,
    /// `None` means all.
    pub(crate) trigger: Option<TriggerId>,
}

/// Looks up names; empty ones mean all. Archived pipelines and triggers are found: their history is there.
pub(crate) async fn find(
    core: &Core,
    db: &Client,
    workspace: &str,
    pipeline: &str,
    trigger: &str,
) -> Result<Target, Fault> {
    let workspace = core.workspace(workspace).await?;
    if pipeline.is_empty() {
        if !trigger.is_empty() {
            return Err(Fault::field("pipeline", "must be given with a trigger: triggers are named within a pipeline"));
        }
        return Ok(Target { workspace: workspace.id, pipeline: None, trigger: None });
    }
    let head = pipelines::get(db, workspace.id, pipeline).await?;
    let head = head.ok_or_else(|| Fault::no_pipeline(&workspace.name, pipeline))?;
    let trigger = match trigger {
        "" => None,
        name => Some(triggers::find(db, head.id, name).await?.ok_or_else(|| no_trigger(pipeline, name))?),
    };
    Ok(Target { workspace: workspace.id, pipeline: Some(head.id), trigger })
}

fn no_trigger(pipeline: &str, name: &str) -> Fault {
    let message = format!("pipeline `{pipeline}` has no trigger `{name}`; its triggers.yaml names those that it has");
    Fault::new(ErrorKind::NotFound, "TRIGGER_NOT_FOUND", message)
}
