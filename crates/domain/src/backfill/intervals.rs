//! The intervals of a range: how many, when each begins, and what its run is told.

use super::Order;
use crate::trigger::{self, Cron, Invalid, Schedule, Timetable};
use jiff::{
    SignedDuration, Span, Timestamp, Unit as JiffUnit, Zoned,
    tz::{Offset, TimeZone},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The most intervals of one backfill.
pub const INTERVALS_MAX: u64 = 10_000_000;
/// The most intervals that a cron expression may name: they are counted one by one.
pub const CRON_INTERVALS_MAX: u64 = 100_000;

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

/// How long an interval is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Length {
    /// So many units.
    Units(Unit, u32),
    /// From one time that a cron expression names to the next.
    Cron(String),
}

/// Every interval whose start lies in a range, both ends included.
#[derive(Debug, Clone)]
pub struct Intervals {
    start: Zoned,
    end: Timestamp,
    steps: Steps,
    count: u64,
}

#[derive(Debug, Clone)]
enum Steps {
    Units(Unit, u32),
    Cron(Box<Timetable>),
}

/// One interval, between its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// When it begins: the execution date of its run.
    pub start: Timestamp,
    /// When the next one would begin; `None` beyond the calendar's end.
    pub end: Option<Timestamp>,
    /// When the one before would have begun.
    pub previous: Option<Timestamp>,
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
    /// More than are counted one by one.
    #[error("the cron expression names more than {CRON_INTERVALS_MAX} times in the range; choose a shorter range")]
    TooManyOfCron,
    /// A cron expression's times are looked for between 1970 and 2200 only.
    #[error("a range of a cron expression must lie between 1970 and 2200")]
    OutOfYears,
    /// Not understood.
    #[error("{0}")]
    Cron(Invalid),
    /// A cron expression that names no time of the range.
    #[error("the cron expression names no time in the range")]
    None,
}

impl Intervals {
    /// The intervals from `start` on, the last one beginning at `end` or before. Those of a cron expression are counted one
    /// by one, which takes up to some hundred milliseconds.
    ///
    /// # Errors
    /// When there are none, or too many.
    pub fn new(start: Timestamp, end: Timestamp, length: &Length, zone: TimeZone) -> Result<Self, IntervalsError> {
        let mut intervals = Self::counted_before(start, end, length, zone, 0)?;
        let (count, most) = match &intervals.steps {
            Steps::Units(unit, every) => (intervals.counted(*unit, *every), INTERVALS_MAX),
            // Beyond these years no time would be found again from the other end.
            Steps::Cron(_) if start < trigger::FIRST || end >= trigger::LAST => return Err(IntervalsError::OutOfYears),
            Steps::Cron(timetable) => (count_of_cron(timetable, start, end), CRON_INTERVALS_MAX),
        };
        intervals.count = count;
        match (count, length) {
            (0, _) => Err(IntervalsError::None),
            (count, _) if count <= most => Ok(intervals),
            (_, Length::Units(..)) => Err(IntervalsError::TooMany),
            (_, Length::Cron(_)) => Err(IntervalsError::TooManyOfCron),
        }
    }

    /// As [`Intervals::new`], of which it is known how many there are.
    ///
    /// # Errors
    /// When the range cannot be understood.
    pub fn counted_before(
        start: Timestamp,
        end: Timestamp,
        length: &Length,
        zone: TimeZone,
        count: u64,
    ) -> Result<Self, IntervalsError> {
        if end < start {
            return Err(IntervalsError::Backwards);
        }
        let steps = match length {
            Length::Units(_, 0) => return Err(IntervalsError::Zero),
            Length::Units(unit, every) => Steps::Units(*unit, *every),
            Length::Cron(expression) => Steps::Cron(Box::new(timetable(expression, &zone)?)),
        };
        Ok(Self { start: start.to_zoned(zone), end, steps, count })
    }

