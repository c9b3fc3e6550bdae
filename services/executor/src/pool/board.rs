//! What a backend shows: its nodes and its runtimes, each as it is now. Whoever is slow to look misses steps and no
//! level, so nothing is queued. Refuses to judge.

use domain::id::{HolderId, VolumeId};
use proto::internal::v1::{self as pb, RuntimePhase, VolumePhase};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// Nodes and reports, and which of them have changed since somebody looked.
#[derive(Debug, Default)]
pub struct Board {
    levels: Mutex<Levels>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Levels {
    nodes: BTreeMap<String, pb::Node>,
    reports: BTreeMap<HolderId, pb::RuntimeReport>,
    new_nodes: BTreeSet<String>,
    gone_nodes: BTreeSet<String>,
    new_reports: BTreeSet<HolderId>,
    volumes: BTreeMap<VolumeId, pb::VolumeReport>,
    new_volumes: BTreeSet<VolumeId>,
}

/// What has changed; a part that is empty needs no message.
#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    /// Nodes, new or changed, and names of those that are no more.
    pub nodes: pb::Nodes,
    /// Reports, new or changed.
    pub runtimes: pb::Runtimes,
    /// Volumes, new or changed.
    pub volumes: pb::VolumeReports,
}

impl Board {
    /// An empty board.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// All nodes that there are.
    pub fn set_nodes(&self, nodes: Vec<pb::Node>) {
        self.change(|levels| {
            let names: BTreeSet<String> = nodes.iter().map(|node| node.name.clone()).collect();
            let gone: Vec<String> = levels.nodes.keys().filter(|name| !names.contains(*name)).cloned().collect();
            for name in gone {
                levels.remove_node(&name);
            }
            nodes.into_iter().for_each(|node| levels.set_node(node));
        });
    }

    /// One node as it is now.
    pub fn set_node(&self, node: pb::Node) {
        self.change(|levels| levels.set_node(node));
    }

    /// A node that is no more.
    pub fn remove_node(&self, name: &str) {
        self.change(|levels| levels.remove_node(name));
    }

    /// One runtime as it is now. A report without a holder's id is dropped.
    pub fn report(&self, report: pb::RuntimeReport) {
        let Some(holder) = HolderId::from_slice(&report.holder) else { return };
        self.change(|levels| {
            if levels.reports.get(&holder) != Some(&report) {
                levels.reports.insert(holder, report);
                levels.new_reports.insert(holder);
            }
        });
    }

    /// One volume as it is now. One that is gone stays so. A report without a volume's id is dropped.
    pub fn report_volume(&self, report: pb::VolumeReport) {
        let Some(volume) = VolumeId::from_slice(&report.id) else { return };
        self.change(|levels| {
            let known = levels.volumes.get(&volume);
            if known != Some(&report) && known.is_none_or(|known| known.phase() != VolumePhase::Gone) {
                levels.volumes.insert(volume, report);
                levels.new_volumes.insert(volume);
            }
        });
    }

    /// The report of one volume.
    #[must_use]
    pub fn volume(&self, volume: VolumeId) -> Option<pb::VolumeReport> {
        self.lock().volumes.get(&volume).cloned()
    }

    /// Changes a report that is there.
    pub fn amend(&self, holder: HolderId, amend: impl FnOnce(&mut pb::RuntimeReport)) {
        if let Some(mut report) = self.runtime(holder) {
            amend(&mut report);
            self.report(report);
        }
    }

    /// Shows no report of it any more.
    pub fn forget(&self, holder: HolderId) {
        let mut levels = self.lock();
        levels.reports.remove(&holder);
        levels.new_reports.remove(&holder);
    }

    /// The report of one runtime.
    #[must_use]
    pub fn runtime(&self, holder: HolderId) -> Option<pb::RuntimeReport> {
        self.lock().reports.get(&holder).cloned()
    }

    /// One device of one node.
    #[must_use]
    pub fn device(&self, node: &str, device: &str) -> Option<pb::PoolDevice> {
        self.lock().nodes.get(node)?.devices.iter().find(|known| known.name == device).cloned()
    }

    /// Holders with a report, and whether they are gone.
    #[must_use]
    pub fn holders(&self) -> Vec<(HolderId, bool)> {
        let gone = |report: &pb::RuntimeReport| report.phase() == RuntimePhase::Gone;
        self.lock().reports.iter().map(|(holder, report)| (*holder, gone(report))).collect()
    }

