//! Keeps one subscription to each scheduler and hands its news to the watchers. Refuses to interpret any.

use crate::core::Core;
use proto::internal::v1::WatchChangesRequest;
use runtime::backoff::{self, Backoff};
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;

/// Between two tries to subscribe. Watchers have their own backstop meanwhile.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));

/// Listens to every scheduler until this server drains.
pub(crate) fn start(core: &Arc<Core>) {
    for at in 0..core.commands.peers().len() {
        let core = core.clone();
        tokio::spawn(async move {
            let draining = core.draining.clone();
            draining.run_until_cancelled(listen(&core, at)).await;
        });
    }
}

async fn listen(core: &Core, at: usize) {
    let mut backoff = BACKOFF;
    loop {
        match hear(core, at, &mut backoff).await {
            Ok(()) => tracing::info!(scheduler = at, "a scheduler closed its stream of changes"),
            Err(status) if backoff.failures() == 0 => {
                tracing::warn!(scheduler = at, error = status.message(), "lost the changes of a scheduler");
            }
            Err(_) => {}
        }
        // What happened meanwhile was not heard.
        core.changes.wake_all();
        tokio::time::sleep(backoff.next(backoff::random())).await;
    }
}

async fn hear(core: &Core, at: usize, backoff: &mut Backoff) -> Result<(), Status> {
    let Some(mut peer) = core.commands.peers().get(at).cloned() else { return Ok(()) };
    let mut changes = peer.watch_changes(WatchChangesRequest {}).await?.into_inner();
    core.changes.wake_all();
    while let Some(message) = changes.message().await? {
        backoff.reset();
        core.changes.publish(&message);
    }
    Ok(())
}
