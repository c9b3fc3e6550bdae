//! What the engine tells about itself: how much it has to do, and that it is alive.

use super::Engine;
use crate::load::LoadGauge;
use runtime::watchdog::Beat;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use store::schedulers::Load;

/// Between two looks; a membership's renewal tells the last one.
const INTERVAL: Duration = Duration::from_secs(1);
/// What runs wait for, so that a class without any is told too.
const RESOURCE_CLASSES: [&str; 2] = ["process", "kubernetes"];
/// Units that are counted.
const UNITS_MAX: usize = 1_000_000;

/// What it told last, and what it did since.
pub(super) struct Observer {
    load: Arc<LoadGauge>,
    beat: Option<Beat>,
    since: Instant,
    worked: Duration,
}

impl Observer {
    pub(super) fn new(load: Arc<LoadGauge>) -> Self {
        Self { load, beat: None, since: Instant::now(), worked: Duration::ZERO }
    }

    pub(super) fn watched_by(&mut self, beat: Beat) {
        self.beat = Some(beat);
    }

    /// The engine lives: it turns, or it waits for a database that is away.
    pub(super) fn beat(&self) {
        if let Some(beat) = &self.beat {
            beat.beat();
        }
    }

    /// A turn took that long.
    pub(super) fn worked(&mut self, time: Duration) {
        self.worked += time;
    }

    /// The part of the time since the last look that was work, in thousandths, once that is long enough.
    fn look(&mut self) -> Option<i32> {
        let span = self.since.elapsed();
        if span < INTERVAL {
            return None;
        }
        let busy = self.worked.as_millis() * 1000 / span.as_millis().max(1);
        (self.since, self.worked) = (Instant::now(), Duration::ZERO);
        Some(i32::try_from(busy).unwrap_or(1000).min(1000))
    }
}

impl Engine {
    /// Tells, about each second, how much there is to do.
    pub(super) fn observe(&mut self) {
        let Some(busy_permille) = self.observer.look() else { return };
        let (mut ready, mut waiting) = (0, HashMap::from(RESOURCE_CLASSES.map(|class| (class, 0))));
        for live in self.ready.iter().filter_map(|run| self.runs.get(run)) {
            ready += live.run.ready_units(UNITS_MAX - ready);
            *waiting.entry(live.resource_class()).or_default() += 1;
        }
        for (class, runs) in waiting {
            self.metrics.queue_depth.with_label_values(&["pipelines", "run", class]).set(runs);
        }
        let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        let running = count(self.seats.values().map(super::seat::Seat::held).sum());
        self.metrics.ready_units.set(i64::from(count(ready)));
        self.metrics.busy_permille.set(i64::from(busy_permille));
        self.observer.load.set(Load { ready_units: count(ready), running_units: running, busy_permille });
    }
}
