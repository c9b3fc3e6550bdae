//! The journal: the two sessions through which a scheduler writes what its runs do.
//!
//! Whoever only waits for its own next step need not wait for the disk. So commit and durability are apart: the
//! *writer* commits without waiting for the disk (`synchronous_commit = off`), and the *flusher* waits for the disk on
//! behalf of everything that was committed before it was asked. Whoever is to be told that something counts is told
//! after a flush. What creates runs is the exception: nobody works on a run that a crash could forget, so there is nothing
//! to do meanwhile, and such a commit waits for the disk itself, for everything before it, too.
//!
//! A server that crashes forgets at most commits that were not flushed, and it ends every session. So a flush that
//! succeeds on a session which was open before the commit proves that the commit is durable. That is why the two
//! sessions do not come from the pool, which would replace them silently, and why nothing may change sessions between here
//! and the server, such as a pooling proxy. One of the two may break and be replaced while the other one lives, on the same
//! life of the same server: whatever was committed since either was opened is then still there. When both have ended, nobody
//! knows.
//!
//! A writer is replaced only once the server has ended the session of the former one, so that whatever that was doing is done
//! or never will be: what it is can be asked, and nothing of it comes late.
//!
//! Refuses to know what is written: that is `runs`.

use crate::{Error, Store, address::Address, pool::session_options};
use jiff::Timestamp;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_postgres::{Client, Statement, types::Type};

/// Planned once: left to itself Postgres plans the first five uses anew, which costs more than running them.
const WRITER: &str = "-c plan_cache_mode=force_generic_plan -c synchronous_commit=off";

/// A writer that freezes in the middle of a transaction keeps others from taking its shards for no longer than this.
const IDLE_TRANSACTION_MAX: Duration = Duration::from_secs(2);

/// See the module's page. Dropping it ends both sessions.
pub struct Journal {
    store: Store,
    writer: Writer,
    flusher: Flusher,
    /// When the older of them was opened.
    opened: Instant,
    /// Nobody knows whether what was written last counts.
    in_doubt: bool,
}

/// What a session is called on its server, as no other one ever is.
#[derive(Debug, Clone, Copy)]
struct SessionId {
    pid: i32,
    since: Timestamp,
}

/// The session that commits.
pub(crate) struct Writer {
    pub(crate) client: Client,
    pub(crate) statements: Statements,
    id: SessionId,
}

/// What the writer writes with.
pub(crate) struct Statements {
    pub(crate) commit: Statement,
    pub(crate) commit_units: Statement,
    pub(crate) commit_step: Statement,
    pub(crate) drop_children: Statement,
    pub(crate) guard: Statement,
    pub(crate) decide: Statement,
    pub(crate) backfills: Statement,
    pub(crate) miss_sla: Statement,
    pub(crate) retry: Statement,
    pub(crate) repeat: Statement,
    pub(crate) lost: Statement,
    pub(crate) outcome: Statement,
}

impl Statements {
    async fn prepare(writer: &Client) -> Result<Self, Error> {
        // All at once: one after the other each would cost a way to the database and back, whenever it breaks.
        let (commit, units, step, drop_children, guard, decide, backfills, miss_sla, retry, repeat, lost, outcome) = tokio::try_join!(
            writer.prepare(include_str!("../sql/run/commit.sql")),
            writer.prepare(include_str!("../sql/run/commit_units.sql")),
            writer.prepare(include_str!("../sql/run/commit_step.sql")),
            writer.prepare(include_str!("../sql/run/drop_children.sql")),
            writer.prepare(include_str!("../sql/trigger/guard.sql")),
            writer.prepare(include_str!("../sql/trigger_state/decide.sql")),
            writer.prepare(include_str!("../sql/backfill/commit.sql")),
            writer.prepare(include_str!("../sql/run/miss_sla.sql")),
            writer.prepare(include_str!("../sql/run/retry.sql")),
            writer.prepare(include_str!("../sql/run/repeat.sql")),
            writer.prepare(include_str!("../sql/log_line/insert_lost.sql")),
            writer.prepare(include_str!("../sql/run/outcome.sql")),
        )?;
        Ok(Self {
            commit,
            commit_units: units,
            commit_step: step,
            drop_children,
            guard,
            decide,
            backfills,
            miss_sla,
            retry,
            repeat,
            lost,
            outcome,
        })
    }
}

/// Waits for the disk. Cheap to clone.
#[derive(Clone)]
pub struct Flusher {
    client: Arc<Client>,
    flush: Statement,
    id: SessionId,
}

