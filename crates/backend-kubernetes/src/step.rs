//! One step of one life: the next thing that has to be done, done once, and what is seen after it.

mod ending;
mod post_start;

use crate::{
    backend::{Goal, Order, Sink},
    chip::Kind,
    cluster::{Cluster, Watches},
    codes,
    error::{Error, Result},
    inventory::Inventory,
    life::{Grant, Life},
    names::{self, HOLDER, PROJECT, VOLUME},
    observe::{self, Objects, Seen},
    render::{self, FENCE, GONE, GRACE, MADE, STATE, STOP, app, claim, network, pod},
};
use domain::{device::WHOLE_MILLI, id::HolderId};
use futures_util::try_join;
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Event, PersistentVolumeClaim, Pod, Secret, Service},
    networking::v1::NetworkPolicy,
    resource::v1::ResourceClaim,
    scheduling::v1::PriorityClass,
};
use kube::{
    ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
    runtime::reflector::ObjectRef,
};
use post_start::PostStart;
use proto::internal::v1::{self as pb, RuntimePhase};
use serde_json::json;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// From asking a life to end to ending it where nothing else is known, seconds.
const GRACE_S: u64 = 30;
/// Warnings of one pod that are read; the youngest counts.
const WARNINGS_MAX: u32 = 50;

/// One life: what it shall be, and what has been done for it.
#[derive(Debug, Clone)]
pub(crate) struct Desired {
    pub(crate) holder: HolderId,
    fence: i64,
    goal: Goal,
    /// Known from an order or from the record.
    pub(crate) life: Option<Arc<Life>>,
    /// The record as it was written last. Nobody else writes it, so it is read once.
    record: Arc<Mutex<Option<Secret>>>,
    /// This process has written its network policy, as it writes them.
    policed: Arc<AtomicBool>,
    /// How it failed, as that was seen first. What is seen later is of its remains, and says less.
    failure: Arc<Mutex<Option<Seen>>>,
    /// What became of what comes after its start.
    post_start: Arc<PostStart>,
}

/// What a step came to.
pub(crate) enum Progress {
    /// There is more to do, or to see.
    Going,
    /// The record is gone, too, by this order.
    Forgotten(i64),
}

/// What has the name of a life's record.
enum Record {
    /// This life's, known or made.
    Own(Box<Secret>),
    /// That of a life that left nothing else. The order to forget it may be under way, and then the name is free.
    Ended,
    /// That of a life that has, or may have, objects of this name.
    Taken,
}

/// What steps are made with.
pub(crate) struct Step<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) watches: &'a Watches,
    pub(crate) inventory: &'a Inventory,
    /// Lives that are to run and have a part of a chip, and no other.
    pub(crate) shared: BTreeMap<HolderId, String>,
    pub(crate) sink: &'a dyn Sink,
}

impl Desired {
    pub(crate) fn new(holder: HolderId) -> Self {
        Self {
            holder,
            fence: i64::MIN,
            goal: Goal::Forget,
            life: None,
            record: Arc::default(),
            policed: Arc::default(),
            failure: Arc::default(),
            post_start: Arc::default(),
        }
    }

    fn known_record(&self) -> Option<Secret> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps a record that was read or written.
    pub(crate) fn keep(&self, record: &Secret) {
        *self.record.lock().unwrap_or_else(PoisonError::into_inner) = Some(record.clone());
    }

    /// What is told: the first failure, once there was one.
    fn told(&self, seen: Seen) -> Seen {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if failure.is_none() && seen.phase == RuntimePhase::Failed {
            *failure = Some(seen.clone());
        }
        failure.clone().unwrap_or(seen)
    }

    /// The chip of which a life that is to run has a part, and has no other. One that began to end does not run again, whatever
    /// it is told.
    pub(crate) fn shared_chip(&self) -> Option<&str> {
        let Goal::Run(life) = &self.goal else { return None };
        let [grant] = life.grants.as_slice() else { return None };
        (grant.milli < WHOLE_MILLI && !self.is_ending()).then_some(grant.device.as_str())
    }

    fn is_ending(&self) -> bool {
        let record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        record.as_ref().is_some_and(|record| matches!(state(record), STOP | GONE))
    }

    /// Takes an order over, unless a later one is known.
    pub(crate) fn order(&mut self, order: Order) {
        if order.fence < self.fence {
            return;
        }
        if let Goal::Run(life) = &order.goal {
            self.life = Some(Arc::clone(life));
        }
        self.fence = order.fence;
        self.goal = order.goal;
    }

    /// Takes a step's result over; true when nothing is left to remember.
    pub(crate) fn merge(&mut self, progress: Progress) -> bool {
        matches!(progress, Progress::Forgotten(fence) if fence == self.fence && self.goal == Goal::Forget)
    }
}

