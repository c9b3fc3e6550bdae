//! How things stand in a pool, for whoever watches: told each second at most, and taken back with the pool.

use super::{
    Placer,
    planning::{seconds_since, waits},
};
use crate::metrics::{Levels, Metrics};
use domain::{
    device::{Ask, DeviceModel},
    id::{ProjectId, QueueId},
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};
use store::ledger::PlacementState;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Projects, by queue, whose use is counted by name.
const USERS_MAX: usize = 2_000;
/// All others. No project has this name.
const OTHERS: &str = "(others)";

/// What one placer tells.
pub(super) struct Gauges {
    metrics: Arc<Metrics>,
    pool: Arc<str>,
    told_at: Option<Instant>,
    depth: Levels,
    waiting: Levels,
    refused: Levels,
    of_queues: Levels,
    free: Levels,
    total: Levels,
    held: Levels,
    /// Queues for which an oldest wait was told.
    queues: HashSet<String>,
    /// Until when use was counted, and of whom.
    counted_at: Option<Instant>,
    users: HashSet<(String, String)>,
}

impl Gauges {
    pub(super) fn new(metrics: &Arc<Metrics>, pool: &Arc<str>) -> Self {
        Self {
            told_at: None,
            depth: Levels::of(&metrics.queue_depth),
            waiting: Levels::of(&metrics.runtimes_waiting),
            refused: Levels::of(&metrics.unschedulable),
            of_queues: Levels::of(&metrics.queue_gpu_milli_held),
            free: Levels::of(&metrics.devices_free),
            total: Levels::of(&metrics.gpu_milli_total),
            held: Levels::of(&metrics.gpu_milli_held),
            queues: HashSet::new(),
            counted_at: None,
            users: HashSet::new(),
            metrics: Arc::clone(metrics),
            pool: Arc::clone(pool),
        }
    }

    fn are_due(&mut self) -> bool {
        let due = self.told_at.is_none_or(|at| at.elapsed() >= INTERVAL);
        if due {
            self.told_at = Some(Instant::now());
        }
        due
    }

    /// Adds to what a project held in a queue. They are not forgotten, so those who come too late are counted together.
    fn count(&mut self, queue: &str, project: &str, milli_seconds: f64) {
        let user = (queue.to_owned(), project.to_owned());
        let is_known = self.users.contains(&user) || (self.users.len() < USERS_MAX && self.users.insert(user));
        let project = if is_known { project } else { OTHERS };
        self.metrics.gpu_milli_seconds.with_label_values(&[&*self.pool, queue, project]).inc_by(milli_seconds);
    }

    /// Queues that are there no more are told no more.
    fn forget_queues(&mut self, there: &HashMap<String, f64>) {
        for queue in self.queues.extract_if(|queue| !there.contains_key(queue)) {
            drop(self.metrics.runtimes_oldest_wait.remove_label_values(&[&*self.pool, &queue]));
        }
    }
}

impl Drop for Gauges {
    fn drop(&mut self) {
        for queue in &self.queues {
            // One that is not there any more was taken back already.
            drop(self.metrics.runtimes_oldest_wait.remove_label_values(&[&*self.pool, queue]));
        }
    }
}

/// What somebody waits for: a model where only one will do, any GPU, or none.
fn resource_class(ask: &Ask) -> &str {
    match &ask.models[..] {
        _ if ask.gpus == 0 => "cpu",
        [model] => model.as_str(),
        _ => "gpu",
    }
}

