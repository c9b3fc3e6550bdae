//! What queues, projects, groups and persons hold, against what they may: effective GPU, processor, memory, holders.

use crate::{
    fleet::Fleet,
    policy::Policy,
    snapshot::{Holding, Nomination, Owner, Project, Request, Shared, Snapshot},
};
use domain::{
    device::DeviceModel,
    id::{HolderId, ProjectId, QueueId, UserId},
    queue::Queue,
    quota::{Account, Excess, Quota, Usage},
};
use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, HashMap},
};

/// A million is everything there is.
const MILLION: u128 = 1_000_000;

/// Who holds how much.
#[derive(Debug, Clone)]
pub(crate) struct Accounts {
    queues: BTreeMap<QueueId, QueueAccount>,
    projects: BTreeMap<ProjectId, ProjectAccount>,
    /// Of groups and persons that have limits.
    further: BTreeMap<Account, (Quota, Usage)>,
    /// Who is counted already, for a place that others are leaving.
    nominated: BTreeSet<HolderId>,
    /// What the whole fleet has.
    total: Usage,
}

#[derive(Debug, Clone)]
pub(crate) struct QueueAccount {
    pub(crate) queue: Queue,
    /// Without those who were told to leave.
    pub(crate) used_milli: u64,
    /// With them, as long as they have not left.
    pub(crate) held_milli: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct ProjectAccount {
    pub(crate) project: Project,
    pub(crate) used: Usage,
    pub(crate) stopped: u32,
}

/// For whom something counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whose {
    project: ProjectId,
    person: Option<UserId>,
    pub(crate) queue: QueueId,
}

impl From<&Request> for Whose {
    fn from(request: &Request) -> Self {
        Self { project: request.project, person: request.person, queue: request.queue }
    }
}

impl From<&Owner> for Whose {
    fn from(owner: &Owner) -> Self {
        Self { project: owner.project, person: owner.person, queue: owner.queue }
    }
}

impl Accounts {
    pub(crate) fn new(snapshot: &Snapshot, fleet: &Fleet) -> Self {
        let queue = |queue: &Queue| (queue.id, QueueAccount { queue: queue.clone(), used_milli: 0, held_milli: 0 });
        let project = |project: &Project| {
            (project.id, ProjectAccount { project: project.clone(), used: Usage::default(), stopped: 0 })
        };
        let shared = |shared: &Shared| (shared.account, (shared.quota.clone(), shared.elsewhere.clone()));
        let mut accounts = Self {
            queues: snapshot.queues.iter().map(queue).collect(),
            projects: snapshot.projects.iter().map(project).collect(),
            further: snapshot.quotas.iter().map(shared).collect(),
            nominated: BTreeSet::new(),
            total: total(fleet),
        };
        for holding in &snapshot.holdings {
            if let Some(owner) = &holding.owner {
                let usage = usage_of(holding, owner, fleet);
                accounts.add(owner, &usage);
                if holding.releasing {
                    accounts.left_queue(owner.queue, usage.gpu_milli);
                }
            }
        }
        let waiting: HashMap<HolderId, &Request> = snapshot.requests.iter().map(|r| (r.holder, r)).collect();
        for nomination in &snapshot.nominations {
            if let Some(request) = waiting.get(&nomination.holder) {
                accounts.add(*request, &nominated_usage(request, nomination, fleet));
                accounts.nominated.insert(request.holder);
            }
        }
        accounts
    }

    pub(crate) fn queue(&self, id: QueueId) -> Option<&QueueAccount> {
        self.queues.get(&id)
    }

    pub(crate) fn project(&self, id: ProjectId) -> Option<&ProjectAccount> {
        self.projects.get(&id)
    }

    /// Counts what somebody gets.
    pub(crate) fn add(&mut self, whose: impl Into<Whose>, usage: &Usage) {
        let whose = whose.into();
        self.further(whose, |used| used.add(usage));
        if let Some(account) = self.projects.get_mut(&whose.project) {
            account.used.add(usage);
        }
        if let Some(account) = self.queues.get_mut(&whose.queue) {
            account.used_milli = account.used_milli.saturating_add(usage.gpu_milli);
            account.held_milli = account.held_milli.saturating_add(usage.gpu_milli);
        }
    }

