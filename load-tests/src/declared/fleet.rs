//! What a declared executor holds, and what it does with orders. Refuses to know how they reach it.

use super::{Counts, Shape, strangers::Strangers};
use crate::history::{AttemptName, DeviceShare, Gang, JournalEvent, JournalLine};
use anyhow::{Context, Result};
use domain::{device::Sharing, id::HolderId};
use proto::internal::v1::{self as pb, RuntimeGoal as Goal, RuntimePhase as Phase, serve_request::Message as Up};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};
use uuid::Uuid;

/// The whole of a device.
pub(super) const WHOLE_MILLI: u32 = 1_000;

pub(super) struct Fleet {
    shape: Shape,
    id: Uuid,
    runtimes: BTreeMap<HolderId, Running>,
    strangers: Option<Strangers>,
    journal: Journal,
    counts: Arc<Counts>,
}

struct Running {
    order: pb::Order,
    phase: Phase,
    /// When it is ready, or gone.
    until: Instant,
}

impl Running {
    /// Whether it has devices: from its start until it is gone.
    fn holds(&self) -> bool {
        !matches!(self.phase, Phase::Gone | Phase::Misplaced)
    }
}

/// The executor's own account of what runs.
pub(super) struct Journal(BufWriter<File>);

impl Journal {
    /// Written before anybody is told.
    pub(super) fn note(&mut self, event: JournalEvent) -> Result<()> {
        let line = JournalLine { at_us: jiff::Timestamp::now().as_microsecond(), mono_us: mono_us(), event };
        serde_json::to_writer(&mut self.0, &line)?;
        self.0.write_all(b"\n")?;
        Ok(self.0.flush()?)
    }
}

impl Fleet {
    pub(super) fn new(shape: Shape, counts: Arc<Counts>, journal: &Path) -> Result<Self> {
        let file = File::create(journal).with_context(|| format!("create {}", journal.display()))?;
        let mut journal = Journal(BufWriter::new(file));
        let (executor, name) = (Uuid::now_v7(), format!("declared-{}", shape.pool));
        journal.note(JournalEvent::Open { executor, name, pid: std::process::id(), boot: "declared".to_owned() })?;
        let strangers = shape.strangers.map(Strangers::new);
        Ok(Self { id: executor, runtimes: BTreeMap::new(), strangers, journal, counts, shape })
    }

    /// What is said first: who it is, what it has, what runs.
    pub(super) fn greeting(&self) -> [Up; 3] {
        let hello = pb::PoolHello {
            executor_id: self.id.as_bytes().to_vec(),
            name: "declared".to_owned(),
            pool: self.shape.pool.clone(),
            backend: "declared".to_owned(),
            ..pb::PoolHello::default()
        };
        let all: BTreeSet<HolderId> = self.runtimes.keys().copied().collect();
        [Up::Hello(hello), self.nodes(), Up::Runtimes(self.reports(&all, true))]
    }

    fn nodes(&self) -> Up {
        let foreign = |at: usize| {
            self.strangers.as_ref().map(|strangers| strangers.on(&format!("node-{at}"))).unwrap_or_default()
        };
        let nodes = (0..self.shape.nodes).map(|at| node(at, self.shape.gpus, foreign(at))).collect();
        Up::Nodes(pb::Nodes { nodes, gone: Vec::new(), complete: true })
    }

