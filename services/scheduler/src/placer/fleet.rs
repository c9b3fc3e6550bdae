//! The nodes and devices of one pool, and which executor serves which node. Refuses to know who holds what.
//!
//! A node takes nobody new before its executor has said everything: what there is, and what runs there. Neither does a device
//! that is not told of any more, or anew: it has failed only when that is said of it, or when nobody told of it for long.

mod changes;
mod seen;

use super::{Outbox, volumes::Reach, wire, wire::Pause};
use domain::{
    device::{Device, DeviceModel, Sharing},
    id::{DeviceId, ExecutorId, HolderId, NodeId},
};
use placement::{Holding, Node};
use proto::internal::v1::{self as pb, serve_response::Message as Said};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};
use store::ledger::{DeviceRow, NodeRow, NodeState};

/// Nodes of one pool.
pub(super) const NODES_MAX: usize = 20_000;
/// Executors of one pool.
const SESSIONS_MAX: usize = 1_000;

/// Of a device that somebody holds; as `device/delete_gone.sql` has it.
const NOT_TOLD: &str = "its node does not report it any more";

/// One pool's machines.
#[derive(Default)]
pub(super) struct Fleet {
    sessions: BTreeMap<u64, Session>,
    nodes: BTreeMap<NodeId, NodeEntry>,
    by_name: HashMap<String, NodeId>,
}

struct Session {
    executor: ExecutorId,
    name: String,
    outbox: Outbox,
    heard: Instant,
    /// It tells of all nodes of a cluster, and not only of its own.
    sees_cluster: bool,
    has_nodes: bool,
    /// Some of its nodes cannot be read.
    misread: bool,
    has_runtimes: bool,
    /// It reported a node that another serves: it must not take what it is told for everything.
    outbid: bool,
}

struct NodeEntry {
    row: NodeRow,
    devices: Vec<DeviceRow>,
    /// What the drivers of its devices call all of their compute, and the least step of it; as it was reported last. In no
    /// row: nobody is placed before it is reported.
    cores: HashMap<DeviceId, (i64, i64)>,
    /// Devices that take nobody new and have not failed.
    paused: BTreeMap<DeviceId, Pause>,
    /// Devices that are held and not told of any more, and since when; once they have counted as failed, no time.
    missing: BTreeMap<DeviceId, Option<Instant>>,
    strangers: Vec<wire::Stranger>,
    /// Why it takes nobody new, as its executor said last.
    condition: String,
    /// Which session serves it.
    server: Option<u64>,
    /// Since when nobody does.
    unserved_since: Option<Instant>,
    /// Its holders were told that it is lost.
    given_up: bool,
    /// Whether whoever told of it last tells of a whole cluster; `None` while nobody has since its row was read.
    of_cluster: Option<bool>,
}

/// What a report about nodes changes in the ledger.
#[derive(Default)]
pub(super) struct Inventory {
    pub(super) nodes: Vec<NodeRow>,
    /// Nodes whose devices are told, and all of these.
    pub(super) told: Vec<NodeId>,
    pub(super) devices: Vec<DeviceRow>,
    /// Devices that have failed since.
    pub(super) failed: Vec<(DeviceId, String)>,
    /// Devices that somebody holds, and that are not told of any more since.
    pub(super) missing: Vec<DeviceId>,
    /// Reports that cannot be.
    pub(super) problems: Vec<String>,
}

impl Fleet {
    /// As rows tell it: nobody serves anything. Of what was heard before nothing stays, since what followed from it may not be
    /// in the rows; and no node has been silent while nobody could hear it.
    pub(super) fn load(&mut self, nodes: Vec<NodeRow>, devices: Vec<DeviceRow>) {
        self.nodes.clear();
        self.by_name = nodes.iter().map(|node| (node.name.clone(), node.id)).collect();
        for row in nodes {
            let entry = NodeEntry {
                row,
                devices: Vec::new(),
                cores: HashMap::new(),
                paused: BTreeMap::new(),
                missing: BTreeMap::new(),
                strangers: Vec::new(),
                condition: String::new(),
                server: None,
                unserved_since: Some(Instant::now()),
                given_up: false,
                of_cluster: None,
            };
            self.nodes.insert(entry.row.id, entry);
        }
        for device in devices {
            if let Some(entry) = self.nodes.get_mut(&device.node) {
                entry.devices.push(device);
            }
        }
    }

