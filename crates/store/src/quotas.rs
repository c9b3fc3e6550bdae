//! Quotas over several projects: those of groups and of persons, and what counts for them. Refuses to judge anything by them.
//!
//! Nothing is added up in rows of its own: what a group holds is what its projects hold, and what a person holds are the
//! placements that count for that person. So whoever gives capacity back, of whatever version, gives it back here too.

use crate::{Error, ledger, query};
use deadpool_postgres::GenericClient;
use domain::{
    id::{GroupId, ProjectId, UserId},
    quota::{Account, Quota, Usage},
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::Row;
use uuid::Uuid;

/// In the place of a person: everybody who has no quota of their own.
pub const EVERYBODY: UserId = UserId(Uuid::nil());

/// A group's policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupPolicy {
    /// Its projects may let containers run as root.
    pub allow_root: bool,
    /// What its projects may hold together.
    pub quota: Quota,
    /// Rises with each change; 0 while nobody has set one.
    pub version: i64,
}

/// What holds for projects and persons beside the projects' own quotas.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shared {
    /// The groups and persons that own the projects; a project that nobody owns is left out.
    pub owners: BTreeMap<ProjectId, Account>,
    /// Of groups and persons that have limits: these, and what is held over all pools, of groups with their volumes.
    pub quotas: BTreeMap<Account, (Quota, Usage)>,
}

/// What one project of a group holds.
pub(crate) struct Part {
    pub(crate) group: GroupId,
    pub(crate) project: ProjectId,
    /// Without its volumes.
    pub(crate) used: Usage,
    pub(crate) volume_bytes: u64,
}

impl Part {
    /// With its volumes.
    fn whole(mut self) -> Usage {
        self.used.storage_bytes = self.used.storage_bytes.saturating_add(self.volume_bytes);
        self.used
    }
}

/// A group's policy; `None` while nobody has set one.
///
/// # Errors
/// When the statement fails.
pub async fn of_group(db: &impl GenericClient, group: GroupId) -> Result<Option<GroupPolicy>, Error> {
    let row = query::row(db, include_str!("../sql/group_policy/get.sql"), &[&group.0]).await?;
    let read = |row: Row| GroupPolicy {
        allow_root: row.get("allow_root"),
        quota: ledger::quota(&row),
        version: row.get("version"),
    };
    Ok(row.map(read))
}

/// Lets nobody else change a group's policy until the transaction ends.
///
/// # Errors
/// When the statement fails.
pub async fn lock_group(db: &impl GenericClient, group: GroupId) -> Result<(), Error> {
    query::execute(db, include_str!("../sql/user_group/lock.sql"), &[&group.0]).await?;
    Ok(())
}

/// Sets a group's policy; its version is not. Hold its lock.
///
/// # Errors
/// When the statement fails.
pub async fn set_group(db: &impl GenericClient, group: GroupId, policy: &GroupPolicy) -> Result<(), Error> {
    let Limits { gpu, models, cpu, memory, storage, holders } = Limits::of(&policy.quota);
    let parameters: query::Parameters<'_> =
        &[&group.0, &policy.allow_root, &gpu, &models, &cpu, &memory, &storage, &holders];
    query::execute(db, include_str!("../sql/group_policy/upsert.sql"), parameters).await?;
    Ok(())
}

/// What the projects of a group hold together, with their volumes, whose part of it is the second.
///
/// # Errors
/// When the statement fails.
pub async fn held_by_group(db: &impl GenericClient, group: GroupId) -> Result<(Usage, u64), Error> {
    let (mut used, mut volume_bytes) = (Usage::default(), 0_u64);
    for part in parts(db, &[group.0]).await? {
        volume_bytes = volume_bytes.saturating_add(part.volume_bytes);
        used.add(&part.whole());
    }
    Ok((used, volume_bytes))
}

/// The quota and its version that a person alone has, or that [`EVERYBODY`] has who has none; `None` while there is none.
///
/// # Errors
/// When the statement fails.
pub async fn own_of_person(db: &impl GenericClient, person: UserId) -> Result<Option<(Quota, i64)>, Error> {
    let row = query::row(db, include_str!("../sql/user_policy/get.sql"), &[&person.0]).await?;
    Ok(row.map(|row| (ledger::quota(&row), row.get("version"))))
}

