//! Nodes, devices and who holds what of them, as operators see them; and what they set about them: classes and drains.
//! Refuses to know how an inventory comes about.

use crate::{Error, query};
use deadpool_postgres::GenericClient;
use domain::id::{DeviceId, NodeId};
use std::collections::HashMap;
use tokio_postgres::Row;
use uuid::Uuid;

/// A machine with devices.
#[derive(Debug, Clone)]
pub struct Node {
    /// The devices of one pool are placed together.
    pub pool: String,
    /// Unique in the pool.
    pub name: String,
    /// Rack, row or zone.
    pub zone: String,
    /// See the column.
    pub state: String,
    /// Nobody new is placed on it, and why.
    pub drained: Option<String>,
    /// Thousandths of a core: in all, and held.
    pub cpu: (i64, i64),
    /// Bytes: in all, and held.
    pub memory: (i64, i64),
    /// How many.
    pub devices: i64,
    /// Milli-GPU that is held of them.
    pub held_milli: i64,
}

/// A device.
#[derive(Debug, Clone)]
pub struct Device {
    /// Which.
    pub id: DeviceId,
    /// Where.
    pub pool: String,
    /// Where.
    pub node: String,
    /// As its backend names it.
    pub name: String,
    /// The hardware's own id.
    pub hardware_id: String,
    /// The device class.
    pub class: String,
    /// The model.
    pub model: String,
    /// Bytes.
    pub memory_bytes: i64,
    /// `domain::device::Sharing` as JSON.
    pub sharing: serde_json::Value,
    /// What keeps a holder within its share.
    pub enforcement: String,
    /// New holders may come, as far as it and its node are concerned.
    pub healthy: bool,
    /// Why not.
    pub condition: String,
    /// Why nobody new is placed on it, as far as rows tell: a code for programs.
    pub code: String,
    /// Nobody new is placed on it or on its node, and why.
    pub drained: Option<String>,
    /// Milli-GPU that is held.
    pub held_milli: i32,
    /// Bytes that are held.
    pub held_memory: i64,
}

/// Who holds something of a device.
#[derive(Debug, Clone)]
pub struct Holder {
    /// The workspace; empty for strangers.
    pub workspace: String,
    /// Its project.
    pub project: String,
    /// Its queue.
    pub queue: String,
    /// 1000 is all.
    pub milli: i32,
    /// Bytes.
    pub memory_bytes: i64,
    /// `held` or `nominated`.
    pub state: String,
}

/// A kind of device as a backend offers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    /// Unique.
    pub name: String,
    /// `exclusive`, `shared`, `mps` or `mig`.
    pub sharing: String,
    /// A share is rounded up to a multiple of it, milli-GPU.
    pub step_milli: i32,
    /// `hard`, `soft` or `accounting_only`.
    pub enforcement: String,
    /// Names of models, exact or ending in `*`; none is any.
    pub models: Vec<String>,
    /// The `DeviceClass` of Kubernetes that claims name.
    pub claim_class: String,
    /// What a whole device is worth beside others.
    pub worth: i32,
    /// Rises with each change.
    pub version: i64,
    /// How many of the fleet's devices are of it.
    pub devices: i64,
}

/// A page by pool and name after `after`; an empty pool is all.
///
/// # Errors
/// When the statement fails.
pub async fn nodes(db: &impl GenericClient, pool: &str, after: (&str, &str), limit: i64) -> Result<Vec<Node>, Error> {
    let rows = query::rows(db, include_str!("../sql/node/list.sql"), &[&pool, &after.0, &after.1, &limit]).await?;
    let node = |row: &Row| Node {
        pool: row.get(0),
        name: row.get(1),
        zone: row.get(2),
        state: row.get(3),
        drained: row.get::<_, bool>(4).then(|| row.get(5)),
        cpu: (row.get(6), row.get(7)),
        memory: (row.get(8), row.get(9)),
        devices: row.get(10),
        held_milli: row.get(11),
    };
    Ok(rows.iter().map(node).collect())
}

/// Which devices; empty texts are all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter<'a> {
    /// Of this pool.
    pub pool: &'a str,
    /// Of this node.
    pub node: &'a str,
    /// Of this model.
    pub model: &'a str,
}

/// A page by pool, node and name after `after`.
///
/// # Errors
/// When the statement fails.
pub async fn devices(
    db: &impl GenericClient,
    filter: Filter<'_>,
    after: (&str, &str, &str),
    limit: i64,
) -> Result<Vec<Device>, Error> {
    let Filter { pool, node, model } = filter;
    let sql = include_str!("../sql/device/list.sql");
    let rows = query::rows(db, sql, &[&pool, &node, &model, &after.0, &after.1, &after.2, &limit]).await?;
    let device = |row: &Row| Device {
        id: DeviceId(row.get(0)),
        pool: row.get(1),
        node: row.get(2),
        name: row.get(3),
        hardware_id: row.get(4),
        class: row.get(5),
        model: row.get(6),
        memory_bytes: row.get(7),
        sharing: row.get(8),
        enforcement: row.get(9),
        healthy: row.get(10),
        condition: row.get(11),
        code: row.get(12),
        drained: row.get::<_, bool>(13).then(|| row.get(14)),
        held_milli: row.get(15),
        held_memory: row.get(16),
    };
    Ok(rows.iter().map(device).collect())
}

