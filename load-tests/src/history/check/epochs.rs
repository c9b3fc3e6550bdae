//! C9: epochs only rise, nothing of a former epoch is written, and where a fault was meant to lead to refusals there were
//! some.

use super::{Findings, counts_from_us, when};
use crate::history::{HarnessEvent, History, Taking};
use std::collections::{BTreeMap, HashMap};
use uuid::Uuid;

/// A lease is this many times the epoch in which it was first given, and its number in it.
const LEASES_PER_EPOCH: i64 = 1 << 20;
/// The metric that counts refused writes of former owners.
const FENCED_WRITES: &str = "fenced_writes_total";

pub(super) fn check(history: &History, findings: &mut Findings) {
    let mut takings: BTreeMap<i16, Vec<&Taking>> = BTreeMap::new();
    for taking in &history.takings {
        takings.entry(taking.shard).or_default().push(taking);
    }
    let mut shards = HashMap::new();
    for (shard, list) in &mut takings {
        list.sort_unstable_by_key(|taking| taking.seq);
        check_rise(*shard, list, findings);
        shards.insert(*shard, Epochs::of(list));
    }
    check_firings(history, &shards, findings);
    check_claims(history, &shards, findings);
    check_bites(history, findings);
}

/// When each epoch of a shard began: number among all that the witness saw, and instant.
struct Epochs {
    began: BTreeMap<i64, (i64, i64)>,
}

impl Epochs {
    fn of(takings: &[&Taking]) -> Self {
        let mut began = BTreeMap::new();
        for taking in takings {
            began.entry(taking.epoch).or_insert((taking.seq, taking.at_us));
        }
        Self { began }
    }

    /// When the first epoch after this one began.
    fn after(&self, epoch: i64) -> Option<(i64, i64)> {
        self.began.range(epoch + 1..).next().map(|(_, began)| *began)
    }
}

fn check_rise(shard: i16, takings: &[&Taking], findings: &mut Findings) {
    for pair in takings.windows(2) {
        let (before, after) = (pair[0], pair[1]);
        let id = format!("shard {shard}");
        if after.epoch < before.epoch {
            findings.violation(id, format!("epoch {} came after epoch {}", after.epoch, before.epoch));
        } else if after.epoch == before.epoch && after.owner.is_some() && after.owner != before.owner {
            findings.violation(id, format!("it has got another owner within epoch {}", after.epoch));
        }
    }
    findings.looked("changes of owners", takings.len().saturating_sub(1));
}

/// A firing was committed before its epoch was over: whoever takes a shard waits for those that write in it.
fn check_firings(history: &History, shards: &HashMap<i16, Epochs>, findings: &mut Findings) {
    let runs: HashMap<Uuid, i16> = history.runs.iter().map(|run| (run.id, run.shard)).collect();
    let pipelines: HashMap<Uuid, Uuid> =
        history.triggers.iter().map(|trigger| (trigger.id, trigger.pipeline_id)).collect();
    let mut looked = 0;
    for firing in &history.firings {
        let of_run = firing.run_id.and_then(|run| runs.get(&run).copied());
        let of_trigger = || pipelines.get(&firing.trigger_id).map(|pipeline| i16::from(pipeline.as_bytes()[15]));
        let Some(epochs) = of_run.or_else(of_trigger).and_then(|shard| shards.get(&shard)) else { continue };
        looked += 1;
        if let Some((_, over)) = epochs.after(firing.shard_epoch)
            && counts_from_us(firing) > over
        {
            let (at, over) = (when(counts_from_us(firing)), when(over));
            let epoch = firing.shard_epoch;
            let what = format!("{} was written at {at} in epoch {epoch}, over since {over}", firing.logical_key);
            findings.violation(firing.trigger_id, what);
        }
    }
    findings.looked("firings", looked);
}

/// A lease that a unit is given belongs to the epoch in force: a former owner gives none.
fn check_claims(history: &History, shards: &HashMap<i16, Epochs>, findings: &mut Findings) {
    let mut leases: HashMap<(Uuid, &str, i32), i64> = HashMap::new();
    let mut claims = 0;
    for write in &history.unit_writes {
        let name = (write.run_id, write.block.as_str(), write.child);
        let before = leases.insert(name, write.lease);
        if write.executor_id.is_none() || before.is_some_and(|lease| lease >= write.lease) || write.lease == 0 {
            continue;
        }
        claims += 1;
        let shard = i16::from(write.run_id.as_bytes()[15]);
        let epoch = write.lease / LEASES_PER_EPOCH;
        if let Some((seq, _)) = shards.get(&shard).and_then(|epochs| epochs.after(epoch))
            && write.seq > seq
        {
            findings.violation(
                format!("{}/{}/{}/{}", write.run_id, write.block, write.child, write.lease),
                format!("it was given to an executor in epoch {epoch} of shard {shard}, which was over"),
            );
        }
    }
    findings.looked("claims", claims);
}

fn check_bites(history: &History, findings: &mut Findings) {
    // Of each life of a service the highest count: a counter that falls began anew.
    let mut lives: HashMap<&str, (u64, u64)> = HashMap::new();
    for line in &history.harness {
        if let HarnessEvent::Counted { service, metric, value } = &line.event
            && metric == FENCED_WRITES
        {
            let (past, now) = lives.entry(service).or_default();
            if value < now {
                *past += *now;
            }
            *now = *value;
        }
    }
    let fenced: u64 = lives.values().map(|(past, now)| past + now).sum();
    findings.figure("refused writes of former owners", fenced);
    let least = history.promises.fenced_writes_min;
    if fenced < least {
        findings.violation(
            "the history",
            format!("{fenced} writes of former owners were refused, expected {least}: the fault did not bite"),
        );
    }
    let mut epochs: BTreeMap<i16, (i64, i64)> = BTreeMap::new();
    for taking in &history.takings {
        let range = epochs.entry(taking.shard).or_insert((taking.epoch, taking.epoch));
        *range = (range.0.min(taking.epoch), range.1.max(taking.epoch));
    }
    let rises: i64 = epochs.values().map(|(low, high)| high - low).sum();
    let rises = u64::try_from(rises).unwrap_or(0);
    if rises < history.promises.takings_min {
        let least = history.promises.takings_min;
        findings.violation(
            "the history",
            format!("owners changed {rises} times, expected {least}: the fault did not bite"),
        );
    }
}
