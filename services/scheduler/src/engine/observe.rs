//! What the engine tells about itself: how much it has to do, and that it is alive.

use super::{Engine, Units, live::Live};
use crate::load::LoadGauge;
use domain::executor_type::Backend;
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
        let (mut ready, mut waiting) = (Units::default(), HashMap::from(RESOURCE_CLASSES.map(|class| (class, 0))));
        let queued = || self.ready.iter().filter_map(|run| self.runs.get(run));
        for backend in Backend::ALL {
            let add = |units: usize, live: &Live| units + live.ready_units_on(backend, UNITS_MAX - units);
            *ready.on_mut(backend) = count(queued().fold(0, add));
        }
        for live in queued() {
            *waiting.entry(live.resource_class()).or_default() += 1;
        }
        for (class, runs) in waiting {
            self.metrics.queue_depth.with_label_values(&["pipelines", "run", class]).set(runs);
        }
        let mut running = Units::default();
        for seat in self.seats.values() {
            *running.on_mut(seat.backend()) += count(seat.begun());
        }
        for backend in Backend::ALL {
            self.metrics.ready_units.with_label_values(&[backend.as_str()]).set(ready.on(backend).into());
            self.metrics.running_units.with_label_values(&[backend.as_str()]).set(running.on(backend).into());
        }
        self.metrics.busy_permille.set(i64::from(busy_permille));
        self.observer.load.set(load(ready, running, busy_permille));
    }
}

fn count(units: usize) -> u32 {
    u32::try_from(units).unwrap_or(u32::MAX)
}

/// What is told of it. What runs anywhere is the process executors', so that nobody waits for a backend that is not needed.
fn load(ready: Units, running: Units, busy_permille: i32) -> Load {
    let told = |units: u32| i32::try_from(units).unwrap_or(i32::MAX);
    Load {
        ready_units: told(ready.process.saturating_add(ready.kubernetes)),
        running_units: told(running.process.saturating_add(running.kubernetes)),
        ready_units_kubernetes: told(ready.kubernetes),
        running_units_kubernetes: told(running.kubernetes),
        busy_permille,
    }
}
