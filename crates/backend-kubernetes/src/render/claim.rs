//! The claim: as many devices as are granted, pinned to them by CEL.

use super::{Place, metadata};
use crate::{
    chip::{Chip, Kind},
    life::{Grant, Life},
    names::{self, POOL},
    quantity,
};
use domain::device::WHOLE_MILLI;
use k8s_openapi::{
    api::resource::v1::{
        CELDeviceSelector, CapacityRequirements, DeviceClaim, DeviceClaimConfiguration, DeviceRequest, DeviceSelector,
        ExactDeviceRequest, OpaqueDeviceConfiguration, ResourceClaim, ResourceClaimSpec,
    },
    apimachinery::pkg::{api::resource::Quantity, runtime::RawExtension},
};
use kube::api::ObjectMeta;
use serde_json::json;
use std::collections::BTreeMap;

/// What cannot be asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// The chip is not published any more.
    #[error("device `{0}` is not there any more")]
    Missing(String),
    /// Nothing tells this chip from others.
    #[error("device `{0}` cannot be pinned: its driver publishes no id of it")]
    NoId(String),
    /// An application reaches one server of MPS.
    #[error(
        "device `{0}` is shared by MPS, of which an application uses one device: ask for one GPU, or for whole ones"
    )]
    OneAtATime(String),
    /// A chip that one user has at a time, or a piece of it, cannot be had in part.
    #[error("device `{0}` has no part as it was granted")]
    NoSuchPart(String),
}

/// Requests that differ in nothing but the device are one, which never gives the same device twice.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Alike {
    pub(crate) class: String,
    pub(crate) driver: String,
    pub(crate) profile: String,
    pub(crate) capacity: BTreeMap<String, String>,
}

/// The claim of a life; none for one without grants. Those who share a chip by MPS have one claim, which belongs to no
/// life.
///
/// # Errors
/// A grant does not fit to what its chip is.
pub fn claim<'a>(
    place: &Place,
    life: &Life,
    record_uid: &str,
    chip: impl Fn(&str) -> Option<&'a Chip>,
) -> Result<Option<ResourceClaim>, ClaimError> {
    if life.grants.is_empty() {
        return Ok(None);
    }
    if let Some(shared) = shared(place, life, &chip)? {
        return Ok(Some(shared));
    }
    let mut groups: BTreeMap<Alike, Vec<String>> = BTreeMap::new();
    for grant in &life.grants {
        let chip = chip(&grant.device).ok_or_else(|| ClaimError::Missing(grant.device.clone()))?;
        let (alike, uuid) = asked(chip, grant)?;
        groups.entry(alike).or_default().push(uuid);
    }
    let requests =
        groups.into_iter().enumerate().map(|(index, (alike, uuids))| request(index, alike, &uuids)).collect();
    let devices = DeviceClaim { requests: Some(requests), ..DeviceClaim::default() };
    Ok(Some(ResourceClaim {
        metadata: metadata(place, life, Some(record_uid)),
        spec: ResourceClaimSpec { devices: Some(devices) },
        status: None,
    }))
}

/// The claim of the chip of which a life has a part by MPS. Whoever has whole chips has them as anybody.
///
/// # Errors
/// It has others besides, or cannot be pinned.
pub fn shared<'a>(
    place: &Place,
    life: &Life,
    chip: impl Fn(&str) -> Option<&'a Chip>,
) -> Result<Option<ResourceClaim>, ClaimError> {
    let in_part = life.grants.iter().filter(|grant| grant.milli < WHOLE_MILLI);
    let mut chips = in_part.filter_map(|grant| chip(&grant.device)).filter(|c| matches!(c.kind, Kind::Mps { .. }));
    match chips.next() {
        Some(one) if life.grants.len() > 1 => Err(ClaimError::OneAtATime(one.name.clone())),
        Some(one) if one.uuid.is_empty() => Err(ClaimError::NoId(one.name.clone())),
        one => Ok(one.map(|chip| shared_claim(place, chip))),
    }
}

