//! Runtimes as local processes: each a session of processes with a folder of its own, on this machine as the only node.
//!
//! A runtime outlives an executor that crashes, and the next life of that executor finds it again; an executor that is
//! asked to end ends its runtimes first. They run as the executor's own user, so this backend is for machines whose
//! users trust each other. Refuses to know who may have what.

mod activity;
mod apps;
mod cgroup;
mod devices;
mod life;
mod machine;
mod nvml;
mod record;
mod volumes;

pub use apps::Apps;
pub use cgroup::Cgroups;
pub use machine::{DeclaredDevices, DeviceSource, Machine};

use crate::{
    journal::Journal,
    pool::{Board, Order, RuntimeBackend, Volume, order::Goal},
};
use backend_process::sessions;
use domain::id::{HolderId, VolumeId};
use futures_util::future::BoxFuture;
use life::{Ended, Left, Living, Running};
use proto::internal::v1::{self as pb, RuntimePhase};
use record::Record;
use rustix::process::Signal;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// Between two looks at devices that may change: what their driver says of one is known within five seconds.
const LOOK_AGAIN: Duration = Duration::from_secs(3);
/// For runtimes to end before the executor does.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(20);

/// What the backend is made of.
pub struct Parts {
    /// The binary that launches; see [`backend_process::launch`].
    pub launcher: PathBuf,
    /// The mark of this executor's processes.
    pub executor: String,
    /// Where each life has a folder until its end was noted.
    pub folder: PathBuf,
    /// Where each workspace, and each volume, has a folder for good.
    pub volumes: PathBuf,
    /// What can be opened.
    pub apps: Apps,
    /// Where applications listen, and proxies reach them.
    pub address: IpAddr,
    /// What applications see of this executor's environment.
    pub env: BTreeMap<String, String>,
    /// This machine, and what it has.
    pub machine: Machine,
    /// Which life had which devices, and when it was gone.
    pub journal: Arc<Journal>,
    /// Keeps each runtime within its processor and memory; `None` where this machine does not allow it.
    pub cgroups: Option<Cgroups>,
    /// Pre-start scripts are cut off from the network, or not run.
    pub isolated_pre_start: bool,
}

/// See the module's page.
pub struct ProcessRuntimes(Arc<Shared>);

struct Shared {
    parts: Parts,
    board: Arc<Board>,
    lives: Mutex<HashMap<HolderId, Handle>>,
    gone_volumes: Mutex<HashSet<VolumeId>>,
    classed_volumes: Mutex<HashSet<VolumeId>>,
    closing: CancellationToken,
    ended: Notify,
}

struct Handle {
    order: watch::Sender<Order>,
    probe: Arc<Notify>,
}

impl ProcessRuntimes {
    /// A backend that runs nothing yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(Shared {
            parts,
            board: Arc::new(Board::new()),
            lives: Mutex::default(),
            gone_volumes: Mutex::default(),
            classed_volumes: Mutex::default(),
            closing: CancellationToken::new(),
            ended: Notify::new(),
        }))
    }
}

impl RuntimeBackend for ProcessRuntimes {
    fn name(&self) -> &'static str {
        "process"
    }

    fn board(&self) -> &Arc<Board> {
        &self.0.board
    }

    fn recover(&self) -> BoxFuture<'_, anyhow::Result<Vec<Order>>> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            let reader = Arc::clone(&shared);
            let found = tokio::task::spawn_blocking(move || reader.find()).await??;
            let mut orders = Vec::new();
            for (order, found) in found {
                match found {
                    Found::Ended(ended) => {
                        // As far as is known: nobody may have been left to write it.
                        shared.parts.journal.life_is_gone(order.holder);
                        shared.board.report(gone(&order, &ended));
                    }
                    Found::Left(left) => shared.begin(order.clone(), left),
                }
                orders.push(order);
            }
            let reader = Arc::clone(&shared);
            let node = tokio::task::spawn_blocking(move || reader.parts.machine.node()).await??;
            shared.board.set_nodes(vec![node]);
            if shared.parts.machine.may_change() {
                tokio::spawn(Arc::clone(&shared).watch_devices());
            }
            Ok(orders)
        })
    }

    fn apply(&self, order: Order) {
        let lives = self.0.lock();
        match (lives.get(&order.holder), &order.goal) {
            (Some(handle), Goal::Run(_)) => {
                // It lives already; only the number under which it reports is new.
                self.0.board.amend(order.holder, |report| report.fence = order.fence);
                handle.order.send_replace(order);
            }
            (Some(handle), Goal::Stop { .. }) => drop(handle.order.send_replace(order)),
            // Nobody forgets what lives.
            (Some(_), Goal::Forget) => tracing::error!(holder = %order.holder, "told to forget what still runs"),
            (None, Goal::Run(_)) if self.0.board.runtime(order.holder).is_none() => {
                drop(lives);
                self.0.begin(order, Left::Nothing);
            }
            (None, Goal::Run(_)) => self.0.board.amend(order.holder, |report| report.fence = order.fence),
            (None, Goal::Stop { .. }) => {
                let before = self.0.board.runtime(order.holder).filter(|report| report.phase() == RuntimePhase::Gone);
                let ended = before.map(|report| Ended { code: report.code, message: report.message });
                self.0.board.report(gone(&order, &ended.unwrap_or_default()));
            }
            (None, Goal::Forget) => {
                self.0.board.forget(order.holder);
                if let Err(error) = record::remove(&self.0.folder(order.holder)) {
                    tracing::warn!(holder = %order.holder, %error, "the folder of an ended runtime could not be removed");
                }
            }
        }
    }

    fn volumes(&self, volumes: Vec<Volume>) {
        let shared = Arc::clone(&self.0);
        shared.gone_volumes().extend(volumes.iter().filter(|volume| volume.deleted).map(|volume| volume.id));
        let classed = volumes.iter().filter(|volume| !volume.storage_class.is_empty());
        shared.classed_volumes().extend(classed.map(|volume| volume.id));
        tokio::task::spawn_blocking(move || shared.keep_volumes(&volumes));
    }

    fn probe(&self, holders: Vec<HolderId>) {
        let lives = self.0.lock();
        holders.iter().filter_map(|holder| lives.get(holder)).for_each(|handle| handle.probe.notify_one());
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.0.closing.cancel();
            let all_gone = async {
                loop {
                    let ended = self.0.ended.notified();
                    if self.0.lock().is_empty() {
                        return;
                    }
                    ended.await;
                }
            };
            if tokio::time::timeout(CLOSE_TIMEOUT, all_gone).await.is_err() {
                tracing::warn!("runtimes did not end in time; the next life of this executor finds them");
            }
        })
    }
}

