//! Log lines, written in batches.

use crate::{Error, Store};
use jiff::Timestamp;
use uuid::Uuid;

/// Lines as columns, one entry each.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the columns of log_line")]
pub struct LineBatch {
    pub run_id: Vec<Uuid>,
    pub at: Vec<Timestamp>,
    pub block: Vec<String>,
    pub child: Vec<i32>,
    pub lease: Vec<i64>,
    pub level: Vec<i16>,
    pub stream: Vec<String>,
    pub message: Vec<String>,
}

/// Stores a batch of lines. They survive a crash of the database once its next flush (at most three times
/// `wal_writer_delay`, 0.6 s by default) is done: a line is not worth a wait for the disk.
///
/// # Errors
/// When the database does not answer; then no line is stored.
pub async fn insert(store: &Store, lines: &LineBatch) -> Result<(), Error> {
    let mut client = store.client().await?;
    let statement = client.prepare_cached(include_str!("../sql/log_line/insert.sql")).await?;
    let transaction = client.transaction().await?;
    transaction.batch_execute("SET LOCAL synchronous_commit = off").await?;
    transaction
        .execute(
            &statement,
            &[
                &lines.run_id,
                &lines.at,
                &lines.block,
                &lines.child,
                &lines.lease,
                &lines.level,
                &lines.stream,
                &lines.message,
            ],
        )
        .await?;
    transaction.commit().await?;
    Ok(())
}

/// Creates tomorrow's partition, so that retention can drop whole days.
///
/// # Errors
/// When the database does not answer. Two schedulers that do it at once: one of them fails, harmlessly.
pub async fn create_partitions(store: &Store) -> Result<(), Error> {
    let client = store.client().await?;
    client.batch_execute(include_str!("../sql/log_line/create_partition.sql")).await?;
    Ok(())
}
