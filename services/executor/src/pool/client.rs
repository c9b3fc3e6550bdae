//! The stream to the owner of the pool: says what the backend shows, and hands orders over that may be obeyed.
//!
//! A stream that ends is opened again, with backoff, at whichever scheduler answers. What runs goes on meanwhile: only an
//! order ends a runtime. Refuses to know how anything is run.

use super::{
    Order, RuntimeBackend, Wishes,
    holdings::{Holdings, Verdict},
    order::{GRACE, Goal},
    volume,
};
use domain::id::{ExecutorId, HolderId};
use proto::internal::v1::{
    self as pb, RuntimePhase, pool_service_client::PoolServiceClient, serve_request::Message as Up,
    serve_response::Message as Down,
};
use rpc::client::Dialer;
use runtime::{
    backoff::{self, Backoff},
    watchdog::{self, Beat},
};
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, Interval, MissedTickBehavior, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

/// Messages that the stream has not taken; beyond it changes gather on the board.
const OUTGOING_MAX: usize = 16;
/// Nodes and reports of one message.
const CHANGES_MAX: usize = 512;
/// The largest message of a scheduler: a complete statement of a pool's orders.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A welcome must come within this time, else another scheduler is tried.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two tries.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Changes that come close together are one message.
const GATHER: Duration = Duration::from_millis(10);
/// Bounds of what a welcome may say.
const HEARTBEAT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(60));
/// Why something ends that no complete statement of orders names.
pub const NOT_ORDERED: &str = "NOT_ORDERED";

/// Who serves which pool.
#[derive(Debug, Clone)]
pub struct Member {
    /// This life of the process.
    pub id: ExecutorId,
    /// Shown to people.
    pub name: String,
    /// The pool, a DNS label.
    pub pool: String,
}

/// Serves a pool with a backend.
pub struct PoolClient {
    member: Member,
    backend: Arc<dyn RuntimeBackend>,
    wishes: Wishes,
    dialer: Dialer,
    holdings: Holdings,
}

/// One stream.
struct Session {
    outgoing: mpsc::Sender<pb::ServeRequest>,
    incoming: Streaming<pb::ServeResponse>,
    beat: Interval,
    lost_after: Duration,
    heard: Instant,
    /// This scheduler answers heartbeats, so its silence means something.
    answers: bool,
}

impl PoolClient {
    /// Nothing is opened yet.
    #[must_use]
    pub fn new(member: Member, backend: Arc<dyn RuntimeBackend>, wishes: Wishes, dialer: Dialer) -> Self {
        Self { member, backend, wishes, dialer, holdings: Holdings::default() }
    }

    /// Recovers what is there, then serves until `stop`.
    pub async fn run(mut self, stop: CancellationToken, beat: Beat) {
        let mut pause = Backoff::new(BACKOFF.0, BACKOFF.1);
        while let Err(error) = beat.waiting(self.recover()).await {
            tracing::error!(error = format!("{error:#}"), "what runs of this pool cannot be read yet; trying again");
            if stop.run_until_cancelled(tokio::time::sleep(pause.next(backoff::random()))).await.is_none() {
                return;
            }
        }
        while !stop.is_cancelled() {
            let served = stop.run_until_cancelled(self.serve(&mut pause, &beat)).await;
            match served {
                None => return,
                Some(Ok(())) => tracing::debug!("the stream of the pool ended"),
                Some(Err(status)) if pause.failures() == 0 => {
                    tracing::warn!(code = ?status.code(), error = status.message(), "lost the owner of the pool");
                }
                Some(Err(_)) => {}
            }
            if stop.run_until_cancelled(tokio::time::sleep(pause.next(backoff::random()))).await.is_none() {
                return;
            }
        }
    }

    /// What an earlier life left is held as it was.
    async fn recover(&mut self) -> anyhow::Result<()> {
        for order in self.backend.recover().await? {
            if let Verdict::Refuse { message, .. } = self.holdings.recall(&order, self.backend.board()) {
                tracing::error!(holder = %order.holder, message, "found two that hold the same");
            }
        }
        Ok(())
    }

