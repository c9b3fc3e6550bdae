//! When a plan lets people run: weekly on a civil clock, or once. Windows that touch are one.
//!
//! A boundary is the first instant at which the clock of its zone shows it or more. So a time that the clock skips is the end
//! of the gap, and a time that comes twice is its first coming; a window that lies in a gap altogether is not there that day,
//! and windows that touch on the clock touch in fact. Refuses to know plans, queues and who is stopped at the end.

use crate::trigger::{Invalid, zone};
use jiff::{
    SignedDuration, Timestamp, Zoned,
    civil::{Date, DateTime},
    tz::{AmbiguousOffset, TimeZone},
};
use serde::{Deserialize, Serialize};
use std::cmp::{Ordering, Reverse};

/// Windows of one plan at most.
pub const WINDOWS_MAX: usize = 32;

/// Minutes of a day on a clock without jumps; as an end it is midnight.
pub const DAY_MINUTES: u16 = 1440;

/// An end that is further ahead than this is not looked for: whoever is there counts as not bound. It is also how windows
/// without any end, such as all days around the clock, are known.
const HORIZON: SignedDuration = SignedDuration::from_hours(15 * 24);

/// Days that are looked through for the next beginning: a week, and another for days that a clock skipped.
const SEARCH_DAYS: i64 = 15;

/// When a plan lets somebody run. Times are in the window's own zone, for sentences.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// At any time.
    Always,
    /// Now, until the window closes; and again at `opens_again_at`.
    Until {
        /// When whoever still runs is stopped.
        closes_at: Zoned,
        /// The next window's beginning.
        opens_again_at: Option<Zoned>,
    },
    /// Not now.
    Closed {
        /// When it opens; `None` is never again.
        opens_at: Option<Zoned>,
    },
}

impl Access {
    /// Which of two is of more use: being open over opening later, for longer, sooner.
    #[must_use]
    pub fn cmp_use(&self, other: &Self) -> Ordering {
        // Ranks: always, until, closed with an end, closed for good.
        let key = |access: &Self| match access {
            Self::Always => (3, Timestamp::MAX),
            Self::Until { closes_at, .. } => (2, closes_at.timestamp()),
            Self::Closed { opens_at: Some(_) } => (1, Timestamp::MAX),
            Self::Closed { opens_at: None } => (0, Timestamp::MAX),
        };
        let sooner = |access: &Self| match access {
            Self::Closed { opens_at: Some(at) } => Reverse(at.timestamp()),
            _ => Reverse(Timestamp::MAX),
        };
        (key(self), sooner(self)).cmp(&(key(other), sooner(other)))
    }
}

/// A window as an administrator writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Definition {
    /// See [`Window::weekly`].
    Weekly {
        /// Of IANA's names.
        time_zone: String,
        /// 1 is Monday, 7 is Sunday.
        weekdays: Vec<u8>,
        /// After midnight.
        start_minute: u16,
        /// After midnight; 1440 is midnight at the end of the day.
        end_minute: u16,
    },
    /// See [`Window::once`].
    Once {
        /// Of IANA's names.
        time_zone: String,
        /// It opens.
        starts_at: Timestamp,
        /// It closes.
        ends_at: Timestamp,
    },
}

impl Definition {
    /// The window.
    ///
    /// # Errors
    /// As [`Window::weekly`] and [`Window::once`].
    pub fn compile(&self) -> Result<Window, Invalid> {
        match self {
            Self::Weekly { time_zone, weekdays, start_minute, end_minute } => {
                Window::weekly(time_zone, weekdays, *start_minute, *end_minute)
            }
            Self::Once { time_zone, starts_at, ends_at } => Window::once(time_zone, *starts_at, *ends_at),
        }
    }
}

/// One window of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    zone: TimeZone,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Bit 0 is Monday.
    Weekly {
        days: u8,
        start_minute: u16,
        end_minute: u16,
    },
    Once {
        starts_at: Timestamp,
        ends_at: Timestamp,
    },
}

/// From its first instant up to, and without, its last.
type Interval = (Timestamp, Timestamp);

