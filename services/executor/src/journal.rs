//! The journal: what really ran here and when. A line when an attempt's process starts and one when it is gone, appended
//! and never changed. It is this executor's own testimony, independent of the database, for whoever checks history. So it
//! tells which devices an attempt in a container, and a life of a runtime, was started with, and when nothing of it was left.
//!
//! With [`Detail::Everything`] it also tells what has no process, the built-in no-op, and what was said to and heard from
//! schedulers: assignments, results, and which of these counted. The format is read by `load-tests/src/history`.

use crate::{attempt::AttemptId, core::Identity, pool::Life};
use backend::Place;
use domain::id::HolderId;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// A journal that is longer at the start of a life becomes the previous one.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Processes. A file that has grown large is put aside when the executor starts.
    Processes,
    /// Every attempt and every answer, in a file that only grows.
    Everything,
}

/// An append-only file.
#[derive(Debug)]
pub struct Journal {
    file: Mutex<File>,
    path: PathBuf,
    detail: Detail,
}

impl Journal {
    /// Opens or creates it, and notes that this executor has begun to live, in this life of the machine.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn open(path: &Path, executor: &Identity, detail: Detail) -> io::Result<Self> {
        if detail == Detail::Processes && std::fs::metadata(path).is_ok_and(|file| file.len() > BYTES_MAX) {
            std::fs::rename(path, path.with_extension("previous.jsonl"))?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let journal = Self { file: Mutex::new(file), path: path.to_owned(), detail };
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let (id, pid) = (executor.id.to_string(), std::process::id());
        journal
            .line(json!({ "event": "open", "executor": id, "name": executor.name, "pid": pid, "boot": boot.trim() }));
        Ok(journal)
    }

    /// An attempt was taken on: begun, or about to be given back.
    pub fn assigned(&self, attempt: &AttemptId) {
        self.detail(|| json!({ "event": "assigned", "attempt": attempt.to_string() }));
    }

    /// An attempt has a process.
    pub fn started(&self, attempt: &AttemptId, pid: i32) {
        self.line(json!({ "event": "start", "attempt": attempt.to_string(), "pid": pid }));
    }

    /// An attempt is about to be launched elsewhere, on these devices.
    pub fn launched(&self, attempt: &AttemptId, place: Option<&Place>) {
        let devices =
            place.map(|place| place.devices.iter().map(|device| share(&place.node, &device.name, device.milli)));
        let devices: Vec<Value> = devices.into_iter().flatten().collect();
        self.line(json!({ "event": "start", "attempt": attempt.to_string(), "pid": 0, "devices": devices }));
    }

    /// A life of a runtime is about to start, or was found by this life of the executor: it may use its devices from here on.
    pub fn life_begins(&self, holder: HolderId, life: &Life) {
        let devices = life.grants.iter().map(|grant| share(&life.node, &grant.device, grant.milli));
        let devices: Vec<Value> = devices.collect();
        self.line(json!({ "event": "hold", "holder": holder.to_string(), "devices": devices }));
    }

    /// Nothing of a life is left. Written before anybody is told.
    pub fn life_is_gone(&self, holder: HolderId) {
        self.line(json!({ "event": "free", "holder": holder.to_string() }));
    }

    /// An attempt has ended and its process is gone, or waits for the next attempt of its run.
    pub fn ended(&self, attempt: &AttemptId, outcome: &str) {
        self.line(json!({ "event": "end", "attempt": attempt.to_string(), "outcome": outcome }));
    }

    /// What a scheduler will be told about an attempt, again and again until it answers.
    pub fn result(&self, attempt: &AttemptId, outcome: &str) {
        self.detail(|| json!({ "event": "result", "attempt": attempt.to_string(), "outcome": outcome }));
    }

    /// An attempt ended whose result interests nobody: it was given to another executor.
    pub fn dropped(&self, attempt: &AttemptId) {
        self.detail(|| json!({ "event": "dropped", "attempt": attempt.to_string() }));
    }

    /// A scheduler has answered: the result counts, or it was refused.
    pub fn acknowledged(&self, attempt: &AttemptId, accepted: bool) {
        self.detail(|| json!({ "event": "ack", "attempt": attempt.to_string(), "accepted": accepted }));
    }

    fn detail(&self, value: impl FnOnce() -> Value) {
        if self.detail == Detail::Everything {
            self.line(value());
        }
    }

    /// One write a line, so that a crash cuts at most the last one. A file that cannot be written, on a full disk say,
    /// must not stop attempts.
    fn line(&self, mut value: Value) {
        value["at_us"] = jiff::Timestamp::now().as_microsecond().into();
        value["mono_us"] = monotonic_us().into();
        let line = format!("{value}\n");
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(line.as_bytes()) {
            tracing::warn!(path = %self.path.display(), %error, "failed to write the journal");
        }
    }
}

/// Since this machine started, whatever its clock says: what orders the processes of several executors on one machine.
fn monotonic_us() -> i64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec * 1_000_000 + time.tv_nsec / 1_000
}

/// A part of a device, which is named with its node: others have devices of the same name.
fn share(node: &str, device: &str, milli: u32) -> Value {
    json!({ "device": format!("{node}/{device}"), "milli": milli })
}
