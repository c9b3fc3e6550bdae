//! Runtimes as pods of a cluster: orders of a pool as those of `backend-kubernetes`, and what that sees on the board.
//!
//! What runs goes on when this process ends. Applications are asked here how they are used, and the cluster what they compute, on GPUs too; no code of users
//! runs here.
//! Refuses to judge.

mod exported;
mod measuring;
mod watching;

use crate::{
    journal::Journal,
    pool::{Board, Grant, Life, Order, RuntimeBackend, Volume, order::Goal},
};
use anyhow::Context as _;
use backend_kubernetes::{self as cluster, Access, Backend, Cluster, Exporter, render::Place};
use domain::id::HolderId;
use futures_util::future::{BoxFuture, FutureExt as _};
use proto::internal::v1::{self as pb, RuntimePhase};
use runtime::secret::Secret;
use std::sync::{Arc, OnceLock};
use tokio_util::sync::CancellationToken;
use watching::Watching;

/// See the module's page.
pub struct KubernetesRuntimes(Arc<Shared>);

struct Shared {
    access: Access,
    place: Place,
    journal: Arc<Journal>,
    watching: Arc<Watching>,
    /// There from the first successful recovery on; nobody is told anything before.
    backend: OnceLock<Backend>,
    closing: CancellationToken,
}

impl KubernetesRuntimes {
    /// Nothing is connected yet. The exporter, where there is one, tells what GPUs do.
    #[must_use]
    pub fn new(access: Access, place: Place, exporter: Option<Exporter>, journal: Arc<Journal>) -> Self {
        let shared = Shared {
            access,
            place,
            journal,
            watching: Arc::new(Watching::new(exporter)),
            backend: OnceLock::new(),
            closing: CancellationToken::new(),
        };
        Self(Arc::new(shared))
    }
}

impl RuntimeBackend for KubernetesRuntimes {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    fn board(&self) -> &Arc<Board> {
        self.0.watching.board()
    }

    fn recover(&self) -> BoxFuture<'_, anyhow::Result<Vec<Order>>> {
        async {
            let shared = &self.0;
            let cluster = Cluster::connect(&shared.access, shared.place.clone()).await?;
            let backend = Backend::new(
                cluster.clone(),
                Arc::new(Told(Arc::clone(&shared.watching), Arc::clone(&shared.journal))),
            );
            let orders = backend.recover().await?;
            shared.watching.measured_by(cluster);
            shared.backend.set(backend).ok().context("recovered twice")?;
            let orders: Vec<Order> = orders.into_iter().map(from_cluster).collect();
            let lives = orders.iter().filter_map(|order| Some((order.holder, order.life()?)));
            lives.for_each(|(holder, life)| shared.knows(holder, life));
            let (watching, closing) = (Arc::clone(&shared.watching), shared.closing.clone());
            tokio::spawn(async move { closing.run_until_cancelled(watching.look_on()).await });
            Ok(orders)
        }
        .boxed()
    }

    fn apply(&self, order: Order) {
        match &order.goal {
            Goal::Run(life) => self.0.knows(order.holder, life),
            Goal::Stop { .. } => {}
            Goal::Forget => self.0.watching.forget(order.holder),
        }
        if let Some(backend) = self.0.backend.get() {
            backend.apply(to_cluster(order));
        }
    }

    fn volumes(&self, volumes: Vec<Volume>) {
        // Nobody is told anything before the first recovery.
        if let Some(backend) = self.0.backend.get() {
            backend.volumes(volumes);
        }
    }

    fn probe(&self, holders: Vec<HolderId>) {
        let (watching, closing) = (Arc::clone(&self.0.watching), self.0.closing.clone());
        tokio::spawn(async move { closing.run_until_cancelled(watching.look(holders)).await });
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.0.closing.cancel();
        std::future::ready(()).boxed()
    }
}

impl Shared {
    /// A life that may have its devices from here on.
    fn knows(&self, holder: HolderId, life: &Arc<Life>) {
        let is_gone = self.watching.board().runtime(holder).is_some_and(|report| is_gone(&report));
        if self.watching.knows(holder, life) && !is_gone {
            self.journal.life_begins(holder, life);
        }
    }
}

fn is_gone(report: &pb::RuntimeReport) -> bool {
    report.phase() == RuntimePhase::Gone
}

/// The board, as the cluster's side knows it; and the journal.
struct Told(Arc<Watching>, Arc<Journal>);

impl cluster::Sink for Told {
    fn nodes(&self, nodes: Vec<pb::Node>) {
        self.0.board().set_nodes(nodes);
    }

    fn report(&self, report: pb::RuntimeReport) {
        let holder = HolderId::from_slice(&report.holder).filter(|_| is_gone(&report));
        // It is said again until it is forgotten.
        if let Some(holder) =
            holder.filter(|holder| !self.0.board().runtime(*holder).is_some_and(|known| is_gone(&known)))
        {
            self.1.life_is_gone(holder);
        }
        self.0.report(report);
    }

    fn forget(&self, holder: HolderId) {
        self.0.board().forget(holder);
    }

    fn volume(&self, report: pb::VolumeReport) {
        self.0.board().report_volume(report);
    }
}

fn to_cluster(order: Order) -> cluster::Order {
    let goal = match order.goal {
        Goal::Run(life) => cluster::Goal::Run(Arc::new(life_to_cluster(order.holder, &life))),
        Goal::Stop { grace, .. } => cluster::Goal::Stop { grace },
        Goal::Forget => cluster::Goal::Forget,
    };
    cluster::Order { holder: order.holder, fence: order.fence, goal }
}

fn life_to_cluster(holder: HolderId, life: &Life) -> cluster::Life {
    cluster::Life {
        holder,
        workspace_id: life.workspace_id,
        workspace: life.workspace.clone(),
        project: life.project.clone(),
        queue: life.queue.clone(),
        queue_priority: life.queue_priority,
        preemptible: life.preemptible,
        number: life.number,
        node: life.node.clone(),
        grants: life.grants.iter().cloned().map(grant_to_cluster).collect(),
        spec: life.spec.clone(),
        access_key: life.access_key.expose().to_owned(),
        base_path: life.base_path.clone(),
    }
}

fn from_cluster(order: cluster::Order) -> Order {
    let goal = match order.goal {
        cluster::Goal::Run(life) => Goal::Run(Arc::new(Life {
            workspace_id: life.workspace_id,
            workspace: life.workspace.clone(),
            project: life.project.clone(),
            queue: life.queue.clone(),
            queue_priority: life.queue_priority,
            preemptible: life.preemptible,
            number: life.number,
            node: life.node.clone(),
            grants: life.grants.iter().cloned().map(grant_from_cluster).collect(),
            spec: life.spec.clone(),
            access_key: Secret::new(&life.access_key),
            base_path: life.base_path.clone(),
        })),
        cluster::Goal::Stop { grace } => Goal::Stop { grace, reason: String::new() },
        cluster::Goal::Forget => Goal::Forget,
    };
    Order { holder: order.holder, fence: order.fence, goal }
}

fn grant_to_cluster(grant: Grant) -> cluster::Grant {
    let Grant { device, milli, memory_bytes, profile, slots } = grant;
    cluster::Grant { device, milli, memory_bytes, profile, slots }
}

fn grant_from_cluster(grant: cluster::Grant) -> Grant {
    let cluster::Grant { device, milli, memory_bytes, profile, slots } = grant;
    Grant { device, milli, memory_bytes, profile, slots }
}
