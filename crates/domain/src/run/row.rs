//! Units as stored rows, there and back, and their stored names.

use crate::{
    graph::Graph,
    unit::{BlockStatus, Ending, Phase, Step, Unit, UnitKey, UnitRow},
};

/// A unit's row in its present phase; the ending's own columns are the caller's.
pub(super) fn unit_row(key: UnitKey, unit: &Unit) -> UnitRow {
    let (status, executor, not_before, attempt_started_at) = match &unit.phase {
        Phase::Ready => (BlockStatus::Initial, None, None, None),
        Phase::Delayed { not_before } => (BlockStatus::Initial, None, Some(*not_before), None),
        Phase::Running { executor, started_at } => (BlockStatus::Running, Some(*executor), None, Some(*started_at)),
        Phase::Ahead { executor } => (BlockStatus::Initial, Some(*executor), None, None),
        Phase::Ended(ending) => ((*ending).into(), None, None, None),
    };
    UnitRow {
        key,
        status,
        lease: unit.lease,
        attempts: unit.attempts,
        deaths: unit.deaths,
        executor,
        not_before,
        started_at: unit.started_at,
        attempt_started_at,
        completed_at: None,
        output: None,
        error: None,
        children: None,
    }
}

/// See [`super::Run::unit_name`].
#[must_use]
pub fn unit_name(graph: &Graph, key: UnitKey) -> (String, i32) {
    let child = key.child.map_or(-1, |child| i32::try_from(child).unwrap_or(i32::MAX));
    match key.step {
        Step::Block(at) => (graph.block(at).uuid.clone(), child),
        Step::Callback { callback, block } => {
            (format!("{}:{}", graph.pipeline().callbacks[callback].uuid, graph.block(block).uuid), child)
        }
    }
}

/// See [`super::Run::unit_key`].
#[must_use]
pub fn unit_key(graph: &Graph, block: &str, child: i32) -> Option<UnitKey> {
    let child = u32::try_from(child).ok();
    if let Some(at) = graph.find(block) {
        return Some(UnitKey::block(at, child));
    }
    // Either name may hold a `:` itself; the graph sees to it that there is one such pair.
    let watched = |callback: &str| graph.find(block.strip_prefix(callback)?.strip_prefix(':')?);
    let step = graph.pipeline().callbacks.iter().enumerate().find_map(|(callback, of)| {
        let block = watched(&of.uuid).filter(|block| graph.node(*block).callbacks.contains(&callback))?;
        Some(Step::Callback { callback, block })
    });
    Some(UnitKey { step: step?, child })
}

/// How the unit of a stored row ended, if it did.
pub(super) fn ending_of(status: BlockStatus) -> Option<Ending> {
    match status {
        BlockStatus::Initial | BlockStatus::Running => None,
        BlockStatus::Completed => Some(Ending::Completed),
        BlockStatus::Failed => Some(Ending::Failed),
        BlockStatus::Cancelled => Some(Ending::Cancelled),
        BlockStatus::UpstreamFailed => Some(Ending::UpstreamFailed),
        BlockStatus::ConditionFailed => Some(Ending::ConditionFailed),
    }
}

/// The unit of a stored row.
pub(super) fn unit_of(row: &UnitRow) -> Unit {
    let phase = match (ending_of(row.status), row.executor, row.attempt_started_at, row.not_before) {
        (Some(ending), ..) => Phase::Ended(ending),
        (None, Some(executor), Some(started_at), _) if row.status == BlockStatus::Running => {
            Phase::Running { executor, started_at }
        }
        (None, _, _, Some(not_before)) => Phase::Delayed { not_before },
        // A unit that waits after a try keeps when that started.
        (None, Some(executor), None, None) => Phase::Ahead { executor },
        _ => Phase::Ready,
    };
    Unit { lease: row.lease, attempts: row.attempts, deaths: row.deaths, started_at: row.started_at, phase }
}
