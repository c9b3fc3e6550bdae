//! Chunks of log lines: what a search needs to know to skip them. Refuses to search.

use crate::{Error, Store, log_grams::Filter, query};
use jiff::Timestamp;
use std::collections::HashSet;
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

/// Lines of one chunk. Fewer are never sealed: so many are read without an index in no time.
pub const CHUNK_LINES: i64 = 4_096;
/// From this level on, lines are errors; as executors number them.
pub(crate) const ERROR: i16 = 40;

/// The last id that was given to a line; its transaction may still be under way.
///
/// # Errors
/// When the statement fails.
pub async fn last_id(store: &Store) -> Result<i64, Error> {
    let client = store.client().await?;
    Ok(query::one(&client, include_str!("../sql/log_line/last_id.sql"), &[]).await?.get("id"))
}

/// Up to which id lines are sealed: no line up to there can still appear.
///
/// # Errors
/// When the statement fails.
pub async fn sealed(store: &Store) -> Result<i64, Error> {
    let client = store.client().await?;
    Ok(query::one(&client, include_str!("../sql/log_chunk/sealed.sql"), &[]).await?.get("id"))
}

/// Seals the next chunk among the lines up to `settled`; false when there are not enough of them. Another process that
/// does the same at the same time does no harm: one of both rows counts. Summing up takes milliseconds in one go.
///
/// The caller promises that no line up to `settled` can still appear.
///
/// # Errors
/// When the database does not answer.
pub async fn seal(store: &Store, settled: i64) -> Result<bool, Error> {
    let client = store.client().await?;
    let sealed = client.prepare_cached(include_str!("../sql/log_chunk/sealed.sql")).await?;
    let after: i64 = client.query_one(&sealed, &[]).await?.get("id");
    if settled - after < CHUNK_LINES {
        return Ok(false);
    }
    let lines = client.prepare_cached(include_str!("../sql/log_chunk/lines.sql")).await?;
    let rows = client.query(&lines, &[&after, &settled, &CHUNK_LINES]).await?;
    let (Some(last), true) = (rows.last(), rows.len() as i64 == CHUNK_LINES) else { return Ok(false) };
    let last: i64 = last.get("id");
    let Summary { lines, first_at, last_at, level, runs, failing, blocks, block_types, grams } = Summary::of(&rows);
    let insert = client.prepare_cached(include_str!("../sql/log_chunk/insert.sql")).await?;
    let values: [&(dyn ToSql + Sync); 11] =
        [&after, &last, &lines, &first_at, &last_at, &level, &runs, &grams, &blocks, &block_types, &failing];
    client.execute(&insert, &values).await?;
    Ok(true)
}

/// What a chunk says about its lines.
struct Summary {
    lines: i32,
    first_at: Timestamp,
    last_at: Timestamp,
    level: i16,
    runs: Vec<Uuid>,
    /// Those of them with errors.
    failing: Vec<Uuid>,
    blocks: Vec<String>,
    block_types: Vec<String>,
    grams: Vec<u8>,
}

impl Summary {
    fn of(rows: &[Row]) -> Self {
        let mut grams = Filter::default();
        let (mut runs, mut failing): (HashSet<Uuid>, HashSet<Uuid>) = Default::default();
        let (mut blocks, mut block_types): (HashSet<&str>, HashSet<&str>) = Default::default();
        let (mut first_at, mut last_at, mut level) = (Timestamp::MAX, Timestamp::MIN, 0_i16);
        for row in rows {
            let at: Timestamp = row.get("at");
            (first_at, last_at) = (first_at.min(at), last_at.max(at));
            level = level.max(row.get("level"));
            runs.insert(row.get("run_id"));
            if row.get::<_, i16>("level") >= ERROR {
                failing.insert(row.get("run_id"));
            }
            blocks.insert(row.get("block"));
            block_types.insert(row.get("block_type"));
            grams.add(row.get("message"));
        }
        Self {
            lines: i32::try_from(rows.len()).unwrap_or(i32::MAX),
            first_at,
            last_at,
            level,
            runs: runs.into_iter().collect(),
            failing: failing.into_iter().collect(),
            blocks: named(&blocks),
            block_types: named(&block_types),
            grams: grams.finish(),
        }
    }
}

/// The names, however many: each line has one of them, so they never take more place than the lines.
fn named(names: &HashSet<&str>) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
