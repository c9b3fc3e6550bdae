//! Keeps one subscription to each scheduler that lives and hands its news to the watchers. Refuses to interpret any.

use crate::commands::Client;
use crate::core::Core;
use proto::internal::v1::WatchChangesRequest;
use runtime::{
    backoff::{self, Backoff},
    watchdog::Beat,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;
use tonic::Status;

/// Between two tries to subscribe. Watchers have their own backstop meanwhile.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
/// Between two looks which schedulers live.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// For one look; without an answer those are followed on that were.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// Listens to every scheduler until this server drains.
pub(crate) fn start(core: &Arc<Core>, beat: Beat) {
    let core = core.clone();
    tokio::spawn(async move {
        let draining = core.draining.clone();
        draining.run_until_cancelled(follow(&core, beat)).await;
    });
}

/// Each change happens in one scheduler, and what is configured may be a balancer in front of them: so those are
/// followed that say where they are, and what is configured only while none does.
async fn follow(core: &Arc<Core>, beat: Beat) {
    let mut followed: HashMap<String, Listening> = HashMap::new();
    let mut interval = tokio::time::interval(LOOK_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        beat.beat();
        let living = tokio::time::timeout(LOOK_MAX, core.store.watched(store::schedulers::living(&core.store)));
        let Ok(Ok(members)) = living.await else { continue };
        let mut clients: HashMap<String, Client> = HashMap::new();
        for address in members.into_iter().map(|member| member.address).filter(|address| !address.is_empty()) {
            match core.commands.at(&address) {
                Ok(client) => drop(clients.insert(address, client)),
                Err(error) => tracing::warn!(%error, address, "a scheduler's address cannot be used"),
            }
        }
        if clients.is_empty() {
            let configured = core.commands.peers().iter().enumerate();
            clients = configured.map(|(at, client)| (format!("configured {at}"), client.clone())).collect();
        }
        followed.retain(|name, _| clients.contains_key(name));
        for (name, client) in clients {
            followed.entry(name.clone()).or_insert_with(|| {
                let core = core.clone();
                Listening(tokio::spawn(async move { listen(&core, &name, client).await }).abort_handle())
            });
        }
    }
}

/// A subscription, which ends with this value.
struct Listening(AbortHandle);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn listen(core: &Core, name: &str, client: Client) {
    let mut backoff = BACKOFF;
    loop {
        match hear(core, client.clone(), &mut backoff).await {
            Ok(()) => tracing::info!(scheduler = name, "a scheduler closed its stream of changes"),
            Err(status) if backoff.failures() == 0 => {
                tracing::warn!(scheduler = name, error = status.message(), "lost the changes of a scheduler");
            }
            Err(_) => {}
        }
        // What happened meanwhile was not heard.
        core.changes.wake_all();
        tokio::time::sleep(backoff.next(backoff::random())).await;
    }
}

async fn hear(core: &Core, mut peer: Client, backoff: &mut Backoff) -> Result<(), Status> {
    let mut changes = peer.watch_changes(WatchChangesRequest {}).await?.into_inner();
    core.changes.wake_all();
    while let Some(message) = changes.message().await? {
        backoff.reset();
        core.changes.publish(&message);
    }
    Ok(())
}
