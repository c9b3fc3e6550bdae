//! Dispatch: ready units go to executors with free slots, run by run in turn, so that a fan of ten thousand does not
//! keep a single block waiting. And what executors' sessions say.

use super::{
    Engine, Held, SessionEvent,
    live::Leased,
    seat::{Greeting, Seat},
    turn::Turn,
};
use crate::wire::AttemptId;
use domain::{
    executor_type::Backend,
    id::{ExecutorId, RunId},
};
use proto::internal::v1 as pb;
use std::collections::HashSet;

/// An executor that would take more attempts.
struct Free {
    executor: ExecutorId,
    backend: Backend,
    credits: u32,
}

/// Executors with free slots, and the runs that had nothing for some of them.
struct Places {
    free: Vec<Free>,
    /// Of all of them.
    credits: usize,
    next: usize,
    /// Nothing becomes ready in the middle of a pass.
    without: HashSet<(RunId, Backend)>,
}

/// What became of a run in turn.
enum Placed {
    /// A unit of it was leased.
    Leased,
    /// What is ready waits for other executors.
    Later,
    /// It has nothing that could be leased.
    Nothing,
}

impl Places {
    /// Where the next unit of a run may go: a run in one process waits for its own executor.
    fn find(&self, run: RunId, home: Option<ExecutorId>) -> Option<usize> {
        let fits = |at: &usize| !self.without.contains(&(run, self.free[*at].backend));
        match home {
            Some(home) => self.free.iter().position(|free| free.executor == home).filter(fits),
            None => (0..self.free.len()).map(|step| (self.next + step) % self.free.len()).find(fits),
        }
    }

    fn used(&mut self, at: usize) {
        self.next += 1;
        self.credits -= 1;
        self.free[at].credits -= 1;
        if self.free[at].credits == 0 {
            self.free.swap_remove(at);
        }
    }
}

impl Engine {
    /// Leases until nothing is ready, nobody is free, or the turn is full.
    pub(super) fn lease_ready(&mut self, turn: &mut Turn) {
        let free = self.seats.iter().map(|(id, seat)| Free {
            executor: *id,
            backend: seat.backend(),
            credits: seat.credits(),
        });
        let free: Vec<Free> = free.filter(|free| free.credits > 0).collect();
        let credits = free.iter().map(|free| free.credits as usize).sum();
        let mut places = Places { free, credits, next: 0, without: HashSet::new() };
        // Runs that found no seat in this pass, one after the other.
        let mut unlucky = 0;
        // Those of them that are at home somewhere.
        let mut begun = Vec::new();
        let most = self.stride.now();
        while !places.free.is_empty() && unlucky < self.ready.len() && turn.leased < most {
            let Some(run) = self.ready.pop_front() else { break };
            match self.place(run, &mut places, turn) {
                Placed::Leased => {
                    turn.leased += 1;
                    unlucky = 0;
                }
                Placed::Later => {
                    let Some(live) = self.runs.get_mut(&run) else { continue };
                    live.queued = true;
                    if live.run.home().is_some() {
                        begun.push(run);
                    } else {
                        unlucky += 1;
                        self.ready.push_back(run);
                    }
                }
                Placed::Nothing => {}
            }
        }
        for run in begun.into_iter().rev() {
            self.ready.push_front(run);
        }
        // What is left may have a place too.
        self.again |= turn.leased == most && !places.free.is_empty() && !self.ready.is_empty();
    }

    /// Leases one unit of a run, by any executor that takes one.
    fn place(&mut self, run: RunId, places: &mut Places, turn: &mut Turn) -> Placed {
        let home = self.runs.get(&run).and_then(|live| live.run.home());
        let mut lacking = Vec::new();
        let placed = loop {
            let Some(at) = places.find(run, home) else { break Placed::Later };
            let backend = places.free[at].backend;
            let is_calm = places.credits > self.ready.len();
            let leased = self.lease_one(run, (places.free[at].executor, backend), is_calm, turn);
            if leased.lease.is_some() {
                places.used(at);
                break Placed::Leased;
            }
            places.without.insert((run, backend));
            lacking.extend(leased.lacking);
            if !leased.elsewhere {
                break Placed::Nothing;
            }
        };
        if !matches!(placed, Placed::Leased) && !lacking.is_empty() {
            // Without other units a run that waits for permits is not put back: it waits with those that do.
            self.park(run, &lacking);
        }
        placed
    }

