//! What starts pipelines, as definitions: every act raises the version that firings name. Refuses to know when anything is
//! due, and who may edit.

mod desired;
mod states;
mod tokens;

pub use desired::{Change, Desired, MANUAL, add_built_in, retire, set_desired};
pub use states::{Edited, Stored, changed, of_ids, states};
pub use tokens::{Held, TOKENS_MAX, Token, keep_project_token, rotate, token, tokens};
use tokens::{drop_of_archived, drop_uncalled};

use crate::{Error, Transaction};
use deadpool_postgres::GenericClient;
use domain::{
    id::{PipelineId, TriggerId, WorkspaceId},
    trigger::{Kind, Spec, State, Trigger},
};
use jiff::Timestamp;
use tokio_postgres::{Row, types::Json};

/// A trigger, with what is known around it.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// The version in force.
    pub trigger: Trigger,
    /// The name of its workspace.
    pub workspace: String,
    /// The name of its pipeline.
    pub pipeline: String,
    /// `built-in`, `project` or `api`.
    pub source: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was edited, started or paused last.
    pub updated_at: Timestamp,
    /// The project's file says something else, and was overruled since its last deployment.
    pub edited: bool,
    /// A failed run halted this version; it fires again when it is started or edited.
    pub halted: bool,
    /// It is `@once`, and has come.
    pub once_has_come: bool,
    /// Its workspace is archived, so that it does not fire, active or not.
    pub workspace_archived: bool,
    /// It is no more, or its pipeline is not; only its history is of use.
    pub archived: bool,
}

impl Listed {
    /// Its times come: it is active, not halted, and in a workspace that is in use.
    #[must_use]
    pub fn fires(&self) -> bool {
        self.trigger.active && !self.halted && !self.workspace_archived && !self.archived
    }
}

/// The word of a kind in its column.
#[must_use]
pub fn kind_word(kind: &Kind) -> &'static str {
    match kind {
        Kind::Manual => "manual",
        Kind::Api => "api",
        Kind::Event { .. } => "event",
        Kind::Schedule(_) => "time",
    }
}

fn decode(row: &Row) -> Result<Listed, Error> {
    let id = TriggerId(row.get(0));
    let kind: &str = row.get(7);
    // The built-in trigger has nothing to say.
    let spec = match kind {
        "manual" => Spec::new(Kind::Manual),
        _ => serde_json::from_value(row.get(8)).map_err(|source| Error::Corrupt {
            what: "definition",
            id: format!("trigger {id}; deploy or edit it again"),
            source,
        })?,
    };
    let trigger = Trigger {
        id,
        pipeline: PipelineId(row.get(1)),
        name: row.get(2),
        version: row.get(3),
        active: row.get(4),
        enabled_at: row.get(5),
        paused_at: row.get(6),
        once_version: row.get(18),
        replaced_at: row.get(19),
        former_paused_at: row.get(20),
        spec,
    };
    let state: Option<Json<State>> = row.try_get(21).unwrap_or_default();
    let is_once = trigger.spec.schedule().is_some_and(|schedule| schedule.every.trim() == "@once");
    Ok(Listed {
        once_has_come: is_once && state.is_some_and(|Json(state)| state.has_come(&trigger)),
        trigger,
        workspace: row.get(9),
        pipeline: row.get(10),
        source: row.get(11),
        created_at: row.get(12),
        updated_at: row.get(13),
        edited: row.get(14),
        halted: row.get(15),
        workspace_archived: row.get(16),
        archived: row.get(17),
    })
}

/// The trigger, unless it or its pipeline is archived.
///
/// # Errors
/// When the statement fails, or its definition is not one that this version reads.
pub async fn get(db: &impl GenericClient, id: TriggerId) -> Result<Option<Listed>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/trigger/get.sql")).await?;
    db.query_opt(&statement, &[&id.0]).await?.as_ref().map(decode).transpose()
}

/// A page of the workspace's triggers by pipeline and name, after those of `after`; of archived ones too `with_archived`.
/// One that cannot be read does not hide the others.
///
/// # Errors
/// When the statement fails.
pub async fn list(
    db: &impl GenericClient,
    workspace: WorkspaceId,
    pipeline: Option<&str>,
    with_archived: bool,
    after: (&str, &str),
    limit: i64,
) -> Result<Vec<Result<Listed, Error>>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/trigger/list.sql")).await?;
    let rows = db.query(&statement, &[&workspace.0, &pipeline, &after.0, &after.1, &limit, &with_archived]).await?;
    Ok(rows.iter().map(decode).collect())
}

