//! What will be asked for next, judged by what waits and what was asked for lately; and how much each model is insisted on.
//!
//! The typical set is the idea of Weng et al., "Beware of Fragmentation" (USENIX ATC 2023): the most frequent asks stand for
//! the work to come. Beyond it, each model has a mix of its own: who can only run there counts there, and who can run
//! anywhere counts where the others leave room.

use crate::{
    fleet::{Fleet, sorted_by_key},
    policy::Policy,
    shape::Shape,
    snapshot::Snapshot,
};
use domain::device::{Ask, DeviceModel, Link, WHOLE_MILLI};
use std::collections::BTreeMap;

/// Classes by their positions, with their weights.
pub(crate) type Mix = Vec<(usize, u64)>;

/// Weights are parts of this.
pub(crate) const MILLION: u64 = 1_000_000;

/// A model of which nothing is left counts as claimed one and a half times.
const CLAIMED_MAX: u64 = MILLION * 3 / 2;

/// Where others leave nothing, somebody who can run anywhere counts as if this part of the model were left for him.
const LEFTOVER_PART: u64 = 50;

/// One member of the typical set.
#[derive(Debug, Clone)]
pub(crate) struct Class {
    pub(crate) shape: Shape,
    /// Effective milli-GPU of it.
    pub(crate) milli: u64,
    /// Milli-GPU of it that a thousandth of a core serves, times [`RATE`]. Half its own processor is counted, half what the
    /// same GPUs need on average, since a node is rarely filled by one class alone.
    pub(crate) per_cpu_milli: u64,
    /// Milli-GPU of it that a mebibyte of memory serves, times [`RATE`].
    pub(crate) per_mebibyte: u64,
}

/// Rates are integers times this: a power of two, so that using one costs no division.
pub(crate) const RATE: u64 = 1 << 20;

/// The typical set, by model.
#[derive(Debug, Clone)]
pub(crate) struct Typical {
    pub(crate) classes: Vec<Class>,
    /// For each model, and last for nodes without devices: classes with their weights, which sum up to a million.
    pub(crate) mixes: Vec<Mix>,
    groups: Vec<Group>,
    models: usize,
}

/// Classes that will do with the same models.
#[derive(Debug, Clone)]
struct Group {
    /// In order; all models are `None`.
    models: Option<Vec<usize>>,
    /// Its part of all milli-GPU that are asked for.
    demand: u64,
    classes: Mix,
}

impl Typical {
    pub(crate) fn new(snapshot: &Snapshot, policy: &Policy, fleet: &Fleet) -> Self {
        let counted = most_frequent(snapshot, policy);
        let mean_cpu = mean_cpu_of_a_gpu(&counted);
        let mut classes = Vec::new();
        let mut weights = Vec::new();
        for ((ask, permitted), count) in counted {
            let shape = Shape::new(&ask, &permitted, None, fleet);
            let milli = ask.effective_milli();
            if milli == 0 || !shape.is_possible() {
                continue;
            }
            let cpu_milli = ask.cpu_milli.saturating_add(mean_cpu.saturating_mul(milli) / u64::from(WHOLE_MILLI)) / 2;
            let rate = |per: u64| milli.saturating_mul(RATE) / per.max(1);
            let (per_cpu_milli, per_mebibyte) = (rate(cpu_milli), rate(ask.memory_bytes >> 20));
            classes.push(Class { shape, milli, per_cpu_milli, per_mebibyte });
            weights.push(count);
        }
        let groups = groups(&classes, &weights, fleet);
        let mut typical = Self { classes, mixes: Vec::new(), groups, models: fleet.models.len() };
        typical.mixes = typical.mixes(&fleet.idle_milli);
        typical
    }

    /// How much of each model is claimed by those who insist on it, in parts per million, if the work to come fills what
    /// is idle.
    pub(crate) fn claimed(&self, idle_milli: &[u64]) -> Vec<u64> {
        if self.groups.iter().all(|group| group.models.is_none()) {
            return vec![0; self.models];
        }
        let load = self.flows(idle_milli).0;
        load.iter().zip(idle_milli).map(|(load, idle)| ratio(*load, *idle)).collect()
    }

    /// What each group puts on each model: those with least choice first, each spread so that the models are evenly
    /// claimed. The second value is by group, then by model.
    fn flows(&self, idle_milli: &[u64]) -> (Vec<u64>, Vec<Vec<u64>>) {
        let total: u64 = idle_milli.iter().sum();
        let mut load = vec![0; self.models];
        let mut flows = Vec::with_capacity(self.groups.len());
        for group in &self.groups {
            let flow = match &group.models {
                Some(models) => {
                    let demand = u128::from(group.demand) * u128::from(total) / u128::from(MILLION);
                    level(models, u64::try_from(demand).unwrap_or(u64::MAX), idle_milli, &load)
                }
                None => idle_milli
                    .iter()
                    .zip(&load)
                    .map(|(idle, load)| idle.saturating_sub(*load).max(idle / LEFTOVER_PART))
                    .collect(),
            };
            if group.models.is_some() {
                load.iter_mut().zip(&flow).for_each(|(load, flow)| *load += flow);
            }
            flows.push(flow);
        }
        (load, flows)
    }

    fn mixes(&self, idle_milli: &[u64]) -> Vec<Mix> {
        let flows = self.flows(idle_milli).1;
        let mut mixes: Vec<_> = (0..self.models).map(|model| self.mix(model, &flows)).collect();
        mixes.push(Vec::new());
        mixes
    }

