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
//! sessions are opened together, are never replaced one by one, and do not come from the pool, which would replace them
//! silently. It is also why nothing may change sessions between here and the server, such as a pooling proxy.
//!
//! Refuses to know what is written: that is `runs`.

use crate::{Error, Store, address::Address, pool::session_options};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_postgres::{Client, Statement};

/// Planned once: left to itself Postgres plans the first five uses anew, which costs more than running them.
const WRITER: &str = "-c plan_cache_mode=force_generic_plan -c synchronous_commit=off";

/// A writer that freezes in the middle of a transaction keeps others from taking its shards for no longer than this.
const IDLE_TRANSACTION_MAX: Duration = Duration::from_secs(2);

/// See the module's page. Dropping it ends both sessions.
pub struct Journal {
    pub(crate) writer: Client,
    pub(crate) statements: Statements,
    flusher: Flusher,
    opened: Instant,
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
}

impl Statements {
    async fn prepare(writer: &Client) -> Result<Self, Error> {
        // All at once: one after the other each would cost a way to the database and back, after every reload.
        let (commit, commit_units, commit_step, drop_children, guard, decide, backfills, miss_sla, retry, repeat, lost) =
            tokio::try_join!(
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
            )?;
        Ok(Self {
            commit,
            commit_units,
            commit_step,
            drop_children,
            guard,
            decide,
            backfills,
            miss_sla,
            retry,
            repeat,
            lost,
        })
    }
}

/// Waits for the disk. Cheap to clone.
#[derive(Clone)]
pub struct Flusher {
    client: Arc<Client>,
    flush: Statement,
}

impl Journal {
    /// Opens both sessions.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn open(store: &Store) -> Result<Self, Error> {
        let opened = Instant::now();
        let options = session_options(IDLE_TRANSACTION_MAX, WRITER);
        let (writer, flusher) =
            tokio::try_join!(session(store.address(), Some(&options)), session(store.address(), None))?;
        let flush = async { Ok(flusher.prepare(include_str!("../sql/wal/flush.sql")).await?) };
        let (statements, flush) = tokio::try_join!(Statements::prepare(&writer), flush)?;
        Ok(Self { statements, writer, flusher: Flusher { flush, client: Arc::new(flusher) }, opened })
    }

    /// Whether it can be of no use any more: one of its sessions has ended, or connections were given up since it was
    /// opened, and it may be as dead as they are.
    #[must_use]
    pub fn is_lost(&self, store: &Store) -> bool {
        self.writer.is_closed() || self.flusher.client.is_closed() || store.gave_up(self.opened)
    }

    /// What waits for the disk, for a task of its own.
    #[must_use]
    pub fn flusher(&self) -> Flusher {
        self.flusher.clone()
    }
}

impl Flusher {
    /// Returns when everything that this journal committed before the call is durable.
    ///
    /// # Errors
    /// When the session has ended. Then nobody knows what of the commits since the last flush counts: open another
    /// journal and load again.
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