    /// One stream, to its end. Cancel-safe: the next one says everything again.
    async fn serve(&mut self, pause: &mut Backoff, beat: &Beat) -> Result<(), Status> {
        beat.beat();
        let mut session = self.open().await?;
        pause.reset();
        let board = Arc::clone(self.backend.board());
        let (outgoing, wishes) = (session.outgoing.clone(), self.wishes.clone());
        let mut news: Option<Instant> = None;
        // A scheduler may want heartbeats less often than the watchdog does.
        let mut pulse = every(watchdog::PULSE);
        loop {
            beat.beat();
            tokio::select! {
                _ = pulse.tick() => {}
                message = session.incoming.message() => {
                    let Some(message) = message? else { return Ok(()) };
                    session.heard = Instant::now();
                    if let Some(message) = message.message {
                        self.on_message(message, &mut session);
                    }
                }
                () = board.changed(), if news.is_none() => news = Some(Instant::now() + GATHER),
                // Room first: what waits on the board meanwhile is gathered, and nothing is queued.
                room = room(&outgoing, news), if news.is_some() => {
                    let Some(room) = room else { return Ok(()) };
                    news = None;
                    let changes = board.changes(CHANGES_MAX);
                    let nodes = !(changes.nodes.nodes.is_empty() && changes.nodes.gone.is_empty());
                    let nodes = nodes.then_some(Up::Nodes(changes.nodes));
                    let runtimes = !changes.runtimes.runtimes.is_empty();
                    let runtimes = runtimes.then_some(Up::Runtimes(changes.runtimes));
                    let volumes = !changes.volumes.volumes.is_empty();
                    let volumes = volumes.then_some(Up::Volumes(changes.volumes));
                    for (room, message) in room.zip(nodes.into_iter().chain(runtimes).chain(volumes)) {
                        room.send(up(message));
                    }
                }
                () = wishes.changed() => {
                    // Full: stated when there is room again, as it is then.
                    if outgoing.try_send(up(Up::Wishes(wishes.all()))).is_err() {
                        tokio::time::sleep(GATHER).await;
                        wishes.again();
                    }
                }
                _ = session.beat.tick() => session.beat()?,
            }
        }
    }

    /// Opens a stream, states everything, and waits for the welcome.
    async fn open(&mut self) -> Result<Session, Status> {
        let (outgoing, requests) = mpsc::channel(OUTGOING_MAX);
        let everything = self.backend.board().everything();
        let hello = pb::PoolHello {
            executor_id: self.member.id.to_vec(),
            name: self.member.name.clone(),
            pool: self.member.pool.clone(),
            backend: self.backend.name().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            forwarded: false,
        };
        let (nodes, runtimes) = (Up::Nodes(everything.nodes), Up::Runtimes(everything.runtimes));
        let volumes = Up::Volumes(everything.volumes);
        for message in [Up::Hello(hello), nodes, runtimes, Up::Wishes(self.wishes.all()), volumes] {
            // There is room: the channel is new and longer than this.
            let _ = outgoing.try_send(up(message));
        }
        let late = || Status::deadline_exceeded("no welcome in time");
        let opened = timeout(OPEN_TIMEOUT, async {
            let mut client = PoolServiceClient::new(self.dialer.dial()).max_decoding_message_size(MESSAGE_BYTES_MAX);
            let mut incoming = client.serve(ReceiverStream::new(requests)).await?.into_inner();
            match incoming.message().await?.and_then(|first| first.message) {
                Some(Down::Welcome(welcome)) => Ok((incoming, welcome)),
                _ => Err(Status::internal("a scheduler began without a welcome")),
            }
        });
        let (incoming, welcome) = opened.await.map_err(|_| late())??;
        Ok(Session {
            outgoing,
            incoming,
            beat: every(milliseconds(welcome.heartbeat_ms).clamp(HEARTBEAT.0, HEARTBEAT.1)),
            lost_after: milliseconds(welcome.lost_after_ms).max(HEARTBEAT.0),
            heard: Instant::now(),
            answers: false,
        })
    }

