//! Runtimes as people see them: what they shall be beside what is so. Refuses to change any.

use crate::{Error, Store, query, runtime_specs};
use deadpool_postgres::GenericClient;
use domain::{
    id::{GroupId, HolderId, PlanId, ProjectId, QueueId, UserId, WorkspaceId},
    runtime::Spec,
};
use jiff::Timestamp;
use std::collections::HashMap;
use tokio_postgres::Row;
use uuid::Uuid;

/// A workspace's runtime.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// Its name.
    pub name: String,
    /// The project's name.
    pub project: String,
    /// The project.
    pub project_id: ProjectId,
    /// What it shall be, where that is saved.
    pub saved: Option<Saved>,
    /// Its latest life.
    pub life: Option<Life>,
    /// The database's clock.
    pub now: Timestamp,
}

/// What a runtime shall be.
#[derive(Debug, Clone)]
pub struct Saved {
    /// Rises with each change.
    pub version: i64,
    /// What.
    pub spec: Spec,
    /// The queue's name.
    pub queue: String,
    /// The devices that the queue is served from.
    pub pool: String,
}

/// One life of a runtime.
#[derive(Debug, Clone)]
pub struct Life {
    /// The devices that it asks for.
    pub pool: String,
    /// The queue's name.
    pub queue: String,
    /// The plan's name; empty in the default queue.
    pub plan: String,
    /// Rises with each.
    pub number: i64,
    /// The ledger knows it by this.
    pub holder: HolderId,
    /// The version of the spec that was in force at its start.
    pub spec_version: i64,
    /// That spec.
    pub spec: Spec,
    /// See the column.
    pub state: String,
    /// Within the state.
    pub step: String,
    /// Why it is in this state, as a code.
    pub reason: String,
    /// In words.
    pub message: String,
    /// What would help.
    pub hint: String,
    /// Where it is placed.
    pub node: String,
    /// Whose start it was.
    pub requested_by: String,
    /// Its start was asked for.
    pub submitted_at: Timestamp,
    /// It was given a place.
    pub placed_at: Option<Timestamp>,
    /// It began to run.
    pub running_at: Option<Timestamp>,
    /// It had ended.
    pub stopped_at: Option<Timestamp>,
    /// The latest that somebody was known to use it.
    pub active_at: Option<Timestamp>,
    /// Somebody asked to keep it: nobody stops it for idleness before.
    pub protected_until: Option<Timestamp>,
    /// What will end it, and when.
    pub ends_at: Option<Timestamp>,
    /// See `ends_at`.
    pub ends_because: String,
    /// In its queue while it waits, from 1, as the planner said; else 0.
    pub position: i32,
    /// While it waits: when it gets a place, as far as that is known.
    pub expected_at: Option<Timestamp>,
    /// Members of the gang with which it starts; 0 is alone.
    pub gang_size: i32,
}

/// Which runtimes.
#[derive(Debug, Clone, Copy)]
pub struct Filter<'a> {
    /// Whom to show only what she may see.
    pub user: Option<UserId>,
    /// The project's name; empty is all.
    pub project: &'a str,
    /// States; none is all.
    pub states: &'a [&'a str],
    /// The queue's name; empty is all.
    pub queue: &'a str,
}

/// What a life holds of a device.
#[derive(Debug, Clone)]
pub struct Held {
    /// As its backend names it.
    pub name: String,
    /// The hardware's own id.
    pub hardware_id: String,
    /// The device class.
    pub class: String,
    /// The model.
    pub model: String,
    /// 1000 is all of it.
    pub milli: i32,
    /// Bytes.
    pub memory_bytes: i64,
    /// What keeps it within its share.
    pub enforcement: String,
    /// Nothing is wrong with it.
    pub healthy: bool,
}

/// Something that happened to a runtime.
#[derive(Debug, Clone)]
pub struct Event {
    /// Later ones have greater ids.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// Of which life.
    pub number: i64,
    /// The state from then on.
    pub state: String,
    /// Within the state.
    pub step: String,
    /// Why, as a code.
    pub reason: String,
    /// In words.
    pub message: String,
    /// Whose act it was; empty is the cluster's own.
    pub actor: String,
}

/// A life that a change of definitions may concern.
#[derive(Debug, Clone)]
pub struct Alive {
    /// The workspace's name.
    pub workspace: String,
    /// The project's name.
    pub project: String,
    /// See the column.
    pub state: String,
    /// The queue's name.
    pub queue: String,
    /// What it was started as.
    pub spec: Spec,
    /// The plan that lets it be in its queue.
    pub plan: Option<PlanId>,
    /// What will end it, and when, as far as is known.
    pub ends_at: Option<Timestamp>,
    /// See `ends_at`.
    pub ends_because: String,
    /// It began to run.
    pub running_at: Option<Timestamp>,
    /// It has its place.
    pub placed: bool,
}

