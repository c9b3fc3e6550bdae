//! What happens between processes: partitions, latency, loss, connections that break or hang.

use super::{
    executors::{REASSIGNED_MAX_S, SLOW_RUNS, SLOW_S},
    schedulers::{LATE_MAX_S, count},
};
use crate::{
    faults::{Plan, Seen, stage::Stage},
    wire::{Way, Weather},
};
use anyhow::Result;
use jiff::Timestamp;
use std::{collections::BTreeMap, time::Duration};

/// Longer than a lease, and than the time in which a scheduler takes its shards to be its own.
const PARTITION: Duration = Duration::from_secs(7);

/// So long after its last word from a scheduler an executor has ended what it ran: that one is lost after 10 s of silence, it looks
/// every 2 s, and gives its blocks 3 s to end by themselves.
const STOPPED_MAX: Duration = Duration::from_secs(15);
/// Blocks that last longer than all of that, from before the load begins; and the load that has room for them to be done again.
const LASTING_S: f64 = 30.0;
const LASTING_LOAD_S: u32 = 50;

/// The load that has room for the three cuts of row 8c, one after the other.
const CUTS_LOAD_S: u32 = 30;

/// Longer than an executor is waited for; and the load that has room for one in each direction.
const ONE_WAY: Duration = Duration::from_secs(12);
const ONE_WAY_LOAD_S: u32 = 30;

/// Of 100 logical times 99 are decided so soon in bad weather, in seconds.
const WEATHER_LATE_MAX_S: f64 = 5.0;
/// The same where connections break too: a commit under which one does waits for another one to be opened.
const TEARING_LATE_MAX_S: f64 = 2.0 * WEATHER_LATE_MAX_S;
/// A way in bad weather.
const SLOW: Way =
    Way { latency: Duration::from_millis(20), jitter: Duration::from_millis(40), loss: 0.05, rate: None, held: false };
/// A way to the other side of the world.
const FAR: Way = Way {
    latency: Duration::from_millis(100),
    jitter: Duration::from_millis(400),
    loss: 0.05,
    rate: None,
    held: false,
};
/// The same in a storm.
const STORMY: Way = Way { loss: 0.3, ..FAR };

/// Only from the one who connected.
fn up() -> Weather {
    Weather { up: Way { held: true, ..Way::default() }, ..Weather::fair() }
}

/// Only towards it.
fn down() -> Weather {
    Weather { down: Way { held: true, ..Way::default() }, ..Weather::fair() }
}

/// Row 8a.
pub(super) async fn scheduler_without_database_or_redis(plan: Plan) -> Result<Seen> {
    scheduler_without_database(Plan { redis: false, ..plan }).await
}

/// Row 8: a scheduler and its database, in both directions, in one, and half open.
pub(super) async fn scheduler_without_database(plan: Plan) -> Result<Seen> {
    let mut stage = Stage::open(plan, Stage::shape(plan)).await?;
    let mut seen = Seen::default();
    stage.begin().await?;
    let mut partitions = 0_usize;
    let mut harm = 0;
    while partitions == 0 || stage.goes_on(PARTITION) {
        let victim = stage.victim("scheduler", 3);
        let wires = stage.cluster.wires()?;
        match partitions % 4 {
            0 => wires.set(&victim, "postgres", Weather::partition()),
            1 => wires.set(&victim, "postgres", down()),
            2 => wires.between(&victim, "postgres").for_each(crate::wire::Wire::orphan),
            _ => wires.set(&victim, "postgres", up()),
        }
        partitions += 1;
        tokio::time::sleep(PARTITION).await;
        let wires = stage.cluster.wires()?;
        harm += wires.harm(&victim, "postgres");
        wires.set(&victim, "postgres", Weather::fair());
        stage.revive().await?;
        stage.pass(Duration::from_secs(1), Duration::from_secs(4)).await;
    }
    seen.bite("partitions", partitions as u64);
    seen.bite("chunks held and connections broken", harm);
    seen.bite("shards taken over", stage.takings().await?);
    stage.finish_within(seen, LATE_MAX_S).await
}

