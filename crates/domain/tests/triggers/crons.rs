//! Cron expressions: what is refused and where, and clocks that jump.

use domain::trigger::{Cron, Every, Schedule, zone};
use jiff::Timestamp;

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
        ("*/0 * * * *", 1, "minute"),
        ("5-1 * * * *", 1, "minute"),
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
    assert_eq!(end.preview(ts("2000-01-01T00:00:00Z"), 9), [ts("2026-01-01T00:00:00Z"), ts("2026-01-02T00:00:00Z")]);
    let last = end.period(ts("2026-01-02T00:00:00Z")).map(|period| (period.end, period.length.as_secs()));
    assert_eq!(last, Some((ts("2026-01-03T00:00:00Z"), 86_400)), "the last period is as long as the others");
}
