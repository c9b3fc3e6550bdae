//! The trace's files, and tasks that insist on models where the trace has none.

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{collections::BTreeMap, path::Path};

/// A machine with devices of one model.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) cpu_milli: u64,
    pub(super) memory_mib: u64,
    pub(super) gpus: u32,
    pub(super) model: String,
}

/// Something to place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Task {
    pub(super) cpu_milli: u64,
    pub(super) memory_mib: u64,
    pub(super) gpus: u32,
    pub(super) gpu_milli: u32,
    /// None is any.
    pub(super) models: Vec<String>,
}

/// A task that came, ran and left.
#[derive(Debug, Clone)]
pub(super) struct Stay {
    pub(super) task: Task,
    pub(super) lasts_s: u64,
    /// It was the kind of work that makes room for others (BE).
    pub(super) stoppable: bool,
}

/// How models are drawn for tasks that insist on some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Draw {
    /// In proportion to the devices that there are
    Supply,
    /// Each model as often as any other
    Even,
    /// Two models at a time, each pair as often as any other
    Pairs,
}

impl Task {
    /// Milli-GPU.
    pub(super) fn milli(&self) -> u64 {
        u64::from(self.gpus) * u64::from(self.gpu_milli)
    }
}

/// Reads the nodes.
pub(super) fn nodes(path: &Path) -> Result<Vec<Node>> {
    let node = |row: &Row<'_>| {
        let gpus = u32::try_from(row.number("gpu")?)?;
        let model = row.text("model")?.to_owned();
        Ok(Node { cpu_milli: row.number("cpu_milli")?, memory_mib: row.number("memory_mib")?, gpus, model })
    };
    let nodes = read(path, node)?;
    ensure!(nodes.iter().any(|node| node.gpus > 0), "{} has no node with a GPU", path.display());
    Ok(nodes)
}

/// Reads the tasks.
pub(super) fn tasks(path: &Path) -> Result<Vec<Task>> {
    let tasks = read(path, task)?;
    ensure!(tasks.iter().any(|task| task.milli() > 0), "{} has no task that wants a GPU", path.display());
    Ok(tasks)
}

/// Reads those tasks that were ever started, with the time that they ran.
pub(super) fn stays(path: &Path) -> Result<Vec<Stay>> {
    let stay = |row: &Row<'_>| {
        let task = task(row)?;
        if row.text("scheduled_time")?.is_empty() {
            return Ok(None);
        }
        let lasts_s = row.number("deletion_time")?.saturating_sub(row.number("scheduled_time")?);
        Ok(Some(Stay { task, lasts_s, stoppable: row.text("qos")? == "BE" }))
    };
    let stays: Vec<Stay> = read(path, stay)?.into_iter().flatten().collect();
    ensure!(stays.iter().any(|stay| stay.task.milli() > 0), "{} has no task that ran on a GPU", path.display());
    Ok(stays)
}

fn task(row: &Row<'_>) -> Result<Task> {
    let models = row.text("gpu_spec")?.split('|').map(str::trim).filter(|model| !model.is_empty());
    Ok(Task {
        cpu_milli: row.number("cpu_milli")?,
        memory_mib: row.number("memory_mib")?,
        gpus: u32::try_from(row.number("num_gpu")?)?,
        gpu_milli: u32::try_from(row.number("gpu_milli")?)?,
        models: models.map(str::to_owned).collect(),
    })
}

/// Lets a part of the GPU tasks insist on models, of those on which they fit at all. Always the same for the same input.
pub(super) fn demand(tasks: &mut [Task], nodes: &[Node], percent: u8, draw: Draw) {
    let mut random = StdRng::seed_from_u64(u64::from(percent));
    for task in tasks.iter_mut().filter(|task| task.gpus > 0 && task.models.is_empty()) {
        if random.random_range(0..100) >= u32::from(percent) {
            continue;
        }
        let mut supply: BTreeMap<&str, u64> = BTreeMap::new();
        let fits = |node: &&Node| {
            node.gpus >= task.gpus && node.cpu_milli >= task.cpu_milli && node.memory_mib >= task.memory_mib
        };
        for node in nodes.iter().filter(fits) {
            *supply.entry(&node.model).or_default() += if draw == Draw::Supply { u64::from(node.gpus) } else { 0 };
        }
        supply.values_mut().for_each(|weight| *weight = (*weight).max(1));
        for _ in 0..if draw == Draw::Pairs { 2 } else { 1 } {
            let total: u64 = supply.values().sum();
            let Some(mut at) = (total > 0).then(|| random.random_range(0..total)) else { break };
            let chosen = supply.iter().find(|(_, weight)| {
                let found = at < **weight;
                at = at.saturating_sub(**weight);
                found
            });
            let Some(model) = chosen.map(|(model, _)| *model) else { break };
            supply.remove(model);
            task.models.push(model.to_owned());
        }
        task.models.sort();
    }
}

/// One line, by the names of its columns.
struct Row<'a> {
    columns: &'a [&'a str],
    values: Vec<&'a str>,
}

impl Row<'_> {
    fn text(&self, column: &str) -> Result<&str> {
        let at = self.columns.iter().position(|name| *name == column);
        let value = at.and_then(|at| self.values.get(at));
        value.copied().with_context(|| format!("there is no column {column}"))
    }

    fn number(&self, column: &str) -> Result<u64> {
        let text = self.text(column)?;
        text.parse().with_context(|| format!("{column} is {text:?}, not a whole number"))
    }
}

fn read<T>(path: &Path, parse: impl Fn(&Row<'_>) -> Result<T>) -> Result<Vec<T>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut lines = text.lines();
    let columns: Vec<&str> = lines.next().unwrap_or_default().split(',').map(str::trim).collect();
    let filled = lines.enumerate().filter(|(_, line)| !line.trim().is_empty());
    filled
        .map(|(at, line)| {
            let row = Row { columns: &columns, values: line.split(',').map(str::trim).collect() };
            parse(&row).with_context(|| format!("{}, line {}", path.display(), at + 2))
        })
        .collect()
}
