//! This machine as a node: what it has for runtimes, and devices that are declared for it or were found. Refuses to probe
//! hardware: [`super::nvml`] does.

use super::nvml::{Driver, Look, Work};
use domain::device::Sharing;
use proto::internal::v1 as pb;
use std::{
    str::FromStr,
    sync::{Mutex, PoisonError},
};

/// Of a machine's memory, what stays for itself and the services: an eighth, and at most this.
const KEPT_BYTES_MAX: i64 = 2 << 30;
/// Devices of one model.
const COUNT_MAX: u32 = 64;
/// The class of declared devices. Nothing keeps anybody within a share of them.
const CLASS: &str = "declared";
/// In which steps they are shared.
const STEP_MILLI: u32 = 10;

/// Looks in a row in which the driver says nothing of a GPU before that counts as its loss: one call may fail.
const MISSED_MAX: u32 = 3;
/// Why a GPU that is lost takes nobody.
const LOST: &str = "the driver does not tell of it any more";

/// The word among declarations that stands for whatever the driver tells of.
const FOUND: &str = "nvml";

/// Where devices of this machine come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceSource {
    /// They are said to be there.
    Declared(DeclaredDevices),
    /// The driver's management library tells of them.
    Nvml,
}

impl FromStr for DeviceSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == FOUND { Ok(Self::Nvml) } else { text.parse().map(Self::Declared) }
    }
}

/// One device of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MachineDevice {
    /// Its own; CUDA knows it by this too.
    pub(super) name: String,
    /// The device class.
    pub(super) class: &'static str,
    /// As the driver names it.
    pub(super) model: String,
    /// Bytes.
    pub(super) memory_bytes: i64,
    /// Why nobody can use it; empty when all is well.
    pub(super) condition: String,
}

/// Devices that are said to be there, for simulations and for hardware that nobody can ask: `2xA10:24GiB`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredDevices {
    count: u32,
    model: String,
    memory_bytes: i64,
}

