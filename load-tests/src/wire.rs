//! A TCP proxy that misbehaves as it is told: the wire between two processes.
//!
//! What a wire does is its [`Weather`]; it changes at any time and holds for open connections too. Which chunk is hit is
//! thrown with a seed. Refuses to know what travels on it: the harm is that of a network, never of a peer.
//!
//! The kernels on both sides talk to the proxy and not to each other, so two things differ from a real network. A peer
//! that is cut off still gets its bytes acknowledged until buffers are full, and no keep-alive of TCP ever notices
//! anything: only what the services themselves watch can save them. And a lost packet is a late one, by the time that a
//! retransmission takes, which is all that a program ever sees of it.

use anyhow::{Context, Result};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

/// Bytes that are read at once; what is thrown with dice is thrown for each such chunk.
const CHUNK_BYTES: usize = 16 * 1024;
/// Chunks under way in one direction: with the former, the window of a connection.
const CHUNKS_MAX: usize = 64;
/// What one lost packet costs, and how often one may be lost in a row: the first time-out of TCP, doubled each time.
const RETRANSMISSION: Duration = Duration::from_millis(200);
const LOSSES_MAX: u32 = 5;

/// What happens to bytes in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Way {
    /// Each chunk is so late.
    pub latency: Duration,
    /// And up to so much later, evenly spread; chunks do not overtake each other.
    pub jitter: Duration,
    /// The part of chunks, 0 to 1, that is lost and sent again.
    pub loss: f64,
    /// Bytes a second; as many as there are, when `None`.
    pub rate: Option<u64>,
    /// Nothing gets through. What was sent arrives when the way is open again, as after a partition.
    pub held: bool,
}

/// What a wire does to its connections.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Weather {
    /// From the one who connected.
    pub up: Way,
    /// Towards it.
    pub down: Way,
    /// The part of chunks at which the connection breaks.
    pub tear: f64,
}

impl Weather {
    /// Nothing is wrong.
    #[must_use]
    pub fn fair() -> Self {
        Self::default()
    }

    /// The same in both directions.
    #[must_use]
    pub fn both(way: Way) -> Self {
        Self { up: way, down: way, tear: 0.0 }
    }

    /// Nothing gets through, in neither direction.
    #[must_use]
    pub fn partition() -> Self {
        Self::both(Way { held: true, ..Way::default() })
    }
}

/// What a wire has done so far.
#[derive(Debug, Default)]
pub struct Harm {
    /// Connections that were made through it.
    pub connections: AtomicU64,
    /// Chunks that were made late.
    pub delayed: AtomicU64,
    /// Chunks that were lost at least once.
    pub lost: AtomicU64,
    /// Chunks, and attempts to connect, that were held up by a way that was not open.
    pub held: AtomicU64,
    /// Connections that were torn, cut or orphaned.
    pub broken: AtomicU64,
}

impl Harm {
    /// Everything that it did, counted together.
    #[must_use]
    pub fn total(&self) -> u64 {
        [&self.delayed, &self.lost, &self.held, &self.broken].iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// What is done to all open connections at once.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Blows {
    cuts: u64,
    orphanings: u64,
}

/// One wire. It ends with the value.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    target: Mutex<SocketAddr>,
    weather: watch::Sender<Weather>,
    blows: watch::Sender<Blows>,
    harm: Harm,
    seed: u64,
}

