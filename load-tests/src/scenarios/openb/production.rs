//! The scheduler's own planner in the place of a policy.

use super::{
    method::Placer,
    trace::{Node, Task},
};
use domain::{
    device::{Ask, Device, DeviceModel, Link, Sharing},
    id::{DeviceId, HolderId, NodeId, ProjectId, QueueId},
    queue::Queue,
    quota::Quota,
};
use jiff::Timestamp;
use placement::{Access, Demand, Planner, Policy, Project, Request, Snapshot};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Memory of every device, bytes: the trace does not tell, and shares of it are those of the compute.
const DEVICE_BYTES: u64 = 16 << 30;

/// Whose all tasks are.
const PROJECT: ProjectId = ProjectId(Uuid::from_u128(1));

/// One queue, one project, no limits: what is compared is where things are put.
pub(super) struct Production {
    planner: Planner,
    request: Request,
    count: u128,
}

impl Production {
    /// The planner is told what is asked for how often, as the published policy is.
    pub(super) fn new(nodes: &[Node], tasks: &[Task]) -> Self {
        let (mut snapshot, [queue, _]) = snapshot(nodes, tasks);
        snapshot.queues.truncate(1);
        let request = Self::request(0, queue, &tasks[0]);
        Self { planner: Planner::new(&snapshot, &Policy::default()), request, count: 0 }
    }

    /// Somebody who wants what the task wants.
    pub(super) fn request(holder: u128, queue: QueueId, task: &Task) -> Request {
        Request {
            holder: HolderId(Uuid::from_u128(holder)),
            project: PROJECT,
            person: None,
            queue,
            priority: 0,
            submitted_at: Timestamp::UNIX_EPOCH,
            ask: ask(task),
            storage_bytes: 0,
            nodes: None,
            gang: None,
            runtime_s: None,
            access: Access::Always,
            permitted: Vec::new(),
            class: None,
            alternatives: Vec::new(),
        }
    }
}

/// An empty fleet, and its queues: the first one's holders stay, the second one's are stopped when the first wants room.
pub(super) fn snapshot(nodes: &[Node], tasks: &[Task]) -> (Snapshot, [QueueId; 2]) {
    let mut counts: BTreeMap<&Task, u64> = BTreeMap::new();
    for task in tasks {
        *counts.entry(task).or_default() += 1;
    }
    let queues = [("default", 0, false), ("preemptible", -1, true)];
    let queues = queues.into_iter().zip(1_u128..).map(|((name, priority, preemptible), id)| Queue {
        id: QueueId(Uuid::from_u128(id)),
        name: name.to_owned(),
        priority,
        preemptible,
        deserved_milli: 0,
        limit_milli: None,
        weight: 1,
        recent_use: 0,
    });
    let snapshot = Snapshot {
        now: Timestamp::UNIX_EPOCH,
        nodes: nodes.iter().enumerate().map(|(at, node)| fleet_node(at, node)).collect(),
        holdings: Vec::new(),
        nominations: Vec::new(),
        requests: Vec::new(),
        queues: queues.collect(),
        projects: vec![Project {
            id: PROJECT,
            group: None,
            quota: Quota::default(),
            disruptions_left: None,
            recent_use: 0,
        }],
        quotas: Vec::new(),
        recent: counts.into_iter().map(|(task, count)| Demand { ask: ask(task), count }).collect(),
    };
    let ids = [1, 2].map(|id| QueueId(Uuid::from_u128(id)));
    (snapshot, ids)
}

impl Placer for Production {
    fn place(&mut self, task: &Task) -> bool {
        self.count += 1;
        self.request.holder = HolderId(Uuid::from_u128(self.count));
        self.request.ask = ask(task);
        self.planner.decide(&self.request).is_ok()
    }
}

fn fleet_node(at: usize, node: &Node) -> placement::Node {
    let device = |index: u32| Device {
        id: DeviceId(Uuid::from_u128(((at as u128) << 32) + u128::from(index))),
        model: DeviceModel::new(&node.model),
        class: String::new(),
        memory_bytes: DEVICE_BYTES,
        sharing: Sharing::Shared { step_milli: 1, alone: false },
        link_group: 0,
        schedulable: true,
    };
    placement::Node {
        id: NodeId(Uuid::from_u128(at as u128)),
        zone: String::new(),
        cpu_milli: node.cpu_milli,
        memory_bytes: node.memory_mib << 20,
        schedulable: true,
        devices: (0..node.gpus).map(device).collect(),
    }
}

fn ask(task: &Task) -> Ask {
    Ask {
        gpus: task.gpus,
        gpu_milli: task.gpu_milli,
        gpu_memory_bytes: None,
        models: task.models.iter().map(|model| DeviceModel::new(model)).collect(),
        models_ordered: false,
        link: Link::Any,
        cpu_milli: task.cpu_milli,
        memory_bytes: task.memory_mib << 20,
    }
}
