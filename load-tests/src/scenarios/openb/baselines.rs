//! The policies that the planner is compared with, as they can be stated exactly. Feasibility is the same for all of them.
//!
//! What is equal to the published steps of a score goes to the best fit, and what is equal even then is drawn by the seed:
//! so they reach what was published for them, to half a point.

use super::{
    method::Placer,
    trace::{Node, Task},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{cmp::Ordering, collections::HashMap};

/// How much of the tasks the typical set covers, most frequent first.
const TYPICAL_SHARE: f64 = 0.95;

/// Which node, and which device of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Any that fits.
    Random,
    /// The least sum of what is left of processor and of GPUs, each against the most that any node has.
    BestFit,
    /// The least product of what is asked for with what is left, summed over processor and GPUs, each as above.
    DotProduct,
    /// The least growth of the expected fragmentation, in a hundred steps of a sigmoid, as it was published.
    Fgd,
}

/// A cluster under one rule.
pub(super) struct Cluster {
    rule: Rule,
    nodes: Vec<State>,
    typical: Vec<(Task, f64)>,
    scores: HashMap<Task, Vec<Known>>,
    most_cpu: f64,
    most_gpu: f64,
    random: StdRng,
}

/// What was found out about a node, at which version of it.
type Known = Option<(u32, Option<Scored>)>;

#[derive(Clone)]
struct State {
    cpu: u64,
    memory: u64,
    /// What is left of each device.
    gpus: Vec<u32>,
    model: String,
    version: u32,
}

/// A greater score is better; of equal ones the greater fit.
#[derive(Clone, Copy)]
struct Scored {
    score: f64,
    fit: f64,
    device: usize,
}

impl Scored {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(self.fit.total_cmp(&other.fit))
    }
}

impl Cluster {
    pub(super) fn new(nodes: &[Node], tasks: &[Task], rule: Rule, seed: u64) -> Self {
        let state = |node: &Node| State {
            cpu: node.cpu_milli,
            memory: node.memory_mib,
            gpus: vec![1000; node.gpus as usize],
            model: node.model.clone(),
            version: 0,
        };
        Self {
            rule,
            nodes: nodes.iter().map(state).collect(),
            typical: if rule == Rule::Fgd { typical(tasks) } else { Vec::new() },
            scores: HashMap::new(),
            most_cpu: nodes.iter().map(|node| node.cpu_milli).max().unwrap_or(1) as f64,
            most_gpu: nodes.iter().map(|node| f64::from(node.gpus) * 1000.0).fold(1.0, f64::max),
            random: StdRng::seed_from_u64(seed),
        }
    }

    fn scored(&mut self, task: &Task, at: usize) -> Option<Scored> {
        let version = self.nodes[at].version;
        if self.rule == Rule::Random {
            let feasible: Vec<usize> = self.nodes[at].choices(task).collect();
            let device = *feasible.get(self.random.random_range(0..feasible.len().max(1)))?;
            return Some(Scored { score: 0.0, fit: 0.0, device });
        }
        if let Some(known) = self.scores.get(task).and_then(|scores| scores[at])
            && known.0 == version
        {
            return known.1;
        }
        let found = self.score(task, &self.nodes[at]);
        let count = self.nodes.len();
        self.scores.entry(task.clone()).or_insert_with(|| vec![None; count])[at] = Some((version, found));
        found
    }

    fn score(&self, task: &Task, node: &State) -> Option<Scored> {
        let left = |node: &State| f64::from(node.gpus.iter().sum::<u32>());
        let cpu = |amount: u64| amount as f64 / self.most_cpu;
        let scored = node.choices(task).map(|device| {
            let after = node.with(task, device);
            let fit = -(cpu(after.cpu) + left(&after) / self.most_gpu);
            let score = match self.rule {
                Rule::Random => 0.0,
                Rule::BestFit => fit,
                Rule::DotProduct => {
                    let gpu = (task.milli() as f64 / self.most_gpu) * (left(node) / self.most_gpu);
                    -(cpu(task.cpu_milli) * cpu(node.cpu) + gpu)
                }
                Rule::Fgd => {
                    let gain = self.fragments(node) - self.fragments(&after);
                    (100.0 / (1.0 + (-gain / 1000.0).exp())).floor()
                }
            };
            // Within a node, the fullest device that fits decides between equals.
            (Scored { score, fit, device }, node.gpus.get(device).copied().unwrap_or_default())
        });
        let best = scored.max_by(|(a, a_left), (b, b_left)| a.cmp(b).then(b_left.cmp(a_left)));
        best.map(|(scored, _)| scored)
    }

