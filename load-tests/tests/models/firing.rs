//! Firing: two schedulers that both believe in their lock, two times of a schedule, and a request that its client sends
//! twice. `run/commit.sql` and `shard/take.sql`, one action for each.

use crate::{breaks, holds};
use stateright::{Model, Property};

const SCHEDULERS: usize = 2;
/// The times of the schedule are 0 and 1; the request's key is the last.
const TIMES: u8 = 2;
const REQUEST: usize = TIMES as usize;
const REPEATS: u8 = 2;
const EPOCH_MAX: u8 = 3;
const ONCE: &str = "each key has at most one run";
const CURRENT: &str = "nothing of a former epoch is written";
const ALL: &str = "everything fires";

#[derive(Clone)]
struct Firing {
    unique_key: bool,
    epoch_check: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    epoch: u8,
    /// Every time before it is decided.
    mark: u8,
    /// Runs of each key.
    runs: [u8; REQUEST + 1],
    stale_writes: u8,
    requests_left: u8,
    schedulers: [Scheduler; SCHEDULERS],
}

/// What a scheduler has in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Scheduler {
    owns: Option<Owned>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Owned {
    epoch: u8,
    mark: u8,
    /// A transaction that is under way.
    writes: Option<Write>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Write {
    Time(u8),
    Request,
}

#[derive(Debug, Clone, PartialEq)]
enum Action {
    Take(usize),
    Begin(usize, Write),
    Commit(usize),
    Crash(usize),
}

impl Model for Firing {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            epoch: 0,
            mark: 0,
            runs: [0; REQUEST + 1],
            stale_writes: 0,
            requests_left: REPEATS,
            schedulers: [Scheduler::default(); SCHEDULERS],
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (at, scheduler) in state.schedulers.iter().enumerate() {
            // The lock says yes to everybody at any time.
            if state.epoch < EPOCH_MAX {
                actions.push(Action::Take(at));
            }
            let Some(owned) = scheduler.owns else { continue };
            actions.push(Action::Crash(at));
            if owned.writes.is_some() {
                actions.push(Action::Commit(at));
                continue;
            }
            if owned.mark < TIMES {
                actions.push(Action::Begin(at, Write::Time(owned.mark)));
            }
            if state.requests_left > 0 {
                actions.push(Action::Begin(at, Write::Request));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Take(at) => {
                state.epoch += 1;
                state.schedulers[at].owns = Some(Owned { epoch: state.epoch, mark: state.mark, writes: None });
            }
            Action::Begin(at, write) => {
                state.requests_left -= u8::from(write == Write::Request);
                state.schedulers[at].owns.as_mut()?.writes = Some(write);
            }
            Action::Commit(at) => {
                let owned = state.schedulers[at].owns.as_mut()?;
                let write = owned.writes.take()?;
                let is_stale = owned.epoch != state.epoch;
                if is_stale && self.epoch_check {
                    // Zero rows: it owns nothing.
                    state.schedulers[at].owns = None;
                    return Some(state);
                }
                let key = match write {
                    Write::Time(time) => {
                        owned.mark = time + 1;
                        state.mark = time + 1;
                        usize::from(time)
                    }
                    Write::Request => REQUEST,
                };
                state.stale_writes += u8::from(is_stale);
                state.runs[key] += u8::from(!self.unique_key || state.runs[key] == 0);
            }
            Action::Crash(at) => state.schedulers[at].owns = None,
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONCE, |_, state: &State| state.runs.iter().all(|runs| *runs <= 1)),
            Property::always(CURRENT, |_, state: &State| state.stale_writes == 0),
            Property::sometimes(ALL, |_, state: &State| state.runs.iter().all(|runs| *runs == 1)),
        ]
    }
}

#[test]
fn with_both_guards_each_key_fires_once() {
    holds(Firing { unique_key: true, epoch_check: true });
}

#[test]
fn without_the_unique_key_a_repeated_request_runs_twice() {
    breaks(Firing { unique_key: false, epoch_check: true }, ONCE);
}

#[test]
fn without_the_epoch_a_former_owner_writes() {
    breaks(Firing { unique_key: true, epoch_check: false }, CURRENT);
}

/// The key alone keeps times from firing twice: the epoch is for what has no key.
#[test]
fn without_the_epoch_the_key_still_holds() {
    let model = Firing { unique_key: true, epoch_check: false };
    let checker = stateright::Checker::join(model.checker().spawn_bfs());
    assert!(stateright::Checker::discovery(&checker, ONCE).is_none());
}
