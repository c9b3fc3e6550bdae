//! How many placements three schedulers write in a second, and how many decisions one planner makes over a large fleet.

use crate::{
    floor,
    report::{Bar, Figure},
};
use anyhow::{Context, Result, ensure};
use domain::{
    device::{Ask, Device, DeviceModel, Link, Sharing},
    id::{DeviceId, HolderId, NodeId, ProjectId, QueueId},
    queue::Queue,
    quota::Quota,
    window::Access,
};
use load_tests::{
    declared::{Declared, Shape},
    runtimes::{Caller, Setup, WORLD},
};
use placement::{Node, Policy, Project, Request, Snapshot};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;
use uuid::Uuid;

/// Runtimes of each pool that wait when its devices come.
const WAITING: usize = 1_000;
/// Devices of each pool: enough for all of them.
const NODES: usize = 150;
const GPUS: usize = 8;
/// Starts under way at once.
const STARTS_MAX: usize = 64;
const WAIT: Duration = Duration::from_secs(120);
/// The fleet of the decisions, as large as the one of the published trace.
const FLEET_NODES: usize = 1_213;
const DECISIONS: usize = 4_000;

/// Both figures, beside a durable commit.
pub(crate) async fn run() -> Result<Vec<Figure>> {
    let Setup { cluster, sql, .. } = &Setup::new(3).await?;
    let workspaces = WORLD.fill(sql, WAITING, None).await?;
    let places = Arc::new(Semaphore::new(STARTS_MAX));
    let mut starts = tokio::task::JoinSet::new();
    let begun = Instant::now();
    for (at, (pool, workspace)) in workspaces.iter().copied().enumerate() {
        let (caller, places) = (Caller::new(cluster, pool, at)?, Arc::clone(&places));
        starts.spawn(async move {
            let _place = places.acquire().await?;
            caller.start(workspace).await
        });
    }
    while let Some(started) = starts.join_next().await {
        started??;
    }
    let starts_per_s = workspaces.len() as f64 / begun.elapsed().as_secs_f64();
    let mut fleets = Vec::new();
    for pool in WORLD.pools {
        let shape = Shape { pool: pool.to_owned(), nodes: NODES, gpus: GPUS, ..Shape::default() };
        let journal = cluster.history().join(format!("executor-declared-{pool}.jsonl"));
        fleets.push(Declared::start(shape, cluster.schedulers()?, &journal)?);
    }
    let begun = Instant::now();
    let placed = "SELECT count(*), extract(epoch FROM max(placed_at) - min(placed_at))::float8 FROM runtime WHERE placed_at IS NOT NULL";
    let spread = loop {
        let row = sql.query_one(placed, &[]).await?;
        if row.get::<_, i64>(0) == i64::try_from(workspaces.len())? {
            break row.get::<_, Option<f64>>(1).context("two placements")?;
        }
        ensure!(begun.elapsed() < WAIT, "{} of {} are placed", row.get::<_, i64>(0), workspaces.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    // From the fleet's coming to the last placement, and not less: the first batch has waited for nothing.
    let spread = spread.max(begun.elapsed().as_secs_f64());
    let commit = floor::commit_ms(sql, 500).await?;
    let figure = |name, figure, bar| Figure {
        name,
        figure,
        unit: "/s",
        floor: commit,
        floor_is: "one durable commit, median, ms",
        bar,
    };
    Ok(vec![
        figure("durable placements, three schedulers", workspaces.len() as f64 / spread, Bar::FigureAtLeast(300.0)),
        figure("starts answered, three schedulers", starts_per_s, Bar::FigureAtLeast(100.0)),
        figure("decisions of one plan, 1,213 nodes", decisions_per_s()?, Bar::FigureAtLeast(2_000.0)),
    ])
}

/// Requests of many kinds against an empty fleet.
fn decisions_per_s() -> Result<f64> {
    let snapshot = snapshot();
    let policy = Policy { explained_max: 0, ..Policy::default() };
    let begun = Instant::now();
    let plan = placement::plan(&snapshot, &policy);
    let took = begun.elapsed().as_secs_f64();
    let decided = plan.assignments.len() + plan.preemptions.len() + plan.refusals.len();
    ensure!(decided == DECISIONS, "{decided} of {DECISIONS} requests were decided about");
    Ok(DECISIONS as f64 / took)
}

fn snapshot() -> Snapshot {
    let id = |kind: u128, at: usize| Uuid::from_u128(kind << 96 | at as u128);
    let models = ["A10", "T4", "V100"].map(DeviceModel::new);
    let device = |node: usize, at: usize| Device {
        id: DeviceId(id(2, node * 64 + at)),
        model: models[node % 3].clone(),
        class: String::new(),
        memory_bytes: 24 << 30,
        sharing: Sharing::Shared { step_milli: 10, alone: false },
        link_group: 0,
        schedulable: true,
    };
    let node = |at: usize| Node {
        id: NodeId(id(1, at)),
        zone: String::new(),
        cpu_milli: 96_000,
        memory_bytes: 512 << 30,
        schedulable: true,
        devices: (0..[8, 4, 2, 6][at % 4]).map(|gpu| device(at, gpu)).collect(),
    };
    let (project, queue) = (ProjectId(id(3, 0)), QueueId(id(4, 0)));
    let now = jiff::Timestamp::UNIX_EPOCH;
    let request = |at: usize| Request {
        holder: HolderId(id(5, at)),
        project,
        person: None,
        queue,
        priority: 0,
        submitted_at: now,
        ask: Ask {
            gpus: [1, 1, 1, 2, 1, 4, 1, 8][at % 8],
            gpu_milli: [500, 250, 1000, 400, 100, 1000, 700, 1000][at % 8],
            gpu_memory_bytes: None,
            models: if at.is_multiple_of(3) { vec![models[at / 3 % 3].clone()] } else { Vec::new() },
            models_ordered: false,
            link: Link::Any,
            cpu_milli: 1_000 * (1 + at as u64 % 8),
            memory_bytes: (1 + at as u64 % 16) << 30,
        },
        storage_bytes: 0,
        nodes: None,
        gang: None,
        runtime_s: None,
        access: Access::Always,
        permitted: Vec::new(),
        class: None,
        alternatives: Vec::new(),
    };
    Snapshot {
        now,
        nodes: (0..FLEET_NODES).map(node).collect(),
        holdings: Vec::new(),
        nominations: Vec::new(),
        requests: (0..DECISIONS).map(request).collect(),
        queues: vec![Queue {
            id: queue,
            name: "default".to_owned(),
            priority: 0,
            preemptible: false,
            deserved_milli: 0,
            limit_milli: None,
            weight: 1,
            recent_use: 0,
        }],
        projects: vec![Project {
            id: project,
            group: None,
            quota: Quota::default(),
            disruptions_left: None,
            recent_use: 0,
        }],
        quotas: Vec::new(),
        recent: Vec::new(),
    }
}
