//! The lease of a device: a planner that gives it away, two executors on its node, and processes that go on running
//! whatever anybody believes.

use crate::{breaks, holds};
use stateright::{Model, Property};

const LEASES_MAX: u8 = 3;
const ONE: &str = "at most one process has the device";
const AGAIN: &str = "the device is given away again after its executor was lost";

/// What makes a device free.
#[derive(Clone, Copy, PartialEq)]
enum Release {
    /// The report that the process is gone, of this very lease, or that its node was fenced.
    Proof,
    /// The lease has run out.
    Lease,
    /// A report, of whatever lease.
    AnyReport,
}

#[derive(Clone)]
struct Device {
    release: Release,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct State {
    /// The device's row: who holds it, by lease.
    holder: Option<(u8, usize)>,
    leases: u8,
    /// Assignments under way: lease and executor.
    assigned: Vec<(u8, usize)>,
    /// Processes that use the device: lease and executor.
    processes: Vec<(u8, usize)>,
    /// Reports that a process is gone. Each may come late.
    reports: Vec<u8>,
    /// Executors that the planner does not hear.
    silent: [bool; 2],
}

#[derive(Debug, Clone, PartialEq)]
enum Action {
    /// The planner gives the free device to an executor.
    Place(usize),
    /// An assignment arrives, and a process starts.
    Start(u8, usize),
    /// A process ends, and its executor says so.
    End(u8, usize),
    /// A report arrives; it may arrive again.
    Report(u8),
    /// An executor is frozen or cut off; its process goes on.
    Silence(usize),
    /// It is heard again.
    Speak(usize),
    /// The lease of a silent executor is over.
    Expire,
    /// Somebody made sure that nothing of a silent executor runs any more, nor ever will.
    Fence(usize),
}

impl Model for Device {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for executor in 0..2 {
            if state.holder.is_none() && state.leases < LEASES_MAX && !state.silent[executor] {
                actions.push(Action::Place(executor));
            }
            actions.push(if state.silent[executor] { Action::Speak(executor) } else { Action::Silence(executor) });
            if state.silent[executor] {
                actions.push(Action::Fence(executor));
            }
        }
        actions.extend(state.assigned.iter().map(|(lease, executor)| Action::Start(*lease, *executor)));
        actions.extend(state.processes.iter().map(|(lease, executor)| Action::End(*lease, *executor)));
        actions.extend(state.reports.iter().map(|lease| Action::Report(*lease)));
        if state.holder.is_some_and(|(_, executor)| state.silent[executor]) {
            actions.push(Action::Expire);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Place(executor) => {
                state.leases += 1;
                state.holder = Some((state.leases, executor));
                state.assigned.push((state.leases, executor));
            }
            Action::Start(lease, executor) => {
                state.assigned.retain(|assigned| *assigned != (lease, executor));
                state.processes.push((lease, executor));
                state.processes.sort_unstable();
            }
            Action::End(lease, executor) => {
                state.processes.retain(|process| *process != (lease, executor));
                state.reports.push(lease);
                state.reports.sort_unstable();
            }
            Action::Report(lease) => {
                let is_current = state.holder.is_some_and(|(held, _)| held == lease);
                if is_current || self.release == Release::AnyReport {
                    state.holder = None;
                }
            }
            Action::Silence(executor) => state.silent[executor] = true,
            Action::Speak(executor) => state.silent[executor] = false,
            Action::Expire if self.release == Release::Lease => state.holder = None,
            Action::Expire => return None,
            Action::Fence(executor) => {
                state.assigned.retain(|(_, of)| *of != executor);
                state.processes.retain(|(_, of)| *of != executor);
                if state.holder.is_some_and(|(_, of)| of == executor) {
                    state.holder = None;
                }
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE, |_, state: &State| state.processes.len() <= 1),
            Property::sometimes(AGAIN, |_, state: &State| {
                state.leases > 1 && state.silent[0] && !state.processes.is_empty()
            }),
        ]
    }
}

#[test]
fn a_device_that_only_proof_frees_has_one_process() {
    holds(Device { release: Release::Proof });
}

#[test]
fn a_device_that_its_lease_frees_has_two() {
    breaks(Device { release: Release::Lease }, ONE);
}

#[test]
fn a_device_that_any_report_frees_has_two() {
    breaks(Device { release: Release::AnyReport }, ONE);
}
