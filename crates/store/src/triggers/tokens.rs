//! Tokens of API triggers: a public id to look them up by, and a hash of the whole. Refuses to know a token itself, and
//! how one is made.

use crate::Error;
use deadpool_postgres::GenericClient;
use domain::id::{PipelineId, TriggerId};
use jiff::Timestamp;
use uuid::Uuid;

/// The most tokens that a trigger has at once, those included that expire soon.
pub const TOKENS_MAX: usize = 10;

/// What is stored of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Public.
    pub id: String,
    /// SHA-256 of the whole token.
    pub hash: [u8; 32],
}

impl Token {
    /// The ids that it may have as one of a trigger's: its own; and one with the trigger's, where its own is another
    /// trigger's, because a project's file with a token in it was deployed into two workspaces.
    fn ids(&self, trigger: TriggerId) -> [String; 2] {
        // So much of it that the column holds both, and all that is random in it.
        let of_trigger = &trigger.0.simple().to_string()[4..];
        [self.id.clone(), format!("{}.{of_trigger}", self.id)]
    }
}

/// A token of a trigger, as its owner may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Public.
    pub id: String,
    /// `project` or `api`.
    pub source: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops to hold; `None` until the next rotation.
    pub expires_at: Option<Timestamp>,
}

/// The id and the hash of what this trigger has of the id of a token, if it holds, and if it is a trigger that is called.
///
/// # Errors
/// When the statement fails.
pub async fn token(
    db: &impl GenericClient,
    trigger: TriggerId,
    token: &Token,
) -> Result<Option<(String, Vec<u8>)>, Error> {
    let statement = db.prepare_cached(include_str!("../../sql/trigger_token/get.sql")).await?;
    let row = db.query_opt(&statement, &[&trigger.0, &token.ids(trigger).as_slice()]).await?;
    Ok(row.map(|row| (row.get(0), row.get(1))))
}

/// The tokens of a trigger that hold.
///
/// # Errors
/// When the statement fails.
pub async fn tokens(db: &impl GenericClient, trigger: TriggerId) -> Result<Vec<Held>, Error> {
    let statement = db.prepare_cached(include_str!("../../sql/trigger_token/list.sql")).await?;
    let limit = i64::try_from(TOKENS_MAX).unwrap_or(i64::MAX);
    let rows = db.query(&statement, &[&trigger.0, &limit]).await?;
    let held = |row: &tokio_postgres::Row| Held {
        id: row.get(0),
        source: row.get(1),
        created_at: row.get(2),
        expires_at: row.get(3),
    };
    Ok(rows.iter().map(held).collect())
}

/// Adds a token and lets the others expire after `overlap_s` seconds.
///
/// # Errors
/// When a statement fails.
pub async fn rotate(db: &impl GenericClient, trigger: TriggerId, token: &Token, overlap_s: u32) -> Result<(), Error> {
    insert(db, trigger, token, "api").await?;
    let statement = db.prepare_cached(include_str!("../../sql/trigger_token/expire_others.sql")).await?;
    db.execute(&statement, &[&trigger.0, &token.ids(trigger).as_slice(), &f64::from(overlap_s)]).await?;
    Ok(())
}

/// Makes the token that the project's file gives the only one of the file's.
///
/// # Errors
/// When a statement fails.
pub async fn keep_project_token(
    db: &impl GenericClient,
    trigger: TriggerId,
    token: Option<&Token>,
) -> Result<(), Error> {
    let statement = db.prepare_cached(include_str!("../../sql/trigger_token/delete_of_project.sql")).await?;
    let stay = token.map(|token| token.ids(trigger));
    db.execute(&statement, &[&trigger.0, &stay.iter().flatten().collect::<Vec<_>>()]).await?;
    if let Some(token) = token {
        insert(db, trigger, token, "project").await?;
    }
    Ok(())
}

async fn insert(db: &impl GenericClient, trigger: TriggerId, token: &Token, source: &str) -> Result<(), Error> {
    let statement = db.prepare_cached(include_str!("../../sql/trigger_token/insert.sql")).await?;
    let ids = token.ids(trigger);
    // The second does nothing where the first did not fail, or the trigger has the token.
    for id in &ids {
        db.execute(&statement, &[id, &trigger.0, &token.hash.as_slice(), &source, &ids.as_slice()]).await?;
    }
    Ok(())
}

/// Drops the tokens of those of these triggers that nobody calls any more, in the transaction that made them so.
pub(super) async fn drop_uncalled(db: &impl GenericClient, triggers: &[Uuid]) -> Result<(), Error> {
    let statement = db.prepare_cached(include_str!("../../sql/trigger_token/delete_uncalled.sql")).await?;
    db.execute(&statement, &[&triggers]).await?;
    Ok(())
}

/// Drops the tokens of an archived trigger whose name is about to be taken over.
pub(super) async fn drop_of_archived(db: &impl GenericClient, pipeline: PipelineId, name: &str) -> Result<(), Error> {
    let statement = db.prepare_cached(include_str!("../../sql/trigger_token/delete_of_archived.sql")).await?;
    db.execute(&statement, &[&pipeline.0, &name]).await?;
    Ok(())
}
