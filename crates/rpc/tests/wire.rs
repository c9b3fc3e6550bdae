//! A server and its clients over real connections.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use domain::ErrorKind;
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use proto::internal::v1::{
    CancelRunRequest, CancelRunResponse, ChangeBackfillRequest, ChangeBackfillResponse, CleanLogsRequest,
    CleanLogsResponse, CreateBackfillRequest, CreateBackfillResponse, CreateRunsRequest, CreateRunsResponse,
    ExpireOutputsRequest, ExpireOutputsResponse, ResumeAttemptRequest, ResumeAttemptResponse, RetryRunRequest,
    RetryRunResponse, TestNotificationRequest, TestNotificationResponse, WatchChangesRequest, WatchChangesResponse,
    command_service_client::CommandServiceClient,
    command_service_server::{CommandService, CommandServiceServer},
};
use rpc::{
    auth::Token,
    client::{self, Channel, Dialer, within},
    deadline::Deadline,
    server::{Builder, Limits, ServeError, bind},
    status::Problem,
    trace::RequestId,
};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{oneshot, watch},
    task::JoinHandle,
    time::timeout,
};
use tonic::{Request, Response, Status};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::layer::SubscriberExt as _;

const SOON: Duration = Duration::from_secs(10);

/// Does what the reason of a cancellation says.
#[derive(Debug, Clone)]
struct Commands {
    /// Lets go of the calls that wait.
    released: watch::Receiver<bool>,
    /// How many calls wait.
    waiting: watch::Sender<usize>,
}

#[tonic::async_trait]
impl CommandService for Commands {
    async fn create_runs(&self, request: Request<CreateRunsRequest>) -> Result<Response<CreateRunsResponse>, Status> {
        let trace = tracing::Span::current().context().span().span_context().trace_id();
        assert!(request.extensions().get::<RequestId>().is_some() && request.extensions().get::<Deadline>().is_some());
        Ok(Response::new(CreateRunsResponse {
            run_ids: vec![trace.to_bytes().to_vec()],
            ..CreateRunsResponse::default()
        }))
    }

    async fn cancel_run(&self, request: Request<CancelRunRequest>) -> Result<Response<CancelRunResponse>, Status> {
        match request.get_ref().reason.as_str() {
            "panic" => panic!("as asked"),
            "refuse" => Err(Problem::invalid("run_id", "must be 16 bytes").remedy("ask for its id").into()),
            "wait" => {
                self.waiting.send_modify(|waiting| *waiting += 1);
                let mut released = self.released.clone();
                released.wait_for(|released| *released).await.map_err(|e| Status::internal(e.to_string()))?;
                Ok(Response::new(CancelRunResponse {}))
            }
            _ => Ok(Response::new(CancelRunResponse {})),
        }
    }

    async fn retry_run(&self, _: Request<RetryRunRequest>) -> Result<Response<RetryRunResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn expire_outputs(
        &self,
        _: Request<ExpireOutputsRequest>,
    ) -> Result<Response<ExpireOutputsResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn clean_logs(&self, _: Request<CleanLogsRequest>) -> Result<Response<CleanLogsResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn test_notification(
        &self,
        _: Request<TestNotificationRequest>,
    ) -> Result<Response<TestNotificationResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn create_backfill(
        &self,
        _: Request<CreateBackfillRequest>,
    ) -> Result<Response<CreateBackfillResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn change_backfill(
        &self,
        _: Request<ChangeBackfillRequest>,
    ) -> Result<Response<ChangeBackfillResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn resume_attempt(
        &self,
        _: Request<ResumeAttemptRequest>,
    ) -> Result<Response<ResumeAttemptResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }

    type WatchChangesStream = tonic::codegen::BoxStream<WatchChangesResponse>;

    async fn watch_changes(
        &self,
        _: Request<WatchChangesRequest>,
    ) -> Result<Response<Self::WatchChangesStream>, Status> {
        Ok(Response::new(Box::pin(futures_util::stream::pending())))
    }
}

struct Running {
    addr: SocketAddr,
    ready: watch::Sender<bool>,
    release: watch::Sender<bool>,
    waiting: watch::Receiver<usize>,
    drain: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), ServeError>>,
}

