//! Devices that are too few: raced for while schedulers are killed at any step between a decision and its binding, and held
//! by an executor that sleeps.

mod deaths;

use super::schedulers::LATE_MAX_S;
use crate::{
    cluster::Shape,
    declared::{Declared, Shape as Nodes},
    faults::{Plan, Seen, stage::Stage},
    history::Check,
    runtimes::{Caller, GANG, WORLD, audit, is_empty, keys},
};
use anyhow::{Result, ensure};
use deaths::Deaths;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_postgres::Client;
use uuid::Uuid;

/// Workspaces of each pool: many times what its devices hold.
const WORKSPACES: usize = 40;
/// Devices of each pool.
const NODES: usize = 2;
const GPUS: usize = 3;
/// The most that the project may hold over all pools, milli-GPU: less than there is.
const QUOTA_MILLI: i64 = 15_000;
/// Starts that a row makes at most, and at least.
const STARTS: (u64, u64) = (200, 10_000);
/// A runtime takes so long to start, and to be gone.
const LINGER: Duration = Duration::from_millis(30);
/// Between two deaths of schedulers, and how long one stays dead. Deaths come so many in a row, and then none for longer than
/// one is missed for.
const DEATH_EVERY: (Duration, Duration) = (Duration::from_millis(1_500), Duration::from_secs(5));
const DEATHS_IN_A_ROW: u64 = 3;
const REST: (Duration, Duration) = (Duration::from_secs(6), Duration::from_secs(7));
/// A dead scheduler is missed for 5 s at most: its lease, and a round of those who take over. The one that is to take over may
/// die meanwhile, and so may the next; then its own loss counts from its own death. Three in a row, and a second to load.
const RACED_LATE_MAX_S: f64 = 16.0;
const DEAD: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(1_500));
/// Between two looks at all sums.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long the starts that are wanted, and the end of everything, are waited for.
const PATIENCE: Duration = Duration::from_secs(150);
/// Workspaces of each pool whose executor sleeps.
const ASLEEP_EACH: usize = 8;
/// Longer than an executor is waited for.
const SLEEP: Duration = Duration::from_secs(13);

/// What a row with devices has.
struct Play {
    stage: Stage,
    sql: Client,
    workspaces: Vec<(&'static str, Uuid)>,
    fleets: Vec<Declared>,
}

impl Play {
    async fn open(plan: Plan, each: usize, shape: impl Fn(&str) -> Nodes) -> Result<Self> {
        let (keys, setting) = keys()?;
        let mut stage = Stage::open(plan, Shape { settings: vec![setting], ..Stage::shape(plan) }).await?;
        stage.keep(keys);
        stage.promises.must_check.extend([Check::C4, Check::C5]);
        let sql = stage.sql().await?;
        let workspaces = WORLD.fill(&sql, each, Some(QUOTA_MILLI)).await?;
        let start = |pool: &&str| {
            let journal = stage.cluster.history().join(format!("executor-declared-{pool}.jsonl"));
            Declared::start(shape(pool), stage.cluster.schedulers()?, &journal)
        };
        let fleets = WORLD.pools.iter().map(start).collect::<Result<Vec<_>>>()?;
        Ok(Self { stage, sql, workspaces, fleets })
    }

