//! What people ask for: starts, stops, other queues.

use super::{
    Ended, LIVES_MAX, Message, Placer, PlacerError, SeenActivity, StartRuntime, StopRuntime, SwitchQueue, turn::Turn,
};
use domain::{
    id::{HolderId, NodeId, UserId, WorkspaceId},
    quota::Account,
    runtime::{
        Spec,
        life::{Event, Life},
        reason::Reason,
    },
};
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;
use store::ledger::{self, Placement, PlacementState, Startable, StoredLife};
use uuid::Uuid;

impl Placer {
    /// Takes one message.
    pub(super) async fn take(&mut self, message: Message, turn: &mut Turn) -> Result<(), Ended> {
        match message {
            Message::Start(command, reply) => {
                if self.lives.of(command.workspace).is_some_and(|holder| turn.is_begun(holder)) {
                    self.flush(turn).await?;
                }
                match self.start(&command, turn).await {
                    Ok((number, begun)) => {
                        turn.answer(begun, move |written| drop(reply.send(written.map(|()| number))))
                    }
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            Message::Stop(command, reply) => {
                if self.lives.of(command.workspace).is_some_and(|holder| turn.is_begun(holder)) {
                    self.flush(turn).await?;
                }
                match self.stop_one(command, turn).await {
                    Ok(()) => turn.answer(None, move |written| drop(reply.send(written))),
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            Message::Switch(command, reply) => {
                let there = self.lives.of(command.workspace).and_then(|holder| self.lives.get(holder));
                if there.is_some_and(|stored| !self.is_opened(stored.life.project, command.queue)) {
                    self.terms_read_at = None;
                    self.read_terms(turn).await?;
                }
                match self.switch(&command, turn) {
                    Ok(()) => turn.answer(None, move |written| drop(reply.send(written))),
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            Message::Snooze(workspace, until, actor, reply) => match self.alive(workspace) {
                Ok(holder) => {
                    self.happen(holder, Event::Snoozed(until, actor), turn);
                    turn.answer(None, move |written| drop(reply.send(written)));
                }
                Err(error) => drop(reply.send(Err(error))),
            },
            Message::Seen(seen, reply) => {
                self.seen(&seen, turn);
                // What proxies saw is written with the life's next change: what a successor needs of it is told again.
                drop(reply.send(Ok(())));
            }
            Message::Imagine(imagined, reply) => drop(reply.send(Ok(self.imagine(imagined).await))),
            Message::Look(names, reply) => drop(reply.send(Ok(self.seen_nodes(&names)))),
            Message::Session(session, event) => self.hear(session, event, turn).await?,
        }
        Ok(())
    }

    /// Answers the number of the life, and the life if it is a new one.
    async fn start(&mut self, command: &StartRuntime, turn: &mut Turn) -> Result<(i64, Option<HolderId>), PlacerError> {
        let found = ledger::startable(&self.parts.store, command.workspace).await.map_err(|error| {
            tracing::warn!(error = runtime::exit::chain(&error), "failed to read what is to start");
            PlacerError::Unavailable
        })?;
        let found = found.ok_or(PlacerError::NoWorkspace(command.workspace))?;
        let last = found.last.as_ref().map_or(0, |(number, ..)| *number);
        if let Some((number, state, key)) = &found.last {
            if !key.is_empty() && *key == command.key {
                return Ok((*number, None));
            }
            if !matches!(state.as_str(), "stopped" | "error") {
                return Err(PlacerError::Alive);
            }
        }
        if self.lives.len() >= LIVES_MAX {
            return Err(PlacerError::Full);
        }
        let (spec, version) = found.spec.ok_or_else(|| {
            PlacerError::denied("SPEC_MISSING", "nobody said what the workspace's runtime is to be; set it first")
        })?;
        if version != command.spec_version {
            return Err(PlacerError::Overtaken("the runtime's spec has changed since it was checked".to_owned()));
        }
        let (queue, pool) = found.queue.ok_or_else(|| {
            PlacerError::denied("QUEUE_NOT_FOUND", "the runtime's queue is no more; choose another one")
        })?;
        if *pool != *self.pool {
            return Err(PlacerError::Overtaken(format!("the runtime's queue is served from pool `{pool}`")));
        }
        let spec = if command.image.is_empty() { spec } else { with_image(&spec, &command.image) };
        let holder = HolderId(Uuid::now_v7());
        let number = last + 1;
        let mut life = Life::new(command.workspace, found.project, queue, number, holder, spec, version, self.now());
        life.start_key.clone_from(&command.key);
        life.requested_by = command.requested_by;
        life.gang.clone_from(&command.gang);
        let stored = StoredLife {
            access_key: self.access_key(command.workspace, number)?,
            life,
            plan: None,
            node: None,
            workspace: found.workspace,
            project: found.project_name,
        };
        self.begin(stored, turn);
        Ok((number, Some(holder)))
    }

    fn begin(&mut self, mut stored: StoredLife, turn: &mut Turn) {
        let holder = stored.life.holder;
        let change = stored.life.begin();
        let (plan, bounds) = self.binds(&stored.life);
        (stored.plan, stored.life.bounds) = (plan, Some(bounds));
        self.planning.wants(&stored.life.spec.ask);
        let accounts = [Some(Account::Project(stored.life.project)), stored.life.requested_by.map(Account::Person)];
        let is_new = accounts.into_iter().flatten().any(|account| !self.terms_of.contains(&account));
        if is_new || !self.is_opened(stored.life.project, stored.life.queue) {
            self.terms_read_at = None;
        }
        self.lives.insert(stored, &self.parts.timing.rules);
        turn.begin(holder);
        self.follow(holder, change, turn);
    }

    /// A new key, sealed.
    fn access_key(&self, workspace: WorkspaceId, number: i64) -> Result<Arc<[u8]>, PlacerError> {
        let keyring = self.parts.keyring.as_ref().ok_or_else(|| {
            PlacerError::denied(
                "SECRET_KEYS_MISSING",
                "the schedulers have no keys to seal the key of the application; set secret_keys_file for schedulers \
                 and web-servers",
            )
        })?;
        let key = secrets::random_key();
        let workspace = workspace.to_string();
        let sealed = keyring.seal(&secrets::access_key(&workspace, number), key.as_bytes()).map_err(|error| {
            tracing::error!(error = %error, "failed to seal the key of an application");
            PlacerError::denied("SECRET_KEYS_MISSING", "the key of the application cannot be sealed; see the log")
        })?;
        Ok(sealed.to_bytes().into())
    }

    fn alive(&self, workspace: WorkspaceId) -> Result<HolderId, PlacerError> {
        self.lives.of(workspace).ok_or(PlacerError::NoRuntime(workspace))
    }

    async fn stop_one(&mut self, command: StopRuntime, turn: &mut Turn) -> Result<(), PlacerError> {
        let StopRuntime { workspace, reason, requested_by: actor, start_again: again, only, image } = command;
        let there = self.lives.of(workspace);
        let Some(holder) = there else {
            return self.stop_ended(workspace, only, reason.as_ref(), actor).await;
        };
        let number = self.lives.get(holder).map(|stored| stored.life.number);
        if only.is_some() && only != number {
            return Ok(());
        }
        let Some(reason) = reason else {
            let node = self.lives.get(holder).and_then(|stored| stored.node);
            if let Some(node) = node.filter(|node| self.fleet.server(*node).is_some()) {
                return Err(PlacerError::denied("NODE_ALIVE", self.why_not_fenced(node)));
            }
            self.happen(holder, Event::Fenced(actor), turn);
            return Ok(());
        };
        if again && let Some(stored) = self.lives.get_mut(holder) {
            stored.life.next_image = image;
        }
        self.happen(holder, Event::Stop { reason, message: String::new(), again, actor }, turn);
        Ok(())
    }

    /// Why nobody's word is needed that nothing runs on a node. One executor tells of all nodes of a cluster, also of those that
    /// are gone for good: there Kubernetes waits for somebody's word.
    fn why_not_fenced(&self, node: NodeId) -> String {
        if self.fleet.is_of_cluster(node) {
            let name = self.fleet.name_of(node);
            return format!(
                "its cluster's executor is connected and will say when it has ended; where the machine is gone for good, delete \
                 its Node (`kubectl delete node {name}`): Kubernetes then removes its pods, and the runtime ends"
            );
        }
        "its node's executor is connected and will say when it has ended; an administrator's word counts only for a node that \
         is not heard of"
            .to_owned()
    }

    /// There is nothing to stop; an error may be put away.
    async fn stop_ended(
        &self,
        workspace: WorkspaceId,
        only: Option<i64>,
        reason: Option<&Reason>,
        actor: Option<UserId>,
    ) -> Result<(), PlacerError> {
        let (store, resets) = (&self.parts.store, reason == Some(&Reason::ErrorReset));
        let unread = |error: store::Error| {
            tracing::warn!(error = runtime::exit::chain(&error), "failed to read what is to stop");
            PlacerError::Unavailable
        };
        if resets && ledger::reset(store, self.shard, workspace, only, actor).await.map_err(unread)? {
            return Ok(());
        }
        let found = ledger::state_of(store, workspace).await.map_err(unread)?;
        let (number, state, pool) = found.ok_or(PlacerError::NoRuntime(workspace))?;
        match state.as_str() {
            _ if only.is_some_and(|only| only != number) => Ok(()),
            // Only an epoch that is over keeps it there.
            "error" if resets => Err(PlacerError::NotOwner),
            "stopped" | "error" => Ok(()),
            _ => Err(PlacerError::Overtaken(format!("the runtime is in pool `{pool}`"))),
        }
    }

    fn switch(&mut self, command: &SwitchQueue, turn: &mut Turn) -> Result<(), PlacerError> {
        let holder = self.alive(command.workspace)?;
        let Some(stored) = self.lives.get(holder) else { return Err(PlacerError::NoRuntime(command.workspace)) };
        let life = &stored.life;
        if !life.may_switch() {
            let sentence = "the runtime is stopping already; start it again in the other queue when it has ended";
            return Err(PlacerError::denied("STOPPING", sentence));
        }
        let queue = self.terms.queues.iter().find(|queue| queue.id == command.queue).ok_or_else(|| {
            PlacerError::denied("QUEUE_NOT_FOUND", "the pool that it waits or runs in serves no such queue")
        })?;
        let effective = life.spec.ask.effective_milli();
        let used = self.used_of_queue(queue.id);
        if life.holds() && life.queue != queue.id && queue.limit_milli.is_some_and(|limit| used + effective > limit) {
            let sentence =
                format!("queue `{}` has no room for it below its limit; wait until others have ended", queue.name);
            return Err(PlacerError::denied("QUEUE_LIMIT", sentence));
        }
        let holds = life.holds();
        let former = self.terms.queues.iter().find(|queue| queue.id == life.queue);
        let former = former.map(|former| format!("from queue `{}` ", former.name)).unwrap_or_default();
        let message = format!("{former}to queue `{}`", queue.name);
        let switched = Event::Switched { queue: command.queue, message, actor: command.requested_by };
        self.happen(holder, switched, turn);
        if holds {
            turn.moved(holder, command.queue);
            if let Some(placement) = self.placements.get_mut(&holder) {
                placement.queue = command.queue;
            }
        }
        self.bind_all(turn);
        self.planning.want();
        Ok(())
    }

    fn seen(&mut self, seen: &[SeenActivity], turn: &mut Turn) {
        let now = self.now();
        for SeenActivity { workspace, number, ago_ms } in seen {
            let Some(holder) = self.lives.of(*workspace) else { continue };
            if self.lives.get(holder).is_some_and(|stored| stored.life.number == *number) {
                let ago = SignedDuration::from_millis((*ago_ms).max(0));
                let at: Timestamp = now.saturating_sub(ago).unwrap_or(now);
                self.happen(holder, Event::Seen(at), turn);
            }
        }
    }

    /// Lives that follow ended ones begin in the same transaction; none in a workspace that is out of use.
    pub(super) async fn begin_successors(&mut self, turn: &mut Turn) -> Result<(), Ended> {
        let now = self.now();
        let follow =
            |(ended, held): (StoredLife, _)| Some((ended.life.successor(HolderId(Uuid::now_v7()), now)?, ended, held));
        let followed: Vec<_> = std::mem::take(&mut turn.followed).into_iter().filter_map(follow).collect();
        if followed.is_empty() {
            return Ok(());
        }
        let workspaces: Vec<WorkspaceId> = followed.iter().map(|(next, ..)| next.workspace).collect();
        let in_use = match store::workspaces::in_use(&self.parts.store, &workspaces).await {
            Ok(in_use) => in_use,
            Err(error) => return self.cannot_follow(&error, turn).await,
        };
        for (mut next, ended, held) in followed.into_iter().filter(|(next, ..)| in_use.contains(&next.workspace)) {
            let life = &ended.life;
            let held = held.filter(|held: &Placement| life.restarts() && held.state != PlacementState::Nominated);
            if life.restarts() {
                match ledger::startable(&self.parts.store, life.workspace).await {
                    Ok(Some(found)) => self.take_spec(&mut next, life, found),
                    Ok(None) => continue,
                    Err(error) => return self.cannot_follow(&error, turn).await,
                }
            }
            let Ok(access_key) = self.access_key(next.workspace, next.number) else { continue };
            let mut stored = StoredLife { life: next, plan: None, node: None, access_key, ..ended.clone() };
            if let Some(held) = held {
                self.keep_for(&mut stored, &ended.life, &held, turn);
            }
            self.begin(stored, turn);
        }
        Ok(())
    }

    async fn cannot_follow(&mut self, error: &store::Error, turn: &mut Turn) -> Result<(), Ended> {
        tracing::warn!(error = runtime::exit::chain(error), "failed to read what is to start again");
        self.reload(turn).await
    }

    /// A restart takes the spec and the queue that are in force by now; what was, where nobody checked the image that the spec
    /// names, or the queue is served from elsewhere.
    fn take_spec(&self, next: &mut Life, life: &Life, found: Startable) {
        let checked = [life.next_image.as_str(), life.spec.image.as_str()];
        if let (Some((spec, version)), Some((queue, pool))) = (found.spec, found.queue)
            && *pool == *self.pool
            && let Some(image) = checked.into_iter().find(|image| is_of(image, &spec.image))
        {
            next.spec = with_image(&spec, image);
            (next.spec_version, next.queue) = (version, queue);
        }
    }
}

/// A spec with this image.
fn with_image(spec: &Spec, image: &str) -> Arc<Spec> {
    Arc::new(Spec { image: image.to_owned(), ..spec.clone() })
}

/// Whether this is the image that is named so, with or without a digest after it.
fn is_of(image: &str, named: &str) -> bool {
    image.strip_prefix(named).is_some_and(|digest| digest.is_empty() || (!named.is_empty() && digest.starts_with('@')))
}
