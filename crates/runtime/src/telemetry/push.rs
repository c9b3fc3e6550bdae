//! Metrics on their way to a collector: what `/metrics` shows, by OTLP, at regular intervals and a last time at the end.
//!
//! One registry is the truth, whichever library an instrument is of. Refuses to know what is measured.

use opentelemetry::KeyValue;
use opentelemetry_proto::tonic::{
    collector::metrics::v1::{ExportMetricsServiceRequest, metrics_service_client::MetricsServiceClient},
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
        ScopeMetrics, Sum, metric::Data, number_data_point::Value,
    },
};
use opentelemetry_sdk::Resource;
use prometheus::{Registry, proto as model};
use std::{
    error::Error,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

/// Between two reports.
const INTERVAL: Duration = Duration::from_secs(15);
/// The longest that one report may take, a connection included.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);

type Failure = Box<dyn Error + Send + Sync>;

/// Sends reports until it is told to end. Copies share the sending.
#[derive(Debug, Clone)]
pub(super) struct Pusher {
    ending: CancellationToken,
    ended: CancellationToken,
}

impl Pusher {
    /// Begins to send. Must be called inside a tokio runtime.
    pub(super) fn start(endpoint: String, resource: &Resource, registry: Registry) -> Self {
        let pusher = Self { ending: CancellationToken::new(), ended: CancellationToken::new() };
        let report = Report { resource: resource.into(), registry, since: nanos() };
        tokio::spawn(push(endpoint, report, pusher.clone()));
        pusher
    }

    /// Sends a last report and ends; gives up after the time of one.
    pub(super) async fn end(self) {
        self.ending.cancel();
        self.ended.cancelled().await;
    }
}

/// A collector that is away is told of once, and again when it is back.
async fn push(endpoint: String, report: Report, pusher: Pusher) {
    let _ended = pusher.ended.drop_guard();
    let mut tick = interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut kept, mut is_away) = (None, false);
    let mut is_last = false;
    while !is_last {
        tokio::select! {
            () = pusher.ending.cancelled() => is_last = true,
            _ = tick.tick() => {}
        }
        let sent = timeout(REPORT_TIMEOUT, async {
            let mut client = match kept.take() {
                Some(client) => client,
                None => MetricsServiceClient::connect(endpoint.clone()).await?,
            };
            client.export(report.now()).await?;
            Ok::<_, Failure>(client)
        });
        let sent = sent.await.unwrap_or_else(|late| Err(late.into()));
        match &sent {
            Ok(_) if is_away => tracing::info!(endpoint, "the collector takes metrics again"),
            Err(error) if !is_away => {
                tracing::warn!(endpoint, error = crate::exit::chain(error.as_ref()), "failed to send metrics");
            }
            Ok(_) | Err(_) => {}
        }
        is_away = sent.is_err();
        kept = sent.ok();
    }
}

/// What one report says, and since when its counters count.
struct Report {
    resource: opentelemetry_proto::tonic::resource::v1::Resource,
    registry: Registry,
    since: u64,
}

impl Report {
    fn now(&self) -> ExportMetricsServiceRequest {
        let at = Instant { since: self.since, now: nanos() };
        let metrics = self.registry.gather().iter().filter_map(|family| at.metric(family)).collect();
        let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
        let of_process =
            ResourceMetrics { resource: Some(self.resource.clone()), scope_metrics, ..ResourceMetrics::default() };
        ExportMetricsServiceRequest { resource_metrics: vec![of_process] }
    }
}

/// The span that the points of one report are for, in nanoseconds since 1970.
#[derive(Clone, Copy)]
struct Instant {
    since: u64,
    now: u64,
}

impl Instant {
    /// `None` for the kinds that nothing here uses: quantiles, which cannot be added up, and what has no kind.
    fn metric(self, family: &model::MetricFamily) -> Option<Metric> {
        let temporality = AggregationTemporality::Cumulative.into();
        let numbers = |value: fn(&model::Metric) -> f64| {
            family.get_metric().iter().map(|metric| self.number(metric, value(metric))).collect()
        };
        let data = match family.get_field_type() {
            model::MetricType::COUNTER => Data::Sum(Sum {
                data_points: numbers(|metric| metric.get_counter().get_value()),
                aggregation_temporality: temporality,
                is_monotonic: true,
            }),
            model::MetricType::GAUGE => {
                Data::Gauge(Gauge { data_points: numbers(|metric| metric.get_gauge().get_value()) })
            }
            model::MetricType::HISTOGRAM => Data::Histogram(Histogram {
                data_points: family.get_metric().iter().map(|metric| self.histogram(metric)).collect(),
                aggregation_temporality: temporality,
            }),
            model::MetricType::SUMMARY | model::MetricType::UNTYPED => return None,
        };
        let (name, description) = (family.name().to_owned(), family.help().to_owned());
        Some(Metric { name, description, data: Some(data), ..Metric::default() })
    }

    fn number(self, metric: &model::Metric, value: f64) -> NumberDataPoint {
        NumberDataPoint {
            attributes: attributes(metric),
            start_time_unix_nano: self.since,
            time_unix_nano: self.now,
            value: Some(Value::AsDouble(value)),
            ..NumberDataPoint::default()
        }
    }

    /// Prometheus counts what is up to a bound; OTLP what is between two, the last bucket being without one.
    fn histogram(self, metric: &model::Metric) -> HistogramDataPoint {
        let histogram = metric.get_histogram();
        let bounded = || histogram.get_bucket().iter().filter(|bucket| bucket.upper_bound().is_finite());
        let count = histogram.get_sample_count();
        let mut below = 0;
        let up_to = bounded().map(model::Bucket::cumulative_count).chain([count]);
        let bucket_counts = up_to.map(|up_to| up_to.saturating_sub(std::mem::replace(&mut below, up_to))).collect();
        HistogramDataPoint {
            attributes: attributes(metric),
            start_time_unix_nano: self.since,
            time_unix_nano: self.now,
            count,
            sum: Some(histogram.get_sample_sum()),
            bucket_counts,
            explicit_bounds: bounded().map(model::Bucket::upper_bound).collect(),
            ..HistogramDataPoint::default()
        }
    }
}

fn attributes(metric: &model::Metric) -> Vec<opentelemetry_proto::tonic::common::v1::KeyValue> {
    let labels = metric.get_label().iter();
    labels.map(|label| (&KeyValue::new(label.name().to_owned(), label.value().to_owned())).into()).collect()
}

/// A clock before 1970 is none, one after 2554 neither.
fn nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or_default()
}
