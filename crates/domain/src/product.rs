//! When a global data product that is old enough is out of date: Mage's `outdated_starting_at`.
//!
//! Each field that is given is compared on its own, as Mage does: with hour 9 and minute 30 the moment has come at 09:45 and at
//! 10:30, and not at 10:15. All of them are of UTC. Refuses to know how old a product is.

use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

/// The fields, with the least and the greatest value that each of them can have.
pub const FIELDS: [(&str, i64, i64); 9] = [
    ("second_of_minute", 0, 59),
    ("minute_of_hour", 0, 59),
    ("hour_of_day", 0, 23),
    ("day_of_week", 0, 6),
    ("day_of_month", 1, 31),
    ("day_of_year", 1, 366),
    ("week_of_month", 1, 6),
    ("week_of_year", 1, 53),
    ("month_of_year", 1, 12),
];

/// From which moment on a product may be out of date; without any field, always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StartingAt {
    /// From 0.
    pub second_of_minute: Option<i64>,
    /// From 0.
    pub minute_of_hour: Option<i64>,
    /// From 0.
    pub hour_of_day: Option<i64>,
    /// From Sunday, which is 0.
    pub day_of_week: Option<i64>,
    /// From 1.
    pub day_of_month: Option<i64>,
    /// From 1.
    pub day_of_year: Option<i64>,
    /// From 1; weeks begin on Monday, and the first one has the month's first day.
    pub week_of_month: Option<i64>,
    /// From 1, by ISO 8601: the first days of January may be in week 53.
    pub week_of_year: Option<i64>,
    /// From 1.
    pub month_of_year: Option<i64>,
}

impl StartingAt {
    /// Whether the moment has come.
    #[must_use]
    pub fn reached(&self, now: Timestamp) -> bool {
        let now = now.to_zoned(TimeZone::UTC).datetime();
        let date = now.date();
        let before_first = i64::from(date.first_of_month().weekday().to_monday_zero_offset());
        let has = |wanted: Option<i64>, is: i64| wanted.is_none_or(|wanted| is >= wanted);
        has(self.second_of_minute, now.second().into())
            && has(self.minute_of_hour, now.minute().into())
            && has(self.hour_of_day, now.hour().into())
            && has(self.day_of_week, date.weekday().to_sunday_zero_offset().into())
            && has(self.day_of_month, date.day().into())
            && has(self.day_of_year, date.day_of_year().into())
            && has(self.week_of_month, (i64::from(date.day()) + before_first + 6) / 7)
            && has(self.week_of_year, date.iso_week_date().week().into())
            && has(self.month_of_year, date.month().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::ToSpan as _;
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    fn reached(starting_at: Value, now: &str) -> bool {
        serde_json::from_value::<StartingAt>(starting_at).unwrap().reached(now.parse().unwrap())
    }

    #[track_caller]
    fn check(starting_at: Value, not_yet: &[&str], from: &[&str]) {
        for now in not_yet {
            assert!(!reached(starting_at.clone(), now), "{starting_at} at {now}");
        }
        for now in from {
            assert!(reached(starting_at.clone(), now), "{starting_at} at {now}");
        }
    }

    #[test]
    fn a_moment_comes_when_every_field_has() {
        check(json!({}), &[], &["2024-01-01T00:00:00Z"]);
        check(json!({ "hour_of_day": null }), &[], &["2024-01-01T00:00:00Z"]);
        check(json!({ "second_of_minute": 30 }), &["2024-05-01T10:00:29.9Z"], &["2024-05-01T10:00:30Z"]);
        check(json!({ "minute_of_hour": 30 }), &["2024-05-01T10:29:59Z"], &["2024-05-01T10:30:00Z"]);
        let hour = ["2024-05-01T11:59:59Z", "2024-05-02T00:00:00Z"];
        check(json!({ "hour_of_day": 12 }), &hour, &["2024-05-01T12:00:00Z", "2024-05-01T23:59:59Z"]);
        // Each on its own.
        let both = json!({ "hour_of_day": 9, "minute_of_hour": 30 });
        check(
            both,
            &["2024-05-01T09:29:00Z", "2024-05-01T10:15:00Z"],
            &["2024-05-01T09:45:00Z", "2024-05-01T10:30:00Z"],
        );
        // 2024-05-05 is a Sunday.
        check(
            json!({ "day_of_week": 5 }),
            &["2024-05-02T23:00:00Z", "2024-05-05T00:00:00Z"],
            &["2024-05-03T00:00:00Z"],
        );
        check(json!({ "day_of_week": 0 }), &[], &["2024-05-05T00:00:00Z", "2024-05-06T00:00:00Z"]);
        check(json!({ "day_of_month": 31 }), &["2024-04-30T23:59:59Z"], &["2024-05-31T00:00:00Z"]);
        check(json!({ "day_of_year": 366 }), &["2023-12-31T12:00:00Z"], &["2024-12-31T12:00:00Z"]);
        // May of 2024 begins on a Wednesday, September on a Sunday.
        check(
            json!({ "week_of_month": 2 }),
            &["2024-05-05T23:00:00Z", "2024-09-01T00:00:00Z"],
            &["2024-05-06T00:00:00Z", "2024-09-02T00:00:00Z"],
        );
        check(json!({ "week_of_month": 6 }), &["2024-05-31T00:00:00Z"], &["2024-09-30T00:00:00Z"]);
        check(json!({ "week_of_year": 53 }), &["2024-12-31T00:00:00Z"], &["2021-01-01T00:00:00Z"]);
        check(json!({ "month_of_year": 12 }), &["2024-11-30T23:59:59Z"], &["2024-12-01T00:00:00Z"]);
        check(json!({ "month_of_year": 13 }), &["2024-12-31T23:59:59Z"], &[]);
        check(json!({ "hour_of_day": -1, "other": "x" }), &[], &["2024-12-31T23:59:59Z"]);
    }

    proptest! {
        /// A moment is the meeting of its fields, later fields come never sooner, and what a field says lies in its range.
        #[test]
        fn fields_are_independent_and_within_their_ranges(
            second in 0_i64..4_000_000_000,
            wanted in proptest::collection::btree_map(0..FIELDS.len(), -2_i64..370, 0..4),
        ) {
            let now = Timestamp::UNIX_EPOCH.checked_add(second.seconds()).unwrap();
            let of = |fields: Vec<(usize, i64)>| {
                let fields: Map<String, Value> = fields.into_iter().map(|(at, value)| (FIELDS[at].0.to_owned(), value.into())).collect();
                serde_json::from_value::<StartingAt>(fields.into()).unwrap().reached(now)
            };
            let each = wanted.iter().map(|(at, value)| of(vec![(*at, *value)])).collect::<Vec<_>>();
            prop_assert_eq!(of(wanted.clone().into_iter().collect()), each.iter().all(|reached| *reached));
            for (at, (_, least, greatest)) in FIELDS.into_iter().enumerate() {
                prop_assert!(of(vec![(at, least)]) && !of(vec![(at, greatest + 1)]));
                let values: Vec<bool> = (least..=greatest).map(|value| of(vec![(at, value)])).collect();
                prop_assert!(values.windows(2).all(|pair| pair[0] || !pair[1]));
            }
        }
    }
}
