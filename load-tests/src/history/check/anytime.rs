//! Schedules that no calendar holds: `@once`, which comes a single time each time that it is set, and `@always_on`,
//! whose next time depends on the end of a run.

use super::{
    Findings,
    firings::{Window, versions_by_trigger, windows},
    when,
};
use crate::history::{Firing, History, Run, TriggerKind, TriggerVersion};
use std::collections::HashMap;
use uuid::Uuid;

const MS: i64 = 1_000;

/// Whether a version comes a single time.
pub(super) fn is_once(version: &TriggerVersion) -> bool {
    every(version) == Some("@once")
}

/// The version that made the `@once` what it is which a key names.
fn once_of(key: &str) -> Option<i64> {
    match key.strip_prefix("once")? {
        "" => Some(1),
        version => version.strip_prefix(':')?.parse().ok().filter(|version| *version > 1),
    }
}

/// Whether a version has a run at any time.
pub(super) fn is_always_on(version: &TriggerVersion) -> bool {
    every(version) == Some("@always_on")
}

fn every(version: &TriggerVersion) -> Option<&str> {
    match &version.spec.kind {
        Some(TriggerKind::Schedule { every, .. }) => Some(every.trim()),
        _ => None,
    }
}

/// For C1: what `@once` and `@always_on` versions of a trigger decided is theirs, has come, and `@once` came where it had to.
pub(super) fn check_decisions(
    history: &History,
    id: Uuid,
    versions: &[&TriggerVersion],
    decided: &[&Firing],
    findings: &mut Findings,
) {
    for firing in decided {
        let Some(by) = versions.iter().find(|version| Some(version.version) == firing.trigger_version) else {
            continue;
        };
        let date = firing.execution_date_us.unwrap_or_default();
        let named = if is_once(by) {
            once_of(&firing.logical_key).is_some_and(|of| of <= by.version)
        } else if is_always_on(by) {
            firing.logical_key == format!("always:{}", date.div_euclid(MS))
        } else {
            continue;
        };
        findings.looked("decisions of schedules without times", 1);
        if !named {
            let every = every(by).unwrap_or_default();
            findings
                .violation(id, format!("{} comes from version {}, which is {every}", firing.logical_key, by.version));
        }
        if firing.decided == "fired" && firing.created_at_us < date {
            findings
                .violation(id, format!("{} fired too early, at {}", firing.logical_key, when(firing.created_at_us)));
        }
        if start_us(by).is_some_and(|start| date < start) {
            findings.violation(id, format!("{} is before the start of its trigger", firing.logical_key));
        }
    }
    let comes = |version: &TriggerVersion| is_once(version) && has_come(version, &windows(history, versions));
    if versions.iter().any(|version| comes(version)) {
        findings.looked("@once that had to come", 1);
        let mut waiting = history.trigger_states.iter().filter(|state| state.trigger_id == id);
        let waits = waiting.any(|state| state.waiting.iter().any(|start| once_of(&start.key).is_some()));
        if !waits && !decided.iter().any(|firing| once_of(&firing.logical_key).is_some()) {
            findings.violation(id, "it is @once, was left time to come, and never was decided");
        }
    }
}

/// Whether this version was in force for long enough after the instant at which it comes.
fn has_come(version: &TriggerVersion, windows: &[Window]) -> bool {
    let of_version = windows.iter().filter(|window| window.spec == version.spec);
    of_version.into_iter().any(|window| {
        let at = start_us(version).map_or(window.after_us, |start| start.max(window.after_us));
        at < window.until_us && end_us(version).is_none_or(|end| at < end)
    })
}

fn start_us(version: &TriggerVersion) -> Option<i64> {
    match &version.spec.kind {
        Some(TriggerKind::Schedule { start, .. }) => start.map(jiff::Timestamp::as_microsecond),
        _ => None,
    }
}

fn end_us(version: &TriggerVersion) -> Option<i64> {
    match &version.spec.kind {
        Some(TriggerKind::Schedule { end, .. }) => end.map(jiff::Timestamp::as_microsecond),
        _ => None,
    }
}

/// For C7: what is always on has a run that has not ended, or had one, or began to be on, a short while ago.
pub(super) fn check_always_on(history: &History, findings: &mut Findings) {
    let settled_us = history.taken_at_us - i64::from(history.promises.settle_ms) * MS;
    let mut runs: HashMap<Uuid, Vec<&Run>> = HashMap::new();
    for run in &history.runs {
        runs.entry(run.trigger_id).or_default().push(run);
    }
    for (id, versions) in versions_by_trigger(history) {
        let Some(version) = versions.last().filter(|version| is_always_on(version)) else { continue };
        let mut states = history.trigger_states.iter();
        let is_halted = states.any(|state| state.trigger_id == id && state.halted == Some(version.version));
        let has_ended = end_us(version).is_some_and(|end| end <= history.taken_at_us);
        let has_begun = start_us(version).is_none_or(|start| start <= settled_us) && version.at_us <= settled_us;
        if !version.active || version.archived || is_halted || has_ended || !has_begun {
            continue;
        }
        if version.spec.window.is_some() {
            findings.leave_out("a trigger that is always on within a window: when it should be depends on its clock");
            continue;
        }
        findings.looked("triggers that are always on", 1);
        let of_trigger = runs.get(&id).map(Vec::as_slice).unwrap_or_default();
        let is_on = of_trigger.iter().any(|run| run.completed_at_us.is_none_or(|end| end > settled_us));
        if !is_on {
            let last = of_trigger.iter().filter_map(|run| run.completed_at_us).max();
            let since = when(last.unwrap_or(version.enabled_at_us));
            findings.violation(id, format!("it is always on, and nothing of it has run since {since}"));
        }
    }
}
