//! The end of runs: rows that are old enough go. Refuses to know how old that is.

use crate::{Error, Store};
use domain::id::PipelineId;
use jiff::Timestamp;
use std::time::Duration;

/// Firings of one trigger or backfill that one call forgets.
const FIRINGS_OF_SOURCE: i64 = 200;

/// Forgets up to `limit` runs of a pipeline that ended before an instant and whose outputs are gone. Answers how many.
///
/// # Errors
/// When the database does not answer.
pub async fn runs(store: &Store, pipeline: PipelineId, before: Timestamp, limit: i64) -> Result<i64, Error> {
    let client = store.client().await?;
    let statement = client.prepare_cached(include_str!("../sql/run/delete_before.sql")).await?;
    Ok(client.query_one(&statement, &[&pipeline.0, &before, &limit]).await?.get("runs"))
}

/// Forgets up to `limit` firings that are older than `kept` and whose run is gone; those of a trigger stay for its catch-up
/// window at least. Answers how many.
///
/// # Errors
/// When the database does not answer.
pub async fn firings(store: &Store, kept: Duration, limit: i64) -> Result<u64, Error> {
    let client = store.client().await?;
    let statement = client.prepare_cached(include_str!("../sql/firing/delete_before.sql")).await?;
    Ok(client.execute(&statement, &[&kept.as_secs_f64(), &FIRINGS_OF_SOURCE, &limit]).await?)
}
