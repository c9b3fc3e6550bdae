//! A restart keeps its place: what a life held is kept for the one that follows it, by a nomination for which nobody has to
//! leave, in the transaction that frees it. Refuses to give anything: who may start there is planned like everything else.

use super::{Placer, turn::Turn};
use domain::{
    device::Ask,
    runtime::life::{Event, Life, Notice},
};
use jiff::{SignedDuration, Timestamp};
use placement::Place;
use store::ledger::{Act, Placement, PlacementState, StoredLife};

/// The code of a place that a restart gave free.
const GIVEN_UP: &str = "PLACE_GIVEN_UP";

impl Placer {
    /// It ends to start again where it is. Where others were told to get its place before, it is not its own any more.
    pub(super) fn keeps_its_place(&self, life: &Life) -> bool {
        life.restarts() && !self.nominated().any(|nominated| nominated.victims.contains(&life.holder))
    }

    /// The earliest at which one that starts again may be told to leave: nobody is told while it ends.
    pub(super) fn undisturbed_when_back(&self, life: &Life) -> Timestamp {
        let rules = &self.parts.timing.rules;
        let ends = SignedDuration::from_secs(life.grace_s(rules).max(1).into());
        self.now().saturating_add(ends.saturating_add(rules.min_running)).unwrap_or(Timestamp::MAX)
    }

    /// What a life that has ended held goes on to the next one, or that says why not.
    pub(super) fn keep_for(&mut self, next: &mut StoredLife, ended: &Life, held: &Placement, turn: &mut Turn) {
        match self.kept(ended, held, next) {
            Ok(kept) => {
                next.life.advance(Event::Nominated, self.now(), &self.parts.timing.rules);
                "it keeps its place".clone_into(&mut next.life.notice.message);
                self.placements.insert(kept.holder, kept.clone());
                turn.kept.push(kept);
            }
            Err(why) => {
                let message = format!("its place is free for all: {why}");
                next.life.notice = Notice { code: GIVEN_UP.to_owned(), message, ..Notice::default() };
            }
        }
    }

    /// The place of a life that has ended, for the next one; or in words why that looks for one anew.
    fn kept(&self, ended: &Life, held: &Placement, next: &StoredLife) -> Result<Placement, &'static str> {
        let life = &next.life;
        let devices = || held.grants.iter().map(|grant| grant.device);
        let is_open = self.fleet.is_usable(held.node, devices())
            && !self.fleet.is_closed(held.node, devices(), &self.terms.drained);
        let models = self.permitted(&self.admitted(life).models);
        let may_have = held.grants.is_empty() || models.is_empty() || models.iter().any(|m| m.as_str() == held.model);
        let nodes = self.nodes_for(life, &self.mounted());
        let problem = if !self.keeps_its_place(ended) {
            "others come first there"
        } else if !is_same(&ended.spec.ask, &life.spec.ask) {
            "it asks for other devices by now"
        } else if life.queue != held.queue {
            "it is of another queue by now"
        } else if !is_open {
            "its node or a device of it takes nobody new"
        } else if nodes.is_some_and(|nodes| !nodes.contains(&held.node)) {
            "that node turned it away, or its volumes are elsewhere"
        } else if !may_have || self.forbidden(life).is_some() {
            "it may not have that any more"
        } else {
            let Ask { cpu_milli, memory_bytes, .. } = life.spec.ask;
            let place = Place { node: held.node, grants: held.grants.clone(), cpu_milli, memory_bytes };
            return Ok(self.placement(next, place, PlacementState::Nominated, Vec::new()));
        };
        Err(problem)
    }

    /// What writes that these places are kept: not where the same turn gave it already, or gave it up.
    pub(super) fn keep(&self, kept: Vec<Placement>, acts: &[Act]) -> Vec<Act> {
        let is_given = |placement: &Placement| {
            acts.iter().flat_map(|act| &act.placements).any(|given| given.holder == placement.holder)
        };
        let stands = |placement: &Placement| self.placements.contains_key(&placement.holder) && !is_given(placement);
        let act = |placement| Act {
            placements: vec![placement],
            lives: Vec::new(),
            events: Vec::new(),
            releasing: Vec::new(),
        };
        kept.into_iter().filter(stands).map(act).collect()
    }
}

/// Whether the same devices are asked for. What it asks of its node besides is the planner's to find there.
fn is_same(before: &Ask, now: &Ask) -> bool {
    *before == Ask { cpu_milli: before.cpu_milli, memory_bytes: before.memory_bytes, ..now.clone() }
}