impl Step<'_> {
    /// Does what is next. An API server that does not answer is asked again with the next look.
    pub(crate) async fn take(&self, desired: &Desired) -> Progress {
        let done = match &desired.goal {
            Goal::Run(life) => self.run(desired, life).await.map(|()| Progress::Going),
            Goal::Stop { grace } => self.stop(desired, grace.as_secs()).await.map(|()| Progress::Going),
            Goal::Forget => self.forget(desired).await.map(|()| Progress::Forgotten(desired.fence)),
        };
        done.unwrap_or_else(|error| {
            tracing::warn!(holder = %desired.holder, error = %error, "a runtime's objects are not as they should be yet");
            if error.is_refusal() && matches!(desired.goal, Goal::Run(_)) {
                self.report(desired, failed(codes::CLUSTER_REFUSED, error.to_string()));
            }
            Progress::Going
        })
    }

    async fn run(&self, desired: &Desired, life: &Arc<Life>) -> Result<()> {
        let record = match self.record(desired, life).await? {
            Record::Own(record) => record,
            Record::Ended => {
                let message = "waits for the record of an earlier life of this name to go".to_owned();
                self.report(desired, Seen { phase: RuntimePhase::Accepted, message, ..Seen::default() });
                return Ok(());
            }
            Record::Taken => {
                let message = "another life has objects of this name";
                self.report(desired, failed(codes::NAME_TAKEN, message));
                return Ok(());
            }
        };
        match state(&record) {
            GONE => self.report(desired, Seen { phase: RuntimePhase::Gone, ..Seen::default() }),
            // What was to end once does not run again: its end goes on.
            STOP => self.stop(desired, grace_s(&record)).await?,
            MADE => {
                self.police(desired, life, &record).await;
                self.look(desired, life, true).await?;
            }
            _ => match self.make(desired, life, &record).await {
                Ok(None) => self.look(desired, life, false).await?,
                Ok(Some(trouble)) => self.report(desired, trouble),
                Err(Error::Claim(error)) => self.report(desired, misplaced(&error)),
                Err(error) => return Err(error),
            },
        }
        Ok(())
    }

    /// Writes the network policy of a life that an earlier process made, once: that one may have let others in. What runs is
    /// looked at though this fails, and it is tried again with the next look.
    async fn police(&self, desired: &Desired, life: &Life, record: &Secret) {
        if desired.policed.load(Ordering::Relaxed) {
            return;
        }
        let policy = network::policy(&self.cluster.place, life, &record.uid().unwrap_or_default());
        match self.cluster.apply(&self.cluster.api::<NetworkPolicy>(), &policy).await {
            Ok(_) => desired.policed.store(true, Ordering::Relaxed),
            Err(error) => {
                tracing::warn!(holder = %desired.holder, %error, "the network policy of a runtime is not renewed yet");
            }
        }
    }

    /// The record of this life, made if need be.
    async fn record(&self, desired: &Desired, life: &Life) -> Result<Record> {
        let (api, name) = (self.cluster.api::<Secret>(), names::object(&life.workspace, life.number));
        let record = match self.written(desired, &name).await? {
            None => {
                self.report(desired, Seen { phase: RuntimePhase::Accepted, ..Seen::default() });
                let made = render::record(&self.cluster.place, life, desired.fence)?;
                self.cluster.apply(&api, &made).await?
            }
            Some(record) => record,
        };
        if names::label(&record.metadata, HOLDER) != Some(life.holder.to_string().as_str()) {
            return Ok(if state(&record) == GONE { Record::Ended } else { Record::Taken });
        }
        let fence = desired.fence.to_string();
        desired.keep(&record);
        if record.annotations().get(FENCE) != Some(&fence) {
            self.note(desired, &name, json!({ FENCE: fence })).await?;
        }
        Ok(Record::Own(Box::new(record)))
    }

    /// The record of this name, if there is one.
    async fn written(&self, desired: &Desired, name: &str) -> Result<Option<Secret>> {
        match desired.known_record() {
            Some(record) => Ok(Some(record)),
            None => Ok(self.cluster.api::<Secret>().get_opt(name).await?),
        }
    }

    /// Makes all objects, the pod last, and notes that. Answers what stands in the way.
    async fn make(&self, desired: &Desired, life: &Life, record: &Secret) -> Result<Option<Seen>> {
        if let Some(trouble) = self.refusal(life).or(self.forbidden_volume(life).await?) {
            return Ok(Some(trouble));
        }
        let (cluster, place) = (self.cluster, &*self.cluster.place);
        let owner = record.uid().unwrap_or_default();
        let class = render::priority_class(life.queue_priority);
        let claim = claim::claim(place, life, &owner, |name| self.inventory.chip(name))?;
        let (policy, service) = (network::policy(place, life, &owner), network::service(place, life, &owner));
        let (classes, claims) = (cluster.everywhere::<PriorityClass>(), cluster.api());
        let (policies, services) = (cluster.api::<NetworkPolicy>(), cluster.api::<Service>());
        // None of them needs another; the pod needs all, and above all its policy.
        try_join!(
            cluster.apply(&classes, &class),
            async {
                match &claim {
                    Some(claim) => cluster.apply(&claims, claim).await.map(drop),
                    None => Ok(()),
                }
            },
            cluster.apply(&policies, &policy),
            cluster.apply(&services, &service),
        )?;
        desired.policed.store(true, Ordering::Relaxed);
        let claim = claim.map(|claim| claim.name_any());
        cluster.apply(&cluster.api::<Pod>(), &pod::pod(place, life, &owner, claim.as_deref())).await?;
        self.note(desired, &names::object(&life.workspace, life.number), json!({ STATE: MADE })).await?;
        Ok(None)
    }

    /// What is never made, whoever asks for it: the last line, after that of whoever keeps specs.
    fn refusal(&self, life: &Life) -> Option<Seen> {
        // It runs in the life's own pod; this process has the credentials of the cluster, and what is of other tenants.
        if !life.spec.pre_start.is_empty() && app::command(life).is_empty() {
            let message = "what a pre-start script sets reaches an application only by the command that starts it: name the \
                           command in the spec";
            return Some(failed(codes::PRE_START_UNAVAILABLE, message));
        }
        let in_part = |grant: &&Grant| {
            let chip = self.inventory.chip(&grant.device);
            grant.milli < WHOLE_MILLI
                && chip.is_some_and(|chip| matches!(chip.kind, Kind::Shared { .. } | Kind::Mps { .. }))
        };
        if life.spec.root
            && let Some(grant) = life.grants.iter().find(in_part)
        {
            let message = format!(
                "as root it could take more than its share of `{}`: nothing in hardware stops it",
                grant.device
            );
            return Some(failed(codes::ROOT_NOT_ALLOWED, message));
        }
        None
    }

    /// A volume has to be labelled with the life's project: its name alone says nothing about whose it is. One of ours that
    /// is not there yet is waited for.
    async fn forbidden_volume(&self, life: &Life) -> Result<Option<Seen>> {
        let project = names::as_label(&life.project);
        for mount in &life.spec.mounts {
            let volume = self.cluster.api::<PersistentVolumeClaim>().get_opt(&names::claim_of(mount)).await?;
            let whose = volume.as_ref().and_then(|volume| names::label(&volume.metadata, PROJECT));
            let is_ours = volume.as_ref().is_some_and(|volume| names::label(&volume.metadata, VOLUME).is_some());
            let goes = volume.as_ref().is_some_and(|volume| volume.metadata.deletion_timestamp.is_some());
            let name = &mount.volume;
            if goes {
                let message = format!("volume `{name}` is being deleted; take it out of the spec, or make another one");
                return Ok(Some(failed(codes::VOLUME_FORBIDDEN, message)));
            }
            if volume.is_none() && mount.id.is_some() {
                let message = format!("volume `{name}` is not made yet; `orrery volumes` says what keeps it");
                let (phase, code) = (RuntimePhase::Accepted, codes::VOLUME_FAILED.to_owned());
                return Ok(Some(Seen { phase, code, message, ..Seen::default() }));
            }
            // One of ours is mounted by its name in the project: whoever deletes it sees who mounts it.
            if whose != Some(project.as_str()) || is_ours != mount.id.is_some() {
                let message = format!(
                    "the project has no volume `{name}` in this pool, and no claim of that name is labelled \
                     {PROJECT}={project}; make it with `orrery volumes create`"
                );
                return Ok(Some(failed(codes::VOLUME_FORBIDDEN, message)));
            }
        }
        Ok(None)
    }

    /// Reports what is there.
    async fn look(&self, desired: &Desired, life: &Life, pod_was_made: bool) -> Result<()> {
        let name = names::object(&life.workspace, life.number);
        // What is not in the copy may only be too young for it.
        let pod = match self.watched_pod(&name) {
            Some(pod) => Some(pod),
            None => self.cluster.api::<Pod>().get_opt(&name).await?.map(Arc::new),
        };
        let claim = match &pod {
            Some(pod) => self.claim_of(pod, life).await?,
            None => self.watched_claim(&name),
        };
        let warnings = match &pod {
            Some(pod) if is_stuck(pod) => self.warnings(pod).await?,
            _ => Vec::new(),
        };
        let results =
            claim.as_ref().and_then(|c| c.status.as_ref()?.allocation.as_ref()?.devices.as_ref()?.results.as_ref());
        let uses = results.into_iter().flatten().filter_map(|result| self.inventory.used(result)).collect();
        let granted = life.grants.iter().map(|grant| &grant.device);
        let missing = granted.filter(|device| self.inventory.chip(device).is_none()).cloned().collect();
        let (claim, pod) = (claim.as_deref(), pod.as_deref());
        let objects = Objects { claim, uses, missing, pod, pod_was_made, warnings: &warnings };
        let seen = desired.told(observe::observe(life, &objects, Timestamp::now()));
        self.report(desired, self.with_post_start(desired, life, &name, seen).await);
        Ok(())
    }

    /// The claim that a pod uses, made again when it is a shared one that whoever had it before took away as this pod came.
    async fn claim_of(&self, pod: &Pod, life: &Life) -> Result<Option<Arc<ResourceClaim>>> {
        let uses = pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_ref()?.first());
        let Some(name) = uses.and_then(|uses| uses.resource_claim_name.as_deref()) else { return Ok(None) };
        if let Some(claim) = self.watched_claim(name) {
            return Ok(Some(claim));
        }
        let claims = self.cluster.api::<ResourceClaim>();
        if let Some(claim) = claims.get_opt(name).await? {
            return Ok(Some(Arc::new(claim)));
        }
        // Where its device is not there any more, or is not shared, the pod tells that by waiting.
        let shared = claim::shared(&self.cluster.place, life, |name| self.inventory.chip(name)).ok().flatten();
        match shared.filter(|shared| is_waiting(pod) && shared.name_any() == name) {
            Some(shared) => Ok(Some(Arc::new(self.cluster.apply(&claims, &shared).await?))),
            None => Ok(None),
        }
    }

    async fn warnings(&self, pod: &Pod) -> Result<Vec<Event>> {
        let fields = format!("involvedObject.uid={},type=Warning", pod.uid().unwrap_or_default());
        let list = ListParams::default().fields(&fields).limit(WARNINGS_MAX);
        Ok(self.cluster.api::<Event>().list(&list).await?.items)
    }

    async fn note(&self, desired: &Desired, name: &str, annotations: serde_json::Value) -> Result<()> {
        let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
        desired.keep(&self.cluster.api::<Secret>().patch(name, &PatchParams::default(), &patch).await?);
        Ok(())
    }

    fn watched_claim(&self, name: &str) -> Option<Arc<ResourceClaim>> {
        self.watches.claims.get(&ObjectRef::new(name).within(&self.cluster.place.namespace))
    }

    fn watched_pod(&self, name: &str) -> Option<Arc<Pod>> {
        self.watches.pods.get(&ObjectRef::new(name).within(&self.cluster.place.namespace))
    }

    fn report(&self, desired: &Desired, seen: Seen) {
        let life = desired.life.as_deref();
        self.sink.report(pb::RuntimeReport {
            holder: desired.holder.to_vec(),
            fence: desired.fence,
            phase: seen.phase.into(),
            code: seen.code,
            message: life.map_or_else(|| seen.message.clone(), |life| life.without_key(&seen.message)),
            endpoint: seen.endpoint,
            activities: Vec::new(),
            bound: seen.bound,
            node: life.map(|life| life.node.clone()).unwrap_or_default(),
        });
    }
}

