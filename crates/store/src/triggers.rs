//! What starts pipelines, as desired state. Refuses to know when anything is due.

use crate::Error;
use deadpool_postgres::GenericClient;
use domain::id::{PipelineId, TriggerId};
use serde_json::Value;

/// The name of the trigger that every pipeline has, below which runs made by request are fired.
pub const MANUAL: &str = "manual";

/// Desired state of one trigger.
#[derive(Debug, Clone, PartialEq)]
pub struct Desired {
    /// Unique in the pipeline.
    pub name: String,
    /// `manual`, `api`, `event` or `time`.
    pub kind: &'static str,
    /// Fires, or is paused.
    pub active: bool,
    /// As the file says.
    pub spec: Value,
}

/// Makes the project's triggers of a pipeline what `desired` says, adds the manual one and archives the rest.
///
/// # Errors
/// When a statement fails.
pub async fn set_desired(db: &impl GenericClient, pipeline: PipelineId, desired: &[Desired]) -> Result<(), Error> {
    let manual = Desired { name: MANUAL.into(), kind: "manual", active: true, spec: Value::Object(Default::default()) };
    upsert(db, pipeline, &manual, "built-in").await?;
    for trigger in desired {
        upsert(db, pipeline, trigger, "project").await?;
    }
    let keep: Vec<&str> = desired.iter().map(|t| t.name.as_str()).collect();
    let statement = db.prepare_cached(include_str!("../sql/trigger/archive_others.sql")).await?;
    db.execute(&statement, &[&pipeline.0, &keep]).await?;
    Ok(())
}

async fn upsert(db: &impl GenericClient, pipeline: PipelineId, trigger: &Desired, source: &str) -> Result<(), Error> {
    let statement = db.prepare_cached(include_str!("../sql/trigger/upsert.sql")).await?;
    let Desired { name, kind, active, spec } = trigger;
    let id = uuid::Uuid::now_v7();
    db.execute(&statement, &[&id, &pipeline.0, name, kind, active, spec, &source]).await?;
    Ok(())
}

/// The trigger of this name, archived or not.
///
/// # Errors
/// When the statement fails.
pub async fn find(db: &impl GenericClient, pipeline: PipelineId, name: &str) -> Result<Option<TriggerId>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/trigger/find.sql")).await?;
    Ok(db.query_opt(&statement, &[&pipeline.0, &name]).await?.map(|row| TriggerId(row.get("id"))))
}
