//! An executor whose nodes are declared and whose runtimes are entries of a map: what it takes to try placements by the
//! thousand. It speaks the real protocol, obeys fences, keeps what runs over lost connections, and writes the journal of an
//! executor, by which the [history](crate::history) is judged.

use crate::history::{AttemptName, DeviceShare, JournalEvent, JournalLine};
use anyhow::{Context, Result};
use domain::{device::Sharing, id::HolderId};
use proto::internal::v1::{
    self as pb, RuntimeGoal as Goal, RuntimePhase as Phase, pool_service_client::PoolServiceClient,
    serve_request::Message as Up, serve_response::Message as Down,
};
use rpc::client::Channel;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

/// Between two tries to reach a scheduler.
const PAUSE: Duration = Duration::from_millis(50);
/// Between two heartbeats.
const BEAT: Duration = Duration::from_secs(1);
/// Messages to a scheduler that it has not read.
const OUTBOX_MAX: usize = 256;

/// A number of equal nodes with equal GPUs.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The pool.
    pub pool: String,
    /// Nodes.
    pub nodes: usize,
    /// GPUs of each.
    pub gpus: usize,
}

/// An executor that serves until it is dropped.
pub struct Declared {
    task: JoinHandle<()>,
    started: Arc<AtomicU64>,
}

struct Fleet {
    shape: Shape,
    id: Uuid,
    runtimes: BTreeMap<HolderId, Running>,
    journal: BufWriter<File>,
    started: Arc<AtomicU64>,
}

struct Running {
    order: pb::Order,
    phase: Phase,
}

impl Declared {
    /// Serves through whichever of the schedulers answers, and notes what runs in `journal`.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn start(shape: Shape, schedulers: Vec<Channel>, journal: &Path) -> Result<Self> {
        let file = File::create(journal).with_context(|| format!("create {}", journal.display()))?;
        let started = Arc::new(AtomicU64::new(0));
        let mut fleet = Fleet {
            id: Uuid::now_v7(),
            runtimes: BTreeMap::new(),
            journal: BufWriter::new(file),
            started: Arc::clone(&started),
            shape,
        };
        let (executor, name) = (fleet.id, format!("declared-{}", fleet.shape.pool));
        let boot = String::from("declared");
        fleet.note(JournalEvent::Open { executor, name, pid: std::process::id(), boot })?;
        let task = tokio::spawn(async move {
            for turn in 0_usize.. {
                // A stream that breaks is opened again, with whoever is next.
                let _ = fleet.serve(schedulers[turn % schedulers.len()].clone()).await;
                tokio::time::sleep(PAUSE).await;
            }
        });
        Ok(Self { task, started })
    }

    /// Runtimes that it has started.
    #[must_use]
    pub fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }
}

impl Drop for Declared {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fleet {
    async fn serve(&mut self, channel: Channel) -> Result<()> {
        let (sender, outgoing) = mpsc::channel(OUTBOX_MAX);
        let say = |message| pb::ServeRequest { message: Some(message) };
        let hello = pb::PoolHello {
            executor_id: self.id.as_bytes().to_vec(),
            name: "declared".to_owned(),
            pool: self.shape.pool.clone(),
            backend: "declared".to_owned(),
            ..pb::PoolHello::default()
        };
        sender.send(say(Up::Hello(hello))).await?;
        let nodes = (0..self.shape.nodes).map(|at| node(at, self.shape.gpus)).collect();
        sender.send(say(Up::Nodes(pb::Nodes { nodes, gone: Vec::new(), complete: true }))).await?;
        let all: BTreeSet<HolderId> = self.runtimes.keys().copied().collect();
        sender.send(say(Up::Runtimes(self.reports(&all, true)))).await?;
        let client = PoolServiceClient::new(channel).max_decoding_message_size(rpc::server::MESSAGE_BYTES_MAX);
        let mut answers = { client }.serve(ReceiverStream::new(outgoing)).await?.into_inner();
        let mut beat = tokio::time::interval(BEAT);
        loop {
            tokio::select! {
                answer = answers.message() => match answer?.and_then(|answer| answer.message) {
                    None => return Ok(()),
                    Some(Down::Orders(orders)) => {
                        let changed = self.obey(orders)?;
                        if !changed.is_empty() {
                            sender.send(say(Up::Runtimes(self.reports(&changed, false)))).await?;
                        }
                    }
                    Some(Down::Welcome(_) | Down::Probe(_)) => {}
                },
                _ = beat.tick() => sender.send(say(Up::Heartbeat(pb::PoolHeartbeat {}))).await?,
            }
        }
    }

