//! What a report about a node changes: what stays of it though it is not told of, and which of its devices have failed.
//! Refuses to know who is hurt by that.

use super::{Inventory, NOT_TOLD, NodeEntry};
use domain::id::DeviceId;
use std::time::Instant;
use store::ledger::{DeviceRow, NodeState};

impl NodeEntry {
    /// It is no more, and nobody is left where nothing is. False when that was known.
    pub(super) fn end(&mut self) -> bool {
        self.strangers.clear();
        std::mem::replace(&mut self.row.state, NodeState::Gone) != NodeState::Gone
    }

    /// Nobody tells of it. False when that was known, or it is no more.
    pub(super) fn lose(&mut self) -> bool {
        let is_news = !matches!(self.row.state, NodeState::Lost | NodeState::Gone);
        if is_news {
            self.row.state = NodeState::Lost;
        }
        is_news
    }

    /// What is not told of any more and held by somebody stays, and takes nobody new: that nothing is said of it does not
    /// mean that it does not work.
    pub(super) fn keep_held(&mut self, before: &Self, is_held: &dyn Fn(DeviceId) -> bool) {
        for device in &before.devices {
            if self.devices.iter().any(|told| told.id == device.id) || !is_held(device.id) {
                continue;
            }
            let since = before.missing.get(&device.id).copied().unwrap_or_else(|| Some(Instant::now()));
            self.missing.insert(device.id, since);
            self.cores.extend(before.cores.get(&device.id).map(|cores| (device.id, *cores)));
            self.devices.push(DeviceRow { healthy: false, condition: NOT_TOLD.to_owned(), ..device.clone() });
        }
        self.devices.sort_by_key(|device| device.id);
    }

    /// Whether nothing is told of a device that somebody holds, and not for so long that it counts as failed.
    pub(super) fn is_missing(&self, device: DeviceId) -> bool {
        self.missing.get(&device).is_some_and(Option::is_some)
    }

    /// Whether a device counts as one that does not work.
    fn has_failed(&self, device: &DeviceRow) -> bool {
        !device.healthy && !self.paused.contains_key(&device.id) && !self.is_missing(device.id)
    }

    /// Whether its failure would be news. Rows do not tell why a device is ill, nor whether all who have a part of it heard
    /// of that.
    fn did_work(&self, device: DeviceId) -> bool {
        self.of_cluster.is_none() || self.devices.iter().any(|known| known.id == device && !self.has_failed(known))
    }
}

impl Inventory {
    /// Notes what is other than before.
    pub(super) fn compare(&mut self, before: Option<&NodeEntry>, now: &NodeEntry) {
        if before.is_none_or(|before| before.row != now.row) {
            self.nodes.push(now.row.clone());
        }
        if before.is_none_or(|before| before.devices != now.devices) {
            self.told.push(now.row.id);
            self.devices.extend(now.devices.iter().cloned());
        }
        let Some(before) = before else { return };
        self.missing.extend(now.missing.keys().filter(|device| !before.missing.contains_key(*device)));
        let failed = now.devices.iter().filter(|device| now.has_failed(device) && before.did_work(device.id));
        self.failed.extend(failed.map(|device| (device.id, device.condition.clone())));
    }
}
