//! One GPU as we count it, made of what its driver publishes: a device, or a whole and its partitions that exclude each
//! other by counters. Refuses to know who uses it.

use crate::{classes::Classes, quantity};
use domain::device::{Profile, SLOTS_MAX, Sharing, WHOLE_MILLI};
use k8s_openapi::api::resource::v1::{CounterSet, Device, DeviceCounterConsumption};
use std::collections::{BTreeMap, BTreeSet};

/// One GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chip {
    /// `driver/pool/device`, or the counter set instead of the device: unique, and the same as long as the hardware is.
    pub name: String,
    /// Who publishes it.
    pub driver: String,
    /// Where it does.
    pub pool: String,
    /// By which it is asked for.
    pub class: String,
    /// The vendor's id; empty when it has none.
    pub uuid: String,
    /// The product's name.
    pub model: String,
    /// All of its memory.
    pub memory_bytes: u64,
    /// Chips of one node below the same root.
    pub root: String,
    /// Why nobody new may use it; empty when it is well.
    pub condition: String,
    /// How it is used.
    pub kind: Kind,
}

/// How a chip is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// By one at a time.
    Exclusive {
        /// Its name in the pool.
        device: String,
    },
    /// By many, each with cores and memory.
    Shared {
        /// Its name in the pool.
        device: String,
        /// What the driver calls all of its compute.
        cores: u64,
        /// In steps of so many of them.
        step: u64,
    },
    /// By many who share one claim of it, through a server of NVIDIA's MPS.
    Mps {
        /// Its name in the pool.
        device: String,
    },
    /// In pieces.
    Partitioned {
        /// All pieces that there can be; the whole is one.
        pieces: Vec<Piece>,
    },
}

/// A piece of a partitioned chip at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its name in the pool.
    pub device: String,
    /// Its class: wholes have another one than partitions.
    pub class: String,
    /// Its size, as the driver names it.
    pub profile: String,
    /// Its share of the compute.
    pub milli: u32,
    /// Its memory.
    pub memory_bytes: u64,
    /// The slots that it occupies.
    pub slots: u64,
    /// The vendor's id; empty when it has none before it is made.
    pub uuid: String,
}

/// What one allocated device is of its chip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// The chip's name.
    pub chip: String,
    /// Of its compute.
    pub milli: u32,
    /// Of its memory.
    pub memory_bytes: u64,
    /// Of a partitioned chip: the profile.
    pub profile: String,
    /// And the slots.
    pub slots: u64,
}

/// The chips of one pool. `installed` are the classes that exist: what none of them serves cannot be asked for and is left
/// out, and so is what `classes` do not name.
#[must_use]
pub fn chips(
    (driver, pool): (&str, &str),
    devices: &[&Device],
    counters: &[&CounterSet],
    classes: &Classes,
    installed: &BTreeSet<String>,
) -> Vec<Chip> {
    let mut chips = Vec::new();
    let mut pieces: BTreeMap<&str, Vec<&Device>> = BTreeMap::new();
    for &device in devices {
        match device.consumes_counters.as_deref() {
            Some([consumption]) => pieces.entry(&consumption.counter_set).or_default().push(device),
            // Whoever draws from several sets overlaps with several chips: nothing that we could count.
            Some([_, ..]) => {}
            _ => chips.extend(single((driver, pool), device, classes)),
        }
    }
    for set in counters {
        let made = pieces.get(set.name.as_str()).and_then(|devices| partitioned((driver, pool), set, devices, classes));
        chips.extend(made);
    }
    chips.retain(|chip| installed.contains(&chip.class));
    chips
}

