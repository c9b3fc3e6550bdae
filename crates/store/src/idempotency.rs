//! Answers of mutations, by the key that the client chose. Refuses to know what the answers mean.

use crate::Error;
use deadpool_postgres::GenericClient;

/// What is known about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Never seen: act, then [`record`] the answer in this transaction.
    New,
    /// The same request was answered before, with this.
    Answered(Vec<u8>),
    /// The key belongs to another request.
    Reused,
}

/// Claims a key until the transaction ends; a second request with the same key waits here.
///
/// # Errors
/// When a statement fails.
pub async fn claim(db: &impl GenericClient, method: &str, key: &str, request_hash: &[u8]) -> Result<Claim, Error> {
    let lock = db.prepare_cached(include_str!("../sql/idempotency/lock.sql")).await?;
    db.execute(&lock, &[&format!("{method}\n{key}")]).await?;
    let get = db.prepare_cached(include_str!("../sql/idempotency/get.sql")).await?;
    let Some(row) = db.query_opt(&get, &[&method, &key]).await? else { return Ok(Claim::New) };
    let known: &[u8] = row.get(0);
    Ok(if known == request_hash { Claim::Answered(row.get(1)) } else { Claim::Reused })
}

/// Remembers the answer to a claimed key.
///
/// # Errors
/// When the statement fails.
pub async fn record(
    db: &impl GenericClient,
    method: &str,
    key: &str,
    request_hash: &[u8],
    response: &[u8],
) -> Result<(), Error> {
    let statement = db.prepare_cached(include_str!("../sql/idempotency/insert.sql")).await?;
    db.execute(&statement, &[&method, &key, &request_hash, &response]).await?;
    Ok(())
}

/// Uses a key up: whether nobody had before. It is remembered as long as answers are.
///
/// # Errors
/// When the statement fails.
pub async fn once(db: &impl GenericClient, method: &str, key: &str) -> Result<bool, Error> {
    let statement = db.prepare_cached(include_str!("../sql/idempotency/once.sql")).await?;
    Ok(db.execute(&statement, &[&method, &key]).await? == 1)
}

/// Forgets at most `limit` of the answers that are older than so many days; how many these were.
///
/// # Errors
/// When the statement fails.
pub async fn forget(db: &impl GenericClient, days: i32, limit: i64) -> Result<u64, Error> {
    let statement = db.prepare_cached(include_str!("../sql/idempotency/delete_old.sql")).await?;
    Ok(db.execute(&statement, &[&days, &limit]).await?)
}
