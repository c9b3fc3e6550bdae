//! The end of a process: drain, then stop. Refuses to know what is drained; whoever works watches a token.
//!
//! A first SIGTERM or SIGINT drains: take nothing new, finish what runs. A second one, or the drain's deadline, stops.

use std::{
    io, mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

type Hook = Box<dyn FnOnce() + Send>;

/// The two levels at which a process ends. Copies share them.
#[derive(Clone, Default)]
pub struct Shutdown {
    draining: CancellationToken,
    stopped: CancellationToken,
    cut_short: Arc<AtomicBool>,
    before_drain: Arc<Mutex<Vec<Hook>>>,
}

impl Shutdown {
    /// Levels that only `drain` and `stop` raise: for tests and for services inside one process.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens for SIGTERM and SIGINT from here on; `drain_timeout` after the first one the process stops.
    ///
    /// # Errors
    /// When the signal handlers cannot be installed. Must be called inside a tokio runtime.
    pub fn listen(drain_timeout: Duration) -> io::Result<Self> {
        Self::listen_after(Duration::ZERO, drain_timeout)
    }

    /// As `listen`, with `drain_delay` between the loss of readiness and the drain: load balancers need some time to
    /// notice, and until then new requests still come.
    ///
    /// # Errors
    /// As `listen`.
    pub fn listen_after(drain_delay: Duration, drain_timeout: Duration) -> io::Result<Self> {
        let shutdown = Self::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let levels = shutdown.clone();
        tokio::spawn(async move {
            let mut asked = async || {
                tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                }
            };
            tokio::select! {
                name = asked() => tracing::info!(signal = name, "draining"),
                () = levels.draining.cancelled() => {}
            }
            let drain = levels.run(drain_delay, drain_timeout);
            tokio::select! {
                () = drain => {}
                name = asked() => {
                    tracing::warn!(signal = name, "stopping without waiting for the drain");
                    levels.cut_short.store(true, Ordering::Relaxed);
                }
            }
            levels.stop();
        });
        Ok(shutdown)
    }

    async fn run(&self, drain_delay: Duration, drain_timeout: Duration) {
        self.leave();
        if !drain_delay.is_zero() {
            tokio::time::sleep(drain_delay).await;
        }
        self.drain();
        tokio::select! {
            () = self.stopped.cancelled() => {}
            () = tokio::time::sleep(drain_timeout) => {
                tracing::warn!(drain_timeout = ?drain_timeout, "the drain took too long");
                self.cut_short.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Runs `hook` once, before draining begins; at once when it already has.
    pub fn before_drain(&self, hook: impl FnOnce() + Send + 'static) {
        let mut hooks = self.before_drain.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_draining() {
            drop(hooks);
            hook();
        } else {
            hooks.push(Box::new(hook));
        }
    }

    fn leave(&self) {
        let hooks = mem::take(&mut *self.before_drain.lock().unwrap_or_else(PoisonError::into_inner));
        for hook in hooks {
            hook();
        }
    }

    /// Take nothing new and finish what runs.
    pub fn drain(&self) {
        self.leave();
        // Under the lock, so that a hook that is added now runs at once and is not forgotten.
        let hooks = {
            let mut hooks = self.before_drain.lock().unwrap_or_else(PoisonError::into_inner);
            self.draining.cancel();
            mem::take(&mut *hooks)
        };
        for hook in hooks {
            hook();
        }
    }

    /// End now: everything was drained, or there is no more time. Implies `drain`.
    pub fn stop(&self) {
        self.drain();
        self.stopped.cancel();
    }

    /// Completes when draining begins. Cancel-safe.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + 'static {
        self.draining.clone().cancelled_owned()
    }

    /// Completes when the process must end. Cancel-safe.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        self.stopped.clone().cancelled_owned()
    }

    /// The first level as a token, for children of it.
    #[must_use]
    pub fn draining_token(&self) -> CancellationToken {
        self.draining.clone()
    }

    /// The second level as a token, for children of it.
    #[must_use]
    pub fn stopped_token(&self) -> CancellationToken {
        self.stopped.clone()
    }

    /// Whether draining has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Whether the process must end before everything was drained: the time was over, or a second signal came.
    #[must_use]
    pub fn is_cut_short(&self) -> bool {
        self.cut_short.load(Ordering::Relaxed)
    }

    /// Whether the process must end.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped.is_cancelled()
    }
}

impl std::fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shutdown").field("draining", &self.is_draining()).field("stopped", &self.is_stopped()).finish()
    }
}
