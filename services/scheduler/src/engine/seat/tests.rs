//! Slots, in all hands.

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
    Greeting { number: 1, name, backend, version, slots, draining: false, goes_on: true, outbox, gateway }
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

#[test]
fn what_is_forgotten_is_not_free_until_the_executor_has_said_it_again() {
    let (mut seat, _outbox) = local(2);
    let (mut there, mut link) = borrowed();
    there.borrow_more(2);
    for seat in [&mut seat, &mut there] {
        seat.hold(attempt(1));
        seat.forget_all();
        seat.ask_inventory();
        assert_eq!(seat.credits(), 0);
    }
    let asked = link.try_recv().unwrap().message;
    assert!(matches!(asked, Some(pb::link_response::Message::Executor(_))), "{asked:?}");
    there.give_back_free(id(), true);
    there.give_back_free(id(), true);
    assert!(link.try_recv().is_err(), "what may be in use is not given back");
    for seat in [&mut seat, &mut there] {
        seat.hold(attempt(1));
        seat.inventoried();
        assert_eq!(seat.credits(), 1);
        // A question without a loss keeps nobody waiting.
        seat.ask_inventory();
        assert_eq!(seat.credits(), 1);
    }
}

#[test]
fn whoever_is_lost_was_silent_at_two_looks() {
    let (mut seat, _receiver) = local(1);
    assert!(!seat.is_in_doubt(KEPT) && !seat.doubt(KEPT), "it was heard of just now");
    seat.seen();
    assert!(seat.is_in_doubt(Duration::ZERO) && !seat.doubt(Duration::ZERO), "what it said may wait in the queue");
    seat.seen();
    assert!(!seat.doubt(Duration::ZERO), "it did");
    assert!(seat.doubt(Duration::ZERO));
    // Asked about once, whatever it may have said to others before, and again when it does not come.
    let mut expected = Seat::expected();
    assert!(expected.is_in_doubt(KEPT) && !expected.doubt(KEPT));
    assert!(!expected.is_in_doubt(KEPT) && expected.doubt(Duration::ZERO));
}