    /// An executor comes. False when there are too many.
    pub(super) fn open(
        &mut self,
        session: u64,
        executor: ExecutorId,
        name: String,
        sees_cluster: bool,
        outbox: Outbox,
    ) -> bool {
        // It has lost its former stream, whose end has not come here yet.
        let former: Vec<u64> =
            self.sessions.iter().filter(|(_, other)| other.executor == executor).map(|(id, _)| *id).collect();
        former.into_iter().for_each(|former| self.close(former));
        if self.sessions.len() >= SESSIONS_MAX {
            return false;
        }
        let session_of = Session {
            executor,
            name,
            outbox,
            heard: Instant::now(),
            sees_cluster,
            has_nodes: false,
            misread: false,
            has_runtimes: false,
            outbid: false,
        };
        self.sessions.insert(session, session_of);
        true
    }

    /// An executor is gone: its nodes are served by nobody.
    pub(super) fn close(&mut self, session: u64) {
        if let Some(closed) = self.sessions.remove(&session) {
            closed.outbox.over.cancel();
        }
        for entry in self.nodes.values_mut().filter(|entry| entry.server == Some(session)) {
            entry.server = None;
            entry.unserved_since = Some(Instant::now());
        }
        // They come again, and may serve now what they could not.
        self.sessions.values().filter(|other| other.outbid).for_each(|other| other.outbox.over.cancel());
    }

    pub(super) fn knows(&self, session: u64) -> bool {
        self.sessions.contains_key(&session)
    }

