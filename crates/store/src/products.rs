//! Global data products: whether one is out of date, and who refreshes it. Refuses to start a refresh.

use crate::{Error, Store, runs::StartablePipeline};
use domain::{id::RunId, trigger::key};
use jiff::Timestamp;

/// How a product stands at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// A completed run is young enough.
    pub young: bool,
    /// A completed run has its outputs, however old.
    pub kept: bool,
    /// The database's clock.
    pub now: Timestamp,
    /// The number of the last refresh; 0 before the first.
    pub refreshes: u64,
    /// Its run, while it has not ended.
    pub under_way: Option<RunId>,
}

/// Looks at the product of a pipeline, whose outputs are out of date after `seconds`.
///
/// # Errors
/// When the database does not answer.
pub async fn look(store: &Store, pipeline: &StartablePipeline, seconds: f64) -> Result<Product, Error> {
    let client = store.client().await?;
    let statement = client.prepare_cached(include_str!("../sql/firing/last_refresh.sql")).await?;
    let (least, greatest) = key::PRODUCTS;
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
        [&pipeline.id.0, &pipeline.trigger_id.0, &seconds, &least, &greatest];
    let row = client.query_one(&statement, &values).await?;
    let last: Option<String> = row.get("logical_key");
    let run: Option<uuid::Uuid> = row.get("run_id");
    Ok(Product {
        young: row.get("young"),
        kept: row.get("kept"),
        now: row.get("now"),
        refreshes: last.as_deref().and_then(key::number_of_product).unwrap_or(0),
        under_way: run.filter(|_| row.get("open")).map(RunId),
    })
}
