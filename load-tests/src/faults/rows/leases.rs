//! Redis, which decides who bothers: emptied, killed, frozen.

use crate::faults::{Plan, Seen, stage::Stage};
use anyhow::Result;
use std::time::Duration;

/// What losing Redis may cost, in seconds.
const LATE_MAX_S: f64 = 1.0;

/// Row 4, the part in which keys vanish.
pub(super) async fn redis_emptied(plan: Plan) -> Result<Seen> {
    let mut stage = Stage::open(plan, Stage::shape(plan)).await?;
    let mut seen = Seen::default();
    stage.begin().await?;
    let mut flushes = 0;
    while stage.goes_on(Duration::from_secs(1)) {
        stage.cluster.redis()?.flush()?;
        flushes += 1;
        stage.pass(Duration::from_millis(500), Duration::from_millis(1500)).await;
    }
    seen.bite("times that every key was removed", flushes);
    stage.finish_within(seen, LATE_MAX_S).await
}
