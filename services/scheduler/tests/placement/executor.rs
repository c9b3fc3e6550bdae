//! An executor whose nodes are declared and whose runtimes are entries of a map. It speaks the real protocol, obeys
//! fences, keeps what runs over lost connections, and complains when a device is promised twice.

use domain::{device::Sharing, id::HolderId};
use proto::internal::v1::{
    self as pb, RuntimeGoal as Goal, RuntimePhase as Phase, pool_service_client::PoolServiceClient,
    serve_request::Message as Up, serve_response::Message as Down,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What one runtime of it is.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) order: pb::Order,
    pub(crate) phase: Phase,
    pub(crate) code: String,
    pub(crate) activities: Vec<pb::ActivityReport>,
}

pub(crate) struct State {
    pub(crate) runtimes: BTreeMap<HolderId, Running>,
    /// It does not report that something has ended.
    pub(crate) keeps: bool,
    /// It does not report that something is ready.
    pub(crate) dawdles: bool,
    pub(crate) violations: Vec<String>,
    pub(crate) started: usize,
    pub(crate) probes: Vec<HolderId>,
    nodes: Vec<pb::Node>,
    nodes_changed: bool,
    /// What attempts of blocks want here.
    pub(crate) wishes: Vec<pb::Wish>,
    /// What was told of them last.
    pub(crate) places: BTreeMap<String, pb::Place>,
    /// What it was told that volumes shall be, in order.
    pub(crate) volumes: Vec<pb::PoolVolume>,
}

/// A handle to it. It ends with the handle.
pub(crate) struct Executor {
    pub(crate) state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    stop: CancellationToken,
}

/// A node with so many GPUs that are shared.
pub(crate) fn node(name: &str, gpus: usize) -> pb::Node {
    let device = |n| pb::PoolDevice {
        name: format!("gpu-{n}"),
        class: "shared".into(),
        model: "A10".into(),
        memory_bytes: 24 << 30,
        sharing: serde_json::to_string(&Sharing::Shared { step_milli: 10, alone: false }).unwrap(),
        healthy: true,
        ..pb::PoolDevice::default()
    };
    pb::Node {
        name: name.to_owned(),
        cpu_milli: 64_000,
        memory_bytes: 256 << 30,
        schedulable: true,
        devices: (0..gpus).map(device).collect(),
        ..pb::Node::default()
    }
}

