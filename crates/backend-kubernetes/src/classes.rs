//! Whose devices are GPUs of ours, and by which device class each kind of them is asked for. An administrator's word: a
//! cluster may have drivers of network cards and of much else.
//!
//! Refuses to know whether a class is installed.

use std::str::FromStr;

/// The classes that the charts of known drivers install.
pub const KNOWN: [&str; 4] = [
    "gpu.nvidia.com/gpu=gpu.nvidia.com",
    "gpu.nvidia.com/mig=mig.nvidia.com",
    "hami-core-gpu.project-hami.io=hami-core-gpu.project-hami.io",
    "gpu.example.com=gpu.example.com",
];

/// Drivers and their classes. Devices of a driver that is not named are none of ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Classes(Vec<Row>);

/// The one driver that can start a server of MPS for a claim.
const MPS_DRIVER: &str = "gpu.nvidia.com";
/// After a class whose devices are shared by it.
const MPS: &str = ":mps";

/// Devices of one driver, and of one kind where it has several.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    driver: String,
    /// As the devices' attribute `type` has it; empty is any.
    kind: String,
    class: Class,
}

/// A device class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    /// Its name.
    pub name: String,
    /// Those who share a device of it use one claim, whose driver starts a server of NVIDIA's MPS.
    pub mps: bool,
}

impl Classes {
    /// Reads rows such as `gpu.nvidia.com/mig=mig.nvidia.com`: a driver, the `type` of its devices unless all are meant,
    /// and the class, followed by `:mps` where they are shared by one claim.
    ///
    /// # Errors
    /// The row that is none, in words.
    pub fn read<'a>(rows: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        rows.into_iter().map(str::parse).collect::<Result<_, _>>().map(Self)
    }

    /// Those of [`KNOWN`].
    #[must_use]
    pub fn known() -> Self {
        Self::read(KNOWN).unwrap_or_default()
    }

    /// Devices of the class of this name are shared by MPS.
    #[must_use]
    pub fn is_mps(&self, name: &str) -> bool {
        self.0.iter().any(|row| row.class.mps && row.class.name == name)
    }

    /// The class for devices of this driver and kind; `None` when they are none of ours.
    #[must_use]
    pub fn of(&self, driver: &str, kind: &str) -> Option<&Class> {
        let row = self.0.iter().find(|row| row.driver == driver && (row.kind.is_empty() || row.kind == kind))?;
        Some(&row.class)
    }
}

impl FromStr for Row {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` names no class; write `driver=class` or `driver/type=class`, for {MPS_DRIVER} with `{MPS}` after it \
                 where devices are shared"
            )
        };
        let (devices, class) = text.trim().split_once('=').ok_or_else(wrong)?;
        let (driver, kind) = devices.split_once('/').unwrap_or((devices, ""));
        let (class, mps) = class.strip_suffix(MPS).map_or((class, false), |class| (class, true));
        let [driver, kind, name] = [driver, kind, class].map(|part| part.trim().to_owned());
        let half = driver.is_empty() || name.is_empty() || (devices.contains('/') && kind.is_empty());
        if half || name.contains(':') || (mps && driver != MPS_DRIVER) {
            return Err(wrong());
        }
        Ok(Self { driver, kind, class: Class { name, mps } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_asked_for_by_the_class_of_their_kind() {
        let known = Classes::known();
        assert_eq!(known.0.len(), KNOWN.len(), "each of them reads");
        let class = |driver, kind| known.of(driver, kind).map(|class| (class.name.as_str(), class.mps));
        assert_eq!(class("gpu.nvidia.com", "mig"), Some(("mig.nvidia.com", false)));
        assert_eq!(class("gpu.nvidia.com", "vfio"), None, "a device that no container can use");
        assert_eq!(class("hami-core-gpu.project-hami.io", "x"), Some(("hami-core-gpu.project-hami.io", false)));
        assert_eq!(class("nic.example.com", ""), None, "no card of the network is a GPU");
        let shared = Classes::read(["gpu.nvidia.com/gpu=small-gpus:mps"]).unwrap();
        let small = Class { name: "small-gpus".to_owned(), mps: true };
        assert_eq!(shared.of("gpu.nvidia.com", "gpu"), Some(&small));
        assert!(shared.is_mps("small-gpus") && !known.is_mps("gpu.nvidia.com"));
        for bad in ["", "driver", "=class", "driver=", "driver/=class", "driver=class:mps", "gpu.nvidia.com=a:b"] {
            assert!(Classes::read([bad]).is_err(), "{bad}");
        }
    }
}
