//! Nodes and devices, as executors report them. Refuses to know what is held of them: those columns are the commit's.

use super::rows::{NodeState, signed};
use crate::{Error, Store, query, shards::Shard};
use domain::{
    device::Sharing,
    id::{DeviceId, NodeId},
};
use serde_json::{Value, json};
use uuid::Uuid;

/// A node as its executor describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of node")]
pub struct NodeRow {
    pub id: NodeId,
    pub name: String,
    pub zone: String,
    pub cpu_milli: u64,
    pub memory_bytes: u64,
    pub state: NodeState,
}

/// A device as its executor describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of device")]
pub struct DeviceRow {
    pub id: DeviceId,
    pub node: NodeId,
    pub name: String,
    pub hardware_id: String,
    pub class: String,
    pub model: String,
    pub memory_bytes: u64,
    pub sharing: Sharing,
    pub link_group: i32,
    pub healthy: bool,
    pub condition: String,
}

impl DeviceRow {
    fn to_json(&self) -> Value {
        json!({
            "id": self.id, "node_id": self.node, "name": self.name, "hardware_id": self.hardware_id, "class": self.class,
            "model": self.model, "memory_bytes": self.memory_bytes, "sharing": self.sharing,
            "link_group": self.link_group, "healthy": self.healthy, "condition": self.condition,
        })
    }
}

/// Writes nodes of a pool; false when the shard has another owner by now.
///
/// # Errors
/// When the database does not answer.
pub async fn set_nodes(store: &Store, shard: Shard, pool: &str, nodes: &[NodeRow]) -> Result<bool, Error> {
    let ids: Vec<Uuid> = nodes.iter().map(|node| node.id.0).collect();
    let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    let zones: Vec<&str> = nodes.iter().map(|node| node.zone.as_str()).collect();
    let cpu: Vec<i64> = nodes.iter().map(|node| signed(node.cpu_milli)).collect();
    let memory: Vec<i64> = nodes.iter().map(|node| signed(node.memory_bytes)).collect();
    let states: Vec<&str> = nodes.iter().map(|node| node.state.as_str()).collect();
    let mut client = store.client().await?;
    let transaction = client.transaction().await?;
    if !super::commit::guard(&transaction, shard).await? {
        return Ok(false);
    }
    let sql = include_str!("../../sql/node/upsert.sql");
    query::execute(&transaction, sql, &[&pool, &ids, &names, &zones, &cpu, &memory, &states]).await?;
    transaction.commit().await?;
    Ok(true)
}

/// Makes the devices of nodes those that are listed; false when the shard has another owner by now.
///
/// # Errors
/// When the database does not answer.
pub async fn set_devices(store: &Store, shard: Shard, nodes: &[NodeId], devices: &[DeviceRow]) -> Result<bool, Error> {
    let mut client = store.client().await?;
    let transaction = client.transaction().await?;
    if !super::commit::guard(&transaction, shard).await? {
        return Ok(false);
    }
    let rows = Value::Array(devices.iter().map(DeviceRow::to_json).collect());
    query::execute(&transaction, include_str!("../../sql/device/upsert.sql"), &[&rows]).await?;
    for node in nodes {
        let kept: Vec<Uuid> = devices.iter().filter(|device| device.node == *node).map(|d| d.id.0).collect();
        query::execute(&transaction, include_str!("../../sql/device/delete_gone.sql"), &[&node.0, &kept]).await?;
    }
    transaction.commit().await?;
    Ok(true)
}

/// Removes nodes that are no more and of which nobody holds anything; answers them.
///
/// # Errors
/// When the database does not answer.
pub async fn delete_gone(store: &Store, shard: Shard, pool: &str) -> Result<Vec<NodeId>, Error> {
    let mut client = store.client().await?;
    let transaction = client.transaction().await?;
    if !super::commit::guard(&transaction, shard).await? {
        return Ok(Vec::new());
    }
    let rows = query::rows(&transaction, include_str!("../../sql/node/delete_gone.sql"), &[&pool]).await?;
    transaction.commit().await?;
    Ok(rows.iter().map(|row| NodeId(row.get("id"))).collect())
}
