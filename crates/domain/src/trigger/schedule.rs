//! When a schedule comes: nominal times, before any jitter.
//!
//! Every kind is a grid that stands by itself: a time follows from the schedule alone, never from the time before it.
//! Refuses to know what was decided about a time, and why.

use super::{Cron, Invalid, Window, due};
use jiff::{
    SignedDuration, Timestamp,
    tz::{TimeZone, TimeZoneDatabase},
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// No schedule starts before this, 1970, or ends after [`LAST`]: what lies outside is a slip of a pen.
pub const FIRST: Timestamp = Timestamp::UNIX_EPOCH;
/// The first instant of 2200.
pub const LAST: Timestamp = Timestamp::constant(7_258_118_400, 0);
/// The longest interval, ten years.
pub const INTERVAL_S_MAX: u32 = 3_653 * 86_400;
/// The most times of one preview.
pub const PREVIEW_MAX: usize = 1_000;
/// A time that lies in a window is looked for in so many of its openings: more than a year where it opens every day.
const OPENINGS_MAX: u32 = 500;

/// What a schedule says, as it is stored and written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// `@once`, `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly` (`@annually`), `@always_on`, `@every <duration>` or a cron expression.
    pub every: String,
    /// An IANA name; the clock that days and hours are read from.
    #[serde(default = "utc")]
    pub zone: String,
    /// Nothing comes before it; the anchor of `@every`, whose grid is otherwise anchored at 1970-01-01 UTC; the moment
    /// of `@once`, which otherwise is that of its activation.
    #[serde(default)]
    pub start: Option<Timestamp>,
    /// Nothing comes at it or after it.
    #[serde(default)]
    pub end: Option<Timestamp>,
}

fn utc() -> String {
    "UTC".to_owned()
}

/// A schedule that was understood, ready to be asked for times. Some 6 KiB with cron: keep those that are asked often.
#[derive(Debug, Clone)]
pub struct Timetable {
    every: Every,
    zone: TimeZone,
    start: Option<Timestamp>,
    end: Option<Timestamp>,
}

/// The kinds of schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Every {
    /// One time.
    Once,
    /// As soon as nothing runs; it has no nominal times.
    AlwaysOn,
    /// `anchor + k * interval`.
    Interval(SignedDuration),
    /// By the clock, which the named periods are too.
    Cron(Box<Cron>),
}

impl Schedule {
    /// Understands it.
    ///
    /// # Errors
    /// [`Invalid`] names the field, and the column in it.
    pub fn compile(&self) -> Result<Timetable, Invalid> {
        let every = Every::parse(&self.every).map_err(|invalid| invalid.of("schedule"))?;
        let zone = zone(&self.zone).map_err(|invalid| invalid.of("time_zone"))?;
        for (field, at) in [("start_time", self.start), ("end_time", self.end)] {
            if at.is_some_and(|at| !(FIRST..LAST).contains(&at)) {
                return Err(Invalid::new("must lie between 1970 and 2200").of(field));
            }
        }
        if let (Some(start), Some(end)) = (self.start, self.end)
            && end <= start
        {
            return Err(Invalid::new("must be later than the start time").of("end_time"));
        }
        Ok(Timetable { every, zone, start: self.start, end: self.end })
    }
}

/// A time zone of the database that is compiled in, so that every replica has the same rules.
///
/// # Errors
/// When the name is none of IANA's.
pub fn zone(name: &str) -> Result<TimeZone, Invalid> {
    // Names are at most some 40 bytes long; the rest is not worth a search.
    if name.len() <= 64
        && let Ok(zone) = TimeZoneDatabase::bundled().get(name)
    {
        return Ok(zone);
    }
    Err(Invalid::new(format!(
        "{:?} is no IANA time zone; write one such as Europe/Berlin or UTC",
        super::shorten(name)
    )))
}

impl Every {
    /// Reads the text of a schedule.
    ///
    /// # Errors
    /// With the column of what is wrong.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let cron = |expression| Cron::parse(expression).map(|cron| Self::Cron(Box::new(cron)));
        match text.trim() {
            "@once" => Ok(Self::Once),
            "@always_on" => Ok(Self::AlwaysOn),
            "@hourly" => cron("0 * * * *"),
            "@daily" => cron("0 0 * * *"),
            "@weekly" => cron("0 0 * * 1"),
            "@monthly" => cron("0 0 1 * *"),
            "@yearly" | "@annually" => cron("0 0 1 1 *"),
            "" => Err(Invalid::at(1, "is empty; write @daily, @every 15m or five cron fields such as 0 6 * * 1")),
            name if name.starts_with("@every") => interval(text).map(Self::Interval),
            name if name.starts_with('@') => Err(Invalid::at(
                1,
                format!(
                    "{:?} is none of @once, @hourly, @daily, @weekly, @monthly, @yearly, @always_on and @every",
                    super::shorten(name)
                ),
            )),
            _ => cron(text),
        }
    }
}