/// Row 8b: an executor and every scheduler. What it ran is given to others, and it stops it by itself.
pub(super) async fn executor_alone(plan: Plan) -> Result<Seen> {
    let is_long = plan.seconds >= LASTING_LOAD_S;
    let mut stage = Stage::open(plan, Stage::shape(plan)).await?;
    let mut seen = Seen::default();
    let slow = stage.warm_and_start_slow(SLOW_RUNS, if is_long { LASTING_S } else { SLOW_S }).await?;
    stage.begin().await?;
    let victim = stage.holder(&slow).await?;
    let cut_at = Timestamp::now();
    stage.cluster.wires()?.set(&victim, "", Weather::partition());
    let cut = tokio::time::Instant::now();
    let given = stage.until_lost(&slow, Duration::from_secs(60)).await?;
    seen.at_most("until its work was with others", cut.elapsed().as_secs_f64(), "s", REASSIGNED_MAX_S);
    tokio::time::sleep(PARTITION.saturating_sub(cut.elapsed())).await;
    if is_long {
        let (stopped, open) = stage.until_stopped(&victim, &slow, (cut_at, 2 * STOPPED_MAX)).await?;
        seen.must(open == 0, || format!("{open} blocks still ran {} s later, cut off", 2 * STOPPED_MAX.as_secs()));
        seen.bite("blocks that it ended by itself while it was cut off", stopped.len() as u64);
        let last = stopped.into_iter().max().unwrap_or_default();
        seen.at_most("until it had ended them", last.as_secs_f64(), "s", STOPPED_MAX.as_secs_f64());
    }
    let wires = stage.cluster.wires()?;
    seen.bite("chunks held", wires.harm(&victim, ""));
    wires.set(&victim, "", Weather::fair());
    seen.bite("attempts given to others", given);
    let ended = stage.until_ended(&slow, Duration::from_secs(90)).await?;
    seen.must(ended.get("completed") == Some(&(slow.len() as i64)), || format!("its runs stand as {ended:?}"));
    stage.finish_within(seen, LATE_MAX_S).await
}

/// Row 8c: a scheduler without Redis, without its peers, and without web-servers, one after the other.
pub(super) async fn scheduler_alone(plan: Plan) -> Result<Seen> {
    let plan = Plan { seconds: plan.seconds.max(CUTS_LOAD_S), ..plan };
    let mut stage = Stage::open(plan, Stage::shape(plan)).await?;
    let mut seen = Seen::default();
    stage.begin().await?;
    let mut partitions = 0_usize;
    let mut held = [("Redis", 0), ("its peers", 0), ("everybody else", 0)];
    while partitions < held.len() || stage.goes_on(PARTITION) {
        let victim = stage.victim("scheduler", 3);
        let kind = partitions % held.len();
        let (from, to) = match kind {
            0 => (victim.as_str(), "redis"),
            1 => ("peers", victim.as_str()),
            _ => ("", victim.as_str()),
        };
        let wires = stage.cluster.wires()?;
        // A wire's count goes on from one cut to the next, and the last cut has wires of the others.
        let before = wires.harm(from, to);
        wires.set(from, to, Weather::partition());
        partitions += 1;
        tokio::time::sleep(PARTITION).await;
        held[kind].1 += wires.harm(from, to) - before;
        wires.set(from, to, Weather::fair());
        stage.pass(Duration::from_millis(500), Duration::from_secs(1)).await;
    }
    seen.bite("partitions", partitions as u64);
    for (whom, chunks) in held {
        seen.bite(&format!("chunks held between it and {whom}"), chunks);
    }
    stage.finish_within(seen, LATE_MAX_S).await
}

