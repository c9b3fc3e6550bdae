//! The machine that something was measured on, as results are recorded with it.

use provision::Postgres;
use serde_json::{Value, json};
use std::process::Command;

/// Cores, processor, memory, the load of this moment, the operating system with its kernel, and the PostgreSQL that
/// clusters are given here; and the commit of the tree.
#[must_use]
pub fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let after = |text: &str, key: &str, sign: char| {
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split(sign).nth(1).unwrap_or_default().trim().trim_matches('"').to_owned()
    };
    json!({
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "cpu": after(&read("/proc/cpuinfo"), "model name", ':'),
        "memory": after(&read("/proc/meminfo"), "MemTotal", ':'),
        "load": read("/proc/loadavg").split(' ').next().unwrap_or_default(),
        "os": after(&read("/etc/os-release"), "PRETTY_NAME", '='),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "postgres": Postgres::find().and_then(|postgres| postgres.version().ok()).unwrap_or_default(),
        "commit": commit(),
    })
}

/// The commit of the checkout that this runs in, with a `+` where files of it were changed other than recordings. Nothing where
/// this is no checkout.
fn commit() -> String {
    let git = |arguments: &[&str]| Command::new("git").args(arguments).output().ok();
    let Some(head) = git(&["rev-parse", "--short=10", "HEAD"]).filter(|output| output.status.success()) else {
        return String::new();
    };
    let compared = git(&["diff", "--quiet", "HEAD", "--", ":/", ":(top,exclude)load-tests/results"]);
    let changed = if compared.is_some_and(|output| output.status.code() == Some(1)) { "+" } else { "" };
    format!("{}{changed}", String::from_utf8_lossy(&head.stdout).trim())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_recording_says_what_everything_ran_on() {
        let machine = super::machine();
        for what in ["cpu", "memory", "load", "os", "kernel", "postgres"] {
            assert!(machine[what].as_str().is_some_and(|told| !told.is_empty()), "{what}: {machine}");
        }
        let postgres = machine["postgres"].as_str().unwrap_or_default();
        assert!(postgres.starts_with(|c: char| c.is_ascii_digit()), "{postgres}");
        assert!(machine["commit"].is_string(), "{machine}");
    }
}
