//! Who holds what in a pool, and how the lives of its runtimes stand.
//!
//! Refuses to decide who gets what. What it refuses to write, whoever asks: more of a device or of a project's quota than
//! there is, and anything under an epoch that has passed.

mod commit;
mod inventory;
mod load;
mod rows;
mod shared;

pub use commit::{Act, Batch, Lost, Outcome, commit};
pub(crate) use commit::{held_by, quota, usage};
pub use inventory::{DeviceRow, NodeRow, delete_gone, set_devices, set_nodes};
pub use load::{Pool, Startable, load, startable, state_of};
pub use rows::{Event, NodeState, Placement, PlacementState, StoredLife};

use crate::{Error, Store, query, shards::Shard};
use domain::id::{UserId, WorkspaceId};

/// The pools of these shards, with their shards' numbers.
///
/// # Errors
/// When the database does not answer.
pub async fn pools_of(store: &Store, shards: &[i16]) -> Result<Vec<(String, i16)>, Error> {
    let client = store.client().await?;
    let rows = query::rows(&client, include_str!("../sql/pool/of_shards.sql"), &[&shards]).await?;
    Ok(rows.iter().map(|row| (row.get("name"), row.get("shard"))).collect())
}

/// Makes a pool, unless it is there.
///
/// # Errors
/// When the database does not answer.
pub async fn ensure_pool(store: &Store, name: &str, shard: Shard) -> Result<(), Error> {
    let client = store.client().await?;
    query::execute(&client, include_str!("../sql/pool/insert.sql"), &[&name, &shard.id]).await?;
    Ok(())
}

/// Puts the error of a workspace's last life away, and of no other than the one of this number; false when there is none.
///
/// # Errors
/// When the database does not answer.
pub async fn reset(
    store: &Store,
    shard: Shard,
    workspace: WorkspaceId,
    only: Option<i64>,
    actor: Option<UserId>,
) -> Result<bool, Error> {
    let client = store.client().await?;
    let actor = actor.map(|id| id.0);
    let sql = include_str!("../sql/runtime/reset.sql");
    Ok(query::execute(&client, sql, &[&workspace.0, &actor, &shard.id, &shard.epoch, &only]).await? == 1)
}
