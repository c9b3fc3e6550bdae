//! What somebody does in a runtime, or works in it, seen from this machine. Each source says active, idle or unknown;
//! what cannot be read is unknown, never idle. None of these looks counts as activity for the application.
//!
//! | source | active means |
//! |---|---|
//! | `kernels` | a kernel is busy, or was used |
//! | `terminals` | a terminal was used |
//! | `heartbeat` | a window of the editor is open |
//! | `jobs` | a program runs that is neither the application's own nor a shell |
//! | `cpu` | the processes use more than a twentieth of a core |
//!
//! A job in the background that sleeps is still a job: that is why `jobs` counts beside `cpu`. Refuses to decide what
//! idleness is for.

use super::http;
use crate::pool::Life;
use backend_process::sessions::Member;
use domain::runtime::App;
use jiff::Timestamp;
use proto::internal::v1::{ActivityReport, activity_report::State};
use serde_json::Value;
use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};
use tokio::time::Instant;

/// Above this share of a core somebody works; editors that watch files stay below it.
const BUSY_MILLI: u128 = 50;
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
    app: App,
    base_path: String,
    key: runtime::secret::Secret,
    at: SocketAddr,
    leader: i32,
    began: Timestamp,
    cpu: HashMap<(i32, u64), Duration>,
    looked: Option<Instant>,
    cpu_active: Timestamp,
    jobs_active: Timestamp,
}

impl Watcher {
    /// For a life that was ready now.
    pub(super) fn new(life: &Life, at: SocketAddr, leader: i32) -> Self {
        let now = Timestamp::now();
        Self {
            app: life.spec.app.clone(),
            base_path: life.base_path.clone(),
            key: life.access_key.clone(),
            at,
            leader,
            began: now,
            cpu: HashMap::new(),
            looked: None,
            cpu_active: now,
            jobs_active: now,
        }
    }

    /// Looks at everything.
    pub(super) async fn look(&mut self, members: &[Member]) -> Vec<ActivityReport> {
        let now = Timestamp::now();
        let mut found = vec![("cpu", self.processor(members, now))];
        match self.app {
            App::Jupyter => {
                found.push(("jobs", self.jobs(members, now)));
                found.push((
                    "kernels",
                    self.ask("api/kernels").await.map_or_else(unknown, |all| kernels(&all, self.began, now)),
                ));
                found.push(("terminals", self.terminals().await));
            }
            App::VsCode => {
                found.push(("jobs", self.jobs(members, now)));
                found.push(("heartbeat", self.heartbeat().await));
            }
            App::Custom { .. } => {}
        }
        let read_us = Timestamp::now().as_microsecond();
        found
            .into_iter()
            .map(|(source, state)| ActivityReport { source: source.to_owned(), state: Some(state), read_us })
            .collect()
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
            Some(window) if used.as_micros() * 1_000 > window.as_micros() * BUSY_MILLI => self.cpu_active = now,
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

    async fn terminals(&self) -> State {
        let read = self.ask("api/terminals").await;
        read.map_or_else(unknown, |all| match latest(&all) {
            Some(last) => since(last.max(self.began)),
            None => since(self.began),
        })
    }

    /// The time of the last sign of life of a window; the answer of `/healthz` is none itself.
    async fn heartbeat(&self) -> State {
        match self.get("/healthz").await {
            Ok(answer) => match answer["lastHeartbeat"].as_i64() {
                Some(ms) => since(Timestamp::from_millisecond(ms).unwrap_or(self.began).max(self.began)),
                None => State::Unknown("the editor tells no heartbeat".to_owned()),
            },
            Err(why) => State::Unknown(why),
        }
    }

    async fn ask(&self, what: &str) -> Result<Value, String> {
        self.get(&format!("{}{what}?no_track_activity=1", self.base_path)).await
    }

    async fn get(&self, path: &str) -> Result<Value, String> {
        let (status, body) = http::get(self.at, path, self.key.expose()).await.map_err(|error| error.to_string())?;
        if status != 200 {
            return Err(format!("the application answers with status {status}"));
        }
        serde_json::from_slice(&body).map_err(|error| format!("the application's answer is no JSON: {error}"))
    }
}

fn unknown(why: String) -> State {
    State::Unknown(why)
}

/// Active now, or idle since.
fn state(last: Timestamp, now: Timestamp) -> State {
    if last == now { State::ActiveUs(now.as_microsecond()) } else { since(last) }
}

fn since(last: Timestamp) -> State {
    State::IdleSinceUs(last.as_microsecond())
}

/// A busy kernel is active however silent its cell is; of the others, the last message counts.
fn kernels(all: &Value, began: Timestamp, now: Timestamp) -> State {
    let Some(list) = all.as_array() else { return unknown("the list of kernels is none".to_owned()) };
    let waits = |kernel: &Value| kernel["execution_state"] == "idle" || kernel["execution_state"] == "dead";
    if list.iter().all(waits) {
        return since(latest(all).map_or(began, |last| last.max(began)));
    }
    State::ActiveUs(now.as_microsecond())
}

/// The latest `last_activity` of a list.
fn latest(list: &Value) -> Option<Timestamp> {
    let times = list.as_array()?.iter().filter_map(|one| one["last_activity"].as_str()?.parse().ok());
    times.max()
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
    use serde_json::json;

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

    #[test]
    fn a_busy_kernel_is_active_however_silent() {
        let (began, now) = (Timestamp::UNIX_EPOCH, Timestamp::now());
        let kernel = |state: &str| json!({ "execution_state": state, "last_activity": "2020-01-01T00:00:00.5Z" });
        let active = State::ActiveUs(now.as_microsecond());
        assert_eq!(kernels(&json!([kernel("idle"), kernel("busy")]), began, now), active);
        assert_eq!(kernels(&json!([kernel("starting")]), began, now), active);
        assert_eq!(kernels(&json!([kernel("idle")]), began, now), State::IdleSinceUs(1_577_836_800_500_000));
        assert_eq!(kernels(&json!([]), began, now), State::IdleSinceUs(0));
        assert!(matches!(kernels(&json!({}), began, now), State::Unknown(_)));
    }
}
