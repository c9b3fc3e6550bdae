//! A seat: what the engine knows of one executor.

use super::{Outbox, lending::wire};
use crate::wire::AttemptId;
use domain::{
    executor_type::Backend,
    id::{ExecutorId, SchedulerId},
};
use proto::internal::v1 as pb;
use std::{
    collections::{BTreeMap, HashSet},
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
    /// Attempts that it was given and whose end it has not told, with whether they hold a slot.
    held: HashSet<AttemptId>,
    waiting: HashSet<AttemptId>,
    /// Definitions that this session was sent.
    known: HashSet<String>,
    /// It has said what it runs since shards were gained.
    inventoried: bool,
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
            held: HashSet::new(),
            waiting: HashSet::new(),
            known: HashSet::new(),
            inventoried,
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
            held: HashSet::new(),
            waiting: HashSet::new(),
            known: HashSet::new(),
            inventoried: true,
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
    }

    pub(super) fn is_silent(&self, lost_after: Duration) -> bool {
        self.last_seen.elapsed() > lost_after
    }

    pub(super) fn close(&mut self) {
        self.outbox = None;
    }

    pub(super) fn drain(&mut self) {
        self.draining = true;
    }

    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Attempts of this engine that hold a slot.
    pub(super) fn busy(&self) -> u32 {
        u32::try_from(self.held.len().saturating_sub(self.waiting.len())).unwrap_or(u32::MAX)
    }

    /// Attempts that it would take now.
    pub(super) fn credits(&self) -> u32 {
        if self.outbox.is_none() || self.draining {
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

    pub(super) fn holds(&self, attempt: &AttemptId) -> bool {
        self.held.contains(attempt)
    }

    pub(super) fn release(&mut self, attempt: &AttemptId) {
        self.held.remove(attempt);
        self.waiting.remove(attempt);
    }

    pub(super) fn set_waiting(&mut self, attempt: AttemptId, waits: bool) {
        if waits && self.held.contains(&attempt) {
            self.waiting.insert(attempt);
        } else {
            self.waiting.remove(&attempt);
        }
    }

    /// True the first time that this session needs a definition.
    pub(super) fn learns(&mut self, definition: &str) -> bool {
        !self.known.contains(definition) && self.known.insert(definition.to_owned())
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
            running: i32::try_from(self.held.len().max(self.running as usize)).unwrap_or(i32::MAX),
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
        self.inventoried = true;
    }

    /// A heartbeat has come: true the first time after it said what it runs.
    pub(super) fn settles(&mut self) -> bool {
        self.inventoried && !std::mem::replace(&mut self.settled, self.inventoried)
    }

    /// Forgets everything that it holds; it will be asked.
    pub(super) fn forget_all(&mut self) {
        self.held.clear();
        self.waiting.clear();
    }

    /// Forgets what belongs to others now. Their slots stay in use: here until somebody claims them, and behind a gateway
    /// they go back to it, for the new owner to claim. Answers how many those are.
    pub(super) fn give_up(&mut self, is_foreign: impl Fn(&AttemptId) -> bool, kept: Duration) -> u32 {
        let before = self.busy();
        self.held.retain(|attempt| !is_foreign(attempt));
        let held = &self.held;
        self.waiting.retain(|attempt| held.contains(attempt));
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
    pub(super) outbox: Outbox,
    pub(super) gateway: Option<SchedulerId>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::id::RunId;
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;
    use uuid::Uuid;

    const KEPT: Duration = Duration::from_secs(60);

    fn id() -> ExecutorId {
        ExecutorId(Uuid::from_u128(1))
    }

    fn peer(n: u128) -> SchedulerId {
        SchedulerId(Uuid::from_u128(n))
    }

    fn attempt(lease: i64) -> AttemptId {
        AttemptId { run: RunId(Uuid::from_u128(7)), block: "a".to_owned(), child: -1, lease }
    }

    fn local(slots: u32) -> (Seat, mpsc::Receiver<pb::SessionResponse>) {
        let (sender, receiver) = mpsc::channel(8);
        (Seat::new(1, greeting(slots, Outbox::Local(sender), None)), receiver)
    }

    fn borrowed() -> (Seat, mpsc::Receiver<pb::LinkResponse>) {
        let (link, receiver) = mpsc::channel(8);
        let outbox = Outbox::Relayed { executor: id(), link, broken: CancellationToken::new() };
        (Seat::new(1, greeting(8, outbox, Some(peer(1)))), receiver)
    }

    fn greeting(slots: u32, outbox: Outbox, gateway: Option<SchedulerId>) -> Greeting {
        let (name, backend, version) = (String::new(), String::new(), String::new());
        Greeting { number: 1, name, backend, version, slots, draining: false, outbox, gateway }
    }

    #[test]
    fn what_others_have_is_not_free() {
        let (mut seat, _outbox) = local(8);
        seat.hold(attempt(1));
        seat.lend(peer(2), 3);
        assert_eq!(seat.credits(), 4);
        // The peer is gone; what it ran runs on, until the next owner says so.
        seat.abandoned(peer(2), KEPT);
        assert_eq!(seat.credits(), 4);
        seat.claimed(peer(3), 2);
        assert_eq!((seat.credits(), seat.lent_to(peer(3))), (4, 2), "claimed is not counted twice");
        seat.returned(peer(3), 2);
        assert_eq!(seat.credits(), 6);
        // The executor says what it runs: nothing of others any more, so what was kept for them is free.
        seat.count_foreign(0, KEPT);
        assert_eq!(seat.credits(), 7);
    }

    #[test]
    fn a_borrower_has_what_is_lent_and_gives_back_what_is_asked_for() {
        let (mut seat, mut link) = borrowed();
        assert_eq!(seat.credits(), 0, "nothing was lent yet");
        seat.borrow_more(2);
        seat.hold(attempt(1));
        seat.hold(attempt(2));
        seat.recall(1);
        seat.give_back_free(id(), false);
        assert!(link.try_recv().is_err(), "what is in use is not given back");
        seat.release(&attempt(1));
        assert_eq!(seat.credits(), 0, "what is asked for is not used again");
        seat.give_back_free(id(), false);
        let returned = pb::link_response::Message::Returned(wire(id(), 1));
        assert_eq!(link.try_recv().unwrap().message, Some(returned));
        seat.release(&attempt(2));
        assert_eq!(seat.credits(), 1);
        seat.give_back_free(id(), true);
        assert!(link.try_recv().is_err(), "it may be needed in a moment");
        seat.give_back_free(id(), true);
        assert!(link.try_recv().is_ok(), "it was not");
        assert_eq!(seat.credits(), 0);
    }

    #[test]
    fn attempts_that_came_with_a_shard_are_claimed() {
        let (mut seat, mut link) = borrowed();
        seat.hold(attempt(1));
        seat.hold(attempt(2));
        seat.claim_excess(id());
        let claimed = pb::link_response::Message::Claimed(wire(id(), 2));
        assert_eq!(link.try_recv().unwrap().message, Some(claimed));
        // And they go with it, slots and all.
        let count = seat.give_up(|_| true, KEPT);
        seat.give_back(id(), count);
        assert_eq!((count, seat.credits()), (2, 0));
    }
}
