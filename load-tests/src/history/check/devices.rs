//! C4: no device is given away beyond its whole at any instant. C5: a gang starts whole or not at all.
//!
//! Both by the executors' journals alone: what a database believes of a device says nothing about who uses it. Instants
//! are those of the machine's own count, which orders the processes of all executors on it. A history of several machines
//! has several such counts; devices of one are only held by processes of it.

use super::Findings;
use crate::history::{AttemptName, DeviceShare, History, JournalEvent, JournalLine};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};
use uuid::Uuid;

/// The whole of a device.
const WHOLE_MILLI: i64 = 1_000;

/// Who uses a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Holder<'a> {
    Attempt(&'a AttemptName),
    Life(Uuid),
}

impl fmt::Display for Holder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attempt(attempt) => attempt.fmt(f),
            Self::Life(holder) => write!(f, "the life {holder}"),
        }
    }
}

/// When somebody's share begins (+) or ends (−).
struct Change<'a> {
    at_us: i64,
    milli: i64,
    holder: Holder<'a>,
}

/// Those of each device, by the machine's life and its name.
type Changes<'a> = BTreeMap<(&'a str, &'a str), Vec<Change<'a>>>;

pub(super) fn check_shares(history: &History, findings: &mut Findings) {
    for ((_, device), mut list) in changes(history, findings) {
        // At the same microsecond an end comes first.
        list.sort_by_key(|change| (change.at_us, change.milli));
        let mut told: HashMap<Holder<'_>, i64> = HashMap::new();
        let mut used = 0;
        for Change { at_us, milli, holder } in &list {
            let journals = told.entry(*holder).or_default();
            let held = *journals > 0;
            *journals += milli.signum();
            // Two executors may tell of one life: it has its share once.
            if held == (*journals > 0) {
                continue;
            }
            used += milli;
            if *milli > 0 && used > WHOLE_MILLI {
                let what = format!("{holder} took {milli} of it at {at_us} µs, {used} of {WHOLE_MILLI} are given away");
                findings.violation(device, what);
            }
        }
        findings.looked("shares of devices", list.iter().filter(|change| change.milli > 0).count());
    }
}

fn changes<'a>(history: &'a History, findings: &mut Findings) -> Changes<'a> {
    let mut changes = Changes::new();
    for (_, lines) in &history.journals {
        let mut told = Told::default();
        for line in lines {
            told.read(line, &mut changes, findings);
        }
    }
    changes
}

/// What one journal has told so far.
#[derive(Default)]
struct Told<'a> {
    boot: &'a str,
    last_us: i64,
    held: HashMap<Holder<'a>, Held<'a>>,
}

struct Held<'a> {
    devices: &'a [DeviceShare],
    /// In a container, which does not end with its executor.
    is_elsewhere: bool,
}

impl<'a> Told<'a> {
    fn read(&mut self, line: &'a JournalLine, changes: &mut Changes<'a>, findings: &mut Findings) {
        let at_us = line.mono_us;
        match &line.event {
            JournalEvent::Open { boot, .. } => self.open(boot, at_us, changes, findings),
            JournalEvent::Start { attempt, devices, pid, .. } => {
                let held = Held { devices, is_elsewhere: *pid == 0 };
                self.begin(Holder::Attempt(attempt), held, at_us, changes);
            }
            JournalEvent::End { attempt, .. } => self.end(Holder::Attempt(attempt), at_us, changes),
            JournalEvent::Hold { holder, devices } => {
                self.begin(Holder::Life(*holder), Held { devices, is_elsewhere: true }, at_us, changes);
            }
            JournalEvent::Free { holder } => self.end(Holder::Life(*holder), at_us, changes),
            _ => {}
        }
        self.last_us = at_us;
    }

    /// Attempts that an earlier life left running were killed; lives go on for as long as their machine does.
    fn open(&mut self, boot: &'a str, at_us: i64, changes: &mut Changes<'a>, findings: &mut Findings) {
        let is_same = self.boot == boot;
        let over = self.held.keys().copied().filter(|holder| !is_same || matches!(holder, Holder::Attempt(_)));
        for holder in over.collect::<Vec<_>>() {
            if self.held.get(&holder).is_some_and(|held| held.is_elsewhere && !held.devices.is_empty()) {
                findings.leave_out("the end of somebody on devices, which nobody was there to see");
            }
            // Another life of the machine counts anew.
            self.end(holder, if is_same { at_us } else { self.last_us }, changes);
        }
        self.boot = boot;
    }

    fn begin(&mut self, holder: Holder<'a>, held: Held<'a>, at_us: i64, changes: &mut Changes<'a>) {
        // Whoever finds a life says again what it has.
        if self.held.contains_key(&holder) {
            return;
        }
        for DeviceShare { device, milli } in held.devices {
            let change = Change { at_us, milli: i64::from(*milli), holder };
            changes.entry((self.boot, device.as_str())).or_default().push(change);
        }
        self.held.insert(holder, held);
    }

    fn end(&mut self, holder: Holder<'a>, at_us: i64, changes: &mut Changes<'a>) {
        let Some(held) = self.held.remove(&holder) else { return };
        for DeviceShare { device, milli } in held.devices {
            let change = Change { at_us, milli: -i64::from(*milli), holder };
            changes.entry((self.boot, device.as_str())).or_default().push(change);
        }
    }
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
