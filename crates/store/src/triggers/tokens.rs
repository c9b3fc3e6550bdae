//! Tokens of API triggers: a public id to look them up by, and a hash of the whole. Refuses to know a token itself, and
//! how one is made.

use crate::Error;
use deadpool_postgres::GenericClient;
use domain::id::TriggerId;
use jiff::Timestamp;

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

/// The trigger and the hash of the token of this id, if it holds.
///
/// # Errors
/// When the statement fails.
pub async fn token(db: &impl GenericClient, id: &str) -> Result<Option<(TriggerId, Vec<u8>)>, Error> {
    let statement = db.prepare_cached(include_str!("../../sql/trigger_token/get.sql")).await?;
    Ok(db.query_opt(&statement, &[&id]).await?.map(|row| (TriggerId(row.get(0)), row.get(1))))
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
    db.execute(&statement, &[&trigger.0, &token.id, &f64::from(overlap_s)]).await?;
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
    db.execute(&statement, &[&trigger.0, &token.map_or("", |token| token.id.as_str())]).await?;
    if let Some(token) = token {
        insert(db, trigger, token, "project").await?;
    }
    Ok(())
}

async fn insert(db: &impl GenericClient, trigger: TriggerId, token: &Token, source: &str) -> Result<(), Error> {
    let statement = db.prepare_cached(include_str!("../../sql/trigger_token/insert.sql")).await?;
    db.execute(&statement, &[&token.id, &trigger.0, &token.hash.as_slice(), &source]).await?;
    Ok(())
}
