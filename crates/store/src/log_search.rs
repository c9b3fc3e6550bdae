//! Searching log lines, newest first. Refuses to write any.
//!
//! Within a run, its index serves. Beyond, lines are looked at from the newest on: those that are not in a chunk yet by
//! a plain scan, then chunk by chunk, where most chunks are skipped without a look at their lines. A search ends after a
//! time: it says how far it got and goes on from there, so that a rare word costs a caller more pages and nobody a
//! query without end.

use crate::{
    Error,
    log_chunks::ERROR,
    log_grams,
    log_views::{Line, decode},
};
use deadpool_postgres::GenericClient;
use domain::id::{PipelineId, RunId, TriggerId, WorkspaceId};
use jiff::Timestamp;
use std::time::{Duration, Instant};

/// Lines outside chunks that one statement looks at.
const WINDOW: i64 = 50_000;
/// Chunks that one statement decides about.
const CHUNKS: i64 = 512;

/// Which lines.
#[derive(Debug, Clone)]
pub struct Search<'a> {
    /// Of this workspace's runs.
    pub workspace: WorkspaceId,
    /// Only this pipeline's.
    pub pipeline: Option<PipelineId>,
    /// Only of runs that this trigger started.
    pub trigger: Option<TriggerId>,
    /// Only of this run; the caller has checked that it belongs to the workspace.
    pub run: Option<RunId>,
    /// Only this block's; empty means all.
    pub block: &'a str,
    /// Only blocks of this type, such as `transformer`; empty means all.
    pub block_type: &'a str,
    /// This level and above.
    pub min_level: i16,
    /// A part of the line; the case of ASCII letters does not matter. Empty means all.
    pub text: &'a str,
    /// From then on.
    pub since: Timestamp,
    /// Before then.
    pub until: Timestamp,
}

/// A line, and where it is from.
#[derive(Debug, Clone)]
pub struct Hit {
    /// The line.
    pub line: Line,
    /// Its run.
    pub run: RunId,
    /// The pipeline's name; empty in a search within a run, whose caller knows it.
    pub pipeline: String,
    /// The trigger's name; likewise.
    pub trigger: String,
}

/// A page of lines.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Newest first.
    pub hits: Vec<Hit>,
    /// Lines from this id on were looked at; `None` when all were.
    pub before: Option<i64>,
}

/// Up to `limit` lines before the id `before`, newest first. Ends after about `patience` with what it has.
///
/// # Errors
/// When a statement fails.
pub async fn search(
    db: &impl GenericClient,
    search: &Search<'_>,
    before: i64,
    limit: i64,
    patience: Duration,
) -> Result<Found, Error> {
    match search.run {
        Some(run) => within_run(db, search, run, before, limit).await,
        None => {
            let mut walk = Walk { db, search, limit, until: Instant::now() + patience, found: Found::default() };
            let done = walk.everything(before).await?;
            if done {
                walk.found.before = None;
            }
            Ok(walk.found)
        }
    }
}

async fn within_run(
    db: &impl GenericClient,
    search: &Search<'_>,
    run: RunId,
    before: i64,
    limit: i64,
) -> Result<Found, Error> {
    let Search { block, block_type, min_level, text, since, until, .. } = search;
    let statement = db.prepare_cached(include_str!("../sql/log_line/search_run.sql")).await?;
    let rows =
        db.query(&statement, &[&run.0, &before, since, until, block, block_type, min_level, text, &limit]).await?;
    let hit = |row| Hit { line: decode(row), run, pipeline: String::new(), trigger: String::new() };
    let hits: Vec<Hit> = rows.iter().map(hit).collect();
    let before = if hits.len() as i64 == limit { hits.last().map(|hit| hit.line.id) } else { None };
    Ok(Found { hits, before })
}

/// A chunk that was decided about.
struct Chunk {
    after_id: i64,
    last_id: i64,
    since: Timestamp,
    until: Timestamp,
    may: bool,
}

struct Walk<'a, D> {
    db: &'a D,
    search: &'a Search<'a>,
    limit: i64,
    until: Instant,
    found: Found,
}

