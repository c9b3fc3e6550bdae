//! Plans: what projects may use besides the default queue, and when. Refuses to judge a runtime by them.

use crate::{Error, query};
use deadpool_postgres::GenericClient;
use domain::{
    id::{PlanId, ProjectId, QueueId, UserId},
    runtime::rules,
    window::Definition as Window,
};
use std::collections::HashMap;
use tokio_postgres::Row;
use uuid::Uuid;

/// A plan as an administrator set it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Its limits. Their windows are empty here: they are in `windows` as they were written.
    pub rules: rules::Plan,
    /// When it is open; none is always.
    pub windows: Vec<Window>,
    /// Names of the queues that it opens.
    pub queues: Vec<String>,
    /// Names of the projects that have it.
    pub projects: Vec<String>,
    /// Rises with each change.
    pub version: i64,
    /// Nobody has it any more.
    pub archived: bool,
}

fn rules(row: &Row) -> rules::Plan {
    rules::Plan {
        id: PlanId(row.get(0)),
        name: row.get(1),
        models: row.get(2),
        gpus_max: row.get::<_, Option<i32>>(3).map(i32::unsigned_abs),
        gpu_milli_max: row.get::<_, Option<i64>>(4).map(i64::unsigned_abs),
        cpu_milli_max: row.get::<_, Option<i64>>(5).map(i64::unsigned_abs),
        memory_max: row.get::<_, Option<i64>>(6).map(i64::unsigned_abs),
        lifetime_max_s: row.get::<_, Option<i32>>(7).map(i32::unsigned_abs),
        windows: Vec::new(),
    }
}

fn decode(row: &Row) -> Plan {
    Plan {
        rules: rules(row),
        windows: Vec::new(),
        queues: row.get(10),
        projects: row.get(11),
        version: row.get(8),
        archived: row.get(9),
    }
}

/// A page by name, after the name `after`; for `user` only those of her projects.
///
/// # Errors
/// When a statement fails.
pub async fn list(
    db: &impl GenericClient,
    user: Option<UserId>,
    archived: bool,
    after: &str,
    limit: i64,
) -> Result<Vec<Plan>, Error> {
    let sql = include_str!("../sql/plan/list.sql");
    let rows = query::rows(db, sql, &[&after, &limit, &archived, &user.map(|id| id.0)]).await?;
    with_windows(db, rows.iter().map(decode).collect()).await
}

/// The plan of this name; nobody else changes it until the transaction ends.
///
/// # Errors
/// When a statement fails.
pub async fn lock(db: &impl GenericClient, name: &str) -> Result<Option<Plan>, Error> {
    let row = query::row(db, include_str!("../sql/plan/lock.sql"), &[&name]).await?;
    Ok(with_windows(db, row.iter().map(decode).collect()).await?.pop())
}

/// Adds a plan without queues and windows; `None` when the name was taken meanwhile. Answers its version.
///
/// # Errors
/// When the statement fails.
pub async fn insert(db: &impl GenericClient, plan: &rules::Plan) -> Result<Option<i64>, Error> {
    let limits = Limits::of(plan);
    let Limits { gpus, gpu_milli, cpu, memory, lifetime } = &limits;
    let sql = include_str!("../sql/plan/insert.sql");
    let parameters: query::Parameters<'_> =
        &[&plan.id.0, &plan.name, &plan.models, gpus, gpu_milli, cpu, memory, lifetime];
    Ok(query::row(db, sql, parameters).await?.map(|row| row.get(0)))
}

/// Changes a plan that is locked, and takes it back into use. Answers its version.
///
/// # Errors
/// When the statement fails.
pub async fn update(db: &impl GenericClient, plan: &rules::Plan) -> Result<i64, Error> {
    let limits = Limits::of(plan);
    let Limits { gpus, gpu_milli, cpu, memory, lifetime } = &limits;
    let sql = include_str!("../sql/plan/update.sql");
    Ok(query::one(db, sql, &[&plan.id.0, &plan.models, gpus, gpu_milli, cpu, memory, lifetime]).await?.get(0))
}

/// Makes these its queues; false when some of them are not in use. Hold its lock.
///
/// # Errors
/// When the statement fails.
pub async fn set_queues(db: &impl GenericClient, plan: PlanId, queues: &[String]) -> Result<bool, Error> {
    let row = query::one(db, include_str!("../sql/plan_queue/replace.sql"), &[&plan.0, &queues]).await?;
    Ok(usize::try_from(row.get::<_, i64>(0)).is_ok_and(|count| count == queues.len()))
}