impl Window {
    /// One that opens on `weekdays` (1 is Monday, 7 is Sunday) at `start_minute` after midnight and closes at `end_minute`; on
    /// the next day where that is not later.
    ///
    /// # Errors
    /// [`Invalid`] with the field: an unknown zone, no day, a day that is none or named twice, a minute beyond the day.
    pub fn weekly(zone_name: &str, weekdays: &[u8], start_minute: u16, end_minute: u16) -> Result<Self, Invalid> {
        let zone = zone(zone_name).map_err(|invalid| invalid.of("time_zone"))?;
        if weekdays.is_empty() {
            return Err(Invalid::new("name at least one day, from 1 (Monday) to 7 (Sunday)").of("weekdays"));
        }
        let mut days = 0;
        for day in weekdays {
            let bit = bit_of(*day).ok_or_else(|| {
                Invalid::new(format!("{day} is no day of the week: 1 is Monday, 7 is Sunday")).of("weekdays")
            })?;
            if days & bit != 0 {
                return Err(Invalid::new(format!("name day {day} twice")).of("weekdays"));
            }
            days |= bit;
        }
        if start_minute >= DAY_MINUTES {
            return Err(Invalid::new("must be before 24:00").of("start_minute"));
        }
        if end_minute > DAY_MINUTES {
            return Err(Invalid::new("must be 24:00 at the latest").of("end_minute"));
        }
        Ok(Self { zone, kind: Kind::Weekly { days, start_minute, end_minute } })
    }

    /// One that is open once. The zone is only that of the sentences.
    ///
    /// # Errors
    /// [`Invalid`] with the field: an unknown zone, an end that is not after the start.
    pub fn once(zone_name: &str, starts_at: Timestamp, ends_at: Timestamp) -> Result<Self, Invalid> {
        let zone = zone(zone_name).map_err(|invalid| invalid.of("time_zone"))?;
        if ends_at <= starts_at {
            return Err(Invalid::new("must be later than the start").of("ends_at"));
        }
        Ok(Self { zone, kind: Kind::Once { starts_at, ends_at } })
    }

    /// When the stretch ends that is open at `at`; `None` while it is closed.
    fn end_of_stretch(&self, at: Timestamp) -> Option<Timestamp> {
        let around = || self.intervals(at, -2, 1).filter(|(from, to)| *from <= at && at < *to);
        around().map(|(_, to)| to).max()
    }

    /// The first beginning after `at`.
    fn next_start(&self, at: Timestamp) -> Option<Timestamp> {
        self.intervals(at, -1, SEARCH_DAYS).map(|(from, _)| from).find(|from| *from > at)
    }

    /// Those that begin in the days around the date of `at`, in order.
    fn intervals(&self, at: Timestamp, first: i64, last: i64) -> impl Iterator<Item = Interval> {
        let (weekly, once) = match self.kind {
            Kind::Weekly { days, start_minute, end_minute } => (Some((days, start_minute, end_minute)), None),
            Kind::Once { starts_at, ends_at } => (None, Some((starts_at, ends_at))),
        };
        let today = self.zone.to_datetime(at).date();
        let of_days = weekly.into_iter().flat_map(move |weekly| {
            let days = (first..=last).filter_map(move |days| today.checked_add(jiff::Span::new().days(days)).ok());
            days.filter_map(move |day| self.of_day(day, weekly))
        });
        of_days.chain(once)
    }

    fn of_day(&self, day: Date, (days, start, end): (u8, u16, u16)) -> Option<Interval> {
        let bit = u8::try_from(day.weekday().to_monday_one_offset()).ok().and_then(bit_of)?;
        if days & bit == 0 {
            return None;
        }
        let until = if end > start { day } else { day.tomorrow().ok()? };
        let (from, to) = (self.instant(day, start)?, self.instant(until, end)?);
        (from < to).then_some((from, to))
    }

    /// The first instant at which the clock shows this minute of this day, or more.
    fn instant(&self, day: Date, minute: u16) -> Option<Timestamp> {
        let shown: DateTime = day
            .to_datetime(jiff::civil::Time::midnight())
            .checked_add(jiff::Span::new().minutes(i64::from(minute)))
            .ok()?;
        let ambiguous = self.zone.to_ambiguous_timestamp(shown);
        match ambiguous.offset() {
            AmbiguousOffset::Gap { after, .. } => {
                let before_the_gap = after.to_timestamp(shown).ok()?;
                self.zone.following(before_the_gap).next().map(|jump| jump.timestamp())
            }
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(shown).ok(),
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(shown).ok(),
        }
    }
}

/// Whether a plan with these windows lets somebody run at `at`; one without windows always does.
#[must_use]
pub fn access(windows: &[Window], at: Timestamp) -> Access {
    if windows.is_empty() {
        return Access::Always;
    }
    let Some((mut closes_at, mut zone)) = end_of_stretch(windows, at) else {
        return Access::Closed { opens_at: next_start(windows, at) };
    };
    let horizon = at.saturating_add(HORIZON).unwrap_or(Timestamp::MAX);
    while let Some((further, of)) = end_of_stretch(windows, closes_at) {
        if further > horizon {
            return Access::Always;
        }
        (closes_at, zone) = (further, of);
    }
    if closes_at > horizon {
        return Access::Always;
    }
    Access::Until { opens_again_at: next_start(windows, closes_at), closes_at: closes_at.to_zoned(zone.clone()) }
}

