//! How often somebody waits for the database: a proxy before it that counts the ways there and back. It harms nothing, unless it
//! is told that connections bear so much and no more.

use anyhow::{Context, Result};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, UnixStream},
    task::JoinHandle,
};
use tokio_postgres::config::{Config, Host};

/// A proxy. It ends with the value, and what goes through it with the database.
#[derive(Debug)]
pub struct Ways {
    url: String,
    count: Arc<AtomicU64>,
    bears: Arc<AtomicU64>,
    accepting: JoinHandle<()>,
}

impl Ways {
    pub(crate) async fn to(url: &str) -> Result<Self> {
        let config: Config = url.parse()?;
        let (Some(Host::Unix(folder)), Some(port)) = (config.get_hosts().first(), config.get_ports().first()) else {
            anyhow::bail!("a test database listens on a Unix socket");
        };
        let socket = folder.join(format!(".s.PGSQL.{port}"));
        let (user, database) = (config.get_user().context("a user")?, config.get_dbname().context("a database")?);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("postgresql://{user}@{}/{database}", listener.local_addr()?);
        let (count, bears) = (Arc::<AtomicU64>::default(), Arc::new(AtomicU64::new(u64::MAX)));
        let accepting = tokio::spawn(accept(listener, socket, Arc::clone(&count), Arc::clone(&bears)));
        Ok(Self { url, count, bears, accepting })
    }

    /// Where to connect.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How often somebody asked who had an answer to everything that he had asked before on that connection.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Each connection breaks, from now on, when more than so many bytes of answers have come by it.
    pub fn bear(&self, bytes: u64) {
        self.bears.store(bytes, Ordering::Relaxed);
    }
}

impl Drop for Ways {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, socket: impl AsRef<Path>, count: Arc<AtomicU64>, bears: Arc<AtomicU64>) {
    while let Ok((client, _)) = listener.accept().await {
        let Ok(server) = UnixStream::connect(&socket).await else { return };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let (answered, count, bears) = (Arc::new(AtomicBool::new(true)), Arc::clone(&count), Arc::clone(&bears));
        let asked = Arc::clone(&answered);
        tokio::spawn(copy(from_client, to_server, move |_| {
            if asked.swap(false, Ordering::Relaxed) {
                count.fetch_add(1, Ordering::Relaxed);
            }
            true
        }));
        tokio::spawn(copy(from_server, to_client, move |bytes| {
            answered.store(true, Ordering::Relaxed);
            bytes <= bears.load(Ordering::Relaxed)
        }));
    }
}

/// Until either end is closed, or may go on no more after so many bytes.
async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, may_pass: impl Fn(u64) -> bool) {
    let (mut chunk, mut bytes) = (vec![0; 64 * 1024], 0);
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        bytes += length as u64;
        if !may_pass(bytes) || to.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
}
