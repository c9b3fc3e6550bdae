//! Volumes of projects: what they shall be, which web-servers write, and what executors say of them, which schedulers write.
//!
//! Refuses to judge a size: callers hold it against the quota, under [`lock_usage`].

use crate::{Error, Store, Transaction, ledger, query, shards::Shard};
use deadpool_postgres::GenericClient;
use domain::{
    id::{NodeId, ProjectId, UserId, VolumeId, WorkspaceId},
    quota::Usage,
    runtime::Spec,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tokio_postgres::Row;
use uuid::Uuid;

/// Volumes of one pool that its executors are told of.
pub const POOL_MAX: i64 = 20_000;

/// A volume that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct New<'a> {
    /// Its id.
    pub id: VolumeId,
    /// Whose quota.
    pub project: ProjectId,
    /// A DNS label.
    pub name: &'a str,
    /// Whose executors make it.
    pub pool: &'a str,
    /// Bytes.
    pub size_bytes: i64,
    /// Of what kind, where its backend has several; empty is the usual one.
    pub storage_class: &'a str,
    /// Who asked.
    pub created_by: Option<UserId>,
}

/// A volume as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its id.
    pub id: VolumeId,
    /// In its project.
    pub name: String,
    /// Whose executors make it.
    pub pool: String,
    /// What counts, bytes.
    pub size_bytes: i64,
    /// When.
    pub created_at: Timestamp,
    /// By whom; empty when unknown.
    pub created_by: String,
    /// It is to go.
    pub deleted: bool,
    /// What an executor said last: `ready`, `failed`, `deleting`, `gone`; `None` while none has.
    pub state: Option<String>,
    /// What the backend gave, bytes; 0 where it did not say.
    pub capacity_bytes: i64,
    /// What the backend says.
    pub message: String,
    /// As it was asked for; empty is the usual one.
    pub storage_class: String,
}

/// A life that mounts a volume and has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// Which volume.
    pub volume: VolumeId,
    /// The workspace's name.
    pub workspace: String,
    /// It runs, or was asked to start, since then.
    pub since: Timestamp,
    /// It cannot write.
    pub read_only: bool,
}

/// What a volume shall be, for executors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its id.
    pub id: VolumeId,
    /// The project's name.
    pub project: String,
    /// In its project.
    pub name: String,
    /// Bytes.
    pub size_bytes: i64,
    /// Of what kind; empty is the usual one.
    pub storage_class: String,
    /// It shall go.
    pub deleted: bool,
}

/// What an executor says about a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// Which.
    pub id: VolumeId,
    /// `ready`, `failed`, `deleting` or `gone`.
    pub state: &'static str,
    /// What the backend gave, bytes.
    pub size_bytes: i64,
    /// In words.
    pub message: String,
}

/// Whether anybody's runtimes are placed in a pool: a queue is served from it.
///
/// # Errors
/// When the statement fails.
pub async fn is_pool(db: &impl GenericClient, pool: &str) -> Result<bool, Error> {
    Ok(query::one(db, include_str!("../sql/queue/serves.sql"), &[&pool]).await?.get(0))
}

/// Takes the lock under which a project's storage is given away, as the ledger does for runtimes; answers what its runtimes
/// hold, without volumes.
///
/// # Errors
/// When a statement fails.
pub async fn lock_usage(db: &Transaction<'_>, project: ProjectId) -> Result<Usage, Error> {
    let ids = vec![project.0];
    query::execute(db, include_str!("../sql/project_usage/ensure.sql"), &[&ids]).await?;
    let row = query::one(db, include_str!("../sql/project_usage/lock.sql"), &[&ids]).await?;
    Ok(ledger::usage(&row, ""))
}

/// Forgets volumes of a project that are gone for so long that every executor has heard of it.
///
/// # Errors
/// When the statement fails.
pub async fn tidy(db: &Transaction<'_>, project: ProjectId) -> Result<(), Error> {
    query::execute(db, include_str!("../sql/volume/tidy.sql"), &[&project.0]).await?;
    Ok(())
}

/// What the volumes of a project count for its quota, bytes, those too that are being deleted; and how many are remembered.
///
/// # Errors
/// When the statement fails.
pub async fn sum(db: &impl GenericClient, project: ProjectId) -> Result<(u64, i64), Error> {
    let row = query::one(db, include_str!("../sql/volume/sum.sql"), &[&project.0]).await?;
    Ok((row.get::<_, i64>(0).unsigned_abs(), row.get(1)))
}

