//! Cron on clocks that jump, held against an evaluator that knows nothing of searching: it looks at every minute around
//! every transition of a zone, with fields that it parsed by itself.

use domain::trigger::{Cron, zone};
use jiff::{
    SignedDuration, Timestamp,
    civil::{Date, date},
    tz::{TimeZone, TimeZoneDatabase},
};
use std::{
    collections::HashSet,
    sync::atomic::{AtomicUsize, Ordering},
};

/// Seconds, and minutes of a day.
const MINUTE: i64 = 60;
const DAY: i64 = 24 * 60;
/// How far a check looks before and after a transition, in minutes. What a clock shows again was shown within a day.
const BEFORE: i64 = 4 * 60;
const AFTER: i64 = 28 * 60;
const REPEATED: i64 = DAY;
/// No clock is as far from UTC.
const OFFSET_MAX: i64 = 26 * 60;

const EXPRESSIONS: [&str; 10] = [
    "30 2 * * *",
    "0 0 * * *",
    "*/20 * * * *",
    "45 */2 * * *",
    "15,45 0-3 * * *",
    "0 1,2,23 * * *",
    "30 * * * 0",
    "59 23 * * *",
    "10 2 1,31 3,10 *",
    "5 12 13 * 5",
];
/// Zones whose clocks do odd things: half an hour, two hours, at midnight, in Ramadan, over a whole day, or never.
const ODD: [&str; 12] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Antarctica/Troll",
    "Africa/Casablanca",
    "Pacific/Apia",
    "America/Sao_Paulo",
    "Asia/Tehran",
    "America/Havana",
    "Asia/Gaza",
    "America/Caracas",
    "Asia/Kolkata",
];

/// Fields as sets of bits, by a parser of its own: `*`, `*/n`, numbers, ranges and lists.
struct Fields([u64; 5]);

impl Fields {
    fn parse(expression: &str) -> Self {
        let bounds = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)];
        let mut fields = expression.split(' ').zip(bounds).map(|(text, (low, high))| {
            let mut set = 0;
            for part in text.split(',') {
                let (range, step) = part.split_once('/').unwrap_or((part, "1"));
                let (from, to) = match (range, range.split_once('-')) {
                    ("*", _) => (low, high),
                    (_, Some((from, to))) => (from.parse().unwrap(), to.parse().unwrap()),
                    (one, None) => (one.parse().unwrap(), one.parse().unwrap()),
                };
                for value in (from..=to).step_by(step.parse().unwrap()) {
                    set |= 1_u64 << value;
                }
            }
            set
        });
        Self(std::array::from_fn(|_| fields.next().unwrap()))
    }

    /// Whether it names this minute of a clock, counted from 1970.
    fn matches(&self, local: i64, calendar: &Calendar) -> bool {
        let Self([minutes, hours, days, months, weekdays]) = self;
        let (date, minute) = (calendar.date(local), local.rem_euclid(DAY));
        let has = |set: &u64, value: i64| set >> value & 1 == 1;
        let (day, weekday) = (has(days, date.day), has(weekdays, date.weekday));
        // Both given: either is enough.
        let restricted = days.count_ones() < 31 && weekdays.count_ones() < 7;
        let fits = if restricted { day || weekday } else { day && weekday };
        fits && has(minutes, minute % 60) && has(hours, minute / 60) && has(months, date.month)
    }
}

/// The dates of some days, so that none is computed for each minute.
struct Calendar {
    first: i64,
    dates: Vec<Fitting>,
}

struct Fitting {
    day: i64,
    month: i64,
    weekday: i64,
}

impl Calendar {
    /// Of all days between two minutes of a clock.
    fn between(from: i64, to: i64) -> Self {
        let (first, last) = (from.div_euclid(DAY), to.div_euclid(DAY));
        let fitting = |date: Date| Fitting {
            day: date.day().into(),
            month: date.month().into(),
            weekday: date.weekday().to_sunday_zero_offset().into(),
        };
        let dates = (first..=last).map(|day| fitting(date(1970, 1, 1) + SignedDuration::from_hours(24 * day)));
        Self { first, dates: dates.collect() }
    }

    fn date(&self, local: i64) -> &Fitting {
        &self.dates[usize::try_from(local.div_euclid(DAY) - self.first).unwrap()]
    }
}

/// A minute around a transition.
struct Minute {
    /// Since 1970.
    at: i64,
    /// What the clock shows, likewise, and what it showed just before.
    local: i64,
    before: i64,
    /// It shows this for the first time.
    first: bool,
}