impl Executor {
    /// Serves `nodes` in `pool` as a backend of this name, through whichever of the addresses answers.
    pub(crate) fn start(
        pool: &str,
        backend: &'static str,
        nodes: Vec<pb::Node>,
        addresses: Arc<Mutex<Vec<String>>>,
    ) -> Self {
        let state = State {
            runtimes: BTreeMap::new(),
            keeps: false,
            dawdles: false,
            violations: Vec::new(),
            started: 0,
            probes: Vec::new(),
            nodes,
            nodes_changed: false,
            wishes: Vec::new(),
            places: BTreeMap::new(),
            volumes: Vec::new(),
        };
        let this = Self { state: Arc::new(Mutex::new(state)), changed: Arc::default(), stop: CancellationToken::new() };
        let (state, changed, stop) = (Arc::clone(&this.state), Arc::clone(&this.changed), this.stop.clone());
        let pool = pool.to_owned();
        tokio::spawn(async move {
            let id = Uuid::now_v7();
            let mut turn = 0;
            while !stop.is_cancelled() {
                let address = {
                    let addresses = addresses.lock().unwrap();
                    turn += 1;
                    addresses.get(turn % addresses.len().max(1)).cloned()
                };
                if let Some(address) = address {
                    let _ = stop.run_until_cancelled(serve(&address, (&pool, backend), id, &state, &changed)).await;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        this
    }

    /// Changes what is so, and says it.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let answer = change(&mut self.state.lock().unwrap());
        self.changed.notify_one();
        answer
    }

    /// Says that a node is other than before.
    pub(crate) fn set_nodes(&self, change: impl FnOnce(&mut Vec<pb::Node>)) {
        self.change(|state| {
            change(&mut state.nodes);
            state.nodes_changed = true;
        });
    }

    /// Its machine is gone, and nothing of it is ever heard again.
    pub(crate) fn die(&self) {
        self.stop.cancel();
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.state.lock().unwrap().violations.clone()
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn serve(
    address: &str,
    (pool, backend): (&str, &str),
    id: Uuid,
    state: &Mutex<State>,
    changed: &Notify,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let channel = rpc::client::connect(&[format!("http://{address}").parse()?], None)?;
    let (sender, outgoing) = mpsc::channel(64);
    let hello = pb::PoolHello {
        executor_id: id.as_bytes().to_vec(),
        name: "declared".into(),
        pool: pool.to_owned(),
        backend: backend.to_owned(),
        ..pb::PoolHello::default()
    };
    let say = |message| pb::ServeRequest { message: Some(message) };
    sender.send(say(Up::Hello(hello))).await?;
    let nodes = state.lock().unwrap().nodes.clone();
    sender.send(say(Up::Nodes(pb::Nodes { nodes, gone: Vec::new(), complete: true }))).await?;
    let mut known = reports(&state.lock().unwrap());
    sender.send(say(Up::Runtimes(pb::Runtimes { runtimes: known.clone(), complete: true }))).await?;
    let wishes = state.lock().unwrap().wishes.clone();
    sender.send(say(Up::Wishes(pb::Wishes { wishes }))).await?;
    let mut answers = PoolServiceClient::new(channel).serve(ReceiverStream::new(outgoing)).await?.into_inner();
    let mut beat = tokio::time::interval(Duration::from_millis(500));
    loop {
        tokio::select! {
            answer = answers.message() => match answer?.and_then(|answer| answer.message) {
                None => return Ok(()),
                Some(Down::Orders(orders)) => {
                    let said = {
                        let mut state = state.lock().unwrap();
                        obey(&mut state, orders);
                        news(&state, &mut known)
                    };
                    sender.send(say(Up::Runtimes(pb::Runtimes { runtimes: said, complete: false }))).await?;
                }
                Some(Down::Probe(probe)) => {
                    let said = {
                        let mut state = state.lock().unwrap();
                        state.probes.extend(probe.holders.iter().filter_map(|id| HolderId::from_slice(id)));
                        reports(&state)
                    };
                    sender.send(say(Up::Runtimes(pb::Runtimes { runtimes: said, complete: false }))).await?;
                }
                Some(Down::Places(told)) => {
                    let mut state = state.lock().unwrap();
                    state.places.extend(told.places.into_iter().map(|place| (place.claim.clone(), place)));
                }
                Some(Down::Volumes(told)) => {
                    let volumes = told.volumes.iter().map(have).collect();
                    state.lock().unwrap().volumes.extend(told.volumes);
                    sender.send(say(Up::Volumes(pb::VolumeReports { volumes }))).await?;
                }
                Some(Down::Welcome(_)) => {}
            },
            () = changed.notified() => {
                let (nodes, runtimes, wishes) = {
                    let mut state = state.lock().unwrap();
                    let nodes = std::mem::take(&mut state.nodes_changed).then(|| state.nodes.clone());
                    settle(&mut state);
                    (nodes, news(&state, &mut known), state.wishes.clone())
                };
                if let Some(nodes) = nodes {
                    sender.send(say(Up::Nodes(pb::Nodes { nodes, gone: Vec::new(), complete: true }))).await?;
                }
                sender.send(say(Up::Runtimes(pb::Runtimes { runtimes, complete: false }))).await?;
                sender.send(say(Up::Wishes(pb::Wishes { wishes }))).await?;
            }
            _ = beat.tick() => sender.send(say(Up::Heartbeat(pb::PoolHeartbeat {}))).await?,
        }
    }
}

/// A volume is had, or gone, as it is told; one whose name ends like `at-node-1` can be mounted on that node only.
fn have(volume: &pb::PoolVolume) -> pb::VolumeReport {
    let phase = if volume.deleted { pb::VolumePhase::Gone } else { pb::VolumePhase::Ready };
    let (id, size_bytes) = (volume.id.clone(), volume.size_bytes);
    let nodes = volume.name.split_once("at-").map(|(_, node)| node.to_owned()).into_iter().collect();
    pb::VolumeReport { id, phase: phase.into(), size_bytes, nodes, ..pb::VolumeReport::default() }
}

/// Does what orders say; the greater fence counts.
fn obey(state: &mut State, orders: pb::Orders) {
    let mut named = Vec::new();
    for order in orders.orders {
        let holder = HolderId::from_slice(&order.holder).unwrap();
        named.push(holder);
        let known = state.runtimes.get(&holder).map_or(0, |running| running.order.fence);
        if order.fence < known {
            continue;
        }
        match order.goal() {
            Goal::Unspecified => {}
            Goal::Forget => drop(state.runtimes.remove(&holder)),
            Goal::Run if order.fence == known => {}
            Goal::Run => run(state, holder, order),
            Goal::Stop => {
                let before = state.runtimes.remove(&holder);
                // What is not there is gone.
                let phase = before.as_ref().map_or(Phase::Gone, |running| match running.phase {
                    Phase::Gone => Phase::Gone,
                    _ => Phase::Stopping,
                });
                let grants = before.map(|running| running.order.grants).unwrap_or_default();
                let order = pb::Order { grants, ..order };
                let (code, activities) = (String::new(), Vec::new());
                state.runtimes.insert(holder, Running { order, phase, code, activities });
            }
        }
    }
    if orders.complete {
        for (holder, running) in &mut state.runtimes {
            if !named.contains(holder) && running.phase != Phase::Gone {
                running.phase = Phase::Stopping;
            }
        }
    }
    settle(state);
}

fn run(state: &mut State, holder: HolderId, order: pb::Order) {
    for grant in &order.grants {
        let others = state.runtimes.iter().filter(|(other, running)| **other != holder && running.phase != Phase::Gone);
        let held: i32 = others
            .filter(|(_, running)| running.order.node == order.node)
            .flat_map(|(_, running)| &running.order.grants)
            .filter(|other| other.device == grant.device)
            .map(|other| other.milli)
            .sum();
        if held + grant.milli > 1000 {
            state
                .violations
                .push(format!("{} of {} is promised twice: {held} + {}", grant.device, order.node, grant.milli));
        }
    }
    state.started += 1;
    let (code, activities) = (String::new(), Vec::new());
    state.runtimes.insert(holder, Running { order, phase: Phase::Accepted, code, activities });
}

/// What follows by itself.
fn settle(state: &mut State) {
    let (keeps, dawdles) = (state.keeps, state.dawdles);
    for running in state.runtimes.values_mut() {
        match running.phase {
            Phase::Stopping if !keeps => running.phase = Phase::Gone,
            Phase::Accepted if !dawdles => running.phase = Phase::Ready,
            _ => {}
        }
    }
}

/// What is other than it was said last.
fn news(state: &State, known: &mut Vec<pb::RuntimeReport>) -> Vec<pb::RuntimeReport> {
    let now = reports(state);
    let before = std::mem::replace(known, now.clone());
    now.into_iter().filter(|report| !before.contains(report)).collect()
}

fn reports(state: &State) -> Vec<pb::RuntimeReport> {
    let report = |(holder, running): (&HolderId, &Running)| pb::RuntimeReport {
        holder: holder.to_vec(),
        fence: running.order.fence,
        phase: running.phase.into(),
        code: running.code.clone(),
        endpoint: "127.0.0.1:8888".into(),
        activities: running.activities.clone(),
        bound: true,
        node: running.order.node.clone(),
        ..pb::RuntimeReport::default()
    };
    state.runtimes.iter().map(report).collect()
}
