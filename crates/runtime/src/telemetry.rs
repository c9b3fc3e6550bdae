//! Logs, traces and metrics of a process. Refuses to know what is measured.

mod push;

use crate::secret::{Secret, SecretError};
use opentelemetry::{KeyValue, global, trace::TracerProvider as _};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    metrics::SdkMeterProvider,
    propagation::TraceContextPropagator,
    trace::{SdkTracer, SdkTracerProvider},
};
use prometheus::{Encoder as _, TextEncoder};
use push::Pusher;
use serde::{Deserialize, Serialize};
use std::{io::IsTerminal as _, path::PathBuf};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// The exporter speaks gRPC itself: tracing its own calls would never end.
const NOT_TRACED: &str = "h2=off,hyper=off,hyper_util=off,tonic=off,tower=off,opentelemetry=off";

/// How a process tells what it does.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct TelemetrySettings {
    /// The log.
    pub log: Log,
    /// Where traces and metrics are sent by OTLP.
    pub otlp_endpoint: Option<String>,
    /// The token that a reader of `/metrics` must have.
    pub metrics_token_file: Option<PathBuf>,
}

/// The log of a process; it goes to stderr, since stdout belongs to what a command prints.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Log {
    /// Directives of `tracing_subscriber::EnvFilter`.
    pub filter: String,
    /// The form of a line.
    pub format: Format,
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: Format::Auto }
    }
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Human on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// For eyes.
    Human,
    /// One object a line.
    Json,
}

/// What must be flushed before the process ends, and what `/metrics` shows. Copies share it.
#[derive(Debug, Clone)]
pub struct Telemetry {
    registry: prometheus::Registry,
    meter: SdkMeterProvider,
    tracer: Option<SdkTracerProvider>,
    pusher: Option<Pusher>,
    metrics_token: Option<Secret>,
}

/// Starts logs, traces and metrics of this process. Once per process, inside a tokio runtime.
///
/// # Errors
/// A filter or endpoint that cannot be understood, a token file that cannot be read, or a second call.
pub fn init(service: &'static str, settings: &TelemetrySettings) -> Result<Telemetry, TelemetryError> {
    let filter = EnvFilter::try_new(&settings.log.filter)
        .map_err(|e| TelemetryError::Filter { filter: settings.log.filter.clone(), source: e.into() })?;
    let telemetry = Telemetry::build(service, settings)?;
    let traces = telemetry.tracer.as_ref().map(|provider| traces(provider.tracer(service)));
    tracing_subscriber::registry()
        .with(lines(settings.log.format).with_filter(filter))
        .with(traces)
        .try_init()
        .map_err(|e| TelemetryError::Twice(e.into()))?;
    global::set_meter_provider(telemetry.meter.clone());
    global::set_text_map_propagator(TraceContextPropagator::new());
    Ok(telemetry)
}

fn traces<S>(tracer: SdkTracer) -> impl Layer<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    tracing_opentelemetry::layer().with_tracer(tracer).with_filter(EnvFilter::new(format!("info,{NOT_TRACED}")))
}

fn lines<S>(format: Format) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let terminal = std::io::stderr().is_terminal();
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    if format == Format::Json || (format == Format::Auto && !terminal) {
        layer.json().flatten_event(true).boxed()
    } else {
        layer.with_ansi(terminal).boxed()
    }
}

impl Telemetry {
    /// Metrics without a log and without a place among the process's globals; for tests. With an `otlp_endpoint`, to be
    /// called inside a tokio runtime.
    ///
    /// # Errors
    /// As `init`.
    pub fn detached(service: &'static str, settings: &TelemetrySettings) -> Result<Self, TelemetryError> {
        Self::build(service, settings)
    }

    fn build(service: &'static str, settings: &TelemetrySettings) -> Result<Self, TelemetryError> {
        let process = KeyValue::new("service.instance.id", i64::from(std::process::id()));
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder().with_service_name(service).with_attributes([process, version]).build();
        let registry = prometheus::Registry::new();
        let pulled = opentelemetry_prometheus::exporter().with_registry(registry.clone()).build();
        let pulled = pulled.map_err(|e| TelemetryError::Metrics(e.into()))?;
        let meter = SdkMeterProvider::builder().with_resource(resource.clone()).with_reader(pulled).build();
        let metrics_token = settings.metrics_token_file.as_deref().map(Secret::from_file).transpose()?;
        let (mut tracer, mut pusher) = (None, None);
        if let Some(endpoint) = &settings.otlp_endpoint {
            let fail = |e| TelemetryError::Endpoint { endpoint: endpoint.clone(), source: Box::new(e) };
            let spans = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build().map_err(fail)?;
            // Not by the meter: it knows only its own instruments, and collectors may be registered beside it.
            pusher = Some(Pusher::start(endpoint.clone(), &resource, registry.clone()));
            tracer = Some(SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(spans).build());
        }
        Ok(Self { registry, meter, tracer, pusher, metrics_token })
    }

    /// What `/metrics` shows; collectors of one's own may be registered here.
    #[must_use]
    pub fn registry(&self) -> &prometheus::Registry {
        &self.registry
    }

    /// Where instruments come from. After `init` also `opentelemetry::global::meter`.
    #[must_use]
    pub fn meter(&self, scope: &'static str) -> opentelemetry::metrics::Meter {
        opentelemetry::metrics::MeterProvider::meter(&self.meter, scope)
    }

    /// The token that a reader of `/metrics` must have.
    pub(crate) fn metrics_token(&self) -> Option<&Secret> {
        self.metrics_token.as_ref()
    }

    /// Everything measured so far, in the text form of Prometheus.
    ///
    /// # Errors
    /// When a registered collector gives invalid families.
    pub fn metrics_text(&self) -> Result<String, TelemetryError> {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .map_err(|e| TelemetryError::Metrics(Box::new(e)))?;
        String::from_utf8(text).map_err(|e| TelemetryError::Metrics(Box::new(e)))
    }

    /// Sends what is still buffered. The last call of `main`; each exporter gives up after its own time limit.
    pub async fn shutdown(self) {
        if let Some(pusher) = self.pusher {
            pusher.end().await;
        }
        // The exporters block while they flush, and need the runtime's threads meanwhile.
        let flush = tokio::task::spawn_blocking(move || {
            let tracer = self.tracer.map(|tracer| tracer.shutdown());
            (tracer, self.meter.shutdown())
        });
        match flush.await {
            Ok((tracer, meter)) => {
                let failures = [tracer.and_then(Result::err), meter.err()];
                failures.into_iter().flatten().for_each(|error| tracing::warn!(%error, "failed to flush telemetry"));
            }
            Err(error) => tracing::warn!(%error, "failed to flush telemetry"),
        }
    }
}

/// Telemetry could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// `log.filter` cannot be understood.
    #[error(
        "failed to understand log.filter `{filter}`; write a level such as info, or directives such as info,h2=off"
    )]
    Filter {
        /// As it was written.
        filter: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// `otlp_endpoint` cannot be used.
    #[error("failed to use otlp_endpoint `{endpoint}`; write a URI such as http://collector:4317")]
    Endpoint {
        /// As it was written.
        endpoint: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The token of `/metrics` cannot be read.
    #[error(transparent)]
    Token(#[from] SecretError),
    /// Metrics cannot be gathered.
    #[error("failed to gather metrics")]
    Metrics(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Telemetry was started before in this process.
    #[error("failed to start telemetry twice in one process")]
    Twice(#[source] Box<dyn std::error::Error + Send + Sync>),
}
