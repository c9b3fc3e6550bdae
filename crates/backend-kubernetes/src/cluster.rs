//! The API server: credentials, a probe of what it can do, and what is watched there.

use crate::{
    error::{Error, Result},
    inventory::View,
    names::MANAGER,
    render::Place,
};
use futures_util::StreamExt as _;
use k8s_openapi::api::{
    core::v1::{Namespace, Node, Pod},
    resource::v1::{
        CapacityRequirements, DeviceClaim, DeviceClass, DeviceRequest, ExactDeviceRequest, ResourceClaim,
        ResourceClaimSpec, ResourceSlice,
    },
};
use kube::{
    Api, Client, Config, Resource, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams, Preconditions},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::{WatchStreamExt as _, reflector, reflector::Store, watcher},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    fmt::Debug,
    path::PathBuf,
    sync::{Arc, Once},
    time::Duration,
};
use tokio::{sync::Notify, task::JoinSet};

/// For one answer; a watch is no answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How the API server is reached.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// A kubeconfig; the pod's own service account, or what `KUBECONFIG` names, when there is none.
    pub kubeconfig: Option<PathBuf>,
}

/// A client for one place.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    /// Where our objects go.
    pub place: Arc<Place>,
}

/// What is watched. Ends with the value.
pub(crate) struct Watches {
    nodes: Store<Node>,
    slices: Store<ResourceSlice>,
    classes: Store<DeviceClass>,
    pub(crate) claims: Store<ResourceClaim>,
    pub(crate) pods: Store<Pod>,
    /// Something has changed.
    pub(crate) changed: Arc<Notify>,
    _tasks: JoinSet<()>,
}

impl Cluster {
    /// Reads credentials, asks the server what it can do, and makes the namespace when it is not there.
    ///
    /// # Errors
    /// No credentials, no answer, a namespace that is not there and may not be made, or a server that drops what claims
    /// need.
    pub async fn connect(access: &Access, place: Place) -> Result<Self> {
        let cluster = Self { client: client(access).await?, place: Arc::new(place) };
        // The probe makes nothing, so it is also the cheapest way to learn whether the namespace is there.
        match cluster.probe().await {
            Err(error) if error.is_not_found() => {
                cluster.make_namespace().await?;
                cluster.probe().await?;
            }
            probed => probed?,
        }
        Ok(cluster)
    }

