//! A seat: what the engine knows of one executor.

use super::{Outbox, lending::wire};
use crate::wire::AttemptId;
use domain::{
    executor_type::Backend,
    id::{ExecutorId, SchedulerId},
};
use proto::internal::v1 as pb;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant},
};
use store::executors::ExecutorRow;

/// One executor and its credits.
pub(super) struct Seat {
    pub(super) name: String,
    backend: String,
    version: String,
    /// All of the executor's, or what its gateway has lent.
    slots: u32,
    session: u64,
    number: i64,
    /// The scheduler that lends it; `None` when its session is here.
    gateway: Option<SchedulerId>,
    /// `None` while the stream is broken.
    outbox: Option<Outbox>,
    draining: bool,
    last_seen: Instant,
    /// Since then it was asked whether it has said goodbye to another scheduler, and it had not.
    doubted: bool,
    /// Attempts that it was given and whose end it has not told.
    held: HashSet<AttemptId>,
    /// Of these, those that gave their slot back while they wait.
    waiting: HashSet<AttemptId>,
    /// Of these, those that have not begun, and begin by themselves; and which, by the attempt that it follows.
    ahead: HashSet<AttemptId>,
    followers: HashMap<AttemptId, AttemptId>,
    goes_on: bool,
    /// Definitions that this session was sent.
    known: HashSet<String>,
    /// It has said what it runs since shards were gained.
    inventoried: bool,
    /// What it holds was forgotten, and it has not said it again: nobody knows what is free.
    forgotten: bool,
    /// Its first heartbeat after that has come: what it did not name by then it never got.
    settled: bool,
    /// Slots that other schedulers have.
    lent: BTreeMap<SchedulerId, Loan>,
    /// Slots in use for runs whose owner has not claimed them yet, and until when they are kept for that.
    orphaned: Option<(u32, Instant)>,
    /// Slots that the gateway wants back.
    recalled: u32,
    /// Free at the last look already.
    idle: bool,
    /// Attempts that run there, whoever gave them; for people.
    running: u32,
}

impl Seat {
    pub(super) fn new(session: u64, hello: Greeting) -> Self {
        let inventoried = hello.gateway.is_none();
        Self {
            name: hello.name,
            backend: hello.backend,
            version: hello.version,
            slots: if inventoried { hello.slots } else { 0 },
            session,
            number: hello.number,
            gateway: hello.gateway,
            outbox: Some(hello.outbox),
            draining: hello.draining,
            last_seen: Instant::now(),
            doubted: false,
            held: HashSet::new(),
            waiting: HashSet::new(),
            ahead: HashSet::new(),
            followers: HashMap::new(),
            goes_on: hello.goes_on,
            known: HashSet::new(),
            inventoried,
            forgotten: false,
            settled: false,
            lent: BTreeMap::new(),
            orphaned: None,
            recalled: 0,
            idle: false,
            running: 0,
        }
    }

    /// An executor that the database knows to run something, and that has not been heard of by this process.
    pub(super) fn expected() -> Self {
        Self {
            name: "(expected back)".to_owned(),
            backend: "unknown".to_owned(),
            version: String::new(),
            slots: 0,
            session: 0,
            number: i64::MIN,
            gateway: None,
            outbox: None,
            draining: false,
            last_seen: Instant::now(),
            doubted: false,
            held: HashSet::new(),
            waiting: HashSet::new(),
            ahead: HashSet::new(),
            followers: HashMap::new(),
            goes_on: false,
            known: HashSet::new(),
            inventoried: true,
            forgotten: false,
            settled: true,
            lent: BTreeMap::new(),
            orphaned: None,
            recalled: 0,
            idle: false,
            running: 0,
        }
    }

    /// What runs there.
    pub(super) fn backend(&self) -> Backend {
        Backend::named(&self.backend)
    }

    /// Whether work may be leased to it ahead.
    pub(super) fn goes_on(&self) -> bool {
        self.goes_on && self.backend() == Backend::Process
    }