    /// While it `is_calm`, nobody waits for what a lease ahead would keep.
    fn lease_one(
        &mut self,
        run: RunId,
        (executor, backend): (ExecutorId, Backend),
        is_calm: bool,
        turn: &mut Turn,
    ) -> Leased {
        let now = self.now();
        let Some(live) = self.runs.get_mut(&run) else { return Leased::default() };
        live.queued = false;
        let mut transitions = Vec::new();
        let leased = live.lease((executor, backend), now, &self.permits.ledger, &mut transitions);
        // What becomes of a run that waits for permits or other executors is decided when all of these were asked.
        live.queued = leased.lease.is_none() && (leased.elsewhere || !leased.lacking.is_empty());
        if let Some(lease) = &leased.lease {
            live.hold(lease.key, &mut self.permits.ledger);
            let attempt = self.assign(run, lease, None, executor, turn);
            if let Some(attempt) = attempt.filter(|_| is_calm) {
                self.lease_ahead((lease.key, attempt), executor, &mut transitions, turn);
            }
        }
        self.record(run, &transitions, turn);
        leased
    }

    pub(super) fn session(&mut self, executor: ExecutorId, session: u64, event: SessionEvent, turn: &mut Turn) {
        if let SessionEvent::Hello { number, name, backend, slots, version, held, draining, goes_on, outbox, gateway } =
            event
        {
            let greeting = Greeting { number, name, backend, version, slots, draining, goes_on, outbox, gateway };
            return self.welcome(executor, session, greeting, held, turn);
        }
        let Some(seat) = self.seats.get_mut(&executor).filter(|seat| seat.is_session(session)) else { return };
        if event.is_sign_of_life() {
            seat.seen();
        }
        match event {
            SessionEvent::Heartbeat { sequence, running } => self.heartbeat(executor, sequence, running, turn),
            SessionEvent::Results(results) => {
                for (attempt, outcome, took) in results {
                    self.result(executor, &attempt, (outcome, took), turn);
                }
            }
            SessionEvent::SlotChange(attempt, holds) => {
                self.hold_while_it_runs(&attempt, holds);
                if let Some(seat) = self.seats.get_mut(&executor) {
                    seat.set_waiting(attempt, !holds);
                }
            }
            SessionEvent::Inventory(held) => self.inventory(executor, held, turn),
            SessionEvent::Lent(slots) => seat.borrow_more(slots),
            SessionEvent::Recalled(slots) => seat.recall(slots),
            SessionEvent::Draining => {
                seat.drain();
                if seat.is_local() {
                    turn.seats.insert(executor, seat.row(executor, "draining"));
                }
            }
            SessionEvent::Goodbye => self.bid_farewell(executor, turn),
            SessionEvent::Closed => seat.close(),
            SessionEvent::Hello { .. } => {}
        }
    }

    /// An attempt that waits for another run runs nothing, and its permits are free for that run: at a limit of one,
    /// parent and child would wait for each other for ever. When it goes on it counts again at once.
    fn hold_while_it_runs(&mut self, attempt: &AttemptId, runs: bool) {
        let now = self.now();
        let Some(live) = self.runs.get_mut(&attempt.run) else { return };
        let Some(key) = live.run.unit_key(&attempt.block, attempt.child) else { return };
        if !live.run.running_units().any(|(unit, lease, _)| unit == key && lease == attempt.lease) {
            return;
        }
        if runs {
            live.hold_running(key, &mut self.permits.ledger);
        } else {
            live.release(key, &mut self.permits.ledger, now);
        }
    }