fn single((driver, pool): (&str, &str), device: &Device, classes: &Classes) -> Option<Chip> {
    let class = classes.of(driver, &text(driver, device, "type"))?;
    let memory_bytes = capacity(driver, device, "memory").unwrap_or(0);
    let cores = capacity(driver, device, "cores").filter(|cores| *cores > 0);
    let kind = match (device.allow_multiple_allocations, cores) {
        (Some(true), Some(cores)) => {
            Kind::Shared { device: device.name.clone(), cores, step: step(driver, device).clamp(1, cores) }
        }
        // Shared without a measure of compute: a share of it means nothing.
        (Some(true), None) => return None,
        _ if class.mps => Kind::Mps { device: device.name.clone() },
        _ => Kind::Exclusive { device: device.name.clone() },
    };
    let profile = text(driver, device, "profile");
    let model = text(driver, device, "productName");
    Some(Chip {
        name: format!("{driver}/{pool}/{}", device.name),
        driver: driver.to_owned(),
        pool: pool.to_owned(),
        class: class.name.clone(),
        uuid: text(driver, device, "uuid"),
        model: if profile.is_empty() { model } else { format!("{model} {profile}") },
        memory_bytes,
        root: text(driver, device, "pcieRoot"),
        condition: condition(device),
        kind,
    })
}

fn partitioned((driver, pool): (&str, &str), set: &CounterSet, devices: &[&Device], classes: &Classes) -> Option<Chip> {
    // Counters of which there is one are the places; pieces that need the same one exclude each other.
    let places: Vec<&String> =
        set.counters.iter().filter(|(_, counter)| quantity::units(&counter.value) == 1).map(|(name, _)| name).collect();
    if places.is_empty() || places.len() > SLOTS_MAX as usize {
        return None;
    }
    // The counter that measures compute: the one that is not a place and of which there is most.
    let compute = set.counters.iter().filter(|(name, _)| !places.contains(name));
    let (measure, all) = compute.map(|(name, c)| (name, quantity::units(&c.value))).max_by_key(|(_, all)| *all)?;
    let used =
        |c: &DeviceCounterConsumption, name: &String| c.counters.get(name).map_or(0, |c| quantity::units(&c.value));
    let mut pieces: Vec<Piece> = Vec::new();
    for device in devices {
        let consumption = device.consumes_counters.as_deref()?.first()?;
        let Some(class) = classes.of(driver, &text(driver, device, "type")) else { continue };
        let slots = (0..)
            .zip(&places)
            .filter(|(_, name)| used(consumption, name) > 0)
            .fold(0, |mask, (bit, _)| mask | 1 << bit);
        let profile = text(driver, device, "profile");
        pieces.push(Piece {
            device: device.name.clone(),
            class: class.name.clone(),
            profile: if profile.is_empty() { "whole".to_owned() } else { profile },
            milli: u32::try_from(used(consumption, measure) * u64::from(WHOLE_MILLI) / all.max(1))
                .unwrap_or(WHOLE_MILLI),
            memory_bytes: capacity(driver, device, "memory").unwrap_or(0),
            slots,
            uuid: text(driver, device, "uuid"),
        });
    }
    let whole = devices.iter().find(|device| text(driver, device, "profile").is_empty()).or(devices.first())?;
    let parent = text(driver, whole, "parentUUID");
    Some(Chip {
        name: format!("{driver}/{pool}/{}", set.name),
        driver: driver.to_owned(),
        pool: pool.to_owned(),
        class: pieces.iter().max_by_key(|p| p.profile != "whole").map(|p| p.class.clone())?,
        uuid: if parent.is_empty() { text(driver, whole, "uuid") } else { parent },
        model: text(driver, whole, "productName"),
        memory_bytes: pieces.iter().map(|piece| piece.memory_bytes).max().unwrap_or(0),
        root: text(driver, whole, "pcieRoot"),
        condition: devices.iter().map(|device| condition(device)).find(|c| !c.is_empty()).unwrap_or_default(),
        kind: Kind::Partitioned { pieces },
    })
}

