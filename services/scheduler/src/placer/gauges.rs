//! How things stand in a pool, for whoever watches: told each second at most, and taken back with the pool.

use super::{
    Placer,
    planning::{seconds_since, waits},
};
use crate::metrics::{Levels, Metrics};
use domain::device::{Ask, DeviceModel};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};
use store::ledger::PlacementState;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

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
