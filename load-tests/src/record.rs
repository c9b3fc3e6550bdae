//! The machine that something was measured on, as results are recorded with it.

use serde_json::{Value, json};

/// Cores, processor, memory, and the load of this moment.
#[must_use]
pub fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let after = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split(':').nth(1).unwrap_or_default().trim().to_owned()
    };
    json!({
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "cpu": after(&read("/proc/cpuinfo"), "model name"),
        "memory": after(&read("/proc/meminfo"), "MemTotal"),
        "load": read("/proc/loadavg").split(' ').next().unwrap_or_default(),
    })
}
