//! Making decisions, one after the other, each on what the earlier ones left.

use crate::{
    accounts::{Accounts, nominated_usage, usage_of_ask},
    admission::{self, Reason, end_of},
    fleet::{Fleet, Taking},
    keeping::Keeping,
    order::{Order, Turn},
    plan::{Assignment, Code, Plan, Refusal},
    policy::Policy,
    search::{Search, Wish},
    shape::Shape,
    snapshot::{Holding, Nomination, Request, Snapshot},
    typical::Typical,
};
use domain::{
    device::DeviceModel,
    id::{GangId, HolderId},
};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// The fleet and its accounts between two decisions. Whoever decides about one request at a time keeps it: it remembers
/// what it found out about nodes that have not changed since.
#[derive(Debug, Clone)]
pub struct Planner {
    pub(crate) now: Timestamp,
    pub(crate) policy: Policy,
    pub(crate) fleet: Fleet,
    pub(crate) search: Search,
    pub(crate) keeping: Keeping,
    pub(crate) accounts: Accounts,
    /// Everything that is held, with what was decided about since.
    pub(crate) holdings: Vec<Holding>,
    /// Who was told to leave by a decision.
    pub(crate) leaving: BTreeSet<HolderId>,
    pub(crate) nominations: BTreeMap<HolderId, Nomination>,
    /// Where it looks ahead: whoever may be stopped for others by then counts as one who may be now.
    pub(crate) foreseen_until: Option<Timestamp>,
    problems: Vec<String>,
}

/// What was done for one request, so that it can be undone.
pub(crate) struct Done {
    pub(crate) taking: Taking,
    last_end: Option<Timestamp>,
    /// What it was nominated for before.
    nomination: Option<Nomination>,
    pub(crate) assignment: Assignment,
}

impl Planner {
    /// The state of a snapshot. Its waiting requests count for the typical set; nothing is decided about them.
    #[must_use]
    pub fn new(snapshot: &Snapshot, policy: &Policy) -> Self {
        let bare = Snapshot { holdings: Vec::new(), nominations: Vec::new(), ..shallow(snapshot) };
        let (empty, _) = Fleet::new(&bare);
        let typical = Typical::new(snapshot, policy, &empty);
        let (fleet, problems) = Fleet::new(snapshot);
        let mut holdings = snapshot.holdings.clone();
        holdings.sort_by_key(|holding| (holding.holder, holding.node));
        Self {
            now: snapshot.now,
            search: Search::new(typical, policy, &fleet),
            policy: policy.clone(),
            keeping: Keeping::default(),
            accounts: Accounts::new(snapshot, &fleet),
            fleet,
            holdings,
            leaving: BTreeSet::new(),
            nominations: snapshot.nominations.iter().map(|n| (n.holder, n.clone())).collect(),
            foreseen_until: None,
            problems,
        }
    }

    /// Decides about one request: it gets a place, which is taken, or the kind of reason why not. Nobody is stopped for
    /// it, and its gang is not looked at.
    ///
    /// # Errors
    /// Why it has to wait.
    pub fn decide(&mut self, request: &Request) -> Result<Assignment, Code> {
        self.place(request, None).map(|done| done.assignment).map_err(|reason| reason.code)
    }

