//! Requests that start all together or not at all: placed, given the places of others, and kept places for, as one.

use crate::{
    accounts::{Whose, usage_of, usage_of_ask},
    admission::{Reason, too_much_together},
    fleet::{NodeState, Taking},
    keeping::Kept,
    plan::{Code, Plan, Preemption},
    planner::{Done, Planner, refusal},
    room::opened,
    snapshot::{Holding, Request},
};
use domain::{id::HolderId, quota::Usage};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Zones in which others may be stopped for a gang that has to stay in one; the rest is not looked at.
const ZONES_TRIED_MAX: usize = 16;

/// Departures that are looked ahead to for a place for all.
const DEPARTURES_MAX: usize = 4_096;

impl Planner {
    /// All of them or none.
    pub(crate) fn gang(&mut self, members: &[&Request], plan: &mut Plan) {
        if let Some(reason) = self.is_short(members) {
            plan.refusals.extend(members.iter().map(|member| refusal(member, reason.clone())));
            return;
        }
        let zones = self.zones_of(members);
        let (culprit, reason) = match self.place_all_in(members, &zones) {
            Ok(done) => return plan.assignments.extend(done.into_iter().map(|done| done.assignment)),
            Err(found) => found,
        };
        if (reason.code.is_about_room() || matches!(reason.code, Code::QueueLimit | Code::QuotaExceeded))
            && let Some(reason) = self.too_much_together(members)
        {
            plan.refusals.extend(members.iter().map(|member| refusal(member, reason.clone())));
            return;
        }
        if reason.code.is_about_room() {
            if let Some(most) = self.most_together(members, &zones) {
                let (all, sentence) = (members.len(), "that wait have room at once, even when nobody else is there");
                let reason = Reason::new(Code::NeverFits, format!("at most {most} of the {all} members {sentence}"));
                plan.refusals.extend(members.iter().map(|member| refusal(member, reason.clone())));
                return;
            }
            if let Some(preemptions) = self.preempt_for_all(members, &zones) {
                return plan.preemptions.extend(preemptions);
            }
            self.reserve_for_all(members, &zones);
        }
        let others = Reason::new(
            if reason.code == Code::WaitingForRelease { Code::WaitingForRelease } else { Code::GangIncomplete },
            format!("another member of the gang has no place: {}", reason.sentence),
        );
        for member in members {
            let own = if member.holder == culprit { reason.clone() } else { others.clone() };
            plan.refusals.push(refusal(member, own));
        }
    }

    /// Keeps places for all, if they have to wait; what a plan does for those who waited before others. `false`: they start.
    pub(crate) fn reserve_if_waiting(&mut self, members: &[&Request]) -> bool {
        let nominated = members.iter().any(|member| self.nominations.contains_key(&member.holder));
        if nominated || self.is_short(members).is_some() {
            return true;
        }
        let zones = self.zones_of(members);
        if let Ok(done) = self.place_all_in(members, &zones) {
            self.undo_all(done, members);
            return false;
        }
        self.reserve_for_all(members, &zones);
        true
    }

    /// Whether others may be stopped for all of them.
    pub(crate) fn could_make_room(&self, members: &[&Request]) -> bool {
        self.is_short(members).is_none()
            && self.zones_of(members).iter().take(ZONES_TRIED_MAX).any(|zone| self.make_room(members, *zone).is_some())
    }

    /// Why nothing of it may start yet: not all members wait or run.
    fn is_short(&self, members: &[&Request]) -> Option<Reason> {
        let gang = members.first()?.gang.as_ref()?;
        let running: BTreeSet<HolderId> = self.gang_members(gang.id).map(|at| self.holdings[at].holder).collect();
        let there = members.len() + running.len();
        let sentence = || {
            let missing =
                "nothing starts before all do; to go on without those that were stopped, stop these and start anew";
            format!("{there} of {} members wait or run: {missing}", gang.size)
        };
        (there < gang.size as usize).then(|| Reason::new(Code::GangIncomplete, sentence()))
    }

