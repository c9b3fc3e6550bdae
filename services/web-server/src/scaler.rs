//! KEDA's external scaler: how many schedulers and executors the work needs. See docs/AUTOSCALING.md for the formulae.
//!
//! It has a listener of its own, since KEDA presents a token in the message and not in a header, and answers from an
//! aggregate that is read once a second, however often it is asked. Refuses to scale anything itself.

use domain::executor_type::Backend;
use proto::externalscaler::{
    self as keda, GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec,
    MetricValue, ScaledObjectRef, external_scaler_server::ExternalScaler,
};
use rpc::auth::Token;
use runtime::watchdog::Beat;
use std::collections::HashMap;
use std::pin::Pin;
use std::time::Duration;
use store::Store;
use store::schedulers::{self, ClusterLoad};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, async_trait};

/// Between two reads of the aggregate.
const READ_INTERVAL: Duration = Duration::from_secs(1);
/// For one of them; without an answer there is no number.
const READ_MAX: Duration = Duration::from_secs(5);
/// Calls at once on one connection; KEDA has two for each object.
const STREAMS_MAX: u32 = 64;
/// Keys of `scalerMetadata` under which the token comes.
const TOKENS: [&str; 2] = ["token", "tokenFromEnv"];
/// Thousandths of an engine's time that one scheduler is meant to work.
const BUSY_PERMILLE: f64 = 600.0;

/// Serves KEDA.
pub(crate) struct Scaler {
    load: watch::Receiver<Option<ClusterLoad>>,
    token: Option<Token>,
}

/// What a scaled object scales.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Target {
    /// As many as keep each engine's working time below this.
    Schedulers { busy_permille: f64 },
    /// As many as have slots for what runs on their backend, and for what is ready and can run there.
    Executors { backend: Backend, slots: f64 },
}

impl Target {
    /// Reads `scalerMetadata`.
    fn of(metadata: &HashMap<String, String>) -> Result<Self, Status> {
        let number = |key: &str| {
            metadata.get(key).map(|text| {
                let value = text.parse::<f64>().ok().filter(|value| value.is_finite() && *value > 0.0);
                value.ok_or_else(|| Status::invalid_argument(format!("{key} must be a number above 0")))
            })
        };
        match metadata.get("target").map(String::as_str) {
            Some("schedulers") => {
                Ok(Self::Schedulers { busy_permille: number("busyPermille").transpose()?.unwrap_or(BUSY_PERMILLE) })
            }
            Some("executors") => match number("slots").transpose()? {
                Some(slots) => Ok(Self::Executors { backend: backend(metadata)?, slots }),
                None => Err(Status::invalid_argument("slots must say how many attempts one executor runs at once")),
            },
            _ => Err(Status::invalid_argument("target must be `schedulers` or `executors`")),
        }
    }

    fn metric(self) -> &'static str {
        match self {
            Self::Schedulers { .. } => "orrery-schedulers-busy-permille",
            Self::Executors { .. } => "orrery-executors-units",
        }
    }

    /// What one replica is meant to have of it.
    fn per_replica(self) -> f64 {
        match self {
            Self::Schedulers { busy_permille } => busy_permille,
            Self::Executors { slots, .. } => slots,
        }
    }

    /// What there is of it in all. What runs counts, so that a busy executor is never one too many.
    fn value(self, load: &ClusterLoad) -> i64 {
        match self {
            Self::Schedulers { .. } => load.busy_permille,
            Self::Executors { backend: Backend::Kubernetes, .. } => {
                load.ready_units_kubernetes + load.running_units_kubernetes
            }
            Self::Executors { backend: Backend::Process, .. } => {
                let ready = load.ready_units - load.ready_units_kubernetes;
                (ready + load.running_units - load.running_units_kubernetes).max(0)
            }
        }
    }

    /// Whether at least one is needed. Without a scheduler nothing starts, not even the work that would ask for one.
    fn is_active(self, load: &ClusterLoad) -> bool {
        match self {
            Self::Schedulers { .. } => true,
            Self::Executors { .. } => self.value(load) > 0,
        }
    }
}