    /// Decides about all of them.
    pub(crate) fn run<'a>(&mut self, requests: impl Iterator<Item = &'a Request>) -> Plan {
        let mut plan = Plan { problems: self.problems.clone(), ..Plan::default() };
        let mut order = Order::new(requests, self.now, &self.policy);
        while let Some(turn) = order.next(&self.accounts, self.now, &self.policy) {
            match turn {
                Turn::Single(request) => self.single(request, &mut plan),
                Turn::Gang(members) => self.gang(&members, &mut plan),
            }
        }
        plan.reservations = self.reservations();
        plan
    }

    fn single(&mut self, request: &Request, plan: &mut Plan) {
        let reason = match self.place(request, None) {
            Ok(done) => return plan.assignments.push(done.assignment),
            Err(reason) => reason,
        };
        // Nobody else is stopped for one whose place others took: the place is given up first.
        if reason.code.is_about_room() && !self.nominations.contains_key(&request.holder) {
            if let Some(preemption) = self.preempt(request) {
                return plan.preemptions.push(preemption);
            }
            self.reserve(request);
        }
        plan.refusals.push(refusal(request, reason));
    }

    /// Takes the best place that is free, or tells why there is none.
    pub(crate) fn place(&mut self, request: &Request, zone: Option<usize>) -> Result<Done, Reason> {
        if let Some(nomination) = self.nominations.get(&request.holder).cloned() {
            // Members of a gang keep the places that were made for all.
            if nomination.revocable
                && request.gang.is_none()
                && let Some(done) = self.place_elsewhere(request, &nomination)
            {
                return Ok(done);
            }
            return self.place_nominated(request, &nomination);
        }
        let permitted = self.admit(request)?;
        let taking = self.find(request, &permitted, zone).ok_or_else(|| self.why_no_room(request, &permitted, zone))?;
        Ok(self.take(request, taking))
    }

    /// The models that it may have, if nothing but room is missing.
    pub(crate) fn admit(&self, request: &Request) -> Result<Vec<DeviceModel>, Reason> {
        admission::check(request, &self.accounts, &self.fleet, self.now, &self.policy)
    }

    /// What it would take now.
    pub(crate) fn find(&mut self, request: &Request, permitted: &[DeviceModel], zone: Option<usize>) -> Option<Taking> {
        let nodes = self.allowed_nodes(request);
        let wish = Wish {
            holder: request.holder,
            ask: &request.ask,
            permitted,
            class: request.class.as_deref(),
            nodes: nodes.as_ref(),
            zone,
            now: self.now,
            ends_at: end_of(request, self.now).0,
        };
        self.search.find(&wish, &self.fleet, &self.keeping, &self.policy)
    }

    pub(crate) fn allowed_nodes(&self, request: &Request) -> Option<BTreeSet<usize>> {
        let nodes = request.nodes.as_ref()?;
        Some(nodes.iter().filter_map(|node| self.fleet.position(*node)).collect())
    }

    pub(crate) fn shape(&self, request: &Request, permitted: &[DeviceModel]) -> Shape {
        Shape::new(&request.ask, permitted, request.class.as_deref(), &self.fleet)
    }

    /// A place that is free already, for one whose victims need not leave yet; what was kept for it is given back.
    fn place_elsewhere(&mut self, request: &Request, nomination: &Nomination) -> Option<Done> {
        let usage = nominated_usage(request, nomination, &self.fleet);
        self.accounts.remove(request, &usage);
        let permitted = self.admit(request).ok();
        let Some(taking) = permitted.and_then(|permitted| self.find(request, &permitted, None)) else {
            self.accounts.add(request, &usage);
            return None;
        };
        let of = |holding: &&Holding| nomination.victims.contains(&holding.holder);
        let mut leaving: Vec<Holding> = self.holdings.iter().filter(of).cloned().collect();
        let kept = self.fleet.kept_for(nomination, &mut leaving);
        if let Some(kept) = kept.filter(|_| !self.fleet.ousted.contains(&request.holder)) {
            self.fleet.give(&kept);
        }
        self.nominations.remove(&request.holder);
        Some(self.take(request, taking))
    }

    /// Its nominated place, once those who made room have left and where nobody else took it. What it counts for was counted
    /// with the nomination.
    fn place_nominated(&mut self, request: &Request, nomination: &Nomination) -> Result<Done, Reason> {
        let usage = nominated_usage(request, nomination, &self.fleet);
        self.accounts.remove(request, &usage);
        let admitted = self.admit(request);
        let still = self.holdings.iter().filter(|h| nomination.victims.contains(&h.holder)).count();
        let is_there = !self.fleet.ousted.contains(&request.holder);
        let taking = self.fleet.kept_for(nomination, &mut []).filter(|_| still == 0 && is_there);
        // What takes nobody new at present (a pool that is told anew, say) is kept until it does.
        let is_open = taking.as_ref().is_none_or(|taking| self.fleet.is_open(taking));
        let taking = taking.filter(|_| is_open);
        if let (Ok(_), Some(taking)) = (&admitted, taking) {
            let nomination = self.nominations.remove(&request.holder);
            self.fleet.give(&taking);
            return Ok(Done { nomination, ..self.take(request, taking) });
        }
        self.accounts.add(request, &usage);
        admitted?;
        if !is_there {
            return Err(Reason::new(Code::NoCapacity, "the place that was kept for it is not there any more"));
        }
        let sentence = match is_open {
            true => format!("a place is kept, and {still} others are still leaving it"),
            false => "a place is kept, and takes nobody new at present".to_owned(),
        };
        Err(Reason::new(Code::WaitingForRelease, sentence))
    }

    /// Takes it, and counts it.
    pub(crate) fn take(&mut self, request: &Request, taking: Taking) -> Done {
        let (ends_at, stopped) = end_of(request, self.now);
        let last_end = self.fleet.states[taking.node].last_end;
        self.fleet.take(&taking, ends_at);
        self.keeping.remove(request.holder);
        self.keeping.taken(&taking, ends_at);
        self.accounts.add(request, &usage_of_ask(request, self.model_of(&taking).as_ref()));
        let place = self.fleet.place(&taking);
        let mut holding = Holding { ends_at, ..Holding::of(request, &place, self.now) };
        if let Some(owner) = &mut holding.owner {
            // Nobody is stopped in the plan that starts him.
            owner.protected_until = Some(Timestamp::MAX);
        }
        self.holdings.push(holding);
        let assignment = Assignment { holder: request.holder, place, stopped_at: ends_at.filter(|_| stopped) };
        Done { taking, last_end, nomination: None, assignment }
    }

    /// As if it had not been placed; a nomination is in force again.
    pub(crate) fn undo(&mut self, done: Done, request: &Request) {
        let model = self.model_of(&done.taking);
        self.accounts.remove(request, &usage_of_ask(request, model.as_ref()));
        self.fleet.give(&done.taking);
        self.fleet.states[done.taking.node].last_end = done.last_end;
        self.keeping.given_back(&done.taking, end_of(request, self.now).0, &self.fleet.empty[done.taking.node]);
        self.holdings.pop();
        if let Some(nomination) = done.nomination {
            self.accounts.add(request, &nominated_usage(request, &nomination, &self.fleet));
            self.fleet.take(&done.taking, None);
            self.nominations.insert(request.holder, nomination);
        }
    }

    fn model_of(&self, taking: &Taking) -> Option<DeviceModel> {
        let device = &self.fleet.empty[taking.node].devices[taking.parts.first()?.at];
        Some(self.fleet.models[self.fleet.kinds[device.kind].model].clone())
    }

    /// The members of a gang that hold something and were not told to leave.
    pub(crate) fn gang_members(&self, gang: GangId) -> impl Iterator<Item = usize> {
        let of_gang = move |h: &Holding| !h.releasing && h.owner.as_ref().is_some_and(|owner| owner.gang == Some(gang));
        self.holdings.iter().enumerate().filter(move |(_, h)| of_gang(h)).map(|(at, _)| at)
    }
}

/// A snapshot without its long lists, to change some of them.
fn shallow(snapshot: &Snapshot) -> Snapshot {
    Snapshot {
        now: snapshot.now,
        nodes: snapshot.nodes.clone(),
        holdings: Vec::new(),
        nominations: Vec::new(),
        requests: Vec::new(),
        queues: Vec::new(),
        projects: Vec::new(),
        quotas: Vec::new(),
        recent: Vec::new(),
    }
}

pub(crate) fn refusal(request: &Request, reason: Reason) -> Refusal {
    Refusal { holder: request.holder, code: reason.code, sentence: reason.sentence, hints: Vec::new() }
}