/// Makes a volume; false where the project has one of that name.
///
/// # Errors
/// When the statement fails.
pub async fn insert(db: &Transaction<'_>, new: &New<'_>) -> Result<bool, Error> {
    let who = new.created_by.map(|id| id.0);
    let New { name, pool, size_bytes, storage_class, .. } = new;
    let parameters: query::Parameters<'_> = &[&new.id.0, &new.project.0, name, pool, size_bytes, storage_class, &who];
    Ok(query::row(db, include_str!("../sql/volume/insert.sql"), parameters).await?.is_some())
}

/// The id and size of a project's volume, which nobody else changes until the transaction ends; `None` when there is none.
///
/// # Errors
/// When the statement fails.
pub async fn lock(db: &Transaction<'_>, project: ProjectId, name: &str) -> Result<Option<(VolumeId, i64)>, Error> {
    let row = query::row(db, include_str!("../sql/volume/lock.sql"), &[&project.0, &name]).await?;
    Ok(row.map(|row| (VolumeId(row.get("id")), row.get("size_bytes"))))
}

/// Gives a volume a size that is not below its own; false where it is.
///
/// # Errors
/// When the statement fails.
pub async fn grow(db: &Transaction<'_>, volume: VolumeId, size_bytes: i64) -> Result<bool, Error> {
    Ok(query::execute(db, include_str!("../sql/volume/grow.sql"), &[&volume.0, &size_bytes]).await? == 1)
}

/// Says that a volume is to go. Look at [`uses`] afterwards, in the same transaction.
///
/// # Errors
/// When the statement fails.
pub async fn delete(db: &Transaction<'_>, volume: VolumeId) -> Result<(), Error> {
    query::execute(db, include_str!("../sql/volume/delete.sql"), &[&volume.0]).await?;
    Ok(())
}

/// A page of a project's volumes by name and id.
///
/// # Errors
/// When the statement fails.
pub async fn list(
    db: &impl GenericClient,
    project: ProjectId,
    after: (&str, Uuid),
    limit: i64,
) -> Result<Vec<Volume>, Error> {
    let sql = include_str!("../sql/volume/list.sql");
    let rows = query::rows(db, sql, &[&project.0, &after.0, &after.1, &limit]).await?;
    Ok(rows.iter().map(volume).collect())
}

/// One volume.
///
/// # Errors
/// When the statement fails, or there is no such volume.
pub async fn get(db: &impl GenericClient, id: VolumeId) -> Result<Volume, Error> {
    Ok(volume(&query::one(db, include_str!("../sql/volume/get.sql"), &[&id.0]).await?))
}

/// Lives that have not ended and mount one of these volumes of a project, by workspace.
///
/// # Errors
/// When the statement fails.
pub async fn uses(
    db: &impl GenericClient,
    project: ProjectId,
    volumes: &[VolumeId],
    limit: i64,
) -> Result<Vec<Use>, Error> {
    let ids: Vec<Uuid> = volumes.iter().map(|id| id.0).collect();
    let rows = query::rows(db, include_str!("../sql/volume/uses.sql"), &[&project.0, &ids, &limit]).await?;
    let read = |row: &Row| Use {
        volume: VolumeId(row.get(0)),
        workspace: row.get(1),
        since: row.get(2),
        read_only: row.get(3),
    };
    Ok(rows.iter().map(read).collect())
}

/// Whom [`mounted`] is asked for: a workspace's runtime that is imagined, and who is imagined to have ended.
#[derive(Debug, Clone, Copy)]
pub struct Mounter<'a> {
    /// Whose volumes.
    pub project: ProjectId,
    /// In which pool.
    pub pool: &'a str,
    /// Itself mounts what it mounts.
    pub workspace: WorkspaceId,
    /// These lives mount nothing.
    pub gone: &'a [Uuid],
}

