//! Which applications people use through this server, told to the schedulers now and then. Refuses to say since when:
//! only how long ago, so that clocks need not agree.

use super::Proxy;
use domain::id::WorkspaceId;
use proto::internal::v1::{ReportActivityRequest, SeenActivity};
use runtime::watchdog::Beat;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use store::runtime_routes::Route;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Between two reports.
const INTERVAL: Duration = Duration::from_secs(15);
/// For one report, whoever is asked.
const REPORT_TIMEOUT: Duration = Duration::from_secs(15);
/// Lives of one report.
const REPORT_MAX: usize = 1_000;

/// When somebody was last seen, by workspace and life.
#[derive(Default)]
pub(super) struct Seen(Mutex<HashMap<(WorkspaceId, i64), (String, Instant)>>);

impl Seen {
    /// Somebody uses it now.
    pub(super) fn saw(&self, route: &Route) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.get_mut(&(route.workspace, route.number)) {
            Some((_, at)) => *at = Instant::now(),
            None => drop(seen.insert((route.workspace, route.number), (route.pool.clone(), Instant::now()))),
        }
    }

    /// What was seen since the last time, by pool.
    fn take(&self) -> HashMap<String, Vec<SeenActivity>> {
        let seen = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut pools: HashMap<String, Vec<SeenActivity>> = HashMap::new();
        for ((workspace, number), (pool, at)) in seen {
            let ago_ms = i64::try_from(at.elapsed().as_millis()).unwrap_or(i64::MAX);
            pools.entry(pool).or_default().push(SeenActivity { workspace_id: workspace.to_vec(), number, ago_ms });
        }
        pools
    }
}

/// Reports until this server ends. What could not be told is lost: whoever is still there is seen again.
pub(crate) fn start(proxy: Arc<Proxy>, beat: Beat) {
    let draining = proxy.core.draining.clone();
    tokio::spawn(draining.run_until_cancelled_owned(async move {
        let mut tick = interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            beat.beat();
            for (pool, seen) in proxy.seen.take() {
                for seen in seen.chunks(REPORT_MAX) {
                    beat.beat();
                    let report = ReportActivityRequest { pool: pool.clone(), seen: seen.to_vec(), forwarded: false };
                    let told = tokio::time::timeout(REPORT_TIMEOUT, proxy.core.commands.report_activity(report)).await;
                    let why = match told {
                        Ok(Ok(())) => continue,
                        Ok(Err(fault)) => fault.0.message,
                        Err(_) => "no scheduler answered in time".to_owned(),
                    };
                    tracing::warn!(pool, error = why, "what people use could not be told");
                }
            }
        }
    }));
}
