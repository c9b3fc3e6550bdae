//! Connections as a server accepts them. Whoever opens one and does not speak HTTP/2 on it is let go: after a few seconds, and at
//! once when the server drains. The HTTP/2 server itself waits for a client's first bytes without end, and a drain for it: a
//! probe that only connects, a balancer's spare connection, or a client that gave up half way would hold the process until its
//! drain is cut. Refuses to know what is spoken after that.

use futures_util::{Stream, StreamExt as _};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{Sleep, sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo, TcpIncoming};

/// What every client of HTTP/2 sends first (RFC 9113, section 3.4), bytes.
const PREFACE_BYTES: usize = 24;
/// How long that may take.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(5);

/// The connections of `listener`, for a server that drains when `draining` is cancelled.
pub fn connections(
    listener: TcpListener,
    draining: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> + Send {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    incoming.map(move |stream| Ok(Connection::new(stream?, draining.clone())))
}

/// One of them.
pub struct Connection {
    stream: TcpStream,
    /// Until the client has said who it is.
    silence: Option<Silence>,
}

struct Silence {
    heard: usize,
    timeout: Pin<Box<Sleep>>,
    draining: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Silence {
    /// Ready when it has lasted too long.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.draining.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        self.timeout.as_mut().poll(context)
    }
}

impl Connection {
    fn new(stream: TcpStream, draining: CancellationToken) -> Self {
        let (timeout, draining) = (Box::pin(sleep(PREFACE_TIMEOUT)), Box::pin(draining.cancelled_owned()));
        Self { stream, silence: Some(Silence { heard: 0, timeout, draining }) }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        let Some(silence) = &mut this.silence else { return read };
        if read.is_pending() {
            ready!(silence.poll_end(context));
            let why = "the client did not begin to speak HTTP/2";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
        }
        silence.heard += buffer.filled().len() - before;
        if silence.heard >= PREFACE_BYTES {
            this.silence = None;
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}
