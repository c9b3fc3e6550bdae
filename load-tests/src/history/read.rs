//! Reads a folder of lines into one [`History`].

use super::{Call, CallAnswer, ClientEvent, ClientLine, DatabaseLine, HarnessLine, History, JournalLine, Promises};
use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

impl History {
    /// Reads the folder of a history.
    ///
    /// # Errors
    /// When the database's part is missing or cannot be read. A line of another part that a crash cut is passed over and
    /// counted.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut history = Self { promises: Promises::read(folder)?, ..Self::default() };
        history.read_database(&folder.join("database.jsonl"))?;
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        for name in names.iter().filter_map(|name| name.strip_suffix(".jsonl")) {
            let path = folder.join(format!("{name}.jsonl"));
            if name.starts_with("executor-") {
                let lines: Vec<JournalLine> = history.lenient(&path)?;
                history.journals.push((name.to_owned(), lines));
            } else if name.starts_with("client-") {
                let lines = history.lenient(&path)?;
                history.calls.extend(calls(name, lines));
            } else if name == "harness" {
                let lines: Vec<HarnessLine> = history.lenient(&path)?;
                history.harness.extend(lines);
            }
        }
        Ok(history)
    }

    fn read_database(&mut self, path: &Path) -> Result<()> {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        for (at, line) in BufReader::new(file).lines().enumerate() {
            let line: DatabaseLine =
                serde_json::from_str(&line?).with_context(|| format!("line {} of {}", at + 1, path.display()))?;
            self.add(line);
        }
        ensure!(self.taken_at_us > 0, "{} was not written to its end", path.display());
        Ok(())
    }

    /// Adds a line of the database.
    pub fn add(&mut self, line: DatabaseLine) {
        match line {
            DatabaseLine::Pipeline(row) => self.pipelines.push(row),
            DatabaseLine::Graph(row) => self.graphs.push(row),
            DatabaseLine::Trigger(row) => self.triggers.push(row),
            DatabaseLine::TriggerState(row) => self.trigger_states.push(row),
            DatabaseLine::Backfill(row) => self.backfills.push(row),
            DatabaseLine::Firing(row) => self.firings.push(row),
            DatabaseLine::Run(row) => self.runs.push(row),
            DatabaseLine::Unit(row) => self.units.push(row),
            DatabaseLine::UnitWrite(row) => self.unit_writes.push(row),
            DatabaseLine::Lost(row) => self.lost.push(row),
            DatabaseLine::Shard(row) => self.shards.push(row),
            DatabaseLine::Taking(row) => self.takings.push(row),
            DatabaseLine::Executor(row) => self.executors.push(row),
            DatabaseLine::Placement(row) => self.placements.push(row),
            DatabaseLine::Taken { at_us } => self.taken_at_us = at_us,
        }
    }

    fn lenient<T: DeserializeOwned>(&mut self, path: &Path) -> Result<Vec<T>> {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        let mut lines = Vec::new();
        for line in BufReader::new(file).split(b'\n') {
            match serde_json::from_slice(&line?) {
                Ok(line) => lines.push(line),
                Err(_) => self.unreadable += 1,
            }
        }
        Ok(lines)
    }
}

/// Joins questions with their answers.
fn calls(client: &str, lines: Vec<ClientLine>) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut places = HashMap::new();
    for ClientLine { call, at_us, event } in lines {
        if let ClientEvent::Asked { request } = event {
            places.insert(call, calls.len());
            calls.push(Call { client: client.to_owned(), request, asked_at_us: at_us, answer: None });
        } else if let Some(place) = places.get(&call) {
            calls[*place].answer = Some(CallAnswer { at_us, event });
        }
    }
    calls
}
