//! Schedulers that die, sleep, lie, and come and go.

use crate::faults::{Plan, Seen, stage::Stage};
use anyhow::Result;
use std::time::Duration;

/// The worst lateness while a scheduler is lost, in seconds: its lease, and a round of those that take over.
pub(super) const LATE_MAX_S: f64 = 6.0;

/// Row 1.
pub(super) async fn killed(plan: Plan) -> Result<Seen> {
    let mut stage = Stage::open(plan, Stage::shape(plan)).await?;
    let mut seen = Seen::default();
    stage.begin().await?;
    let mut kills = 0;
    while stage.goes_on(Duration::from_secs(5)) {
        let victim = format!("scheduler-{}", stage.throw(3) + 1);
        stage.cluster.service(&victim)?.kill()?;
        kills += 1;
        stage.pass(Duration::from_secs(1), Duration::from_secs(4)).await;
        stage.cluster.service(&victim)?.restart()?;
        stage.pass(Duration::from_secs(1), Duration::from_secs(4)).await;
    }
    seen.bite("schedulers killed", kills);
    let takings = stage.takings().await?;
    seen.bite("shards taken over", takings);
    stage.finish_within(seen, LATE_MAX_S).await
}
