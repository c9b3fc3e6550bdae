//! What people set that a pool's planner goes by: queues, plans, limits, drained nodes. Refuses to write any of it.

use crate::{
    Error, Store, ledger, query,
    quotas::{self, Shared},
};
use deadpool_postgres::Client;
use domain::{
    id::{HolderId, PlanId, ProjectId, QueueId, UserId},
    queue::Queue,
    quota::{Quota, Usage},
    runtime::rules::{Plan, Policy},
    window::Window,
};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::Row;
use uuid::Uuid;

/// Everything that planning one pool depends on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Terms {
    /// The pool's queues.
    pub queues: Vec<Queue>,
    /// What the projects may hold; one without a row has no limits.
    pub projects: BTreeMap<ProjectId, Limits>,
    /// Who owns the projects, and what groups and persons may hold.
    pub shared: Shared,
    /// Who of projects that hold more than they may has to make room, and when: whoever was placed last goes first.
    pub over_quota: BTreeMap<HolderId, Timestamp>,
    /// Which plans open a queue to a project.
    pub plans: BTreeMap<(ProjectId, QueueId), Vec<Plan>>,
    /// Node and device; no device is the whole node.
    pub drained: BTreeSet<(String, String)>,
    /// By class of devices: models that it means, and what a whole one is worth.
    pub worths: Vec<(Vec<String>, u64)>,
}

/// What a project's runtimes may be and hold, and for how long.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    /// What an administrator set.
    pub policy: Policy,
    /// What it holds, over all pools, with its volumes.
    pub used: Usage,
    /// Of that, the sizes of its volumes.
    pub volume_bytes: u64,
    /// Of its runtimes, how many may still be stopped for others within this hour.
    pub disruptions_left: Option<u32>,
    /// From when on those who hold more than the quota are stopped; `None` is never.
    pub over_quota_until: Option<Timestamp>,
}

/// Reads the terms of a pool for these projects, and for these persons who have started something.
///
/// # Errors
/// When the database does not answer.
pub async fn read(store: &Store, pool: &str, projects: &[ProjectId], persons: &[UserId]) -> Result<Terms, Error> {
    let client = store.client().await?;
    let mut terms = Terms::default();
    let rows = query::rows(&client, include_str!("../sql/queue/of_pool.sql"), &[&pool]).await?;
    terms.queues = rows.iter().map(queue).collect();
    let rows = query::rows(&client, include_str!("../sql/drained_node/of_pool.sql"), &[&pool]).await?;
    terms.drained = rows.iter().map(|row| (row.get("node"), row.get("device"))).collect();
    let rows = query::rows(&client, include_str!("../sql/device_class/all.sql"), &[]).await?;
    terms.worths = rows.iter().map(|row| (row.get("models"), count(row, "worth").unwrap_or(1))).collect();
    if projects.is_empty() {
        return Ok(terms);
    }
    terms.shared = quotas::read(&client, projects, persons).await?;
    let projects: Vec<Uuid> = projects.iter().map(|id| id.0).collect();
    let rows = query::rows(&client, include_str!("../sql/project_policy/limits.sql"), &[&projects]).await?;
    terms.projects = rows.iter().map(|row| (ProjectId(row.get("project_id")), limits(row))).collect();
    terms.over_quota = over_quota(&client, &terms.projects).await?;
    let queues: Vec<Uuid> = terms.queues.iter().map(|queue| queue.id.0).collect();
    terms.plans = plans(&client, &queues, &projects).await?;
    Ok(terms)
}

/// Who has to go so that projects which hold more than they may hold no more than that. Every pool finds the same ones,
/// and stops those that are its own.
async fn over_quota(
    client: &Client,
    projects: &BTreeMap<ProjectId, Limits>,
) -> Result<BTreeMap<HolderId, Timestamp>, Error> {
    let nothing = Usage::default();
    let mut over: BTreeMap<ProjectId, (Timestamp, Usage)> = BTreeMap::new();
    for (project, limits) in projects {
        let until = limits.over_quota_until.filter(|_| limits.policy.quota.excess(&nothing, &limits.used).is_some());
        if let Some(until) = until {
            // Its volumes stay, whoever goes.
            over.insert(*project, (until, Usage { storage_bytes: limits.volume_bytes, ..Usage::default() }));
        }
    }
    if over.is_empty() {
        return Ok(BTreeMap::new());
    }
    let ids: Vec<Uuid> = over.keys().map(|project| project.0).collect();
    let rows = query::rows(client, include_str!("../sql/placement/of_projects.sql"), &[&ids]).await?;
    for row in &rows {
        if let Some((_, held)) = over.get_mut(&ProjectId(row.get("project_id"))) {
            held.add(&ledger::held_by(row));
        }
    }
    let mut goes = BTreeMap::new();
    for row in &rows {
        let project = ProjectId(row.get("project_id"));
        let (Some((until, held)), Some(limits)) = (over.get_mut(&project), projects.get(&project)) else { continue };
        // Whose going would help: one that has nothing of what is too much stays.
        let own = ledger::held_by(row);
        if let Some(excess) = limits.policy.quota.excess(&nothing, held)
            && excess.concerns(&own)
        {
            held.remove(&own);
            goes.insert(HolderId(row.get("holder")), *until);
        }
    }
    Ok(goes)
}

