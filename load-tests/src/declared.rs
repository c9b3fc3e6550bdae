//! An executor whose nodes are declared and whose runtimes are entries of a map: what it takes to try placements by the
//! thousand. It speaks the real protocol, obeys fences, keeps what runs over lost connections, can be frozen, and writes the
//! journal of an executor, by which the [history](crate::history) is judged.
//!
//! Strangers, who ask no scheduler, may take parts of its devices too. Beyond a device's whole nobody gets anything: an order
//! that no longer fits is answered as one that was misplaced, unless the executor was made to obey without a look.

mod fleet;
mod strangers;

use anyhow::Result;
use fleet::Fleet;
use proto::internal::v1::{
    self as pb, pool_service_client::PoolServiceClient, serve_request::Message as Up, serve_response::Message as Down,
};
use rpc::client::Channel;
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_stream::wrappers::ReceiverStream;

/// Between two tries to reach a scheduler.
const PAUSE: Duration = Duration::from_millis(50);
/// Between two heartbeats.
const BEAT: Duration = Duration::from_secs(1);
/// Messages to a scheduler that it has not read.
const OUTBOX_MAX: usize = 256;

/// Between two looks at what has come to its end.
const TICK: Duration = Duration::from_millis(10);

/// A number of equal nodes with equal GPUs.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The pool.
    pub pool: String,
    /// Nodes.
    pub nodes: usize,
    /// GPUs of each.
    pub gpus: usize,
    /// From an order to start until it is ready, and from one to stop until it is gone.
    pub linger: Duration,
    /// Strangers come and go by dice with this seed.
    pub strangers: Option<u64>,
    /// It starts whatever it is told to, though devices have no room: a third line of defence that is not there.
    pub is_blind: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self { pool: String::new(), nodes: 1, gpus: 1, linger: Duration::ZERO, strangers: None, is_blind: false }
    }
}

/// What it has done so far.
#[derive(Debug, Default)]
pub struct Counts {
    /// Runtimes that were started.
    pub started: AtomicU64,
    /// Orders that no longer fitted.
    pub refused: AtomicU64,
    /// Parts that strangers took.
    pub strangers: AtomicU64,
}

/// An executor that serves until it is dropped.
#[derive(Debug)]
pub struct Declared {
    task: JoinHandle<Result<()>>,
    counts: Arc<Counts>,
    frozen: watch::Sender<bool>,
    over: watch::Sender<bool>,
}

impl Declared {
    /// Serves through whichever of the schedulers answers, and notes what runs in `journal`.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn start(shape: Shape, schedulers: Vec<Channel>, journal: &Path) -> Result<Self> {
        let counts = Arc::new(Counts::default());
        let mut fleet = Fleet::new(shape, Arc::clone(&counts), journal)?;
        let (frozen, mut is_frozen) = watch::channel(false);
        let (over, mut is_over) = watch::channel(false);
        let task = tokio::spawn(async move {
            let serve = async {
                for turn in 0_usize.. {
                    // A stream that breaks is opened again, with whoever is next.
                    let _ = serve(&mut fleet, schedulers[turn % schedulers.len()].clone(), &mut is_frozen).await;
                    tokio::time::sleep(PAUSE).await;
                }
            };
            tokio::select! {
                () = serve => {}
                _ = is_over.wait_for(|over| *over) => {}
            }
            fleet.close()
        });
        Ok(Self { task, counts, frozen, over })
    }

    /// Runtimes that it has started.
    #[must_use]
    pub fn started(&self) -> u64 {
        self.counts.started.load(Ordering::Relaxed)
    }

    /// What it has done so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Sends strangers away and serves no longer. What runs stays, as of an executor that was killed.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub async fn close(mut self) -> Result<()> {
        self.over.send_replace(true);
        (&mut self.task).await?
    }

    /// Freezes it, or lets it go on: while it is frozen it hears, says and does nothing, and its connection stays open.
    pub fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }
}

impl Drop for Declared {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(fleet: &mut Fleet, channel: Channel, frozen: &mut watch::Receiver<bool>) -> Result<()> {
    let (sender, outgoing) = mpsc::channel(OUTBOX_MAX);
    let say = |message| pb::ServeRequest { message: Some(message) };
    for message in fleet.greeting() {
        sender.send(say(message)).await?;
    }
    let client = PoolServiceClient::new(channel).max_decoding_message_size(rpc::server::MESSAGE_BYTES_MAX);
    let mut answers = { client }.serve(ReceiverStream::new(outgoing)).await?.into_inner();
    let (mut beat, mut tick) = (tokio::time::interval(BEAT), tokio::time::interval(TICK));
    loop {
        // The sender lives as long as the task that this is in.
        frozen.wait_for(|frozen| !frozen).await?;
        let messages: Vec<Up> = tokio::select! {
            _ = frozen.changed() => continue,
            answer = answers.message() => match answer?.and_then(|answer| answer.message) {
                None => return Ok(()),
                Some(Down::Orders(orders)) => fleet.obey(orders)?,
                Some(Down::Welcome(_) | Down::Probe(_) | Down::Places(_) | Down::Volumes(_)) => continue,
            },
            _ = tick.tick() => fleet.pass()?,
            _ = beat.tick() => vec![Up::Heartbeat(pb::PoolHeartbeat {})],
        };
        for message in messages {
            sender.send(say(message)).await?;
        }
    }
}
