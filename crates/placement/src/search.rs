//! Which node is best for an ask. What was found out about a node is kept until the node changes, so that a decision looks
//! again only at the few nodes that changed since the same thing was asked last.

use crate::{
    candidate::{self, Candidate, Weights},
    fleet::{Fleet, NodeState, Taking},
    keeping::Keeping,
    policy::Policy,
    shape::Shape,
    typical::{MILLION, Typical},
    worth::Appraisal,
};
use domain::{
    device::{Ask, DeviceModel},
    id::HolderId,
};
use jiff::Timestamp;
use std::collections::{BTreeSet, HashMap};

/// Shapes that are remembered; with more of them all are forgotten, and found out again.
const SHAPES_MAX: usize = 1024;

/// Lifetimes that differ by less than this are the same, seconds.
const LIFETIME_GRAIN_S: i64 = 900;

/// What is looked for.
pub(crate) struct Wish<'a> {
    pub(crate) holder: HolderId,
    pub(crate) ask: &'a Ask,
    /// None is any.
    pub(crate) permitted: &'a [DeviceModel],
    /// `None` is any.
    pub(crate) class: Option<&'a str>,
    /// By position.
    pub(crate) nodes: Option<&'a BTreeSet<usize>>,
    pub(crate) zone: Option<usize>,
    pub(crate) now: Timestamp,
    /// When it ends at the latest.
    pub(crate) ends_at: Option<Timestamp>,
}

/// Everything that is remembered from one decision to the next.
#[derive(Debug, Clone)]
pub(crate) struct Search {
    typical: Typical,
    /// By model, percent.
    values: Vec<u64>,
    shapes: HashMap<(Ask, Vec<DeviceModel>, Option<String>), Remembered>,
    appraisals: Vec<Option<(u32, Appraisal)>>,
}

#[derive(Debug, Clone)]
struct Remembered {
    shape: Shape,
    /// By node: the version at which it was looked at, and the best way to use it.
    found: Vec<Option<(u32, Option<Candidate>)>>,
}

impl Search {
    pub(crate) fn new(typical: Typical, policy: &Policy, fleet: &Fleet) -> Self {
        let value = |model| policy.model_value_percent.get(model).copied().unwrap_or(100);
        Self {
            typical,
            values: fleet.models.iter().map(value).collect(),
            shapes: HashMap::new(),
            appraisals: vec![None; fleet.states.len()],
        }
    }

    /// What is taken where, if the wish can be fulfilled now.
    pub(crate) fn find(
        &mut self,
        wish: &Wish<'_>,
        fleet: &Fleet,
        keeping: &Keeping,
        policy: &Policy,
    ) -> Option<Taking> {
        if self.shapes.len() >= SHAPES_MAX {
            self.shapes.clear();
        }
        let key = (wish.ask.clone(), wish.permitted.to_vec(), wish.class.map(str::to_owned));
        let fresh = || Remembered {
            shape: Shape::new(wish.ask, wish.permitted, wish.class, fleet),
            found: vec![None; fleet.states.len()],
        };
        let remembered = self.shapes.entry(key).or_insert_with(fresh);
        let weights = Weights { typical: &self.typical, values: &self.values, link_milli: policy.link_milli };
        let prices = prices(&self.typical, &fleet.idle_milli, policy);
        let mut best: Option<((usize, i64, u64, usize), u64)> = None;
        for (at, state) in fleet.states.iter().enumerate() {
            if !wish.allows(fleet, at) {
                continue;
            }
            let found = if keeping.concerns(at) {
                let view = keeping.view(at, state, wish.holder, wish.ends_at);
                let appraisal = Appraisal::of(&view, candidate::mix_of(fleet, at, &self.typical), &self.typical);
                candidate::best(fleet, at, &view, &remembered.shape, &appraisal, &weights)
            } else {
                remembered.candidate(fleet, at, state, &mut self.appraisals[at], &weights)
            };
            let Some(found) = found else { continue };
            let price = fleet.infos[at].model.map_or(1000, |model| prices[model]);
            let loss = (found.loss.saturating_mul(price) / 1000).saturating_add(wish.lifetime_cost(state, policy));
            let key = (found.rank, loss, found.idle_milli, at);
            if best.is_none_or(|(least, _)| key < least) {
                best = Some((key, found.devices));
            }
        }
        let ((_, _, _, at), devices) = best?;
        let view = keeping.view(at, &fleet.states[at], wish.holder, wish.ends_at);
        Some(candidate::taking(at, &view, &remembered.shape, devices))
    }

    /// The best devices of one node in a state that it is not in yet.
    pub(crate) fn taking_on(
        &self,
        fleet: &Fleet,
        at: usize,
        state: &NodeState,
        shape: &Shape,
        policy: &Policy,
    ) -> Option<Taking> {
        let weights = Weights { typical: &self.typical, values: &self.values, link_milli: policy.link_milli };
        let appraisal = Appraisal::of(state, candidate::mix_of(fleet, at, &self.typical), &self.typical);
        let found = candidate::best(fleet, at, state, shape, &appraisal, &weights)?;
        Some(candidate::taking(at, state, shape, found.devices))
    }
}

impl Remembered {
    fn candidate(
        &mut self,
        fleet: &Fleet,
        at: usize,
        state: &NodeState,
        appraisal: &mut Option<(u32, Appraisal)>,
        weights: &Weights<'_>,
    ) -> Option<Candidate> {
        if let Some((version, found)) = self.found[at]
            && version == state.version
        {
            return found;
        }
        if appraisal.as_ref().is_none_or(|(version, _)| *version != state.version) {
            let mix = candidate::mix_of(fleet, at, weights.typical);
            *appraisal = Some((state.version, Appraisal::of(state, mix, weights.typical)));
        }
        let appraisal = appraisal.as_ref().map(|(_, appraisal)| appraisal)?;
        let found = candidate::best(fleet, at, state, &self.shape, appraisal, weights);
        self.found[at] = Some((state.version, found));
        found
    }
}

impl Wish<'_> {
    pub(crate) fn allows(&self, fleet: &Fleet, at: usize) -> bool {
        self.nodes.is_none_or(|nodes| nodes.contains(&at)) && self.zone.is_none_or(|zone| zone == fleet.infos[at].zone)
    }

    /// Nodes are emptied at once when their holders end together.
    fn lifetime_cost(&self, state: &NodeState, policy: &Policy) -> i64 {
        let (Some(mine), Some(others)) = (self.ends_at, state.last_end) else { return 0 };
        let doublings = |end: Timestamp| {
            let seconds = (end.as_second() - self.now.as_second()).max(LIFETIME_GRAIN_S);
            i64::from((seconds / LIFETIME_GRAIN_S).ilog2())
        };
        let cost = policy.lifetime_milli.saturating_mul(MILLION);
        (doublings(mine) - doublings(others)).abs().saturating_mul(i64::try_from(cost).unwrap_or(i64::MAX))
    }
}

/// By model, in thousandths: the more of what is left of it is claimed by those who insist on it, the dearer.
fn prices(typical: &Typical, idle_milli: &[u64], policy: &Policy) -> Vec<i64> {
    let price = |claimed: u64| {
        // Claimed is in parts per million, at most one and a half of them: the square stays in range.
        let squared = claimed * claimed / MILLION;
        let extra = policy.scarcity_permille.saturating_mul(squared) / MILLION;
        i64::try_from(extra).unwrap_or(i64::MAX).saturating_add(1000)
    };
    typical.claimed(idle_milli).into_iter().map(price).collect()
}
