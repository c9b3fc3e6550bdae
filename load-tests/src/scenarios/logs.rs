//! Searches over many log lines, and whether a flood of lines is felt by those who run something.

use crate::{
    cluster::{Cluster, WORKSPACE},
    floor, project_files as files,
    report::{Bar, Figure, percentile},
};
use anyhow::{Context, Result, ensure};
use proto::{
    internal::v1::{self as internal, executor_session_service_client::ExecutorSessionServiceClient},
    v1 as pb,
};
use std::time::{Duration, Instant};
use tokio::{sync::mpsc, time::interval};
use tokio_postgres::Client;
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

/// How much.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Size {
    /// Lines that are searched
    #[arg(long, default_value_t = 10_000_000)]
    lines: i64,
    /// Seconds of the flood
    #[arg(long, default_value_t = 60)]
    flood_s: u64,
    /// Lines a second of the flood
    #[arg(long, default_value_t = 20_000)]
    flood_rate: usize,
}

/// Runs that the searched lines are of.
const RUNS: usize = 200;
/// Lines that are written by one statement.
const PART: i64 = 250_000;
/// Lines of one message of the flood, and streams that carry it.
const BATCH: usize = 500;
const STREAMS: usize = 4;
/// Between two no-ops whose way is measured.
const PACE: Duration = Duration::from_millis(50);
/// The longest wait for chunks.
const SEALED: Duration = Duration::from_secs(1_800);

/// Milliseconds of searches, and of no-ops beside a flood.
pub(crate) async fn run(size: Size) -> Result<Vec<Figure>> {
    let cluster = Cluster::start(8).await?;
    let folder = cluster.folder().join("load");
    let project = files::ProjectFolder::create(&folder)?;
    project.pipeline("noop", &[files::noop::<&str>("only", &[])])?;
    cluster.deploy(&folder).await?;
    let sql = floor::connect(&cluster.database_url()).await?;
    let mut figures = flood(&cluster, size).await?;
    let runs = runs(&cluster).await?;
    let first = fill(&sql, &runs, size.lines).await?;
    wait_sealed(&sql).await?;
    figures.extend(searches(&cluster, &sql, first, size.lines).await?);
    Ok(figures)
}

async fn runs(cluster: &Cluster) -> Result<Vec<Uuid>> {
    let requests = (0..RUNS).map(|n| pb::CreateRunRequest {
        workspace: WORKSPACE.to_owned(),
        pipeline: "noop".to_owned(),
        idempotency_key: format!("searched-{n}"),
        ..pb::CreateRunRequest::default()
    });
    let mut ids = Vec::new();
    for request in requests {
        let run = cluster.runs().create_run(request).await?.into_inner().run.context("a run")?;
        ids.push(run.id.parse()?);
    }
    Ok(ids)
}

/// Writes lines of the last 20 hours, oldest first; answers the id before the first.
async fn fill(sql: &Client, runs: &[Uuid], lines: i64) -> Result<i64> {
    let before: i64 = sql.query_one("SELECT last_value FROM log_line_id_seq", &[]).await?.get(0);
    let insert = sql
        .prepare(
            "INSERT INTO log_line (run_id, at, block, level, stream, message, block_type)
             SELECT ($1::uuid[])[1 + n % array_length($1, 1)], now() - make_interval(secs => 72000.0 * ($3 - n) / $3),
                    'shape', CASE WHEN n % 5000 = 0 THEN 40 ELSE 20 END, 'stdout',
                    format('Processed order %s of customer %s in %s ms, checksum %s', n, n * 7919 % 100003, n % 977, md5(n::text)),
                    'transformer'
               FROM generate_series($2::bigint, least($2 + $4, $3) - 1) AS n",
        )
        .await?;
    let mut at = 0;
    while at < lines {
        sql.execute(&insert, &[&runs, &at, &lines, &PART]).await?;
        at += PART;
    }
    sql.batch_execute("ANALYZE log_line").await?;
    Ok(before)
}