fn state(record: &Secret) -> &str {
    record.annotations().get(STATE).map_or("", String::as_str)
}

/// What the one who ended it gave it.
pub(crate) fn grace_s(record: &Secret) -> u64 {
    record.annotations().get(GRACE).and_then(|seconds| seconds.parse().ok()).unwrap_or(GRACE_S)
}

fn failed(code: &str, message: impl Into<String>) -> Seen {
    Seen { phase: RuntimePhase::Failed, code: code.to_owned(), message: message.into(), ..Seen::default() }
}

fn misplaced(error: &claim::ClaimError) -> Seen {
    let code = match error {
        claim::ClaimError::Missing(_) => codes::DEVICE_MISSING,
        claim::ClaimError::NoId(_) | claim::ClaimError::NoSuchPart(_) | claim::ClaimError::OneAtATime(_) => {
            codes::DEVICE_NOT_DIVISIBLE
        }
    };
    Seen { phase: RuntimePhase::Misplaced, code: code.to_owned(), message: error.to_string(), ..Seen::default() }
}

/// Not on a node yet.
fn is_waiting(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_none())
}

/// On its node, and no container of it runs: the events tell more than the pod.
fn is_stuck(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let bound = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    bound && status.is_some_and(|status| status.phase.as_deref() == Some("Pending"))
}
