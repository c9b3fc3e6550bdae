//! The hours and days of a trigger: outside of them its times are skipped.
//!
//! Refuses to know what a project's plan allows.

use super::Invalid;
use jiff::{
    SignedDuration, Timestamp,
    civil::{Date, Time, Weekday},
    tz::TimeZone,
};
use serde::{Deserialize, Serialize};

/// From one time of the day to another, on some days of the week, on the clock of the trigger's time zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// It opens at this time of the day.
    pub from: Time,
    /// It closes at this time; on the next day where that is not later than `from`.
    pub to: Time,
    /// The days on which it opens; every day when empty.
    #[serde(default)]
    pub days: Vec<Day>,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "they name themselves")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Day {
    fn of(day: Weekday) -> Self {
        match day {
            Weekday::Monday => Self::Mon,
            Weekday::Tuesday => Self::Tue,
            Weekday::Wednesday => Self::Wed,
            Weekday::Thursday => Self::Thu,
            Weekday::Friday => Self::Fri,
            Weekday::Saturday => Self::Sat,
            Weekday::Sunday => Self::Sun,
        }
    }
}

impl Window {
    /// Whether it says something.
    ///
    /// # Errors
    /// When a day is named twice.
    pub fn check(&self) -> Result<(), Invalid> {
        let twice = self.days.iter().enumerate().any(|(at, day)| self.days[..at].contains(day));
        if twice { Err(Invalid::new("names a day twice").of("window.days")) } else { Ok(()) }
    }

    /// Whether it is open.
    #[must_use]
    pub fn holds(&self, at: Timestamp, zone: &TimeZone) -> bool {
        self.opens_at(at, zone) <= at
    }

    /// The first instant from `at` on at which it is open.
    #[must_use]
    pub fn opens_at(&self, at: Timestamp, zone: &TimeZone) -> Timestamp {
        let today = zone.to_datetime(at).date();
        // One that opened yesterday may still be open; one that opens today may be over; a week later the same day is
        // there again, and one more covers days that a clock skipped.
        let days = (-1..=8).filter_map(|days| today.checked_add(jiff::Span::new().days(days)).ok());
        days.filter_map(|day| self.of(day, zone)).find(|(_, to)| *to > at).map_or(at, |(from, _)| from.max(at))
    }

    fn of(&self, day: Date, zone: &TimeZone) -> Option<(Timestamp, Timestamp)> {
        if !self.days.is_empty() && !self.days.contains(&Day::of(day.weekday())) {
            return None;
        }
        let until = if self.to > self.from { day } else { day.tomorrow().ok()? };
        let instant = |date: Date, time: Time| zone.to_ambiguous_timestamp(date.to_datetime(time)).compatible().ok();
        let (from, to) = (instant(day, self.from)?, instant(until, self.to)?);
        // A clock that jumps over all of it leaves nothing of it.
        (to.duration_since(from) > SignedDuration::ZERO).then_some((from, to))
    }
}
