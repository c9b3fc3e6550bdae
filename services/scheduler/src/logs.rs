//! Log lines on their way to the database. Apart from the engine: a flood of lines never delays a decision.

use crate::{changes::Changes, metrics::Metrics};
use domain::id::RunId;
use jiff::Timestamp;
use proto::internal::v1 as pb;
use std::{collections::HashSet, sync::Arc};
use store::{Store, logs::LineBatch};
use uuid::Uuid;

/// Characters of one line; the rest is cut by executors, and here for those that do not.
const MESSAGE_MAX: usize = 64 * 1024;

/// Stores lines.
#[derive(Clone)]
pub struct LogSink {
    store: Store,
    changes: Changes,
    metrics: Arc<Metrics>,
}

impl LogSink {
    /// Writes to the database and tells readers.
    #[must_use]
    pub fn new(store: Store, changes: Changes, metrics: Arc<Metrics>) -> Self {
        Self { store, changes, metrics }
    }

    /// Stores a batch; lines with a malformed run id are dropped.
    ///
    /// # Errors
    /// When the database does not answer: the executor keeps the lines and sends them again.
    pub async fn store(&self, lines: Vec<pb::LogLine>) -> Result<(), store::Error> {
        let mut batch = LineBatch::default();
        let mut runs = HashSet::new();
        for line in lines {
            let Ok(run) = Uuid::from_slice(&line.run_id) else { continue };
            runs.insert(RunId(run));
            batch.run_id.push(run);
            batch.at.push(Timestamp::from_microsecond(line.at_us).unwrap_or_else(|_| Timestamp::now()));
            batch.block.push(line.block.replace('\0', ""));
            batch.child.push(line.child);
            batch.lease.push(line.lease);
            batch.level.push(level(&line.level));
            batch.stream.push(line.stream.replace('\0', ""));
            batch.message.push(printable(line.message));
        }
        if batch.run_id.is_empty() {
            return Ok(());
        }
        store::logs::insert(&self.store, &batch).await?;
        self.metrics.log_lines.inc_by(batch.run_id.len() as u64);
        self.changes.logged(runs.into_iter().collect());
        Ok(())
    }
}

fn level(name: &str) -> i16 {
    match name {
        "DEBUG" => 10,
        "WARNING" => 30,
        "ERROR" => 40,
        "CRITICAL" => 50,
        _ => 20,
    }
}

/// Postgres stores no NUL in text.
fn printable(mut message: String) -> String {
    if message.len() > MESSAGE_MAX {
        let end = (0..=MESSAGE_MAX).rev().find(|&at| message.is_char_boundary(at)).unwrap_or(0);
        message.truncate(end);
    }
    if message.contains('\0') { message.replace('\0', "") } else { message }
}
