//! Attempts of blocks, each as a Job of a cluster: one pod, started once, with a claim when it asks for GPUs.
//!
//! The Job is made first and owns the rest, so that nothing outlives it: it goes when its attempt is over, by the sweep of
//! its executor's next life, or some minutes after its end when that never comes. Refuses to know what an attempt means.

mod config;
mod observe;
pub mod policy;
mod render;
mod watch;

use crate::{
    cluster::{self, Access},
    error::{Error, Result},
    names::{self, MANAGER},
    quantity,
};
use ::backend::{Device, Devices, Error as Refusal, Launch, Name, NoDevices, Phase};
use domain::device::WHOLE_MILLI;
use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        batch::v1::Job,
        core::v1::{ConfigMap, Event, PersistentVolumeClaim, Pod, Secret},
        scheduling::v1::PriorityClass,
    },
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
};
use policy::{Kind, Labels, Policy};
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt::Debug, sync::Arc, time::Duration};
use tokio::sync::OnceCell;
use watch::Watched;

/// Of the pods of blocks: that of the default queue.
const PRIORITY: i32 = 0;
/// Warnings about one object that are read; the youngest counts.
const WARNINGS_MAX: u32 = 50;
/// A pod that has not begun so long after it was bound is asked about: only events tell what it waits for.
const SLOW_AFTER: Duration = Duration::from_secs(5);
/// For everything to be seen once.
const FIRST_LOOK: Duration = Duration::from_secs(10);
/// A grace of nothing would remove the pod's object while its processes run on.
const GRACE_MIN_S: u32 = 1;

/// Attempts on one cluster.
pub struct Jobs {
    client: Client,
    policy: Policy,
    /// Of the executor: what has it is ours.
    mark: String,
    /// One for each namespace.
    watched: Vec<Watched>,
    /// Whether the class of their pods is there; unknown until the first one is made.
    classed: OnceCell<bool>,
}

impl Jobs {
    /// Reads credentials and begins to look what an earlier life of the executor with this mark has left. A server that is
    /// away is no error here.
    ///
    /// # Errors
    /// No credentials.
    pub async fn connect(access: &Access, policy: Policy, mark: &str) -> Result<Self> {
        let client = cluster::client(access).await?;
        let watched = policy.namespaces().map(|namespace| Watched::begin(&client, namespace, mark)).collect();
        Ok(Self { client, policy, mark: mark.to_owned(), watched, classed: OnceCell::new() })
    }

    fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Makes an object as it is said; done twice, it is done once.
    async fn apply<K>(&self, namespace: &str, object: &K) -> Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        let params = PatchParams::apply(MANAGER).force();
        self.api::<K>(namespace).patch(&object.name_any(), &params, &Patch::Apply(object)).await?;
        Ok(())
    }

    /// The Job of this name and its namespace, by the copies, or by a question where they may be too young.
    async fn find(&self, name: &Name) -> Result<Option<(&Watched, Job)>> {
        for watched in &self.watched {
            if let Some(job) = watched.job(name) {
                return Ok(Some((watched, (*job).clone())));
            }
        }
        for watched in &self.watched {
            if let Some(job) = self.api::<Job>(&watched.namespace).get_opt(name.as_str()).await? {
                return Ok(Some((watched, job)));
            }
        }
        Ok(None)
    }

    async fn make(&self, launch: &Launch) -> Result<Vec<String>> {
        let mut allowed = policy::allow(config::read(&launch.config), &self.policy);
        self.check_objects(launch, &mut allowed).await?;
        if let Some(why) = allowed.asked.gpus.as_ref().and_then(|gpus| unpinnable(launch, &gpus.class)) {
            return Err(Error::Unplaced(why));
        }
        let namespace = allowed.namespace.clone();
        let class = self.has_class().await?.then(|| names::priority_class(PRIORITY));
        let job = render::job(launch, &allowed, &self.policy, &self.mark, class);
        let made = self.api::<Job>(&namespace).create(&PostParams::default(), &job).await.map_err(Error::from);
        let job = match made {
            Err(error) if error.is_conflict() => self.api::<Job>(&namespace).get(launch.name.as_str()).await?,
            made => made?,
        };
        let owner = job.owner_ref(&()).unwrap_or_default();
        self.apply(&namespace, &render::token(launch, &allowed, &self.mark, &owner)).await?;
        if let Some(claim) = render::claim(launch, &allowed, &self.mark, &owner) {
            self.apply(&namespace, &claim).await?;
        }
        Ok(allowed.asked.remarks)
    }

    /// Makes the class by which no pod of a block ends another one. A pod without any would have the cluster's, which may:
    /// an executor that is not allowed to make it warns, and goes on.
    async fn has_class(&self) -> Result<bool> {
        let make = async || {
            let (class, params) = (crate::render::priority_class(PRIORITY), PatchParams::apply(MANAGER).force());
            let classes = Api::<PriorityClass>::all(self.client.clone());
            let made = classes.patch(&class.name_any(), &params, &Patch::Apply(&class)).await;
            match made.map_err(Error::from) {
                Ok(_) => Ok(true),
                Err(error) if error.is_forbidden() => {
                    tracing::warn!(%error, "blocks have no priority class: kube-scheduler may end workspaces for them");
                    Ok(false)
                }
                Err(error) => Err(error),
            }
        };
        self.classed.get_or_try_init(make).await.copied()
    }

    /// What a block names has to be labelled with its workspace: a name alone says nothing about whose it is.
    async fn check_objects(&self, launch: &Launch, allowed: &mut policy::Allowed) -> Result<()> {
        let workspace = launch.labels.get("workspace").cloned().unwrap_or_default();
        for (kind, name) in allowed.named() {
            let namespace = &allowed.namespace;
            let found = match kind {
                Kind::Secret => self.labels::<Secret>(namespace, &name).await?,
                Kind::ConfigMap => self.labels::<ConfigMap>(namespace, &name).await?,
                Kind::Volume => self.labels::<PersistentVolumeClaim>(namespace, &name).await?,
            };
            if !policy::belongs(found.as_ref(), &workspace) {
                allowed.without(kind, &name, &workspace);
            }
        }
        for from in &mut allowed.variables_from {
            from.names = match from.kind {
                Kind::Secret => {
                    let found = self.api::<Secret>(&allowed.namespace).get_opt(&from.name).await?;
                    found.and_then(|secret| secret.data).unwrap_or_default().into_keys().collect()
                }
                Kind::ConfigMap | Kind::Volume => {
                    let found = self.api::<ConfigMap>(&allowed.namespace).get_opt(&from.name).await?;
                    found.and_then(|map| map.data).unwrap_or_default().into_keys().collect()
                }
            };
        }
        allowed.without_our_variables();
        Ok(())
    }

    async fn labels<K>(&self, namespace: &str, name: &str) -> Result<Option<Labels>>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let found = self.api::<K>(namespace).get_metadata_opt(name).await?;
        Ok(found.map(|object| object.metadata.labels.unwrap_or_default()))
    }

    async fn look(&self, name: &Name) -> Result<Phase> {
        let Some((watched, job)) = self.find(name).await? else {
            // Its pods may be there a little longer than itself.
            let pods = self.watched.iter().flat_map(|watched| watched.pods(name)).collect::<Vec<_>>();
            return Ok(observe::phase(None, &pods, &[], Timestamp::now()));
        };
        let (mut pods, now) = (watched.pods(name), Timestamp::now());
        if pods.is_empty() && observe::failed(&job).is_some() {
            // Both are watched apart: the Job's news may be here before its pod's.
            let of_attempt = ListParams::default().labels(&format!("{}={name}", render::ATTEMPT));
            let there = self.api::<Pod>(&watched.namespace).list(&of_attempt).await?;
            pods = there.items.into_iter().map(Arc::new).collect();
        }
        let warnings = match observe::asks_why(&job, &pods, now) {
            Some(uid) => self.warnings(&watched.namespace, &uid).await?,
            None => Vec::new(),
        };
        Ok(observe::phase(Some(&job), &pods, &warnings, now))
    }

    async fn warnings(&self, namespace: &str, uid: &str) -> Result<Vec<Event>> {
        let list = ListParams::default().fields(&format!("involvedObject.uid={uid},type=Warning")).limit(WARNINGS_MAX);
        Ok(self.api::<Event>(namespace).list(&list).await?.items)
    }

    /// The pods first, with the grace that is wanted; the Job stays until they are gone, and everything else goes with it.
    async fn end(&self, name: &Name, grace: Duration) -> Result<()> {
        let Some((watched, job)) = self.find(name).await? else { return Ok(()) };
        let seconds = u32::try_from(grace.as_secs()).unwrap_or(u32::MAX).max(GRACE_MIN_S);
        let living = watched.pods(name).into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        for pod in living.collect::<Vec<_>>() {
            let params =
                DeleteParams { preconditions: exactly(&*pod), ..DeleteParams::default().grace_period(seconds) };
            gone_is_fine(self.api::<Pod>(&watched.namespace).delete(&pod.name_any(), &params).await)?;
        }
        if job.metadata.deletion_timestamp.is_none() {
            let params = DeleteParams { preconditions: exactly(&job), ..DeleteParams::foreground() };
            gone_is_fine(self.api::<Job>(&watched.namespace).delete(name.as_str(), &params).await)?;
        }
        Ok(())
    }
}