    /// Stops everything, and holds that nothing is left of it.
    async fn settle(&self, seen: &mut Seen) -> Result<()> {
        let begun = Instant::now();
        loop {
            for (at, (pool, workspace)) in self.workspaces.iter().enumerate() {
                // What has ended cannot be stopped again.
                let _ = Caller::new(&self.stage.cluster, pool, at)?.stop(*workspace).await;
            }
            let left = is_empty(&self.sql).await?;
            if left == 0 || begun.elapsed() > PATIENCE {
                seen.must(left == 0, || format!("{left} placements, grants, lives and sums of quotas are left"));
                return Ok(());
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Ends the executors, and judges.
    async fn finish(self, seen: Seen, late_max_s: f64) -> Result<Seen> {
        for fleet in self.fleets {
            fleet.close().await?;
        }
        self.stage.finish_within(seen, late_max_s).await
    }

    fn count(&self, of: fn(&crate::declared::Counts) -> &AtomicU64) -> u64 {
        self.fleets.iter().map(|fleet| of(fleet.counts()).load(Ordering::Relaxed)).sum()
    }
}

/// Row 22.
pub(super) async fn raced(plan: Plan) -> Result<Seen> {
    let nodes = |pool: &str| Nodes {
        pool: pool.to_owned(),
        nodes: NODES,
        gpus: GPUS,
        linger: LINGER,
        strangers: Some(plan.seed),
        ..Nodes::default()
    };
    let mut play = Play::open(plan, WORKSPACES, nodes).await?;
    let mut seen = Seen::default();
    let load = play.stage.begin().await?;
    let wanted = u64::from(plan.triggers * plan.seconds / 4).clamp(STARTS.0, STARTS.1);
    let users = Users::start(&play, wanted, plan)?;
    let looks = tokio::spawn(look(play.stage.sql().await?, Arc::clone(&users.over)));
    let mut deaths = Deaths::default();
    let begun = Instant::now();
    while Instant::now() < load.broken_until
        || ((users.asked() < wanted || deaths.is_missing()) && begun.elapsed() < PATIENCE)
    {
        let count = deaths.count();
        let pause = if count > 0 && count.is_multiple_of(DEATHS_IN_A_ROW) { REST } else { DEATH_EVERY };
        play.stage.pass(pause.0, pause.1).await;
        let victim = deaths.kill(&mut play.stage, &play.sql).await?;
        play.stage.pass(DEAD.0, DEAD.1).await;
        play.stage.cluster.service(&victim)?.restart()?;
    }
    seen.bite("starts of runtimes that ask for more than there is", users.asked());
    seen.must(users.asked() >= wanted, || format!("only {} of {wanted} starts were taken", users.asked()));
    users.end().await;
    let (wrong, looked) = looks.await??;
    play.settle(&mut seen).await?;
    seen.bite("looks at all sums and quotas", looked);
    seen.must(wrong == 0, || format!("{wrong} sums or quotas were wrong at a look"));
    seen.bite("runtimes that ran on devices", play.count(|counts| &counts.started));
    deaths.tell(&mut seen);
    seen.bite("parts of devices that strangers took", play.count(|counts| &counts.strangers));
    #[expect(clippy::cast_precision_loss, reason = "a count for people")]
    seen.tell("orders that strangers had overtaken", play.count(|counts| &counts.refused) as f64, "");
    play.finish(seen, RACED_LATE_MAX_S).await
}

/// People who start and stop runtimes, whatever becomes of them.
struct Users {
    tasks: JoinSet<()>,
    asked: Arc<AtomicU64>,
    /// 1 when it is over.
    over: Arc<AtomicU64>,
}

impl Users {
    fn start(play: &Play, wanted: u64, plan: Plan) -> Result<Self> {
        // So that they are at it until the load is over.
        let users = u32::try_from(play.workspaces.len())?;
        let turn = Duration::from_secs(plan.seconds.into()) * users / u32::try_from(wanted)?;
        let (asked, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        for (at, (pool, workspace)) in play.workspaces.iter().enumerate() {
            let caller = Caller::new(&play.stage.cluster, pool, at)?;
            let dice = StdRng::seed_from_u64(plan.seed.wrapping_add(at as u64));
            tasks.spawn(use_one(caller, *workspace, (Arc::clone(&asked), Arc::clone(&over)), turn, dice));
        }
        Ok(Self { tasks, asked, over })
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    async fn end(self) {
        self.over.store(1, Ordering::Relaxed);
        self.tasks.join_all().await;
    }
}

/// One of them, until it is over; a turn of use and pause takes so long at the mean.
async fn use_one(
    caller: Caller,
    workspace: Uuid,
    (asked, over): (Arc<AtomicU64>, Arc<AtomicU64>),
    turn: Duration,
    mut dice: StdRng,
) {
    while over.load(Ordering::Relaxed) == 0 {
        if caller.start(workspace).await.is_ok() {
            asked.fetch_add(1, Ordering::Relaxed);
        }
        // A moment of use; or of waiting, since there is too little.
        sleep(turn.mul_f64(dice.random())).await;
        // What a scheduler that died has done of it is found out with the next start.
        let _ = caller.stop(workspace).await;
        sleep(turn.mul_f64(dice.random())).await;
    }
}

/// Looks at all sums until it is over; answers how many were wrong, and how often it looked.
async fn look(sql: Client, over: Arc<AtomicU64>) -> Result<(i64, u64)> {
    let (mut wrong, mut looks) = (0, 0);
    while over.load(Ordering::Relaxed) == 0 {
        wrong += audit(&sql).await?;
        looks += 1;
        sleep(LOOK_EVERY).await;
    }
    Ok((wrong, looks))
}

/// Row 14, with devices: an executor that sleeps is told to end what it runs, and others wait for the devices.
pub(super) async fn asleep(plan: Plan) -> Result<Seen> {
    let nodes = |pool: &str| Nodes { pool: pool.to_owned(), nodes: 1, gpus: 2, linger: LINGER, ..Nodes::default() };
    let mut play = Play::open(plan, ASLEEP_EACH, nodes).await?;
    let mut seen = Seen::default();
    play.stage.begin().await?;
    // A gang in each pool first: behind others it might wait for as long as the row lasts, and C5 would see none.
    let is_gang = |at: usize| at % ASLEEP_EACH == GANG;
    let everyone = || play.workspaces.iter().enumerate();
    let gangs = everyone().filter(|(at, _)| is_gang(*at));
    for (at, (pool, workspace)) in gangs.chain(everyone().filter(|(at, _)| !is_gang(*at))) {
        Caller::new(&play.stage.cluster, pool, at)?.start(*workspace).await?;
    }
    let held = "SELECT coalesce(array_agg(holder ORDER BY holder), '{}') FROM placement WHERE state <> 'nominated'";
    let begun = Instant::now();
    let holders = loop {
        let holders: Vec<Uuid> = play.sql.query_one(held, &[]).await?.get(0);
        let waiting = "SELECT count(*) FROM runtime WHERE state = 'starting'";
        let waiting: i64 = play.sql.query_one(waiting, &[]).await?.get(0);
        if holders.len() >= WORLD.pools.len() && waiting > 0 && play.count(|counts| &counts.started) > 3 {
            break holders;
        }
        ensure!(begun.elapsed() < PATIENCE, "runtimes do not start: {} hold devices, {waiting} wait", holders.len());
        sleep(LOOK_EVERY).await;
    };
    play.fleets.iter().for_each(|fleet| fleet.freeze(true));
    for (at, (pool, workspace)) in play.workspaces.iter().enumerate() {
        let of = "SELECT EXISTS (SELECT FROM runtime WHERE workspace_id = $1 AND holder = ANY ($2))";
        if play.sql.query_one(of, &[workspace, &holders]).await?.get(0) {
            Caller::new(&play.stage.cluster, pool, at)?.stop(*workspace).await?;
        }
    }
    let started = play.count(|counts| &counts.started);
    sleep(SLEEP).await;
    let after: Vec<Uuid> = play.sql.query_one(held, &[]).await?.get(0);
    let freed = holders.iter().filter(|holder| !after.contains(holder)).count();
    seen.must(freed == 0, || format!("{freed} holders lost their devices while nobody knew whether they use them"));
    let left = "SELECT count(*) FROM placement WHERE state = 'releasing' AND holder = ANY ($1)";
    let told: i64 = play.sql.query_one(left, &[&holders]).await?.get(0);
    seen.bite(
        "holders that were told to leave, and kept what they had while their executor slept",
        u64::try_from(told)?,
    );
    play.fleets.iter().for_each(|fleet| fleet.freeze(false));
    let begun = Instant::now();
    while play.count(|counts| &counts.started) == started {
        ensure!(begun.elapsed() < PATIENCE, "those who waited do not start");
        sleep(LOOK_EVERY).await;
    }
    seen.bite("runtimes that started when it woke", play.count(|counts| &counts.started) - started);
    play.settle(&mut seen).await?;
    play.finish(seen, LATE_MAX_S).await
}
