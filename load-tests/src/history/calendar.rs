//! Nominal times of schedules, worked out by trying every instant: slow, plain, and without a line of the code that it is
//! meant to check.
//!
//! Understands intervals, the named periods and cron with numbers, lists, ranges and steps, in a time zone whose clock
//! does not jump within the window. Of the rest it says that it does not, and nobody is judged by it.

use jiff::{Timestamp, tz::TimeZone};

const SECOND: i64 = 1_000_000;
const DAY_S: i64 = 86_400;
/// The most instants that are tried, or times that are answered, for one schedule.
const TIMES_MAX: i64 = 50_000_000;

/// A schedule that is understood.
#[derive(Debug, Clone)]
pub(super) struct Calendar {
    every: Every,
    zone: TimeZone,
    start_us: Option<i64>,
    end_us: Option<i64>,
}

#[derive(Debug, Clone)]
enum Every {
    /// Every so many microseconds from the anchor.
    Interval {
        anchor_us: i64,
        step_us: i64,
    },
    Cron(Box<Fields>),
}

/// Which values each field of a clock may have.
#[derive(Debug, Clone)]
struct Fields {
    second: Vec<bool>,
    minute: Vec<bool>,
    hour: Vec<bool>,
    day: Vec<bool>,
    month: Vec<bool>,
    weekday: Vec<bool>,
    /// Without seconds only whole minutes are tried.
    step_s: i64,
}

impl Calendar {
    /// Reads a schedule; the error says what of it is beyond this calendar.
    pub(super) fn new(
        every: &str,
        zone: &str,
        start: Option<Timestamp>,
        end: Option<Timestamp>,
    ) -> Result<Self, String> {
        let start_us = start.map(Timestamp::as_microsecond);
        let every = match every.trim() {
            "@hourly" => Every::cron("0 * * * *")?,
            "@daily" => Every::cron("0 0 * * *")?,
            "@weekly" => Every::cron("0 0 * * 1")?,
            "@monthly" => Every::cron("0 0 1 * *")?,
            "@yearly" | "@annually" => Every::cron("0 0 1 1 *")?,
            text => match text.strip_prefix("@every") {
                Some(length) => Every::Interval { anchor_us: start_us.unwrap_or(0), step_us: interval_us(length)? },
                None if text.starts_with('@') => return Err(format!("{text} has no nominal times")),
                None => Every::cron(text)?,
            },
        };
        let zone = TimeZone::get(zone).map_err(|error| error.to_string())?;
        Ok(Self { every, zone, start_us, end_us: end.map(Timestamp::as_microsecond) })
    }

    /// The nominal times after `after_us` and until `until_us`, in order.
    pub(super) fn times(&self, after_us: i64, until_us: i64) -> Result<Vec<i64>, String> {
        let after_us = self.start_us.map_or(after_us, |start| after_us.max(start - 1));
        let until_us = self.end_us.map_or(until_us, |end| until_us.min(end - 1));
        if until_us <= after_us {
            return Ok(Vec::new());
        }
        match &self.every {
            Every::Interval { anchor_us, step_us } => {
                let first = (after_us - anchor_us).div_euclid(*step_us) + 1;
                let last = (until_us - anchor_us).div_euclid(*step_us);
                if last - first > TIMES_MAX {
                    return Err(format!("there are more than {TIMES_MAX} times"));
                }
                Ok((first.max(0)..=last).map(|k| anchor_us + k * step_us).collect())
            }
            Every::Cron(fields) => {
                let offset_us = self.offset_us(after_us, until_us)?;
                let step_us = fields.step_s * SECOND;
                if (until_us - after_us) / step_us > TIMES_MAX {
                    return Err(format!("there are more than {TIMES_MAX} instants to try"));
                }
                let first = ((after_us + offset_us).div_euclid(step_us) + 1) * step_us;
                let mut times = Vec::new();
                let mut local = first;
                while local - offset_us <= until_us {
                    if fields.match_local(local.div_euclid(SECOND)) {
                        times.push(local - offset_us);
                    }
                    local += step_us;
                }
                Ok(times)
            }
        }
    }

    /// Whether an instant is a nominal time.
    pub(super) fn holds(&self, at_us: i64) -> Result<bool, String> {
        Ok(!self.times(at_us - 1, at_us)?.is_empty())
    }

    /// How far the zone's clock is ahead of UTC, the same during all of the window.
    fn offset_us(&self, after_us: i64, until_us: i64) -> Result<i64, String> {
        let at = |us| Timestamp::from_microsecond(us).map_err(|error| error.to_string());
        let (after, until) = (at(after_us)?, at(until_us)?);
        if self.zone.following(after).next().is_some_and(|jump| jump.timestamp() <= until) {
            return Err("its clock jumps in the time that is looked at".to_owned());
        }
        Ok(i64::from(self.zone.to_offset(after).seconds()) * SECOND)
    }
}

impl Every {
    fn cron(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split_whitespace().collect();
        let (second, rest, step_s) = match parts.len() {
            5 => ("0", &parts[..], 60),
            6 => (parts[0], &parts[1..], 1),
            _ => return Err(format!("{text:?} has neither five nor six fields")),
        };
        let (day, weekday) = (rest[2], rest[4]);
        if ![day, weekday].iter().any(|field| matches!(*field, "*" | "?")) {
            return Err("days of the month and of the week at once".to_owned());
        }
        let mut weekday = field(weekday, 0, 7)?;
        // Sunday has two numbers.
        weekday[0] |= weekday[7];
        Ok(Self::Cron(Box::new(Fields {
            second: field(second, 0, 59)?,
            minute: field(rest[0], 0, 59)?,
            hour: field(rest[1], 0, 23)?,
            day: field(day, 1, 31)?,
            month: field(rest[3], 1, 12)?,
            weekday,
            step_s,
        })))
    }
}

