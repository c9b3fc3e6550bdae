//! The loop: what is to be against what is there, again and again, until both are the same.
//!
//! It takes no input but levels. A change of an object or an order wakes it; once a second it looks anyway.

use crate::{
    cluster::{Cluster, Watches},
    error::Result,
    inventory::Inventory,
    life::Life,
    names::{self, POOL},
    render::{self, FENCE, GONE, MADE, RUN, STATE, STOP},
    step::{self, Desired, Step},
    volumes::Volumes,
};
use domain::{id::HolderId, volume::Volume};
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt as _, api::ListParams};
use proto::internal::v1 as pb;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, task::JoinHandle, time::timeout};

/// Lives that are worked on at once; the API server has others to serve.
const STEPS_AT_ONCE: usize = 8;
/// Changes that come close together are looked at together.
const GATHER: Duration = Duration::from_millis(50);
/// It is looked again after so long though nothing was heard.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Takes levels over.
pub trait Sink: Send + Sync + 'static {
    /// All nodes as they are now.
    fn nodes(&self, nodes: Vec<pb::Node>);
    /// One life as it is now.
    fn report(&self, report: pb::RuntimeReport);
    /// A life of which nothing is reported any more.
    fn forget(&self, holder: HolderId);
    /// One volume as it is now.
    fn volume(&self, report: pb::VolumeReport);
}

/// What one life shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Which.
    pub holder: HolderId,
    /// The order with the greatest one counts.
    pub fence: i64,
    /// What.
    pub goal: Goal,
}

/// What a life shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// It runs.
    Run(Arc<Life>),
    /// It ends.
    Stop {
        /// Time to end by itself.
        grace: Duration,
    },
    /// Its end was noted.
    Forget,
}

/// Runtimes on one cluster. The loop ends with the value; what runs goes on.
pub struct Backend {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    cluster: Cluster,
    sink: Arc<dyn Sink>,
    desired: Mutex<BTreeMap<HolderId, Desired>>,
    volumes: Volumes,
    wake: Notify,
}

impl Backend {
    /// Nothing is watched before [`Backend::recover`].
    #[must_use]
    pub fn new(cluster: Cluster, sink: Arc<dyn Sink>) -> Self {
        let shared =
            Shared { cluster, sink, desired: Mutex::default(), volumes: Volumes::default(), wake: Notify::new() };
        Self { shared: Arc::new(shared), task: Mutex::new(None) }
    }

    /// Reads what an earlier life of this process left, begins to watch and to work, and answers the orders that are obeyed.
    ///
    /// # Errors
    /// The API server cannot be read.
    pub async fn recover(&self) -> Result<Vec<Order>> {
        let shared = &self.shared;
        let pool = &shared.cluster.place.pool;
        let ours = ListParams::default().labels(&names::selector(&BTreeMap::from([(POOL, pool.as_str())])));
        let records = shared.cluster.api::<Secret>().list(&ours).await?;
        let mut orders = Vec::new();
        for record in records {
            let Some((order, desired)) = adopt(&record) else { continue };
            shared.lock().insert(order.holder, desired);
            orders.push(order);
        }
        let watches = shared.cluster.watch().await?;
        let mut inventory = Inventory::new(shared.cluster.place.classes.clone());
        // What is gone, and where everything is, is on the board before anybody is asked.
        pass(shared, &watches, &mut inventory).await;
        let worker = tokio::spawn(work(Arc::clone(shared), watches, inventory));
        if let Some(former) = self.task.lock().unwrap_or_else(PoisonError::into_inner).replace(worker) {
            former.abort();
        }
        Ok(orders)
    }

    /// Takes note of what one life shall be.
    pub fn apply(&self, order: Order) {
        let mut all = self.shared.lock();
        let desired = all.entry(order.holder).or_insert_with(|| Desired::new(order.holder));
        desired.order(order);
        drop(all);
        self.shared.wake.notify_one();
    }

