//! The scheduler's numbers (names as operators' dashboards use them; see docs/OPERATIONS or `/metrics`).

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

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
    pub triggers_armed: IntGauge,
    pub due_lag: IntGauge,
    pub fire_latency: Histogram,
    pub firings: IntCounterVec,
    pub decisions_overtaken: IntCounter,
    pub slas_missed: IntCounter,
    pub assignments: IntCounter,
    pub results: IntCounter,
    pub stale_results: IntCounter,
    pub fenced_writes: IntCounter,
    pub executors_lost: IntCounter,
    pub reloads: IntCounter,
    pub shards_owned: IntGauge,
    pub ready_units: IntGauge,
    pub busy_permille: IntGauge,
    pub redis_degraded: IntGauge,
    pub lock_lost: IntCounter,
    pub log_lines: IntCounter,
    pub clock_skew: Gauge,
    pub pool_wait: Histogram,
    pub queue_depth: IntGauge,
    pub queue_oldest_age: Gauge,
    pub running: IntGauge,
    pub slots_free: IntGauge,
    pub sessions: IntGaugeVec,
    pub drain: Gauge,
    pub dead_tuples: IntGaugeVec,
    pub xmin_age: Gauge,
    pub notifications: IntCounterVec,
    pub placements: IntCounter,
    pub placement_conflicts: IntCounter,
    pub placement_decisions: IntCounter,
    pub placement_plan_seconds: Histogram,
    pub placement_commit_seconds: Histogram,
    pub runtimes_waiting: IntGaugeVec,
    pub runtimes_oldest_wait: GaugeVec,
    pub runtime_wait_seconds: HistogramVec,
    pub preemptions: IntCounterVec,
    pub queue_gpu_milli_held: IntGaugeVec,
    pub gpu_milli_total: IntGaugeVec,
    pub gpu_milli_held: IntGaugeVec,
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
        let seconds = |name: &str, help: &str| -> Result<Gauge, prometheus::Error> {
            let gauge = Gauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let gauges = |name: &str, help: &str, label: &str| -> Result<IntGaugeVec, prometheus::Error> {
            let gauges = IntGaugeVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(gauges.clone()))?;
            Ok(gauges)
        };
        let notifications = IntCounterVec::new(
            Opts::new("notifications_total", "Attempts to send a notification, by what became of them"),
            &["outcome"],
        )?;
        registry.register(Box::new(notifications.clone()))?;
        let buckets = vec![0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.5, 2.0];
        let commit_seconds = Histogram::with_opts(
            HistogramOpts::new("scheduler_commit_seconds", "Time of one batch commit").buckets(buckets),
        )?;
        registry.register(Box::new(commit_seconds.clone()))?;
        let waits = vec![0.0001, 0.001, 0.01, 0.1, 1.0, 5.0];
        let pool_wait = Histogram::with_opts(
            HistogramOpts::new("db_pool_wait_seconds", "Time until a connection was had").buckets(waits),
        )?;
        registry.register(Box::new(pool_wait.clone()))?;
        let buckets = vec![0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0];
        let fire_latency = Histogram::with_opts(
            HistogramOpts::new("scheduler_fire_latency_seconds", "From the due time of a trigger to its decision")
                .buckets(buckets),
        )?;
        registry.register(Box::new(fire_latency.clone()))?;
        let planning = vec![0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0];
        let histogram = |name: &str, help: &str| -> Result<Histogram, prometheus::Error> {
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(planning.clone()))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok(histogram)
        };
        let of_pool = |name: &str, help: &str, label: &str| -> Result<IntGaugeVec, prometheus::Error> {
            let gauges = IntGaugeVec::new(Opts::new(name, help), &["pool", label])?;
            registry.register(Box::new(gauges.clone()))?;
            Ok(gauges)
        };
        let opts = Opts::new("runtimes_oldest_wait_seconds", "How long the first of those who wait has waited");
        let runtimes_oldest_wait = GaugeVec::new(opts, &["pool", "queue"])?;
        registry.register(Box::new(runtimes_oldest_wait.clone()))?;
        let waiting = vec![0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0];
        let runtime_wait_seconds = HistogramVec::new(
            HistogramOpts::new("runtime_wait_seconds", "From asking for devices to a place").buckets(waiting),
            &["pool", "queue"],
        )?;
        registry.register(Box::new(runtime_wait_seconds.clone()))?;
        let opts = Opts::new("runtime_nominations_total", "Places for which others were told to leave");
        let preemptions = IntCounterVec::new(opts, &["pool"])?;
        registry.register(Box::new(preemptions.clone()))?;
        let firings =
            IntCounterVec::new(Opts::new("firings_total", "Logical times that were decided"), &["decision", "reason"])?;
        registry.register(Box::new(firings.clone()))?;
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
            triggers_armed: gauge("scheduler_triggers_armed", "Active triggers of the owned shards")?,
            due_lag: gauge("scheduler_due_lag_seconds", "How long the oldest trigger that is due has been so")?,
            fire_latency,
            firings,
            decisions_overtaken: counter(
                "scheduler_decisions_overtaken_total",
                "Decisions that did not count because their trigger was edited",
            )?,
            slas_missed: counter("scheduler_slas_missed_total", "Runs that had not ended when they should have")?,
            assignments: counter("scheduler_assignments_total", "Attempts given to executors")?,
            results: counter("scheduler_results_total", "Results of current attempts")?,
            stale_results: counter("scheduler_stale_results_total", "Results refused because their lease was old")?,
            fenced_writes: counter("fenced_writes_total", "Batches refused because a shard's epoch had moved")?,
            executors_lost: counter("scheduler_executors_lost_total", "Executors not heard of in time")?,
            reloads: counter("scheduler_reloads_total", "Times that memory was dropped and loaded again")?,
            shards_owned: gauge("shard_owned", "Shards that this scheduler owns")?,
            ready_units: gauge("scheduler_ready_units", "Units that could start if there were slots")?,
            busy_permille: gauge(
                "scheduler_busy_permille",
                "Part of its time in which the engine works, in thousandths",
            )?,
            redis_degraded: gauge("redis_degraded", "1 while Redis is configured and does not answer")?,
            lock_lost: counter("lock_lost_total", "Shards that were to be taken and that another has a lease of")?,
            log_lines: counter("scheduler_log_lines_total", "Log lines stored")?,
            clock_skew: seconds("clock_skew_seconds", "This machine's clock against the database's")?,
            pool_wait,
            queue_depth: gauge("queue_depth", "Runs with something that could start and waits for a free slot")?,
            queue_oldest_age: seconds("queue_oldest_age_seconds", "How long the first of them has waited")?,
            running: gauge("running", "Attempts that executors hold")?,
            slots_free: gauge("slots_free", "Attempts that executors would take now")?,
            sessions: gauges("executor_sessions", "Executors of this scheduler", "state")?,
            drain: seconds("drain_seconds", "How long the drain under way has taken; 0 before it")?,
            dead_tuples: gauges("dead_tuples", "Dead rows by table, of those that have most", "table")?,
            xmin_age: seconds("xmin_age_seconds", "Age of the oldest transaction that keeps dead rows from removal")?,
            notifications,
            placements: counter("placements_total", "Decisions about devices that were written, nominations included")?,
            placement_conflicts: counter(
                "placement_conflicts_total",
                "Decisions that a quota or a device had no room for by then",
            )?,
            placement_decisions: counter("placement_decisions_total", "Requests for devices that plans decided about")?,
            placement_plan_seconds: histogram("placement_plan_seconds", "Time of one plan of a pool")?,
            placement_commit_seconds: histogram("placement_commit_seconds", "Time of one commit of a pool")?,
            runtimes_waiting: of_pool("runtimes_waiting", "Runtimes that wait for devices or quota", "queue")?,
            runtimes_oldest_wait,
            runtime_wait_seconds,
            preemptions,
            queue_gpu_milli_held: of_pool("queue_gpu_milli_held", "Held or nominated for a queue, milli-GPU", "queue")?,
            gpu_milli_total: of_pool("gpu_milli_total", "Healthy devices, milli-GPU", "model")?,
            gpu_milli_held: of_pool("gpu_milli_held", "Of them held or nominated, milli-GPU", "model")?,
        })
    }
}
