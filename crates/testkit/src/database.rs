//! A fresh database per test, inside one private Postgres that all test processes of a user share.
//!
//! Databases made from the same template are file copies, so that migrations run once and not once per test.

use crate::Ways;
use anyhow::{Context, Result, ensure};
use provision::{PrivatePostgres, TestServer};
use std::{
    collections::hash_map::DefaultHasher,
    fs,
    hash::{Hash, Hasher},
    path::Path,
    sync::{Mutex, OnceLock},
    time::{SystemTime, UNIX_EPOCH},
};
use tokio_postgres::{Client, NoTls};

/// Databases of tests that were killed are dropped by later ones after this time.
const ABANDONED_S: u64 = 3600;

/// Templates that are kept; older ones belong to migrations that changed since.
const TEMPLATES_MAX: i64 = 8;

/// Test databases are named `test_<seconds since 1970>_<random>`.
const PREFIX: &str = "test_";

fn shared() -> &'static PrivatePostgres {
    static SHARED: OnceLock<TestServer> = OnceLock::new();
    SHARED.get_or_init(|| TestServer::share().expect("tests need a PostgreSQL server")).postgres()
}

/// A database of its own for one test. Dropping it removes it.
#[derive(Debug)]
pub struct Database {
    name: String,
    url: String,
}

impl Database {
    /// An empty database.
    ///
    /// # Panics
    /// No PostgreSQL server can be had, or it refuses.
    pub async fn new() -> Self {
        Self::copy_of("template0").await.expect("a fresh test database")
    }

    /// A database with the schema that `migrate` makes, given the URL of an empty database.
    ///
    /// `migrate` runs once per content of the folder `migrations`; every later call, in any test process, copies what
    /// it made.
    ///
    /// # Panics
    /// As [`Database::new`], or when `migrate` fails.
    pub async fn migrated<F, E>(migrations: &Path, migrate: impl FnOnce(String) -> F) -> Self
    where
        F: Future<Output = Result<(), E>>,
        E: Into<anyhow::Error>,
    {
        let template = template(migrations, migrate).await.expect("a migrated template database");
        Self::copy_of(&template).await.expect("a fresh test database")
    }

    /// Where to connect; a Unix socket, so keep it as it is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where to connect so that the ways there and back are counted.
    ///
    /// # Panics
    /// No port is free.
    pub async fn counted(&self) -> Ways {
        Ways::to(&self.url).await.expect("a proxy before the test database")
    }

    /// The database's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A connection outside any pool, for a test that looks at the tables itself.
    ///
    /// # Panics
    /// The server refuses.
    pub async fn client(&self) -> Client {
        connect(&self.url).await.expect("a connection to the test database")
    }

    async fn copy_of(template: &str) -> Result<Self> {
        let postgres = server().await?;
        let client = connect(&postgres.url("postgres")).await?;
        sweep(&client).await?;
        let name = format!("{PREFIX}{}_{:012x}", now_s(), rand::random::<u64>() >> 16);
        // A copy by WAL is slower than by files for databases as small as these.
        let strategy = "STRATEGY = FILE_COPY";
        client.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {template} {strategy}")).await?;
        Ok(Self { url: postgres.url(&name), name })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // The test's runtime may be ending, so this goes through a thread and a runtime of its own. What it cannot
        // remove, a later test process sweeps away.
        let _ = std::thread::spawn(move || block_on(async move { execute(&drop).await })).join();
    }
}

async fn execute(statement: &str) -> Result<()> {
    let client = connect(&shared().url("postgres")).await?;
    Ok(client.batch_execute(statement).await?)
}

fn block_on(work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// The shared server; starting it blocks, so that happens on a thread for such things.
async fn server() -> Result<&'static PrivatePostgres> {
    Ok(tokio::task::spawn_blocking(shared).await?)
}

async fn connect(url: &str) -> Result<Client> {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.context("cannot connect to the test server")?;
    // Ends with the client.
    tokio::spawn(connection);
    Ok(client)
}

/// The name of the template for this content of `migrations`, made now if nobody has yet.
async fn template<F, E>(migrations: &Path, migrate: impl FnOnce(String) -> F) -> Result<String>
where
    F: Future<Output = Result<(), E>>,
    E: Into<anyhow::Error>,
{
    let name = format!("template_{:016x}", hash_of(migrations)?);
    let postgres = server().await?;
    let client = connect(&postgres.url("postgres")).await?;
    // Held until this connection ends: one process migrates, the others wait and then find it.
    client.execute("SELECT pg_advisory_lock(hashtext($1))", &[&name]).await?;
    if client.query_opt("SELECT 1 FROM pg_database WHERE datname = $1 AND datistemplate", &[&name]).await?.is_some() {
        return Ok(name);
    }
    // Not marked as a template: what an interrupted migration left.
    client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?;
    drop_old_templates(&client).await?;
    client.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0")).await?;
    migrate(postgres.url(&name)).await.map_err(Into::into).context("the migrations fail")?;
    client.batch_execute(&format!("ALTER DATABASE {name} WITH IS_TEMPLATE true ALLOW_CONNECTIONS false")).await?;
    // A pool that `migrate` made may close its connections a little later; a copy would be refused until then.
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
    client.execute(end, &[&name]).await?;
    Ok(name)
}

async fn drop_old_templates(client: &Client) -> Result<()> {
    let old = "SELECT datname FROM pg_database WHERE datname LIKE 'template\\_%' ORDER BY oid DESC OFFSET $1";
    for row in client.query(old, &[&(TEMPLATES_MAX - 1)]).await? {
        let name: String = row.get(0);
        client.batch_execute(&format!("ALTER DATABASE {name} WITH IS_TEMPLATE false")).await?;
        client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?;
    }
    Ok(())
}

/// Of names and contents of the files in the folder.
fn hash_of(migrations: &Path) -> Result<u64> {
    let mut files = fs::read_dir(migrations)
        .with_context(|| format!("cannot read {}", migrations.display()))?
        .map(|e| Ok(e?.path()))
        .collect::<Result<Vec<_>>>()?;
    files.retain(|p| p.extension().is_some_and(|e| e == "sql"));
    ensure!(!files.is_empty(), "{} holds no .sql file", migrations.display());
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        file.file_name().hash(&mut hasher);
        fs::read(&file)?.hash(&mut hasher);
    }
    Ok(hasher.finish())
}

/// Drops the databases of tests that were killed, once per process.
async fn sweep(client: &Client) -> Result<()> {
    static SWEPT: Mutex<bool> = Mutex::new(false);
    if std::mem::replace(&mut *SWEPT.lock().expect("no panic while swept"), true) {
        return Ok(());
    }
    let like = format!("{PREFIX}%");
    let rows = client.query("SELECT datname FROM pg_database WHERE datname LIKE $1", &[&like]).await?;
    for name in rows.iter().map(|r| r.get::<_, String>(0)).filter(|n| is_abandoned(n, now_s())) {
        client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?;
    }
    Ok(())
}

fn is_abandoned(name: &str, now_s: u64) -> bool {
    let made = name.strip_prefix(PREFIX).and_then(|rest| rest.split('_').next()?.parse::<u64>().ok());
    made.is_some_and(|made| made + ABANDONED_S < now_s)
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_test_databases_are_abandoned() {
        assert!(is_abandoned("test_1000_ab", 1000 + ABANDONED_S + 1));
        assert!(!is_abandoned("test_1000_ab", 1000 + ABANDONED_S));
        assert!(!is_abandoned("test_x", u64::MAX));
        assert!(!is_abandoned("postgres", u64::MAX));
    }
}
