//! When a nominal time is acted upon: after its jitter, or so that its run lands in time; and which late ones still are.
//!
//! Refuses to know what was acted upon.

use super::{CatchUp, Every, Timetable, Trigger, key, step};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

/// How many of the latest runtimes a landing is computed from.
pub const LANDING_RUNS: usize = 7;

/// How long before its landing a run begins: the mean of up to [`LANDING_RUNS`] runtimes and half their standard
/// deviation, rounded up, in seconds. `None` without any.
#[must_use]
pub fn lead(runtimes_s: &[u32]) -> Option<SignedDuration> {
    let latest = &runtimes_s[..runtimes_s.len().min(LANDING_RUNS)];
    if latest.is_empty() {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "at most seven of them")]
    let count = latest.len() as f64;
    let mean = latest.iter().map(|s| f64::from(*s)).sum::<f64>() / count;
    // Of a sample: one runtime deviates from nothing.
    let squares = latest.iter().map(|s| (f64::from(*s) - mean).powi(2)).sum::<f64>();
    let deviation = if latest.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 };
    #[expect(clippy::cast_possible_truncation, reason = "runtimes are 32 bits wide")]
    let seconds = (mean + (deviation / 2.0).ceil()).ceil() as i64;
    Some(SignedDuration::from_secs(seconds))
}

/// A trigger's timetable with everything that shifts when its times are acted upon.
pub(super) struct Plan<'a> {
    trigger: &'a Trigger,
    timetable: &'a Timetable,
    lead: Option<SignedDuration>,
    former_wake: Option<Timestamp>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(trigger: &'a Trigger, timetable: &'a Timetable, facts: &step::Facts) -> Self {
        Self { trigger, timetable, lead: facts.lead, former_wake: facts.former_wake }
    }

    /// The next nominal time. `@once` comes when it is enabled, if its start is past by then or it has none.
    pub(super) fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        if *self.timetable.every() == Every::Once {
            let at = self.timetable.opens_at(self.trigger.enabled_at);
            return Some(at).filter(|at| *at > after && !self.timetable.closed_at(*at));
        }
        self.timetable.next_after(after)
    }

    pub(super) fn key(&self, at: Timestamp) -> String {
        match self.timetable.every() {
            Every::Once => key::of_once(self.trigger.once_version),
            _ => key::of_time(at),
        }
    }

    /// When a nominal time is acted upon: never before it, and never as late as the next one.
    pub(super) fn due(&self, nominal: Timestamp) -> Timestamp {
        let shift = match (self.landing(nominal), self.lead) {
            (Some(landing), Some(lead)) => landing.duration_since(nominal).saturating_sub(lead),
            // Nothing is known about its runs: it begins at once.
            (Some(_), None) => SignedDuration::ZERO,
            (None, _) => self.jitter(nominal),
        };
        if shift <= SignedDuration::ZERO {
            return nominal;
        }
        let due = nominal.checked_add(shift).unwrap_or(nominal);
        match self.next_after(nominal).and_then(|next| next.checked_sub(SignedDuration::from_millis(1)).ok()) {
            Some(last) => due.min(last),
            None => due,
        }
    }

    /// The first of the overdue times that still is worth a run; what lies between `mark` and it is given up. A time
    /// that is on time is worth one whatever the policy.
    pub(super) fn worth_from(&self, mark: Timestamp, now: Timestamp) -> Option<Timestamp> {
        if *self.timetable.every() == Every::Once {
            // The only one that there is.
            return None;
        }
        let on_time = self.on_time_from(mark, now);
        let (window, mut count) = match self.trigger.spec.catch_up {
            CatchUp::None => return Some(on_time),
            // It stands for all: not worth a run where one that is on time does.
            CatchUp::Latest if self.last_due(now, now, mark).is_some_and(|last| last >= on_time) => {
                return Some(on_time);
            }
            CatchUp::Latest => (SignedDuration::MAX, 1),
            CatchUp::All { window_s, count } => (SignedDuration::from_secs(i64::from(window_s)), count),
        };
        let reach = now.checked_sub(window).unwrap_or(Timestamp::MIN);
        let mut from = on_time;
        while count > 0
            && let Some(last) = self.last_due(before(from), now, mark).filter(|last| *last >= reach)
        {
            from = last;
            count -= 1;
        }
        Some(from)
    }

    /// The first time that was due in the last [`step::ON_TIME`]. Only one that is nominally older can have been,
    /// because none is due as late as the next one. Nor is one late that waited for its time when an edit let it be due at
    /// once, or earlier.
    fn on_time_from(&self, mark: Timestamp, now: Timestamp) -> Timestamp {
        let since = now.checked_sub(step::ON_TIME).unwrap_or(now);
        let has_waited = self.former_wake.is_some_and(|wake| wake >= since);
        match self.timetable.last_until(since, mark) {
            Some(older) if has_waited || self.due(older) >= since => older,
            _ => since,
        }
    }

    /// The last nominal time at or before `upper`, and after `floor`, that is due at `now`.
    fn last_due(&self, upper: Timestamp, now: Timestamp, floor: Timestamp) -> Option<Timestamp> {
        let last = self.timetable.last_until(upper, floor)?;
        // Only the latest of all can be past and not yet due.
        if self.due(last) <= now { Some(last) } else { self.timetable.last_until(before(last), floor) }
    }

    /// The same for the same trigger and time on every replica, and at most what the trigger says.
    fn jitter(&self, nominal: Timestamp) -> SignedDuration {
        let most = u64::from(self.trigger.spec.jitter_s) * 1_000;
        if most == 0 {
            return SignedDuration::ZERO;
        }
        let seed = self.trigger.id.0.as_u128();
        #[expect(clippy::cast_possible_truncation, reason = "both halves go in")]
        let mixed = mix(seed as u64 ^ mix((seed >> 64) as u64 ^ nominal.as_millisecond().unsigned_abs()));
        SignedDuration::from_millis(i64::try_from(mixed % (most + 1)).unwrap_or(0))
    }

    /// When the run of a period should have ended: at the same place in its period as the start is in its own.
    fn landing(&self, nominal: Timestamp) -> Option<Timestamp> {
        let schedule = self.trigger.spec.schedule().filter(|_| self.trigger.spec.landing_time)?;
        landing(schedule.every.trim(), nominal, schedule.start?, self.timetable.zone())
    }
}

fn landing(every: &str, nominal: Timestamp, start: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let (start, period) = (start.to_zoned(zone.clone()), nominal.to_zoned(zone.clone()));
    let civil = match every {
        "@hourly" => period.datetime().with().minute(start.minute()).second(start.second()).build().ok()?,
        "@daily" => period.date().to_datetime(start.time()),
        "@weekly" => {
            let days = i64::from(start.weekday().to_monday_zero_offset());
            period.date().checked_add(jiff::Span::new().days(days)).ok()?.to_datetime(start.time())
        }
        "@monthly" => {
            let day = start.day().min(period.date().days_in_month());
            period.date().with().day(day).build().ok()?.to_datetime(start.time())
        }
        _ => return None,
    };
    zone.to_ambiguous_timestamp(civil).compatible().ok()
}

/// Just before, so that what comes after it may be `at` itself.
pub(super) fn before(at: Timestamp) -> Timestamp {
    at.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(at)
}

/// The finalizer of SplitMix64: every bit of the input moves about half of the output's.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
