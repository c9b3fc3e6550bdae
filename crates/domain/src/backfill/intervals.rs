//! The intervals of a range: how many, when each begins, and what its run is told.

use jiff::{SignedDuration, Span, Timestamp, Unit as JiffUnit, Zoned, tz::TimeZone};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The most intervals of one backfill.
pub const INTERVALS_MAX: u64 = 10_000_000;

/// What an interval is counted in. Days and longer follow the calendar of the zone: a day there may have 23 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "they name themselves")]
pub enum Unit {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Year,
}

impl Unit {
    /// Seconds, of those that always have as many.
    fn seconds(self) -> Option<i64> {
        match self {
            Self::Second => Some(1),
            Self::Minute => Some(60),
            Self::Hour => Some(3_600),
            Self::Day | Self::Week | Self::Month | Self::Year => None,
        }
    }
}

/// Every interval whose start lies in a range, both ends included.
#[derive(Debug, Clone, PartialEq)]
pub struct Intervals {
    start: Zoned,
    end: Timestamp,
    unit: Unit,
    every: u32,
    count: u64,
}

/// Why a range has no intervals.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IntervalsError {
    /// Backwards.
    #[error("the range ends before it starts")]
    Backwards,
    /// Intervals of nothing.
    #[error("an interval must have at least one unit")]
    Zero,
    /// More than may be asked for at once.
    #[error("the range has more than {INTERVALS_MAX} intervals; choose a shorter range or longer intervals")]
    TooMany,
}

impl Intervals {
    /// The intervals of `every` units from `start` on, the last one beginning at `end` or before.
    ///
    /// # Errors
    /// When there are none, or too many.
    pub fn new(
        start: Timestamp,
        end: Timestamp,
        unit: Unit,
        every: u32,
        zone: TimeZone,
    ) -> Result<Self, IntervalsError> {
        if end < start {
            return Err(IntervalsError::Backwards);
        }
        if every == 0 {
            return Err(IntervalsError::Zero);
        }
        let mut intervals = Self { start: start.to_zoned(zone), end, unit, every, count: 0 };
        intervals.count = intervals.counted();
        if intervals.count > INTERVALS_MAX { Err(IntervalsError::TooMany) } else { Ok(intervals) }
    }

    /// How many; at least one.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// When the interval with this index begins; computed from the range's start. `None` beyond the calendar's end.
    /// The one before the first (-1) and those after the last exist as well.
    #[must_use]
    pub fn at(&self, index: i64) -> Option<Timestamp> {
        let units = index.checked_mul(i64::from(self.every))?;
        if let Some(seconds) = self.unit.seconds() {
            let offset = SignedDuration::from_secs(units.checked_mul(seconds)?);
            return self.start.timestamp().checked_add(offset).ok();
        }
        let span = match self.unit {
            Unit::Week => Span::new().try_weeks(units),
            Unit::Month => Span::new().try_months(units),
            Unit::Year => Span::new().try_years(units),
            _ => Span::new().try_days(units),
        };
        self.start.checked_add(span.ok()?).ok().map(|at| at.timestamp())
    }