async fn serve(token: Option<Token>, limits: Limits) -> Running {
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let ((ready, readiness), (release, released)) = (watch::channel(true), watch::channel(false));
    let (waiting, waited) = watch::channel(0);
    let (drain, drained) = oneshot::channel();
    let server = Builder::new(limits)
        .token(token)
        .ready(readiness)
        .add_service(CommandServiceServer::new(Commands { released, waiting }));
    let task = tokio::spawn(server.serve(listener, async {
        let _ = drained.await;
    }));
    Running { addr, ready, release, waiting: waited, drain: Some(drain), task }
}

fn channel(addrs: &[SocketAddr], token: Option<&Token>) -> Channel {
    let uris: Vec<_> = addrs.iter().map(|addr| format!("http://{addr}").parse().unwrap()).collect();
    client::connect(&uris, token).unwrap()
}

async fn cancel(addr: SocketAddr, token: Option<&Token>, reason: &str) -> Result<(), Problem> {
    let message = CancelRunRequest { run_id: Vec::new(), reason: reason.to_owned(), forwarded: false };
    let answer = CommandServiceClient::new(channel(&[addr], token)).cancel_run(within(SOON, message)).await;
    answer.map(drop).map_err(|status| Problem::from_status(&status))
}

fn token(secret: &str) -> Token {
    Token::new(secret).unwrap()
}

#[tokio::test]
async fn only_members_of_the_cluster_may_call() {
    let (right, wrong) = (token("right-0123456789"), token("wrong-0123456789"));
    let server = serve(Some(right.clone()), Limits::default()).await;
    cancel(server.addr, Some(&right), "").await.unwrap();
    for token in [None, Some(&wrong)] {
        assert_eq!(cancel(server.addr, token, "").await.unwrap_err().reason, "TOKEN_REQUIRED");
    }
    let mut health = HealthClient::new(channel(&[server.addr], None));
    health.check(within(SOON, HealthCheckRequest::default())).await.unwrap();
}

#[tokio::test]
async fn an_open_address_needs_a_token() {
    let listener = bind("0.0.0.0:0".parse().unwrap()).await.unwrap();
    let refusal = Builder::new(Limits::default()).serve(listener, std::future::pending()).await;
    assert!(matches!(refusal, Err(ServeError::Auth(_))));
}