/// Lets nobody else change quotas of persons until the transaction ends.
///
/// # Errors
/// When the statement fails.
pub async fn lock_persons(db: &impl GenericClient) -> Result<(), Error> {
    query::execute(db, include_str!("../sql/user_policy/lock.sql"), &[]).await?;
    Ok(())
}

/// Sets the quota of a person, or of [`EVERYBODY`] who has none; without one, it is forgotten. Hold the lock.
///
/// # Errors
/// When the statement fails.
pub async fn set_person(db: &impl GenericClient, person: UserId, quota: Option<&Quota>) -> Result<(), Error> {
    let Some(quota) = quota else {
        query::execute(db, include_str!("../sql/user_policy/delete.sql"), &[&person.0]).await?;
        return Ok(());
    };
    let Limits { gpu, models, cpu, memory, storage, holders } = Limits::of(quota);
    let parameters: query::Parameters<'_> = &[&person.0, &gpu, &models, &cpu, &memory, &storage, &holders];
    query::execute(db, include_str!("../sql/user_policy/upsert.sql"), parameters).await?;
    Ok(())
}

/// Persons who hold something and have no quota of their own.
///
/// # Errors
/// When the statement fails.
pub async fn persons_without(db: &impl GenericClient) -> Result<Vec<UserId>, Error> {
    let rows = query::rows(db, include_str!("../sql/placement_user/without_policy.sql"), &[]).await?;
    Ok(rows.iter().map(|row| UserId(row.get("user_id"))).collect())
}

/// What these persons hold; those who hold nothing are left out.
///
/// # Errors
/// When the statement fails.
pub async fn held_by_persons(db: &impl GenericClient, persons: &[UserId]) -> Result<BTreeMap<UserId, Usage>, Error> {
    let ids: Vec<Uuid> = persons.iter().map(|person| person.0).collect();
    let mut held: BTreeMap<UserId, Usage> = BTreeMap::new();
    for row in query::rows(db, include_str!("../sql/placement_user/held.sql"), &[&ids]).await? {
        held.entry(UserId(row.get("user_id"))).or_default().add(&ledger::held_by(&row));
    }
    Ok(held)
}

/// The quota that holds for a person, its own or everybody's; `None` without limits.
///
/// # Errors
/// When the statement fails.
pub async fn for_person(db: &impl GenericClient, person: UserId) -> Result<Option<Quota>, Error> {
    let ids = vec![person.0];
    let rows = query::rows(db, include_str!("../sql/user_policy/limits.sql"), &[&ids]).await?;
    Ok(rows.first().map(ledger::quota))
}

/// What holds for these projects and for these persons, those too who own a project.
///
/// # Errors
/// When a statement fails.
pub async fn read(db: &impl GenericClient, projects: &[ProjectId], persons: &[UserId]) -> Result<Shared, Error> {
    let mut shared = Shared { owners: owners(db, projects).await?, ..Shared::default() };
    let groups: BTreeSet<Uuid> = shared.owners.values().filter_map(|owner| Some(owner.group()?.0)).collect();
    let owning = shared.owners.values().filter_map(|owner| owner.person());
    let persons: BTreeSet<Uuid> = persons.iter().copied().chain(owning).map(|person| person.0).collect();
    let (groups, persons): (Vec<Uuid>, Vec<Uuid>) = (Vec::from_iter(groups), Vec::from_iter(persons));
    if !groups.is_empty() {
        for row in query::rows(db, include_str!("../sql/group_policy/limits.sql"), &[&groups]).await? {
            let group = GroupId(row.get("group_id"));
            let (used, _) = held_by_group(db, group).await?;
            shared.quotas.insert(Account::Group(group), (ledger::quota(&row), used));
        }
    }
    if !persons.is_empty() {
        let rows = query::rows(db, include_str!("../sql/user_policy/limits.sql"), &[&persons]).await?;
        let limited: Vec<UserId> = rows.iter().map(|row| UserId(row.get("user_id"))).collect();
        let mut held = if limited.is_empty() { BTreeMap::new() } else { held_by_persons(db, &limited).await? };
        for (row, person) in rows.iter().zip(limited) {
            let used = held.remove(&person).unwrap_or_default();
            shared.quotas.insert(Account::Person(person), (ledger::quota(row), used));
        }
    }
    Ok(shared)
}