/// Who holds what of these devices.
///
/// # Errors
/// When the statement fails.
pub async fn holders(db: &impl GenericClient, devices: &[DeviceId]) -> Result<HashMap<DeviceId, Vec<Holder>>, Error> {
    let ids: Vec<Uuid> = devices.iter().map(|device| device.0).collect();
    let mut found: HashMap<DeviceId, Vec<Holder>> = HashMap::new();
    for row in query::rows(db, include_str!("../sql/grant_of_device/of_devices.sql"), &[&ids]).await? {
        found.entry(DeviceId(row.get(0))).or_default().push(Holder {
            workspace: row.get(1),
            project: row.get(2),
            queue: row.get(3),
            milli: row.get(4),
            memory_bytes: row.get(5),
            state: row.get(6),
        });
    }
    Ok(found)
}

/// Names of these devices.
///
/// # Errors
/// When the statement fails.
pub async fn device_names(db: &impl GenericClient, devices: &[DeviceId]) -> Result<HashMap<DeviceId, String>, Error> {
    let ids: Vec<Uuid> = devices.iter().map(|device| device.0).collect();
    let rows = query::rows(db, include_str!("../sql/device/names.sql"), &[&ids]).await?;
    Ok(rows.iter().map(|row| (DeviceId(row.get(0)), row.get(1))).collect())
}

/// The models of the fleet, in order.
///
/// # Errors
/// When the statement fails.
pub async fn models(db: &impl GenericClient) -> Result<Vec<String>, Error> {
    let rows = query::rows(db, include_str!("../sql/device/models.sql"), &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The names of the nodes of devices and of the devices there, by their ids; those that are forgotten are left out.
///
/// # Errors
/// When the statement fails.
pub async fn places(
    db: &impl GenericClient,
    devices: &[DeviceId],
) -> Result<HashMap<DeviceId, (String, String)>, Error> {
    let ids: Vec<Uuid> = devices.iter().map(|device| device.0).collect();
    let rows = query::rows(db, include_str!("../sql/device/places.sql"), &[&ids]).await?;
    Ok(rows.iter().map(|row| (DeviceId(row.get("id")), (row.get("node"), row.get("device")))).collect())
}

/// The name of a node; `None` once it is forgotten.
///
/// # Errors
/// When the statement fails.
pub async fn node_name(db: &impl GenericClient, node: NodeId) -> Result<Option<String>, Error> {
    Ok(query::row(db, include_str!("../sql/node/name.sql"), &[&node.0]).await?.map(|row| row.get(0)))
}

/// Whether there is such a node, and where `device` is not empty such a device of it.
///
/// # Errors
/// When the statement fails.
pub async fn exists(db: &impl GenericClient, pool: &str, node: &str, device: &str) -> Result<bool, Error> {
    Ok(query::row(db, include_str!("../sql/node/get.sql"), &[&pool, &node, &device]).await?.is_some())
}

/// Places nobody new on a node, or on one device of it.
///
/// # Errors
/// When the statement fails.
pub async fn drain(db: &impl GenericClient, pool: &str, node: &str, device: &str, reason: &str) -> Result<(), Error> {
    let sql = include_str!("../sql/drained_node/insert.sql");
    query::execute(db, sql, &[&pool, &node, &device, &reason]).await?;
    Ok(())
}

/// Ends a drain; false when there was none.
///
/// # Errors
/// When the statement fails.
pub async fn undrain(db: &impl GenericClient, pool: &str, node: &str, device: &str) -> Result<bool, Error> {
    Ok(query::execute(db, include_str!("../sql/drained_node/delete.sql"), &[&pool, &node, &device]).await? > 0)
}

fn class(row: &Row) -> Class {
    Class {
        name: row.get(0),
        sharing: row.get(1),
        step_milli: row.get(2),
        enforcement: row.get(3),
        models: row.get(4),
        claim_class: row.get(5),
        worth: row.get(6),
        version: row.get(7),
        devices: row.get(8),
    }
}

/// Every device class by name: administrators set few.
///
/// # Errors
/// When the statement fails.
pub async fn classes(db: &impl GenericClient) -> Result<Vec<Class>, Error> {
    Ok(query::rows(db, include_str!("../sql/device_class/list.sql"), &[]).await?.iter().map(class).collect())
}

/// The class of this name; nobody else changes it until the transaction ends.
///
/// # Errors
/// When the statement fails.
pub async fn lock_class(db: &impl GenericClient, name: &str) -> Result<Option<Class>, Error> {
    Ok(query::row(db, include_str!("../sql/device_class/lock.sql"), &[&name]).await?.as_ref().map(class))
}

/// Adds a class or changes it; its version and how many devices are of it are not set. Answers the version.
///
/// # Errors
/// When the statement fails.
pub async fn set_class(db: &impl GenericClient, class: &Class) -> Result<i64, Error> {
    let sql = include_str!("../sql/device_class/upsert.sql");
    let parameters: query::Parameters<'_> = &[
        &class.name,
        &class.sharing,
        &class.step_milli,
        &class.enforcement,
        &class.models,
        &class.claim_class,
        &class.worth,
    ];
    Ok(query::one(db, sql, parameters).await?.get(0))
}

/// Removes a class; false when there is none.
///
/// # Errors
/// When the statement fails.
pub async fn delete_class(db: &impl GenericClient, name: &str) -> Result<bool, Error> {
    Ok(query::execute(db, include_str!("../sql/device_class/delete.sql"), &[&name]).await? > 0)
}
