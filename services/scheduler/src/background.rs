//! A thread of its own for work that may wait while there is other work, such as writing log lines down: whoever decides something
//! just then gets the core first. Refuses to know the work.

use std::{io, thread};
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// What the thread is called in the lists of the system.
const NAME: &str = "background";
/// Its place behind the others: about a tenth of their share of a core that all want, and all of one that nobody wants.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// Runs tasks until it is dropped; those that have not ended by then are dropped where they stand.
pub struct Background {
    handle: Handle,
    _end: DropGuard,
}

impl Background {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread or no descriptor left.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (handle, end) = (runtime.handle().clone(), CancellationToken::new());
        let ended = end.clone();
        thread::Builder::new().name(NAME.to_owned()).spawn(move || {
            give_way();
            runtime.block_on(ended.cancelled());
        })?;
        Ok(Self { handle, _end: end.drop_guard() })
    }

    /// Where its tasks are spawned. What they spawn stays with them.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

#[cfg(target_os = "linux")]
fn give_way() {
    // Without a process, it is the calling thread that is meant.
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "failed to lower the priority of the background thread");
    }
}

/// Elsewhere a priority is the whole process's.
#[cfg(not(target_os = "linux"))]
fn give_way() {}
