//! How much this scheduler has to do, as its engine says and its keeper tells the database.

use std::sync::atomic::{AtomicI32, Ordering};
use store::schedulers::Load;

/// The engine's last word on it.
#[derive(Debug, Default)]
pub struct LoadGauge {
    ready_units: AtomicI32,
    running_units: AtomicI32,
    ready_units_kubernetes: AtomicI32,
    running_units_kubernetes: AtomicI32,
    busy_permille: AtomicI32,
}

impl LoadGauge {
    /// Says how much there is to do.
    pub fn set(&self, load: Load) {
        self.ready_units.store(load.ready_units, Ordering::Relaxed);
        self.running_units.store(load.running_units, Ordering::Relaxed);
        self.ready_units_kubernetes.store(load.ready_units_kubernetes, Ordering::Relaxed);
        self.running_units_kubernetes.store(load.running_units_kubernetes, Ordering::Relaxed);
        self.busy_permille.store(load.busy_permille, Ordering::Relaxed);
    }

    /// What was said last.
    #[must_use]
    pub fn get(&self) -> Load {
        Load {
            ready_units: self.ready_units.load(Ordering::Relaxed),
            running_units: self.running_units.load(Ordering::Relaxed),
            ready_units_kubernetes: self.ready_units_kubernetes.load(Ordering::Relaxed),
            running_units_kubernetes: self.running_units_kubernetes.load(Ordering::Relaxed),
            busy_permille: self.busy_permille.load(Ordering::Relaxed),
        }
    }
}
