//! Services that a killed `orrery up` left behind: written down while they run, ended by the next life.

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// How long a leftover may drain.
const GRACE: Duration = Duration::from_secs(10);

/// A process, told from a later one with the same number by when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Child {
    pid: u32,
    started_ticks: u64,
}

impl Child {
    /// The living process with this number.
    pub(super) fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, started_ticks: started_ticks(pid)? })
    }

    fn lives(self) -> bool {
        started_ticks(self.pid) == Some(self.started_ticks)
    }

    fn signal(self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw)
            && self.lives()
        {
            // It may end between the look and the signal; that is what we want.
            let _ = kill_process(pid, signal);
        }
    }
}

/// Writes down what runs now.
pub(super) fn write(file: &Path, children: &[Child]) {
    // Without it only the clean-up after a kill is lost.
    let _ = serde_json::to_vec(children).map(|text| fs::write(file, text));
}

/// Ends what an earlier life wrote down and left.
pub(super) async fn end(file: &Path) {
    let children: Vec<Child> = fs::read(file).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
    children.iter().for_each(|c| c.signal(Signal::TERM));
    let begun = Instant::now();
    while children.iter().any(|c| c.lives()) && begun.elapsed() < GRACE {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    children.iter().for_each(|c| c.signal(Signal::KILL));
    let _ = fs::remove_file(file);
}

/// Field 22 of `/proc/PID/stat`; `None` for a process that is gone or only waits for its parent.
fn started_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let mut rest = stat.rsplit_once(')')?.1.split_whitespace();
    let state = rest.next()?;
    (state != "Z").then(|| rest.nth(18)?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[tokio::test]
    async fn a_leftover_is_ended_and_a_stranger_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("children.json");
        let mut left = Command::new("sleep").arg("600").spawn().unwrap();
        let mut stranger = Command::new("sleep").arg("600").spawn().unwrap();
        // The same number as a process of the last life, started at another time.
        let reused = Child { pid: stranger.id(), started_ticks: 1 };
        write(&file, &[Child::of(left.id()).unwrap(), reused]);
        end(&file).await;
        assert!(!left.wait().unwrap().success());
        assert!(stranger.try_wait().unwrap().is_none() && !file.exists());
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}