    pub(super) fn is_session(&self, session: u64) -> bool {
        self.session == session
    }

    /// A later session of the same executor has been heard of already.
    pub(super) fn is_later_than(&self, number: i64) -> bool {
        self.number > number
    }

    /// Its session is here, not with another scheduler.
    pub(super) fn is_local(&self) -> bool {
        self.gateway.is_none()
    }

    pub(super) fn seen(&mut self) {
        self.last_seen = Instant::now();
        self.doubted = false;
    }

    pub(super) fn is_silent(&self, lost_after: Duration) -> bool {
        self.last_seen.elapsed() > lost_after
    }

    /// Whether it matters now if it has said goodbye to another scheduler: it is silent, or was never heard of here.
    pub(super) fn is_in_doubt(&self, lost_after: Duration) -> bool {
        self.is_silent(lost_after) || (self.number == i64::MIN && !self.doubted)
    }

    /// It has not said goodbye to anybody. Answers whether that had been asked before, and it is silent since.
    pub(super) fn doubt(&mut self, lost_after: Duration) -> bool {
        std::mem::replace(&mut self.doubted, true) && self.is_silent(lost_after)
    }

    pub(super) fn close(&mut self) {
        self.outbox = None;
    }

    pub(super) fn drain(&mut self) {
        self.draining = true;
    }

    /// Attempts of this engine that it has begun, as far as is known.
    pub(super) fn begun(&self) -> usize {
        self.held.len().saturating_sub(self.ahead.len())
    }

    /// Attempts of this engine that hold a slot.
    pub(super) fn busy(&self) -> u32 {
        let slots = self.begun().saturating_sub(self.waiting.difference(&self.ahead).count());
        u32::try_from(slots).unwrap_or(u32::MAX)
    }

    /// Attempts that it would take now.
    pub(super) fn credits(&self) -> u32 {
        if self.outbox.is_none() || self.draining || self.forgotten {
            return 0;
        }
        let away = self.lent_out().saturating_add(self.orphaned());
        // What its gateway wants back is not used again, or it would never come to an end.
        self.slots.saturating_sub(self.busy()).saturating_sub(away).saturating_sub(self.recalled)
    }

    pub(super) fn hold(&mut self, attempt: AttemptId) {
        self.idle = false;
        self.held.insert(attempt);
    }

    /// What it begins in the slot of `before`, without being told, once that has completed.
    pub(super) fn hold_behind(&mut self, before: AttemptId, attempt: AttemptId) {
        self.ahead.insert(attempt.clone());
        self.held.insert(attempt.clone());
        self.followers.insert(before, attempt);
    }

    pub(super) fn holds(&self, attempt: &AttemptId) -> bool {
        self.held.contains(attempt)
    }

    /// It has ended, or was given back. What follows it has its slot, or is given back as well.
    pub(super) fn release(&mut self, attempt: &AttemptId) {
        self.held.remove(attempt);
        self.waiting.remove(attempt);
        self.ahead.remove(attempt);
        if let Some(next) = self.followers.remove(attempt) {
            self.ahead.remove(&next);
        }
    }

    pub(super) fn set_waiting(&mut self, attempt: AttemptId, waits: bool) {
        if waits && self.held.contains(&attempt) {
            self.waiting.insert(attempt);
        } else {
            self.waiting.remove(&attempt);
        }
    }

    /// Whether this session was sent a definition.
    pub(super) fn knows(&self, definition: &str) -> bool {
        self.known.contains(definition)
    }

    /// Sends a definition. One that could not be sent is not known.
    pub(super) fn teach(&mut self, definition: &pb::Definition) {
        self.send(pb::session_response::Message::Definition(definition.clone()));
        if self.outbox.is_some() {
            self.known.insert(definition.id.clone());
        }
    }

    /// It gave something back that it did not begin: it may have a session by now that was taught nothing.
    pub(super) fn unlearn(&mut self) {
        self.known.clear();
    }

