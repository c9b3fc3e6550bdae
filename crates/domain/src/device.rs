//! Devices, and what is asked of them: integers only, so that sums never drift.
//!
//! A device counts 1,000 milli-GPU, whatever its model. Refuses to know drivers, claims and how a share is enforced on
//! the hardware beyond the honest label of it.

use crate::id::DeviceId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Milli-GPU of a whole device.
pub const WHOLE_MILLI: u32 = 1000;

/// Devices that one holder may ask for; a resource claim cannot carry more.
pub const GPUS_MAX: u32 = 32;

/// Processor that one holder may ask for, thousandths of a core: more than a machine has.
pub const CPU_MILLI_MAX: u64 = 4_096_000;

/// Memory, and disk, that one holder may ask for, bytes: more than a machine has, and what all holders of a pool ask for
/// adds up far below the range of a row.
pub const BYTES_MAX: u64 = 64 << 40;

/// Partitions of one device that a bit mask can tell apart.
pub const SLOTS_MAX: u32 = 64;

/// A model of device, as its driver names the product.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeviceModel(String);

impl DeviceModel {
    /// The model of this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What keeps a holder within its share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Enforcement {
    /// The hardware or the driver refuses more.
    Hard,
    /// A layer in the process slows it down, roughly; it can be bypassed.
    Soft,
    /// Nobody: shares are only counted.
    AccountingOnly,
}

/// How a device may be divided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// One holder has all of it.
    Exclusive,
    /// Any number of holders, each with milli-GPU and memory.
    Shared {
        /// A share is rounded up to a multiple of this; from 1 to 1000.
        step_milli: u32,
        /// Whoever has a part of one has no other device beside it: an application reaches one server of NVIDIA's MPS.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        alone: bool,
    },
    /// Only in ready-made pieces.
    Partitioned {
        /// What pieces there are.
        profiles: Vec<Profile>,
    },
}

/// One kind of piece of a partitioned device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// The driver's name of it, such as `3g.20gb`.
    pub name: String,
    /// Its share of the device's compute.
    pub milli: u32,
    /// Its memory, bytes.
    pub memory_bytes: u64,
    /// Where it may lie: one mask of occupied slots per allowed position.
    pub placements: Vec<u64>,
}

/// One device of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Which.
    pub id: DeviceId,
    /// What it is.
    pub model: DeviceModel,
    /// As what its backend offers it; not of two classes at once.
    #[serde(default)]
    pub class: String,
    /// Its memory, bytes.
    pub memory_bytes: u64,
    /// How it may be divided.
    pub sharing: Sharing,
    /// Devices of one node with the same number are joined by the fast link.
    pub link_group: u32,
    /// Healthy, not tainted, not drained: new holders may come.
    pub schedulable: bool,
}

/// What a holder has of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Grant {
    /// Which.
    pub device: DeviceId,
    /// Of its compute; 1000 is all.
    pub milli: u32,
    /// Of its memory, bytes.
    pub memory_bytes: u64,
    /// Of a partitioned device, the slots; else 0.
    pub slots: u64,
}

/// What somebody wants to run on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ask {
    /// How many devices, all on one node; may be none.
    pub gpus: u32,
    /// Of each of them.
    pub gpu_milli: u32,
    /// Memory of each, bytes; `None` is the same share as of the compute.
    pub gpu_memory_bytes: Option<u64>,
    /// Models that will do; none is any.
    pub models: Vec<DeviceModel>,
    /// `models` is in order of preference: a later one only where no earlier one is free.
    pub models_ordered: bool,
    /// Whether the devices have to be joined.
    pub link: Link,
    /// Processor of the node, in thousandths of a core.
    pub cpu_milli: u64,
    /// Memory of the node, bytes.
    pub memory_bytes: u64,
}

/// Whether several devices have to be joined by the fast link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// It does not matter.
    #[default]
    Any,
    /// Where it can be had without a worse packing.
    Preferred,
    /// Nothing else will do.
    Required,
}

impl Ask {
    /// Effective GPU: devices times share. This is what quotas, limits and fairness count.
    #[must_use]
    pub fn effective_milli(&self) -> u64 {
        u64::from(self.gpus) * u64::from(self.gpu_milli)
    }

    /// Whether this model will do.
    #[must_use]
    pub fn accepts(&self, model: &DeviceModel) -> bool {
        self.models.is_empty() || self.models.contains(model)
    }

