//! Reservations: whoever waited long gets the place that will be free first, and later ones cannot take it away.

use crate::{
    candidate,
    fleet::{NodeState, Taking},
    keeping::Kept,
    plan::Reservation,
    planner::Planner,
    shape::Shape,
    snapshot::{Holding, Request},
};
use domain::id::HolderId;
use jiff::Timestamp;

/// When a node has room for somebody.
pub(crate) struct Opening {
    /// `None`: when somebody leaves whose end is not known.
    pub(crate) free_at: Option<Timestamp>,
    /// What is free then.
    pub(crate) state: NodeState,
    /// Milli-GPU that have to become free until then.
    missing_milli: u64,
}

impl Planner {
    /// Keeps the place that is free first, if the request waited long enough and there are not too many already.
    pub(crate) fn reserve(&mut self, request: &Request) {
        if self.waited_s(request) < self.policy.reserve_after_s || self.keeping.len() >= self.policy.reservations_max {
            return;
        }
        let Ok(permitted) = self.admit(request) else { return };
        let shape = self.shape(request, &permitted);
        let by_node = self.holdings_by_node();
        let nodes = self.nodes_for(request, None);
        let openings = nodes.into_iter().filter(|at| !self.keeping.concerns(*at)).filter_map(|at| {
            let opening = self.opening(at, &shape, &by_node[at])?;
            Some(((opening.free_at.is_none(), opening.free_at, opening.missing_milli, at), opening))
        });
        let Some(((.., at), opening)) = openings.min_by_key(|(key, _)| *key) else { return };
        let Some(taking) = self.calmest(at, &opening.state, &shape) else { return };
        let mut left_then = opening.state;
        left_then.take(&taking);
        self.keeping.add(Kept { takings: vec![(request.holder, taking)], free_at: opening.free_at, left_then });
    }

    /// The reservations that were made.
    pub(crate) fn reservations(&self) -> Vec<Reservation> {
        let all = self.keeping.iter().flat_map(|kept| kept.takings.iter().map(move |taking| (kept, taking)));
        let reservation = |(kept, (holder, taking)): (&Kept, &(HolderId, Taking))| Reservation {
            holder: *holder,
            place: self.fleet.place(taking),
            free_at: kept.free_at,
        };
        all.map(reservation).collect()
    }

    pub(crate) fn holdings_by_node(&self) -> Vec<Vec<usize>> {
        let mut by_node = vec![Vec::new(); self.fleet.states.len()];
        for (at, holding) in self.holdings.iter().enumerate() {
            if let Some(node) = self.fleet.position(holding.node) {
                by_node[node].push(at);
            }
        }
        by_node
    }

    /// When this node has room, if its holders leave in the order of their ends; those whose end is unknown come last,
    /// the smallest first, and strangers without an end never leave.
    pub(crate) fn opening(&self, at: usize, shape: &Shape, holdings: &[usize]) -> Option<Opening> {
        if !candidate::fits(&self.fleet, at, &self.fleet.empty[at], shape) {
            return None;
        }
        let mut opening = Opening { free_at: Some(self.now), state: self.fleet.states[at].clone(), missing_milli: 0 };
        let mut leaving: Vec<&Holding> = holdings.iter().map(|holding| &self.holdings[*holding]).collect();
        leaving.retain(|holding| holding.owner.is_some() || self.end(holding).is_some());
        leaving.sort_by_key(|holding| {
            let end = self.end(holding);
            (end.is_none(), end, milli_of(holding), holding.holder)
        });
        for holding in leaving {
            if candidate::fits(&self.fleet, at, &opening.state, shape) {
                break;
            }
            let taking = self.fleet.taking_of(holding)?;
            opening.state.give(&taking, &self.fleet.empty[at]);
            opening.free_at = self.end(holding);
            opening.missing_milli += milli_of(holding);
        }
        candidate::fits(&self.fleet, at, &opening.state, shape).then_some(opening)
    }

    /// When a holder is gone; whoever was told to leave is as good as gone.
    pub(crate) fn end(&self, holding: &Holding) -> Option<Timestamp> {
        if holding.releasing || self.leaving.contains(&holding.holder) {
            return Some(self.now);
        }
        holding.ends_at.map(|end| end.max(self.now))
    }

    /// Of the devices that will be free then, those on which least is going on now: what is kept should be idle already.
    fn calmest(&self, at: usize, then: &NodeState, shape: &Shape) -> Option<Taking> {
        let now = &self.fleet.states[at];
        let idle = |devices: u64| {
            let all = now.devices.iter().enumerate();
            all.filter(|(p, _)| devices >> p & 1 == 1).map(|(_, d)| u64::from(d.free_milli)).sum::<u64>()
        };
        let sets = candidate::sets_by(&self.fleet, at, then, shape, |position| {
            std::cmp::Reverse(now.devices[position].free_milli)
        });
        let devices = sets.into_iter().max_by_key(|set| (idle(*set), std::cmp::Reverse(*set)))?;
        Some(candidate::taking(at, then, shape, devices))
    }
}

fn milli_of(holding: &Holding) -> u64 {
    holding.grants.iter().map(|grant| u64::from(grant.milli)).sum()
}
