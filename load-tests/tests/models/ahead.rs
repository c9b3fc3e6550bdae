//! A block that is leased ahead, behind one that runs: its executor begins it by itself, what it tells overtakes itself on the way, and
//! whoever owns the run may take the executor to be lost meanwhile. Who owns the run is [`takeover`](crate::takeover)'s matter.

use crate::{breaks, holds};
use stateright::{Model, Property};

const EXECUTORS: usize = 2;
/// Tries of the first block in all.
const TRIES_MAX: u8 = 3;
const ONE: &str = "at most one result of a block counts";
const ORDER: &str = "a block counts only after the one before it";
const SAME: &str = "a block that counts followed the try of the one before it that counts";
const UNBEGUN: &str = "what was given back was never begun";
const BEHIND: &str = "nothing begins behind what failed";
const ENDS: &str = "both complete, the second by itself";

#[derive(Clone)]
struct Ahead {
    /// The end of the second counts only after that of the first.
    in_order: bool,
    /// A result counts only with the lease of its row, which rises with each assignment.
    lease_check: bool,
    /// An executor gives back what is behind a failure.
    gives_back: bool,
    /// What an executor gave back it does not begin.
    forgets: bool,
}

const AS_BUILT: Ahead = Ahead { in_order: true, lease_check: true, gives_back: true, forgets: true };

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct State {
    first: Row,
    second: Row,
    executors: [Work; EXECUTORS],
    /// Sent until they are answered, in any order.
    messages: Vec<Message>,
    tries: u8,
    accepted: [u8; 2],
    /// Leases of the second that were begun by themselves, and those that were given back.
    begun: Vec<u8>,
    given_back: Vec<u8>,
    broken: Option<&'static str>,
    went_ahead: bool,
}

/// A block's row: who has it, and since when nobody has to do it any more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Row {
    lease: u8,
    with: Option<usize>,
    done: bool,
}

/// What an executor does: the try of the first block whose result it works for, and what is behind it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Work {
    first: Option<u8>,
    ahead: Option<u8>,
    /// The second with its lease, and the lease of the first that it followed.
    second: Option<(u8, u8)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Message {
    First { lease: u8, completed: bool },
    Second { lease: u8, followed: u8 },
    GivenBack { lease: u8 },
}

#[derive(Debug, Clone, PartialEq)]
enum Action {
    /// The first block goes to an executor, and the second with it, ahead.
    Assign(usize),
    /// The second goes to an executor in its turn.
    AssignSecond(usize),
    /// The executor was silent for too long. It may be working still.
    GiveUp(usize),
    EndFirst(usize, bool),
    EndSecond(usize),
    /// An executor does not want to go on.
    GiveBack(usize),
    Deliver(usize),
}

impl Ahead {
    fn is_of(&self, row: &Row, lease: u8) -> bool {
        !row.done && row.with.is_some() && (!self.lease_check || row.lease == lease)
    }

    fn give_back(&self, state: &mut State, by: usize) {
        let ahead = if self.forgets { state.executors[by].ahead.take() } else { state.executors[by].ahead };
        if let Some(lease) = ahead {
            state.messages.push(Message::GivenBack { lease });
            state.given_back.push(lease);
        }
    }

    /// The first has ended on an executor: what is behind it begins, or goes back.
    fn end_first(&self, state: &mut State, by: usize, completed: bool) -> Option<()> {
        let lease = state.executors[by].first.take()?;
        if !completed && self.gives_back {
            self.give_back(state, by);
        }
        state.messages.push(Message::First { lease, completed });
        if let Some(ahead) = state.executors[by].ahead.take() {
            state.executors[by].second = Some((ahead, lease));
            state.begun.push(ahead);
            if !completed {
                state.broken = Some(BEHIND);
            }
        }
        Some(())
    }

