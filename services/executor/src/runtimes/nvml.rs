//! GPUs of this machine, as NVIDIA's management library tells of them. The library is loaded when it is asked for: a machine
//! without it is told so, and nothing here depends on a driver being installed.
//!
//! Refuses to change anything about a GPU, and to say that anything keeps a holder within its share.

use super::machine::MachineDevice;
use nvml_wrapper::{Device, Nvml, error::NvmlError, struct_wrappers::device::ProcessUtilizationSample};
use std::{collections::BTreeMap, ffi::OsStr};

/// What drivers install; without the number it is there only beside development packages.
const LIBRARY: &str = "libnvidia-ml.so.1";
/// The class of devices that were found.
const CLASS: &str = "nvidia";
/// What NVML answers as the mode of MIG while a GPU is cut into partitions.
const MIG_ON: u32 = 1;

/// One look: what the driver said. Of a GPU that is in neither list it said nothing this time.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// GPUs that answered.
    pub(super) told: Vec<MachineDevice>,
    /// Names of GPUs of which it says that they are lost.
    pub(super) lost: Vec<String>,
}

/// What the driver says of a GPU's work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// In which share of the last moment anything ran on it, percent.
    pub(super) percent: u32,
    /// Processes that used its processors since they were asked about before, with the largest share of each, percent; none
    /// where the driver does not tell them.
    pub(super) processes: Option<BTreeMap<u32, u32>>,
    /// From when on to ask the next time, on the driver's clock.
    pub(super) until: u64,
}

/// The driver's library, loaded.
pub(super) struct Driver(Nvml);

impl Driver {
    /// Loads the library.
    ///
    /// # Errors
    /// Why it cannot be had, as a sentence.
    pub(super) fn load() -> Result<Self, String> {
        let loaded = Nvml::builder().lib_path(OsStr::new(LIBRARY)).init();
        let told = |error| format!("{LIBRARY} cannot be used: {error}; install the driver, or declare devices");
        loaded.map(Self).map_err(told)
    }

    /// Asks about all GPUs, in the order in which the driver counts them. May block for a while.
    pub(super) fn look(&self) -> Look {
        let mut look = Look::default();
        let count = self.0.device_count().unwrap_or_else(|error| {
            tracing::debug!(%error, "the driver does not say how many GPUs there are");
            0
        });
        for index in 0..count {
            if let Err(error) = self.look_at(index, &mut look) {
                tracing::debug!(index, %error, "the driver does not tell of a GPU");
            }
        }
        look
    }

    /// What a GPU does, and which processes used it since then (on the driver's clock; 0 is for as long as it remembers). May
    /// block for a while.
    ///
    /// # Errors
    /// Why that cannot be told, in words.
    pub(super) fn work(&self, name: &str, since: u64) -> Result<Work, String> {
        let read = || {
            let device = self.0.device_by_uuid(name)?;
            let percent = device.utilization_rates()?.gpu;
            Ok(match samples(&device, since)? {
                None => Work { percent, processes: None, until: since },
                Some(samples) => {
                    let until = samples.iter().map(|sample| sample.timestamp).chain([since]).max().unwrap_or(since);
                    Work { percent, processes: Some(largest(&samples)), until }
                }
            })
        };
        read().map_err(|error: NvmlError| format!("the driver does not tell what {name} does: {error}"))
    }

    fn look_at(&self, index: u32, look: &mut Look) -> Result<(), NvmlError> {
        let device = self.0.device_by_index(index)?;
        // What CUDA takes as the name of a device, too; numbers change with the order of the slots.
        let name = device.uuid()?;
        match read(&device, &name) {
            Ok(device) => look.told.push(device),
            Err(NvmlError::GpuLost) => look.lost.push(name),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn read(device: &Device<'_>, name: &str) -> Result<MachineDevice, NvmlError> {
    let condition =
        if is_cut(device)? { "it is cut into partitions (MIG), which this backend does not give out" } else { "" };
    Ok(MachineDevice {
        name: name.to_owned(),
        class: CLASS,
        model: device.name()?,
        memory_bytes: i64::try_from(device.memory_info()?.total).unwrap_or(i64::MAX),
        condition: condition.to_owned(),
    })
}

/// What processes did since then, as far as the driver remembers; `None` where it does not tell of processes.
fn samples(device: &Device<'_>, since: u64) -> Result<Option<Vec<ProcessUtilizationSample>>, NvmlError> {
    use NvmlError::{FailedToLoadSymbol, FunctionNotFound, NoPermission, NotFound, NotSupported};
    match device.process_utilization_stats(since) {
        Ok(samples) => Ok(Some(samples)),
        // So it says that none did anything.
        Err(NotFound) => Ok(Some(Vec::new())),
        Err(NotSupported | FailedToLoadSymbol(_) | FunctionNotFound | NoPermission) => Ok(None),
        Err(error) => Err(error),
    }
}

/// By process. Shares that cannot be are left out.
fn largest(samples: &[ProcessUtilizationSample]) -> BTreeMap<u32, u32> {
    let mut processes = BTreeMap::new();
    for sample in samples.iter().filter(|sample| sample.sm_util <= 100) {
        let known = processes.entry(sample.pid).or_default();
        *known = sample.sm_util.max(*known);
    }
    processes
}

/// Whether it is cut into partitions. GPUs and drivers that cannot do that say so; any other error says nothing.
fn is_cut(device: &Device<'_>) -> Result<bool, NvmlError> {
    use NvmlError::{FailedToLoadSymbol, FunctionNotFound, InvalidArg, NoPermission, NotSupported};
    match device.mig_mode() {
        Ok(mode) => Ok(mode.current == MIG_ON),
        Err(NotSupported | FailedToLoadSymbol(_) | FunctionNotFound | InvalidArg | NoPermission) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_process_the_largest_share_counts_and_none_that_cannot_be() {
        let sample = |pid, sm_util| ProcessUtilizationSample {
            pid,
            timestamp: 1,
            sm_util,
            mem_util: 90,
            enc_util: 0,
            dec_util: 0,
        };
        let told = [sample(7, 0), sample(8, 3), sample(8, 40), sample(8, 0), sample(9, 4_294_967_295)];
        assert_eq!(largest(&told), BTreeMap::from([(7, 0), (8, 40)]));
    }
}