/// Which lives a change may concern; everything that is not named is no matter.
#[derive(Debug, Clone, Copy, Default)]
pub struct Concerned<'a> {
    /// Of this project.
    pub project: Option<ProjectId>,
    /// In this queue.
    pub queue: Option<QueueId>,
    /// By this plan.
    pub plan: Option<PlanId>,
    /// With a device of this class.
    pub class: Option<&'a str>,
    /// In this pool and on this node.
    pub node: Option<(&'a str, &'a str)>,
    /// With this device of that node.
    pub device: Option<&'a str>,
    /// Of projects of this group.
    pub group: Option<GroupId>,
    /// Of this workspace.
    pub workspace: Option<WorkspaceId>,
    /// That count for this person's quota.
    pub person: Option<UserId>,
}

/// Lives that one question answers at most.
pub const ALIVE_MAX: i64 = 1_000;

fn decode(row: &Row) -> Result<Runtime, Error> {
    let workspace = WorkspaceId(row.get(0));
    let saved = row.get::<_, Option<serde_json::Value>>(5).map(|spec| {
        let spec = runtime_specs::read(spec, workspace)?;
        Ok::<_, Error>(Saved { version: row.get(4), spec, queue: row.get(6), pool: row.get(7) })
    });
    let life = row.get::<_, Option<String>>(8).map(|pool| life(row, pool, workspace));
    Ok(Runtime {
        workspace,
        name: row.get(1),
        project: row.get(2),
        project_id: ProjectId(row.get(3)),
        saved: saved.transpose()?,
        life: life.transpose()?,
        now: row.get(31),
    })
}

fn life(row: &Row, pool: String, workspace: WorkspaceId) -> Result<Life, Error> {
    Ok(Life {
        pool,
        queue: row.get(9),
        plan: row.get(10),
        number: row.get(11),
        holder: HolderId(row.get(12)),
        spec_version: row.get(13),
        spec: runtime_specs::read(row.get(14), workspace)?,
        state: row.get(15),
        step: row.get(16),
        reason: row.get(17),
        message: row.get(18),
        hint: row.get(19),
        node: row.get(20),
        requested_by: row.get(21),
        submitted_at: row.get(22),
        placed_at: row.get(23),
        running_at: row.get(24),
        stopped_at: row.get(25),
        active_at: row.get(26),
        protected_until: row.get(27),
        ends_at: row.get(28),
        ends_because: row.get(29),
        position: row.get(30),
        expected_at: row.get(32),
        gang_size: row.get(33),
    })
}

/// The runtime of a workspace; `None` when there is no such workspace.
///
/// # Errors
/// When the statement fails, or a stored spec cannot be read.
pub async fn get(db: &impl GenericClient, workspace: WorkspaceId) -> Result<Option<Runtime>, Error> {
    let row = query::row(db, include_str!("../sql/runtime/get_view.sql"), &[&workspace.0]).await?;
    row.as_ref().map(decode).transpose()
}

/// A page by workspace, after the name `after`.
///
/// # Errors
/// As [`get`].
pub async fn list(
    db: &impl GenericClient,
    filter: &Filter<'_>,
    after: &str,
    limit: i64,
) -> Result<Vec<Runtime>, Error> {
    let user = filter.user.map(|id| id.0);
    let sql = include_str!("../sql/runtime/list_views.sql");
    let parameters: query::Parameters<'_> = &[&after, &limit, &user, &filter.project, &filter.states, &filter.queue];
    query::rows(db, sql, parameters).await?.iter().map(decode).collect()
}

/// What these lives hold, by life.
///
/// # Errors
/// When the statement fails.
pub async fn held(db: &impl GenericClient, lives: &[HolderId]) -> Result<HashMap<HolderId, Vec<Held>>, Error> {
    let lives: Vec<Uuid> = lives.iter().map(|life| life.0).collect();
    let mut found: HashMap<HolderId, Vec<Held>> = HashMap::new();
    for row in query::rows(db, include_str!("../sql/grant_of_device/of_holders.sql"), &[&lives]).await? {
        found.entry(HolderId(row.get(0))).or_default().push(Held {
            name: row.get(1),
            hardware_id: row.get(2),
            class: row.get(3),
            model: row.get(4),
            milli: row.get(5),
            memory_bytes: row.get(6),
            enforcement: row.get(7),
            healthy: row.get(8),
        });
    }
    Ok(found)
}

