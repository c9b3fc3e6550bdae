//! What is known of nodes and is in no row: why they take nobody new, and what strangers hold of them. Refuses to plan.

use super::{Fleet, NodeEntry, Pause, wire::Stranger};
use crate::placer::Placer;
use domain::id::{DeviceId, HolderId, NodeId};
use proto::internal::v1 as pb;
use std::collections::{BTreeMap, BTreeSet};
use store::ledger::{DeviceRow, NodeState};

/// Of a node whose executor does not say why it takes nobody.
const UNSCHEDULABLE: (&str, &str) = ("NODE_UNSCHEDULABLE", "its executor places nobody new there");

impl Placer {
    /// These nodes, by name.
    pub(in crate::placer) fn seen_nodes(&self, names: &[String]) -> Vec<pb::SeenNode> {
        let ours = |node: NodeId, holder: HolderId| self.placements.get(&holder).is_some_and(|one| one.node == node);
        names.iter().filter_map(|name| self.fleet.seen(name, &ours)).collect()
    }
}

impl Fleet {
    /// Whether somebody keeps new holders away from a node, or from one of these devices of it. `drained` as for the planner.
    pub(in crate::placer) fn is_closed(
        &self,
        node: NodeId,
        devices: impl IntoIterator<Item = DeviceId>,
        drained: &BTreeSet<(String, String)>,
    ) -> bool {
        let Some(entry) = self.nodes.get(&node) else { return false };
        let is_drained = |device: &str| drained.contains(&(entry.row.name.clone(), device.to_owned()));
        let mut devices = devices.into_iter().filter_map(|id| self.device(node, id));
        entry.row.state == NodeState::Unschedulable || is_drained("") || devices.any(|device| is_drained(&device.name))
    }

    /// One node. `ours` tells strangers of it whom the ledger has there, as for the planner.
    fn seen(&self, name: &str, ours: &dyn Fn(NodeId, HolderId) -> bool) -> Option<pb::SeenNode> {
        let entry = self.nodes.get(self.by_name.get(name)?)?;
        let is_ready = entry.server.is_some_and(|session| self.is_ready(session));
        let (code, message) = entry.trouble(is_ready).unwrap_or_default();
        let strangers = || entry.strangers.iter().filter(move |one| !ours(entry.row.id, one.id));
        let mut held: BTreeMap<DeviceId, Vec<pb::SeenStranger>> = BTreeMap::new();
        for stranger in strangers() {
            for grant in &stranger.holding.grants {
                held.entry(grant.device).or_default().push(pb::SeenStranger {
                    name: stranger.name.clone(),
                    milli: i32::try_from(grant.milli).unwrap_or(i32::MAX),
                    memory_bytes: signed(grant.memory_bytes),
                });
            }
        }
        let device = |row: &DeviceRow| pb::SeenDevice {
            name: row.name.clone(),
            code: entry.ailment(row).to_owned(),
            strangers: held.remove(&row.id).unwrap_or_default(),
        };
        let devices = entry.devices.iter().map(device);
        let sum = |of: fn(&Stranger) -> u64| signed(strangers().map(of).fold(0, u64::saturating_add));
        Some(pb::SeenNode {
            name: name.to_owned(),
            code: code.to_owned(),
            message: message.to_owned(),
            cpu_milli: sum(|one| one.holding.cpu_milli),
            memory_bytes: sum(|one| one.holding.memory_bytes),
            devices: devices.filter(|device| !device.code.is_empty() || !device.strangers.is_empty()).collect(),
        })
    }
}

impl NodeEntry {
    /// Why it takes nobody new, as a code and a sentence.
    fn trouble(&self, is_ready: bool) -> Option<(&str, &str)> {
        match self.row.state {
            NodeState::Gone => Some(("NODE_GONE", "its cluster has no such node any more")),
            NodeState::Lost => Some(("NODE_LOST", "nobody has told of it for too long; what is held there stays held")),
            _ if self.server.is_none() => Some(("NODE_SILENT", "its executor is not connected")),
            _ if !is_ready => Some(("NODE_SILENT", "its executor has not said yet all that is and runs there")),
            NodeState::Unschedulable => Some(read(&self.condition)),
            NodeState::Ready => None,
        }
    }

    /// Why a device takes nobody new; empty where it does.
    fn ailment(&self, device: &DeviceRow) -> &'static str {
        match self.paused.get(&device.id) {
            _ if device.healthy => "",
            Some(Pause::Updating) => "POOL_UPDATING",
            Some(Pause::MaybeTaken) => "DEVICE_PLUGIN",
            None if self.missing.contains_key(&device.id) => "DEVICE_MISSING",
            None => "DEVICE_UNHEALTHY",
        }
    }
}

/// `CODE: sentence`, as backends say it; any other words are a sentence.
fn read(condition: &str) -> (&str, &str) {
    let is_code = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    let (code, sentence) = match condition.split_once(':') {
        Some((code, sentence)) if is_code(code) => (code, sentence.trim()),
        _ => (UNSCHEDULABLE.0, condition.trim()),
    };
    (code, if sentence.is_empty() { UNSCHEDULABLE.1 } else { sentence })
}

fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_a_code_and_a_sentence() {
        assert_eq!(read("NODE_TAINTED: spot (NoSchedule)"), ("NODE_TAINTED", "spot (NoSchedule)"));
        assert_eq!(read("NODE_NOT_READY: "), ("NODE_NOT_READY", UNSCHEDULABLE.1));
        assert_eq!(read("the fan: it is loud"), (UNSCHEDULABLE.0, "the fan: it is loud"));
        assert_eq!(read(""), UNSCHEDULABLE);
    }
}
