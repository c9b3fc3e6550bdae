//! The fleet while a plan is made: what is free where. Capacity is taken and given back here and nowhere else.
//!
//! Refuses to know queues, quotas and scores.

use crate::{
    plan::Place,
    snapshot::{Holding, NODE_DEVICES_MAX, Node, Nomination, Snapshot},
};
use domain::{
    device::{DeviceModel, Grant, Sharing, WHOLE_MILLI},
    id::{DeviceId, HolderId, NodeId},
};
use jiff::Timestamp;
use std::collections::{BTreeSet, HashMap};

/// Devices that differ in nothing but in what is free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceKind {
    pub(crate) model: usize,
    pub(crate) class: String,
    pub(crate) memory_bytes: u64,
    pub(crate) sharing: Sharing,
}

impl DeviceKind {
    /// Whether it is of this class; `None` is any.
    pub(crate) fn is_of(&self, class: Option<&str>) -> bool {
        class.is_none_or(|class| self.class == class)
    }
}

/// What is free of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeviceState {
    pub(crate) kind: usize,
    pub(crate) open: bool,
    pub(crate) free_milli: u32,
    pub(crate) free_memory: u64,
    /// Slots that are taken.
    pub(crate) slots: u64,
}

/// What is free of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeState {
    pub(crate) open: bool,
    pub(crate) cpu_milli: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) devices: Vec<DeviceState>,
    /// When the last of its holders ends, if all of that is known.
    pub(crate) last_end: Option<Timestamp>,
    /// Rises with every change, so that whoever derived something from it notices.
    pub(crate) version: u32,
}

/// What never changes about a node.
#[derive(Debug, Clone)]
pub(crate) struct NodeInfo {
    pub(crate) id: NodeId,
    pub(crate) zone: usize,
    pub(crate) devices: Vec<DeviceId>,
    pub(crate) links: Vec<u32>,
    /// The model of its devices; of the first, should they differ.
    pub(crate) model: Option<usize>,
}

/// All nodes, in the order of their ids.
#[derive(Debug, Clone)]
pub(crate) struct Fleet {
    pub(crate) models: Vec<DeviceModel>,
    pub(crate) kinds: Vec<DeviceKind>,
    pub(crate) infos: Vec<NodeInfo>,
    pub(crate) states: Vec<NodeState>,
    /// As if nobody held anything.
    pub(crate) empty: Vec<NodeState>,
    /// Milli-GPU that are free of each model, on devices that take new holders.
    pub(crate) idle_milli: Vec<u64>,
    pub(crate) zones: usize,
    /// Nominees of whose places others hold a part.
    pub(crate) ousted: BTreeSet<HolderId>,
    nodes_by_id: HashMap<NodeId, usize>,
}

/// An amount of a node, by the positions of its devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taking {
    pub(crate) node: usize,
    pub(crate) cpu_milli: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) parts: Vec<Part>,
}

/// An amount of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) at: usize,
    pub(crate) milli: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) slots: u64,
}

impl NodeState {
    /// Whether so much is free.
    fn has(&self, taking: &Taking) -> bool {
        let has = |part: &Part| {
            let device = &self.devices[part.at];
            device.free_milli >= part.milli && device.free_memory >= part.memory_bytes && device.slots & part.slots == 0
        };
        self.cpu_milli >= taking.cpu_milli && self.memory_bytes >= taking.memory_bytes && taking.parts.iter().all(has)
    }

    /// Takes an amount. `false` if there was less: then nothing below zero is left, and somebody's figures are wrong.
    pub(crate) fn take(&mut self, taking: &Taking) -> bool {
        let mut enough = self.cpu_milli >= taking.cpu_milli && self.memory_bytes >= taking.memory_bytes;
        self.cpu_milli = self.cpu_milli.saturating_sub(taking.cpu_milli);
        self.memory_bytes = self.memory_bytes.saturating_sub(taking.memory_bytes);
        for part in &taking.parts {
            let device = &mut self.devices[part.at];
            enough &= device.free_milli >= part.milli && device.free_memory >= part.memory_bytes;
            enough &= device.slots & part.slots == 0;
            device.free_milli = device.free_milli.saturating_sub(part.milli);
            device.free_memory = device.free_memory.saturating_sub(part.memory_bytes);
            device.slots |= part.slots;
        }
        self.version += 1;
        enough
    }

