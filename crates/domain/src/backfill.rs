//! Backfills: runs of a pipeline for every interval of a past range.
//!
//! A backfill is a cursor, not a list: how many intervals there are and when the k-th one begins is computed from the
//! range's start, so that a million start as fast as ten, and the 31st of a month never drifts. Refuses to know runs: it is
//! told how many are unfinished.

mod intervals;

pub use intervals::{CRON_INTERVALS_MAX, INTERVALS_MAX, Interval, Intervals, IntervalsError, Length, Unit};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Runs of one backfill at once, unless it says otherwise.
pub const PARALLELISM_DEFAULT: u32 = 16;
/// The most runs of one backfill at once.
pub const PARALLELISM_MAX: u32 = 1_000;

/// Which interval comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The oldest.
    #[default]
    Ascending,
    /// The latest.
    Descending,
}

/// What a backfill does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// It starts runs.
    Running,
    /// It starts no further runs; those that were started go on.
    Paused,
    /// Every run completed.
    Completed,
    /// Every run ended, some did not complete.
    Failed,
    /// Somebody stopped it, and what it ran.
    Cancelled,
}

impl Status {
    const ALL: [Self; 5] = [Self::Running, Self::Paused, Self::Completed, Self::Failed, Self::Cancelled];

    /// As stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// True when it starts nothing any more.
    #[must_use]
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

impl FromStr for Status {
    type Err = crate::unit::UnknownStatus;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == s)
            .ok_or_else(|| crate::unit::UnknownStatus(s.to_owned()))
    }
}

/// How a run of a backfill ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Completed.
    Completed,
    /// Failed.
    Failed,
    /// Cancelled, or never started because of a limit.
    Cancelled,
}

/// How far a backfill is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// What it does.
    pub status: Status,
    /// Intervals in all.
    pub total: u64,
    /// Intervals that have a run.
    pub started: u64,
    /// Of these, runs that completed.
    pub completed: u64,
    /// Runs that failed.
    pub failed: u64,
    /// Runs that were cancelled.
    pub cancelled: u64,
    /// When the interval begins that was started last.
    pub last: Option<Timestamp>,
}

/// Why a command does not apply to a backfill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the backfill is {}; it cannot be changed any more", .0.as_str())]
pub struct HasEnded(pub Status);

impl Cursor {
    /// Before its first run.
    #[must_use]
    pub fn new(total: u64) -> Self {
        Self { status: Status::Running, total, started: 0, completed: 0, failed: 0, cancelled: 0, last: None }
    }

