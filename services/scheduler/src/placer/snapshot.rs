//! What the planner is shown of a pool, for a plan and for one that is only imagined. Refuses to do anything with the answer.

use super::{Imagined, Placer, notices::is_noticed, planning::waits};
use domain::{
    device::DeviceModel,
    id::{ProjectId, QueueId, UserId},
    queue::Queue,
    quota::{Account, Quota, Usage},
    runtime::life::{Life, Stage, least},
};
use placement::{Demand, Holding, Nomination, Owner, Plan, Policy, Project, Request, Shared, Snapshot};
use std::collections::{BTreeMap, BTreeSet};
use store::ledger::{Placement, PlacementState};

/// Moves that are named at once.
const MOVES_MAX: usize = 64;

impl Placer {
    /// What would be answered with these besides those that wait, and without those who are gone; with no requests, who could
    /// move. By the terms as they are set now, also of projects that have nothing here yet: as a commit would judge.
    pub(super) async fn imagine(&mut self, Imagined { requests: imagined, gone }: Imagined) -> Plan {
        let moves_max = if imagined.is_empty() { MOVES_MAX } else { 0 };
        let projects = imagined.iter().map(|request| request.project);
        let persons = imagined.iter().filter_map(|request| request.person);
        let now = self.terms_now(projects, persons).await;
        let before = now.map(|(terms, elsewhere)| {
            (std::mem::replace(&mut self.terms, terms), std::mem::replace(&mut self.elsewhere, elsewhere))
        });
        let mut requests: Vec<Request> = self.requests().filter(|request| !gone.contains(&request.holder)).collect();
        requests.extend(imagined);
        let (mut snapshot, policy) = (self.snapshot(requests), Policy { moves_max, ..self.policy() });
        snapshot.holdings.retain(|holding| !gone.contains(&holding.holder));
        snapshot.nominations.retain(|nomination| !gone.contains(&nomination.holder));
        if moves_max > 0 {
            self.leave_snoozed(&mut snapshot.holdings);
        }
        if let Some(before) = before {
            (self.terms, self.elsewhere) = before;
        }
        tokio::task::spawn_blocking(move || placement::plan(&snapshot, &policy)).await.unwrap_or_default()
    }

    pub(super) fn requests(&self) -> impl Iterator<Item = Request> {
        let mounted = self.mounted();
        let may_start = move |life: &&Life| waits(life) && self.forbidden(life).is_none();
        let runtimes = self.lives.iter().map(|stored| &stored.life).filter(may_start).map(move |life| {
            let admitted = self.admitted(life);
            let bound = life.bounds.and_then(|bounds| bounds.lifetime_max_s);
            Request {
                holder: life.holder,
                project: life.project,
                person: self.person_of(life.project, life.requested_by),
                queue: life.queue,
                priority: life.spec.priority,
                submitted_at: life.submitted_at,
                ask: life.spec.ask.clone(),
                storage_bytes: life.spec.storage_bytes,
                nodes: self.nodes_for(life, &mounted),
                gang: life.gang.clone(),
                runtime_s: least(life.spec.lifetime_s, bound).map(u64::from),
                access: admitted.access,
                permitted: self.permitted(&admitted.models),
                class: None,
                alternatives: vec![QueueId(uuid::Uuid::nil())],
            }
        });
        runtimes.chain(self.block_requests())
    }

    pub(super) fn snapshot(&self, requests: Vec<Request>) -> Snapshot {
        let ours = |node, holder| self.placements.get(&holder).is_some_and(|placement| placement.node == node);
        let (nodes, strangers) = self.fleet.snapshot(&self.terms.drained, ours);
        let held = self.placements.values().filter(|placement| placement.state != PlacementState::Nominated);
        let mut holdings: Vec<Holding> = held.map(|placement| self.holding(placement)).collect();
        holdings.extend(strangers);
        let nominated = self.placements.values().filter(|placement| placement.state == PlacementState::Nominated);
        Snapshot {
            now: self.now(),
            nodes,
            holdings,
            nominations: nominated.map(|placement| self.nomination(placement)).collect(),
            projects: self.projects(&requests),
            quotas: self.quotas(),
            requests,
            queues: self.queues(),
            recent: self
                .planning
                .demands
                .iter()
                .map(|(ask, count)| Demand { ask: ask.clone(), count: *count })
                .collect(),
        }
    }

    fn queues(&self) -> Vec<Queue> {
        let with_use = |queue: &Queue| Queue { recent_use: self.recent.of_queue(queue.id), ..queue.clone() };
        self.terms.queues.iter().map(with_use).collect()
    }

