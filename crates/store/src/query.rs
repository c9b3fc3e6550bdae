//! The ways to run a statement that was prepared once per connection. Refuses to know any statement.

use crate::Error;
use deadpool_postgres::GenericClient;
use tokio_postgres::{Row, types::ToSql};

/// Parameters by position.
pub(crate) type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Every row.
pub(crate) async fn rows(db: &impl GenericClient, sql: &str, parameters: Parameters<'_>) -> Result<Vec<Row>, Error> {
    let statement = db.prepare_cached(sql).await?;
    Ok(db.query(&statement, parameters).await?)
}

/// The only row, if there is one.
pub(crate) async fn row(db: &impl GenericClient, sql: &str, parameters: Parameters<'_>) -> Result<Option<Row>, Error> {
    let statement = db.prepare_cached(sql).await?;
    Ok(db.query_opt(&statement, parameters).await?)
}

/// The only row of a statement that always has one.
pub(crate) async fn one(db: &impl GenericClient, sql: &str, parameters: Parameters<'_>) -> Result<Row, Error> {
    let statement = db.prepare_cached(sql).await?;
    Ok(db.query_one(&statement, parameters).await?)
}

/// How many rows changed.
pub(crate) async fn execute(db: &impl GenericClient, sql: &str, parameters: Parameters<'_>) -> Result<u64, Error> {
    let statement = db.prepare_cached(sql).await?;
    Ok(db.execute(&statement, parameters).await?)
}
