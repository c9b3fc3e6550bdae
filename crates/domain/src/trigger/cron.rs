//! Cron expressions on a wall clock: parsing with positions, and the rule for clocks that jump.
//!
//! The rule: a local time that the clock skips fires once, at the end of the gap. A local time that comes twice fires
//! once, at its first coming, where the hour field names hours, and each time where it is a wildcard (`*`, `*/2`, `?`).
//!
//! Fields are parsed and matched by `croner`, on civil time only; instants are found here, since a scheduler must not
//! depend on what a library does with jumps. Refuses to know anchors, jitter and what a match is good for.

use super::Invalid;
use croner::{
    Cron as Fields,
    parser::{CronParser, Seconds, Year},
};
use jiff::{
    Timestamp, Unit,
    civil::DateTime,
    tz::{Offset, TimeZone},
};
use std::fmt;

/// The most bytes of an expression.
pub const CRON_BYTES_MAX: usize = 255;
/// How many years a search goes on. The rarest expression that means something, a fifth Friday of February, is 40 years
/// apart around 2100.
const HORIZON_YEARS: i16 = 45;

/// A parsed expression of five fields, or six with seconds first.
#[derive(Clone, PartialEq, Eq)]
pub struct Cron {
    fields: Fields,
    wildcard_hour: bool,
}

impl fmt::Debug for Cron {
    // The parsed fields hold a bit for each of 5,000 years.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({})", self.fields.as_str())
    }
}

impl Cron {
    /// Parses `minute hour day month weekday`, with seconds before them where there are six fields. A day matches where
    /// either the day or the weekday does, when both are given. `L`, `W`, `#` and names of months and days are known; `5/15` goes on
    /// to the end of its field, and a range may go over it (`22-2`, `FRI-MON`).
    ///
    /// # Errors
    /// [`Invalid`] with the column of the offending part; also for an expression that never comes.
    pub fn parse(expression: &str) -> Result<Self, Invalid> {
        if expression.len() > CRON_BYTES_MAX {
            return Err(Invalid::at(CRON_BYTES_MAX + 1, format!("is longer than {CRON_BYTES_MAX} bytes")));
        }
        let fields = split(expression);
        if !(5..=6).contains(&fields.len()) {
            let end = fields.last().map_or(1, |(at, field)| at + field.len());
            let count = fields.len();
            return Err(Invalid::at(
                end,
                format!(
                    "has {count} fields; five are needed (minute hour day month weekday), or six with seconds first"
                ),
            ));
        }
        if let Some(empty) = fields.iter().find_map(|(at, text)| empty_part(text).map(|part| at + part)) {
            return Err(Invalid::at(empty, "has nothing between two commas"));
        }
        let kinds = &KINDS[KINDS.len() - fields.len()..];
        let texts =
            fields.iter().zip(kinds).map(|((at, text), kind)| kind.plain(text, *at)).collect::<Result<Vec<_>, _>>()?;
        let parsed = fields_of(&texts.join(" ")).map_err(|reason| blame(&fields, &reason))?;
        let (_, hour) = fields[fields.len() - 4];
        let cron = Self { fields: parsed, wildcard_hour: hour.starts_with(['*', '?']) };
        let never = || Invalid::at(1, "never comes: no date matches its day, month and weekday".to_owned());
        cron.civil(DateTime::constant(2000, 1, 1, 0, 0, 0, 0), true).ok_or_else(never)?;
        Ok(cron)
    }

    /// The first instant after `after` at which it comes on the clock of `zone`; `None` when there is none within
    /// 45 years.
    #[must_use]
    pub fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut offset = zone.to_offset(after);
        let (from, inclusive) = self.resume(after, offset, zone);
        let horizon = from.year().saturating_add(HORIZON_YEARS);
        let mut next = self.civil(from, inclusive)?;
        for jump in zone.following(after) {
            if next.year() > horizon {
                return None;
            }
            let (at, to) = (jump.timestamp(), jump.offset());
            let (left, entered) = (offset.to_datetime(at), to.to_datetime(at));
            if next < left {
                break;
            }
            if entered > left && next <= entered {
                return Some(at);
            }
            if entered < left && self.wildcard_hour {
                next = self.civil(entered, true)?;
            }
            offset = to;
        }
        (next.year() <= horizon).then(|| offset.to_timestamp(next).ok()).flatten()
    }

    /// Where the search begins on the clock. In an hour that comes the second time, named hours have been served.
    fn resume(&self, after: Timestamp, offset: Offset, zone: &TimeZone) -> (DateTime, bool) {
        let local = offset.to_datetime(after);
        let floor = local.round(jiff::civil::DateTimeRound::new().smallest(Unit::Second).mode(jiff::RoundMode::Floor));
        let local = floor.unwrap_or(local);
        if self.wildcard_hour {
            return (local, false);
        }
        let until = after.checked_add(jiff::SignedDuration::from_nanos(1)).unwrap_or(after);
        let last = zone.preceding(until).next();
        let repeated_until = last.and_then(|jump| {
            let at = jump.timestamp();
            let before = at.checked_sub(jiff::SignedDuration::from_nanos(1)).ok()?;
            Some(zone.to_offset(before).to_datetime(at))
        });
        match repeated_until {
            Some(end) if local < end => (end, true),
            _ => (local, false),
        }
    }

    fn civil(&self, from: DateTime, inclusive: bool) -> Option<DateTime> {
        let from = from.to_zoned(TimeZone::UTC).ok()?;
        self.fields.find_next_occurrence(&from, inclusive).ok().map(|found| found.datetime())
    }
}

