//! Runtimes as pods of a cluster: orders of a pool as those of `backend-kubernetes`, and what that sees on the board.
//!
//! What runs goes on when this process ends. Refuses to judge.

use crate::pool::{Board, Grant, Life, Order, RuntimeBackend, order::Goal};
use anyhow::Context as _;
use backend_kubernetes::{self as cluster, Access, Backend, Cluster, render::Place};
use domain::id::HolderId;
use futures_util::future::{BoxFuture, FutureExt as _};
use proto::internal::v1 as pb;
use runtime::secret::Secret;
use std::sync::{Arc, OnceLock};

/// See the module's page.
pub struct KubernetesRuntimes {
    access: Access,
    place: Place,
    board: Arc<Board>,
    /// There from the first successful recovery on; nobody is told anything before.
    backend: OnceLock<Backend>,
}

impl KubernetesRuntimes {
    /// Nothing is connected yet.
    #[must_use]
    pub fn new(access: Access, place: Place) -> Self {
        Self { access, place, board: Arc::default(), backend: OnceLock::new() }
    }
}

impl RuntimeBackend for KubernetesRuntimes {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    fn board(&self) -> &Arc<Board> {
        &self.board
    }

    fn recover(&self) -> BoxFuture<'_, anyhow::Result<Vec<Order>>> {
        async {
            let cluster = Cluster::connect(&self.access, self.place.clone()).await?;
            let backend = Backend::new(cluster, Arc::new(Told(Arc::clone(&self.board))));
            let orders = backend.recover().await?;
            self.backend.set(backend).ok().context("recovered twice")?;
            Ok(orders.into_iter().map(from_cluster).collect())
        }
        .boxed()
    }

    fn apply(&self, order: Order) {
        if let Some(backend) = self.backend.get() {
            backend.apply(to_cluster(order));
        }
    }

    fn probe(&self, _holders: Vec<HolderId>) {}

    fn close(&self) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }
}

/// The board, as the cluster's side knows it.
struct Told(Arc<Board>);

impl cluster::Sink for Told {
    fn nodes(&self, nodes: Vec<pb::Node>) {
        self.0.set_nodes(nodes);
    }

    fn report(&self, report: pb::RuntimeReport) {
        self.0.report(report);
    }

    fn forget(&self, holder: HolderId) {
        self.0.forget(holder);
    }
}

fn to_cluster(order: Order) -> cluster::Order {
    let goal = match order.goal {
        Goal::Run(life) => cluster::Goal::Run(Arc::new(cluster::Life {
            holder: order.holder,
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
        })),
        Goal::Stop { grace, .. } => cluster::Goal::Stop { grace },
        Goal::Forget => cluster::Goal::Forget,
    };
    cluster::Order { holder: order.holder, fence: order.fence, goal }
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