impl Fields {
    /// Whether seconds of the zone's own clock since 1970 match.
    fn match_local(&self, local_s: i64) -> bool {
        let (day, second) = (local_s.div_euclid(DAY_S), local_s.rem_euclid(DAY_S));
        let (month, date) = month_and_date(day);
        let is = |field: &[bool], value: i64| usize::try_from(value).is_ok_and(|at| field.get(at) == Some(&true));
        is(&self.second, second % 60)
            && is(&self.minute, second / 60 % 60)
            && is(&self.hour, second / 3_600)
            && is(&self.day, date)
            && is(&self.month, month)
            // 1970 began with a Thursday.
            && is(&self.weekday, (day + 4).rem_euclid(7))
    }
}

/// The month and the day in it of a day since 1970, by the proleptic Gregorian calendar, counted in years that begin with
/// March so that the leap day comes last.
fn month_and_date(day: i64) -> (i64, i64) {
    let shifted = day + 719_468;
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let date = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (month, date)
}

/// A field of cron as a table of its values.
fn field(text: &str, low: usize, high: usize) -> Result<Vec<bool>, String> {
    let wrong = || format!("the field {text:?}");
    let number = |text: &str| text.parse::<usize>().ok().filter(|n| (low..=high).contains(n)).ok_or_else(wrong);
    let mut table = vec![false; high + 1];
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse::<usize>().ok().filter(|step| *step > 0).ok_or_else(wrong)?),
            None => (part, 1),
        };
        let (first, last) = match range {
            "*" | "?" => (low, high),
            _ => match range.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                // `5/15` begins at 5 and goes on to the end.
                None if part.contains('/') => (number(range)?, high),
                None => (number(range)?, number(range)?),
            },
        };
        // Around the clock, where a range goes over its end; a week has seven days, although its field has eight values.
        let count = if high == 7 { 7 } else { high - low + 1 };
        let length = if first <= last { last - first } else { last + count - first };
        (0..=length).step_by(step).for_each(|k| table[low + (first - low + k) % count] = true);
    }
    Ok(table)
}

fn interval_us(text: &str) -> Result<i64, String> {
    let (mut total, mut number) = (0_i64, 0_i64);
    for letter in text.trim().chars() {
        if let Some(digit) = letter.to_digit(10) {
            number = number * 10 + i64::from(digit);
            continue;
        }
        let unit = match letter {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => DAY_S,
            'w' => 7 * DAY_S,
            _ => return Err(format!("the interval {text:?}")),
        };
        total += number * unit;
        number = 0;
    }
    if total > 0 && number == 0 { Ok(total * SECOND) } else { Err(format!("the interval {text:?}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(at: &str) -> i64 {
        at.parse::<Timestamp>().unwrap().as_microsecond()
    }

    fn times(every: &str, zone: &str, after: &str, until: &str) -> Vec<String> {
        let calendar = Calendar::new(every, zone, None, None).unwrap();
        let times = calendar.times(us(after), us(until)).unwrap();
        times.iter().map(|at| Timestamp::from_microsecond(*at).unwrap().to_string()).collect()
    }

    #[test]
    fn known_times_come_out() {
        let minutes = times("*/20 9-10 * * 1-5", "Europe/Berlin", "2026-01-02T00:00:00Z", "2026-01-05T08:30:00Z");
        // Friday all day, and Monday until 9:30 in Berlin.
        assert_eq!(minutes.len(), 8);
        assert_eq!(minutes[0], "2026-01-02T08:00:00Z");
        assert_eq!(minutes[6], "2026-01-05T08:00:00Z");
        assert_eq!(
            times("@monthly", "UTC", "2024-01-15T00:00:00Z", "2024-03-15T00:00:00Z"),
            ["2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"]
        );
        assert_eq!(
            times("0 0 29 2 *", "UTC", "2023-01-01T00:00:00Z", "2025-01-01T00:00:00Z"),
            ["2024-02-29T00:00:00Z"]
        );
        assert_eq!(times("*/2 * * * * *", "UTC", "2026-01-01T00:00:00Z", "2026-01-01T00:00:06Z").len(), 3);
        assert_eq!(times("@every 1m30s", "UTC", "2026-01-01T00:00:00Z", "2026-01-01T00:06:00Z").len(), 4);
        assert_eq!(times("0 22-1 * * 5-1", "UTC", "2026-01-05T00:00:00Z", "2026-01-06T00:00:00Z").len(), 3);
        assert_eq!(times("@weekly", "UTC", "2026-01-01T00:00:00Z", "2026-01-08T00:00:00Z"), ["2026-01-05T00:00:00Z"]);
    }

    #[test]
    fn what_is_not_understood_is_said() {
        let new = |every: &str| Calendar::new(every, "UTC", None, None).map(|_| ()).unwrap_err();
        assert!(new("0 0 1 * 1").contains("at once"));
        assert!(new("@always_on").contains("no nominal times"));
        assert!(new("0 0 L * *").contains('L'));
        let jumps = Calendar::new("@hourly", "Europe/Berlin", None, None).unwrap();
        assert!(jumps.times(us("2026-03-28T00:00:00Z"), us("2026-03-30T00:00:00Z")).is_err());
    }
}
