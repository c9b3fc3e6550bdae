//! What executors are told: what each life on their nodes shall be. Said after it is written, and again, whole, to
//! whoever comes.

use super::{Placer, fleet, turn::Turn, wire};
use domain::{
    id::{HolderId, NodeId},
    runtime::{
        base_path,
        life::{Goal, Stage},
        reason::Reason,
    },
};
use proto::internal::v1::{self as pb, serve_response::Message as Said};
use std::collections::{BTreeMap, BTreeSet};
use store::ledger::StoredLife;

/// Bytes of specs in one message, about: receivers take a few mebibytes.
const PART_BYTES_MAX: usize = 1 << 20;
/// What an order has beside its spec, at most, about.
const ORDER_BYTES: usize = 4 << 10;

impl Placer {
    /// Tells what a turn changed.
    pub(super) fn speak(&mut self, turn: &Turn) {
        let mut orders: BTreeMap<u64, Vec<pb::Order>> = BTreeMap::new();
        for holder in &turn.ordered {
            if let Some((session, order)) = self.lives.get(*holder).and_then(|stored| self.order_for(stored)) {
                orders.entry(session).or_default().push(order);
            }
        }
        for (node, holder, fence) in &turn.forget {
            if let Some(session) = self.fleet.server(*node) {
                orders.entry(session).or_default().push(forget(*holder, *fence));
            }
        }
        for (session, orders) in orders.into_iter().filter(|(session, _)| self.fleet.is_ready(*session)) {
            for orders in parts(orders) {
                self.fleet.say(session, Said::Orders(pb::Orders { orders, complete: false }));
            }
        }
        let mut probes: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
        for holder in &turn.probes {
            let node = self.lives.get(*holder).and_then(|stored| stored.node);
            if let Some(session) = node.and_then(|node| self.fleet.server(node)) {
                probes.entry(session).or_default().push(holder.to_vec());
            }
        }
        for (session, holders) in probes {
            self.fleet.say(session, Said::Probe(pb::Probe { holders }));
        }
        for session in &turn.introduce {
            self.tell_everything(*session);
        }
    }

    /// Everything that shall be on the nodes of an executor. What cannot be ordered at present is named: nobody wants its end.
    pub(super) fn tell_everything(&self, session: u64) {
        self.tell_volumes(session);
        let server = |stored: &StoredLife| stored.node.and_then(|node| self.fleet.server(node));
        let here = self.lives.iter().filter(|stored| server(stored) == Some(session) && stored.life.goal().is_some());
        let name = |holder: Vec<u8>| pb::Order { holder, ..pb::Order::default() };
        let ordered = |stored: &StoredLife| self.order_for(stored).map(|(_, order)| order);
        let orders = here.map(|stored| ordered(stored).unwrap_or_else(|| name(stored.life.holder.to_vec())));
        let unread = self
            .placements
            .values()
            .filter(|placement| self.fleet.server(placement.node) == Some(session) && self.is_unread(placement.holder));
        let orders: Vec<pb::Order> = orders.chain(unread.map(|placement| name(placement.holder.to_vec()))).collect();
        let names = |order: &pb::Order| name(order.holder.clone());
        let named = orders.iter().map(names).collect();
        let complete = self.fleet.serves_alone(session);
        let mut said = parts(orders);
        match said.pop() {
            Some(orders) if said.is_empty() => {
                self.fleet.say(session, Said::Orders(pb::Orders { orders, complete }));
            }
            last => {
                for orders in said.into_iter().chain(last) {
                    self.fleet.say(session, Said::Orders(pb::Orders { orders, complete: false }));
                }
                self.fleet.say(session, Said::Orders(pb::Orders { orders: named, complete }));
            }
        }
    }

    /// Whether it is a life that this version cannot read: whoever can says what it shall be, and until then it stays as it is.
    pub(super) fn is_unread(&self, holder: HolderId) -> bool {
        self.placements.contains_key(&holder) && self.lives.get(holder).is_none() && !wire::is_claim(holder)
    }

    /// What is to be done about something that nobody here knows: it ends, and then it is forgotten.
    pub(super) fn disown(&self, session: u64, holder: HolderId, fence: i64, gone: bool) {
        let order = match gone {
            true => forget(holder, fence + 1),
            false => pb::Order {
                reason: Reason::Admin.as_str().to_owned(),
                ..order(holder, fence + 1, pb::RuntimeGoal::Stop)
            },
        };
        self.fleet.say(session, Said::Orders(pb::Orders { orders: vec![order], complete: false }));
    }

