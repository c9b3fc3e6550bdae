//! Schedulers that die, sleep, lie, come and go.

use crate::{
    cluster::{Shape, differing},
    faults::{Plan, Seen, seen::OF_TWO_BUILDS, stage::Stage},
};
use anyhow::Result;
use std::{path::PathBuf, time::Duration};
use tokio::time::Instant;

/// A drain that nothing holds up takes no longer than this.
const DRAIN_MAX_S: f64 = 5.0;
/// The worst lateness while a scheduler is lost, in seconds: its lease, and a round of those that take over.
pub(super) const LATE_MAX_S: f64 = 6.0;
/// Longer than any lease; and the load that has room for a few of them.
const SLEEP: Duration = Duration::from_secs(8);
const SLEEP_LOAD_S: u32 = 40;
/// The first freeze where the load was asked to last so long: as long as a duty may hang before its process is ended.
const LONG_SLEEP: Duration = Duration::from_secs(30);
const LONG_SLEEP_LOAD_S: u32 = 40;
/// Freezes begin anywhere between two times of the load.
const PHASE: Duration = Duration::from_secs(1);
/// Between two kills: one is lost at a time.
const KILL_EVERY: Duration = Duration::from_secs(8);
/// How old a session with a scheduler gets, about, while schedulers come and go; and the load that has room to wait for that.
const SESSION_AGE: Duration = Duration::from_secs(5);
const AGED_LOAD_S: u32 = 60;
/// Counts the sessions that were asked to go elsewhere by then.
const MOVED: &str = "scheduler_sessions_moved_total";
/// The promised time for a change of owners, and for even shares after it.
const SHARED_MAX_S: f64 = 10.0;
/// Who takes a shard loads the runs of it that have not ended, and loses it to the next one a second later: a backlog that
/// cannot be loaded in that time would never be done, however right every single write is.
const LIED_TRIGGERS_MAX: u32 = 200;
/// Every service of a stage, in the order in which an operator replaces them.
const ALL: [&str; 8] = [
    "scheduler-1",
    "scheduler-2",
    "scheduler-3",
    "web-server-1",
    "web-server-2",
    "executor-1",
    "executor-2",
    "executor-3",
];

/// Row 1.
pub(super) async fn killed(plan: Plan) -> Result<Seen> {
    let mut stage = Stage::open(plan, Stage::shape(plan)).await?;
    let mut seen = Seen::default();
    let load = stage.begin().await?;
    stage.one_at_a_time(&load).await?;
    let mut kills = 0;
    while stage.goes_on(KILL_EVERY) {
        let begun = Instant::now();
        let victim = stage.victim("scheduler", 3);
        stage.cluster.service(&victim)?.kill()?;
        kills += 1;
        stage.pass(Duration::from_millis(500), Duration::from_secs(4)).await;
        stage.cluster.service(&victim)?.restart()?;
        let rest = KILL_EVERY.saturating_sub(begun.elapsed());
        stage.pass(rest, rest + Duration::from_secs(2)).await;
    }
    seen.bite("schedulers killed", kills);
    seen.bite("shards taken over", stage.takings().await?);
    stage.finish_within(seen, LATE_MAX_S).await
}

/// Row 1b.
pub(super) async fn killed_without_redis(plan: Plan) -> Result<Seen> {
    killed(Plan { redis: false, ..plan }).await
}

/// Row 2b.
pub(super) async fn frozen_without_redis(plan: Plan) -> Result<Seen> {
    frozen(Plan { redis: false, ..plan }).await
}

/// Row 2.
pub(super) async fn frozen(plan: Plan) -> Result<Seen> {
    // One that sleeps in the middle of a transaction finds its session ended, and has nothing left to be refused: there
    // are several freezes, each at another moment.
    let is_long = plan.seconds >= LONG_SLEEP_LOAD_S;
    let plan = Plan { seconds: plan.seconds.max(SLEEP_LOAD_S), ..plan };
    let mut stage = Stage::open(plan, Stage::shape(plan)).await?;
    let mut seen = Seen::default();
    stage.begin().await?;
    let mut sleeps = 0;
    while stage.goes_on(PHASE + SLEEP) || sleeps == 0 {
        stage.pass(Duration::ZERO, PHASE).await;
        let victim = stage.victim("scheduler", 3);
        stage.cluster.service(&victim)?.freeze()?;
        sleeps += 1;
        tokio::time::sleep(if is_long && sleeps == 1 { LONG_SLEEP } else { SLEEP }).await;
        stage.cluster.service(&victim)?.thaw()?;
        stage.pass(Duration::from_secs(2), Duration::from_secs(4)).await;
    }
    // Nothing but an epoch that is over refuses these, and no process ends in this row: their counters tell of all of it. Which of
    // the two comes first when it wakes, an answer or the end of its patience, is chance.
    let refused = stage.metric_of_all("scheduler", "fenced_writes_total").await;
    let reloads = stage.metric_of_all("scheduler", "scheduler_reloads_total").await;
    seen.bite("schedulers frozen for longer than a lease", sleeps);
    if is_long {
        seen.bite("seconds that the first of them slept", LONG_SLEEP.as_secs());
    }
    let ended = stage.ended();
    seen.must(ended.is_empty(), || format!("services ended: {}", ended.join(", ")));
    seen.bite("shards taken over", stage.takings().await?);
    seen.bite("batches that a former owner had in hand and that do not count", count(refused + reloads));
    seen.tell("of them, refused", refused, "");
    seen.tell("of them, given up when it woke", reloads, "");
    stage.finish_within(seen, LATE_MAX_S).await
}

