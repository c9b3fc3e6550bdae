//! Small clusters to plan on.

use domain::{
    device::{Ask, Device, DeviceModel, Grant, Link, Sharing},
    id::{DeviceId, HolderId, NodeId, ProjectId, QueueId},
    queue::Queue,
    quota::Quota,
};
use jiff::{SignedDuration, Timestamp};
use placement::{Access, Assignment, Holding, Node, Nomination, Owner, Plan, Policy, Project, Request, Snapshot, plan};
use uuid::Uuid;

/// Monday, 2026-11-23, 06:00 UTC.
pub(crate) const NOW_S: i64 = 1_795_413_600;

/// Memory of every device, bytes.
pub(crate) const DEVICE_BYTES: u64 = 16 << 30;

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW_S + seconds).unwrap()
}

/// A snapshot that grows, with one queue and one project to begin with.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) snapshot: Snapshot,
    pub(crate) policy: Policy,
    next: u128,
}

pub(crate) fn shared() -> Sharing {
    Sharing::Shared { step_milli: 1, alone: false }
}

pub(crate) fn ask(gpus: u32, gpu_milli: u32) -> Ask {
    Ask {
        gpus,
        gpu_milli,
        gpu_memory_bytes: None,
        models: Vec::new(),
        models_ordered: false,
        link: Link::Any,
        cpu_milli: 1000,
        memory_bytes: 1 << 30,
    }
}

pub(crate) fn of(model: &str, ask: Ask) -> Ask {
    Ask { models: vec![DeviceModel::new(model)], ..ask }
}

impl World {
    pub(crate) fn new() -> Self {
        let snapshot = Snapshot {
            now: at(0),
            nodes: Vec::new(),
            holdings: Vec::new(),
            nominations: Vec::new(),
            requests: Vec::new(),
            queues: Vec::new(),
            projects: Vec::new(),
            quotas: Vec::new(),
            recent: Vec::new(),
        };
        let mut world = Self { snapshot, policy: Policy::default(), next: 1 };
        world.queue("default", 0, false);
        world.project(Quota::default());
        world
    }

    fn id(&mut self) -> Uuid {
        self.next += 1;
        Uuid::from_u128(self.next)
    }

    /// A node with 8 cores and 64 GiB for each device, at least 8 cores.
    pub(crate) fn node(&mut self, models: &[&str], sharing: &Sharing) -> NodeId {
        let id = NodeId(self.id());
        let devices = models.iter().enumerate().map(|(link, model)| Device {
            id: DeviceId(self.id()),
            model: DeviceModel::new(model),
            class: String::new(),
            memory_bytes: DEVICE_BYTES,
            sharing: sharing.clone(),
            link_group: u32::try_from(link / 2).unwrap(),
            schedulable: true,
        });
        let devices: Vec<Device> = devices.collect();
        let size = devices.len().max(1) as u64;
        let zone = "a".to_owned();
        let (cpu_milli, memory_bytes) = (size * 8000, size * (64 << 30));
        self.snapshot.nodes.push(Node { id, zone, cpu_milli, memory_bytes, schedulable: true, devices });
        id
    }

    pub(crate) fn queue(&mut self, name: &str, priority: i32, preemptible: bool) -> QueueId {
        let id = QueueId(self.id());
        self.snapshot.queues.push(Queue {
            id,
            name: name.to_owned(),
            priority,
            preemptible,
            deserved_milli: 0,
            limit_milli: None,
            weight: 1,
            recent_use: 0,
        });
        id
    }

    pub(crate) fn queue_mut(&mut self, id: QueueId) -> &mut Queue {
        self.snapshot.queues.iter_mut().find(|queue| queue.id == id).unwrap()
    }

    pub(crate) fn project(&mut self, quota: Quota) -> ProjectId {
        let id = ProjectId(self.id());
        self.snapshot.projects.push(Project { id, group: None, quota, disruptions_left: None, recent_use: 0 });
        id
    }

