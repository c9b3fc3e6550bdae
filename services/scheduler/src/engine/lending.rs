//! Lending: executors that are connected here run units of other schedulers too, and units of this one run on executors
//! that are connected elsewhere.
//!
//! A scheduler with ready units and no free slots says so to every gateway (*demand*). A gateway lends slots of its
//! executors: fair shares while several want them, all that is free otherwise, for each backend by itself. A borrower
//! uses a slot again and again, and returns it when it has nothing to do or the gateway asks. Both sides count; when they
//! lose each other, the gateway keeps the slots that were in use until the new owners of those attempts claim them.
//!
//! Refuses to know streams. With one scheduler it does nothing.

use super::{Engine, PeerEvent, Units, seat::Seat};
use domain::{
    executor_type::Backend,
    id::{ExecutorId, SchedulerId},
};
use proto::internal::v1 as pb;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// Units that one wish counts for each backend; more are asked for when these are placed.
const DEMAND_MAX: usize = 4_096;
/// Executors that one wish names.
const HOMES_MAX: usize = 64;
/// Between two changes of a wish, unless it is the first or the last.
const DEMAND_PAUSE: Duration = Duration::from_millis(20);
/// Slots that were not used for this long go back to their gateway.
const IDLE_LOOK: Duration = Duration::from_millis(250);

/// What others want, and what was said to them.
#[derive(Default)]
pub(super) struct Lending {
    wishes: BTreeMap<SchedulerId, Wish>,
    said: Option<(Units, Instant)>,
    looked: Option<Instant>,
}

/// What one peer could use.
struct Wish {
    units: Units,
    homes: Vec<ExecutorId>,
}

impl Engine {
    pub(super) fn peer(&mut self, peer: SchedulerId, event: PeerEvent) {
        match event {
            PeerEvent::Demand(units, _) if units.is_none() => drop(self.lending.wishes.remove(&peer)),
            PeerEvent::Demand(units, homes) => drop(self.lending.wishes.insert(peer, Wish { units, homes })),
            PeerEvent::Returned(executor, count) => {
                if let Some(seat) = self.seats.get_mut(&executor) {
                    seat.returned(peer, count);
                }
            }
            PeerEvent::Claimed(executor, count) => {
                if let Some(seat) = self.seats.get_mut(&executor).filter(|seat| seat.is_local()) {
                    seat.claimed(peer, count);
                }
            }
            PeerEvent::PermitsFreed => self.permits.ledger.stir(|_| true),
            PeerEvent::Down => {
                self.lending.wishes.remove(&peer);
                for seat in self.seats.values_mut() {
                    seat.abandoned(peer, self.timing.lost_after);
                }
            }
        }
    }

    /// Before units of this scheduler are leased: peers that have less than their share get it, from what is free, and
    /// what is missing is asked back from those that have more.
    pub(super) fn lend_shares(&mut self) {
        if self.lending.wishes.is_empty() && self.ready.is_empty() {
            return;
        }
        for backend in Backend::ALL {
            self.lend_shares_of(backend);
        }
    }

    fn lend_shares_of(&mut self, backend: Backend) {
        let seats = || self.seats.values().filter(move |seat| seat.backend() == backend);
        let mut takers: BTreeSet<SchedulerId> = seats().flat_map(Seat::borrowers).collect();
        let wishes = self.lending.wishes.iter().filter(|(_, wish)| wish.units.on(backend) > 0);
        takers.extend(wishes.map(|(peer, _)| *peer));
        if takers.is_empty() {
            return;
        }
        let (mut total, mut own, mut free) = (0_u32, 0_u32, 0_u32);
        for seat in seats().filter(|seat| seat.is_local()) {
            total += seat.slots();
            own += seat.busy();
            free += seat.credits();
        }
        let wants_own = self.is_ready_on(backend);
        let parts = u32::try_from(takers.len()).unwrap_or(u32::MAX).saturating_add(u32::from(wants_own));
        let share = (total / parts).max(1);
        let mut missing = 0;
        for (peer, units) in self.wished(backend) {
            let due = share.saturating_sub(self.lent_to(peer, backend)).min(units);
            let lent = self.lend(peer, backend, due);
            free = free.saturating_sub(lent);
            missing += due - lent;
        }
        if wants_own {
            missing += share.saturating_sub(own.saturating_add(free));
        }
        if missing > 0 {
            self.recall(backend, &takers, missing, share);
        }
    }

    /// After units of this scheduler were leased: what is still free goes to whoever wants it.
    pub(super) fn lend_rest(&mut self) {
        for backend in Backend::ALL {
            for (peer, units) in self.wished(backend) {
                self.lend(peer, backend, units);
            }
        }
    }

    /// Tells the gateways what could start if there were slots, and returns what is not needed.
    pub(super) fn settle_borrowing(&mut self) {
        if !self.peers.has_gateways() {
            self.lending.said = None;
            return;
        }
        self.say_demand();
        let look = self.lending.looked.is_none_or(|at| at.elapsed() >= IDLE_LOOK);
        if look {
            self.lending.looked = Some(Instant::now());
        }
        for backend in Backend::ALL {
            let idle_too = look && !self.is_ready_on(backend);
            let borrowed = |seat: &Seat| !seat.is_local() && seat.backend() == backend;
            for (executor, seat) in self.seats.iter_mut().filter(|(_, seat)| borrowed(seat)) {
                seat.give_back_free(*executor, idle_too);
            }
        }
    }

