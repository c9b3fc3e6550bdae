//! The lock: two owners that stop trusting it in time. Given that (and no clock can), it excludes; unless its release is a
//! bare DEL, which frees whatever is there when it comes.

use crate::{breaks, holds};
use stateright::{Model, Property};

const TURNS_MAX: u8 = 4;
const ONE: &str = "at most one owner trusts the lock";
const PASSED_ON: &str = "the lock is passed on";

#[derive(Clone)]
struct Lock {
    release_compares: bool,
    /// An owner stops trusting before the key may be gone.
    owners_look_at_clocks: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct State {
    /// Whose token the key holds.
    key: Option<usize>,
    trusts: [bool; 2],
    /// Releases that were sent and have not arrived.
    releases: Vec<usize>,
    turns: u8,
}

#[derive(Debug, Clone, PartialEq)]
enum Action {
    Acquire(usize),
    /// The owner stops, since it has finished or its time is over, and says so.
    Stop(usize),
    /// The key's time is over.
    Expire,
    /// A release arrives.
    Release(usize),
}

impl Model for Lock {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for owner in 0..2 {
            // An owner asks for nothing before its release was answered: one that overtook the other on its way would free
            // what it has just got. Where a time-out breaks that order, epochs decide.
            let has_heard = !state.releases.contains(&owner);
            if state.key.is_none() && !state.trusts[owner] && has_heard && state.turns < TURNS_MAX {
                actions.push(Action::Acquire(owner));
            }
            if state.trusts[owner] {
                actions.push(Action::Stop(owner));
            }
        }
        if state.key.is_some_and(|owner| !self.owners_look_at_clocks || !state.trusts[owner]) {
            actions.push(Action::Expire);
        }
        actions.extend(state.releases.iter().map(|owner| Action::Release(*owner)));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Acquire(owner) => {
                (state.key, state.trusts[owner]) = (Some(owner), true);
                state.turns += 1;
            }
            Action::Stop(owner) => {
                state.trusts[owner] = false;
                state.releases.push(owner);
                state.releases.sort_unstable();
            }
            Action::Expire => state.key = None,
            Action::Release(owner) => {
                let at = state.releases.iter().position(|other| *other == owner)?;
                state.releases.remove(at);
                if !self.release_compares || state.key == Some(owner) {
                    state.key = None;
                }
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE, |_, state: &State| state.trusts != [true; 2]),
            Property::sometimes(PASSED_ON, |_, state: &State| state.turns > 2 && state.trusts[1]),
        ]
    }
}

#[test]
fn a_release_that_compares_frees_only_its_own() {
    holds(Lock { release_compares: true, owners_look_at_clocks: true });
}

#[test]
fn a_bare_del_frees_another_ones_lock() {
    breaks(Lock { release_compares: false, owners_look_at_clocks: true }, ONE);
}

/// Why no lock guards anything here: an owner that is frozen looks at no clock.
#[test]
fn an_owner_that_is_frozen_trusts_what_is_gone() {
    breaks(Lock { release_compares: true, owners_look_at_clocks: false }, ONE);
}
