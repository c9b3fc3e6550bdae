//! Executors that die, or sleep while what they started goes on.

use super::schedulers::{LATE_MAX_S, count};
use crate::faults::{Plan, Seen, stage::Stage};
use anyhow::Result;
use std::time::Duration;
use tokio::time::Instant;

/// Attempts at once that take a while.
const SLOW_RUNS: usize = 9;
/// How long each takes, in seconds: longer than the load needs to begin.
const SLOW_S: f64 = 9.0;
/// Silence after which an executor is lost, and the promise for its work to be with others.
pub(super) const REASSIGNED_MAX_S: f64 = 15.0;
/// Longer than an executor is waited for.
const SLEEP: Duration = Duration::from_secs(13);
const PATIENCE: Duration = Duration::from_secs(90);

/// Row 13.
pub(super) async fn killed(plan: Plan) -> Result<Seen> {
    let mut stage = Stage::open(plan, Stage::shape(plan)).await?;
    let mut seen = Seen::default();
    let slow = stage.warm_and_start_slow(SLOW_RUNS, SLOW_S).await?;
    stage.begin().await?;
    let victim = stage.holder(&slow).await?;
    stage.cluster.service(&victim)?.kill()?;
    let killed = Instant::now();
    let given = stage.until_lost(&slow, PATIENCE).await?;
    seen.at_most("until its work was with others", killed.elapsed().as_secs_f64(), "s", REASSIGNED_MAX_S);
    seen.bite("executors killed in the middle of a block", 1);
    seen.bite("attempts given to others", given);
    stage.cluster.service(&victim)?.restart()?;
    all_completed(&stage, &slow, &mut seen).await?;
    stage.finish_within(seen, LATE_MAX_S).await
}

/// Row 14, as far as it goes without devices.
pub(super) async fn frozen(plan: Plan) -> Result<Seen> {
    let mut stage = Stage::open(plan, Stage::shape(plan)).await?;
    let mut seen = Seen::default();
    // What it started ends while it sleeps, so that it has results to tell when it wakes.
    let slow = stage.warm_and_start_slow(SLOW_RUNS, 6.0).await?;
    stage.begin().await?;
    let victim = stage.holder(&slow).await?;
    let refused = stage.metric_of_all("scheduler", "scheduler_stale_results_total").await;
    stage.cluster.service(&victim)?.freeze()?;
    tokio::time::sleep(SLEEP).await;
    let given = stage.lost_attempts(&slow).await?;
    stage.cluster.service(&victim)?.thaw()?;
    all_completed(&stage, &slow, &mut seen).await?;
    stage.pass(Duration::from_secs(3), Duration::from_secs(4)).await;
    let refused = stage.metric_of_all("scheduler", "scheduler_stale_results_total").await - refused;
    seen.bite("attempts given to others", given);
    seen.bite("results of former attempts that were refused", count(refused));
    stage.finish_within(seen, LATE_MAX_S).await
}

async fn all_completed(stage: &Stage, runs: &[uuid::Uuid], seen: &mut Seen) -> Result<()> {
    let ended = stage.until_ended(runs, PATIENCE).await?;
    let all = i64::try_from(runs.len())?;
    seen.must(ended.get("completed") == Some(&all), || format!("the runs in question stand as {ended:?}"));
    Ok(())
}
