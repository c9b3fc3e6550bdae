//! Durations and instants as people say them.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

/// An instant of the API, when it is set and valid.
pub(crate) fn instant(at: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    at.and_then(|t| rpc::timestamp::from_proto(t, "time").ok())
}

/// From `start` to `end`, or to `now` for what goes on; empty for what has not begun.
pub(crate) fn span(start: Option<Timestamp>, end: Option<Timestamp>, now: Timestamp) -> String {
    start.map(|s| duration(end.unwrap_or(now).duration_since(s))).unwrap_or_default()
}

/// Two units at most: `12 ms`, `3.4 s`, `2 min 5 s`, `3 h`, `2 d 4 h`.
pub(crate) fn duration(duration: SignedDuration) -> String {
    let both = |whole: i64, unit: &str, rest: i64, smaller: &str| match rest {
        0 => format!("{whole} {unit}"),
        _ => format!("{whole} {unit} {rest} {smaller}"),
    };
    let ms = i64::try_from(duration.as_millis().max(0)).unwrap_or(i64::MAX);
    let s = ms / 1000;
    match s {
        0 => format!("{ms} ms"),
        1..60 => format!("{s}.{} s", ms % 1000 / 100),
        60..3600 => both(s / 60, "min", s % 60, "s"),
        3600..86_400 => both(s / 3600, "h", s % 3600 / 60, "min"),
        _ => both(s / 86_400, "d", s % 86_400 / 3600, "h"),
    }
}

/// `just now`, `3 min ago`, `in 5 s`.
pub(crate) fn relative(at: Option<Timestamp>, now: Timestamp) -> String {
    let Some(at) = at else { return String::new() };
    let s = now.duration_since(at).as_secs();
    match s {
        -1..=1 => "just now".to_owned(),
        ..-1 => format!("in {}", coarse(-s)),
        _ => format!("{} ago", coarse(s)),
    }
}

fn coarse(s: i64) -> String {
    match s {
        ..60 => format!("{s} s"),
        60..3600 => format!("{} min", s / 60),
        3600..86_400 => format!("{} h", s / 3600),
        _ => format!("{} d", s / 86_400),
    }
}

/// The local time of day, to the millisecond.
pub(crate) fn clock(at: Option<Timestamp>) -> String {
    at.map(|t| t.to_zoned(TimeZone::system()).strftime("%H:%M:%S.%3f").to_string()).unwrap_or_default()
}

/// The local day and time of day, to the millisecond.
pub(crate) fn day_and_clock(at: Option<Timestamp>) -> String {
    at.map(|t| t.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S.%3f").to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_at_most() {
        let check = |ms, text| assert_eq!(duration(SignedDuration::from_millis(ms)), text);
        check(-5, "0 ms");
        check(12, "12 ms");
        check(3_460, "3.4 s");
        check(125_000, "2 min 5 s");
        check(11_220_000, "3 h 7 min");
        check(187_200_000, "2 d 4 h");
    }

    #[test]
    fn instants_are_told_from_now() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let check = |second, text| assert_eq!(relative(Timestamp::from_second(second).ok(), now), text);
        check(1_000_000, "just now");
        check(999_990, "10 s ago");
        check(999_000, "16 min ago");
        check(1_000_090, "in 1 min");
        assert_eq!(relative(None, now), "");
    }
}
