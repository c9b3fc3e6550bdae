//! The connection pool.

use crate::{Error, address::Address, migrations};
use deadpool_postgres::{
    Client, Hook, HookError, Manager, ManagerConfig, Pool, QueueMode, RecyclingMethod, Runtime, Timeouts,
};
use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    task::Poll,
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// A request would rather fail than wait longer than this for a connection.
const WAIT_TIMEOUT: Duration = Duration::from_secs(5);
/// A server that acknowledges nothing for this long is gone, and so are the sessions with it. Only the kernel can tell.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// A silent session is asked whether its server lives after this time, and then this often.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));
/// Asked so often without an answer, the server is gone.
const KEEPALIVES_MAX: u32 = 3;
/// As long as a lease of schedulers: others take over from who waits longer. Grown, it stays below the half minute after which a
/// watchdog ends a process that waits.
const PATIENCE: Duration = Duration::from_secs(4);
const PATIENCE_MAX: Duration = Duration::from_secs(25);
/// What was not answered is tried again well within this time, with the patience that it grew.
const GROWN_FOR: Duration = Duration::from_secs(30);
/// Whether a connection answers that somebody left in the middle of a question is known within this time. Where the server still works
/// for whoever left, another connection is there sooner.
const CHECK_MAX: Duration = Duration::from_secs(1);
/// The server ends a session that says nothing for so long in the middle of a transaction: whoever froze or was cut off
/// there would keep others from its rows for as long as that lasts.
const IDLE_TRANSACTION_MAX: Duration = Duration::from_secs(5);
/// The longest statement of a pool for log lines.
pub const LOG_STATEMENT_TIMEOUT: Duration = Duration::from_secs(8);
/// Called with the time that a caller waited for a connection.
type Waited = dyn Fn(Duration) + Send + Sync;

/// A handle to the database; cheap to clone.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
    waited: Arc<OnceLock<Box<Waited>>>,
    given_up: Arc<GivenUp>,
    /// When somebody was cut short last.
    cut: Arc<Last>,
    address: Arc<Address>,
}

/// How long one answer is waited for. Doubles each time that none came, so that a statement that takes so long for good reasons comes to
/// its end, and is as it was a while later. An answer alone changes nothing: it may be that of a short statement in between.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    first: Duration,
    /// What it grew to, and when.
    grown: Option<(Duration, Instant)>,
}

impl Patience {
    /// So long at first.
    #[must_use]
    pub fn of(first: Duration) -> Self {
        Self { first, grown: None }
    }

    fn now(&self) -> Duration {
        self.grown.filter(|(_, at)| at.elapsed() < GROWN_FOR).map_or(self.first, |(patience, _)| patience)
    }

    fn grow(&mut self) {
        self.grown = Some(((self.now() * 2).min(PATIENCE_MAX), Instant::now()));
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self::of(PATIENCE)
    }
}

/// When something happened last.
#[derive(Default)]
struct Last(Mutex<Option<Instant>>);

impl Last {
    fn set(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether it has happened since then.
    fn is_since(&self, then: Instant) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|at| then <= at)
    }
}

/// When connections were given up, and who wants to know.
#[derive(Default)]
struct GivenUp {
    at: Last,
    told: Notify,
}

impl GivenUp {
    /// Whether what was opened then is given up.
    fn covers(&self, created: Instant) -> bool {
        self.at.is_since(created)
    }

    fn now(&self) {
        self.at.set();
        self.told.notify_waiters();
    }
}

/// Somebody who is cut short, unless it is forgotten.
struct Cut<'a>(&'a Last);

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        self.0.set();
    }
}

impl Store {
    /// Opens a pool of at most `max_connections` and proves it with one connection.
    ///
    /// # Errors
    /// When the URL is malformed or the database does not answer.
    pub async fn connect(url: &str, max_connections: usize) -> Result<Self, Error> {
        Self::open(url, max_connections, None).await
    }

    /// For log lines: a commit does not wait for the disk, and no statement outlives [`LOG_STATEMENT_TIMEOUT`], so that an
    /// id which was given longer ago than that is either there or never comes.
    ///
    /// # Errors
    /// As [`Store::connect`].
    pub async fn connect_for_logs(url: &str, max_connections: usize) -> Result<Self, Error> {
        let timeout = LOG_STATEMENT_TIMEOUT.as_millis();
        let options = format!("-c synchronous_commit=off -c statement_timeout={timeout}");
        Self::open(url, max_connections, Some(&options)).await
    }