/// One device, for whoever shares it. Its driver starts the server with the first pod; each pod says its own share.
fn shared_claim(place: &Place, chip: &Chip) -> ResourceClaim {
    let alike = Alike {
        class: chip.class.clone(),
        driver: chip.driver.clone(),
        profile: String::new(),
        capacity: BTreeMap::new(),
    };
    let parameters = json!({
        "apiVersion": "resource.nvidia.com/v1beta1",
        "kind": "GpuConfig",
        "sharing": { "strategy": "MPS", "mpsConfig": { "defaultActiveThreadPercentage": 100 } },
    });
    let opaque = OpaqueDeviceConfiguration { driver: chip.driver.clone(), parameters: RawExtension(parameters) };
    let devices = DeviceClaim {
        requests: Some(vec![request(0, alike, std::slice::from_ref(&chip.uuid))]),
        config: Some(vec![DeviceClaimConfiguration { opaque: Some(opaque), requests: None }]),
        ..DeviceClaim::default()
    };
    let labels = [("app.kubernetes.io/managed-by", "orrery"), (POOL, place.pool.as_str())];
    ResourceClaim {
        metadata: ObjectMeta {
            name: Some(names::shared_claim(&chip.name)),
            namespace: Some(place.namespace.clone()),
            labels: Some(labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        },
        spec: ResourceClaimSpec { devices: Some(devices) },
        status: None,
    }
}

/// What is asked for, and the id by which it is pinned.
fn asked(chip: &Chip, grant: &Grant) -> Result<(Alike, String), ClaimError> {
    let mut alike = Alike {
        class: chip.class.clone(),
        driver: chip.driver.clone(),
        profile: String::new(),
        capacity: BTreeMap::new(),
    };
    let no_part = || ClaimError::NoSuchPart(chip.name.clone());
    let mut uuid = chip.uuid.clone();
    match &chip.kind {
        Kind::Exclusive { .. } if grant.milli < WHOLE_MILLI => return Err(no_part()),
        Kind::Exclusive { .. } | Kind::Mps { .. } => {}
        Kind::Shared { cores, step, .. } => {
            alike.capacity = share((*cores, *step), grant.milli, grant.memory_bytes);
        }
        Kind::Partitioned { pieces } => {
            let piece = pieces.iter().find(|piece| piece.profile == grant.profile && piece.slots == grant.slots);
            let piece = piece.ok_or_else(no_part)?;
            alike.class.clone_from(&piece.class);
            alike.profile.clone_from(&piece.profile);
            uuid.clone_from(&piece.uuid);
        }
    }
    if uuid.is_empty() { Err(ClaimError::NoId(chip.name.clone())) } else { Ok((alike, uuid)) }
}

/// A share of a device that has so many cores, in steps of some of them: no less than was granted.
pub(crate) fn share((cores, step): (u64, u64), milli: u32, memory_bytes: u64) -> BTreeMap<String, String> {
    let wanted = (u64::from(milli) * cores).div_ceil(u64::from(WHOLE_MILLI)).next_multiple_of(step).min(cores);
    [("cores", wanted), ("memory", memory_bytes)].map(|(name, amount)| (name.to_owned(), amount.to_string())).into()
}

/// As many devices as there are ids, pinned to these.
pub(crate) fn request(index: usize, alike: Alike, uuids: &[String]) -> DeviceRequest {
    let driver = literal(&alike.driver);
    let uuids: Vec<String> = uuids.iter().map(|uuid| literal(uuid)).collect();
    // An attribute that is missing ends the expression with an error, and with it the scheduling; and a driver may publish
    // devices without this one beside those that are meant.
    let attributes = format!("device.attributes[{driver}]");
    let is_one = format!("{attributes}.uuid in [{}]", uuids.join(", "));
    let expression = format!("device.driver == {driver} && 'uuid' in {attributes} && {is_one}");
    let capacity: BTreeMap<String, Quantity> =
        alike.capacity.into_iter().map(|(name, value)| (name, quantity::of(value.parse().unwrap_or(0)))).collect();
    DeviceRequest {
        name: format!("gpu-{index}"),
        exactly: Some(ExactDeviceRequest {
            device_class_name: alike.class,
            allocation_mode: Some("ExactCount".to_owned()),
            count: i64::try_from(uuids.len()).ok(),
            selectors: Some(vec![DeviceSelector { cel: Some(CELDeviceSelector { expression }) }]),
            capacity: (!capacity.is_empty()).then_some(CapacityRequirements { requests: Some(capacity) }),
            ..ExactDeviceRequest::default()
        }),
        ..DeviceRequest::default()
    }
}

/// A string of CEL. What drivers publish is not ours, so nothing of it may end the string.
fn literal(text: &str) -> String {
    let mut made = String::with_capacity(text.len() + 2);
    made.push('\'');
    for letter in text.chars() {
        match letter {
            '\'' | '\\' => made.extend(['\\', letter]),
            plain if !plain.is_control() => made.push(plain),
            control => made.push_str(&format!("\\u{:04x}", u32::from(control))),
        }
    }
    made.push('\'');
    made
}

#[cfg(test)]
mod tests {
    use super::literal;

    #[test]
    fn nothing_ends_a_literal() {
        assert_eq!(literal("GPU-1"), "'GPU-1'");
        assert_eq!(literal(r"a' || true || '\"), r"'a\' || true || \'\\'");
        assert_eq!(literal("a\nb"), "'a\\u000ab'");
    }
}
