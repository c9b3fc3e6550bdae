//! A pool as its rows tell it, for a new owner. Refuses to remember anything.

use super::{
    inventory::{DeviceRow, NodeRow},
    rows::{NodeState, Placement, StoredLife, read_grant, unsigned},
};
use crate::{Error, Store, query, shards::Shard, volumes};
use domain::{
    device::Grant,
    id::{DeviceId, HolderId, NodeId, ProjectId, QueueId, WorkspaceId},
    runtime::Spec,
};
use std::{collections::HashMap, sync::Arc};
use tokio_postgres::Row;
use uuid::Uuid;

/// Everything that is so in a pool.
#[derive(Debug, Default)]
pub struct Pool {
    /// Lives that have not ended.
    pub lives: Vec<StoredLife>,
    /// Who has what.
    pub placements: Vec<Placement>,
    /// Machines.
    pub nodes: Vec<NodeRow>,
    /// Devices of theirs.
    pub devices: Vec<DeviceRow>,
    /// Lives that this version cannot read: their capacity stays held.
    pub unreadable: Vec<String>,
}

/// Waits for every write of the shard that is still under way, and reads the pool; what a version before placed counts from
/// then on for the persons who started it. `None` when the shard has another owner.
///
/// # Errors
/// When the database does not answer, or holds a device that this version cannot read.
pub async fn load(store: &Store, shard: Shard, pool: &str) -> Result<Option<Pool>, Error> {
    let mut client = store.client().await?;
    let transaction = client.transaction().await?;
    let settle = include_str!("../../sql/shard/settle.sql");
    if query::row(&transaction, settle, &[&shard.id, &shard.epoch]).await?.is_none() {
        return Ok(None);
    }
    let mut found = Pool::default();
    for row in query::rows(&transaction, include_str!("../../sql/runtime/alive_of_pool.sql"), &[&pool]).await? {
        match StoredLife::read(&row) {
            Ok(life) => found.lives.push(life),
            Err(Error::Corrupt { id, source, .. }) => found.unreadable.push(format!("{id}: {source}")),
            Err(error) => return Err(error),
        }
    }
    query::execute(&transaction, include_str!("../../sql/placement_user/fill.sql"), &[&pool]).await?;
    let mut grants: HashMap<HolderId, Vec<Grant>> = HashMap::new();
    for row in query::rows(&transaction, include_str!("../../sql/grant_of_device/of_pool.sql"), &[&pool]).await? {
        let (holder, grant) = read_grant(&row);
        grants.entry(holder).or_default().push(grant);
    }
    for row in query::rows(&transaction, include_str!("../../sql/placement/of_pool.sql"), &[&pool]).await? {
        let mut placement = Placement::read(&row);
        placement.grants = grants.remove(&placement.holder).unwrap_or_default();
        found.placements.push(placement);
    }
    let rows = query::rows(&transaction, include_str!("../../sql/node/of_pool.sql"), &[&pool]).await?;
    found.nodes = rows.iter().map(node).collect();
    let rows = query::rows(&transaction, include_str!("../../sql/device/of_pool.sql"), &[&pool]).await?;
    found.devices = rows.iter().map(device).collect::<Result<_, _>>()?;
    transaction.commit().await?;
    Ok(Some(found))
}

fn node(row: &Row) -> NodeRow {
    NodeRow {
        id: NodeId(row.get("id")),
        name: row.get("name"),
        zone: row.get("zone"),
        cpu_milli: unsigned(row.get("cpu_milli")),
        memory_bytes: unsigned(row.get("memory_bytes")),
        state: NodeState::read(row.get("state")),
    }
}

fn device(row: &Row) -> Result<DeviceRow, Error> {
    let id: Uuid = row.get("id");
    let corrupt = |source| Error::Corrupt { what: "sharing", id: format!("device {id}"), source };
    Ok(DeviceRow {
        id: DeviceId(id),
        node: NodeId(row.get("node_id")),
        name: row.get("name"),
        hardware_id: row.get("hardware_id"),
        class: row.get("class"),
        model: row.get("model"),
        memory_bytes: unsigned(row.get("memory_bytes")),
        sharing: serde_json::from_value(row.get("sharing")).map_err(corrupt)?,
        link_group: row.get("link_group"),
        healthy: row.get("healthy"),
        condition: row.get("condition"),
    })
}

/// What a start needs to know about a workspace.
#[derive(Debug, Clone)]
pub struct Startable {
    /// Whose quota.
    pub project: ProjectId,
    /// The workspace's name.
    pub workspace: Arc<str>,
    /// The project's name.
    pub project_name: Arc<str>,
    /// What its runtime is to be, with the ids of volumes that it mounts, in which version; `None` when nobody said.
    pub spec: Option<(Arc<Spec>, i64)>,
    /// Where it waits, and which pool that is served from; `None` when the queue is no more.
    pub queue: Option<(QueueId, String)>,
    /// The last life: its number, state and the key that it was started with.
    pub last: Option<(i64, String, String)>,
}

/// What a start of a workspace's runtime needs; `None` when there is no such workspace.
///
/// # Errors
/// When the database does not answer, or the spec is not one that this version reads.
pub async fn startable(store: &Store, workspace: WorkspaceId) -> Result<Option<Startable>, Error> {
    let client = store.client().await?;
    let sql = include_str!("../../sql/runtime/startable.sql");
    let Some(row) = query::row(&client, sql, &[&workspace.0]).await? else { return Ok(None) };
    let corrupt = |source| Error::Corrupt { what: "spec", id: format!("workspace {workspace}"), source };
    let spec: Option<serde_json::Value> = row.get("spec");
    let spec: Option<Spec> = spec.map(serde_json::from_value).transpose().map_err(corrupt)?;
    let queue: Option<Uuid> = row.get("queue_id");
    let pool: Option<String> = row.get("pool");
    let number: Option<i64> = row.get("number");
    let project = ProjectId(row.get("project_id"));
    let spec = match (spec, &pool) {
        (Some(spec), Some(pool)) => Some(volumes::found(&client, project, pool, spec).await?),
        (spec, _) => spec,
    };
    Ok(Some(Startable {
        project,
        workspace: row.get::<_, &str>("workspace").into(),
        project_name: row.get::<_, &str>("project").into(),
        spec: spec.map(Arc::new).zip(row.get("version")),
        queue: queue.map(QueueId).zip(pool),
        last: number.map(|number| (number, row.get("state"), row.get("start_key"))),
    }))
}

/// The number, state and pool of a workspace's last life.
///
/// # Errors
/// When the database does not answer.
pub async fn state_of(store: &Store, workspace: WorkspaceId) -> Result<Option<(i64, String, String)>, Error> {
    let client = store.client().await?;
    let row = query::row(&client, include_str!("../../sql/runtime/get_state.sql"), &[&workspace.0]).await?;
    Ok(row.map(|row| (row.get("number"), row.get("state"), row.get("pool"))))
}