/// `@every 90s`, `@every 1h30m`: units from `s` to `w`, none twice.
fn interval(text: &str) -> Result<SignedDuration, Invalid> {
    let refuse = |at: usize| Invalid::at(at + 1, "is no interval; write it as @every 90s, 15m, 1h30m, 2d or 1w");
    let start = text.find("@every").map_or(0, |at| at + "@every".len());
    let body = text[start..].trim_end();
    if !body.starts_with([' ', '\t']) || body.trim().is_empty() {
        return Err(refuse(start));
    }
    let (mut total, mut number, mut digits, mut last) = (0_u64, 0_u64, false, u64::MAX);
    for (at, letter) in body.char_indices().skip_while(|(_, c)| c.is_whitespace()) {
        if let Some(digit) = letter.to_digit(10) {
            number = number.saturating_mul(10).saturating_add(u64::from(digit));
            digits = true;
            continue;
        }
        let unit = match letter {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return Err(refuse(start + at)),
        };
        if !digits || unit >= last {
            return Err(refuse(start + at));
        }
        total = total.saturating_add(number.saturating_mul(unit));
        (number, digits, last) = (0, false, unit);
    }
    if digits {
        return Err(refuse(start + body.len()));
    }
    match i64::try_from(total) {
        Ok(seconds @ 1..) if total <= u64::from(INTERVAL_S_MAX) => Ok(SignedDuration::from_secs(seconds)),
        _ => Err(Invalid::at(start + 1, "must be from one second to ten years long")),
    }
}

impl Timetable {
    /// What kind of schedule it is.
    #[must_use]
    pub fn every(&self) -> &Every {
        &self.every
    }

    /// The clock that it is read from.
    #[must_use]
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The first instant from `at` on that is not before the start.
    #[must_use]
    pub fn opens_at(&self, at: Timestamp) -> Timestamp {
        self.start.map_or(at, |start| start.max(at))
    }

    /// Whether the schedule has ended by then.
    #[must_use]
    pub fn closed_at(&self, at: Timestamp) -> bool {
        self.end.is_some_and(|end| end <= at)
    }

    /// The first nominal time after `after`. `@once` without a start and `@always_on` have none: theirs depend on when
    /// they were activated and on what runs.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        self.next_on_grid(after).filter(|next| self.end.is_none_or(|end| *next < end))
    }

    /// As [`Self::next_after`], whenever the schedule ends.
    fn next_on_grid(&self, after: Timestamp) -> Option<Timestamp> {
        // A start is itself a time that may come, so the search begins just before it.
        let just_before = |at: Timestamp| at.checked_sub(SignedDuration::from_nanos(1)).ok();
        let after = match self.start.and_then(just_before) {
            Some(start) => after.max(start),
            None => after,
        };
        let next = match &self.every {
            Every::Once => self.start.filter(|start| *start > after),
            Every::AlwaysOn => None,
            Every::Interval(interval) => grid(self.start.unwrap_or(FIRST), *interval, after),
            Every::Cron(cron) => cron.next_after(after, &self.zone),
        };
        next.filter(|next| *next < LAST)
    }

    /// The last nominal time at or before `at`, later than `floor`.
    #[must_use]
    pub fn last_until(&self, at: Timestamp, floor: Timestamp) -> Option<Timestamp> {
        let reaches = |from: Timestamp| self.next_after(from).is_some_and(|next| next <= at);
        // `next_after` never falls as its argument rises, so the last start from which a time is reached is bracketed by
        // doubling, and found by halving.
        let mut back = SignedDuration::from_secs(64);
        let mut low = loop {
            let from = at.checked_sub(back).unwrap_or(floor).max(floor);
            if reaches(from) {
                break from;
            }
            if from <= floor {
                return None;
            }
            back = back.checked_mul(4).unwrap_or(SignedDuration::MAX);
        };
        let mut high = at;
        while high.duration_since(low) > SignedDuration::from_millis(1) {
            let middle = low.checked_add(high.duration_since(low) / 2).unwrap_or(low);
            if reaches(middle) { low = middle } else { high = middle }
        }
        self.next_after(low)
    }

    /// The first nominal time after `after` in the window: those outside of it are skipped. `None` also where none lies in the
    /// next 500 openings.
    #[must_use]
    pub fn next_in(&self, window: Option<&Window>, after: Timestamp) -> Option<Timestamp> {
        let mut at = self.next_after(after)?;
        let Some(window) = window else { return Some(at) };
        for _ in 0..OPENINGS_MAX {
            let opens_at = window.opens_at(at, &self.zone);
            if opens_at <= at {
                return Some(at);
            }
            at = self.next_after(due::before(opens_at))?;
        }
        None
    }

    /// The next nominal times after `after` in the window, at most `count` and at most [`PREVIEW_MAX`].
    #[must_use]
    pub fn preview(&self, window: Option<&Window>, after: Timestamp, count: usize) -> Vec<Timestamp> {
        let next = |at: &Timestamp| self.next_in(window, *at);
        std::iter::successors(self.next_in(window, after), next).take(count.min(PREVIEW_MAX)).collect()
    }

    /// The period that begins at a nominal time, the last one before the schedule's end too. `None` for those that have no
    /// next time.
    #[must_use]
    pub fn period(&self, nominal: Timestamp) -> Option<Period> {
        let end = self.next_on_grid(nominal)?;
        Some(Period { start: nominal, end, length: end.duration_since(nominal) })
    }
}

/// From one nominal time to the next: what a run of the first is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// The nominal time, which is the run's execution date.
    pub start: Timestamp,
    /// The next nominal time.
    pub end: Timestamp,
    /// Between the two; in a month, on a clock that jumps and with cron not always the same.
    pub length: SignedDuration,
}

fn grid(anchor: Timestamp, interval: SignedDuration, after: Timestamp) -> Option<Timestamp> {
    if after < anchor {
        return Some(anchor);
    }
    // In nanoseconds, which 128 bits hold for every instant that there is.
    let past = after.as_nanosecond() - anchor.as_nanosecond();
    let step = interval.as_nanos();
    let next = anchor.as_nanosecond() + (past.div_euclid(step) + 1) * step;
    Timestamp::from_nanosecond(next).ok()
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.every, self.zone)
    }
}
