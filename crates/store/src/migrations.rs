//! Brings the schema up to date while replicas of the version before still serve, and says whether this version may serve
//! on a schema that is newer than itself. The rules are those of `migrations/README.md`.
//!
//! What was applied is a row of `refinery_schema_history`, as that library writes it. It is not used for more than reading
//! the files into the binary: it knows no migration outside of a transaction, waits for locks without end, and refuses a
//! schema that is newer than the binary, which every one is half way through an upgrade.

use crate::{Error, address::Address, error::of_postgres};
use domain::ErrorKind;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, error::SqlState};

mod embedded {
    refinery::embed_migrations!("../../migrations");
}

/// Held while migrations run, so that of several processes one migrates and the others wait.
const LOCK: i64 = 0x6f72_7265_7279;
/// A statement that changes a table waits for those that use it, and everybody who comes later waits behind it. So it gives
/// way after this, and comes again.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two tries.
const GIVE_WAY: Duration = Duration::from_millis(500);
/// How often a migration comes again.
const TRIES_MAX: u32 = 60;
/// How the name of a migration begins that takes something away.
const CONTRACT: &str = "contract_";

/// What a migration may do; the first line of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Adds something that the version before need not know of.
    Expand,
    /// Takes away what no running version uses any more; its name begins with `contract_`.
    Contract,
    /// Runs outside a transaction, statement by statement; each ends its line with a semicolon. What failed half way is
    /// tried again from its first statement.
    Concurrent,
}

/// One step of the schema's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    version: i32,
    name: String,
    kind: Kind,
    sql: String,
    checksum: u64,
}

/// How long another process may migrate while this one waits.
const TURN_MAX: Duration = Duration::from_secs(1_800);

/// Why a schema cannot be brought up to date, or not be served on.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// A file does not say what it is.
    #[error(
        "read migration V{version}__{name}: its first line must be -- expand, -- contract or -- concurrent, and the \
             name begins with contract_ just when that is its kind"
    )]
    NoKind {
        /// Its number.
        version: i32,
        /// Its name.
        name: String,
    },
    /// A file was changed after it was applied, or this binary is of another line of development.
    #[error(
        "migrate: V{version}__{name} was applied with another content than this version has; applied migrations are \
             never changed, so start the version that applied it, or one that came from it"
    )]
    Differs {
        /// Its number.
        version: i32,
        /// Its name, as this version has it.
        name: String,
    },
    /// One of this version's migrations was left out by a newer version.
    #[error("migrate: V{version}__{name} was never applied, and later ones were; start the version that applied those")]
    LeftOut {
        /// Its number.
        version: i32,
        /// Its name.
        name: String,
    },
    /// A newer version has taken away what this one uses.
    #[error(
        "serve on this schema: V{version}__{name} of a newer version has taken away what this one uses; start the \
             newer version"
    )]
    Contracted {
        /// Its number.
        version: i32,
        /// Its name.
        name: String,
    },
    /// Others held what a migration needs, again and again.
    #[error("migrate: V{version}__{name} waited for locks {TRIES_MAX} times; end long transactions and start again")]
    Locked {
        /// Its number.
        version: i32,
        /// Its name.
        name: String,
        /// What PostgreSQL said last.
        source: tokio_postgres::Error,
    },
    /// Another process has been migrating for too long.
    #[error("migrate: another process has been at it for {} minutes; look what its session waits for", TURN_MAX.as_secs() / 60)]
    NoTurn,
    /// A migration failed; nothing of it remains, unless it runs outside a transaction.
    #[error("apply migration V{version}__{name}")]
    Failed {
        /// Its number.
        version: i32,
        /// Its name.
        name: String,
        /// What PostgreSQL said.
        source: tokio_postgres::Error,
    },
}

impl MigrationError {
    /// Whether trying again may help.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoKind { .. } | Self::Differs { .. } | Self::LeftOut { .. } | Self::Contracted { .. } => {
                ErrorKind::FailedPrecondition
            }
            Self::Locked { .. } | Self::NoTurn => ErrorKind::Unavailable,
            Self::Failed { source, .. } => of_postgres(source),
        }
    }
}

impl Migration {
    /// Reads a file's content.
    ///
    /// # Errors
    /// When its first line names no kind, or its name does not fit it.
    pub fn new(version: i32, name: &str, sql: &str) -> Result<Self, MigrationError> {
        let no_kind = || MigrationError::NoKind { version, name: name.to_owned() };
        let file = refinery::Migration::unapplied(&format!("V{version}__{name}"), sql).map_err(|_| no_kind())?;
        let checksum = file.checksum();
        let kind = match sql.lines().next().map(str::trim) {
            Some("-- expand") => Kind::Expand,
            Some("-- contract") => Kind::Contract,
            Some("-- concurrent") => Kind::Concurrent,
            _ => return Err(no_kind()),
        };
        if (kind == Kind::Contract) != name.starts_with(CONTRACT) {
            return Err(no_kind());
        }
        Ok(Self { version, name: name.to_owned(), kind, sql: sql.to_owned(), checksum })
    }

    /// Its place in the history.
    #[must_use]
    pub fn version(&self) -> i32 {
        self.version
    }

    /// What it may do.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its statements.
    #[must_use]
    pub fn sql(&self) -> &str {
        &self.sql
    }
}

/// The migrations of this version, in order.
///
/// # Errors
/// When one of the files does not say what it is.
pub fn embedded() -> Result<Vec<Migration>, MigrationError> {
    let files = embedded::migrations::runner();
    let read = |file: &refinery::Migration| Migration::new(file.version(), file.name(), file.sql().unwrap_or_default());
    let mut migrations = files.get_migrations().iter().map(read).collect::<Result<Vec<_>, _>>()?;
    migrations.sort_by_key(Migration::version);
    Ok(migrations)
}

