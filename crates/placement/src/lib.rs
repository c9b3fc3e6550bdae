//! Who gets which devices, who has to leave for them, and why somebody waits.
//!
//! [`plan`] is a pure function of a [`Snapshot`] and a [`Policy`]: integers only, the same input gives the same plan in
//! whatever order its lists are. Refuses to know where the snapshot comes from, how a plan is committed, and what runs on
//! the devices.

mod accounts;
mod admission;
mod candidate;
mod consolidation;
mod explain;
mod fleet;
mod gangs;
mod isolation;
mod keeping;
mod order;
mod plan;
mod planner;
mod policy;
mod preemption;
mod reservation;
mod room;
mod search;
mod shape;
mod simulation;
mod snapshot;
mod typical;
mod worth;

pub use admission::too_short;
pub use domain::{runtime::gang::Gang, window::Access};
pub use plan::{Assignment, Code, Hint, Move, Place, Plan, Preemption, Refusal, Reservation};
pub use planner::Planner;
pub use policy::Policy;
pub use simulation::{Arrival, Fate, Pauses, Simulation};
pub use snapshot::{Demand, Holding, NODE_DEVICES_MAX, Node, Nomination, Owner, Project, Request, Shared, Snapshot};

/// Decides about all requests of a snapshot. One about which this panics is refused with [`Code::PlannerFailed`], and the
/// others are decided about without it.
#[must_use]
pub fn plan(snapshot: &Snapshot, policy: &Policy) -> Plan {
    isolation::without_panics(snapshot, |snapshot| decided(snapshot, policy))
}

fn decided(snapshot: &Snapshot, policy: &Policy) -> Plan {
    let mut planner = Planner::new(snapshot, policy);
    let mut plan = planner.run(snapshot.requests.iter());
    planner.explain(&snapshot.requests, &mut plan);
    plan.moves = planner.moves();
    plan
}