/// The event triggers of a workspace, active ones first and then paused ones, at most `limit`.
///
/// # Errors
/// When the statement fails.
pub async fn of_events(
    db: &impl GenericClient,
    workspace: WorkspaceId,
    limit: i64,
) -> Result<Vec<Result<Listed, Error>>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/trigger/list_of_events.sql")).await?;
    Ok(db.query(&statement, &[&workspace.0, &limit]).await?.iter().map(decode).collect())
}

/// A page of what the owner of these shards has to fire, by id after `after`: active triggers other than manual ones, of
/// pipelines that are in force.
///
/// # Errors
/// When the statement fails.
pub async fn of_shards(
    db: &impl GenericClient,
    shards: &[i32],
    after: TriggerId,
    limit: i64,
) -> Result<Vec<Result<Listed, Error>>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/trigger/list_of_shards.sql")).await?;
    Ok(db.query(&statement, &[&shards, &after.0, &limit]).await?.iter().map(decode).collect())
}

/// What a new or edited trigger is to be.
#[derive(Debug, Clone, Copy)]
pub struct Definition<'a> {
    /// Everything that is configured.
    pub spec: &'a Spec,
    /// The same as the database has it.
    pub document: &'a serde_json::Value,
}

/// Creates a trigger; `None` when the pipeline has one of this name. Where an archived one had it, that one is taken over,
/// and no token of before holds. To be done in a transaction.
///
/// # Errors
/// When the statement fails.
pub async fn insert(
    db: &impl GenericClient,
    pipeline: PipelineId,
    name: &str,
    active: bool,
    definition: Definition<'_>,
) -> Result<Option<TriggerId>, Error> {
    drop_of_archived(db, pipeline, name).await?;
    let statement = db.prepare_cached(include_str!("../sql/trigger/insert.sql")).await?;
    let (id, kind) = (uuid::Uuid::now_v7(), kind_word(&definition.spec.kind));
    let row = db.query_opt(&statement, &[&id, &pipeline.0, &name, &kind, &active, definition.document]).await?;
    Ok(row.map(|row| TriggerId(row.get(0))))
}

/// How many triggers a pipeline has, counted up to `limit`; nobody else adds one to it before the transaction ends.
///
/// # Errors
/// When a statement fails.
pub async fn count_held(db: &Transaction<'_>, pipeline: PipelineId, limit: i64) -> Result<i64, Error> {
    let statement = db.prepare_cached(include_str!("../sql/pipeline/hold.sql")).await?;
    db.execute(&statement, &[&pipeline.0]).await?;
    let statement = db.prepare_cached(include_str!("../sql/trigger/count.sql")).await?;
    Ok(db.query_one(&statement, &[&pipeline.0, &limit]).await?.get(0))
}

/// Edits the version that the editor saw; answers whether that was the one in force. One that is called no more loses its
/// tokens.
///
/// # Errors
/// When the statement fails.
pub async fn update(
    db: &Transaction<'_>,
    id: TriggerId,
    version: i64,
    definition: Definition<'_>,
) -> Result<bool, Error> {
    let statement = db.prepare_cached(include_str!("../sql/trigger/update.sql")).await?;
    let kind = kind_word(&definition.spec.kind);
    let is_edited = db.query_opt(&statement, &[&id.0, &version, &kind, definition.document]).await?.is_some();
    if is_edited {
        drop_uncalled(db, &[id.0]).await?;
    }
    Ok(is_edited)
}

/// What can be done to a trigger as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// It fires from now on.
    Start,
    /// It fires no more once this has committed.
    Pause,
    /// It is no more.
    Archive,
}

/// Does it; answers whether there was such a trigger. The built-in one is none. One that is archived loses its tokens.
///
/// # Errors
/// When the statement fails.
pub async fn act(db: &Transaction<'_>, id: TriggerId, act: Act) -> Result<bool, Error> {
    let sql = match act {
        Act::Start => include_str!("../sql/trigger/start.sql"),
        Act::Pause => include_str!("../sql/trigger/pause.sql"),
        Act::Archive => include_str!("../sql/trigger/archive.sql"),
    };
    let statement = db.prepare_cached(sql).await?;
    let is_done = db.query_opt(&statement, &[&id.0]).await?.is_some();
    if is_done && act == Act::Archive {
        drop_uncalled(db, &[id.0]).await?;
    }
    Ok(is_done)
}

/// The trigger of this name, archived or not.
///
/// # Errors
/// When the statement fails.
pub async fn find(db: &impl GenericClient, pipeline: PipelineId, name: &str) -> Result<Option<TriggerId>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/trigger/find.sql")).await?;
    Ok(db.query_opt(&statement, &[&pipeline.0, &name]).await?.map(|row| TriggerId(row.get("id"))))
}