fn level(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Placer {
    /// Tells the metrics how things stand, unless that was told just now.
    pub(super) fn gauge(&mut self) {
        if !self.gauges.are_due() {
            return;
        }
        self.gauge_waiting();
        self.gauge_devices();
        self.count_use();
    }

    /// Counts what is held since the last look, as if it had been held all that time.
    fn count_use(&mut self) {
        let now = Instant::now();
        let Some(before) = self.gauges.counted_at.replace(now) else { return };
        let passed = now.duration_since(before).as_secs_f64();
        let mut held: HashMap<(QueueId, ProjectId), u64> = HashMap::new();
        for placement in self.placements.values().filter(|one| one.state != PlacementState::Nominated) {
            if placement.effective_milli > 0 {
                *held.entry((placement.queue, placement.project)).or_default() += placement.effective_milli;
            }
        }
        if held.is_empty() {
            return;
        }
        let queues: HashMap<_, _> = self.terms.queues.iter().map(|queue| (queue.id, queue.name.as_str())).collect();
        let projects: HashMap<_, _> = self.lives.iter().map(|stored| (stored.life.project, &*stored.project)).collect();
        for ((queue, project), milli) in held {
            // What only blocks of it hold is told by its id.
            let project = projects.get(&project).map_or_else(|| project.to_string(), |name| (*name).to_owned());
            let queue = queues.get(&queue).copied().unwrap_or_default();
            let milli = f64::from(u32::try_from(milli).unwrap_or(u32::MAX));
            self.gauges.count(queue, &project, milli * passed);
        }
    }

    fn gauge_waiting(&mut self) {
        let (pool, now) = (self.pool.to_string(), self.now());
        let names: HashMap<_, _> = self.terms.queues.iter().map(|queue| (queue.id, &queue.name)).collect();
        let (mut depth, mut refused, mut oldest) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut waiting: HashMap<Vec<String>, i64> = HashMap::new();
        for name in names.values() {
            waiting.insert(vec![pool.clone(), (*name).clone()], 0);
            oldest.insert((*name).clone(), 0.0_f64);
        }
        for life in self.lives.iter().map(|stored| &stored.life).filter(|life| waits(life)) {
            let Some(queue) = names.get(&life.queue).map(|name| (*name).clone()) else { continue };
            let class = resource_class(&life.spec.ask).to_owned();
            *depth.entry(vec![queue.clone(), "runtime".to_owned(), class]).or_default() += 1;
            *waiting.entry(vec![pool.clone(), queue.clone()]).or_default() += 1;
            if !life.notice.code.is_empty() {
                *refused.entry(vec![pool.clone(), life.notice.code.clone()]).or_default() += 1;
            }
            let waited = oldest.entry(queue).or_default();
            *waited = waited.max(seconds_since(life.submitted_at, now));
        }
        let of_queue = |queue: &domain::queue::Queue| {
            (vec![pool.clone(), queue.name.clone()], level(self.used_of_queue(queue.id)))
        };
        let held = self.terms.queues.iter().map(of_queue).collect();
        let gauges = &mut self.gauges;
        gauges.depth.tell(depth);
        gauges.waiting.tell(waiting);
        gauges.refused.tell(refused);
        gauges.of_queues.tell(held);
        gauges.forget_queues(&oldest);
        for (queue, seconds) in oldest {
            gauges.metrics.runtimes_oldest_wait.with_label_values(&[&*gauges.pool, &queue]).set(seconds);
            gauges.queues.insert(queue);
        }
    }

    fn gauge_devices(&mut self) {
        let pool = self.pool.to_string();
        let held_of = self.held_by_model();
        let totals = self.fleet.totals();
        let held = totals.keys().map(|model| {
            let used = held_of.get(&DeviceModel::new(model)).copied().unwrap_or(0);
            (vec![pool.clone(), model.clone()], level(used))
        });
        let held = held.collect();
        let total = totals.iter().map(|(model, total)| (vec![pool.clone(), model.clone()], level(*total))).collect();
        // What is kept for a nominee is still somebody's: its victim's.
        let taken = self.placements.values().filter(|placement| placement.state != PlacementState::Nominated);
        let taken = taken.flat_map(|placement| placement.grants.iter().map(|grant| (placement.node, grant.device)));
        let free = self.fleet.free(&self.terms.drained, taken.collect());
        let free = free.into_iter().map(|(class, count)| (vec![pool.clone(), class], level(count))).collect();
        let gauges = &mut self.gauges;
        gauges.held.tell(held);
        gauges.total.tell(total);
        gauges.free.tell(free);
    }
}
