//! What executors say about nodes and runtimes, read from the wire. Refuses to believe what cannot be.

use domain::{
    device::{Grant, SLOTS_MAX, Sharing, WHOLE_MILLI},
    id::{DeviceId, HolderId, NodeId},
    runtime::{
        activity::Sign,
        life::{Phase, Report, Step},
    },
};
use jiff::{SignedDuration, Timestamp};
use placement::{Holding, NODE_DEVICES_MAX};
use proto::internal::v1::{self as pb, activity_report::State};
use std::collections::{BTreeMap, HashMap};
use store::ledger::{DeviceRow, NodeRow, NodeState};
use uuid::Uuid;

/// Ids of nodes and devices are made of their names: the same thing has the same id, whoever owns the pool.
const IDS: Uuid = Uuid::from_u128(0x8f14_e45f_ceea_467f_a0e6_2b1c_9d3e_7a51);
/// Of a life that runs, where its executor says nothing more.
const UNBOUND: &str =
    "it runs, and its claim, reservation or labels are not as they should be; where that lasts, restart it";
/// The longest message of a backend that is kept, bytes.
const MESSAGE_BYTES_MAX: usize = 2_000;

pub(super) fn node_id(pool: &str, name: &str) -> NodeId {
    NodeId(Uuid::new_v5(&IDS, format!("{pool}/{name}").as_bytes()))
}

fn device_id(node: NodeId, name: &str) -> DeviceId {
    DeviceId(Uuid::new_v5(&node.0, name.as_bytes()))
}

/// The id of whoever has the claim of this name: an attempt of a block. Those of runtimes are made of their time.
pub(super) fn claim_id(pool: &str, claim: &str) -> HolderId {
    HolderId(Uuid::new_v5(&IDS, format!("{pool}/claim/{claim}").as_bytes()))
}

/// Whether an id is one of [`claim_id`].
pub(super) fn is_claim(holder: HolderId) -> bool {
    holder.0.get_version_num() == 5
}

/// A node and its devices.
pub(super) fn node(id: NodeId, node: &pb::Node) -> Result<(NodeRow, Vec<DeviceRow>), String> {
    let name = &node.name;
    if node.devices.len() > NODE_DEVICES_MAX {
        return Err(format!("node `{name}` reports more than {NODE_DEVICES_MAX} devices"));
    }
    let count = |value: i64| u64::try_from(value).map_err(|_| format!("node `{name}` reports less than nothing"));
    let row = NodeRow {
        id,
        name: name.clone(),
        zone: node.zone.clone(),
        cpu_milli: count(node.cpu_milli)?,
        memory_bytes: count(node.memory_bytes)?,
        state: if node.schedulable { NodeState::Ready } else { NodeState::Unschedulable },
    };
    let mut devices =
        node.devices.iter().map(|device| self::device(id, name, device)).collect::<Result<Vec<_>, _>>()?;
    devices.sort_by_key(|device| device.id);
    devices.dedup_by_key(|device| device.id);
    Ok((row, devices))
}

fn device(node: NodeId, node_name: &str, device: &pb::PoolDevice) -> Result<DeviceRow, String> {
    let of = || format!("device `{}` of node `{node_name}`", device.name);
    let sharing: Sharing =
        serde_json::from_str(&device.sharing).map_err(|error| format!("{} is divided oddly: {error}", of()))?;
    check(&sharing).map_err(|problem| format!("{} {problem}", of()))?;
    Ok(DeviceRow {
        id: device_id(node, &device.name),
        node,
        name: device.name.clone(),
        hardware_id: device.hardware_id.clone(),
        class: device.class.clone(),
        model: device.model.clone(),
        memory_bytes: u64::try_from(device.memory_bytes).map_err(|_| format!("{} has no memory", of()))?,
        sharing,
        link_group: device.link_group,
        healthy: device.healthy,
        condition: device.condition.clone(),
    })
}

/// All cores of each device, and the least step of them.
pub(super) fn cores(node: NodeId, devices: &[pb::PoolDevice]) -> HashMap<DeviceId, (i64, i64)> {
    let of = |device: &pb::PoolDevice| (device_id(node, &device.name), (device.cores, device.cores_step));
    devices.iter().map(of).collect()
}

/// Why a device takes nobody new that has not failed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pause {
    /// Its driver tells anew what there is.
    Updating,
    /// Others may have it.
    MaybeTaken,
}

/// Devices that take nobody new and have not failed.
pub(super) fn paused(node: NodeId, devices: &[pb::PoolDevice]) -> BTreeMap<DeviceId, Pause> {
    let pause = |device: &pb::PoolDevice| match (device.maybe_taken, device.updating) {
        (true, _) => Some((device_id(node, &device.name), Pause::MaybeTaken)),
        (false, true) => Some((device_id(node, &device.name), Pause::Updating)),
        (false, false) => None,
    };
    devices.iter().filter_map(pause).collect()
}

fn check(sharing: &Sharing) -> Result<(), String> {
    match sharing {
        Sharing::Exclusive => Ok(()),
        Sharing::Shared { step_milli, .. } if (1..=WHOLE_MILLI).contains(step_milli) => Ok(()),
        Sharing::Shared { step_milli, .. } => Err(format!("is shared in steps of {step_milli} milli-GPU")),
        Sharing::Partitioned { profiles } if profiles.len() > SLOTS_MAX as usize => Err("has too many profiles".into()),
        Sharing::Partitioned { .. } => Ok(()),
    }
}

