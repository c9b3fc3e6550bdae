//! Log lines as readers see them. Refuses to write any.

use crate::Error;
use deadpool_postgres::GenericClient;
use domain::id::RunId;
use jiff::Timestamp;
use tokio_postgres::Row;

/// One line.
#[derive(Debug, Clone)]
pub struct Line {
    /// Orders the lines of a run as they were stored.
    pub id: i64,
    /// When it was written, by the writer's clock.
    pub at: Timestamp,
    /// Empty for lines of the run itself.
    pub block: String,
    /// -1 for the block itself.
    pub child: i32,
    /// Of the attempt that wrote it.
    pub lease: i64,
    /// 10 debug, 20 info, 30 warning, 40 error, 50 critical.
    pub level: i16,
    /// `stdout`, `stderr`, `logging` or `system`.
    pub stream: String,
    /// The text.
    pub message: String,
    /// The type of the block that wrote it, such as `transformer`; empty for lines of the run itself.
    pub block_type: String,
}

/// Which lines to read.
#[derive(Debug, Clone)]
pub struct Filter<'a> {
    /// Whose.
    pub run: RunId,
    /// Only this block's; empty means all.
    pub block: &'a str,
    /// This level and above.
    pub min_level: i16,
    /// A part of the line; the case of ASCII letters does not matter. Empty means all.
    pub text: &'a str,
}

/// Up to `limit` lines after the line `after`, as they were stored.
///
/// # Errors
/// When the statement fails.
pub async fn list(db: &impl GenericClient, filter: &Filter<'_>, after: i64, limit: i64) -> Result<Vec<Line>, Error> {
    let statement = db.prepare_cached(include_str!("../sql/log_line/list.sql")).await?;
    let Filter { run, block, min_level, text } = filter;
    let rows = db.query(&statement, &[&run.0, &after, block, min_level, text, &limit]).await?;
    Ok(rows.iter().map(decode).collect())
}

/// The columns that every statement on lines begins with.
pub(crate) fn decode(row: &Row) -> Line {
    Line {
        id: row.get(0),
        at: row.get(1),
        block: row.get(2),
        child: row.get(3),
        lease: row.get(4),
        level: row.get(5),
        stream: row.get(6),
        message: row.get(7),
        block_type: row.get(8),
    }
}
