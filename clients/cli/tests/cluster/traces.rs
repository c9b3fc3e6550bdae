//! One trace from the API call to the attempt on the executor, as a collector sees it.

use crate::{
    cluster::Cluster,
    project::step,
    wait,
    workspace::{SOON, Workspace},
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener,
    sync::{Arc, Mutex},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// Names of spans by trace and service.
type Seen = BTreeMap<Vec<u8>, BTreeMap<String, BTreeSet<String>>>;

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Seen>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut seen = self.0.lock().unwrap();
        for of_process in request.into_inner().resource_spans {
            let attributes = of_process.resource.map(|r| r.attributes).unwrap_or_default();
            let name = attributes.into_iter().find(|a| a.key == "service.name");
            let name = name.and_then(|a| a.value?.value).and_then(|v| match v {
                Value::StringValue(name) => Some(name),
                _ => None,
            });
            let name = name.unwrap_or_default();
            for span in of_process.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                seen.entry(span.trace_id).or_default().entry(name.clone()).or_default().insert(span.name);
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Serves on a port of its own until the process ends.
    fn start(&self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        let service = TraceServiceServer::new(self.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let incoming = TcpListenerStream::new(tokio::net::TcpListener::from_std(listener).unwrap());
                tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
            });
        });
        port
    }
}

#[test]
fn a_run_is_one_trace_from_the_call_to_the_attempt() {
    let collector = Collector::default();
    let endpoint = format!("http://127.0.0.1:{}", collector.start());
    let cluster = Cluster::traced(endpoint);
    let code = "import os\n@data_loader\ndef f(*args, **kwargs):\n    print('of', os.environ['TRACEPARENT'])\n";
    let workspace = Workspace::with_pipeline(cluster, "traced", "", &[step("data_loader", "load", code)]);
    let run = workspace.run("p").completed();
    let log = workspace.logged(&run, "of 00-");
    let (_, rest) = log.split_once("of 00-").unwrap();
    let id = rest[..32].to_owned();
    let services = ["orrery-web-server", "orrery-scheduler", "orrery-executor"];
    let trace = wait::until("a trace through all services", SOON, || {
        let seen = collector.0.lock().unwrap();
        let trace = seen.iter().find(|(trace, _)| hex(trace) == id).map(|(_, services)| services.clone());
        trace.filter(|trace| services.iter().all(|service| trace.contains_key(*service)))
    });
    assert!(trace["orrery-executor"].contains("attempt"), "{trace:#?}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
