//! C1: each logical time of each schedule is decided exactly once, and what fired has exactly one run. Intervals of backfills
//! are in `backfills.rs`.

use super::{Findings, anytime, backfills, counts_from_us, when};
use crate::history::{
    ClientEvent, Firing, History, Request, TriggerKind, TriggerVersion, calendar::Calendar, lines::TriggerSpec,
};
use std::collections::{BTreeMap, HashMap, HashSet};
use uuid::Uuid;

const MS: i64 = 1_000;

pub(super) fn check(history: &History, findings: &mut Findings) {
    check_keys(history, findings);
    check_runs(history, findings);
    check_edits(history, findings);
    let mut firings: HashMap<Uuid, Vec<&Firing>> = HashMap::new();
    for firing in &history.firings {
        firings.entry(firing.trigger_id).or_default().push(firing);
    }
    for (id, versions) in versions_by_trigger(history) {
        let decided = firings.get(&id).map(Vec::as_slice).unwrap_or_default();
        check_schedule(history, id, &versions, decided, findings);
        anytime::check_decisions(history, id, &versions, decided, findings);
    }
    backfills::check(history, &firings, findings);
}

/// The versions of each trigger, oldest first.
pub(super) fn versions_by_trigger(history: &History) -> BTreeMap<Uuid, Vec<&TriggerVersion>> {
    let mut triggers: BTreeMap<Uuid, Vec<&TriggerVersion>> = BTreeMap::new();
    for version in &history.triggers {
        triggers.entry(version.id).or_default().push(version);
    }
    triggers
}

/// The calendar of a trigger's schedule; none for one that has no schedule, or one without nominal times.
pub(super) fn calendar(spec: &TriggerSpec) -> Option<Result<Calendar, String>> {
    match &spec.kind {
        Some(TriggerKind::Schedule { every, .. }) if matches!(every.trim(), "@once" | "@always_on") => None,
        Some(TriggerKind::Schedule { every, zone, start, end }) => {
            let start = start.filter(|_| !spec.landing_time);
            Some(Calendar::new(every, zone.as_deref().unwrap_or("UTC"), start, *end))
        }
        _ => None,
    }
}

/// The nominal time in microseconds that a key names.
pub(super) fn nominal_us(key: &str) -> Option<i64> {
    key.strip_prefix("at:")?.parse::<i64>().ok().map(|ms| ms * MS)
}

fn check_keys(history: &History, findings: &mut Findings) {
    let mut keys = HashSet::with_capacity(history.firings.len());
    for firing in &history.firings {
        if !keys.insert((firing.trigger_id, firing.logical_key.as_str())) {
            findings.violation(firing.trigger_id, format!("{} was decided twice", firing.logical_key));
        }
    }
    findings.looked("firings", history.firings.len());
}

fn check_runs(history: &History, findings: &mut Findings) {
    let mut fired: HashMap<Uuid, u32> = HashMap::with_capacity(history.runs.len());
    for firing in &history.firings {
        match (firing.decided.as_str(), firing.run_id) {
            ("fired", Some(run)) => *fired.entry(run).or_default() += 1,
            ("skipped", None) if firing.reason.is_some() => {}
            _ => findings.violation(
                firing.trigger_id,
                format!("{} is neither fired with a run nor skipped with a reason", firing.logical_key),
            ),
        }
    }
    for run in &history.runs {
        match fired.remove(&run.id) {
            Some(1) => {}
            Some(times) => findings.violation(run.id, format!("{times} firings name this run")),
            None => findings.violation(run.id, "the run has no firing"),
        }
    }
    for run in fired.keys() {
        findings.violation(run, "a firing names this run, which is not there");
    }
    findings.looked("runs", history.runs.len());
}

/// Nothing of an older version comes after an edit or a pause was acknowledged.
fn check_edits(history: &History, findings: &mut Findings) {
    let mut edits: HashMap<Uuid, Vec<(i64, i64)>> = HashMap::new();
    for call in &history.calls {
        if let Request::ChangeTrigger { trigger_id } = call.request
            && let Some(answer) = &call.answer
            && let ClientEvent::Acknowledged { version: Some(version), .. } = answer.event
        {
            edits.entry(trigger_id).or_default().push((answer.at_us, version));
        }
    }
    for list in edits.values_mut() {
        list.sort_unstable();
        let mut highest = 0;
        for (_, version) in list {
            highest = highest.max(*version);
            *version = highest;
        }
    }
    for firing in &history.firings {
        let (Some(list), Some(by)) = (edits.get(&firing.trigger_id), firing.trigger_version) else { continue };
        let before = list.partition_point(|(at, _)| *at < counts_from_us(firing));
        if before > 0 && list[before - 1].1 > by {
            findings.violation(
                firing.trigger_id,
                format!(
                    "{} was decided by version {by} after version {} had been acknowledged",
                    firing.logical_key,
                    list[before - 1].1
                ),
            );
        }
    }
    findings.looked("acknowledged edits", edits.values().map(Vec::len).sum());
}