    pub(super) fn heard(&mut self, session: u64) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.heard = Instant::now();
        }
    }

    /// Executors that were silent for too long.
    pub(super) fn silent(&self, lost_after: Duration) -> Vec<u64> {
        let silent = self.sessions.iter().filter(|(_, session)| session.heard.elapsed() > lost_after);
        silent.map(|(id, _)| *id).collect()
    }

    /// Takes a report. What it changes is to be written before anybody is placed by it. `is_held` tells whether somebody has
    /// a part of a device.
    pub(super) fn report(
        &mut self,
        session: u64,
        pool: &str,
        message: pb::Nodes,
        is_held: &dyn Fn(DeviceId) -> bool,
    ) -> Inventory {
        let mut inventory = Inventory::default();
        let mut named = HashSet::new();
        if let Some(session) = self.sessions.get_mut(&session).filter(|_| message.complete) {
            session.outbid = false;
        }
        for node in message.nodes {
            if node.name.is_empty() || (self.nodes.len() >= NODES_MAX && !self.by_name.contains_key(&node.name)) {
                inventory.problems.push(format!("node `{}` is left out: a pool has at most {NODES_MAX}", node.name));
                continue;
            }
            named.insert(node.name.clone());
            self.report_one(session, (pool, is_held), node, &mut inventory);
        }
        let is_gone = |entry: &NodeEntry| {
            entry.server == Some(session)
                && (message.gone.contains(&entry.row.name) || (message.complete && !named.contains(&entry.row.name)))
        };
        for entry in self.nodes.values_mut().filter(|entry| is_gone(entry)) {
            if entry.end() {
                inventory.nodes.push(entry.row.clone());
            }
        }
        if let Some(session) = self.sessions.get_mut(&session) {
            session.has_nodes |= message.complete;
            session.misread = !inventory.problems.is_empty() || session.misread && !message.complete;
        }
        inventory
    }

    fn report_one(
        &mut self,
        session: u64,
        (pool, is_held): (&str, &dyn Fn(DeviceId) -> bool),
        node: pb::Node,
        inventory: &mut Inventory,
    ) {
        let id = wire::node_id(pool, &node.name);
        let before = self.nodes.get(&id);
        if before.and_then(|entry| entry.server).is_some_and(|server| server != session) {
            // Whoever reported it first serves it.
            self.sessions.get_mut(&session).into_iter().for_each(|session| session.outbid = true);
            return;
        }
        let (row, devices) = match wire::node(id, &node) {
            Ok(read) => read,
            Err(problem) => return inventory.problems.push(problem),
        };
        let mut entry = NodeEntry {
            row,
            devices,
            cores: wire::cores(id, &node.devices),
            paused: wire::paused(id, &node.devices),
            missing: BTreeMap::new(),
            strangers: Vec::new(),
            condition: node.condition,
            server: Some(session),
            unserved_since: None,
            given_up: false,
            of_cluster: self.sessions.get(&session).map(|session| session.sees_cluster),
        };
        before.into_iter().for_each(|before| entry.keep_held(before, is_held));
        entry.strangers = wire::strangers(pool, id, &node.foreign, &entry.devices);
        inventory.compare(before, &entry);
        self.by_name.insert(node.name, id);
        self.nodes.insert(id, entry);
    }

    /// Takes note of somebody whom an executor has on a node that is not told of: where it tells of the whole cluster, the node
    /// is no more, and whoever has what is left there serves it. Answers what is to be written.
    pub(super) fn left_on(&mut self, session: u64, node: NodeId, name: &str) -> Option<NodeRow> {
        self.sessions.get(&session).filter(|session| session.tells_all())?;
        let entry = self.nodes.get_mut(&node).filter(|entry| entry.server.is_none() && entry.row.name == name)?;
        (entry.server, entry.unserved_since) = (Some(session), None);
        entry.end().then(|| entry.row.clone())
    }

    /// It has said all that runs there.
    pub(super) fn has_runtimes(&mut self, session: u64) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.has_runtimes = true;
        }
    }

    /// It has said everything, and may be told what there shall be.
    pub(super) fn is_ready(&self, session: u64) -> bool {
        self.sessions.get(&session).is_some_and(|session| session.has_nodes && session.has_runtimes)
    }

    pub(super) fn sessions(&self) -> Vec<u64> {
        self.sessions.keys().copied().collect()
    }

    pub(super) fn ready_sessions(&self) -> Vec<u64> {
        self.sessions.keys().copied().filter(|session| self.is_ready(*session)).collect()
    }

    /// What it is told is all that shall be on the nodes that it sees.
    pub(super) fn serves_alone(&self, session: u64) -> bool {
        self.sessions.get(&session).is_some_and(|session| !session.outbid)
    }

    /// Which session serves a node.
    pub(super) fn server(&self, node: NodeId) -> Option<u64> {
        self.nodes.get(&node).and_then(|entry| entry.server)
    }

    /// Whether a node was told of by whoever tells of a whole cluster.
    pub(super) fn is_of_cluster(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|entry| entry.of_cluster == Some(true))
    }

    pub(super) fn name_of(&self, node: NodeId) -> &str {
        self.nodes.get(&node).map_or("", |entry| entry.row.name.as_str())
    }

    /// The nodes of these zones, and these nodes; `None` where it has none of them.
    pub(super) fn within(&self, reach: &Reach) -> Option<BTreeSet<NodeId>> {
        let reached =
            self.nodes.values().map(|entry| &entry.row).filter(|row| {
                reach.nodes.contains(&row.name) || (!row.zone.is_empty() && reach.zones.contains(&row.zone))
            });
        Some(reached.map(|row| row.id).collect::<BTreeSet<_>>()).filter(|nodes| !nodes.is_empty())
    }

    /// Nodes that take new holders, and their devices.
    pub(super) fn ready(&self) -> impl Iterator<Item = (&NodeRow, &[DeviceRow])> {
        let ready = self.nodes.values().filter(|entry| entry.server.is_some() && entry.row.state == NodeState::Ready);
        ready.map(|entry| (&entry.row, entry.devices.as_slice()))
    }

    pub(super) fn device(&self, node: NodeId, device: DeviceId) -> Option<&DeviceRow> {
        self.nodes.get(&node)?.devices.iter().find(|row| row.id == device)
    }

    /// All cores of a device and their least step; `None` while nobody has reported it to this scheduler.
    pub(super) fn cores(&self, node: NodeId, device: DeviceId) -> Option<(i64, i64)> {
        self.nodes.get(&node)?.cores.get(&device).copied()
    }

    /// Says something to an executor. One that does not keep up loses its stream, and comes again.
    pub(super) fn say(&self, session: u64, message: Said) {
        let Some(session) = self.sessions.get(&session) else { return };
        if session.outbox.sender.try_send(Ok(pb::ServeResponse { message: Some(message) })).is_err() {
            tracing::warn!(executor.name = session.name, "an executor does not keep up with its orders");
            session.outbox.over.cancel();
        }
    }

    /// Nodes whose state in the ledger is not what it should be: those that nobody serves any more. They are lost; or gone,
    /// where somebody tells of all nodes of the cluster and not of them. A machine that told of itself is none of these; one that
    /// is known by its row alone is taken for one where anybody here tells of a machine of their own.
    pub(super) fn newly_lost(&mut self, after: Duration) -> Vec<NodeRow> {
        let all_told = self.sessions.values().any(Session::tells_all);
        let served: HashSet<u64> = self.nodes.values().filter_map(|entry| entry.server).collect();
        // Who has told of no node at all only wants devices for its blocks.
        let is_machine =
            |id: &u64, session: &Session| !session.sees_cluster && (!session.has_nodes || served.contains(id));
        let has_machines = self.sessions.iter().any(|(id, session)| is_machine(id, session));
        let silent = |entry: &NodeEntry| entry.unserved_since.is_some_and(|since| since.elapsed() >= after);
        let silent = self.nodes.values_mut().filter(|entry| silent(entry));
        let lost = silent.filter_map(|entry| {
            let is_of_cluster = entry.of_cluster.unwrap_or(!has_machines);
            let is_news = if all_told && is_of_cluster { entry.end() } else { entry.lose() };
            is_news.then(|| entry.row.clone())
        });
        lost.collect()
    }

    /// Nodes that nobody has served for so long; each is told once.
    pub(super) fn give_up(&mut self, after: Duration) -> Vec<NodeId> {
        let late = |entry: &NodeEntry| entry.unserved_since.is_some_and(|since| since.elapsed() >= after);
        let lost = self.nodes.values_mut().filter(|entry| !entry.given_up && late(entry));
        lost.map(|entry| {
            entry.given_up = true;
            entry.row.id
        })
        .collect()
    }

    /// Devices that were not told of for so long; each is named once.
    pub(super) fn give_up_devices(&mut self, after: Duration) -> Vec<(DeviceId, String)> {
        let missing = self.nodes.values_mut().flat_map(|entry| &mut entry.missing);
        let late = missing.filter(|(_, since)| since.is_some_and(|since| since.elapsed() >= after));
        late.map(|(device, since)| {
            *since = None;
            (*device, NOT_TOLD.to_owned())
        })
        .collect()
    }

    pub(super) fn has_gone(&self) -> bool {
        self.nodes.values().any(|entry| entry.row.state == NodeState::Gone)
    }

    pub(super) fn forget(&mut self, nodes: &[NodeId]) {
        for id in nodes {
            if let Some(entry) = self.nodes.remove(id) {
                self.by_name.remove(&entry.row.name);
            }
        }
    }

    /// Whether all who have these devices of a node are known: whoever serves it has said everything, and leaves none of them
    /// out; or the node is no more.
    pub(super) fn is_known(&self, node: NodeId, devices: impl IntoIterator<Item = DeviceId>) -> bool {
        let Some(entry) = self.nodes.get(&node) else { return true };
        let is_served = entry.server.is_some_and(|session| self.is_ready(session));
        entry.row.state == NodeState::Gone || is_served && !devices.into_iter().any(|device| entry.is_missing(device))
    }

    /// Whether a node reports somebody of this id who is not ours.
    pub(super) fn has_stranger(&self, node: NodeId, holder: HolderId) -> bool {
        self.nodes.get(&node).is_some_and(|entry| entry.strangers.iter().any(|one| one.id == holder))
    }

    /// What the planner sees. `drained` has node and device, or node and nothing; `ours` tells strangers of a node whom the
    /// ledger has there.
    pub(super) fn snapshot(
        &self,
        drained: &BTreeSet<(String, String)>,
        ours: impl Fn(NodeId, HolderId) -> bool,
    ) -> (Vec<Node>, Vec<Holding>) {
        let nodes = self.nodes.values().map(|entry| {
            let ready = entry.server.is_some_and(|session| self.is_ready(session));
            let is_drained = |device: &str| drained.contains(&(entry.row.name.clone(), device.to_owned()));
            Node {
                id: entry.row.id,
                zone: entry.row.zone.clone(),
                cpu_milli: entry.row.cpu_milli,
                memory_bytes: entry.row.memory_bytes,
                schedulable: ready && entry.row.state == NodeState::Ready && !is_drained(""),
                devices: entry.devices.iter().map(|row| device(row, is_drained(&row.name))).collect(),
            }
        });
        let all = self.nodes.values().flat_map(|entry| &entry.strangers);
        let strangers = all.filter(|one| !ours(one.holding.node, one.id)).map(|one| one.holding.clone());
        (nodes.collect(), strangers.collect())
    }

    /// Whether a place that is kept can still be had some time. A device of which is told anew is back in a moment; of one that
    /// others may have, nobody knows when it is. A node that nobody serves yet will be told of, or is lost soon.
    pub(super) fn is_usable(&self, node: NodeId, devices: impl IntoIterator<Item = DeviceId>) -> bool {
        let Some(entry) = self.nodes.get(&node) else { return false };
        let is_told = entry.server.is_some();
        let works = |d: &&DeviceRow| d.healthy || !is_told || entry.paused.get(&d.id) == Some(&Pause::Updating);
        let usable: BTreeSet<DeviceId> = entry.devices.iter().filter(works).map(|device| device.id).collect();
        !matches!(entry.row.state, NodeState::Lost | NodeState::Gone)
            && devices.into_iter().all(|id| usable.contains(&id))
    }

    /// The models that are there.
    pub(super) fn models(&self) -> BTreeSet<DeviceModel> {
        let devices = self.nodes.values().flat_map(|entry| &entry.devices);
        devices.map(|device| DeviceModel::new(&device.model)).collect()
    }

    /// Devices by class that could be given to somebody now: healthy, of a node that is served and takes whoever comes, and
    /// nobody has a part of them. `held` is what the ledger gave away; what strangers have is known here.
    pub(super) fn free(
        &self,
        drained: &BTreeSet<(String, String)>,
        mut held: HashSet<(NodeId, DeviceId)>,
    ) -> BTreeMap<String, u64> {
        let (nodes, strangers) = self.snapshot(drained, |_, _| false);
        held.extend(strangers.iter().flat_map(|one| one.grants.iter().map(|grant| (one.node, grant.device))));
        let mut free = BTreeMap::new();
        for node in nodes {
            for device in &node.devices {
                let Some(row) = self.device(node.id, device.id) else { continue };
                let is_free = node.schedulable && device.schedulable && !held.contains(&(node.id, device.id));
                // A class of which nothing is free is told too.
                *free.entry(row.class.clone()).or_default() += u64::from(is_free);
            }
        }
        free
    }

    /// Healthy devices by model, milli-GPU.
    pub(super) fn totals(&self) -> BTreeMap<String, u64> {
        let mut totals = BTreeMap::new();
        for device in self.nodes.values().flat_map(|entry| &entry.devices).filter(|device| device.healthy) {
            *totals.entry(device.model.clone()).or_default() += u64::from(domain::device::WHOLE_MILLI);
        }
        totals
    }
}

impl Session {
    /// No node of its cluster is left out.
    fn tells_all(&self) -> bool {
        self.sees_cluster && self.has_nodes && !self.misread
    }
}

fn device(row: &DeviceRow, drained: bool) -> Device {
    Device {
        id: row.id,
        model: DeviceModel::new(&row.model),
        class: row.class.clone(),
        memory_bytes: row.memory_bytes,
        sharing: row.sharing.clone(),
        link_group: row.link_group.unsigned_abs(),
        schedulable: row.healthy && !drained,
    }
}

/// The name of the piece of a partitioned device that these slots are; empty for others.
pub(super) fn profile(row: &DeviceRow, slots: u64) -> String {
    let Sharing::Partitioned { profiles } = &row.sharing else { return String::new() };
    let is = |profile: &&domain::device::Profile| profile.placements.contains(&slots);
    profiles.iter().find(is).map(|profile| profile.name.clone()).unwrap_or_default()
}
