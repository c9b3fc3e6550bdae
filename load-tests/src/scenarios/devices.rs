//! Ten thousand starts and stops of runtimes that ask for more GPUs than there are, on three schedulers that are killed at
//! random: no device and no quota is ever given away twice, and in the end everything is free.

use crate::{
    cluster::Cluster,
    floor,
    report::{Bar, Figure},
};
use anyhow::{Context, Result, ensure};
use load_tests::{
    declared::{Declared, Shape},
    history::{self, Check},
    runtimes::{Caller, Setup, WORLD, audit, is_empty},
};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use uuid::Uuid;

/// Workspaces of each pool: many times what its devices hold.
const WORKSPACES: usize = 60;
/// Devices of each pool.
const NODES: usize = 3;
const GPUS: usize = 4;
/// The most that the project may hold over all pools, milli-GPU: less than there is.
const QUOTA_MILLI: i64 = 30_000;
/// The longest that the end is waited for.
const WAIT: Duration = Duration::from_secs(120);

/// How much, and from which seed.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Starts of runtimes
    #[arg(long, default_value_t = 10_000)]
    starts: u64,
    /// Seconds between two deaths of schedulers, about
    #[arg(long, default_value_t = 5)]
    death_every_s: u64,
    /// What decides who asks for what, and who dies when
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

/// Violations by the fleet's own journal, wrong sums by the database, and how fast it went.
pub(crate) async fn run(options: &Options) -> Result<Vec<Figure>> {
    let setup = Setup::new(3).await?;
    let Setup { mut cluster, sql, keys: _keys } = setup;
    history::Witness::install(&sql, history::Detail::Owners).await?;
    let workspaces = WORLD.fill(&sql, WORKSPACES, Some(QUOTA_MILLI)).await?;
    let fleets = WORLD
        .pools
        .iter()
        .map(|pool| {
            let shape = Shape { pool: (*pool).to_owned(), nodes: NODES, gpus: GPUS, ..Shape::default() };
            let journal = cluster.history().join(format!("executor-declared-{pool}.jsonl"));
            Declared::start(shape, cluster.schedulers()?, &journal)
        })
        .collect::<Result<Vec<_>>>()?;
    let begun = Instant::now();
    let asked = Arc::new(AtomicU64::new(0));
    let mut users = tokio::task::JoinSet::new();
    for (at, (pool, workspace)) in workspaces.iter().enumerate() {
        let caller = Caller::new(&cluster, pool, at)?;
        let seed = options.seed.wrapping_add(at as u64);
        users.spawn(use_one(caller, *workspace, Arc::clone(&asked), options.starts, seed));
    }
    let mut rng = StdRng::seed_from_u64(options.seed);
    let (mut wrong, mut looks, mut deaths) = (0_i64, 0_u64, 0_u64);
    let mut next_death = Instant::now() + Duration::from_secs(options.death_every_s);
    while asked.load(Ordering::Relaxed) < options.starts {
        tokio::time::sleep(Duration::from_millis(50)).await;
        wrong += audit(&sql).await?;
        looks += 1;
        if Instant::now() >= next_death {
            let victim = *[1_usize, 2, 3].choose(&mut rng).context("a scheduler")?;
            kill_and_restart(&mut cluster, victim)?;
            deaths += 1;
            next_death = Instant::now() + Duration::from_millis(options.death_every_s * rng.random_range(500..1_500));
        }
    }
    let took = begun.elapsed();
    while users.join_next().await.is_some() {}
    let left = settle(&cluster, &sql, &workspaces).await?;
    wrong += audit(&sql).await?;
    let started: u64 = fleets.iter().map(Declared::started).sum();
    drop(fleets);
    history::Witness::dump(&sql, &cluster.history()).await?;
    let report = history::check(&history::History::read(&cluster.history())?);
    let shares = report.verdicts.iter().find(|verdict| verdict.check == Check::C4).context("the check of devices")?;
    eprintln!("{looks} looks at all sums, {deaths} schedulers killed, {started} runtimes ran on devices");
    ensure!(shares.checked.values().sum::<u64>() > 0, "the journals of the fleet say nothing about devices");
    let commit = floor::commit_ms(&sql, 500).await?;
    let figure = |name, figure, unit, bar| Figure {
        name,
        figure,
        unit,
        floor: commit,
        floor_is: "one durable commit, median, ms",
        bar,
    };
    Ok(vec![
        figure(
            "devices given away twice, by the fleet's journal",
            shares.violation_count as f64,
            "",
            Bar::FigureAtMost(0.0),
        ),
        figure("sums and quotas that were wrong at a look", wrong as f64, "", Bar::FigureAtMost(0.0)),
        figure("placements left at the end", left as f64, "", Bar::FigureAtMost(0.0)),
        figure(
            "starts asked, with deaths in between",
            options.starts as f64 / took.as_secs_f64(),
            "/s",
            Bar::FigureAtLeast(1.0),
        ),
    ])
}

/// One person who starts and stops a runtime, whatever becomes of it.
async fn use_one(caller: Caller, workspace: Uuid, asked: Arc<AtomicU64>, starts: u64, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    while asked.load(Ordering::Relaxed) < starts {
        if caller.start(workspace).await.is_ok() {
            asked.fetch_add(1, Ordering::Relaxed);
        }
        // A moment of use; or of waiting, since there is too little.
        tokio::time::sleep(Duration::from_millis(rng.random_range(5..150))).await;
        // What a scheduler that died has done of it is found out with the next start.
        let _ = caller.stop(workspace).await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..30))).await;
    }
}

fn kill_and_restart(cluster: &mut Cluster, number: usize) -> Result<()> {
    cluster.service(&format!("scheduler-{number}"))?.kill()?;
    cluster.start_scheduler(number)
}

/// Stops everything; answers how many placements are left.
async fn settle(cluster: &Cluster, sql: &tokio_postgres::Client, workspaces: &[(&str, Uuid)]) -> Result<i64> {
    let begun = Instant::now();
    loop {
        for (at, (pool, workspace)) in workspaces.iter().enumerate() {
            let _ = Caller::new(cluster, pool, at)?.stop(*workspace).await;
        }
        let left = is_empty(sql).await?;
        if left == 0 || begun.elapsed() > WAIT {
            return Ok(left);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