    /// What is wrong with it in itself, whatever the fleet, in words that tell what is allowed.
    ///
    /// # Errors
    /// The first violated rule.
    pub fn check(&self) -> Result<(), String> {
        if self.gpus > GPUS_MAX {
            return Err(format!("{} GPUs are asked for; at most {GPUS_MAX} are possible", self.gpus));
        }
        if self.gpus > 0 && !(1..=WHOLE_MILLI).contains(&self.gpu_milli) {
            return Err(format!(
                "a share of {} milli-GPU is asked for; 1 to {WHOLE_MILLI} are possible",
                self.gpu_milli
            ));
        }
        if self.gpus == 0 && !self.models.is_empty() {
            return Err("models are named, but no GPU is asked for".to_owned());
        }
        if self.cpu_milli > CPU_MILLI_MAX {
            return Err(format!("more processor is asked for than {} cores, which are possible", CPU_MILLI_MAX / 1000));
        }
        if self.memory_bytes > BYTES_MAX || self.gpu_memory_bytes.is_some_and(|bytes| bytes > BYTES_MAX) {
            return Err(format!("more memory is asked for than {} GiB, which are possible", BYTES_MAX >> 30));
        }
        Ok(())
    }
}

impl Sharing {
    /// Whether one holder can have as many of such devices as it asks for, each in the part that it asks for.
    #[must_use]
    pub fn joins(&self, ask: &Ask) -> bool {
        match self {
            Self::Shared { step_milli, alone: true } => {
                let step_milli = (*step_milli).clamp(1, WHOLE_MILLI);
                ask.gpus < 2 || ask.gpu_milli.next_multiple_of(step_milli) >= WHOLE_MILLI
            }
            Self::Shared { .. } | Self::Exclusive | Self::Partitioned { .. } => true,
        }
    }

    /// The profile that serves a share at least cost: the smallest with enough compute and memory.
    #[must_use]
    pub fn profile(&self, milli: u32, memory_bytes: u64) -> Option<&Profile> {
        let Self::Partitioned { profiles } = self else { return None };
        let enough = profiles.iter().filter(|p| p.milli >= milli && p.memory_bytes >= memory_bytes);
        enough.min_by(|a, b| (a.milli, a.memory_bytes, &a.name).cmp(&(b.milli, b.memory_bytes, &b.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_sufficient_profile_serves() {
        let profile = |name: &str, milli, gib: u64| Profile {
            name: name.into(),
            milli,
            memory_bytes: gib << 30,
            placements: vec![1],
        };
        let sharing = Sharing::Partitioned {
            profiles: vec![profile("7g", 1000, 80), profile("1g", 142, 10), profile("1g-wide", 142, 20)],
        };
        let name = |milli, gib: u64| sharing.profile(milli, gib << 30).map(|p| p.name.as_str());
        assert_eq!(name(100, 5), Some("1g"));
        assert_eq!(name(100, 15), Some("1g-wide"));
        assert_eq!(name(143, 0), Some("7g"));
        assert_eq!(name(100, 90), None);
        assert_eq!(Sharing::Exclusive.profile(1, 1), None);
    }

    #[test]
    fn an_ask_names_its_own_fault() {
        let ask = |gpus, gpu_milli, models: &[&str]| Ask {
            gpus,
            gpu_milli,
            gpu_memory_bytes: None,
            models: models.iter().map(|m| DeviceModel::new(m)).collect(),
            models_ordered: false,
            link: Link::Any,
            cpu_milli: 0,
            memory_bytes: 0,
        };
        assert_eq!(ask(2, 400, &[]).effective_milli(), 800);
        assert!(ask(2, 400, &["A"]).check().is_ok());
        assert!(ask(0, 0, &[]).check().is_ok());
        let (cpu, memory) = (ask(0, 0, &[]), ask(1, 1, &[]));
        assert!(Ask { cpu_milli: CPU_MILLI_MAX, memory_bytes: BYTES_MAX, ..cpu.clone() }.check().is_ok());
        for (bad, word) in [
            (ask(33, 1, &[]), "at most 32"),
            (ask(1, 0, &[]), "1 to 1000"),
            (ask(0, 0, &["A"]), "no GPU"),
            (Ask { cpu_milli: CPU_MILLI_MAX + 1, ..cpu.clone() }, "4096 cores"),
            (Ask { memory_bytes: BYTES_MAX + 1, ..cpu }, "65536 GiB"),
            (Ask { gpu_memory_bytes: Some(u64::MAX), ..memory }, "65536 GiB"),
        ] {
            assert!(bad.check().is_err_and(|message| message.contains(word)), "{bad:?}");
        }
    }
}
