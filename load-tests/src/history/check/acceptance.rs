//! C3: at most one result of a unit counts, and nothing of a former lease after a later one. What waits for what is in
//! `order.rs`.

use super::{Findings, order};
use crate::history::{AttemptName, History, JournalEvent, Request};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

type UnitName<'a> = (Uuid, &'a str, i32);

/// Statuses after which a unit stands still, unless somebody retries its run.
const ENDED: [&str; 5] = ["completed", "failed", "cancelled", "upstream_failed", "condition_failed"];

pub(super) fn check(history: &History, findings: &mut Findings) {
    let retried: HashSet<Uuid> = history
        .calls
        .iter()
        .filter_map(|call| match call.request {
            Request::RetryRun { run_id } => Some(run_id),
            _ => None,
        })
        .collect();
    check_acknowledgements(history, &retried, findings);
    check_writes(history, &retried, findings);
    order::check(history, &retried, findings);
}

/// By what executors were told: a result that ends the unit counts once, it is the one that the database has, and no lost
/// try ever counts.
fn check_acknowledgements(history: &History, retried: &HashSet<Uuid>, findings: &mut Findings) {
    let mut accepted: HashMap<UnitName<'_>, HashSet<i64>> = HashMap::new();
    let mut accepted_tries: HashSet<(Uuid, &str, i32, i64)> = HashSet::new();
    let (mut counted, mut refused) = (0, 0);
    for (_, lines) in &history.journals {
        let mut outcomes: HashMap<&AttemptName, &str> = HashMap::new();
        for line in lines {
            match &line.event {
                JournalEvent::Result { attempt, outcome } => drop(outcomes.insert(attempt, outcome)),
                JournalEvent::Ack { attempt, accepted: true } => {
                    counted += 1;
                    accepted_tries.insert((attempt.run, &attempt.block, attempt.child, attempt.lease));
                    let ends = matches!(outcomes.get(attempt), Some(&("completed" | "condition_failed")));
                    if ends && !retried.contains(&attempt.run) {
                        let unit = (attempt.run, attempt.block.as_str(), attempt.child);
                        accepted.entry(unit).or_default().insert(attempt.lease);
                    }
                }
                JournalEvent::Ack { accepted: false, .. } => refused += 1,
                _ => {}
            }
        }
    }
    findings.looked("accepted results", counted);
    findings.looked("refused results", refused);
    for ((run, block, child), leases) in accepted.iter().filter(|(_, leases)| leases.len() > 1) {
        let mut leases: Vec<i64> = leases.iter().copied().collect();
        leases.sort_unstable();
        findings.violation(format!("{run}/{block}/{child}"), format!("results of several leases counted: {leases:?}"));
    }
    let attempts = history.lost.iter().filter(|lost| lost.outcome == "lost");
    for lost in attempts {
        if accepted_tries.contains(&(lost.run_id, lost.block.as_str(), lost.child, lost.lease)) {
            findings.violation(
                format!("{}/{}/{}/{}", lost.run_id, lost.block, lost.child, lost.lease),
                "the try was given up as lost, and its result counted",
            );
        }
    }
    for unit in history.units.iter().filter(|unit| unit.status == "completed") {
        let name = (unit.run_id, unit.block.as_str(), unit.child);
        if let Some(leases) = accepted.get(&name)
            && leases.len() == 1
            && !leases.contains(&unit.lease)
        {
            findings.violation(
                format!("{}/{}/{}", unit.run_id, unit.block, unit.child),
                format!("lease {} is stored, and executors were told that {leases:?} counts", unit.lease),
            );
        }
    }
    findings.looked("units", history.units.len());
}

/// By what the database let in: a unit's lease never falls, and what has ended stays as it is.
fn check_writes(history: &History, retried: &HashSet<Uuid>, findings: &mut Findings) {
    let mut last: HashMap<UnitName<'_>, (i64, &str)> = HashMap::new();
    for write in &history.unit_writes {
        let name = (write.run_id, write.block.as_str(), write.child);
        let before = last.insert(name, (write.lease, write.status.as_str()));
        let Some((lease, status)) = before.filter(|_| !retried.contains(&write.run_id)) else { continue };
        let id = || format!("{}/{}/{}", write.run_id, write.block, write.child);
        if write.lease < lease {
            findings.violation(id(), format!("lease {} was written after lease {lease}", write.lease));
        } else if ENDED.contains(&status) && (write.status != status || write.lease != lease) {
            findings.violation(
                id(),
                format!("it was {status} with lease {lease}, and then {} with lease {}", write.status, write.lease),
            );
        }
    }
    findings.looked("writes of units", history.unit_writes.len());
}