/// Row 8d: one direction of a wire and not the other, first what a process says and then what it is told: a scheduler and
/// Redis, another one and PostgreSQL, an executor and every scheduler, all at once.
pub(super) async fn one_way(plan: Plan) -> Result<Seen> {
    // Both directions, between what is left undisturbed at both ends.
    let plan = Plan { seconds: plan.seconds.max(ONE_WAY_LOAD_S), ..plan };
    let mut stage = Stage::open(plan, Stage::shape(plan)).await?;
    let mut seen = Seen::default();
    stage.begin().await?;
    let mut held: BTreeMap<String, u64> = BTreeMap::new();
    let mut rounds = 0_usize;
    while rounds < 2 || stage.goes_on(ONE_WAY) {
        let (direction, weather) = if rounds.is_multiple_of(2) { ("to", up()) } else { ("from", down()) };
        let first = stage.throw(3);
        let [without_redis, without_database] = [first, first + 1].map(|place| format!("scheduler-{}", place % 3 + 1));
        let executor = stage.victim("executor", 3);
        let cuts = [
            (without_redis.as_str(), "redis", "Redis"),
            (without_database.as_str(), "postgres", "PostgreSQL"),
            (executor.as_str(), "", "schedulers, for an executor"),
        ];
        let wires = stage.cluster.wires()?;
        let before = cuts.map(|(from, to, _)| wires.harm(from, to));
        cuts.iter().for_each(|(from, to, _)| wires.set(from, to, weather));
        tokio::time::sleep(ONE_WAY).await;
        for ((from, to, whom), before) in cuts.into_iter().zip(before) {
            *held.entry(format!("chunks held {direction} {whom}")).or_default() += wires.harm(from, to) - before;
            wires.set(from, to, Weather::fair());
        }
        rounds += 1;
        stage.revive().await?;
        stage.pass(Duration::from_millis(500), Duration::from_secs(1)).await;
    }
    held.iter().for_each(|(what, count)| seen.bite(what, *count));
    seen.bite("shards taken over", stage.takings().await?);
    let lost = "SELECT count(*) FROM attempt WHERE outcome = 'lost'";
    let lost: i64 = stage.sql().await?.query_one(lost, &[]).await?.get(0);
    // How much it had when it was cut off is for the load to say; that such work is given to others is row 8b's.
    #[expect(clippy::cast_precision_loss, reason = "a count for people")]
    seen.tell("attempts given to others", lost as f64, "");
    stage.finish_within(seen, LATE_MAX_S).await
}

/// Row 9: every wire is slow and loses a twentieth of what travels.
pub(super) async fn bad_weather(plan: Plan) -> Result<Seen> {
    let (stage, seen) = weathered(plan, Weather::both(SLOW)).await?;
    stage.finish_mostly_within(seen, WEATHER_LATE_MAX_S).await
}

/// Row 9b: now and then a connection breaks as well.
pub(super) async fn bad_weather_that_tears(plan: Plan) -> Result<Seen> {
    let (stage, mut seen) = weathered(plan, Weather { tear: 0.004, ..Weather::both(SLOW) }).await?;
    seen.bite("connections torn", stage.cluster.wires()?.count(|harm| &harm.broken));
    stage.finish_mostly_within(seen, TEARING_LATE_MAX_S).await
}

/// Row 9c: a storm, in which hardly anything has to go on. What is not lost or doubled is all that counts.
pub(super) async fn storm(plan: Plan) -> Result<Seen> {
    let (mut stage, mut seen) = weathered(plan, Weather::both(STORMY)).await?;
    stage.loses_often = true;
    seen.tell("services that ended by themselves", stage.ended().len() as f64, "");
    let fired = "SELECT count(*) FROM firing WHERE decided = 'fired'";
    let fired: i64 = stage.sql().await?.query_one(fired, &[]).await?.get(0);
    seen.tell("firings before it was over", fired as f64, "");
    stage.finish(seen).await
}

/// Row 9d: every wire is as slow as in the storm, and loses no more than in bad weather.
pub(super) async fn far_away(plan: Plan) -> Result<Seen> {
    let (stage, seen) = weathered(plan, Weather::both(FAR)).await?;
    stage.finish_mostly_within(seen, WEATHER_LATE_MAX_S).await
}

/// A load under which every wire has this weather.
async fn weathered(plan: Plan, weather: Weather) -> Result<(Stage, Seen)> {
    let mut stage = Stage::open(plan, Stage::shape(plan)).await?;
    let mut seen = Seen::default();
    let load = stage.begin().await?;
    stage.cluster.wires()?.set("", "", weather);
    tokio::time::sleep_until(load.broken_until).await;
    let wires = stage.cluster.wires()?;
    seen.bite("chunks late", wires.count(|harm| &harm.delayed));
    seen.bite("chunks lost and sent again", wires.count(|harm| &harm.lost));
    let reloads = stage.metric_of_all("scheduler", "scheduler_reloads_total").await;
    seen.tell("times that a scheduler loaded its memory again", reloads, "");
    let broken = stage.metric_of_all("scheduler", "scheduler_broken_commits_total").await;
    seen.tell("sessions that broke under a commit", count(broken) as f64, "");
    Ok((stage, seen))
}
