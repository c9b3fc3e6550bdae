//! What a node is worth: the milli-GPU of it that the work to come can use, weighted by how often each kind of work comes.
//!
//! What is idle and worth nothing is fragmented. It counts the processor and memory that a class needs for all of the idle
//! devices, not only for its first member: a node whose processor is spent has no usable devices however many are idle.

use crate::{
    fleet::{DeviceState, NodeState},
    shape::Shape,
    typical::{Class, RATE, Typical},
};

/// Worth is in milli-GPU times a million, since weights are parts of a million.
pub(crate) type Worth = i64;

/// What was found out about a node as it is, from which what it would be after a placement follows quickly.
#[derive(Debug, Clone, Default)]
pub(crate) struct Appraisal {
    pub(crate) worth: Worth,
    /// For each class of the node's mix: idle milli-GPU of devices that fit one member, and how many devices these are.
    fitting: Vec<(u32, u32)>,
}

/// A device before and after, for the difference.
pub(crate) struct Change {
    pub(crate) before: DeviceState,
    pub(crate) after: DeviceState,
}

/// The most milli-GPU of each class that processor and memory allow; 0 where not even one member fits.
pub(crate) struct HostLimits(Vec<u64>);

impl Appraisal {
    pub(crate) fn of(node: &NodeState, mix: &[(usize, u64)], typical: &Typical) -> Self {
        let limits = HostLimits::of(node.cpu_milli, node.memory_bytes, mix, typical);
        let mut fitting = Vec::with_capacity(mix.len());
        let mut worth = 0;
        for ((class, weight), limit) in mix.iter().zip(&limits.0) {
            let class = &typical.classes[*class];
            let (mut milli, mut count) = (0, 0);
            for device in node.devices.iter().filter(|device| class.shape.fits_device(device)) {
                milli += device.free_milli;
                count += 1;
            }
            worth += usable(class, milli, count, *limit, *weight);
            fitting.push((milli, count));
        }
        Self { worth, fitting }
    }

    /// The node's worth after these changes of its devices, under what is then left of its processor and memory.
    pub(crate) fn after(
        &self,
        changes: &[Change],
        limits: &HostLimits,
        mix: &[(usize, u64)],
        typical: &Typical,
    ) -> Worth {
        let mut worth = 0;
        for (((class, weight), limit), fitting) in mix.iter().zip(&limits.0).zip(&self.fitting) {
            let class = &typical.classes[*class];
            let (mut milli, mut count) = *fitting;
            for change in changes {
                let (less, fewer) = part(&class.shape, &change.before);
                let (more, further) = part(&class.shape, &change.after);
                milli = milli - less + more;
                count = count - fewer + further;
            }
            worth += usable(class, milli, count, *limit, *weight);
        }
        worth
    }
}

impl HostLimits {
    pub(crate) fn of(cpu_milli: u64, memory_bytes: u64, mix: &[(usize, u64)], typical: &Typical) -> Self {
        let limit = |(class, _): &(usize, u64)| {
            let class = &typical.classes[*class];
            let ask = &class.shape.ask;
            if cpu_milli < ask.cpu_milli || memory_bytes < ask.memory_bytes {
                return 0;
            }
            let by_cpu = cpu_milli.saturating_mul(class.per_cpu_milli) / RATE;
            by_cpu.min((memory_bytes >> 20).saturating_mul(class.per_mebibyte) / RATE)
        };
        Self(mix.iter().map(limit).collect())
    }
}

fn part(shape: &Shape, device: &DeviceState) -> (u32, u32) {
    if shape.fits_device(device) { (device.free_milli, 1) } else { (0, 0) }
}

fn usable(class: &Class, milli: u32, count: u32, limit: u64, weight: u64) -> Worth {
    if (count as usize) < class.shape.gpus() {
        return 0;
    }
    // At most 64 devices of 1000 milli, times a million: far below the range.
    i64::try_from(u64::from(milli).min(limit) * weight).unwrap_or(i64::MAX)
}