    /// Runs that have not ended.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        self.started.saturating_sub(self.completed + self.failed + self.cancelled)
    }

    /// How many runs are to be started now, at most `most` at once.
    #[must_use]
    pub fn due(&self, parallelism: u32, most: u64) -> u64 {
        if self.status != Status::Running {
            return 0;
        }
        u64::from(parallelism).saturating_sub(self.unfinished()).min(self.total - self.started).min(most)
    }

    /// The next interval; it counts as started from now on. One of a day that a zone has left out of its calendar is that of
    /// the day beside it, which has a run: it counts as completed, whatever becomes of that one.
    pub fn start_next(&mut self, intervals: &Intervals, order: Order) -> Option<Interval> {
        loop {
            let next = intervals.next(order, self.started, self.last)?;
            self.started += 1;
            if self.last != Some(next.start) {
                self.last = Some(next.start);
                return Some(next);
            }
            self.completed += 1;
            self.conclude();
        }
    }

    /// One of its runs has ended. One more than ran is none of its runs: a scheduler of an earlier version ran one again in
    /// whose place another one runs.
    pub fn end(&mut self, end: End) {
        if self.unfinished() == 0 {
            return;
        }
        match end {
            End::Completed => self.completed += 1,
            End::Failed => self.failed += 1,
            End::Cancelled => self.cancelled += 1,
        }
        self.conclude();
    }

    /// One of its ended runs runs again.
    pub fn reopen(&mut self, ended: End) {
        let count = match ended {
            End::Completed => &mut self.completed,
            End::Failed => &mut self.failed,
            End::Cancelled => &mut self.cancelled,
        };
        *count = count.saturating_sub(1);
        if matches!(self.status, Status::Completed | Status::Failed) {
            self.status = Status::Running;
        }
    }

    /// No further runs for now.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pause(&mut self) -> Result<(), HasEnded> {
        self.change(Status::Paused)
    }

    /// Further runs again.
    ///
    /// # Errors
    /// When it has ended.
    pub fn resume(&mut self) -> Result<(), HasEnded> {
        self.change(Status::Running)
    }

    /// No further runs for ever. Cancelling twice is no error.
    ///
    /// # Errors
    /// When it has completed or failed.
    pub fn cancel(&mut self) -> Result<(), HasEnded> {
        if self.status == Status::Cancelled {
            return Ok(());
        }
        self.change(Status::Cancelled)
    }

    fn change(&mut self, to: Status) -> Result<(), HasEnded> {
        if self.status.has_ended() {
            return Err(HasEnded(self.status));
        }
        self.status = to;
        self.conclude();
        Ok(())
    }

    /// It ends with its last run; one that was cancelled stays so.
    fn conclude(&mut self) {
        if self.status.has_ended() || self.started < self.total || self.unfinished() > 0 {
            return;
        }
        self.status = if self.completed == self.total { Status::Completed } else { Status::Failed };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three minutes from 1970 on.
    fn minutes(order: Order, cursor: &mut Cursor) -> Option<i64> {
        let end = Timestamp::from_second(120).unwrap();
        let length = Length::Units(Unit::Minute, 1);
        let intervals = Intervals::new(Timestamp::UNIX_EPOCH, end, &length, jiff::tz::TimeZone::UTC).unwrap();
        cursor.start_next(&intervals, order).map(|next| next.start.as_second())
    }

    #[test]
    fn it_keeps_so_many_under_way_and_ends_with_the_last() {
        let mut cursor = Cursor::new(3);
        assert_eq!(cursor.due(2, 100), 2);
        let order = Order::Descending;
        assert_eq!((minutes(order, &mut cursor), minutes(order, &mut cursor)), (Some(120), Some(60)));
        assert_eq!(cursor.due(2, 100), 0);
        cursor.end(End::Failed);
        assert_eq!(cursor.due(2, 100), 1);
        cursor.pause().unwrap();
        assert_eq!(cursor.due(2, 100), 0);
        cursor.resume().unwrap();
        assert_eq!((minutes(order, &mut cursor), minutes(order, &mut cursor)), (Some(0), None));
        cursor.end(End::Completed);
        cursor.end(End::Completed);
        assert_eq!(cursor.status, Status::Failed);
        assert!(cursor.pause().is_err());
        cursor.reopen(End::Failed);
        assert_eq!(cursor.status, Status::Running);
        cursor.end(End::Completed);
        assert_eq!((cursor.status, cursor.unfinished()), (Status::Completed, 0));
    }

    #[test]
    fn a_day_that_a_zone_left_out_has_no_run_and_keeps_no_backfill_from_its_end() {
        for (zone, start, days) in [
            ("Pacific/Apia", "2011-12-28T10:00:00Z", 5),
            ("Pacific/Kwajalein", "1993-08-19T12:00:00Z", 5),
            ("Pacific/Kiritimati", "1994-12-29T10:40:00Z", 5),
            ("Pacific/Enderbury", "1994-12-29T11:00:00Z", 5),
            // The day that is not there is the last one.
            ("Pacific/Apia", "2011-12-28T10:00:00Z", 3),
        ] {
            let zone_of = jiff::tz::TimeZone::get(zone).unwrap();
            let from: Timestamp = start.parse().unwrap();
            let until = from.to_zoned(zone_of.clone()).checked_add(jiff::Span::new().days(days)).unwrap().timestamp();
            let intervals = Intervals::new(from, until, &Length::Units(Unit::Day, 1), zone_of).unwrap();
            for order in [Order::Ascending, Order::Descending] {
                let mut cursor = Cursor::new(intervals.count());
                let mut runs = Vec::new();
                while cursor.due(1, 1) > 0 {
                    let Some(next) = cursor.start_next(&intervals, order) else { break };
                    assert!(next.end.unwrap() > next.start && next.previous.unwrap() < next.start, "{zone} {next:?}");
                    runs.push(next.start);
                    cursor.end(End::Completed);
                }
                assert_eq!(cursor.status, Status::Completed, "{zone} {order:?} {cursor:?}");
                assert_eq!(runs.len() as u64 + 1, intervals.count(), "{zone}: one day is not there");
                runs.sort_unstable();
                runs.dedup();
                assert_eq!(runs.len() as u64 + 1, intervals.count(), "{zone}: each has a run of its own");
            }
        }
    }

    #[test]
    fn a_cancelled_one_stays_so_when_its_runs_end() {
        let mut cursor = Cursor::new(10);
        minutes(Order::Ascending, &mut cursor);
        cursor.cancel().unwrap();
        cursor.end(End::Cancelled);
        assert_eq!((cursor.status, cursor.due(9, 9)), (Status::Cancelled, 0));
        assert!(cursor.cancel().is_ok() && cursor.resume().is_err());
    }
}