    /// Milli-GPU that typical tasks cannot use, on average.
    fn fragments(&self, node: &State) -> f64 {
        let idle = f64::from(node.gpus.iter().sum::<u32>());
        let of_task = |task: &Task| {
            if task.gpus == 0 || node.choices(task).next().is_none() {
                return idle;
            }
            f64::from(node.gpus.iter().filter(|left| **left < task.gpu_milli).sum::<u32>())
        };
        self.typical.iter().map(|(task, share)| share * of_task(task)).sum()
    }
}

impl Placer for Cluster {
    fn place(&mut self, task: &Task) -> bool {
        let mut best: Option<(Scored, usize)> = None;
        let mut equals = 0_u32;
        for at in 0..self.nodes.len() {
            let Some(scored) = self.scored(task, at) else { continue };
            let order = best.map_or(Ordering::Greater, |(most, _)| scored.cmp(&most));
            let (better, equal) = (order.is_gt(), order.is_eq());
            equals = if better { 1 } else { equals + u32::from(equal) };
            if better || (equal && self.random.random_range(0..equals) == 0) {
                best = Some((scored, at));
            }
        }
        let Some((scored, at)) = best else { return false };
        let version = self.nodes[at].version + 1;
        self.nodes[at] = self.nodes[at].with(task, scored.device);
        self.nodes[at].version = version;
        true
    }
}

impl State {
    /// Devices that one share may go to; for whole devices and none, one entry stands for all.
    fn choices(&self, task: &Task) -> impl Iterator<Item = usize> {
        let host = self.cpu >= task.cpu_milli && self.memory >= task.memory_mib;
        let model = task.gpus == 0 || task.models.is_empty() || task.models.contains(&self.model);
        let fitting = self.gpus.iter().filter(|left| **left >= task.gpu_milli).count();
        let enough = host && model && fitting >= task.gpus as usize;
        let fits = |device: &usize| task.gpus != 1 || self.gpus[*device] >= task.gpu_milli;
        let devices = if task.gpus == 1 { self.gpus.len() } else { 1 };
        (0..if enough { devices } else { 0 }).filter(fits)
    }

    fn with(&self, task: &Task, device: usize) -> Self {
        let mut after = self.clone();
        after.cpu -= task.cpu_milli;
        after.memory -= task.memory_mib;
        if task.gpus == 1 {
            after.gpus[device] -= task.gpu_milli;
            return after;
        }
        let fitting = after.gpus.iter_mut().filter(|left| **left >= task.gpu_milli);
        fitting.take(task.gpus as usize).for_each(|left| *left -= task.gpu_milli);
        after
    }
}

/// The most frequent tasks, with their shares of each other.
fn typical(tasks: &[Task]) -> Vec<(Task, f64)> {
    let mut counts: HashMap<&Task, u32> = HashMap::new();
    for task in tasks {
        *counts.entry(task).or_default() += 1;
    }
    let mut counts: Vec<(&Task, u32)> = counts.into_iter().collect();
    counts.sort_by(|a, b| (b.1, a.0).cmp(&(a.1, b.0)));
    let mut covered = 0.0;
    let mut chosen = Vec::new();
    for (task, count) in counts {
        if covered >= TYPICAL_SHARE * tasks.len() as f64 {
            break;
        }
        covered += f64::from(count);
        chosen.push((task.clone(), f64::from(count)));
    }
    chosen.iter_mut().for_each(|(_, share)| *share /= covered);
    chosen
}
