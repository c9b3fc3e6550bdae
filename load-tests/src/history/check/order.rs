//! C3, of pipelines with more than one block: nothing begins before what it waits for.
//!
//! By the executors alone: the attempt whose result counts of a block was given to its executor after the one whose result
//! counts of each block that it waits for had ended. Instants are those of the machine's own count, which orders all executors
//! on it. A block that ran as children is left out: they end one by one, and no executor is told the block itself.

use super::Findings;
use crate::history::{History, JournalEvent};
use std::collections::{BTreeMap, HashMap, HashSet};
use uuid::Uuid;

/// A block as a whole, and not a child of it.
const WHOLE: i32 = -1;

type Try<'a> = (Uuid, &'a str, i64);

pub(super) fn check(history: &History, retried: &HashSet<Uuid>, findings: &mut Findings) {
    let graphs: HashMap<(Uuid, i64), &BTreeMap<String, Vec<String>>> =
        history.graphs.iter().map(|graph| ((graph.pipeline_id, graph.version), &graph.blocks)).collect();
    let runs: HashMap<Uuid, (Uuid, i64)> =
        history.runs.iter().map(|run| (run.id, (run.pipeline_id, run.pipeline_version))).collect();
    let counted: HashMap<(Uuid, &str), i64> = history
        .units
        .iter()
        .filter(|unit| unit.status == "completed" && unit.child == WHOLE && !retried.contains(&unit.run_id))
        .map(|unit| ((unit.run_id, unit.block.as_str()), unit.lease))
        .collect();
    let (begun, ended) = told(history);
    let mut waits = 0;
    for ((run, block), lease) in &counted {
        let blocks = runs.get(run).and_then(|version| graphs.get(version));
        let Some(upstream) = blocks.and_then(|blocks| blocks.get(*block)) else { continue };
        let Some(begun_us) = begun.get(&(*run, *block, *lease)) else { continue };
        for before in upstream {
            let lease_before = counted.get(&(*run, before.as_str()));
            let ended_us = lease_before.and_then(|lease| ended.get(&(*run, before.as_str(), *lease)));
            let Some(ended_us) = ended_us else { continue };
            waits += 1;
            if begun_us < ended_us {
                let early_us = ended_us - begun_us;
                findings.violation(
                    format!("{run}/{block}"),
                    format!("it began {early_us} µs before {before} had ended, which it waits for"),
                );
            }
        }
    }
    findings.looked("blocks that wait for others", waits);
}

/// Of each try, when it was first given to an executor, and when that had its result.
fn told(history: &History) -> (HashMap<Try<'_>, i64>, HashMap<Try<'_>, i64>) {
    let (mut begun, mut ended) = (HashMap::new(), HashMap::new());
    for line in history.journals.iter().flat_map(|(_, lines)| lines) {
        let (first, attempt) = match &line.event {
            JournalEvent::Assigned { attempt } => (&mut begun, attempt),
            JournalEvent::Result { attempt, .. } => (&mut ended, attempt),
            _ => continue,
        };
        if attempt.child == WHOLE {
            let at = first.entry((attempt.run, attempt.block.as_str(), attempt.lease)).or_insert(line.mono_us);
            *at = line.mono_us.min(*at);
        }
    }
    (begun, ended)
}