    async fn open(url: &str, max_connections: usize, options: Option<&str>) -> Result<Self, Error> {
        let mut address = Address::parse(url)?;
        address
            .config
            .connect_timeout(WAIT_TIMEOUT)
            .tcp_user_timeout(SILENCE_MAX)
            .keepalives_idle(KEEPALIVE.0)
            .keepalives_interval(KEEPALIVE.1)
            .keepalives_retries(KEEPALIVES_MAX);
        let mut pooled = address.config.clone();
        pooled.options(session_options(IDLE_TRANSACTION_MAX, options.unwrap_or_default()));
        // The connection that was used last has the warmest caches on the server.
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let (given_up, cut) = (Arc::<GivenUp>::default(), Arc::<Last>::default());
        let (of_pool, last_cut) = (Arc::clone(&given_up), Arc::clone(&cut));
        let tls = address.tls.clone();
        let pool = Pool::builder(Manager::from_config(pooled, address.tls.clone(), recycling))
            .pre_recycle(Hook::sync_fn(move |_, metrics| match of_pool.covers(metrics.created) {
                true => Err(HookError::message("it was given up")),
                false => Ok(()),
            }))
            .pre_recycle(Hook::async_fn(move |client, metrics| {
                let taken = metrics.recycled.unwrap_or(metrics.created);
                let (is_doubtful, tls) = (last_cut.is_since(taken), tls.clone());
                Box::pin(async move {
                    if !is_doubtful {
                        return Ok(());
                    }
                    if let Ok(Ok(_)) = tokio::time::timeout(CHECK_MAX, client.simple_query("")).await {
                        return Ok(());
                    }
                    // The server may still work for whoever left, in a session that no pool counts any more.
                    let work = client.cancel_token();
                    tokio::spawn(async move { tokio::time::timeout(WAIT_TIMEOUT, work.cancel_query(tls)).await });
                    Err(HookError::message("it does not answer"))
                })
            }))
            .max_size(max_connections)
            .queue_mode(QueueMode::Lifo)
            .timeouts(Timeouts { wait: Some(WAIT_TIMEOUT), create: Some(WAIT_TIMEOUT), recycle: Some(WAIT_TIMEOUT) })
            .runtime(Runtime::Tokio1)
            .build()?;
        let store = Self { pool, waited: Arc::default(), given_up, cut, address: Arc::new(address) };
        drop(store.client().await?);
        Ok(store)
    }

    /// For sessions beside the pool.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Gives up every connection there is: one of them did not answer, and whatever is the matter with it may be the matter with all.
    /// Those in use go when they are returned; what waits for an answer in [`Store::answered`] ends.
    pub fn give_up_connections(&self) {
        self.given_up.now();
        self.pool.retain(|_, metrics| !self.given_up.covers(metrics.created));
    }

    /// Whether what was opened then is given up.
    pub(crate) fn gave_up(&self, opened: Instant) -> bool {
        self.given_up.covers(opened)
    }

    /// Does `work` on this database, unless connections are given up meanwhile, or are given up here because `work` has heard nothing for
    /// longer than `patience`: then `None`, since an answer may never come, and nobody knows what of the work was done. `work` is
    /// dropped where it stands. It must wait for nothing but this database.
    ///
    /// Others may be answered meanwhile: a balancer or a firewall forgets single connections, and no kernel tells.
    pub async fn answered<T>(&self, patience: &mut Patience, work: impl Future<Output = T>) -> Option<T> {
        let done = tokio::select! {
            biased;
            done = heard(work, patience.now()) => done,
            () = self.given_up.told.notified() => return None,
        };
        if done.is_none() {
            self.give_up_connections();
            patience.grow();
        }
        done
    }

    /// Does `work`. Where it is dropped before its end, as at a deadline or when its caller goes, a connection that it had may wait for
    /// an answer that never comes: each that was in use by then is asked whether it answers before somebody gets it again, once.
    pub async fn watched<T>(&self, work: impl Future<Output = T>) -> T {
        // Dropped in the middle, the cut is noted before a connection of the work's is free for others.
        let work = pin!(work);
        let cut = Cut(&self.cut);
        let done = work.await;
        std::mem::forget(cut);
        done
    }

    /// Does `work` of a loop that decides nothing; `None` once it has heard nothing for 20 s, which is less than a watchdog waits. It is
    /// dropped then as in [`Store::watched`], and all others keep their connections.
    pub async fn patiently<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        heard(self.watched(work), SILENCE_MAX).await
    }

    /// A connection from the pool.
    ///
    /// # Errors
    /// When none is free within five seconds, or the database does not answer.
    pub async fn client(&self) -> Result<Client, Error> {
        let asked = Instant::now();
        let client = self.pool.get().await;
        if let Some(waited) = self.waited.get() {
            waited(asked.elapsed());
        }
        Ok(client?)
    }

    /// Tells `waited` how long each caller waits for a connection, of this pool and its copies. Only the first call counts.
    pub fn observe_waits(&self, waited: impl Fn(Duration) + Send + Sync + 'static) {
        // A second observer would see what the first one counts already.
        let _ = self.waited.set(Box::new(waited));
    }

    /// Brings the schema up to date with this version's migrations; see [`migrations::migrate`].
    ///
    /// # Errors
    /// As there.
    pub async fn migrate(url: &str) -> Result<(), Error> {
        migrations::migrate(url, &migrations::embedded()?).await
    }
}

/// What a session is opened with, beside `further` options.
///
/// No statement of a service needs a table whole. The planner, which sees a table as it is when a statement is first used, would read
/// one that is small then, and go on reading it when a burst has made it large, until statistics are taken a minute later: the
/// ends of 500 runs took a second to count where they take 5 ms. And no statement works long enough to be worth compiling; the
/// cost by which PostgreSQL judges that is what it is told to add to a table that is read whole, as it must be where it is small.
pub(crate) fn session_options(idle_transaction_max: Duration, further: &str) -> String {
    let idle_max = idle_transaction_max.as_millis();
    format!("-c idle_in_transaction_session_timeout={idle_max} -c enable_seqscan=off -c jit=off {further}")
}

/// The outcome of `work`; `None` once nothing has woken it for so long. What it computes meanwhile does not count.
async fn heard<T>(work: impl Future<Output = T>, silence_max: Duration) -> Option<T> {
    let mut work = pin!(work);
    let mut silence = pin!(tokio::time::sleep(silence_max));
    poll_fn(|context| {
        let is_over = silence.as_mut().poll(context).is_ready();
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(Some(done));
        }
        if is_over {
            return Poll::Ready(None);
        }
        silence.as_mut().reset(tokio::time::Instant::now() + silence_max);
        // Only a timer that was polled wakes anybody.
        silence.as_mut().poll(context).map(|()| None)
    })
    .await
}