    /// How many; at least one.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The interval that comes when `started` others have come, of which the last one began at `last`; the same once more where
    /// a zone has left out a day that is counted. `None` after all; and before, where a zone's rules have changed since the times of its cron expression were counted.
    #[must_use]
    pub fn next(&self, order: Order, started: u64, last: Option<Timestamp>) -> Option<Interval> {
        if started >= self.count {
            return None;
        }
        match &self.steps {
            Steps::Units(unit, every) => {
                let index = match order {
                    Order::Ascending => started,
                    Order::Descending => self.count - 1 - started,
                };
                let index = i64::try_from(index).ok()?;
                let start = self.at(*unit, *every, index)?;
                // Two where a day of the calendar was left out: its time is that of the day after.
                let at = |step: i64| self.at(*unit, *every, index.checked_add(step)?);
                let beside = |steps: [i64; 2]| steps.into_iter().filter_map(at).find(|at| *at != start);
                Some(Interval { start, end: beside([1, 2]), previous: beside([-1, -2]) })
            }
            Steps::Cron(timetable) => {
                // The first of all times is one of them.
                let floor = just_before(trigger::FIRST);
                let before = |at: Timestamp| timetable.last_until(just_before(at), floor);
                let start = match (order, last) {
                    (Order::Ascending, None) => timetable.next_after(just_before(self.start.timestamp())),
                    (Order::Ascending, Some(last)) => timetable.next_after(last),
                    (Order::Descending, None) => timetable.last_until(self.end, floor),
                    (Order::Descending, Some(last)) => before(last),
                }?;
                Some(Interval { start, end: timetable.next_after(start), previous: before(start) })
            }
        }
    }

    /// When the interval with this index begins; computed from the range's start. `None` beyond the calendar's end.
    fn at(&self, unit: Unit, every: u32, index: i64) -> Option<Timestamp> {
        let units = index.checked_mul(i64::from(every))?;
        if let Some(seconds) = unit.seconds() {
            let offset = SignedDuration::from_secs(units.checked_mul(seconds)?);
            return self.start.timestamp().checked_add(offset).ok();
        }
        let span = match unit {
            Unit::Week => Span::new().try_weeks(units),
            Unit::Month => Span::new().try_months(units),
            Unit::Year => Span::new().try_years(units),
            _ => Span::new().try_days(units),
        };
        self.start.checked_add(span.ok()?).ok().map(|at| at.timestamp())
    }

