//! The scheduler's numbers (names as operators' dashboards use them; see docs/OPERATIONS or `/metrics`).

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Registry};

/// Everything that a scheduler counts.
#[expect(missing_docs, reason = "each carries its help text")]
pub struct Metrics {
    pub commits: IntCounter,
    pub commit_rows: IntCounter,
    pub commit_seconds: Histogram,
    pub runs_created: IntCounter,
    pub runs_ended: IntCounter,
    pub runs_held_back: IntCounter,
    pub permit_settlements: IntCounter,
    pub assignments: IntCounter,
    pub results: IntCounter,
    pub stale_results: IntCounter,
    pub fenced_writes: IntCounter,
    pub executors_lost: IntCounter,
    pub reloads: IntCounter,
    pub shards_owned: IntGauge,
    pub log_lines: IntCounter,
    pub clock_skew_ms: IntGauge,
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// When a name is registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let buckets = vec![0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.5, 2.0];
        let commit_seconds = Histogram::with_opts(
            HistogramOpts::new("scheduler_commit_seconds", "Time of one batch commit").buckets(buckets),
        )?;
        registry.register(Box::new(commit_seconds.clone()))?;
        Ok(Self {
            commits: counter("scheduler_commits_total", "Batches committed")?,
            commit_rows: counter("scheduler_commit_rows_total", "Rows in committed batches")?,
            commit_seconds,
            runs_created: counter("scheduler_runs_created_total", "Runs asked for, known keys included")?,
            runs_ended: counter("scheduler_runs_ended_total", "Runs that ended")?,
            runs_held_back: counter("scheduler_runs_held_back_total", "Runs that waited for a limit on runs")?,
            permit_settlements: counter(
                "scheduler_permit_settlements_total",
                "Statements that settled permits of limits across pipelines",
            )?,
            assignments: counter("scheduler_assignments_total", "Attempts given to executors")?,
            results: counter("scheduler_results_total", "Results of current attempts")?,
            stale_results: counter("scheduler_stale_results_total", "Results refused because their lease was old")?,
            fenced_writes: counter("fenced_writes_total", "Batches refused because a shard's epoch had moved")?,
            executors_lost: counter("scheduler_executors_lost_total", "Executors not heard of in time")?,
            reloads: counter("scheduler_reloads_total", "Times that memory was dropped and loaded again")?,
            shards_owned: gauge("shard_owned", "Shards that this scheduler owns")?,
            log_lines: counter("scheduler_log_lines_total", "Log lines stored")?,
            clock_skew_ms: gauge("clock_skew_milliseconds", "This machine's clock against the database's")?,
        })
    }
}
