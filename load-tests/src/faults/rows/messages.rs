//! Messages that come twice and out of order, and readers that do not keep up.

use super::schedulers::LATE_MAX_S;
use crate::{
    cluster::Shape,
    faults::{
        Plan, Seen,
        stage::{FLOOD, Stage},
    },
    wire::{Way, Weather},
};
use anyhow::Result;
use proto::v1::{
    TailLogsRequest, WatchRunRequest, log_service_client::LogServiceClient, run_service_client::RunServiceClient,
};
use std::time::Duration;

/// Streams that are read slowly, of each kind.
const READERS: usize = 10;
/// How fast they are read, in bytes a second.
const READ_RATE: u64 = 1_024;
/// Runs that write many lines.
const FLOODS: usize = 4;
/// The most memory of any service, in MiB.
const MEMORY_MAX_MIB: f64 = 256.0;

/// Row 15.
pub(super) async fn repeated(plan: Plan) -> Result<Seen> {
    let mut stage = Stage::open(plan, Shape { repeaters: true, ..Stage::shape(plan) }).await?;
    let mut seen = Seen::default();
    let load = stage.begin_broken().await?;
    tokio::time::sleep_until(load.broken_until).await;
    let [calls, messages, messages_to_executors] = stage.cluster.repeated();
    seen.bite("calls that were delivered twice", calls);
    seen.bite("messages of streams that were", messages);
    seen.bite("messages to executors that were", messages_to_executors);
    stage.finish_within(seen, LATE_MAX_S).await
}

/// Row 16.
pub(super) async fn read_slowly(plan: Plan) -> Result<Seen> {
    let mut stage = Stage::open(plan, Stage::shape(plan)).await?;
    let mut seen = Seen::default();
    stage.warm(FLOOD, &[("lines", 10.0)]).await?;
    let slow = Weather { down: Way { rate: Some(READ_RATE), ..Way::default() }, ..Weather::fair() };
    // Each has a connection of its own: on one, the first would take what it gives.
    let names: Vec<String> = (0..2 * READERS).map(|number| format!("reader-{number}")).collect();
    let channels: Vec<_> = names.iter().map(|name| stage.cluster.slow_reader(name)).collect::<Result<_>>()?;
    for name in &names {
        stage.cluster.wires()?.set(name, "", slow);
    }
    let load = stage.begin().await?;
    let runs = stage.start_runs(FLOOD, FLOODS, &[("lines", 20_000.0)]).await?;
    let mut readers = tokio::task::JoinSet::new();
    for (reader, channels) in channels.chunks_exact(2).enumerate() {
        let run_id = runs[reader % FLOODS].to_string();
        let (mut lines, mut changes) =
            (LogServiceClient::new(channels[0].clone()), RunServiceClient::new(channels[1].clone()));
        let watched = WatchRunRequest { run_id: run_id.clone() };
        readers.spawn(async move {
            let Ok(stream) = lines.tail_logs(TailLogsRequest { run_id, ..TailLogsRequest::default() }).await else {
                return;
            };
            let mut stream = stream.into_inner();
            while let Ok(Some(_)) = stream.message().await {}
        });
        readers.spawn(async move {
            let Ok(stream) = changes.watch_run(watched).await else { return };
            let mut stream = stream.into_inner();
            while let Ok(Some(_)) = stream.message().await {}
        });
    }
    let mut most = 0.0_f64;
    while tokio::time::Instant::now() < load.broken_until {
        most = most.max(stage.memory_mib());
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    // On a slow machine blocks begin to write only when the load is over.
    stage.until_ended(&runs, Duration::from_secs(60)).await?;
    let slow: Vec<u64> = names.iter().map(|name| Ok(stage.cluster.wires()?.harm(name, ""))).collect::<Result<_>>()?;
    seen.bite("chunks that were read slowly", slow.iter().sum());
    seen.must(slow.iter().all(|chunks| *chunks > 0), || format!("some readers got nothing slowly: {slow:?}"));
    seen.at_most("most memory of a service", most, "MiB", MEMORY_MAX_MIB);
    readers.shutdown().await;
    stage.finish_within(seen, LATE_MAX_S).await
}