    /// Everything; what changes from here on is news.
    #[must_use]
    pub fn everything(&self) -> Changes {
        let mut levels = self.lock();
        levels.new_nodes.clear();
        levels.gone_nodes.clear();
        levels.new_reports.clear();
        levels.new_volumes.clear();
        Changes {
            nodes: pb::Nodes { nodes: levels.nodes.values().cloned().collect(), gone: Vec::new(), complete: true },
            runtimes: pb::Runtimes { runtimes: levels.reports.values().cloned().collect(), complete: true },
            volumes: pb::VolumeReports { volumes: levels.volumes.values().cloned().collect() },
        }
    }

    /// At most `limit` nodes, and as many reports and volumes, that changed since somebody looked.
    #[must_use]
    pub fn changes(&self, limit: usize) -> Changes {
        let mut levels = self.lock();
        let nodes = take(&mut levels.new_nodes, limit);
        let gone = take(&mut levels.gone_nodes, limit);
        let reports = take(&mut levels.new_reports, limit);
        let volumes = take(&mut levels.new_volumes, limit);
        let more = !(levels.new_nodes.is_empty()
            && levels.gone_nodes.is_empty()
            && levels.new_reports.is_empty()
            && levels.new_volumes.is_empty());
        let changes = Changes {
            nodes: pb::Nodes {
                nodes: nodes.iter().filter_map(|name| levels.nodes.get(name).cloned()).collect(),
                gone,
                complete: false,
            },
            runtimes: pb::Runtimes {
                runtimes: reports.iter().filter_map(|holder| levels.reports.get(holder).cloned()).collect(),
                complete: false,
            },
            volumes: pb::VolumeReports {
                volumes: volumes.iter().filter_map(|volume| levels.volumes.get(volume).cloned()).collect(),
            },
        };
        drop(levels);
        if more {
            self.changed.notify_one();
        }
        changes
    }

    /// Waits until there may be changes. Cancel-safe.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn change(&self, change: impl FnOnce(&mut Levels)) {
        let mut levels = self.lock();
        change(&mut levels);
        drop(levels);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Levels> {
        // Nothing panics while it is held.
        self.levels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Levels {
    fn set_node(&mut self, node: pb::Node) {
        if self.nodes.get(&node.name) != Some(&node) {
            self.gone_nodes.remove(&node.name);
            self.new_nodes.insert(node.name.clone());
            self.nodes.insert(node.name.clone(), node);
        }
    }

    fn remove_node(&mut self, name: &str) {
        if self.nodes.remove(name).is_some() {
            self.new_nodes.remove(name);
            self.gone_nodes.insert(name.to_owned());
        }
    }
}

fn take<T: Ord>(set: &mut BTreeSet<T>, limit: usize) -> Vec<T> {
    std::iter::from_fn(|| set.pop_first()).take(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use uuid::Uuid;

    fn node(name: &str, cpu_milli: i64) -> pb::Node {
        pb::Node { name: name.into(), cpu_milli, ..pb::Node::default() }
    }

    fn report(n: u128, phase: RuntimePhase) -> pb::RuntimeReport {
        pb::RuntimeReport {
            holder: HolderId(Uuid::from_u128(n)).to_vec(),
            phase: phase.into(),
            ..pb::RuntimeReport::default()
        }
    }

    fn names(nodes: &[pb::Node]) -> Vec<&str> {
        nodes.iter().map(|node| node.name.as_str()).collect()
    }

    #[test]
    fn levels_are_told_once_and_steps_between_them_never() {
        let board = Board::new();
        board.set_nodes(vec![node("a", 1), node("b", 1)]);
        board.report(report(1, RuntimePhase::Accepted));
        board.report(report(1, RuntimePhase::Ready));
        let all = board.everything();
        assert_eq!((names(&all.nodes.nodes), all.nodes.complete), (vec!["a", "b"], true));
        assert_eq!(all.runtimes.runtimes, [report(1, RuntimePhase::Ready)]);
        assert_eq!(board.changes(9), Changes::default());
        board.set_nodes(vec![node("b", 1), node("c", 1)]);
        board.report(report(1, RuntimePhase::Ready));
        let changes = board.changes(9);
        assert_eq!((names(&changes.nodes.nodes), changes.nodes.gone), (vec!["c"], vec!["a".to_owned()]));
        assert_eq!(changes.runtimes.runtimes, [], "a report that says the same is no news");
    }

    #[test]
    fn what_does_not_fit_into_one_message_comes_with_the_next() {
        let board = Board::new();
        (0..5).for_each(|n| board.report(report(n, RuntimePhase::Ready)));
        assert_eq!(board.changes(3).runtimes.runtimes.len(), 3);
        assert!(board.changed().now_or_never().is_some(), "the rest is waiting");
        assert_eq!(board.changes(3).runtimes.runtimes.len(), 2);
        board.forget(HolderId(Uuid::from_u128(0)));
        assert_eq!(board.holders().len(), 4);
    }
}
