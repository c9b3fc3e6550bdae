//! Logs that are written while a cluster is used and broken. Each line is one write, so that a crash cuts at most the last.

use super::lines::{ClientEvent, ClientLine, HarnessEvent, HarnessLine, Request};
use anyhow::{Context, Result};
use serde::Serialize;
use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Who uses the cluster: every question before it is sent, every answer when it has come.
#[derive(Debug)]
pub struct ClientLog {
    lines: Lines,
    calls: AtomicU64,
}

/// A question that has no answer yet.
#[derive(Debug, Clone, Copy)]
#[must_use = "an answer that is not noted counts as one that never came"]
pub struct Asked(u64);

impl ClientLog {
    /// A new log `client-<name>.jsonl` in the folder of a history.
    ///
    /// # Errors
    /// When the file is there already or cannot be written.
    pub fn create(folder: &Path, name: &str) -> Result<Self> {
        Ok(Self { lines: Lines::create(folder, &format!("client-{name}.jsonl"))?, calls: AtomicU64::new(0) })
    }

    /// Notes what is about to be sent. A repetition with the same key is a question of its own.
    ///
    /// # Errors
    /// When the log cannot be written; then nothing should be sent.
    pub fn asked(&self, request: Request) -> Result<Asked> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        self.line(call, ClientEvent::Asked { request })?;
        Ok(Asked(call))
    }

    /// Notes the answer: [`ClientEvent::Acknowledged`] or [`ClientEvent::Failed`].
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn answered(&self, asked: Asked, answer: ClientEvent) -> Result<()> {
        self.line(asked.0, answer)
    }

    fn line(&self, call: u64, event: ClientEvent) -> Result<()> {
        self.lines.write(&ClientLine { call, at_us: now_us(), event })
    }
}

/// Who breaks the cluster.
#[derive(Debug)]
pub struct HarnessLog {
    lines: Lines,
}

impl HarnessLog {
    /// The log `harness.jsonl` in the folder of a history.
    ///
    /// # Errors
    /// When the file is there already or cannot be written.
    pub fn create(folder: &Path) -> Result<Self> {
        Ok(Self { lines: Lines::create(folder, "harness.jsonl")? })
    }

    /// Notes that something is about to be broken: `kill` of `scheduler-1`, say.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn fault(&self, fault: &str, target: &str) -> Result<()> {
        self.line(HarnessEvent::Fault { fault: fault.to_owned(), target: target.to_owned() })
    }

    /// Notes that it was mended.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn healed(&self, fault: &str, target: &str) -> Result<()> {
        self.line(HarnessEvent::Healed { fault: fault.to_owned(), target: target.to_owned() })
    }

    /// Notes a counter of a service.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn counted(&self, service: &str, metric: &str, value: u64) -> Result<()> {
        self.line(HarnessEvent::Counted { service: service.to_owned(), metric: metric.to_owned(), value })
    }

    fn line(&self, event: HarnessEvent) -> Result<()> {
        self.lines.write(&HarnessLine { at_us: now_us(), event })
    }
}

#[derive(Debug)]
struct Lines {
    file: Mutex<File>,
}

impl Lines {
    fn create(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(name);
        let file = OpenOptions::new().create_new(true).append(true).open(&path);
        Ok(Self { file: Mutex::new(file.with_context(|| format!("create {}", path.display()))?) })
    }

    fn write(&self, line: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(text.as_bytes()).context("write a line of the history")
    }
}

fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}
