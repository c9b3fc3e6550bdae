//! How often somebody waits for the database: a proxy before it that counts the ways there and back. It harms nothing, unless it
//! is told that connections bear so much and no more, or is told to lose something.

use anyhow::{Context, Result};
use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    sync::Notify,
    task::JoinHandle,
};
use tokio_postgres::config::{Config, Host};

/// A proxy. It ends with the value, and what goes through it with the database.
#[derive(Debug)]
pub struct Ways {
    url: String,
    through: Arc<Through>,
    accepting: JoinHandle<()>,
}

/// What is to be lost of one way there and back. Its connection breaks with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// It does not come to the database.
    Question,
    /// The database has done what it was asked.
    Answer,
}

/// What goes through all connections.
#[derive(Debug, Default)]
struct Through {
    count: AtomicU64,
    /// Bytes of answers.
    bears: AtomicU64,
    /// Of the way with this number.
    loses: Mutex<Option<(u64, Loss)>>,
    /// The answer to what names this.
    marked: Mutex<Option<String>>,
    breaks: Notify,
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
        let through = Arc::new(Through { bears: AtomicU64::new(u64::MAX), ..Through::default() });
        let accepting = tokio::spawn(accept(listener, socket, Arc::clone(&through)));
        Ok(Self { url, through, accepting })
    }

    /// Where to connect.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How often somebody asked who had an answer to everything that he had asked before on that connection.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.through.count.load(Ordering::Relaxed)
    }

    /// Each connection breaks, from now on, when more than so many bytes of answers have come by it.
    pub fn bear(&self, bytes: u64) {
        self.through.bears.store(bytes, Ordering::Relaxed);
    }

    /// Loses this of the way that is the `nth` from now, beginning with 0.
    pub fn lose(&self, nth: u64, loss: Loss) {
        *self.through.loses.lock().unwrap_or_else(PoisonError::into_inner) = Some((self.count() + nth, loss));
    }

    /// Loses the answer to the first question from now on that has this in it, such as a parameter.
    pub fn lose_answer_to(&self, mark: &str) {
        *self.through.marked.lock().unwrap_or_else(PoisonError::into_inner) = Some(mark.to_owned());
    }

    /// Whoever waits for an answer hears that his connection has ended. The database does not, while it is at that.
    pub fn break_asked(&self) {
        self.through.breaks.notify_waiters();
    }
}

impl Drop for Ways {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Through {
    /// Whether this is the question whose answer is lost.
    fn is_marked(&self, question: &[u8]) -> bool {
        let mut marked = self.marked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_in = |mark: &mut String| question.windows(mark.len()).any(|part| part == mark.as_bytes());
        marked.take_if(is_in).is_some()
    }

    /// Somebody asks: what is lost of it.
    fn asked(&self) -> Option<Loss> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let mut loses = self.loses.lock().unwrap_or_else(PoisonError::into_inner);
        loses.take_if(|(at, _)| *at == number).map(|(_, loss)| loss)
    }
}

async fn accept(listener: TcpListener, socket: impl AsRef<Path>, through: Arc<Through>) {
    while let Ok((client, _)) = listener.accept().await {
        let Ok(server) = UnixStream::connect(&socket).await else { return };
        pass(client, server, &through);
    }
}

fn pass(client: TcpStream, server: UnixStream, through: &Arc<Through>) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (answered, is_silenced) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let (asked, silence, there) = (Arc::clone(&answered), Arc::clone(&is_silenced), Arc::clone(through));
    tokio::spawn(copy(from_client, to_server, move |question, _| {
        let loss = asked.swap(false, Ordering::Relaxed).then(|| there.asked()).flatten();
        silence.fetch_or(loss == Some(Loss::Answer) || there.is_marked(question), Ordering::Relaxed);
        loss != Some(Loss::Question)
    }));
    let back = Arc::clone(through);
    tokio::spawn(async move {
        let breaks = async {
            loop {
                back.breaks.notified().await;
                if !answered.load(Ordering::Relaxed) {
                    return;
                }
            }
        };
        let passing = copy(from_server, to_client, |_, bytes| {
            answered.store(true, Ordering::Relaxed);
            !is_silenced.load(Ordering::Relaxed) && bytes <= back.bears.load(Ordering::Relaxed)
        });
        tokio::select! {
            () = breaks => {}
            () = passing => {}
        }
    });
}

/// Until either end is closed, or may go on no more with what comes next, after so many bytes with that.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    may_pass: impl Fn(&[u8], u64) -> bool,
) {
    let (mut chunk, mut bytes) = (vec![0; 64 * 1024], 0);
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        bytes += length as u64;
        let next = &chunk[..length];
        if !may_pass(next, bytes) || to.write_all(next).await.is_err() {
            return;
        }
    }
}
