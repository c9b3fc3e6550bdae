//! This machine as a node: what it has for runtimes, and devices that are declared for it. Refuses to probe hardware.

use domain::device::Sharing;
use proto::internal::v1 as pb;
use std::str::FromStr;

/// Of a machine's memory, what stays for itself and the services: an eighth, and at most this.
const KEPT_BYTES_MAX: i64 = 2 << 30;
/// Devices of one model.
const COUNT_MAX: u32 = 64;
/// The class of declared devices. Nothing keeps anybody within a share of them.
const CLASS: &str = "declared";
/// In which steps they are shared.
const STEP_MILLI: u32 = 10;

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

/// This machine, under this name.
///
/// # Errors
/// When its memory cannot be read.
pub fn node(name: &str, declared: &[DeclaredDevices]) -> anyhow::Result<pb::Node> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = memory_bytes()?;
    let all = declared.iter().flat_map(|kind| std::iter::repeat_n(kind, kind.count as usize)).enumerate();
    let sharing = serde_json::to_string(&Sharing::Shared { step_milli: STEP_MILLI })?;
    let device = |(number, kind): (usize, &DeclaredDevices)| pb::PoolDevice {
        name: format!("gpu-{number}"),
        class: CLASS.to_owned(),
        model: kind.model.clone(),
        memory_bytes: kind.memory_bytes,
        sharing: sharing.clone(),
        healthy: true,
        ..pb::PoolDevice::default()
    };
    Ok(pb::Node {
        name: name.to_owned(),
        cpu_milli: i64::try_from(cores)?.saturating_mul(1_000),
        memory_bytes: memory - (memory / 8).min(KEPT_BYTES_MAX),
        schedulable: true,
        devices: all.map(device).collect(),
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
        let node = node("here", &[declared]).unwrap();
        let names: Vec<&str> = node.devices.iter().map(|device| device.name.as_str()).collect();
        assert_eq!(names, ["gpu-0", "gpu-1"]);
        assert!(node.cpu_milli >= 1_000 && node.memory_bytes > 0);
    }
}