    /// What the run of an interval is told, as Mage tells it: `ds`, `hr`, `execution_date`, and the interval's bounds as
    /// ISO texts. All of it is in UTC whatever the zone, as blocks are told it and as schedules tell theirs: the zone says
    /// where intervals begin. A range of one date has no bounds.
    #[must_use]
    pub fn variables(&self, interval: &Interval) -> Map<String, Value> {
        let single = self.count == 1;
        let iso = |at: Option<Timestamp>| at.map_or(Value::Null, |at| Value::String(iso(at)));
        let bound = |at: Option<Timestamp>| iso(at.filter(|_| !single));
        let Interval { start, end, previous } = *interval;
        let seconds = end.filter(|_| !single).map(|end| start.duration_until(end).as_secs());
        let pairs = [
            ("ds", json!(start.strftime("%Y-%m-%d").to_string())),
            ("hr", json!(start.strftime("%H").to_string())),
            ("execution_date", iso(Some(start))),
            ("interval_start_datetime", iso(Some(start))),
            ("interval_end_datetime", bound(end)),
            ("interval_seconds", json!(seconds)),
            ("interval_start_datetime_previous", bound(previous)),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn counted(&self, unit: Unit, every: u32) -> u64 {
        let whole = match unit.seconds() {
            Some(seconds) => self.start.timestamp().duration_until(self.end).as_secs() / (seconds * i64::from(every)),
            None => self.calendar_steps(unit, every),
        };
        u64::try_from(whole).unwrap_or(0) + 1
    }

    /// The greatest index that begins in the range: guessed from the calendar's difference, then corrected by a few steps
    /// where months are cut short or clocks change.
    fn calendar_steps(&self, unit: Unit, every: u32) -> i64 {
        let end = self.end.to_zoned(self.start.time_zone().clone());
        let largest = match unit {
            Unit::Month => JiffUnit::Month,
            Unit::Year => JiffUnit::Year,
            _ => JiffUnit::Day,
        };
        let apart = self.start.until((largest, &end)).unwrap_or_default();
        let units = match unit {
            Unit::Month => i64::from(apart.get_months()),
            Unit::Year => i64::from(apart.get_years()),
            Unit::Week => i64::from(apart.get_days()) / 7,
            _ => i64::from(apart.get_days()),
        };
        let mut index = units / i64::from(every);
        let begins_in_time = |index: i64| self.at(unit, every, index).is_some_and(|at| at <= self.end);
        while index > 0 && !begins_in_time(index) {
            index -= 1;
        }
        while begins_in_time(index + 1) {
            index += 1;
        }
        index
    }
}

/// As Python's `isoformat` writes an instant of UTC.
fn iso(at: Timestamp) -> String {
    at.display_with_offset(Offset::UTC).to_string()
}

fn timetable(expression: &str, zone: &TimeZone) -> Result<Timetable, IntervalsError> {
    // Only cron: the named periods are units, and intervals have no calendar to follow.
    Cron::parse(expression).map_err(IntervalsError::Cron)?;
    let zone = zone.iana_name().unwrap_or("UTC").to_owned();
    let schedule = Schedule { every: expression.to_owned(), zone, start: None, end: None };
    schedule.compile().map_err(IntervalsError::Cron)
}

fn just_before(at: Timestamp) -> Timestamp {
    at.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(at)
}

/// One more than may be, when there are too many.
fn count_of_cron(timetable: &Timetable, start: Timestamp, end: Timestamp) -> u64 {
    let most = usize::try_from(CRON_INTERVALS_MAX).unwrap_or(usize::MAX).saturating_add(1);
    let first = timetable.next_after(just_before(start));
    let times = std::iter::successors(first, |at| timetable.next_after(*at));
    times.take_while(|at| *at <= end).take(most).fold(0, |count, _| count + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn intervals(start: &str, end: &str, unit: Unit, every: u32, zone: &str) -> Intervals {
        Intervals::new(at(start), at(end), &Length::Units(unit, every), TimeZone::get(zone).unwrap()).unwrap()
    }

    fn nth(intervals: &Intervals, index: u64) -> Interval {
        intervals.next(Order::Ascending, index, None).unwrap()
    }

    #[test]
    fn the_thirty_first_does_not_drift() {
        let months = intervals("2024-01-31T00:00:00Z", "2024-12-31T00:00:00Z", Unit::Month, 1, "UTC");
        assert_eq!(months.count(), 12);
        assert_eq!(nth(&months, 1).start, at("2024-02-29T00:00:00Z"));
        assert_eq!(nth(&months, 2).start, at("2024-03-31T00:00:00Z"));
        assert_eq!(nth(&months, 11).start, at("2024-12-31T00:00:00Z"));
    }

    #[test]
    fn days_follow_the_zone() {
        let days = intervals("2024-03-30T23:00:00Z", "2024-04-01T22:00:00Z", Unit::Day, 1, "Europe/Berlin");
        assert_eq!(days.count(), 3);
        let told = days.variables(&nth(&days, 0));
        // A day of the zone, told in UTC, where it begins the evening before.
        assert_eq!(told["interval_start_datetime"], "2024-03-30T23:00:00+00:00");
        assert_eq!(told["interval_end_datetime"], "2024-03-31T22:00:00+00:00");
        assert_eq!(told["interval_seconds"], 23 * 3_600);
        assert_eq!((&told["ds"], &told["hr"]), (&json!("2024-03-30"), &json!("23")));
    }

    #[test]
    fn a_million_are_counted_and_not_listed() {
        let minutes = intervals("2024-01-01T00:00:00Z", "2025-11-25T10:39:00Z", Unit::Minute, 1, "UTC");
        assert_eq!(minutes.count(), 1_000_000);
        assert_eq!(nth(&minutes, 999_999).start, at("2025-11-25T10:39:00Z"));
    }

    #[test]
    fn a_single_date_has_no_bounds() {
        let one = intervals("2024-01-01T05:00:00Z", "2024-01-01T05:00:00Z", Unit::Day, 1, "UTC");
        let told = one.variables(&nth(&one, 0));
        assert_eq!(told["hr"], "05");
        assert!(told["interval_end_datetime"].is_null() && told["interval_seconds"].is_null());
        assert!(told["interval_start_datetime_previous"].is_null());
    }

    #[test]
    fn absurd_ranges_are_refused() {
        let of = |start, end, every| {
            let length = Length::Units(Unit::Second, every);
            Intervals::new(at(start), at(end), &length, TimeZone::UTC).unwrap_err()
        };
        assert_eq!(of("2024-01-02T00:00:00Z", "2024-01-01T00:00:00Z", 1), IntervalsError::Backwards);
        assert_eq!(of("2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z", 0), IntervalsError::Zero);
        assert_eq!(of("1900-01-01T00:00:00Z", "9999-01-01T00:00:00Z", 1), IntervalsError::TooMany);
    }

    /// All of them, one after the other.
    fn all(intervals: &Intervals, order: Order) -> Vec<Interval> {
        let (mut found, mut last) = (Vec::new(), None);
        while let Some(interval) = intervals.next(order, found.len() as u64, last) {
            last = Some(interval.start);
            found.push(interval);
        }
        found
    }

    #[test]
    fn cron_names_the_times_in_both_orders() {
        let cron = |expression: &str, start: &str, end: &str| {
            Intervals::new(
                at(start),
                at(end),
                &Length::Cron(expression.into()),
                TimeZone::get("Europe/Berlin").unwrap(),
            )
        };
        // Working days at six, over a clock that jumps and both ends of the range.
        let days = cron("0 6 * * 1-5", "2024-03-29T05:00:00Z", "2024-04-02T04:00:00Z").unwrap();
        let found = all(&days, Order::Ascending);
        let starts: Vec<_> = found.iter().map(|interval| interval.start).collect();
        assert_eq!(starts, [at("2024-03-29T05:00:00Z"), at("2024-04-01T04:00:00Z"), at("2024-04-02T04:00:00Z")]);
        assert_eq!(found[0].previous, Some(at("2024-03-28T05:00:00Z")));
        assert_eq!(days.variables(&found[0])["interval_end_datetime"], "2024-04-01T04:00:00+00:00");
        let mut backwards = all(&days, Order::Descending);
        backwards.reverse();
        assert_eq!(backwards, found);
        let error = |result: Result<Intervals, IntervalsError>| result.unwrap_err();
        assert_eq!(error(cron("0 6 * * 1", "2024-03-29T06:00:00Z", "2024-03-29T07:00:00Z")), IntervalsError::None);
        assert!(matches!(
            error(cron("61 * * * *", "2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z")),
            IntervalsError::Cron(_)
        ));
        assert!(matches!(
            error(cron("@daily", "2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z")),
            IntervalsError::Cron(_)
        ));
        let seconds = cron("* * * * * *", "2024-01-01T00:00:00Z", "2024-02-02T00:00:00Z");
        assert_eq!(error(seconds), IntervalsError::TooManyOfCron);
    }

    #[test]
    fn every_counted_time_of_a_cron_is_found_from_both_ends() {
        let of = |start: &str, end: &str| {
            let length = Length::Cron("0 0 1 1 *".into());
            Intervals::new(at(start), at(end), &length, TimeZone::UTC)
        };
        for (start, end) in [
            ("1969-12-31T23:59:59Z", "1980-01-01T00:00:00Z"),
            ("0001-01-01T00:00:00Z", "0002-01-01T00:00:00Z"),
            ("2190-01-01T00:00:00Z", "2200-01-01T00:00:00Z"),
            ("9990-01-01T00:00:00Z", "9999-01-01T00:00:00Z"),
        ] {
            assert_eq!(of(start, end).unwrap_err(), IntervalsError::OutOfYears, "{start}");
        }
        for (start, end, count) in
            [("1970-01-01T00:00:00Z", "1975-01-01T00:00:00Z", 6), ("2190-01-01T00:00:00Z", "2199-12-31T23:59:59Z", 10)]
        {
            let years = of(start, end).unwrap();
            let mut backwards = all(&years, Order::Descending);
            backwards.reverse();
            assert_eq!((years.count(), backwards.len()), (count, usize::try_from(count).unwrap()), "{start}");
            assert_eq!(backwards, all(&years, Order::Ascending));
        }
        // Counted by other rules than it is walked by.
        let length = Length::Cron("0 0 1 1 *".into());
        let more = Intervals::counted_before(
            at("1970-01-01T00:00:00Z"),
            at("1971-01-01T00:00:00Z"),
            &length,
            TimeZone::UTC,
            3,
        );
        assert_eq!(more.unwrap().next(Order::Descending, 2, Some(at("1970-01-01T00:00:00Z"))), None);
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
            zone in prop::sample::select(vec![
                "UTC", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia", "Pacific/Kwajalein",
                "Pacific/Kiritimati", "Pacific/Enderbury",
            ]),
        ) {
            let start = Timestamp::from_second(start).unwrap();
            let end = start + SignedDuration::from_secs(length);
            let length = Length::Units(unit, every);
            let Ok(intervals) = Intervals::new(start, end, &length, TimeZone::get(zone).unwrap()) else {
                return Ok(());
            };
            let last = intervals.count() - 1;
            prop_assert_eq!(nth(&intervals, 0).start, start);
            prop_assert!(nth(&intervals, last).start <= end);
            prop_assert!(nth(&intervals, last).end.unwrap() > end);
            prop_assert_eq!(intervals.next(Order::Ascending, last + 1, None), None);
            for index in [0, last / 2, last] {
                let interval = nth(&intervals, index);
                prop_assert!(interval.previous.unwrap() < interval.start);
                prop_assert_eq!(Some(interval), intervals.next(Order::Descending, last - index, None));
            }
        }
    }
}
