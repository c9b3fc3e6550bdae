//! A mistake in the planner about one request keeps no other one from its place: who makes it panic is found, and refused.
//! Refuses to know what a plan is made of.

use crate::{
    plan::{Code, Plan, Refusal},
    snapshot::Snapshot,
};
use domain::id::HolderId;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Who is refused so in one plan; after more of them nobody is planned.
const CULPRITS_MAX: usize = 16;

/// What `plan` answers about a snapshot, without those about whom it panics. Nothing of a plan that panicked is kept, so
/// nobody sees anything half done.
pub(crate) fn without_panics(snapshot: &Snapshot, plan: impl Fn(&Snapshot) -> Plan) -> Plan {
    let attempt = |snapshot: &Snapshot| catch_unwind(AssertUnwindSafe(|| plan(snapshot))).ok();
    if let Some(plan) = attempt(snapshot) {
        return plan;
    }
    let mut rest = snapshot.clone();
    let mut culprits = Vec::new();
    let is_about_requests = attempt(&with(snapshot, 0)).is_some();
    while is_about_requests && culprits.len() < CULPRITS_MAX && !rest.requests.is_empty() {
        culprits.push(rest.requests.remove(culprit(&rest, attempt)).holder);
        if let Some(mut plan) = attempt(&rest) {
            plan.problems.extend(culprits.iter().map(|holder| format!("a plan with {holder} panics; it is refused")));
            return told(plan, &culprits);
        }
    }
    let everybody: Vec<HolderId> = snapshot.requests.iter().map(|request| request.holder).collect();
    told(Plan { problems: vec!["planning panics, and nobody is placed".to_owned()], ..Plan::default() }, &everybody)
}

/// With its first so many requests alone.
fn with(snapshot: &Snapshot, count: usize) -> Snapshot {
    let mut first = snapshot.clone();
    first.requests.truncate(count);
    first
}

/// The last of the fewest requests, from the first on, with which there is a panic.
fn culprit(snapshot: &Snapshot, attempt: impl Fn(&Snapshot) -> Option<Plan>) -> usize {
    let (mut well, mut ill) = (0, snapshot.requests.len());
    while ill - well > 1 {
        let middle = well.midpoint(ill);
        match attempt(&with(snapshot, middle)) {
            Some(_) => well = middle,
            None => ill = middle,
        }
    }
    well
}

fn told(mut plan: Plan, culprits: &[HolderId]) -> Plan {
    let sentence =
        "the planner made a mistake about this request, which the scheduler's log tells; ask an administrator";
    plan.refusals.extend(culprits.iter().map(|holder| Refusal {
        holder: *holder,
        code: Code::PlannerFailed,
        sentence: sentence.to_owned(),
        hints: Vec::new(),
    }));
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plan::Assignment, plan::Place, snapshot::Request};
    use domain::{
        device::{Ask, Link},
        id::{NodeId, ProjectId, QueueId},
        window::Access,
    };
    use jiff::Timestamp;
    use std::cell::Cell;
    use uuid::Uuid;

    fn request(number: u128) -> Request {
        let ask = Ask {
            gpus: 0,
            gpu_milli: 0,
            gpu_memory_bytes: None,
            models: Vec::new(),
            models_ordered: false,
            link: Link::Any,
            cpu_milli: 1,
            memory_bytes: 1,
        };
        Request {
            holder: HolderId(Uuid::from_u128(number)),
            project: ProjectId(Uuid::nil()),
            person: None,
            queue: QueueId(Uuid::nil()),
            priority: 0,
            submitted_at: Timestamp::UNIX_EPOCH,
            ask,
            storage_bytes: 0,
            nodes: None,
            gang: None,
            runtime_s: None,
            access: Access::Always,
            permitted: Vec::new(),
            class: None,
            alternatives: Vec::new(),
        }
    }

    fn snapshot(count: u128) -> Snapshot {
        Snapshot {
            now: Timestamp::UNIX_EPOCH,
            nodes: Vec::new(),
            holdings: Vec::new(),
            nominations: Vec::new(),
            requests: (0..count).map(request).collect(),
            queues: Vec::new(),
            projects: Vec::new(),
            quotas: Vec::new(),
            recent: Vec::new(),
        }
    }

    /// A planner that places everybody and panics about some; how often it was asked, who has a place and who has not.
    fn planned(count: u128, panics: impl Fn(&Snapshot) -> bool) -> (usize, Vec<u128>, Vec<u128>) {
        let asked = Cell::new(0);
        let plan = without_panics(&snapshot(count), |snapshot| {
            asked.set(asked.get() + 1);
            assert!(!panics(snapshot), "this is meant");
            let place = Place { node: NodeId(Uuid::nil()), grants: Vec::new(), cpu_milli: 1, memory_bytes: 1 };
            let assign =
                |request: &Request| Assignment { holder: request.holder, place: place.clone(), stopped_at: None };
            Plan { assignments: snapshot.requests.iter().map(assign).collect(), ..Plan::default() }
        });
        assert!(plan.refusals.iter().all(|refusal| refusal.code == Code::PlannerFailed));
        let placed = plan.assignments.iter().map(|assignment| assignment.holder.0.as_u128()).collect();
        (asked.get(), placed, plan.refusals.iter().map(|refusal| refusal.holder.0.as_u128()).collect())
    }

    #[test]
    fn who_makes_it_panic_is_refused_and_the_others_are_placed() {
        let has = |snapshot: &Snapshot, number| snapshot.requests.iter().any(|r| r.holder.0.as_u128() == number);
        assert_eq!(planned(3, |_| false), (1, vec![0, 1, 2], vec![]));
        assert_eq!(planned(1, |s| has(s, 0)).1, [0_u128; 0]);
        for culprit in 0..5 {
            let (_, placed, refused) = planned(5, |s| has(s, culprit));
            assert_eq!((placed.len(), refused), (4, vec![culprit]));
        }
        let (_, placed, refused) = planned(6, |s| has(s, 4) || has(s, 1));
        assert_eq!((placed, refused), (vec![0, 2, 3, 5], vec![1, 4]));
        // Two that are harmless without each other.
        let (_, placed, refused) = planned(4, |s| has(s, 0) && has(s, 2));
        assert_eq!((placed, refused), (vec![0, 1, 3], vec![2]));
        let (asked, ..) = planned(1_000, |s| has(s, 700));
        assert!(asked <= 14, "{asked} plans to find one of a thousand");
    }

    #[test]
    fn what_panics_about_the_fleet_refuses_all() {
        let (asked, placed, refused) = planned(40, |_| true);
        assert_eq!((placed.len(), refused.len()), (0, 40));
        assert_eq!(asked, 2, "with everybody, and with nobody");
    }
}
