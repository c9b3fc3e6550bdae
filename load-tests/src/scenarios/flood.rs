//! Whether a flood of log lines is felt by those who run something.

use crate::{
    cluster::Cluster,
    floor, project_files as files,
    report::{Bar, Figure, percentile},
};
use anyhow::{Context, Result};
use proto::internal::v1::{self as internal, executor_session_service_client::ExecutorSessionServiceClient};
use std::time::{Duration, Instant};
use tokio::{sync::mpsc, time::interval};
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

/// How much.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Size {
    /// Seconds of the flood, and without it before
    #[arg(long, default_value_t = 60)]
    flood_s: u64,
    /// Lines a second of the flood
    #[arg(long, default_value_t = 20_000)]
    flood_rate: usize,
}

/// Lines of one message of the flood, and streams that carry it.
const BATCH: usize = 500;
const STREAMS: usize = 4;
/// Files of the write-ahead log, of 16 MB each: a minute of the flood fills about 25.
const LOG_FILES: usize = 48;
/// Between two no-ops whose way is measured.
const PACE: Duration = Duration::from_millis(50);

/// Milliseconds of no-ops alone, then beside a flood.
pub(crate) async fn run(size: Size) -> Result<Vec<Figure>> {
    let cluster = Cluster::start(8).await?;
    let folder = cluster.folder().join("load");
    files::ProjectFolder::create(&folder)?.pipeline("noop", &[files::noop::<&str>("only", &[])])?;
    cluster.deploy(&folder).await?;
    let length = Duration::from_secs(size.flood_s);
    use_log_files(&cluster).await?;
    // Warms connections and statements.
    noops(&cluster, Duration::from_secs(3)).await?;
    let mut alone = noops(&cluster, length).await?;
    let pouring = tokio::spawn(pour(cluster.scheduler()?, size, length));
    let mut beside = noops(&cluster, length).await?;
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

/// Has the database write and give back as many files of its write-ahead log as the flood fills. One that has run for a while
/// uses such files again; a new one makes each of them, 16 MB of zeroes, while commits wait.
async fn use_log_files(cluster: &Cluster) -> Result<()> {
    let sql = floor::connect(&cluster.database_url()).await?;
    for _ in 0..LOG_FILES {
        sql.batch_execute("SELECT pg_logical_emit_message(false, 'load-tests', ''); SELECT pg_switch_wal()").await?;
    }
    Ok(sql.batch_execute("CHECKPOINT").await?)
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
