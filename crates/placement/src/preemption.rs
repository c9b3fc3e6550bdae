//! Who has to leave for somebody who may not wait: the least costly set of holders, and only of preemptible queues.

use crate::{
    accounts::{nominated_usage, usage_of},
    candidate,
    fleet::{NodeState, Taking},
    plan::Preemption,
    planner::Planner,
    shape::Shape,
    snapshot::{Holding, Nomination, Owner, Request},
};
use domain::id::{HolderId, QueueId};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Nodes on which the least costly set is searched exactly: those where the greedy one costs least.
const EXACT_NODES_MAX: usize = 16;

/// More sets than those of so many holders are never compared, whatever the policy says.
const EXACT_VICTIMS_MAX: usize = 12;

/// Holders that leave together: one, or a gang.
struct Unit {
    /// All of them, wherever they are.
    members: Vec<usize>,
    /// From when on they may be stopped.
    from: Timestamp,
    /// Its queue holds more than it deserves.
    borrows: bool,
    queue_priority: i32,
    priority: i32,
    /// Work that is lost, milli-GPU seconds.
    lost: u128,
}

/// What stopping a set costs; the first difference decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    from: Timestamp,
    highest_priority: i32,
    holders: usize,
    lost: u128,
}

/// Whose stop makes room on a node, and what is free there then.
pub(crate) struct Least {
    node: usize,
    shape: Shape,
    state: NodeState,
    /// Positions in the planner's list of holdings.
    pub(crate) victims: Vec<usize>,
}

/// A set of units on a node.
struct Choice {
    cost: Cost,
    node: usize,
    /// Positions in the node's list of units.
    units: Vec<usize>,
}

impl Planner {
    /// Nominates a place, and those who have to leave for it. `None`: nobody may be stopped, or it would not help.
    pub(crate) fn preempt(&mut self, request: &Request) -> Option<Preemption> {
        let Least { node, shape, state, victims } = self.least_costly(request, None)?;
        let taking = self.search.taking_on(&self.fleet, node, &state, &shape, &self.policy)?;
        let mut leaving: Vec<Holding> = victims.iter().map(|at| self.holdings[*at].clone()).collect();
        let told = leaving.clone();
        let holders: BTreeSet<HolderId> = told.iter().map(|holding| holding.holder).collect();
        let preemption = self.keep_place(request, &taking, &holders, &mut leaving)?;
        told.iter().for_each(|holding| self.tell_to_leave(holding));
        Some(preemption)
    }

    /// The holders whose stop costs least of those that make room for a request.
    pub(crate) fn least_costly(&self, request: &Request, zone: Option<usize>) -> Option<Least> {
        if !self.policy.preemption || self.preempts_from(request) > self.foreseen() {
            return None;
        }
        let permitted = self.admit(request).ok()?;
        let shape = self.shape(request, &permitted);
        let most = self.policy.victims_max.saturating_sub(self.leaving.len());
        let by_node = self.holdings_by_node();
        let units: BTreeMap<usize, Vec<Unit>> = self
            .nodes_for(request, zone)
            .into_iter()
            .map(|at| (at, self.units(request, &by_node[at])))
            .filter(|(_, units)| !units.is_empty())
            .collect();
        let mut choices: Vec<Choice> =
            units.iter().filter_map(|(at, units)| self.greedy(request, *at, units, &shape, most)).collect();
        choices.sort_by_key(|choice| (choice.cost, choice.node));
        choices.truncate(EXACT_NODES_MAX);
        let exact = choices.into_iter().map(|choice| {
            let units = &units[&choice.node];
            self.exact(request, choice, units, &shape)
        });
        let best = exact.min_by_key(|choice| (choice.cost, choice.node))?;
        let units = &units[&best.node];
        let state = self.without(request, best.node, units, &best.units);
        let victims = best.units.iter().flat_map(|unit| units[*unit].members.clone()).collect();
        Some(Least { node: best.node, shape, state, victims })
    }

    /// When others may be stopped for a request: after it has waited for so long, and not in the past.
    pub(crate) fn preempts_from(&self, request: &Request) -> Timestamp {
        let after = i64::try_from(self.policy.preempt_after_s).unwrap_or(i64::MAX);
        let waited = request.submitted_at.saturating_add(SignedDuration::from_secs(after));
        let waited = waited.unwrap_or(Timestamp::MAX);
        if after == 0 { self.now } else { waited.max(self.now) }
    }

    /// Who may be stopped by then counts as one who may be.
    fn foreseen(&self) -> Timestamp {
        self.foreseen_until.unwrap_or(self.now)
    }

