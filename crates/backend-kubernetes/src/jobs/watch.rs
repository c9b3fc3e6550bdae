//! Copies of the Jobs and Pods of one executor in one namespace, which a watch keeps up to date.

use super::render::{ATTEMPT, EXECUTOR};
use crate::names;
use ::backend::Name;
use futures_util::StreamExt as _;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{batch::v1::Job, core::v1::Pod},
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    runtime::{
        WatchStreamExt as _, reflector,
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use std::{fmt::Debug, sync::Arc, time::Duration};
use tokio::task::JoinSet;

/// Ends with the value.
pub(super) struct Watched {
    pub(super) namespace: String,
    jobs: Store<Job>,
    pods: Store<Pod>,
    _tasks: JoinSet<()>,
}

impl Watched {
    /// Begins to watch. A server that is away, or refuses, is asked again and again.
    pub(super) fn begin(client: &Client, namespace: &str, mark: &str) -> Self {
        let mut tasks = JoinSet::new();
        Self {
            namespace: namespace.to_owned(),
            jobs: follow(&mut tasks, Api::namespaced(client.clone(), namespace), mark),
            pods: follow(&mut tasks, Api::namespaced(client.clone(), namespace), mark),
            _tasks: tasks,
        }
    }

    /// Waits until everything was seen once; false when that takes longer.
    pub(super) async fn is_ready_within(&self, time: Duration) -> bool {
        let both = async { self.jobs.wait_until_ready().await.and(self.pods.wait_until_ready().await) };
        matches!(tokio::time::timeout(time, both).await, Ok(Ok(())))
    }

    /// The Job of this name.
    pub(super) fn job(&self, name: &Name) -> Option<Arc<Job>> {
        self.jobs.get(&ObjectRef::new(name.as_str()).within(&self.namespace))
    }

    /// Its pods: one, or more when the cluster began twice.
    pub(super) fn pods(&self, name: &Name) -> Vec<Arc<Pod>> {
        let of = |pod: &Arc<Pod>| names::label(&pod.metadata, ATTEMPT) == Some(name.as_str());
        self.pods.state().into_iter().filter(of).collect()
    }

    /// Every Job that nobody has ended yet.
    pub(super) fn unended(&self) -> Vec<Name> {
        let jobs = self.jobs.state().into_iter().filter(|job| job.metadata.deletion_timestamp.is_none());
        jobs.filter_map(|job| Name::new(job.name_any())).collect()
    }
}

/// A watch that breaks begins again, with backoff.
fn follow<K>(tasks: &mut JoinSet<()>, api: Api<K>, mark: &str) -> Store<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (store, writer) = reflector::store();
    let stream = watcher(api, watcher::Config::default().labels(&format!("{EXECUTOR}={mark}")))
        .modify(|object: &mut K| {
            // Nobody reads it here, and it is most of an object.
            object.meta_mut().managed_fields = None;
        })
        .default_backoff()
        .reflect(writer)
        .touched_objects();
    tasks.spawn(stream.for_each(|seen| {
        if let Err(error) = seen {
            tracing::warn!(error = %error, "a watch of Kubernetes broke");
        }
        std::future::ready(())
    }));
    store
}