    fn order_for(&self, stored: &StoredLife) -> Option<(u64, pb::Order)> {
        let node = stored.node?;
        let session = self.fleet.server(node)?;
        let life = &stored.life;
        let order = match life.goal()? {
            Goal::Run => self.run_order(stored, node)?,
            Goal::Stop => {
                let reason = match &life.stage {
                    Stage::Stopping(reason) => reason.as_str().to_owned(),
                    _ => String::new(),
                };
                let grace = life.grace_s(&self.parts.timing.rules);
                pb::Order {
                    grace_s: i32::try_from(grace).unwrap_or(i32::MAX),
                    reason,
                    ..order(life.holder, life.fence, pb::RuntimeGoal::Stop)
                }
            }
            Goal::Forget => forget(life.holder, life.fence),
        };
        Some((session, order))
    }

    fn run_order(&self, stored: &StoredLife, node: NodeId) -> Option<pb::Order> {
        let life = &stored.life;
        let placement = self.placements.get(&life.holder)?;
        let queue = self.terms.queues.iter().find(|queue| queue.id == life.queue);
        let grant = |grant: &domain::device::Grant| {
            let device = self.fleet.device(node, grant.device)?;
            Some(pb::DeviceGrant {
                device: device.name.clone(),
                milli: i32::try_from(grant.milli).unwrap_or(i32::MAX),
                memory_bytes: i64::try_from(grant.memory_bytes).unwrap_or(i64::MAX),
                profile: fleet::profile(device, grant.slots),
                slots: grant.slots,
            })
        };
        Some(pb::Order {
            workspace_id: life.workspace.to_vec(),
            workspace: stored.workspace.to_string(),
            project: stored.project.to_string(),
            queue: queue.map(|queue| queue.name.clone()).unwrap_or_default(),
            queue_priority: queue.map_or(0, |queue| queue.priority),
            preemptible: queue.is_some_and(|queue| queue.preemptible),
            number: life.number,
            node: self.fleet.name_of(node).to_owned(),
            grants: placement.grants.iter().map(grant).collect::<Option<_>>()?,
            spec: serde_json::to_string(&*life.spec).ok()?,
            access_key: self.open_key(stored)?,
            base_path: base_path(&stored.workspace),
            ..order(life.holder, life.fence, pb::RuntimeGoal::Run)
        })
    }

    /// Without its key a life cannot be told to run: one that runs goes on, and the time limit of its step ends one that
    /// does not.
    fn open_key(&self, stored: &StoredLife) -> Option<String> {
        let workspace = stored.life.workspace.to_string();
        let place = secrets::access_key(&workspace, stored.life.number);
        let sealed = secrets::Sealed::from_bytes(&stored.access_key);
        let opened = sealed.and_then(|sealed| match &self.parts.keyring {
            Some(keyring) => keyring.open(&place, &sealed),
            None => Err(secrets::Error::UnknownKey(sealed.key_id.clone())),
        });
        let opened = opened.inspect_err(|error| {
            tracing::error!(workspace, error = %error, "failed to open the key of an application; it cannot be started");
        });
        String::from_utf8(opened.ok()?.to_vec()).ok()
    }

    /// Lives of these nodes.
    pub(super) fn lives_on(&self, nodes: &BTreeSet<NodeId>) -> Vec<HolderId> {
        let here = self.lives.iter().filter(|stored| stored.node.is_some_and(|node| nodes.contains(&node)));
        here.map(|stored| stored.life.holder).collect()
    }
}

/// The same in messages that are small enough.
fn parts(orders: Vec<pb::Order>) -> Vec<Vec<pb::Order>> {
    let (mut parts, mut bytes): (Vec<Vec<pb::Order>>, usize) = (Vec::new(), PART_BYTES_MAX);
    for order in orders {
        let size = order.spec.len() + ORDER_BYTES;
        bytes += size;
        if bytes > PART_BYTES_MAX {
            parts.push(Vec::new());
            bytes = size;
        }
        if let Some(part) = parts.last_mut() {
            part.push(order);
        }
    }
    parts
}

fn order(holder: HolderId, fence: i64, goal: pb::RuntimeGoal) -> pb::Order {
    pb::Order { holder: holder.to_vec(), fence, goal: goal.into(), ..pb::Order::default() }
}

fn forget(holder: HolderId, fence: i64) -> pb::Order {
    order(holder, fence, pb::RuntimeGoal::Forget)
}
