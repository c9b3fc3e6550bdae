//! Log lines, written in batches, and the days that they are kept by. Refuses to read any line.

use crate::{Client, Error, Store};
use domain::id::PipelineId;
use jiff::Timestamp;
use std::pin::pin;
use tokio_postgres::{Row, binary_copy::BinaryCopyInWriter, types::Type};
use uuid::Uuid;

/// Columns of a batch, as `log_line/copy.sql` names them.
const COLUMNS: [Type; 9] =
    [Type::UUID, Type::TIMESTAMPTZ, Type::TEXT, Type::INT4, Type::INT8, Type::INT2, Type::TEXT, Type::TEXT, Type::TEXT];

/// One line on its way in.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of log_line")]
pub struct NewLine {
    pub run_id: Uuid,
    pub at: Timestamp,
    pub block: String,
    pub child: i32,
    pub lease: i64,
    pub level: i16,
    pub stream: String,
    pub message: String,
    pub block_type: String,
}

/// The lines of one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Of the table; `log_line_` and the day.
    pub name: String,
    /// With its indexes.
    pub bytes: i64,
}

/// Stores a batch of lines, all or none, through a pool of [`Store::connect_for_logs`]. They survive a crash of the
/// database once its next flush (at most three times `wal_writer_delay`, 0.6 s by default) is done: a line is not worth
/// a wait for the disk.
///
/// # Errors
/// When the database does not answer; then no line is stored.
pub async fn insert(store: &Store, lines: &[NewLine]) -> Result<(), Error> {
    let client = store.client().await?;
    let statement = client.prepare_cached(include_str!("../sql/log_line/copy.sql")).await?;
    let mut writer = pin!(BinaryCopyInWriter::new(client.copy_in(&statement).await?, &COLUMNS));
    for line in lines {
        let NewLine { run_id, at, block, child, lease, level, stream, message, block_type } = line;
        writer.as_mut().write(&[run_id, at, block, child, lease, level, stream, message, block_type]).await?;
    }
    writer.finish().await?;
    Ok(())
}

/// Creates the partitions of the days around today, so that retention can drop whole days.
///
/// # Errors
/// When the database does not answer, or somebody holds a lock for too long. Two schedulers that do it at once: one of
/// them fails, harmlessly.
pub async fn create_partitions(store: &Store) -> Result<(), Error> {
    let client = store.client().await?;
    client.batch_execute(include_str!("../sql/log_line/create_partition.sql")).await?;
    Ok(())
}

/// The days that lie wholly before `before`, oldest first.
///
/// # Errors
/// When the statement fails.
pub async fn expired(store: &Store, before: Timestamp) -> Result<Vec<Partition>, Error> {
    let client = store.client().await?;
    let rows = client.query(include_str!("../sql/log_line/partitions.sql"), &[&before]).await?;
    Ok(rows.iter().map(|row| Partition { name: row.get("name"), bytes: row.get("bytes") }).collect())
}

/// Drops the days that lie wholly before `before`, with what searches know of them; answers what was dropped. Each day
/// goes by itself: a failure leaves the later ones for the next time.
///
/// # Errors
/// When a statement fails, or a lock is not had in two seconds.
pub async fn drop_expired(store: &Store, before: Timestamp) -> Result<Vec<Partition>, Error> {
    let expired = expired(store, before).await?;
    let mut client = store.client().await?;
    for partition in &expired {
        let transaction = client.transaction().await?;
        // The name is one of `log_line_` and eight digits: partitions.sql lists no other.
        let drop = format!("SET LOCAL lock_timeout = '2s'; DROP TABLE IF EXISTS {}", partition.name);
        transaction.batch_execute(&drop).await?;
        transaction.commit().await?;
    }
    client.execute(include_str!("../sql/log_line/delete_stray.sql"), &[&before]).await?;
    client.execute(include_str!("../sql/log_chunk/delete_before.sql"), &[&before]).await?;
    Ok(expired)
}

/// Lines that a project does not keep any more, as many as one statement takes.
#[derive(Debug, Clone, Copy)]
pub struct Old {
    /// Whose runs.
    pub pipeline: PipelineId,
    /// They ended before.
    pub before: Timestamp,
    /// Runs at most.
    pub runs_max: i64,
    /// Lines at most.
    pub lines_max: u64,
}

/// Deletes lines of runs that nobody has looked at, oldest first, and notes up to which run it came. One that has not ended for so long is
/// passed, and noted as a straggler. Answers how many lines went; `None` when no run is left. Two who do it at once do it once.
///
/// # Errors
/// When the database does not answer; what was deleted stays deleted.
pub async fn delete_of_ended(store: &Store, old: &Old) -> Result<Option<u64>, Error> {
    let client = store.client().await?;
    let statement = client.prepare_cached(include_str!("../sql/run/select_after_log_mark.sql")).await?;
    let rows = client.query(&statement, &[&old.pipeline.0, &old.before, &old.runs_max]).await?;
    let Some(last) = rows.last() else { return Ok(None) };
    let (ended, stragglers): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.get("has_ended"));
    let ids = |rows: Vec<&Row>| rows.into_iter().map(|row| row.get("id")).collect::<Vec<Uuid>>();
    let (gone, deleted) = delete_of(&client, &ids(ended), old.lines_max).await?;
    if gone {
        let (created_at, run): (Timestamp, Uuid) = (last.get("created_at"), last.get("id"));
        let statement = client.prepare_cached(include_str!("../sql/pipeline_log_passed/raise.sql")).await?;
        client.execute(&statement, &[&old.pipeline.0, &created_at, &run, &ids(stragglers)]).await?;
    }
    Ok(Some(deleted))
}

/// As [`delete_of_ended`], of runs that were passed before they had ended for so long, or that ran again.
///
/// # Errors
/// As there.
pub async fn delete_of_stragglers(store: &Store, old: &Old) -> Result<Option<u64>, Error> {
    let client = store.client().await?;
    let statement = client.prepare_cached(include_str!("../sql/log_straggler/select_ended.sql")).await?;
    let rows = client.query(&statement, &[&old.pipeline.0, &old.before, &old.runs_max]).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let runs: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    let noted: Vec<Timestamp> = rows.iter().map(|row| row.get(1)).collect();
    let (gone, deleted) = delete_of(&client, &runs, old.lines_max).await?;
    if gone {
        let statement = client.prepare_cached(include_str!("../sql/log_straggler/delete.sql")).await?;
        client.execute(&statement, &[&old.pipeline.0, &runs, &noted]).await?;
    }
    Ok(Some(deleted))
}

/// Deletes up to so many lines of these runs. Answers whether none is left, and how many went.
async fn delete_of(client: &Client, runs: &[Uuid], lines_max: u64) -> Result<(bool, u64), Error> {
    let statement = client.prepare_cached(include_str!("../sql/log_line/delete_of_runs.sql")).await?;
    let limit = i64::try_from(lines_max).unwrap_or(i64::MAX);
    let row = client.query_one(&statement, &[&runs, &limit]).await?;
    let (found, deleted) = (row.get::<_, i64>(0), row.get::<_, i64>(1));
    // Not by what was deleted: somebody who does the same at once may have been faster with these, and more are left.
    Ok((found < limit, u64::try_from(deleted).unwrap_or(0)))
}