/// What a field takes.
struct Kind {
    low: usize,
    high: usize,
    /// Of its values, from the lowest on.
    names: &'static [&'static str],
    told: &'static str,
}

const KINDS: [Kind; 6] = [
    Kind { low: 0, high: 59, names: &[], told: "second, which takes 0 to 59" },
    Kind { low: 0, high: 59, names: &[], told: "minute, which takes 0 to 59" },
    Kind { low: 0, high: 23, names: &[], told: "hour, which takes 0 to 23" },
    Kind { low: 1, high: 31, names: &[], told: "day, which takes 1 to 31 and L" },
    Kind {
        low: 1,
        high: 12,
        names: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
        told: "month, which takes 1 to 12 and JAN to DEC",
    },
    Kind {
        low: 0,
        // Sunday has two numbers.
        high: 7,
        names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
        told: "weekday, which takes 0 to 7 and SUN to SAT",
    },
];

impl Kind {
    /// A field at this column, where its values are spelt out that the parser does not take but Mage does.
    fn plain(&self, field: &str, column: usize) -> Result<String, Invalid> {
        let mut at = column;
        let mut parts = Vec::new();
        for part in field.split(',') {
            let step = part.split_once('/').map(|(_, step)| step);
            if step.is_some_and(|step| step.parse() == Ok(0_usize)) {
                return Err(Invalid::at(
                    at,
                    format!("has a step of 0 in {part:?} as {}; a step is 1 or more", self.told),
                ));
            }
            parts.push(self.spelt_out(part, step).unwrap_or_else(|| part.to_owned()));
            at += part.len() + 1;
        }
        Ok(parts.join(","))
    }

    fn spelt_out(&self, part: &str, step: Option<&str>) -> Option<String> {
        let range = part.split('/').next()?;
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (self.value(first)?, self.value(last)?),
            None if step.is_some() => (self.value(range)?, self.high),
            None => return None,
        };
        let step = step.map_or(Some(1), |step| step.parse::<usize>().ok())?;
        // A week has seven days.
        let count = (self.high - self.low + 1).min(if self.high == 7 { 7 } else { usize::MAX });
        let length = if first <= last { last - first } else { last + count - first };
        let values = (0..=length).step_by(step).map(|k| (self.low + (first - self.low + k) % count).to_string());
        Some(values.collect::<Vec<_>>().join(","))
    }

    fn value(&self, text: &str) -> Option<usize> {
        let named = || self.names.iter().position(|name| name.eq_ignore_ascii_case(text)).map(|at| self.low + at);
        text.parse().ok().or_else(named).filter(|value| (self.low..=self.high).contains(value))
    }
}

fn fields_of(expression: &str) -> Result<Fields, String> {
    let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
    parser.parse(expression).map_err(|error| error.to_string())
}

/// Where a list has an empty part, which the parser would pass over.
fn empty_part(field: &str) -> Option<usize> {
    if field.starts_with(',') {
        return Some(0);
    }
    field.find(",,").map(|at| at + 1).or_else(|| field.ends_with(',').then_some(field.len()))
}

/// The fields with their columns, counted from 1.
fn split(expression: &str) -> Vec<(usize, &str)> {
    let start = expression.as_ptr() as usize;
    expression.split_whitespace().map(|field| (field.as_ptr() as usize - start + 1, field)).collect()
}

/// Which part of which field the parser refuses: each is tried alone among wildcards.
fn blame(fields: &[(usize, &str)], reason: &str) -> Invalid {
    let kinds = &KINDS[KINDS.len() - fields.len()..];
    for (position, ((column, field), kind)) in fields.iter().zip(kinds).enumerate() {
        let alone = |part: &str| {
            let plain = kind.plain(part, *column).map_err(|invalid| invalid.to_string())?;
            let mut all = vec!["*"; fields.len()];
            all[position] = &plain;
            fields_of(&all.join(" "))
        };
        if alone(field).is_ok() {
            continue;
        }
        let mut at = *column;
        for part in field.split(',') {
            if part.is_empty() || alone(part).is_err() {
                return Invalid::at(at, format!("has {part:?} as {}", kind.told));
            }
            at += part.len() + 1;
        }
        return Invalid::at(*column, format!("has {field:?} as {}", kind.told));
    }
    Invalid::at(1, reason.to_owned())
}