#[tokio::test]
async fn problems_arrive_whole_and_a_panic_harms_one_call() {
    let server = serve(None, Limits::default()).await;
    let problem = cancel(server.addr, None, "refuse").await.unwrap_err();
    assert_eq!(problem, Problem::invalid("run_id", "must be 16 bytes").remedy("ask for its id"));
    let mut client = CommandServiceClient::new(channel(&[server.addr], None));
    let ask = |reason: &str| {
        within(SOON, CancelRunRequest { run_id: Vec::new(), reason: reason.to_owned(), forwarded: false })
    };
    let waits = tokio::spawn({
        let (mut client, request) = (client.clone(), ask("wait"));
        async move { client.cancel_run(request).await }
    });
    timeout(SOON, server.waiting.clone().wait_for(|waiting| *waiting == 1)).await.unwrap().unwrap();
    let status = client.cancel_run(ask("panic")).await.unwrap_err();
    assert_eq!(Problem::from_status(&status).reason, "PANIC");
    server.release.send_replace(true);
    waits.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_call_ends_at_the_servers_limit() {
    let limits = Limits { request_timeout_max: Duration::from_millis(50), ..Limits::default() };
    let server = serve(None, limits).await;
    let problem = timeout(SOON, cancel(server.addr, None, "wait")).await.unwrap().unwrap_err();
    assert_eq!((problem.kind, problem.reason.as_str()), (ErrorKind::DeadlineExceeded, "DEADLINE_EXCEEDED"));
}

#[tokio::test]
async fn health_follows_readiness() {
    let server = serve(None, Limits::default()).await;
    let mut health = HealthClient::new(channel(&[server.addr], None));
    let service = "orrery.internal.v1.CommandService".to_owned();
    let mut told = health.watch(HealthCheckRequest { service }).await.unwrap().into_inner();
    for (ready, expected) in [(None, ServingStatus::Serving), (Some(false), ServingStatus::NotServing)] {
        ready.map(|ready| server.ready.send_replace(ready));
        let status = timeout(SOON, told.message()).await.unwrap().unwrap().unwrap().status();
        assert_eq!(status, expected);
    }
}

#[tokio::test]
async fn a_drain_finishes_what_runs() {
    let mut server = serve(None, Limits::default()).await;
    let addr = server.addr;
    let running = tokio::spawn(async move { cancel(addr, None, "wait").await });
    timeout(SOON, server.waiting.wait_for(|waiting| *waiting == 1)).await.unwrap().unwrap();
    server.drain.take().unwrap().send(()).unwrap();
    // New connections are refused as soon as the listener is gone, while the call still runs.
    let refused = async { while tokio::net::TcpStream::connect(addr).await.is_ok() {} };
    timeout(SOON, refused).await.unwrap();
    assert!(!running.is_finished() && !server.task.is_finished());
    server.release.send_replace(true);
    running.await.unwrap().unwrap();
    timeout(SOON, server.task).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn who_connects_and_says_nothing_keeps_no_drain() {
    let mut server = serve(None, Limits::default()).await;
    let mut silent = tokio::net::TcpStream::connect(server.addr).await.unwrap();
    let mut halfway = tokio::net::TcpStream::connect(server.addr).await.unwrap();
    halfway.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    // Both are accepted: the server takes them in their order, and has answered one that came later.
    cancel(server.addr, None, "").await.unwrap();
    server.drain.take().unwrap().send(()).unwrap();
    timeout(Duration::from_secs(3), server.task).await.expect("gone before who is silent must be").unwrap().unwrap();
    // What the server says first may still be there to be read; then it is over.
    for stream in [&mut silent, &mut halfway] {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
}

#[tokio::test]
async fn who_says_nothing_is_let_go() {
    let server = serve(None, Limits::default()).await;
    let mut silent = tokio::net::TcpStream::connect(server.addr).await.unwrap();
    let mut client = CommandServiceClient::new(channel(&[server.addr], None));
    client.cancel_run(within(SOON, CancelRunRequest::default())).await.unwrap();
    let ended = timeout(SOON, silent.read_to_end(&mut Vec::new())).await;
    assert!(ended.is_ok(), "a connection without a word stays");
    client.cancel_run(within(SOON, CancelRunRequest::default())).await.expect("one that has spoken stays");
}

#[tokio::test]
async fn calls_reach_a_living_endpoint() {
    let server = serve(None, Limits::default()).await;
    let gone = bind("127.0.0.1:0".parse().unwrap()).await.unwrap().local_addr().unwrap();
    let mut client = CommandServiceClient::new(channel(&[gone, server.addr], None));
    let mut answered = 0;
    for _ in 0..50 {
        match client.cancel_run(within(SOON, CancelRunRequest::default())).await {
            Ok(_) => answered += 1,
            Err(status) => assert_eq!(Problem::from_status(&status).kind, ErrorKind::Unavailable),
        }
    }
    assert!(answered >= 10, "{answered} of 50");
}

#[tokio::test]
async fn a_trace_goes_on_in_the_server() {
    let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    // For the whole process: a default of this thread alone races with spans that other tests create first.
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).unwrap();
    opentelemetry::global::set_text_map_propagator(opentelemetry_sdk::propagation::TraceContextPropagator::new());
    let server = serve(None, Limits::default()).await;
    let mut client = CommandServiceClient::new(channel(&[server.addr], None));
    let span = tracing::info_span!("caller");
    let own = span.context().span().span_context().trace_id().to_bytes().to_vec();
    let call = client.create_runs(within(SOON, CreateRunsRequest::default()));
    let answer = tracing::Instrument::instrument(call, span).await.unwrap();
    assert!(answer.metadata().get("x-request-id").is_some());
    assert_eq!(answer.into_inner().run_ids, [own]);
}

#[tokio::test]
async fn endpoints_are_checked() {
    let refused = |uris: &[&str]| {
        let uris: Vec<_> = uris.iter().map(|uri| uri.parse().unwrap()).collect();
        client::connect(&uris, None).is_err()
    };
    assert!(refused(&[]) && refused(&["/path"]) && refused(&["ftp://a:1"]) && refused(&["http://a:1"; 65]));
    assert!(!refused(&["http://a:1", "http://b:1"]));
}

/// One address before several servers: each new connection goes to the next one. Answers how many there were as well.
async fn balancer(backends: Vec<SocketAddr>) -> (SocketAddr, watch::Receiver<usize>) {
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (count, counted) = watch::channel(0);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let backend = backends[*count.borrow() % backends.len()];
            count.send_modify(|count| *count += 1);
            tokio::spawn(async move {
                let mut far = tokio::net::TcpStream::connect(backend).await?;
                tokio::io::copy_bidirectional(&mut near, &mut far).await
            });
        }
    });
    (addr, counted)
}