    fn holding(&self, placement: &Placement) -> Holding {
        let life = self.lives.get(placement.holder).map(|stored| &stored.life);
        let block = self.block_owner(placement);
        let is_block = block.is_some();
        // One that starts again where it is leaves for nobody before it is back.
        let back = life.filter(|life| self.keeps_its_place(life)).map(|life| self.undisturbed_when_back(life));
        let undisturbed = || life.and_then(|life| life.undisturbed_until(&self.parts.timing.rules));
        let owner = block.unwrap_or_else(|| Owner {
            project: placement.project,
            person: placement.person,
            queue: placement.queue,
            priority: life.map_or(0, |life| life.spec.priority),
            effective_milli: placement.effective_milli,
            storage_bytes: placement.storage_bytes,
            protected_until: back.or_else(undisturbed),
            gang: life.and_then(|life| life.gang.as_ref()).map(|gang| gang.id),
        });
        Holding {
            holder: placement.holder,
            owner: Some(owner),
            node: placement.node,
            grants: placement.grants.clone(),
            cpu_milli: placement.cpu_milli,
            memory_bytes: placement.memory_bytes,
            // One that cannot be read is nobody's victim.
            releasing: !is_block
                && back.is_none()
                && life.is_none_or(|life| matches!(life.stage, Stage::Stopping(_)) || is_noticed(life)),
            started_at: life.and_then(|life| life.placed_at).unwrap_or_else(|| self.now()),
            ends_at: life.and_then(|life| life.ending.as_ref()).map(|ending| ending.at),
        }
    }

    fn nomination(&self, placement: &Placement) -> Nomination {
        Nomination {
            holder: placement.holder,
            node: placement.node,
            grants: placement.grants.clone(),
            cpu_milli: placement.cpu_milli,
            memory_bytes: placement.memory_bytes,
            victims: placement.victims.clone(),
            revocable: self.is_revocable(placement),
        }
    }

    /// Nobody is asked to move whom somebody asked to keep.
    fn leave_snoozed(&self, holdings: &mut [Holding]) {
        for holding in holdings {
            let kept = self.lives.get(holding.holder).and_then(|stored| stored.life.protected_until);
            if let Some(owner) = &mut holding.owner {
                owner.protected_until = owner.protected_until.max(kept);
            }
        }
    }

    /// What the projects may hold here: their quotas, less what they hold in other pools.
    fn projects(&self, requests: &[Request]) -> Vec<Project> {
        let here = self.placements.values().map(|placement| placement.project);
        let named: BTreeSet<_> = requests.iter().map(|request| request.project).chain(here).collect();
        let project = |id| {
            let limits = self.terms.projects.get(&id);
            let elsewhere = self.elsewhere.get(&Account::Project(id)).cloned().unwrap_or_default();
            let quota = limits.map(|limits| less(&limits.policy.quota, &elsewhere));
            Project {
                id,
                group: self.terms.shared.owners.get(&id).and_then(|owner| owner.group()),
                quota: quota.unwrap_or_default(),
                disruptions_left: limits.and_then(|limits| limits.disruptions_left).map(|left| {
                    // Who was told counts as stopped only then, and in the terms some time after.
                    left.saturating_sub(self.disrupted_of(id))
                }),
                recent_use: self.recent.of_project(id),
            }
        };
        named.into_iter().map(project).collect()
    }

    /// What groups and persons may hold, and what they hold in other pools.
    fn quotas(&self) -> Vec<Shared> {
        let quotas = self.terms.shared.quotas.iter();
        let shared = |(account, (quota, _)): (&Account, &(Quota, Usage))| Shared {
            account: *account,
            quota: quota.clone(),
            elsewhere: self.elsewhere.get(account).cloned().unwrap_or_default(),
        };
        quotas.map(shared).collect()
    }

    /// For whose own quota it counts: of whoever starts it, or else of whose personal project it is.
    pub(super) fn person_of(&self, project: ProjectId, starter: Option<UserId>) -> Option<UserId> {
        starter.or_else(|| self.terms.shared.owners.get(&project).and_then(|owner| owner.person()))
    }

    /// What projects, groups (as `owners` tells them) and persons hold in this pool.
    pub(super) fn held_here(&self, owners: &BTreeMap<ProjectId, Account>) -> BTreeMap<Account, Usage> {
        let mut here: BTreeMap<_, Usage> = BTreeMap::new();
        for placement in self.placements.values() {
            let group = owners.get(&placement.project).filter(|owner| owner.group().is_some()).copied();
            let person = placement.person.map(Account::Person);
            for account in [Some(Account::Project(placement.project)), group, person].into_iter().flatten() {
                here.entry(account).or_default().add(&placement.usage());
            }
        }
        here
    }
}

fn less(quota: &Quota, used: &Usage) -> Quota {
    let left = |limit: Option<u64>, used: u64| limit.map(|limit| limit.saturating_sub(used));
    let of_model = |(model, limit): (&DeviceModel, &u64)| {
        let used = used.model_milli.get(model).copied().unwrap_or(0);
        (model.clone(), limit.saturating_sub(used))
    };
    Quota {
        gpu_milli: left(quota.gpu_milli, used.gpu_milli),
        model_milli: quota.model_milli.iter().map(of_model).collect(),
        cpu_milli: left(quota.cpu_milli, used.cpu_milli),
        memory_bytes: left(quota.memory_bytes, used.memory_bytes),
        storage_bytes: left(quota.storage_bytes, used.storage_bytes),
        holders: left(quota.holders, used.holders),
    }
}