    /// What the run of an interval is told, as Mage tells it: `ds`, `hr`, `execution_date`, and the interval's bounds as
    /// ISO texts. A range of one date has no bounds.
    #[must_use]
    pub fn variables(&self, index: u64) -> Map<String, Value> {
        let index = i64::try_from(index).unwrap_or(i64::MAX);
        let single = self.count == 1;
        let iso = |at: Option<Timestamp>| at.map_or(Value::Null, |at| Value::String(self.iso(at)));
        let bound = |at: Option<Timestamp>| iso(at.filter(|_| !single));
        let (start, end) = (self.at(index), self.at(index.saturating_add(1)));
        let seconds = start.zip(end).filter(|_| !single).map(|(start, end)| start.duration_until(end).as_secs());
        let local = start.map(|at| at.to_zoned(self.start.time_zone().clone()));
        let format = |pattern: &str| local.as_ref().map(|at| at.strftime(pattern).to_string());
        let pairs = [
            ("ds", json!(format("%Y-%m-%d"))),
            ("hr", json!(format("%H"))),
            ("execution_date", iso(start)),
            ("interval_start_datetime", iso(start)),
            ("interval_end_datetime", bound(end)),
            ("interval_seconds", json!(seconds)),
            ("interval_start_datetime_previous", bound(self.at(index.saturating_sub(1)))),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// As Python's `isoformat` writes it: with the offset, without the zone's name.
    fn iso(&self, at: Timestamp) -> String {
        let offset = self.start.time_zone().to_offset(at);
        at.display_with_offset(offset).to_string()
    }

    fn counted(&self) -> u64 {
        let whole = match self.unit.seconds() {
            Some(seconds) => {
                self.start.timestamp().duration_until(self.end).as_secs() / (seconds * i64::from(self.every))
            }
            None => self.calendar_steps(),
        };
        u64::try_from(whole).unwrap_or(0) + 1
    }

    /// The greatest index that begins in the range: guessed from the calendar's difference, then corrected by a few steps
    /// where months are cut short or clocks change.
    fn calendar_steps(&self) -> i64 {
        let end = self.end.to_zoned(self.start.time_zone().clone());
        let largest = match self.unit {
            Unit::Month => JiffUnit::Month,
            Unit::Year => JiffUnit::Year,
            _ => JiffUnit::Day,
        };
        let apart = self.start.until((largest, &end)).unwrap_or_default();
        let units = match self.unit {
            Unit::Month => i64::from(apart.get_months()),
            Unit::Year => i64::from(apart.get_years()),
            Unit::Week => i64::from(apart.get_days()) / 7,
            _ => i64::from(apart.get_days()),
        };
        let mut index = units / i64::from(self.every);
        let begins_in_time = |index: i64| self.at(index).is_some_and(|at| at <= self.end);
        while index > 0 && !begins_in_time(index) {
            index -= 1;
        }
        while begins_in_time(index + 1) {
            index += 1;
        }
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn intervals(start: &str, end: &str, unit: Unit, every: u32, zone: &str) -> Intervals {
        Intervals::new(at(start), at(end), unit, every, TimeZone::get(zone).unwrap()).unwrap()
    }

    #[test]
    fn the_thirty_first_does_not_drift() {
        let months = intervals("2024-01-31T00:00:00Z", "2024-12-31T00:00:00Z", Unit::Month, 1, "UTC");
        assert_eq!(months.count(), 12);
        assert_eq!(months.at(1), Some(at("2024-02-29T00:00:00Z")));
        assert_eq!(months.at(2), Some(at("2024-03-31T00:00:00Z")));
        assert_eq!(months.at(11), Some(at("2024-12-31T00:00:00Z")));
    }

    #[test]
    fn days_follow_the_zone() {
        let days = intervals("2024-03-30T23:00:00Z", "2024-04-01T22:00:00Z", Unit::Day, 1, "Europe/Berlin");
        assert_eq!(days.count(), 3);
        let told = days.variables(0);
        assert_eq!(told["interval_start_datetime"], "2024-03-31T00:00:00+01:00");
        assert_eq!(told["interval_end_datetime"], "2024-04-01T00:00:00+02:00");
        assert_eq!(told["interval_seconds"], 23 * 3_600);
        assert_eq!(told["ds"], "2024-03-31");
    }

    #[test]
    fn a_million_are_counted_and_not_listed() {
        let minutes = intervals("2024-01-01T00:00:00Z", "2025-11-25T10:39:00Z", Unit::Minute, 1, "UTC");
        assert_eq!(minutes.count(), 1_000_000);
        assert_eq!(minutes.at(999_999), Some(at("2025-11-25T10:39:00Z")));
    }

    #[test]
    fn a_single_date_has_no_bounds() {
        let one = intervals("2024-01-01T05:00:00Z", "2024-01-01T05:00:00Z", Unit::Day, 1, "UTC");
        let told = one.variables(0);
        assert_eq!(told["hr"], "05");
        assert!(told["interval_end_datetime"].is_null() && told["interval_seconds"].is_null());
        assert!(told["interval_start_datetime_previous"].is_null());
    }

    #[test]
    fn absurd_ranges_are_refused() {
        let of =
            |start, end, every| Intervals::new(at(start), at(end), Unit::Second, every, TimeZone::UTC).unwrap_err();
        assert_eq!(of("2024-01-02T00:00:00Z", "2024-01-01T00:00:00Z", 1), IntervalsError::Backwards);
        assert_eq!(of("2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z", 0), IntervalsError::Zero);
        assert_eq!(of("1900-01-01T00:00:00Z", "9999-01-01T00:00:00Z", 1), IntervalsError::TooMany);
    }

    fn unit() -> impl Strategy<Value = Unit> {
        prop::sample::select(vec![
            Unit::Second,
            Unit::Minute,
            Unit::Hour,
            Unit::Day,
            Unit::Week,
            Unit::Month,
            Unit::Year,
        ])
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// The count is the number of starts in the range, and starts rise.
        #[test]
        fn the_count_is_exact(
            start in 0..2_000_000_000_i64, length in 0..100_000_000_i64, unit in unit(), every in 1..50_u32,
            zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu"]),
        ) {
            let start = Timestamp::from_second(start).unwrap();
            let end = start + SignedDuration::from_secs(length);
            let Ok(intervals) = Intervals::new(start, end, unit, every, TimeZone::get(zone).unwrap()) else {
                return Ok(());
            };
            let last = i64::try_from(intervals.count()).unwrap() - 1;
            prop_assert_eq!(intervals.at(0), Some(start));
            prop_assert!(intervals.at(last).unwrap() <= end);
            prop_assert!(intervals.at(last + 1).unwrap() > end);
            for index in [0, last / 2, last] {
                prop_assert!(intervals.at(index - 1).unwrap() < intervals.at(index).unwrap());
            }
        }
    }
}
