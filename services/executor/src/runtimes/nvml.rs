//! GPUs of this machine, as NVIDIA's management library tells of them. The library is loaded when it is asked for: a machine
//! without it is told so, and nothing here depends on a driver being installed.
//!
//! Refuses to change anything about a GPU, and to say that anything keeps a holder within its share.

use super::machine::MachineDevice;
use nvml_wrapper::{Nvml, error::NvmlError};
use std::ffi::OsStr;

/// What drivers install; without the number it is there only beside development packages.
const LIBRARY: &str = "libnvidia-ml.so.1";
/// The class of devices that were found.
const CLASS: &str = "nvidia";
/// What NVML answers as the mode of MIG while a GPU is cut into partitions.
const MIG_ON: u32 = 1;

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

    /// The GPUs that answer, in the order in which the driver counts them. May block for a while.
    pub(super) fn devices(&self) -> Vec<MachineDevice> {
        let count = self.0.device_count().unwrap_or_else(|error| {
            tracing::debug!(%error, "the driver does not say how many GPUs there are");
            0
        });
        (0..count)
            .filter_map(|index| {
                let read = read(&self.0, index);
                read.inspect_err(|error| tracing::debug!(index, %error, "the driver does not tell of a GPU")).ok()
            })
            .collect()
    }
}

fn read(nvml: &Nvml, index: u32) -> Result<MachineDevice, NvmlError> {
    let device = nvml.device_by_index(index)?;
    // GPUs that cannot be partitioned do not answer this.
    let partitioned = device.mig_mode().is_ok_and(|mode| mode.current == MIG_ON);
    let condition =
        if partitioned { "it is cut into partitions (MIG), which this backend does not give out" } else { "" };
    Ok(MachineDevice {
        // What CUDA takes as the name of a device, too; numbers change with the order of the slots.
        name: device.uuid()?,
        class: CLASS,
        model: device.name()?,
        memory_bytes: i64::try_from(device.memory_info()?.total).unwrap_or(i64::MAX),
        condition: condition.to_owned(),
    })
}
