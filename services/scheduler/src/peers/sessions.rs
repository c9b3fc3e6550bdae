//! The executors whose gateway this scheduler is, and what of their words goes to whom.

use super::{Peers, lock};
use domain::id::{ExecutorId, RunId, SchedulerId};
use proto::internal::v1::{self as pb, link_request::Message as Out, session_request::Message as Up};
use std::collections::{HashMap, HashSet};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// One executor's session here.
#[derive(Debug, Clone)]
pub struct Local {
    /// Which session of this process.
    pub session: u64,
    /// What it said first, without what runs there.
    pub hello: pb::Hello,
    /// Where to speak to it.
    pub outbox: mpsc::Sender<pb::SessionResponse>,
    /// Ends the session.
    pub over: CancellationToken,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Locals {
    sessions: HashMap<ExecutorId, Local>,
    /// Heard of since the peers were last told.
    beaten: HashSet<ExecutorId>,
}

/// The place of one session; leaving it tells the peers.
pub struct Opened {
    peers: Peers,
    executor: ExecutorId,
    session: u64,
}

impl Drop for Opened {
    fn drop(&mut self) {
        let mut locals = lock(&self.peers.0.locals);
        if locals.sessions.get(&self.executor).is_none_or(|local| local.session != self.session) {
            return;
        }
        locals.sessions.remove(&self.executor);
        drop(locals);
        self.peers.tell_links(&Out::Closed(pb::ExecutorClosed { executor_id: self.executor.to_vec() }));
    }
}

impl Peers {
    /// An executor has opened a session here: every peer learns of it and of what runs there.
    #[must_use]
    pub fn opened(&self, executor: ExecutorId, local: Local, held: pb::Inventory) -> Opened {
        let session = local.session;
        let hello = request(executor, Up::Hello(local.hello.clone()));
        lock(&self.0.locals).sessions.insert(executor, local);
        self.tell_links(&hello);
        self.tell_links(&request(executor, Up::Inventory(held)));
        Opened { peers: self.clone(), executor, session }
    }

    /// What an executor said: peers get what concerns them. Answers what concerns the engine here.
    #[must_use]
    pub fn passed_on(&self, executor: ExecutorId, message: Up) -> Option<Up> {
        if !self.has_links() {
            return Some(message);
        }
        match message {
            Up::Results(results) => {
                let mut here = Vec::new();
                let mut away: HashMap<SchedulerId, Vec<pb::Result>> = HashMap::new();
                for result in results.results {
                    match self.owner_of(result.attempt.as_ref()) {
                        Some(owner) => away.entry(owner).or_default().push(result),
                        None => here.push(result),
                    }
                }
                for (owner, results) in away {
                    self.tell(owner, request(executor, Up::Results(pb::Results { results })));
                }
                (!here.is_empty()).then_some(Up::Results(pb::Results { results: here }))
            }
            Up::SlotChange(change) => match self.owner_of(change.attempt.as_ref()) {
                Some(owner) => {
                    self.tell(owner, request(executor, Up::SlotChange(change)));
                    None
                }
                None => Some(Up::SlotChange(change)),
            },
            Up::Heartbeat(beat) => {
                lock(&self.0.locals).beaten.insert(executor);
                Some(Up::Heartbeat(beat))
            }
            Up::Draining(draining) => {
                if let Some(local) = lock(&self.0.locals).sessions.get_mut(&executor) {
                    local.hello.draining = true;
                }
                self.tell_links(&request(executor, Up::Draining(draining)));
                Some(Up::Draining(draining))
            }
            // Each owner finds its own runs in it.
            message @ (Up::Inventory(_) | Up::Goodbye(_)) => {
                self.tell_links(&request(executor, message.clone()));
                Some(message)
            }
            message => Some(message),
        }
    }

    fn owner_of(&self, attempt: Option<&pb::AttemptRef>) -> Option<SchedulerId> {
        let run = attempt.and_then(|attempt| RunId::from_slice(&attempt.run_id))?;
        self.0.owners.elsewhere(run.shard())
    }

    /// A peer speaks to an executor of this gateway. A session that does not keep up ends: its executor comes again.
    pub(super) fn deliver(&self, executor: ExecutorId, response: pb::SessionResponse) {
        let locals = lock(&self.0.locals);
        let Some(local) = locals.sessions.get(&executor) else { return };
        if local.outbox.try_send(response).is_err() {
            local.over.cancel();
        }
    }

    /// A peer is connected: it learns of every executor here, and each of them is asked what it runs.
    pub(super) fn introduce(&self, peer: SchedulerId) {
        let sessions: Vec<(ExecutorId, Local)> =
            lock(&self.0.locals).sessions.iter().map(|(id, local)| (*id, local.clone())).collect();
        for (executor, local) in sessions {
            self.tell(peer, request(executor, Up::Hello(local.hello)));
            let message = Some(pb::session_response::Message::InventoryRequest(pb::InventoryRequest {}));
            self.deliver(executor, pb::SessionResponse { message });
        }
    }

    /// Tells the peers which executors were heard of since the last time.
    pub(super) fn tell_beats(&self) {
        let beaten = std::mem::take(&mut lock(&self.0.locals).beaten);
        if !beaten.is_empty() {
            let executor_ids = beaten.into_iter().map(ExecutorId::to_vec).collect();
            self.tell_links(&Out::Alive(pb::ExecutorsAlive { executor_ids }));
        }
    }
}

fn request(executor: ExecutorId, message: Up) -> Out {
    let request = Some(pb::SessionRequest { message: Some(message) });
    Out::Executor(pb::ExecutorRequest { executor_id: executor.to_vec(), request })
}