/// Whose executors a scaled object scales: those that run attempts as processes, where it does not say.
fn backend(metadata: &HashMap<String, String>) -> Result<Backend, Status> {
    let Some(name) = metadata.get("backend") else { return Ok(Backend::Process) };
    let named = Backend::ALL.into_iter().find(|backend| backend.as_str() == name);
    named.ok_or_else(|| Status::invalid_argument("backend must be `process` or `kubernetes`"))
}

/// What KEDA presents. The value of a variable it passes on under the name of the key that names the variable, `tokenFromEnv`;
/// that value is a file's, of which the first line is sent.
fn presented(metadata: &HashMap<String, String>) -> &str {
    let text = TOKENS.iter().find_map(|key| metadata.get(*key)).map_or("", String::as_str);
    text.trim().lines().next().unwrap_or_default().trim()
}

impl Scaler {
    /// Listens to the aggregate until `draining`.
    pub(crate) fn start(store: Store, token: Option<Token>, draining: CancellationToken, beat: Beat) -> Self {
        let (sender, load) = watch::channel(None);
        tokio::spawn(async move { draining.run_until_cancelled(read(&store, &sender, beat)).await });
        Self { load, token }
    }

    /// Serves on `listener` until `draining`.
    pub(crate) async fn serve(self, listener: TcpListener, draining: CancellationToken) {
        let incoming = rpc::incoming::connections(listener, draining.clone());
        let served = tonic::transport::Server::builder()
            .max_concurrent_streams(STREAMS_MAX)
            .add_service(keda::external_scaler_server::ExternalScalerServer::new(self))
            .serve_with_incoming_shutdown(incoming, draining.cancelled_owned())
            .await;
        if let Err(error) = served {
            tracing::error!(error = runtime::exit::chain(&error), "the scaler failed; KEDA keeps the last numbers");
        }
    }

    fn target(&self, object: Option<&ScaledObjectRef>) -> Result<Target, Status> {
        let nothing = HashMap::new();
        let metadata = object.map_or(&nothing, |object| &object.scaler_metadata);
        if self.token.as_ref().is_some_and(|token| !token.accepts(presented(metadata).as_bytes())) {
            return Err(Status::unauthenticated("scalerMetadata must hold the token of the scaler; use tokenFromEnv"));
        }
        Target::of(metadata)
    }

    /// The aggregate. KEDA keeps what it has when there is none.
    fn load(&self) -> Result<ClusterLoad, Status> {
        (*self.load.borrow()).ok_or_else(|| Status::unavailable("the database does not answer"))
    }
}

/// Keeps the aggregate fresh. An old one is withdrawn: nobody is scaled by a number from before a fault.
async fn read(store: &Store, sender: &watch::Sender<Option<ClusterLoad>>, beat: Beat) {
    let mut interval = tokio::time::interval(READ_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        beat.beat();
        let fresh = match tokio::time::timeout(READ_MAX, store.watched(schedulers::sum_load(store))).await {
            Ok(Ok(load)) => Some(load),
            Ok(Err(error)) => {
                tracing::warn!(error = runtime::exit::chain(&error), "failed to read how much there is to do");
                None
            }
            Err(_) => {
                tracing::warn!("the database does not say how much there is to do");
                None
            }
        };
        sender.send_if_modified(|load| std::mem::replace(load, fresh) != fresh);
    }
}

type Stream<T> = Pin<Box<dyn futures_util::Stream<Item = Result<T, Status>> + Send>>;

#[async_trait]
impl ExternalScaler for Scaler {
    type StreamIsActiveStream = Stream<IsActiveResponse>;
    type StreamMetricSpecStream = Stream<GetMetricSpecResponse>;

    async fn is_active(&self, request: Request<ScaledObjectRef>) -> Result<Response<IsActiveResponse>, Status> {
        let target = self.target(Some(request.get_ref()))?;
        Ok(Response::new(IsActiveResponse { result: target.is_active(&self.load()?) }))
    }

