//! One look at a cluster under steady load.

use super::load::Calls;
use crate::{cluster::Cluster, report::percentile};
use anyhow::Result;
use load_tests::usage::Usage;
use std::{collections::BTreeMap, fmt, sync::PoisonError, time::Duration};
use tokio_postgres::Client;

/// Rows that are dead and not yet removed; and how late the times of the last ten seconds fired.
const LOOK: &str = "
    SELECT (SELECT coalesce(sum(n_dead_tup), 0)::float8 FROM pg_stat_user_tables),
           (SELECT coalesce(percentile_cont(0.99) WITHIN GROUP
                      (ORDER BY extract(epoch FROM pg_xact_commit_timestamp(f.xmin) - f.execution_date)::float8 * 1000), 0)
              FROM trigger t CROSS JOIN LATERAL
                   (SELECT xmin, execution_date FROM firing
                     WHERE trigger_id = t.id AND created_at > now() - interval '10 seconds') AS f
             WHERE t.kind = 'time'),
           (SELECT count(*) FROM run)::float8";

/// What was seen.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// Since the load began.
    pub(super) hours: f64,
    /// MB of each service with all that it started, files that they map apart.
    memory: BTreeMap<String, f64>,
    /// MB of PostgreSQL, without what its processes share.
    postgres_mb: f64,
    /// Of all tables.
    pub(super) dead_rows: f64,
    /// From the due time to the commit of the firing, of the last ten seconds.
    pub(super) late_p99_ms: f64,
    /// From the call to the end of the run, of the last ten seconds.
    pub(super) call_p99_ms: f64,
    /// Of the machine, over a minute.
    pub(super) load: f64,
    runs: f64,
}

impl Sample {
    /// MB of all services of a kind.
    pub(super) fn memory_of(&self, kind: &str) -> f64 {
        let of_kind = self.memory.iter().filter(|(name, _)| name.starts_with(kind));
        of_kind.map(|(_, memory)| memory).sum()
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:5.1} min  {:7.0} runs  MB:", self.hours * 60.0, self.runs)?;
        for (name, memory) in &self.memory {
            write!(f, " {name} {memory:.1}")?;
        }
        write!(
            f,
            " postgres {:.0}  dead rows {:.0}  late p99 {:.0} ms  call p99 {:.0} ms  load {:.1}",
            self.postgres_mb, self.dead_rows, self.late_p99_ms, self.call_p99_ms, self.load
        )
    }
}

/// Who looks.
pub(super) struct Sampler {
    services: BTreeMap<String, u32>,
    postgres: u32,
    calls: Calls,
}

impl Sampler {
    pub(super) fn new(cluster: &mut Cluster, calls: Calls) -> Result<Self> {
        let postgres = cluster.postgres_pid()?;
        let services = cluster.services().map(|(name, service)| (name.clone(), service.pid())).collect();
        Ok(Self { services, postgres, calls })
    }

    /// Looks once.
    pub(super) async fn sample(&mut self, sql: &Client, since: Duration) -> Result<Sample> {
        let row = sql.query_one(LOOK, &[]).await?;
        let mut calls = std::mem::take(&mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner));
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let memory = |pid: u32| Usage::of(&[pid]).anonymous_mb;
        Ok(Sample {
            hours: since.as_secs_f64() / 3_600.0,
            memory: self.services.iter().map(|(name, pid)| (name.clone(), memory(*pid))).collect(),
            postgres_mb: memory(self.postgres),
            dead_rows: row.get(0),
            late_p99_ms: row.get(1),
            call_p99_ms: percentile(&mut calls, 0.99),
            load: load.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or_default(),
            runs: row.get(2),
        })
    }
}
