//! A proxy for gRPC that delivers twice, and out of order: what a caller that is never sure does to a service.
//!
//! Every unary call is sent twice, each time after a pause by the dice, so that calls overtake each other; the caller
//! gets the answer of whichever copy is answered last. On streams, where order holds, messages are repeated that the
//! protocol itself repeats after a lost answer: results and inventories of executors, and whatever schedulers say to each
//! other's gateways about slots stays as it is. Refuses to know what a message means.

use anyhow::Result;
use bytes::{Buf, Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use prost::Message;
use proto::internal::v1::{SessionRequest, session_request};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{body::Body, transport::Channel};
use tower::{Service, ServiceExt, service_fn};

/// The longest pause before a copy is sent.
const PAUSE_MAX: Duration = Duration::from_millis(80);
/// Methods that are streams; everything else is one question and one answer.
const STREAMS: [&str; 4] = ["/Session", "/PushLogs", "/Link", "/WatchChanges"];
/// What precedes a message: whether it is compressed, and its length.
const HEADER_BYTES: usize = 5;
/// Pieces of a stream under way.
const PIECES_MAX: usize = 64;

/// One proxy. It ends with the value.
#[derive(Debug)]
pub struct Repeater {
    address: SocketAddr,
    counts: Arc<Counts>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Counts {
    calls: AtomicU64,
    messages: AtomicU64,
    dice: Mutex<StdRng>,
}

impl Repeater {
    /// In front of the service that listens at `target`. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When no port is free.
    pub fn to(target: SocketAddr, seed: u64) -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        let counts = Arc::new(Counts {
            calls: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            dice: Mutex::new(StdRng::seed_from_u64(seed)),
        });
        let channel = Channel::from_shared(format!("http://{target}"))?.connect_lazy();
        let accepting = tokio::spawn(accept(listener, channel, Arc::clone(&counts)));
        Ok(Self { address, counts, accepting })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Calls that were delivered twice.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.counts.calls.load(Ordering::Relaxed)
    }

    /// Messages of streams that were.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.counts.messages.load(Ordering::Relaxed)
    }
}

impl Drop for Repeater {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, channel: Channel, counts: Arc<Counts>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (channel, counts) = (channel.clone(), Arc::clone(&counts));
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let (channel, counts) = (channel.clone(), Arc::clone(&counts));
            async move { Ok::<_, Infallible>(answer(request, channel, counts).await) }
        });
        tokio::spawn(async move {
            let service = TowerToHyperService::new(service);
            // Whoever connected has gone, or sees that this has.
            let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(request: Request<hyper::body::Incoming>, channel: Channel, counts: Arc<Counts>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let outcome = if STREAMS.iter().any(|stream| path.ends_with(stream)) {
        stream(request, channel, counts, path.ends_with("/Session")).await
    } else {
        twice(request, channel, counts).await
    };
    outcome.unwrap_or_else(|error| tonic::Status::unavailable(error.to_string()).into_http())
}

async fn twice(
    request: Request<hyper::body::Incoming>,
    channel: Channel,
    counts: Arc<Counts>,
) -> Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let copy = || {
        let mut copy = Request::new(Body::new(Full::new(body.clone())));
        *copy.method_mut() = parts.method.clone();
        *copy.uri_mut() = parts.uri.clone();
        *copy.headers_mut() = parts.headers.clone();
        copy
    };
    let (first, second) = (send(copy(), channel.clone(), &counts), send(copy(), channel, &counts));
    let (first, second) = tokio::join!(first, second);
    counts.calls.fetch_add(1, Ordering::Relaxed);
    second.or(first)
}

async fn send(request: Request<Body>, mut channel: Channel, counts: &Counts) -> Result<Response<Body>> {
    let share: f64 = counts.dice.lock().unwrap_or_else(PoisonError::into_inner).random();
    tokio::time::sleep(PAUSE_MAX.mul_f64(share)).await;
    Ok(channel.ready().await?.call(request).await?)
}

async fn stream(
    request: Request<hyper::body::Incoming>,
    mut channel: Channel,
    counts: Arc<Counts>,
    repeats: bool,
) -> Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    tokio::spawn(pass(body, sender, counts, repeats));
    let body = StreamBody::new(ReceiverStream::new(pieces));
    let request = Request::from_parts(parts, Body::new(body));
    Ok(channel.ready().await?.call(request).await?)
}

type Piece = Result<http_body::Frame<Bytes>, Infallible>;

/// Passes a stream on, message by message.
async fn pass(mut body: hyper::body::Incoming, sender: mpsc::Sender<Piece>, counts: Arc<Counts>, repeats: bool) {
    let mut buffer = BytesMut::new();
    let mut late: Option<Bytes> = None;
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        buffer.extend_from_slice(&data);
        while let Some(message) = next_message(&mut buffer) {
            let repeated = repeats && is_repeated_by_protocol(&message);
            if sender.send(Ok(http_body::Frame::data(message.clone()))).await.is_err() {
                return;
            }
            // The copy of the one before comes after this one.
            if let Some(copy) = late.take() {
                counts.messages.fetch_add(1, Ordering::Relaxed);
                if sender.send(Ok(http_body::Frame::data(copy))).await.is_err() {
                    return;
                }
            }
            late = repeated.then_some(message);
        }
    }
}

/// The next whole message with its header.
fn next_message(buffer: &mut BytesMut) -> Option<Bytes> {
    let header = buffer.get(..HEADER_BYTES)?;
    let length = usize::try_from((&header[1..]).get_u32()).ok()?;
    (buffer.len() >= HEADER_BYTES + length).then(|| buffer.split_to(HEADER_BYTES + length).freeze())
}

/// Results and inventories are said again when their answer is lost, and heartbeats may come late.
fn is_repeated_by_protocol(message: &[u8]) -> bool {
    let request = SessionRequest::decode(&message[HEADER_BYTES..]).ok().and_then(|request| request.message);
    use session_request::Message as M;
    matches!(request, Some(M::Results(_) | M::Inventory(_) | M::Heartbeat(_)))
}