    /// Who may be stopped on a node for this request, cheapest first; where others may be later, they come after them.
    fn units(&self, request: &Request, holdings: &[usize]) -> Vec<Unit> {
        let mut seen = BTreeSet::new();
        let mut units = Vec::new();
        for at in holdings {
            let Some(owner) = &self.holdings[*at].owner else { continue };
            let members = match owner.gang {
                Some(gang) => self.gang_members(gang).collect(),
                None => vec![*at],
            };
            if seen.insert(members.clone())
                && let Some(unit) = self.unit(request, members)
            {
                units.push(unit);
            }
        }
        units.sort_by_key(|unit| {
            let first = self.holdings[unit.members[0]].holder;
            (unit.from, !unit.borrows, unit.queue_priority, unit.priority, unit.lost, first)
        });
        units
    }

    fn unit(&self, request: &Request, members: Vec<usize>) -> Option<Unit> {
        let (from, least) = (self.now, i32::MIN);
        let mut unit = Unit { members, from, borrows: true, queue_priority: least, priority: least, lost: 0 };
        for member in &unit.members {
            let holding = &self.holdings[*member];
            let owner = holding.owner.as_ref()?;
            let account = self.accounts.queue(owner.queue)?;
            if !self.may_stop(request, holding, owner) {
                return None;
            }
            unit.from = unit.from.max(owner.protected_until.unwrap_or(from));
            unit.borrows &= account.used_milli > account.queue.deserved_milli;
            unit.queue_priority = unit.queue_priority.max(account.queue.priority);
            unit.priority = unit.priority.max(owner.priority);
            let seconds = (self.now.as_second() - holding.started_at.as_second()).max(0).unsigned_abs();
            unit.lost = unit.lost.saturating_add(u128::from(owner.effective_milli) * u128::from(seconds));
        }
        Some(unit)
    }

    /// Only from a preemptible queue, out of protection, and for somebody whose turn would have come before: what is
    /// borrowed for what is deserved; or, as long as nobody borrows at the cost of what others deserve, for a queue of
    /// higher priority, or for higher priority in the same queue.
    fn may_stop(&self, request: &Request, holding: &Holding, owner: &Owner) -> bool {
        let (Some(theirs), Some(mine)) = (self.accounts.queue(owner.queue), self.accounts.queue(request.queue)) else {
            return false;
        };
        let protected = owner.protected_until.is_some_and(|until| until > self.foreseen());
        let gone = holding.releasing || self.leaving.contains(&holding.holder);
        if !theirs.queue.preemptible || protected || gone {
            return false;
        }
        let deserved = self.accounts.is_deserved(request);
        let borrowed = theirs.used_milli > theirs.queue.deserved_milli;
        if owner.queue == request.queue {
            return owner.priority < request.priority && (deserved || borrowed);
        }
        if theirs.queue.priority < mine.queue.priority { deserved || borrowed } else { deserved && borrowed }
    }

    /// Adds units until the request fits, then lets stay whoever is not needed, dearest first.
    fn greedy(&self, request: &Request, at: usize, units: &[Unit], shape: &Shape, most: usize) -> Option<Choice> {
        let mut chosen = Vec::new();
        for unit in 0..units.len() {
            if self.makes_room(request, at, units, &chosen, shape) {
                break;
            }
            chosen.push(unit);
            if !self.is_fair(request, units, &chosen) {
                chosen.pop();
            }
        }
        if !self.makes_room(request, at, units, &chosen, shape) {
            return None;
        }
        for unit in chosen.clone().into_iter().rev() {
            let without: Vec<usize> = chosen.iter().copied().filter(|other| *other != unit).collect();
            if self.makes_room(request, at, units, &without, shape) {
                chosen = without;
            }
        }
        let cost = cost(units, &chosen);
        (!chosen.is_empty() && cost.holders <= most).then_some(Choice { cost, node: at, units: chosen })
    }

    /// The least costly set of all, where there are few enough to compare.
    fn exact(&self, request: &Request, greedy: Choice, units: &[Unit], shape: &Shape) -> Choice {
        if units.len() > self.policy.exact_victims_max.min(EXACT_VICTIMS_MAX) {
            return greedy;
        }
        let mut best = greedy;
        for mask in 1_u32..1 << units.len() {
            let chosen: Vec<usize> = (0..units.len()).filter(|unit| mask >> unit & 1 == 1).collect();
            let cost = cost(units, &chosen);
            if cost < best.cost
                && self.is_fair(request, units, &chosen)
                && self.makes_room(request, best.node, units, &chosen, shape)
            {
                best = Choice { cost, node: best.node, units: chosen };
            }
        }
        best
    }