    /// Says something. A session that does not keep up is closed: its executor comes again with what it still has.
    pub(super) fn send(&mut self, message: pb::session_response::Message) {
        if self.outbox.as_ref().is_some_and(|outbox| !outbox.send(message)) {
            self.outbox = None;
        }
    }

    pub(super) fn row(&self, id: ExecutorId, state: &'static str) -> ExecutorRow {
        ExecutorRow {
            id: id.0,
            name: self.name.clone(),
            backend: self.backend.clone(),
            slots: i32::try_from(self.slots).unwrap_or(i32::MAX),
            version: self.version.clone(),
            state,
            running: i32::try_from(self.begun().max(self.running as usize)).unwrap_or(i32::MAX),
        }
    }

    /// Whether it can be spoken to.
    pub(super) fn session_state(&self) -> &'static str {
        if self.outbox.is_none() { "away" } else { self.state() }
    }

    /// As people see it.
    pub(super) fn state(&self) -> &'static str {
        if self.draining { "draining" } else { "online" }
    }

    /// How many attempts it says that it runs.
    pub(super) fn set_running(&mut self, running: u32) {
        self.running = running;
    }

    // --- who has what, after shards have moved

    /// Asks what it runs: what it does not name was never there.
    pub(super) fn ask_inventory(&mut self) {
        (self.inventoried, self.settled) = (false, false);
        self.send(pb::session_response::Message::InventoryRequest(pb::InventoryRequest {}));
    }

    pub(super) fn inventoried(&mut self) {
        (self.inventoried, self.forgotten) = (true, false);
    }

    /// A heartbeat has come: true the first time after it said what it runs.
    pub(super) fn settles(&mut self) -> bool {
        self.inventoried && !std::mem::replace(&mut self.settled, self.inventoried)
    }

    /// Forgets everything that it holds; it will be asked.
    pub(super) fn forget_all(&mut self) {
        self.held.clear();
        self.waiting.clear();
        self.ahead.clear();
        self.followers.clear();
        self.forgotten = true;
    }

    /// Forgets what belongs to others now. Their slots stay in use: here until somebody claims them, and behind a gateway
    /// they go back to it, for the new owner to claim. Answers how many those are.
    pub(super) fn give_up(&mut self, is_foreign: impl Fn(&AttemptId) -> bool, kept: Duration) -> u32 {
        let before = self.busy();
        self.held.retain(|attempt| !is_foreign(attempt));
        let held = &self.held;
        self.waiting.retain(|attempt| held.contains(attempt));
        self.ahead.retain(|attempt| held.contains(attempt));
        self.followers.retain(|attempt, _| held.contains(attempt));
        let count = before.saturating_sub(self.busy());
        if count > 0 && self.is_local() {
            self.orphan(count, kept);
        }
        count
    }

    // --- slots of executors that are connected here, and that others use

    pub(super) fn slots(&self) -> u32 {
        if self.outbox.is_none() || self.draining { 0 } else { self.slots }
    }

    fn lent_out(&self) -> u32 {
        self.lent.values().map(|loan| loan.slots).sum()
    }

    pub(super) fn borrowers(&self) -> impl Iterator<Item = SchedulerId> {
        self.lent.keys().copied()
    }

    /// What the peer has and was not asked for.
    pub(super) fn kept_by(&self, peer: SchedulerId) -> u32 {
        self.lent.get(&peer).map_or(0, |loan| loan.slots.saturating_sub(loan.recalled))
    }

    /// Up to `count` of what the peer has and was not asked for yet; from now on it was.
    pub(super) fn wants_back(&mut self, peer: SchedulerId, count: u32) -> u32 {
        let Some(loan) = self.lent.get_mut(&peer) else { return 0 };
        let wanted = loan.slots.saturating_sub(loan.recalled).min(count);
        loan.recalled += wanted;
        wanted
    }

    /// Keeps so many slots until an owner claims them.
    fn orphan(&mut self, count: u32, kept: Duration) {
        let count = self.orphaned().saturating_add(count);
        self.orphaned = Some((count, Instant::now() + kept));
    }

    /// It runs so many attempts of others: what is not lent is kept until they claim it.
    pub(super) fn count_foreign(&mut self, count: u32, kept: Duration) {
        self.orphaned = Some((count.saturating_sub(self.lent_out()), Instant::now() + kept));
    }

    fn orphaned(&self) -> u32 {
        self.orphaned.filter(|(_, until)| *until > Instant::now()).map_or(0, |(count, _)| count)
    }

    pub(super) fn lent_to(&self, peer: SchedulerId) -> u32 {
        self.lent.get(&peer).map_or(0, |loan| loan.slots)
    }

    pub(super) fn lend(&mut self, peer: SchedulerId, count: u32) {
        self.lent.entry(peer).or_default().slots += count;
    }

    /// The peer has found attempts of its own here.
    pub(super) fn claimed(&mut self, peer: SchedulerId, count: u32) {
        self.lend(peer, count);
        if let Some((orphaned, _)) = &mut self.orphaned {
            *orphaned = orphaned.saturating_sub(count);
        }
    }

    pub(super) fn returned(&mut self, peer: SchedulerId, count: u32) {
        if let Some(loan) = self.lent.get_mut(&peer) {
            loan.slots = loan.slots.saturating_sub(count);
            loan.recalled = loan.recalled.saturating_sub(count);
            if loan.slots == 0 {
                self.lent.remove(&peer);
            }
        }
    }

    /// The peer is gone: what it used runs on, for whoever takes its shards.
    pub(super) fn abandoned(&mut self, peer: SchedulerId, kept: Duration) {
        if let Some(loan) = self.lent.remove(&peer) {
            self.orphan(loan.slots, kept);
        }
    }

    // --- slots of executors behind a gateway

    pub(super) fn borrow_more(&mut self, count: u32) {
        self.slots = self.slots.saturating_add(count);
        self.idle = false;
    }

    pub(super) fn recall(&mut self, count: u32) {
        self.recalled = self.recalled.saturating_add(count);
    }

    /// Says that more slots are in use than were lent.
    pub(super) fn claim_excess(&mut self, executor: ExecutorId) {
        let excess = self.busy().saturating_sub(self.slots);
        if excess > 0 {
            self.slots += excess;
            self.tell_gateway(pb::link_response::Message::Claimed(wire(executor, excess)));
        }
    }

    /// Gives back so many slots, or as many as there are.
    pub(super) fn give_back(&mut self, executor: ExecutorId, count: u32) {
        let count = count.min(self.slots);
        if count > 0 {
            self.slots -= count;
            self.tell_gateway(pb::link_response::Message::Returned(wire(executor, count)));
        }
    }

    /// Gives back what is wanted and free, and with `idle_too` what was not used since the last look.
    pub(super) fn give_back_free(&mut self, executor: ExecutorId, idle_too: bool) {
        if self.forgotten {
            return;
        }
        let free = self.slots.saturating_sub(self.busy());
        let wanted = free.min(self.recalled);
        self.recalled -= wanted;
        let idle = idle_too && std::mem::replace(&mut self.idle, true);
        self.give_back(executor, if idle { free } else { wanted });
        if self.slots == 0 {
            self.recalled = 0;
        }
    }

    fn tell_gateway(&mut self, message: pb::link_response::Message) {
        if self.outbox.as_ref().is_some_and(|outbox| !outbox.tell_gateway(message)) {
            self.outbox = None;
        }
    }
}

/// What one peer has of an executor.
#[derive(Default)]
struct Loan {
    slots: u32,
    /// Of these, asked back.
    recalled: u32,
}

/// What an executor says of itself when it comes.
pub(super) struct Greeting {
    pub(super) number: i64,
    pub(super) name: String,
    pub(super) backend: String,
    pub(super) version: String,
    pub(super) slots: u32,
    pub(super) draining: bool,
    pub(super) goes_on: bool,
    pub(super) outbox: Outbox,
    pub(super) gateway: Option<SchedulerId>,
}

#[cfg(test)]
mod tests;
