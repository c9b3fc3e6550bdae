//! The parts of a process together: signals, drain, readiness and the pages beside it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use opentelemetry_proto::tonic::{
    collector::metrics::v1::{
        ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        metrics_service_server::{MetricsService, MetricsServiceServer},
    },
    metrics::v1::{Metric, NumberDataPoint, metric::Data, number_data_point::Value},
};
use runtime::{
    admin,
    health::Health,
    shutdown::Shutdown,
    telemetry::{Telemetry, TelemetrySettings},
};
use std::{collections::BTreeMap, io::Write as _, net::SocketAddr, process::Command, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{Mutex, watch},
    time::timeout,
};

const SOON: Duration = Duration::from_secs(10);
const LATE: Duration = Duration::from_secs(3600);

/// A loopback address that nothing else listens on, and that no connection starts from: a port that was let go
/// on 127.0.0.1 is soon another process's, and what connects to it may even be given that very port and meet
/// itself.
const OWN_LOOPBACK: [u8; 4] = [127, 0, 114, 1];

/// Signals reach every listener of the process: one test at a time sends them.
static SIGNALS: Mutex<()> = Mutex::const_new(());

fn send(signal: &str) {
    let pid = std::process::id().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
}

#[tokio::test]
async fn a_signal_drains_and_a_second_one_stops() {
    let _alone = SIGNALS.lock().await;
    let shutdown = Shutdown::listen(LATE).unwrap();
    let health = Health::until(&shutdown);
    assert!(health.is_ready() && !shutdown.is_draining());
    send("-TERM");
    timeout(SOON, shutdown.draining()).await.unwrap();
    assert!(!health.is_ready() && !shutdown.is_stopped());
    send("-INT");
    timeout(SOON, shutdown.stopped()).await.unwrap();
    assert!(shutdown.is_cut_short());
}

#[tokio::test]
async fn a_second_signal_also_ends_the_delay() {
    let _alone = SIGNALS.lock().await;
    let shutdown = Shutdown::listen_after(LATE, LATE).unwrap();
    let mut ready = Health::until(&shutdown).subscribe();
    send("-TERM");
    timeout(SOON, ready.wait_for(|ready| !ready)).await.unwrap().unwrap();
    assert!(!shutdown.is_draining());
    send("-TERM");
    timeout(SOON, shutdown.stopped()).await.unwrap();
    assert!(shutdown.is_draining());
}

#[tokio::test]
async fn the_drain_has_an_end() {
    let _alone = SIGNALS.lock().await;
    let shutdown = Shutdown::listen(Duration::from_millis(20)).unwrap();
    shutdown.drain();
    timeout(SOON, shutdown.stopped()).await.unwrap();
    assert!(shutdown.is_cut_short());
}

#[tokio::test]
async fn what_was_drained_in_time_is_not_cut_short() {
    let _alone = SIGNALS.lock().await;
    let shutdown = Shutdown::listen(LATE).unwrap();
    send("-TERM");
    timeout(SOON, shutdown.draining()).await.unwrap();
    shutdown.stop();
    assert!(!shutdown.is_cut_short());
}

async fn get(addr: SocketAddr, path: &str, header: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn pages_tell_health_and_metrics() {
    let (shutdown, telemetry) =
        (Shutdown::new(), Telemetry::detached("sample", &TelemetrySettings::default()).unwrap());
    let health = Health::until(&shutdown);
    let postgres = health.condition("postgres");
    telemetry.meter("sample").u64_counter("firings").build().add(3, &[]);
    let loopback = SocketAddr::from((OWN_LOOPBACK, 0));
    let server = admin::serve(loopback, health, telemetry, shutdown.clone()).await.unwrap();
    let addr = server.addr();
    assert_eq!(get(addr, "/livez", "").await.0, 200);
    assert_eq!(get(addr, "/readyz", "").await, (503, "postgres: not established yet\n".to_owned()));
    postgres.hold();
    assert_eq!(get(addr, "/readyz", "").await.0, 200);
    let (status, metrics) = get(addr, "/metrics", "").await;
    assert!(status == 200 && metrics.lines().any(|l| l.starts_with("firings_total") && l.ends_with(" 3")), "{metrics}");
    shutdown.drain();
    let (status, reasons) = get(addr, "/readyz", "").await;
    assert!(status == 503 && reasons.starts_with("draining:"), "{reasons}");
    assert_eq!(get(addr, "/livez", "").await.0, 200);
    shutdown.stop();
    timeout(SOON, server.join()).await.unwrap();
    assert!(TcpStream::connect(addr).await.is_err());
}

/// What a collector was told last: by name, the sum of its points.
#[derive(Clone)]
struct Collector(watch::Sender<BTreeMap<String, f64>>);

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, tonic::Status> {
        let of_process = request.into_inner().resource_metrics.remove(0);
        assert!(of_process.resource.unwrap().attributes.iter().any(|a| a.key == "service.name"));
        let metrics = of_process.scope_metrics.into_iter().flat_map(|scope| scope.metrics);
        self.0.send_replace(metrics.map(|metric| (metric.name.clone(), sum(&metric))).collect());
        Ok(tonic::Response::new(ExportMetricsServiceResponse::default()))
    }
}

