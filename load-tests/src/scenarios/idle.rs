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

/// What the interpreter may take that an executor keeps warm: pandas and pyarrow, imported, and children that wait.
const PYTHON_MB: f64 = 150.0;

const POSTGRES: &str = "postgres";
const PYTHON: &str = "python";

/// Memory, and percent of a core, by kind of service.
type Taken = BTreeMap<String, (f64, f64)>;

/// All services together, beside the PostgreSQL that they use, and the interpreter that an executor keeps warm, which grows with what
/// blocks import and not with the cluster; then each kind's further replica beside the first one.
pub(crate) async fn run() -> Result<Vec<Figure>> {
    let (one, two) = (watch(1).await?, watch(2).await?);
    let of = |taken: &Taken, kind: &str| taken.get(kind).copied().unwrap_or((f64::NAN, f64::NAN));
    let services = one.iter().filter(|(kind, _)| ![POSTGRES, PYTHON].contains(&kind.as_str())).map(|(_, taken)| *taken);
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
        figure("a warm interpreter, memory", of(&one, PYTHON).0, "MB", memory, "all services", PYTHON_MB),
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
    let before = usages(&kinds);
    tokio::time::sleep(WATCH).await;
    let after = usages(&kinds);
    let taken = after.into_iter().map(|(kind, after)| {
        let spent = after - before.get(&kind).copied().unwrap_or_default();
        (kind, (after.memory_mb, spent.cpu_s / WATCH.as_secs_f64() * 100.0))
    });
    Ok(taken.collect())
}

/// Of each kind all that it started; but of executors themselves, and their interpreters as a kind of their own.
fn usages(kinds: &BTreeMap<String, Vec<u32>>) -> BTreeMap<String, Usage> {
    let mut usages: BTreeMap<String, Usage> =
        kinds.iter().map(|(kind, pids)| (kind.clone(), Usage::of(pids))).collect();
    if let Some(pids) = kinds.get("executor") {
        let alone = Usage::of_alone(pids);
        let all = usages.insert("executor".to_owned(), alone).unwrap_or_default();
        usages.insert(PYTHON.to_owned(), all - alone);
    }
    usages
}