/// Makes these its windows. Hold its lock.
///
/// # Errors
/// When a statement fails.
pub async fn set_windows(db: &impl GenericClient, plan: PlanId, windows: &[Window]) -> Result<(), Error> {
    query::execute(db, include_str!("../sql/plan_window/delete.sql"), &[&plan.0]).await?;
    let sql = include_str!("../sql/plan_window/insert.sql");
    for window in windows {
        let id = Uuid::now_v7();
        match window {
            Window::Weekly { time_zone, weekdays, start_minute, end_minute } => {
                let days: Vec<i16> = weekdays.iter().map(|day| i16::from(*day)).collect();
                let minute = |minute: u16| i16::try_from(minute).unwrap_or(i16::MAX);
                let (start, end) = (minute(*start_minute), minute(*end_minute));
                let never = None::<jiff::Timestamp>;
                query::execute(db, sql, &[&id, &plan.0, time_zone, &days, &start, &end, &never, &never]).await?;
            }
            Window::Once { time_zone, starts_at, ends_at } => {
                let (days, minute) = (None::<Vec<i16>>, None::<i16>);
                query::execute(db, sql, &[&id, &plan.0, time_zone, &days, &minute, &minute, starts_at, ends_at])
                    .await?;
            }
        }
    }
    Ok(())
}

/// Takes a locked plan out of use, and from all projects.
///
/// # Errors
/// When the statement fails.
pub async fn archive(db: &impl GenericClient, plan: PlanId) -> Result<(), Error> {
    query::execute(db, include_str!("../sql/plan/archive.sql"), &[&plan.0]).await?;
    Ok(())
}

/// Gives a plan to a project; false when it had it.
///
/// # Errors
/// When the statement fails.
pub async fn grant(db: &impl GenericClient, project: ProjectId, plan: PlanId) -> Result<bool, Error> {
    Ok(query::execute(db, include_str!("../sql/project_plan/insert.sql"), &[&project.0, &plan.0]).await? > 0)
}

/// Takes a plan from a project; false when it had none.
///
/// # Errors
/// When the statement fails.
pub async fn revoke(db: &impl GenericClient, project: ProjectId, plan: PlanId) -> Result<bool, Error> {
    Ok(query::execute(db, include_str!("../sql/project_plan/delete.sql"), &[&project.0, &plan.0]).await? > 0)
}

/// Names of the plans that a project has.
///
/// # Errors
/// When the statement fails.
pub async fn names(db: &impl GenericClient, project: ProjectId) -> Result<Vec<String>, Error> {
    let rows = query::rows(db, include_str!("../sql/plan/names_of_project.sql"), &[&project.0]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The plans by which a project may use a queue, windows included. A window that cannot be read counts as never open.
///
/// # Errors
/// When a statement fails.
pub async fn of_project(
    db: &impl GenericClient,
    project: ProjectId,
    queue: QueueId,
) -> Result<Vec<rules::Plan>, Error> {
    let rows = query::rows(db, include_str!("../sql/plan/of_project.sql"), &[&project.0, &queue.0]).await?;
    let plans: Vec<rules::Plan> = rows.iter().map(rules).collect();
    let mut windows = windows(db, &plans.iter().map(|plan| plan.id.0).collect::<Vec<_>>()).await?;
    let compiled = |mut plan: rules::Plan| {
        let written = windows.remove(&plan.id.0).unwrap_or_default();
        plan.windows = written.iter().filter_map(|window| window.compile().ok()).collect();
        // None would be always.
        (plan.windows.len() == written.len() || !plan.windows.is_empty()).then_some(plan)
    };
    Ok(plans.into_iter().filter_map(compiled).collect())
}

async fn with_windows(db: &impl GenericClient, mut plans: Vec<Plan>) -> Result<Vec<Plan>, Error> {
    let mut windows = windows(db, &plans.iter().map(|plan| plan.rules.id.0).collect::<Vec<_>>()).await?;
    for plan in &mut plans {
        plan.windows = windows.remove(&plan.rules.id.0).unwrap_or_default();
    }
    Ok(plans)
}

/// By plan, as they were written.
async fn windows(db: &impl GenericClient, plans: &[Uuid]) -> Result<HashMap<Uuid, Vec<Window>>, Error> {
    let mut found: HashMap<Uuid, Vec<Window>> = HashMap::new();
    for row in query::rows(db, include_str!("../sql/plan_window/of_plans.sql"), &[&plans]).await? {
        found.entry(row.get(0)).or_default().push(window(&row));
    }
    Ok(found)
}

fn window(row: &Row) -> Window {
    let time_zone = row.get(1);
    let Some(days) = row.get::<_, Option<Vec<i16>>>(2) else {
        return Window::Once { time_zone, starts_at: row.get(5), ends_at: row.get(6) };
    };
    let minute = |at: usize| row.get::<_, i16>(at).unsigned_abs();
    let weekdays = days.into_iter().filter_map(|day| u8::try_from(day).ok()).collect();
    Window::Weekly { time_zone, weekdays, start_minute: minute(3), end_minute: minute(4) }
}

/// The limits as columns.
struct Limits {
    gpus: Option<i32>,
    gpu_milli: Option<i64>,
    cpu: Option<i64>,
    memory: Option<i64>,
    lifetime: Option<i32>,
}

impl Limits {
    fn of(plan: &rules::Plan) -> Self {
        let large = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let small = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
        Self {
            gpus: plan.gpus_max.map(small),
            gpu_milli: plan.gpu_milli_max.map(large),
            cpu: plan.cpu_milli_max.map(large),
            memory: plan.memory_max.map(large),
            lifetime: plan.lifetime_max_s.map(small),
        }
    }
}