async fn plans(
    client: &Client,
    queues: &[Uuid],
    projects: &[Uuid],
) -> Result<BTreeMap<(ProjectId, QueueId), Vec<Plan>>, Error> {
    let rows = query::rows(client, include_str!("../sql/plan/of_queues.sql"), &[&queues, &projects]).await?;
    let ids: BTreeSet<Uuid> = rows.iter().map(|row| row.get("id")).collect();
    let ids: Vec<Uuid> = ids.into_iter().collect();
    let mut windows: BTreeMap<Uuid, Vec<Window>> = BTreeMap::new();
    for row in query::rows(client, include_str!("../sql/plan_window/of_plans.sql"), &[&ids]).await? {
        // One that cannot be read opens nothing: the web-server writes none of that kind.
        if let Some(window) = window(&row) {
            windows.entry(row.get("plan_id")).or_default().push(window);
        }
    }
    let mut plans: BTreeMap<_, Vec<Plan>> = BTreeMap::new();
    for row in rows {
        let windows = windows.get(&row.get("id")).cloned().unwrap_or_default();
        let key = (ProjectId(row.get("project_id")), QueueId(row.get("queue_id")));
        plans.entry(key).or_default().push(plan(&row, windows));
    }
    Ok(plans)
}

fn plan(row: &Row, windows: Vec<Window>) -> Plan {
    Plan {
        id: PlanId(row.get("id")),
        name: row.get("name"),
        models: row.get("models"),
        gpus_max: small(row, "gpus_max"),
        gpu_milli_max: big(row, "gpu_milli_max"),
        cpu_milli_max: big(row, "cpu_milli_max"),
        memory_max: big(row, "memory_max"),
        lifetime_max_s: small(row, "lifetime_max_s"),
        windows,
    }
}

fn window(row: &Row) -> Option<Window> {
    let zone: &str = row.get("time_zone");
    let days: Option<Vec<i16>> = row.get("weekdays");
    match days {
        Some(days) => {
            let days: Vec<u8> = days.into_iter().filter_map(|day| u8::try_from(day).ok()).collect();
            let minute = |column: &str| u16::try_from(row.get::<_, Option<i16>>(column)?).ok();
            Window::weekly(zone, &days, minute("start_minute")?, minute("end_minute")?).ok()
        }
        None => {
            let at = |column: &str| row.get::<_, Option<Timestamp>>(column);
            Window::once(zone, at("starts_at")?, at("ends_at")?).ok()
        }
    }
}

fn queue(row: &Row) -> Queue {
    Queue {
        id: QueueId(row.get("id")),
        name: row.get("name"),
        priority: row.get("priority"),
        preemptible: row.get("preemptible"),
        deserved_milli: u64::try_from(row.get::<_, i64>("deserved_milli")).unwrap_or(0),
        limit_milli: big(row, "limit_milli"),
        weight: small(row, "weight").unwrap_or(1),
        recent_use: 0,
    }
}

fn limits(row: &Row) -> Limits {
    let left: Option<i32> = row.get("disruptions_left");
    let volume_bytes = row.get::<_, i64>("volume_bytes").unsigned_abs();
    let mut used = ledger::usage(row, "used_");
    used.storage_bytes += volume_bytes;
    Limits {
        policy: Policy {
            images: row.get("images"),
            allow_root: row.get("allow_root"),
            group_allows_root: row.get("group_allows_root"),
            quota: ledger::quota(row),
            // Judged with those of persons, in `Terms::shared`.
            group_quota: Quota::default(),
            idle_timeout_max_s: small(row, "idle_timeout_max_s"),
            lifetime_max_s: small(row, "lifetime_max_s"),
        },
        used,
        volume_bytes,
        disruptions_left: left.map(|left| u32::try_from(left).unwrap_or(0)),
        over_quota_until: row.get("over_quota_until"),
    }
}

fn small(row: &Row, column: &str) -> Option<u32> {
    row.get::<_, Option<i32>>(column).and_then(|value| u32::try_from(value).ok())
}

fn count(row: &Row, column: &str) -> Option<u64> {
    row.get::<_, Option<i32>>(column).and_then(|value| u64::try_from(value).ok())
}

fn big(row: &Row, column: &str) -> Option<u64> {
    row.get::<_, Option<i64>>(column).and_then(|value| u64::try_from(value).ok())
}
