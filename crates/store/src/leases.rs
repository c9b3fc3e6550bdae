//! Leases as rows, by the database's clock. What they are for is not known here.

use crate::{Error, Store};
use std::{collections::HashSet, time::Duration};
use uuid::Uuid;

/// Says that `owner` lives for another `ttl`, and gives it those of `names` that no other living owner holds; answers
/// which it holds.
///
/// # Errors
/// When the database does not answer.
pub async fn hold(store: &Store, owner: Uuid, names: &[String], ttl: Duration) -> Result<HashSet<String>, Error> {
    let mut client = store.client().await?;
    let transaction = client.transaction().await?;
    transaction.execute(include_str!("../sql/lease/lock.sql"), &[]).await?;
    transaction.execute(include_str!("../sql/lease/live.sql"), &[&owner, &ttl.as_secs_f64()]).await?;
    transaction.execute(include_str!("../sql/lease/take.sql"), &[&owner, &names]).await?;
    let rows = transaction.query(include_str!("../sql/lease/held.sql"), &[&owner, &names]).await?;
    transaction.commit().await?;
    Ok(rows.iter().map(|row| row.get("name")).collect())
}

/// Frees those of `names` that `owner` holds.
///
/// # Errors
/// When the database does not answer.
pub async fn release(store: &Store, owner: Uuid, names: &[String]) -> Result<(), Error> {
    let client = store.client().await?;
    client.execute(include_str!("../sql/lease/release.sql"), &[&owner, &names]).await?;
    Ok(())
}