    /// Makes our namespace, in which no pod may have a privilege. One that is there is left as it is.
    async fn make_namespace(&self) -> Result<()> {
        let name = &self.place.namespace;
        let labels = BTreeMap::from([("pod-security.kubernetes.io/enforce".to_owned(), "baseline".to_owned())]);
        let metadata = ObjectMeta { name: Some(name.clone()), labels: Some(labels), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        match self.everywhere::<Namespace>().create(&PostParams::default(), &namespace).await.map_err(Error::from) {
            Ok(_) => tracing::info!(namespace = name, "made the namespace"),
            // Somebody else was faster.
            Err(Error::Api(kube::Error::Api(status))) if status.code == 409 => {}
            Err(Error::Api(kube::Error::Api(status))) if status.code == 403 => {
                return Err(Error::NoNamespace { name: name.clone() });
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Whether the capacity that a claim asks for survives. A server whose gate is off drops it silently, and a pod would
    /// get whole devices, or any number of users one device.
    async fn probe(&self) -> Result<()> {
        let asked = BTreeMap::from([("cores".to_owned(), crate::quantity::of(1))]);
        let request = DeviceRequest {
            name: "gpu".to_owned(),
            exactly: Some(ExactDeviceRequest {
                device_class_name: "probe".to_owned(),
                capacity: Some(CapacityRequirements { requests: Some(asked) }),
                ..ExactDeviceRequest::default()
            }),
            ..DeviceRequest::default()
        };
        let devices = DeviceClaim { requests: Some(vec![request]), ..DeviceClaim::default() };
        let claim = ResourceClaim {
            metadata: ObjectMeta { generate_name: Some("orrery-probe-".to_owned()), ..ObjectMeta::default() },
            spec: ResourceClaimSpec { devices: Some(devices) },
            status: None,
        };
        let tried =
            self.api::<ResourceClaim>().create(&PostParams { dry_run: true, ..PostParams::default() }, &claim).await?;
        let requests = tried.spec.devices.and_then(|devices| devices.requests).unwrap_or_default();
        if requests.iter().any(|request| request.exactly.as_ref().is_some_and(|exactly| exactly.capacity.is_some())) {
            return Ok(());
        }
        let version = self.client.apiserver_version().await?.git_version;
        Err(Error::DropsCapacity { version })
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.place.namespace)
    }

    /// Objects of another namespace.
    pub(crate) fn elsewhere<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Objects of a kind that Kubernetes itself does not have.
    pub(crate) fn dynamic(&self, kind: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.place.namespace, kind)
    }

    pub(crate) fn everywhere<K: Resource<DynamicType = ()>>(&self) -> Api<K> {
        Api::all(self.client.clone())
    }

    /// Makes an object as it is said, whatever was there. Done twice, it is done once.
    pub(crate) async fn apply<K>(&self, api: &Api<K>, object: &K) -> Result<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        let params = PatchParams::apply(MANAGER).force();
        Ok(api.patch(&object.name_any(), &params, &Patch::Apply(object)).await?)
    }

    /// Deletes an object, if it is this one; false when it is not there any more.
    pub(crate) async fn delete<K>(
        &self,
        api: &Api<K>,
        name: &str,
        uid: Option<String>,
        grace: Option<u32>,
    ) -> Result<bool>
    where
        K: Clone + Debug + DeserializeOwned,
    {
        let preconditions = uid.map(|uid| Preconditions { uid: Some(uid), resource_version: None });
        let params = DeleteParams { grace_period_seconds: grace, preconditions, ..DeleteParams::default() };
        match api.delete(name, &params).await.map_err(Error::from) {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Begins to watch, and answers when everything was seen once.
    ///
    /// # Errors
    /// A watch ends before that.
    pub(crate) async fn watch(&self) -> Result<Watches> {
        let (mut tasks, changed) = (JoinSet::new(), Arc::new(Notify::new()));
        let watches = Watches {
            nodes: follow(&mut tasks, self.everywhere(), &changed),
            slices: follow(&mut tasks, self.everywhere(), &changed),
            classes: follow(&mut tasks, self.everywhere(), &changed),
            // Strangers' as well: what they hold is not free.
            claims: follow(&mut tasks, self.everywhere(), &changed),
            pods: follow(&mut tasks, self.everywhere(), &changed),
            changed,
            _tasks: tasks,
        };
        ready("nodes", &watches.nodes).await?;
        ready("resource slices", &watches.slices).await?;
        ready("device classes", &watches.classes).await?;
        ready("resource claims", &watches.claims).await?;
        ready("pods", &watches.pods).await?;
        Ok(watches)
    }
}

impl Watches {
    /// Everything as it is now.
    pub(crate) fn view(&self) -> View {
        View {
            nodes: self.nodes.state(),
            slices: self.slices.state(),
            classes: self.classes.state(),
            claims: self.claims.state(),
            pods: self.pods.state(),
        }
    }
}

/// A client with these credentials; nothing is asked yet.
pub(crate) async fn client(access: &Access) -> Result<Client> {
    static PROVIDER: Once = Once::new();
    // Whoever was first is right; TLS panics without one.
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    let mut config = config(access).await?;
    // Larger than any of our watches' time limit would break them; shorter would hide a server that hangs.
    config.connect_timeout = Some(READ_TIMEOUT);
    Ok(Client::try_from(config)?)
}

async fn config(access: &Access) -> Result<Config> {
    let Some(path) = &access.kubeconfig else {
        return Config::infer().await.map_err(|error| Error::Credentials(error.to_string()));
    };
    let read = Kubeconfig::read_from(path).map_err(|error| Error::Credentials(error.to_string()))?;
    let options = KubeConfigOptions::default();
    Config::from_custom_kubeconfig(read, &options).await.map_err(|error| Error::Credentials(error.to_string()))
}

/// A copy of all objects of a kind that is kept up to date; a watch that breaks begins again, with backoff.
fn follow<K>(tasks: &mut JoinSet<()>, api: Api<K>, changed: &Arc<Notify>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let stream = watcher(api, watcher::Config::default())
        .modify(|object: &mut K| {
            // Nobody reads it here, and it is most of an object.
            object.meta_mut().managed_fields = None;
        })
        .default_backoff()
        .reflect(writer)
        .touched_objects();
    let changed = Arc::clone(changed);
    tasks.spawn(stream.for_each(move |seen| {
        if let Err(error) = seen {
            tracing::warn!(error = %error, "a watch of Kubernetes broke");
        }
        changed.notify_one();
        std::future::ready(())
    }));
    store
}

async fn ready<K>(what: &'static str, store: &Store<K>) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store.wait_until_ready().await.map_err(|_| Error::Watch(what))
}