    /// Why all of them, with those that run, are more than their queues and quotas may ever hold.
    fn too_much_together(&self, members: &[&Request]) -> Option<Reason> {
        let gang = members.first()?.gang.as_ref()?;
        let wants = |member: &&Request| {
            // Which of several models it gets is not known before.
            let model = Some(&member.ask.models).filter(|models| models.len() == 1).and_then(|models| models.first());
            (Whose::from(*member), usage_of_ask(member, model))
        };
        let holds = |at: usize| {
            let holding = &self.holdings[at];
            let owner = holding.owner.as_ref()?;
            Some((Whose::from(owner), usage_of(holding, owner, &self.fleet)))
        };
        let running = self.gang_members(gang.id).filter_map(holds);
        let all: Vec<(Whose, Usage)> = members.iter().map(wants).chain(running).collect();
        too_much_together(&all, &self.accounts)
    }

    /// How many of them get a place when nobody else is there and nothing is drained; `None` where all do, or where it is
    /// not room that they lack.
    fn most_together(&self, members: &[&Request], zones: &[Option<usize>]) -> Option<usize> {
        if self.fleet.states.is_empty() || zones.len() > ZONES_TRIED_MAX {
            return None;
        }
        let mut alone = self.clone();
        alone.keeping = crate::keeping::Keeping::default();
        alone.nominations.clear();
        for (state, empty) in alone.fleet.states.iter_mut().zip(&self.fleet.empty) {
            // What is remembered of a node counts for its version.
            *state = NodeState { version: state.version + 1, ..opened(empty) };
        }
        let mut most = 0;
        for zone in zones {
            let (mut copy, mut placed) = (alone.clone(), 0);
            for member in members {
                match copy.place(member, *zone) {
                    Ok(_) => placed += 1,
                    Err(reason) if reason.code.is_about_room() || reason.code == Code::NeverFits => break,
                    Err(_) => return None,
                }
            }
            if placed == members.len() {
                return None;
            }
            most = most.max(placed);
        }
        Some(most)
    }

    /// The zones to try one after the other; where members run already, theirs.
    fn zones_of(&self, members: &[&Request]) -> Vec<Option<usize>> {
        let Some(gang) = members.first().and_then(|member| member.gang.as_ref()).filter(|gang| gang.one_zone) else {
            return vec![None];
        };
        let mut running = self.gang_members(gang.id).filter_map(|at| self.fleet.position(self.holdings[at].node));
        match running.next() {
            Some(node) => vec![Some(self.fleet.infos[node].zone)],
            None => (0..self.fleet.zones).map(Some).collect(),
        }
    }

    /// Places all in the first zone that has room; else the member that had none, and why.
    fn place_all_in(&mut self, members: &[&Request], zones: &[Option<usize>]) -> Result<Vec<Done>, (HolderId, Reason)> {
        let mut reason = None;
        for zone in zones {
            match self.place_all(members, *zone) {
                Ok(done) => return Ok(done),
                Err(found) => reason = reason.or(Some(found)),
            }
        }
        let nowhere = || (members[0].holder, Reason::new(Code::NoCapacity, "there are no nodes"));
        Err(reason.unwrap_or_else(nowhere))
    }

    fn place_all(&mut self, members: &[&Request], zone: Option<usize>) -> Result<Vec<Done>, (HolderId, Reason)> {
        let mut done: Vec<Done> = Vec::with_capacity(members.len());
        for member in members {
            match self.place(member, zone) {
                Ok(placed) => done.push(placed),
                Err(reason) => {
                    self.undo_all(done, members);
                    return Err((member.holder, reason));
                }
            }
        }
        Ok(done)
    }

    fn undo_all(&mut self, done: Vec<Done>, members: &[&Request]) {
        let placed: Vec<(Done, &&Request)> = done.into_iter().zip(members).collect();
        for (placed, member) in placed.into_iter().rev() {
            self.undo(placed, member);
        }
    }

    /// Nominates places for all, and those who have to leave for them: in the zone where fewest have to.
    fn preempt_for_all(&mut self, members: &[&Request], zones: &[Option<usize>]) -> Option<Vec<Preemption>> {
        if members.iter().any(|member| self.nominations.contains_key(&member.holder)) {
            return None;
        }
        let tries = zones.iter().take(ZONES_TRIED_MAX).filter_map(|zone| self.make_room(members, *zone));
        let (takings, victims) = tries.min_by_key(|(_, victims)| victims.len())?;
        let left = |holding: &&Holding| victims.contains(&holding.holder);
        let mut leaving: Vec<Holding> = self.holdings.iter().filter(left).cloned().collect();
        let told = leaving.clone();
        let all = members.iter().zip(&takings);
        let preemptions = all
            .map(|(member, taking)| self.keep_place(member, taking, &victims, &mut leaving))
            .collect::<Option<Vec<_>>>()?;
        told.iter().for_each(|holding| self.tell_to_leave(holding));
        Some(preemptions)
    }

