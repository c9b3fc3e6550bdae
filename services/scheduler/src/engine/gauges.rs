//! How much waits and runs, for whoever scales and watches. Looked at four times a second at most, never in a turn's path.

use super::{Engine, TICK};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// When gauges were told last, and since when something waits.
#[derive(Debug, Default)]
pub(super) struct Told {
    at: Option<Instant>,
    waiting_since: HashMap<domain::id::RunId, Instant>,
}

/// Waiting runs whose age is followed; of more, the first ones are the oldest.
const FOLLOWED_MAX: usize = 1_024;

impl Engine {
    /// Tells the gauges, unless they were told just now.
    pub(super) fn gauge(&mut self) {
        if self.told.at.is_some_and(|at| at.elapsed() < TICK) {
            return;
        }
        let now = Instant::now();
        self.told.at = Some(now);
        let held: usize = self.seats.values().map(super::seat::Seat::begun).sum();
        // Executors behind a gateway are told by that one.
        let local = || self.seats.values().filter(|seat| seat.is_local());
        let free: u32 = local().map(super::seat::Seat::credits).sum();
        self.metrics.running.set(i64::try_from(held).unwrap_or(i64::MAX));
        self.metrics.slots_free.set(free.into());
        self.metrics.permit_pools.set(i64::try_from(self.permits.ledger.pools()).unwrap_or(i64::MAX));
        for state in ["online", "draining", "away"] {
            let count = local().filter(|seat| seat.session_state() == state).count();
            self.metrics.sessions.with_label_values(&[state]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let oldest = self.oldest_age(now);
        self.metrics.queue_oldest_age.set(oldest.as_secs_f64());
    }

    /// How long the run that waits longest has waited, as far as it was seen waiting.
    fn oldest_age(&mut self, now: Instant) -> Duration {
        let mut since = std::mem::take(&mut self.told.waiting_since);
        let waiting = self.ready.iter().take(FOLLOWED_MAX);
        self.told.waiting_since = waiting.map(|run| (*run, since.remove(run).unwrap_or(now))).collect();
        self.told.waiting_since.values().map(|at| now.duration_since(*at)).max().unwrap_or_default()
    }
}
