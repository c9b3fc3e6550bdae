//! What somebody does in a runtime, or works in it, seen from this machine: what the application tells of itself
//! ([`crate::signs`]), and its processes.
//!
//! | source | active means |
//! |---|---|
//! | `jobs` | a program runs that is neither the application's own nor a shell |
//! | `cpu` | the processes use more than a twentieth of a core |
//! | `gpu` | its devices work for it ([`super::devices`]) |
//!
//! A job in the background that sleeps is still a job: that is why `jobs` counts beside `cpu`. Refuses to decide what
//! idleness is for.

use crate::{
    pool::Life,
    signs::{
        self, Asked, BUSY_MILLI,
        devices::{self, Found},
        since,
    },
};
use backend_process::sessions::Member;
use domain::runtime::App;
use jiff::Timestamp;
use proto::internal::v1::{ActivityReport, activity_report::State};
use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};
use tokio::time::Instant;

/// A shorter time says nothing about a share.
const WINDOW_MIN: Duration = Duration::from_millis(500);
/// Programs that wait for people, or for other programs.
const WAITING: [&str; 14] = [
    "bash",
    "sh",
    "dash",
    "zsh",
    "fish",
    "ksh",
    "tcsh",
    "tmux: server",
    "tmux: client",
    "screen",
    "ssh-agent",
    "gpg-agent",
    "dbus-daemon",
    "sshd",
];
/// Helpers of Python programs that live as long as these.
const TRACKERS: [&str; 2] = ["resource_tracker", "semaphore_tracker"];

/// Remembers what is needed to tell how a runtime is used.
pub(super) struct Watcher {
    asked: Asked,
    app: App,
    leader: i32,
    cpu: HashMap<(i32, u64), Duration>,
    looked: Option<Instant>,
    cpu_active: Timestamp,
    jobs_active: Timestamp,
    devices: devices::Meter,
}

impl Watcher {
    /// For a life that was ready now.
    pub(super) fn new(life: &Life, at: SocketAddr, leader: i32) -> Self {
        let now = Timestamp::now();
        Self {
            asked: Asked::new(life, at),
            app: life.spec.app.clone(),
            leader,
            cpu: HashMap::new(),
            looked: None,
            cpu_active: now,
            jobs_active: now,
            devices: devices::Meter::default(),
        }
    }

    /// Looks at everything but the devices, where it has any: what they do was found already.
    pub(super) async fn look(&mut self, members: &[Member], devices: Option<Found>) -> Vec<ActivityReport> {
        let now = Timestamp::now();
        let mut found = vec![("cpu", self.processor(members, now))];
        if let Some(devices) = devices {
            found.push((devices::SOURCE, self.devices.judge(devices, Instant::now(), now)));
        }
        if matches!(self.app, App::Jupyter | App::VsCode) {
            found.push(("jobs", self.jobs(members, now)));
        }
        found.extend(self.asked.look(now).await);
        signs::reports(found)
    }

    /// Processor time since the last look. Between two that are close together the former answer holds.
    fn processor(&mut self, members: &[Member], now: Timestamp) -> State {
        let used: Duration = members
            .iter()
            .map(|member| match self.cpu.get(&(member.pid, member.started)) {
                Some(before) => member.cpu.saturating_sub(*before),
                None => member.cpu,
            })
            .sum();
        match self.looked.map(|looked| looked.elapsed()) {
            Some(window) if window < WINDOW_MIN => return state(self.cpu_active, now),
            Some(window) if used.as_micros() * 1_000 > window.as_micros() * u128::from(BUSY_MILLI) => {
                self.cpu_active = now
            }
            _ => {}
        }
        self.looked = Some(Instant::now());
        self.cpu = members.iter().map(|member| ((member.pid, member.started), member.cpu)).collect();
        state(self.cpu_active, now)
    }

    fn jobs(&mut self, members: &[Member], now: Timestamp) -> State {
        let deep = matches!(self.app, App::VsCode);
        if has_job(members, self.leader, deep, Member::program, Member::arguments) {
            self.jobs_active = now;
        }
        state(self.jobs_active, now)
    }
}

/// Active now, or idle since.
fn state(last: Timestamp, now: Timestamp) -> State {
    if last == now { State::ActiveUs(now.as_microsecond()) } else { since(last) }
}

/// Whether some program is neither the application's own nor one that waits. The application's own are its first process
/// and the children of that; `deep`, also what runs the same program below these.
fn has_job(
    members: &[Member],
    leader: i32,
    deep: bool,
    program: impl Fn(&Member) -> Option<PathBuf>,
    arguments: impl Fn(&Member) -> String,
) -> bool {
    let first = members.iter().find(|member| member.pid == leader);
    let same = first.and_then(&program);
    let mut own: HashSet<i32> = HashSet::from([leader]);
    loop {
        let more: Vec<i32> = members
            .iter()
            .filter(|member| !own.contains(&member.pid) && own.contains(&member.parent))
            .filter(|member| if deep { same.is_some() && program(member) == same } else { member.parent == leader })
            .map(|member| member.pid)
            .collect();
        if more.is_empty() {
            break;
        }
        own.extend(more);
    }
    members.iter().filter(|member| !own.contains(&member.pid)).any(|member| {
        !WAITING.contains(&member.name.as_str()) && {
            let arguments = arguments(member);
            !TRACKERS.iter().any(|tracker| arguments.contains(tracker))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(pid: i32, parent: i32, name: &str) -> Member {
        Member { pid, parent, cpu: Duration::ZERO, started: 1, name: name.to_owned() }
    }

    fn job(members: &[Member], deep: bool) -> bool {
        let arguments = |member: &Member| {
            if member.pid == 99 { "-c from multiprocessing.resource_tracker".into() } else { String::new() }
        };
        has_job(members, 1, deep, |member| Some(member.name.clone().into()), arguments)
    }

    #[test]
    fn jobs_are_what_neither_waits_nor_belongs_to_the_application() {
        let lab = [member(1, 0, "python"), member(2, 1, "python"), member(3, 1, "bash")];
        let with = |more: Member| [lab.as_slice(), &[more]].concat();
        assert!(!job(&lab, false));
        for (more, expected) in [
            (member(4, 3, "sleep"), true),    // in a terminal
            (member(4, 0, "python"), true),   // by nohup, its shell gone
            (member(4, 2, "python"), true),   // started by a cell
            (member(4, 3, "bash"), false),    // a shell in a shell
            (member(99, 2, "python"), false), // a helper of a kernel
        ] {
            assert_eq!(job(&with(more.clone()), false), expected, "{more:?}");
        }
        let code = [member(1, 0, "node"), member(2, 1, "node"), member(3, 2, "node"), member(4, 3, "bash")];
        assert!(!job(&code, true));
        assert!(job(&[code.as_slice(), &[member(5, 4, "node")]].concat(), true), "node in a terminal is a job");
    }
}