    /// Gives an amount back; never more than `whole`.
    pub(crate) fn give(&mut self, taking: &Taking, whole: &Self) {
        self.cpu_milli = self.cpu_milli.saturating_add(taking.cpu_milli).min(whole.cpu_milli);
        self.memory_bytes = self.memory_bytes.saturating_add(taking.memory_bytes).min(whole.memory_bytes);
        for part in &taking.parts {
            let (device, limit) = (&mut self.devices[part.at], &whole.devices[part.at]);
            device.free_milli = device.free_milli.saturating_add(part.milli).min(limit.free_milli);
            device.free_memory = device.free_memory.saturating_add(part.memory_bytes).min(limit.free_memory);
            device.slots &= !part.slots;
        }
        self.version += 1;
    }

    /// What is free in both.
    pub(crate) fn lesser(&self, other: &Self) -> Self {
        let mut lesser = self.clone();
        lesser.cpu_milli = self.cpu_milli.min(other.cpu_milli);
        lesser.memory_bytes = self.memory_bytes.min(other.memory_bytes);
        for (mine, theirs) in lesser.devices.iter_mut().zip(&other.devices) {
            mine.free_milli = mine.free_milli.min(theirs.free_milli);
            mine.free_memory = mine.free_memory.min(theirs.free_memory);
            mine.slots |= theirs.slots;
        }
        lesser
    }
}

impl Fleet {
    /// The fleet of a snapshot, with everything taken that is held or nominated, and what was found to be wrong.
    pub(crate) fn new(snapshot: &Snapshot) -> (Self, Vec<String>) {
        let mut problems = Vec::new();
        let mut fleet = Self::bare(&snapshot.nodes, &mut problems);
        for holding in sorted_by_key(&snapshot.holdings, |h| (h.holder, h.node)) {
            let taking = fleet.taking_of(holding);
            if taking.as_ref().is_none_or(|taking| taking.parts.len() < holding.grants.len()) {
                problems.push(format!("{} holds something that is not in the fleet", holding.holder));
            }
            if taking.is_some_and(|taking| !fleet.take(&taking, holding.ends_at)) {
                problems.push(format!("more is held on node {} than it has", holding.node));
            }
        }
        let mut leaving = leaving(snapshot);
        for nomination in sorted_by_key(&snapshot.nominations, |n| (n.holder, n.node)) {
            let holder = nomination.holder;
            match fleet.kept_for(nomination, &mut leaving) {
                Some(taking) if fleet.states[taking.node].has(&taking) => {
                    fleet.take(&taking, None);
                    continue;
                }
                Some(_) => problems.push(format!("what is nominated for {holder} is held by others")),
                None => problems.push(format!("{holder} is nominated for what is not in the fleet")),
            }
            fleet.ousted.insert(holder);
        }
        (fleet, problems)
    }

    fn bare(nodes: &[Node], problems: &mut Vec<String>) -> Self {
        let models: BTreeSet<&DeviceModel> = nodes.iter().flat_map(|n| &n.devices).map(|d| &d.model).collect();
        let models: Vec<DeviceModel> = models.into_iter().cloned().collect();
        let zones: BTreeSet<&str> = nodes.iter().map(|n| n.zone.as_str()).collect();
        let zones: Vec<&str> = zones.into_iter().collect();
        let mut fleet = Self {
            idle_milli: vec![0; models.len()],
            models,
            kinds: Vec::new(),
            infos: Vec::with_capacity(nodes.len()),
            states: Vec::with_capacity(nodes.len()),
            empty: Vec::new(),
            zones: zones.len(),
            ousted: BTreeSet::new(),
            nodes_by_id: HashMap::with_capacity(nodes.len()),
        };
        for node in sorted_by_key(nodes, |n| n.id) {
            if node.devices.len() > NODE_DEVICES_MAX {
                problems
                    .push(format!("node {} has more than {NODE_DEVICES_MAX} devices; the rest is left out", node.id));
            }
            if fleet.nodes_by_id.insert(node.id, fleet.infos.len()).is_some() {
                problems.push(format!("node {} is there twice", node.id));
            }
            fleet.add(node, zones.partition_point(|z| *z < node.zone.as_str()));
        }
        fleet.empty.clone_from(&fleet.states);
        fleet
    }

