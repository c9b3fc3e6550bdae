//! Programs that outlive the executor which started them: found again by a mark in their environment, whatever sessions
//! and process groups they made. Refuses to know what they are.

use crate::process::{self, signal_group};
use rustix::process::{Pid, Signal, kill_process};
use std::{collections::HashMap, fs, io, path::PathBuf, time::Duration};

/// Marks everything that a session's program starts: `<executor's mark>/<name>`.
pub const SESSION_MARK: &str = "ORRERY_SESSION";
/// The kernel counts processor time in these; the same on every Linux that runs here.
const TICK: Duration = Duration::from_millis(10);

/// One process of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub pid: i32,
    /// Its parent.
    pub parent: i32,
    /// Processor time that it has used.
    pub cpu: Duration,
    /// When it started, in ticks since the machine did: with the number it names the process for ever.
    pub started: u64,
    /// Its name, as process lists show it.
    pub name: String,
}

impl Member {
    /// The program that it runs, where this may be read.
    #[must_use]
    pub fn program(&self) -> Option<PathBuf> {
        fs::read_link(format!("/proc/{}/exe", self.pid)).ok()
    }

    /// Its arguments, with spaces between them.
    #[must_use]
    pub fn arguments(&self) -> String {
        let bytes = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', " ")
    }
}

/// The mark of a session.
#[must_use]
pub fn mark(executor: &str, name: &str) -> String {
    format!("{executor}/{name}")
}

/// The living processes of all sessions of an executor, by the session's name; none when that cannot be told.
///
/// Reads `/proc`, so it costs some milliseconds of blocking work.
#[must_use]
pub fn all(executor: &str) -> HashMap<String, Vec<Member>> {
    try_all(executor).unwrap_or_default()
}

/// As [`all`], for whoever concludes from not finding any that none is left.
///
/// # Errors
/// When `/proc` cannot be read, or not to its end: with no file to be had, say.
pub fn try_all(executor: &str) -> io::Result<HashMap<String, Vec<Member>>> {
    let mut sessions: HashMap<String, Vec<Member>> = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let environ = match fs::read(entry.path().join("environ")) {
            Ok(environ) => environ,
            Err(error) if is_nobody_of_ours(&error) => continue,
            Err(error) => return Err(error),
        };
        let Some(marked) = process::value(&environ, SESSION_MARK) else { continue };
        let Some(name) = marked.strip_prefix(executor).and_then(|rest| rest.strip_prefix('/')) else { continue };
        let stat = match fs::read_to_string(entry.path().join("stat")) {
            Err(error) if !is_nobody_of_ours(&error) => return Err(error),
            stat => stat.unwrap_or_default(),
        };
        if let Some(member) = member(pid, &stat) {
            sessions.entry(name.to_owned()).or_default().push(member);
        }
    }
    Ok(sessions)
}

/// It has ended meanwhile, or is another user's. Anything else says nothing about the process.
fn is_nobody_of_ours(error: &io::Error) -> bool {
    let is_gone = error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error());
    is_gone || matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
}

/// When a process started; `None` when it does not live.
#[must_use]
pub fn started(pid: i32) -> Option<u64> {
    member(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?).map(|member| member.started)
}

/// Signals every member, and the process group of each.
pub fn signal(members: &[Member], signal: Signal) {
    for member in members {
        // Between looking and signalling a number may have passed on to another process.
        if started(member.pid) != Some(member.started) {
            continue;
        }
        signal_group(member.pid, signal);
        if let Some(pid) = Pid::from_raw(member.pid) {
            // Gone is what it shall be.
            let _ = kill_process(pid, signal);
        }
    }
}

/// From `/proc/<pid>/stat`; `None` for one that is dead.
fn member(pid: i32, stat: &str) -> Option<Member> {
    let (open, close) = (stat.find('(')?, stat.rfind(')')?);
    let name = stat.get(open + 1..close)?.to_owned();
    let fields: Vec<&str> = stat.get(close + 1..)?.split_ascii_whitespace().collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let ticks = number(11)?.saturating_add(number(12)?);
    Some(Member {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        cpu: TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX)),
        started: number(19)?,
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_and_the_dead_are_none() {
        let line = |state: &str| format!("7 (a (b) c) {state} 3 7 7 0 -1 0 0 0 0 0 150 50 0 0 20 0 1 0 4711 0 0");
        let expected = Member { pid: 7, parent: 3, cpu: Duration::from_secs(2), started: 4711, name: "a (b) c".into() };
        assert_eq!(member(7, &line("S")), Some(expected));
        assert_eq!(member(7, &line("Z")), None);
        assert_eq!(member(7, ""), None);
    }

    #[test]
    fn what_cannot_be_read_is_not_gone() {
        use rustix::io::Errno;
        for gone in [Errno::SRCH, Errno::NOENT, Errno::ACCESS, Errno::PERM] {
            assert!(is_nobody_of_ours(&gone.into()), "{gone}");
        }
        for unknown in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::IO, Errno::INTR] {
            assert!(!is_nobody_of_ours(&unknown.into()), "{unknown}");
        }
        assert!(try_all("nobody").unwrap().is_empty());
    }

    #[test]
    fn a_process_is_told_from_its_successor() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(started(own).is_some());
        assert_eq!(started(i32::MAX), None);
    }
}
