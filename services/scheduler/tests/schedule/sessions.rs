//! Sessions of executors over real gRPC, with an engine that only listens.

use crate::cluster::{WAIT, World};
use domain::id::SchedulerId;
use proto::internal::v1::{
    self as pb, executor_session_service_client::ExecutorSessionServiceClient,
    executor_session_service_server::ExecutorSessionServiceServer, session_request::Message as Up,
    session_response::Message as Down,
};
use runtime::watchdog::Beat;
use scheduler::{
    calls::Calls,
    changes::Changes,
    engine::{Message, SessionEvent},
    logs::LogSink,
    metrics::Metrics,
    orders::Orders,
    owners::Owners,
    peers::Peers,
    session::{Ageing, Sessions},
};
use std::{sync::Arc, time::Duration};
use tokio::{runtime::Handle, sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How old a session gets here, give or take a fifth.
const AGE_MAX: Duration = Duration::from_millis(200);

/// Schedulers that come later have their share of the executors. One that is alone keeps its own, however old their sessions are.
#[tokio::test]
async fn a_session_moves_on_for_its_age_once_there_is_somewhere_to_go() {
    let world = World::new().await;
    let (me, other) = (SchedulerId(Uuid::now_v7()), SchedulerId(Uuid::now_v7()));
    let owners = Owners::new(world.store.clone(), me, None);
    let metrics = Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap());
    let (engine, mut inbox) = mpsc::channel(64);
    let orders = Orders::new(engine.clone(), owners.clone());
    let calls = Calls::new(world.store.clone(), orders, Changes::default(), None, false);
    let changes = Changes::default();
    let logs =
        LogSink::start(&Handle::current(), world.store.clone(), changes, Arc::clone(&metrics), Beat::unwatched());
    let ageing = Ageing { max: AGE_MAX, moved: metrics.sessions_moved.clone() };
    let peers = Peers::new(owners.clone());
    let sessions = Sessions::new(engine, calls, logs, peers, ageing, CancellationToken::new());
    let listener = rpc::server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let server = rpc::server::Builder::new(rpc::server::Limits::default())
        .add_service(ExecutorSessionServiceServer::new(sessions));
    let served = tokio::spawn(server.serve(listener, std::future::pending()));
    let mut client = ExecutorSessionServiceClient::new(rpc::client::connect(&[uri], None).unwrap());

    let (requests, outgoing) = mpsc::channel(8);
    let executor_id = Uuid::now_v7().as_bytes().to_vec();
    let hello = pb::Hello { executor_id, slots: 1, session_number: 1, ..pb::Hello::default() };
    requests.send(pb::SessionRequest { message: Some(Up::Hello(hello)) }).await.unwrap();
    let mut incoming = client.session(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
    assert!(timeout(3 * AGE_MAX, incoming.message()).await.is_err(), "there is nowhere else to go");
    assert_eq!(metrics.sessions_moved.get(), 0);

    let lives =
        "INSERT INTO scheduler (id, lease_until, address) VALUES ($1, now() + interval '1 hour', '127.0.0.1:1')";
    world.database.client().await.execute(lives, &[&other.0]).await.unwrap();
    owners.refresh().await.unwrap();
    let word = timeout(WAIT, incoming.message()).await.expect("a word in time").unwrap();
    assert_eq!(word.and_then(|word| word.message), Some(Down::Reconnect(pb::Reconnect {})));
    assert_eq!(metrics.sessions_moved.get(), 1);
    let mut heard = async || timeout(WAIT, inbox.recv()).await.expect("the end of the session in time").unwrap();
    while !matches!(heard().await, Message::Session(_, _, SessionEvent::Closed)) {}
    drop(requests);
    served.abort();
}