    /// No queue falls below what it deserves, but for one of higher priority that gets what it deserves itself; and no
    /// project is disturbed more often than it has to bear.
    fn is_fair(&self, request: &Request, units: &[Unit], chosen: &[usize]) -> bool {
        let mut by_queue: BTreeMap<QueueId, u64> = BTreeMap::new();
        let mut by_project = BTreeMap::new();
        for member in chosen.iter().flat_map(|unit| &units[*unit].members) {
            if let Some(owner) = &self.holdings[*member].owner {
                let milli = by_queue.entry(owner.queue).or_default();
                *milli = milli.saturating_add(owner.effective_milli);
                *by_project.entry(owner.project).or_insert(0_u32) += 1;
            }
        }
        let mine = self.accounts.queue(request.queue).map(|account| account.queue.priority);
        let deserved = self.accounts.is_deserved(request);
        let queues_hold = by_queue.into_iter().filter(|(queue, _)| *queue != request.queue).all(|(queue, milli)| {
            let Some(account) = self.accounts.queue(queue) else { return false };
            let outranked = deserved && mine.is_some_and(|mine| account.queue.priority < mine);
            outranked || account.used_milli.saturating_sub(milli) >= account.queue.deserved_milli
        });
        let projects_bear = by_project.into_iter().all(|(project, count)| {
            let Some(account) = self.accounts.project(project) else { return true };
            account.project.disruptions_left.is_none_or(|left| account.stopped.saturating_add(count) <= left)
        });
        queues_hold && projects_bear
    }

    fn makes_room(&self, request: &Request, at: usize, units: &[Unit], chosen: &[usize], shape: &Shape) -> bool {
        candidate::fits(&self.fleet, at, &self.without(request, at, units, chosen), shape)
    }

    /// What is free on a node for the request when these have left it.
    fn without(&self, request: &Request, at: usize, units: &[Unit], chosen: &[usize]) -> NodeState {
        let mut state = self.fleet.states[at].clone();
        for member in chosen.iter().flat_map(|unit| &units[*unit].members) {
            let taking = self.fleet.taking_of(&self.holdings[*member]);
            if let Some(taking) = taking.filter(|taking| taking.node == at) {
                state.give(&taking, &self.fleet.empty[at]);
            }
        }
        let ends_at = crate::admission::end_of(request, self.now).0;
        self.keeping.view(at, &state, request.holder, ends_at).into_owned()
    }

    /// Keeps a place for which `leaving` make room, as far as that is not counted for others of a gang.
    pub(crate) fn keep_place(
        &mut self,
        request: &Request,
        taking: &Taking,
        victims: &BTreeSet<HolderId>,
        leaving: &mut [Holding],
    ) -> Option<Preemption> {
        let place = self.fleet.place(taking);
        let victims: Vec<HolderId> = victims.iter().copied().collect();
        let nomination = Nomination {
            holder: request.holder,
            node: place.node,
            grants: place.grants.clone(),
            cpu_milli: place.cpu_milli,
            memory_bytes: place.memory_bytes,
            victims: victims.clone(),
            revocable: false,
        };
        let kept = self.fleet.kept_for(&nomination, leaving)?;
        self.fleet.take(&kept, None);
        self.keeping.remove(request.holder);
        self.keeping.taken(taking, None);
        self.accounts.add(request, &nominated_usage(request, &nomination, &self.fleet));
        self.nominations.insert(request.holder, nomination);
        Some(Preemption { holder: request.holder, place, victims })
    }

    /// A holder is told to leave. What it held counts for its queue no more: the queue must not lose more than was
    /// decided. Its project's quota is free only when it has left.
    pub(crate) fn tell_to_leave(&mut self, holding: &Holding) {
        if let Some(owner) = &holding.owner {
            self.accounts.stopped(owner.project);
            let usage = usage_of(holding, owner, &self.fleet);
            self.accounts.left_queue(owner.queue, usage.gpu_milli);
        }
        self.leaving.insert(holding.holder);
    }
}

fn cost(units: &[Unit], chosen: &[usize]) -> Cost {
    let chosen = || chosen.iter().map(|unit| &units[*unit]);
    Cost {
        from: chosen().map(|unit| unit.from).max().unwrap_or(Timestamp::MIN),
        highest_priority: chosen().map(|unit| unit.queue_priority).max().unwrap_or(i32::MIN),
        holders: chosen().map(|unit| unit.members.len()).sum(),
        lost: chosen().fold(0, |lost, unit| lost.saturating_add(unit.lost)),
    }
}
