//! The executor's numbers.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry, core::Collector};

/// Everything that an executor counts.
#[derive(Debug)]
#[expect(missing_docs, reason = "each carries its help text")]
pub struct Metrics {
    pub attempts: IntCounterVec,
    pub running: IntGauge,
    pub slots: IntGauge,
    pub unacknowledged: IntGauge,
    pub sessions: IntCounter,
    pub log_lines: IntCounter,
    pub log_lines_dropped: IntCounter,
    pub zygote_starts: IntCounter,
    pub environment_builds: IntCounter,
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// When a name is registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name, help| kept(registry, IntCounter::new(name, help)?);
        let gauge = |name, help| kept(registry, IntGauge::new(name, help)?);
        let attempts = IntCounterVec::new(Opts::new("executor_attempts_total", "Attempts that ended"), &["outcome"])?;
        Ok(Self {
            attempts: kept(registry, attempts)?,
            running: gauge("executor_running", "Attempts that run")?,
            slots: gauge("executor_slots", "Attempts that may run at once")?,
            unacknowledged: gauge("executor_results_unacknowledged", "Results that no scheduler confirmed yet")?,
            sessions: counter("executor_sessions_total", "Sessions opened")?,
            log_lines: counter("executor_log_lines_total", "Log lines taken from attempts")?,
            log_lines_dropped: counter("executor_log_lines_dropped_total", "Log lines over the limits")?,
            zygote_starts: counter("executor_zygote_starts_total", "Warm interpreters started")?,
            environment_builds: counter("executor_environment_builds_total", "Python environments installed")?,
        })
    }
}

fn kept<T: Collector + Clone + 'static>(registry: &Registry, metric: T) -> Result<T, prometheus::Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