    /// Takes back what somebody got.
    pub(crate) fn remove(&mut self, whose: impl Into<Whose>, usage: &Usage) {
        let whose = whose.into();
        self.further(whose, |used| used.remove(usage));
        if let Some(account) = self.projects.get_mut(&whose.project) {
            account.used.remove(usage);
        }
        if let Some(account) = self.queues.get_mut(&whose.queue) {
            account.used_milli = account.used_milli.saturating_sub(usage.gpu_milli);
            account.held_milli = account.held_milli.saturating_sub(usage.gpu_milli);
        }
    }

    /// What the group and the person hold for whom it counts, where these have limits.
    fn further(&mut self, whose: Whose, change: impl Fn(&mut Usage)) {
        for account in self.beyond_project(whose) {
            if let Some((_, used)) = self.further.get_mut(&account) {
                change(used);
            }
        }
    }

    /// The group and the person for whom it counts.
    fn beyond_project(&self, whose: Whose) -> impl Iterator<Item = Account> + use<> {
        let group = self.projects.get(&whose.project).and_then(|account| account.project.group);
        group.map(Account::Group).into_iter().chain(whose.person.map(Account::Person))
    }

    /// A queue's holder was told to leave. Its project's quota and its queue's limit are free only when it has left.
    pub(crate) fn left_queue(&mut self, queue: QueueId, milli: u64) {
        if let Some(account) = self.queues.get_mut(&queue) {
            account.used_milli = account.used_milli.saturating_sub(milli);
        }
    }

    /// One more of the project's holders is stopped for somebody else.
    pub(crate) fn stopped(&mut self, project: ProjectId) {
        if let Some(account) = self.projects.get_mut(&project) {
            account.stopped += 1;
        }
    }

    /// Who would hold too much, and in which dimension, models apart: the project first, then its group, then the person.
    pub(crate) fn excess(&self, request: &Request) -> Option<(Account, Excess)> {
        self.excess_of(request, &usage_of_ask(request, None))
    }

    /// Who would hold too much of a model.
    pub(crate) fn model_excess(&self, request: &Request, model: &DeviceModel) -> Option<(Account, Excess)> {
        self.excess_of(request, &usage_of_ask(request, Some(model)))
    }

    fn excess_of(&self, request: &Request, more: &Usage) -> Option<(Account, Excess)> {
        self.quotas_of(request.into()).find_map(|(account, quota, used)| Some((account, quota.excess(used, more)?)))
    }

    /// Whether a quota for which it counts limits single models.
    pub(crate) fn limits_models(&self, request: &Request) -> bool {
        self.quotas_of(request.into()).any(|(_, quota, _)| !quota.model_milli.is_empty())
    }

    /// The quotas for which somebody counts, and what is held of them.
    pub(crate) fn quotas_of(&self, whose: Whose) -> impl Iterator<Item = (Account, &Quota, &Usage)> {
        let own = self.projects.get(&whose.project);
        let own = own.map(|own| (Account::Project(whose.project), &own.project.quota, &own.used));
        let beyond = self.beyond_project(whose);
        own.into_iter().chain(beyond.filter_map(|account| {
            let (quota, used) = self.further.get(&account)?;
            Some((account, quota, used))
        }))
    }

    /// The queue, if it would hold more than its limit, with those who have not left yet.
    pub(crate) fn over_limit(&self, request: &Request) -> Option<&QueueAccount> {
        let wanted = request.ask.effective_milli();
        self.queues.get(&request.queue).filter(|a| {
            a.queue.limit_milli.is_some_and(|limit| wanted > 0 && a.held_milli.saturating_add(wanted) > limit)
        })
    }

    /// Whether the queue gets no more than it deserves with this.
    pub(crate) fn is_deserved(&self, request: &Request) -> bool {
        let account = self.queues.get(&request.queue);
        let more = if self.nominated.contains(&request.holder) { 0 } else { request.ask.effective_milli() };
        account.is_some_and(|a| a.used_milli.saturating_add(more) <= a.queue.deserved_milli)
    }