    /// On a copy: each member in turn takes what is free, or what the least costly victims would leave, with what the
    /// victims of the members before leave over.
    fn make_room(&self, members: &[&Request], zone: Option<usize>) -> Option<(Vec<Taking>, BTreeSet<HolderId>)> {
        let mut copy = self.clone();
        let mut takings = Vec::with_capacity(members.len());
        for member in members {
            let done = match copy.place(member, zone) {
                Ok(done) => done,
                Err(reason) if reason.code.is_about_room() => {
                    for at in copy.least_costly(member, zone)?.victims {
                        let victim = copy.holdings[at].clone();
                        let taking = copy.fleet.taking_of(&victim)?;
                        copy.fleet.give(&taking);
                        copy.tell_to_leave(&victim);
                    }
                    copy.place(member, zone).ok()?
                }
                Err(_) => return None,
            };
            takings.push(done.taking);
        }
        Some((takings, copy.leaving.difference(&self.leaving).copied().collect()))
    }

    /// Keeps the places that are free first for all of them together, if all waited long enough.
    fn reserve_for_all(&mut self, members: &[&Request], zones: &[Option<usize>]) {
        let waited_enough = members.iter().all(|member| self.waited_s(member) >= self.policy.reserve_after_s);
        let admitted = members.iter().all(|member| self.admit(member).is_ok());
        if !waited_enough || !admitted || self.keeping.len() >= self.policy.reservations_max {
            return;
        }
        let departures = self.departures();
        let Some((free_at, then, done)) = self.when_all_fit(members, zones, &departures) else { return };
        let mut by_node: BTreeMap<usize, Vec<(HolderId, Taking)>> = BTreeMap::new();
        for (member, done) in members.iter().zip(done) {
            by_node.entry(done.taking.node).or_default().push((member.holder, done.taking));
        }
        for (node, takings) in by_node {
            self.keeping.add(Kept { takings, free_at, left_then: then.fleet.states[node].clone() });
        }
    }

    /// Those who will leave, in the order in which they do: unknown ends come last, the smallest first; strangers without
    /// an end never leave.
    fn departures(&self) -> Vec<(Option<Timestamp>, Taking)> {
        let leaves = |holding: &&Holding| holding.owner.is_some() || self.end(holding).is_some();
        let mut leaving: Vec<&Holding> = self.holdings.iter().filter(leaves).collect();
        leaving.sort_by_key(|holding| {
            let milli: u64 = holding.grants.iter().map(|grant| u64::from(grant.milli)).sum();
            let end = self.end(holding);
            (end.is_none(), end, milli, holding.holder)
        });
        leaving.truncate(DEPARTURES_MAX);
        let departure = |holding: &Holding| Some((self.end(holding), self.fleet.taking_of(holding)?));
        leaving.into_iter().filter_map(departure).collect()
    }

    /// The fewest departures after which all fit, by bisection; with the state that they find then. Nodes on which others
    /// have reservations are left alone: each reservation has to be true on its own.
    fn when_all_fit(
        &self,
        members: &[&Request],
        zones: &[Option<usize>],
        departures: &[(Option<Timestamp>, Taking)],
    ) -> Option<(Option<Timestamp>, Self, Vec<Done>)> {
        let mut now = self.clone();
        now.keeping = crate::keeping::Keeping::default();
        for (at, state) in now.fleet.states.iter_mut().enumerate() {
            if self.keeping.concerns(at) {
                state.open = false;
                state.version += 1;
            }
        }
        let after = |count: usize| {
            let mut then = now.clone();
            departures[..count].iter().for_each(|(_, taking)| then.fleet.give(taking));
            let done = then.place_all_in(members, zones).ok()?;
            Some((departures[..count].last().map_or(Some(self.now), |(end, _)| *end), then, done))
        };
        let (mut low, mut high) = (0, departures.len());
        let mut found = after(high)?;
        while low < high {
            let middle = low.midpoint(high);
            match after(middle) {
                Some(sooner) => (found, high) = (sooner, middle),
                None => low = middle + 1,
            }
        }
        Some(found)
    }

    /// How long somebody has waited, seconds.
    pub(crate) fn waited_s(&self, request: &Request) -> u64 {
        u64::try_from(self.now.as_second() - request.submitted_at.as_second()).unwrap_or_default()
    }
}
