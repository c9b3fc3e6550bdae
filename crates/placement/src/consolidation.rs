//! Who could move so that whole devices become free. Refuses to move anybody: whoever works there is asked first.

use crate::{
    fleet::{NodeState, Part, Taking},
    plan::Move,
    planner::Planner,
    snapshot::Holding,
};
use domain::device::{Sharing, WHOLE_MILLI};
use std::collections::{BTreeMap, BTreeSet};

/// A device, by the positions of its node and of itself.
type Spot = (usize, usize);

impl Planner {
    /// Moves after which devices are free of which parts are held now: the emptiest first, each onto a device of the same
    /// kind of which a part is held already, the fullest that has room. A device is emptied whole or not at all.
    pub(crate) fn moves(&self) -> Vec<Move> {
        let mut copy = self.clone();
        let (mut moves, mut emptied, mut filled) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        for (spot, holders) in self.movable() {
            if filled.contains(&spot) || moves.len() + holders.len() > self.policy.moves_max {
                continue;
            }
            emptied.insert(spot);
            let Some(places) = copy.empty_device(&holders, &emptied) else {
                emptied.remove(&spot);
                continue;
            };
            for (holding, taking) in holders.iter().zip(places) {
                filled.extend(taking.parts.iter().map(|part| (taking.node, part.at)));
                let device = self.fleet.infos[spot.0].devices[spot.1];
                moves.push(Move { holder: holding.holder, node: holding.node, device, to: copy.fleet.place(&taking) });
            }
        }
        moves
    }

    /// Devices of which a part is held, by holders that may all be asked to move, the emptiest first.
    fn movable(&self) -> Vec<(Spot, Vec<&Holding>)> {
        let mut holders: BTreeMap<Spot, Vec<&Holding>> = BTreeMap::new();
        for holding in &self.holdings {
            let Some(node) = self.fleet.position(holding.node) else { continue };
            for grant in &holding.grants {
                let at = self.fleet.infos[node].devices.iter().position(|device| *device == grant.device);
                if let Some(at) = at {
                    holders.entry((node, at)).or_default().push(holding);
                }
            }
        }
        let mut movable: Vec<(u32, Spot, Vec<&Holding>)> = holders
            .into_iter()
            .map(|(spot, holders)| (WHOLE_MILLI - self.fleet.states[spot.0].devices[spot.1].free_milli, spot, holders))
            .filter(|(held, spot, holders)| self.is_divided(*spot) && self.may_all_move(*held, holders))
            .collect();
        movable.sort_by_key(|(held, spot, _)| (*held, *spot));
        movable.into_iter().map(|(_, spot, holders)| (spot, holders)).collect()
    }

    /// Whether it is shared by any amount, and a part of it is held and another one is free.
    fn is_divided(&self, (node, at): Spot) -> bool {
        let device = &self.fleet.states[node].devices[at];
        let shared = matches!(self.fleet.kinds[device.kind].sharing, Sharing::Shared { .. });
        shared && device.open && (1..WHOLE_MILLI).contains(&device.free_milli)
    }

    /// Whether these are all who hold something of the device, and each of them holds nothing else, is ours, goes nowhere
    /// already, and did not ask to be left alone.
    fn may_all_move(&self, held_milli: u32, holders: &[&Holding]) -> bool {
        let known: u32 = holders.iter().flat_map(|holding| &holding.grants).map(|grant| grant.milli).sum();
        known == held_milli
            && holders.iter().all(|holding| {
                let gone = holding.releasing || self.leaving.contains(&holding.holder);
                let free = |until: Option<jiff::Timestamp>| until.is_none_or(|until| until <= self.now);
                let owner = holding.owner.as_ref();
                holding.grants.len() == 1
                    && !gone
                    && owner.is_some_and(|owner| owner.gang.is_none() && free(owner.protected_until))
            })
    }

    /// Takes a place elsewhere for each, or changes nothing.
    fn empty_device(&mut self, holders: &[&Holding], emptied: &BTreeSet<Spot>) -> Option<Vec<Taking>> {
        let before = self.fleet.clone();
        let mut places = Vec::with_capacity(holders.len());
        for holding in holders {
            let place = self.fleet.taking_of(holding).and_then(|old| {
                self.fleet.give(&old);
                self.other_place(&old, emptied)
            });
            let Some(place) = place else {
                self.fleet = before;
                return None;
            };
            self.fleet.take(&place, holding.ends_at);
            places.push(place);
        }
        Some(places)
    }

    /// The fullest divided device of the same kind that has room for what is taken of one now, on a node that has room, too.
    fn other_place(&self, old: &Taking, emptied: &BTreeSet<Spot>) -> Option<Taking> {
        let part = *old.parts.first()?;
        let kind = self.fleet.states[old.node].devices[part.at].kind;
        let has_room = |state: &NodeState| {
            state.open && state.cpu_milli >= old.cpu_milli && state.memory_bytes >= old.memory_bytes
        };
        let spots = self.fleet.states.iter().enumerate().filter(|(_, state)| has_room(state));
        let spots = spots.flat_map(|(node, state)| (0..state.devices.len()).map(move |at| (node, at)));
        let fits = |spot: &Spot| {
            let device = &self.fleet.states[spot.0].devices[spot.1];
            let room = device.free_milli >= part.milli && device.free_memory >= part.memory_bytes;
            device.kind == kind && room && self.is_divided(*spot) && !emptied.contains(spot)
        };
        let fullest = |spot: &Spot| (self.fleet.states[spot.0].devices[spot.1].free_milli, *spot);
        let (node, at) = spots.filter(fits).min_by_key(fullest)?;
        Some(Taking { node, parts: vec![Part { at, ..part }], ..old.clone() })
    }
}
