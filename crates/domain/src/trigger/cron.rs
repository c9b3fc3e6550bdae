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
    /// either the day or the weekday does, when both are given. `L`, `W`, `#` and names of months and days are known.
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
        let texts: Vec<&str> = fields.iter().map(|(_, text)| *text).collect();
        if let Some(empty) = fields.iter().find_map(|(at, text)| empty_part(text).map(|part| at + part)) {
            return Err(Invalid::at(empty, "has nothing between two commas"));
        }
        let parsed = fields_of(&texts.join(" ")).map_err(|reason| blame(&fields, &reason))?;
        let hour = texts[texts.len() - 4];
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
    let kinds = [
        "second, which takes 0 to 59",
        "minute, which takes 0 to 59",
        "hour, which takes 0 to 23",
        "day, which takes 1 to 31 and L",
        "month, which takes 1 to 12 and JAN to DEC",
        "weekday, which takes 0 to 7 and SUN to SAT",
    ];
    let kinds = &kinds[kinds.len() - fields.len()..];
    for (position, (column, field)) in fields.iter().enumerate() {
        let alone = |part: &str| {
            let mut all = vec!["*"; fields.len()];
            all[position] = part;
            fields_of(&all.join(" "))
        };
        if alone(field).is_ok() {
            continue;
        }
        let mut at = *column;
        for part in field.split(',') {
            if part.is_empty() || alone(part).is_err() {
                return Invalid::at(at, format!("has {part:?} as {}", kinds[position]));
            }
            at += part.len() + 1;
        }
        return Invalid::at(*column, format!("has {field:?} as {}", kinds[position]));
    }
    Invalid::at(1, reason.to_owned())
}