    /// Does what orders say; of each holder the greater fence counts. Answers what is to be said.
    pub(super) fn obey(&mut self, orders: pb::Orders) -> Result<Vec<Up>> {
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
                Goal::Stop => self.stop(holder, order),
            }
        }
        if orders.complete {
            let unnamed = self.runtimes.iter().filter(|(holder, _)| !named.contains(holder));
            let nobodys: Vec<_> = unnamed.map(|(holder, running)| (*holder, running.order.clone())).collect();
            for (holder, order) in nobodys {
                self.stop(holder, order);
                named.insert(holder);
            }
        }
        named.extend(self.settle()?);
        Ok(self.said_of(&named))
    }

    /// What time has brought: runtimes that are ready or gone, strangers that come and go.
    pub(super) fn pass(&mut self) -> Result<Vec<Up>> {
        let changed = self.settle()?;
        let mut said = self.said_of(&changed);
        let Some(mut strangers) = self.strangers.take() else { return Ok(said) };
        let taken = strangers.taken();
        let place = strangers.next(&self.shape);
        let ours = place.as_ref().map_or(0, |(node, gpu)| self.ours(node, gpu));
        let moved = strangers.pass(place, WHOLE_MILLI - ours, &self.shape.pool, &mut self.journal);
        self.counts.strangers.fetch_add(strangers.taken() - taken, Ordering::Relaxed);
        self.strangers = Some(strangers);
        let moved = moved?;
        if moved {
            said.push(self.nodes());
        }
        Ok(said)
    }

    /// Strangers leave.
    pub(super) fn close(&mut self) -> Result<()> {
        let Some(strangers) = self.strangers.take() else { return Ok(()) };
        strangers.leave(&mut self.journal)
    }

    fn said_of(&self, holders: &BTreeSet<HolderId>) -> Vec<Up> {
        if holders.is_empty() { Vec::new() } else { vec![Up::Runtimes(self.reports(holders, false))] }
    }

    /// What runtimes hold of a device.
    fn ours(&self, node: &str, gpu: &str) -> u32 {
        let there = self.runtimes.values().filter(|running| running.holds() && running.order.node == node);
        let grants = there.flat_map(|running| &running.order.grants).filter(|grant| grant.device == gpu);
        grants.map(|grant| grant.milli.unsigned_abs()).sum()
    }

    /// Whether nobody holds so much of it that it cannot be had.
    fn fits(&self, node: &str, grant: &pb::DeviceGrant) -> bool {
        let theirs = self.strangers.as_ref().map_or(0, |strangers| strangers.milli(node, &grant.device));
        self.ours(node, &grant.device) + theirs + grant.milli.unsigned_abs() <= WHOLE_MILLI
    }

    fn run(&mut self, holder: HolderId, order: pb::Order) -> Result<()> {
        let until = Instant::now() + self.shape.linger;
        if !self.shape.is_blind && !order.grants.iter().all(|grant| self.fits(&order.node, grant)) {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            self.runtimes.insert(holder, Running { order, phase: Phase::Misplaced, until });
            return Ok(());
        }
        let members = u32::try_from(order.grants.len())?.max(asked(&order));
        for (child, grant) in (0..).zip(&order.grants) {
            let device = format!("{}/{}/{}", self.shape.pool, order.node, grant.device);
            let devices = vec![DeviceShare { device, milli: grant.milli.unsigned_abs() }];
            let gang = (members > 1).then_some(Gang { id: holder.0, members });
            let attempt = attempt(holder, child);
            self.journal.note(JournalEvent::Start { attempt, pid: 0, devices, gang })?;
        }
        self.runtimes.insert(holder, Running { order, phase: Phase::Starting, until });
        self.counts.started.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// What is not there is gone.
    fn stop(&mut self, holder: HolderId, order: pb::Order) {
        let until = Instant::now() + self.shape.linger;
        match self.runtimes.get_mut(&holder) {
            Some(running) if running.holds() => {
                running.order.fence = order.fence;
                if running.phase != Phase::Stopping {
                    (running.phase, running.until) = (Phase::Stopping, until);
                }
            }
            _ => drop(self.runtimes.insert(holder, Running { order, phase: Phase::Gone, until })),
        }
    }

    /// Ends and begins what it is time for.
    fn settle(&mut self) -> Result<BTreeSet<HolderId>> {
        let now = Instant::now();
        let mut changed = BTreeSet::new();
        for (holder, running) in self.runtimes.iter_mut().filter(|(_, running)| running.until <= now) {
            match running.phase {
                Phase::Starting => running.phase = Phase::Ready,
                Phase::Stopping => {
                    for child in 0..i32::try_from(running.order.grants.len())? {
                        let attempt = attempt(*holder, child);
                        self.journal.note(JournalEvent::End { attempt, outcome: "stopped".to_owned() })?;
                    }
                    running.phase = Phase::Gone;
                }
                _ => continue,
            }
            changed.insert(*holder);
        }
        Ok(changed)
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

/// A gang of devices is named by its holder, each of them by its number.
fn attempt(holder: HolderId, child: i32) -> AttemptName {
    AttemptName { run: holder.0, block: "runtime".to_owned(), child, lease: 0 }
}

/// How many GPUs an order's runtime asked for.
fn asked(order: &pb::Order) -> u32 {
    let spec: serde_json::Value = serde_json::from_str(&order.spec).unwrap_or_default();
    spec["ask"]["gpus"].as_u64().and_then(|gpus| u32::try_from(gpus).ok()).unwrap_or_default()
}

/// Since the start of the machine.
fn mono_us() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

fn node(at: usize, gpus: usize, foreign: Vec<pb::Foreign>) -> pb::Node {
    let device = |gpu| pb::PoolDevice {
        name: format!("gpu-{gpu}"),
        class: "shared".to_owned(),
        model: "A10".to_owned(),
        memory_bytes: 24 << 30,
        sharing: serde_json::to_string(&Sharing::Shared { step_milli: 10, alone: false }).unwrap_or_default(),
        healthy: true,
        ..pb::PoolDevice::default()
    };
    pb::Node {
        name: format!("node-{at}"),
        cpu_milli: 96_000,
        memory_bytes: 512 << 30,
        schedulable: true,
        devices: (0..gpus).map(device).collect(),
        foreign,
        ..pb::Node::default()
    }
}
