//! The published method: the tasks in random order, then tasks drawn from the same list until 1.3 times as much is asked for
//! as there is; placed one by one, nobody leaves, and who does not fit is skipped.

use super::trace::{Node, Task};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use std::time::Instant;

/// How much is asked for, in percent of what there is.
const INFLATED_PERCENT: u64 = 130;

/// A cluster that a policy fills.
pub(super) trait Placer {
    /// Places a task, or says `false`.
    fn place(&mut self, task: &Task) -> bool;
}

/// What was reached in one run.
pub(super) struct Outcome {
    /// Allocated percent of all GPUs, by the percent that has arrived.
    allocated: Vec<f64>,
    pub(super) decisions: usize,
    /// Of deciding, without reading and preparing.
    pub(super) seconds: f64,
}

impl Outcome {
    /// What was allocated when so much had arrived.
    pub(super) fn at_percent(&self, percent: usize) -> f64 {
        self.allocated.get(percent).or(self.allocated.last()).copied().unwrap_or(f64::NAN)
    }
}

/// One run.
pub(super) fn replay(
    nodes: &[Node],
    tasks: &[Task],
    seed: u64,
    fresh: &mut dyn FnMut(u64) -> Box<dyn Placer>,
) -> Outcome {
    let capacity = nodes.iter().map(|node| u64::from(node.gpus) * 1000).sum::<u64>();
    let arrivals = arrivals(tasks, capacity, seed);
    let mut placer = fresh(seed);
    let (mut arrived, mut allocated) = (0, 0);
    let mut curve = vec![0.0; 1];
    let started = Instant::now();
    for task in &arrivals {
        arrived += task.milli();
        while curve.len() as u64 * capacity < arrived * 100 {
            curve.push(percent(allocated, capacity));
        }
        if placer.place(task) {
            allocated += task.milli();
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    while curve.len() as u64 <= INFLATED_PERCENT {
        curve.push(percent(allocated, capacity));
    }
    Outcome { allocated: curve, decisions: arrivals.len(), seconds }
}

fn percent(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64 * 100.0
}

fn arrivals(tasks: &[Task], capacity: u64, seed: u64) -> Vec<Task> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut arrivals = tasks.to_vec();
    arrivals.shuffle(&mut random);
    let mut asked: u64 = arrivals.iter().map(Task::milli).sum();
    loop {
        let task = &tasks[random.random_range(0..tasks.len())];
        if (asked + task.milli()) * 100 > capacity * INFLATED_PERCENT {
            return arrivals;
        }
        asked += task.milli();
        arrivals.push(task.clone());
    }
}
