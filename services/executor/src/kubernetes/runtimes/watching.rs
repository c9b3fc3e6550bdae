//! How applications in pods are used, as they tell it themselves at their pods' addresses, as the cluster measures their
//! pods (`cpu`): what runs beside an application is seen only by that; and what their GPUs do (`gpu`).
//!
//! Refuses to know what makes a pod ready.

use super::{
    exported::{self, Exported},
    measuring::Meter,
};
use crate::{
    pool::{Board, Life},
    signs::{
        self, Asked,
        devices::{self, Found},
    },
};
use backend_kubernetes::{
    Cluster, Exporter,
    metrics::{self, Usage},
    names,
};
use domain::id::HolderId;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use proto::internal::v1::{ActivityReport, RuntimePhase, RuntimeReport, activity_report::State};
use std::{
    collections::{BTreeSet, HashMap},
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

/// What one look at the cluster has brought.
struct Round {
    measured: Measured,
    /// By node.
    exported: HashMap<String, Exported>,
    /// How many have each device, by node and name.
    holders: HashMap<(String, String), usize>,
}

/// The board, with what applications said put to what the cluster says.
#[derive(Default)]
pub(super) struct Watching {
    board: Arc<Board>,
    /// Who tells what GPUs do, where that is known.
    exporter: Option<Exporter>,
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
    life: Arc<Life>,
    asked: Asked,
    meter: Mutex<Meter>,
    devices: Mutex<devices::Meter>,
}

impl Watching {
    pub(super) fn new(exporter: Option<Exporter>) -> Self {
        Self { exporter, ..Self::default() }
    }

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
        let nodes =
            ready.iter().filter(|(_, seen)| !seen.life.grants.is_empty()).map(|(_, seen)| seen.life.node.clone());
        let (measured, exported) = tokio::join!(self.measured(), self.exported(nodes.collect()));
        let round = &Round { measured, exported, holders: self.holders() };
        let looks = ready.into_iter().map(|(holder, seen)| self.look_at(holder, seen, round));
        futures_util::stream::iter(looks).buffer_unordered(LOOKS_AT_ONCE).collect::<()>().await;
    }

    async fn look_at(&self, holder: HolderId, seen: Arc<Seen>, round: &Round) {
        let now = Timestamp::now();
        let mut found = vec![("cpu", seen.computes(&round.measured, now))];
        if !seen.life.grants.is_empty() {
            let devices = self.devices(&seen.life, round);
            let mut meter = seen.devices.lock().unwrap_or_else(PoisonError::into_inner);
            found.push((devices::SOURCE, meter.judge(devices, Instant::now(), now)));
        }
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

    async fn exported(&self, nodes: BTreeSet<String>) -> HashMap<String, Exported> {
        match (self.cluster.get(), &self.exporter) {
            (Some(cluster), Some(exporter)) if !nodes.is_empty() => exported::read(cluster, exporter, nodes).await,
            _ => HashMap::new(),
        }
    }

    fn holders(&self) -> HashMap<(String, String), usize> {
        let mut holders = HashMap::new();
        for known in self.lock().values() {
            for device in known.life.devices() {
                *holders.entry((known.life.node.clone(), device.to_owned())).or_default() += 1;
            }
        }
        holders
    }

    /// What its devices do. One that rests rests for everybody; for whom of several one works is not told.
    fn devices(&self, life: &Life, round: &Round) -> Found {
        if self.exporter.is_none() {
            return Found::Untold(
                "its executor's setting `gpu_exporter` names nobody who tells what GPUs do".to_owned(),
            );
        }
        let loads = match round.exported.get(&life.node) {
            Some(Ok(loads)) => loads,
            Some(Err(why)) => return Found::Unknown(why.clone()),
            None => return Found::Unknown("no cluster was reached yet".to_owned()),
        };
        devices::together(life.devices().into_iter().map(|device| {
            let Some(known) = self.board.device(&life.node, device) else {
                return Found::Unknown(format!("{device} is not known at present"));
            };
            let is_shared = round.holders.get(&(life.node.clone(), device.to_owned())).is_some_and(|many| *many > 1);
            match loads.get(&known.hardware_id) {
                Some(load) if load.works && is_shared => {
                    Found::Unknown(format!("{device} works, and for whom of those who share it is not told"))
                }
                Some(load) if load.works => Found::Works,
                Some(load) if load.is_whole => Found::Rests,
                Some(_) => Found::Unknown(format!("only partitions of {device} are told of, and maybe not all")),
                None => Found::Unknown(format!("its node's exporter tells nothing of {device}")),
            }
        }))
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
    fn new(life: &Arc<Life>, at: SocketAddr) -> Self {
        Self { life: Arc::clone(life), asked: Asked::new(life, at), meter: Mutex::default(), devices: Mutex::default() }
    }

    fn computes(&self, measured: &Measured, now: Timestamp) -> State {
        let pod = names::object(&self.life.workspace, self.life.number);
        let found = measured.as_ref().map_err(Clone::clone);
        let found = found.and_then(|all| all.get(&pod).copied().ok_or_else(|| "it was not measured".to_owned()));
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
    use crate::pool::Grant;
    use domain::id::WorkspaceId;
    use proto::internal::v1::{Node, PoolDevice};
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

    #[test]
    fn a_device_rests_for_everybody_and_works_for_who_has_it_alone() {
        let watching = Watching::new(Some("m/app=dcgm:9400".parse().unwrap()));
        let device = |name: &str| PoolDevice {
            name: name.to_owned(),
            hardware_id: format!("GPU-{name}"),
            ..PoolDevice::default()
        };
        let devices = ["rests", "works", "cut", "untold"].map(device).into();
        watching.board.set_nodes(vec![Node { name: "n".to_owned(), devices, ..Node::default() }]);
        let with = |number: u128, devices: &[&str]| {
            let grant = |device: &&str| {
                let (device, profile) = ((*device).to_owned(), String::new());
                Grant { device, milli: 500, memory_bytes: 1, profile, slots: 0 }
            };
            let grants = devices.iter().map(grant).collect();
            let life = Arc::new(Life { grants, ..Life::clone(&jupyter()) });
            watching.knows(HolderId(Uuid::from_u128(number)), &life);
            life
        };
        let load = |works, is_whole| exported::Load { works, is_whole };
        let loads = [("rests", load(false, true)), ("works", load(true, true)), ("cut", load(false, false))];
        let loads = loads.map(|(name, load)| (format!("GPU-{name}"), load));
        let say = |life: &Life, exported: Exported| {
            let exported = HashMap::from([("n".to_owned(), exported)]);
            watching.devices(life, &Round { measured: Err(String::new()), exported, holders: watching.holders() })
        };
        let finds = |life: &Life| say(life, Ok(HashMap::from(loads.clone())));
        let unknown = |found: Found| matches!(found, Found::Unknown(_));
        let (both, other) = (with(1, &["rests", "works", "works"]), with(2, &["rests"]));
        assert_eq!((finds(&both), finds(&other)), (Found::Works, Found::Rests));
        let neighbour = with(3, &["works"]);
        assert!(unknown(finds(&both)) && unknown(finds(&neighbour)), "who of them is not told");
        watching.forget(HolderId(Uuid::from_u128(1)));
        assert_eq!(finds(&neighbour), Found::Works);
        for (number, device) in [(4, "cut"), (5, "untold"), (6, "gone")] {
            assert!(unknown(finds(&with(number, &[device]))), "{device}");
        }
        assert_eq!(say(&other, Err("no answer".to_owned())), Found::Unknown("no answer".to_owned()));
        let round = Round { measured: Err(String::new()), exported: HashMap::new(), holders: HashMap::new() };
        let Found::Untold(why) = Watching::default().devices(&other, &round) else { panic!("nobody was named") };
        assert!(why.contains("`gpu_exporter`"), "{why}");
    }
}
