//! C4: no device is given away beyond its whole at any instant. C5: a gang starts whole or not at all.
//!
//! Both by the executors' journals alone: what a database believes of a device says nothing about who uses it. Instants
//! are those of the machine's own count, which orders the processes of all executors on it. A history of several machines
//! has several such counts; devices of one are only held by processes of it.

use super::Findings;
use crate::history::{AttemptName, History, JournalEvent};
use std::collections::{BTreeMap, HashMap};
use uuid::Uuid;

/// The whole of a device.
const WHOLE_MILLI: i64 = 1_000;

/// Of each device, by the machine's life and its name, when somebody's share begins (+) or ends (−), and whose.
type Changes<'a> = BTreeMap<(&'a str, &'a str), Vec<(i64, i64, &'a AttemptName)>>;

pub(super) fn check_shares(history: &History, findings: &mut Findings) {
    for ((_, device), mut list) in changes(history) {
        // At the same microsecond an end comes first.
        list.sort_by_key(|(at, milli, _)| (*at, *milli));
        let mut used = 0;
        for (at, milli, attempt) in list.iter().copied() {
            used += milli;
            if milli > 0 && used > WHOLE_MILLI {
                let what = format!("{attempt} took {milli} of it at {at} µs, {used} of {WHOLE_MILLI} are given away");
                findings.violation(device, what);
            }
        }
        findings.looked("shares of devices", list.iter().filter(|(_, milli, _)| *milli > 0).count());
    }
}

fn changes(history: &History) -> Changes<'_> {
    let mut changes = Changes::new();
    for (_, lines) in &history.journals {
        let mut held: HashMap<&AttemptName, Vec<(&str, i64)>> = HashMap::new();
        let mut boot = "";
        for line in lines {
            match &line.event {
                // What an earlier life left running was killed before this line was written.
                JournalEvent::Open { boot: now, .. } => {
                    for (attempt, shares) in held.drain() {
                        for (device, milli) in shares {
                            changes.entry((boot, device)).or_default().push((line.mono_us, -milli, attempt));
                        }
                    }
                    boot = now;
                }
                JournalEvent::Start { attempt, devices, .. } => {
                    for share in devices {
                        let (device, milli) = (share.device.as_str(), i64::from(share.milli));
                        changes.entry((boot, device)).or_default().push((line.mono_us, milli, attempt));
                        held.entry(attempt).or_default().push((device, milli));
                    }
                }
                JournalEvent::End { attempt, .. } => {
                    for (device, milli) in held.remove(attempt).unwrap_or_default() {
                        changes.entry((boot, device)).or_default().push((line.mono_us, -milli, attempt));
                    }
                }
                _ => {}
            }
        }
    }
    changes
}

pub(super) fn check_gangs(history: &History, findings: &mut Findings) {
    let mut gangs: BTreeMap<Uuid, (u32, Vec<i64>)> = BTreeMap::new();
    let mut end_us = i64::MIN;
    for line in history.journals.iter().flat_map(|(_, lines)| lines) {
        end_us = end_us.max(line.at_us);
        if let JournalEvent::Start { gang: Some(gang), .. } = &line.event {
            let entry = gangs.entry(gang.id).or_insert((gang.members, Vec::new()));
            entry.1.push(line.at_us);
        }
    }
    let slack_us = i64::from(history.promises.gang_slack_ms) * 1_000;
    for (id, (members, mut starts)) in gangs {
        starts.sort_unstable();
        findings.looked("gangs", 1);
        // Each life of the gang is its members' next starts.
        for life in starts.chunks(members.max(1) as usize) {
            let first = life.first().copied().unwrap_or_default();
            let last = life.last().copied().unwrap_or_default();
            if life.len() < members as usize && first + slack_us < end_us {
                findings.violation(id, format!("{} of its {members} members started", life.len()));
            } else if last - first > slack_us {
                findings.violation(id, format!("its members started {} ms apart", (last - first) / 1_000));
            }
        }
    }
}
