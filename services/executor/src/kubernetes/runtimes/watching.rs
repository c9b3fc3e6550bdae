//! How applications in pods are used, as they tell it themselves at their pods' addresses, and as the cluster measures their
//! pods (`cpu`): what runs beside an application is seen only by that.
//!
//! Refuses to know what makes a pod ready.

use super::measuring::Meter;
use crate::{
    pool::{Board, Life},
    signs::{self, Asked},
};
use backend_kubernetes::{
    Cluster,
    metrics::{self, Usage},
    names,
};
use domain::id::HolderId;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use proto::internal::v1::{ActivityReport, RuntimePhase, RuntimeReport, activity_report::State};
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// Between two looks at everybody.
const LOOK_INTERVAL: Duration = Duration::from_secs(15);
/// Applications that are asked at once.
const LOOKS_AT_ONCE: usize = 32;
/// For what the cluster measured; applications are asked after that.
const MEASURED_TIMEOUT: Duration = Duration::from_secs(5);

/// By pod, or why nothing is known.
type Measured = Result<HashMap<String, Usage>, String>;

/// The board, with what applications said put to what the cluster says.
#[derive(Default)]
pub(super) struct Watching {
    board: Arc<Board>,
    /// Which measures, when it was reached.
    cluster: OnceLock<Cluster>,
    /// Why it measured nothing, as it is in the log.
    logged: Mutex<Option<String>>,
    known: Mutex<HashMap<HolderId, Known>>,
}

struct Known {
    life: Arc<Life>,
    /// While it is ready.
    seen: Option<Arc<Seen>>,
    said: Vec<ActivityReport>,
}

/// An application where it is now.
struct Seen {
    pod: String,
    asked: Asked,
    meter: Mutex<Meter>,
}

impl Watching {
    pub(super) fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// From now on the cluster is asked what pods use.
    pub(super) fn measured_by(&self, cluster: Cluster) {
        // The first is as good as any other.
        let _ = self.cluster.set(cluster);
    }

    /// A life whose application may be asked when it is ready. Answers whether it was not known before.
    pub(super) fn knows(&self, holder: HolderId, life: &Arc<Life>) -> bool {
        let mut all = self.lock();
        if all.contains_key(&holder) {
            return false;
        }
        let mut known = Known { life: Arc::clone(life), seen: None, said: Vec::new() };
        // It may have been reported before.
        known.is_at(self.board.runtime(holder).and_then(|report| place(&report)));
        all.insert(holder, known);
        true
    }

    pub(super) fn forget(&self, holder: HolderId) {
        self.lock().remove(&holder);
    }

    /// Shows a report, with what the application said while it was where it is now.
    pub(super) fn report(&self, mut report: RuntimeReport) {
        // Under the lock no look comes between the report and what was said.
        let mut all = self.lock();
        if let Some(known) = HolderId::from_slice(&report.holder).and_then(|holder| all.get_mut(&holder)) {
            known.is_at(place(&report));
            report.activities.clone_from(&known.said);
        }
        self.board.report(report);
    }

    /// Looks at everybody again and again.
    pub(super) async fn look_on(&self) -> std::convert::Infallible {
        let mut tick = interval(LOOK_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let everybody = self.lock().keys().copied().collect();
            self.look(everybody).await;
        }
    }

    /// Asks these now.
    pub(super) async fn look(&self, holders: Vec<HolderId>) {
        let ready = |holder| Some((holder, self.lock().get(&holder)?.seen.clone()?));
        let ready: Vec<_> = holders.into_iter().filter_map(ready).collect();
        if ready.is_empty() {
            return;
        }
        let measured = &self.measured().await;
        let looks = ready.into_iter().map(|(holder, seen)| self.look_at(holder, seen, measured));
        futures_util::stream::iter(looks).buffer_unordered(LOOKS_AT_ONCE).collect::<()>().await;
    }

    async fn look_at(&self, holder: HolderId, seen: Arc<Seen>, measured: &Measured) {
        let now = Timestamp::now();
        let mut found = vec![("cpu", seen.computes(measured, now))];
        found.extend(seen.asked.look(now).await);
        let said = signs::reports(found);
        let mut all = self.lock();
        let known = all.get_mut(&holder);
        // Another place is another application.
        let same = |known: &&mut Known| known.seen.as_ref().is_some_and(|now| Arc::ptr_eq(now, &seen));
        if let Some(known) = known.filter(same) {
            known.said.clone_from(&said);
            self.board.amend(holder, |report| report.activities = said);
        }
    }

