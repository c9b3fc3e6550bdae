//! Takes a guard away from a service without touching it: its SQL is changed on its way to PostgreSQL.
//!
//! So the program that is tried is the one that is shipped, no switch in it turns a guard off, and what the database gets
//! is what a program without that guard would send. Refuses to know which guards there are. Plain connections only.

use anyhow::{Context, Result, bail, ensure};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::{AbortHandle, JoinSet},
};

/// The longest message of a client.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A length counts itself.
const LENGTH_BYTES: usize = 4;
/// The first message of a session that is no wish for encryption: version 3.0.
const STARTUP: [u8; 4] = [0, 3, 0, 0];
/// Messages that hold SQL: a statement to prepare, and a simple query.
const WITH_SQL: [u8; 2] = [b'P', b'Q'];

/// What is replaced in statements, and by what. Line breaks count as they are written.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Part of a statement.
    pub from: &'static str,
    /// What PostgreSQL gets instead.
    pub to: &'static str,
}

/// Listens beside a PostgreSQL; ends when dropped.
#[derive(Debug)]
pub struct Rewriter {
    address: SocketAddr,
    hits: Arc<Vec<AtomicU64>>,
    accepting: AbortHandle,
}

impl Rewriter {
    /// Starts one before the server at `target`.
    ///
    /// # Errors
    /// When no port of the loopback is free.
    pub async fn before(target: SocketAddr, rules: &[Rule]) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let hits: Arc<Vec<AtomicU64>> = Arc::new(rules.iter().map(|_| AtomicU64::new(0)).collect());
        let (rules, counts): (Arc<[Rule]>, _) = (rules.into(), Arc::clone(&hits));
        let accepting = tokio::spawn(async move {
            let mut sessions = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (rules, counts) = (Arc::clone(&rules), Arc::clone(&counts));
                // A session that breaks is broken for both ends, which say so themselves.
                sessions.spawn(async move { drop(session(client, target, &rules, &counts).await) });
                while sessions.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, hits, accepting: accepting.abort_handle() })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The rules that changed no statement so far: with one of them left, the guard is still there.
    pub fn idle_rules(&self) -> usize {
        self.hits.iter().filter(|hits| hits.load(Ordering::Relaxed) == 0).count()
    }
}

impl Drop for Rewriter {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn session(client: TcpStream, target: SocketAddr, rules: &[Rule], hits: &[AtomicU64]) -> Result<()> {
    let server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, mut to_client) = client.into_split();
    let (mut from_server, to_server) = server.into_split();
    tokio::select! {
        said = relay(from_client, to_server, rules, hits) => said,
        answered = copy(&mut from_server, &mut to_client) => answered.map(drop).map_err(Into::into),
    }
}

/// What a client says, message by message.
async fn relay(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    rules: &[Rule],
    hits: &[AtomicU64],
) -> Result<()> {
    let startup = body(&mut client).await?;
    ensure!(startup.starts_with(&STARTUP), "a client asks for more than a plain session");
    server.write_all(&length(&startup)?).await?;
    server.write_all(&startup).await?;
    loop {
        let Ok(kind) = client.read_u8().await else { return Ok(()) };
        let mut body = body(&mut client).await?;
        if WITH_SQL.contains(&kind) {
            for (rule, hits) in rules.iter().zip(hits) {
                while let Some(at) = find(&body, rule.from.as_bytes()) {
                    body.splice(at..at + rule.from.len(), rule.to.bytes());
                    hits.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        let mut message = vec![kind];
        message.extend(length(&body)?);
        message.extend(body);
        server.write_all(&message).await?;
    }
}

async fn body(client: &mut OwnedReadHalf) -> Result<Vec<u8>> {
    let length = usize::try_from(client.read_u32().await?)?;
    let Some(length) = length.checked_sub(LENGTH_BYTES).filter(|length| *length <= MESSAGE_BYTES_MAX) else {
        bail!("a message of {length} bytes");
    };
    let mut body = vec![0; length];
    client.read_exact(&mut body).await.context("a message that was cut")?;
    Ok(body)
}

fn length(body: &[u8]) -> Result<[u8; 4]> {
    Ok(u32::try_from(body.len() + LENGTH_BYTES)?.to_be_bytes())
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}
