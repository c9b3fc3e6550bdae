//! What a project's file wants of its triggers. The file is desired state: what it says is put into force when it says
//! something new, and edits by other ways hold until then.

use super::{Token, drop_of_archived, drop_uncalled, keep_project_token, kind_word};
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

/// What became of a trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Created,
    /// What the file says anew is in force.
    Updated,
    /// The file does not name it any more.
    Archived,
}

/// Makes the project's triggers of a pipeline what `desired` says, adds the manual one and archives the others but those
/// that are to stay as they are, or none where that is not known (`unread` is `None`). Answers what was changed, by name.
///
/// # Errors
/// When a statement fails.
pub async fn set_desired(
    db: &impl GenericClient,
    pipeline: PipelineId,
    desired: &[Desired],
    unread: Option<&[String]>,
) -> Result<Vec<(String, Change)>, Error> {
    add_built_in(db, pipeline).await?;
    let mut changes = Vec::new();
    for trigger in desired {
        drop_of_archived(db, pipeline, &trigger.name).await?;
        let (id, change) = upsert(db, pipeline, trigger).await?;
        if change == Some(Change::Updated) {
            drop_uncalled(db, &[id.0]).await?;
        }
        keep_project_token(db, id, trigger.token.as_ref()).await?;
        changes.extend(change.map(|change| (trigger.name.clone(), change)));
    }
    if let Some(unread) = unread {
        let keep: Vec<&String> = desired.iter().map(|trigger| &trigger.name).chain(unread).collect();
        let statement = db.prepare_cached(include_str!("../../sql/trigger/archive_others.sql")).await?;
        let archived = db.query(&statement, &[&pipeline.0, &keep]).await?;
        let ids: Vec<uuid::Uuid> = archived.iter().map(|row| row.get(1)).collect();
        drop_uncalled(db, &ids).await?;
        changes.extend(archived.iter().map(|row| (row.get(0), Change::Archived)));
    }
    Ok(changes)
}

/// Takes the triggers of a pipeline that goes out of force with it: the project's are archived, others paused.
///
/// # Errors
/// When a statement fails.
pub async fn retire(db: &impl GenericClient, pipeline: PipelineId) -> Result<(), Error> {
    set_desired(db, pipeline, &[], Some(&[])).await?;
    let statement = db.prepare_cached(include_str!("../../sql/trigger/pause_all.sql")).await?;
    db.execute(&statement, &[&pipeline.0]).await?;
    Ok(())
}

async fn upsert(
    db: &impl GenericClient,
    pipeline: PipelineId,
    trigger: &Desired,
) -> Result<(TriggerId, Option<Change>), Error> {
    let statement = db.prepare_cached(include_str!("../../sql/trigger/upsert_desired.sql")).await?;
    let Desired { name, active, spec, document, .. } = trigger;
    let (id, kind) = (uuid::Uuid::now_v7(), kind_word(&spec.kind));
    let desired = json!({ "active": active, "spec": document });
    let row = db.query_one(&statement, &[&id, &pipeline.0, name, &kind, active, document, &desired]).await?;
    let created: Option<bool> = row.get(1);
    let change = created.map(|created| if created { Change::Created } else { Change::Updated });
    Ok((TriggerId(row.get(0)), change))
}