    fn add(&mut self, node: &Node, zone: usize) {
        let mut devices = sorted_by_key(&node.devices, |d| d.id);
        devices.truncate(NODE_DEVICES_MAX);
        let states: Vec<DeviceState> = devices
            .iter()
            .map(|device| {
                let model = self.models.partition_point(|m| *m < device.model);
                let (class, memory_bytes) = (device.class.clone(), device.memory_bytes);
                let kind = self.kind(DeviceKind { model, class, memory_bytes, sharing: device.sharing.clone() });
                let open = device.schedulable && node.schedulable;
                self.idle_milli[model] += if open { u64::from(WHOLE_MILLI) } else { 0 };
                DeviceState { kind, open, free_milli: WHOLE_MILLI, free_memory: device.memory_bytes, slots: 0 }
            })
            .collect();
        let model = states.iter().find(|d| d.open).or(states.first()).map(|d| self.kinds[d.kind].model);
        self.infos.push(NodeInfo {
            id: node.id,
            zone,
            devices: devices.iter().map(|d| d.id).collect(),
            links: devices.iter().map(|d| d.link_group).collect(),
            model,
        });
        self.states.push(NodeState {
            open: node.schedulable,
            cpu_milli: node.cpu_milli,
            memory_bytes: node.memory_bytes,
            devices: states,
            last_end: None,
            version: 0,
        });
    }

    fn kind(&mut self, kind: DeviceKind) -> usize {
        self.kinds.iter().position(|k| *k == kind).unwrap_or_else(|| {
            self.kinds.push(kind);
            self.kinds.len() - 1
        })
    }

    /// Where the node is in the lists.
    pub(crate) fn position(&self, node: NodeId) -> Option<usize> {
        self.nodes_by_id.get(&node).copied()
    }

    /// Takes an amount for somebody who ends at that time, as far as it is known.
    pub(crate) fn take(&mut self, taking: &Taking, ends_at: Option<Timestamp>) -> bool {
        for part in &taking.parts {
            let (device, model) = self.device(taking.node, part.at);
            let idle = if device.open { u64::from(part.milli.min(device.free_milli)) } else { 0 };
            self.idle_milli[model] = self.idle_milli[model].saturating_sub(idle);
        }
        let node = &mut self.states[taking.node];
        node.last_end = node.last_end.max(ends_at);
        node.take(taking)
    }

    /// Gives an amount back.
    pub(crate) fn give(&mut self, taking: &Taking) {
        let free = |fleet: &Self, part: &Part| {
            let (device, model) = fleet.device(taking.node, part.at);
            (model, if device.open { u64::from(device.free_milli) } else { 0 })
        };
        let before: Vec<(usize, u64)> = taking.parts.iter().map(|part| free(self, part)).collect();
        self.states[taking.node].give(taking, &self.empty[taking.node]);
        for (part, (model, free_before)) in taking.parts.iter().zip(before) {
            self.idle_milli[model] += free(self, part).1 - free_before;
        }
    }

    fn device(&self, node: usize, at: usize) -> (&DeviceState, usize) {
        let device = &self.states[node].devices[at];
        (device, self.kinds[device.kind].model)
    }

    /// What somebody holds, by positions, but for devices that are not there; `None` if the node is not.
    pub(crate) fn taking_of(&self, holding: &Holding) -> Option<Taking> {
        self.taking(holding.node, &holding.grants, holding.cpu_milli, holding.memory_bytes)
    }