    /// Does what orders say; of each holder the greater fence counts. Answers whom they concern.
    fn obey(&mut self, orders: pb::Orders) -> Result<BTreeSet<HolderId>> {
        let mut named = BTreeSet::new();
        for order in orders.orders {
            let holder = HolderId::from_slice(&order.holder).context("a holder of 16 bytes")?;
            named.insert(holder);
            let known = self.runtimes.get(&holder).map_or(0, |running| running.order.fence);
            match order.goal() {
                _ if order.fence < known => {}
                Goal::Unspecified => {}
                Goal::Forget => drop(self.runtimes.remove(&holder)),
                Goal::Run if order.fence == known => {}
                Goal::Run => self.run(holder, order)?,
                Goal::Stop => self.stop(holder, order)?,
            }
        }
        if orders.complete {
            let unnamed = self.runtimes.iter().filter(|(holder, _)| !named.contains(holder));
            let nobodys: Vec<_> = unnamed.map(|(holder, running)| (*holder, running.order.clone())).collect();
            for (holder, order) in nobodys {
                self.stop(holder, order)?;
                named.insert(holder);
            }
        }
        Ok(named)
    }

    fn run(&mut self, holder: HolderId, order: pb::Order) -> Result<()> {
        let share = |grant: &pb::DeviceGrant| DeviceShare {
            device: format!("{}/{}/{}", self.shape.pool, order.node, grant.device),
            milli: grant.milli.unsigned_abs(),
        };
        let devices = order.grants.iter().map(share).collect();
        self.note(JournalEvent::Start { attempt: attempt(holder), pid: 0, devices, gang: None })?;
        self.runtimes.insert(holder, Running { order, phase: Phase::Ready });
        self.started.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Ends at once. What is not there is gone.
    fn stop(&mut self, holder: HolderId, order: pb::Order) -> Result<()> {
        let before = self.runtimes.insert(holder, Running { order, phase: Phase::Gone });
        if before.is_some_and(|running| running.phase != Phase::Gone) {
            self.note(JournalEvent::End { attempt: attempt(holder), outcome: "stopped".to_owned() })?;
        }
        Ok(())
    }

    /// Written before anybody is told.
    fn note(&mut self, event: JournalEvent) -> Result<()> {
        let line = JournalLine { at_us: jiff::Timestamp::now().as_microsecond(), mono_us: mono_us(), event };
        serde_json::to_writer(&mut self.journal, &line)?;
        self.journal.write_all(b"\n")?;
        Ok(self.journal.flush()?)
    }

    fn reports(&self, holders: &BTreeSet<HolderId>, complete: bool) -> pb::Runtimes {
        let report = |holder: &HolderId| {
            let running = self.runtimes.get(holder)?;
            Some(pb::RuntimeReport {
                holder: holder.to_vec(),
                fence: running.order.fence,
                phase: running.phase.into(),
                endpoint: "127.0.0.1:1".to_owned(),
                bound: true,
                node: running.order.node.clone(),
                ..pb::RuntimeReport::default()
            })
        };
        pb::Runtimes { runtimes: holders.iter().filter_map(report).collect(), complete }
    }
}

fn attempt(holder: HolderId) -> AttemptName {
    AttemptName { run: holder.0, block: "runtime".to_owned(), child: 0, lease: 0 }
}

/// Since the start of the machine.
fn mono_us() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

fn node(at: usize, gpus: usize) -> pb::Node {
    let device = |gpu| pb::PoolDevice {
        name: format!("gpu-{gpu}"),
        class: "shared".to_owned(),
        model: "A10".to_owned(),
        memory_bytes: 24 << 30,
        sharing: serde_json::to_string(&Sharing::Shared { step_milli: 10 }).unwrap_or_default(),
        healthy: true,
        ..pb::PoolDevice::default()
    };
    pb::Node {
        name: format!("node-{at}"),
        cpu_milli: 96_000,
        memory_bytes: 512 << 30,
        schedulable: true,
        devices: (0..gpus).map(device).collect(),
        ..pb::Node::default()
    }
}
