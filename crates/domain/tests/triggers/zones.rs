//! Cron on clocks that jump, held against an evaluator that knows nothing of searching: it looks at every minute around
//! every transition of a zone, with fields that it parsed by itself.

use domain::trigger::{Cron, zone};
use jiff::{
    SignedDuration, Timestamp,
    civil::DateTime,
    tz::{TimeZone, TimeZoneDatabase},
};
use std::collections::{BTreeSet, HashSet};

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

/// Fields as sets, by a parser of its own: `*`, `*/n`, numbers, ranges and lists.
struct Fields([BTreeSet<i8>; 5]);

impl Fields {
    fn parse(expression: &str) -> Self {
        let bounds = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)];
        let mut fields = expression.split(' ').zip(bounds).map(|(text, (low, high))| {
            let mut set = BTreeSet::new();
            for part in text.split(',') {
                let (range, step) = part.split_once('/').unwrap_or((part, "1"));
                let (from, to) = match (range, range.split_once('-')) {
                    ("*", _) => (low, high),
                    (_, Some((from, to))) => (from.parse().unwrap(), to.parse().unwrap()),
                    (one, None) => (one.parse().unwrap(), one.parse().unwrap()),
                };
                set.extend((from..=to).step_by(step.parse().unwrap()));
            }
            set
        });
        Self(std::array::from_fn(|_| fields.next().unwrap()))
    }

    fn matches(&self, at: DateTime) -> bool {
        let [minutes, hours, days, months, weekdays] = &self.0;
        let (day, weekday) = (days.contains(&at.day()), weekdays.contains(&at.weekday().to_sunday_zero_offset()));
        // Both given: either is enough.
        let date = if days.len() < 31 && weekdays.len() < 7 { day || weekday } else { day && weekday };
        date && minutes.contains(&at.minute()) && hours.contains(&at.hour()) && months.contains(&at.month())
    }
}

/// What a clock shows from 4 hours before a transition to 28 hours after it, minute by minute.
struct Minute {
    at: Timestamp,
    local: DateTime,
    /// It shows this for the first time.
    first: bool,
    /// What it left out just before.
    skipped: Vec<DateTime>,
}

fn minutes(zone: &TimeZone, around: Timestamp) -> Vec<Minute> {
    let minute = SignedDuration::from_mins(1);
    let (mut minutes, mut seen) = (Vec::new(), HashSet::new());
    // What a clock shows again was shown within two days before.
    let mut at = around - SignedDuration::from_hours(52);
    let mut before = zone.to_datetime(at - minute);
    while at < around + SignedDuration::from_hours(28) {
        let local = zone.to_datetime(at);
        let left_out = std::iter::successors(before.checked_add(minute).ok(), |at| at.checked_add(minute).ok());
        let skipped = left_out.take_while(|skipped| *skipped < local).collect();
        let first = seen.insert(local);
        if at >= around - SignedDuration::from_hours(4) {
            minutes.push(Minute { at, local, first, skipped });
        }
        before = local;
        at += minute;
    }
    minutes
}

fn expected(fields: &Fields, wildcard_hour: bool, minutes: &[Minute]) -> BTreeSet<Timestamp> {
    let comes = |minute: &&Minute| {
        minute.skipped.iter().any(|skipped| fields.matches(*skipped))
            || (fields.matches(minute.local) && (minute.first || wildcard_hour))
    };
    minutes.iter().filter(comes).map(|minute| minute.at).collect()
}

fn actual(cron: &Cron, zone: &TimeZone, around: Timestamp) -> BTreeSet<Timestamp> {
    let mut at = around - SignedDuration::from_hours(4) - SignedDuration::from_nanos(1);
    let end = around + SignedDuration::from_hours(28);
    let mut found = BTreeSet::new();
    while let Some(next) = cron.next_after(at, zone).filter(|next| *next < end) {
        assert!(next > at);
        found.insert(next);
        at = next;
    }
    found
}

/// Around each transition of the zone in these years, or so often where there are none.
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
        let minutes = minutes(&zone, around);
        for (expression, cron, fields, wildcard_hour) in &parsed {
            let (wanted, found) = (expected(fields, *wildcard_hour, &minutes), actual(cron, &zone, around));
            assert_eq!(found, wanted, "{expression:?} in {name} around {around}");
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

/// Some minutes of one core: `cargo test -p domain --test triggers -- --ignored`.
#[test]
#[ignore = "takes minutes; it is run when the search, or the database of time zones, changes"]
fn every_zone_around_every_transition_from_2000_to_2037() {
    let mut seen = HashSet::new();
    for name in TimeZoneDatabase::bundled().available() {
        let found = zone(name.as_str()).unwrap();
        let end: Timestamp = "2038-01-01T00:00:00Z".parse().unwrap();
        let start: Timestamp = "2000-01-01T00:00:00Z".parse().unwrap();
        // Many names are links to others.
        let transitions = found.following(start).map(|jump| (jump.timestamp(), jump.offset()));
        let transitions: Vec<_> = transitions.take_while(|(at, _)| *at < end).collect();
        if seen.insert((found.to_offset(start), transitions)) {
            check(name.as_str(), 2000..=2037);
        }
    }
    assert!(seen.len() > 150, "only {} zones", seen.len());
}