    fn taking(&self, node: NodeId, grants: &[Grant], cpu_milli: u64, memory_bytes: u64) -> Option<Taking> {
        let node = self.position(node)?;
        let part = |grant: &Grant| {
            let at = self.infos[node].devices.iter().position(|id| *id == grant.device)?;
            Some(Part { at, milli: grant.milli, memory_bytes: grant.memory_bytes, slots: grant.slots })
        };
        let parts = grants.iter().filter_map(part).collect();
        Some(Taking { node, cpu_milli, memory_bytes, parts })
    }

    /// The model of a device.
    pub(crate) fn model_of(&self, node: NodeId, device: DeviceId) -> Option<&DeviceModel> {
        let node = self.position(node)?;
        let at = self.infos[node].devices.iter().position(|id| *id == device)?;
        Some(&self.models[self.kinds[self.empty[node].devices[at].kind].model])
    }

    /// What has to be kept besides what the victims still hold; `None` if the node or a device is not there. It is taken
    /// out of `leaving`: what counts for one nomination does not count for another one with the same victims.
    pub(crate) fn kept_for(&self, nomination: &Nomination, leaving: &mut [Holding]) -> Option<Taking> {
        let victims: BTreeSet<HolderId> = nomination.victims.iter().copied().collect();
        let mut leaving: Vec<&mut Holding> = leaving
            .iter_mut()
            .filter(|holding| holding.node == nomination.node && victims.contains(&holding.holder))
            .collect();
        let mut grants = nomination.grants.clone();
        let (mut cpu_milli, mut memory_bytes) = (nomination.cpu_milli, nomination.memory_bytes);
        for holding in &mut leaving {
            spend(&mut cpu_milli, &mut holding.cpu_milli);
            spend(&mut memory_bytes, &mut holding.memory_bytes);
            for held in &mut holding.grants {
                let Some(grant) = grants.iter_mut().find(|grant| grant.device == held.device) else { continue };
                let milli = grant.milli.min(held.milli);
                (grant.milli, held.milli) = (grant.milli - milli, held.milli - milli);
                spend(&mut grant.memory_bytes, &mut held.memory_bytes);
                let slots = grant.slots & held.slots;
                (grant.slots, held.slots) = (grant.slots & !slots, held.slots & !slots);
            }
        }
        let kept = self.taking(nomination.node, &grants, cpu_milli, memory_bytes)?;
        (kept.parts.len() == grants.len()).then_some(kept)
    }

    /// Whether the node and the devices of an amount take new holders.
    pub(crate) fn is_open(&self, taking: &Taking) -> bool {
        let node = &self.states[taking.node];
        node.open && taking.parts.iter().all(|part| node.devices[part.at].open)
    }

    /// An amount, as the outside names it.
    pub(crate) fn place(&self, taking: &Taking) -> Place {
        let info = &self.infos[taking.node];
        let grant = |part: &Part| Grant {
            device: info.devices[part.at],
            milli: part.milli,
            memory_bytes: part.memory_bytes,
            slots: part.slots,
        };
        Place {
            node: info.id,
            grants: taking.parts.iter().map(grant).collect(),
            cpu_milli: taking.cpu_milli,
            memory_bytes: taking.memory_bytes,
        }
    }
}

/// What those who make room for nominations still hold.
fn leaving(snapshot: &Snapshot) -> Vec<Holding> {
    let victims: BTreeSet<HolderId> = snapshot.nominations.iter().flat_map(|n| n.victims.iter().copied()).collect();
    let mut leaving: Vec<Holding> =
        snapshot.holdings.iter().filter(|holding| victims.contains(&holding.holder)).cloned().collect();
    leaving.sort_by_key(|holding| (holding.holder, holding.node));
    leaving
}

/// Covers a need from what there is, as far as it goes.
fn spend(need: &mut u64, there: &mut u64) {
    let part = (*need).min(*there);
    *need -= part;
    *there -= part;
}

/// References in the order of a key, so that the order of the snapshot's lists does not matter.
pub(crate) fn sorted_by_key<T, K: Ord>(items: &[T], key: impl Fn(&T) -> K) -> Vec<&T> {
    let mut sorted: Vec<&T> = items.iter().collect();
    sorted.sort_by_key(|item| key(item));
    sorted
}
