//! What is written down about a life, so that the next life of this executor knows it: its order, its first process, its
//! end. Private to this user, since the order holds a key.

use super::life::{Ended, Running};
use crate::{plain, pool::Order};
use proto::internal::v1 as pb;
use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::Path,
};

const ORDER: &str = "order.json";
const RUNNING: &str = "running.json";
const ENDED: &str = "ended.json";

/// What was written down.
pub(super) struct Record {
    pub(super) order: Order,
    pub(super) running: Option<Running>,
    pub(super) ended: Option<Ended>,
}

impl Record {
    /// Reads a folder; `None` when it holds no order that can be read.
    pub(super) fn read(folder: &Path) -> Option<Self> {
        let order: Stored = read(&folder.join(ORDER))?;
        let order = Order::from_proto(&order.into_proto()).ok()?;
        Some(Self { order, running: read(&folder.join(RUNNING)), ended: read(&folder.join(ENDED)) })
    }
}

/// An order as JSON: the wire's own encoding would need its crate here.
#[derive(serde::Serialize, serde::Deserialize)]
struct Stored {
    holder: Vec<u8>,
    fence: i64,
    workspace_id: Vec<u8>,
    names: [String; 4],
    queue_priority: i32,
    preemptible: bool,
    number: i64,
    grants: Vec<(String, i32, i64, String, u64)>,
    spec: String,
    access_key: String,
    base_path: String,
}

impl Stored {
    fn from_proto(order: pb::Order) -> Self {
        let grant =
            |grant: pb::DeviceGrant| (grant.device, grant.milli, grant.memory_bytes, grant.profile, grant.slots);
        Self {
            holder: order.holder,
            fence: order.fence,
            workspace_id: order.workspace_id,
            names: [order.workspace, order.project, order.queue, order.node],
            queue_priority: order.queue_priority,
            preemptible: order.preemptible,
            number: order.number,
            grants: order.grants.into_iter().map(grant).collect(),
            spec: order.spec,
            access_key: order.access_key,
            base_path: order.base_path,
        }
    }

    fn into_proto(self) -> pb::Order {
        let [workspace, project, queue, node] = self.names;
        let grant = |(device, milli, memory_bytes, profile, slots)| pb::DeviceGrant {
            device,
            milli,
            memory_bytes,
            profile,
            slots,
        };
        pb::Order {
            holder: self.holder,
            fence: self.fence,
            goal: pb::RuntimeGoal::Run.into(),
            workspace_id: self.workspace_id,
            workspace,
            project,
            queue,
            node,
            queue_priority: self.queue_priority,
            preemptible: self.preemptible,
            number: self.number,
            grants: self.grants.into_iter().map(grant).collect(),
            spec: self.spec,
            access_key: self.access_key,
            base_path: self.base_path,
            ..pb::Order::default()
        }
    }
}

/// Makes the folder of a life, with its order.
pub(super) fn write_order(folder: &Path, order: &Order) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    write(&folder.join(ORDER), &Stored::from_proto(order.to_proto()?))
}

/// Its first process.
pub(super) fn write_running(folder: &Path, running: &Running) -> io::Result<()> {
    write(&folder.join(RUNNING), running)
}

/// Its end: from here on it is never started again.
pub(super) fn write_ended(folder: &Path, ended: &Ended) -> io::Result<()> {
    write(&folder.join(ENDED), ended)
}

/// Removes the folder, if it is there.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    let mut bytes = Vec::new();
    plain::open(path).ok()?.read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Whole or not at all.
fn write(path: &Path, value: &impl serde::Serialize) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = plain::anew(&new)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    file.sync_all()?;
    fs::rename(new, path)
}
