//! A cluster in logical time: people come, hold, are stopped for others and leave, and every decision is the planner's.
//!
//! Time jumps from one event to the next. Refuses to draw anything: who comes when, and for how long, is told.

use crate::{Assignment, Holding, Nomination, Plan, Policy, Preemption, Request, Snapshot, plan};
use domain::id::HolderId;
use jiff::{SignedDuration, Timestamp};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
};

/// Somebody who comes when the request says that it was submitted.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrival {
    /// What. Without `runtime_s` the planner does not know when it ends.
    pub request: Request,
    /// How long it runs once it has started, seconds. Whoever is stopped for others begins anew.
    pub lasts_s: u64,
}

/// What passes between a decision and what becomes of it, seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pauses {
    /// Least time between two plans.
    pub plan_s: u64,
    /// From the word to leave until the devices are free.
    pub grace_s: u64,
}

/// What became of somebody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fate {
    /// From coming to the first start, seconds; `None` while it did not start.
    pub waited_s: Option<u64>,
    /// How often it was stopped for somebody else.
    pub stopped: u32,
    /// It ran to its end.
    pub finished: bool,
}

/// See the module's page.
#[derive(Debug, Clone)]
pub struct Simulation {
    snapshot: Snapshot,
    policy: Policy,
    pauses: Pauses,
    /// Who still comes, the first one first.
    coming: VecDeque<Arrival>,
    /// Who has come, and is not finished.
    here: BTreeMap<HolderId, Arrival>,
    /// Who leaves when. Of several entries of one holder, the one counts that `leaves_at` has.
    leaving: BinaryHeap<Reverse<(Timestamp, HolderId)>>,
    leaves_at: BTreeMap<HolderId, Timestamp>,
    /// Who leaves to wait again.
    stopped: BTreeSet<HolderId>,
    fates: BTreeMap<HolderId, Fate>,
    /// Something happened that no plan has seen.
    unseen: bool,
    plan_from: Timestamp,
}

impl Simulation {
    /// A cluster as the snapshot is, whose requests wait for ever or until there is room; its own holders stay until their
    /// `ends_at`, for ever without one.
    #[must_use]
    pub fn new(snapshot: Snapshot, mut arrivals: Vec<Arrival>, policy: &Policy, pauses: Pauses) -> Self {
        arrivals.sort_by_key(|arrival| (arrival.request.submitted_at, arrival.request.holder));
        let mut simulation = Self {
            plan_from: snapshot.now,
            // Nobody reads what would help.
            policy: Policy { explained_max: 0, moves_max: 0, ..policy.clone() },
            pauses,
            coming: arrivals.into(),
            here: BTreeMap::new(),
            leaving: BinaryHeap::new(),
            leaves_at: BTreeMap::new(),
            stopped: BTreeSet::new(),
            fates: BTreeMap::new(),
            unseen: !snapshot.requests.is_empty(),
            snapshot,
        };
        let ends: Vec<_> = simulation
            .snapshot
            .holdings
            .iter()
            .filter_map(|holding| Some((holding.holder, holding.ends_at?)))
            .collect();
        ends.into_iter().for_each(|(holder, at)| simulation.leave(holder, at));
        simulation
    }

    /// Goes on to the next event, and answers what was planned there, if anything was; `None` when nothing happens any more.
    /// Time alone is no event: who could start merely because a window opens starts with the next one.
    pub fn step(&mut self) -> Option<Plan> {
        self.snapshot.now = self.next()?.max(self.snapshot.now);
        self.let_go();
        self.let_in();
        if !self.unseen || self.snapshot.now < self.plan_from || self.snapshot.requests.is_empty() {
            self.unseen &= !self.snapshot.requests.is_empty();
            return Some(Plan::default());
        }
        self.unseen = false;
        self.plan_from = seconds_after(self.snapshot.now, self.pauses.plan_s);
        let plan = plan(&self.snapshot, &self.policy);
        plan.assignments.iter().for_each(|assignment| self.start(assignment));
        plan.preemptions.iter().for_each(|preemption| self.nominate(preemption));
        Some(plan)
    }

    /// The cluster as it is now: who holds what, and who waits.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// What became of everybody who has come.
    #[must_use]
    pub fn fates(&self) -> &BTreeMap<HolderId, Fate> {
        &self.fates
    }