fn sum(metric: &Metric) -> f64 {
    let number = |point: &NumberDataPoint| match point.value {
        Some(Value::AsDouble(value)) => value,
        _ => f64::NAN,
    };
    match metric.data.as_ref().unwrap() {
        Data::Sum(sum) => sum.data_points.iter().map(number).sum(),
        Data::Gauge(gauge) => gauge.data_points.iter().map(number).sum(),
        Data::Histogram(histogram) => {
            let point = &histogram.data_points[0];
            assert_eq!((&point.bucket_counts[..], &point.explicit_bounds[..]), (&[1, 1, 1][..], &[0.1, 1.0][..]));
            point.sum.unwrap()
        }
        _ => f64::NAN,
    }
}

#[tokio::test]
async fn a_collector_is_told_what_the_page_shows() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (told, mut seen) = watch::channel(BTreeMap::new());
    let server = tonic::transport::Server::builder().add_service(MetricsServiceServer::new(Collector(told)));
    tokio::spawn(server.serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)));
    let settings = TelemetrySettings { otlp_endpoint: Some(endpoint), ..TelemetrySettings::default() };
    let telemetry = Telemetry::detached("sample", &settings).unwrap();
    timeout(SOON, seen.changed()).await.unwrap().unwrap();

    // Of both libraries: what goes by the meter, and what is registered beside it.
    telemetry.meter("sample").u64_counter("firings").build().add(3, &[]);
    let waiting = prometheus::IntGauge::new("waiting", "how many wait").unwrap();
    waiting.set(7);
    let took = prometheus::HistogramOpts::new("took", "how long it took").buckets(vec![0.1, 1.0]);
    let took = prometheus::Histogram::with_opts(took).unwrap();
    [0.05, 0.5, 5.0].into_iter().for_each(|seconds| took.observe(seconds));
    telemetry.registry().register(Box::new(waiting)).unwrap();
    telemetry.registry().register(Box::new(took)).unwrap();
    telemetry.shutdown().await;
    let seen = seen.borrow().clone();
    assert_eq!((seen["firings_total"], seen["waiting"], seen["took"]), (3.0, 7.0, 5.55), "{seen:?}");
}

/// A token is rotated without a pause: each line of its file is one.
#[tokio::test]
async fn every_line_of_the_metrics_token_opens_the_page_and_nothing_else_does() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"the-new-token\n\n the-old-token \r\n").unwrap();
    let settings = TelemetrySettings { metrics_token_file: Some(file.path().into()), ..TelemetrySettings::default() };
    let telemetry = Telemetry::detached("sample", &settings).unwrap();
    let shutdown = Shutdown::new();
    let loopback = "127.0.0.1:0".parse().unwrap();
    let server = admin::serve(loopback, Health::new(), telemetry, shutdown.clone()).await.unwrap();
    for (token, expected) in
        [("the-new-token", 200), ("the-old-token", 200), ("", 401), ("the-new-token\tthe-old-token", 401), ("the", 401)]
    {
        let header = format!("Authorization: Bearer {token}\r\n");
        assert_eq!(get(server.addr(), "/metrics", &header).await.0, expected, "{token}");
    }
    shutdown.stop();
}

#[tokio::test]
async fn metrics_beyond_loopback_need_a_token() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"a-long-token\n").unwrap();
    let guarded = TelemetrySettings { metrics_token_file: Some(file.path().into()), ..TelemetrySettings::default() };
    let everywhere = "0.0.0.0:0".parse().unwrap();
    for (settings, expected) in [(TelemetrySettings::default(), [403, 403, 403]), (guarded, [401, 401, 200])] {
        let shutdown = Shutdown::new();
        let telemetry = Telemetry::detached("sample", &settings).unwrap();
        let server = admin::serve(everywhere, Health::new(), telemetry, shutdown.clone()).await.unwrap();
        let addr = SocketAddr::from(([127, 0, 0, 1], server.addr().port()));
        let mut seen = Vec::new();
        for header in ["", "Authorization: Bearer a-long-tokem\r\n", "Authorization: Bearer a-long-token\r\n"] {
            seen.push(get(addr, "/metrics", header).await.0);
        }
        assert_eq!(seen, expected);
        assert_eq!(get(addr, "/readyz", "").await.0, 200);
        shutdown.stop();
    }
}