impl Wire {
    /// Lays a wire to `target`, from a free port of the loopback. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When no port is free.
    pub fn to(target: SocketAddr, seed: u64) -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("find a free port for a wire")?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            weather: watch::Sender::new(Weather::fair()),
            blows: watch::Sender::default(),
            harm: Harm::default(),
            seed,
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, accepting })
    }

    /// Where it begins.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what it does, for open connections too.
    pub fn set(&self, weather: Weather) {
        self.shared.weather.send_replace(weather);
    }

    /// Breaks every open connection; new ones are made.
    pub fn cut(&self) {
        self.shared.blows.send_modify(|blows| blows.cuts += 1);
    }

    /// Ends the far side of every open connection without a word to the near one: what that still says is lost.
    pub fn orphan(&self) {
        self.shared.blows.send_modify(|blows| blows.orphanings += 1);
    }

    /// Leads somewhere else from now on; open connections stay where they are.
    pub fn lead_to(&self, target: SocketAddr) {
        *self.shared.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
    }

    /// What it has done so far.
    #[must_use]
    pub fn harm(&self) -> &Harm {
        &self.shared.harm
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((near, _)) => {
                let number = shared.harm.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(connection(Arc::clone(&shared), near, number));
            }
            // Such as no file descriptors: the one that connected sees a connection that is not answered.
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn connection(shared: Arc<Shared>, near: TcpStream, number: u64) {
    let mut blows = shared.blows.subscribe();
    let before = *blows.borrow_and_update();
    let far = tokio::select! {
        far = reach(&shared) => far,
        _ = blows.changed() => return,
    };
    let Ok(far) = far else { return };
    // Small messages matter more than full packets.
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let ((mut near_in, mut near_out), (mut far_in, mut far_out)) = (near.into_split(), far.into_split());
    let dice = |way: u64| StdRng::seed_from_u64(shared.seed ^ (number << 1) ^ way);
    let is_struck = {
        let up = carry(&mut near_in, &mut far_out, Direction { shared: &shared, way: |weather| weather.up }, dice(0));
        let down =
            carry(&mut far_in, &mut near_out, Direction { shared: &shared, way: |weather| weather.down }, dice(1));
        tokio::select! {
            torn = up => torn.is_err(),
            torn = down => torn.is_err(),
            _ = blows.changed() => true,
        }
    };
    if is_struck {
        shared.harm.broken.fetch_add(1, Ordering::Relaxed);
    }
    let now = *blows.borrow_and_update();
    if now.orphanings > before.orphanings && now.cuts == before.cuts {
        drop((far_in, far_out));
        tokio::select! {
            () = swallow(near_in) => {}
            _ = blows.changed() => {}
        }
    }
}

/// The far side, once something can get there.
async fn reach(shared: &Shared) -> io::Result<TcpStream> {
    until_open(shared, |weather| weather.up).await;
    let target = *shared.target.lock().unwrap_or_else(PoisonError::into_inner);
    TcpStream::connect(target).await
}

/// One direction of one connection.
#[derive(Clone, Copy)]
struct Direction<'a> {
    shared: &'a Shared,
    way: fn(&Weather) -> Way,
}

/// Bytes, and when they are to arrive at the earliest.
type Chunk = (Instant, Vec<u8>);

/// Carries bytes until one side ends, or the dice say that the connection breaks: that is the error.
async fn carry(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    direction: Direction<'_>,
    dice: StdRng,
) -> Result<(), Torn> {
    let (under_way, arriving) = mpsc::channel(CHUNKS_MAX);
    let (torn, ()) = tokio::join!(take(from, direction, dice, under_way), deliver(to, direction, arriving));
    torn
}

/// The connection broke.
struct Torn;

async fn take(
    from: &mut OwnedReadHalf,
    direction: Direction<'_>,
    mut dice: StdRng,
    under_way: mpsc::Sender<Chunk>,
) -> Result<(), Torn> {
    let harm = &direction.shared.harm;
    loop {
        // What is not taken fills the sender's buffers, as an unanswered window would.
        until_open(direction.shared, direction.way).await;
        let mut chunk = vec![0; CHUNK_BYTES];
        let Ok(length @ 1..) = from.read(&mut chunk).await else { return Ok(()) };
        chunk.truncate(length);
        let weather = *direction.shared.weather.borrow();
        if dice.random::<f64>() < weather.tear {
            return Err(Torn);
        }
        let way = (direction.way)(&weather);
        let mut late = way.latency + way.jitter.mul_f64(dice.random());
        let losses = (0..LOSSES_MAX).take_while(|_| dice.random::<f64>() < way.loss).count();
        if losses > 0 {
            harm.lost.fetch_add(1, Ordering::Relaxed);
            late += RETRANSMISSION * ((1 << losses) - 1);
        }
        if !late.is_zero() {
            harm.delayed.fetch_add(1, Ordering::Relaxed);
        }
        if under_way.send((Instant::now() + late, chunk)).await.is_err() {
            return Ok(());
        }
    }
}

async fn deliver(to: &mut OwnedWriteHalf, direction: Direction<'_>, mut arriving: mpsc::Receiver<Chunk>) {
    while let Some((at, chunk)) = arriving.recv().await {
        sleep_until(at).await;
        until_open(direction.shared, direction.way).await;
        let rate = (direction.way)(&direction.shared.weather.borrow()).rate;
        if let Some(rate) = rate {
            direction.shared.harm.delayed.fetch_add(1, Ordering::Relaxed);
            let micros = chunk.len() as u64 * 1_000_000 / rate.max(1);
            sleep(Duration::from_micros(micros)).await;
        }
        if to.write_all(&chunk).await.is_err() {
            return;
        }
    }
}

/// Returns when this way is open. Counts those that had to wait.
async fn until_open(shared: &Shared, way: fn(&Weather) -> Way) {
    if !way(&shared.weather.borrow()).held {
        return;
    }
    shared.harm.held.fetch_add(1, Ordering::Relaxed);
    let mut weather = shared.weather.subscribe();
    // The sender lives as long as `shared`.
    let _ = weather.wait_for(|weather| !way(weather).held).await;
}

/// Reads until the end, for nobody.
async fn swallow(mut from: OwnedReadHalf) {
    let mut nothing = vec![0; CHUNK_BYTES];
    while let Ok(1..) = from.read(&mut nothing).await {}
}