    /// A request in the first queue, for the first project, since a minute.
    pub(crate) fn request(&mut self, ask: Ask) -> &mut Request {
        let request = Request {
            holder: HolderId(self.id()),
            project: self.snapshot.projects[0].id,
            person: None,
            queue: self.snapshot.queues[0].id,
            priority: 0,
            submitted_at: at(-60),
            ask,
            storage_bytes: 0,
            nodes: None,
            gang: None,
            runtime_s: None,
            access: Access::Always,
            permitted: Vec::new(),
            class: None,
            alternatives: Vec::new(),
        };
        self.snapshot.requests.push(request);
        self.snapshot.requests.last_mut().unwrap()
    }

    /// Somebody of the first project who holds shares of the first devices of a node since an hour.
    pub(crate) fn hold(&mut self, node: NodeId, queue: QueueId, gpus: usize, milli: u32) -> &mut Holding {
        let holder = HolderId(self.id());
        let devices = &self.snapshot.nodes.iter().find(|n| n.id == node).unwrap().devices;
        let memory_bytes = DEVICE_BYTES * u64::from(milli) / 1000;
        let free = devices.iter().filter(|device| {
            let held = self.snapshot.holdings.iter().flat_map(|h| &h.grants).filter(|g| g.device == device.id);
            held.map(|g| g.milli).sum::<u32>() + milli <= 1000
        });
        let grants: Vec<Grant> =
            free.take(gpus).map(|d| Grant { device: d.id, milli, memory_bytes, slots: 0 }).collect();
        assert_eq!(grants.len(), gpus, "the test gives out more than there is");
        let owner = Owner {
            project: self.snapshot.projects[0].id,
            person: None,
            queue,
            priority: 0,
            effective_milli: gpus as u64 * u64::from(milli),
            storage_bytes: 0,
            protected_until: None,
            gang: None,
        };
        self.snapshot.holdings.push(Holding {
            holder,
            owner: Some(owner),
            node,
            grants,
            cpu_milli: 1000,
            memory_bytes: 1 << 30,
            releasing: false,
            started_at: at(-3600),
            ends_at: None,
        });
        self.snapshot.holdings.last_mut().unwrap()
    }

    pub(crate) fn plan(&self) -> Plan {
        plan(&self.snapshot, &self.policy)
    }

    /// The same world when what was planned is done, and time has passed.
    pub(crate) fn after(&self, plan: &Plan, seconds: i64) -> Self {
        let mut world = self.clone();
        world.snapshot.now = world.snapshot.now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
        for assignment in &plan.assignments {
            let at = world.snapshot.requests.iter().position(|r| r.holder == assignment.holder).unwrap();
            let request = world.snapshot.requests.remove(at);
            world.snapshot.holdings.push(started(&request, assignment, self.snapshot.now));
        }
        for preemption in &plan.preemptions {
            world.snapshot.nominations.push(Nomination {
                holder: preemption.holder,
                node: preemption.place.node,
                grants: preemption.place.grants.clone(),
                cpu_milli: preemption.place.cpu_milli,
                memory_bytes: preemption.place.memory_bytes,
                victims: preemption.victims.clone(),
                revocable: false,
            });
            for holding in &mut world.snapshot.holdings {
                holding.releasing |= preemption.victims.contains(&holding.holder);
            }
        }
        let now = world.snapshot.now;
        world.snapshot.holdings.retain(|holding| holding.ends_at.is_none_or(|end| end > now));
        world
    }
}

fn started(request: &Request, assignment: &Assignment, now: Timestamp) -> Holding {
    let runtime = request.runtime_s.map(|seconds| SignedDuration::from_secs(i64::try_from(seconds).unwrap()));
    let ends_at = runtime.map(|runtime| now.checked_add(runtime).unwrap());
    Holding { ends_at, ..Holding::of(request, &assignment.place, now) }
}
