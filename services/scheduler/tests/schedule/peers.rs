//! Streams between schedulers.

use crate::cluster::{WAIT, World};
use domain::id::SchedulerId;
use proto::internal::v1::{
    self as pb, link_request::Message as Out, peer_service_client::PeerServiceClient,
    peer_service_server::PeerServiceServer,
};
use scheduler::{
    owners::Owners,
    peers::{Peers, service::PeerLinks},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

/// A process that is started again on its port is another scheduler, and the former one still counts as living for a
/// moment. What is meant for that one must not get a second stream to this one.
#[tokio::test]
async fn a_stream_that_is_meant_for_another_scheduler_is_ended() {
    let world = World::new().await;
    let (me, former, gateway) = (SchedulerId(Uuid::now_v7()), SchedulerId(Uuid::now_v7()), SchedulerId(Uuid::now_v7()));
    let peers = Peers::new(Owners::new(world.store.clone(), me, None));
    let (engine, _inbox) = mpsc::channel(8);
    let listener = rpc::server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let links = PeerServiceServer::new(PeerLinks::new(peers, engine));
    let server = rpc::server::Builder::new(rpc::server::Limits::default()).add_service(links);
    let served = tokio::spawn(server.serve(listener, std::future::pending()));
    let mut client = PeerServiceClient::new(rpc::client::connect(&[uri], None).unwrap());

    let mut first_word = async |meant: Vec<u8>| {
        let (sender, outgoing) = mpsc::channel(8);
        let hello = Out::Hello(pb::LinkHello { scheduler_id: gateway.to_vec(), peer_id: meant });
        sender.send(pb::LinkRequest { message: Some(hello) }).await.unwrap();
        let mut incoming = client.link(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
        let word = timeout(WAIT, incoming.message()).await.expect("a word or an end").unwrap();
        drop(sender);
        word
    };
    assert!(first_word(me.to_vec()).await.is_some(), "it is told what is owned here");
    assert!(first_word(Vec::new()).await.is_some(), "an older gateway does not say whom it means");
    assert_eq!(first_word(former.to_vec()).await, None);
    served.abort();
}
