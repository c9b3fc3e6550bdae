//! Cron expressions: what is refused and where, and clocks that jump.

use domain::trigger::{Cron, Every, Schedule, zone};
use jiff::Timestamp;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn ts(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn times(expression: &str, name: &str, from: &str, count: usize) -> Vec<String> {
    let (cron, zone) = (Cron::parse(expression).unwrap(), zone(name).unwrap());
    let mut at = ts(from);
    let mut next = || {
        at = cron.next_after(at, &zone).unwrap();
        at.to_zoned(zone.clone()).strftime("%d %H:%M%:z").to_string()
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn a_skipped_time_comes_at_the_end_of_the_gap() {
    let night = |expression| times(expression, "Europe/Berlin", "2026-03-28T23:00:00Z", 3);
    assert_eq!(night("30 2 * * *"), ["29 03:00+02:00", "30 02:30+02:00", "31 02:30+02:00"]);
    // Two skipped times of one schedule are one firing, and so is one that falls on a time of its own.
    assert_eq!(night("0,30 2 * * *"), ["29 03:00+02:00", "30 02:00+02:00", "30 02:30+02:00"]);
    assert_eq!(night("0 2,3 * * *"), ["29 03:00+02:00", "30 02:00+02:00", "30 03:00+02:00"]);
    assert_eq!(night("*/30 1-3 29 3 *")[..2], ["29 01:00+01:00", "29 01:30+01:00"]);
    assert_eq!(
        times("30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 3),
        ["29 01:30+01:00", "29 03:00+02:00", "29 03:30+02:00"]
    );
}

#[test]
fn a_repeated_time_comes_once_for_named_hours_and_twice_for_wildcards() {
    let night = |expression, count| times(expression, "Europe/Berlin", "2026-10-24T23:50:00Z", count);
    assert_eq!(night("30 2 * * *", 2), ["25 02:30+02:00", "26 02:30+01:00"]);
    assert_eq!(night("*/30 1-3 * * *", 4), ["25 02:00+02:00", "25 02:30+02:00", "25 03:00+01:00", "25 03:30+01:00"]);
    assert_eq!(
        night("*/30 * * * *", 5),
        ["25 02:00+02:00", "25 02:30+02:00", "25 02:00+01:00", "25 02:30+01:00", "25 03:00+01:00"]
    );
    // Asked within the second coming, named hours have been served.
    assert_eq!(times("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 1), ["26 02:30+01:00"]);
}

#[test]
fn a_day_that_a_clock_skips_is_made_up_for_once() {
    // Samoa had no 30 December 2011.
    assert_eq!(
        times("0 9 * * *", "Pacific/Apia", "2011-12-29T10:00:00Z", 3),
        ["29 09:00-10:00", "31 00:00+14:00", "31 09:00+14:00"]
    );
}

#[test]
fn what_is_wrong_is_said_with_its_column() {
    let refused = |text: &str| {
        let error = Every::parse(text).unwrap_err();
        (error.column.unwrap(), error.to_string())
    };
    for (text, column, word) in [
        ("61 * * * *", 1, "minute"),
        ("0 1,2,25 * * *", 7, "hour"),
        ("0  0 32 * *", 6, "day"),
        ("0 0 * 13 *", 7, "month"),
        ("0 0 * * MOON", 9, "weekday"),
        ("60 0 0 * * *", 1, "second"),
        ("0 0 * *", 8, "five are needed"),
        ("0 0 * * * * 2030", 17, "five are needed"),
        ("-1 * * * *", 1, "minute"),
        ("*/0 * * * *", 1, "a step is 1 or more"),
        ("0 1,2-5/0 * * *", 5, "a step is 1 or more"),
        ("5-61 * * * *", 1, "minute"),
        ("5/15,61/5 * * * *", 6, "minute"),
        ("0 0 0/3 * *", 5, "day"),
        ("0 9 * * FRI-MOON", 9, "weekday"),
        ("1,,2 * * * *", 3, "nothing between"),
        ("0 0 30 2 *", 1, "never comes"),
        ("0 0 31 4,6 *", 1, "never comes"),
        ("@dayly", 1, "@daily"),
        ("", 1, "empty"),
        ("@every", 7, "interval"),
        ("@every 5", 9, "interval"),
        ("@every 5x", 9, "interval"),
        ("@every 1m1h", 11, "interval"),
        ("@every 0s", 7, "one second"),
        ("@every 99999999999999999999999d", 7, "ten years"),
        ("é * * * *", 1, "minute"),
    ] {
        let (at, message) = refused(text);
        assert!(at == column && message.contains(word), "{text:?}: {at}: {message}");
    }
    assert!(refused(&"1,".repeat(200_000)).1.contains("longer than 255 bytes"));
    assert!(refused(&format!("@{}", "x".repeat(1_000_000))).1.len() < 250);
}

#[test]
fn expressions_as_mage_takes_them() {
    let utc = |expression, count| times(expression, "UTC", "2026-01-01T00:00:00Z", count);
    assert_eq!(
        utc("5/15 * * * *", 5)[..],
        ["01 00:05", "01 00:20", "01 00:35", "01 00:50", "01 01:05"].map(|t| format!("{t}+00:00"))
    );
    assert_eq!(utc("0 0 1/3 * *", 3)[..], ["04 00:00", "07 00:00", "10 00:00"].map(|t| format!("{t}+00:00")));
    assert_eq!(
        utc("0 22-2 * * *", 6)[..],
        ["01 01:00", "01 02:00", "01 22:00", "01 23:00", "02 00:00", "02 01:00"].map(|t| format!("{t}+00:00"))
    );
    // The first was a Thursday.
    assert_eq!(
        utc("0 9 * * FRI-MON", 5)[..],
        ["02 09:00", "03 09:00", "04 09:00", "05 09:00", "09 09:00"].map(|t| format!("{t}+00:00"))
    );
    assert_eq!(utc("0 9 * NOV-FEB sat-sun", 3)[..], ["03 09:00", "04 09:00", "10 09:00"].map(|t| format!("{t}+00:00")));
    for name in ["@yearly", "@annually"] {
        let schedule = Schedule { every: name.into(), zone: "UTC".into(), start: None, end: None }.compile().unwrap();
        assert_eq!(
            schedule.preview(None, ts("2026-01-01T00:00:00Z"), 2),
            [ts("2027-01-01T00:00:00Z"), ts("2028-01-01T00:00:00Z")]
        );
    }
}

/// A part of a field, and its values, found by walking around the clock. A step without an end goes on to `stop`, which of
/// weekdays is Sunday's second number.
fn part(low: usize, high: usize, stop: usize) -> impl Strategy<Value = (String, Vec<usize>)> {
    let value = low..=high;
    (value.clone(), value, 1_usize..20, 0_usize..5).prop_map(move |(first, last, step, form)| {
        let walk = |first: usize, last: usize, step: usize| {
            let (mut at, mut since, mut found) = (first, 0, Vec::new());
            loop {
                if since % step == 0 {
                    found.push(at);
                }
                if at == last {
                    return found;
                }
                at = if at == high { low } else { at + 1 };
                since += 1;
            }
        };
        match form {
            0 => (first.to_string(), vec![first]),
            1 => (format!("{first}-{last}"), walk(first, last, 1)),
            2 => (format!("{first}-{last}/{step}"), walk(first, last, step)),
            3 => {
                let values = (first..=stop).step_by(step).map(|value| if value > high { low } else { value });
                (format!("{first}/{step}"), values.collect())
            }
            _ => (format!("*/{step}"), walk(low, high, step)),
        }
    })
}

fn field(low: usize, high: usize, stop: usize) -> impl Strategy<Value = (String, BTreeSet<usize>)> {
    prop::collection::vec(part(low, high, stop), 1..4).prop_map(|parts| {
        let texts: Vec<String> = parts.iter().map(|(text, _)| text.clone()).collect();
        (texts.join(","), parts.into_iter().flat_map(|(_, values)| values).collect())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// Held against trying every minute of nine days around the end of a month.
    #[test]
    fn what_a_field_means_is_what_walking_around_it_finds(
        minute in field(0, 59, 59), hour in field(0, 23, 23), day in field(1, 31, 31), month in field(1, 12, 12),
        weekday in field(0, 6, 7),
        by_weekday in any::<bool>(),
    ) {
        let (day_text, weekday_text) = if by_weekday { ("*", weekday.0.as_str()) } else { (day.0.as_str(), "*") };
        let expression = format!("{} {} {day_text} {} {weekday_text}", minute.0, hour.0, month.0);
        let Ok(cron) = Cron::parse(&expression) else {
            prop_assert!(!by_weekday, "{expression} is refused");
            return Ok(());
        };
        let utc = zone("UTC").unwrap();
        let (begin, minutes) = (ts("2026-02-25T00:00:00Z"), 9 * 1_440);
        let mut expect = Vec::new();
        for k in 1..=minutes {
            let at = begin + jiff::SignedDuration::from_mins(k);
            let civil = at.to_zoned(utc.clone());
            let is = |set: &BTreeSet<usize>, value: i8| set.contains(&usize::try_from(value).unwrap());
            let date = if by_weekday {
                is(&weekday.1, civil.weekday().to_sunday_zero_offset())
            } else {
                is(&day.1, civil.day())
            };
            if is(&minute.1, civil.minute()) && is(&hour.1, civil.hour()) && is(&month.1, civil.month()) && date {
                expect.push(at);
            }
        }
        let end = begin + jiff::SignedDuration::from_mins(minutes);
        let found: Vec<Timestamp> = std::iter::successors(cron.next_after(begin, &utc), |at| cron.next_after(*at, &utc))
            .take_while(|at| *at <= end)
            .collect();
        prop_assert_eq!(found, expect, "{}", expression);
    }
}

#[test]
fn zones_and_bounds() {
    let schedule = |zone: &str, start: Option<&str>, end: Option<&str>| {
        let (start, end) = (start.map(ts), end.map(ts));
        Schedule { every: "@daily".into(), zone: zone.into(), start, end }.compile().map_err(|e| e.field)
    };
    assert!(schedule("America/New_York", Some("2026-01-01T00:00:00Z"), None).is_ok());
    for zone in ["Mars/Olympus", "", "../../etc/passwd", "Europe/Berlin\0", &"x".repeat(1_000_000)] {
        assert_eq!(schedule(zone, None, None).unwrap_err(), "time_zone");
    }
    assert_eq!(schedule("UTC", Some("9999-01-01T00:00:00Z"), None).unwrap_err(), "start_time");
    assert_eq!(schedule("UTC", Some("1969-12-31T23:59:59Z"), None).unwrap_err(), "start_time");
    assert_eq!(schedule("UTC", Some("2026-01-02T00:00:00Z"), Some("2026-01-02T00:00:00Z")).unwrap_err(), "end_time");
    let end = schedule("UTC", Some("2026-01-01T00:00:00Z"), Some("2026-01-03T00:00:00Z")).unwrap();
    assert_eq!(
        end.preview(None, ts("2000-01-01T00:00:00Z"), 9),
        [ts("2026-01-01T00:00:00Z"), ts("2026-01-02T00:00:00Z")]
    );
    let last = end.period(ts("2026-01-02T00:00:00Z")).map(|period| (period.end, period.length.as_secs()));
    assert_eq!(last, Some((ts("2026-01-03T00:00:00Z"), 86_400)), "the last period is as long as the others");
}