/// The nodes on which others mount volumes, by the volume's name; those that nobody mounts are left out.
///
/// # Errors
/// When the statement fails.
pub async fn mounted(
    db: &impl GenericClient,
    mounter: &Mounter<'_>,
    names: &[&str],
) -> Result<BTreeMap<String, BTreeSet<NodeId>>, Error> {
    let Mounter { project, pool, workspace, gone } = mounter;
    let sql = include_str!("../sql/volume/mounted.sql");
    let mut mounted: BTreeMap<String, BTreeSet<NodeId>> = BTreeMap::new();
    for row in query::rows(db, sql, &[&project.0, pool, &names, &workspace.0, gone]).await? {
        mounted.entry(row.get("name")).or_default().insert(NodeId(row.get("node_id")));
    }
    Ok(mounted)
}

/// A spec with the ids of those volumes of its project that it mounts by name. Names of no volume stay without.
///
/// # Errors
/// When the statement fails.
pub(crate) async fn found(
    db: &impl GenericClient,
    project: ProjectId,
    pool: &str,
    mut spec: Spec,
) -> Result<Spec, Error> {
    if spec.mounts.is_empty() {
        return Ok(spec);
    }
    let names: Vec<&str> = spec.mounts.iter().map(|mount| mount.volume.as_str()).collect();
    let rows = query::rows(db, include_str!("../sql/volume/of_names.sql"), &[&project.0, &pool, &names]).await?;
    let ids: HashMap<String, Uuid> = rows.iter().map(|row| (row.get("name"), row.get("id"))).collect();
    for mount in &mut spec.mounts {
        mount.id = ids.get(&mount.volume).copied().map(VolumeId);
    }
    Ok(spec)
}

/// Which of the volumes that lives mount are being deleted, or are gone. The others stay until the transaction ends.
///
/// # Errors
/// When the statement fails.
pub(crate) async fn gone<'a>(
    db: &impl GenericClient,
    specs: impl Iterator<Item = &'a Spec>,
) -> Result<Vec<VolumeId>, Error> {
    let mut mounted: BTreeSet<Uuid> =
        specs.flat_map(|spec| &spec.mounts).filter_map(|mount| Some(mount.id?.0)).collect();
    if !mounted.is_empty() {
        let ids: Vec<Uuid> = mounted.iter().copied().collect();
        for row in query::rows(db, include_str!("../sql/volume/hold.sql"), &[&ids]).await? {
            mounted.remove(&row.get::<_, Uuid>("id"));
        }
    }
    Ok(mounted.into_iter().map(VolumeId).collect())
}

/// What the volumes of a pool shall be, by id; [`POOL_MAX`] at most.
///
/// # Errors
/// When the database does not answer.
pub async fn of_pool(store: &Store, pool: &str) -> Result<Vec<Wanted>, Error> {
    let client = store.client().await?;
    let rows = query::rows(&client, include_str!("../sql/volume/of_pool.sql"), &[&pool, &POOL_MAX]).await?;
    let read = |row: &Row| Wanted {
        id: VolumeId(row.get("id")),
        project: row.get("project"),
        name: row.get("name"),
        size_bytes: row.get("size_bytes"),
        storage_class: row.get("storage_class"),
        deleted: row.get("deleted"),
    };
    let mut found: Vec<Wanted> = rows.iter().map(read).collect();
    found.sort_unstable_by_key(|wanted| wanted.id);
    Ok(found)
}

/// Writes what executors say, while the shard is owned in its epoch; nothing otherwise.
///
/// # Errors
/// When the database does not answer.
pub async fn report(store: &Store, shard: Shard, reports: &[Reported]) -> Result<(), Error> {
    let row = |report: &Reported| {
        json!({ "volume_id": report.id, "state": report.state, "size_bytes": report.size_bytes.max(0),
                "message": report.message })
    };
    let rows = Value::Array(reports.iter().map(row).collect());
    let client = store.client().await?;
    query::execute(&client, include_str!("../sql/volume_state/set.sql"), &[&rows, &shard.id, &shard.epoch]).await?;
    Ok(())
}

fn volume(row: &Row) -> Volume {
    Volume {
        id: VolumeId(row.get(0)),
        name: row.get(1),
        pool: row.get(2),
        size_bytes: row.get(3),
        created_at: row.get(4),
        created_by: row.get(5),
        deleted: row.get(6),
        state: row.get(7),
        capacity_bytes: row.get(8),
        message: row.get(9),
        storage_class: row.get(10),
    }
}
