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
/// What one death takes: slow runs begin, are missed, and run elsewhere to their end; and the load that has room for several.
const DEATH: Duration = Duration::from_secs(22);
const DEATHS_LOAD_S: u32 = 80;
/// Longer than an executor is waited for.
const SLEEP: Duration = Duration::from_secs(13);
/// The first freeze where the load has room for it, and has some left: everybody has forgotten it by then, connections too.
const LONG_SLEEP: Duration = Duration::from_secs(60);
const LONG_SLEEP_LOAD_S: u32 = 80;
/// Freezes until a result is refused: who wakes may notice first that it was silent for too long, and tells none then.
const FREEZES_MAX: usize = 5;
const PATIENCE: Duration = Duration::from_secs(90);

/// Row 13.
pub(super) async fn killed(plan: Plan) -> Result<Seen> {
    let is_long = plan.seconds >= DEATHS_LOAD_S;
    let mut stage = Stage::open(plan, Stage::shape(plan)).await?;
    let mut seen = Seen::default();
    let mut slow = stage.warm_and_start_slow(SLOW_RUNS, SLOW_S).await?;
    stage.begin().await?;
    let (mut kills, mut given, mut longest) = (0_u64, 0, Duration::ZERO);
    loop {
        let victim = stage.holder(&slow).await?;
        stage.cluster.service(&victim)?.kill()?;
        let killed = Instant::now();
        kills += 1;
        // Every other one is back before it is missed: as another executor, that knows nothing of what it ran.
        let is_back_soon = kills.is_multiple_of(2);
        if is_back_soon {
            stage.pass(Duration::from_millis(500), Duration::from_secs(4)).await;
            stage.cluster.service(&victim)?.restart()?;
        }
        given += stage.until_lost(&slow, PATIENCE).await?;
        longest = longest.max(killed.elapsed());
        if !is_back_soon {
            stage.cluster.service(&victim)?.restart()?;
        }
        // Before the next one: a block that three executors died with counts as one that kills them.
        all_completed(&stage, &slow, &mut seen).await?;
        if !(is_long && stage.goes_on(DEATH)) {
            break;
        }
        slow = stage.start_slow(SLOW_RUNS, SLEPT_THROUGH_S).await?;
    }
    seen.at_most("until its work was with others", longest.as_secs_f64(), "s", REASSIGNED_MAX_S);
    seen.bite("executors killed in the middle of a block", kills);
    if is_long {
        seen.bite("deaths after the first one", kills - 1);
    }
    seen.bite("attempts given to others", given);
    stage.finish_within(seen, LATE_MAX_S).await
}

/// Row 14, as far as it goes without devices.
pub(super) async fn frozen(plan: Plan) -> Result<Seen> {
    let is_long = plan.seconds >= LONG_SLEEP_LOAD_S;
    let mut stage = Stage::open(plan, Stage::shape(plan)).await?;
    let mut seen = Seen::default();
    stage.warm(SLOW, &[("seconds", 0.5)]).await?;
    stage.begin().await?;
    let (mut given, mut refused, mut dropped) = (0, 0, 0);
    for freeze in 0..FREEZES_MAX {
        // What it started ends while it sleeps, so that it has results to tell when it wakes: its blocks begin under the
        // load, and none is over before it is frozen.
        let slow = stage.start_slow(SLOW_RUNS, SLEPT_THROUGH_S).await?;
        let victim = stage.holder(&slow).await?;
        let before = stage.unwanted(&victim)?;
        stage.cluster.service(&victim)?.freeze()?;
        tokio::time::sleep(if is_long && freeze == 0 { LONG_SLEEP } else { SLEEP }).await;
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
    if is_long {
        seen.bite("seconds that it slept at first", LONG_SLEEP.as_secs());
    }
    let ended = stage.ended();
    seen.must(ended.is_empty(), || format!("services ended: {}", ended.join(", ")));
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