impl FromStr for DeclaredDevices {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` declares no devices; write `2xA10:24GiB`: how many, which model, how much memory");
        let (count, rest) = text.trim().split_once('x').ok_or_else(wrong)?;
        let (model, memory) = rest.rsplit_once(':').unwrap_or((rest, "24GiB"));
        let gib: i64 = memory.trim().strip_suffix("GiB").and_then(|n| n.trim().parse().ok()).ok_or_else(wrong)?;
        let count: u32 = count.parse().map_err(|_| wrong())?;
        if !(1..=COUNT_MAX).contains(&count) || !(1..=1_024).contains(&gib) || model.is_empty() {
            return Err(wrong());
        }
        Ok(Self { count, model: model.to_owned(), memory_bytes: gib << 30 })
    }
}

/// This machine as a node.
pub struct Machine {
    name: String,
    declared: Vec<MachineDevice>,
    driver: Option<Driver>,
    /// All that the driver has told of since the start, as it was told last.
    found: Mutex<Vec<Known>>,
}

/// A GPU that the driver has told of.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    device: MachineDevice,
    /// Looks since then in which it was not told of.
    missed: u32,
}

impl Known {
    fn told(device: &MachineDevice) -> Self {
        Self { device: device.clone(), missed: 0 }
    }

    /// As it was: that one look says nothing of it does not mean that it does not work. Once it is lost it is still there
    /// and cannot be used, since whoever holds it has to be told.
    fn untold(&self, is_lost: bool) -> Self {
        let missed = if is_lost { MISSED_MAX } else { (self.missed + 1).min(MISSED_MAX) };
        let mut device = self.device.clone();
        if missed == MISSED_MAX {
            LOST.clone_into(&mut device.condition);
        }
        Self { device, missed }
    }
}

impl Machine {
    /// This machine, under this name. Where the driver's library is asked for and missing, one line of the log says so, and
    /// the declared devices count.
    #[must_use]
    pub fn new(name: &str, sources: &[DeviceSource]) -> Self {
        let mut declared: Vec<MachineDevice> = Vec::new();
        for source in sources {
            let DeviceSource::Declared(kind) = source else { continue };
            for _ in 0..kind.count {
                declared.push(MachineDevice {
                    name: format!("gpu-{}", declared.len()),
                    class: CLASS,
                    model: kind.model.clone(),
                    memory_bytes: kind.memory_bytes,
                    condition: String::new(),
                });
            }
        }
        let driver = sources.contains(&DeviceSource::Nvml).then(Driver::load).and_then(|loaded| {
            loaded
                .inspect_err(|why| tracing::warn!(why, "no GPUs are known of this machine but those that are declared"))
                .ok()
        });
        Self { name: name.to_owned(), declared, driver, found: Mutex::default() }
    }

    /// Whether what it has may change while it runs.
    #[must_use]
    pub fn may_change(&self) -> bool {
        self.driver.is_some()
    }

    /// What a device does, and which processes used it since then; `None` of one that is only said to be there. Asks the
    /// driver, and may block for that.
    ///
    /// # Errors
    /// Why the driver does not tell, in words.
    pub(super) fn work(&self, device: &str, since: u64) -> Option<Result<Work, String>> {
        let driver = self.driver.as_ref().filter(|_| !self.declared.iter().any(|known| known.name == device))?;
        Some(driver.work(device, since))
    }

    /// As it is now. Asks the driver, and may block for that.
    ///
    /// # Errors
    /// When its memory cannot be read.
    pub fn node(&self) -> anyhow::Result<pb::Node> {
        let look = self.driver.as_ref().map(Driver::look).unwrap_or_default();
        // Nothing panics while it is held.
        let mut known = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let merged = merged(&known, &look);
        let found: Vec<MachineDevice> = merged.iter().map(|known| known.device.clone()).collect();
        if !known.iter().map(|known| &known.device).eq(&found) {
            tracing::info!(devices = found.len(), "the driver tells of GPUs");
        }
        *known = merged;
        drop(known);
        node(&self.name, self.declared.iter().cloned().chain(found))
    }
}

/// What is known after a look: what was known before in its order, then what is new.
fn merged(before: &[Known], look: &Look) -> Vec<Known> {
    let known = before.iter().map(|known| {
        let name = &known.device.name;
        match look.told.iter().find(|device| device.name == *name) {
            Some(device) => Known::told(device),
            None => known.untold(look.lost.contains(name)),
        }
    });
    let is_new = |device: &&MachineDevice| !before.iter().any(|known| known.device.name == device.name);
    known.chain(look.told.iter().filter(is_new).map(Known::told)).collect()
}

fn node(name: &str, devices: impl Iterator<Item = MachineDevice>) -> anyhow::Result<pb::Node> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = memory_bytes()?;
    let sharing = serde_json::to_string(&Sharing::Shared { step_milli: STEP_MILLI, alone: false })?;
    let device = |device: MachineDevice| pb::PoolDevice {
        hardware_id: if device.class == CLASS { String::new() } else { device.name.clone() },
        name: device.name,
        class: device.class.to_owned(),
        model: device.model,
        memory_bytes: device.memory_bytes,
        sharing: sharing.clone(),
        healthy: device.condition.is_empty(),
        condition: device.condition,
        ..pb::PoolDevice::default()
    };
    Ok(pb::Node {
        name: name.to_owned(),
        cpu_milli: i64::try_from(cores)?.saturating_mul(1_000),
        memory_bytes: memory - (memory / 8).min(KEPT_BYTES_MAX),
        schedulable: true,
        devices: devices.map(device).collect(),
        ..pb::Node::default()
    })
}

fn memory_bytes() -> anyhow::Result<i64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: Option<i64> = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| anyhow::anyhow!("/proc/meminfo tells no MemTotal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_declared_in_a_few_letters() {
        let declared: DeclaredDevices = "2xA10:24GiB".parse().unwrap();
        assert_eq!(declared, DeclaredDevices { count: 2, model: "A10".into(), memory_bytes: 24 << 30 });
        assert_eq!("1xNVIDIA H200:141GiB".parse::<DeclaredDevices>().unwrap().model, "NVIDIA H200");
        assert_eq!("3xT4".parse::<DeclaredDevices>().unwrap().memory_bytes, 24 << 30);
        for bad in ["", "A10", "0xA10", "x", "2x", "2xA10:24", "2xA10:0GiB", "65xA10", "-1xA10"] {
            assert!(bad.parse::<DeclaredDevices>().is_err(), "{bad}");
        }
        let sources = [DeviceSource::Declared(declared), "1xT4:16GiB".parse().unwrap()];
        let machine = Machine::new("here", &sources);
        let node = machine.node().unwrap();
        let names: Vec<&str> = node.devices.iter().map(|device| device.name.as_str()).collect();
        assert_eq!(names, ["gpu-0", "gpu-1", "gpu-2"]);
        assert!(!machine.may_change());
        assert_eq!("nvml".parse::<DeviceSource>(), Ok(DeviceSource::Nvml));
        assert!(node.cpu_milli >= 1_000 && node.memory_bytes > 0);
    }

    fn gpu(name: &str) -> MachineDevice {
        let (name, model, condition) = (name.into(), "H200".into(), String::new());
        MachineDevice { name, class: "nvidia", model, memory_bytes: 1, condition }
    }

    fn look(told: &[&str], lost: &[&str]) -> Look {
        Look {
            told: told.iter().map(|name| gpu(name)).collect(),
            lost: lost.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    /// Names after a look, and whether each works.
    fn names(known: &[Known]) -> Vec<(&str, bool)> {
        known.iter().map(|known| (known.device.name.as_str(), known.device.condition.is_empty())).collect()
    }

    #[test]
    fn a_gpu_of_which_nothing_is_said_again_and_again_is_there_and_ill() {
        let mut known = merged(&[], &look(&["a", "b"], &[]));
        for _ in 1..MISSED_MAX {
            known = merged(&known, &look(&["b", "c"], &[]));
            assert_eq!(names(&known), [("a", true), ("b", true), ("c", true)], "one call may fail");
        }
        known = merged(&known, &look(&["b"], &[]));
        assert_eq!(names(&known), [("a", false), ("b", true), ("c", true)]);
        known = merged(&known, &look(&[], &[]));
        assert_eq!(names(&known), [("a", false), ("b", true), ("c", true)], "nothing was said at all");
        known = merged(&known, &look(&["a"], &[]));
        assert_eq!(names(&known)[0], ("a", true), "it is back");
        assert_eq!(known[0], Known::told(&gpu("a")), "and its misses count anew");
    }

    #[test]
    fn a_gpu_of_which_it_is_said_that_it_is_lost_is_ill_at_once() {
        let known = merged(&[], &look(&["a", "b"], &[]));
        let known = merged(&known, &look(&["b"], &["a", "z"]));
        assert_eq!(names(&known), [("a", false), ("b", true)]);
        assert_eq!(known[0].device.condition, LOST);
    }
}