    /// Whose turn it is: what is deserved comes before what is borrowed; then priority, the queue's share, priority within
    /// the queue, the project's share, what queue and project had lately, and age.
    pub(crate) fn turn(&self, a: &Request, b: &Request, aged: impl Fn(&Request, i32) -> i64) -> Ordering {
        let queue = |request: &Request| self.queues.get(&request.queue);
        let recent_use = |request: &Request| self.project(request.project).map(|account| account.project.recent_use);
        let priority = |request: &Request| aged(request, queue(request).map_or(0, |account| account.queue.priority));
        (!self.is_deserved(a))
            .cmp(&!self.is_deserved(b))
            .then_with(|| priority(b).cmp(&priority(a)))
            .then_with(|| self.queue_share(a).cmp(&self.queue_share(b)))
            .then_with(|| queue(a).map(|q| q.queue.recent_use).cmp(&queue(b).map(|q| q.queue.recent_use)))
            .then_with(|| aged(b, b.priority).cmp(&aged(a, a.priority)))
            .then_with(|| self.project_share(a).cmp(&self.project_share(b)))
            .then_with(|| recent_use(a).cmp(&recent_use(b)))
            .then_with(|| (a.submitted_at, a.holder).cmp(&(b.submitted_at, b.holder)))
    }

    /// What the queue holds, against what it deserves; beyond that, what it borrows, against its weight.
    fn queue_share(&self, request: &Request) -> u128 {
        let Some(account) = self.queues.get(&request.queue) else { return 0 };
        let (used, deserved) = (u128::from(account.used_milli), u128::from(account.queue.deserved_milli));
        match used.checked_sub(deserved) {
            None => used * MILLION / deserved.max(1),
            Some(borrowed) => MILLION + borrowed * MILLION / u128::from(account.queue.weight.max(1)),
        }
    }

    /// The project's part of whatever it has most of (dominant resource fairness).
    fn project_share(&self, request: &Request) -> u128 {
        let Some(account) = self.projects.get(&request.project) else { return 0 };
        let (used, total) = (&account.used, &self.total);
        let part = |used: u64, total: u64| u128::from(used) * MILLION / u128::from(total.max(1));
        let models = used.model_milli.iter();
        models
            .map(|(model, milli)| part(*milli, total.model_milli.get(model).copied().unwrap_or_default()))
            .chain([
                part(used.gpu_milli, total.gpu_milli),
                part(used.cpu_milli, total.cpu_milli),
                part(used.memory_bytes, total.memory_bytes),
            ])
            .max()
            .unwrap_or_default()
    }
}

/// What a request will hold, on devices of this model.
pub(crate) fn usage_of_ask(request: &Request, model: Option<&DeviceModel>) -> Usage {
    let gpu_milli = request.ask.effective_milli();
    Usage {
        gpu_milli,
        model_milli: model.map(|model| (model.clone(), gpu_milli)).into_iter().collect(),
        cpu_milli: request.ask.cpu_milli,
        memory_bytes: request.ask.memory_bytes,
        storage_bytes: request.storage_bytes,
        holders: 1,
    }
}

/// What a nomination counts for already: nobody else may use up its quota meanwhile.
pub(crate) fn nominated_usage(request: &Request, nomination: &Nomination, fleet: &Fleet) -> Usage {
    let model = nomination.grants.first().and_then(|grant| fleet.model_of(nomination.node, grant.device));
    usage_of_ask(request, model)
}

/// What a holding counts for.
pub(crate) fn usage_of(holding: &Holding, owner: &Owner, fleet: &Fleet) -> Usage {
    let model = holding.grants.first().and_then(|grant| fleet.model_of(holding.node, grant.device)).cloned();
    Usage {
        gpu_milli: owner.effective_milli,
        model_milli: model.map(|model| (model, owner.effective_milli)).into_iter().collect(),
        cpu_milli: holding.cpu_milli,
        memory_bytes: holding.memory_bytes,
        storage_bytes: owner.storage_bytes,
        holders: 1,
    }
}

/// Priority, raised by waiting.
pub(crate) fn aged(request: &Request, priority: i32, now: jiff::Timestamp, policy: &Policy) -> i64 {
    let waited = (now.as_second() - request.submitted_at.as_second()).max(0);
    let steps = i64::try_from(policy.aging_s).ok().and_then(|step| waited.checked_div(step)).unwrap_or_default();
    i64::from(priority).saturating_add(steps)
}

fn total(fleet: &Fleet) -> Usage {
    let mut total = Usage::default();
    for node in &fleet.empty {
        total.cpu_milli = total.cpu_milli.saturating_add(node.cpu_milli);
        total.memory_bytes = total.memory_bytes.saturating_add(node.memory_bytes);
        for device in &node.devices {
            let model = &fleet.models[fleet.kinds[device.kind].model];
            total.gpu_milli += u64::from(device.free_milli);
            *total.model_milli.entry(model.clone()).or_default() += u64::from(device.free_milli);
        }
    }
    total
}
