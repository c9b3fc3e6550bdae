//! C7: what is due fires in time, every run ends, and no trigger waits without a reason.

use super::{
    Findings, anytime, counts_from_us,
    firings::{nominal_us, versions_by_trigger},
    when,
};
use crate::history::{History, TriggerKind};
use std::collections::HashMap;

pub(super) fn check(history: &History, findings: &mut Findings) {
    check_lateness(history, findings);
    check_ends(history, findings);
    check_futures(history, findings);
    anytime::check_always_on(history, findings);
}

fn check_lateness(history: &History, findings: &mut Findings) {
    let jitters: HashMap<(uuid::Uuid, i64), u32> =
        history.triggers.iter().map(|trigger| ((trigger.id, trigger.version), trigger.spec.jitter_s)).collect();
    let bound_us =
        history.promises.lateness_max_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(1_000));
    let mut late = Vec::new();
    for firing in history.firings.iter().filter(|firing| firing.decided == "fired") {
        let (Some(at), Some(version)) = (nominal_us(&firing.logical_key), firing.trigger_version) else { continue };
        let jitter_us = i64::from(jitters.get(&(firing.trigger_id, version)).copied().unwrap_or(0)) * 1_000_000;
        let by_us = counts_from_us(firing) - at - jitter_us;
        late.push(by_us.max(0));
        if bound_us.is_some_and(|bound| by_us > bound) {
            findings.violation(firing.trigger_id, format!("{} fired {} ms late", when(at), by_us / 1_000));
        }
    }
    late.sort_unstable();
    findings.looked("scheduled runs", late.len());
    if late.is_empty() {
        return;
    }
    let of = |permille: usize| late[(late.len() - 1) * permille / 1_000] / 1_000;
    let p99 = u64::try_from(of(990)).unwrap_or(0);
    for (name, permille) in [("lateness ms p50", 500), ("lateness ms p99", 990), ("lateness ms max", 1_000)] {
        findings.figure(name, u64::try_from(of(permille)).unwrap_or(0));
    }
    if let Some(bound) = history.promises.lateness_p99_ms.filter(|bound| p99 > *bound) {
        findings
            .violation("all triggers", format!("1 of 100 scheduled runs is later than {p99} ms; promised are {bound}"));
    }
}

fn check_ends(history: &History, findings: &mut Findings) {
    findings.looked("runs", history.runs.len());
    if !history.promises.is_quiet {
        return;
    }
    for run in history.runs.iter().filter(|run| run.completed_at_us.is_none()) {
        findings.violation(run.id, format!("it is still {} though everything was left time to end", run.status));
    }
    for backfill in history.backfills.iter().filter(|backfill| backfill.status == "running") {
        findings.violation(backfill.id, "the backfill goes on though everything was left time to end");
    }
}

/// A schedule in force has a next time, or a reason to have none.
fn check_futures(history: &History, findings: &mut Findings) {
    let states: HashMap<_, _> = history.trigger_states.iter().map(|state| (state.trigger_id, state)).collect();
    let settled_us = history.taken_at_us - i64::from(history.promises.settle_ms) * 1_000;
    for (id, versions) in versions_by_trigger(history) {
        let Some(version) = versions.last().filter(|version| version.active && !version.archived) else { continue };
        let Some(TriggerKind::Schedule { every, end, .. }) = &version.spec.kind else { continue };
        let has_ended = end.is_some_and(|end| end.as_microsecond() <= history.taken_at_us);
        if version.at_us > settled_us || has_ended || matches!(every.trim(), "@once" | "@always_on") {
            continue;
        }
        findings.looked("schedules in force", 1);
        match states.get(&id) {
            None => {
                findings.violation(id, "nobody has decided anything about it since it was started");
            }
            Some(state) if state.next_due_us.is_none() && state.halted != Some(version.version) => {
                findings.violation(id, "it is in force, and nobody will look at it again");
            }
            Some(_) => {}
        }
    }
}
