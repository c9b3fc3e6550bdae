//! C8: nothing runs that nobody knows of, and nothing counts as running that does not run.

use super::Findings;
use crate::history::{AttemptName, HarnessEvent, History, JournalEvent};
use std::collections::{BTreeSet, HashMap, HashSet};
use uuid::Uuid;

pub(super) fn check(history: &History, findings: &mut Findings) {
    let open = open_attempts(history);
    let settled_us = history.taken_at_us - i64::from(history.promises.settle_ms) * 1_000;
    let running: HashMap<(Uuid, &str, i32), (i64, Option<i64>)> = history
        .units
        .iter()
        // A fan runs as long as its children do, and on no executor.
        .filter(|unit| unit.status == "running" && unit.executor_id.is_some())
        .map(|unit| ((unit.run_id, unit.block.as_str(), unit.child), (unit.lease, unit.attempt_started_at_us)))
        .collect();
    let names: HashSet<(Uuid, &str, i32, i64)> =
        open.iter().map(|(attempt, _)| (attempt.run, attempt.block.as_str(), attempt.child, attempt.lease)).collect();
    for ((run, block, child), (lease, started)) in &running {
        let is_old = history.promises.is_quiet || started.is_some_and(|at| at < settled_us);
        if is_old && !history.journals.is_empty() && !names.contains(&(*run, *block, *child, *lease)) {
            findings
                .violation(format!("{run}/{block}/{child}/{lease}"), "it counts as running, and no executor runs it");
        }
    }
    for (attempt, at_us) in &open {
        let current = running.get(&(attempt.run, attempt.block.as_str(), attempt.child));
        let is_known = current.is_some_and(|(lease, _)| *lease == attempt.lease);
        if !is_known && (history.promises.is_quiet || *at_us < settled_us) {
            findings.violation(attempt, "an executor still runs it, and it does not count as running");
        }
    }
    let attempts = history.journals.iter().flat_map(|(_, lines)| lines);
    findings.looked(
        "attempts of executors",
        attempts
            .filter(|line| matches!(line.event, JournalEvent::Assigned { .. } | JournalEvent::Start { .. }))
            .count(),
    );
    findings.figure("attempts that still run", open.len() as u64);
    if history.promises.is_quiet {
        check_lives(history, findings);
    }
}

/// Whoever has devices by an executor's journal has them by the database, and whoever is gone has none.
fn check_lives(history: &History, findings: &mut Findings) {
    let placed = history.placements.iter().filter(|placement| placement.state != "nominated");
    let placed: HashSet<Uuid> = placed.map(|placement| placement.holder).collect();
    let (mut living, mut gone) = (BTreeSet::new(), BTreeSet::new());
    for (file, lines) in &history.journals {
        let mut open = BTreeSet::new();
        let mut opened_at = 0;
        let mut name = file.strip_prefix("executor-").unwrap_or(file);
        for line in lines {
            match &line.event {
                JournalEvent::Open { name: said, .. } => (opened_at, name) = (line.at_us, said.as_str()),
                JournalEvent::Hold { holder, devices } if !devices.is_empty() => drop(open.insert(*holder)),
                JournalEvent::Free { holder } if open.remove(holder) => drop(gone.insert(*holder)),
                _ => {}
            }
        }
        if !is_dead(history, name, opened_at) {
            living.extend(open);
        }
    }
    for holder in living.iter().filter(|holder| !placed.contains(holder)) {
        findings.violation(holder, "its executor says that it has devices, and it counts as having none");
    }
    for holder in gone.difference(&living).filter(|holder| placed.contains(holder)) {
        findings.violation(holder, "its executor says that nothing of it is left, and its devices did not come back");
    }
    findings.looked("lives on devices", living.len() + gone.len());
}

/// Attempts that were taken on and have no end, in lives that go on; with the time of their beginning.
fn open_attempts(history: &History) -> Vec<(&AttemptName, i64)> {
    let mut all = Vec::new();
    for (file, lines) in &history.journals {
        let mut open: HashMap<&AttemptName, i64> = HashMap::new();
        let mut opened_at = 0;
        let mut name = file.strip_prefix("executor-").unwrap_or(file);
        for line in lines {
            match &line.event {
                JournalEvent::Open { name: said, .. } => {
                    open.clear();
                    opened_at = line.at_us;
                    name = said;
                }
                JournalEvent::Assigned { attempt } | JournalEvent::Start { attempt, .. } => {
                    open.entry(attempt).or_insert(line.at_us);
                }
                JournalEvent::End { attempt, .. }
                | JournalEvent::Result { attempt, .. }
                | JournalEvent::Dropped { attempt } => drop(open.remove(attempt)),
                JournalEvent::Ack { .. } | JournalEvent::Hold { .. } | JournalEvent::Free { .. } => {}
            }
        }
        if !is_dead(history, name, opened_at) {
            all.extend(open);
        }
    }
    all
}

/// Killed, after its last life had begun.
fn is_dead(history: &History, executor: &str, opened_at_us: i64) -> bool {
    history.harness.iter().any(|line| match &line.event {
        HarnessEvent::Fault { fault, target } => fault == "kill" && target == executor && line.at_us > opened_at_us,
        _ => false,
    })
}