    /// What the cluster measured last. Why it did not is logged when that changes.
    async fn measured(&self) -> Measured {
        let Some(cluster) = self.cluster.get() else { return Err("no cluster was reached yet".to_owned()) };
        let measured = match timeout(MEASURED_TIMEOUT, cluster.usage()).await {
            Ok(answer) => answer.map_err(|error| metrics::why(&error)),
            Err(_) => Err("the cluster does not say in time what pods use".to_owned()),
        };
        let why = measured.as_ref().err().cloned();
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if *logged != why {
            match &why {
                Some(why) => tracing::warn!(%why, "no runtime is taken for idle: whether its pod works is not known"),
                None => tracing::info!("the cluster measures what pods use again"),
            }
            *logged = why;
        }
        measured
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<HolderId, Known>> {
        // Nothing panics while it is held.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn is_at(&mut self, at: Option<SocketAddr>) {
        if self.seen.as_ref().map(|seen| seen.asked.at()) != at {
            self.seen = at.map(|at| Arc::new(Seen::new(&self.life, at)));
            self.said.clear();
        }
    }
}

impl Seen {
    fn new(life: &Life, at: SocketAddr) -> Self {
        let pod = names::object(&life.workspace, life.number);
        Self { pod, asked: Asked::new(life, at), meter: Mutex::default() }
    }

    fn computes(&self, measured: &Measured, now: Timestamp) -> State {
        let found = measured.as_ref().map_err(Clone::clone);
        let found = found.and_then(|all| all.get(&self.pod).copied().ok_or_else(|| "it was not measured".to_owned()));
        self.meter.lock().unwrap_or_else(PoisonError::into_inner).judge(found, Instant::now(), now)
    }
}

/// Where an application can be asked: only one that is ready.
fn place(report: &RuntimeReport) -> Option<SocketAddr> {
    (report.phase() == RuntimePhase::Ready).then(|| report.endpoint.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::id::WorkspaceId;
    use runtime::secret::Secret;
    use serde_json::json;
    use uuid::Uuid;

    fn jupyter() -> Arc<Life> {
        let ask = json!({ "gpus": 0, "gpu_milli": 0, "gpu_memory_bytes": null, "models": [], "models_ordered": false,
                          "link": "any", "cpu_milli": 100, "memory_bytes": 0 });
        Arc::new(Life {
            workspace_id: WorkspaceId(Uuid::nil()),
            workspace: "lab".to_owned(),
            project: "p".to_owned(),
            queue: "default".to_owned(),
            queue_priority: 0,
            preemptible: false,
            number: 1,
            node: "n".to_owned(),
            grants: Vec::new(),
            spec: serde_json::from_value(json!({ "app": "jupyter", "ask": ask })).unwrap(),
            access_key: Secret::new("k3y"),
            base_path: "/runtimes/lab/".to_owned(),
        })
    }

    #[tokio::test]
    async fn what_does_not_answer_is_unknown_and_what_is_elsewhere_has_said_nothing() {
        // Nobody listens there.
        let at = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (watching, holder) = (Watching::default(), HolderId(Uuid::from_u128(1)));
        let report = |phase: RuntimePhase, endpoint: String| RuntimeReport {
            holder: holder.to_vec(),
            phase: phase.into(),
            endpoint,
            ..RuntimeReport::default()
        };
        // Reported before anybody knew what it is.
        watching.report(report(RuntimePhase::Ready, at.to_string()));
        watching.knows(holder, &jupyter());
        watching.look(vec![holder]).await;
        let said = || watching.board().runtime(holder).unwrap().activities;
        let unknown = |one: &ActivityReport| matches!(one.state, Some(State::Unknown(_)));
        assert!(said().len() == 3 && said().iter().all(unknown), "{:?}", said());
        watching.report(report(RuntimePhase::Ready, at.to_string()));
        assert_eq!(said().len(), 3, "the next report of the cluster does not take it away");
        watching.report(report(RuntimePhase::Ready, "127.0.0.2:1".to_owned()));
        assert!(said().is_empty());
        watching.report(report(RuntimePhase::Stopping, String::new()));
        watching.look(vec![holder]).await;
        assert!(said().is_empty(), "what is not ready is not asked");
    }
}
