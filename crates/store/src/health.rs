//! How the database itself is, as far as queues suffer from it. Refuses to mend anything.

use crate::{Error, Store};

/// What an operator should watch.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// Tables and how many dead rows each has; those with most.
    pub dead_tuples: Vec<(String, i64)>,
    /// Seconds since the start of the oldest transaction that keeps dead rows from removal.
    pub xmin_age_s: f64,
}

/// Looks.
///
/// # Errors
/// When the database does not answer.
pub async fn look(store: &Store) -> Result<Health, Error> {
    let client = store.client().await?;
    let tables = client.query(include_str!("../sql/health/dead_tuples.sql"), &[]).await?;
    let age = client.query_one(include_str!("../sql/health/xmin_age.sql"), &[]).await?;
    Ok(Health {
        dead_tuples: tables.iter().map(|row| (row.get("name"), row.get("dead"))).collect(),
        xmin_age_s: age.get("seconds"),
    })
}