    fn next(&self) -> Option<Timestamp> {
        let comes = self.coming.front().map(|arrival| arrival.request.submitted_at);
        let leaves = self.leaving.peek().map(|Reverse((at, _))| *at);
        let plans = self.unseen.then_some(self.plan_from);
        [comes, leaves, plans].into_iter().flatten().min()
    }

    fn leave(&mut self, holder: HolderId, at: Timestamp) {
        self.leaves_at.insert(holder, at);
        self.leaving.push(Reverse((at, holder)));
    }

    /// Everybody whose time has come leaves; who was stopped waits again.
    fn let_go(&mut self) {
        let mut gone = BTreeSet::new();
        while let Some(Reverse((at, holder))) =
            self.leaving.peek().copied().filter(|next| next.0.0 <= self.snapshot.now)
        {
            self.leaving.pop();
            if self.leaves_at.get(&holder) == Some(&at) {
                self.leaves_at.remove(&holder);
                gone.insert(holder);
            }
        }
        if gone.is_empty() {
            return;
        }
        self.unseen = true;
        let (left, stay) = std::mem::take(&mut self.snapshot.holdings)
            .into_iter()
            .partition::<Vec<Holding>, _>(|holding| gone.contains(&holding.holder));
        self.snapshot.holdings = stay;
        for holding in left {
            let stopped = self.stopped.remove(&holding.holder);
            match self.here.get(&holding.holder) {
                Some(arrival) if stopped => self.snapshot.requests.push(arrival.request.clone()),
                Some(_) => {
                    self.here.remove(&holding.holder);
                    self.fates.entry(holding.holder).or_default().finished = true;
                }
                None => {}
            }
        }
    }

    fn let_in(&mut self) {
        while self.coming.front().is_some_and(|arrival| arrival.request.submitted_at <= self.snapshot.now) {
            let Some(arrival) = self.coming.pop_front() else { return };
            self.fates.insert(arrival.request.holder, Fate::default());
            self.snapshot.requests.push(arrival.request.clone());
            self.here.insert(arrival.request.holder, arrival);
            self.unseen = true;
        }
    }

    fn start(&mut self, assignment: &Assignment) {
        let Some(at) = self.snapshot.requests.iter().position(|request| request.holder == assignment.holder) else {
            return;
        };
        let request = self.snapshot.requests.remove(at);
        self.snapshot.nominations.retain(|nomination| nomination.holder != request.holder);
        let now = self.snapshot.now;
        if let Some(fate) = self.fates.get_mut(&request.holder) {
            let waited = now.as_second() - request.submitted_at.as_second();
            fate.waited_s.get_or_insert(u64::try_from(waited).unwrap_or(0));
        }
        let known = request.runtime_s.map(|seconds| seconds_after(now, seconds));
        let lasts_s = self.here.get(&request.holder).map(|arrival| arrival.lasts_s);
        let ends = lasts_s.map(|seconds| seconds_after(now, seconds)).into_iter().chain(assignment.stopped_at).min();
        if let Some(at) = ends {
            self.leave(request.holder, at);
        }
        let ends_at = known.into_iter().chain(assignment.stopped_at).min();
        self.snapshot.holdings.push(Holding { ends_at, ..Holding::of(&request, &assignment.place, now) });
    }

    /// The place is kept, and who is in the way is told.
    fn nominate(&mut self, preemption: &Preemption) {
        self.snapshot.nominations.push(Nomination {
            holder: preemption.holder,
            node: preemption.place.node,
            grants: preemption.place.grants.clone(),
            cpu_milli: preemption.place.cpu_milli,
            memory_bytes: preemption.place.memory_bytes,
            victims: preemption.victims.clone(),
            revocable: false,
        });
        let at = seconds_after(self.snapshot.now, self.pauses.grace_s);
        for victim in &preemption.victims {
            let holding = self.snapshot.holdings.iter_mut().find(|holding| holding.holder == *victim);
            let Some(holding) = holding.filter(|holding| !holding.releasing) else { continue };
            holding.releasing = true;
            // Who ends by itself until then has finished.
            if self.leaves_at.get(victim).is_none_or(|ends| *ends > at) {
                self.stopped.insert(*victim);
                self.fates.entry(*victim).or_default().stopped += 1;
                self.leave(*victim, at);
            }
        }
    }
}

/// The end of time at the latest.
fn seconds_after(at: Timestamp, seconds: u64) -> Timestamp {
    let seconds = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    at.saturating_add(seconds).unwrap_or(Timestamp::MAX)
}
