//! Processes as `/proc` shows them.

use rustix::process::{Pid, Signal, kill_process};
use std::{fs, path::Path};

/// Sends a signal.
pub(crate) fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Whether it runs; one that only waits for its parent does not.
pub(crate) fn lives(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != "Z")
}

/// The living children of a process.
pub(crate) fn children(parent: u32) -> Vec<i32> {
    let pids = fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| stat(*pid).is_some_and(|(state, ppid)| state != "Z" && ppid == parent)).collect()
}

/// The file name of its program.
pub(crate) fn program(pid: i32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let first = String::from_utf8_lossy(line.split(|b| *b == 0).next().unwrap_or_default()).into_owned();
    Path::new(&first).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Its environment as `NAME=VALUE`.
pub(crate) fn environment(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    bytes.split(|b| *b == 0).map(|v| String::from_utf8_lossy(v).into_owned()).collect()
}

fn stat(pid: i32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut rest = stat.rsplit_once(')')?.1.split_whitespace();
    Some((rest.next()?.to_owned(), rest.next()?.parse().ok()?))
}

/// A process that is stopped until this is dropped.
pub(crate) struct Frozen(i32);

impl Frozen {
    pub(crate) fn new(pid: i32) -> Self {
        signal(pid, Signal::STOP);
        Self(pid)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        signal(self.0, Signal::CONT);
    }
}
