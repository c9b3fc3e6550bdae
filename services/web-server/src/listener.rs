//! Connections: accepted up to a limit, HTTP/1.1 and HTTP/2 on one port, ended in order at drain. Refuses to know what is
//! served.

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use runtime::{
    shutdown::Shutdown,
    watchdog::{self, Beat},
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// A client that takes longer to send the head of a request is no client.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How often an idle HTTP/2 connection is asked whether it lives, and how long it may take to answer.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// The most streams of one connection.
const STREAMS_MAX: u32 = 256;
/// After a failed accept (no file descriptors left) there is a pause instead of a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until drained: takes no connection after `draining`, and waits for the open ones until `stopped`.
pub(crate) async fn serve(listener: TcpListener, router: Router, connections: usize, shutdown: &Shutdown, beat: Beat) {
    let places = Arc::new(Semaphore::new(connections));
    let tracker = TaskTracker::new();
    let draining = shutdown.draining_token();
    let mut pulse = tokio::time::interval(watchdog::PULSE);
    let mut kept = None;
    loop {
        beat.beat();
        let place = match kept.take() {
            Some(place) => Ok(place),
            None => tokio::select! {
                place = places.clone().acquire_owned() => place,
                () = draining.cancelled() => break,
                _ = pulse.tick() => continue,
            },
        };
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            () = draining.cancelled() => break,
            _ = pulse.tick() => {
                kept = place.ok();
                continue;
            }
        };
        match (stream, place) {
            (Ok((stream, peer)), Ok(place)) => {
                let (router, shutdown) = (router.clone(), shutdown.clone());
                tracker.spawn(async move {
                    connection((stream, peer), router, &shutdown).await;
                    drop(place);
                });
            }
            (Err(error), _) => {
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            // The semaphore is never closed.
            (Ok(_), Err(_)) => break,
        }
    }
    drop((listener, beat));
    tracker.close();
    tokio::select! {
        () = tracker.wait() => {}
        () = shutdown.stopped() => {}
    }
}

async fn connection((stream, peer): (TcpStream, SocketAddr), router: Router, shutdown: &Shutdown) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "failed to set nodelay");
    }
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .max_concurrent_streams(STREAMS_MAX);
    let service = TowerToHyperService::new(router.map_request(move |mut request: Request<_>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request.map(axum::body::Body::new)
    }));
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let draining = shutdown.draining();
    let stopped = shutdown.stopped();
    tokio::pin!(draining, stopped);
    let mut leaving = false;
    loop {
        tokio::select! {
            end = connection.as_mut() => {
                if let Err(error) = end {
                    tracing::debug!(error, "a connection ended badly");
                }
                return;
            }
            () = &mut draining, if !leaving => {
                leaving = true;
                connection.as_mut().graceful_shutdown();
            }
            () = &mut stopped => return,
        }
    }
}
