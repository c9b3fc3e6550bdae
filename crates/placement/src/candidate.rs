//! The ways to put an ask on a node, and the best of them.

use crate::{
    fleet::{DeviceState, Fleet, NodeState, Part, Taking},
    shape::Shape,
    typical::{MILLION, Typical},
    worth::{Appraisal, Change, HostLimits},
};
use domain::device::Link;

/// The best way to put an ask on a node. Less is better, from the first field on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate {
    /// How far down the list of preferred models.
    pub(crate) rank: usize,
    /// Worth that is lost, by the model's value; [`crate::worth::Worth`] units.
    pub(crate) loss: i64,
    /// Milli-GPU that stay idle on the node: a fuller one is better.
    pub(crate) idle_milli: u64,
    /// Which devices, as a mask of positions.
    pub(crate) devices: u64,
}

/// What weighs in, besides the node itself.
pub(crate) struct Weights<'a> {
    pub(crate) typical: &'a Typical,
    /// By model, percent.
    pub(crate) values: &'a [u64],
    pub(crate) link_milli: u64,
}

/// The best way to put `shape` on node `at`, which is in `state`; `None` if it does not fit.
pub(crate) fn best(
    fleet: &Fleet,
    at: usize,
    state: &NodeState,
    shape: &Shape,
    appraisal: &Appraisal,
    weights: &Weights<'_>,
) -> Option<Candidate> {
    if !shape.fits_host(state) {
        return None;
    }
    let mix = mix_of(fleet, at, weights.typical);
    let (cpu, memory) = (state.cpu_milli - shape.ask.cpu_milli, state.memory_bytes - shape.ask.memory_bytes);
    let limits = HostLimits::of(cpu, memory, mix, weights.typical);
    let idle: u64 = state.devices.iter().map(|d| u64::from(d.free_milli)).sum();
    let mut best = None;
    for devices in sets(fleet, at, state, shape) {
        let changes = changes(state, shape, devices);
        let taken: u64 = changes.iter().map(|c| u64::from(c.before.free_milli - c.after.free_milli)).sum();
        let model = changes.first().map(|change| fleet.kinds[change.before.kind].model);
        let value = model.or(fleet.infos[at].model).map_or(100, |model| weights.values[model]);
        let lost = appraisal.worth - appraisal.after(&changes, &limits, mix, weights.typical);
        let candidate = Candidate {
            rank: model.map_or(0, |model| rank(fleet, shape, model)),
            loss: (lost.saturating_mul(i64::try_from(value).unwrap_or(i64::MAX)) / 100)
                .saturating_add(spread(fleet, at, shape, devices, weights)),
            idle_milli: idle - taken,
            devices,
        };
        best = best.into_iter().chain([candidate]).min();
    }
    best
}

/// The classes that count on this node.
pub(crate) fn mix_of<'a>(fleet: &Fleet, at: usize, typical: &'a Typical) -> &'a [(usize, u64)] {
    &typical.mixes[fleet.infos[at].model.unwrap_or(typical.mixes.len() - 1)]
}

/// Whether the ask fits at all.
pub(crate) fn fits(fleet: &Fleet, at: usize, state: &NodeState, shape: &Shape) -> bool {
    shape.fits_host(state) && !sets(fleet, at, state, shape).is_empty()
}

/// What is taken when `shape` gets these devices.
pub(crate) fn taking(at: usize, state: &NodeState, shape: &Shape, devices: u64) -> Taking {
    let part = |position: usize| {
        let device = &state.devices[position];
        let need = shape.need(device.kind)?;
        let slots = shape.slots_on(device)?;
        Some(Part { at: position, milli: need.milli, memory_bytes: need.memory_bytes, slots })
    };
    Taking {
        node: at,
        cpu_milli: shape.ask.cpu_milli,
        memory_bytes: shape.ask.memory_bytes,
        parts: positions(devices).filter_map(part).collect(),
    }
}