async fn owners(db: &impl GenericClient, projects: &[ProjectId]) -> Result<BTreeMap<ProjectId, Account>, Error> {
    let ids: Vec<Uuid> = projects.iter().map(|project| project.0).collect();
    let owner = |row: &Row| {
        let group = row.get::<_, Option<Uuid>>("owner_group_id").map(|id| Account::Group(GroupId(id)));
        let person = row.get::<_, Option<Uuid>>("owner_user_id").map(|id| Account::Person(UserId(id)));
        Some((ProjectId(row.get("id")), group.or(person)?))
    };
    let rows = query::rows(db, include_str!("../sql/project/owners.sql"), &[&ids]).await?;
    Ok(rows.iter().filter_map(owner).collect())
}

/// The quotas of the groups that own these projects, and of these persons, which nobody else gives anything of until the
/// transaction ends. After the lock of `project_usage`. Those without limits are left out.
///
/// # Errors
/// When a statement fails.
pub(crate) async fn lock(
    db: &impl GenericClient,
    projects: &[Uuid],
    persons: &[Uuid],
) -> Result<BTreeMap<Account, Quota>, Error> {
    let mut quotas = BTreeMap::new();
    if !projects.is_empty() {
        for row in query::rows(db, include_str!("../sql/group_policy/guard.sql"), &[&projects]).await? {
            quotas.insert(Account::Group(GroupId(row.get("group_id"))), ledger::quota(&row));
        }
    }
    if !persons.is_empty() {
        for row in query::rows(db, include_str!("../sql/user_policy/guard.sql"), &[&persons]).await? {
            quotas.insert(Account::Person(UserId(row.get("user_id"))), ledger::quota(&row));
        }
    }
    Ok(quotas)
}

/// What each project of these groups holds.
pub(crate) async fn parts(db: &impl GenericClient, groups: &[Uuid]) -> Result<Vec<Part>, Error> {
    let part = |row: &Row| Part {
        group: GroupId(row.get("group_id")),
        project: ProjectId(row.get("project_id")),
        used: ledger::usage(row, ""),
        volume_bytes: row.get::<_, i64>("volume_bytes").unsigned_abs(),
    };
    let rows = query::rows(db, include_str!("../sql/group_policy/held.sql"), &[&groups]).await?;
    Ok(rows.iter().map(part).collect())
}

/// The quota of the group that owns a project and what its projects hold, which nobody else gives anything of until the
/// transaction ends. After the lock of `project_usage`. `None` without a group that has limits.
///
/// # Errors
/// When a statement fails.
pub async fn lock_group_of(db: &impl GenericClient, project: ProjectId) -> Result<Option<(Quota, Usage)>, Error> {
    match lock(db, &[project.0], &[]).await?.pop_first() {
        Some((Account::Group(group), quota)) => Ok(Some((quota, held_by_group(db, group).await?.0))),
        _ => Ok(None),
    }
}

/// A quota as columns.
struct Limits {
    gpu: Option<i64>,
    models: Value,
    cpu: Option<i64>,
    memory: Option<i64>,
    storage: Option<i64>,
    holders: Option<i64>,
}

impl Limits {
    fn of(quota: &Quota) -> Self {
        let large = |value: Option<u64>| value.map(|value| i64::try_from(value).unwrap_or(i64::MAX));
        let models = quota.model_milli.iter().map(|(model, milli)| (model.as_str(), *milli));
        Self {
            gpu: large(quota.gpu_milli),
            models: Value::from_iter(models),
            cpu: large(quota.cpu_milli),
            memory: large(quota.memory_bytes),
            storage: large(quota.storage_bytes),
            holders: large(quota.holders),
        }
    }
}