/// Applies those of `known` that are not applied yet, in order, once, even when several processes start together. Returns
/// when a version that knows these may serve: a newer version's additions are no hindrance.
///
/// # Errors
/// When the database does not answer, a migration fails, or a newer version has taken away what this one uses. What was
/// applied before the failure stays.
pub async fn migrate(url: &str, known: &[Migration]) -> Result<(), Error> {
    let address = Address::parse(url)?;
    for host in address.in_the_clear() {
        tracing::warn!(host, "PostgreSQL is reached without TLS; `sslmode=require` in its URL asks for it");
    }
    let (client, connection) = address.config.connect(address.tls).await?;
    let driver = tokio::spawn(connection);
    let outcome = migrate_by(&client, known).await;
    drop(client);
    // The lock ends with the session.
    let _ = driver.await;
    outcome
}

async fn migrate_by(client: &Client, known: &[Migration]) -> Result<(), Error> {
    lock(client).await?;
    client.batch_execute(include_str!("../sql/schema_history/create.sql")).await?;
    let rows = client.query(include_str!("../sql/schema_history/list.sql"), &[]).await?;
    let applied: Vec<Applied> = rows.iter().map(Applied::read).collect();
    for migration in plan(&applied, known)? {
        apply(client, migration).await?;
        tracing::info!(migration = %format!("V{}__{}", migration.version, migration.name), "applied a migration");
    }
    Ok(())
}

/// Waits for its turn by asking: whoever waits inside a statement is an old transaction, for whose end the building of an
/// index would wait in turn.
async fn lock(client: &Client) -> Result<(), Error> {
    let begun = Instant::now();
    loop {
        let row = client.query_one(include_str!("../sql/schema_history/lock.sql"), &[&LOCK]).await?;
        if row.get("locked") {
            return Ok(());
        }
        if begun.elapsed() > TURN_MAX {
            return Err(MigrationError::NoTurn.into());
        }
        tokio::time::sleep(GIVE_WAY).await;
    }
}

/// A row of the history.
struct Applied {
    version: i32,
    name: String,
    checksum: String,
}

impl Applied {
    fn read(row: &tokio_postgres::Row) -> Self {
        Self { version: row.get("version"), name: row.get("name"), checksum: row.get("checksum") }
    }
}

/// What is to be applied, if this version may serve at all.
fn plan<'a>(applied: &[Applied], known: &'a [Migration]) -> Result<Vec<&'a Migration>, MigrationError> {
    let mut newer = 0;
    for row in applied {
        match known.iter().find(|migration| migration.version == row.version) {
            Some(own) if own.name == row.name && own.checksum.to_string() == row.checksum => {}
            Some(own) => return Err(MigrationError::Differs { version: own.version, name: own.name.clone() }),
            None if row.name.starts_with(CONTRACT) => {
                return Err(MigrationError::Contracted { version: row.version, name: row.name.clone() });
            }
            None => newer += 1,
        }
    }
    if newer > 0 {
        tracing::warn!(migrations = newer, "the schema is of a newer version, which has only added to it: serving");
    }
    let last = applied.iter().map(|row| row.version).max().unwrap_or(0);
    let missing: Vec<&Migration> =
        known.iter().filter(|own| applied.iter().all(|row| row.version != own.version)).collect();
    match missing.iter().find(|own| own.version < last) {
        Some(own) => Err(MigrationError::LeftOut { version: own.version, name: own.name.clone() }),
        None => Ok(missing),
    }
}

/// Applies one, giving way to whoever uses what it needs.
async fn apply(client: &Client, migration: &Migration) -> Result<(), MigrationError> {
    let (version, name) = (migration.version, migration.name.clone());
    let mut tries = 0;
    loop {
        let Err(error) = try_apply(client, migration).await else { return Ok(()) };
        let waited = matches!(error.code(), Some(&SqlState::LOCK_NOT_AVAILABLE | &SqlState::T_R_DEADLOCK_DETECTED));
        tries += 1;
        if !waited {
            return Err(MigrationError::Failed { version, name, source: error });
        }
        if tries >= TRIES_MAX {
            return Err(MigrationError::Locked { version, name, source: error });
        }
        tracing::info!(%version, name, "a migration gives way to those who use its tables");
        tokio::time::sleep(GIVE_WAY).await;
    }
}

async fn try_apply(client: &Client, migration: &Migration) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(&format!("SET lock_timeout = {}", LOCK_TIMEOUT.as_millis())).await?;
    let note = include_str!("../sql/schema_history/insert.sql");
    let checksum = migration.checksum.to_string();
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 3] = [&migration.version, &migration.name, &checksum];
    if migration.kind == Kind::Concurrent {
        // Building an index waits for every transaction that is older, and blocks nobody meanwhile.
        client.batch_execute("SET lock_timeout = 0").await?;
        // Several statements in one message would be a transaction.
        for statement in migration.sql.split_inclusive(";\n") {
            client.batch_execute(statement).await?;
        }
        return client.execute(note, &values).await.map(drop);
    }
    let applied = async {
        client.batch_execute("BEGIN").await?;
        client.batch_execute(&migration.sql).await?;
        client.execute(note, &values).await?;
        client.batch_execute("COMMIT").await
    };
    let outcome = applied.await;
    if outcome.is_err() && !client.is_closed() {
        client.batch_execute("ROLLBACK").await?;
    }
    outcome
}