/// Row 3.
pub(super) async fn lied_to(plan: Plan) -> Result<Seen> {
    let plan = Plan { triggers: plan.triggers.min(LIED_TRIGGERS_MAX), ..plan };
    let settings = vec![("ORRERY_SCHEDULER_LEASES".to_owned(), "liar".to_owned())];
    let mut stage = Stage::unshared(plan, Shape { settings, ..Stage::shape(plan) }).await?;
    let mut seen = Seen::default();
    let load = stage.begin_broken().await?;
    tokio::time::sleep_until(load.broken_until).await;
    seen.bite("shards taken from one that lives", stage.takings().await?);
    let refused = stage.metric_of_all("scheduler", "fenced_writes_total").await;
    seen.bite("writes of a former owner that were refused", count(refused));
    stage.finish(seen).await
}

/// Row 19: every service is drained and started again, one after the other, under load.
pub(super) async fn rolled(plan: Plan) -> Result<Seen> {
    let mut seen = Seen::default();
    let shape = match previous() {
        Some(folder) => {
            seen.tell(OF_TWO_BUILDS, 1.0, "");
            let programs = ALL.into_iter().map(|name| (name, folder.clone())).collect();
            Shape { programs, ..Stage::shape(plan) }
        }
        None => Stage::shape(plan),
    };
    let mut stage = Stage::open(plan, shape).await?;
    stage.begin().await?;
    let before = stage.schema().await?;
    let mut rolled = 0;
    let (mut longest, mut cut) = (Duration::ZERO, Vec::new());
    for name in ALL {
        let service = stage.cluster.service(name)?;
        service.drain()?;
        longest = longest.max(service.wait(Duration::from_secs(35)).await?);
        if !service.has_ended_well() {
            cut.push(name);
        }
        stage.cluster.renew(name)?;
        rolled += 1;
        stage.pass(Duration::from_millis(200), Duration::from_secs(1)).await;
    }
    seen.bite("services drained and started again", rolled);
    if let Some(folder) = previous() {
        let after = stage.schema().await?;
        seen.tell("versions that the schema went on by", f64::from(after - before), "");
        seen.bite("programs that are not those of the build before", differing(&folder)?);
    }
    seen.must(cut.is_empty(), || format!("the drains of {} were cut", cut.join(", ")));
    seen.at_most("longest drain", longest.as_secs_f64(), "s", DRAIN_MAX_S);
    stage.finish_within(seen, LATE_MAX_S).await
}

/// The folder of an earlier build's programs.
fn previous() -> Option<PathBuf> {
    std::env::var_os("ORRERY_PREVIOUS_PROGRAMS").map(PathBuf::from)
}

/// Row 21.
pub(super) async fn scaled(plan: Plan) -> Result<Seen> {
    let ages = plan.seconds >= AGED_LOAD_S;
    let settings = vec![("ORRERY_SCHEDULER_SESSION_AGE_MAX".to_owned(), format!("{}s", SESSION_AGE.as_secs()))];
    let shape = Shape { schedulers: 1, scheduler_places: 5, settings, ..Stage::shape(plan) };
    let mut stage = Stage::open(plan, shape).await?;
    let mut seen = Seen::default();
    stage.begin().await?;
    let (mut changes, mut moved, mut cut) = (0, 0.0, 0);
    let (mut longest, mut drains) = (Duration::ZERO, Duration::ZERO);
    while changes == 0 || stage.goes_on(Duration::from_secs(10)) {
        for number in 2..=5 {
            stage.cluster.start_scheduler(number)?;
        }
        longest = longest.max(stage.until_shared(5).await?);
        if ages {
            // A session may live a fifth longer.
            tokio::time::sleep(SESSION_AGE.mul_f64(1.2)).await;
        }
        for number in 2..=5 {
            // Those that go take their counters with them.
            moved += stage.metric(&format!("scheduler-{number}"), MOVED).await;
        }
        for number in 2..=5 {
            stage.cluster.service(&format!("scheduler-{number}"))?.drain()?;
        }
        for number in 2..=5 {
            let service = stage.cluster.service(&format!("scheduler-{number}"))?;
            drains = drains.max(service.wait(Duration::from_secs(35)).await?);
            cut += u32::from(!service.has_ended_well());
        }
        longest = longest.max(stage.until_shared(1).await?);
        changes += 1;
    }
    moved += stage.metric("scheduler-1", MOVED).await;
    seen.bite("times from one scheduler to five and back", changes);
    seen.bite("shards moved", stage.takings().await?);
    let name = "sessions that moved on for their age";
    if ages {
        seen.bite(name, count(moved));
    } else {
        seen.tell(name, moved, "");
    }
    seen.at_most("until the shares were even", longest.as_secs_f64(), "s", SHARED_MAX_S);
    seen.must(cut == 0, || format!("{cut} drains were cut"));
    seen.at_most("longest drain", drains.as_secs_f64(), "s", DRAIN_MAX_S);
    stage.finish_within(seen, LATE_MAX_S).await
}

/// A counter that was read as a number of the exposition format.
pub(super) fn count(value: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a counter: whole and not negative")]
    let count = value.max(0.0) as u64;
    count
}
