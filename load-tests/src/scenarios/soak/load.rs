//! What a soak does all the time: schedules that start chains and Python, and clients that start fan-outs and wait for them.

use crate::{
    cluster::{Cluster, WORKSPACE},
    project_files as files,
};
use anyhow::{Context, Result};
use proto::v1::{self as pb, run_service_client::RunServiceClient};
use rpc::client::Channel;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::task::JoinSet;
use tokio_postgres::Client;

/// Pipelines of each shape, spread over the shards.
const PIPELINES: usize = 12;
const CHAIN: usize = 4;
const FAN: u32 = 10;
/// Schedules of chains, each of them every ten seconds; and of Python, every thirty.
const CHAINS: i32 = 120;
const PYTHONS: i32 = 15;
/// Clients, and how long each waits between two runs.
const CALLERS: usize = 4;
const PAUSE: Duration = Duration::from_millis(500);
/// How long what is under way may take to end.
const DRAIN: Duration = Duration::from_secs(60);

/// Schedules are due at times of their own, evenly spread over their interval, from now to the end of the load.
const INSERT: &str = "
    INSERT INTO trigger (id, pipeline_id, name, kind, active, source, spec)
    SELECT gen_random_uuid(), p.id, $1::text || n, 'time', true, 'api', jsonb_build_object(
        'kind', jsonb_build_object('type', 'schedule', 'every', '@every ' || $2::integer || 's', 'zone', 'UTC',
            'start', to_char((now() + make_interval(secs => 5 + n::float8 * $2 / $3)) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),
            'end', to_char((now() + make_interval(secs => $4)) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')))
      FROM generate_series(0, $3 - 1) AS n
      JOIN (SELECT id, row_number() OVER (ORDER BY name) - 1 AS place FROM pipeline WHERE starts_with(name, $1)) AS p
        ON p.place = n % $5::integer";

/// How long calls took since somebody last asked, milliseconds from the call to the end of the run.
pub(super) type Calls = Arc<Mutex<Vec<f64>>>;

/// Puts the pipelines there.
pub(super) async fn deploy(cluster: &Cluster) -> Result<()> {
    let folder = cluster.folder().join("load");
    let project = files::ProjectFolder::create(&folder)?;
    let names: Vec<String> = (0..CHAIN).map(|at| format!("block_{at}")).collect();
    let upstream = |at: usize| if at == 0 { &names[..0] } else { &names[at - 1..at] };
    let chain: Vec<_> = (0..CHAIN).map(|at| files::noop(&names[at], upstream(at))).collect();
    for number in 0..PIPELINES {
        project.pipeline(&format!("chain_{number}"), &chain)?;
        project.pipeline(&fan(number), &[files::noop_items("source", FAN), files::noop("child", &["source"])])?;
        project.pipeline(&format!("python_{number}"), &[files::python("speak", &[])])?;
    }
    project.custom(
        "speak",
        "@custom\ndef speak(*args, **kwargs):\n    for n in range(20):\n        print('line', n)\n    return {'n': 1}\n",
    )?;
    cluster.deploy(&folder).await
}

fn fan(number: usize) -> String {
    format!("fan_{}", number % PIPELINES)
}

/// A load under way; it ends by itself.
pub(super) struct Load {
    calls: Calls,
    callers: JoinSet<i64>,
    ends_at: Instant,
}

impl Load {
    /// Begins it.
    pub(super) async fn begin(cluster: &Cluster, sql: &Client, length: Duration) -> Result<Self> {
        let places = i32::try_from(PIPELINES)?;
        for (prefix, every_s, count) in [("chain_", 10, CHAINS), ("python_", 30, PYTHONS)] {
            sql.execute(INSERT, &[&prefix, &every_s, &count, &length.as_secs_f64(), &places]).await?;
        }
        let (calls, ends_at) = (Calls::default(), Instant::now() + length);
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let (client, calls) = (cluster.runs(), Arc::clone(&calls));
            callers.spawn(call(client, caller, ends_at, calls));
        }
        Ok(Self { calls, callers, ends_at })
    }

    /// Where clients put down how long their runs took.
    pub(super) fn calls(&self) -> Calls {
        Arc::clone(&self.calls)
    }

    /// Whether its time is up.
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.ends_at
    }

    /// Waits for the end of what is under way.
    pub(super) async fn finish(self, sql: &Client) -> Result<Ended> {
        let calls_failed: i64 = self.callers.join_all().await.into_iter().sum();
        let begun = Instant::now();
        let counts = "SELECT count(*) FILTER (WHERE completed_at IS NULL),
                             count(*) FILTER (WHERE completed_at IS NOT NULL AND status <> 'completed'),
                             count(*), (SELECT count(*) FROM firing WHERE decided = 'skipped') FROM run";
        loop {
            let row = sql.query_one(counts, &[]).await?;
            let [open, failed, runs, skipped] = std::array::from_fn(|at| row.get::<_, i64>(at));
            if open == 0 || begun.elapsed() > DRAIN {
                return Ok(Ended { runs, wrong: open + failed + skipped + calls_failed });
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// What became of the load.
pub(super) struct Ended {
    /// Runs in all.
    pub(super) runs: i64,
    /// Runs that did not complete, logical times that were skipped, calls that failed.
    pub(super) wrong: i64,
}

/// One client: starts a fan-out, waits for its end, pauses. Answers how many calls failed.
async fn call(client: RunServiceClient<Channel>, caller: usize, until: Instant, calls: Calls) -> i64 {
    let mut failed = 0;
    for number in 0.. {
        tokio::time::sleep(PAUSE).await;
        if Instant::now() >= until {
            break;
        }
        let called = Instant::now();
        match run_to_end(client.clone(), fan(caller + number * CALLERS)).await {
            Ok(()) => {
                let took = called.elapsed().as_secs_f64() * 1e3;
                calls.lock().unwrap_or_else(PoisonError::into_inner).push(took);
            }
            Err(error) => {
                eprintln!("a call failed: {error:#}");
                failed += 1;
            }
        }
    }
    failed
}

async fn run_to_end(mut client: RunServiceClient<Channel>, pipeline: String) -> Result<()> {
    let request = pb::CreateRunRequest { workspace: WORKSPACE.to_owned(), pipeline, ..pb::CreateRunRequest::default() };
    let run = client.create_run(request).await?.into_inner().run.context("a run")?;
    let mut changes = client.watch_run(pb::WatchRunRequest { run_id: run.id }).await?.into_inner();
    while changes.message().await?.is_some() {}
    Ok(())
}