    /// A scheduler hears a message. Answers whether it says so: what it does not answer comes again.
    fn hear(&self, state: &mut State, message: &Message) -> bool {
        match *message {
            Message::First { lease, completed } if self.is_of(&state.first, lease) => {
                if completed {
                    state.first = Row { lease, with: None, done: true };
                    state.accepted[0] += 1;
                } else {
                    state.first.with = None;
                    state.second.with = None;
                }
            }
            Message::Second { lease, followed } if self.is_of(&state.second, lease) => {
                if self.in_order && !state.first.done {
                    return false;
                }
                if !state.first.done {
                    state.broken = Some(ORDER);
                } else if state.first.lease != followed {
                    state.broken = Some(SAME);
                }
                state.second = Row { lease, with: None, done: true };
                state.accepted[1] += 1;
                state.went_ahead |= state.begun.contains(&lease);
            }
            Message::GivenBack { lease } if self.is_of(&state.second, lease) => state.second.with = None,
            _ => {}
        }
        true
    }
}

fn leased(row: &mut Row, to: usize) -> u8 {
    row.lease += 1;
    row.with = Some(to);
    row.lease
}

impl Model for Ahead {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (at, work) in state.executors.iter().enumerate() {
            let is_idle = *work == Work::default();
            if is_idle && !state.first.done && state.first.with.is_none() && state.tries < TRIES_MAX {
                actions.push(Action::Assign(at));
            }
            if is_idle && state.first.done && !state.second.done && state.second.with.is_none() {
                actions.push(Action::AssignSecond(at));
            }
            if state.first.with == Some(at) || state.second.with == Some(at) {
                actions.push(Action::GiveUp(at));
            }
            if work.first.is_some() {
                actions.extend([Action::EndFirst(at, true), Action::EndFirst(at, false)]);
            }
            if work.second.is_some() {
                actions.push(Action::EndSecond(at));
            }
            if work.first.is_some() && work.ahead.is_some_and(|lease| !state.given_back.contains(&lease)) {
                actions.push(Action::GiveBack(at));
            }
        }
        actions.extend((0..state.messages.len()).map(Action::Deliver));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Assign(at) => {
                state.tries += 1;
                state.executors[at].first = Some(leased(&mut state.first, at));
                if !state.second.done && state.second.with.is_none() {
                    state.executors[at].ahead = Some(leased(&mut state.second, at));
                }
            }
            Action::AssignSecond(at) => {
                // What is given up may be given up for ever: the tries of the second are bounded with those of the first.
                if state.second.lease > 2 * TRIES_MAX {
                    return None;
                }
                state.executors[at].second = Some((leased(&mut state.second, at), state.first.lease));
            }
            Action::GiveUp(at) => {
                for row in [&mut state.first, &mut state.second] {
                    row.with = row.with.filter(|with| *with != at);
                }
            }
            Action::EndFirst(at, completed) => self.end_first(&mut state, at, completed)?,
            Action::EndSecond(at) => {
                let (lease, followed) = state.executors[at].second.take()?;
                state.messages.push(Message::Second { lease, followed });
            }
            Action::GiveBack(at) => self.give_back(&mut state, at),
            Action::Deliver(at) => {
                let message = state.messages.remove(at);
                if !self.hear(&mut state, &message) {
                    state.messages.push(message);
                }
            }
        }
        state.messages.sort();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE, |_, state: &State| state.accepted.iter().all(|counted| *counted <= 1)),
            Property::always(ORDER, |_, state: &State| state.broken != Some(ORDER)),
            Property::always(SAME, |_, state: &State| state.broken != Some(SAME)),
            Property::always(BEHIND, |_, state: &State| state.broken != Some(BEHIND)),
            Property::always(UNBEGUN, |_, state: &State| {
                !state.given_back.iter().any(|lease| state.begun.contains(lease))
            }),
            Property::sometimes(ENDS, |_, state: &State| state.went_ahead),
        ]
    }
}

#[test]
fn as_built_what_is_ahead_counts_in_its_turn() {
    holds(AS_BUILT);
}

#[test]
fn out_of_order_a_block_counts_before_the_one_before_it() {
    breaks(Ahead { in_order: false, ..AS_BUILT }, ORDER);
}

/// A try of the first was given up, and what had begun behind it counts for another try.
#[test]
fn without_the_lease_a_block_counts_behind_another_try() {
    breaks(Ahead { lease_check: false, ..AS_BUILT }, SAME);
}

#[test]
fn without_giving_back_a_block_begins_behind_a_failure() {
    breaks(Ahead { gives_back: false, ..AS_BUILT }, BEHIND);
}

#[test]
fn without_forgetting_what_was_given_back_begins() {
    breaks(Ahead { forgets: false, ..AS_BUILT }, UNBEGUN);
}