impl Chip {
    /// How it may be divided, as the planner is told.
    #[must_use]
    pub fn sharing(&self) -> Sharing {
        match &self.kind {
            Kind::Exclusive { .. } => Sharing::Exclusive,
            // MPS takes whole hundredths, and an application reaches one server of it.
            Kind::Mps { .. } => Sharing::Shared { step_milli: WHOLE_MILLI / 100, alone: true },
            Kind::Shared { cores, step, .. } => {
                let step_milli = (step * u64::from(WHOLE_MILLI)).div_ceil(*cores);
                let step_milli = u32::try_from(step_milli).unwrap_or(WHOLE_MILLI).clamp(1, WHOLE_MILLI);
                Sharing::Shared { step_milli, alone: false }
            }
            Kind::Partitioned { pieces } => {
                let mut profiles: BTreeMap<&str, Profile> = BTreeMap::new();
                for piece in pieces {
                    let profile = profiles.entry(&piece.profile).or_insert_with(|| Profile {
                        name: piece.profile.clone(),
                        milli: piece.milli,
                        memory_bytes: piece.memory_bytes,
                        placements: Vec::new(),
                    });
                    profile.placements.push(piece.slots);
                }
                Sharing::Partitioned { profiles: profiles.into_values().collect() }
            }
        }
    }

    /// What its driver calls all of its compute, and the least step of it, where it is shared in such amounts.
    #[must_use]
    pub fn cores(&self) -> Option<(u64, u64)> {
        match self.kind {
            Kind::Shared { cores, step, .. } => Some((cores, step)),
            Kind::Exclusive { .. } | Kind::Mps { .. } | Kind::Partitioned { .. } => None,
        }
    }

    /// What an allocated device of the pool is of this chip; `consumed` are its cores and bytes, if it says so.
    #[must_use]
    pub fn used_by(&self, device: &str, consumed: (Option<u64>, Option<u64>)) -> Option<Use> {
        let part = |milli, memory_bytes, profile: &str, slots| {
            Some(Use { chip: self.name.clone(), milli, memory_bytes, profile: profile.to_owned(), slots })
        };
        match &self.kind {
            Kind::Exclusive { device: own } | Kind::Mps { device: own } if own == device => {
                part(WHOLE_MILLI, self.memory_bytes, "", 0)
            }
            Kind::Shared { device: own, cores, .. } if own == device => {
                let milli = consumed.0.unwrap_or(*cores).saturating_mul(u64::from(WHOLE_MILLI)).div_ceil(*cores);
                let milli = u32::try_from(milli).unwrap_or(WHOLE_MILLI).min(WHOLE_MILLI);
                part(milli, consumed.1.unwrap_or(self.memory_bytes), "", 0)
            }
            Kind::Partitioned { pieces } => {
                let piece = pieces.iter().find(|piece| piece.device == device)?;
                part(piece.milli, piece.memory_bytes, &piece.profile, piece.slots)
            }
            Kind::Exclusive { .. } | Kind::Mps { .. } | Kind::Shared { .. } => None,
        }
    }
}

/// Taints that keep new users away, in words.
fn condition(device: &Device) -> String {
    let taints = device.taints.iter().flatten().filter(|taint| taint.effect != "None");
    taints
        .map(|taint| format!("{}={} ({})", taint.key, taint.value.as_deref().unwrap_or_default(), taint.effect))
        .collect::<Vec<_>>()
        .join(", ")
}

/// An attribute, which may be named with its domain; standard ones are in Kubernetes' own.
fn text(driver: &str, device: &Device, name: &str) -> String {
    let attributes = device.attributes.as_ref();
    let found = attributes.and_then(|all| {
        let domains = [format!("{driver}/{name}"), format!("resource.kubernetes.io/{name}")];
        all.get(name).or_else(|| domains.iter().find_map(|qualified| all.get(qualified)))
    });
    found.and_then(|value| value.string.clone().or_else(|| value.int.map(|int| int.to_string()))).unwrap_or_default()
}

fn capacity(driver: &str, device: &Device, name: &str) -> Option<u64> {
    let all = device.capacity.as_ref()?;
    all.get(name).or_else(|| all.get(&format!("{driver}/{name}"))).map(|capacity| quantity::units(&capacity.value))
}

fn step(driver: &str, device: &Device) -> u64 {
    let all = device.capacity.as_ref();
    let cores = all.and_then(|all| all.get("cores").or_else(|| all.get(&format!("{driver}/cores"))));
    let range = cores.and_then(|cores| cores.request_policy.as_ref()?.valid_range.as_ref());
    range.and_then(|range| range.step.as_ref()).map_or(1, quantity::units)
}