fn wait() -> Request<CancelRunRequest> {
    within(SOON, CancelRunRequest { run_id: Vec::new(), reason: "wait".to_owned(), forwarded: false })
}

#[tokio::test]
async fn what_is_dialled_spreads_behind_one_address() {
    let mut servers = [serve(None, Limits::default()).await, serve(None, Limits::default()).await];
    let (addr, _) = balancer(servers.iter().map(|server| server.addr).collect()).await;
    let mut dialer = Dialer::new(&[format!("http://{addr}").parse().unwrap()], None).unwrap();
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let mut client = CommandServiceClient::new(dialer.dial());
            tokio::spawn(async move { client.cancel_run(wait()).await })
        })
        .collect();
    for server in &mut servers {
        timeout(SOON, server.waiting.wait_for(|waiting| *waiting == 2)).await.unwrap().unwrap();
        server.release.send_replace(true);
    }
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn what_is_dialled_takes_turns_over_several_addresses() {
    let server = serve(None, Limits::default()).await;
    let gone = bind("127.0.0.1:0".parse().unwrap()).await.unwrap().local_addr().unwrap();
    let uris = [gone, server.addr].map(|addr| format!("http://{addr}").parse().unwrap());
    let mut dialer = Dialer::new(&uris, None).unwrap();
    let mut answered = 0;
    for _ in 0..6 {
        let answer =
            CommandServiceClient::new(dialer.dial()).cancel_run(within(SOON, CancelRunRequest::default())).await;
        answered += usize::from(answer.is_ok());
    }
    assert_eq!(answered, 3, "one that is away costs one try, not all of them");
}

#[tokio::test]
async fn an_old_connection_is_left_and_what_runs_on_it_ends_well() {
    let limits = Limits { connection_age: Duration::from_millis(100), ..Limits::default() };
    let mut servers = [serve(None, limits).await, serve(None, limits).await];
    let (addr, mut connections) = balancer(servers.iter().map(|server| server.addr).collect()).await;
    let mut client = CommandServiceClient::new(channel(&[addr], None));
    let long = tokio::spawn({
        let mut client = client.clone();
        async move { client.cancel_run(wait()).await }
    });
    let [first, _] = &mut servers;
    timeout(SOON, first.waiting.wait_for(|waiting| *waiting == 1)).await.unwrap().unwrap();
    // The same channel goes on to other servers. What has not been sent when the server says so was not carried out.
    let moved = async {
        while *connections.borrow_and_update() < 4 {
            let answer = client.cancel_run(within(SOON, CancelRunRequest::default())).await;
            assert!(answer.as_ref().err().is_none_or(rpc::status::is_away), "{answer:?}");
        }
    };
    timeout(SOON, moved).await.unwrap();
    assert!(!long.is_finished(), "it runs on");
    first.release.send_replace(true);
    long.await.unwrap().unwrap();
}

/// As a balancer does it whose backend is gone.
#[tokio::test]
async fn a_connection_that_is_accepted_and_ends_is_a_peer_that_is_away() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let mut client = CommandServiceClient::new(client::connect(&[uri], None).unwrap());
    let refused = client.cancel_run(within(SOON, CancelRunRequest::default())).await.unwrap_err();
    assert!(rpc::status::is_away(&refused), "{refused:?}");
    assert!(!rpc::status::is_away(&Status::unknown("a peer's own word")));
    assert!(!rpc::status::is_away(&Status::internal("a peer's own fault")));
}