    /// Takes note of what these volumes shall be. One that is not named stays as it is.
    pub fn volumes(&self, volumes: impl IntoIterator<Item = Volume>) {
        self.shared.volumes.want(volumes);
        self.shared.wake.notify_one();
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<HolderId, Desired>> {
        // Nothing panics while it is held.
        self.desired.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn work(shared: Arc<Shared>, watches: Watches, mut inventory: Inventory) {
    loop {
        let woken = async {
            tokio::select! {
                () = watches.changed.notified() => {}
                () = shared.wake.notified() => {}
            }
        };
        if timeout(LOOK_AGAIN, woken).await.is_ok() {
            tokio::time::sleep(GATHER).await;
        }
        pass(&shared, &watches, &mut inventory).await;
    }
}

/// One look at everything.
async fn pass(shared: &Shared, watches: &Watches, inventory: &mut Inventory) {
    let nodes = inventory.nodes(&watches.view(), &shared.cluster.place);
    shared.sink.nodes(nodes);
    shared.volumes.keep(&shared.cluster, &*shared.sink).await;
    let lives: Vec<Desired> = shared.lock().values().cloned().collect();
    let in_part = lives.iter().filter_map(|desired| Some((desired.holder, desired.shared_chip()?.to_owned())));
    let in_part = in_part.collect();
    let step = Step { cluster: &shared.cluster, watches, inventory, shared: in_part, sink: &*shared.sink };
    let mut done = futures_util::stream::iter(lives)
        .map(|desired| {
            let step = &step;
            async move { (desired.holder, step.take(&desired).await) }
        })
        .buffer_unordered(STEPS_AT_ONCE);
    while let Some((holder, progress)) = done.next().await {
        let mut all = shared.lock();
        let Some(known) = all.get_mut(&holder) else { continue };
        if known.merge(progress) {
            all.remove(&holder);
            drop(all);
            shared.sink.forget(holder);
        }
    }
}

/// What a record tells of a life that was taken up before.
fn adopt(record: &Secret) -> Option<(Order, Desired)> {
    let life = render::read(record)?;
    let annotation = |name: &str| record.annotations().get(name).map(String::as_str);
    let fence = annotation(FENCE).and_then(|fence| fence.parse().ok()).unwrap_or(0);
    let holder = life.holder;
    let goal = match annotation(STATE) {
        Some(STOP | GONE) => Goal::Stop { grace: Duration::from_secs(step::grace_s(record)) },
        Some(RUN | MADE) | Some(_) | None => Goal::Run(Arc::new(life.clone())),
    };
    let order = Order { holder, fence, goal };
    let mut desired = Desired::new(holder);
    desired.order(order.clone());
    desired.life = Some(Arc::new(life));
    desired.keep(record);
    Some((order, desired))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        classes::Classes,
        render::{Place, app},
    };
    use serde_json::json;

    #[test]
    fn what_began_to_end_keeps_no_shared_claim_though_it_is_told_to_run() {
        let id = "00000000-0000-4000-8000-000000000001";
        let ask = json!({ "gpus": 1, "gpu_milli": 400, "gpu_memory_bytes": null, "models": [], "models_ordered": false,
                          "link": "any", "cpu_milli": 100, "memory_bytes": 1 });
        let grant = json!({ "device": "chip", "milli": 400, "memory_bytes": 1, "profile": "", "slots": 0 });
        let life = json!({
            "holder": id, "workspace_id": id, "workspace": "lab", "project": "p", "queue": "default", "queue_priority": 0,
            "preemptible": false, "number": 1, "node": "n", "grants": [grant], "spec": { "app": "jupyter", "ask": ask },
            "access_key": "", "base_path": "/",
        });
        let life: Life = serde_json::from_value(life).unwrap();
        let images = app::Images { jupyter: String::new(), vs_code: String::new(), pre_start: String::new() };
        let place = Place {
            pool: "p".into(),
            namespace: "n".into(),
            images,
            classes: Classes::default(),
            visitors: Vec::new(),
        };
        for (state, shares) in [(RUN, true), (MADE, true), (STOP, false), (GONE, false)] {
            let mut record = render::record(&place, &life, 1).unwrap();
            record.annotations_mut().insert(STATE.to_owned(), state.to_owned());
            let (_, mut desired) = adopt(&record).unwrap();
            desired.order(Order { holder: life.holder, fence: 2, goal: Goal::Run(Arc::new(life.clone())) });
            assert_eq!(desired.shared_chip(), shares.then_some("chip"), "{state}");
        }
    }
}
