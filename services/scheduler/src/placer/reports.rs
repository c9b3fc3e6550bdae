//! What executors say, and what their silence means.

use super::{Ended, Placer, SessionEvent, fleet::Inventory, turn::Turn, wire};
use domain::{
    device::DeviceModel,
    id::{DeviceId, GangId, HolderId, NodeId},
    runtime::{
        life::{Event, Notice, Phase, Stage},
        reason::Reason,
    },
};
use proto::internal::v1::{self as pb, serve_response::Message as Said};
use std::{
    cell::LazyCell,
    collections::{BTreeSet, HashSet},
    time::{Duration, Instant},
};
use store::ledger::{self, NodeRow, StoredLife};

/// The code of a device that is not told of any more; as backends call it.
const MISSING: &str = "DEVICE_MISSING";

impl Placer {
    /// Hears one message of an executor.
    pub(super) async fn hear(&mut self, session: u64, event: SessionEvent, turn: &mut Turn) -> Result<(), Ended> {
        if !matches!(event, SessionEvent::Hello { .. }) && !self.fleet.knows(session) {
            // Its last words; the stream is over.
            return Ok(());
        }
        self.fleet.heard(session);
        match event {
            SessionEvent::Hello { executor, name, sees_cluster, outbox } => {
                let over = outbox.over.clone();
                if !self.fleet.open(session, executor, name, sees_cluster, outbox) {
                    over.cancel();
                }
                let ms = |time: Duration| i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
                let timing = &self.parts.timing;
                let (heartbeat_ms, lost_after_ms) = (ms(timing.heartbeat), ms(timing.lost_after));
                self.fleet.say(session, Said::Welcome(pb::PoolWelcome { heartbeat_ms, lost_after_ms }));
            }
            SessionEvent::Nodes(nodes) => {
                let was_ready = self.fleet.is_ready(session);
                let inventory = self.reported(session, nodes);
                self.planning.want();
                self.inventory(&inventory, turn).await?;
                if was_ready || self.fleet.is_ready(session) {
                    // A node may be served anew: whoever is on it is told.
                    turn.introduce.insert(session);
                }
            }
            SessionEvent::Runtimes(runtimes) => {
                let nodes = self.left_on_nodes(session, &runtimes.runtimes);
                if !nodes.is_empty() {
                    self.inventory(&Inventory { nodes, ..Inventory::default() }, turn).await?;
                }
                self.runtimes(session, runtimes, turn);
            }
            SessionEvent::Wishes(wishes) => self.wish(session, wishes),
            SessionEvent::Volumes(reports) => self.volumes_reported(reports).await,
            // An answer without any order: both sides know that the other lives.
            SessionEvent::Heartbeat => self.fleet.say(session, Said::Orders(pb::Orders::default())),
            SessionEvent::Closed => {
                self.fleet.close(session);
                self.planning.want();
            }
        }
        Ok(())
    }

    fn reported(&mut self, session: u64, nodes: pb::Nodes) -> Inventory {
        let placements = &self.placements;
        let held = LazyCell::new(|| {
            let grants = placements.values().flat_map(|placement| &placement.grants);
            grants.map(|grant| grant.device).collect::<HashSet<DeviceId>>()
        });
        self.fleet.report(session, &self.pool, nodes, &|device| held.contains(&device))
    }

    /// Writes what is said about nodes. Nobody is placed by what is not written.
    async fn inventory(&mut self, inventory: &Inventory, turn: &mut Turn) -> Result<(), Ended> {
        for problem in &inventory.problems {
            tracing::warn!(pool = &*self.pool, problem, "an executor reports what cannot be");
        }
        let (store, shard) = (&self.parts.store, self.shard);
        let mut written = Ok(true);
        if !inventory.nodes.is_empty() {
            written = ledger::set_nodes(store, shard, &self.pool, &inventory.nodes).await;
        }
        if matches!(written, Ok(true)) && !inventory.told.is_empty() {
            written = ledger::set_devices(store, shard, &inventory.told, &inventory.devices).await;
        }
        match written {
            Ok(true) => {}
            Ok(false) => return Err(Ended),
            Err(error) => {
                let pool = &*self.pool;
                tracing::warn!(pool, error = runtime::exit::chain(&error), "failed to write what nodes there are");
                return self.reload(turn).await;
            }
        }
        for device in &inventory.missing {
            for holder in self.users_of(*device) {
                let (code, message) =
                    (MISSING.to_owned(), "its node does not report a device of it any more".to_owned());
                self.happen(holder, Event::Warned(Notice { code, message, ..Notice::default() }), turn);
            }
        }
        for (device, condition) in &inventory.failed {
            self.device_failed(*device, condition, turn);
        }
        Ok(())
    }

    /// Lives that have a part of a device.
    fn users_of(&self, device: DeviceId) -> Vec<HolderId> {
        let uses = |holder: &HolderId| {
            let placement = self.placements.get(holder);
            placement.is_some_and(|placement| placement.grants.iter().any(|grant| grant.device == device))
        };
        self.lives.holders().into_iter().filter(uses).collect()
    }

    fn device_failed(&mut self, device: DeviceId, condition: &str, turn: &mut Turn) {
        for holder in self.users_of(device) {
            let Some(life) = self.lives.get(holder).map(|stored| &stored.life) else { continue };
            let message = format!("a device of it failed: {condition}");
            if life.spec.requeue {
                let reason = Reason::DeviceFailed;
                self.happen(holder, Event::Stop { reason, message, again: false, actor: None }, turn);
            } else {
                let code = Reason::DeviceFailed.as_str().to_owned();
                self.happen(holder, Event::Warned(Notice { code, message, ..Notice::default() }), turn);
            }
        }
    }

