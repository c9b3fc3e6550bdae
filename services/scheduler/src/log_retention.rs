//! How long log lines are kept, and the end of those that are older: whole days, of the whole cluster; and before that,
//! the lines of runs whose project keeps them for less long. By the database's clock, so that one machine whose clock
//! jumps removes nothing. Refuses to know who asks: the housekeeper, or a person.

use crate::clock::DbClock;
use domain::ErrorKind;
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;
use store::{
    Store,
    logs::{self, Old, Partition},
    outputs,
};

/// Runs and lines of one statement.
const RUNS_MAX: i64 = 200;
const LINES_MAX: u64 = 5_000;
/// Pages of one round.
const PAGES_MAX: usize = 50;

/// The keeping of log lines. Copies share it.
#[derive(Clone)]
pub struct LogRetention {
    store: Store,
    clock: DbClock,
    kept: Duration,
}

/// Why nothing was removed.
#[derive(Debug, thiserror::Error)]
pub enum LogRetentionError {
    /// Nobody said how long lines are kept.
    #[error("log lines are kept for ever: name a time, or set `log_retention` of the schedulers")]
    ForEver,
    /// The database.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl LogRetentionError {
    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::ForEver => ErrorKind::FailedPrecondition,
            Self::Store(error) => error.kind(),
        }
    }
}

/// Days that are over, and the instant before which they lie.
#[derive(Debug)]
pub struct Expired {
    /// Never later than now.
    pub before: Timestamp,
    /// Oldest first.
    pub days: Vec<Partition>,
}

impl LogRetention {
    /// Lines are kept for `kept`; zero keeps them for ever. `store` is that of [`Store::connect_for_logs`].
    #[must_use]
    pub fn new(store: Store, clock: DbClock, kept: Duration) -> Self {
        Self { store, clock, kept }
    }

    /// The days that lie wholly before an instant, or before what is kept.
    ///
    /// # Errors
    /// When lines are kept for ever and no instant is named, or the database does not answer.
    pub async fn expired(&self, before: Option<Timestamp>) -> Result<Expired, LogRetentionError> {
        let before = self.before(before)?;
        Ok(Expired { before, days: logs::expired(&self.store, before).await? })
    }

    /// Drops them; answers what was dropped.
    ///
    /// # Errors
    /// As [`LogRetention::expired`]; days that were dropped before an error stay dropped.
    pub async fn drop_expired(&self, before: Option<Timestamp>) -> Result<Expired, LogRetentionError> {
        let before = self.before(before)?;
        let days = logs::drop_expired(&self.store, before).await?;
        for day in &days {
            tracing::info!(partition = day.name, bytes = day.bytes, "dropped a day of log lines");
        }
        Ok(Expired { before, days })
    }

    /// Deletes lines of ended runs that their project does not keep any more, up to so many pages; answers whether there
    /// may be more. The lines of a run go together, by its end.
    ///
    /// # Errors
    /// When the database does not answer; lines that were deleted until then stay deleted.
    pub async fn delete_of_projects(&self) -> Result<bool, store::Error> {
        let client = self.store.client().await?;
        let retentions = outputs::retentions(&client, None, None).await?;
        drop(client);
        let (now, mut lines, mut pages) = (self.clock.now(), 0, 0);
        for kept in retentions {
            let Some(before) = kept.logs_period.and_then(|period| now.checked_sub(period).ok()) else { continue };
            let old = Old { pipeline: kept.pipeline, before, runs_max: RUNS_MAX, lines_max: LINES_MAX };
            let mut stragglers = true;
            while pages < PAGES_MAX {
                let deleted = if stragglers {
                    logs::delete_of_stragglers(&self.store, &old).await?
                } else {
                    logs::delete_of_ended(&self.store, &old).await?
                };
                match deleted {
                    Some(deleted) => {
                        lines += deleted;
                        pages += 1;
                    }
                    None if stragglers => stragglers = false,
                    None => break,
                }
            }
        }
        if lines > 0 {
            tracing::info!(lines, "deleted log lines that their projects keep no longer");
        }
        Ok(pages == PAGES_MAX)
    }

    fn before(&self, asked: Option<Timestamp>) -> Result<Timestamp, LogRetentionError> {
        let now = self.clock.now();
        if let Some(asked) = asked {
            // Today's lines, and the tables of the days to come, are never old.
            return Ok(asked.min(now));
        }
        let kept = SignedDuration::try_from(self.kept).ok().filter(|kept| !kept.is_zero());
        kept.and_then(|kept| now.checked_sub(kept).ok()).ok_or(LogRetentionError::ForEver)
    }
}