/// Sets of devices that are worth comparing: for one device every one that differs, for several the fullest ones of each
/// model, and the fullest ones within each link.
fn sets(fleet: &Fleet, at: usize, state: &NodeState, shape: &Shape) -> Vec<u64> {
    if shape.gpus() != 1 {
        let device = |position: usize| &state.devices[position];
        return sets_by(fleet, at, state, shape, |p| (device(p).free_milli, device(p).free_memory, device(p).slots));
    }
    let devices = state.devices.iter().enumerate().filter(|(_, device)| shape.fits_device(device));
    let mut seen: Vec<&DeviceState> = Vec::new();
    let mut sets = Vec::new();
    for (position, device) in devices {
        if !seen.contains(&device) {
            seen.push(device);
            sets.push(1 << position);
        }
    }
    sets
}

/// For each model, and for each link if that matters, the first devices in the order of `key`.
pub(crate) fn sets_by<K: Ord>(
    fleet: &Fleet,
    at: usize,
    state: &NodeState,
    shape: &Shape,
    key: impl Fn(usize) -> K,
) -> Vec<u64> {
    if shape.gpus() == 0 {
        return vec![0];
    }
    let fits = |position: &usize| shape.fits_device(&state.devices[*position]);
    let mut fitting: Vec<usize> = (0..state.devices.len()).filter(fits).collect();
    if fitting.len() < shape.gpus() {
        return Vec::new();
    }
    fitting.sort_by_key(|position| (key(*position), *position));
    let model = |position: usize| fleet.kinds[state.devices[position].kind].model;
    let links = &fleet.infos[at].links;
    let mut sets = Vec::new();
    for first in &fitting {
        let same_model = |p: &usize| model(*p) == model(*first);
        if shape.ask.link != Link::Required {
            sets.extend(fullest(fitting.iter().copied().filter(same_model), shape.gpus()));
        }
        if shape.ask.link != Link::Any {
            let joined = fitting.iter().copied().filter(same_model).filter(|p| links[*p] == links[*first]);
            sets.extend(fullest(joined, shape.gpus()));
        }
    }
    sets.sort_unstable();
    sets.dedup();
    sets
}

fn fullest(positions: impl Iterator<Item = usize>, count: usize) -> Option<u64> {
    let chosen: Vec<usize> = positions.take(count).collect();
    (chosen.len() == count).then(|| chosen.iter().fold(0, |mask, position| mask | 1 << position))
}

fn changes(state: &NodeState, shape: &Shape, devices: u64) -> Vec<Change> {
    let change = |position: usize| {
        let before = state.devices[position];
        let need = shape.need(before.kind)?;
        let mut after = before;
        after.slots |= shape.slots_on(&before)?;
        after.free_milli -= need.milli;
        after.free_memory -= need.memory_bytes;
        Some(Change { before, after })
    };
    positions(devices).filter_map(change).collect()
}

fn positions(mask: u64) -> impl Iterator<Item = usize> {
    (0..64).filter(move |position| mask >> position & 1 == 1)
}

fn rank(fleet: &Fleet, shape: &Shape, model: usize) -> usize {
    if !shape.ask.models_ordered {
        return 0;
    }
    shape.ask.models.iter().position(|m| *m == fleet.models[model]).unwrap_or_default()
}

/// What it costs that devices which should be joined are not.
fn spread(fleet: &Fleet, at: usize, shape: &Shape, devices: u64, weights: &Weights<'_>) -> i64 {
    if shape.ask.link == Link::Any {
        return 0;
    }
    let mut links: Vec<u32> = positions(devices).map(|position| fleet.infos[at].links[position]).collect();
    links.sort_unstable();
    links.dedup();
    let cost = (links.len().saturating_sub(1) as u64).saturating_mul(weights.link_milli).saturating_mul(MILLION);
    i64::try_from(cost).unwrap_or(i64::MAX / 4)
}
