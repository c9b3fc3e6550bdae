//! Processes by their number: signals to a whole group, and who is left of whom. Refuses to know Python.
//!
//! Two environment variables mark processes. They are read back from `/proc`, which shows the environment that a
//! process was *started* with: a program started by user code shows both, a plain fork of a warm interpreter only the
//! executor's.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::{collections::HashMap, fs};

/// Marks every program that an attempt starts.
pub const ATTEMPT_MARK: &str = "ORRERY_ATTEMPT";
/// Marks every process of an executor: warm interpreters, their forks, and what those start.
pub const EXECUTOR_MARK: &str = "ORRERY_EXECUTOR";

/// Sends a signal to a process group. A group that is gone is no error.
pub fn signal_group(leader: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(leader) {
        // ESRCH is the only failure for our own children: they are gone.
        let _ = kill_process_group(pid, signal);
    }
}

/// A process that carries an executor's mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// Its number.
    pub pid: i32,
    /// Its parent; 1, or some other reaper of orphans, once the parent has died.
    pub parent: i32,
    /// Its session: the number of the attempt's first process, unless it left that.
    pub session: i32,
    /// The attempt that started it as a program of its own.
    pub attempt: Option<String>,
}

/// Every process that carries this executor's mark.
///
/// Reads `/proc`, so it costs some milliseconds of blocking work.
#[must_use]
pub fn marked(executor: &str) -> Vec<Marked> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let environ = fs::read(entry.path().join("environ")).ok()?;
            if value(&environ, EXECUTOR_MARK)? != executor {
                return None;
            }
            let (parent, session) = parent_and_session(&fs::read_to_string(entry.path().join("stat")).ok()?)?;
            Some(Marked { pid, parent, session, attempt: value(&environ, ATTEMPT_MARK) })
        })
        .collect()
}

/// Kills processes; answers how many were there to be killed.
pub fn kill(pids: impl IntoIterator<Item = i32>) -> usize {
    let pids = pids.into_iter().filter_map(Pid::from_raw);
    pids.filter(|pid| kill_process(*pid, Signal::KILL).is_ok()).count()
}

/// Whether a process runs. One that is dead but that nobody has reaped does not.
#[must_use]
pub fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rfind(')').and_then(|at| stat[at + 1..].trim_start().chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Of the marked processes, those that belong to no living attempt. `living` maps an attempt's mark to its first
/// process, if that has started; `executor` is the process that starts warm interpreters.
#[must_use]
pub fn orphans(marked: &[Marked], living: &HashMap<String, Option<i32>>, executor: i32) -> Vec<i32> {
    let known: Vec<i32> = marked.iter().map(|process| process.pid).collect();
    let strayed = |process: &&Marked| match &process.attempt {
        Some(attempt) => !living.contains_key(attempt),
        // A fork shows no attempt. It is at home below a marked parent (a warm interpreter, or an attempt that lives)
        // or in the session of an attempt that lives; otherwise it outlived the one it came from.
        None => {
            process.parent != executor
                && !known.contains(&process.parent)
                && !living.values().any(|leader| *leader == Some(process.session))
        }
    };
    marked.iter().filter(strayed).map(|process| process.pid).collect()
}

pub(crate) fn value(environ: &[u8], name: &str) -> Option<String> {
    let pairs = environ.split(|byte| *byte == 0);
    let mut values = pairs.filter_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    values.next().map(|value| String::from_utf8_lossy(value).into_owned())
}

/// From `/proc/<pid>/stat`, whose second field is a name in parentheses that may hold anything.
fn parent_and_session(stat: &str) -> Option<(i32, i32)> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace().skip(1);
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some((parent, session))
}

/// The name of a signal, for people.
#[must_use]
pub fn signal_name(number: i32) -> String {
    let name = match number {
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_hides_no_field() {
        assert_eq!(parent_and_session("12 (a) b) c) S 7 8 9 0"), Some((7, 9)));
    }

    #[test]
    fn orphans_are_those_without_a_living_attempt() {
        let process = |pid, parent, session, attempt: Option<&str>| Marked {
            pid,
            parent,
            session,
            attempt: attempt.map(str::to_owned),
        };
        let marked = [
            process(10, 1_000, 5, None),       // a warm interpreter
            process(11, 10, 11, None),         // a living attempt
            process(12, 11, 12, None),         // its fork in a session of its own
            process(13, 1, 11, None),          // its orphan that stayed in its session
            process(14, 11, 11, Some("here")), // a program that it started
            process(20, 1, 20, None),          // a fork that outlived its attempt
            process(21, 1, 21, Some("gone")),  // a program that outlived its attempt
        ];
        let living = HashMap::from([("here".to_owned(), Some(11)), ("starting".to_owned(), None)]);
        assert_eq!(orphans(&marked, &living, 1_000), [20, 21]);
    }
}