/// Somebody who asked no scheduler, and what it holds of a node.
pub(super) struct Stranger {
    /// The id that it has when it is a block's.
    pub(super) id: HolderId,
    /// As its backend names it.
    pub(super) name: String,
    pub(super) holding: Holding,
}

/// What others hold of a node.
pub(super) fn strangers(pool: &str, node: NodeId, foreign: &[pb::Foreign], devices: &[DeviceRow]) -> Vec<Stranger> {
    let holding = |foreign: &pb::Foreign| Holding {
        holder: HolderId(Uuid::new_v5(&node.0, foreign.holder.as_bytes())),
        owner: None,
        node,
        grants: foreign.grants.iter().filter_map(|grant| self::grant(node, grant, devices)).collect(),
        cpu_milli: u64::try_from(foreign.cpu_milli).unwrap_or(0),
        memory_bytes: u64::try_from(foreign.memory_bytes).unwrap_or(0),
        releasing: false,
        started_at: Timestamp::UNIX_EPOCH,
        ends_at: None,
    };
    let stranger = |foreign: &pb::Foreign| Stranger {
        id: claim_id(pool, &foreign.holder),
        name: foreign.holder.clone(),
        holding: holding(foreign),
    };
    foreign.iter().map(stranger).collect()
}

fn grant(node: NodeId, grant: &pb::DeviceGrant, devices: &[DeviceRow]) -> Option<Grant> {
    let device = device_id(node, &grant.device);
    devices.iter().find(|row| row.id == device)?;
    Some(Grant {
        device,
        milli: u32::try_from(grant.milli).ok()?.min(WHOLE_MILLI),
        memory_bytes: u64::try_from(grant.memory_bytes).ok()?,
        slots: grant.slots,
    })
}

/// A report about a life; `None` for one that makes no sense.
pub(super) fn report(report: pb::RuntimeReport, now: Timestamp) -> Option<(HolderId, Report)> {
    use pb::RuntimePhase as Wire;
    let holder = HolderId::from_slice(&report.holder)?;
    let phase = match Wire::try_from(report.phase).ok()? {
        Wire::Unspecified => return None,
        Wire::Accepted => Phase::Starting(Step::Accepted),
        Wire::ClaimCreated => Phase::Starting(Step::ClaimCreated),
        Wire::PodCreated => Phase::Starting(Step::PodCreated),
        Wire::ClaimAllocated => Phase::Starting(Step::ClaimAllocated),
        Wire::Pulling => Phase::Starting(Step::Pulling),
        Wire::Starting => Phase::Starting(Step::Starting),
        Wire::Ready => Phase::Ready,
        Wire::Stopping => Phase::Stopping,
        Wire::Gone => Phase::Gone,
        Wire::Failed => Phase::Failed,
        Wire::Misplaced => Phase::Misplaced,
    };
    let mut message = printable(&report.message);
    message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
    let unbound = phase == Phase::Ready && !report.bound && report.code.is_empty();
    if unbound && message.is_empty() {
        UNBOUND.clone_into(&mut message);
    }
    let code = if unbound { "UNBOUND".to_owned() } else { report.code };
    let signs = report.activities.into_iter().filter_map(|activity| sign(activity, now)).collect();
    Some((holder, Report { fence: report.fence, phase, code, message, endpoint: report.endpoint, signs }))
}

/// Words of a backend are those of what runs there, too: what a terminal obeys is left out, and what no row can hold.
fn printable(words: &str) -> String {
    words.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// Times of an executor count only against its own clock.
fn sign(activity: pb::ActivityReport, now: Timestamp) -> Option<(String, Sign)> {
    let ago = |us: i64| {
        let ago = SignedDuration::from_micros(activity.read_us.saturating_sub(us).max(0));
        now.saturating_sub(ago).unwrap_or(Timestamp::UNIX_EPOCH)
    };
    let sign = match activity.state? {
        State::ActiveUs(us) => Sign::Active(ago(us)),
        State::IdleSinceUs(us) => Sign::Idle(ago(us)),
        State::Unknown(why) => Sign::Unknown(printable(&why)),
        State::Untold(why) => Sign::Untold(printable(&why)),
    };
    Some((activity.source, sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_script_prints_is_kept_from_rows_and_terminals() {
        let holder = HolderId(Uuid::nil()).to_vec();
        let (phase, message) = (pb::RuntimePhase::Failed.into(), "a\0b\u{1b}[2J\r\n\tc\u{9b}\u{e4}".to_owned());
        let told = pb::RuntimeReport { holder, phase, message, ..pb::RuntimeReport::default() };
        let (_, report) = report(told, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(report.message, "ab[2J\n\tc\u{e4}");
    }

    #[test]
    fn what_runs_and_is_not_bound_is_told_in_words() {
        let said = |bound: bool| {
            let holder = HolderId(Uuid::nil()).to_vec();
            let phase = pb::RuntimePhase::Ready.into();
            let told = pb::RuntimeReport { holder, phase, bound, ..pb::RuntimeReport::default() };
            report(told, Timestamp::UNIX_EPOCH).map(|(_, report)| (report.code, report.message)).unwrap_or_default()
        };
        assert_eq!(said(false), ("UNBOUND".to_owned(), UNBOUND.to_owned()));
        assert_eq!(said(true), (String::new(), String::new()));
    }
}