    fn on_message(&mut self, message: Down, session: &mut Session) {
        match message {
            Down::Welcome(_) => {}
            Down::Orders(orders) => {
                session.answers |= orders.orders.is_empty() && !orders.complete;
                self.on_orders(&orders);
            }
            Down::Places(places) => self.wishes.told(places),
            Down::Volumes(volumes) => {
                self.backend.volumes(volumes.volumes.into_iter().filter_map(volume::from_proto).collect());
            }
            Down::Probe(probe) => {
                self.backend.probe(probe.holders.iter().filter_map(|id| HolderId::from_slice(id)).collect());
            }
        }
    }

    fn on_orders(&mut self, orders: &pb::Orders) {
        // One without a goal only names its holder.
        for order in orders.orders.iter().filter(|order| order.goal() != pb::RuntimeGoal::Unspecified) {
            match Order::from_proto(order) {
                Ok(order) => self.on_order(order),
                Err(what) => {
                    tracing::error!(what, "an order cannot be read; is this executor older than its scheduler?")
                }
            }
        }
        if orders.complete {
            let named: HashSet<HolderId> =
                orders.orders.iter().filter_map(|order| HolderId::from_slice(&order.holder)).collect();
            self.end_others(&named);
        }
    }

    fn on_order(&mut self, order: Order) {
        match self.holdings.admit(&order, self.backend.board()) {
            Verdict::Obey => self.backend.apply(order),
            Verdict::Stale => tracing::warn!(holder = %order.holder, fence = order.fence, "an order came too late"),
            Verdict::Refuse { code, message } => {
                tracing::error!(holder = %order.holder, code, message, "refused an order");
                self.backend.board().report(pb::RuntimeReport {
                    holder: order.holder.to_vec(),
                    fence: order.fence,
                    phase: RuntimePhase::Misplaced.into(),
                    code: code.to_owned(),
                    message,
                    node: order.life().map(|life| life.node.clone()).unwrap_or_default(),
                    ..pb::RuntimeReport::default()
                });
            }
        }
    }

    /// What a complete statement does not name belongs to nobody: it ends, or is forgotten when it has.
    fn end_others(&mut self, named: &HashSet<HolderId>) {
        for (holder, gone) in self.backend.board().holders() {
            if named.contains(&holder) {
                continue;
            }
            let fence = self.holdings.fence(holder);
            let goal = if gone { Goal::Forget } else { Goal::Stop { grace: GRACE, reason: NOT_ORDERED.to_owned() } };
            if !gone {
                tracing::warn!(%holder, "nobody wants this runtime any more: stopping it");
            }
            self.on_order(Order { holder, fence, goal });
        }
    }
}

impl Session {
    /// Says that this executor lives, and looks whether the scheduler does.
    fn beat(&mut self) -> Result<(), Status> {
        if self.answers && self.heard.elapsed() > self.lost_after {
            return Err(Status::unavailable("the scheduler is silent"));
        }
        // A stream that is full carries signs of life already.
        let _ = self.outgoing.try_send(up(Up::Heartbeat(pb::PoolHeartbeat {})));
        Ok(())
    }
}

/// Places for three messages, once changes have gathered; `None` at the end of the stream. Cancel-safe.
async fn room(
    outgoing: &mpsc::Sender<pb::ServeRequest>,
    news: Option<Instant>,
) -> Option<mpsc::PermitIterator<'_, pb::ServeRequest>> {
    tokio::time::sleep_until(news?).await;
    outgoing.reserve_many(3).await.ok()
}

fn up(message: Up) -> pb::ServeRequest {
    pb::ServeRequest { message: Some(message) }
}

fn milliseconds(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
