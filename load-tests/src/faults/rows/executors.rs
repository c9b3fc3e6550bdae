//! Executors that die, or sleep while what they started goes on.

use super::schedulers::LATE_MAX_S;
use crate::faults::{
    Plan, Seen,
    stage::{SLOW, Stage},
};
use anyhow::Result;
use std::time::Duration;
use tokio::time::Instant;

/// Attempts at once that take a while.
pub(super) const SLOW_RUNS: usize = 9;
/// How long each takes, in seconds: much longer than the load needs to begin, and to be left alone at first; and over
/// before an executor that is cut off then takes itself to be lost.
pub(super) const SLOW_S: f64 = 15.0;
/// The same where they begin under the load: long enough for all to run at once, and over while their executor sleeps.
const SLEPT_THROUGH_S: f64 = 9.0;
/// Silence after which an executor is lost, and the promise for its work to be with others.
pub(super) const REASSIGNED_MAX_S: f64 = 15.0;
/// Longer than an executor is waited for.
const SLEEP: Duration = Duration::from_secs(13);
/// Freezes until a result is refused: who wakes may notice first that it was silent for too long, and tells none then.
const FREEZES_MAX: usize = 5;
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
    stage.warm(SLOW, &[("seconds", 0.5)]).await?;
    stage.begin().await?;
    let (mut given, mut refused, mut dropped) = (0, 0, 0);
    for _ in 0..FREEZES_MAX {
        // What it started ends while it sleeps, so that it has results to tell when it wakes: its blocks begin under the
        // load, and none is over before it is frozen.
        let slow = stage.start_slow(SLOW_RUNS, SLEPT_THROUGH_S).await?;
        let victim = stage.holder(&slow).await?;
        let before = stage.unwanted(&victim)?;
        stage.cluster.service(&victim)?.freeze()?;
        tokio::time::sleep(SLEEP).await;
        given += stage.lost_attempts(&slow).await?;
        stage.cluster.service(&victim)?.thaw()?;
        all_completed(&stage, &slow, &mut seen).await?;
        stage.pass(Duration::from_secs(3), Duration::from_secs(4)).await;
        let now = stage.unwanted(&victim)?;
        (refused, dropped) = (refused + now.0 - before.0, dropped + now.1 - before.1);
        if refused > 0 {
            break;
        }
    }
    seen.bite("attempts given to others", given);
    seen.bite("results of former attempts that were refused", refused);
    #[expect(clippy::cast_precision_loss, reason = "a count for people")]
    seen.tell("others that it did not tell any more", dropped as f64, "");
    stage.finish_within(seen, LATE_MAX_S).await
}

async fn all_completed(stage: &Stage, runs: &[uuid::Uuid], seen: &mut Seen) -> Result<()> {
    let ended = stage.until_ended(runs, PATIENCE).await?;
    let all = i64::try_from(runs.len())?;
    seen.must(ended.get("completed") == Some(&all), || format!("the runs in question stand as {ended:?}"));
    Ok(())
}
