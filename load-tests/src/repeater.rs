//! A proxy for gRPC that delivers twice, and out of order: what a caller that is never sure does to a service.
//!
//! Every unary call is sent twice, each time after a pause by the dice, so that calls overtake each other; the caller
//! gets the answer of whichever copy is answered last. On streams, where order holds, messages are repeated that the
//! protocol itself repeats after a lost answer or on the next session: results and inventories of executors, and what they are
//! told of their attempts. Whatever schedulers say to each other's gateways stays as it is. Refuses to know what a message
//! means.

use anyhow::Result;
use bytes::{Buf, Bytes, BytesMut};
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use prost::Message;
use proto::internal::v1::{SessionRequest, SessionResponse, session_request, session_response};
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
const STREAMS: [&str; 4] = [SESSION, "/PushLogs", "/Link", "/WatchChanges"];
/// The stream of an executor, of which messages are repeated.
const SESSION: &str = "/Session";
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
    /// Messages of streams, to whom the connection leads and from it.
    messages: [AtomicU64; 2],
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
            messages: [AtomicU64::new(0), AtomicU64::new(0)],
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

    /// Messages of streams that were, on their way to the service.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.counts.messages[TO_SERVICE.at].load(Ordering::Relaxed)
    }

    /// The same on their way from it.
    #[must_use]
    pub fn messages_back(&self) -> u64 {
        self.counts.messages[FROM_SERVICE.at].load(Ordering::Relaxed)
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
        stream(request, channel, counts, path.ends_with(SESSION)).await
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
    let (to, from) = if repeats { (TO_SERVICE, FROM_SERVICE) } else { (Direction::PLAIN, Direction::PLAIN) };
    let request = request.map(|body| passed(body, Arc::clone(&counts), to));
    let response = channel.ready().await?.call(request).await?;
    // What is refused at once has no body, and is to have none.
    if response.body().is_end_stream() {
        return Ok(response);
    }
    Ok(response.map(|body| passed(body, counts, from)))
}

/// When a message of a stream is said again.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Again {
    Never,
    AtOnce,
    /// Behind the one that comes next.
    Later,
}

/// A direction of a stream.
#[derive(Clone, Copy)]
struct Direction {
    /// Its count.
    at: usize,
    again: fn(&[u8]) -> Again,
}

impl Direction {
    /// In which nothing is repeated.
    const PLAIN: Self = Self { at: 0, again: |_| Again::Never };
}

const TO_SERVICE: Direction = Direction { at: 0, again: said_again };
const FROM_SERVICE: Direction = Direction { at: 1, again: told_again };

type Piece = Result<http_body::Frame<Bytes>, Infallible>;

/// What comes out of a body with its repetitions.
fn passed<B>(body: B, counts: Arc<Counts>, direction: Direction) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Send,
{
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    tokio::spawn(async move {
        tokio::select! {
            // Nobody takes it any more: the other side is to know.
            () = sender.closed() => {}
            _ = pass(body, &sender, &counts, direction) => {}
        }
    });
    Body::new(StreamBody::new(ReceiverStream::new(pieces)))
}

/// Passes a stream on, message by message, and what comes behind its last one. Nothing, where nobody takes it any more.
async fn pass<B>(mut body: B, sender: &mpsc::Sender<Piece>, counts: &Counts, direction: Direction) -> Option<()>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let count = &counts.messages[direction.at];
    let mut buffer = BytesMut::new();
    let mut late: Option<Bytes> = None;
    while let Some(Ok(frame)) = body.frame().await {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(trailers) => {
                sender.send(Ok(trailers)).await.ok()?;
                continue;
            }
        };
        buffer.extend_from_slice(&data);
        while let Some(message) = next_message(&mut buffer) {
            let again = (direction.again)(&message[HEADER_BYTES..]);
            let at_once = (again == Again::AtOnce).then(|| message.clone());
            sender.send(Ok(http_body::Frame::data(message.clone()))).await.ok()?;
            // The copy of the one before comes after this one.
            for copy in at_once.into_iter().chain(late.take()) {
                count.fetch_add(1, Ordering::Relaxed);
                sender.send(Ok(http_body::Frame::data(copy))).await.ok()?;
            }
            late = (again == Again::Later).then_some(message);
        }
    }
    Some(())
}

/// The next whole message with its header.
fn next_message(buffer: &mut BytesMut) -> Option<Bytes> {
    let header = buffer.get(..HEADER_BYTES)?;
    let length = usize::try_from((&header[1..]).get_u32()).ok()?;
    (buffer.len() >= HEADER_BYTES + length).then(|| buffer.split_to(HEADER_BYTES + length).freeze())
}

/// Results and inventories are said again when their answer is lost, and heartbeats may come late.
fn said_again(message: &[u8]) -> Again {
    let request = SessionRequest::decode(message).ok().and_then(|request| request.message);
    use session_request::Message as M;
    match request {
        Some(M::Results(_) | M::Inventory(_) | M::Heartbeat(_)) => Again::Later,
        _ => Again::Never,
    }
}

/// What an executor is told of its attempts, and asked, comes again when its owner or its session is another one. An assignment is
/// repeated before its result can be confirmed: what is over and confirmed an executor does not remember.
fn told_again(message: &[u8]) -> Again {
    let response = SessionResponse::decode(message).ok().and_then(|response| response.message);
    use session_response::Message as M;
    match response {
        Some(M::Assignments(_)) => Again::AtOnce,
        Some(
            M::HeartbeatReply(_)
            | M::Definition(_)
            | M::Cancel(_)
            | M::Forget(_)
            | M::ResultAcks(_)
            | M::RunnerReply(_)
            | M::InventoryRequest(_),
        ) => Again::Later,
        _ => Again::Never,
    }
}