/// What happened to a runtime before the event `before`, newest first.
///
/// # Errors
/// When the statement fails.
pub async fn events(
    db: &impl GenericClient,
    workspace: WorkspaceId,
    before: i64,
    limit: i64,
) -> Result<Vec<Event>, Error> {
    let sql = include_str!("../sql/runtime_event/list.sql");
    let event = |row: &Row| Event {
        id: row.get(0),
        at: row.get(1),
        number: row.get(2),
        state: row.get(3),
        step: row.get(4),
        reason: row.get(5),
        message: row.get(6),
        actor: row.get(7),
    };
    Ok(query::rows(db, sql, &[&workspace.0, &before, &limit]).await?.iter().map(event).collect())
}

/// Forgets what happened to runtimes before a time, up to `limit` of the oldest events. Answers how many.
///
/// # Errors
/// When the database does not answer.
pub async fn forget_events(store: &Store, before: Timestamp, limit: i64) -> Result<u64, Error> {
    let client = store.client().await?;
    query::execute(&client, include_str!("../sql/runtime_event/delete_before.sql"), &[&before, &limit]).await
}

/// Lives that have not ended and that a change may concern, [`ALIVE_MAX`] at most.
///
/// # Errors
/// When the statement fails, or a stored spec cannot be read.
pub async fn alive(db: &impl GenericClient, concerned: &Concerned<'_>) -> Result<Vec<Alive>, Error> {
    let sql = include_str!("../sql/runtime/alive.sql");
    let (project, queue) = (concerned.project.map(|id| id.0), concerned.queue.map(|id| id.0));
    let (pool, node) = concerned.node.unzip();
    let plan = concerned.plan.map(|id| id.0);
    let person = concerned.person.map(|id| id.0);
    let (group, workspace) = (concerned.group.map(|id| id.0), concerned.workspace.map(|id| id.0));
    let (class, device) = (&concerned.class, &concerned.device);
    let parameters: query::Parameters<'_> =
        &[&project, &queue, &plan, class, &pool, &node, device, &ALIVE_MAX, &group, &workspace, &person];
    query::rows(db, sql, parameters).await?.iter().map(decode_alive).collect()
}

/// Lives that have not begun to end and are root because their project and this group let them, [`ALIVE_MAX`] at most; and how
/// many there are.
///
/// # Errors
/// When the statement fails, or a stored spec cannot be read.
pub async fn rooted(db: &impl GenericClient, group: GroupId) -> Result<(Vec<Alive>, i64), Error> {
    let sql = include_str!("../sql/runtime/rooted_of_group.sql");
    let rows = query::rows(db, sql, &[&group.0, &ALIVE_MAX]).await?;
    let count = rows.first().map_or(0, |row| row.get(10));
    Ok((rows.iter().map(decode_alive).collect::<Result<_, _>>()?, count))
}

fn decode_alive(row: &Row) -> Result<Alive, Error> {
    let workspace: String = row.get(0);
    let corrupt = |source| Error::Corrupt { what: "runtime's spec", id: workspace.clone(), source };
    let spec = serde_json::from_value(row.get(4)).map_err(corrupt)?;
    let plan = row.get::<_, Option<Uuid>>(5).map(PlanId);
    let (ends_at, ends_because) = (row.get(6), row.get(7));
    Ok(Alive {
        project: row.get(1),
        state: row.get(2),
        queue: row.get(3),
        spec,
        plan,
        workspace,
        ends_at,
        ends_because,
        running_at: row.get(8),
        placed: row.get(9),
    })
}

/// Whose life it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whose {
    /// Of which workspace.
    pub workspace: String,
    /// Of which project.
    pub project: String,
    /// In which queue.
    pub queue: String,
    /// That queue's runtimes may be stopped for others.
    pub preemptible: bool,
}

/// Whose lives these are; those that are forgotten are left out.
///
/// # Errors
/// When the statement fails.
pub async fn of_holders(db: &impl GenericClient, lives: &[HolderId]) -> Result<HashMap<HolderId, Whose>, Error> {
    let lives: Vec<Uuid> = lives.iter().map(|life| life.0).collect();
    let rows = query::rows(db, include_str!("../sql/runtime/of_holders.sql"), &[&lives]).await?;
    let whose = |row: &Row| Whose {
        workspace: row.get("workspace"),
        project: row.get("project"),
        queue: row.get("queue"),
        preemptible: row.get("preemptible"),
    };
    Ok(rows.iter().map(|row| (HolderId(row.get("holder")), whose(row))).collect())
}

/// Names of the workspaces of these lives that `user` may see.
///
/// # Errors
/// When the statement fails.
pub async fn names(db: &impl GenericClient, lives: &[HolderId], user: Option<UserId>) -> Result<Vec<String>, Error> {
    let lives: Vec<Uuid> = lives.iter().map(|life| life.0).collect();
    let sql = include_str!("../sql/runtime/names_of_holders.sql");
    let rows = query::rows(db, sql, &[&lives, &user.map(|id| id.0)]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