    /// An executor comes, or comes again, by itself or introduced by its gateway. What it runs is compared with what the
    /// runs say: at once when it is named here, and otherwise when the inventory arrives.
    fn welcome(&mut self, executor: ExecutorId, session: u64, greeting: Greeting, held: Held, turn: &mut Turn) {
        if self.seats.get(&executor).is_some_and(|seat| seat.is_later_than(greeting.number)) {
            return;
        }
        tracing::info!(executor.id = %executor, executor.name = greeting.name, held = held.running.len(), "executor connected");
        let mut seat = Seat::new(session, greeting);
        if seat.is_local() {
            seat.count_foreign(self.foreign(&held.running), self.timing.lost_after);
            let unknown = self.compare(executor, &mut seat, held, turn);
            let millis = |d: std::time::Duration| i32::try_from(d.as_millis()).unwrap_or(i32::MAX);
            seat.send(pb::session_response::Message::Welcome(pb::Welcome {
                heartbeat_interval_ms: millis(self.timing.heartbeat),
                lost_after_ms: millis(self.timing.lost_after),
                unknown,
            }));
            turn.seats.insert(executor, seat.row(executor, seat.state()));
        }
        self.seats.insert(executor, seat);
    }

    /// What an executor runs, after the question was put: by a new owner of some of it, or for a new peer.
    fn inventory(&mut self, executor: ExecutorId, held: Held, turn: &mut Turn) {
        let Some(mut seat) = self.seats.remove(&executor) else { return };
        if seat.is_local() {
            seat.count_foreign(self.foreign(&held.running), self.timing.lost_after);
        }
        let unknown = self.compare(executor, &mut seat, held, turn);
        if !unknown.is_empty() {
            seat.send(pb::session_response::Message::Forget(pb::Forget { attempts: unknown }));
        }
        if !seat.is_local() {
            seat.claim_excess(executor);
        }
        seat.inventoried();
        self.seats.insert(executor, seat);
    }

    /// How many of these belong to others.
    fn foreign(&self, held: &[AttemptId]) -> u32 {
        let foreign = held.iter().filter(|attempt| self.shards.get(attempt.run.shard()).is_none()).count();
        u32::try_from(foreign).unwrap_or(u32::MAX)
    }

    /// Of what an executor names, the seat holds what is current. Answers what is not wanted any more; of runs that others
    /// own nothing is known here, and nothing is said. What is to stop is told so again: it was said once, and may have
    /// reached nobody.
    fn compare(&self, executor: ExecutorId, seat: &mut Seat, held: Held, turn: &mut Turn) -> Vec<pb::AttemptRef> {
        let mut unknown = Vec::new();
        let held = held.running.into_iter().chain(held.ahead);
        for attempt in held.filter(|attempt| self.shards.get(attempt.run.shard()).is_some()) {
            let current = self.runs.get(&attempt.run).and_then(|live| {
                let key = live.run.unit_key(&attempt.block, attempt.child)?;
                live.run.is_running(key, attempt.lease, executor).then_some((live, key))
            });
            let Some((live, key)) = current else {
                unknown.push(attempt.to_proto());
                continue;
            };
            if live.run.is_stopping(key) {
                turn.stops.entry((executor, false)).or_default().push(attempt.to_proto());
            }
            match live.run.follows(key) {
                None => seat.hold(attempt),
                Some((before, lease)) => {
                    let (block, child) = live.run.unit_name(before);
                    seat.hold_behind(AttemptId { run: attempt.run, block, child, lease }, attempt);
                }
            }
        }
        unknown
    }

    fn heartbeat(&mut self, executor: ExecutorId, sequence: i64, running: u32, turn: &mut Turn) {
        let Some(seat) = self.seats.get_mut(&executor) else { return };
        let settles = seat.settles();
        if seat.is_local() {
            seat.set_running(running);
            turn.seats.insert(executor, seat.row(executor, seat.state()));
            seat.send(pb::session_response::Message::HeartbeatReply(pb::HeartbeatReply {
                sequence,
                cancelled: Vec::new(),
            }));
        }
        if settles {
            self.release_missing(executor, turn);
        }
    }
}
