//! Take-over of a unit that runs: two schedulers that both believe that they own it, two executors, and results that come
//! late. A write of a unit replaces its row whatever was there: only the epoch and the lease say whether it may.

use crate::{breaks, holds};
use stateright::{Model, Property};

const EPOCH_MAX: u8 = 2;
const LEASES_PER_EPOCH: u8 = 4;
/// Tries of one unit in all.
const TRIES_MAX: u8 = 4;
const ONE: &str = "at most one result counts";
const RISING: &str = "the lease of the row never falls";
const ENDS: &str = "the unit completes after a take-over";

#[derive(Clone)]
struct Takeover {
    epoch_check: bool,
    lease_check: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    epoch: u8,
    row: Unit,
    /// Each scheduler's epoch and its copy of the row.
    schedulers: [Option<(u8, Unit)>; 2],
    /// Leases of tries whose results are under way, or could be at any moment; a result is sent until it is answered.
    results: Vec<u8>,
    accepted: u8,
    tries: u8,
    has_fallen: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Unit {
    Ready { lease: u8 },
    Running { lease: u8 },
    Done { lease: u8 },
}

impl Unit {
    fn lease(self) -> u8 {
        match self {
            Self::Ready { lease } | Self::Running { lease } | Self::Done { lease } => lease,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Action {
    Take(usize),
    /// The unit goes to an executor.
    Assign(usize),
    /// The executor was silent for too long.
    GiveUp(usize),
    /// A result reaches a scheduler.
    Deliver(usize, u8),
}

impl Takeover {
    /// A write of a scheduler: zero rows where its epoch is over. Answers whether it counts.
    fn write(&self, state: &mut State, by: usize, unit: Unit) -> bool {
        let Some((epoch, copy)) = state.schedulers[by].as_mut() else { return false };
        if self.epoch_check && *epoch != state.epoch {
            state.schedulers[by] = None;
            return false;
        }
        *copy = unit;
        state.has_fallen |= unit.lease() < state.row.lease();
        state.row = unit;
        true
    }
}

impl Model for Takeover {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            epoch: 0,
            row: Unit::Ready { lease: 0 },
            schedulers: [None; 2],
            results: Vec::new(),
            accepted: 0,
            tries: 0,
            has_fallen: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (at, scheduler) in state.schedulers.iter().enumerate() {
            if state.epoch < EPOCH_MAX {
                actions.push(Action::Take(at));
            }
            let Some((_, copy)) = scheduler else { continue };
            match copy {
                Unit::Ready { .. } if state.tries < TRIES_MAX => actions.push(Action::Assign(at)),
                Unit::Running { .. } => actions.push(Action::GiveUp(at)),
                _ => {}
            }
            actions.extend(state.results.iter().map(|lease| Action::Deliver(at, *lease)));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Take(at) => {
                state.epoch += 1;
                state.schedulers[at] = Some((state.epoch, state.row));
            }
            Action::Assign(at) => {
                let (epoch, copy) = state.schedulers[at]?;
                let lease = (copy.lease() + 1).max(epoch * LEASES_PER_EPOCH + 1);
                if self.write(&mut state, at, Unit::Running { lease }) {
                    state.tries += 1;
                    state.results.push(lease);
                    state.results.sort_unstable();
                }
            }
            Action::GiveUp(at) => {
                let (_, copy) = state.schedulers[at]?;
                self.write(&mut state, at, Unit::Ready { lease: copy.lease() });
            }
            Action::Deliver(at, lease) => {
                let (_, copy) = state.schedulers[at]?;
                let counts = match copy {
                    Unit::Running { lease: current } => !self.lease_check || current == lease,
                    _ => false,
                };
                if counts && self.write(&mut state, at, Unit::Done { lease }) {
                    state.accepted += 1;
                }
                state.results.retain(|other| *other != lease || state.schedulers[at].is_none());
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE, |_, state: &State| state.accepted <= 1),
            Property::always(RISING, |_, state: &State| !state.has_fallen),
            Property::sometimes(ENDS, |_, state: &State| state.epoch > 1 && state.accepted == 1),
        ]
    }
}

#[test]
fn with_epoch_and_lease_one_result_counts() {
    holds(Takeover { epoch_check: true, lease_check: true });
}

#[test]
fn without_the_epoch_two_results_count() {
    breaks(Takeover { epoch_check: false, lease_check: true }, ONE);
}

#[test]
fn without_the_epoch_the_lease_falls() {
    breaks(Takeover { epoch_check: false, lease_check: true }, RISING);
}

/// Within one epoch the lease is what refuses the result of a try that was given up.
#[test]
fn without_the_lease_a_former_try_counts() {
    breaks(Takeover { epoch_check: true, lease_check: false }, RISING);
}