impl ::backend::Backend for Jobs {
    fn name(&self) -> &'static str {
        domain::executor_type::Backend::Kubernetes.as_str()
    }

    fn devices(&self, launch: &Launch) -> std::result::Result<Option<Devices>, NoDevices> {
        let allowed = policy::allow(config::read(&launch.config), &self.policy);
        let asked = &allowed.asked;
        let Some(gpus) = &asked.gpus else { return Ok(None) };
        if let Some(refused) = allowed.never_given(&self.policy) {
            return Err(refused);
        }
        let amount = |name: &str| asked.requests.get(name).or_else(|| asked.limits.get(name));
        Ok(Some(Devices {
            claim: format!("{}/{}", allowed.namespace, launch.name),
            class: gpus.class.clone(),
            count: gpus.count,
            milli: if gpus.sm == 0 { WHOLE_MILLI } else { gpus.sm * (WHOLE_MILLI / 100) },
            memory_bytes: gpus.memory.as_ref().map(quantity::units),
            cpu_milli: amount("cpu").map_or(0, quantity::milli),
            node_memory_bytes: amount("memory").map_or(0, quantity::units),
        }))
    }

    async fn launch(&self, launch: &Launch) -> std::result::Result<Vec<String>, Refusal> {
        self.make(launch).await.map_err(refusal)
    }

    async fn observe(&self, name: &Name) -> std::result::Result<Phase, Refusal> {
        self.look(name).await.map_err(refusal)
    }

    async fn cancel(&self, name: &Name, grace: Duration) -> std::result::Result<(), Refusal> {
        self.end(name, grace).await.map_err(refusal)
    }

    async fn reap(&self, lives: &(dyn Fn(&Name) -> bool + Sync)) -> std::result::Result<usize, Refusal> {
        for watched in &self.watched {
            if !watched.is_ready_within(FIRST_LOOK).await {
                return Err(Refusal::Away(format!("the jobs in `{}` cannot be read", watched.namespace)));
            }
        }
        let mut ended = 0;
        for name in self.watched.iter().flat_map(Watched::unended).collect::<Vec<_>>() {
            if !lives(&name) {
                self.end(&name, Duration::ZERO).await.map_err(refusal)?;
                ended += 1;
            }
        }
        Ok(ended)
    }
}

/// Why the devices of a launch cannot be had as they were given.
fn unpinnable(launch: &Launch, class: &str) -> Option<String> {
    let Some(place) = &launch.place else {
        return Some("GPUs are given by the owner of a pool, and this launch was given none".to_owned());
    };
    place.devices.iter().find_map(|device| match device {
        Device { hardware_id, name, .. } if hardware_id.is_empty() => {
            Some(format!("device `{name}` cannot be pinned: its driver publishes no id of it"))
        }
        Device { profile, name, milli, .. } if !profile.is_empty() && *milli < WHOLE_MILLI => Some(format!(
            "a block cannot have the partition `{profile}` of `{name}`: ask for whole devices of its class"
        )),
        // A device that is divided in hardware has another class as a whole.
        Device { profile, name, class: own, .. } if profile.is_empty() && !own.is_empty() && own != class => {
            Some(format!("device `{name}` is of the class `{own}`, and one of `{class}` is asked for: name its class"))
        }
        _ => None,
    })
}

/// Of an object with this name, the one that was seen and no later one.
fn exactly<K: Resource>(object: &K) -> Option<Preconditions> {
    object.meta().uid.clone().map(|uid| Preconditions { uid: Some(uid), resource_version: None })
}

/// One that is absent, or another one by now, is as wanted.
fn gone_is_fine<T>(deleted: std::result::Result<T, kube::Error>) -> Result<()> {
    match deleted.map_err(Error::from) {
        Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
        _ => Ok(()),
    }
}

fn refusal(error: Error) -> Refusal {
    // A quota that is used up has room again some time.
    let never =
        matches!(error, Error::Unplaced(_)) || error.is_refusal() && !error.to_string().contains("exceeded quota");
    let text = error.to_string();
    if never { Refusal::Refused(text) } else { Refusal::Away(text) }
}
