//! The housekeeper: creates the log partitions of the coming days, drops those that are old enough, marks executors
//! that nobody knows any more, and forgets permits that nobody wants and who held which GPUs long ago.

use crate::{
    clock::DbClock,
    engine::Chain,
    log_retention::{LogRetention, LogRetentionError},
    loops::notifier::GIVEN_UP_AFTER,
    metrics::Metrics,
};
use jiff::SignedDuration;
use runtime::watchdog::Beat;
use std::{sync::Arc, time::Duration};
use store::Store;
use tokio_util::sync::CancellationToken;

/// Between two rounds.
const INTERVAL: Duration = Duration::from_secs(10);
/// Between two looks at what is old enough to go.
const CLEAN_INTERVAL: Duration = Duration::from_secs(600);
/// Twice the silence after which a scheduler gives an executor up: by then nobody has it.
const SILENCE: Duration = Duration::from_secs(20);
/// How long a notification is remembered after its end.
const NOTIFICATIONS_KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How long a receiver's failures are remembered while nothing waits for it.
const PAUSES_KEPT: Duration = Duration::from_secs(3_600);
/// Notifications forgotten or given up at once, lines of the account of GPUs, and events of runtimes.
const FORGOTTEN_MAX: i64 = 10_000;

/// How often a project was disturbed within an hour is counted by the events of its runtimes.
const EVENTS_KEPT_MIN: Duration = Duration::from_secs(24 * 3_600);

/// Pools of permits forgotten at once: whoever wants one of them waits so long.
const POOLS_FORGOTTEN_MAX: u32 = 1_000;

/// Keeps the house.
pub struct Housekeeper {
    store: Store,
    log_store: Store,
    log_retention: LogRetention,
    clock: DbClock,
    metrics: Arc<Metrics>,
    gpu_usage_kept: Duration,
    cleaned: Option<std::time::Instant>,
}

impl Housekeeper {
    /// `log_store` is that of [`Store::connect_for_logs`].
    #[must_use]
    pub fn new(
        store: Store,
        log_store: Store,
        log_retention: LogRetention,
        clock: DbClock,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { store, log_store, log_retention, clock, metrics, gpu_usage_kept: Duration::ZERO, cleaned: None }
    }

    /// Who held which GPUs, and what happened to runtimes, is forgotten after so long; zero is never.
    #[must_use]
    pub fn keeping_gpu_usage(self, kept: Duration) -> Self {
        Self { gpu_usage_kept: kept, ..self }
    }

    /// Runs until it is stopped.
    pub async fn run(mut self, stop: CancellationToken, beat: Beat) {
        let store = self.store.clone();
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = interval.tick() => {}
            }
            match beat.working(store.patiently(self.run_once())).await {
                Some(Ok(())) => {}
                Some(Err(error)) => tracing::warn!(error = %Chain(&error), "failed to keep the house"),
                None => tracing::warn!("the house waited for a database that does not answer; keeping it anew"),
            }
        }
    }

    /// One round. Several schedulers may do it at once: what one of them has in hand, another leaves alone or does again in
    /// vain; of two that create the partitions of a day one may fail, whose next round finds them.
    ///
    /// # Errors
    /// When the database does not answer or somebody holds a lock for too long; what was done until then stays done.
    pub async fn run_once(&mut self) -> Result<(), store::Error> {
        let lost = store::executors::mark_lost(&self.store, SILENCE).await?;
        if lost > 0 {
            tracing::info!(executors = lost, "marked executors lost that nobody has heard of");
        }
        while store::permits::forget_idle(&self.store, POOLS_FORGOTTEN_MAX).await? == u64::from(POOLS_FORGOTTEN_MAX) {}
        self.look().await?;
        store::logs::create_partitions(&self.log_store).await?;
        if self.cleaned.is_none_or(|at| at.elapsed() >= CLEAN_INTERVAL) {
            self.clean().await?;
            // Where there is more, the next round goes on.
            let more = self.log_retention.delete_of_projects().await?;
            self.cleaned = Some(std::time::Instant::now()).filter(|_| !more);
        }
        Ok(())
    }

    async fn look(&self) -> Result<(), store::Error> {
        let health = store::health::look(&self.store).await?;
        self.metrics.xmin_age.set(health.xmin_age_s);
        self.metrics.dead_tuples.reset();
        for (table, dead) in health.dead_tuples {
            self.metrics.dead_tuples.with_label_values(&[&table]).set(dead);
        }
        Ok(())
    }

    /// Ends what could not be sent for too long, also what waited behind others and was never tried.
    async fn give_up(&self) -> Result<(), store::Error> {
        let before = self.clock.now() - GIVEN_UP_AFTER;
        let why = format!("given up: its receiver took nothing in {} hours", GIVEN_UP_AFTER.as_hours());
        let given_up = store::outbox::expire(&self.store, before, &why, FORGOTTEN_MAX).await?;
        if given_up > 0 {
            tracing::warn!(notifications = given_up, "gave up notifications whose receivers took nothing");
            self.metrics.notifications.with_label_values(&["failed"]).inc_by(given_up);
        }
        Ok(())
    }

    async fn forget_runtimes(&self) -> Result<(), store::Error> {
        let kept = SignedDuration::try_from(self.gpu_usage_kept).unwrap_or(SignedDuration::MAX);
        if kept.is_zero() {
            return Ok(());
        }
        // Nothing is older than the calendar.
        let Ok(before) = self.clock.now().checked_sub(kept) else { return Ok(()) };
        store::gpu_usage::forget(&self.store, before, FORGOTTEN_MAX).await?;
        let events_before = before.min(self.clock.now() - EVENTS_KEPT_MIN);
        store::runtime_views::forget_events(&self.store, events_before, FORGOTTEN_MAX).await?;
        Ok(())
    }

    async fn clean(&self) -> Result<(), store::Error> {
        store::outbox::forget(&self.store, self.clock.now() - NOTIFICATIONS_KEPT, FORGOTTEN_MAX).await?;
        store::outbox::forget_lanes(&self.store, PAUSES_KEPT).await?;
        self.give_up().await?;
        self.forget_runtimes().await?;
        match self.log_retention.drop_expired(None).await {
            Ok(_) | Err(LogRetentionError::ForEver) => Ok(()),
            Err(LogRetentionError::Store(error)) => Err(error),
        }
    }
}
