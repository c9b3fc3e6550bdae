//! What the services take of the machine while nothing happens, and what a further one of each kind adds.

use crate::{
    cluster::{Cluster, Shape},
    project_files as files,
    report::{Bar, Figure},
};
use anyhow::Result;
use load_tests::usage::Usage;
use std::{collections::BTreeMap, time::Duration};

/// Until what a start leaves behind is done.
const SETTLE: Duration = Duration::from_secs(20);
/// How long the services are watched.
const WATCH: Duration = Duration::from_secs(60);
/// What may be added by one more of a kind.
const REPLICA_MB: f64 = 50.0;
const REPLICA_PERCENT: f64 = 0.5;
/// What PostgreSQL may take more for one more of each: its sessions, mostly.
const SESSIONS_MB: f64 = 100.0;

const POSTGRES: &str = "postgres";

/// Memory, and percent of a core, by kind of service.
type Taken = BTreeMap<String, (f64, f64)>;

/// All services together, beside the PostgreSQL that they use; then each kind's further replica beside the first one.
pub(crate) async fn run() -> Result<Vec<Figure>> {
    let (one, two) = (watch(1).await?, watch(2).await?);
    let of = |taken: &Taken, kind: &str| taken.get(kind).copied().unwrap_or((f64::NAN, f64::NAN));
    let services = one.iter().filter(|(kind, _)| *kind != POSTGRES).map(|(_, taken)| *taken);
    let (memory, cpu) = services.fold((0.0, 0.0), |sum, taken| (sum.0 + taken.0, sum.1 + taken.1));
    let postgres = of(&one, POSTGRES);
    let figure = |name, figure, unit, floor, floor_is, bar| Figure {
        name,
        figure,
        unit,
        floor,
        floor_is,
        bar: Bar::FigureAtMost(bar),
    };
    let mut figures = vec![
        figure("idle, one of each, memory", memory, "MB", postgres.0, "PostgreSQL beside them", 150.0),
        figure("idle, one of each, processor", cpu, "% of a core", postgres.1, "PostgreSQL beside them", 1.0),
    ];
    for (kind, memory_of, cpu_of) in [
        ("scheduler", "a further scheduler, memory", "a further scheduler, processor"),
        ("executor", "a further executor, memory", "a further executor, processor"),
        ("web-server", "a further web-server, memory", "a further web-server, processor"),
    ] {
        let (first, both) = (of(&one, kind), of(&two, kind));
        figures.push(figure(memory_of, both.0 - first.0, "MB", first.0, "the first one", REPLICA_MB));
        figures.push(figure(cpu_of, both.1 - first.1, "% of a core", first.1, "the first one", REPLICA_PERCENT));
    }
    let (first, both) = (postgres, of(&two, POSTGRES));
    figures.extend([
        figure("PostgreSQL for them, memory", both.0 - first.0, "MB", first.0, "for the first of each", SESSIONS_MB),
        figure(
            "PostgreSQL for them, processor",
            both.1 - first.1,
            "% of a core",
            first.1,
            "for the first of each",
            1.0,
        ),
    ]);
    Ok(figures)
}

/// What so many of each kind take, after each has worked once.
async fn watch(each: usize) -> Result<Taken> {
    let shape =
        Shape { schedulers: each, scheduler_places: each, executors: each, web_servers: each, ..Shape::default() };
    let mut cluster = Cluster::start_as(shape).await?;
    let folder = cluster.folder().join("load");
    files::ProjectFolder::create(&folder)?.pipeline("once", &[files::noop::<&str>("only", &[])])?;
    cluster.deploy(&folder).await?;
    cluster.run("once").await?;
    tokio::time::sleep(SETTLE).await;
    let mut kinds: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for (name, service) in cluster.services() {
        let kind = name.rsplit_once('-').map_or(name.as_str(), |(kind, _)| kind);
        kinds.entry(kind.to_owned()).or_default().push(service.pid());
    }
    kinds.insert(POSTGRES.to_owned(), vec![cluster.postgres_pid()?]);
    let before: Vec<Usage> = kinds.values().map(|pids| Usage::of(pids)).collect();
    tokio::time::sleep(WATCH).await;
    let taken = kinds.into_iter().zip(before).map(|((kind, pids), before)| {
        let after = Usage::of(&pids);
        (kind, (after.memory_mb, (after - before).cpu_s / WATCH.as_secs_f64() * 100.0))
    });
    Ok(taken.collect())
}
