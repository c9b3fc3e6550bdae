//! The journal: one JSON line when an attempt's process starts and one when it is gone, appended and never changed. It is
//! this executor's own testimony, independent of the database, for whoever checks history.
//!
//! What runs without a process (the built-in no-op) is not in it.

use crate::attempt::AttemptId;
use serde_json::{Value, json};
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// A journal that is longer at the start of a life becomes the previous one.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// An append-only file.
#[derive(Debug)]
pub struct Journal {
    file: Mutex<File>,
    path: PathBuf,
}

impl Journal {
    /// Opens or creates it, and notes that `executor` has begun to live, in this life of the machine.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn open(path: &Path, executor: &str) -> io::Result<Self> {
        if std::fs::metadata(path).is_ok_and(|file| file.len() > BYTES_MAX) {
            std::fs::rename(path, path.with_extension("previous.jsonl"))?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let journal = Self { file: Mutex::new(file), path: path.to_owned() };
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let pid = std::process::id();
        journal.line(
            &json!({ "event": "open", "executor": executor, "pid": pid, "boot": boot.trim(), "at_us": now_us() }),
        );
        Ok(journal)
    }

    /// An attempt has a process.
    pub fn started(&self, attempt: &AttemptId, pid: i32) {
        self.line(&json!({ "event": "start", "attempt": attempt.to_string(), "pid": pid, "at_us": now_us() }));
    }

    /// An attempt has ended and its process is gone, or waits for the next attempt of its run.
    pub fn ended(&self, attempt: &AttemptId, outcome: &str) {
        self.line(&json!({ "event": "end", "attempt": attempt.to_string(), "outcome": outcome, "at_us": now_us() }));
    }

    /// One write a line, so that a crash cuts at most the last one. A file that cannot be written, on a full disk say,
    /// must not stop attempts.
    fn line(&self, value: &Value) {
        let line = format!("{value}\n");
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(line.as_bytes()) {
            tracing::warn!(path = %self.path.display(), %error, "failed to write the journal");
        }
    }
}

fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}