fn minutes(zone: &TimeZone, around: i64) -> Vec<Minute> {
    let shown = |at: i64| {
        let offset = zone.to_offset(Timestamp::constant(at * MINUTE, 0)).seconds();
        assert_eq!(offset % 60, 0, "clocks differ by whole minutes");
        at + i64::from(offset / 60)
    };
    let (start, begun) = (around - BEFORE, around - BEFORE - REPEATED);
    let mut seen = vec![false; usize::try_from(around + AFTER - begun + 2 * OFFSET_MAX).unwrap()];
    let mut before = shown(begun - 1);
    let mut minutes = Vec::with_capacity(usize::try_from(BEFORE + AFTER).unwrap());
    for at in begun..around + AFTER {
        let local = shown(at);
        let place = usize::try_from(local - begun + OFFSET_MAX).unwrap();
        let first = !std::mem::replace(&mut seen[place], true);
        if at >= start {
            minutes.push(Minute { at, local, before, first });
        }
        before = local;
    }
    minutes
}

fn expected(fields: &Fields, wildcard_hour: bool, minutes: &[Minute], calendar: &Calendar) -> Vec<i64> {
    let comes = |minute: &&Minute| {
        (minute.before + 1..minute.local).any(|skipped| fields.matches(skipped, calendar))
            || ((minute.first || wildcard_hour) && fields.matches(minute.local, calendar))
    };
    minutes.iter().filter(comes).map(|minute| minute.at).collect()
}

fn actual(cron: &Cron, zone: &TimeZone, around: i64) -> Vec<i64> {
    let mut at = Timestamp::constant((around - BEFORE) * MINUTE, 0) - SignedDuration::from_nanos(1);
    let end = Timestamp::constant((around + AFTER) * MINUTE, 0);
    let mut found = Vec::new();
    while let Some(next) = cron.next_after(at, zone).filter(|next| *next < end) {
        assert!(next > at && next.as_nanosecond() % (i128::from(MINUTE) * 1_000_000_000) == 0);
        found.push(next.as_second() / MINUTE);
        at = next;
    }
    found
}

/// Around each transition of the zone in these years, and their beginning.
fn check(name: &str, years: std::ops::RangeInclusive<i16>) {
    let zone = zone(name).unwrap();
    let start: Timestamp = format!("{}-01-01T00:00:00Z", years.start()).parse().unwrap();
    let end: Timestamp = format!("{}-12-31T00:00:00Z", years.end()).parse().unwrap();
    let transitions: Vec<_> = zone.following(start).map(|jump| jump.timestamp()).take_while(|at| *at < end).collect();
    let parsed = EXPRESSIONS.map(|expression| {
        let wildcard_hour = expression.split(' ').nth(1).unwrap().starts_with('*');
        (expression, Cron::parse(expression).unwrap(), Fields::parse(expression), wildcard_hour)
    });
    for around in transitions.into_iter().chain([start]) {
        let around = around.as_second() / MINUTE;
        let minutes = minutes(&zone, around);
        let locals = || minutes.iter().map(|minute| minute.local);
        let calendar = Calendar::between(locals().min().unwrap() - DAY, locals().max().unwrap());
        for (expression, cron, fields, wildcard_hour) in &parsed {
            let wanted = expected(fields, *wildcard_hour, &minutes, &calendar);
            let found = actual(cron, &zone, around);
            assert_eq!(found, wanted, "{expression:?} in {name} around minute {around}");
        }
    }
}

#[test]
fn odd_zones_around_some_transitions() {
    for name in ODD {
        // Samoa's day that never was, and a common year.
        check(name, 2011..=2011);
    }
}

/// Twenty seconds of processor time, shared among the cores: each takes the next zone.
#[test]
fn every_zone_around_every_transition_from_2000_to_2037() {
    let mut seen = HashSet::new();
    let mut zones = Vec::new();
    let database = TimeZoneDatabase::bundled();
    for name in database.available() {
        let found = zone(name.as_str()).unwrap();
        let end: Timestamp = "2038-01-01T00:00:00Z".parse().unwrap();
        let start: Timestamp = "2000-01-01T00:00:00Z".parse().unwrap();
        // Many names are links to others.
        let transitions = found.following(start).map(|jump| (jump.timestamp(), jump.offset()));
        let transitions: Vec<_> = transitions.take_while(|(at, _)| *at < end).collect();
        if seen.insert((found.to_offset(start), transitions)) {
            zones.push(name);
        }
    }
    assert!(zones.len() > 150, "only {} zones", zones.len());
    let next = AtomicUsize::new(0);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some(name) = zones.get(next.fetch_add(1, Ordering::Relaxed)) {
                    check(name.as_str(), 2000..=2037);
                }
            });
        }
    });
}
