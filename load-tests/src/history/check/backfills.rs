//! C1, of backfills: each interval has exactly one run, and nothing else has one.

use super::{
    Findings,
    firings::{Covered, nominal_us},
    when,
};
use crate::history::{Backfill, Firing, History, calendar::Calendar};
use jiff::Timestamp;
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

pub(super) fn check(history: &History, firings: &HashMap<Uuid, Vec<&Firing>>, findings: &mut Findings) {
    for backfill in &history.backfills {
        let decided = firings.get(&backfill.id).map(Vec::as_slice).unwrap_or_default();
        check_one(backfill, decided, findings);
    }
}

fn check_one(backfill: &Backfill, decided: &[&Firing], findings: &mut Findings) {
    let intervals = match intervals(backfill) {
        Ok(intervals) => intervals,
        Err(why) => return findings.leave_out(why),
    };
    let id = backfill.id;
    if i64::try_from(intervals.len()) != Ok(backfill.total) {
        findings.violation(id, format!("it has {} intervals, and counts {}", intervals.len(), backfill.total));
    }
    let known: HashSet<i64> = intervals.iter().copied().collect();
    for firing in decided {
        match nominal_us(&firing.logical_key) {
            Some(at) if known.contains(&at) => {}
            _ => findings.violation(id, format!("{} is the beginning of no interval of it", firing.logical_key)),
        }
        if firing.decided != "fired" {
            findings.violation(id, format!("{} was {}: an interval has a run", firing.logical_key, firing.decided));
        }
    }
    let covered = Covered::new(decided);
    // One that was stopped, or goes on, has come as far as it has.
    let is_over = matches!(backfill.status.as_str(), "completed" | "failed");
    for at in intervals.iter().copied() {
        match covered.count(at) {
            1 => {}
            0 if !is_over => {}
            0 => findings.violation(id, format!("the interval of {} never had a run", when(at))),
            count => findings.violation(id, format!("the interval of {} was decided {count} times", when(at))),
        }
    }
    findings.looked("intervals", intervals.len());
}

/// When each of its intervals begins; the error says what of it is beyond the calendar of histories.
fn intervals(backfill: &Backfill) -> Result<Vec<i64>, String> {
    let Backfill { unit, every, cron, time_zone, start_at_us, end_at_us, .. } = backfill;
    let every = match (unit.as_str(), cron) {
        ("cron", Some(cron)) => cron.clone(),
        ("second" | "minute" | "hour", _) => format!("@every {every}{}", &unit[..1]),
        _ => return Err(format!("a backfill by the {unit} of a calendar")),
    };
    let start = Timestamp::from_microsecond(*start_at_us).map_err(|error| error.to_string())?;
    Calendar::new(&every, time_zone, Some(start), None)?.times(start_at_us - 1, *end_at_us)
}
