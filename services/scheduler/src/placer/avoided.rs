//! Nodes that turned lives away though the planner found room there, or evicted them: what else fills a node (its disk, its
//! pods, a taint for devices) the planner does not count. The workspace's next life is placed elsewhere for a while, where there is elsewhere.
//! In memory only: a new owner of the pool tries the node once more. Refuses to know why a node turned somebody away.

use super::Placer;
use domain::{
    device::{Ask, Sharing},
    id::{NodeId, WorkspaceId},
    runtime::life::Life,
};
use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};
use store::ledger::{DeviceRow, NodeRow};

/// How long a node is avoided: some misplacements' time, so that several nodes are tried before the first comes again.
const AVOID: Duration = Duration::from_secs(300);

/// By workspace: which nodes turned it away, and when.
#[derive(Default)]
pub(super) struct Avoided(HashMap<WorkspaceId, Vec<(NodeId, Instant)>>);

impl Avoided {
    /// This node turned the workspace away.
    pub(super) fn note(&mut self, workspace: WorkspaceId, node: NodeId, now: Instant) {
        self.0.retain(|_, nodes| {
            nodes.retain(|(_, at)| now.duration_since(*at) < AVOID);
            !nodes.is_empty()
        });
        let nodes = self.0.entry(workspace).or_default();
        nodes.retain(|(known, _)| *known != node);
        nodes.push((node, now));
    }

    fn of(&self, workspace: WorkspaceId, now: Instant) -> BTreeSet<NodeId> {
        let nodes = self.0.get(&workspace).into_iter().flatten();
        nodes.filter(|(_, at)| now.duration_since(*at) < AVOID).map(|(node, _)| *node).collect()
    }
}

impl Placer {
    /// `nodes` (`None` is any) without those that turned the life's workspace away; all of them where no other one has what it
    /// asks for.
    pub(super) fn without_avoided(&self, life: &Life, nodes: Option<BTreeSet<NodeId>>) -> Option<BTreeSet<NodeId>> {
        let avoided = self.avoided.of(life.workspace, Instant::now());
        if avoided.is_empty() {
            return nodes;
        }
        let allowed = |row: &NodeRow| {
            nodes.as_ref().is_none_or(|nodes| nodes.contains(&row.id))
                && !avoided.contains(&row.id)
                && !self.terms.drained.contains(&(row.name.clone(), String::new()))
        };
        let others = self.fleet.ready().filter(|(row, devices)| allowed(row) && has(row, devices, &life.spec.ask));
        let others: BTreeSet<NodeId> = others.map(|(row, _)| row.id).collect();
        if others.is_empty() { nodes } else { Some(others) }
    }
}

/// Whether the node could give what is asked for if nobody had anything of it, as far as rows tell.
fn has(row: &NodeRow, devices: &[DeviceRow], ask: &Ask) -> bool {
    let will_do = |device: &&DeviceRow| {
        device.healthy
            && device.memory_bytes >= ask.gpu_memory_bytes.unwrap_or(0)
            && (ask.gpu_milli >= 1_000 || device.sharing != Sharing::Exclusive)
            && (ask.models.is_empty() || ask.models.iter().any(|model| model.as_str() == device.model))
    };
    row.cpu_milli >= ask.cpu_milli
        && row.memory_bytes >= ask.memory_bytes
        && devices.iter().filter(will_do).count() >= ask.gpus as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_node_is_avoided_for_a_while_and_by_whom_it_turned_away() {
        let (mut avoided, now) = (Avoided::default(), Instant::now());
        let (lab, other) = (WorkspaceId(Uuid::from_u128(1)), WorkspaceId(Uuid::from_u128(2)));
        let (a, b) = (NodeId(Uuid::from_u128(3)), NodeId(Uuid::from_u128(4)));
        avoided.note(lab, a, now);
        avoided.note(lab, b, now + AVOID / 2);
        assert_eq!(avoided.of(lab, now + AVOID / 2), BTreeSet::from([a, b]));
        assert_eq!(avoided.of(lab, now + AVOID), BTreeSet::from([b]));
        assert!(avoided.of(other, now).is_empty());
        avoided.note(other, a, now + AVOID * 2);
        assert_eq!(avoided.0.len(), 1, "what is over is forgotten");
    }
}