    /// Tells the state at once, and each change of it: the first ready unit wakes executors that were scaled to zero.
    async fn stream_is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamIsActiveStream>, Status> {
        let target = self.target(Some(request.get_ref()))?;
        let states = futures_util::stream::unfold((self.load.clone(), None), move |(mut load, told)| async move {
            loop {
                let state = load.borrow_and_update().map(|load| target.is_active(&load));
                if state.is_some() && state != told {
                    let result = state.unwrap_or_default();
                    return Some((Ok(IsActiveResponse { result }), (load, state)));
                }
                // The reader of the aggregate ends when this server drains.
                load.changed().await.ok()?;
            }
        });
        Ok(Response::new(Box::pin(states)))
    }

    async fn get_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        let target = self.target(Some(request.get_ref()))?;
        let size = target.per_replica();
        #[expect(clippy::cast_possible_truncation, reason = "the older field, for older KEDAs")]
        let spec = MetricSpec {
            metric_name: target.metric().to_owned(),
            target_size: size.round().max(1.0) as i64,
            target_size_float: size,
        };
        Ok(Response::new(GetMetricSpecResponse { metric_specs: vec![spec] }))
    }

    async fn get_metrics(&self, request: Request<GetMetricsRequest>) -> Result<Response<GetMetricsResponse>, Status> {
        let target = self.target(request.get_ref().scaled_object_ref.as_ref())?;
        let value = target.value(&self.load()?);
        #[expect(clippy::cast_precision_loss, reason = "a number of units")]
        let metric_value_float = value as f64;
        // Zero as a float means to KEDA that the other field counts: both say the same.
        let value = MetricValue { metric_name: target.metric().to_owned(), metric_value: value, metric_value_float };
        Ok(Response::new(GetMetricsResponse { metric_values: vec![value] }))
    }

    /// The specification depends on the object alone, so polling gives the same.
    async fn stream_metric_spec(
        &self,
        _: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamMetricSpecStream>, Status> {
        Err(Status::unimplemented("the specification of a metric does not change; poll GetMetricSpec"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn scaler(load: Option<ClusterLoad>) -> (watch::Sender<Option<ClusterLoad>>, Scaler) {
        let (sender, receiver) = watch::channel(load);
        (sender, Scaler { load: receiver, token: Token::new("a-token-of-sufficient-length").ok() })
    }

    fn object(pairs: &[(&str, &str)]) -> ScaledObjectRef {
        let mut scaler_metadata = metadata(pairs);
        scaler_metadata.insert("token".to_owned(), "a-token-of-sufficient-length".to_owned());
        ScaledObjectRef { scaler_metadata, ..ScaledObjectRef::default() }
    }

    const EXECUTORS: &[(&str, &str)] = &[("target", "executors"), ("slots", "4")];

    #[tokio::test]
    async fn executors_are_for_what_runs_and_what_is_ready() {
        let load = ClusterLoad { ready_units: 7, running_units: 3, ..ClusterLoad::default() };
        let (_sender, scaler) = scaler(Some(load));
        let request = GetMetricsRequest { scaled_object_ref: Some(object(EXECUTORS)), metric_name: String::new() };
        let value = scaler.get_metrics(Request::new(request)).await.unwrap().into_inner().metric_values.remove(0);
        let spec = scaler.get_metric_spec(Request::new(object(EXECUTORS))).await.unwrap().into_inner();
        assert_eq!((value.metric_value, value.metric_value_float), (10, 10.0));
        assert_eq!(spec.metric_specs[0].target_size_float, 4.0);
        assert_eq!(spec.metric_specs[0].metric_name, value.metric_name);
    }

    /// 200 blocks on Kubernetes are no reason for one pod that runs processes, and the other way round.
    #[tokio::test]
    async fn executors_of_each_backend_are_for_what_can_run_there() {
        const JOBS: &[(&str, &str)] = &[("target", "executors"), ("slots", "4"), ("backend", "kubernetes")];
        const PROCESSES: &[(&str, &str)] = &[("target", "executors"), ("slots", "4"), ("backend", "process")];
        let on_kubernetes = ClusterLoad {
            ready_units: 5,
            running_units: 200,
            ready_units_kubernetes: 5,
            running_units_kubernetes: 200,
            ..ClusterLoad::default()
        };
        let mixed = ClusterLoad { ready_units: 9, running_units: 203, ..on_kubernetes };
        for (load, processes, jobs) in [(on_kubernetes, 0, 205), (mixed, 7, 205)] {
            let (_sender, scaler) = scaler(Some(load));
            for (of, expected) in [(EXECUTORS, processes), (PROCESSES, processes), (JOBS, jobs)] {
                let request = GetMetricsRequest { scaled_object_ref: Some(object(of)), metric_name: String::new() };
                let values = scaler.get_metrics(Request::new(request)).await.unwrap().into_inner().metric_values;
                assert_eq!(values[0].metric_value, expected, "{of:?}");
                let active = scaler.is_active(Request::new(object(of))).await.unwrap().into_inner().result;
                assert_eq!(active, expected > 0, "{of:?}");
            }
        }
    }

    #[tokio::test]
    async fn nothing_to_do_needs_no_executor_and_a_scheduler() {
        let (_sender, scaler) = scaler(Some(ClusterLoad::default()));
        let active = async |object| scaler.is_active(Request::new(object)).await.unwrap().into_inner().result;
        assert!(!active(object(EXECUTORS)).await);
        assert!(active(object(&[("target", "schedulers")])).await);
    }

    #[tokio::test]
    async fn the_first_ready_unit_is_told_at_once() {
        use futures_util::StreamExt;
        let (sender, scaler) = scaler(Some(ClusterLoad::default()));
        let mut states = scaler.stream_is_active(Request::new(object(EXECUTORS))).await.unwrap().into_inner();
        assert!(!states.next().await.unwrap().unwrap().result);
        sender.send_replace(Some(ClusterLoad { ready_units: 1, ..ClusterLoad::default() }));
        assert!(states.next().await.unwrap().unwrap().result);
        drop(sender);
        assert!(states.next().await.is_none());
    }

    /// KEDA's `parseExternalScalerMetadata` puts the variable's value in place of its name, and leaves the key as it is.
    #[tokio::test]
    async fn the_token_of_a_variable_comes_under_the_key_that_names_it() {
        let (_sender, scaler) = scaler(Some(ClusterLoad::default()));
        let come = async |key: &str, value: &str| {
            let mut scaler_metadata = metadata(EXECUTORS);
            scaler_metadata.insert(key.to_owned(), value.to_owned());
            let object = ScaledObjectRef { scaler_metadata, ..ScaledObjectRef::default() };
            scaler.is_active(Request::new(object)).await.map_err(|status| status.code()).map(drop)
        };
        for value in
            ["a-token-of-sufficient-length", "a-token-of-sufficient-length\n", "a-token-of-sufficient-length\nold"]
        {
            assert_eq!(come("tokenFromEnv", value).await, Ok(()), "{value}");
        }
        assert_eq!(come("token", "a-token-of-sufficient-length").await, Ok(()));
        for (key, value) in
            [("tokenFromEnv", "KEDA_SCALER_TOKEN"), ("tokenFromEnv", ""), ("other", "a-token-of-sufficient-length")]
        {
            assert_eq!(come(key, value).await, Err(tonic::Code::Unauthenticated), "{key}={value}");
        }
    }

    #[tokio::test]
    async fn strangers_and_nonsense_are_refused() {
        let (_sender, scaler) = scaler(None);
        let stranger = ScaledObjectRef { scaler_metadata: metadata(EXECUTORS), ..ScaledObjectRef::default() };
        let refused = async |object| scaler.is_active(Request::new(object)).await.unwrap_err().code();
        assert_eq!(refused(stranger).await, tonic::Code::Unauthenticated);
        assert_eq!(refused(object(&[("target", "pods")])).await, tonic::Code::InvalidArgument);
        assert_eq!(refused(object(&[("target", "executors"), ("slots", "0")])).await, tonic::Code::InvalidArgument);
        let elsewhere = object(&[("target", "executors"), ("slots", "4"), ("backend", "ecs")]);
        assert_eq!(refused(elsewhere).await, tonic::Code::InvalidArgument);
        assert_eq!(refused(object(EXECUTORS)).await, tonic::Code::Unavailable, "no number is better than a wrong one");
    }
}
