//! What a project's file wants of its triggers. The file is desired state: what it says is put into force when it says
//! something new, and edits by other ways hold until then.

use super::{Token, keep_project_token, kind_word};
use crate::Error;
use deadpool_postgres::GenericClient;
use domain::{
    id::{PipelineId, TriggerId},
    trigger::Spec,
};
use serde_json::{Value, json};

/// The name of the trigger that every pipeline has, below which runs made by request are fired.
pub const MANUAL: &str = "manual";

/// Desired state of one trigger.
#[derive(Debug, Clone, PartialEq)]
pub struct Desired {
    /// Unique in the pipeline.
    pub name: String,
    /// Fires, or is paused.
    pub active: bool,
    /// What the file says.
    pub spec: Spec,
    /// The same as the database has it.
    pub document: Value,
    /// Of an API trigger, where the file gives one.
    pub token: Option<Token>,
}

/// Gives a pipeline its manual trigger.
///
/// # Errors
/// When the statement fails.
pub async fn add_built_in(db: &impl GenericClient, pipeline: PipelineId) -> Result<(), Error> {
    let statement = db.prepare_cached(include_str!("../../sql/trigger/insert_built_in.sql")).await?;
    db.execute(&statement, &[&uuid::Uuid::now_v7(), &pipeline.0]).await?;
    Ok(())
}

/// Makes the project's triggers of a pipeline what `desired` says, adds the manual one and archives the rest.
///
/// # Errors
/// When a statement fails.
pub async fn set_desired(db: &impl GenericClient, pipeline: PipelineId, desired: &[Desired]) -> Result<(), Error> {
    add_built_in(db, pipeline).await?;
    for trigger in desired {
        let id = upsert(db, pipeline, trigger).await?;
        keep_project_token(db, id, trigger.token.as_ref()).await?;
    }
    let keep: Vec<&str> = desired.iter().map(|t| t.name.as_str()).collect();
    let statement = db.prepare_cached(include_str!("../../sql/trigger/archive_others.sql")).await?;
    db.execute(&statement, &[&pipeline.0, &keep]).await?;
    Ok(())
}

/// Takes the triggers of a pipeline that goes out of force with it: the project's are archived, others paused.
///
/// # Errors
/// When a statement fails.
pub async fn retire(db: &impl GenericClient, pipeline: PipelineId) -> Result<(), Error> {
    set_desired(db, pipeline, &[]).await?;
    let statement = db.prepare_cached(include_str!("../../sql/trigger/pause_all.sql")).await?;
    db.execute(&statement, &[&pipeline.0]).await?;
    Ok(())
}

async fn upsert(db: &impl GenericClient, pipeline: PipelineId, trigger: &Desired) -> Result<TriggerId, Error> {
    let statement = db.prepare_cached(include_str!("../../sql/trigger/upsert_desired.sql")).await?;
    let Desired { name, active, spec, document, .. } = trigger;
    let (id, kind) = (uuid::Uuid::now_v7(), kind_word(&spec.kind));
    let desired = json!({ "active": active, "spec": document });
    let row = db.query_one(&statement, &[&id, &pipeline.0, name, &kind, active, document, &desired]).await?;
    Ok(TriggerId(row.get(0)))
}
