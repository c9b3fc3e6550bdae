//! What an ask needs of each kind of device: worked out once, so that looking at a device is a few comparisons.

use crate::fleet::{DeviceKind, DeviceState, Fleet, NodeState};
use domain::device::{Ask, DeviceModel, Sharing, WHOLE_MILLI};

/// Shares of a device's memory are whole mebibytes.
const MEBIBYTE: u64 = 1 << 20;

/// An ask, ready to be compared with devices.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) ask: Ask,
    /// By kind of device; `None` will not do.
    needs: Vec<Option<Need>>,
    /// The same as least free milli-GPU and memory, for the quick look; what will not do needs more than there can be.
    least: Vec<(u32, u64)>,
}

/// What is taken of a device of one kind.
#[derive(Debug, Clone)]
pub(crate) struct Need {
    pub(crate) milli: u32,
    pub(crate) memory_bytes: u64,
    /// Where a partition may lie; none for devices without partitions.
    masks: Vec<u64>,
}

impl Shape {
    /// Works out what `ask` needs of each of the fleet's kinds; of models beyond `permitted` (none is any) and of other
    /// classes than `class` (none is any) it gets nothing.
    pub(crate) fn new(ask: &Ask, permitted: &[DeviceModel], class: Option<&str>, fleet: &Fleet) -> Self {
        let (kinds, models) = (&fleet.kinds, &fleet.models);
        let wanted = |model: &DeviceModel| ask.accepts(model) && (permitted.is_empty() || permitted.contains(model));
        let is_wanted = |kind: &DeviceKind| kind.is_of(class) && wanted(&models[kind.model]);
        let need = |kind: &DeviceKind| Need::of(ask, kind).filter(|_| is_wanted(kind));
        let needs: Vec<Option<Need>> = kinds.iter().map(need).collect();
        let least = |need: &Option<Need>| need.as_ref().map_or((u32::MAX, 0), |need| (need.milli, need.memory_bytes));
        Self { ask: ask.clone(), least: needs.iter().map(least).collect(), needs }
    }

    pub(crate) fn gpus(&self) -> usize {
        self.ask.gpus as usize
    }

    pub(crate) fn need(&self, kind: usize) -> Option<&Need> {
        self.needs[kind].as_ref()
    }

    /// Whether some kind of device will do.
    pub(crate) fn is_possible(&self) -> bool {
        self.ask.gpus == 0 || self.needs.iter().any(Option::is_some)
    }

    /// Which slots it would take of this device (0 where there are no partitions), or `None` if it does not fit.
    pub(crate) fn slots_on(&self, device: &DeviceState) -> Option<u64> {
        if !self.fits_device(device) {
            return None;
        }
        Some(self.needs[device.kind].as_ref()?.slots_on(device))
    }

    /// Whether this device has room.
    pub(crate) fn fits_device(&self, device: &DeviceState) -> bool {
        let (milli, memory_bytes) = self.least[device.kind];
        device.open
            && device.free_milli >= milli
            && device.free_memory >= memory_bytes
            && self.needs[device.kind].as_ref().is_some_and(|need| need.has_position(device))
    }

    /// Whether the node's processor and memory suffice.
    pub(crate) fn fits_host(&self, node: &NodeState) -> bool {
        node.open && node.cpu_milli >= self.ask.cpu_milli && node.memory_bytes >= self.ask.memory_bytes
    }
}

impl Need {
    fn of(ask: &Ask, kind: &DeviceKind) -> Option<Self> {
        let asked = ask.gpu_memory_bytes;
        if ask.gpus == 0 || asked.is_some_and(|bytes| bytes > kind.memory_bytes) || !kind.sharing.joins(ask) {
            return None;
        }
        match &kind.sharing {
            Sharing::Exclusive => (ask.gpu_milli == WHOLE_MILLI).then(|| Self::plain(WHOLE_MILLI, kind.memory_bytes)),
            Sharing::Shared { step_milli, .. } => {
                let milli = ask.gpu_milli.next_multiple_of((*step_milli).clamp(1, WHOLE_MILLI)).min(WHOLE_MILLI);
                let share = u128::from(kind.memory_bytes) * u128::from(ask.gpu_milli) / u128::from(WHOLE_MILLI);
                let share = u64::try_from(share).unwrap_or(kind.memory_bytes);
                let whole = if ask.gpu_milli == WHOLE_MILLI { share } else { share - share % MEBIBYTE };
                Some(Self::plain(milli, asked.unwrap_or(whole)))
            }
            sharing @ Sharing::Partitioned { .. } => {
                let profile = sharing.profile(ask.gpu_milli, asked.unwrap_or_default())?;
                let masks = profile.placements.clone();
                Some(Self { milli: profile.milli, memory_bytes: profile.memory_bytes, masks })
            }
        }
    }

    fn plain(milli: u32, memory_bytes: u64) -> Self {
        Self { milli, memory_bytes, masks: Vec::new() }
    }

    fn has_position(&self, device: &DeviceState) -> bool {
        self.masks.is_empty() || self.masks.iter().any(|mask| mask & device.slots == 0)
    }

    /// The first allowed position: drivers list them so that early ones block least.
    fn slots_on(&self, device: &DeviceState) -> u64 {
        self.masks.iter().copied().find(|mask| mask & device.slots == 0).unwrap_or_default()
    }
}
