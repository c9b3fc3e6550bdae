//! C6: runs of a trigger overlap only where it says so, and those of `@always_on` never; waiting starts keep their order,
//! and a start that was skipped for an overlap did overlap.

use super::{Findings, anytime::is_always_on, firings::versions_by_trigger, when};
use crate::history::{Firing, History, Overlap, Run, TriggerVersion};
use std::collections::HashMap;
use uuid::Uuid;

pub(super) fn check(history: &History, findings: &mut Findings) {
    let slack_us = i64::from(history.promises.clock_slack_ms) * 1_000;
    let runs: HashMap<Uuid, &Run> = history.runs.iter().map(|run| (run.id, run)).collect();
    let versions = versions_by_trigger(history);
    let mut firings: HashMap<Uuid, Vec<&Firing>> = HashMap::new();
    for firing in &history.firings {
        firings.entry(firing.trigger_id).or_default().push(firing);
    }
    for (id, versions) in versions {
        let policy = |version: Option<i64>| {
            let found = versions.iter().find(|known| Some(known.version) == version);
            found.map_or(Overlap::AllowAll, |known| policy_of(known))
        };
        if versions.iter().all(|version| policy_of(version) == Overlap::AllowAll) {
            continue;
        }
        let Some(decided) = firings.get(&id) else { continue };
        let mut started: Vec<(&Run, Overlap)> = decided
            .iter()
            .filter_map(|firing| Some((*runs.get(&firing.run_id?)?, policy(firing.trigger_version))))
            .filter(|(run, _)| run.started_at_us.is_some())
            .collect();
        started.sort_unstable_by_key(|(run, _)| (run.started_at_us, run.execution_date_us));
        one_at_a_time(id, &started, slack_us, findings);
        let all: Vec<&Run> = started.iter().map(|(run, _)| *run).collect();
        for skip in decided.iter().filter(|firing| firing.reason.as_deref() == Some("overlap")) {
            let policy = policy(skip.trigger_version);
            if !matches!(policy, Overlap::Skip | Overlap::BufferOne) {
                continue;
            }
            findings.looked("starts skipped for an overlap", 1);
            // A run that was let go by the same decision ends or begins with it.
            let overlapped = all.iter().any(|run| {
                run.created_at_us <= skip.created_at_us + slack_us
                    && run.completed_at_us.is_none_or(|end| end + slack_us >= skip.created_at_us)
            });
            if !overlapped {
                let at = when(skip.created_at_us);
                findings.violation(id, format!("{} was skipped for an overlap at {at}; nothing ran", skip.logical_key));
            }
        }
    }
}

/// What is always on has one run at a time, whatever else it says.
fn policy_of(version: &TriggerVersion) -> Overlap {
    match version.spec.overlap {
        Overlap::AllowAll if is_always_on(version) => Overlap::Skip,
        policy => policy,
    }
}

fn one_at_a_time(id: Uuid, started: &[(&Run, Overlap)], slack_us: i64, findings: &mut Findings) {
    // The run that ends last of those that began before.
    let mut longest: Option<&Run> = None;
    let mut last_in_order: Option<&Run> = None;
    let end = |run: &Run| run.completed_at_us.unwrap_or(i64::MAX);
    for (run, policy) in started {
        let begun = run.started_at_us.unwrap_or_default();
        if *policy != Overlap::AllowAll {
            findings.looked("runs that must be alone", 1);
            if let Some(other) = longest.filter(|other| end(other) > begun.saturating_add(slack_us)) {
                findings.violation(id, format!("run {} began while {} had not ended", run.id, other.id));
            }
        }
        if *policy == Overlap::BufferAll {
            if let Some(before) = last_in_order.filter(|before| before.execution_date_us > run.execution_date_us) {
                findings.violation(id, format!("run {} began after {}, which is of a later time", run.id, before.id));
            }
            last_in_order = Some(run);
        }
        if longest.is_none_or(|other| end(other) < end(run)) {
            longest = Some(run);
        }
    }
}