impl Journal {
    /// Opens both sessions.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn open(store: &Store) -> Result<Self, Error> {
        let opened = Instant::now();
        let (writer, flusher) = tokio::try_join!(Writer::open(store.address()), Flusher::open(store.address()))?;
        Ok(Self { store: store.clone(), writer, flusher, opened, in_doubt: false })
    }

    /// Whether it can be of no use any more: both of its sessions have ended; nobody knows whether what was written last
    /// counts; or connections were given up since it was opened, and it may be as dead as they are.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        let have_ended = self.writer.client.is_closed() && self.flusher.client.is_closed();
        have_ended || self.in_doubt || self.store.gave_up(self.opened)
    }

    /// What waits for the disk, for a task of its own.
    #[must_use]
    pub fn flusher(&self) -> Flusher {
        self.flusher.clone()
    }

    /// Waits for the disk as [`Flusher::flush`] does, on a new session, as the former one has ended.
    ///
    /// # Errors
    /// When the writer's session has ended as well, or the database does not answer. Then nobody knows what of the commits
    /// since the last flush counts: open another journal and load again.
    pub async fn flush_again(&mut self) -> Result<(), Error> {
        let flusher = Flusher::open(self.store.address()).await?;
        let SessionId { pid, since } = self.writer.id;
        let lives = [(&pid as _, Type::INT4), (&since as _, Type::TIMESTAMPTZ)];
        // In this order: who lives after the flush has lived through it.
        let lives = async { Ok(flusher.client.query_typed(include_str!("../sql/session/lives.sql"), &lives).await?) };
        let ((), lives) = tokio::try_join!(biased; flusher.flush(), lives)?;
        if lives.is_empty() {
            return Err(Error::Interrupted);
        }
        self.flusher = flusher;
        Ok(())
    }

    /// The session that commits, for a question.
    pub(crate) fn writer(&self) -> &Writer {
        &self.writer
    }

    /// The session that commits. From here to [`Journal::settle`] nobody knows whether what is being written counts.
    pub(crate) fn doubt(&mut self) -> &Writer {
        self.in_doubt = true;
        &self.writer
    }

    /// What was written last counts, or never will, and whoever wrote it knows.
    pub(crate) fn settle(&mut self) {
        self.in_doubt = false;
    }

    /// Whether its writer's session has ended.
    pub(crate) fn has_lost_writer(&self) -> bool {
        self.writer.client.is_closed()
    }

    /// Opens another writer. Whatever the former one was at is then done, or never will be.
    ///
    /// # Errors
    /// When the database does not answer; when it is not the server on which this journal was opened, or has been away
    /// meanwhile; or when it does not end the former session in time.
    pub(crate) async fn replace_writer(&mut self) -> Result<(), Error> {
        let writer = Writer::open(self.store.address()).await?;
        let (former, flusher) = (self.writer.id, self.flusher.id);
        let ids = [
            (&former.pid as _, Type::INT4),
            (&former.since as _, Type::TIMESTAMPTZ),
            (&flusher.pid as _, Type::INT4),
            (&flusher.since as _, Type::TIMESTAMPTZ),
        ];
        let rows = writer.client.query_typed(include_str!("../sql/session/end.sql"), &ids).await?;
        if !rows.first().is_some_and(|row| row.get("has_ended") && row.get("flusher_lives")) {
            return Err(Error::Interrupted);
        }
        self.writer = writer;
        Ok(())
    }
}

impl Writer {
    async fn open(address: &Address) -> Result<Self, Error> {
        let client = session(address, Some(&session_options(IDLE_TRANSACTION_MAX, WRITER))).await?;
        let (statements, id) = tokio::try_join!(Statements::prepare(&client), SessionId::of(&client))?;
        Ok(Self { client, statements, id })
    }
}

impl SessionId {
    async fn of(client: &Client) -> Result<Self, Error> {
        let rows = client.query_typed(include_str!("../sql/session/own.sql"), &[]).await?;
        let row = rows.first().ok_or(Error::Interrupted)?;
        Ok(Self { pid: row.get("pid"), since: row.get("backend_start") })
    }
}

impl Flusher {
    async fn open(address: &Address) -> Result<Self, Error> {
        let client = session(address, None).await?;
        let flush = async { Ok(client.prepare(include_str!("../sql/wal/flush.sql")).await?) };
        let (flush, id) = tokio::try_join!(flush, SessionId::of(&client))?;
        Ok(Self { flush, client: Arc::new(client), id })
    }

    /// Returns when everything that this journal committed before the call is durable.
    ///
    /// # Errors
    /// When the session has ended: see [`Journal::flush_again`].
    pub async fn flush(&self) -> Result<(), Error> {
        self.client.execute(&self.flush, &[]).await?;
        Ok(())
    }
}

async fn session(address: &Address, options: Option<&str>) -> Result<Client, Error> {
    let Address { mut config, tls } = address.clone();
    if let Some(options) = options {
        config.options(options);
    }
    let (client, connection) = config.connect(tls).await?;
    // It ends with its client, or with the server: the client then says so.
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}