/// What an earlier life of this executor knew of a runtime.
enum Found {
    /// It had not seen the end of it.
    Left(Left),
    /// Nothing is left.
    Ended(Ended),
}

impl Shared {
    /// It is on the board from here on: a stream that is opened now names it, so that nobody takes it for missing before
    /// its application has answered.
    fn begin(self: &Arc<Self>, order: Order, left: Left) {
        let Some(life) = order.life().cloned() else { return };
        let holder = order.holder;
        self.board.report(pb::RuntimeReport {
            holder: holder.to_vec(),
            fence: order.fence,
            phase: RuntimePhase::Accepted.into(),
            node: life.node.clone(),
            ..pb::RuntimeReport::default()
        });
        let probe = Arc::new(Notify::new());
        let (sender, orders) = watch::channel(order);
        self.lock().insert(holder, Handle { order: sender, probe: Arc::clone(&probe) });
        let exit = watch::Sender::new(None);
        let living = Living { shared: Arc::clone(self), holder, life, orders, probe, exit };
        tokio::spawn(living.run(left));
    }

    /// Looks at the devices from time to time; what they were stays where they cannot be read.
    async fn watch_devices(self: Arc<Self>) {
        let looks = async {
            loop {
                tokio::time::sleep(LOOK_AGAIN).await;
                let reader = Arc::clone(&self);
                match tokio::task::spawn_blocking(move || reader.parts.machine.node()).await {
                    Ok(Ok(node)) => self.board.set_node(node),
                    Ok(Err(error)) => tracing::warn!(%error, "this machine cannot be looked at"),
                    Err(error) => tracing::error!(%error, "a look at this machine's devices failed"),
                }
            }
        };
        self.closing.run_until_cancelled(looks).await;
    }

    /// Whether others of this executor have a part of the device, too.
    fn is_shared(&self, device: &str, holder: HolderId) -> bool {
        let has = |handle: &Handle| handle.order.borrow().life().is_some_and(|life| life.devices().contains(device));
        self.lock().iter().any(|(other, handle)| *other != holder && has(handle))
    }

    /// Everything of it is gone.
    fn finish(&self, holder: HolderId, ended: &Ended) {
        // Under the lock no order can come between the last one's fence and the report.
        let mut lives = self.lock();
        if let Some(handle) = lives.remove(&holder) {
            self.board.report(gone(&handle.order.borrow(), ended));
        }
        drop(lives);
        self.ended.notify_one();
    }

    fn folder(&self, holder: HolderId) -> PathBuf {
        self.parts.folder.join(holder.to_string())
    }

    /// What an earlier life left: each with its processes, or how it ended. What nobody wrote down is killed. What is left of one
    /// whose first process has ended holds its devices until it is gone.
    fn find(&self) -> anyhow::Result<Vec<(Order, Found)>> {
        std::fs::create_dir_all(&self.parts.folder)?;
        let mut sessions = sessions::try_all(&self.parts.executor)?;
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.parts.folder)? {
            let folder = entry?.path();
            let Some(Record { order, running, ended }) = Record::read(&folder) else {
                record::remove(&folder)?;
                continue;
            };
            sessions.remove(&order.holder.to_string());
            let running = running.filter(Running::lives);
            tracing::info!(holder = %order.holder, lives = running.is_some(), "found a runtime of an earlier life");
            let what = match (ended, running) {
                (Some(ended), _) => Found::Ended(ended),
                (None, Some(running)) => Found::Left(Left::Running(running)),
                (None, None) => {
                    let lost = Ended::new("RUNTIME_LOST", "it ended while its executor was away");
                    Found::Left(Left::Remains(lost))
                }
            };
            found.push((order, what));
        }
        let strays: usize = sessions.values().map(Vec::len).sum();
        if strays > 0 {
            tracing::warn!(processes = strays, "killed what belonged to no runtime");
            sessions.values().for_each(|members| sessions::signal(members, Signal::KILL));
        }
        Ok(found)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<HolderId, Handle>> {
        // Nothing panics while it is held.
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn gone(order: &Order, ended: &Ended) -> pb::RuntimeReport {
    pb::RuntimeReport {
        holder: order.holder.to_vec(),
        fence: order.fence,
        phase: RuntimePhase::Gone.into(),
        code: ended.code.clone(),
        message: ended.message.clone(),
        ..pb::RuntimeReport::default()
    }
}