fn check_schedule(
    history: &History,
    id: Uuid,
    versions: &[&TriggerVersion],
    decided: &[&Firing],
    findings: &mut Findings,
) {
    check_grid(id, versions, decided, findings);
    let mut covered = Covered::new(decided);
    let waiting = history.trigger_states.iter().filter(|state| state.trigger_id == id);
    for start in waiting.flat_map(|state| &state.waiting) {
        covered.add_waiting(&start.key);
    }
    for window in windows(history, versions) {
        let Some(calendar) = calendar(&window.spec) else { continue };
        if window.spec.pause_on_failure || window.spec.landing_time {
            findings.leave_out("a trigger that pauses on failure or lands: when it comes depends on its runs");
            continue;
        }
        let times = calendar.and_then(|calendar| calendar.times(window.after_us, window.until_us));
        let times = match times {
            Ok(times) => times,
            Err(why) => {
                findings.leave_out(why);
                continue;
            }
        };
        for at in &times {
            match covered.count(*at) {
                1 => {}
                0 => findings.violation(id, format!("{} was never decided", when(*at))),
                count => findings.violation(id, format!("{} was decided {count} times", when(*at))),
            }
        }
        findings.looked("due times", times.len());
    }
}

/// Every decision names a time of the schedule that its version has, or, where it was skipped, that one before it had; and none
/// comes before its time.
fn check_grid(id: Uuid, versions: &[&TriggerVersion], decided: &[&Firing], findings: &mut Findings) {
    let mut calendars: HashMap<i64, Option<Result<Calendar, String>>> = HashMap::new();
    for firing in decided {
        let (Some(at), Some(by)) = (nominal_us(&firing.logical_key), firing.trigger_version) else { continue };
        let of_version = || versions.iter().find(|version| version.version == by);
        let calendar = calendars.entry(by).or_insert_with(|| calendar(&of_version()?.spec));
        // What an edit left undecided of the schedule before is skipped by the version that took its place.
        let is_left = firing.decided == "skipped"
            && !calendar.as_ref().is_some_and(|own| own.as_ref().is_ok_and(|own| own.holds(at).unwrap_or(true)))
            && versions.iter().filter(|version| version.version < by).any(|version| {
                self::calendar(&version.spec).is_some_and(|old| old.is_ok_and(|old| old.holds(at).unwrap_or(true)))
            });
        match calendar {
            _ if is_left => {}
            None => findings.violation(id, format!("{} comes from version {by}, which has no times", when(at))),
            Some(Err(_)) => {}
            Some(Ok(calendar)) => match calendar.holds(at) {
                Ok(true) => {}
                Ok(false) => findings.violation(id, format!("{} is no time of version {by}", when(at))),
                Err(why) => findings.leave_out(why),
            },
        }
        let lands = of_version().is_some_and(|version| version.spec.landing_time);
        if firing.decided == "fired" && !lands && firing.created_at_us < at {
            findings.violation(id, format!("{} fired too early, at {}", when(at), when(firing.created_at_us)));
        }
        if firing.execution_date_us != Some(at) {
            findings.violation(id, format!("{} has another execution date than its key says", when(at)));
        }
    }
}

/// A time in which a schedule was in force, and every time of it had to be decided.
pub(super) struct Window {
    pub(super) after_us: i64,
    pub(super) until_us: i64,
    pub(super) spec: TriggerSpec,
}

/// The times in which the triggers' versions were in force, each cut by the time that a decision may take.
pub(super) fn windows(history: &History, versions: &[&TriggerVersion]) -> Vec<Window> {
    let settle_us = i64::from(history.promises.settle_ms) * MS;
    let mut windows: Vec<Window> = Vec::new();
    let mut open: Option<(&TriggerVersion, i64)> = None;
    let mut close = |open: Option<(&TriggerVersion, i64)>, at_us: i64| {
        if let Some((version, after_us)) = open {
            let until_us = at_us - settle_us - i64::from(version.spec.jitter_s) * 1_000_000;
            windows.push(Window { after_us, until_us, spec: version.spec.clone() });
        }
    };
    for version in versions {
        let goes_on = open.is_some_and(|(before, _)| {
            version.active
                && !version.archived
                && before.enabled_at_us == version.enabled_at_us
                && before.spec.kind == version.spec.kind
                && before.spec.jitter_s == version.spec.jitter_s
        });
        if goes_on {
            continue;
        }
        close(open.take(), version.at_us);
        if version.active && !version.archived {
            open = Some((version, version.enabled_at_us));
        }
    }
    close(open, history.taken_at_us);
    windows
}

/// Which nominal times were decided, and how often.
pub(super) struct Covered {
    points: HashMap<i64, u32>,
    /// First and last of times in a row that were skipped together.
    spans: Vec<(i64, i64)>,
}

impl Covered {
    pub(super) fn new(decided: &[&Firing]) -> Self {
        let mut covered = Self { points: HashMap::with_capacity(decided.len()), spans: Vec::new() };
        for firing in decided {
            let Some(at) = nominal_us(&firing.logical_key) else { continue };
            match firing.last_date_us.filter(|last| *last > at) {
                Some(last) => covered.spans.push((at, last)),
                None => *covered.points.entry(at).or_default() += 1,
            }
        }
        covered
    }

    fn add_waiting(&mut self, key: &str) {
        if let Some(at) = nominal_us(key) {
            *self.points.entry(at).or_default() += 1;
        }
    }

    pub(super) fn count(&self, at: i64) -> u32 {
        let spans = self.spans.iter().filter(|(first, last)| (*first..=*last).contains(&at)).count();
        self.points.get(&at).copied().unwrap_or(0) + u32::try_from(spans).unwrap_or(u32::MAX)
    }
}