    /// Nodes that are no more, as it shows by what is left there of ours.
    fn left_on_nodes(&mut self, session: u64, reports: &[pb::RuntimeReport]) -> Vec<NodeRow> {
        let left = reports.iter().filter_map(|report| {
            let stored = self.lives.get(HolderId::from_slice(&report.holder)?)?;
            self.fleet.left_on(session, stored.node?, &report.node)
        });
        left.collect()
    }

    fn runtimes(&mut self, session: u64, message: pb::Runtimes, turn: &mut Turn) {
        let now = self.now();
        let mut named = HashSet::new();
        for report in message.runtimes {
            let Some((holder, report)) = wire::report(report, now) else { continue };
            named.insert(holder);
            let Some(stored) = self.lives.get(holder) else {
                if !self.is_unread(holder) {
                    self.disown(session, holder, report.fence, report.phase == Phase::Gone);
                }
                continue;
            };
            // Only who serves its node knows what is left of it.
            if stored.node.and_then(|node| self.fleet.server(node)) == Some(session) {
                // A node that is short of something or is being emptied does not keep who comes back either.
                let is_evicted = report.phase == Phase::Failed && report.code == Reason::Evicted.as_str();
                if let Some(node) = stored.node.filter(|_| is_evicted || report.phase == Phase::Misplaced) {
                    self.avoided.note(stored.life.workspace, node, Instant::now());
                }
                self.happen(holder, Event::Report(report), turn);
            }
        }
        if !message.complete {
            return;
        }
        let served = |holder: &HolderId| {
            let node = self.lives.get(*holder).and_then(|stored| stored.node);
            node.and_then(|node| self.fleet.server(node)) == Some(session)
        };
        let missing: Vec<HolderId> =
            self.lives.holders().into_iter().filter(|holder| !named.contains(holder) && served(holder)).collect();
        for holder in missing {
            self.happen(holder, Event::Missing, turn);
        }
        self.fleet.has_runtimes(session);
        self.planning.want();
        if self.fleet.is_ready(session) {
            turn.introduce.insert(session);
        }
    }

    /// Whoever was silent for too long is lost; what is on its nodes goes on holding.
    pub(super) async fn look_at_sessions(&mut self, turn: &mut Turn) -> Result<(), Ended> {
        let timing = self.parts.timing;
        for session in self.fleet.silent(timing.lost_after) {
            tracing::warn!(pool = &*self.pool, "an executor with nodes was not heard of in time");
            self.fleet.close(session);
            self.planning.want();
        }
        let lost = self.fleet.newly_lost(timing.lost_after);
        if !lost.is_empty() {
            self.inventory(&Inventory { nodes: lost, ..Inventory::default() }, turn).await?;
        }
        let given_up: BTreeSet<NodeId> = self.fleet.give_up(timing.given_up_after).into_iter().collect();
        if !given_up.is_empty() {
            for holder in self.lives_on(&given_up) {
                self.happen(holder, Event::NodeLost, turn);
            }
        }
        // As long as a node may be silent before what is on it ends, one of its devices may.
        for (device, condition) in self.fleet.give_up_devices(timing.given_up_after) {
            self.device_failed(device, &condition, turn);
        }
        if self.fleet.has_gone() && self.planning.may_tidy() {
            match ledger::delete_gone(&self.parts.store, self.shard, &self.pool).await {
                Ok(removed) => self.fleet.forget(&removed),
                Err(error) => {
                    tracing::warn!(error = runtime::exit::chain(&error), "failed to remove nodes that are no more")
                }
            }
        }
        self.give_up_nominations(turn);
        Ok(())
    }

    /// Places that were kept and cannot be had any more are looked for elsewhere.
    fn give_up_nominations(&mut self, turn: &mut Turn) {
        let mut lost = std::mem::take(&mut self.planning.denominated);
        for stored in self.lives.iter().filter(|stored| stored.life.stage == Stage::Nominated) {
            let holder = stored.life.holder;
            let usable = self.placements.get(&holder).is_some_and(|placement| {
                let devices = placement.grants.iter().map(|grant| grant.device);
                self.fleet.is_usable(placement.node, devices) && !self.is_kept_in_vain(placement)
            });
            if !usable {
                lost.push(holder);
            }
        }
        // The others of a gang would wait for it at their places in vain.
        let gang_of = |stored: &StoredLife| stored.life.gang.as_ref().map(|gang| gang.id);
        let gangs: BTreeSet<GangId> =
            lost.iter().filter_map(|holder| self.lives.get(*holder).and_then(gang_of)).collect();
        let waits = |stored: &&StoredLife| stored.life.stage == Stage::Nominated;
        let together = self.lives.iter().filter(waits).filter(|s| gang_of(s).is_some_and(|gang| gangs.contains(&gang)));
        lost.extend(together.map(|stored| stored.life.holder));
        for holder in lost {
            self.happen(holder, Event::Denominated, turn);
            self.give_up_kept(holder, turn);
        }
    }

    /// What is held, by model, milli-GPU.
    pub(super) fn held_by_model(&self) -> std::collections::BTreeMap<DeviceModel, u64> {
        let mut held = std::collections::BTreeMap::new();
        for placement in self.placements.values() {
            for grant in &placement.grants {
                if let Some(device) = self.fleet.device(placement.node, grant.device) {
                    *held.entry(DeviceModel::new(&device.model)).or_default() += u64::from(grant.milli);
                }
            }
        }
        held
    }
}