/// Until the scheduler has summed up all that can be.
async fn wait_sealed(sql: &Client) -> Result<()> {
    let begun = Instant::now();
    loop {
        let left =
            "SELECT (SELECT last_value FROM log_line_id_seq) - coalesce((SELECT max(last_id) FROM log_chunk), 0)";
        let left: i64 = sql.query_one(left, &[]).await?.get(0);
        if left < 4_096 {
            return Ok(());
        }
        ensure!(begun.elapsed() < SEALED, "{left} lines were not sealed in {} s", SEALED.as_secs());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn searches(cluster: &Cluster, sql: &Client, first: i64, lines: i64) -> Result<Vec<Figure>> {
    let mut rare = Vec::new();
    for part in 1..=7 {
        let n = lines * part / 8;
        let text = format!("order {n} of customer");
        let (ms, found) = search(cluster, pb::SearchLogsRequest { text, ..request() }, 10).await?;
        ensure!(found == 1, "line {n} (id about {}) was found {found} times", first + n);
        rare.push(ms);
    }
    let mut absent = Vec::new();
    for n in 0..5 {
        let text = format!("deadlock {n} detected");
        let (ms, found) = search(cluster, pb::SearchLogsRequest { text, ..request() }, 10).await?;
        ensure!(found == 0, "what is nowhere was found");
        absent.push(ms);
    }
    let mut errors = Vec::new();
    for _ in 0..5 {
        let wanted = pb::SearchLogsRequest { min_level: "ERROR".into(), block_type: "transformer".into(), ..request() };
        let (ms, found) = search(cluster, wanted, 100).await?;
        ensure!(found >= 100.min(usize::try_from(lines / 5_000)?), "only {found} errors");
        errors.push(ms);
    }
    let begun = Instant::now();
    let scan =
        "SELECT count(*) FROM log_line WHERE position('deadlock 1 detected' IN lower(message COLLATE \"C\")) > 0";
    sql.query_one(scan, &[]).await?;
    let floor = begun.elapsed().as_secs_f64() * 1e3;
    let figure = |name, mut samples: Vec<f64>| Figure {
        name,
        figure: percentile(&mut samples, 0.5),
        unit: "ms",
        floor,
        floor_is: "a scan of all lines in SQL",
        bar: Bar::FigureAtMost(1_000.0),
    };
    Ok(vec![
        figure("search: one line of all", rare),
        figure("search: text that is nowhere", absent),
        figure("search: the newest 100 errors", errors),
    ])
}

fn request() -> pb::SearchLogsRequest {
    pb::SearchLogsRequest { workspace: WORKSPACE.to_owned(), ..pb::SearchLogsRequest::default() }
}

/// Milliseconds until `limit` lines were found or all were looked at, and how many were.
async fn search(cluster: &Cluster, mut request: pb::SearchLogsRequest, limit: usize) -> Result<(f64, usize)> {
    let begun = Instant::now();
    let mut found = 0;
    request.page_size = i32::try_from(limit)?;
    loop {
        let page = cluster.logs().search_logs(request.clone()).await?.into_inner();
        found += page.lines.len();
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() || found >= limit {
            return Ok((begun.elapsed().as_secs_f64() * 1e3, found));
        }
    }
}

/// The way of no-ops alone, then beside a flood.
async fn flood(cluster: &Cluster, size: Size) -> Result<Vec<Figure>> {
    let length = Duration::from_secs(size.flood_s);
    // Warms connections and statements.
    noops(cluster, Duration::from_secs(3)).await?;
    let mut alone = noops(cluster, length).await?;
    let pouring = tokio::spawn(pour(cluster.scheduler()?, size, length));
    let mut beside = noops(cluster, length).await?;
    let stored = pouring.await??;
    let (alone, beside) = (percentile(&mut alone, 0.99), percentile(&mut beside, 0.99));
    Ok(vec![
        Figure {
            name: "no-op beside a flood of lines, p99",
            figure: beside,
            unit: "ms",
            floor: alone,
            floor_is: "the same without the flood",
            bar: Bar::AtMost(1.5),
        },
        Figure {
            name: "lines stored a second",
            figure: stored,
            unit: "1/s",
            floor: size.flood_rate as f64,
            floor_is: "lines sent a second",
            bar: Bar::AtLeast(0.95),
        },
    ])
}

/// Milliseconds from call to end of no-ops, one after the other, at a steady pace.
async fn noops(cluster: &Cluster, length: Duration) -> Result<Vec<f64>> {
    let begun = Instant::now();
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut samples = Vec::new();
    while begun.elapsed() < length {
        pace.tick().await;
        let called = Instant::now();
        cluster.run("noop").await?;
        samples.push(called.elapsed().as_secs_f64() * 1e3);
    }
    Ok(samples)
}

/// Sends lines as executors do, at the wanted rate; answers how many were acknowledged a second.
async fn pour(scheduler: rpc::client::Channel, size: Size, length: Duration) -> Result<f64> {
    let begun = Instant::now();
    let streams: Vec<_> = (0..STREAMS).map(|_| tokio::spawn(stream(scheduler.clone(), size, length))).collect();
    let mut stored = 0;
    for stream in streams {
        stored += stream.await??;
    }
    Ok(stored as f64 / begun.elapsed().as_secs_f64())
}

async fn stream(scheduler: rpc::client::Channel, size: Size, length: Duration) -> Result<usize> {
    let (sender, outgoing) = mpsc::channel(1);
    let mut client = ExecutorSessionServiceClient::new(scheduler);
    sender.send(batch(0)).await?;
    let mut acks = client.push_logs(ReceiverStream::new(outgoing)).await?.into_inner();
    acks.message().await?.context("an acknowledgement")?;
    let mut pace = interval(Duration::from_secs_f64((BATCH * STREAMS) as f64 / size.flood_rate as f64));
    let (begun, mut stored) = (Instant::now(), BATCH);
    while begun.elapsed() < length {
        pace.tick().await;
        sender.send(batch(stored)).await?;
        acks.message().await?.context("an acknowledgement")?;
        stored += BATCH;
    }
    Ok(stored)
}

fn batch(from: usize) -> internal::PushLogsRequest {
    let at_us = jiff::Timestamp::now().as_microsecond();
    let line = |n: usize| internal::LogLine {
        // Of no run that is kept: a flood's lines are not what is searched afterwards.
        run_id: Uuid::nil().as_bytes().to_vec(),
        block: "flood".to_owned(),
        child: -1,
        lease: 1,
        at_us,
        level: "INFO".to_owned(),
        stream: "stdout".to_owned(),
        message: format!("Line {n} of a flood that says nothing of interest to anybody, at length, again and again"),
        block_type: "transformer".to_owned(),
    };
    internal::PushLogsRequest {
        sequence: i64::try_from(from).unwrap_or(0),
        lines: (from..from + BATCH).map(line).collect(),
    }
}