    fn mix(&self, model: usize, flows: &[Vec<u64>]) -> Mix {
        let mut mix = Mix::new();
        for (group, flow) in self.groups.iter().zip(flows) {
            let here = ratio(flow[model], flow.iter().sum());
            mix.extend(group.classes.iter().map(|(class, weight)| (*class, weight.saturating_mul(here))));
        }
        let total: u128 = mix.iter().map(|(_, weight)| u128::from(*weight)).sum();
        for (_, weight) in &mut mix {
            *weight = u64::try_from(u128::from(*weight) * u128::from(MILLION) / total.max(1)).unwrap_or(MILLION);
        }
        mix.retain(|(_, weight)| *weight > 0);
        mix
    }
}

/// Puts an amount on some models so that the share which is claimed of each becomes as even as it can.
fn level(models: &[usize], mut amount: u64, idle: &[u64], load: &[u64]) -> Vec<u64> {
    let mut flow = vec![0; idle.len()];
    let mut order: Vec<usize> = models.iter().copied().filter(|model| idle[*model] > 0).collect();
    order.sort_by_key(|model| (ratio(load[*model], idle[*model]), *model));
    for count in 1..=order.len() {
        let filled = &order[..count];
        let level = |model: usize| ratio_unbounded(load[model] + flow[model], idle[model]);
        let step =
            order.get(count).map(|next| ratio_unbounded(load[*next], idle[*next]).saturating_sub(level(filled[0])));
        let width: u64 = filled.iter().map(|model| idle[*model]).sum();
        let room = step.map(|step| u128::from(step) * u128::from(width) / u128::from(MILLION));
        let added = room.and_then(|room| u64::try_from(room).ok()).map_or(amount, |room| room.min(amount));
        for model in filled {
            let part = u128::from(added) * u128::from(idle[*model]) / u128::from(width.max(1));
            flow[*model] += u64::try_from(part).unwrap_or(added);
        }
        amount -= added;
    }
    flow
}

fn ratio_unbounded(part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * u128::from(MILLION) / u128::from(whole.max(1))).unwrap_or(u64::MAX)
}

fn ratio(part: u64, whole: u64) -> u64 {
    ratio_unbounded(part, whole).min(CLAIMED_MAX)
}

/// What is asked for, most frequent first, until the policy's part of it is covered.
fn most_frequent(snapshot: &Snapshot, policy: &Policy) -> Vec<((Ask, Vec<DeviceModel>), u64)> {
    let mut counts: BTreeMap<(Ask, Vec<DeviceModel>), u64> = BTreeMap::new();
    // What cannot be in itself gets no place, and stands for nothing that comes.
    for request in snapshot.requests.iter().filter(|request| request.ask.check().is_ok()) {
        *counts.entry((canonical(&request.ask), request.permitted.clone())).or_default() += 1;
    }
    for demand in snapshot.recent.iter().filter(|demand| demand.ask.check().is_ok()) {
        let count = counts.entry((canonical(&demand.ask), Vec::new())).or_default();
        *count = count.saturating_add(demand.count);
    }
    let total: u128 = counts.values().map(|count| u128::from(*count)).sum();
    let enough = total * u128::from(policy.typical_coverage_ppm);
    let counts: Vec<_> = counts.into_iter().collect();
    let mut covered = 0;
    let mut chosen = Vec::new();
    for (ask, count) in sorted_by_key(&counts, |(_, count)| std::cmp::Reverse(*count)) {
        if covered * u128::from(MILLION) >= enough || chosen.len() >= policy.typical_max {
            break;
        }
        covered += u128::from(*count);
        chosen.push((ask.clone(), *count));
    }
    chosen
}

/// Asks that differ only in order of preference or in links are one class.
fn canonical(ask: &Ask) -> Ask {
    let mut ask = ask.clone();
    ask.models.sort();
    (ask.models_ordered, ask.link) = (false, Link::Any);
    ask
}

fn mean_cpu_of_a_gpu(counted: &[((Ask, Vec<DeviceModel>), u64)]) -> u64 {
    let with_gpus = || counted.iter().filter(|((ask, _), _)| ask.gpus > 0);
    let cpu: u128 = with_gpus().map(|((ask, _), count)| u128::from(ask.cpu_milli) * u128::from(*count)).sum();
    let milli: u128 = with_gpus().map(|((ask, _), count)| u128::from(ask.effective_milli()) * u128::from(*count)).sum();
    u64::try_from(cpu * u128::from(WHOLE_MILLI) / milli.max(1)).unwrap_or(u64::MAX)
}

/// Classes by the models that will do, those with least choice first.
fn groups(classes: &[Class], weights: &[u64], fleet: &Fleet) -> Vec<Group> {
    let supplied: Vec<usize> = (0..fleet.models.len()).filter(|model| fleet.idle_milli[*model] > 0).collect();
    let mut by_models: BTreeMap<(usize, Vec<usize>), Mix> = BTreeMap::new();
    for (at, class) in classes.iter().enumerate() {
        let fits = |model: &usize| {
            let mut kinds = fleet.kinds.iter().enumerate().filter(|(_, kind)| kind.model == *model);
            kinds.any(|(kind, _)| class.shape.need(kind).is_some())
        };
        let models: Vec<usize> = supplied.iter().copied().filter(fits).collect();
        by_models.entry((models.len(), models)).or_default().push((at, weights[at]));
    }
    let demand = |members: &[(usize, u64)]| -> u128 {
        members.iter().map(|(at, weight)| u128::from(classes[*at].milli) * u128::from(*weight)).sum()
    };
    let total: u128 = by_models.values().map(|members| demand(members)).sum();
    let group = |((count, models), members): ((usize, Vec<usize>), Mix)| Group {
        models: (count < supplied.len()).then_some(models),
        demand: u64::try_from(demand(&members) * u128::from(MILLION) / total.max(1)).unwrap_or(MILLION),
        classes: members,
    };
    by_models.into_iter().map(group).collect()
}