impl<D: GenericClient> Walk<'_, D> {
    /// True when everything was looked at.
    async fn everything(&mut self, before: i64) -> Result<bool, Error> {
        let sealed = self.number(include_str!("../sql/log_chunk/sealed.sql")).await?;
        let last = self.number(include_str!("../sql/log_line/last_id.sql")).await?;
        let mut before = before.min(last.saturating_add(1));
        let Search { since, until, .. } = *self.search;
        while before > sealed + 1 {
            let after = sealed.max(before - 1 - WINDOW);
            if self.range(after, before - 1, since, until).await? {
                return Ok(false);
            }
            before = after + 1;
        }
        self.chunks(before).await
    }

    async fn chunks(&mut self, mut before: i64) -> Result<bool, Error> {
        let hashes = log_grams::hashes(self.search.text);
        loop {
            let chunks = self.decide(before, &hashes).await?;
            for chunk in &chunks {
                let last = chunk.last_id.min(before - 1);
                let stop = if chunk.may {
                    self.range(chunk.after_id, last, chunk.since, chunk.until).await?
                } else {
                    self.looked(chunk.after_id)
                };
                if stop {
                    return Ok(false);
                }
                before = chunk.after_id + 1;
            }
            if chunks.len() as i64 != CHUNKS {
                return Ok(true);
            }
        }
    }

    async fn decide(&self, before: i64, hashes: &[i64]) -> Result<Vec<Chunk>, Error> {
        let Search { workspace, pipeline, trigger, block, block_type, min_level, since, until, .. } = self.search;
        let (pipeline, trigger) = (pipeline.map(|id| id.0), trigger.map(|id| id.0));
        let errors_of = (*min_level >= ERROR).then(|| trigger.or(pipeline).unwrap_or(workspace.0));
        let statement = self.db.prepare_cached(include_str!("../sql/log_chunk/list.sql")).await?;
        // Chunks whose first lines lie below `before`.
        let below = before - 1;
        let rows = self
            .db
            .query(
                &statement,
                &[
                    &below,
                    since,
                    until,
                    &workspace.0,
                    &pipeline,
                    &trigger,
                    min_level,
                    &hashes,
                    &CHUNKS,
                    block,
                    block_type,
                    &errors_of,
                ],
            )
            .await?;
        let chunk = |row: &tokio_postgres::Row| Chunk {
            after_id: row.get("after_id"),
            last_id: row.get("last_id"),
            since: row.get::<_, Timestamp>("min_at").max(*since),
            until: after(row.get("max_at")).min(*until),
            may: row.get("may"),
        };
        Ok(rows.iter().map(chunk).collect())
    }

    /// Looks at the lines of one range; true when the page is full or the time is over.
    async fn range(&mut self, after: i64, last: i64, since: Timestamp, until: Timestamp) -> Result<bool, Error> {
        let Search { workspace, pipeline, trigger, block, block_type, min_level, text, .. } = self.search;
        let (pipeline, trigger) = (pipeline.map(|id| id.0), trigger.map(|id| id.0));
        let wanted = self.limit - self.found.hits.len() as i64;
        let statement = self.db.prepare_cached(include_str!("../sql/log_line/search.sql")).await?;
        let rows = self
            .db
            .query(
                &statement,
                &[
                    &after,
                    &last,
                    &since,
                    &until,
                    &workspace.0,
                    &pipeline,
                    &trigger,
                    block,
                    block_type,
                    min_level,
                    text,
                    &wanted,
                ],
            )
            .await?;
        self.found.hits.extend(rows.iter().map(|row| Hit {
            line: decode(row),
            run: RunId(row.get("run_id")),
            pipeline: row.get("pipeline"),
            trigger: row.get("trigger"),
        }));
        if rows.len() as i64 == wanted {
            self.found.before = self.found.hits.last().map(|hit| hit.line.id);
            return Ok(true);
        }
        Ok(self.looked(after))
    }

    /// Notes how far the search got; true when its time is over.
    fn looked(&mut self, after: i64) -> bool {
        self.found.before = Some(after + 1);
        Instant::now() >= self.until
    }

    async fn number(&self, sql: &'static str) -> Result<i64, Error> {
        let statement = self.db.prepare_cached(sql).await?;
        Ok(self.db.query_one(&statement, &[]).await?.get("id"))
    }
}

/// The first instant after one that the database stores.
fn after(at: Timestamp) -> Timestamp {
    at.checked_add(jiff::SignedDuration::from_micros(1)).unwrap_or(at)
}