    /// Something is ready that needs this backend.
    fn is_ready_on(&self, backend: Backend) -> bool {
        self.ready.iter().filter_map(|run| self.runs.get(run)).any(|live| live.ready_units_on(backend, 1) > 0)
    }

    fn say_demand(&mut self) {
        let (before, at) = self.lending.said.map_or((Units::default(), None), |(before, at)| (before, Some(at)));
        // A wish that lasts is repeated: a gateway counts down what it has lent.
        let is_due = at.is_none_or(|at| at.elapsed() >= DEMAND_PAUSE);
        if !is_due && self.ready.is_empty() == before.is_none() {
            return;
        }
        let mut units = Units::default();
        let mut homes = BTreeSet::new();
        for live in self.ready.iter().filter_map(|run| self.runs.get(run)) {
            for backend in Backend::ALL {
                let room = DEMAND_MAX.saturating_sub(units.on(backend) as usize);
                *units.on_mut(backend) += u32::try_from(live.ready_units_on(backend, room)).unwrap_or(0);
            }
            if homes.len() < HOMES_MAX {
                homes.extend(live.run.home());
            }
            if Backend::ALL.iter().all(|backend| units.on(*backend) as usize >= DEMAND_MAX) {
                break;
            }
        }
        if units.is_none() && before.is_none() {
            return;
        }
        self.lending.said = Some((units, Instant::now()));
        let count = |units: u32| i32::try_from(units).unwrap_or(i32::MAX);
        self.peers.tell_gateways(&pb::link_response::Message::Demand(pb::Demand {
            units: count(units.process),
            home_ids: homes.into_iter().map(ExecutorId::to_vec).collect(),
            kubernetes_units: count(units.kubernetes),
        }));
    }

    /// Peers with wishes, those that have least first.
    fn wished(&self, backend: Backend) -> Vec<(SchedulerId, u32)> {
        let wishes = self.lending.wishes.iter().map(|(peer, wish)| (*peer, wish.units.on(backend)));
        let mut wished: Vec<_> = wishes.filter(|(_, units)| *units > 0).collect();
        wished.sort_by_key(|(peer, _)| self.lent_to(*peer, backend));
        wished
    }

    fn lent_to(&self, peer: SchedulerId, backend: Backend) -> u32 {
        self.seats.values().filter(|seat| seat.backend() == backend).map(|seat| seat.lent_to(peer)).sum()
    }

    /// Lends up to `count` free slots; answers how many.
    fn lend(&mut self, peer: SchedulerId, backend: Backend, count: u32) -> u32 {
        let Some(wish) = self.lending.wishes.get_mut(&peer) else { return 0 };
        let wanted = count.min(wish.units.on(backend));
        let mut rest = wanted;
        let homes = std::mem::take(&mut wish.homes);
        let others: Vec<ExecutorId> = self.seats.keys().filter(|id| !homes.contains(id)).copied().collect();
        for executor in homes.iter().copied().chain(others) {
            if rest == 0 {
                break;
            }
            let Some(seat) = self.seats.get_mut(&executor) else { continue };
            if !seat.is_local() || seat.backend() != backend {
                continue;
            }
            let lent = seat.credits().min(rest);
            if lent == 0 {
                continue;
            }
            seat.lend(peer, lent);
            rest -= lent;
            self.peers.tell(peer, pb::link_request::Message::Lent(wire(executor, lent)));
        }
        let lent = wanted - rest;
        wish.homes = homes;
        *wish.units.on_mut(backend) -= lent;
        if wish.units.is_none() {
            self.lending.wishes.remove(&peer);
        }
        lent
    }

    /// Asks peers that have more than `share` for `missing` slots of it.
    fn recall(&mut self, backend: Backend, borrowers: &BTreeSet<SchedulerId>, mut missing: u32, share: u32) {
        for &peer in borrowers {
            let seats = self.seats.values().filter(|seat| seat.backend() == backend);
            let kept: u32 = seats.map(|seat| seat.kept_by(peer)).sum();
            let mut excess = kept.saturating_sub(share).min(missing);
            for (executor, seat) in self.seats.iter_mut().filter(|(_, seat)| seat.backend() == backend) {
                let wanted = seat.wants_back(peer, excess);
                if wanted == 0 {
                    continue;
                }
                excess -= wanted;
                missing -= wanted;
                self.peers.tell(peer, pb::link_request::Message::Recalled(wire(*executor, wanted)));
            }
        }
    }
}

/// So many slots of an executor, on the wire.
pub(super) fn wire(executor: ExecutorId, count: u32) -> pb::Slots {
    pb::Slots { executor_id: executor.to_vec(), slots: i32::try_from(count).unwrap_or(i32::MAX) }
}
