//! The scheduler's numbers (names as operators' dashboards use them; see docs/OPERATIONS.md or `/metrics`).

mod levels;

pub(crate) use levels::Levels;

use prometheus::{
    CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
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
    pub permit_pools: IntGauge,
    pub triggers_armed: IntGauge,
    pub due_lag: IntGauge,
    pub fire_latency: Histogram,
    pub firings: IntCounterVec,
    pub decisions_overtaken: IntCounter,
    pub slas_missed: IntCounter,
    pub assignments: IntCounter,
    pub leases_ahead: IntCounter,
    pub results: IntCounter,
    pub stale_results: IntCounter,
    pub fenced_writes: IntCounter,
    pub epoch_conflicts: IntCounter,
    pub executors_lost: IntCounter,
    pub reloads: IntCounter,
    pub broken_commits: IntCounter,
    pub shards_owned: IntGauge,
    pub ready_units: IntGaugeVec,
    pub running_units: IntGaugeVec,
    pub busy_permille: IntGauge,
    pub redis_degraded: IntGauge,
    pub lock_lost: IntCounter,
    pub log_lines: IntCounter,
    pub clock_skew: Gauge,
    pub pool_wait: Histogram,
    pub queue_depth: IntGaugeVec,
    pub queue_oldest_age: Gauge,
    pub running: IntGauge,
    pub slots_free: IntGauge,
    pub sessions: IntGaugeVec,
    pub sessions_moved: IntCounter,
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
    pub gpu_milli_seconds: CounterVec,
    pub queue_gpu_milli_held: IntGaugeVec,
    pub gpu_milli_total: IntGaugeVec,
    pub gpu_milli_held: IntGaugeVec,
    pub devices_free: IntGaugeVec,
    pub unschedulable: IntGaugeVec,
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
        let opts = Opts::new("queue_depth", "Runs and runtimes that wait for a slot or for devices");
        let queue_depth = IntGaugeVec::new(opts, &["queue", "workspace_class", "resource_class"])?;
        registry.register(Box::new(queue_depth.clone()))?;
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
        let opts = Opts::new("gpu_milli_seconds_total", "Effective milli-GPU that were held, times seconds");
        let gpu_milli_seconds = CounterVec::new(opts, &["pool", "queue", "project"])?;
        registry.register(Box::new(gpu_milli_seconds.clone()))?;
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
            permit_pools: gauge("scheduler_permit_pools", "Keys whose permits are held or wanted here")?,
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
            leases_ahead: counter("scheduler_leases_ahead_total", "Of them, those to begin behind another one")?,
            results: counter("scheduler_results_total", "Results of current attempts")?,
            stale_results: counter("scheduler_stale_results_total", "Results refused because their lease was old")?,
            fenced_writes: counter("fenced_writes_total", "Batches refused because a shard's epoch had moved")?,
            epoch_conflicts: counter("shard_epoch_conflicts_total", "Shards whose epoch such a batch found moved")?,
            executors_lost: counter("scheduler_executors_lost_total", "Executors not heard of in time")?,
            reloads: counter("scheduler_reloads_total", "Times that memory was dropped and loaded again")?,
            broken_commits: counter(
                "scheduler_broken_commits_total",
                "Sessions that broke under a commit that counts",
            )?,
            shards_owned: gauge("shard_owned", "Shards that this scheduler owns")?,
            ready_units: gauges("scheduler_ready_units", "Units that could start if there were slots", "backend")?,
            running_units: gauges("scheduler_running_units", "Units that executors run", "backend")?,
            busy_permille: gauge(
                "scheduler_busy_permille",
                "Part of its time in which the engine works, in thousandths",
            )?,
            redis_degraded: gauge("redis_degraded", "1 while Redis is configured and does not answer")?,
            lock_lost: counter(
                "lock_lost_total",
                "Shards that were to be taken or are owned, and that another has a lease of, at each question",
            )?,
            log_lines: counter("scheduler_log_lines_total", "Log lines stored")?,
            clock_skew: seconds("clock_skew_seconds", "This machine's clock against the database's")?,
            pool_wait,
            queue_depth,
            queue_oldest_age: seconds("queue_oldest_age_seconds", "How long the first of them has waited")?,
            running: gauge("running", "Attempts that executors hold")?,
            slots_free: gauge("slots_free", "Attempts that executors would take now")?,
            sessions: gauges("executor_sessions", "Executors of this scheduler", "state")?,
            sessions_moved: counter(
                "scheduler_sessions_moved_total",
                "Sessions of executors that were asked to go elsewhere for their age",
            )?,
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
            gpu_milli_seconds,
            queue_gpu_milli_held: of_pool("queue_gpu_milli_held", "Held or nominated for a queue, milli-GPU", "queue")?,
            gpu_milli_total: of_pool("gpu_milli_total", "Healthy devices, milli-GPU", "model")?,
            gpu_milli_held: of_pool("gpu_milli_held", "Of them held or nominated, milli-GPU", "model")?,
            devices_free: of_pool("devices_free", "Devices that could be had and that nobody has a part of", "class")?,
            unschedulable: of_pool("unschedulable", "Runtimes that wait, by the planner's reason", "reason")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::core::Collector;
    use std::collections::{BTreeMap, BTreeSet};

    /// What was promised to operators by name: neither the names nor the labels change.
    const PROMISED: [(&str, &[&str]); 21] = [
        ("scheduler_due_lag_seconds", &[]),
        ("scheduler_fire_latency_seconds", &[]),
        ("firings_total", &["decision", "reason"]),
        ("shard_owned", &[]),
        ("shard_epoch_conflicts_total", &[]),
        ("fenced_writes_total", &[]),
        ("lock_lost_total", &[]),
        ("redis_degraded", &[]),
        ("db_pool_wait_seconds", &[]),
        ("queue_depth", &["queue", "workspace_class", "resource_class"]),
        ("queue_oldest_age_seconds", &[]),
        ("running", &[]),
        ("slots_free", &[]),
        ("devices_free", &["pool", "class"]),
        ("unschedulable", &["pool", "reason"]),
        ("placement_conflicts_total", &[]),
        ("executor_sessions", &["state"]),
        ("drain_seconds", &[]),
        ("clock_skew_seconds", &[]),
        ("dead_tuples", &["table"]),
        ("xmin_age_seconds", &[]),
    ];

    /// Every metric, with its labels. What has labels is not on the page before it has a value.
    fn exported() -> BTreeMap<String, Vec<String>> {
        let registry = Registry::new();
        let m = Metrics::new(&registry).unwrap();
        let labelled: [&dyn Collector; 17] = [
            &m.firings,
            &m.ready_units,
            &m.running_units,
            &m.queue_depth,
            &m.sessions,
            &m.dead_tuples,
            &m.notifications,
            &m.runtimes_waiting,
            &m.runtimes_oldest_wait,
            &m.runtime_wait_seconds,
            &m.preemptions,
            &m.gpu_milli_seconds,
            &m.queue_gpu_milli_held,
            &m.gpu_milli_total,
            &m.gpu_milli_held,
            &m.devices_free,
            &m.unschedulable,
        ];
        let labelled = labelled.into_iter().flat_map(|metric| metric.desc());
        let labelled = labelled.map(|of| (of.fq_name.clone(), of.variable_labels.clone()));
        let plain = registry.gather().into_iter().map(|family| (family.name().to_owned(), Vec::new()));
        plain.chain(labelled).collect()
    }

    #[test]
    fn what_was_promised_is_exported() {
        let exported = exported();
        for (name, labels) in PROMISED {
            let has = exported.get(name).unwrap_or_else(|| panic!("{name} is not exported"));
            assert_eq!(has, labels, "{name}");
        }
    }

    #[test]
    fn operators_are_told_of_every_metric_and_of_no_other() {
        let page = include_str!("../../../docs/OPERATIONS.md");
        let section = page.split("\n## ").find(|part| part.starts_with("Metrics of schedulers")).unwrap();
        let rows = section.lines().filter(|line| line.starts_with("| `"));
        let mut told = BTreeSet::new();
        for row in rows {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let names = |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
            told.extend(names(cells[1]).into_iter().map(|name| (name, names(cells[2]))));
        }
        assert_eq!(told, exported().into_iter().collect());
    }
}
