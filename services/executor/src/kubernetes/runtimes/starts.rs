//! Before a life is made: its pre-start script, run here once, sandboxed as for processes. What it sets goes into the life
//! that the cluster is told, and with that into its record; so the script of a life that has a record never runs again.
//!
//! A life without a script passes through. Refuses to know what a script may change.

use super::{Shared, life_to_cluster, to_cluster};
use crate::{
    pool::{Life, Order, order::Goal},
    pre_start::{Refused, Sandbox},
};
use backend_kubernetes as cluster;
use backend_process::sessions;
use domain::id::HolderId;
use proto::internal::v1::{self as pb, RuntimePhase};
use rustix::process::Signal;
use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Semaphore;

/// Scripts that run at once; each may take half a gigabyte.
const SCRIPTS_AT_ONCE: usize = 4;

/// What scripts are run with.
pub struct Scripts {
    /// Keeps them within bounds.
    pub sandbox: Sandbox,
    /// In which each has a folder while it runs.
    pub folder: PathBuf,
}

/// How far each life with a script is.
pub(super) struct Starts {
    scripts: Scripts,
    turns: Semaphore,
    all: Mutex<HashMap<HolderId, Start>>,
}

enum Start {
    /// Its script runs, or waits for its turn; the latest order for it.
    Prepares(Order),
    /// As the cluster is told.
    Ready(Arc<cluster::Life>),
    /// Its script stands in the way.
    Refused(Refused),
}

impl Starts {
    pub(super) fn new(scripts: Scripts) -> Self {
        Self { scripts, turns: Semaphore::new(SCRIPTS_AT_ONCE), all: Mutex::default() }
    }

    /// Ends what scripts of an earlier life of this process left.
    pub(super) async fn sweep(&self) {
        let executor = self.scripts.sandbox.executor.clone();
        let kill = move || {
            let left = sessions::all(&executor).into_iter().filter(|(name, _)| name.ends_with(".pre-start"));
            left.for_each(|(_, members)| sessions::signal(&members, Signal::KILL));
        };
        let _ = tokio::task::spawn_blocking(kill).await;
    }

    /// A life that has a record: what its script set is in it.
    pub(super) fn found(&self, order: &cluster::Order) {
        if let cluster::Goal::Run(life) = &order.goal {
            self.lock().insert(order.holder, Start::Ready(Arc::clone(life)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<HolderId, Start>> {
        // Nothing panics while it is held.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passes an order on, at once or when its script is done. Needs an executor of tasks.
pub(super) fn apply(shared: &Arc<Shared>, order: Order) {
    // Held until the cluster's side has the order, so that two of one life keep their order.
    let mut all = shared.starts.lock();
    match &order.goal {
        Goal::Run(life) if !life.spec.pre_start.is_empty() => match all.get_mut(&order.holder) {
            Some(Start::Ready(ready)) => run(shared, &order, ready),
            Some(Start::Refused(why)) => refuse(shared, &order, why),
            Some(Start::Prepares(latest)) => {
                accept(shared, &order);
                *latest = order;
            }
            None => {
                accept(shared, &order);
                tokio::spawn(prepare(Arc::clone(shared), order.holder, Arc::clone(life)));
                all.insert(order.holder, Start::Prepares(order));
            }
        },
        Goal::Run(_) => tell(shared, to_cluster(order)),
        Goal::Stop { .. } => {
            // Its script ends by itself, within its bounds; what it says counts no more.
            if matches!(all.get(&order.holder), Some(Start::Prepares(_))) {
                all.remove(&order.holder);
            }
            tell(shared, to_cluster(order));
        }
        Goal::Forget => {
            all.remove(&order.holder);
            tell(shared, to_cluster(order));
        }
    }
}

async fn prepare(shared: Arc<Shared>, holder: HolderId, life: Arc<Life>) {
    let Starts { scripts, turns, .. } = &shared.starts;
    let Ok(_turn) = turns.acquire().await else { return };
    let (name, workspace) = (holder.to_string(), &life.workspace);
    let set = scripts.sandbox.environment(workspace, &life.spec, &name, &scripts.folder.join(&name)).await;
    let mut all = shared.starts.lock();
    let Some(Start::Prepares(order)) = all.get(&holder) else { return };
    let start = match set {
        Ok(env) => {
            let mut ready = life_to_cluster(holder, &life);
            ready.spec.env.extend(env);
            ready.spec.pre_start.clear();
            let ready = Arc::new(ready);
            run(&shared, order, &ready);
            Start::Ready(ready)
        }
        Err(why) => {
            refuse(&shared, order, &why);
            Start::Refused(why)
        }
    };
    all.insert(holder, start);
}

fn run(shared: &Shared, order: &Order, ready: &Arc<cluster::Life>) {
    let goal = cluster::Goal::Run(Arc::clone(ready));
    tell(shared, cluster::Order { holder: order.holder, fence: order.fence, goal });
}

fn tell(shared: &Shared, order: cluster::Order) {
    if let Some(backend) = shared.backend.get() {
        backend.apply(order);
    }
}

fn accept(shared: &Shared, order: &Order) {
    shared.watching.report(report(order, RuntimePhase::Accepted));
}

fn refuse(shared: &Shared, order: &Order, why: &Refused) {
    let (code, message) = (why.code.to_owned(), why.message.clone());
    shared.watching.report(pb::RuntimeReport { code, message, ..report(order, RuntimePhase::Failed) });
}

fn report(order: &Order, phase: RuntimePhase) -> pb::RuntimeReport {
    pb::RuntimeReport {
        holder: order.holder.to_vec(),
        fence: order.fence,
        phase: phase.into(),
        node: order.life().map(|life| life.node.clone()).unwrap_or_default(),
        ..pb::RuntimeReport::default()
    }
}