/// The latest end of those that are open, and its zone.
fn end_of_stretch(windows: &[Window], at: Timestamp) -> Option<(Timestamp, &TimeZone)> {
    windows.iter().filter_map(|w| Some((w.end_of_stretch(at)?, &w.zone))).max_by_key(|(end, _)| *end)
}

/// The earliest beginning after `at`, on its own clock.
fn next_start(windows: &[Window], at: Timestamp) -> Option<Zoned> {
    let starts = windows.iter().filter_map(|w| Some((w.next_start(at)?, &w.zone)));
    starts.min_by_key(|(start, _)| *start).map(|(start, zone)| start.to_zoned(zone.clone()))
}

/// The bit of a day from 1 (Monday) to 7.
const fn bit_of(day: u8) -> Option<u8> {
    if day >= 1 && day <= 7 { Some(1 << (day - 1)) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn weekly(zone: &str, days: &[u8], from: &str, to: &str) -> Window {
        let minute = |text: &str| {
            let (hour, minute) = text.split_once(':').unwrap();
            hour.parse::<u16>().unwrap() * 60 + minute.parse::<u16>().unwrap()
        };
        Window::weekly(zone, days, minute(from), minute(to)).unwrap()
    }

    /// `closes → opens again`, or `opens`, each as its instant.
    fn shown(windows: &[Window], now: &str) -> String {
        let instant = |z: &Option<Zoned>| z.as_ref().map_or_else(|| "never".to_owned(), |z| z.timestamp().to_string());
        match access(windows, at(now)) {
            Access::Always => "always".to_owned(),
            Access::Until { closes_at, opens_again_at } => {
                format!("{} -> {}", closes_at.timestamp(), instant(&opens_again_at))
            }
            Access::Closed { opens_at } => format!("closed, {}", instant(&opens_at)),
        }
    }

    #[test]
    fn windows_open_and_close_on_their_own_clock() {
        let office = [weekly("Europe/Berlin", &[1, 2, 3, 4, 5], "08:00", "18:00")];
        // Friday 2026-11-20; Berlin is an hour ahead.
        for (now, expected) in [
            ("2026-11-20T06:59:59Z", "closed, 2026-11-20T07:00:00Z"),
            ("2026-11-20T07:00:00Z", "2026-11-20T17:00:00Z -> 2026-11-23T07:00:00Z"),
            ("2026-11-20T16:59:59Z", "2026-11-20T17:00:00Z -> 2026-11-23T07:00:00Z"),
            ("2026-11-20T17:00:00Z", "closed, 2026-11-23T07:00:00Z"),
        ] {
            assert_eq!(shown(&office, now), expected, "{now}");
        }
        assert_eq!(shown(&[], "2026-11-20T17:00:00Z"), "always");
        let once = [Window::once("UTC", at("2026-11-20T10:00:00Z"), at("2026-11-20T12:00:00Z")).unwrap()];
        assert_eq!(shown(&once, "2026-11-20T11:00:00Z"), "2026-11-20T12:00:00Z -> never");
        assert_eq!(shown(&once, "2026-11-20T12:00:00Z"), "closed, never");
        assert_eq!(shown(&once, "2026-01-01T00:00:00Z"), "closed, 2026-11-20T10:00:00Z");
    }

    #[test]
    fn windows_that_touch_are_one() {
        let night = weekly("UTC", &[5], "20:00", "00:00");
        let saturday = weekly("UTC", &[6], "00:00", "24:00");
        let once = Window::once("UTC", at("2026-11-21T23:00:00Z"), at("2026-11-22T03:00:00Z")).unwrap();
        let windows = [night, once, saturday];
        assert_eq!(shown(&windows, "2026-11-20T21:00:00Z"), "2026-11-22T03:00:00Z -> 2026-11-27T20:00:00Z");
        let week = [weekly("Europe/Berlin", &[1, 2, 3, 4, 5, 6, 7], "00:00", "24:00")];
        assert_eq!(shown(&week, "2026-03-28T12:00:00Z"), "always");
        let twice_a_day =
            [weekly("Europe/Berlin", &[7], "00:00", "02:30"), weekly("Europe/Berlin", &[7], "02:30", "06:00")];
        // The night on which 02:00 becomes 03:00, and the one on which 03:00 becomes 02:00.
        assert_eq!(shown(&twice_a_day, "2026-03-28T23:30:00Z"), "2026-03-29T04:00:00Z -> 2026-04-04T22:00:00Z");
        assert_eq!(shown(&twice_a_day, "2026-10-24T22:30:00Z"), "2026-10-25T05:00:00Z -> 2026-10-31T23:00:00Z");
    }

    #[test]
    fn a_window_in_a_gap_is_not_there_that_day() {
        let short = [weekly("Europe/Berlin", &[7], "02:10", "02:50")];
        assert_eq!(shown(&short, "2026-03-29T00:59:00Z"), "closed, 2026-04-05T00:10:00Z");
        assert_eq!(shown(&short, "2026-03-29T01:00:00Z"), "closed, 2026-04-05T00:10:00Z");
        // Beginning in the gap: from its end on.
        let longer = [weekly("Europe/Berlin", &[7], "02:10", "03:10")];
        assert_eq!(shown(&longer, "2026-03-29T01:00:00Z"), "2026-03-29T01:10:00Z -> 2026-04-05T00:10:00Z");
    }

    #[test]
    fn what_cannot_be_a_window_is_told_by_field() {
        let field = |outcome: Result<Window, Invalid>| outcome.unwrap_err().field;
        assert_eq!(field(Window::weekly("Mars/Olympus", &[1], 0, 60)), "time_zone");
        assert_eq!(field(Window::weekly("UTC", &[], 0, 60)), "weekdays");
        assert_eq!(field(Window::weekly("UTC", &[1, 8], 0, 60)), "weekdays");
        assert_eq!(field(Window::weekly("UTC", &[1, 1], 0, 60)), "weekdays");
        assert_eq!(field(Window::weekly("UTC", &[1], 1440, 60)), "start_minute");
        assert_eq!(field(Window::weekly("UTC", &[1], 0, 1441)), "end_minute");
        assert_eq!(field(Window::once("UTC", at("2026-01-02T00:00:00Z"), at("2026-01-02T00:00:00Z"))), "ends_at");
    }

    /// What the rule says, by looking at the clock minute by minute: a day's window is open from the first minute at which
    /// the clock shows its start or more, to the first at which it shows its end or more.
    fn is_open_by_looking(window: (&[u8], u16, u16), zone: &TimeZone, now: Timestamp) -> bool {
        let (days, start, end) = window;
        let minutes = || (-3000..=0).map(|back| now + SignedDuration::from_mins(back));
        let clocks: Vec<DateTime> = minutes().map(|minute| zone.to_datetime(minute)).collect();
        let today = zone.to_datetime(now).date();
        (-2..=0).any(|back| {
            let day = today + jiff::Span::new().days(back);
            let weekday = u8::try_from(day.weekday().to_monday_one_offset()).unwrap();
            let until = if end > start { day } else { day.tomorrow().unwrap() };
            let shows = |date: Date, minute: u16| {
                let wanted = date.to_datetime(jiff::civil::Time::midnight()) + jiff::Span::new().minutes(minute);
                clocks.iter().any(|clock| *clock >= wanted)
            };
            days.contains(&weekday) && shows(day, start) && !shows(until, end)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() })]

        #[test]
        fn around_jumps_of_clocks_windows_are_what_looking_says(
            zone_at in 0_usize..8,
            jump in 0_usize..40,
            minutes_after in -1500_i64..1500,
            days in proptest::collection::btree_set(1_u8..=7, 1..=7),
            start in 0_u16..1440,
            end in 0_u16..=1440,
        ) {
            // An hour, half an hour, a whole day, at midnight, and none at all.
            let zones = [
                "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Beirut", "America/Havana",
                "America/Santiago", "UTC",
            ];
            let zone = zone(zones[zone_at]).unwrap();
            let from = at("2005-01-01T00:00:00Z");
            let transition = zone.following(from).nth(jump).map_or(from, |t| t.timestamp());
            let now = transition + SignedDuration::from_mins(minutes_after);
            let days: Vec<u8> = days.into_iter().collect();
            let window = Window::weekly(zones[zone_at], &days, start, end).unwrap();
            let open = is_open_by_looking((&days, start, end), &zone, now);
            match access(std::slice::from_ref(&window), now) {
                Access::Always => prop_assert!(open),
                Access::Until { closes_at, opens_again_at } => {
                    prop_assert!(open);
                    let closes_at = closes_at.timestamp();
                    prop_assert!(closes_at > now && !is_open_by_looking((&days, start, end), &zone, closes_at));
                    prop_assert!(opens_again_at.is_some_and(|next| next.timestamp() > closes_at));
                }
                Access::Closed { opens_at } => {
                    prop_assert!(!open);
                    let next = opens_at.map(|next| next.timestamp());
                    prop_assert!(next.is_some_and(|next| next > now && is_open_by_looking((&days, start, end), &zone, next)));
                }
            }
        }
    }
}
